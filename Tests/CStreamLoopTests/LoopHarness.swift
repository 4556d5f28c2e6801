import CStreamBase
import CStreamLoop
import Glibc
import Testing

/// A zeroed C structure at a fixed address, followed by the Swift object that its callbacks are for.
struct Embedded<Structure> {
    let raw: UnsafeMutableRawPointer

    init() {
        let size = MemoryLayout<Structure>.size + 8
        raw = .allocate(byteCount: size, alignment: 8)
        memset(raw, 0, size)
    }

    var pointer: UnsafeMutablePointer<Structure> {
        raw.assumingMemoryBound(to: Structure.self)
    }

    func setOwner(_ owner: AnyObject) {
        let address = Unmanaged.passUnretained(owner).toOpaque()
        raw.storeBytes(
            of: address, toByteOffset: MemoryLayout<Structure>.size,
            as: UnsafeMutableRawPointer.self)
    }

    static func owner<Owner: AnyObject>(of pointer: UnsafeMutablePointer<Structure>) -> Owner {
        let address = UnsafeMutableRawPointer(pointer).load(
            fromByteOffset: MemoryLayout<Structure>.size, as: UnsafeMutableRawPointer.self)
        return Unmanaged<Owner>.fromOpaque(address).takeUnretainedValue()
    }
}

/// A loop on the calling thread, and the means to wait in it.
///
/// Nothing here sleeps: waiting is running turns until something is true. A guard timer turns a test that
/// would hang into one that fails.
final class TestLoop {
    let loop: OpaquePointer
    var connections: [Connection] = []
    var listeners: [Listener] = []
    var onTurn: (() -> Void)?
    private let guardTimer: TimerBox
    private let context: UnsafeMutablePointer<Unmanaged<TestLoop>?>

    init(_ configure: (inout sc_loop_config) -> Void = { _ in }) throws {
        guardTimer = TimerBox {}
        let context = UnsafeMutablePointer<Unmanaged<TestLoop>?>.allocate(capacity: 1)
        context.initialize(to: nil)
        self.context = context
        var config = sc_loop_config()
        config.on_turn = { context in
            let box = context?.assumingMemoryBound(to: Unmanaged<TestLoop>?.self)
            box?.pointee?.takeUnretainedValue().onTurn?()
        }
        config.context = UnsafeMutableRawPointer(context)
        configure(&config)
        var created: OpaquePointer?
        let rc = sc_loop_create(&config, &created)
        guard let created else { throw LoopError(code: rc) }
        loop = created
        context.pointee = Unmanaged.passUnretained(self)
    }

    var counters: sc_loop_counters { sc_loop_counters(loop).pointee }

    /// Runs turns until `condition` holds.
    func run(
        until condition: () -> Bool, _ what: Comment = "waited too long",
        sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        var late = false
        guardTimer.onDue = { late = true }
        guardTimer.start(self, 30_000)
        defer { guardTimer.stop(self) }
        while !condition() {
            let rc = sc_loop_run_once(loop)
            try #require(rc == 0, sourceLocation: sourceLocation)
            try #require(!late, what, sourceLocation: sourceLocation)
        }
    }

    /// Runs `count` turns, none of which sleeps.
    func turns(_ count: Int) throws {
        for _ in 0..<count {
            let timer = TimerBox {}
            timer.start(self, 0)
            try #require(sc_loop_run_once(loop) == 0)
            timer.stop(self)
        }
    }

    /// Closes what is open, waits for that, and frees the loop.
    func end() throws {
        for connection in connections where !connection.isClosed && !connection.isClosing {
            connection.close(abort: true)
        }
        for listener in listeners where !listener.isClosed && !listener.isClosing {
            listener.close()
        }
        try run(until: {
            connections.allSatisfy(\.isClosed) && listeners.allSatisfy(\.isClosed)
        })
        sc_loop_destroy(loop)
        context.deallocate()
        // They hold what they are called for, as a rule themselves.
        connections.forEach { $0.forgetCallbacks() }
        listeners.forEach { $0.onAccept = nil }
        onTurn = nil
    }
}

// MARK: - Timers

final class TimerBox {
    private let storage = Embedded<sc_timer>()
    var onDue: () -> Void

    init(_ onDue: @escaping () -> Void) {
        self.onDue = onDue
        storage.setOwner(self)
        pointer.pointee.on_due = { timer in
            let owner: TimerBox = Embedded.owner(of: timer)
            owner.onDue()
        }
    }

    deinit { storage.raw.deallocate() }

    var pointer: UnsafeMutablePointer<sc_timer> { storage.pointer }
    var isRunning: Bool { pointer.pointee.due_ns != 0 }
    func start(_ loop: TestLoop, _ delay: UInt64) { sc_timer_start(loop.loop, pointer, delay) }
    func stop(_ loop: TestLoop) { sc_timer_stop(loop.loop, pointer) }
}

