import CStreamLoop
import Glibc
import SeededRandom
import Testing

@Suite("Timers")
struct TimerTests {
    private func now() -> UInt64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    @Test("are due in the order of their times, and never early", arguments: Variant.allCases)
    func order(variant: Variant) throws {
        try withLoop(variant) { loop in
            let delays: [UInt64] = [7, 3, 9, 1, 5, 0, 8, 2, 6, 4]
            var due: [UInt64] = []
            let start = now()
            let timers = delays.map { delay in
                TimerBox {
                    due.append(delay)
                    #expect(now() >= start + delay * 1_000_000, "\(delay) is early")
                }
            }
            for (timer, delay) in zip(timers, delays) { timer.start(loop, delay) }
            #expect(timers.allSatisfy { $0.isRunning })
            try loop.run(until: { due.count == delays.count })
            #expect(due == delays.sorted())
            #expect(!timers.contains { $0.isRunning })
        }
    }

    @Test("end the sleep of a loop that has nothing else to do", arguments: Variant.allCases)
    func wakes(variant: Variant) throws {
        try withLoop(variant) { loop in
            var isDue = false
            let timer = TimerBox { isDue = true }
            timer.start(loop, 20)
            let turns = loop.counters.turns
            try loop.run(until: { isDue })
            // It slept: the number of turns says nothing about the time, but it is small.
            #expect(loop.counters.turns - turns < 10)
        }
    }

    @Test("can be moved either way and stopped") func restart() throws {
        try withLoop { loop in
            var due: [String] = []
            let a = TimerBox { due.append("a") }
            let b = TimerBox { due.append("b") }
            let c = TimerBox { due.append("c") }
            let d = TimerBox { due.append("d") }
            a.start(loop, 1)
            b.start(loop, 1_000_000)
            c.start(loop, 5)
            d.start(loop, 2)
            a.start(loop, 10)
            b.start(loop, 3)
            d.stop(loop)
            d.stop(loop)
            #expect(!d.isRunning)
            try loop.run(until: { due.count == 3 })
            #expect(due == ["b", "c", "a"])
        }
    }

    @Test("may stop each other and start again in their callbacks") func callbacks() throws {
        try withLoop { loop in
            var due: [String] = []
            let second = TimerBox { due.append("second") }
            let first = TimerBox {
                due.append("first")
                second.stop(loop)
            }
            first.start(loop, 0)
            second.start(loop, 0)
            try loop.run(until: { !due.isEmpty })
            try loop.turns(2)
            #expect(due == ["first"])

            // One that starts itself again at once waits for the next turn, or a turn would never end.
            var dueInTurn = 0
            var mostInTurn = 0
            loop.onTurn = {
                mostInTurn = max(mostInTurn, dueInTurn)
                dueInTurn = 0
            }
            var count = 0
            var again: TimerBox?
            let timer = TimerBox {
                count += 1
                dueInTurn += 1
                if let again { again.start(loop, 0) }
            }
            again = timer
            timer.start(loop, 0)
            try loop.run(until: { count == 50 })
            #expect(mostInTurn == 1)
            timer.stop(loop)
            again = nil
            loop.onTurn = nil
        }
    }

    @Test(
        "of centuries are as good as none",
        arguments: [UInt64.max, UInt64.max / 1_000_000, 1 << 62])
    func huge(delay: UInt64) throws {
        try withLoop { loop in
            var isDue = false
            let far = TimerBox { Issue.record("due after \(delay) ms") }
            let near = TimerBox { isDue = true }
            far.start(loop, delay)
            near.start(loop, 1)
            try loop.run(until: { isDue })
            #expect(far.isRunning)
            far.stop(loop)
        }
    }

    @Test("keep their order over random starts, moves and stops") func random() throws {
        var generator = SeededGenerator(seed: randomSeed())
        try withLoop { loop in
            var due: [Int] = []
            var dueAt: [Int: UInt64] = [:]
            let timers = (0..<500).map { i in
                TimerBox { due.append(i) }
            }
            for _ in 0..<5_000 {
                let i = Int.random(in: 0..<timers.count, using: &generator)
                if Int.random(in: 0..<4, using: &generator) == 0 {
                    timers[i].stop(loop)
                    dueAt[i] = nil
                } else {
                    timers[i].start(loop, UInt64.random(in: 0..<40, using: &generator))
                    dueAt[i] = timers[i].pointer.pointee.due_ns
                }
            }
            #expect(timers.indices.allSatisfy { timers[$0].isRunning == (dueAt[$0] != nil) })
            try loop.run(until: { due.count == dueAt.count })
            #expect(Set(due) == Set(dueAt.keys))
            let times = due.compactMap { dueAt[$0] }
            #expect(times == times.sorted())
            try loop.turns(3)
            #expect(due.count == dueAt.count)
        }
    }
}
