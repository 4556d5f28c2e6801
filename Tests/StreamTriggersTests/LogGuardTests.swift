import StreamModel
import StreamTriggers
import Testing

@Suite("Log lines of handlers of log triggers")
struct LogGuardTests {
    private var guardian = LogGuard()
    private let server = ConnectionID(rawValue: 1)
    private let other = ConnectionID(rawValue: 2)
    private let traceID = "0af7651916cd43dd8448eb211c80319c"
    private var traceparent: String { "00-\(traceID)-b7ad6b7169203331-01" }

    private func record(_ traceID: String) -> TelemetryLogRecord {
        TelemetryLogRecord(
            timestampNanoseconds: 0, observedNanoseconds: 0, severityNumber: 9,
            severityText: "INFO",
            body: "", attributes: .null, traceID: traceID, spanID: "", resource: .null,
            serviceName: "unknown", scopeName: "", scopeVersion: "")
    }

    private func isOwn(_ traceID: String, from worker: ConnectionID, isFunction: Bool) -> Bool {
        guardian.isOwnLine(record(traceID), from: worker, isFunction: isFunction)
    }

    @Test("without a call under way no line is one's own", arguments: [true, false])
    func nothing(isFunction: Bool) {
        #expect(!isOwn("", from: server, isFunction: isFunction))
        #expect(!isOwn(traceID, from: server, isFunction: isFunction))
    }

    @Test(
        "a line with the trace id of a call is its own, whoever sends it, however, also when it comes late"
    )
    mutating func byTrace() {
        guardian.begin(run: 1, traceparent: traceparent, server: server)
        for worker in [server, other, .node] {
            #expect(isOwn(traceID, from: worker, isFunction: true))
            #expect(isOwn(traceID, from: worker, isFunction: false))
        }
        guardian.end(run: 1)
        #expect(isOwn(traceID, from: server, isFunction: false))
    }

    @Test("what the handler's connection writes with a function meanwhile is its own")
    mutating func byConnection() {
        guardian.begin(run: 1, traceparent: traceparent, server: server)
        #expect(isOwn("", from: server, isFunction: true))
        #expect(!isOwn("", from: server, isFunction: false))
        #expect(!isOwn("", from: other, isFunction: true))
        guardian.end(run: 1)
        #expect(!isOwn("", from: server, isFunction: true))
    }

    @Test("a connection that handles two records is done after both") mutating func two() {
        guardian.begin(
            run: 1, traceparent: "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-01",
            server: server)
        guardian.begin(
            run: 2, traceparent: "00-0af7651916cd43dd8448eb211c80319d-b7ad6b7169203331-01",
            server: server)
        guardian.end(run: 1)
        guardian.end(run: 1)
        #expect(isOwn("", from: server, isFunction: true))
        guardian.end(run: 2)
        #expect(!isOwn("", from: server, isFunction: true))
    }

    @Test("one record at two triggers has one trace id, until both are done")
    mutating func oneTrace() {
        guardian.begin(run: 1, traceparent: traceparent, server: server)
        guardian.begin(run: 2, traceparent: traceparent, server: other)
        guardian.end(run: 1)
        #expect(isOwn(traceID, from: server, isFunction: false))
        #expect(!isOwn("", from: server, isFunction: true))
        guardian.end(run: 2)
        #expect(!isOwn("", from: other, isFunction: true))
    }

    @Test("calls of other triggers guard nothing") mutating func noTrace() {
        guardian.begin(run: 1, traceparent: nil, server: server)
        #expect(!isOwn("", from: server, isFunction: true))
        guardian.end(run: 1)
    }

    @Test("a handler that nobody serves is no connection's") mutating func noServer() {
        guardian.begin(run: 1, traceparent: traceparent, server: nil)
        #expect(isOwn(traceID, from: other, isFunction: false))
        #expect(!isOwn("", from: other, isFunction: true))
        guardian.end(run: 1)
        #expect(!isOwn("", from: other, isFunction: true))
    }

    @Test("a connection that closes is forgotten before its calls end") mutating func closed() {
        guardian.begin(run: 1, traceparent: traceparent, server: server)
        guardian.forget(server)
        #expect(!isOwn("", from: server, isFunction: true))
        #expect(isOwn(traceID, from: other, isFunction: false))
        guardian.end(run: 1)
        #expect(!isOwn("", from: other, isFunction: true))
    }

    private func trace(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "a", count: 32 - digits.count) + digits
    }

    @Test("the trace ids of the last 4,096 calls that have ended count") mutating func endedCalls()
    {
        for number in 0...4096 {
            guardian.begin(
                run: UInt64(number), traceparent: "00-\(trace(number))-b7ad6b7169203331-01",
                server: nil)
            guardian.end(run: UInt64(number))
        }
        #expect(!isOwn(trace(0), from: other, isFunction: false))
        #expect(isOwn(trace(1), from: other, isFunction: false))
        #expect(isOwn(trace(4096), from: other, isFunction: false))
    }

    /// W3C Trace Context, section 3.2.2.
    @Test("a trace context has a version, two ids and the flag of a sampled trace")
    func traceContext() {
        var uuids = [
            "11111111-2222-4333-8444-555555555555", "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee",
        ]
        #expect(
            LogGuard.traceparent { uuids.removeFirst() }
                == "00-11111111222243338444555555555555-aaaaaaaabbbb4ccc-01")
    }

    @Test("what it makes is what it recognises") mutating func recognises() {
        let traceparent = LogGuard.traceparent { "11111111-2222-4333-8444-555555555555" }
        guardian.begin(run: 1, traceparent: traceparent, server: nil)
        #expect(isOwn("11111111222243338444555555555555", from: other, isFunction: false))
    }
}
