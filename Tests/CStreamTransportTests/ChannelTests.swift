import CStreamBase
import CStreamLoop
import CStreamTLS
import CStreamTransport
import CTransportProbe
import Foundation
import Testing

/// A certificate of the test's, the context of a server that shows it, and that of a client that trusts it.
final class Secrets {
    private(set) var server: OpaquePointer
    private(set) var client: OpaquePointer

    init() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "channel-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let certificate = folder.appending(path: "cert.pem").path
        let key = folder.appending(path: "key.pem").path
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
            "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", certificate,
            "-days", "30", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost",
        ]
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        var reason = sc_tls_reason()
        var server: OpaquePointer?
        var client: OpaquePointer?
        let tickets = try #require(sc_tls_tickets_create())
        defer { sc_tls_tickets_release(tickets) }
        let rc = certificate.withCString { certificate in
            key.withCString { key in
                var files = sc_tls_files(
                    cert_file: certificate, key_file: key, ca_file: nil,
                    client_auth: SC_TLS_CLIENT_AUTH_NONE, min_version: SC_TLS_1_2)
                return sc_tls_server_create(&files, tickets, &server, &reason)
            }
        }
        try #require(rc == 0)
        let made = sc_tls_client_create(
            certificate, nil, SC_TLS_1_2, SC_TLS_1_3, &client, &reason)
        try #require(made == 0)
        self.server = try #require(server)
        self.client = try #require(client)
    }

    deinit {
        sc_tls_context_release(server)
        sc_tls_context_release(client)
    }
}

/// The far end of a connection that speaks TLS.
final class SecurePeer {
    let peer: Peer
    private let tls: OpaquePointer
    private(set) var isOpen = false
    private(set) var saidGoodbye = false
    private(set) var failure: Int32 = 0

    init(_ peer: Peer, _ secrets: Secrets) throws {
        self.peer = peer
        tls = try #require(sc_tls_create(secrets.client, "localhost"))
        take([])
    }

    deinit { sc_tls_destroy(tls) }

    @discardableResult private func take(_ bytes: [UInt8]) -> [UInt8] {
        var wire = sc_buffer()
        var found: [UInt8] = []
        defer { sc_buffer_deinit(&wire) }
        bytes.withUnsafeBufferPointer { bytes in
            var input = sc_bytes(data: bytes.baseAddress, size: bytes.count)
            if !isOpen {
                let rc = sc_tls_handshake(tls, &input, &wire)
                isOpen = rc == 1
                failure = min(rc, 0)
            }
            while isOpen, failure == 0, !saidGoodbye {
                var plain = sc_bytes()
                let rc = sc_tls_open(tls, &input, &plain, &wire)
                if rc == 1 {
                    found += UnsafeBufferPointer(start: plain.data, count: plain.size)
                    continue
                }
                saidGoodbye = rc == -EPIPE
                if rc < 0, !saidGoodbye { failure = rc }
                break
            }
        }
        let answer = Array(UnsafeBufferPointer(start: wire.data, count: wire.size))
        if !answer.isEmpty { peer.write(answer) }
        return found
    }

    /// Plaintext of what has come, of `most` bytes of the wire.
    func read(atMost most: Int = 1 << 20) -> [UInt8] { take(peer.read(atMost: most)) }

    func write(_ bytes: [UInt8]) {
        var out = [UInt8](repeating: 0, count: sc_tls_sealed_size_max(bytes.count))
        let size = bytes.withUnsafeBufferPointer {
            var piece = sc_bytes(data: $0.baseAddress, size: $0.count)
            return sc_tls_seal(tls, &piece, 1, &out, out.count)
        }
        peer.write(Array(out.prefix(max(size, 0))))
    }
}

@Suite("channels with TLS")
struct ChannelTests {
    let secrets: Secrets

    init() throws { secrets = try Secrets() }

    func open(_ probe: Probe, bufferSize: UInt32 = 0) throws -> SecurePeer {
        let client = try SecurePeer(probe.connect(bufferSize: bufferSize), secrets)
        try probe.run(until: {
            _ = client.read()
            return client.isOpen
        })
        client.write(Array("GET /\r\n\r\n".utf8))
        var answer: [UInt8] = []
        try probe.run(until: {
            answer += client.read()
            return answer == Array("HTTP/1.1 101 OK\r\n\r\n".utf8)
        })
        return client
    }

    func secured(_ body: (Probe) throws -> Void) throws {
        try withProbe({ $0.tls = secrets.server }, body)
    }

    @Test("messages and answers pass, and nothing waits anywhere afterwards")
    func pass() throws {
        try secured { probe in
            let client = try open(probe)
            #expect(probe.waiting(SC_PLACE_RECORDS) == 0 && probe.waiting(SC_PLACE_OUTBOX) == 0)
            // Most clients never have an account: a handshake leaves none behind.
            #expect(client.peer.connection?.pointee.account == nil)
            probe_answer(probe.handle, 5000)
            client.write(message("one") + message("two"))
            var answer: [UInt8] = []
            try probe.run(until: {
                answer += client.read()
                return answer.count >= 2 * 5004
            })
            #expect(frames(answer)?.map(\.payload.count) == [5000, 5000])
            #expect(probe.started == ["one", "two"])
            #expect(probe.counters.tls_handshakes == 1 && probe.counters.tls_failures == 0)
        }
    }

