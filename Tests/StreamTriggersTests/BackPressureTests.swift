import StreamModel
import StreamTriggers
import Testing

/// A trigger with up to four events waiting.
@Suite("A full queue of a trigger")
struct BackPressureTests {
    private var bench: Bench
    private let first: UInt64

    init() throws {
        var limits = TriggerLimits()
        limits.waiting = 4
        bench = Bench(limits: limits)
        _ = try bench.register("a", condition: "c")
        let lines = bench.change("busy", by: nil)
        first = runs(lines)[0]
        for number in 1...4 { #expect(bench.change("\(number)").isEmpty) }
    }

    private let dropped = "log trigger_event_dropped trigger=a"

    /// Answers conditions with false, so that each answer deals with one event.
    private mutating func answerAll(from run: UInt64, count: Int) -> [String] {
        var lines: [String] = []
        var run = run
        for _ in 0..<count {
            let answered = bench.answer(run, "false")
            lines += calls(answered)
            run = runs(answered).first ?? 0
        }
        return lines
    }

    @Test("the writer that goes over the limit is held, once") mutating func hold() {
        #expect(bench.change("5") == ["hold 1"])
        #expect(bench.change("6").isEmpty)
        #expect(bench.change("7", by: 2) == ["hold 2"])
        #expect(bench.evaluator.counters.holds == 2)
        #expect(bench.evaluator.counters.dropped == 0)
        #expect(bench.evaluator.waitingCount(of: Name("a")) == 7)
    }

    @Test("all that are held are released when half of the limit waits") mutating func release() {
        _ = bench.change("5")
        _ = bench.change("6", by: 2)
        #expect(answerAll(from: first, count: 3) == ["c 1", "c 2", "c 3"])
        #expect(bench.evaluator.nextDeadline == 31_000)
        // Two wait after the next.
        let lines = bench.answer(first + 3, "false")
        #expect(lines.first.map { calls([$0]) } == ["c 4"])
        #expect(Set(lines.dropFirst()) == ["release 1", "release 2"])
        #expect(bench.evaluator.nextDeadline == nil)
    }

    @Test("after its release a writer can be held again") mutating func holdAgain() {
        _ = bench.change("5")
        _ = answerAll(from: first, count: 3)
        #expect(bench.change("6").isEmpty)
        #expect(bench.change("7").isEmpty)
        #expect(bench.change("8") == ["hold 1"])
        #expect(bench.evaluator.counters.holds == 2)
    }

    @Test("the connection that serves the handler is never held: the oldest event goes")
    mutating func server() {
        bench.servers["fa"] = connectionID(1)
        #expect(bench.change("5") == [dropped])
        #expect(bench.evaluator.counters.dropped == 1)
        #expect(bench.evaluator.waitingCount(of: Name("a")) == 4)
        #expect(bench.change("6", by: 2) == ["hold 2"])
        #expect(answerAll(from: first, count: 1) == ["c 2"])
    }

    @Test("nor is the one that serves the condition") mutating func conditionServer() {
        bench.servers["c"] = connectionID(1)
        #expect(bench.change("5") == [dropped])
    }

    @Test("an event that no connection has written makes the oldest go") mutating func noWriter() {
        #expect(bench.change("5", by: nil) == [dropped])
        #expect(answerAll(from: first, count: 2) == ["c 2", "c 3"])
    }

    @Test("after the timeout the writers are let go, and the oldest events are dropped and counted")
    mutating func timeout() {
        _ = bench.change("5")
        _ = bench.change("6", by: 2)
        #expect(bench.evaluator.nextDeadline == 31_000)
        bench.now = 30_999
        #expect(bench.tick().isEmpty)
        bench.now = 31_000
        let lines = bench.tick()
        #expect(Set(lines) == ["release 1", "release 2", dropped])
        #expect(lines.filter { $0 == dropped }.count == 2)
        #expect(bench.evaluator.counters.dropped == 2)
        #expect(bench.evaluator.waitingCount(of: Name("a")) == 4)
        #expect(bench.evaluator.nextDeadline == nil)
        #expect(bench.tick().isEmpty)
    }

    @Test("from then on nobody is held and the oldest go, until half of the limit waits")
    mutating func dropping() {
        _ = bench.change("5")
        bench.now = 31_000
        _ = bench.tick()
        #expect(bench.change("6") == [dropped])
        #expect(bench.change("7", by: 2) == [dropped])
        #expect(answerAll(from: first, count: 2) == ["c 4", "c 5"])
        for number in 8...9 { #expect(bench.change("\(number)").isEmpty) }
        #expect(bench.change("10") == ["hold 1"])
    }

    @Test("the time is counted from the first that is held") mutating func deadline() {
        _ = bench.change("5")
        bench.now = 20_000
        _ = bench.change("6", by: 2)
        bench.now = 31_000
        #expect(Set(bench.tick()) == ["release 1", "release 2", dropped])
    }

    @Test("the bytes that wait fill the queue too") mutating func bytes() throws {
        var limits = TriggerLimits()
        limits.waitingSize = 100
        bench = Bench(limits: limits)
        _ = try bench.register("a")
        let lines = bench.change("busy", size: 1000)
        #expect(calls(lines) == ["fa busy"])
        #expect(bench.change("1", size: 100).isEmpty)
        #expect(bench.change("2", size: 1) == ["hold 1"])
        #expect(calls(bench.answer(runs(lines)[0])) == ["fa 1", "release 1"])
    }

    @Test("an event that can start is not one that waits: nobody is held and nothing goes for it")
    mutating func startsAtOnce() {
        #expect(calls(bench.change("x", item: "j")) == ["c x"])
        #expect(calls(bench.change("y", item: "k", by: nil)) == ["c y"])
        #expect(bench.evaluator.counters.dropped == 0)
        #expect(bench.evaluator.waitingCount(of: Name("a")) == 4)
    }

    @Test("a large event makes as many go as it needs room") mutating func largeEvent() throws {
        var limits = TriggerLimits()
        limits.waitingSize = 100
        bench = Bench(limits: limits)
        _ = try bench.register("a")
        _ = bench.change("busy")
        for number in 1...4 { #expect(bench.change("\(number)", size: 25).isEmpty) }
        #expect(bench.change("5", by: nil, size: 60) == [dropped, dropped, dropped])
        #expect(bench.evaluator.counters.dropped == 3)
        #expect(bench.evaluator.waitingCount(of: Name("a")) == 2)
    }

    @Test("a writer that has closed is not released") mutating func closedWriter() {
        _ = bench.change("5")
        _ = bench.change("6", by: 2)
        bench.evaluator.forget(connectionID(1))
        #expect(answerAll(from: first, count: 4) == ["c 1", "c 2", "c 3", "c 4", "release 2"])
    }

    @Test("a trigger that goes lets its writers go") mutating func gone() {
        _ = bench.change("5")
        #expect(bench.unregister("a") == ["release 1"])
        #expect(bench.evaluator.nextDeadline == nil)
        bench.now = 40_000
        #expect(bench.tick().isEmpty)
    }

    @Test("each trigger holds for itself: two holds of one writer are two releases")
    mutating func two() throws {
        _ = try bench.register("b")
        #expect(calls(bench.change("5", by: 1)) == ["hold 1", "fb 5"])
        for number in 6...9 { #expect(bench.change("\(number)").isEmpty) }
        #expect(bench.change("10") == ["hold 1"])
        bench.now = 31_000
        #expect(bench.tick().filter { $0 == "release 1" }.count == 2)
    }
}
