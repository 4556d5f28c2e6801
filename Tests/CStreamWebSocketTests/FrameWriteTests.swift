import CStreamBase
import CStreamWebSocket
import Testing

@Suite("WebSocket frame writer")
struct FrameWriteTests {
    private func header(
        opcode: UInt8, final: Bool, size: UInt64, mask: [UInt8]?
    ) -> [UInt8] {
        var out = [UInt8](repeating: 0xee, count: Int(SC_WS_HEADER_SIZE_MAX) + 1)
        let written = sc_ws_header_write(&out, opcode, final, size, mask)
        #expect(out[written...].allSatisfy { $0 == 0xee })
        return Array(out[..<written])
    }

    @Test(
        "writes the shortest length form",
        arguments: [
            (0, [0x82, 0]), (125, [0x82, 125]), (126, [0x82, 126, 0, 126]),
            (65_535, [0x82, 126, 0xff, 0xff]), (65_536, [0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0]),
            (0x0102_0304_0506_0708, [0x82, 127, 1, 2, 3, 4, 5, 6, 7, 8]),
            (UInt64(Int64.max), [0x82, 127, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
        ] as [(UInt64, [UInt8])])
    func lengths(size: UInt64, expected: [UInt8]) {
        #expect(header(opcode: 2, final: true, size: size, mask: nil) == expected)
        #expect(sc_ws_header_size(size) == expected.count)
        let masked = [expected[0], expected[1] | 0x80] + expected[2...] + [9, 8, 7, 6]
        #expect(header(opcode: 2, final: true, size: size, mask: [9, 8, 7, 6]) == masked)
    }

    @Test("writes every opcode and FIN", arguments: [0, 1, 2, 8, 9, 10] as [UInt8])
    func opcodes(opcode: UInt8) {
        #expect(header(opcode: opcode, final: true, size: 5, mask: nil) == [0x80 | opcode, 5])
        if opcode < 8 {
            #expect(header(opcode: opcode, final: false, size: 5, mask: nil) == [opcode, 5])
        }
    }

    @Test("writes what the decoder reads back", arguments: [0, 125, 126, 65_535, 65_536])
    func roundTrip(size: Int) {
        let payload = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
        let plain = header(opcode: 2, final: true, size: UInt64(size), mask: nil) + payload
        #expect(hear(plain) { Reader(role: SC_WS_CLIENT) } == [.message(opcode: 2, payload)])
        let mask: [UInt8] = [0xde, 0xad, 0xbe, 0xef]
        var masked = payload
        sc_ws_mask(&masked, size, mask, 0)
        let bytes = header(opcode: 2, final: true, size: UInt64(size), mask: mask) + masked
        #expect(hear(bytes) == [.message(opcode: 2, payload)])
    }

    private func close(_ code: UInt16, _ reason: [UInt8]) -> [UInt8] {
        var out = [UInt8](repeating: 0xee, count: 128)
        let size = withBytes(reason) { sc_ws_close_write(&out, code, $0) }
        #expect(out[size...].allSatisfy { $0 == 0xee })
        return Array(out[..<size])
    }

    @Test("writes a close frame with a code, a reason, or neither")
    func close() {
        #expect(close(0, []) == [0x88, 0])
        #expect(close(1000, []) == [0x88, 2, 0x03, 0xe8])
        #expect(close(4999, Array("why".utf8)) == [0x88, 5, 0x13, 0x87, 0x77, 0x68, 0x79])
        let longest = [UInt8](repeating: 0x61, count: 123)
        #expect(close(1012, longest) == [0x88, 125, 0x03, 0xf4] + longest)
    }
}
