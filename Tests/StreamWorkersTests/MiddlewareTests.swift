import StreamConfig
import StreamModel
import StreamWorkers
import Testing

/// Worker 2 comes by a listener with a middleware, which worker 1 serves. The first call has the third UUID.
@Suite("Middleware of a listener")
struct MiddlewareTests {
    private var node: Node

    init() {
        node = .guarded(hasMiddleware: true, hasRules: false)
        _ = node.enter(nil)
    }

    private func asked(
        _ function: String, number: Int = 3, payload: String = "{}", action: String = "null",
        context: String = "{}", trace: String = ""
    ) -> String {
        "1 send {\"type\":\"invokefunction\",\"invocation_id\":\"\(uuid(number))\",\"function_id\":\"middle\","
            + "\"data\":{\"function_id\":\"\(function)\",\"payload\":\(payload),\"action\":\(action),"
            + "\"context\":\(context)}\(trace)}"
    }

    private func result(_ function: String, _ result: String, id: String = "1") -> String {
        "2 send {\"type\":\"invocationresult\",\"invocation_id\":\"\(id)\",\"function_id\":\"\(function)\"\(result)}"
    }

    @Test("it is called instead of the target, and its result is the call's")
    mutating func instead() {
        #expect(node.call(2, "f", payload: #"{"a":1}"#) == [asked("f", payload: #"{"a":1}"#)])
        #expect(node.answer(1, uuid(3), payload: "[5]") == [result("f", ",\"result\":[5]")])
    }

    @Test("no result of it is none of the call's") mutating func noResult() {
        _ = node.call(2, "f", payload: "{}")
        #expect(node.answer(1, uuid(3), payload: "null") == [result("f", "")])
    }

    @Test("its error is the call's") mutating func error() {
        _ = node.call(2, "f", payload: "{}")
        #expect(node.answer(1, uuid(3), payload: "!no") == [errorLine(2, "f", "no", "told so")])
    }

    @Test(
        "stream functions go through it, and ids that nobody serves",
        arguments: ["stream::set", "nope"])
    mutating func others(function: String) {
        #expect(node.call(2, function, payload: "{}") == [asked(function)])
    }

    @Test("functions of the engine do not", arguments: ["engine::triggers::list", "engine::nope"])
    mutating func engine(function: String) {
        #expect(
            node.call(2, function, data: "{}", payload: "{}").first?.hasPrefix("2 send") == true)
        #expect(node.router.pendingCallCount == 0)
    }

    @Test("void calls do, with their action, and are answered") mutating func void() {
        let action = #"{"type":"void"}"#
        #expect(
            node.call(2, "f", isVoid: true, action: action, payload: "{}") == [
                asked("f", action: action)
            ])
        #expect(node.answer(1, uuid(3), payload: "1") == [result("f", ",\"result\":1")])
    }

    @Test("calls without an id are answered under one of ours") mutating func noID() {
        #expect(node.call(2, "f", id: nil, isVoid: true, payload: "{}") == [asked("f", number: 4)])
        #expect(
            node.answer(1, uuid(4), payload: "1") == [result("f", ",\"result\":1", id: uuid(3))])
    }

    @Test("enqueue calls do") mutating func enqueue() {
        let action = #"{"type":"enqueue","queue":"q"}"#
        #expect(
            node.call(2, "f", isEnqueue: true, action: action, payload: "{}") == [
                asked("f", action: action)
            ])
    }

    @Test("the caller's trace context goes with the call and with its result") mutating func trace()
    {
        #expect(
            node.call(2, "f", traceparent: "00-1", baggage: "u=1", payload: "{}")
                == [asked("f", trace: ",\"traceparent\":\"00-1\"")])
        #expect(
            node.answer(1, uuid(3), payload: "1")
                == [result("f", ",\"result\":1,\"traceparent\":\"00-1\",\"baggage\":\"u=1\"")])
    }

    @Test("workers of other listeners do not go through it") mutating func plainListener() {
        #expect(node.call(1, "f") == ["1 call \(uuid(3)) f in"])
    }

    @Test(
        "it gets the context of the caller's session; a call that is not allowed does not get there"
    )
    mutating func withRules() {
        node = .guarded(hasMiddleware: true) { $0.exposedFunctions = [.pattern("f")] }
        _ = node.enter(#"{"context":{"user":"a"}}"#)
        #expect(
            node.call(2, "f", payload: "{}") == [asked("f", number: 4, context: #"{"user":"a"}"#)])
        #expect(node.call(2, "g", payload: "{}").first?.contains("FORBIDDEN") == true)
    }

    // MARK: When it does not answer

    @Test("a middleware that is missing, goes or takes too long ends the call")
    mutating func failures() {
        _ = node.call(2, "f", payload: "{}")
        #expect(node.tick(after: 299).isEmpty)
        #expect(
            node.tick(after: 1) == [errorLine(2, "f", "invocation_timeout", "Invocation timed out")]
        )
        _ = node.call(2, "f", payload: "{}")
        #expect(node.close(1) == [errorLine(2, "f", "invocation_stopped", "Invocation stopped")])
        #expect(
            node.call(2, "f", payload: "{}")
                == [errorLine(2, "f", "function_not_found", "Function middle not found")])
    }

    @Test("the answer to a caller that has closed goes nowhere") mutating func callerGoes() {
        _ = node.call(2, "f", payload: "{}")
        _ = node.close(2)
        #expect(node.router.pendingCallCount == 0)
        #expect(node.answer(1, uuid(3)).isEmpty)
    }

    @Test("its calls count among those that a worker waits for") mutating func limit() {
        var limits = WorkerLimits()
        limits.pendingCallsPerWorker = 2
        node = .guarded(hasMiddleware: true, hasRules: false, limits: limits)
        _ = node.enter(nil)
        for number in 3...4 {
            #expect(node.call(2, "f", payload: "{}") == [asked("f", number: number)])
        }
        let message = "The calling worker has 2 calls pending"
        #expect(node.call(2, "f", payload: "{}") == [errorLine(2, "f", "too_many_calls", message)])
        _ = node.answer(1, uuid(3))
        #expect(node.call(2, "f", payload: "{}") == [asked("f", number: 5)])
        #expect(node.router.counters.callsRefused == 1)
    }
}
