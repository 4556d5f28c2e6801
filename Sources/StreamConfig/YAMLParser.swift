/// Why a text is not YAML that we read, at a byte of the expanded text.
struct YAMLError: Error {
    var message: String
    var index: Int
}

/// Reads one YAML document: a strict subset of YAML 1.2 with the core schema.
///
/// Block and flow maps and lists, plain and quoted scalars, `|` and `>`, comments. Left out, each
/// with an error that says so: several documents, directives, anchors, aliases, tags, complex keys,
/// tabs as indentation, plain scalars over several lines, values of a key on the line of another.
/// What it accepts means the same to every YAML 1.2 parser.
struct YAMLParser {
    /// Lists and maps inside each other. More: refused, so that no input overflows the stack.
    static let depthMax = 64

    var reader: ExpandingReader
    /// The byte to look at next, and the first byte of its line.
    var cursor = 0
    var lineStart = 0
    /// Keys that are given twice: reading goes on after them.
    private(set) var duplicates: [Diagnostic] = []
    /// The least column of the further lines of a value in quotes or brackets: right of its block.
    private(set) var flowColumnMin = 0
    private var depth = 0

    init(_ reader: ExpandingReader) {
        self.reader = reader
    }

    /// Reads the whole text. An empty one is null.
    mutating func document() throws(YAMLError) -> YAMLNode {
        try skipToContent()
        if peek() == UInt8(ascii: "%"), column == 0 {
            throw error("directives (`%…`) are not supported")
        }
        if isAtMarker(UInt8(ascii: "-")) {
            cursor += 3
            try endLine()
            try skipToContent()
        }
        var root = YAMLNode(.null, at: reader.position(at: cursor))
        if peek() != 0, !isAtMarker {
            root = try blockNode(in: -1, mayNest: true)
            try skipToContent()
        }
        if isAtMarker(UInt8(ascii: ".")) {
            cursor += 3
            try endLine()
            try skipToContent()
            if peek() != 0 { throw error("nothing may follow the end of the document, `...`") }
        }
        if isAtMarker(UInt8(ascii: "-")) {
            throw error("a file has one document, this starts a second one")
        }
        if peek() != 0 { throw misplaced() }
        return root
    }

    // MARK: Blocks

    /// Reads the node whose first byte is at the cursor.
    ///
    /// - Parameters:
    ///   - indent: the column of the map or list that holds it, -1 for none.
    ///   - mayNest: false right behind `key:`, where no block map or list can start.
    mutating func blockNode(in indent: Int, mayNest: Bool) throws(YAMLError) -> YAMLNode {
        let start = cursor
        let startColumn = column
        flowColumnMin = indent + 1
        switch peek() {
        case UInt8(ascii: "-") where isBlankOrEnd(peek(1)):
            guard mayNest else { throw error("a list starts on the line after its key") }
            return try blockList()
        case UInt8(ascii: "["), UInt8(ascii: "{"):
            let node = try flowNode()
            skipBlanks()
            if isAtKeyEnd { throw error("a list or map cannot be a key") }
            try endLine()
            return node
        case UInt8(ascii: "|"), UInt8(ascii: ">"):
            return try blockScalar(in: indent)
        default:
            break
        }
        let scalar = try scalar(inFlow: false)
        skipBlanks()
        if isAtKeyEnd {
            guard mayNest else {
                throw error("a value that contains `: ` needs quotes; a map needs lines of its own")
            }
            return try blockMap(firstKey: key(scalar, from: start), at: startColumn)
        }
        try endLine()
        return scalar.node
    }

    private mutating func blockMap(
        firstKey: YAMLEntry, at indent: Int
    ) throws(YAMLError) -> YAMLNode {
        try descend()
        defer { ascend() }
        var map = MapBuilder()
        var entry = firstKey
        while true {
            cursor += 1  // The colon.
            entry.value = try blockValue(in: indent)
            add(entry, to: &map)
            try skipToContent()
            if !continues(at: indent) { break }
            if column > indent { throw misplaced() }
            if peek() == UInt8(ascii: "-"), isBlankOrEnd(peek(1)) {
                throw error("a list item stands where a key of the map should be")
            }
            let start = cursor
            // A key over several lines has an error of its own.
            flowColumnMin = 0
            let scalar = try scalar(inFlow: false)
            skipBlanks()
            guard isAtKeyEnd else { throw error("expected `key: value`", at: start) }
            entry = try key(scalar, from: start)
        }
        return YAMLNode(.map(map.entries), at: firstKey.keyPosition)
    }

