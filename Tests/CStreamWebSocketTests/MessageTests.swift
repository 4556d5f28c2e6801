import CStreamBase
import CStreamWebSocket
import Testing

private let fragment = Int(SC_FRAGMENT_SIZE_MAX)

@Suite("WebSocket messages that are sent")
struct MessageTests {
    /// Text whose bytes differ around each place where it may be cut.
    private func payload(_ size: Int) -> [UInt8] {
        var bytes = [UInt8](repeating: 0x2e, count: size)
        for at in stride(from: 0, to: size, by: 4099) { bytes[at] = UInt8(0x30 + at % 0x40) }
        return bytes
    }

    /// Writes `payload`, cut at `cuts`, in one go.
    private func written(_ payload: [UInt8], cuts: [Int]) -> [UInt8] {
        var out = [UInt8](
            repeating: 0xee, count: Int(sc_ws_message_size(UInt64(payload.count))) + 1)
        payload.withUnsafeBufferPointer { bytes in
            let ends = cuts + [payload.count], begins = [0] + cuts
            let parts = zip(begins, ends).map { begin, end in
                sc_bytes(data: bytes.baseAddress.map { $0 + begin }, size: end - begin)
            }
            sc_ws_message_write(&out, parts, parts.count, UInt64(payload.count))
        }
        #expect(out.last == 0xee)
        return out.dropLast()
    }

    /// Up to the size of a fragment a message is one frame; one byte more makes a second one.
    @Test(
        "is one frame, or fragments",
        arguments: [
            1, 125, 126, 65_535, 65_536, fragment - 1, fragment, fragment + 1, 2 * fragment,
            2 * fragment + 5,
        ])
    func sizes(size: Int) {
        let payload = payload(size)
        let bytes = written(payload, cuts: [0, size / 3, size / 3, size - 1])
        #expect(bytes[0] == (size <= fragment ? 0x81 : 0x01))
        #expect(hear(bytes) { Reader(role: SC_WS_CLIENT) } == [.message(opcode: 1, payload)])
        let frames = (size + fragment - 1) / fragment
        var headers = 0
        for frame in 0..<frames {
            headers += sc_ws_header_size(UInt64(min(fragment, size - frame * fragment)))
        }
        #expect(bytes.count == size + headers)
    }

    @Test(
        "is the same written part by part",
        arguments: [1, 126, fragment, fragment + 1])
    func writer(size: Int) throws {
        let payload = payload(size)
        var out = [UInt8](repeating: 0, count: Int(sc_ws_message_size(UInt64(size))))
        var bare = [UInt8](repeating: 0, count: size)
        try out.withUnsafeMutableBufferPointer { out in
            try bare.withUnsafeMutableBufferPointer { bare in
                var writer = sc_ws_writer_begin(try #require(out.baseAddress), UInt64(size))
                var plain = sc_ws_writer_begin_bare(try #require(bare.baseAddress), UInt64(size))
                var at = 0
                while at < size {
                    let step = min(size - at, max(1, size / 5))
                    withBytes(Array(payload[at..<at + step])) {
                        sc_ws_writer_put(&writer, $0)
                        sc_ws_writer_put(&plain, $0)
                    }
                    at += step
                    #expect(writer.left == UInt64(size - at) && plain.left == writer.left)
                }
                withBytes([]) { sc_ws_writer_put(&writer, $0) }
            }
        }
        #expect(out == written(payload, cuts: []))
        #expect(bare == payload)
    }
}
