import CStreamBase
import CStreamTLS
import Glibc
import Testing

@Suite("Sec-WebSocket-Accept")
struct AcceptTests {
    private func accept(_ key: String) -> String {
        var out = [CChar](repeating: 0x7e, count: 29)
        let rc = Array(key.utf8).withUnsafeBufferPointer {
            sc_tls_websocket_accept(sc_bytes(data: $0.baseAddress, size: $0.count), &out)
        }
        #expect(rc == 0)
        #expect(out[28] == 0x7e, "wrote more than 28 characters")
        return String(decoding: out[..<28].map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    @Test("is that of the example in RFC 6455 section 1.3")
    func example() {
        #expect(accept("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    }

    /// The values were computed with another SHA-1.
    @Test(
        "is defined for any key up to 64 bytes",
        arguments: [
            ("", "Kfh9QIsMVZcl6xEPYxPHzW8SZ8w="),
            ("x3JJHMbDL1EzLkh9GBhXDw==", "HSmrc0sMlYUkAGmm5OPpG2HaGWk="),
            (String(repeating: "k", count: 64), "d3g+v0T8vq/Wjewzan1FGbXRhkk="),
        ])
    func others(key: String, expected: String) {
        #expect(accept(key) == expected)
    }

    /// As on a host whose policy allows approved algorithms only. The policy is the process's, so this runs in
    /// one of its own.
    @Test("is refused with -EIO where OpenSSL has no SHA-1") func refused() async {
        await #expect(processExitsWith: .success) {
            typealias SetProperties = @convention(c) (OpaquePointer?, UnsafePointer<CChar>) -> CInt
            let symbol = try #require(dlsym(nil, "EVP_set_default_properties"))
            let setProperties = unsafeBitCast(symbol, to: SetProperties.self)
            try #require(setProperties(nil, "fips=yes") == 1)
            var out = [CChar](repeating: 0x7e, count: 29)
            let rc = [UInt8](repeating: 0x6b, count: 24).withUnsafeBufferPointer {
                sc_tls_websocket_accept(sc_bytes(data: $0.baseAddress, size: $0.count), &out)
            }
            try #require(rc == -EIO)
            try #require(out.allSatisfy { $0 == 0x7e }, "wrote something")
        }
    }
}
