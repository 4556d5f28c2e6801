import StreamModel
import StreamWorkers
import Testing

@Suite("Worker calls")
struct CallTests {
    /// Caller 1, executor 2, which serves `f`. The first call has the third UUID.
    private var node: Node

    init() {
        node = .with(2)
        _ = node.registerFunction(2, "f")
    }

    @Test("a worker is admitted under a fresh UUID") mutating func admit() {
        #expect(node.open(3) == ["3 admit \(uuid(3))"])
        #expect(node.router.workerID(of: connectionID(3)) == uuid(3))
    }

    @Test("a call goes to the function's worker under an id of ours") mutating func forward() {
        #expect(node.call(1, "f", id: "mine") == ["2 call \(uuid(3)) f in"])
        #expect(node.router.pendingCallCount == 1)
    }

    @Test("the result goes to the caller under its own id") mutating func result() {
        _ = node.call(1, "f", id: "mine")
        #expect(node.answer(2, uuid(3)) == ["1 result \"mine\" f out - -"])
        #expect(node.router.pendingCallCount == 0)
        #expect(node.router.counters.callsAnswered == 1)
    }

    @Test("an error result is passed on like any other") mutating func errorResult() {
        _ = node.call(1, "f")
        #expect(node.answer(2, uuid(3), isError: true) == ["1 result \"1\" f out - -"])
    }

    @Test("a worker can call itself") mutating func selfCall() {
        #expect(node.call(2, "f") == ["2 call \(uuid(3)) f in"])
        #expect(node.answer(2, uuid(3)) == ["2 result \"1\" f out - -"])
    }

    @Test("the caller's id is echoed as written, whatever it is") mutating func opaqueID() {
        _ = node.call(1, "f", id: #"not \u0061 uuid"#)
        #expect(node.answer(2, uuid(3)) == [#"1 result "not \u0061 uuid" f out - -"#])
    }

    @Test("callers with the same id get their own results") mutating func sameID() {
        _ = node.open(3)
        _ = node.call(1, "f")
        _ = node.call(3, "f")
        #expect(node.answer(2, uuid(5)) == ["3 result \"1\" f out - -"])
        #expect(node.answer(2, uuid(4)) == ["1 result \"1\" f out - -"])
    }

    @Test(
        "a void call is forwarded and never answered, whatever its id says",
        arguments: [true, false])
    mutating func void(fails: Bool) {
        #expect(node.call(1, "f", id: "1", isVoid: true) == ["2 call \(uuid(3)) f in"])
        let lines = node.answer(2, uuid(3), isError: fails)
        #expect(lines == (fails ? ["log debug void_call_failed function_id=f"] : []))
        #expect(node.router.pendingCallCount == 0)
        #expect(node.router.counters.resultsUnknown == 0)
    }

    @Test("a call without an id is forwarded and never answered") mutating func noID() {
        #expect(node.call(1, "f", id: nil) == ["2 call \(uuid(3)) f in"])
        #expect(node.answer(2, uuid(3)).isEmpty)
    }

    @Test("a function that nobody serves is not found") mutating func notFound() {
        #expect(
            node.call(1, "nope")
                == [errorLine(1, "nope", "function_not_found", "Function nope not found")])
        #expect(node.router.pendingCallCount == 0)
        #expect(node.router.counters.callsNotFound == 1)
    }

    @Test("a void call of a function that nobody serves is not answered")
    mutating func voidNotFound() {
        #expect(node.call(1, "nope", isVoid: true).isEmpty)
        #expect(node.call(1, "nope", id: nil).isEmpty)
    }

    @Test("function ids match byte for byte") mutating func exactMatch() {
        _ = node.registerFunction(2, "caf\u{E9}")
        #expect(node.call(1, "caf\u{E9}") == ["2 call \(uuid(3)) caf\u{E9} in"])
        #expect(node.call(1, "cafe\u{301}").first?.contains("function_not_found") == true)
        #expect(node.call(1, "F").first?.contains("function_not_found") == true)
    }

