/// A text in double quotes, as YAML and JSON both read it, and in which no variable is replaced.
func doubleQuoted(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "{" where result.last == "$":
            result.removeLast()
            result += "\\u0024{"
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\t": result += "\\t"
        case "\r": result += "\\r"
        case "\0"..<" ", "\u{7F}"..<"\u{A0}", "\u{2028}", "\u{2029}", "\u{FEFF}", "\u{FFFE}",
            "\u{FFFF}":
            let digits = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}

extension YAMLNode {
    /// This value as a block of YAML that ``YAMLParser`` reads back to an equal one.
    ///
    /// Recursive: as deep as the value, which the parser or the program has bounded.
    func yaml(indent: Int = 0) -> String {
        let blanks = String(repeating: " ", count: indent)
        switch value {
        case .map(let entries) where !entries.isEmpty:
            return entries.map { entry in
                let key = isPlainText(entry.key) ? entry.key : doubleQuoted(entry.key)
                return blanks + key + ":" + entry.value.yamlBehindKey(indent: indent + 2)
            }.joined()
        case .list(let items) where !items.isEmpty:
            return items.map { item in
                item.isNested
                    ? blanks + "- " + item.yaml(indent: indent + 2).dropFirst(indent + 2)
                    : blanks + "- " + item.yamlScalar + "\n"
            }.joined()
        default:
            return blanks + yamlScalar + "\n"
        }
    }

    private func yamlBehindKey(indent: Int) -> String {
        isNested ? "\n" + yaml(indent: indent) : " " + yamlScalar + "\n"
    }

    private var isNested: Bool {
        switch value {
        case .map(let entries): !entries.isEmpty
        case .list(let items): !items.isEmpty
        default: false
        }
    }

    private var yamlScalar: String {
        switch value {
        case .null: "null"
        case .boolean(let value): value ? "true" : "false"
        case .integer(let value): String(value)
        case .hugeInteger(let text): text
        case .float(let value) where value.isNaN: ".nan"
        case .float(let value) where value.isInfinite: value < 0 ? "-.inf" : ".inf"
        case .float(let value): String(value)
        case .string(let text): isPlainText(text) ? text : doubleQuoted(text)
        case .list: "[]"
        case .map: "{}"
        }
    }
}

/// Whether `text` needs no quotes: a word that is no number, boolean or null, or the like of a path,
/// an address or an id.
private func isPlainText(_ text: String) -> Bool {
    guard let first = text.unicodeScalars.first, first.isASCII,
        first.properties.isAlphabetic || first == "/" || first == "_"
    else { return false }
    let allowed = text.unicodeScalars.allSatisfy { scalar in
        scalar.isASCII
            && (scalar.properties.isAlphabetic || ("0"..."9").contains(scalar)
                || "-_./:@".unicodeScalars.contains(scalar))
    }
    return allowed && text.last != ":" && plainValue(text) == .string(text)
}
