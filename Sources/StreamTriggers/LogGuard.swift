package import StreamModel

/// Knows which log records handlers of `log` triggers have written themselves: those with the trace id that
/// their call was given, and those that their connection writes with `engine::log::*` meanwhile. Their own trigger
/// skips such a record, and so do those whose handlers wrote what led to it: two triggers must not answer each other
/// for ever. All others get it. The trace ids of the last 4,096 calls that have ended still count.
package struct LogGuard: Sendable {
    private struct Run: Sendable {
        var traceID: String
        var authors: Set<Name>
        var server: ConnectionID?
    }

    private var runs: [UInt64: Run] = [:]
    /// Whose handlers have a call under way with a trace id, and which.
    private var tracing: [String: Set<Name>] = [:]
    /// The latest calls that have ended: telemetry comes in batches, after its call.
    private var ended: [String] = []
    private var endedAuthors: [String: Set<Name>] = [:]
    private var oldest = 0
    private static let endedMax = 4096
    /// How many calls of a trigger a connection handles.
    private var handling: [ConnectionID: [Name: Int]] = [:]

    package init() {}

    /// The trace context of one call of a handler (W3C Trace Context, version 00).
    /// - Parameter makeUUID: makes a random UUID, version 4, in lower case.
    package static func traceparent(_ makeUUID: () -> String) -> String {
        let trace = makeUUID().filter { $0 != "-" }
        let span = makeUUID().filter { $0 != "-" }.prefix(16)
        return "00-\(trace)-\(span)-01"
    }

    /// A call of a handler begins.
    /// - Parameters:
    ///   - authors: its trigger, and those whose handlers wrote what it handles.
    ///   - traceparent: of this call alone.
    package mutating func begin(
        run: UInt64, authors: Set<Name>, traceparent: String, server: ConnectionID?
    ) {
        let traceID = String(traceparent.dropFirst(3).prefix(32))
        runs[run] = Run(traceID: traceID, authors: authors, server: server)
        tracing[traceID] = authors
        guard let server else { return }
        for author in authors { handling[server, default: [:]][author, default: 0] += 1 }
    }

    package mutating func end(run: UInt64) {
        guard let run = runs.removeValue(forKey: run) else { return }
        tracing[run.traceID] = nil
        remember(run)
        guard let server = run.server, handling[server] != nil else { return }
        for author in run.authors {
            let count = handling[server]?[author] ?? 0
            handling[server]?[author] = count > 1 ? count - 1 : nil
        }
        if handling[server]?.isEmpty == true { handling[server] = nil }
    }

    private mutating func remember(_ run: Run) {
        endedAuthors[run.traceID] = run.authors
        if ended.count < Self.endedMax { return ended.append(run.traceID) }
        endedAuthors[ended[oldest]] = nil
        ended[oldest] = run.traceID
        oldest = (oldest + 1) % Self.endedMax
    }

    package mutating func forget(_ connection: ConnectionID) {
        handling[connection] = nil
    }

    /// The triggers that skip a record.
    /// - Parameter isFunction: whether the line came by `engine::log::*`, and not as telemetry.
    package func authors(
        of record: TelemetryLogRecord, from worker: ConnectionID, isFunction: Bool
    ) -> Set<Name> {
        var authors = tracing[record.traceID] ?? endedAuthors[record.traceID] ?? []
        if isFunction, let handled = handling[worker] { authors.formUnion(handled.keys) }
        return authors
    }
}
