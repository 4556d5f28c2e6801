import CStreamBase
import CStreamWebSocket
import Glibc
import Testing

@Suite("HTTP request head")
struct HTTPTests {
    private let example = """
        GET /stream/chat/room%201?token=a&b HTTP/1.1\r
        Host: server.example.com:3112\r
        X-Empty:\r
        X-Spaces:  \t two  words \t \r
        x-opaque: \u{e9}\r
        \r\n
        """

    @Test("is taken apart into slices of the input")
    func takenApart() {
        let expected = HeadResult.Head(
            method: "GET", target: "/stream/chat/room%201?token=a&b", path: "/stream/chat/room%201",
            query: "token=a&b", minorVersion: 1,
            fields: [
                .init(name: "Host", value: "server.example.com:3112"),
                .init(name: "X-Empty", value: ""),
                .init(name: "X-Spaces", value: "two  words"),
                .init(name: "x-opaque", value: "\u{e9}"),
            ])
        #expect(parseHead(example) == .complete(size: example.utf8.count, expected))
    }

    @Test("ends at its empty line, whatever follows")
    func endsAtEmptyLine() {
        let whole = parseHead(example)
        #expect(parseHead(Array(example.utf8) + [0x81, 0x00, 0x0a, 0x0d]) == whole)
        let long =
            Array(example.utf8) + [UInt8](repeating: 0, count: 2 * Int(SC_HTTP_HEAD_SIZE_MAX))
        #expect(parseHead(long) == whole)
    }

    @Test("asks for more at every prefix")
    func everyPrefix() {
        let bytes = Array(example.utf8)
        for size in 0..<bytes.count {
            #expect(parseHead(Array(bytes[..<size])) == .more, "prefix of \(size)")
        }
    }

    @Test("may be of HTTP/1.0, have no fields, and follow one empty line")
    func smallest() {
        let head = HeadResult.Head(
            method: "GET", target: "/", path: "/", query: "", minorVersion: 0, fields: [])
        #expect(parseHead("GET / HTTP/1.0\r\n\r\n") == .complete(size: 18, head))
        #expect(parseHead("\r\nGET / HTTP/1.0\r\n\r\n") == .complete(size: 20, head))
        #expect(parseHead("\r\n\r\nGET / HTTP/1.0\r\n\r\n") == .failed(EBADMSG))
    }

    @Test(
        "finds path and query in every form of target",
        arguments: [
            ("/", "/", ""), ("/?", "/", ""), ("/a?b?c", "/a", "b?c"), ("//a", "//a", ""),
            ("http://host/", "/", ""), ("ws://h:1/a/b?c=/d", "/a/b", "c=/d"),
            ("a1+-.://h/x", "/x", ""), ("*", "*", ""), ("/%2e?%", "/%2e", "%"),
        ])
    func targets(target: String, path: String, query: String) throws {
        let head = try #require(parseHead("GET \(target) HTTP/1.1\r\n\r\n").head)
        #expect(head.target == target)
        #expect(head.path == path)
        #expect(head.query == query)
    }

