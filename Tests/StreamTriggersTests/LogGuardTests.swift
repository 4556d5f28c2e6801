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

    /// The triggers that skip a line.
    private func authors(_ traceID: String, from worker: ConnectionID, isFunction: Bool) -> [String]
    {
        guardian.authors(of: record(traceID), from: worker, isFunction: isFunction)
            .map(\.string).sorted()
    }

    private mutating func begin(
        _ run: UInt64, _ triggers: String..., trace: String? = nil, at server: ConnectionID? = nil
    ) {
        guardian.begin(
            run: run, authors: Set(triggers.map { Name($0) }),
            traceparent: trace.map { "00-\($0)-b7ad6b7169203331-01" } ?? traceparent, server: server
        )
    }

    @Test("without a call under way no line is a trigger's own", arguments: [true, false])
    func nothing(isFunction: Bool) {
        #expect(authors("", from: server, isFunction: isFunction).isEmpty)
        #expect(authors(traceID, from: server, isFunction: isFunction).isEmpty)
    }

    @Test(
        "a line with the trace id of a call is its trigger's, whoever sends it, however, also when it comes late"
    )
    mutating func byTrace() {
        begin(1, "a", at: server)
        for worker in [other, .node] {
            #expect(authors(traceID, from: worker, isFunction: true) == ["a"])
            #expect(authors(traceID, from: worker, isFunction: false) == ["a"])
        }
        guardian.end(run: 1)
        #expect(authors(traceID, from: server, isFunction: false) == ["a"])
    }

    @Test("what the handler's connection writes with a function meanwhile is its trigger's")
    mutating func byConnection() {
        begin(1, "a", at: server)
        #expect(authors("", from: server, isFunction: true) == ["a"])
        #expect(authors("", from: server, isFunction: false).isEmpty)
        #expect(authors("", from: other, isFunction: true).isEmpty)
        guardian.end(run: 1)
        #expect(authors("", from: server, isFunction: true).isEmpty)
    }

    @Test("a connection that handles two records of a trigger is done after both")
    mutating func two() {
        begin(1, "a", trace: trace(1), at: server)
        begin(2, "a", trace: trace(2), at: server)
        guardian.end(run: 1)
        guardian.end(run: 1)
        #expect(authors("", from: server, isFunction: true) == ["a"])
        guardian.end(run: 2)
        #expect(authors("", from: server, isFunction: true).isEmpty)
    }

    @Test("one record at two triggers is each one's own by its trace alone")
    mutating func twoTriggers() {
        begin(1, "a", trace: trace(1), at: server)
        begin(2, "b", trace: trace(2), at: other)
        #expect(authors(trace(1), from: other, isFunction: false) == ["a"])
        #expect(authors(trace(2), from: server, isFunction: false) == ["b"])
        #expect(authors("", from: server, isFunction: true) == ["a"])
        guardian.end(run: 1)
        #expect(authors("", from: server, isFunction: true).isEmpty)
        #expect(authors("", from: other, isFunction: true) == ["b"])
    }

    /// Otherwise two triggers whose handlers log would answer each other for ever.
    @Test("what led to a record is its own too") mutating func chain() {
        begin(1, "a", "b", at: server)
        #expect(authors(traceID, from: other, isFunction: false) == ["a", "b"])
    }

    @Test("a handler that nobody serves is no connection's") mutating func noServer() {
        begin(1, "a")
        #expect(authors(traceID, from: other, isFunction: false) == ["a"])
        #expect(authors("", from: other, isFunction: true).isEmpty)
        guardian.end(run: 1)
        #expect(authors("", from: other, isFunction: true).isEmpty)
    }

    @Test("a connection that closes is forgotten before its calls end") mutating func closed() {
        begin(1, "a", at: server)
        guardian.forget(server)
        #expect(authors("", from: server, isFunction: true).isEmpty)
        #expect(authors(traceID, from: other, isFunction: false) == ["a"])
        guardian.end(run: 1)
        #expect(authors("", from: other, isFunction: true).isEmpty)
    }

    private func trace(_ number: Int) -> String {
        let digits = String(number)
        return String(repeating: "a", count: 32 - digits.count) + digits
    }

    @Test("the trace ids of the last 4,096 calls that have ended count") mutating func endedCalls()
    {
        for number in 0...4096 {
            begin(UInt64(number), "a", trace: trace(number))
            guardian.end(run: UInt64(number))
        }
        #expect(authors(trace(0), from: other, isFunction: false).isEmpty)
        #expect(authors(trace(1), from: other, isFunction: false) == ["a"])
        #expect(authors(trace(4096), from: other, isFunction: false) == ["a"])
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
        guardian.begin(run: 1, authors: [Name("a")], traceparent: traceparent, server: nil)
        #expect(
            authors("11111111222243338444555555555555", from: other, isFunction: false) == ["a"])
    }
}