    private mutating func blockList() throws(YAMLError) -> YAMLNode {
        try descend()
        defer { ascend() }
        let position = reader.position(at: cursor)
        let indent = column
        var items: [YAMLNode] = []
        repeat {
            let dash = cursor
            cursor += 1
            while peek() == .space { cursor += 1 }
            if peek() == .tab { throw tabIndents() }
            if isLineEnd(peek()) || peek() == UInt8(ascii: "#") {
                try endLine()
                try skipToContent()
                let isOnNextLine = continues(at: indent + 1)
                items.append(
                    isOnNextLine
                        ? try blockNode(in: indent, mayNest: true)
                        : YAMLNode(.null, at: reader.position(at: dash)))
            } else {
                items.append(try blockNode(in: indent, mayNest: true))
            }
            try skipToContent()
            if continues(at: indent + 1) { throw misplaced() }
        } while continues(at: indent) && peek() == UInt8(ascii: "-") && isBlankOrEnd(peek(1))
        return YAMLNode(.list(items), at: position)
    }

    /// Reads what belongs to the key whose colon is behind the cursor.
    private mutating func blockValue(in indent: Int) throws(YAMLError) -> YAMLNode {
        let colon = cursor - 1
        skipBlanks()
        if !isLineEnd(peek()), peek() != UInt8(ascii: "#") {
            return try blockNode(in: indent, mayNest: false)
        }
        try endLine()
        try skipToContent()
        if continues(at: indent + 1) {
            return try blockNode(in: indent, mayNest: true)
        }
        // The dashes of a list may stand right below its key.
        if continues(at: indent), peek() == UInt8(ascii: "-"), isBlankOrEnd(peek(1)) {
            return try blockList()
        }
        return YAMLNode(.null, at: reader.position(at: colon))
    }

    // MARK: Keys

    struct MapBuilder {
        var entries: [YAMLEntry] = []
        var positions: [String: SourcePosition] = [:]
    }

    /// Adds `entry`, or notes that its key is there already.
    mutating func add(_ entry: YAMLEntry, to map: inout MapBuilder) {
        if let first = map.positions[entry.key] {
            duplicates.append(
                Diagnostic(
                    .error,
                    "the key \(quoted(entry.key)) is given twice, in line \(first.line)"
                        + " and again in line \(entry.keyPosition.line)",
                    at: entry.keyPosition))
            return
        }
        map.positions[entry.key] = entry.keyPosition
        map.entries.append(entry)
    }

    /// The entry, still without a value, for the key that `scalar` spells.
    func key(_ scalar: YAMLScalar, from start: Int) throws(YAMLError) -> YAMLEntry {
        if scalar.hasSeveralLines { throw error("a key must be on one line", at: start) }
        if scalar.isPlain, scalar.text == "<<" {
            throw error("merge keys (`<<`) are not supported", at: start)
        }
        return YAMLEntry(
            scalar.text, at: scalar.node.position, YAMLNode(.null, at: scalar.node.position))
    }

    // MARK: Lines and blanks

    var column: Int { cursor - lineStart }

    mutating func peek(_ distance: Int = 0) -> UInt8 {
        reader.byte(at: cursor + distance)
    }

    mutating func skipBlanks() {
        while peek() == .space || peek() == .tab { cursor += 1 }
    }

    /// Goes to the end of a line that has nothing more to say but a comment.
    mutating func endLine() throws(YAMLError) {
        skipBlanks()
        try skipComment()
        guard isLineEnd(peek()) else {
            throw error(
                isAtKeyEnd
                    ? "a value that contains `: ` needs quotes"
                    : "unexpected text behind the value")
        }
    }

