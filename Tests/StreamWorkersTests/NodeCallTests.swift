import StreamModel
import StreamWorkers
import Testing

@Suite("Calls of the node")
struct NodeCallTests {
    /// Worker 1 serves `f`. The first call has the second UUID.
    private var node: Node

    init() {
        node = .with(1)
        _ = node.registerFunction(1, "f")
    }

    private func invoke(_ function: String, _ data: String, number: Int = 2, trace: String = "")
        -> String
    {
        "1 send {\"type\":\"invokefunction\",\"invocation_id\":\"\(uuid(number))\","
            + "\"function_id\":\"\(function)\",\"data\":\(data)\(trace)}"
    }

    @Test("text is sent as it is, without the id of a calling worker") mutating func text() {
        #expect(node.nodeCall("f", #"{"a": 1}"#) == [invoke("f", #"{"a": 1}"#)])
        #expect(node.router.pendingCallCount == 1)
    }

    @Test("a message of the core's is forwarded by the core") mutating func message() {
        #expect(node.nodeCall("f", .message(Packet("in"))) == ["1 call \(uuid(2)) f in"])
    }

    @Test("a trace context goes with it") mutating func trace() {
        let input = CallInput.text(StreamWorkersTests.text("null"))
        #expect(
            node.nodeCall("f", input, traceparent: "00-1") == [
                invoke("f", "null", trace: ",\"traceparent\":\"00-1\"")
            ])
    }

    @Test(
        "the result is what its caller gets; null is none",
        arguments: [
            ("{\"a\":1}", "{\"a\":1}"), ("false", "false"), ("null", "-"),
            ("!boom", "boom: told so"),
        ])
    mutating func result(payload: String, outcome: String) {
        _ = node.nodeCall("f", tag: 42)
        #expect(node.answer(1, uuid(2), payload: payload) == ["ended 42 \(outcome)"])
        #expect(node.router.pendingCallCount == 0)
    }

    @Test("a function that nobody serves ends the call at once") mutating func notFound() {
        #expect(node.nodeCall("g") == ["ended 7 function_not_found: Function g not found"])
        #expect(node.router.counters.callsNotFound == 1)
    }

    @Test("an executor that goes stops the call") mutating func stopped() {
        _ = node.nodeCall("f")
        #expect(node.close(1) == ["ended 7 invocation_stopped: Invocation stopped"])
        #expect(node.router.counters.callsStopped == 1)
    }

    @Test(
        "a call that does not arrive ends with an error",
        arguments: [
            (UndeliverableReason.gone, "channel_send_failed: channel closed"),
            (
                .tooLarge(limit: 9),
                "payload_too_large: The call is larger than the 9 bytes that its worker takes"
            ),
        ])
    mutating func undeliverable(reason: UndeliverableReason, error: String) {
        _ = node.nodeCall("f")
        #expect(
            node.feed(.undeliverable(connectionID(1), invocationID: uuid(2), reason)) == [
                "ended 7 \(error)"
            ])
        #expect(node.router.counters.callsUndeliverable == 1)
    }

    @Test("a text over what its worker takes is not sent", arguments: [0, 1])
    mutating func tooLarge(over: Int) {
        _ = node.call(
            1, "engine::workers::register", isVoid: true,
            data: #"{"runtime":"python","version":"0.11.6"}"#)
        let overhead = invoke("f", "\"\"").utf8.count - "1 send ".utf8.count
        let padding = String(repeating: "x", count: (1 << 20) - overhead + over)
        let lines = node.nodeCall("f", "\"\(padding)\"")
        let message = "The call is larger than the 1048576 bytes that its worker takes"
        if over == 0 {
            #expect(lines.first?.hasPrefix("1 send ") == true)
        } else {
            #expect(lines == ["ended 7 payload_too_large: \(message)"])
            #expect(node.router.pendingCallCount == 0)
        }
    }

    // MARK: Time limits

    @Test("a call ends with invocation_timeout when its time is over") mutating func timeout() {
        _ = node.nodeCall("f", timeout: .milliseconds(500))
        #expect(node.router.nextDeadline == .milliseconds(1500))
        #expect(node.tick(after: 499).isEmpty)
        #expect(node.tick(after: 1) == ["ended 7 invocation_timeout: Invocation timed out"])
        #expect(node.router.counters.callsTimedOut == 1)
        #expect(node.router.nextDeadline == nil)
        #expect(node.tick(after: 1000).isEmpty)
    }

    @Test("a late result is ignored and counted") mutating func late() {
        _ = node.nodeCall("f", timeout: .milliseconds(500))
        _ = node.tick(after: 500)
        #expect(node.answer(1, uuid(2)).isEmpty)
        #expect(node.router.counters.resultsUnknown == 1)
    }

    @Test("each call has its own limit; those of one limit end in their order")
    mutating func limits() {
        for (tag, timeout) in [(UInt64(1), UInt64(300)), (2, 100), (3, 300), (4, 200)] {
            _ = node.nodeCall("f", tag: tag, timeout: .milliseconds(timeout))
        }
        let ended = "invocation_timeout: Invocation timed out"
        #expect(node.router.nextDeadline == .milliseconds(1100))
        #expect(node.tick(after: 100) == ["ended 2 \(ended)"])
        #expect(node.answer(1, uuid(2), payload: "null") == ["ended 1 -"])
        #expect(node.router.nextDeadline == .milliseconds(1200))
        #expect(node.tick(after: 100) == ["ended 4 \(ended)"])
        #expect(node.router.nextDeadline == .milliseconds(1300))
        #expect(node.tick(after: 100) == ["ended 3 \(ended)"])
    }

    @Test("calls of workers have no limit") mutating func workerCall() {
        _ = node.call(1, "f")
        #expect(node.router.nextDeadline == nil)
        #expect(node.tick(after: 1 << 40).isEmpty)
        #expect(node.router.pendingCallCount == 1)
    }

    // MARK: Functions of the node

    @Test("a built-in function is the core's to run, and answers like a worker")
    mutating func builtIn() {
        #expect(
            node.nodeCall("stream::get", #"{"a":1}"#) == ["0 call \(uuid(2)) stream::get {\"a\":1}"]
        )
        #expect(node.answer(0, uuid(2), payload: "5") == ["ended 7 5"])
    }

    @Test("a built-in function gets the data of a message") mutating func builtInOfMessage() {
        #expect(
            node.nodeCall("stream::set", .message(Packet("{}"))) == [
                "0 call \(uuid(2)) stream::set {}"
            ])
    }

    @Test("a built-in function that does not answer has a limit too") mutating func builtInTimeout()
    {
        _ = node.nodeCall("stream::get", timeout: .milliseconds(10))
        #expect(node.tick(after: 10) == ["ended 7 invocation_timeout: Invocation timed out"])
    }

    @Test("no worker can answer for the core") mutating func foreign() {
        _ = node.nodeCall("stream::get")
        #expect(node.answer(1, uuid(2)).isEmpty)
        #expect(node.router.counters.resultsForeign == 1)
    }

    @Test("an engine function ends the call at once") mutating func engine() {
        #expect(node.nodeCall("engine::triggers::list") == [#"ended 7 {"triggers":[]}"#])
        #expect(
            node.nodeCall("engine::nope") == [
                "ended 7 function_not_found: Function engine::nope not found"
            ])
        #expect(
            node.nodeCall("engine::log::info", "{}") == [
                "ended 7 deserialization_error: Failed to deserialize input for engine::log::info: missing field `message`"
            ])
        #expect(node.router.pendingCallCount == 0)
    }

    @Test("the node is no worker that could tell of itself") mutating func registerNode() {
        let data = #"{"runtime":"python","version":"0.11.6"}"#
        #expect(node.nodeCall("engine::workers::register", data) == [#"ended 7 {"success":true}"#])
        #expect(node.changes == ["worker_connected \(uuid(1))"])
    }

    @Test("a message of the node's that is no answer to a call is ignored")
    mutating func unknownResult() {
        #expect(node.answer(0, uuid(99)).isEmpty)
        #expect(node.router.counters.resultsUnknown == 1)
    }
}

