import StreamModel
import StreamTriggers
import Testing

@Suite("Join triggers")
struct JoinTriggerTests {
    private var bench = Bench()

    @Test("without triggers a join is allowed at once") mutating func none() {
        #expect(bench.join("j") == ["5 allow j"])
    }

    @Test("handlers are called one after the other, in their order") mutating func sequential()
        throws
    {
        for id in ["b", "a"] { _ = try bench.register(id, "stream:join") }
        #expect(bench.join("j") == ["call 1 fb j"])
        #expect(bench.answer(1, #"{"unauthorized":false}"#) == ["call 2 fa j"])
        #expect(bench.answer(2, #"{"unauthorized":false}"#) == ["5 allow j"])
        #expect(bench.evaluator.pendingCount == 0)
    }

    @Test("joins do not wait for each other") mutating func atOnce() throws {
        _ = try bench.register("a", "stream:join")
        #expect(bench.join("j") == ["call 1 fa j"])
        #expect(bench.join("k", by: 6) == ["call 2 fa k"])
        #expect(bench.answer(2) == ["6 allow k"])
        #expect(bench.answer(1) == ["5 allow j"])
    }

    @Test("an object whose unauthorized is true refuses") mutating func refuses() throws {
        _ = try bench.register("a", "stream:join")
        _ = bench.join("j")
        #expect(bench.answer(1, #"{"unauthorized":true,"x":1}"#) == ["5 refuse j"])
        #expect(bench.evaluator.counters.joinsRefused == 1)
    }

    @Test("all run even after one has refused, and the join stays refused") mutating func allRun()
        throws
    {
        for id in ["a", "b", "c"] { _ = try bench.register(id, "stream:join") }
        _ = bench.join("j")
        #expect(bench.answer(1) == ["call 2 fb j"])
        #expect(bench.answer(2, #"{"unauthorized":true}"#) == ["call 3 fc j"])
        #expect(bench.answer(3, #"{"unauthorized":false}"#) == ["5 refuse j"])
        #expect(bench.evaluator.counters.joinsRefused == 1)
    }

