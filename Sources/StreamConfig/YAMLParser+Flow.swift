// Lists and maps in brackets. Their lines stand right of the block that holds them.
extension YAMLParser {
    /// Reads the list, map or scalar whose first byte is at the cursor.
    mutating func flowNode() throws(YAMLError) -> YAMLNode {
        switch peek() {
        case UInt8(ascii: "["):
            return try flowList()
        case UInt8(ascii: "{"):
            return try flowMap()
        default:
            return try scalar(inFlow: true).node
        }
    }

    private mutating func flowList() throws(YAMLError) -> YAMLNode {
        let start = cursor
        try descend()
        defer { ascend() }
        var items: [YAMLNode] = []
        cursor += 1
        while true {
            try skipToFlowContent(of: start)
            if peek() == UInt8(ascii: "]") { break }
            items.append(try flowNode())
            try skipToFlowContent(of: start)
            if peek() == .colon {
                throw error("a map in a list needs braces: `[{key: value}]`")
            }
            if try !passComma(before: "]") { break }
        }
        cursor += 1
        return YAMLNode(.list(items), at: reader.position(at: start))
    }

    private mutating func flowMap() throws(YAMLError) -> YAMLNode {
        let start = cursor
        try descend()
        defer { ascend() }
        var map = MapBuilder()
        cursor += 1
        while true {
            try skipToFlowContent(of: start)
            if peek() == .closeBrace { break }
            if peek() == .openBrace || peek() == UInt8(ascii: "[") {
                throw error("a list or map cannot be a key")
            }
            let keyStart = cursor
            let scalar = try scalar(inFlow: true)
            skipBlanks()
            guard peek() == .colon else { throw error("expected `:` behind the key") }
            var entry = try key(scalar, from: keyStart)
            cursor += 1
            try skipToFlowContent(of: start)
            if peek() != UInt8(ascii: ","), peek() != .closeBrace {
                entry.value = try flowNode()
                try skipToFlowContent(of: start)
            }
            add(entry, to: &map)
            if try !passComma(before: "}") { break }
        }
        cursor += 1
        return YAMLNode(.map(map.entries), at: reader.position(at: start))
    }

    /// Skips blanks, lines and comments inside the brackets that open at `start`.
    private mutating func skipToFlowContent(of start: Int) throws(YAMLError) {
        try skipToContent()
        if peek() == 0 || isAtMarker {
            throw error("this bracket is never closed", at: start)
        }
        if column < flowColumnMin { throw tooFarLeft() }
    }

    /// Passes a comma; false when the closing bracket is there instead.
    private mutating func passComma(before end: Unicode.Scalar) throws(YAMLError) -> Bool {
        if peek() == UInt8(ascii: ",") {
            cursor += 1
            return true
        }
        guard peek() == UInt8(ascii: end) else { throw error("expected `,` or `\(end)`") }
        return false
    }
}

func isFlowIndicator(_ byte: UInt8) -> Bool {
    switch byte {
    case UInt8(ascii: ","), UInt8(ascii: "["), UInt8(ascii: "]"), .openBrace, .closeBrace: true
    default: false
    }
}
