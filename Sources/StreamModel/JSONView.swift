/// A value inside a JSON text, taken apart one level at a time, without recursion and without copies.
///
/// For small control values that the core has validated. Other bytes give odd answers, never a trap.
package struct JSONView: Sendable {
    package enum Kind: Sendable {
        case null, boolean, number, string, array, object
    }

    /// The value as written, a string with its quotes.
    package let text: ArraySlice<UInt8>

    init(_ text: ArraySlice<UInt8>) {
        self.text = text
    }

    package var kind: Kind {
        switch text.first {
        case nil, UInt8(ascii: "n"): .null
        case UInt8(ascii: "t"), UInt8(ascii: "f"): .boolean
        case UInt8(ascii: "\""): .string
        case UInt8(ascii: "["): .array
        case UInt8(ascii: "{"): .object
        default: .number
        }
    }

    /// The characters of a string; nil when the value is none.
    package var string: String? {
        guard kind == .string else { return nil }
        let raw = text.dropFirst().dropLast()
        guard raw.contains(UInt8(ascii: "\\")) else { return String(decoding: raw, as: UTF8.self) }
        return unescape(raw)
    }

    /// The number as written; nil when the value is none.
    package var number: String? {
        kind == .number ? String(decoding: text, as: UTF8.self) : nil
    }

    /// The members of an object in the order of the text; none when the value is no object.
    package var members: JSONMembers {
        JSONMembers(rest: kind == .object ? text.dropFirst() : [])
    }

    /// The elements of an array in their order; none when the value is no array.
    package var elements: JSONElements {
        JSONElements(rest: kind == .array ? text.dropFirst() : [])
    }

    /// Whether the value is the same JSON as another: numbers by their value, objects in any order. For small
    /// values: O(size × members), and recursive, up to the depth that a message may have.
    package func isEqual(to other: JSONView) -> Bool {
        guard kind == other.kind else { return false }
        switch kind {
        case .null: return true
        case .boolean: return text.first == other.text.first
        case .number:
            return text == other.text || isSameNumber(as: other)
        case .string: return Name(string ?? "") == Name(other.string ?? "")
        case .array:
            let left = Array(elements)
            let right = Array(other.elements)
            return left.count == right.count && zip(left, right).allSatisfy { $0.isEqual(to: $1) }
        case .object:
            let left = Set(members.map { Name($0.name) })
            let right = Set(other.members.map { Name($0.name) })
            return left == right
                && left.allSatisfy { name in
                    guard let mine = self[name.string], let its = other[name.string] else {
                        return false
                    }
                    return mine.isEqual(to: its)
                }
        }
    }

    /// Integers are compared as such: a double does not tell those above 2^53 apart.
    private func isSameNumber(as other: JSONView) -> Bool {
        guard let left = number, let right = other.number else { return false }
        if let left = Integer(left), let right = Integer(right) { return left == right }
        return Double(left) == Double(right)
    }

    /// The last member called `name`. O(size of the object).
    package subscript(name: String) -> JSONView? {
        let name = Name(name)
        var found: JSONView?
        for member in members where Name(member.name) == name {
            found = member.value
        }
        return found
    }
}

/// Any integer that a signed or an unsigned word holds.
private enum Integer: Equatable {
    case signed(Int64)
    case unsigned(UInt64)

    init?(_ digits: String) {
        if let value = Int64(digits) {
            self = .signed(value)
        } else if let value = UInt64(digits) {
            self = .unsigned(value)
        } else {
            return nil
        }
    }
}

extension JSONText {
    /// The value to be taken apart.
    package var view: JSONView {
        var rest = bytes[...]
        skipSpace(&rest)
        return JSONView(takeValue(&rest))
    }

    /// The JSON string, quotes included, whose characters are `string`.
    package init(string: String) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(string.utf8.count + 2)
        bytes.appendJSON(string)
        self.init(validated: bytes)
    }
}

/// Walks the members of an object.
package struct JSONMembers: Sequence, IteratorProtocol, Sendable {
    package struct Member: Sendable {
        package let name: String
        package let value: JSONView
    }

    fileprivate var rest: ArraySlice<UInt8>

    package mutating func next() -> Member? {
        skipSpace(&rest)
        if rest.first == UInt8(ascii: ",") {
            rest.removeFirst()
            skipSpace(&rest)
        }
        guard rest.first == UInt8(ascii: "\"") else { return nil }
        let name = JSONView(takeValue(&rest))
        skipSpace(&rest)
        guard rest.popFirst() == UInt8(ascii: ":") else { return nil }
        skipSpace(&rest)
        return Member(name: name.string ?? "", value: JSONView(takeValue(&rest)))
    }
}

