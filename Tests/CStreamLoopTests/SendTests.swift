import CStreamBase
import CStreamLoop
import Glibc
import Testing

@Suite("Sending")
struct SendTests {
    private let sizeMax = 256 << 10

    /// Sends with `mode` until the socket takes no more. Returns the bytes that it took.
    private func fill(_ connection: Connection, _ loop: TestLoop) throws -> Int {
        var total = 0
        while true {
            connection.send([pattern(sizeMax, from: total)])
            try #require(sc_loop_flush(loop.loop) == 0)
            let taken = try #require(connection.sent.last)
            if taken == -Int(EAGAIN) { return total }
            try #require(taken > 0)
            total += taken
        }
    }

    /// A connection that takes no more at once, and the bytes that it has taken. A local one: TCP goes on
    /// moving bytes to the peer for a while.
    private func fullPair(_ loop: TestLoop) throws -> (Connection, Peer, Int) {
        let (connection, peer) = try localPair(loop)
        return (connection, peer, try fill(connection, loop))
    }

    @Test("puts many pieces together in their order", arguments: [1, 2, 16]) func pieces(count: Int)
        throws
    {
        try withLoop { loop in
            let (connection, peer) = try localPair(loop)
            connection.send((0..<count).map { pattern(10, from: $0 * 10) })
            #expect(connection.isSending)
            #expect(sc_loop_flush(loop.loop) == 0)
            #expect(!connection.isSending)
            #expect(connection.sent == [count * 10])
            #expect(try peer.read(count * 10) == pattern(count * 10))
            #expect(loop.counters.sends == 1)
        }
    }

    @Test("that tries never waits: it takes what fits, then nothing", arguments: Variant.allCases)
    func tries(variant: Variant) throws {
        try withLoop(variant) { loop in
            let listener = try Listener(loop)
            let (connection, peer) = try connectedPair(
                loop, listener, receiveBuffer: 20_000, sendBuffer: 20_000)
            let total = try fill(connection, loop)
            // Full at first by a part of what was asked, then by all of it.
            #expect(connection.sent.dropLast().contains { $0 < sizeMax })
            #expect(total > 0)
            #expect(try peer.read(total) == pattern(total))
        }
    }

    @Test(
        "that waits ends when the peer has made room, by the bytes that fitted",
        arguments: Variant.allCases)
    func waits(variant: Variant) throws {
        try withLoop(variant) { loop in
            let (connection, peer, total) = try fullPair(loop)
            connection.send([pattern(50_000, from: total)], SC_SEND_WAIT)
            try loop.turns(5)
            #expect(connection.isSending && connection.sent.last == -Int(EAGAIN))
            // Reading what is there makes room.
            #expect(try peer.read(total) == pattern(total))
            try loop.run(until: { !connection.isSending })
            let taken = try #require(connection.sent.last)
            try #require(taken > 0 && taken <= 50_000)
            #expect(try peer.read(taken) == pattern(taken, from: total))
            connection.send([pattern(1)])
            try loop.run(until: { !connection.isSending })
            #expect(try peer.read(1) == pattern(1))
        }
    }

