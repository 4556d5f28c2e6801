import CStreamTLS
import Foundation
import Testing

@Suite("TLS sessions")
struct SessionTests {
    let files: Certificates
    let server: Context
    let client: Context

    init() throws {
        files = try Certificates()
        try files.make("a")
        server = try files.server().get()
        client = try files.client()
    }

    func opened(step: Int = .max, to version: sc_tls_version = SC_TLS_1_3) throws -> Pair {
        let pair = Pair(try files.client(to: version), server)
        pair.connect(step: step)
        try #require(pair.isOpen, "\(pair.client.why) \(pair.server.why)")
        return pair
    }

    /// One byte at a time as well: a record may come in any pieces.
    @Test(
        "carry bytes both ways, in both versions",
        arguments: [(SC_TLS_1_2, "TLSv1.2"), (SC_TLS_1_3, "TLSv1.3")], [Int.max, 1, 7])
    func bothWays(version: (sc_tls_version, String), step: Int) throws {
        let pair = try opened(step: step, to: version.0)
        #expect(pair.version == version.1)
        // A record takes 16,384 bytes.
        for size in [1, 500, 16_383, 16_384, 16_385, 70_000] {
            let bytes = (0..<size).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            #expect(pair.server.seal([bytes]) > size)
            pair.client.take(pair.server.sent(), step: step)
            #expect(pair.client.receivedSoFar() == bytes)
            #expect(pair.client.seal([bytes]) > size)
            pair.server.take(pair.client.sent(), step: step)
            #expect(pair.server.receivedSoFar() == bytes)
        }
        #expect(sc_tls_kept_size(pair.server.handle) == 0)
    }

    @Test("seal many pieces as one record, as long as they fit one")
    func oneRecord() throws {
        let pair = try opened()
        let pieces = (0..<16).map { [UInt8](repeating: UInt8($0), count: 1024) }
        #expect(pair.server.seal(pieces) == 16 * 1024 + 22)
        let wire = pair.server.sent()
        #expect(records(wire) == [16 * 1024 + 17])
        pair.client.take(wire)
        #expect(pair.client.receivedSoFar() == pieces.flatMap(\.self))
        #expect(pair.server.seal(pieces + [[1]]) > 0)
        #expect(records(pair.server.sent()) == [16 * 1024 + 17, 18])
    }

    @Test(
        "fit what they seal into the room that is asked for", arguments: [SC_TLS_1_2, SC_TLS_1_3])
    func room(version: sc_tls_version) throws {
        let pair = try opened(to: version)
        for size in [1, 511, 512, 513, 16_384, 16_385, 65_536, 262_144] {
            for count in [1, 2, 16] {
                let piece = [UInt8](repeating: 0, count: size)
                let written = pair.server.seal(.init(repeating: piece, count: count))
                #expect(written > size * count, "\(count) of \(size)")
            }
        }
        pair.client.take(pair.server.sent())
        #expect(pair.client.failure == 0)
    }

    /// The ticket of TLS 1.3 comes behind the handshake. Reading it has OpenSSL take buffers of the size of the last write.
    @Test("seal records of any size after a message of the handshake has come behind a small one")
    func lateTicket() throws {
        let pair = Pair(client, server)
        pair.client.take([])
        pair.server.take(pair.client.sent())
        pair.client.take(pair.server.sent())
        pair.server.take(pair.client.sent())
        try #require(pair.isOpen)
        let ticket = pair.server.sent()
        try #require(!ticket.isEmpty)
        #expect(pair.client.seal([[1, 2, 3]]) > 0)
        pair.client.take(ticket)
        let large = [UInt8](repeating: 7, count: 40_000)
        #expect(pair.client.seal([large]) > large.count)
        pair.server.take(pair.client.sent())
        #expect(pair.server.failure == 0 && pair.server.received == [1, 2, 3] + large)
    }

    @Test("say goodbye once, and hear the other's", arguments: [SC_TLS_1_2, SC_TLS_1_3])
    func goodbye(version: sc_tls_version) throws {
        let pair = try opened(to: version)
        _ = pair.server.seal([[7]])
        pair.server.sayGoodbye()
        let wire = pair.server.sent()
        pair.server.sayGoodbye()
        #expect(pair.server.wire.isEmpty)
        #expect(pair.server.seal([[8]]) == -Int(EPROTO))
        pair.client.take(wire)
        #expect(pair.client.receivedSoFar() == [7])
        #expect(pair.client.failure == EPIPE)
        // The other way is open still.
        #expect(pair.client.seal([[9]]) > 0)
        pair.server.take(pair.client.sent())
        #expect(pair.server.receivedSoFar() == [9])
    }

    // MARK: - What a peer may do

    @Test("wait for the rest of what was cut off, whatever is missing")
    func prefixes() throws {
        let hello = Side(client, host: "localhost")
        hello.take([])
        let bytes = hello.sent()
        for size in 0..<bytes.count {
            let side = Side(server)
            side.take(Array(bytes.prefix(size)))
            #expect(!side.isOpen && side.failure == 0 && side.wire.isEmpty, "\(size)")
            #expect(sc_tls_kept_size(side.handle) >= size)
        }
        let pair = try opened()
        _ = pair.client.seal([[UInt8](repeating: 1, count: 300)])
        let record = pair.client.sent()
        pair.server.take(Array(record.dropLast()), step: 1)
        #expect(pair.server.received.isEmpty && pair.server.failure == 0)
        // What is kept is what has come, and not what its header promises.
        #expect((1..<2048).contains(sc_tls_kept_size(pair.server.handle)))
        pair.server.take(Array(record.suffix(1)))
        #expect(pair.server.received.count == 300)
        #expect(sc_tls_kept_size(pair.server.handle) == 0)
    }

