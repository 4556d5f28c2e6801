import CStreamBase
import CStreamWebSocket
import Glibc
import Testing

@Suite("WebSocket frame errors and limits")
struct FrameErrorTests {
    /// Feeds byte by byte and returns how many bytes it took to hear an error, and which.
    private func firstError(_ bytes: [UInt8], _ reader: Reader = Reader()) -> (
        after: Int, code: Int32
    )? {
        var reader = reader
        for (index, byte) in bytes.enumerated() {
            reader.feed([byte])
            if case .failed(let code) = reader.heard.last { return (index + 1, code) }
        }
        return nil
    }

    /// Section 5.2 against all first bytes, with a message open and without.
    @Test("takes exactly the first bytes that may come")
    func firstBytes() {
        for byte in UInt8.min...UInt8.max {
            let final = byte & 0x80 != 0
            let opcode = byte & 0x0f
            let control = [8, 9, 10].contains(opcode) && final
            let reserved = byte & 0x70 != 0
            let fresh = !reserved && (control || [1, 2].contains(opcode))
            #expect(hear([byte]) == (fresh ? [] : [.failed(EPROTO)]), "\(byte)")
            let inside = !reserved && (control || opcode == 0)
            let open = Frame.text("a", final: false).bytes
            #expect(
                hear(open + [byte]) == (inside ? [] : [.failed(EPROTO)]), "\(byte) in a message")
        }
    }

    @Test("takes exactly the second bytes that may come", arguments: [SC_WS_SERVER, SC_WS_CLIENT])
    func secondBytes(role: sc_ws_role) {
        for opcode: UInt8 in [1, 2, 8, 9, 10] {
            for byte in UInt8.min...UInt8.max {
                let length = byte & 0x7f
                let masked = byte & 0x80 != 0
                let control = opcode >= 8
                let fine =
                    masked == (role == SC_WS_SERVER) && !(control && length > 125)
                    && !(opcode == 8 && length == 1)
                let failed =
                    hear([0x80 | opcode, byte]) { Reader(role: role) } == [.failed(EPROTO)]
                #expect(failed == !fine, "opcode \(opcode), byte \(byte)")
            }
        }
    }

    struct Case: Sendable, CustomTestStringConvertible {
        var testDescription: String
        var bytes: [UInt8]
        /// The bytes after which the error is said.
        var after: Int
        var code: Int32 = EPROTO
    }

    static let cases = [
        Case(
            testDescription: "reserved bit 1", bytes: Frame(opcode: 1, reserved: 4).bytes, after: 1),
        Case(
            testDescription: "reserved bit 2", bytes: Frame(opcode: 1, reserved: 2).bytes, after: 1),
        Case(
            testDescription: "reserved bit 3", bytes: Frame(opcode: 1, reserved: 1).bytes, after: 1),
        Case(testDescription: "reserved opcode", bytes: Frame(opcode: 3).bytes, after: 1),
        Case(testDescription: "reserved control opcode", bytes: Frame(opcode: 11).bytes, after: 1),
        Case(testDescription: "no mask", bytes: Frame(opcode: 1, mask: nil).bytes, after: 2),
        Case(
            testDescription: "fragmented ping", bytes: Frame(opcode: 9, final: false).bytes,
            after: 1),
        Case(
            testDescription: "ping of 126 bytes",
            bytes: Frame(opcode: 9, payload: [UInt8](repeating: 0, count: 126)).bytes, after: 2),
        Case(testDescription: "continuation of nothing", bytes: Frame.more("a").bytes, after: 1),
        Case(
            testDescription: "continuation after a whole message",
            bytes: Frame.text("").bytes + Frame.more("a").bytes, after: 7),
        Case(
            testDescription: "message in a message",
            bytes: Frame.text("a", final: false).bytes + Frame.text("b").bytes, after: 8),
        Case(
            testDescription: "125 bytes in the 2-byte form",
            bytes: Frame(opcode: 2, payload: [UInt8](repeating: 0, count: 125), lengthForm: 2)
                .bytes, after: 4),
        Case(
            testDescription: "65535 bytes in the 8-byte form",
            bytes: Frame(opcode: 2, payload: [UInt8](repeating: 0, count: 65_535), lengthForm: 8)
                .bytes,
            after: 10),
        Case(
            testDescription: "length with its highest bit set",
            bytes: [0x82, 0xff, 0x80, 0, 0, 0, 0, 1, 0, 0], after: 10),
        Case(
            testDescription: "close with half a code", bytes: Frame(opcode: 8, payload: [3]).bytes,
            after: 2),
        Case(
            testDescription: "close with a code that never travels", bytes: Frame.close(1005).bytes,
            after: 8),
        Case(
            testDescription: "close with a reason that is not UTF-8",
            bytes: Frame.close(1000, [0xff]).bytes,
            after: 9, code: EILSEQ),
        Case(
            testDescription: "close with a reason cut within a character",
            bytes: Frame.close(1000, [0xe2, 0x82]).bytes, after: 10, code: EILSEQ),
        Case(
            testDescription: "text that is not UTF-8",
            bytes: Frame(opcode: 1, payload: [0x61, 0xff]).bytes,
            after: 8, code: EILSEQ),
    ]

    @Test("says each error at the byte that shows it, in any split", arguments: cases)
    func errors(of example: Case) throws {
        let error = try #require(firstError(example.bytes))
        #expect(error.code == example.code)
        #expect(error.after == example.after)
        #expect(hear(example.bytes).last == .failed(example.code))
        let unchecked = hear(example.bytes) { Reader(checkUTF8: false) }
        let isText = example.code == EILSEQ && example.bytes[0] & 0x0f == 1
        #expect(isText == (unchecked.last != .failed(example.code)), "without a check of text")
        for at in 1..<example.bytes.count where at < 20 {
            var reader = Reader()
            reader.feed(Array(example.bytes[..<at]))
            reader.feed(Array(example.bytes[at...]))
            #expect(reader.heard.last == .failed(example.code), "split at \(at)")
        }
    }

    @Test("as a client refuses a masked frame and takes the other")
    func clientRole() {
        #expect(hear(Frame.text("a").bytes) { Reader(role: SC_WS_CLIENT) } == [.failed(EPROTO)])
        #expect(
            hear(Frame(opcode: 1, mask: nil).bytes) { Reader(role: SC_WS_CLIENT) } == [.text("")])
    }

    // MARK: Close

    /// Section 7.4 and the IANA registry.
    @Test("takes exactly the close codes that may travel")
    func closeCodes() {
        for code in UInt16.min...UInt16.max {
            let valid = [1000...1003, 1007...1014, 3000...4999].contains { $0.contains(Int(code)) }
            let heard = hear(Frame.close(code).bytes)
            let expected: Heard = valid ? .control(opcode: 8, code: code, []) : .failed(EPROTO)
            if heard != [expected] { Issue.record("close with \(code): \(heard)") }
        }
    }

    @Test("gives 1005 for a close without a code, and the reason of one with it")
    func closePayloads() {
        #expect(hear(Frame(opcode: 8).bytes) == [.control(opcode: 8, code: 1005, [])])
        let reason = Array("\u{20ac}".utf8) + [UInt8](repeating: 0x61, count: 120)
        #expect(hear(Frame.close(4999, reason).bytes) == [.control(opcode: 8, code: 4999, reason)])
    }

    @Test("checks the reason of a close also when it is not to check text")
    func closeReasonAlways() {
        #expect(
            hear(Frame.close(1000, [0xff]).bytes) { Reader(checkUTF8: false) } == [.failed(EILSEQ)])
    }

    // MARK: Limits

    @Test(
        "takes a frame of the largest size and refuses one byte more at its header",
        arguments: [0, 5, 200], [true, false])
    func frameLimit(limit: Int, checkUTF8: Bool) throws {
        let configure = { Reader(frameSizeMax: UInt32(limit), checkUTF8: checkUTF8) }
        let payload = [UInt8](repeating: 1, count: limit)
        #expect(
            hear(Frame.binary(payload).bytes, configure: configure) == [
                .message(opcode: 2, payload)
            ])
        let over = Frame.binary(payload + [1])
        let error = try #require(firstError(over.bytes, configure()))
        #expect(error.code == EMSGSIZE)
        #expect(error.after == over.header.count - 4, "said before the mask has come")
    }

    @Test(
        "counts each fragment against the limit of a frame, and all of them against that of a message"
    )
    func messageLimit() {
        let configure = { Reader(frameSizeMax: 4, messageSizeMax: 10) }
        let start = Frame.text("abcd", final: false).bytes + Frame.more("efgh", final: false).bytes
        #expect(hear(start + Frame.more("ij").bytes, configure: configure) == [.text("abcdefghij")])
        #expect(hear(start + Frame.more("ijk").header, configure: configure) == [.failed(EMSGSIZE)])
        let full = start + Frame.more("ij", final: false).bytes
        #expect(hear(full + Frame.more("").bytes, configure: configure) == [.text("abcdefghij")])
        #expect(hear(full + Frame.more("k").header, configure: configure) == [.failed(EMSGSIZE)])
        #expect(hear(Frame.text("abcde").header, configure: configure) == [.failed(EMSGSIZE)])
    }

    @Test("counts each message from zero, and control frames not at all", arguments: [true, false])
    func messageLimitAfresh(checkUTF8: Bool) {
        let frames: [Frame] = [
            .text("abcd", final: false), .ping("a long ping"), .more("ef"), .text("abcdef"),
            .text("ab", final: false), .more("cdef"),
        ]
        #expect(
            hear(frames.flatMap(\.bytes)) { Reader(messageSizeMax: 6, checkUTF8: checkUTF8) } == [
                .ping("a long ping"), .text("abcdef"), .text("abcdef"), .text("abcdef"),
            ])
        #expect(
            hear(Frame.ping("p").bytes) { Reader(frameSizeMax: 0, messageSizeMax: 0) } == [
                .ping("p")
            ])
    }

    @Test("cannot be made to overflow by the largest length there is")
    func hugeLength() {
        let huge: [UInt8] = [0x82, 0xff, 0x7f] + [UInt8](repeating: 0xff, count: 7) + [1, 2, 3, 4]
        let open = Frame.binary([1, 2], final: false).bytes
        let after = [0x80] + huge[1...]
        for limit in [UInt64(100), .max] {
            let configure = { Reader(frameSizeMax: .max, messageSizeMax: limit) }
            #expect(hear(huge, configure: configure) == [.failed(EMSGSIZE)])
            #expect(hear(open + after, configure: configure) == [.failed(EMSGSIZE)])
        }
        let largest: [UInt8] = [0x82, 0xff, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]
        #expect(hear(largest) { Reader(frameSizeMax: .max, messageSizeMax: .max) } == [])
        #expect(
            hear(largest) { Reader(frameSizeMax: .max - 1, messageSizeMax: .max) } == [
                .failed(EMSGSIZE)
            ])
    }
}
