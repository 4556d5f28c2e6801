import StreamModel
import StreamWorkers
import Testing

@Suite("Disconnect of a worker")
struct DisconnectTests {
    private var node = Node.with(4)

    private func stopped(_ connection: Int, _ function: String, id: String = "1") -> String {
        errorLine(connection, function, "invocation_stopped", "Invocation stopped", id: id)
    }

    @Test("its functions are gone at once") mutating func functions() {
        _ = node.registerFunction(2, "f")
        #expect(node.close(2).isEmpty)
        #expect(
            node.call(1, "f") == [errorLine(1, "f", "function_not_found", "Function f not found")])
    }

    @Test("a function that another worker has taken over stays") mutating func takenOver() {
        _ = node.registerFunction(2, "f")
        _ = node.registerFunction(3, "f")
        _ = node.close(2)
        #expect(node.call(1, "f") == ["3 call \(uuid(5)) f in"])
    }

    @Test("the earlier registrant serves again") mutating func fallback() {
        _ = node.registerFunction(2, "f")
        _ = node.registerFunction(3, "f")
        _ = node.close(3)
        #expect(node.call(1, "f") == ["2 call \(uuid(5)) f in"])
    }

    @Test("the earlier registrant that shows life serves") mutating func livingFallback() {
        for worker in [2, 3, 4] { _ = node.registerFunction(worker, "f") }
        #expect(node.feed(.liveness(connectionID(3), isAlive: false)).isEmpty)
        _ = node.close(4)
        #expect(node.call(1, "f") == ["2 call \(uuid(5)) f in"])
    }

    @Test("a worker that shows life again serves again") mutating func revived() {
        for worker in [2, 3, 4] { _ = node.registerFunction(worker, "f") }
        _ = node.feed(.liveness(connectionID(3), isAlive: false))
        _ = node.feed(.liveness(connectionID(3), isAlive: true))
        _ = node.close(4)
        #expect(node.call(1, "f") == ["3 call \(uuid(5)) f in"])
    }

    @Test("calls in flight stay where they went when another worker takes the function over")
    mutating func inFlight() {
        _ = node.registerFunction(2, "f")
        _ = node.call(1, "f")
        _ = node.registerFunction(3, "f")
        #expect(node.answer(3, uuid(5)).isEmpty)
        #expect(node.answer(2, uuid(5)) == ["1 result \"1\" f out - -"])
    }

    @Test("the calls it executes end with invocation_stopped, in the order they came")
    mutating func executing() {
        _ = node.registerFunction(2, "f")
        _ = node.registerFunction(2, "g")
        _ = node.call(1, "f", id: "a")
        _ = node.call(3, "g", id: "b")
        _ = node.call(1, "g", id: "c")
        _ = node.call(1, "f", id: "d", isVoid: true)
        #expect(
            node.close(2) == [
                stopped(1, "f", id: "a"), stopped(3, "g", id: "b"), stopped(1, "g", id: "c"),
            ])
        #expect(node.router.pendingCallCount == 0)
        #expect(node.router.counters.callsStopped == 4)
    }

    @Test("invocation_stopped repeats the caller's trace context") mutating func trace() {
        _ = node.registerFunction(2, "f")
        _ = node.call(1, "f", traceparent: "00-1")
        #expect(node.close(2).first?.hasSuffix(#"},"traceparent":"00-1"}"#) == true)
    }

    @Test("the calls it waits for are over, and their late results are dropped")
    mutating func waiting() {
        _ = node.registerFunction(2, "f")
        _ = node.call(1, "f")
        #expect(node.close(1).isEmpty)
        #expect(node.router.pendingCallCount == 0)
        #expect(node.answer(2, uuid(5)).isEmpty)
        #expect(node.router.counters.resultsUnknown == 1)
    }

    @Test("a call to itself is not answered") mutating func selfCall() {
        _ = node.registerFunction(2, "f")
        _ = node.call(2, "f")
        #expect(node.close(2).isEmpty)
        #expect(node.router.pendingCallCount == 0)
    }

    @Test("its triggers go, and their providers are told in their order") mutating func triggers() {
        _ = node.registerType(3, "cron")
        _ = node.registerTrigger(2, "b", "cron")
        _ = node.registerTrigger(2, "a", "cron")
        _ = node.registerTrigger(2, "s", "stream", config: #"{"stream_name":"s"}"#)
        #expect(
            node.close(2) == [
                #"3 send {"type":"unregistertrigger","id":"b","trigger_type":"cron"}"#,
                #"3 send {"type":"unregistertrigger","id":"a","trigger_type":"cron"}"#,
            ])
        #expect(node.router.triggers.count == 0)
    }

    @Test("a provider that disconnects is not told of its own triggers") mutating func ownTriggers()
    {
        _ = node.registerType(2, "cron")
        _ = node.registerTrigger(2, "a", "cron")
        #expect(node.close(2).isEmpty)
    }

    @Test(
        "its trigger types go, other workers' triggers stay and are replayed to the next provider")
    mutating func types() {
        _ = node.registerType(2, "cron")
        _ = node.registerTrigger(3, "a", "cron")
        #expect(node.close(2).isEmpty)
        #expect(node.router.triggers.provider(of: Name("cron")) == nil)
        #expect(
            node.registerType(4, "cron") == [
                #"4 send {"type":"registertrigger","id":"a","trigger_type":"cron","function_id":"f","config":null}"#
            ])
    }

    @Test("a trigger that another worker has taken over stays") mutating func triggerTakenOver() {
        _ = node.registerTrigger(2, "a", "cron")
        _ = node.registerTrigger(3, "a", "cron")
        #expect(node.close(2).isEmpty)
        #expect(node.router.triggers.trigger(Name("a"))?.owner == connectionID(3))
    }

    @Test("a trigger type that another worker has taken over stays") mutating func typeTakenOver() {
        _ = node.registerType(2, "cron")
        _ = node.registerType(3, "cron")
        _ = node.close(2)
        #expect(node.router.triggers.provider(of: Name("cron")) == connectionID(3))
    }

    @Test("stopped calls are answered before providers are told") mutating func order() {
        _ = node.registerType(3, "cron")
        _ = node.registerTrigger(2, "a", "cron")
        _ = node.registerFunction(2, "f")
        _ = node.call(1, "f")
        #expect(
            node.close(2) == [
                stopped(1, "f"),
                #"3 send {"type":"unregistertrigger","id":"a","trigger_type":"cron"}"#,
            ])
    }

    @Test("what a connection says after it has closed is ignored") mutating func afterClose() {
        _ = node.registerFunction(2, "f")
        _ = node.close(2)
        #expect(node.registerFunction(2, "f").isEmpty)
        #expect(node.call(2, "nope").isEmpty)
        #expect(node.close(2).isEmpty)
        #expect(node.feed(.liveness(connectionID(2), isAlive: true)).isEmpty)
        #expect(node.router.workerID(of: connectionID(2)) == nil)
        #expect(node.router.counters.connectionsClosed == 1)
        #expect(node.call(1, "f").first?.contains("function_not_found") == true)
    }

    /// In one piece ten thousand of each took tens of milliseconds, in which nobody was served.
    @Test("what a worker leaves behind goes in steps of 64, and others are served between them")
    mutating func steps() {
        for number in 0..<100 {
            _ = node.registerFunction(2, "f\(number)")
            _ = node.registerType(2, "type \(number)")
            _ = node.registerTrigger(2, "t\(number)", "stream:leave", "f0", config: "{}")
        }
        for number in 0..<100 { _ = node.call(1, "f0", id: "\(number)") }
        var actions = node.router.handle(.closed(connectionID(2)), at: node.moment)
        var steps = 1
        #expect(node.router.triggers.triggers(onLeaveOf: "s").isEmpty, "they call nothing any more")
        while let index = actions.firstIndex(where: {
            if case .departMore = $0 { true } else { false }
        }),
            case .departMore(let connection) = actions.remove(at: index)
        {
            #expect(connection == connectionID(2))
            #expect(node.call(1, "engine::workers::list", data: "{}").count == 1)
            node.router.departMore(connection, into: &actions)
            steps += 1
        }
        #expect(steps == 400 / 64 + 1)
        #expect(node.router.functions.count == 0 && node.router.triggers.count == 0)
        #expect(node.router.triggers.provider(of: Name("type 1")) == nil)
        #expect(node.router.pendingCallCount == 0)
        let stopped = actions.count {
            if case .send(connectionID(1), _) = $0 { true } else { false }
        }
        #expect(stopped == 100)
    }

    @Test("what is left of a worker that has gone gives way to who comes") mutating func givesWay()
    {
        for number in 0..<100 { _ = node.registerFunction(2, "f\(number)") }
        var actions = node.router.handle(.closed(connectionID(2)), at: node.moment)
        for number in 0..<100 { _ = node.registerFunction(3, "f\(number)") }
        node.router.departMore(connectionID(2), into: &actions)
        for number in 0..<100 {
            #expect(node.router.functions.owner(of: Name("f\(number)")) == connectionID(3))
        }
    }
}