    @Test("a function id over the limit is not found, and its name is cut") mutating func longID() {
        let id = String(repeating: "x", count: 300)
        let shown = String(repeating: "x", count: 256)
        #expect(
            node.call(1, id) == [
                errorLine(1, shown, "function_not_found", "Function \(shown) not found")
            ])
    }

    // MARK: Trace context

    @Test("the caller's trace context goes with the result, for an executor that sends none")
    mutating func traceContext() {
        _ = node.call(1, "f", traceparent: "00-1", baggage: "u=1")
        #expect(node.answer(2, uuid(3)) == ["1 result \"1\" f out 00-1 u=1"])
    }

    @Test("an answer of the node repeats the caller's trace context") mutating func traceOfError() {
        let lines = node.call(1, "nope", traceparent: "00-1", baggage: "u=\"1\"")
        #expect(lines.first?.hasSuffix(#"},"traceparent":"00-1","baggage":"u=\"1\""}"#) == true)
    }

    @Test("trace context over its limit is not kept", arguments: [0, 1])
    mutating func longTraceContext(over: Int) {
        let baggage = String(
            repeating: "b", count: WorkerLimits().traceContextSize - 4 + over)
        #expect(node.call(1, "f", traceparent: "00-1", baggage: baggage).count == 1)
        let kept = over == 0 ? "00-1 \(baggage)" : "- -"
        #expect(node.answer(2, uuid(3)) == ["1 result \"1\" f out \(kept)"])
    }

    // MARK: Results that are not taken

    @Test("a result for an unknown id is ignored and counted") mutating func unknownResult() {
        #expect(node.answer(2, uuid(99)).isEmpty)
        #expect(node.answer(2, "not a uuid").isEmpty)
        #expect(node.answer(2, "").isEmpty)
        #expect(node.router.counters.resultsUnknown == 3)
    }

    @Test("a second result is ignored") mutating func secondResult() {
        _ = node.call(1, "f")
        _ = node.answer(2, uuid(3))
        #expect(node.answer(2, uuid(3)).isEmpty)
        #expect(node.router.counters.resultsUnknown == 1)
    }

    @Test("a result is taken from the executor only") mutating func foreignResult() {
        _ = node.open(3)
        _ = node.call(1, "f")
        #expect(node.answer(1, uuid(4)).isEmpty)
        #expect(node.answer(3, uuid(4)).isEmpty)
        #expect(node.router.counters.resultsForeign == 2)
        #expect(node.answer(2, uuid(4)) == ["1 result \"1\" f out - -"])
    }

    // MARK: Calls that do not arrive

    @Test("a call too large for its executor ends with payload_too_large") mutating func tooLarge()
    {
        _ = node.call(1, "f")
        let lines = node.feed(
            .undeliverable(connectionID(2), invocationID: uuid(3), .tooLarge(limit: 1_048_576)))
        let message = "The call is larger than the 1048576 bytes that its worker takes"
        #expect(lines == [errorLine(1, "f", "payload_too_large", message)])
        #expect(node.router.pendingCallCount == 0)
    }

    @Test("a call to a closed queue ends with channel_send_failed") mutating func gone() {
        _ = node.call(1, "f")
        let lines = node.feed(.undeliverable(connectionID(2), invocationID: uuid(3), .gone))
        #expect(lines == [errorLine(1, "f", "channel_send_failed", "channel closed")])
        #expect(node.router.counters.callsUndeliverable == 1)
    }

    @Test("an undeliverable void call just ends") mutating func goneVoid() {
        _ = node.call(1, "f", isVoid: true)
        #expect(node.feed(.undeliverable(connectionID(2), invocationID: uuid(3), .gone)).isEmpty)
        #expect(node.router.pendingCallCount == 0)
    }

    @Test("undeliverable says nothing about calls of others, or calls that are over")
    mutating func goneOther() {
        _ = node.call(1, "f")
        #expect(node.feed(.undeliverable(connectionID(1), invocationID: uuid(3), .gone)).isEmpty)
        #expect(node.router.pendingCallCount == 1)
        _ = node.close(2)
        #expect(node.feed(.undeliverable(connectionID(2), invocationID: uuid(3), .gone)).isEmpty)
    }

    // MARK: Limits

    @Test("a caller waits for so many calls and no more, void ones included")
    mutating func callerLimit() {
        var limits = WorkerLimits()
        limits.pendingCallsPerWorker = 3
        node = .with(4, limits: limits)
        _ = node.registerFunction(2, "f")
        _ = node.registerFunction(3, "g")
        #expect(node.call(1, "f") == ["2 call \(uuid(5)) f in"])
        #expect(node.call(1, "g") == ["3 call \(uuid(6)) g in"])
        #expect(node.call(1, "g", isVoid: true) == ["3 call \(uuid(7)) g in"])
        let message = "The calling worker has 3 calls pending"
        #expect(node.call(1, "f") == [errorLine(1, "f", "too_many_calls", message)])
        #expect(node.call(1, "f", isVoid: true).isEmpty)
        #expect(node.router.counters.callsRefused == 2)
        #expect(node.router.pendingCallCount == 3)
        #expect(node.call(4, "f") == ["2 call \(uuid(8)) f in"])
        _ = node.answer(3, uuid(7))
        #expect(node.call(1, "f") == ["2 call \(uuid(9)) f in"])
    }

    @Test("an executor has so many calls and no more") mutating func executorLimit() {
        var limits = WorkerLimits()
        limits.pendingCallsPerWorker = 3
        node = .with(4, limits: limits)
        _ = node.registerFunction(2, "f")
        _ = node.registerFunction(2, "g")
        _ = node.registerFunction(3, "h")
        for (caller, function) in [(1, "f"), (1, "g"), (4, "f")] {
            #expect(node.call(caller, function).first?.hasPrefix("2 call") == true)
        }
        let message = "The executing worker has 3 calls pending"
        #expect(node.call(4, "g") == [errorLine(4, "g", "too_many_calls", message)])
        #expect(node.call(4, "h").first?.hasPrefix("3 call") == true)
        _ = node.answer(2, uuid(5))
        #expect(node.call(4, "g").first?.hasPrefix("2 call") == true)
    }

    @Test("middleware is asked about so many calls and no more") mutating func middlewareLimit() {
        var limits = WorkerLimits()
        limits.pendingCallsPerWorker = 3
        node = Node(limits: limits, middleware: "m")
        for connection in 1...2 { _ = node.open(connection) }
        _ = node.registerFunction(2, "m")
        for _ in 1...3 {
            #expect(node.call(1, "f", payload: "{}").first?.hasPrefix("2 send") == true)
        }
        let message = "The calling worker has 3 calls pending"
        #expect(node.call(1, "f") == [errorLine(1, "f", "too_many_calls", message)])
        #expect(node.router.pendingCallCount == 3)
        #expect(node.router.counters.callsRefused == 1)
    }

    @Test("the limit of pending calls is 10,000") func defaultLimit() {
        #expect(WorkerLimits().pendingCallsPerWorker == 10_000)
    }
}
