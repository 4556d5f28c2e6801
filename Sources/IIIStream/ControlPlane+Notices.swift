internal import StreamCore
internal import StreamFunctions
internal import StreamModel
internal import StreamTriggers
internal import StreamWorkers

/// What the node itself announces: log records, and changes of its functions and workers.
extension ControlPlane {
    // MARK: Log records

    /// Goes on with the records of a message until its slice of time is over or its sender is held.
    /// - Returns: whether some are left.
    func fireRecords(_ work: inout LogWork, from worker: ConnectionID, until due: Duration) -> Bool
    {
        repeat {
            guard !evaluator.isHeld(worker) else { return true }
            if var event = work.firing {
                let isDone = fire(&event, until: due)
                work.firing = isDone ? nil : event
                continue
            }
            guard let record = work.reader.next() else {
                work.message.settle()
                return false
            }
            work.firing = event(of: record, isFunction: false, from: worker, at: work.moment)
        } while clock.uptime() < due
        return true
    }

    func fire(_ record: TelemetryLogRecord, from worker: ConnectionID, at moment: Moment) {
        guard let event = event(of: record, isFunction: true, from: worker, at: moment) else {
            return
        }
        fire(event, in: .logs(worker))
    }

    /// What a record fires; nil: nothing.
    private func event(
        of record: TelemetryLogRecord, isFunction: Bool, from worker: ConnectionID,
        at moment: Moment
    ) -> FireWork? {
        let triggers = router.triggers.triggers(onLogOf: record.severityNumber)
        guard !triggers.isEmpty, keepsRecord() else { return nil }
        // What a handler logs while it handles a record would come back to it, for ever.
        let authors = logGuard.authors(of: record, from: worker, isFunction: isFunction)
        guard !triggers.allSatisfy({ authors.contains($0.id) }) else { return nil }
        let input = record.json
        return FireWork(
            event: TriggerEvent(
                input: .text(input), lane: .single, writer: worker == .node ? nil : worker,
                size: input.bytes.count + Evaluator.Event.overhead, authors: authors),
            triggers: triggers, message: nil, moment: moment)
    }

    // MARK: Functions and workers

    func fireFunctionsChanged(at moment: Moment) {
        functionsNotice.fire(at: moment)
        let triggers = router.triggers.triggers(onEventOf: "engine::functions-available")
        // Those without rules see the same; each of the others sees what it may call.
        let open = triggers.filter { !$0.isRestricted }
        if !open.isEmpty { work.append(.functions(.node, open), to: .notices) }
        let restricted = Dictionary(grouping: triggers.filter(\.isRestricted), by: \.owner)
        for (owner, triggers) in restricted {
            work.append(.functions(owner, triggers), to: .notices)
        }
    }

    func fireFunctionsChanged(
        for worker: ConnectionID, _ triggers: [ActiveTrigger], at moment: Moment
    ) {
        guard let infos = router.functionInfos(includeInternal: true, for: worker) else {
            return log.write(
                .warn, "functions_notice_too_large",
                [
                    "detail": .text(
                        "the functions of all workers are more than a notice may hold: it was not sent"
                    )
                ])
        }
        var payload = JSONObjectWriter()
        payload.add("event", "functions_changed")
        payload.add("functions", infos)
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
            FireWork(
                event: TriggerEvent(
                    input: .text(payload), lane: lane, writer: nil,
                    size: payload.bytes.count + Evaluator.Event.overhead),
                triggers: triggers, message: nil, moment: moment), in: .notices)
    }
}

/// A message of log records on its way through the control plane.
struct LogWork: Sendable {
    let message: CoreMessage
    let moment: Moment
    var reader: TelemetryLogReader
    /// A record that not all triggers have.
    var firing: FireWork?

    init(_ message: CoreMessage, at moment: Moment) {
        self.message = message
        self.moment = moment
        reader = TelemetryLogReader(message.data, at: moment)
    }
}