    @Test("fail at a record in which a bit was changed, and do nothing any more")
    func changedBit() throws {
        for version in [SC_TLS_1_2, SC_TLS_1_3] {
            let pair = try opened(to: version)
            _ = pair.client.seal([[1, 2, 3]])
            var bytes = pair.client.sent()
            bytes[bytes.count - 1] ^= 1
            pair.server.take(bytes)
            #expect(pair.server.failure == EPROTO && pair.server.received.isEmpty)
            #expect(!pair.server.why.isEmpty)
            #expect(!pair.server.sent().isEmpty, "an alert")
            #expect(pair.server.seal([[1]]) == -Int(EPROTO))
        }
    }

    @Test(
        "tell another protocol by its first byte",
        arguments: ["GET / HTTP/1.1\r\n", "\0", "SSH-2.0-x", "\u{17}\u{3}\u{3}\0\u{1}x"])
    func otherProtocol(text: String) {
        let side = Side(server)
        side.take(Array(text.utf8.prefix(1)))
        #expect(side.failure == EPROTONOSUPPORT && side.wire.isEmpty)
    }

    @Test("refuse what is no record, one that is too long, and a handshake without a hello")
    func garbage() throws {
        let inputs: [[UInt8]] = [
            [22, 2, 0, 0, 1, 0], [22, 3, 1, 0x48, 1, 1], [22, 3, 1, 0, 4, 11, 0, 0, 0],
            [22, 3, 1, 0, 2, 1, 0], [22, 3, 1, 0, 6, 1, 0, 0x40, 1, 3, 3],
        ]
        for input in inputs {
            let side = Side(server)
            side.take(input)
            #expect(side.failure != 0, "\(input)")
        }
        let pair = try opened()
        pair.server.take([23, 3, 3, 0x48, 1])
        #expect(pair.server.failure == EPROTO)
        // At its limit a record is waited for.
        let other = try opened()
        other.server.take([23, 3, 3, 0x48, 0])
        #expect(other.server.failure == 0)
    }

    @Test("take a hello up to its limit, and no memory for a longer one")
    func longHello() {
        func hello(_ size: Int) -> Side {
            let side = Side(server)
            side.take([22, 3, 1, 0x40, 0, 1, 0, UInt8(size >> 8), UInt8(size & 255)])
            side.take([UInt8](repeating: 0, count: 0x4000 - 4))
            return side
        }
        #expect(hello(Int(SC_TLS_HELLO_SIZE_MAX) + 1).failure == EMSGSIZE)
        #expect(hello(Int(SC_TLS_HELLO_SIZE_MAX)).failure != EMSGSIZE)
    }

    @Test("refuse a handshake of more bytes than the limit")
    func longHandshake() {
        let side = Side(server)
        // A hello of many records of one byte: OpenSSL waits for all of it.
        side.take([22, 3, 1, 0, 4, 1, 0, 0x3f, 0xff])
        for _ in 0..<12_000 where side.failure == 0 { side.take([22, 3, 1, 0, 1, 0]) }
        #expect(side.failure == EMSGSIZE)
    }

    @Test("refuse a renegotiation of TLS 1.2")
    func renegotiation() throws {
        let pair = try opened(to: SC_TLS_1_2)
        pair.server.take([22, 3, 3, 0, 40] + [UInt8](repeating: 0, count: 40))
        #expect(pair.server.failure == EPROTO)
        #expect(pair.server.why == "renegotiation is refused")
    }

    // MARK: - Who may connect

    @Test("check the host and the authority of the server")
    func wrongServer() throws {
        try files.make("b")
        for (context, host) in [
            (client, "example.org"), (client, "127.0.0.2"),
            (try files.client(trusting: "b.pem"), "localhost"),
        ] {
            let pair = Pair(context, server, host: host)
            pair.connect()
            #expect(pair.client.failure == EACCES, "\(host)")
            #expect(!pair.client.why.isEmpty)
            #expect(!pair.server.isOpen)
        }
        let address = Pair(client, server, host: "127.0.0.1")
        address.connect()
        #expect(address.isOpen)
    }

    @Test(
        "refuse a client without a certificate where one is required, and take it where it is optional"
    )
    func clientCertificates() throws {
        let optional = try files.server(authorities: "a.pem", SC_TLS_CLIENT_AUTH_OPTIONAL).get()
        let pair = Pair(client, optional)
        pair.connect()
        #expect(pair.isOpen)
        let required = try files.server(authorities: "a.pem", SC_TLS_CLIENT_AUTH_REQUIRED).get()
        for version in [SC_TLS_1_2, SC_TLS_1_3] {
            let refused = Pair(try files.client(to: version), required)
            refused.connect()
            #expect(refused.server.failure == EACCES && !refused.server.isOpen)
        }
    }

    @Test("refuse a version that is too old")
    func oldVersion() throws {
        let newest = try files.server(from: SC_TLS_1_3).get()
        let pair = Pair(try files.client(to: SC_TLS_1_2), newest)
        pair.connect()
        #expect(pair.server.failure == EPROTO && !pair.server.isOpen)
        #expect(pair.client.failure != 0, "the alert has come")
        let other = Pair(client, newest)
        other.connect()
        #expect(other.isOpen && other.version == "TLSv1.3")
    }

    @Test("refuse a client that offers other protocols only")
    func protocols() throws {
        let other = Pair(try files.client(protocol: "h2"), server)
        other.connect()
        #expect(other.server.failure == EPROTO)
        let none = Pair(try files.client(protocol: nil), server)
        none.connect()
        #expect(none.isOpen)
    }
}
