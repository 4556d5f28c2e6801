import CStreamBase
import CStreamWebSocket
import Foundation
import Testing

@Suite("WebSocket opening handshake")
struct HandshakeTests {
    private let requestLine = "GET /chat HTTP/1.1"
    /// The fields of the example in RFC 6455 section 1.2.
    private let fields = [
        "Host: server.example.com", "Upgrade: websocket", "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Origin: http://example.com",
        "Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Version: 13",
    ]

    private func judge(line: String? = nil, _ fields: [String]) -> (status: Int32?, key: String) {
        let text = ([line ?? requestLine] + fields).joined(separator: "\r\n") + "\r\n\r\n"
        let (_, result) = withRequest(Array(text.utf8)) { request in
            var key = sc_bytes()
            let status = sc_ws_handshake_check(request, &key)
            return (status, status == 101 ? string(key) : "")
        }
        return (result?.0, result?.1 ?? "")
    }

    /// The example without its field `name`, and with `others`.
    private func judge(without name: String, with others: String...) -> Int32? {
        judge(fields.filter { !$0.hasPrefix(name + ":") } + others).status
    }

    @Test("of the RFC's example is accepted and gives its key")
    func example() {
        let (status, key) = judge(fields)
        #expect(status == 101)
        #expect(key == "dGhlIHNhbXBsZSBub25jZQ==")
        #expect(judge(fields.reversed()).status == 101)
    }

    @Test("needs GET", arguments: ["HEAD", "POST", "PUT", "OPTIONS", "get", "GETS"])
    func method(name: String) {
        #expect(judge(line: "\(name) /chat HTTP/1.1", fields).status == 405)
        #expect(judge(line: "\(name) /chat HTTP/1.1", []).status == 405)
    }

    @Test("cannot be of HTTP/1.0")
    func oldVersion() {
        #expect(judge(line: "GET /chat HTTP/1.0", fields).status == 400)
    }

    @Test(
        "needs each of its fields",
        arguments: ["Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"])
    func missing(name: String) {
        #expect(judge(without: name) == 400)
    }

    @Test("does not need the others", arguments: ["Origin", "Sec-WebSocket-Protocol"])
    func optional(name: String) {
        #expect(judge(without: name) == 101)
    }

    @Test(
        "understands lists in Connection and Upgrade, in any case",
        arguments: [
            ("Connection", "keep-alive, Upgrade", 101), ("Connection", "uPGRADE", 101),
            ("Connection", ",\t,upgrade ,", 101), ("Connection", "keep-alive", 400),
            ("Connection", "Upgrades", 400), ("Connection", "keep-alive Upgrade", 400),
            ("Connection", "", 400), ("Upgrade", "WebSocket", 101),
            ("Upgrade", "h2c, websocket", 101), ("Upgrade", "h2c", 400), ("Upgrade", "", 400),
            ("Upgrade", "websocket/13", 400),
        ] as [(String, String, Int32)])
    func lists(name: String, value: String, status: Int32) {
        #expect(judge(without: name, with: "\(name): \(value)") == status)
    }

