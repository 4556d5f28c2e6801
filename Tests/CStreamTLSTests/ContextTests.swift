import CStreamTLS
import Foundation
import Testing

@Suite("TLS contexts")
struct ContextTests {
    let files: Certificates

    init() throws {
        files = try Certificates()
        try files.make("a")
    }

    func refusal(of result: Result<Context, Refusal>) throws -> Refusal {
        guard case .failure(let refusal) = result else {
            throw Refusal(0, sc_tls_reason())
        }
        return refusal
    }

    @Test("name the file that is missing")
    func missing() throws {
        let certificate = try refusal(of: files.server("none.pem"))
        #expect(certificate.code == -ENOENT)
        #expect(
            certificate.description
                == "cert_file: cannot take the certificate of \(files.path("none.pem")): No such file or directory"
        )
        let key = try refusal(of: files.server("a.pem", "none.key"))
        #expect(key.code == -ENOENT)
        #expect(
            key.description.hasPrefix("key_file: cannot take the key of \(files.path("none.key"))"))
        let authorities = try refusal(
            of: files.server(authorities: "none.pem", SC_TLS_CLIENT_AUTH_REQUIRED))
        #expect(authorities.code == -ENOENT)
        #expect(authorities.description.hasPrefix("ca_file: "))
    }

    @Test("say what is wrong with a file")
    func broken() throws {
        try files.write("text.pem", "no certificate\n")
        let text = try refusal(of: files.server("text.pem"))
        #expect(text.code == -EINVAL && text.description.hasSuffix("there is none in it (PEM)"))
        let key = try refusal(of: files.server("a.pem", "a.pem"))
        #expect(key.code == -EINVAL && key.description.hasPrefix("key_file: "))
        let authorities = try refusal(
            of: files.server(authorities: "text.pem", SC_TLS_CLIENT_AUTH_OPTIONAL))
        #expect(authorities.description.hasPrefix("ca_file: "))
    }

    @Test("refuse a key of another certificate, and one with a passphrase")
    func otherKey() throws {
        try files.make("b")
        let other = try refusal(of: files.server("a.pem", "b.key"))
        #expect(other.code == -EINVAL)
        #expect(other.description.hasSuffix("it does not belong to the certificate in cert_file"))
        try files.openssl(
            "ec", "-in", "a.key", "-aes128", "-passout", "pass:x", "-out", "locked.key")
        let locked = try refusal(of: files.server("a.pem", "locked.key"))
        #expect(locked.description.hasSuffix("it needs a passphrase"))
    }

    @Test("describe their certificate")
    func describe() throws {
        var text = sc_tls_reason()
        let context = try files.server().get()
        sc_tls_context_describe(context.handle, &text)
        #expect(Refusal(0, text).description.hasPrefix("/CN=a, until "))
        #expect(sc_tls_context_validity(context.handle) == 0)
    }

    // MARK: - Sessions that go on

    func connect(_ client: Context, _ server: Context, after earlier: Pair? = nil) throws -> Pair {
        let pair = Pair(client, server, after: earlier)
        pair.connect()
        try #require(pair.isOpen)
        return pair
    }

    @Test("resume each other's sessions when they share keys", arguments: [SC_TLS_1_2, SC_TLS_1_3])
    func resumption(version: sc_tls_version) throws {
        let client = try files.client(to: version)
        let tickets = Tickets()
        let first = try connect(client, files.server(tickets: tickets).get())
        #expect(!first.isResumed)
        // Another context, as after a reload.
        let second = try connect(client, files.server(tickets: tickets).get(), after: first)
        #expect(second.isResumed)
        let stranger = try connect(client, files.server().get(), after: first)
        #expect(!stranger.isResumed)
    }

    @Test(
        "open tickets of some keys of before, and none once they are renewed",
        arguments: [SC_TLS_1_2, SC_TLS_1_3])
    func rotation(version: sc_tls_version) throws {
        let client = try files.client(to: version)
        let tickets = Tickets()
        let server = try files.server(tickets: tickets).get()
        let first = try connect(client, server)
        let period = UInt64(SC_TLS_TICKET_KEY_SECONDS)
        sc_tls_tickets_rotate(tickets.handle, 1000)
        for age in 1..<UInt64(SC_TLS_TICKET_KEYS) {
            sc_tls_tickets_rotate(tickets.handle, 1000 + age * period - 1)  // Not yet.
            sc_tls_tickets_rotate(tickets.handle, 1000 + age * period)
            let next = try connect(client, server, after: first)
            #expect(next.isResumed, "after \(age)")
        }
        sc_tls_tickets_rotate(tickets.handle, 1000 + UInt64(SC_TLS_TICKET_KEYS) * period)
        let late = try connect(client, server, after: first)
        #expect(!late.isResumed)
        sc_tls_tickets_renew(tickets.handle)
        let renewed = try connect(client, server, after: late)
        #expect(!renewed.isResumed)
    }
}
