/// JSON the slow and obvious way: a tree, recursion, and numbers as they were written. What the C code is
/// held against.
indirect enum JSON: Equatable {
    case null
    case bool(Bool)
    case number(String)
    case string([UInt8])  // Decoded.
    case array([JSON])
    case object([Pair])  // As written, duplicate keys too.

    struct Pair: Equatable {
        var key: [UInt8]
        var value: JSON
    }
}

extension JSON {
    static func text(_ string: String) -> JSON { .string(Array(string.utf8)) }

    var depth: Int {
        switch self {
        case .array(let elements): 1 + (elements.map(\.depth).max() ?? 0)
        case .object(let pairs): 1 + (pairs.map(\.value.depth).max() ?? 0)
        default: 0
        }
    }

    /// The value of the last member with `key`.
    subscript(_ key: String) -> JSON? {
        guard case .object(let pairs) = self else { return nil }
        return pairs.last { $0.key == Array(key.utf8) }?.value
    }

    var elements: [JSON] {
        guard case .array(let elements) = self else { return [] }
        return elements
    }

    var string: String? {
        guard case .string(let bytes) = self else { return nil }
        return String(decoding: bytes, as: UTF8.self)
    }

    /// Whether two values mean the same to a reader that tells `1` from `1.0`, keeps the last of duplicate
    /// keys, and does not look at the order of keys.
    func means(_ other: JSON) -> Bool {
        switch (self, other) {
        case (.number(let a), .number(let b)):
            let isReal = { (text: String) in text.contains { ".eE".contains($0) } || text == "-0" }
            return isReal(a) || isReal(b)
                ? isReal(a) == isReal(b) && Double(a) == Double(b) : a == b
        case (.array(let a), .array(let b)):
            return a.count == b.count && zip(a, b).allSatisfy { $0.means($1) }
        case (.object(let a), .object(let b)):
            let left = Dictionary(a.map { ($0.key, $0.value) }) { $1 }
            let right = Dictionary(b.map { ($0.key, $0.value) }) { $1 }
            return left.count == right.count
                && left.allSatisfy { key, value in right[key].map { value.means($0) } ?? false }
        default:
            return self == other
        }
    }
}

// MARK: - Reading

struct JSONReader {
    private let text: [UInt8]
    private var at = 0
    private let depthMax: Int

    /// The value of `text`, or nil when it is not strict JSON or too deep.
    static func read(_ text: [UInt8], depthMax: Int = 127) -> JSON? {
        var reader = JSONReader(text: text, depthMax: depthMax)
        reader.skipWhite()
        guard let value = reader.value(depth: 0) else { return nil }
        reader.skipWhite()
        return reader.at == text.count ? value : nil
    }

    private init(text: [UInt8], depthMax: Int) {
        self.text = text
        self.depthMax = depthMax
    }

    private var current: UInt8? { at < text.count ? text[at] : nil }

    private mutating func skipWhite() {
        while let c = current, [0x20, 0x09, 0x0A, 0x0D].contains(c) { at += 1 }
    }

    private mutating func take(_ word: String) -> Bool {
        guard text[at...].starts(with: word.utf8) else { return false }
        at += word.utf8.count
        return true
    }

    private mutating func value(depth: Int) -> JSON? {
        switch current {
        case UInt8(ascii: "{"): object(depth: depth + 1)
        case UInt8(ascii: "["): array(depth: depth + 1)
        case UInt8(ascii: "\""): string().map { .string($0) }
        case UInt8(ascii: "n"): take("null") ? .null : nil
        case UInt8(ascii: "t"): take("true") ? .bool(true) : nil
        case UInt8(ascii: "f"): take("false") ? .bool(false) : nil
        default: number()
        }
    }

    private mutating func array(depth: Int) -> JSON? {
        guard depth <= depthMax, take("[") else { return nil }
        var elements: [JSON] = []
        skipWhite()
        if take("]") { return .array([]) }
        while true {
            skipWhite()
            guard let element = value(depth: depth) else { return nil }
            elements.append(element)
            skipWhite()
            if take("]") { return .array(elements) }
            guard take(",") else { return nil }
        }
    }

