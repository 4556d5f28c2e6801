/// A scalar as it was read: a value, or the key of a map.
struct YAMLScalar {
    var node: YAMLNode
    var text: String
    var isPlain: Bool
    var hasSeveralLines = false
}

// Plain and quoted scalars.
extension YAMLParser {
    /// Reads the scalar whose first byte is at the cursor, and stops behind it.
    mutating func scalar(inFlow: Bool) throws(YAMLError) -> YAMLScalar {
        let start = cursor
        let line = lineStart
        let text: String
        let isPlain: Bool
        switch peek() {
        case UInt8(ascii: "\""):
            (text, isPlain) = (try doubleQuoted(), false)
        case UInt8(ascii: "'"):
            (text, isPlain) = (try singleQuoted(), false)
        default:
            try refuseIndicators(inFlow: inFlow)
            (text, isPlain) = (plain(inFlow: inFlow), true)
        }
        let value = isPlain ? plainValue(text) : .string(text)
        return YAMLScalar(
            node: YAMLNode(value, at: reader.position(at: start)), text: text, isPlain: isPlain,
            hasSeveralLines: lineStart != line)
    }

    // MARK: Plain

    private mutating func plain(inFlow: Bool) -> String {
        let start = cursor
        var end = cursor
        while !isLineEnd(peek()) {
            let byte = peek()
            if isBlank(byte) {
                cursor += 1
                // Looking on only from here keeps what is in a comment unread.
                if peek() == UInt8(ascii: "#") { break }
                continue
            }
            if byte == .colon, isBlankOrEnd(peek(1)) || (inFlow && isFlowIndicator(peek(1))) {
                break
            }
            if inFlow, isFlowIndicator(byte) { break }
            cursor += 1
            end = cursor
        }
        cursor = end
        return String(decoding: reader.bytes[start..<end], as: UTF8.self)
    }

    /// Refuses what cannot start a plain scalar, each with its reason.
    private mutating func refuseIndicators(inFlow: Bool) throws(YAMLError) {
        let standsAlone = isBlankOrEnd(peek(1)) || (inFlow && isFlowIndicator(peek(1)))
        switch peek() {
        case UInt8(ascii: "&"): throw error("anchors (`&name`) are not supported")
        case UInt8(ascii: "*"): throw error("aliases (`*name`) are not supported")
        case UInt8(ascii: "!"): throw error("tags (`!name`) are not supported")
        case UInt8(ascii: "?") where standsAlone:
            throw error("complex keys (`? `) are not supported")
        case .colon where standsAlone: throw error("a key is missing before this `:`")
        case UInt8(ascii: "-") where standsAlone: throw error("a list item cannot stand here")
        case UInt8(ascii: "|"), UInt8(ascii: ">"):
            throw error("a block text (`|` or `>`) cannot stand in brackets")
        case UInt8(ascii: "%"), UInt8(ascii: "@"), UInt8(ascii: "`"), UInt8(ascii: "#"):
            throw error("a value that starts with this character needs quotes")
        case let byte where isFlowIndicator(byte):
            throw error("unexpected `\(Character(Unicode.Scalar(byte)))`")
        default: break
        }
    }

    // MARK: Quoted

    private mutating func singleQuoted() throws(YAMLError) -> String {
        let start = cursor
        var bytes: [UInt8] = []
        cursor += 1
        while true {
            switch peek() {
            case UInt8(ascii: "'") where peek(1) == UInt8(ascii: "'"):
                bytes.append(UInt8(ascii: "'"))
                cursor += 2
            case UInt8(ascii: "'"):
                cursor += 1
                return String(decoding: bytes, as: UTF8.self)
            default:
                try quotedByte(from: start, blanksFrom: 0, into: &bytes)
            }
        }
    }

    private mutating func doubleQuoted() throws(YAMLError) -> String {
        let start = cursor
        var bytes: [UInt8] = []
        /// What an escape wrote is no blank that a line end takes away.
        var escaped = 0
        cursor += 1
        while true {
            switch peek() {
            case UInt8(ascii: "\""):
                cursor += 1
                return String(decoding: bytes, as: UTF8.self)
            case UInt8(ascii: "\\") where peek(1) == .lineFeed:
                cursor += 1
                try foldLines(into: &bytes, isEscaped: true)
                escaped = bytes.count
            case UInt8(ascii: "\\"):
                bytes += Array(String(try escape()).utf8)
                escaped = bytes.count
            default:
                try quotedByte(from: start, blanksFrom: escaped, into: &bytes)
            }
        }
    }

