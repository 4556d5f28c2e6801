import CStreamBase
import CStreamLoop
import Glibc
import Testing

@Suite("Listeners")
struct ListenerTests {
    @Test("accept every connection, non-blocking and closed on exec", arguments: Variant.allCases)
    func accept(variant: Variant) throws {
        try withLoop(variant) { loop in
            let listener = try Listener(loop)
            let peers = try (0..<50).map { _ in try Peer(port: listener.port) }
            try loop.run(until: { listener.accepted.count == 50 })
            #expect(loop.counters.accepts == 50)
            for fd in listener.accepted {
                #expect(fcntl(fd, F_GETFL) & O_NONBLOCK != 0)
                #expect(fcntl(fd, F_GETFD) & FD_CLOEXEC != 0)
                close(fd)
            }
            for peer in peers { #expect(try peer.waitForEnd()) }
        }
    }

    @Test(
        "take names and addresses of both families",
        arguments: ["127.0.0.1", "localhost", "::1", "[::1]", "::", "0.0.0.0"])
    func hosts(host: String) throws {
        var port: UInt16 = 0
        let fd = sc_listen(host, 0, false, 16, &port)
        // There may be no IPv6 here.
        if host.contains(":") && (fd == -EADDRNOTAVAIL || fd == -EAFNOSUPPORT) { return }
        try #require(fd >= 0, "\(fd)")
        #expect(port != 0)
        close(fd)
    }

    @Test(
        "refuse what is no host of this machine",
        arguments: ["", "[]", "no such host.invalid", String(repeating: "x", count: 300)])
    func badHosts(host: String) {
        var port: UInt16 = 7
        #expect(sc_listen(host, 0, false, 16, &port) == -ENOENT)
        #expect(port == 7)
    }

    @Test("say when an address is another machine's") func foreignAddress() {
        var port: UInt16 = 0
        #expect(sc_listen("192.0.2.1", 0, false, 16, &port) == -EADDRNOTAVAIL)
    }

    @Test("of a second process are refused, of this one are let in") func sharing() throws {
        var port: UInt16 = 0
        let first = sc_listen("127.0.0.1", 0, false, 16, &port)
        try #require(first >= 0)
        defer { close(first) }
        var other: UInt16 = 0
        #expect(sc_listen("127.0.0.1", port, false, 16, &other) == -EADDRINUSE)
        let second = sc_listen("127.0.0.1", port, true, 16, &other)
        #expect(second >= 0 && other == port)
        close(second)
    }

    @Test("share their connections when they share a port") func sharedPort() throws {
        try withLoop { loop in
            let first = try Listener(loop)
            let second = try Listener(loop, shared: first.port)
            #expect(second.port == first.port)
            let peers = try (0..<64).map { _ in try Peer(port: first.port) }
            try loop.run(until: { first.accepted.count + second.accepted.count == peers.count })
            // By a hash of addresses: that one gets all of them has a chance of one to 2^63.
            #expect(!first.accepted.isEmpty && !second.accepted.isEmpty)
            for fd in first.accepted + second.accepted { close(fd) }
        }
    }

    @Test(
        "close what still waits when they are closed, and accept no more",
        arguments: Variant.allCases)
    func closeWithBacklog(variant: Variant) throws {
        try withLoop(variant) { loop in
            let listener = try Listener(loop)
            try loop.turns(2)
            let peers = try (0..<20).map { _ in try Peer(port: listener.port) }
            listener.close()
            try loop.run(until: { listener.isClosed })
            #expect(listener.accepted.isEmpty)
            for peer in peers { #expect(try peer.waitForEnd()) }
            #expect(throws: (any Error).self) { try Peer(port: listener.port) }
        }
    }

    @Test("can be closed by the callback of a connection", arguments: Variant.allCases)
    func closeInCallback(variant: Variant) throws {
        try withLoop(variant) { loop in
            let listener = try Listener(loop)
            listener.onAccept = { fd in
                #expect(!listener.isClosing)
                Glibc.close(fd)
                listener.close()
            }
            let peers = try (0..<5).map { _ in try Peer(port: listener.port) }
            try loop.run(until: { listener.isClosed })
            #expect(listener.accepted.count == 1)
            for peer in peers { #expect(try peer.waitForEnd()) }
        }
    }

    @Test("are counted among the sockets, and refused beyond") func limit() throws {
        try withLoop({ $0.socket_count_max = 1 }) { loop in
            _ = try Listener(loop)
            var port: UInt16 = 0
            let fd = sc_listen("127.0.0.1", 0, false, 16, &port)
            let storage = Embedded<sc_listener>()
            defer { storage.raw.deallocate() }
            storage.pointer.pointee.on_accept = { _, _ in }
            storage.pointer.pointee.on_closed = { _ in }
            #expect(sc_listener_open(loop.loop, storage.pointer, fd) == -ENFILE)
            #expect(fcntl(fd, F_GETFD) >= 0, "the descriptor stays the caller's")
            close(fd)
        }
    }

    /// The limit of descriptors is the process's, so this runs in one of its own.
    @Test("wait for descriptors when there are none, and go on when there are")
    func outOfDescriptors() async {
        await #expect(processExitsWith: .success) {
            for variant in Variant.backends {
                try withLoop(variant) { loop in
                    // The kernel notes the limit when accepting starts, which is with the next turn.
                    let listener = try Listener(loop)
                    let peers = try (0..<6).map { _ in try Peer(unconnected: ()) }
                    var limit = try descriptorLimit(leaving: 2)
                    for peer in peers { try peer.connect(to: listener.port) }
                    try loop.run(until: { loop.counters.accepts_failed > 0 })
                    #expect(listener.accepted.count == 2)
                    // It waits, and does not spin: some turns later it has not tried more often than its timer.
                    let failed = loop.counters.accepts_failed
                    let began = ContinuousClock.now
                    try loop.turns(20)
                    let waits = (ContinuousClock.now - began) / Duration.milliseconds(50)
                    #expect(loop.counters.accepts_failed <= failed + 1 + UInt64(waits))
                    limit.rlim_cur = limit.rlim_max
                    try #require(setrlimit(descriptors, &limit) == 0)
                    try loop.run(until: { listener.accepted.count == 6 })
                    for fd in listener.accepted { close(fd) }
                    for peer in peers { #expect(try peer.waitForEnd()) }
                }
            }
        }
    }

    @Test("can be closed while they wait for descriptors") func closeOutOfDescriptors() async {
        await #expect(processExitsWith: .success) {
            try withLoop { loop in
                let listeners = try (0..<2).map { _ in try Listener(loop) }
                let peers = try (0..<4).map { _ in try Peer(unconnected: ()) }
                var limit = try descriptorLimit(leaving: 0)
                for (i, peer) in peers.enumerated() { try peer.connect(to: listeners[i % 2].port) }
                try loop.run(until: { loop.counters.accepts_failed >= 2 })
                listeners[0].close()
                try loop.run(until: { listeners[0].isClosed })
                limit.rlim_cur = limit.rlim_max
                try #require(setrlimit(descriptors, &limit) == 0)
                try loop.run(until: { listeners[1].accepted.count == 2 })
                #expect(listeners[0].accepted.isEmpty)
                for fd in listeners.flatMap(\.accepted) { close(fd) }
                for peer in peers { #expect(try peer.waitForEnd()) }
            }
        }
    }
}

/// RLIMIT_NOFILE, whose macro does not reach Swift.
private let descriptors = __rlimit_resource_t(7)

/// Lowers the limit of descriptors so that `count` more can be opened. Returns the limit as it is now.
private func descriptorLimit(leaving count: Int) throws -> rlimit {
    var limit = rlimit()
    try #require(getrlimit(descriptors, &limit) == 0)
    // Fills the holes below the limit, so that what is left is exactly `count`.
    var last = dup(0)
    let highest = try #require(highestDescriptor())
    while last >= 0 && last < highest { last = dup(0) }
    try #require(last >= 0)
    limit.rlim_cur = rlim_t(Int(last) + 1)
    try #require(setrlimit(descriptors, &limit) == 0)
    while dup(0) >= 0 {}  // What other threads have closed meanwhile.
    limit.rlim_cur += rlim_t(count)
    try #require(setrlimit(descriptors, &limit) == 0)
    return limit
}

private func highestDescriptor() -> CInt? {
    guard let folder = opendir("/proc/self/fd") else { return nil }
    defer { closedir(folder) }
    var highest: CInt = 0
    while let entry = readdir(folder) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        highest = max(highest, CInt(name) ?? 0)
    }
    return highest
}
