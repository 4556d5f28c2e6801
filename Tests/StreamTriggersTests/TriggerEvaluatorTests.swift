import StreamModel
import StreamTriggers
import Testing

@Suite("Evaluation of triggers")
struct TriggerEvaluatorTests {
    private var bench = Bench()

    // MARK: Order

    @Test("an event calls its triggers in their order, none waiting for another")
    mutating func independent() throws {
        for id in ["b", "a"] { _ = try bench.register(id) }
        #expect(calls(bench.change("1")) == ["fb 1", "fa 1"])
        #expect(bench.evaluator.counters.handled == 2)
    }

    @Test("one trigger handles the events of one item one after the other") mutating func perItem()
        throws
    {
        _ = try bench.register("a")
        let first = bench.change("1")
        #expect(calls(first) == ["fa 1"])
        #expect(bench.change("2").isEmpty)
        #expect(calls(bench.change("3", item: "j")) == ["fa 3"])
        #expect(bench.evaluator.waitingCount(of: Name("a")) == 1)
        #expect(calls(bench.answer(runs(first)[0])) == ["fa 2"])
    }

    @Test("the condition is part of the order") mutating func conditionInOrder() throws {
        _ = try bench.register("a", condition: "c")
        let condition = bench.change("1")
        #expect(calls(condition) == ["c 1"])
        #expect(bench.change("2").isEmpty)
        let handler = bench.answer(runs(condition)[0], "true")
        #expect(calls(handler) == ["fa 1"])
        #expect(calls(bench.answer(runs(handler)[0])) == ["c 2"])
    }

    @Test("events without an item keep their order within the group") mutating func perGroup()
        throws
    {
        _ = try bench.register("a")
        let first = bench.change("1", item: nil)
        #expect(calls(first) == ["fa 1"])
        #expect(bench.change("2", item: nil).isEmpty)
        #expect(calls(bench.change("3", item: "")) == ["fa 3"])
        #expect(calls(bench.answer(runs(first)[0])) == ["fa 2"])
    }

    @Test("the results of handlers do not matter", arguments: [nil, "false", "null", "{}", "5"])
    mutating func results(result: String?) throws {
        _ = try bench.register("a")
        let first = bench.change("1")
        #expect(bench.change("2").isEmpty)
        #expect(calls(bench.answer(runs(first)[0], result)) == ["fa 2"])
        #expect(bench.evaluator.counters.skipped == 0)
    }

    @Test("events in lanes of their own run at once") mutating func loneLanes() throws {
        _ = try bench.register("a", "engine::workers-available")
        let triggers = bench.registry.triggers(onEventOf: "engine::workers-available")
        for number in 0..<3 {
            let event = TriggerEvent(
                input: CallInput.text(text("\(number)")), lane: bench.evaluator.loneLane(),
                writer: nil, size: 1, authors: [Name("z")])
            #expect(calls(bench.fire(event, triggers)) == ["fa \(number) [\"a\", \"z\"]"])
        }
    }

    @Test("256 events are in flight for a trigger, and no more") mutating func inFlight() throws {
        _ = try bench.register("a")
        _ = try bench.register("b", group: "g")
        var started: [UInt64] = []
        for number in 0..<256 {
            let lines = bench.change("x", item: "\(number)")
            #expect(calls(lines) == ["fa x", "fb x"])
            started += runs(lines)
        }
        #expect(bench.change("next", item: "next").isEmpty)
        #expect(calls(bench.answer(started[0])) == ["fa next"])
        #expect(calls(bench.answer(started[1])) == ["fb next"])
        #expect(bench.evaluator.pendingCount == 512)
    }

    // MARK: Conditions

    @Test("the JSON value false skips the handler") mutating func conditionFalse() throws {
        _ = try bench.register("a", condition: "c")
        let condition = bench.change("1")
        #expect(bench.answer(runs(condition)[0], "false").isEmpty)
        #expect(bench.evaluator.counters.skipped == 1)
        #expect(bench.evaluator.counters.handled == 0)
        #expect(bench.evaluator.pendingCount == 0)
    }

    @Test(
        "any other value, and none, lets the handler run",
        arguments: [nil, "true", "0", "\"\"", "\"false\"", "{}", "[]", "[false]", #"{"a":false}"#])
    mutating func conditionOther(result: String?) throws {
        _ = try bench.register("a", condition: "c")
        let condition = bench.change("1")
        #expect(calls(bench.answer(runs(condition)[0], result)) == ["fa 1"])
        #expect(bench.evaluator.counters.handled == 1)
    }

    @Test(
        "a condition that fails, is missing or times out skips the handler, and is logged",
        arguments: ["boom", "function_not_found", "invocation_timeout"])
    mutating func conditionFails(code: String) throws {
        _ = try bench.register("a", condition: "c")
        let condition = bench.change("1")
        #expect(bench.change("2").isEmpty)
        let lines = bench.fail(runs(condition)[0], code)
        #expect(
            calls(lines) == [
                "log trigger_condition_failed trigger=a function_id=fa code=\(code)", "c 2",
            ])
        #expect(bench.evaluator.counters.failed == 1)
        #expect(bench.evaluator.counters.timedOut == (code == "invocation_timeout" ? 1 : 0))
        #expect(bench.evaluator.counters.handled == 0)
    }

    @Test(
        "a handler that fails, is missing or times out is logged, and the next event follows",
        arguments: ["boom", "function_not_found", "invocation_timeout"])
    mutating func handlerFails(code: String) throws {
        _ = try bench.register("a")
        let first = bench.change("1")
        #expect(bench.change("2").isEmpty)
        #expect(
            calls(bench.fail(runs(first)[0], code))
                == ["log trigger_handler_failed trigger=a function_id=fa code=\(code)", "fa 2"])
        #expect(bench.evaluator.counters.failed == 1)
        #expect(bench.evaluator.counters.timedOut == (code == "invocation_timeout" ? 1 : 0))
    }

