import CStreamBase
import CStreamTLS
import Foundation
import Testing

/// Files of certificates, made with the openssl tool in a folder of the test's.
final class Certificates {
    let folder: URL

    init() throws {
        folder = FileManager.default.temporaryDirectory.appending(path: "tls-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: folder) }

    func path(_ name: String) -> String { folder.appending(path: name).path }

    func write(_ name: String, _ text: String) throws {
        try Data(text.utf8).write(to: folder.appending(path: name))
    }

    func openssl(_ arguments: String...) throws {
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
        process.arguments = ["openssl"] + arguments
        process.currentDirectoryURL = folder
        process.standardError = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "openssl \(arguments)")
    }

    /// A certificate that is its own authority: `name`.pem and `name`.key.
    func make(_ name: String, for alternatives: String = "DNS:localhost,IP:127.0.0.1") throws {
        try openssl(
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-keyout", "\(name).key", "-out", "\(name).pem", "-days", "30", "-subj", "/CN=\(name)",
            "-addext", "subjectAltName=\(alternatives)")
    }

    /// What a server's context comes to: itself, or the error and why.
    func server(
        _ certificate: String = "a.pem", _ key: String = "a.key", authorities: String? = nil,
        _ clients: sc_tls_client_auth = SC_TLS_CLIENT_AUTH_NONE,
        from version: sc_tls_version = SC_TLS_1_2, tickets: Tickets = Tickets()
    ) -> Result<Context, Refusal> {
        var reason = sc_tls_reason()
        var context: OpaquePointer?
        let rc = path(certificate).withCString { certificate in
            path(key).withCString { key in
                (authorities.map(path) ?? "").withCString { ca in
                    var files = sc_tls_files(
                        cert_file: certificate, key_file: key,
                        ca_file: authorities == nil ? nil : ca,
                        client_auth: clients, min_version: version)
                    return sc_tls_server_create(&files, tickets.handle, &context, &reason)
                }
            }
        }
        guard rc == 0, let context else { return .failure(Refusal(rc, reason)) }
        return .success(Context(context, tickets))
    }

    func client(
        trusting authorities: String = "a.pem", from minimum: sc_tls_version = SC_TLS_1_2,
        to maximum: sc_tls_version = SC_TLS_1_3, protocol name: String? = "http/1.1"
    ) throws -> Context {
        var reason = sc_tls_reason()
        var context: OpaquePointer?
        let rc = sc_tls_client_create(
            path(authorities), name, minimum, maximum, &context, &reason)
        try #require(rc == 0, "\(Refusal(rc, reason))")
        return Context(try #require(context), nil)
    }
}

struct Refusal: Error, CustomStringConvertible {
    var code: Int32
    var description: String

    init(_ code: Int32, _ reason: sc_tls_reason) {
        self.code = code
        description = withUnsafeBytes(of: reason.text) {
            String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}

final class Tickets {
    let handle: OpaquePointer

    init() {
        guard let made = sc_tls_tickets_create() else { preconditionFailure("memory is out") }
        handle = made
    }

    deinit { sc_tls_tickets_release(handle) }
}

final class Context {
    let handle: OpaquePointer
    private let tickets: Tickets?

    init(_ handle: OpaquePointer, _ tickets: Tickets?) {
        self.handle = handle
        self.tickets = tickets
    }

    deinit { sc_tls_context_release(handle) }
}

/// One side of a connection whose wire is memory.
final class Side {
    let handle: OpaquePointer
    private(set) var isOpen = false
    /// What failed, -errno. EPIPE is the other side's goodbye.
    private(set) var failure: Int32 = 0
    private(set) var why = ""
    private(set) var received: [UInt8] = []
    /// What is to be sent.
    var wire: [UInt8] = []

    init(_ context: Context, host: String? = nil) {
        guard let made = sc_tls_create(context.handle, host) else {
            preconditionFailure("memory is out")
        }
        handle = made
    }

    deinit { sc_tls_destroy(handle) }

    /// Takes bytes off the wire, `step` at a time.
    func take(_ bytes: [UInt8], step: Int = .max) {
        var at = 0
        repeat {
            let end = at + min(step, bytes.count - at)
            takeAtOnce(Array(bytes[at..<end]))
            at = end
        } while at < bytes.count && failure == 0
    }

    private func takeAtOnce(_ bytes: [UInt8]) {
        var out = sc_buffer()
        defer { sc_buffer_deinit(&out) }
        // In memory of exactly their size: a sanitizer sees what is read behind them.
        let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: max(bytes.count, 1))
        defer { memory.deallocate() }
        for (index, byte) in bytes.enumerated() { memory[index] = byte }
        var input = sc_bytes(data: memory, size: bytes.count)
        if !isOpen { shakeHands(&input, &out) }
        while isOpen, failure == 0 {
            var plain = sc_bytes()
            let rc = sc_tls_open(handle, &input, &plain, &out)
            if rc == 1 {
                received += UnsafeBufferPointer(start: plain.data, count: plain.size)
                continue
            }
            if rc < 0 { fail(rc) }
            break
        }
        if failure == 0 { #expect(input.size == 0, "bytes were left") }
        wire += UnsafeBufferPointer(start: out.data, count: out.size)
    }

    private func shakeHands(_ input: inout sc_bytes, _ out: inout sc_buffer) {
        let rc = sc_tls_handshake(handle, &input, &out)
        if rc == 1 { isOpen = true }
        if rc < 0 { fail(rc) }
    }

    private func fail(_ rc: Int32) {
        failure = -rc
        why = rc == -EPIPE ? "" : String(cString: sc_tls_failure())
    }

    func seal(_ pieces: [[UInt8]]) -> Int {
        let size = pieces.reduce(0) { $0 + $1.count }
        let capacity = sc_tls_sealed_size_max(size)
        var out = [UInt8](repeating: 0, count: capacity)
        let memory = pieces.map { piece in
            let start = UnsafeMutablePointer<UInt8>.allocate(capacity: max(piece.count, 1))
            for (index, byte) in piece.enumerated() { start[index] = byte }
            return sc_bytes(data: start, size: piece.count)
        }
        defer { memory.forEach { $0.data?.deallocate() } }
        let written = sc_tls_seal(handle, memory, UInt32(memory.count), &out, capacity)
        if written > 0 { wire += out.prefix(written) }
        return written
    }

    func sayGoodbye() {
        var out = sc_buffer()
        sc_tls_say_goodbye(handle, &out)
        wire += UnsafeBufferPointer(start: out.data, count: out.size)
        sc_buffer_deinit(&out)
    }

    func sent() -> [UInt8] {
        defer { wire = [] }
        return wire
    }

    func receivedSoFar() -> [UInt8] {
        defer { received = [] }
        return received
    }
}

/// The two ends of one connection.
struct Pair {
    let client: Side
    let server: Side

    init(
        _ client: Context, _ server: Context, host: String = "localhost", after earlier: Pair? = nil
    ) {
        self.client = Side(client, host: host)
        self.server = Side(server)
        if let earlier { sc_tls_resume(self.client.handle, earlier.client.handle) }
    }

    /// Shakes hands, until nothing moves any more.
    func connect(step: Int = .max) {
        client.take([])
        for _ in 0..<8 where !client.wire.isEmpty || !server.wire.isEmpty {
            let bytes = client.sent()
            if !bytes.isEmpty, server.failure == 0 { server.take(bytes, step: step) }
            let answer = server.sent()
            if !answer.isEmpty, client.failure == 0 { client.take(answer, step: step) }
        }
    }

    var isOpen: Bool {
        client.isOpen && server.isOpen && client.failure == 0 && server.failure == 0
    }
    var version: String { String(cString: sc_tls_version_name(server.handle)) }
    var isResumed: Bool { sc_tls_is_resumed(server.handle) }
}

/// The sizes of the records in bytes of the wire, without their headers.
func records(_ wire: [UInt8]) -> [Int] {
    var sizes: [Int] = []
    var at = 0
    while at + 5 <= wire.count {
        let size = Int(wire[at + 3]) << 8 | Int(wire[at + 4])
        sizes.append(size)
        at += 5 + size
    }
    return sizes
}
