import CStreamBase
import CStreamLoop
import CStreamTransport
import CStreamWebSocket
import CTransportProbe
import Glibc
import Testing

/// A transport, and the far ends of its connections. Turns are run by the test; nothing sleeps.
final class Probe {
    let handle: OpaquePointer
    private var peers: [Peer] = []

    init(_ configure: (inout probe_config) -> Void = { _ in }) throws {
        var config = probe_config()
        config.budget = 64 << 10
        config.hard_size_max = 1 << 20
        config.message_size_max = 1 << 20
        config.limits = transport_limits(
            handshake_timeout_ms: 1000, ping_interval_ms: 1000, ping_deadline_ms: 1000,
            close_timeout_ms: 1000, slow_reader_grace_ms: 20)
        configure(&config)
        handle = try #require(probe_create(&config))
    }

    var transport: UnsafeMutablePointer<transport> { probe_transport(handle) }
    var counters: transport_counters { transport.pointee.counters }
    var events: String {
        let log = probe_log(handle)
        return String(
            decoding: UnsafeRawBufferPointer(start: log.events, count: log.count), as: UTF8.self)
    }
    var started: [String] {
        let bytes = probe_started(handle)
        let text = String(
            decoding: UnsafeRawBufferPointer(start: bytes.data, count: bytes.size), as: UTF8.self)
        return text.split(separator: "\n").map(String.init)
    }
    func waiting(_ place: sc_place) -> UInt64 { probe_waiting(handle, place) }

    /// A connection whose far end is the test's, with its head answered.
    func open(bufferSize: UInt32 = 0) throws -> Peer {
        let peer = connect(bufferSize: bufferSize)
        peer.write("GET /\r\n\r\n")
        turns(2)
        #expect(peer.read() == Array("HTTP/1.1 101 OK\r\n\r\n".utf8))
        return peer
    }

    func connect(bufferSize: UInt32 = 0) -> Peer {
        var id: UInt64 = 0
        let fd = probe_connect(handle, bufferSize, &id)
        let peer = Peer(probe: self, fd: fd, id: id)
        peers.append(peer)
        return peer
    }

    func turns(_ count: Int = 3) {
        for _ in 0..<count { probe_turn(handle) }
    }

    func run(until condition: () -> Bool, _ what: Comment = "waited too long") throws {
        let began = sc_loop_clock_ns()
        while !condition() {
            probe_turn(handle)
            try #require(sc_loop_clock_ns() - began < 20_000_000_000, what)
        }
    }

    /// Lets `ms` of the transport's time pass, by its ticks.
    func pass(ms: UInt32) {
        for _ in 0..<(ms / transport.pointee.tick_ms) { probe_sweep(handle) }
    }

    /// Ends all connections. Afterwards nothing waits anywhere.
    func end() throws {
        for slot in 0..<transport.pointee.slot_count {
            if let connection = sc_transport_at(transport, slot) {
                sc_connection_end(connection, END_RESET)
            }
        }
        try run(until: { transport.pointee.connection_count == 0 })
        for place in 0..<SC_PLACE_COUNT.rawValue {
            #expect(probe_waiting(handle, sc_place(rawValue: place)) == 0)
        }
        peers.forEach { close($0.fd) }
        probe_destroy(handle)
    }
}

func withProbe(
    _ configure: (inout probe_config) -> Void = { _ in }, _ body: (Probe) throws -> Void
) throws {
    let probe = try Probe(configure)
    do {
        try body(probe)
    } catch {
        try probe.end()
        throw error
    }
    try probe.end()
}

/// The far end of a connection.
final class Peer {
    unowned let probe: Probe
    let fd: Int32
    let id: UInt64
    private(set) var sawEnd = false

    init(probe: Probe, fd: Int32, id: UInt64) {
        self.probe = probe
        self.fd = fd
        self.id = id
    }

    var connection: UnsafeMutablePointer<connection>? { probe_find(probe.handle, id) }
    var state: connection_state? {
        connection.map { connection_state(rawValue: UInt32($0.pointee.state)) }
    }

    func write(_ bytes: [UInt8]) {
        #expect(Glibc.write(fd, bytes, bytes.count) == bytes.count)
    }
    func write(_ text: String) { write(Array(text.utf8)) }
    func finish() { shutdown(fd, Int32(SHUT_WR)) }

    /// What has come.
    func read(atMost most: Int = 1 << 20) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: most)
        let size = Glibc.read(fd, &bytes, most)
        if size <= 0 {
            sawEnd = sawEnd || size == 0 || errno == ECONNRESET
            return []
        }
        return Array(bytes[..<size])
    }
}

/// A masked frame of a client; the mask is zero, so that the payload stays as it is.
func frame(_ payload: [UInt8], opcode: UInt8 = 1, final: Bool = true) -> [UInt8] {
    var out: [UInt8] = [(final ? 0x80 : 0) | opcode]
    switch payload.count {
    case ..<126: out.append(0x80 | UInt8(payload.count))
    case ..<65536:
        out += [0xFE, UInt8(payload.count >> 8), UInt8(payload.count & 0xFF)]
    default:
        out.append(0xFF)
        for shift in stride(from: 56, through: 0, by: -8) {
            out.append(UInt8(truncatingIfNeeded: payload.count >> shift))
        }
    }
    return out + [0, 0, 0, 0] + payload
}

func message(_ text: String) -> [UInt8] { frame(Array(text.utf8)) }
func closeFrame(_ code: UInt16) -> [UInt8] {
    frame([UInt8(code >> 8), UInt8(code & 0xFF)], opcode: 8)
}

/// A frame of the transport: opcode and payload.
struct Received: Equatable {
    let opcode: UInt8
    let payload: [UInt8]
    var code: UInt16? {
        opcode == 8 && payload.count >= 2 ? UInt16(payload[0]) << 8 | UInt16(payload[1]) : nil
    }
}

/// Takes whole, unmasked frames apart; nil when bytes are left over.
func frames(_ bytes: [UInt8]) -> [Received]? {
    var found: [Received] = []
    var at = 0
    while at < bytes.count {
        guard bytes.count - at >= 2 else { return nil }
        var size = Int(bytes[at + 1] & 0x7F)
        var header = 2
        if size >= 126 {
            header = size == 126 ? 4 : 10
            guard bytes.count - at >= header else { return nil }
            size = bytes[(at + 2)..<(at + header)].reduce(0) { $0 << 8 | Int($1) }
        }
        guard bytes.count - at >= header + size else { return nil }
        found.append(
            Received(
                opcode: bytes[at] & 0x0F,
                payload: Array(bytes[(at + header)..<(at + header + size)])))
        at += header + size
    }
    return found
}

/// Raises the soft limit of descriptors, which is 1,024 on many machines.
func allowDescriptors(_ count: Int) throws {
    var limit = rlimit()
    try #require(getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
    guard limit.rlim_cur < UInt(count) else { return }
    limit.rlim_cur = UInt(count)
    try #require(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
}
