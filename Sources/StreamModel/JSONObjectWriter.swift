/// Writes one JSON object, member by member.
package struct JSONObjectWriter: Sendable {
    private var bytes: [UInt8]

    /// An object without members, with room for `capacity` bytes of text.
    package init(capacity: Int = 256) {
        bytes = []
        bytes.reserveCapacity(capacity)
        bytes.append(UInt8(ascii: "{"))
    }

    package mutating func add(_ name: String, _ value: String) {
        begin(name)
        bytes.appendJSON(value)
    }

    package mutating func add(_ name: String, _ value: JSONText) {
        begin(name)
        bytes.append(contentsOf: value.bytes)
    }

    package mutating func add(_ name: String, _ value: UInt64) {
        begin(name)
        bytes.append(contentsOf: String(value).utf8)
    }

    package mutating func add(_ name: String, _ value: Bool) {
        begin(name)
        bytes.append(contentsOf: (value ? "true" : "false").utf8)
    }

    /// Adds null for nil.
    package mutating func addOrNull(_ name: String, _ value: String?) {
        if let value { add(name, value) } else { add(name, JSONText.null) }
    }

    /// Adds null for nil.
    package mutating func addOrNull(_ name: String, _ value: JSONText?) {
        add(name, value ?? .null)
    }

    /// Adds nothing for nil.
    package mutating func addIfPresent(_ name: String, _ value: String?) {
        if let value { add(name, value) }
    }

    /// Adds nothing for nil.
    package mutating func addIfPresent(_ name: String, _ value: JSONText?) {
        if let value { add(name, value) }
    }

    package consuming func finish() -> JSONText {
        bytes.append(UInt8(ascii: "}"))
        return JSONText(validated: bytes)
    }

    private mutating func begin(_ name: String) {
        if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
        bytes.appendJSON(name)
        bytes.append(UInt8(ascii: ":"))
    }
}

extension JSONText {
    /// The JSON array of `elements`.
    package init(array elements: some Sequence<JSONText>) {
        var bytes: [UInt8] = [UInt8(ascii: "[")]
        for element in elements {
            if bytes.count > 1 { bytes.append(UInt8(ascii: ",")) }
            bytes.append(contentsOf: element.bytes)
        }
        bytes.append(UInt8(ascii: "]"))
        self.init(validated: bytes)
    }
}

extension [UInt8] {
    /// Appends `string` as a JSON string with quotes, escaping only what RFC 8259 demands.
    package mutating func appendJSON(_ string: String) {
        append(UInt8(ascii: "\""))
        for byte in string.utf8 {
            switch byte {
            case UInt8(ascii: "\""), UInt8(ascii: "\\"):
                append(UInt8(ascii: "\\"))
                append(byte)
            case 0x0A: append(contentsOf: "\\n".utf8)
            case 0x0D: append(contentsOf: "\\r".utf8)
            case 0x09: append(contentsOf: "\\t".utf8)
            case 0..<0x20:
                append(contentsOf: "\\u00".utf8)
                append(hexadecimal(byte >> 4))
                append(hexadecimal(byte & 15))
            default: append(byte)
            }
        }
        append(UInt8(ascii: "\""))
    }
}

private func hexadecimal(_ digit: UInt8) -> UInt8 {
    digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
}
