import CStreamBase
import CStreamLoop
import Glibc
import SeededRandom
import Testing

@Suite("Receiving")
struct ReceiveTests {
    @Test(
        "gives all bytes in their order, then the end of the stream once",
        arguments: Variant.allCases)
    func stream(variant: Variant) throws {
        try withLoop(variant) { loop in
            let listener = try Listener(loop)
            let (connection, peer) = try connectedPair(loop, listener)
            let bytes = pattern(1_000_000)
            let writer = TestThread {
                do {
                    try peer.write(bytes)
                    peer.finish()
                } catch { Issue.record(error) }
            }
            defer { writer.join() }
            try loop.run(until: { connection.end != nil })
            #expect(connection.end == 0)
            #expect(connection.received == bytes)
            #expect(loop.counters.receives == UInt64(connection.receives))
            try loop.turns(3)
        }
    }

    @Test("tells a reset from an end", arguments: Variant.allCases) func reset(variant: Variant)
        throws
    {
        try withLoop(variant) { loop in
            let listener = try Listener(loop)
            let (connection, peer) = try connectedPair(loop, listener)
            try loop.turns(2)
            peer.reset()
            try loop.run(until: { connection.end != nil })
            #expect(connection.end == -ECONNRESET)
        }
    }

    @Test(
        "lends memory that may be written to, of the configured size", arguments: [16, 100, 4096])
    func bufferSize(size: Int) throws {
        try withLoop({ $0.receive_buffer_size = UInt32(size) }) { loop in
            let (connection, peer) = try localPair(loop)
            var sizes: [Int] = []
            connection.onReceive = { bytes in
                sizes.append(bytes.count)
                bytes.update(repeating: 0xAA)
            }
            try peer.write(pattern(size * 3))
            try loop.run(until: { connection.received.count == size * 3 })
            #expect(sizes.allSatisfy { $0 <= size })
            #expect(connection.received == pattern(size * 3))
        }
    }

    /// The loop wakes up by itself for it; there is no timer and no traffic.
    @Test("gives the memory of its buffers back in a pause, and loses nothing by that")
    func trimming() throws {
        try withLoop { loop in
            let (connection, peer) = try localPair(loop)
            for round in 1...2 {
                let bytes = pattern(100_000, from: round * 100_000)
                let before = connection.received.count
                try peer.write(bytes)
                try loop.run(until: { connection.received.count == before + bytes.count })
                #expect(Array(connection.received[before...]) == bytes)
                #expect(loop.counters.receive_buffers_trimmed == UInt64(round - 1))
                try loop.run(until: { loop.counters.receive_buffers_trimmed == UInt64(round) })
            }
        }
    }

    // MARK: Buffers that run out

    @Test("goes on when buffers had run out, with nothing lost", arguments: Variant.allCases)
    func exhaustion(variant: Variant) throws {
        try withLoop(
            variant,
            {
                $0.receive_buffer_size = 64
                $0.receive_buffer_count = 4
            }
        ) { loop in
            let (connection, peer) = try localPair(loop)
            let bytes = pattern(60_000)
            try peer.write(bytes)
            peer.finish()
            try loop.run(until: { connection.end != nil })
            #expect(connection.received == bytes)
            #expect(loop.counters.receive_buffers_exhausted > 0)
        }
    }