    @Test(
        "first by trying, then by waiting, brings a long text over whole",
        arguments: Variant.allCases)
    func longText(variant: Variant) throws {
        try withLoop(variant) { loop in
            let listener = try Listener(loop)
            let (connection, peer) = try connectedPair(
                loop, listener, receiveBuffer: 50_000, sendBuffer: 50_000)
            let bytes = pattern(3_000_000)
            var sent = 0
            func more(_ mode: sc_send_mode) {
                connection.send([Array(bytes[sent..<min(bytes.count, sent + 200_000)])], mode)
            }
            connection.onSent = { result in
                if result > 0 { sent += result }
                if sent < bytes.count { more(result > 0 ? SC_SEND_TRY : SC_SEND_WAIT) }
            }
            more(SC_SEND_TRY)
            try loop.run(until: { connection.sent.contains(-Int(EAGAIN)) }, "it is never full")
            let reader = TestThread {
                do { #expect(try peer.read(bytes.count) == bytes) } catch { Issue.record(error) }
            }
            defer { reader.join() }
            try loop.run(until: { sent == bytes.count })
        }
    }

    @Test("ends by an error when the peer is gone", arguments: Variant.allCases) func peerGone(
        variant: Variant
    ) throws {
        try withLoop(variant) { loop in
            let listener = try Listener(loop)
            let (connection, peer) = try connectedPair(loop, listener)
            peer.reset()
            try loop.run(until: { connection.end != nil })
            for mode in [SC_SEND_TRY, SC_SEND_WAIT] {
                connection.send("x", mode)
                try loop.run(until: { !connection.isSending })
                #expect([-Int(EPIPE), -Int(ECONNRESET)].contains(connection.sent.last))
            }
        }
    }

    @Test("that waits ends by an error when the peer resets meanwhile", arguments: Variant.allCases)
    func resetMeanwhile(variant: Variant) throws {
        try withLoop(variant) { loop in
            let listener = try Listener(loop)
            let (connection, peer) = try connectedPair(
                loop, listener, receiveBuffer: 20_000, sendBuffer: 20_000)
            let total = try fill(connection, loop)
            connection.send([pattern(50_000, from: total)], SC_SEND_WAIT)
            try loop.turns(3)
            peer.reset()
            try loop.run(until: { !connection.isSending })
            // Where the kernel had room for a part of it before the reset, it says so first.
            if let part = connection.sent.last, part > 0 {
                #expect(part < 50_000)
                connection.send("x", SC_SEND_WAIT)
                try loop.run(until: { !connection.isSending })
            }
            #expect([-Int(EPIPE), -Int(ECONNRESET)].contains(connection.sent.last))
        }
    }

    // MARK: Flushing

    @Test(
        "in a flush ends before the flush does, also what its callback starts",
        arguments: Variant.allCases)
    func chains(variant: Variant) throws {
        try withLoop(variant) { loop in
            let pairs = try (0..<20).map { _ in try localPair(loop) }
            for (connection, _) in pairs {
                var left = 40
                connection.onSent = { result in
                    #expect(result == 3)
                    left -= 1
                    if left > 0 { connection.send("abc") }
                }
                connection.send("abc")
            }
            #expect(sc_loop_flush(loop.loop) == 0)
            for (connection, peer) in pairs {
                #expect(connection.sent.count == 40)
                #expect(try peer.read(120) == Array(String(repeating: "abc", count: 40).utf8))
            }
            #expect(loop.counters.sends == 800)
        }
    }

    @Test("of more than a slice goes out in slices", arguments: Variant.allCases) func slices(
        variant: Variant
    ) throws {
        allowManyDescriptors()
        try withLoop(variant) { loop in
            let slice = Int(SC_LOOP_SENDS_PER_SLICE)
            let pairs = try (0..<2 * slice + 10).map { _ in try localPair(loop) }
            // In `on_turn`, where the core flushes; half of them with several pieces.
            var done = false
            loop.onTurn = {
                guard !done else { return }
                done = true
                for (i, (connection, _)) in pairs.enumerated() {
                    if i % slice == 0, i > 0 { #expect(sc_loop_flush(loop.loop) == 0) }
                    connection.send(
                        i % 2 == 0
                            ? [pattern(9, from: i)]
                            : [pattern(4, from: i), pattern(5, from: i + 4)])
                }
                #expect(sc_loop_flush(loop.loop) == 0)
                #expect(pairs.allSatisfy { $0.0.sent == [9] })
            }
            try loop.turns(1)
            try #require(done)
            for (i, (_, peer)) in pairs.enumerated() {
                #expect(try peer.read(9) == pattern(9, from: i))
            }
            loop.onTurn = nil
        }
    }

    @Test("leaves received bytes for the next turn") func flushRunsNothingElse() throws {
        try withLoop { loop in
            let (connection, peer) = try localPair(loop)
            try loop.turns(1)
            try peer.write("hello")
            connection.send("x")
            #expect(sc_loop_flush(loop.loop) == 0)
            #expect(connection.sent == [1] && connection.received.isEmpty)
            try loop.run(until: { connection.received.count == 5 })
        }
    }

    @Test("without a flush leaves with the next turn", arguments: Variant.allCases)
    func withoutFlush(variant: Variant) throws {
        try withLoop(variant) { loop in
            let (connection, peer) = try localPair(loop)
            connection.send("x")
            #expect(connection.sent.isEmpty)
            try loop.run(until: { connection.sent == [1] })
            #expect(try peer.read(1) == [0x78])
            #expect(sc_loop_flush(loop.loop) == 0)
        }
    }

    // MARK: Shutting down

    @Test("is over before the stream is, and receiving goes on", arguments: Variant.allCases)
    func shutdownAfterSend(variant: Variant) throws {
        try withLoop(variant) { loop in
            let (connection, peer, total) = try fullPair(loop)
            connection.send([pattern(5_000, from: total)], SC_SEND_WAIT)
            try loop.turns(2)
            sc_socket_shutdown(connection.pointer)
            try loop.turns(2)
            #expect(try peer.read(total) == pattern(total))
            try loop.run(until: { !connection.isSending })
            let taken = try #require(connection.sent.last)
            #expect(try peer.read(taken) == pattern(taken, from: total))
            #expect(try peer.waitForEnd())
            try peer.write("still")
            try loop.run(until: { connection.received == Array("still".utf8) })
        }
    }

    @Test("by its callback still comes before a shutdown", arguments: Variant.allCases)
    func shutdownAfterChain(variant: Variant) throws {
        try withLoop(variant) { loop in
            let (connection, peer) = try localPair(loop)
            connection.onSent = { _ in if connection.sent.count < 3 { connection.send("abc") } }
            connection.send("abc")
            sc_socket_shutdown(connection.pointer)
            try loop.run(until: { connection.sent.count == 3 })
            #expect(try peer.read(9) == Array("abcabcabc".utf8))
            #expect(try peer.waitForEnd())
        }
    }

    @Test("none, a shutdown is at once") func shutdownIdle() throws {
        try withLoop { loop in
            let (connection, peer) = try localPair(loop)
            sc_socket_shutdown(connection.pointer)
            #expect(try peer.waitForEnd())
            peer.close()
            try loop.run(until: { connection.end == 0 })
        }
    }
}

/// Raises the limit of descriptors as far as it goes.
func allowManyDescriptors() {
    var limit = rlimit()
    let descriptors = __rlimit_resource_t(7)  // RLIMIT_NOFILE
    guard getrlimit(descriptors, &limit) == 0 else { return }
    limit.rlim_cur = limit.rlim_max
    setrlimit(descriptors, &limit)
}