// MARK: - Listeners

final class Listener {
    private let storage = Embedded<sc_listener>()
    unowned let loop: TestLoop
    private(set) var isClosed = false
    private(set) var isClosing = false
    private(set) var accepted: [CInt] = []
    var onAccept: ((CInt) -> Void)?
    let port: UInt16

    init(_ loop: TestLoop, host: String = "127.0.0.1", shared sharedPort: UInt16? = nil) throws {
        self.loop = loop
        var bound: UInt16 = 0
        let fd = sc_listen(host, sharedPort ?? 0, sharedPort != nil, 128, &bound)
        try #require(fd >= 0, "sc_listen: \(fd)")
        port = bound
        storage.setOwner(self)
        pointer.pointee.on_accept = { listener, fd in
            let owner = Listener.owner(of: listener)
            owner.accepted.append(fd)
            owner.onAccept?(fd)
        }
        pointer.pointee.on_closed = { Listener.owner(of: $0).isClosed = true }
        try #require(sc_listener_open(loop.loop, pointer, fd) == 0)
        loop.listeners.append(self)
    }

    deinit { storage.raw.deallocate() }

    private static func owner(of listener: UnsafeMutablePointer<sc_listener>) -> Listener {
        Embedded.owner(of: listener)
    }

    var pointer: UnsafeMutablePointer<sc_listener> { storage.pointer }

    func close() {
        isClosing = true
        sc_listener_close(loop.loop, pointer)
    }

    /// Takes the next accepted descriptor.
    func next() throws -> CInt {
        try loop.run(until: { !accepted.isEmpty }, "nobody connected")
        return accepted.removeFirst()
    }
}

// MARK: - Sockets

/// The loop's side of a connection. Records what the loop says.
final class Connection {
    private let storage = Embedded<sc_socket>()
    unowned let loop: TestLoop
    private(set) var received: [UInt8] = []
    private(set) var receives = 0
    private(set) var end: CInt?
    private(set) var sent: [Int] = []
    private(set) var isClosed = false
    private(set) var isClosing = false
    var onReceive: ((UnsafeMutableBufferPointer<UInt8>) -> Void)?
    var onSent: ((Int) -> Void)?
    var onEnd: ((CInt) -> Void)?
    var keepsBytes = true
    /// What a send borrows stays alive as long as the connection.
    private var outgoing: [UnsafeMutableBufferPointer<UInt8>] = []

    nonisolated(unsafe) private static let handler: UnsafeMutablePointer<sc_socket_handler> = {
        let handler = UnsafeMutablePointer<sc_socket_handler>.allocate(capacity: 1)
        handler.initialize(
            to: sc_socket_handler(
                on_receive: { socket, data, size in
                    Connection.owner(of: socket).didReceive(.init(start: data, count: size))
                },
                on_end: { socket, reason in
                    let owner = Connection.owner(of: socket)
                    #expect(owner.end == nil, "on_end runs once")
                    owner.end = reason
                    owner.onEnd?(reason)
                },
                on_sent: { socket, result in
                    let owner = Connection.owner(of: socket)
                    #expect(!owner.isClosing, "on_sent after close")
                    owner.sent.append(result)
                    owner.onSent?(result)
                },
                on_closed: { socket in
                    let owner = Connection.owner(of: socket)
                    #expect(owner.isClosing && !owner.isClosed)
                    owner.isClosed = true
                }))
        return handler
    }()

    init(_ loop: TestLoop, fd: CInt) throws {
        self.loop = loop
        storage.setOwner(self)
        let rc = sc_socket_open(loop.loop, pointer, fd, Connection.handler)
        guard rc == 0 else { throw LoopError(code: rc) }
        loop.connections.append(self)
    }

    /// Connects to `address`, which stays put until that is over.
    init(_ loop: TestLoop, to address: UnsafeMutablePointer<sockaddr_in>) throws {
        self.loop = loop
        storage.setOwner(self)
        let fd = socket(AF_INET, CInt(SOCK_STREAM.rawValue) | CInt(SOCK_NONBLOCK.rawValue), 0)
        try #require(fd >= 0)
        let size = UInt32(MemoryLayout<sockaddr_in>.size)
        let rc = address.withMemoryRebound(to: sockaddr.self, capacity: 1) {
            sc_socket_connect(loop.loop, pointer, fd, $0, size, Connection.handler)
        }
        guard rc == 0 else { throw LoopError(code: rc) }
        loop.connections.append(self)
    }

    deinit {
        storage.raw.deallocate()
        outgoing.forEach { $0.deallocate() }
    }