    private mutating func object(depth: Int) -> JSON? {
        guard depth <= depthMax, take("{") else { return nil }
        var pairs: [JSON.Pair] = []
        skipWhite()
        if take("}") { return .object([]) }
        while true {
            skipWhite()
            guard let key = string() else { return nil }
            skipWhite()
            guard take(":") else { return nil }
            skipWhite()
            guard let element = value(depth: depth) else { return nil }
            pairs.append(.init(key: key, value: element))
            skipWhite()
            if take("}") { return .object(pairs) }
            guard take(",") else { return nil }
        }
    }

    private mutating func number() -> JSON? {
        let start = at
        _ = take("-")
        if !take("0") {
            guard digits() > 0 else { return nil }
        }
        if take(".") {
            guard digits() > 0 else { return nil }
        }
        if take("e") || take("E") {
            if !take("+") { _ = take("-") }
            guard digits() > 0 else { return nil }
        }
        let written = String(decoding: text[start..<at], as: UTF8.self)
        guard let real = Double(written), real.isFinite else { return nil }
        return .number(written)
    }

    private mutating func digits() -> Int {
        let start = at
        while let c = current, (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(c) { at += 1 }
        return at - start
    }

    private mutating func string() -> [UInt8]? {
        guard take("\"") else { return nil }
        var out: [UInt8] = []
        while let c = current {
            at += 1
            switch c {
            case UInt8(ascii: "\""):
                return String(validating: out, as: UTF8.self) == nil ? nil : out
            case UInt8(ascii: "\\"):
                guard let character = escape() else { return nil }
                out += character
            case 0..<0x20:
                return nil
            default:
                out.append(c)
            }
        }
        return nil
    }

    private mutating func escape() -> [UInt8]? {
        guard let c = current else { return nil }
        at += 1
        switch c {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [c]
        case UInt8(ascii: "b"): return [8]
        case UInt8(ascii: "f"): return [12]
        case UInt8(ascii: "n"): return [10]
        case UInt8(ascii: "r"): return [13]
        case UInt8(ascii: "t"): return [9]
        case UInt8(ascii: "u"): break
        default: return nil
        }
        guard let high = unit() else { return nil }
        if let scalar = Unicode.Scalar(high) { return Array(String(scalar).utf8) }
        guard high < 0xDC00, take("\\u"), let low = unit(), (0xDC00..<0xE000).contains(low) else {
            return nil
        }
        let scalar = Unicode.Scalar(
            0x10000 + ((UInt32(high) - 0xD800) << 10) + (UInt32(low) - 0xDC00))
        return scalar.map { Array(String($0).utf8) }
    }

    private mutating func unit() -> UInt16? {
        guard at + 4 <= text.count else { return nil }
        let hex = String(decoding: text[at..<at + 4], as: UTF8.self)
        guard hex.allSatisfy(\.isHexDigit) else { return nil }
        at += 4
        return UInt16(hex, radix: 16)
    }
}

// MARK: - Writing

/// The shortest text that reads back as `value`, from the digits that the standard library finds.
func shortestText(_ value: Double) -> String {
    var digits = "\(value.magnitude)"
    var exponent = 0
    if let e = digits.firstIndex(of: "e") {
        exponent = Int(digits[digits.index(after: e)...]) ?? 0
        digits = String(digits[..<e])
    }
    let parts = digits.split(separator: ".", omittingEmptySubsequences: false)
    var point = parts[0].count + exponent  // Of 0.DIGITS
    digits = parts.joined()
    let leading = digits.prefix { $0 == "0" }.count
    digits.removeFirst(leading)
    point -= leading
    while digits.last == "0" { digits.removeLast() }
    let sign = value.sign == .minus ? "-" : ""
    if digits.isEmpty { return sign + "0.0" }
    if point <= -5 || point > 16 {
        let rest = digits.dropFirst()
        return sign + digits.prefix(1) + (rest.isEmpty ? "" : ".\(rest)") + "e\(point - 1)"
    }
    if point <= 0 { return sign + "0." + String(repeating: "0", count: -point) + digits }
    if point >= digits.count {
        return sign + digits + String(repeating: "0", count: point - digits.count) + ".0"
    }
    return sign + digits.prefix(point) + "." + digits.dropFirst(point)
}
