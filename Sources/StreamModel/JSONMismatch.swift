/// A value that is not what its reader takes.
package struct JSONMismatch: Error, Hashable, Sendable {
    /// The text that follows "Failed to deserialize input for …: ".
    package let reason: String

    package init(reason: String) {
        self.reason = reason
    }
}

extension JSONView {
    /// The refusal of this value where `expected` was wanted, in the words the engine's clients know.
    package func mismatch(expected: String) -> JSONMismatch {
        JSONMismatch(reason: "invalid type: \(unexpected), expected \(expected)")
    }

    /// The string, or nil for null.
    /// - Throws: for a value of any other kind.
    package func optionalString() throws(JSONMismatch) -> String? {
        if kind == .null { return nil }
        guard let string else { throw mismatch(expected: "a string") }
        return string
    }

    /// The integer, or nil for null.
    /// - Throws: for any other kind, for a fraction, and for an integer that does not fit.
    package func optionalUInt32() throws(JSONMismatch) -> UInt32? {
        if kind == .null { return nil }
        guard let number, isInteger else { throw mismatch(expected: "u32") }
        guard let value = UInt32(number) else {
            throw JSONMismatch(reason: "invalid value: \(unexpected), expected u32")
        }
        return value
    }

    /// The truth value, or nil for null.
    /// - Throws: for a value of any other kind.
    package func optionalBool() throws(JSONMismatch) -> Bool? {
        if kind == .null { return nil }
        guard kind == .boolean else { throw mismatch(expected: "a boolean") }
        return text.first == UInt8(ascii: "t")
    }

    private var isInteger: Bool {
        guard let number, number != "-0" else { return false }
        return Int64(number) != nil || UInt64(number) != nil
    }

    /// What the value is. A long string is cut: the text goes into an answer.
    private var unexpected: String {
        let written = String(decoding: text.prefix(64), as: UTF8.self)
        return switch kind {
        case .null: "null"
        case .boolean: "boolean `\(written)`"
        case .number: isInteger ? "integer `\(written)`" : "floating point `\(real)`"
        case .string: "string \"\((string ?? "").prefix(bytes: 64))\""
        case .array: "sequence"
        case .object: "map"
        }
    }

    private var real: String {
        guard let number, let value = Double(number) else { return "NaN" }
        return value.description
    }
}