@Suite("Reattaching after a reconnect")
struct ReattachTests {
    /// Worker 1 serves `f`, and has a trigger; worker 2 calls it; worker 3 is the new connection of 1.
    private var node: Node

    init() {
        node = .with(3)
        _ = node.registerFunction(1, "f")
        _ = node.registerTrigger(1, "t", "cron")
        _ = node.call(2, "f")
    }

    private mutating func reattach(_ worker: String, _ token: String?, by connection: Int = 3)
        -> [String]
    {
        node.say(connection, .reattach(previousWorkerID: worker, token: token))
    }

    @Test("the right token ends the old connection's calls, and closes it with 1012")
    mutating func right() {
        #expect(
            reattach(uuid(1), "token 1") == [
                errorLine(2, "f", "invocation_stopped", "Invocation stopped"), "1 close 1012",
            ])
        #expect(node.router.workerID(of: connectionID(1)) == nil)
        #expect(node.router.functions.count == 0)
        #expect(node.router.triggers.count == 0)
        #expect(node.close(1).isEmpty)
        #expect(node.changes.filter { $0 == "worker_disconnected \(uuid(1))" }.count == 1)
    }

    @Test("what the new connection has taken over stays") mutating func takenOver() {
        _ = node.registerFunction(3, "f")
        _ = node.registerTrigger(3, "t", "cron")
        _ = reattach(uuid(1), "token 1")
        #expect(node.router.functions.owner(of: Name("f")) == connectionID(3))
        #expect(node.router.triggers.count == 1)
    }

    @Test(
        "a wrong token, none, or the token of another is ignored",
        arguments: ["token 9", nil, "", "token 3", "token 2"])
    mutating func wrong(token: String?) {
        #expect(reattach(uuid(1), token).isEmpty)
        #expect(node.router.functions.owner(of: Name("f")) == connectionID(1))
        #expect(node.router.pendingCallCount == 1)
    }

    @Test("a worker that is not connected is ignored") mutating func unknown() {
        #expect(reattach(uuid(9), "token 1").isEmpty)
        _ = node.close(1)
        #expect(reattach(uuid(1), "token 1").isEmpty)
    }

    @Test("a worker cannot retire itself") mutating func own() {
        #expect(reattach(uuid(3), "token 3").isEmpty)
        #expect(node.router.workerID(of: connectionID(3)) == uuid(3))
    }
}