    /// Takes one byte, or a line end with the blanks around it, of the quoted text from `start`.
    private mutating func quotedByte(
        from start: Int, blanksFrom: Int, into bytes: inout [UInt8]
    ) throws(YAMLError) {
        if peek() == 0 || isAtMarker {
            throw error("this quoted text is never closed", at: start)
        }
        if peek() == .lineFeed {
            while bytes.count > blanksFrom, let last = bytes.last, isBlank(last) {
                bytes.removeLast()
            }
            try foldLines(into: &bytes, isEscaped: false)
        } else {
            bytes.append(peek())
            cursor += 1
        }
    }

    /// One line end is a space, each further one a line end; an escaped one is nothing.
    private mutating func foldLines(
        into bytes: inout [UInt8], isEscaped: Bool
    ) throws(YAMLError) {
        var lineEnds = 0
        while peek() == .lineFeed {
            lineEnds += 1
            cursor += 1
            lineStart = cursor
            while peek() == .space { cursor += 1 }
            // A document marker ends the text; the caller sees it when nothing is skipped.
            if column < flowColumnMin, !isLineEnd(peek()), !isAtMarker {
                throw peek() == .tab ? tabIndents() : tooFarLeft()
            }
            skipBlanks()
        }
        if lineEnds > 1 {
            bytes += Array(repeating: .lineFeed, count: lineEnds - 1)
        } else if !isEscaped {
            bytes.append(.space)
        }
    }

    private mutating func escape() throws(YAMLError) -> Unicode.Scalar {
        let start = cursor
        cursor += 2
        switch reader.byte(at: start + 1) {
        case UInt8(ascii: "0"): return "\0"
        case UInt8(ascii: "a"): return "\u{07}"
        case UInt8(ascii: "b"): return "\u{08}"
        case UInt8(ascii: "t"), .tab: return "\t"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "v"): return "\u{0B}"
        case UInt8(ascii: "f"): return "\u{0C}"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "e"): return "\u{1B}"
        case UInt8(ascii: "N"): return "\u{85}"
        case UInt8(ascii: "_"): return "\u{A0}"
        case UInt8(ascii: "L"): return "\u{2028}"
        case UInt8(ascii: "P"): return "\u{2029}"
        case .space: return " "
        case UInt8(ascii: "\""): return "\""
        case UInt8(ascii: "/"): return "/"
        case UInt8(ascii: "\\"): return "\\"
        case UInt8(ascii: "x"): return try escapedCode(digits: 2, from: start)
        case UInt8(ascii: "u"): return try escapedCode(digits: 4, from: start)
        case UInt8(ascii: "U"): return try escapedCode(digits: 8, from: start)
        default:
            throw error("no escape of YAML; a backslash is written `\\\\`, or in '…'", at: start)
        }
    }

    private mutating func escapedCode(digits: Int, from start: Int) throws(YAMLError)
        -> Unicode.Scalar
    {
        let code = try hexadecimal(digits, from: start)
        // JSON writes what is beyond 16 bits as two halves, and JSON is YAML.
        if digits == 4, 0xD800..<0xDC00 ~= code, peek() == UInt8(ascii: "\\"),
            peek(1) == UInt8(ascii: "u")
        {
            cursor += 2
            let low = try hexadecimal(4, from: start)
            if 0xDC00..<0xE000 ~= low,
                let scalar = Unicode.Scalar(0x10000 + (code - 0xD800) << 10 + (low - 0xDC00))
            {
                return scalar
            }
        } else if let scalar = Unicode.Scalar(code) {
            return scalar
        }
        throw error("this escape names no character", at: start)
    }

    private mutating func hexadecimal(_ digits: Int, from start: Int) throws(YAMLError) -> UInt32 {
        var code: UInt32 = 0
        for _ in 0..<digits {
            guard let digit = Character(Unicode.Scalar(peek())).hexDigitValue, peek() < 0x80 else {
                throw error("this escape needs \(digits) hexadecimal digits", at: start)
            }
            code = code << 4 | UInt32(digit)
            cursor += 1
        }
        return code
    }
}
