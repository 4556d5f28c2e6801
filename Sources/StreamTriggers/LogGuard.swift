package import StreamModel

/// Knows which log records handlers of `log` triggers have written themselves: those with the trace id that
/// their call was given, and those that their connection writes with `engine::log::*` meanwhile. The trace ids
/// of the last 4,096 calls that have ended still count.
package struct LogGuard: Sendable {
    private var traceIDs: [UInt64: String] = [:]
    private var servers: [UInt64: ConnectionID] = [:]
    /// How many calls under way have a trace id, and how many a connection serves.
    private var tracing: [String: Int] = [:]
    /// Trace ids of the latest calls that have ended: telemetry comes in batches, after its call.
    private var ended: [String] = []
    private var endedIDs: Set<String> = []
    private var oldest = 0
    private static let endedMax = 4096
    private var handling: [ConnectionID: Int] = [:]

    package init() {}

    /// The trace context of one call of a handler (W3C Trace Context, version 00).
    /// - Parameter makeUUID: makes a random UUID, version 4, in lower case.
    package static func traceparent(_ makeUUID: () -> String) -> String {
        let trace = makeUUID().filter { $0 != "-" }
        let span = makeUUID().filter { $0 != "-" }.prefix(16)
        return "00-\(trace)-\(span)-01"
    }

    package mutating func begin(run: UInt64, traceparent: String?, server: ConnectionID?) {
        guard let traceparent else { return }
        let traceID = String(traceparent.dropFirst(3).prefix(32))
        traceIDs[run] = traceID
        tracing[traceID, default: 0] += 1
        guard let server else { return }
        servers[run] = server
        handling[server, default: 0] += 1
    }

    package mutating func end(run: UInt64) {
        guard let traceID = traceIDs.removeValue(forKey: run) else { return }
        decrement(&tracing, traceID)
        if tracing[traceID] == nil { remember(traceID) }
        if let server = servers.removeValue(forKey: run) { decrement(&handling, server) }
    }

    private mutating func remember(_ traceID: String) {
        guard endedIDs.insert(traceID).inserted else { return }
        if ended.count < Self.endedMax { return ended.append(traceID) }
        endedIDs.remove(ended[oldest])
        ended[oldest] = traceID
        oldest = (oldest + 1) % Self.endedMax
    }

    private func decrement<Key>(_ counts: inout [Key: Int], _ key: Key) {
        guard let count = counts[key] else { return }
        counts[key] = count > 1 ? count - 1 : nil
    }

    package mutating func forget(_ connection: ConnectionID) {
        handling[connection] = nil
    }

    /// - Parameter isFunction: whether the line came by `engine::log::*`, and not as telemetry.
    package func isOwnLine(
        _ record: TelemetryLogRecord, from worker: ConnectionID, isFunction: Bool
    ) -> Bool {
        tracing[record.traceID] != nil || endedIDs.contains(record.traceID)
            || (isFunction && handling[worker] != nil)
    }
}
