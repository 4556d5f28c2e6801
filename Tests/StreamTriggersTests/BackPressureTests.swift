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

    private func dropped(_ count: Int) -> String {
        "log trigger_events_dropped trigger=a triggers=1 count=\(count)"
    }

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
        #expect(bench.evaluator.nextDeadline == .milliseconds(31_000))
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
        #expect(bench.change("5").isEmpty)
        #expect(bench.tick() == [dropped(1)])
        #expect(bench.evaluator.counters.dropped == 1)
        #expect(bench.evaluator.waitingCount(of: Name("a")) == 4)
        #expect(bench.change("6", by: 2) == ["hold 2"])
        #expect(answerAll(from: first, count: 1) == ["c 2"])
    }

    @Test("nor is the one that serves the condition") mutating func conditionServer() {
        bench.servers["c"] = connectionID(1)
        #expect(bench.change("5").isEmpty)
        #expect(bench.evaluator.counters.dropped == 1)
    }

    @Test("an event that no connection has written makes the oldest go") mutating func noWriter() {
        #expect(bench.change("5", by: nil).isEmpty)
        #expect(bench.evaluator.counters.dropped == 1)
        #expect(answerAll(from: first, count: 2) == ["c 2", "c 3"])
    }

    @Test("after the timeout the writers are let go, and the oldest events are dropped and counted")
    mutating func timeout() {
        _ = bench.change("5")
        _ = bench.change("6", by: 2)
        #expect(bench.evaluator.nextDeadline == .milliseconds(31_000))
        bench.now = .milliseconds(30_999)
        #expect(bench.tick().isEmpty)
        bench.now = .milliseconds(31_000)
        let lines = bench.tick()
        #expect(Set(lines) == ["release 1", "release 2", dropped(2)])
        #expect(bench.evaluator.counters.dropped == 2)
        #expect(bench.evaluator.waitingCount(of: Name("a")) == 4)
        #expect(bench.evaluator.nextDeadline == nil)
        #expect(bench.tick().isEmpty)
    }

    @Test("from then on nobody is held and the oldest go, until half of the limit waits")
    mutating func dropping() {
        _ = bench.change("5")
        bench.now = .milliseconds(31_000)
        _ = bench.tick()
        #expect(bench.change("6").isEmpty)
        #expect(bench.change("7", by: 2).isEmpty)
        #expect(bench.evaluator.counters.dropped == 3)
        #expect(answerAll(from: first, count: 2) == ["c 4", "c 5"])
        for number in 8...9 { #expect(bench.change("\(number)").isEmpty) }
        #expect(bench.change("10") == ["hold 1"])
    }

    @Test("the time is counted from the first that is held") mutating func deadline() {
        _ = bench.change("5")
        bench.now = .milliseconds(20_000)
        _ = bench.change("6", by: 2)
        bench.now = .milliseconds(31_000)
        #expect(Set(bench.tick()) == ["release 1", "release 2", dropped(2)])
    }

    @Test("what is dropped is said once a second, with how much it was") mutating func notice() {
        for number in 5...7 { _ = bench.change("\(number)", by: nil) }
        #expect(bench.evaluator.nextDeadline == .milliseconds(0))
        #expect(bench.tick() == [dropped(3)])
        #expect(bench.evaluator.nextDeadline == nil)
        _ = bench.change("8", by: nil)
        #expect(bench.evaluator.nextDeadline == .milliseconds(2000))
        #expect(bench.tick().isEmpty)
        bench.now = .milliseconds(2000)
        #expect(bench.tick() == [dropped(1)])
    }

    /// The core stops a writer a little later: what it had sent before must not grow for ever.
    @Test("a writer that goes on though it is held makes the oldest go, far over the limit")
    mutating func farOver() {
        #expect(bench.change("5") == ["hold 1"])
        for number in 6...(4 + TriggerLimits.heldMax) { _ = bench.change("\(number)") }
        #expect(bench.evaluator.counters.dropped == 0)
        _ = bench.change("one more")
        #expect(bench.evaluator.waitingCount(of: Name("a")) == 4)
        #expect(bench.evaluator.counters.dropped == UInt64(TriggerLimits.heldMax + 1))
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
        #expect(bench.change("5", by: nil, size: 60).isEmpty)
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
        bench.now = .milliseconds(40_000)
        #expect(bench.tick().isEmpty)
    }

    @Test("what waits of each writer is told when it has changed") mutating func changed() {
        _ = bench.evaluator.takeChangedWriters()
        _ = bench.change("5", size: 7)
        _ = bench.change("6", by: 2, size: 9)
        func told() -> [String] {
            bench.evaluator.takeChangedWriters().map {
                "\($0.writer.rawValue) \($0.size) \($0.change)"
            }.sorted()
        }
        #expect(told() == ["1 11 7", "2 9 9"])
        #expect(told() == [])
        _ = bench.unregister("a")
        #expect(told() == ["1 7 -4"], "the oldest four go at once")
        var actions: TriggerEvaluator.Actions = []
        while bench.evaluator.hasForgotten { bench.evaluator.forgetMore(into: &actions) }
        #expect(told() == ["1 0 -7", "2 0 -9"])
    }

    @Test("many events of a trigger that goes are taken out in steps", arguments: [4, 5])
    mutating func goneInSteps(count: Int) {
        bench = Bench()
        _ = try? bench.register("a")
        _ = bench.change("busy")
        for number in 0..<count { _ = bench.change("\(number)", size: 10) }
        _ = bench.unregister("a")
        #expect(bench.evaluator.hasForgotten == (count > 4))
        #expect(bench.evaluator.isWaiting(for: connectionID(1)) == (count > 4))
        var actions: TriggerEvaluator.Actions = []
        while bench.evaluator.hasForgotten { bench.evaluator.forgetMore(into: &actions) }
        #expect(!bench.evaluator.isWaiting(for: connectionID(1)))
        #expect(bench.evaluator.pendingCount == 1, "the call under way")
    }

    @Test("an event that comes while as many are handled as may be is counted")
    mutating func callWaits() throws {
        var limits = TriggerLimits()
        limits.inFlight = 2
        bench = Bench(limits: limits)
        _ = try bench.register("a")
        _ = bench.change("1", item: "i")
        _ = bench.change("2", item: "j")
        #expect(bench.evaluator.counters.callWaits == 0)
        #expect(bench.change("3", item: "k").isEmpty)
        #expect(bench.evaluator.counters.callWaits == 1)
    }

    @Test("a writer that two triggers hold is held once, and let go by the last")
    mutating func two() throws {
        _ = try bench.register("b")
        #expect(calls(bench.change("5", by: 1)) == ["hold 1", "fb 5"])
        for number in 6...10 { #expect(bench.change("\(number)").isEmpty) }
        #expect(bench.evaluator.counters.holds == 1)
        #expect(bench.unregister("a").isEmpty)
        bench.now = .milliseconds(31_000)
        #expect(bench.tick().filter { $0 == "release 1" }.count == 1)
    }

    @Test("a writer is held for all its bytes that wait, at whatever triggers")
    mutating func bytesOfWriter() throws {
        var limits = TriggerLimits()
        limits.waitingSizePerWriter = 100
        bench = Bench(limits: limits)
        for id in ["a", "b"] { _ = try bench.register(id) }
        let started = runs(bench.change("busy", by: nil))
        #expect(bench.change("1", size: 50).isEmpty)
        #expect(bench.change("2", size: 1) == ["hold 1"])
        #expect(bench.evaluator.isHeld(connectionID(1)))
        #expect(bench.evaluator.nextDeadline == .milliseconds(31_000))
        #expect(bench.change("3", by: 2, size: 100) == ["hold 2"])
        #expect(calls(bench.answer(started[0])) == ["fa 1"])
        #expect(calls(bench.answer(started[1])) == ["release 1", "fb 1"])
        #expect(!bench.evaluator.isHeld(connectionID(1)))
        bench.now = .milliseconds(31_000)
        #expect(bench.tick() == ["release 2"])
        // It makes the oldest go from now on.
        #expect(bench.change("4", by: 2, size: 1).isEmpty)
        #expect(bench.evaluator.counters.dropped > 0)
    }
}

/// A worker that serves handlers is given so many calls, and no more.
@Suite("A server of handlers")
struct TriggerServerTests {
    private var bench: Bench

    init() throws {
        var limits = TriggerLimits()
        limits.inFlightPerServer = 3
        limits.inFlightSizePerServer = 100
        bench = Bench(limits: limits)
        for id in ["a", "b"] {
            _ = try bench.register(id)
            bench.servers["f\(id)"] = connectionID(9)
        }
    }

    @Test("what is over its calls waits, and each answer lets one more in, of all triggers in turn")
    mutating func count() {
        #expect(calls(bench.change("1", item: "i")) == ["fa 1", "fb 1"])
        let lines = bench.change("2", item: "j")
        #expect(calls(lines) == ["fa 2"])
        #expect(bench.change("3", item: "k").isEmpty)
        #expect(calls(bench.answer(runs(lines)[0])) == ["fb 2"])
        #expect(bench.evaluator.waitingCount(of: Name("a")) == 1)
        #expect(bench.evaluator.waitingCount(of: Name("b")) == 1)
        #expect(bench.evaluator.counters.serverWaits > 0)
    }

    @Test("nothing is lost: in the end all are handled") mutating func all() {
        var waiting = runs(bench.change("0", item: "0"))
        for number in 1..<50 { waiting += runs(bench.change("\(number)", item: "\(number)")) }
        while let run = waiting.popLast() { waiting += runs(bench.answer(run)) }
        #expect(bench.evaluator.counters.handled == 100)
        #expect(bench.evaluator.pendingCount == 0)
    }

    @Test("one large event is let in alone", arguments: [1000])
    mutating func bytes(size: Int) throws {
        _ = bench.unregister("b")
        let lines = bench.change("large", item: "i", size: size)
        #expect(calls(lines) == ["fa large"])
        #expect(bench.change("small", item: "j", size: 1).isEmpty)
        #expect(calls(bench.answer(runs(lines)[0])) == ["fa small"])
        #expect(calls(bench.change("99", item: "k", size: 99)) == ["fa 99"])
        #expect(bench.change("over", item: "l", size: 1).isEmpty)
    }

    @Test("functions of other workers do not wait for it") mutating func others() throws {
        _ = bench.change("1", item: "i")
        _ = bench.change("2", item: "j")
        _ = try bench.register("c")
        bench.servers["fc"] = connectionID(8)
        #expect(calls(bench.change("3", item: "k")) == ["fc 3"])
    }
}