    @Test("serves those that wait for buffers in turn", arguments: Variant.allCases)
    func fairness(variant: Variant) throws {
        try withLoop(
            variant,
            {
                $0.receive_buffer_size = 64
                $0.receive_buffer_count = 4
            }
        ) { loop in
            let size = 8_000
            let pairs = try (0..<12).map { _ in try localPair(loop) }
            for (_, peer) in pairs { try peer.write(pattern(size)) }
            var leastWhenOneWasDone: Int?
            for (connection, _) in pairs {
                connection.onReceive = { _ in
                    guard connection.received.count == size, leastWhenOneWasDone == nil else {
                        return
                    }
                    leastWhenOneWasDone = pairs.map(\.0.received.count).min()
                }
            }
            try loop.run(until: { pairs.allSatisfy { $0.0.received.count == size } })
            for (connection, _) in pairs { #expect(connection.received == pattern(size)) }
            #expect(loop.counters.receive_buffers_exhausted > 0)
            // Nobody is through before everybody had a good part.
            #expect(leastWhenOneWasDone ?? 0 >= size / 8)
        }
    }

    @Test(
        "of one that waits for buffers can be paused, resumed and closed",
        arguments: Variant.allCases)
    func starvedStates(variant: Variant) throws {
        let starved: UInt16 = 8
        try withLoop(
            variant,
            {
                $0.receive_buffer_size = 64
                $0.receive_buffer_count = 4
            }
        ) { loop in
            let pairs = try (0..<9).map { _ in try localPair(loop) }
            for (_, peer) in pairs { try peer.write(pattern(4_000)) }
            // Without a ring those that wait for buffers stand in the backend's line, and the loop does not see it.
            let waits = variant != .epoll
            var seen = [0, 0, 0]
            loop.onTurn = {
                for (i, (connection, _)) in pairs.enumerated() where !connection.isClosing {
                    let isWaiting =
                        waits
                        ? connection.pointer.pointee.flags & starved != 0
                        : loop.counters.receive_buffers_exhausted > 0
                            && connection.received.count < 4_000
                    guard isWaiting else { continue }
                    seen[i % 3] += 1
                    switch i % 3 {
                    case 0: connection.close()
                    case 1:
                        sc_socket_pause(connection.pointer)
                        sc_socket_resume(connection.pointer)
                    default: break
                    }
                }
            }
            let open = pairs.enumerated().filter { $0.offset % 3 != 0 }.map(\.element.0)
            try loop.run(until: { open.allSatisfy { $0.received.count == 4_000 } })
            for connection in open { #expect(connection.received == pattern(4_000)) }
            // The test is one of that state only if it was met.
            try #require(seen.allSatisfy { $0 > 0 }, "\(seen)")
            loop.onTurn = nil
            try loop.run(until: { pairs.allSatisfy { $0.0.isClosed || !$0.0.isClosing } })
        }
    }

    // MARK: The share of a turn

    @Test(
        "gives one socket its share of a turn, and the rest in the next ones",
        arguments: Variant.allCases)
    func share(variant: Variant) throws {
        let share = 8_192
        try withLoop(variant, { $0.receive_bytes_per_turn = UInt32(share) }) { loop in
            let (connection, peer) = try localPair(loop)
            let (small, smallPeer) = try localPair(loop)
            let bytes = pattern(150_000)
            try peer.write(bytes)
            try smallPeer.write("x")
            peer.finish()
            var before = 0
            var mostOfATurn = 0
            loop.onTurn = {
                mostOfATurn = max(mostOfATurn, connection.received.count - before)
                before = connection.received.count
            }
            var whenSmallCame: Int?
            small.onReceive = { _ in whenSmallCame = connection.received.count }
            try loop.run(until: { connection.end != nil && !small.received.isEmpty })
            #expect(connection.received == bytes)
            #expect(connection.end == 0)
            // What comes over the border comes as a whole buffer.
            #expect(mostOfATurn < share + 4_096)
            #expect(loop.counters.receives_deferred > 0)
            #expect(whenSmallCame ?? bytes.count < bytes.count / 2)
        }
    }

    @Test("of one that has had its share can be closed and paused", arguments: Variant.allCases)
    func shareAndClose(variant: Variant) throws {
        // Small buffers, so that the bytes come in more turns than there are pauses.
        let small = { (config: inout sc_loop_config) in
            config.receive_bytes_per_turn = 1_000
            config.receive_buffer_size = 2_048
        }
        try withLoop(variant, small) { loop in
            let (closing, closingPeer) = try localPair(loop)
            let (pausing, pausingPeer) = try localPair(loop)
            try closingPeer.write(pattern(100_000))
            try pausingPeer.write(pattern(100_000))
            var paused = 0
            loop.onTurn = {
                if loop.counters.receives_deferred > 0, !closing.isClosing { closing.close() }
                if paused < 20, !pausing.received.isEmpty {
                    paused += 1
                    if paused % 2 == 1 {
                        sc_socket_pause(pausing.pointer)
                    } else {
                        sc_socket_resume(pausing.pointer)
                    }
                }
            }
            try loop.run(until: {
                closing.isClosed && pausing.received.count == 100_000 && paused == 20
            })
            #expect(closing.received == pattern(closing.received.count))
            #expect(pausing.received == pattern(100_000))
            loop.onTurn = nil
        }
    }

    // MARK: Contention

    @Test(
        "gives each socket one buffer a turn while receives take long, and what it had when they no longer do",
        arguments: Variant.allCases)
    func contention(variant: Variant) throws {
        let buffer = 2_048
        let configure = { (config: inout sc_loop_config) in
            config.receive_buffer_size = UInt32(buffer)
            config.contended_us = 200
        }
        try withLoop(variant, configure) { loop in
            let senders = try (0..<4).map { _ in try localPair(loop) }
            let (small, smallPeer) = try localPair(loop)
            let bytes = pattern(150_000)
            for (connection, peer) in senders {
                connection.onReceive = { _ in usleep(200) }
                try peer.write(bytes)
            }
            var before = senders.map { _ in 0 }
            var mostOfATurn = 0
            loop.onTurn = {
                let counts = senders.map { $0.0.received.count }
                if loop.counters.turns_contended > 1 {
                    mostOfATurn = max(mostOfATurn, zip(counts, before).map { $0 - $1 }.max() ?? 0)
                }
                before = counts
            }
            try loop.run(until: { loop.counters.turns_contended > 3 })
            let written = senders.map { $0.0.received.count }
            try smallPeer.write("x")
            try loop.run(until: { !small.received.isEmpty })
            let meanwhile = zip(senders.map { $0.0.received.count }, written).map { $0 - $1 }
            #expect(meanwhile.allSatisfy { $0 <= 4 * buffer }, "\(meanwhile)")
            try loop.run(until: { senders.allSatisfy { $0.0.received == bytes } })
            #expect(mostOfATurn > 0 && mostOfATurn <= buffer)

            // Quick receives make it calm, turn by turn.
            loop.onTurn = nil
            for (connection, _) in senders { connection.onReceive = nil }
            var turns: UInt64 = 0
            repeat {
                turns = loop.counters.turns_contended
                let count = small.received.count
                try smallPeer.write("x")
                try loop.run(until: { small.received.count > count })
            } while loop.counters.turns_contended > turns
            #expect(turns >= 1_000)
            let (connection, peer) = senders[0]
            mostOfATurn = 0
            before = [connection.received.count]
            loop.onTurn = {
                mostOfATurn = max(mostOfATurn, connection.received.count - before[0])
                before = [connection.received.count]
            }
            try peer.write(bytes)
            try loop.run(until: { connection.received.count == 2 * bytes.count })
            #expect(mostOfATurn > buffer)
        }
    }

    // MARK: Pausing

    @Test("stops while it is paused, and goes on where it was", arguments: Variant.allCases)
    func pause(variant: Variant) throws {
        try withLoop(variant) { loop in
            let (connection, peer) = try localPair(loop)
            try peer.write("before")
            try loop.run(until: { connection.received.count == 6 })
            sc_socket_pause(connection.pointer)
            try loop.turns(3)  // The pause has reached the kernel.
            try peer.write("while")
            peer.finish()
            try loop.turns(5)
            #expect(connection.received == Array("before".utf8))
            #expect(connection.end == nil)
            sc_socket_resume(connection.pointer)
            try loop.run(until: { connection.end != nil })
            #expect(connection.received == Array("beforewhile".utf8))
        }
    }

    @Test(
        "loses and repeats nothing, however often it is paused and resumed",
        arguments: Variant.allCases)
    func flicker(variant: Variant) throws {
        try withLoop(variant) { loop in
            var generator = SeededGenerator(seed: randomSeed())
            let (connection, peer) = try localPair(loop)
            let bytes = pattern(400_000)
            let writer = TestThread {
                do {
                    try peer.write(bytes)
                    peer.finish()
                } catch { Issue.record(error) }
            }
            defer { writer.join() }
            connection.onReceive = { _ in
                // Any number of times in a row, and last of all resumed in the turn.
                for _ in 0..<Int.random(in: 0..<4, using: &generator) {
                    sc_socket_pause(connection.pointer)
                    if Bool.random(using: &generator) { sc_socket_resume(connection.pointer) }
                }
            }
            loop.onTurn = { if connection.end == nil { sc_socket_resume(connection.pointer) } }
            try loop.run(until: { connection.end != nil })
            #expect(connection.received == bytes)
            loop.onTurn = nil
        }
    }

    @Test("may be resumed after its end, and says nothing twice") func resumeAfterEnd() throws {
        try withLoop { loop in
            let (connection, peer) = try localPair(loop)
            peer.close()
            try loop.run(until: { connection.end != nil })
            sc_socket_pause(connection.pointer)
            sc_socket_resume(connection.pointer)
            try loop.turns(3)
            #expect(connection.end == 0)
        }
    }
}