    /// Goes to the next byte that means something. At the end, or behind `endLine()`.
    mutating func skipToContent() throws(YAMLError) {
        while true {
            let isIndentation = cursor == lineStart
            let start = cursor
            skipBlanks()
            try skipComment()
            if peek() == .lineFeed {
                cursor += 1
                lineStart = cursor
                continue
            }
            if peek() != 0, isIndentation,
                let tab = reader.bytes[start..<cursor].firstIndex(of: .tab)
            {
                throw error("a tab cannot indent: use spaces", at: tab)
            }
            return
        }
    }

    private mutating func skipComment() throws(YAMLError) {
        guard peek() == UInt8(ascii: "#") else { return }
        guard cursor == lineStart || isBlankOrEnd(reader.byte(at: cursor - 1)) else {
            throw error("a comment needs a space before its `#`")
        }
        cursor = reader.endOfComment(from: cursor)
    }

    /// Whether the content at the cursor stands at `indent` or deeper, and is no document marker.
    private mutating func continues(at indent: Int) -> Bool {
        peek() != 0 && column >= indent && !isAtMarker
    }

    var isAtMarker: Bool {
        mutating get { isAtMarker(UInt8(ascii: "-")) || isAtMarker(UInt8(ascii: ".")) }
    }

    /// Whether three times `byte`, `---` or `...`, start the line of the cursor on their own.
    private mutating func isAtMarker(_ byte: UInt8) -> Bool {
        guard cursor == lineStart else { return false }
        return peek() == byte && peek(1) == byte && peek(2) == byte && isBlankOrEnd(peek(3))
    }

    /// Whether a `:` that ends a key is at the cursor.
    var isAtKeyEnd: Bool {
        mutating get { peek() == .colon && isBlankOrEnd(peek(1)) }
    }

    // MARK: Limits and errors

    mutating func descend() throws(YAMLError) {
        guard depth < Self.depthMax else {
            throw error("lists and maps are nested more than \(Self.depthMax) deep")
        }
        depth += 1
    }

    mutating func ascend() {
        depth -= 1
    }

    func error(_ message: String, at index: Int? = nil) -> YAMLError {
        YAMLError(message: message, index: index ?? cursor)
    }

    /// The error for a line of a value in quotes or brackets that begins left of where it may.
    func tooFarLeft() -> YAMLError {
        error(
            "this line goes on with a value in quotes or brackets: it needs at least"
                + " \(flowColumnMin) \(flowColumnMin == 1 ? "space" : "spaces") before it")
    }

    func tabIndents() -> YAMLError {
        error("a tab cannot indent: use spaces")
    }

    /// The error for a line that is indented as nothing around it.
    private func misplaced() -> YAMLError {
        error(
            "this line is indented like nothing before it; a value over several lines needs"
                + " quotes, `|` or `>`")
    }
}

func isBlank(_ byte: UInt8) -> Bool {
    byte == .space || byte == .tab
}

func isLineEnd(_ byte: UInt8) -> Bool {
    byte == .lineFeed || byte == 0
}

func isBlankOrEnd(_ byte: UInt8) -> Bool {
    isBlank(byte) || isLineEnd(byte)
}

extension YAMLNode {
    /// Reads the text of a file, its `${…}` replaced from `environment`; nil with what is wrong
    /// added to `report`. A file with nothing in it is null.
    static func parse(
        _ source: [UInt8], environment: [String: String], version: String,
        _ report: inout DiagnosticList
    ) -> YAMLNode? {
        var parser = YAMLParser(
            ExpandingReader(source: source, environment: environment, version: version))
        var root: YAMLNode?
        var failure: YAMLError?
        do throws(YAMLError) {
            root = try parser.document()
        } catch {
            failure = error
        }
        let problems = parser.reader.problems
        for problem in problems.inFileOrder + parser.duplicates {
            report.add(problem)
        }
        // After a problem of the reader the text is not what its author meant: what the parser
        // stumbles over then is no news.
        if let failure, !problems.hasErrors {
            let variable = parser.reader.variable(at: failure.index)
            let origin = variable.map { " (in the value of \(quoted($0, with: "'")))" } ?? ""
            report.error(failure.message + origin, at: parser.reader.position(at: failure.index))
        }
        return problems.hasErrors ? nil : root
    }
}