    @Test("no result, and false, allow in silence", arguments: [nil, #"{"unauthorized":false}"#])
    mutating func allows(result: String?) throws {
        _ = try bench.register("a", "stream:join")
        _ = bench.join("j")
        #expect(bench.answer(1, result) == ["5 allow j"])
    }

    @Test(
        "what says neither yes nor no allows in silence",
        arguments: [
            "{}", #"{"unauthorized":null}"#, "true", "null", #"{"x":{"unauthorized":true}}"#,
        ])
    mutating func allowsAll(result: String) throws {
        _ = try bench.register("a", "stream:join")
        _ = bench.join("j")
        #expect(bench.answer(1, result) == ["5 allow j"])
    }

    private static let odd: [(result: String, allows: Bool, found: String)] = [
        ("false", false, "false"), ("5", false, "a number"), ("\"x\"", false, "a string"),
        ("[]", false, "an array"), (#"[{"unauthorized":false}]"#, false, "an array"),
        (#"{"unauthorized":"true"}"#, false, "unauthorized"),
        (#"{"unauthorized":0}"#, false, "unauthorized"),
        (#"{"allowed":false}"#, false, "allowed"), (#"{"allowed":null}"#, false, "allowed"),
        (#"{"allowed":"yes"}"#, false, "allowed"), (#"{"allowed":true}"#, true, "allowed"),
        (#"{"authorized":false}"#, false, "authorized"),
        (#"{"authorized":true}"#, true, "authorized"), (#"{"error":"no"}"#, false, "error"),
        (#"{"error":{}}"#, false, "error"), (#"{"error":null}"#, true, "error"),
        (#"{"error":false}"#, true, "error"),
        (#"{"unauthorized":false,"allowed":false}"#, false, "allowed"),
        (#"{"allowed":true,"error":"no"}"#, false, "allowed"),
    ]

    @Test(
        "a result of another shape means what it says, and is warned about once a function",
        arguments: odd)
    mutating func oddResults(result: String, allows: Bool, found: String) throws {
        _ = try bench.register("a", "stream:join")
        _ = bench.join("j")
        let decision = "5 \(allows ? "allow" : "refuse")"
        let warning =
            #"log join_result_odd trigger=a function_id=fa found=\#(found) detail=\#(GuardAnswer.shape)"#
        #expect(bench.answer(1, result) == [warning, "\(decision) j"])
        _ = bench.join("k")
        #expect(bench.answer(2, result) == ["\(decision) k"])
    }

    @Test("with fail_open only the value true refuses, as in the original", arguments: odd)
    mutating func openOddResults(result: String, allows: Bool, found: String) throws {
        bench = Bench(failOpen: true)
        _ = try bench.register("a", "stream:join")
        _ = bench.join("j")
        #expect(bench.answer(1, result) == ["5 allow j"])
        _ = bench.join("k")
        #expect(bench.answer(2, #"{"unauthorized":true}"#) == ["5 refuse k"])
    }

    @Test(
        "a handler that fails, is missing or times out refuses, and the others run",
        arguments: ["boom", "function_not_found", "invocation_timeout"])
    mutating func handlerFails(code: String) throws {
        for id in ["a", "b"] { _ = try bench.register(id, "stream:join") }
        _ = bench.join("j")
        #expect(
            bench.fail(1, code)
                == ["log trigger_join_failed trigger=a function_id=fa code=\(code)", "call 2 fb j"])
        #expect(bench.answer(2) == ["5 refuse j"])
        #expect(bench.evaluator.counters.failed == 1)
        #expect(bench.evaluator.counters.timedOut == (code == "invocation_timeout" ? 1 : 0))
    }

    @Test("with fail_open it allows") mutating func failOpen() throws {
        bench = Bench(failOpen: true)
        for id in ["a", "b"] { _ = try bench.register(id, "stream:join") }
        _ = bench.join("j")
        #expect(bench.fail(1).last == "call 2 fb j")
        #expect(bench.answer(2) == ["5 allow j"])
        _ = bench.join("k")
        #expect(bench.fail(3).last == "call 4 fb k")
        #expect(bench.answer(4, #"{"unauthorized":true}"#) == ["5 refuse k"])
    }

    // MARK: Conditions

    @Test("only the value false skips a handler, which is no refusal")
    mutating func conditionFalse() throws {
        _ = try bench.register("a", "stream:join", condition: "c")
        _ = try bench.register("b", "stream:join")
        #expect(bench.join("j") == ["call 1 c j"])
        #expect(bench.answer(1, "false") == ["call 2 fb j"])
        #expect(bench.answer(2) == ["5 allow j"])
        #expect(bench.evaluator.counters.skipped == 1)
        #expect(bench.evaluator.counters.handled == 1)
    }

    @Test(
        "any other answer of a condition lets the handler run",
        arguments: [nil, "true", "0", "{}", #"{"unauthorized":true}"#])
    mutating func conditionTrue(result: String?) throws {
        _ = try bench.register("a", "stream:join", condition: "c")
        _ = bench.join("j")
        #expect(bench.answer(1, result) == ["call 2 fa j"])
        #expect(bench.answer(2) == ["5 allow j"])
    }

    @Test(
        "a condition that fails, is missing or times out refuses without its handler",
        arguments: ["boom", "function_not_found", "invocation_timeout"])
    mutating func conditionFails(code: String) throws {
        _ = try bench.register("a", "stream:join", condition: "c")
        _ = try bench.register("b", "stream:join", condition: "d")
        _ = bench.join("j")
        #expect(
            bench.fail(1, code)
                == ["log trigger_join_failed trigger=a function_id=fa code=\(code)", "call 2 d j"])
        #expect(bench.answer(2, "true") == ["call 3 fb j"])
        #expect(bench.answer(3) == ["5 refuse j"])
    }

    @Test("with fail_open a condition that fails skips its handler and allows")
    mutating func openCondition() throws {
        bench = Bench(failOpen: true)
        _ = try bench.register("a", "stream:join", condition: "c")
        _ = bench.join("j")
        #expect(bench.fail(1).last == "5 allow j")
    }

    // MARK: Rules

    @Test("a handler that may not be called is skipped, which is no refusal")
    mutating func forbiddenHandler() throws {
        for id in ["a", "b"] { _ = try bench.register(id, "stream:join") }
        _ = bench.join("j")
        #expect(
            bench.forbid(1) == ["log trigger_forbidden trigger=a function_id=fa", "call 2 fb j"])
        #expect(bench.answer(2) == ["5 allow j"])
        #expect(bench.evaluator.counters.forbidden == 1)
        #expect(bench.evaluator.counters.handled == 1)
    }

    @Test("a condition that may not be called counts as failed") mutating func forbiddenCondition()
        throws
    {
        _ = try bench.register("a", "stream:join", condition: "c")
        _ = bench.join("j")
        #expect(
            bench.forbid(1)
                == [
                    "log trigger_join_failed trigger=a function_id=fa code=FORBIDDEN", "5 refuse j",
                ])
    }

    @Test("a trigger that goes meanwhile is asked all the same") mutating func triggerGoes() throws
    {
        for id in ["a", "b"] { _ = try bench.register(id, "stream:join") }
        _ = bench.join("j")
        _ = bench.unregister("b")
        #expect(bench.answer(1) == ["call 2 fb j"])
        #expect(bench.answer(2) == ["5 allow j"])
    }
}