    private static func owner(of socket: UnsafeMutablePointer<sc_socket>) -> Connection {
        Embedded.owner(of: socket)
    }

    private func didReceive(_ bytes: UnsafeMutableBufferPointer<UInt8>) {
        #expect(!isClosing, "on_receive after close")
        #expect(end == nil, "on_receive after on_end")
        receives += 1
        if keepsBytes { received.append(contentsOf: bytes) }
        onReceive?(bytes)
    }

    func forgetCallbacks() {
        onReceive = nil
        onSent = nil
        onEnd = nil
    }

    var pointer: UnsafeMutablePointer<sc_socket> { storage.pointer }
    var isSending: Bool { sc_socket_sending(pointer) }

    func send(_ pieces: [[UInt8]], _ mode: sc_send_mode = SC_SEND_TRY) {
        let views = pieces.map { piece in
            let copy = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: piece.count)
            _ = copy.initialize(from: piece)
            outgoing.append(copy)
            return sc_bytes(data: copy.baseAddress, size: piece.count)
        }
        sc_socket_send(pointer, views, UInt32(views.count), mode)
    }

    func send(_ text: String, _ mode: sc_send_mode = SC_SEND_TRY) {
        send([Array(text.utf8)], mode)
    }

    func close(abort: Bool = false) {
        isClosing = true
        sc_socket_close(pointer, abort)
    }

    func waitClosed() throws { try loop.run(until: { isClosed }, "not closed") }
}

struct LoopError: Error, Equatable { let code: CInt }

// MARK: - The other side

/// A blocking socket that the test reads and writes itself.
///
/// Sendable: a test hands it to one thread, and joins that before it ends.
final class Peer: @unchecked Sendable {
    private(set) var fd: CInt

    init(fd: CInt) { self.fd = fd }

    init(port: UInt16, receiveBuffer: CInt? = nil) throws {
        fd = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        try #require(fd >= 0)
        if var size = receiveBuffer {
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, socklen_t(MemoryLayout<CInt>.size))
        }
        try connect(to: port)
    }

    /// A socket that has its descriptor and no connection yet.
    init(unconnected: Void) throws {
        fd = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
        try #require(fd >= 0)
    }

    func connect(to port: UInt16) throws {
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let rc = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        guard rc == 0 else { throw LoopError(code: -errno) }
    }

    /// Waits until the other side has closed or reset the connection, reading what comes before; fails after a while.
    func waitForEnd() throws -> Bool {
        var patience = timeval(tv_sec: 30, tv_usec: 0)
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, socklen_t(MemoryLayout<timeval>.size))
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let got = recv(fd, &bytes, bytes.count, 0)
            if got == 0 || (got < 0 && errno == ECONNRESET) { return true }
            try #require(got > 0, "recv: \(errno)")
        }
    }

    deinit { close() }

    func write(_ bytes: [UInt8]) throws {
        var at = 0
        while at < bytes.count {
            let count = bytes[at...].withUnsafeBytes {
                Glibc.send(fd, $0.baseAddress, $0.count, CInt(MSG_NOSIGNAL))
            }
            try #require(count > 0, "send: \(errno)")
            at += count
        }
    }

    func write(_ text: String) throws { try write(Array(text.utf8)) }

    /// Reads exactly `count` bytes; waits for them.
    func read(_ count: Int) throws -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let got = recv(fd, &bytes, count, CInt(MSG_WAITALL))
        try #require(got == count, "recv: \(got), errno \(errno)")
        return bytes
    }

    /// What there is to read now; nil at the end of the stream.
    func readNow() -> [UInt8]? {
        var bytes = [UInt8](repeating: 0, count: 1 << 16)
        let got = recv(fd, &bytes, bytes.count, CInt(MSG_DONTWAIT))
        if got == 0 { return nil }
        return got < 0 ? [] : Array(bytes[..<got])
    }

    func finish() { shutdown(fd, CInt(SHUT_WR)) }

    func close() {
        if fd >= 0 { Glibc.close(fd) }
        fd = -1
    }

    /// Closes with a TCP reset.
    func reset() {
        var option = linger(l_onoff: 1, l_linger: 0)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &option, socklen_t(MemoryLayout<linger>.size))
        close()
    }
}

/// Makes a TCP connection whose one end the loop owns.
func connectedPair(
    _ loop: TestLoop, _ listener: Listener, receiveBuffer: CInt? = nil, sendBuffer: CInt? = nil
) throws -> (Connection, Peer) {
    let peer = try Peer(port: listener.port, receiveBuffer: receiveBuffer)
    let fd = try listener.next()
    if var size = sendBuffer {
        setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, socklen_t(MemoryLayout<CInt>.size))
    }
    return (try Connection(loop, fd: fd), peer)
}
