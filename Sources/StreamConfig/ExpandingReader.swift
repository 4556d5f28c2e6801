/// The text of a file with its `${NAME:default}` replaced, byte by byte as the parser asks for it.
///
/// Replacing comes before parsing: a value may bring quotes, comments and lines of its own. Only in
/// comments nothing is replaced, and only the parser knows where those are: it calls
/// ``endOfComment(from:)``, and never looks further than a `#` before it has decided what that is.
/// Every byte remembers where it stands in the file as written.
struct ExpandingReader {
    /// Bytes of a file. More: refused.
    static let sourceSizeMax = 1 << 20
    /// Bytes of a file with every value put in. More: refused.
    static let expandedSizeMax = 4 << 20
    /// The default that stands for the version of this server.
    static let versionWord = "__III_ENGINE_VERSION__"

    /// What has been asked for so far.
    private(set) var bytes: [UInt8] = []
    private(set) var problems = DiagnosticList()

    private let source: [UInt8]
    private let environment: [String: String]
    private let version: String
    /// The first byte of `source` that has not been asked for, and where it stands.
    private var next = 0
    private var place = Place(line: 1, column: 1)
    /// Where each of `bytes` stands.
    private var places: [Place] = []
    private var expansions: [(bytes: Range<Int>, name: String)] = []
    /// No `${` before this offset is closed in its line: looked for once, not once for each `${`.
    private var openUntil = 0

    /// Half the size of a ``SourcePosition``: there is one for each byte.
    private struct Place {
        var line: UInt32
        var column: UInt32
    }

    /// Takes a file. Text that no parser should see (not UTF-8, control characters, too long) is a
    /// problem at once, and the reader is then at its end.
    init(source: [UInt8], environment: [String: String], version: String) {
        let isUsable = source.count <= Self.sourceSizeMax
        self.source = isUsable ? source : []
        self.environment = environment
        self.version = version
        if !isUsable {
            problems.error(
                "the file has more than the \(Self.sourceSizeMax) bytes that are read", at: nil)
        }
        if self.source.starts(with: [0xEF, 0xBB, 0xBF]) {
            next = 3  // A byte order mark says nothing in UTF-8.
        }
        if let (offset, problem) = firstUnreadable(in: self.source[next...]) {
            pass(offset - next)
            problems.error(problem, at: position)
            next = self.source.count
        }
    }

    /// The byte at `index` of the expanded text, 0 behind its end.
    mutating func byte(at index: Int) -> UInt8 {
        while bytes.count <= index {
            guard next < source.count else { return 0 }
            extend()
        }
        return bytes[index]
    }

    /// The index of the line end (or of the end) after `index`, which is in a comment.
    mutating func endOfComment(from index: Int) -> Int {
        if let end = bytes[index...].firstIndex(of: .lineFeed) {
            return end  // The comment, with its end, came out of a value.
        }
        while next < source.count, source[next] != .lineFeed {
            append(source[next])
            pass(1)
        }
        return bytes.count
    }

    /// Where the byte at `index` stands in the file as written; for a byte that came out of a
    /// value, where its `${` stands.
    func position(at index: Int) -> SourcePosition {
        guard index < places.count else { return position }
        return SourcePosition(places[index].line, places[index].column)
    }

    /// The variable that the byte at `index` came out of.
    func variable(at index: Int) -> String? {
        expansions.last { $0.bytes.contains(index) }?.name
    }

    private var position: SourcePosition { SourcePosition(place.line, place.column) }

    private mutating func extend() {
        if source[next] == .dollar, next >= openUntil {
            switch Placeholder.read(source, at: next) {
            case .none: break
            case .open(let end): openUntil = end
            case .found(let placeholder):
                expand(placeholder)
                // After an overflow the reader is at its end already.
                if next < source.count { pass(placeholder.end - next) }
                return
            }
        }
        // A line may end as on Windows; the parser sees one kind of end.
        if source[next] != .carriageReturn {
            append(source[next])
        }
        pass(1)
    }