    static let brokenHeads = [
        "\n", " GET / HTTP/1.1\r\n\r\n", "GET / HTTP/1.1\n\n", "GET / HTTP/1.1\r\r\n",
        "GET / HTTP/1.1\r\nA: b\n\r\n", "GET / HTTP/1.1\r\nA: b\r\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\r\n folded\r\n\r\n", "GET / HTTP/1.1\r\nA: b\r\n\tfolded\r\n\r\n",
        "GET / HTTP/1.1\r\n folded\r\n\r\n", "GET / HTTP/1.1\r\nA : b\r\n\r\n",
        "GET / HTTP/1.1\r\nA\r\n\r\n", "GET / HTTP/1.1\r\n: b\r\n\r\n", "GET / HTTP/1.1\r\n\r ",
        "GET / HTTP/1.1\r\nA: b\0c\r\n\r\n", "GET / HTTP/1.1\r\nA: b\u{7f}\r\n\r\n",
        "GET / HTTP/1.1\r\nA: b\u{1b}\r\n\r\n", "GET / HTTP/1.1\r\nA\0: b\r\n\r\n",
        "GET / HTTP/1.1\r\n\u{e9}: b\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n", "GET /  HTTP/1.1\r\n\r\n",
        "GET\t/ HTTP/1.1\r\n\r\n", "GET /\r\n\r\n", "GET / \r\n\r\n", "GET\r\n\r\n",
        "G(T / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.2\r\n\r\n", "GET / HTTP/2.0\r\n\r\n", "GET / HTTP/0.9\r\n\r\n",
        "GET / http/1.1\r\n\r\n", "GET / HTTP/1.10\r\n\r\n", "GET / HTTP/1.1 \r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\u{16}\u{03}\u{01}", "GET /a#b HTTP/1.1\r\n\r\n",
        "GET /\u{e9} HTTP/1.1\r\n\r\n", "GET http://host HTTP/1.1\r\n\r\n",
        "GET http://host?a HTTP/1.1\r\n\r\n", "GET http:///a HTTP/1.1\r\n\r\n",
        "GET 1http://host/a HTTP/1.1\r\n\r\n", "GET http:/host/a HTTP/1.1\r\n\r\n",
        "GET a HTTP/1.1\r\n\r\n", "GET ** HTTP/1.1\r\n\r\n", "GET ? HTTP/1.1\r\n\r\n",
        "CONNECT host:443 HTTP/1.1\r\n\r\n",
    ]

    /// Also: the refusal comes at one place of the head, and what follows that place changes nothing.
    @Test("that is malformed is refused, and stays refused", arguments: brokenHeads)
    func broken(text: String) {
        let bytes = Array(text.utf8)
        #expect(parseHead(bytes) == .failed(EBADMSG))
        var refused = false
        for size in 0...bytes.count {
            let result = parseHead(Array(bytes[..<size]))
            #expect(result == (refused ? .failed(EBADMSG) : result))
            #expect(result == .more || result == .failed(EBADMSG), "prefix of \(size)")
            refused = refused || result == .failed(EBADMSG)
        }
        #expect(parseHead(bytes + Array("\r\n\r\n".utf8)) == .failed(EBADMSG))
    }