    /// The socket takes a part of the ciphertext; the rest and all that comes later leaves in order, however little is
    /// read at a time.
    @Test(
        "what the socket does not take waits, charged, and leaves in order",
        arguments: [700, 100_000])
    func slow(size: UInt32) throws {
        try withProbe({
            $0.tls = secrets.server
            $0.budget = 64 << 20
            $0.hard_size_max = 1 << 30
        }) { probe in
            let client = try open(probe, bufferSize: 4096)
            probe_answer(probe.handle, size)
            client.write((0..<40).flatMap { message("\($0)") })
            try probe.run(until: { probe.started.count == 40 })
            probe.turns(10)
            #expect(probe.waiting(SC_PLACE_OUTBOX) > 40 * UInt64(size) / 2)
            var answer: [UInt8] = []
            let whole = 40 * (Int(size) + (size < 65_536 ? 4 : 10))
            try probe.run(until: {
                answer += client.read(atMost: 1000)
                return answer.count >= whole || client.failure != 0
            })
            #expect(client.failure == 0)
            #expect(frames(answer)?.map(\.payload.count) == .init(repeating: Int(size), count: 40))
            probe.turns()
            #expect(probe.waiting(SC_PLACE_OUTBOX) == 0)
        }
    }

    @Test("a ping overtakes what waits, between frames")
    func ping() throws {
        try withProbe({
            $0.tls = secrets.server
            $0.budget = 64 << 20
            $0.hard_size_max = 1 << 30
        }) { probe in
            let client = try open(probe, bufferSize: 4096)
            probe_answer(probe.handle, 200_000)
            client.write((0..<10).flatMap { message("\($0)") })
            try probe.run(until: { probe.started.count == 10 })
            probe.turns(5)
            let connection = try #require(client.peer.connection)
            sc_out_append_control(connection, [0x89, 0], 2)
            var answer: [UInt8] = []
            try probe.run(until: {
                answer += client.read(atMost: 20_000)
                return answer.count >= 10 * 200_010 + 2 || client.failure != 0
            })
            let opcodes = try #require(frames(answer)).map(\.opcode)
            let place = try #require(opcodes.firstIndex(of: 9))
            #expect(opcodes.count == 11 && place <= 2, "\(opcodes)")
        }
    }

    @Test("a slow peer is closed behind what is sealed, and can read all of it")
    func tooSlow() throws {
        try withProbe({
            $0.tls = secrets.server
            $0.budget = 32 << 10
            $0.hard_size_max = 256 << 10
        }) { probe in
            let client = try open(probe, bufferSize: 4096)
            probe_answer(probe.handle, 60_000)
            client.write((0..<12).flatMap { message("\($0)") })
            try probe.run(until: { probe.counters.slow_readers_closed == 1 })
            var answer: [UInt8] = []
            try probe.run(until: {
                answer += client.read()
                return client.saidGoodbye || client.failure != 0
            })
            #expect(client.failure == 0)
            let last = try #require(frames(answer)?.last)
            #expect(last.code == 1013)
        }
    }

    @Test("the end is said by TLS before it is said by TCP")
    func goodbye() throws {
        try secured { probe in
            let client = try open(probe)
            client.write(closeFrame(1000))
            try probe.run(until: {
                _ = client.read()
                return client.peer.sawEnd
            })
            #expect(client.saidGoodbye && client.failure == 0)
        }
    }

    @Test("handshakes take turns, and all have theirs")
    func turns() throws {
        try secured { probe in
            let clients = try (0..<100).map { _ in try SecurePeer(probe.connect(), secrets) }
            try probe.run(until: {
                for client in clients where !client.isOpen { _ = client.read() }
                return clients.allSatisfy(\.isOpen)
            })
            try probe.run(until: { probe.counters.tls_handshakes == 100 })
            // A hundred take longer than a turn may.
            #expect(probe.counters.tls_handshakes_deferred > 0)
            #expect(probe.waiting(SC_PLACE_RECORDS) == 0)
        }
    }

    @Test("a handshake that is not over in time ends, and is counted apart")
    func patience() throws {
        try secured { probe in
            let peer = probe.connect()
            peer.write([22, 3, 1, 2, 0])
            probe.turns()
            #expect(probe.waiting(SC_PLACE_RECORDS) > 0)
            probe.pass(ms: 2000)
            try probe.run(until: {
                _ = peer.read()
                return peer.sawEnd
            })
            #expect(probe.counters.handshakes_timed_out == 1)
            #expect(probe.counters.tls_handshakes_timed_out == 1)
            #expect(probe.waiting(SC_PLACE_RECORDS) == 0)
        }
    }

    @Test(
        "a peer without TLS is answered in plain text, and the role hears nothing of it but its end"
    )
    func plain() throws {
        try secured { probe in
            let peer = probe.connect()
            peer.write("GET / HTTP/1.1\r\n\r\n")
            var answer: [UInt8] = []
            try probe.run(until: {
                answer += peer.read()
                return peer.sawEnd
            })
            #expect(String(decoding: answer, as: UTF8.self).hasPrefix("HTTP/1.1 400 "))
            #expect(probe.counters.tls_plain_refused == 1 && !probe.events.contains("h"))
            #expect(probe.events.contains("t"))
        }
    }

    @Test("a record that was changed ends the connection with an alert")
    func changed() throws {
        try secured { probe in
            let client = try open(probe)
            client.peer.write([23, 3, 3, 0, 30] + [UInt8](repeating: 7, count: 30))
            try probe.run(until: {
                _ = client.read()
                return client.peer.sawEnd
            })
            #expect(probe.counters.tls_failures == 1 && client.failure == -EPROTO)
            #expect(probe.started.isEmpty)
        }
    }
}