    private mutating func expand(_ placeholder: Placeholder) {
        let name = quoted(placeholder.name, with: "'")
        let text: String
        if let value = environment[placeholder.name] {
            text = value
        } else if let fallback = placeholder.fallback {
            text = fallback == Self.versionWord ? version : fallback
        } else {
            problems.error(
                "Environment variable \(name) not set and no default provided", at: position)
            return
        }
        let value = Array(text.utf8)
        if let (_, problem) = firstUnreadable(in: value[...]) {
            problems.error("in the value of \(name): \(problem)", at: position)
            return
        }
        guard bytes.count + value.count + source.count - next <= Self.expandedSizeMax else {
            problems.error(
                "with its values put in, the file has more than \(Self.expandedSizeMax) bytes",
                at: position)
            next = source.count
            return
        }
        let start = bytes.count
        for byte in value where byte != .carriageReturn {
            append(byte)
        }
        expansions.append((start..<bytes.count, placeholder.name))
    }

    private mutating func append(_ byte: UInt8) {
        bytes.append(byte)
        places.append(place)
    }

    private mutating func pass(_ count: Int) {
        for byte in source[next..<(next + count)] {
            if byte == .lineFeed {
                place = Place(line: place.line + 1, column: 1)
            } else if byte & 0xC0 != 0x80 {
                place.column += 1
            }
        }
        next += count
    }
}

/// One `${NAME}` or `${NAME:default}`, on one line. Everything else with a `$` is plain text.
private struct Placeholder {
    enum Reading {
        case none
        /// Not closed before the end of its line, which is at this offset.
        case open(until: Int)
        case found(Placeholder)
    }

    let name: String
    let fallback: String?
    /// The offset behind the `}`.
    let end: Int

    static func read(_ source: [UInt8], at start: Int) -> Reading {
        guard start + 1 < source.count, source[start + 1] == .openBrace else { return .none }
        var cursor = start + 2
        var colon: Int?
        while cursor < source.count, source[cursor] != .closeBrace {
            // Reading on into the next line would swallow half of the file.
            if source[cursor] == .lineFeed { return .open(until: cursor) }
            if source[cursor] == .colon, colon == nil { colon = cursor }
            cursor += 1
        }
        guard cursor < source.count else { return .open(until: cursor) }
        let nameEnd = colon ?? cursor
        guard nameEnd > start + 2 else { return .none }
        return .found(
            Placeholder(
                name: String(decoding: source[(start + 2)..<nameEnd], as: UTF8.self),
                fallback: colon.map { String(decoding: source[($0 + 1)..<cursor], as: UTF8.self) },
                end: cursor + 1))
    }
}

/// The first place in `bytes` that YAML does not allow, and what is wrong there.
private func firstUnreadable(in bytes: ArraySlice<UInt8>) -> (offset: Int, problem: String)? {
    var offset = bytes.startIndex
    var iterator = bytes.makeIterator()
    var decoder = UTF8()
    while true {
        switch decoder.decode(&iterator) {
        case .emptyInput:
            return nil
        case .error:
            return (offset, "the text is not UTF-8")
        case .scalarValue(let scalar):
            switch scalar.value {
            case 0x0D where offset + 1 < bytes.endIndex && bytes[offset + 1] == .lineFeed:
                break
            case 0..<0x09, 0x0B..<0x20, 0x7F..<0x85, 0x86..<0xA0, 0xFEFF, 0xFFFE, 0xFFFF:
                let code = String(scalar.value, radix: 16, uppercase: true)
                return (offset, "the control character U+\(code) is not allowed")
            default:
                break
            }
            offset += UTF8.width(scalar)
        }
    }
}

extension SourcePosition {
    fileprivate init(_ line: UInt32, _ column: UInt32) {
        self.init(line: Int(line), column: Int(column))
    }
}

extension UInt8 {
    static let tab = UInt8(ascii: "\t")
    static let lineFeed = UInt8(ascii: "\n")
    static let carriageReturn = UInt8(ascii: "\r")
    static let space = UInt8(ascii: " ")
    static let dollar = UInt8(ascii: "$")
    static let colon = UInt8(ascii: ":")
    static let openBrace = UInt8(ascii: "{")
    static let closeBrace = UInt8(ascii: "}")
}
