/// What a plain scalar means by the core schema of YAML 1.2: null, a boolean, a number or its text.
func plainValue(_ text: String) -> YAMLNode.Value {
    switch text {
    case "", "~", "null", "Null", "NULL": return .null
    case "true", "True", "TRUE": return .boolean(true)
    case "false", "False", "FALSE": return .boolean(false)
    case ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF": return .float(.infinity)
    case "-.inf", "-.Inf", "-.INF": return .float(-.infinity)
    case ".nan", ".NaN", ".NAN": return .float(.nan)
    default: break
    }
    guard let first = text.utf8.first, isNumberStart(first), let form = numberForm(text) else {
        return .string(text)
    }
    switch form {
    case .decimal:
        return Int(text).map { .integer($0) } ?? .hugeInteger(text)
    case .radix(let radix):
        return Int(text.dropFirst(2), radix: radix).map { .integer($0) } ?? .hugeInteger(text)
    case .float:
        return .float(Double(text) ?? .infinity)
    }
}

private enum NumberForm {
    case decimal, radix(Int), float
}

private func isNumberStart(_ byte: UInt8) -> Bool {
    isDigit(byte) || byte == UInt8(ascii: "+") || byte == UInt8(ascii: "-")
        || byte == UInt8(ascii: ".")
}

private func isDigit(_ byte: UInt8) -> Bool {
    UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
}

/// How `text` spells a number: `[-+]?[0-9]+`, `0o[0-7]+`, `0x[0-9a-fA-F]+`, or
/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`; nil when it does not.
private func numberForm(_ text: String) -> NumberForm? {
    if text.hasPrefix("0o") {
        return isAll(text.utf8.dropFirst(2)) { UInt8(ascii: "0")...UInt8(ascii: "7") ~= $0 }
            ? .radix(8) : nil
    }
    if text.hasPrefix("0x") {
        return isAll(text.utf8.dropFirst(2)) {
            $0 < 0x80 && Character(Unicode.Scalar($0)).isHexDigit
        } ? .radix(16) : nil
    }
    var rest = text.utf8[...]
    func passSign() {
        if rest.first == UInt8(ascii: "+") || rest.first == UInt8(ascii: "-") {
            rest = rest.dropFirst()
        }
    }
    func passDigits() -> Bool {
        let digits = rest.prefix(while: isDigit)
        rest = rest[digits.endIndex...]
        return !digits.isEmpty
    }
    passSign()
    let hasWhole = passDigits()
    if hasWhole, rest.isEmpty { return .decimal }
    if rest.first == UInt8(ascii: ".") {
        rest = rest.dropFirst()
        let hasFraction = passDigits()
        guard hasWhole || hasFraction else { return nil }
    } else if !hasWhole {
        return nil
    }
    if rest.first == UInt8(ascii: "e") || rest.first == UInt8(ascii: "E") {
        rest = rest.dropFirst()
        passSign()
        guard passDigits() else { return nil }
    }
    return rest.isEmpty ? .float : nil
}

private func isAll(_ bytes: some Collection<UInt8>, _ test: (UInt8) -> Bool) -> Bool {
    !bytes.isEmpty && bytes.allSatisfy(test)
}
