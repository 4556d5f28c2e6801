// Texts over several lines, `|` as they stand and `>` folded.
extension YAMLParser {
    private enum Chomping {
        case strip, clip, keep
    }

    /// Reads the block text whose `|` or `>` is at the cursor, inside something at `indent`.
    mutating func blockScalar(in indent: Int) throws(YAMLError) -> YAMLNode {
        let position = reader.position(at: cursor)
        let isFolded = peek() == UInt8(ascii: ">")
        cursor += 1
        var chomping: Chomping?
        var textIndent: Int?
        header: while true {
            switch peek() {
            case UInt8(ascii: "-") where chomping == nil: chomping = .strip
            case UInt8(ascii: "+") where chomping == nil: chomping = .keep
            case UInt8(ascii: "1")...UInt8(ascii: "9") where textIndent == nil:
                textIndent = max(indent, 0) + Int(peek() - UInt8(ascii: "0"))
            default: break header
            }
            cursor += 1
        }
        guard isBlankOrEnd(peek()) else {
            throw error("expected the end of the line behind `|` or `>`")
        }
        try endLine()
        let (lines, emptyAfter) = try blockLines(in: indent, textIndent: textIndent)
        var text = isFolded ? folded(lines) : lines.joined(separator: "\n")
        // The last line of a file may have no end.
        let lastEnd = lines.isEmpty || peek() == 0 ? 0 : 1
        switch chomping ?? .clip {
        case .strip: break
        case .clip: text += String(repeating: "\n", count: lastEnd)
        case .keep: text += String(repeating: "\n", count: lastEnd + emptyAfter)
        }
        return YAMLNode(.string(text), at: position)
    }

    /// The lines of a block text without their indentation, up to the last that is not empty, and
    /// the number of empty ones behind that.
    private mutating func blockLines(
        in indent: Int, textIndent: Int?
    ) throws(YAMLError) -> (lines: [String], emptyAfter: Int) {
        var textIndent = textIndent
        var lines: [String] = []
        var empty = 0
        var deepestEmpty = 0
        while peek() == .lineFeed {
            let end = cursor
            let endLineStart = lineStart
            cursor += 1
            lineStart = cursor
            while peek() == .space, textIndent.map({ column < $0 }) ?? true { cursor += 1 }
            if peek() == .lineFeed {
                empty += 1
                deepestEmpty = max(deepestEmpty, column)
                continue
            }
            let needed = textIndent ?? max(indent + 1, column)
            // No text, for want of spaces, and no end of it either: only a comment may come first.
            if peek() == .tab, column < needed || textIndent == nil { throw tabIndents() }
            if peek() == 0 || column < needed || isAtMarker {
                // The line belongs to what comes after the text.
                (cursor, lineStart) = (end, endLineStart)
                break
            }
            if textIndent == nil, deepestEmpty > column {
                throw error("an empty line above is indented more than the first line of the text")
            }
            textIndent = needed
            lines += Array(repeating: "", count: empty)
            empty = 0
            let start = cursor
            while !isLineEnd(peek()) { cursor += 1 }
            lines.append(String(decoding: reader.bytes[start..<cursor], as: UTF8.self))
        }
        return (lines, empty)
    }

    /// Joins lines by spaces, but for those that are indented more than the text.
    private func folded(_ lines: [String]) -> String {
        var text = ""
        var emptyLines = 0
        var previous: String?
        for line in lines {
            if line.isEmpty {
                emptyLines += 1
                continue
            }
            let isIndented = line.utf8.first.map(isBlank) ?? false
            let wasIndented = previous?.utf8.first.map(isBlank) ?? false
            if previous == nil {
                text += String(repeating: "\n", count: emptyLines)
            } else if isIndented || wasIndented {
                text += String(repeating: "\n", count: emptyLines + 1)
            } else {
                text += emptyLines == 0 ? " " : String(repeating: "\n", count: emptyLines)
            }
            text += line
            previous = line
            emptyLines = 0
        }
        return text
    }
}
