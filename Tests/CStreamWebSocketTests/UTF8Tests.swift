import CStreamBase
import CStreamWebSocket
import Testing

/// Decodes by the definition: the code point of each sequence, and what RFC 3629 forbids of it.
private func naiveValid(_ bytes: [UInt8]) -> Bool {
    var index = 0
    while index < bytes.count {
        let lead = UInt32(bytes[index])
        let size: Int
        var point: UInt32
        switch lead {
        case 0x00...0x7f: (size, point) = (1, lead)
        case 0xc0...0xdf: (size, point) = (2, lead & 0x1f)
        case 0xe0...0xef: (size, point) = (3, lead & 0x0f)
        case 0xf0...0xf7: (size, point) = (4, lead & 0x07)
        default: return false
        }
        if bytes.count - index < size { return false }
        for byte in bytes[(index + 1)..<(index + size)] {
            if byte & 0xc0 != 0x80 { return false }
            point = point << 6 | UInt32(byte & 0x3f)
        }
        let least: [UInt32] = [0, 0, 0x80, 0x800, 0x10000]
        if point < least[size] || point > 0x10ffff || (0xd800...0xdfff).contains(point) {
            return false
        }
        index += size
    }
    return true
}

/// Tails of which at least one completes any beginning of a sequence that can be completed.
private let tails: [[UInt8]] = [
    [], [0x80], [0x80, 0x80], [0xa0, 0x80], [0x80, 0x80, 0x80], [0x90, 0x80, 0x80],
]

private enum Verdict {
    case accept, incomplete, reject

    init(naive bytes: [UInt8]) {
        if naiveValid(bytes) {
            self = .accept
        } else {
            self = tails.contains { naiveValid(bytes + $0) } ? .incomplete : .reject
        }
    }

    init(state: UInt32) {
        switch state {
        case 0: self = .accept
        case 12: self = .reject
        default: self = .incomplete
        }
    }
}

private func check(_ level: SIMDLevel, _ bytes: [UInt8], from state: UInt32 = 0) -> UInt32 {
    withBytes(bytes) { sc_utf8_continue_at(level, state, $0) }
}

/// Both sides of every edge in the tables of RFC 3629.
private let edges: [UInt8] = [
    0x00, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec,
    0xed,
    0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff,
]

@Suite("UTF-8")
struct UTF8Tests {
    /// The levels that judge `bytes` otherwise than the definition does.
    private func wrong(_ bytes: [UInt8]) -> [String] {
        let verdict = Verdict(naive: bytes)
        return simdLevels.filter { Verdict(state: check($0, bytes)) != verdict }.map {
            "\(bytes) at \($0)"
        }
    }

    @Test("judges every sequence of one and of two bytes")
    func oneAndTwo() {
        for first in UInt8.min...UInt8.max {
            var found = wrong([first])
            for second in UInt8.min...UInt8.max { found += wrong([first, second]) }
            #expect(found.isEmpty)
        }
    }

    @Test("judges every sequence of three and of four bytes on the edges")
    func threeAndFour() {
        // A byte below C2 starts nothing, which the shorter sequences have shown.
        for first in edges where first >= 0xc2 {
            var found = [String]()
            for second in edges {
                for third in edges {
                    found += wrong([first, second, third])
                    // Only what may still become valid: a rejection is not taken back, see below.
                    if Verdict(naive: [first, second, third]) == .reject { continue }
                    for fourth in edges { found += wrong([first, second, third, fourth]) }
                }
            }
            #expect(found.isEmpty)
        }
    }

    @Test(
        "refuses overlong forms, surrogates and what is over U+10FFFF",
        arguments: [
            [0xc0, 0x80], [0xc1, 0xbf], [0xe0, 0x80, 0x80], [0xe0, 0x9f, 0xbf],
            [0xf0, 0x80, 0x80, 0x80],
            [0xf0, 0x8f, 0xbf, 0xbf], [0xed, 0xa0, 0x80], [0xed, 0xbf, 0xbf],
            [0xed, 0xa0, 0xbd, 0xed, 0xb8, 0x80], [0xf4, 0x90, 0x80, 0x80],
            [0xf5, 0x80, 0x80, 0x80],
            [0xf8, 0x88, 0x80, 0x80, 0x80], [0xfc, 0x84, 0x80, 0x80, 0x80, 0x80], [0xfe], [0xff],
            [0x80],
        ] as [[UInt8]])
    func refused(bytes: [UInt8]) {
        for level in simdLevels {
            #expect(check(level, bytes) == 12)
        }
        #expect(!withBytes(bytes, sc_utf8_valid))
    }