    @Test("finds its tokens in repeated fields")
    func repeated() {
        #expect(
            judge(without: "Connection", with: "Connection: close", "Connection: upgrade") == 101)
        #expect(judge(without: "Upgrade", with: "Upgrade: websocket", "Upgrade: h2c") == 101)
    }

    @Test("of another version gets 426", arguments: ["8", "7", "0", "14", "013", "13, 8", "", "x"])
    func otherVersion(value: String) {
        #expect(
            judge(without: "Sec-WebSocket-Version", with: "Sec-WebSocket-Version: \(value)") == 426)
    }

    @Test("of another version that asks for no upgrade gets 400")
    func otherVersionWithoutUpgrade() {
        let other = fields.filter {
            !$0.hasPrefix("Upgrade:") && !$0.hasPrefix("Sec-WebSocket-Version:")
        }
        #expect(judge(other + ["Sec-WebSocket-Version: 8"]).status == 400)
    }

    @Test(
        "names host, version and key once",
        arguments: ["Host", "Sec-WebSocket-Version", "Sec-WebSocket-Key"])
    func once(name: String) {
        let field = fields.first { $0.hasPrefix(name + ":") }!
        #expect(judge(fields + [field]).status == 400)
    }

    @Test(
        "needs a key that is base64 of 16 bytes",
        arguments: [
            ("AAAAAAAAAAAAAAAAAAAAAA==", 101), ("+/+/+/+/+/+/+/+/+/+/+w==", 101),
            ("dGhlIHNhbXBsZSBub25jZZ==", 101), ("", 400), ("AAAAAAAAAAAAAAAAAAAAAAA=", 400),
            ("AAAAAAAAAAAAAAAAAAAAAAAA", 400), ("AAAAAAAAAAAAAAAAAAAAA===", 400),
            ("AAAAAAAAAAAAAAAAAAAAA==", 400), ("AAAAAAAAAAAAAAAAAAAAAAA==", 400),
            ("AAAAAAAAAAA AAAAAAAAAA==", 400), ("AAAAAAAAAAA-AAAAAAAAAA==", 400),
            ("AAAAAAAAAAA_AAAAAAAAAA==", 400), ("AAAAAAAAAAA=AAAAAAAAAA==", 400),
        ] as [(String, Int32)])
    func key(value: String, status: Int32) {
        #expect(judge(without: "Sec-WebSocket-Key", with: "Sec-WebSocket-Key: \(value)") == status)
    }

    @Test(
        "needs a host that can be one",
        arguments: [
            ("", 101), ("localhost", 101), ("127.0.0.1:3112", 101), ("[::1]:3112", 101),
            ("a%20b", 101),
            ("a b", 400), ("a/b", 400), ("user@host", 400), ("a,b", 101), ("a\"b", 400),
            ("a?b", 400),
            ("\u{e9}", 400),
        ] as [(String, Int32)])
    func host(value: String, status: Int32) {
        #expect(judge(without: "Host", with: "Host: \(value)") == status)
    }

    @Test("has no body")
    func body() {
        #expect(judge(fields + ["Content-Length: 0"]).status == 101)
        #expect(judge(fields + ["Content-Length: 1"]).status == 400)
        #expect(judge(fields + ["Content-Length:"]).status == 400)
        #expect(judge(fields + ["Transfer-Encoding: chunked"]).status == 400)
        #expect(judge(fields + ["Transfer-Encoding:"]).status == 400)
        #expect(judge(fields + ["Content-Length: 0", "content-length: 0"]).status == 101)
        #expect(judge(fields + ["Transfer-Encoding: identity", "Content-Length: 0"]).status == 400)
    }

    @Test("two lengths are refused whichever comes first", arguments: ["5", "0,5", "+0", "00", ""])
    func lengths(other: String) {
        let (zero, one) = ("Content-Length: 0", "content-length: \(other)")
        #expect(judge(fields + [zero, one]).status == 400)
        #expect(judge(fields + [one, zero]).status == 400)
        #expect(judge([one] + fields + [zero]).status == 400)
    }

    // MARK: Sub-protocols

    @Test("offers exactly the sub-protocols of its lists")
    func protocols() {
        let text = """
            GET / HTTP/1.1\r
            Sec-WebSocket-Protocol: Authorization , Bearer-abc\r
            sec-websocket-protocol: x,,\ty\r
            Other: z\r
            \r\n
            """
        let (rc, _) = withRequest(Array(text.utf8)) { request in
            for offered in ["Authorization", "Bearer-abc", "x", "y"] {
                #expect(sc_ws_protocol_offered(request, offered), "\(offered)")
            }
            for other in ["authorization", "Author", "Authorization ", "Bearer", "z", "x,"] {
                #expect(!sc_ws_protocol_offered(request, other), "\(other)")
            }
        }
        #expect(rc == text.utf8.count)
    }

    @Test("offers nothing without the field")
    func noProtocols() {
        _ = withRequest(Array("GET / HTTP/1.1\r\nA: chat\r\n\r\n".utf8)) {
            #expect(!sc_ws_protocol_offered($0, "chat"))
        }
    }

    // MARK: Writing

    private func written(_ write: (UnsafeMutablePointer<UInt8>) -> Int) -> String {
        let out = copy([UInt8](repeating: 0, count: Int(SC_WS_RESPONSE_SIZE_MAX)))
        defer { out.deallocate() }
        let size = write(out)
        return String(decoding: UnsafeBufferPointer(start: out, count: size), as: UTF8.self)
    }

    @Test("is answered with the accept key, and with a sub-protocol only when one is selected")
    func response() {
        let accept = Array("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=".utf8).map { CChar($0) }
        let plain = """
            HTTP/1.1 101 Switching Protocols\r
            Upgrade: websocket\r
            Connection: Upgrade\r
            Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r
            \r\n
            """
        #expect(written { sc_ws_response_write($0, accept, nil) } == plain)
        let selected = plain.dropLast() + "Sec-WebSocket-Protocol: Authorization\r\n\r\n"
        #expect(written { sc_ws_response_write($0, accept, "Authorization") } == selected)
    }

    @Test(
        "is refused with a complete response",
        arguments: [
            (400, "Bad Request", []), (401, "Unauthorized", ["WWW-Authenticate: Bearer"]),
            (404, "Not Found", []), (405, "Method Not Allowed", ["Allow: GET"]),
            (426, "Upgrade Required", ["Upgrade: websocket", "Sec-WebSocket-Version: 13"]),
            (431, "Request Header Fields Too Large", []),
            (503, "Service Unavailable", ["Retry-After: 2"]),
        ] as [(Int32, String, [String])])
    func refusal(status: Int32, reason: String, extra: [String]) throws {
        let text = written { sc_http_error_write($0, status, false) }
        let readable = written { sc_http_error_write($0, status, true) }
        let cors = "Access-Control-Allow-Origin: *\r\nVary: Origin\r\n"
        #expect(readable.replacing(cors, with: "") == text)
        #expect(readable.contains("\r\n" + cors))
        let end = try #require(text.range(of: "\r\n\r\n"))
        let lines = text[..<end.lowerBound].split(separator: "\r\n").map(String.init)
        let body = text[end.upperBound...]
        #expect(lines[0] == "HTTP/1.1 \(status) \(reason)")
        let connection = status == 426 ? "Connection: close, Upgrade" : "Connection: close"
        let expected = [
            connection, "Content-Type: text/plain; charset=utf-8",
            "Content-Length: \(body.utf8.count)",
        ]
        #expect(Set(lines.dropFirst()) == Set(expected + extra))
        #expect(body.hasSuffix(".\n"))
    }

    @Test("is written by a client as this server accepts it, or not at all")
    func clientRequest() {
        func write(_ capacity: Int) -> (rc: Int, bytes: [UInt8]) {
            var out = [UInt8](repeating: 0xee, count: 512)
            let key = Array("dGhlIHNhbXBsZSBub25jZQ==".utf8).map { CChar($0) }
            let rc = withBytes(Array("localhost:1".utf8)) { host in
                withBytes(Array("/a?b".utf8)) { target in
                    sc_ws_request_write(&out, capacity, host, target, key)
                }
            }
            return (rc, out)
        }
        let (size, bytes) = write(512)
        #expect(parseHead(Array(bytes[..<size])).head?.target == "/a?b")
        let (_, status) = withRequest(Array(bytes[..<size])) { request in
            var key = sc_bytes()
            return sc_ws_handshake_check(request, &key)
        }
        #expect(status == 101)
        #expect(write(size).rc == size)
        for capacity in 0..<size {
            let (rc, out) = write(capacity)
            #expect(rc == -Int(ENOSPC))
            #expect(out[capacity...].allSatisfy { $0 == 0xee }, "wrote past \(capacity) bytes")
        }
    }
}
