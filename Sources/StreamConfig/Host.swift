/// `text` without the brackets of an IPv6 address, if it is an IP address or can be a host name.
func hostWithoutBrackets(_ text: String) -> String? {
    if text.hasPrefix("["), text.hasSuffix("]") {
        let inside = String(text.dropFirst().dropLast())
        return isIPv6(inside) ? inside : nil
    }
    return isIPv4(text) || isIPv6(text) || isHostName(text) ? text : nil
}

/// Four decimal numbers up to 255, without leading zeros: those would be octal to some.
func isIPv4(_ text: some StringProtocol) -> Bool {
    let parts = text.split(separator: ".", omittingEmptySubsequences: false)
    return parts.count == 4
        && parts.allSatisfy { part in
            (1...3).contains(part.utf8.count) && part.utf8.allSatisfy(isDecimalDigit)
                && (part == "0" || part.first != "0") && (Int(part) ?? 256) < 256
        }
}

/// Eight groups of up to four hexadecimal digits; one `::` stands for one or more groups of zeros,
/// an IPv4 address for the last two. No zones.
func isIPv6(_ text: some StringProtocol) -> Bool {
    guard text.utf8.count <= 45 else { return false }
    let halves = text.components(separatedByDoubleColon: ())
    guard halves.count <= 2 else { return false }
    var groups = 0
    for (place, half) in halves.enumerated() where !half.isEmpty {
        let parts = half.split(separator: ":", omittingEmptySubsequences: false)
        for (index, part) in parts.enumerated() {
            if place == halves.count - 1, index == parts.count - 1, part.contains(".") {
                guard isIPv4(part) else { return false }
                groups += 2
                continue
            }
            guard (1...4).contains(part.utf8.count), part.allSatisfy(isASCIIHexDigit) else {
                return false
            }
            groups += 1
        }
    }
    return halves.count == 2 ? groups <= 7 : groups == 8
}

/// A name by RFC 1123: labels of letters, digits and inner hyphens. One whose last label is a number
/// would be taken for an IPv4 address, and is refused.
func isHostName(_ text: some StringProtocol) -> Bool {
    let labels = text.split(separator: ".", omittingEmptySubsequences: false)
    guard (1...253).contains(text.utf8.count), let last = labels.last else { return false }
    return !last.utf8.allSatisfy(isDecimalDigit)
        && labels.allSatisfy { label in
            (1...63).contains(label.utf8.count) && label.first != "-" && label.last != "-"
                && label.allSatisfy { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == "-") }
        }
}

/// An `Origin` as a browser sends it, in lower case and without the port that its scheme implies.
func normalizedOrigin(_ text: String) -> String? {
    let text = text.lowercased()
    if text == "null" { return text }  // Pages from files and sandboxes.
    for (scheme, impliedPort) in [("http://", 80), ("https://", 443)] where text.hasPrefix(scheme) {
        var host = text.dropFirst(scheme.count)
        var port: Int?
        if let colon = host.lastIndex(of: ":"), !host.hasSuffix("]") {
            let digits = host[host.index(after: colon)...]
            guard digits.utf8.allSatisfy(isDecimalDigit), let number = Int(digits),
                1...65_535 ~= number
            else { return nil }
            port = number
            host = host[..<colon]
        }
        let isAddress = host.hasPrefix("[") && hostWithoutBrackets(String(host)) != nil
        guard isAddress || isIPv4(host) || isHostName(host) else { return nil }
        let suffix = port.map { $0 == impliedPort ? "" : ":\($0)" } ?? ""
        return scheme + host + suffix
    }
    return nil
}

/// The same for where pages of files and of extensions may connect, too, and all with `*`.
func normalizedOriginOfAnyScheme(_ text: String) -> String? {
    if text == "*" { return text }
    if let origin = normalizedOrigin(text) { return origin }
    let text = text.lowercased()
    let visible = text.utf8.allSatisfy { 0x21...0x7E ~= $0 }
    guard visible, !text.hasPrefix("http:"), !text.hasPrefix("https:"),
        let colon = text.utf8.firstIndex(of: UInt8(ascii: ":")), colon != text.startIndex,
        text[colon...].hasPrefix("://"), text.utf8.count <= 256
    else { return nil }
    let host = text[text.index(colon, offsetBy: 3)...]
    return host.contains("/") ? nil : text
}

private func isDecimalDigit(_ byte: UInt8) -> Bool {
    UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
}

private func isASCIIHexDigit(_ character: Character) -> Bool {
    character.isASCII && character.isHexDigit
}

extension StringProtocol {
    /// The parts between each `::`.
    fileprivate func components(separatedByDoubleColon: ()) -> [SubSequence] {
        var parts: [SubSequence] = []
        var start = startIndex
        var cursor = startIndex
        while cursor < endIndex {
            let next = index(after: cursor)
            if next < endIndex, self[cursor] == ":", self[next] == ":" {
                parts.append(self[start..<cursor])
                start = index(after: next)
                cursor = start
            } else {
                cursor = next
            }
        }
        return parts + [self[start...]]
    }
}
