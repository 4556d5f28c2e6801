import CStreamProtocol
import Testing

@Suite("Origins of pages")
struct OriginTests {
    private func isLocal(_ origin: String, host: String? = "example.org") -> Bool {
        sc_origin_is_local(Text(origin).bytes, host.map { Text($0).bytes } ?? sc_bytes())
    }

    @Test(
        "a page of this machine is local, whatever its port",
        arguments: [
            "http://localhost", "https://LOCALHOST:8080", "http://a.b.localhost",
            "http://127.0.0.1",
            "http://127.255.255.255:1", "http://0.0.0.0:80", "http://[::1]", "https://[::1]:443",
            "HTTP://[0:0:0:0:0:0:0:1]",
        ])
    func local(origin: String) { #expect(isLocal(origin) && isLocal(origin, host: nil)) }

    @Test(
        "what only looks like one is not",
        arguments: [
            "", "null", "localhost", "http://", "http://localhost.evil.org",
            "http://evil-localhost",
            "http://localhost@evil.org", "http://localhost:", "http://localhost:80x",
            "ftp://localhost", "file://localhost", "http://127.0.0.1.evil.org", "http://128.0.0.1",
            "http://127.1", "http://[::1", "http://[::1]x", "http://[]", "http://[::2]",
            "http://::1",
            "http://[127.0.0.1]", "http://.localhost.", "http://127.0.0.1\0", "http://localhost\0",
            "http://" + String(repeating: "1", count: 100),
        ])
    func foreign(origin: String) { #expect(!isLocal(origin)) }

    /// A name could be made to point here by whoever owns it; an address is what the client has connected to.
    @Test("a page of the address that was connected to is local, one of a name is not")
    func sameAddress() {
        #expect(isLocal("http://10.1.2.3", host: "10.1.2.3:3112"))
        #expect(isLocal("http://[fe80::1]:80", host: "[fe80:0::1]"))
        #expect(!isLocal("http://10.1.2.3", host: "10.1.2.4"))
        #expect(!isLocal("http://10.1.2.3", host: nil))
        #expect(!isLocal("http://10.1.2.3", host: ""))
        #expect(!isLocal("http://example.org", host: "example.org"))
    }

    /// Returns the origin that is refused, or nil.
    private func refused(_ rule: sc_origin_rule, _ listed: String = "", _ fields: [String]) throws
        -> String?
    {
        let head = try Head(fields)
        var origin = sc_bytes()
        return sc_origin_refused(rule, listed, head.request, &origin) ? string(origin) : nil
    }

    @Test(
        "clients without an Origin may connect, whatever the rule",
        arguments: [SC_ORIGINS_ALL, SC_ORIGINS_LISTED, SC_ORIGINS_LOCAL])
    func none(rule: sc_origin_rule) throws {
        #expect(try refused(rule, "http://a", ["Host: h"]) == nil)
    }

    @Test("with a list, only what is in it may, in any case")
    func listed() throws {
        let list = "http://a.org\nhttps://b.org:1\n"
        #expect(try refused(SC_ORIGINS_LISTED, list, ["Origin: HTTP://A.org"]) == nil)
        #expect(try refused(SC_ORIGINS_LISTED, list, ["origin: https://b.org:1"]) == nil)
        for origin in [
            "http://a.or", "http://a.org1", "https://b.org", "http://a.org\thttps://b.org:1",
            "null",
        ] {
            #expect(try refused(SC_ORIGINS_LISTED, list, ["Origin: \(origin)"]) == origin)
        }
        #expect(try refused(SC_ORIGINS_LISTED, "", ["Origin: http://a.org"]) == "http://a.org")
    }

    @Test("each of several Origin headers counts")
    func several() throws {
        #expect(
            try refused(SC_ORIGINS_LOCAL, "", ["Origin: http://localhost", "ORIGIN: http://evil"])
                == "http://evil")
        #expect(
            try refused(SC_ORIGINS_LOCAL, "", ["Origin: http://localhost", "Origin: http://[::1]"])
                == nil)
        #expect(try refused(SC_ORIGINS_ALL, "", ["Origin: http://evil"]) == nil)
    }

    @Test("an origin is shown without what a page could do with it", arguments: [true, false])
    func describe(isStreamPort: Bool) throws {
        func said(_ origin: String) throws -> String {
            var out = [UInt8](repeating: 0, count: Int(SC_ORIGIN_TEXT_SIZE_MAX))
            let size = sc_origin_describe(isStreamPort, Text(origin).bytes, &out)
            return String(decoding: out[..<size], as: UTF8.self)
        }
        let setting = isStreamPort ? "iii-stream" : "iii-worker-manager"
        #expect(
            try said("http://a b\r\n\u{7f}é")
                == "pages of the origin http://a?b????? may not connect: see the setting `origins` of \(setting)"
        )
        #expect(
            try said(String(repeating: "x", count: 1000)).contains(
                "origin " + String(repeating: "x", count: 128) + " may"))
    }
}
