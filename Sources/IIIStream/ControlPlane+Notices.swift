internal import StreamCore
internal import StreamModel
internal import StreamTriggers
internal import StreamWorkers

/// What the node itself announces: log records, and changes of its functions and workers.
extension ControlPlane {
    // MARK: Log records

    func fireRecords(of message: CoreMessage, from worker: ConnectionID, at moment: Moment) {
        for record in TelemetryLogRecord.records(ofOTLP: message.data, at: moment) {
            fire(record, isFunction: false, from: worker, at: moment)
        }
        message.settle()
    }

    func fire(_ record: TelemetryLogRecord, from worker: ConnectionID, at moment: Moment) {
        fire(record, isFunction: true, from: worker, at: moment)
    }

    private func fire(
        _ record: TelemetryLogRecord, isFunction: Bool, from worker: ConnectionID, at moment: Moment
    ) {
        let triggers = router.triggers.triggers(onLogOf: record.severityNumber)
        guard !triggers.isEmpty, keepsRecord() else { return }
        // What a handler logs while it handles a record would come back to it, for ever.
        let ownLine = logGuard.isOwnLine(record, from: worker, isFunction: isFunction)
        guard !ownLine else { return }
        let input = record.json
        fire(
            TriggerEvent(
                input: .text(input), lane: .single, writer: worker == .node ? nil : worker,
                size: input.bytes.count, traceparent: logGuard.makeTraceparent()),
            at: triggers, at: moment)
    }

    // MARK: Functions and workers

    func fireFunctionsChanged(at moment: Moment) {
        functionsNotice.fire(at: moment)
        let triggers = router.triggers.triggers(onEventOf: "engine::functions-available")
        guard !triggers.isEmpty else { return }
        var payload = JSONObjectWriter()
        payload.add("event", "functions_changed")
        payload.add("functions", router.functionInfos(includeInternal: true))
        fire(payload.finish(), triggers, at: moment)
    }

    func fireWorkersChanged(_ event: String, _ workerID: String, at moment: Moment) {
        let triggers = router.triggers.triggers(onEventOf: "engine::workers-available")
        guard !triggers.isEmpty else { return }
        var payload = JSONObjectWriter()
        payload.add("event", event)
        payload.add("worker_id", workerID)
        fire(payload.finish(), triggers, at: moment)
    }

    private func fire(_ payload: JSONText, _ triggers: [ActiveTrigger], at moment: Moment) {
        let lane = evaluator.loneLane()
        fire(
            TriggerEvent(
                input: .text(payload), lane: lane, writer: nil, size: payload.bytes.count),
            at: triggers, at: moment)
    }
}

/// When the trigger type `engine::functions-available` fires: once for many changes.
struct FunctionsNotice {
    /// Milliseconds after the last change, and between two notices.
    private static let quiet: UInt64 = 100
    private static let interval: UInt64 = 1000

    private(set) var due: UInt64?
    private var last: UInt64?

    mutating func change(at moment: Moment) {
        let earliest = last.map { $0 + Self.interval } ?? 0
        due = max(moment.uptime + Self.quiet, earliest)
    }

    func isDue(at moment: Moment) -> Bool {
        due.map { $0 <= moment.uptime } ?? false
    }

    mutating func fire(at moment: Moment) {
        due = nil
        last = moment.uptime
    }
}

/// Knows which log records handlers of `log` triggers have written themselves: those with the trace id that
/// their call was given, and those that their connection writes with `engine::log::*` meanwhile. The trace ids
/// of the last 4,096 calls that have ended still count.
struct LogGuard {
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

    /// The trace context of one call of a handler (W3C Trace Context, version 00).
    func makeTraceparent() -> String {
        let trace = UUIDText.random().filter { $0 != "-" }
        let span = UUIDText.random().filter { $0 != "-" }.prefix(16)
        return "00-\(trace)-\(span)-01"
    }

    mutating func begin(run: UInt64, traceparent: String?, server: ConnectionID?) {
        guard let traceparent else { return }
        let traceID = String(traceparent.dropFirst(3).prefix(32))
        traceIDs[run] = traceID
        tracing[traceID, default: 0] += 1
        guard let server else { return }
        servers[run] = server
        handling[server, default: 0] += 1
    }

    mutating func end(run: UInt64) {
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

    mutating func forget(_ connection: ConnectionID) {
        handling[connection] = nil
    }

    func isOwnLine(_ record: TelemetryLogRecord, from worker: ConnectionID, isFunction: Bool) -> Bool {
        tracing[record.traceID] != nil || endedIDs.contains(record.traceID)
            || (isFunction && handling[worker] != nil)
    }
}