    @Test(
        "takes the first and the last character of each size",
        arguments: [
            0, 0x7f, 0x80, 0x7ff, 0x800, 0xd7ff, 0xe000, 0xfdd0, 0xfeff, 0xffff, 0x10000, 0x10ffff,
        ] as [UInt32])
    func taken(point: UInt32) throws {
        let scalar = try #require(Unicode.Scalar(point))
        #expect(withBytes(Array(String(scalar).utf8), sc_utf8_valid))
    }

    @Test("nothing is valid, and leaves a state as it is")
    func empty() {
        #expect(sc_utf8_valid(sc_bytes(data: nil, size: 0)))
        let state = withBytes([0xe2, 0x82]) { sc_utf8_continue(0, $0) }
        #expect(sc_utf8_continue(state, sc_bytes(data: nil, size: 0)) == state)
        #expect(withBytes([0xac]) { sc_utf8_continue(state, $0) } == 0)
    }

    @Test("stays rejected")
    func staysRejected() {
        for level in simdLevels {
            #expect(check(level, Array("abc".utf8), from: 12) == 12)
            #expect(check(level, [], from: 12) == 12)
        }
    }

    /// Vectors skip ASCII 16 and 32 bytes at a time: a character at, before and over each edge of them.
    @Test(
        "finds a character or an error at any place in any length of ASCII", arguments: simdLevels)
    func anyPlace(level: SIMDLevel) {
        var wrong = [String]()
        for length in 0...130 {
            let ascii = [UInt8](repeating: 0x61, count: length)
            if check(level, ascii) != 0 { wrong.append("ascii of \(length)") }
            for place in 0..<length {
                var bytes = ascii
                bytes[place] = 0xff
                if check(level, bytes) != 12 { wrong.append("FF at \(place) of \(length)") }
                bytes.replaceSubrange(place...place, with: [0xf0, 0x9f, 0x98, 0x80])
                if check(level, bytes) != 0 { wrong.append("character at \(place) of \(length)") }
                bytes.remove(at: place + 3)
                let verdict = Verdict(state: check(level, bytes))
                if verdict != (place == length - 1 ? .incomplete : .reject) {
                    wrong.append("cut character at \(place) of \(length)")
                }
            }
        }
        #expect(wrong.isEmpty)
    }

    @Test("reads no byte beside its text, at any alignment", arguments: simdLevels)
    func alignments(level: SIMDLevel) {
        var buffer = [UInt8](repeating: 0xff, count: 200)
        for offset in 0..<32 {
            for length in 0...130 {
                let text = offset..<(offset + length)
                buffer.replaceSubrange(text, with: repeatElement(0x61, count: length))
                let state = buffer.withUnsafeBufferPointer {
                    sc_utf8_continue_at(
                        level, 0, sc_bytes(data: $0.baseAddress! + offset, size: length))
                }
                if state != 0 { Issue.record("offset \(offset), length \(length)") }
                buffer.replaceSubrange(text, with: repeatElement(0xff, count: length))
            }
        }
    }

    @Test("judges a text the same in one go and in any split", arguments: simdLevels)
    func randomSplits(level: SIMDLevel) {
        var generator = SeededGenerator()
        for _ in 0..<2_000 {
            var bytes = randomText(using: &generator)
            if Bool.random(using: &generator),
                let index = bytes.indices.randomElement(using: &generator)
            {
                bytes[index] = UInt8.random(in: 0...255, using: &generator)
            }
            let whole = check(level, bytes)
            #expect((whole == 0) == naiveValid(bytes), "seed \(generator.seed)")
            #expect((whole == 0) == (String(validating: bytes, as: UTF8.self) != nil))
            var state: UInt32 = 0
            var rest = bytes[...]
            while !rest.isEmpty {
                let size = Int.random(in: 1...rest.count, using: &generator)
                state = check(level, Array(rest.prefix(size)), from: state)
                rest = rest.dropFirst(size)
            }
            #expect(state == whole, "seed \(generator.seed)")
        }
    }

    private func randomText(using generator: inout SeededGenerator) -> [UInt8] {
        let ranges: [ClosedRange<UInt32>] = [
            0x20...0x7e, 0x20...0x7e, 0x80...0x7ff, 0x800...0xd7ff, 0xe000...0xffff,
            0x10000...0x10ffff,
        ]
        var text = ""
        for _ in 0..<Int.random(in: 0...12, using: &generator) {
            let range = ranges[Int.random(in: 0..<ranges.count, using: &generator)]
            for _ in 0..<Int.random(in: 1...20, using: &generator) {
                let scalar = Unicode.Scalar(UInt32.random(in: range, using: &generator))
                text.unicodeScalars.append(scalar ?? "?")
            }
        }
        return Array(text.utf8)
    }
}
