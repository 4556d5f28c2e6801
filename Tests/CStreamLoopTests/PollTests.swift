import CStreamLoop
import Glibc
import Testing

/// Long enough that whatever a test waits for comes while the loop looks.
private let long: UInt32 = 5_000_000

@Suite("Looking for work before sleeping")
struct PollTests {
    @Test("finds what a socket receives, and does not sleep", arguments: Variant.allCases)
    func socket(variant: Variant) throws {
        try withLoop(variant, { $0.poll_us = long }) { loop in
            let (connection, peer) = try localPair(loop)
            try loop.turns(1)
            let writer = TestThread {
                usleep(50_000)
                do { try peer.write([1, 2, 3]) } catch { Issue.record(error) }
            }
            defer { writer.join() }
            try loop.run(until: { !connection.received.isEmpty })
            #expect(connection.received == [1, 2, 3])
            #expect(loop.counters.polls > 0)
            #expect(loop.counters.polled_ns > 0)
            #expect(loop.counters.polls_in_vain == 0)
        }
    }

    @Test("sends what was left to send first", arguments: Variant.allCases)
    func submits(variant: Variant) throws {
        try withLoop(variant, { $0.poll_us = long }) { loop in
            let (connection, peer) = try localPair(loop)
            try loop.turns(1)
            connection.send("x")
            let reader = TestThread {
                // Its answer is what the loop looks for: without the send it would not come.
                do {
                    #expect(try peer.read(1) == [UInt8(ascii: "x")])
                    try peer.write([7])
                } catch { Issue.record(error) }
            }
            defer { reader.join() }
            try loop.run(until: { !connection.received.isEmpty })
            #expect(loop.counters.polls_in_vain == 0)
        }
    }

    @Test("ends when a timer is due", arguments: Variant.allCases) func timer(variant: Variant)
        throws
    {
        try withLoop(variant, { $0.poll_us = long }) { loop in
            var dueAt: UInt64 = 0
            let timer = TimerBox { dueAt = sc_loop_monotonic_ns(loop.loop) }
            try loop.turns(1)
            let start = sc_loop_monotonic_ns(loop.loop)
            timer.start(loop, 200)
            try loop.run(until: { dueAt != 0 })
            let took = dueAt - start
            #expect(took >= 200_000_000, "early")
            #expect(took < UInt64(long) * 1_000 / 2, "it looked on for \(took) ns")
            #expect(loop.counters.polls_in_vain > 0)
        }
    }

    @Test("sleeps after it has looked in vain", arguments: Variant.allCases)
    func sleeps(variant: Variant) throws {
        try withLoop(variant, { $0.poll_us = 1_000 }) { loop in
            try loop.turns(1)
            let before = loop.counters
            let usedBefore = processorTime()
            var isDue = false
            let timer = TimerBox { isDue = true }
            timer.start(loop, 300)
            try loop.run(until: { isDue })
            #expect(loop.counters.polls_in_vain - before.polls_in_vain > 0)
            #expect(processorTime() - usedBefore < 150_000_000, "it went on looking")
        }
    }

    @Test("is not done unless asked for", arguments: Variant.allCases) func never(variant: Variant)
        throws
    {
        try withLoop(variant) { loop in
            var isDue = false
            let timer = TimerBox { isDue = true }
            timer.start(loop, 5)
            try loop.run(until: { isDue })
            #expect(loop.counters.polls == 0 && loop.counters.polls_in_vain == 0)
        }
    }

    /// Nanoseconds of this thread.
    private func processorTime() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
}