/// Walks the elements of an array.
package struct JSONElements: Sequence, IteratorProtocol, Sendable {
    fileprivate var rest: ArraySlice<UInt8>

    package mutating func next() -> JSONView? {
        skipSpace(&rest)
        if rest.first == UInt8(ascii: ",") {
            rest.removeFirst()
            skipSpace(&rest)
        }
        guard let first = rest.first, first != UInt8(ascii: "]") else { return nil }
        let value = takeValue(&rest)
        return value.isEmpty ? nil : JSONView(value)
    }
}

private func skipSpace(_ rest: inout ArraySlice<UInt8>) {
    while let byte = rest.first, byte == 0x20 || byte == 0x09 || byte == 0x0A || byte == 0x0D {
        rest.removeFirst()
    }
}

/// Takes the value that `rest` begins with, all of it when it does not end.
private func takeValue(_ rest: inout ArraySlice<UInt8>) -> ArraySlice<UInt8> {
    let end =
        switch rest.first {
        case UInt8(ascii: "\""): endOfString(rest, from: rest.startIndex)
        case UInt8(ascii: "{"), UInt8(ascii: "["): endOfContainer(rest)
        default: rest.firstIndex(where: endsScalar) ?? rest.endIndex
        }
    defer { rest = rest[end...] }
    return rest[..<end]
}

private func endsScalar(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: ","), UInt8(ascii: "}"), UInt8(ascii: "]"), 0x20, 0x09, 0x0A, 0x0D: true
    default: false
    }
}

/// The index behind the string whose opening quote is at `start`.
private func endOfString(_ text: ArraySlice<UInt8>, from start: Int) -> Int {
    var index = start + 1
    while index < text.endIndex {
        switch text[index] {
        case UInt8(ascii: "\""): return index + 1
        case UInt8(ascii: "\\"): index += 2
        default: index += 1
        }
    }
    return text.endIndex
}

/// The index behind the object or array that `text` begins with.
private func endOfContainer(_ text: ArraySlice<UInt8>) -> Int {
    var depth = 0
    var index = text.startIndex
    while index < text.endIndex {
        switch text[index] {
        case UInt8(ascii: "\""):
            index = endOfString(text, from: index)
            continue
        case UInt8(ascii: "{"), UInt8(ascii: "["):
            depth += 1
        case UInt8(ascii: "}"), UInt8(ascii: "]"):
            depth -= 1
            if depth == 0 { return index + 1 }
        default:
            break
        }
        index += 1
    }
    return text.endIndex
}

private func unescape(_ raw: ArraySlice<UInt8>) -> String {
    var rest = raw
    var decoded: [UInt8] = []
    decoded.reserveCapacity(raw.count)
    while let byte = rest.popFirst() {
        guard byte == UInt8(ascii: "\\") else {
            decoded.append(byte)
            continue
        }
        switch rest.popFirst() {
        case UInt8(ascii: "b"): decoded.append(0x08)
        case UInt8(ascii: "f"): decoded.append(0x0C)
        case UInt8(ascii: "n"): decoded.append(0x0A)
        case UInt8(ascii: "r"): decoded.append(0x0D)
        case UInt8(ascii: "t"): decoded.append(0x09)
        case UInt8(ascii: "u"):
            decoded.append(contentsOf: UTF8.encode(takeScalar(&rest)) ?? .init())
        case let other?: decoded.append(other)
        case nil: break
        }
    }
    return String(decoding: decoded, as: UTF8.self)
}

/// Takes the digits of a `\u` escape, and the second half of a surrogate pair. A lone half, which the
/// core refuses, becomes U+FFFD.
private func takeScalar(_ rest: inout ArraySlice<UInt8>) -> Unicode.Scalar {
    let first = takeHexadecimal(&rest)
    guard first & 0xFC00 == 0xD800 else { return Unicode.Scalar(first) ?? "\u{FFFD}" }
    let pair = rest.starts(with: [UInt8(ascii: "\\"), UInt8(ascii: "u")])
    guard pair else { return "\u{FFFD}" }
    var behind = rest.dropFirst(2)
    let second = takeHexadecimal(&behind)
    guard second & 0xFC00 == 0xDC00 else { return "\u{FFFD}" }
    rest = behind
    return Unicode.Scalar(0x10000 + (first & 0x3FF) << 10 + second & 0x3FF) ?? "\u{FFFD}"
}

private func takeHexadecimal(_ rest: inout ArraySlice<UInt8>) -> UInt32 {
    let digits = String(decoding: rest.prefix(4), as: UTF8.self)
    rest = rest.dropFirst(4)
    return UInt32(digits, radix: 16) ?? 0xFFFD
}
