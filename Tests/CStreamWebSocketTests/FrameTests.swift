import CStreamBase
import CStreamWebSocket
import Glibc
import Testing

@Suite("WebSocket frame decoder")
struct FrameTests {
    /// RFC 6455 section 5.7. A server sends without a mask, so a client hears those.
    @Test("decodes the examples of the RFC")
    func rfcExamples() {
        let client = { Reader(role: SC_WS_CLIENT) }
        #expect(
            hear([0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f], configure: client) == [.text("Hello")])
        let masked: [UInt8] = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
        #expect(hear(masked) == [.text("Hello")])
        let fragments: [UInt8] = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f]
        #expect(hear(fragments, configure: client) == [.text("Hello")])
        let ping: [UInt8] = [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]
        #expect(hear(ping, configure: client) == [.ping("Hello")])
        let pong: [UInt8] = [0x8a, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58]
        #expect(hear(pong) == [.control(opcode: 10, code: 0, Array("Hello".utf8))])
        for (size, header) in [
            (256, [0x82, 0x7e, 0x01, 0x00] as [UInt8]),
            (65_536, [0x82, 0x7f, 0, 0, 0, 0, 0, 1, 0, 0]),
        ] {
            let payload = [UInt8](repeating: 0xab, count: size)
            #expect(hear(header + payload, configure: client) == [.message(opcode: 2, payload)])
        }
    }

    /// Section 5.2 has three length encodings: both sides of each edge.
    @Test(
        "decodes every length encoding",
        arguments: [0, 1, 124, 125, 126, 127, 65_535, 65_536, 65_537])
    func lengthEncodings(size: Int) {
        let payload = (0..<size).map { UInt8(truncatingIfNeeded: $0 ^ $0 >> 8) }
        let frame = Frame.binary(payload)
        for check in [true, false] {
            #expect(
                hear(frame.bytes) { Reader(checkUTF8: check) } == [.message(opcode: 2, payload)])
        }
        var reader = Reader(role: SC_WS_CLIENT)
        reader.feed(Frame(opcode: 2, payload: payload, mask: nil).bytes)
        #expect(reader.heard == [.message(opcode: 2, payload)])
        #expect(reader.pieceCount == 1)
    }

    @Test("gives a whole frame in one read as one slice of it, unmasked in place")
    func inPlace() {
        var bytes = Frame.text("Hello").bytes + Frame.text("next").bytes
        var decoder = sc_ws_decoder()
        sc_ws_decoder_init(&decoder, SC_WS_SERVER, 5, 5, true)
        bytes.withUnsafeMutableBufferPointer { buffer in
            var event = sc_ws_event()
            let rc = sc_ws_decode(&decoder, buffer.baseAddress!, buffer.count, &event)
            #expect(rc == 11)
            #expect(event.kind == SC_WS_EVENT_DATA)
            #expect(event.opcode == 1)
            #expect(event.first && event.last)
            #expect(event.bytes.data == UnsafePointer(buffer.baseAddress! + 6))
            #expect(string(event.bytes) == "Hello")
        }
        #expect(Array(bytes[11...]) == Frame.text("next").bytes, "the next frame was touched")
    }

    /// All opcodes and length forms, empty and fragmented messages, controls between fragments, a close.
    private static let stream: [Frame] = [
        .text(""), .text("h\u{e9}llo \u{1f600}"), .ping(""), .text("a", final: false),
        .ping("between"),
        .more("", final: false), .more("\u{20ac}", final: false),
        Frame(opcode: 10, payload: [UInt8](repeating: 7, count: 125)), .more(""),
        .binary([0xff, 0xc0], final: false), .more("", final: true),
        .binary([UInt8](repeating: 0xfe, count: 200)), .text("", final: false),
        .more("", final: false),
        .more("z"), .text("", final: false), .more(""), .close(1000, Array("bye \u{e9}".utf8)),
    ]
    /// Made anew each time: a leak checker does not find what a stored one holds.
    private static var streamHeard: [Heard] {
        [
            .text(""), .text("h\u{e9}llo \u{1f600}"), .ping(""), .ping("between"),
            .control(opcode: 10, code: 0, [UInt8](repeating: 7, count: 125)), .text("a\u{20ac}"),
            .message(opcode: 2, [0xff, 0xc0]),
            .message(opcode: 2, [UInt8](repeating: 0xfe, count: 200)),
            .text("z"), .text(""), .control(opcode: 8, code: 1000, Array("bye \u{e9}".utf8)),
        ]
    }

    /// Without a check of text, a message in one frame that has come whole is taken by a shorter way.
    @Test(
        "hears the same in one read, byte by byte, and at every split in two",
        arguments: [true, false])
    func everySplit(checkUTF8: Bool) {
        let bytes = Self.stream.flatMap(\.bytes)
        #expect(hear(bytes) { Reader(checkUTF8: checkUTF8) } == Self.streamHeard)
        var slow = Reader(checkUTF8: checkUTF8)
        for byte in bytes { slow.feed([byte]) }
        #expect(slow.heard == Self.streamHeard)
        for at in 1..<bytes.count {
            var reader = Reader(checkUTF8: checkUTF8)
            reader.feed(Array(bytes[..<at]))
            reader.feed(Array(bytes[at...]))
            #expect(reader.heard == Self.streamHeard, "split at \(at)")
        }
    }

    @Test("hears the same in random splits, as a server and as a client")
    func randomSplits() {
        var generator = SeededGenerator()
        for role in [SC_WS_SERVER, SC_WS_CLIENT] {
            let frames = Self.stream.map { frame in
                var frame = frame
                frame.mask = role == SC_WS_SERVER ? frame.mask : nil
                return frame
            }
            for _ in 0..<100 {
                var rest = frames.flatMap(\.bytes)[...]
                let check = Bool.random(using: &generator)
                var reader = Reader(role: role, checkUTF8: check)
                while !rest.isEmpty {
                    let size = Int.random(in: 1...min(rest.count, 40), using: &generator)
                    reader.feed(Array(rest.prefix(size)))
                    rest = rest.dropFirst(size)
                }
                #expect(reader.heard == Self.streamHeard, "seed \(generator.seed)")
            }
        }
    }

    @Test("gives what has come of a large frame without waiting for the rest")
    func pieces() {
        let payload = (0..<1_000).map { UInt8(truncatingIfNeeded: $0) }
        let bytes = Frame.binary(payload).bytes
        var reader = Reader()
        reader.feed(Array(bytes[..<8]))
        #expect(reader.keptCount == 0, "the header is consumed alone")
        #expect(reader.pieceCount == 0)
        for (index, end) in [107, 208, 309, 411].enumerated() {
            reader.feed(Array(bytes[[8, 107, 208, 309][index]..<end]))
            #expect(reader.keptCount == 0)
            #expect(reader.pieceCount == index + 1)
        }
        reader.feed(Array(bytes[411...]))
        #expect(reader.heard == [.message(opcode: 2, payload)])
    }

    @Test("keeps at most 130 bytes waiting, for a control frame")
    func waiting() {
        let bytes = Frame(opcode: 9, payload: [UInt8](repeating: 1, count: 125)).bytes
        #expect(bytes.count == 131)
        var reader = Reader()
        reader.feed(Array(bytes[..<130]))
        #expect(reader.keptCount == 130)
        #expect(reader.heard.isEmpty)
        reader.feed([bytes[130]])
        #expect(reader.heard == [.control(opcode: 9, code: 0, [UInt8](repeating: 1, count: 125))])
        // A data frame waits for its header only, at most 13 bytes of it.
        var data = Reader(frameSizeMax: .max, messageSizeMax: .max)
        let header: [UInt8] = [0x82, 0xff, 0, 0, 0, 0, 0, 1, 0, 0, 9, 9, 9, 9]
        data.feed(Array(header[..<13]))
        #expect(data.keptCount == 13)
        data.feed([header[13]])
        #expect(data.keptCount == 0)
    }

    @Test("says nothing after a close frame")
    func afterClose() {
        var reader = Reader()
        reader.feed(Frame.close(1001).bytes + Frame.text("late").bytes + [0xff, 0xff])
        #expect(reader.heard == [.control(opcode: 8, code: 1001, [])])
        #expect(reader.decoder.closed)
    }

    @Test("says nothing after an error")
    func afterError() {
        var decoder = sc_ws_decoder()
        sc_ws_decoder_init(&decoder, SC_WS_SERVER, 10, 10, true)
        var event = sc_ws_event()
        var bad: [UInt8] = [0xf1]
        #expect(sc_ws_decode(&decoder, &bad, 1, &event) == -Int(EPROTO))
        var good = Frame.text("a").bytes
        #expect(sc_ws_decode(&decoder, &good, good.count, &event) == 0)
        #expect(event.kind == SC_WS_EVENT_NONE)
    }

    @Test("is small: one lies in every connection")
    func size() {
        #expect(MemoryLayout<sc_ws_decoder>.size <= 48)
    }

    // MARK: UTF-8

    @Test("finds text that is not UTF-8 at any split, and before its frame has come whole")
    func notUTF8() {
        let bad: [UInt8] =
            Array("ok \u{20ac}".utf8) + [0xed, 0xa0, 0x80] + Array("never read".utf8)
        let bytes = Frame(opcode: 1, payload: bad).bytes
        for at in 1...bytes.count {
            var reader = Reader()
            reader.feed(Array(bytes[..<at]))
            // 6 bytes of header and 6 of text, then ED, then the A0 that cannot follow it.
            #expect(reader.heard == (at < 6 + 6 + 2 ? [] : [.failed(EILSEQ)]), "after \(at) bytes")
            reader.feed(Array(bytes[at...]))
            #expect(reader.heard == [.failed(EILSEQ)], "split at \(at)")
        }
    }

    @Test("joins a character over fragments with a control frame between")
    func characterOverFragments() {
        let euro: [UInt8] = [0xe2, 0x82, 0xac]
        var frames = euro.indices.map {
            Frame(opcode: $0 == 0 ? 1 : 0, payload: [euro[$0]], final: $0 == 2)
        }
        frames.insert(.ping("p"), at: 1)
        #expect(hear(frames.flatMap(\.bytes)) == [.ping("p"), .text("\u{20ac}")])
    }

    @Test("refuses a text that ends within a character, in one frame or with an empty last one")
    func cutCharacter() {
        #expect(hear(Frame(opcode: 1, payload: [0x61, 0xe2, 0x82]).bytes) == [.failed(EILSEQ)])
        let fragments = Frame(opcode: 1, payload: [0xe2, 0x82], final: false).bytes
        #expect(hear(fragments) == [])
        #expect(hear(fragments + Frame.more("").bytes) == [.failed(EILSEQ)])
        #expect(hear(fragments + Frame.more("\u{e9}").bytes) == [.failed(EILSEQ)])
    }

    @Test("starts each text afresh")
    func freshState() {
        let frames = [
            Frame.text("\u{e9}"), .binary([0xc3]), .text("a"), .binary([0xff], final: false),
            .more(""),
        ]
        #expect(
            hear(frames.flatMap(\.bytes)) == [
                .text("\u{e9}"), .message(opcode: 2, [0xc3]), .text("a"),
                .message(opcode: 2, [0xff]),
            ])
    }

    @Test("leaves binary alone, and text too when told so")
    func unchecked() {
        #expect(hear(Frame.binary([0xff, 0xc0]).bytes) == [.message(opcode: 2, [0xff, 0xc0])])
        let text = Frame(opcode: 1, payload: [0xff, 0xc0])
        #expect(hear(text.bytes) == [.failed(EILSEQ)])
        #expect(
            hear(text.bytes) { Reader(checkUTF8: false) } == [.message(opcode: 1, [0xff, 0xc0])])
    }
}