    @Test("takes exactly the bytes that RFC 9110 allows in each place")
    func byteClasses() {
        let letters = Array("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789".utf8)
        let token = Set(letters + Array("!#$%&'*+-.^_`|~".utf8))
        for byte in UInt8.min...UInt8.max {
            func accepts(_ before: String, _ after: String) -> Bool {
                parseHead(Array(before.utf8) + [byte] + Array(after.utf8)).head != nil
            }
            let visible = (0x21...0x7e).contains(byte)
            let opaque = byte >= 0x80
            let space = byte == 0x20 || byte == 0x09
            #expect(accepts("G", "T / HTTP/1.1\r\n\r\n") == token.contains(byte), "\(byte)")
            #expect(
                accepts("G / HTTP/1.1\r\nA", "B: c\r\n\r\n")
                    == (token.contains(byte) || byte == 0x3a))
            #expect(accepts("G /", " HTTP/1.1\r\n\r\n") == (visible && byte != 0x23), "\(byte)")
            #expect(accepts("G / HTTP/1.1\r\nA: b", "c\r\n\r\n") == (visible || opaque || space))
        }
    }

    // MARK: Limits

    /// A whole head of `size` bytes.
    private func head(ofSize size: Int) -> [UInt8] {
        let frame = "GET / HTTP/1.1\r\nA: \r\n\r\n"
        let filler = String(repeating: "x", count: size - frame.utf8.count)
        return Array("GET / HTTP/1.1\r\nA: \(filler)\r\n\r\n".utf8)
    }

    @Test("of the largest size is taken")
    func largest() {
        let size = Int(SC_HTTP_HEAD_SIZE_MAX)
        let bytes = head(ofSize: size)
        #expect(parseHead(Array(bytes[..<(size - 1)])) == .more)
        guard case .complete(size, _) = parseHead(bytes) else {
            Issue.record("a head of \(size) bytes was not taken")
            return
        }
    }

    @Test("of one byte more is refused as soon as the limit is reached")
    func oneByteMore() {
        let size = Int(SC_HTTP_HEAD_SIZE_MAX)
        let bytes = head(ofSize: size + 1)
        #expect(parseHead(Array(bytes[..<(size - 1)])) == .more)
        #expect(parseHead(Array(bytes[..<size])) == .failed(E2BIG))
        #expect(parseHead(bytes) == .failed(E2BIG))
    }

    @Test("may have 100 fields, and is refused at the first byte of one more")
    func fieldCount() throws {
        let line = "GET / HTTP/1.1\r\n"
        let fields = String(repeating: "a:b\r\n", count: Int(SC_HTTP_HEADER_COUNT_MAX))
        let result = parseHead(line + fields + "\r\n")
        #expect(try #require(result.head).fields.count == 100)
        #expect(parseHead(line + fields) == .more)
        #expect(parseHead(line + fields + "a") == .failed(E2BIG))
        #expect(parseHead(line + fields + "a:b\r\n\r\n") == .failed(E2BIG))
    }

    // MARK: Fields

    @Test("gives the last of the fields of a name, in any case")
    func headerGet() {
        let text =
            "GET / HTTP/1.1\r\nAccept: 1\r\nX: y\r\naCCEPT: 2\r\nAccepts: 3\r\nEmpty:\r\n\r\n"
        _ = withRequest(Array(text.utf8)) { request in
            #expect(string(sc_http_header_get(request, "accept")) == "2")
            #expect(string(sc_http_header_get(request, "ACCEPT")) == "2")
            #expect(sc_http_header_get(request, "accep").data == nil)
            #expect(sc_http_header_get(request, "empty").data != nil)
            #expect(sc_http_header_get(request, "empty").size == 0)
        }
        #expect(parseHead(text).head?.fields.count == 5)
    }

    // MARK: Path decoding

    private func decode(_ path: [UInt8]) -> Result<[UInt8], DecodeFailure> {
        var out = [UInt8](repeating: 0xee, count: path.count + 1)
        let rc = withBytes(path) { sc_http_path_decode($0, &out) }
        #expect(out[path.count] == 0xee, "wrote past the size of its input")
        return rc < 0 ? .failure(DecodeFailure(code: Int32(-rc))) : .success(Array(out[..<rc]))
    }
    struct DecodeFailure: Error, Equatable {
        var code: Int32
    }

    @Test(
        "path segments are percent-decoded",
        arguments: [
            ("", ""), ("plain", "plain"), ("a%20b", "a b"), ("%41%6a%4A", "AjJ"), ("a+b", "a+b"),
            ("%2F%3f%25", "/?%"), ("%C3%A9%e2%82%ac", "\u{e9}\u{20ac}"), ("%00", "\0"),
            ("%F0%9F%98%80", "\u{1f600}"), ("%2541", "%41"),
        ])
    func decodesPath(path: String, decoded: String) {
        #expect(decode(Array(path.utf8)) == .success(Array(decoded.utf8)))
    }

    @Test(
        "a bad escape or a result that is not UTF-8 is refused",
        arguments: [
            "%", "%4", "a%", "a%4", "%4g", "%g4", "%%41", "% 41", "%-1", "%@1", "%`1", "%G0", "%/0",
            "%:0",
            "%ff", "%C3", "%C3%28", "%C0%80", "%ED%A0%80", "%F4%90%80%80", "a%80b",
        ])
    func refusesPath(path: String) {
        #expect(decode(Array(path.utf8)) == .failure(DecodeFailure(code: EBADMSG)))
    }

    @Test("a path decodes every escape there is, and in place")
    func everyEscape() {
        for byte in UInt8.min...UInt8.max {
            for format in ["%02x", "%02X"] {
                let digits = String(byte, radix: 16, uppercase: format == "%02X")
                let escape = "%" + (digits.count == 1 ? "0" : "") + digits
                let expected: Result<[UInt8], DecodeFailure> =
                    byte < 0x80 ? .success([byte]) : .failure(DecodeFailure(code: EBADMSG))
                #expect(decode(Array(escape.utf8)) == expected, "\(escape)")
            }
        }
        var path = Array("%61/%62c".utf8)
        let size = path.withUnsafeMutableBufferPointer {
            sc_http_path_decode(sc_bytes(data: $0.baseAddress, size: $0.count), $0.baseAddress!)
        }
        #expect(Array(path[..<size]) == Array("a/bc".utf8))
    }
}