    @Test("an answer counts once, and an unknown one not at all") mutating func unknownRun() throws
    {
        _ = try bench.register("a")
        let first = bench.change("1")
        #expect(bench.answer(runs(first)[0]).isEmpty)
        #expect(bench.change("2").count == 1)
        #expect(bench.change("3").isEmpty)
        #expect(bench.answer(runs(first)[0]).isEmpty)
        #expect(bench.answer(999).isEmpty)
        #expect(bench.evaluator.waitingCount(of: Name("a")) == 1)
    }

    // MARK: Triggers that go

    @Test("the events of a trigger that is gone go with it") mutating func gone() throws {
        _ = try bench.register("a")
        let first = bench.change("1")
        #expect(bench.change("2").isEmpty)
        #expect(bench.unregister("a").isEmpty)
        #expect(bench.answer(runs(first)[0]).isEmpty)
        #expect(bench.evaluator.pendingCount == 0)
    }

    @Test("a condition that answers for a trigger that is gone calls no handler")
    mutating func goneInCondition() throws {
        _ = try bench.register("a", condition: "c")
        let condition = bench.change("1")
        _ = bench.unregister("a")
        #expect(bench.answer(runs(condition)[0], "true").isEmpty)
        #expect(bench.evaluator.counters.handled == 0)
    }

    @Test("a later trigger of the same id does not wait for the calls of the one before")
    mutating func comesBack() throws {
        _ = try bench.register("a")
        let old = bench.change("1")
        _ = bench.unregister("a")
        _ = try bench.register("a")
        #expect(calls(bench.change("2")) == ["fa 2"])
        #expect(bench.change("3").isEmpty)
        #expect(bench.answer(runs(old)[0]).isEmpty)
        #expect(bench.evaluator.waitingCount(of: Name("a")) == 1)
    }

    @Test("a replacement that listens to the same gets the events that wait")
    mutating func inherits() throws {
        _ = try bench.register("a")
        let first = bench.change("1")
        #expect(bench.change("2").isEmpty)
        #expect(try bench.register("a", function: "new").isEmpty)
        #expect(calls(bench.answer(runs(first)[0])) == ["new 2"])
    }

    @Test("a replacement that listens to something else does not") mutating func inheritsNothing()
        throws
    {
        _ = try bench.register("a")
        let first = bench.change("1")
        #expect(bench.change("2").isEmpty)
        _ = try bench.register("a", function: "new", group: "g")
        #expect(bench.answer(runs(first)[0]).isEmpty)
        #expect(calls(bench.change("3")) == ["new 3"])
    }

    @Test("trigger calls have the time limit of the settings") mutating func timeLimit() throws {
        var limits = TriggerLimits()
        limits.timeout = .milliseconds(7)
        bench = Bench(limits: limits)
        _ = try bench.register("a", condition: "c")
        let condition = bench.change("1")
        #expect(calls(condition) == ["c 1 7"])
        #expect(calls(bench.answer(runs(condition)[0])) == ["fa 1 7"])
        #expect(TriggerLimits().timeout == .seconds(30))
        #expect(TriggerLimits().inFlight == 256)
        #expect(TriggerLimits().waiting == 10_000)
    }

    // MARK: Against a model

    /// Whatever the order of the answers: every event once, those of one item in their order, no two at once.
    @Test("any sequence handles each event once, per item in order") mutating func random() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("trigger evaluator: seed \(seed)")
        var random = SplitMix(state: seed)
        var limits = TriggerLimits()
        limits.inFlight = 5
        bench = Bench(limits: limits)
        _ = try bench.register("a", condition: "c")
        var underWay: [(run: UInt64, function: String, item: String, number: Int)] = []
        var handled: [String: [Int]] = [:]
        var fired: [String: [Int]] = [:]
        func note(_ lines: [String]) {
            for line in lines where line.hasPrefix("call") {
                let words = line.split(separator: " ").map(String.init)
                let item = words[3]
                let number = Int(words[4]) ?? -1
                #expect(!underWay.contains { $0.item == item })
                underWay.append((UInt64(words[1]) ?? 0, words[2], item, number))
                if words[2] == "fa" { handled[item, default: []].append(number) }
            }
            #expect(underWay.count <= 5)
        }
        var number = 0
        while number < 3000 || !underWay.isEmpty {
            if number < 3000, Bool.random(using: &random) {
                let item = "\(Int.random(in: 0..<9, using: &random))"
                fired[item, default: []].append(number)
                note(bench.change("\(item) \(number)", item: item))
                number += 1
            } else if let index = underWay.indices.randomElement(using: &random) {
                let call = underWay.remove(at: index)
                let isSkipped = call.function == "c" && Bool.random(using: &random)
                if isSkipped { fired[call.item]?.removeAll { $0 == call.number } }
                note(bench.answer(call.run, isSkipped ? "false" : "true"))
            }
        }
        #expect(handled == fired.filter { !$0.value.isEmpty })
        #expect(bench.evaluator.pendingCount == 0)
    }
}
