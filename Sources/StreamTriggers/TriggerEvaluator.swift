package import StreamModel

/// What the evaluation of triggers wants done, in this order.
package enum TriggerAction<Payload: CallPayload>: Sendable {
    /// Call a function, if the rules let it; the answer, or what came of it, is given back with
    /// ``TriggerEvaluator/callEnded`` or ``TriggerEvaluator/callForbidden``.
    case call(
        run: UInt64, TriggerCall, CallInput<Payload>, traceparent: String?, timeout: UInt64)
    /// A join is decided.
    case decideJoin(ConnectionID, Payload, isAllowed: Bool)
    /// Read no further calls of this connection, or read them again. They pair up.
    case hold(ConnectionID)
    case release(ConnectionID)
    case log(LogLine)
}

/// What has been counted since the start.
package struct TriggerCounters: Hashable, Sendable {
    /// Handlers called.
    package var handled: UInt64 = 0
    /// Conditions that said no.
    package var skipped: UInt64 = 0
    /// Conditions and handlers that failed, timed out ones included.
    package var failed: UInt64 = 0
    package var timedOut: UInt64 = 0
    /// Events dropped because their trigger's queue stayed full.
    package var dropped: UInt64 = 0
    /// Times that a writer was made to wait.
    package var holds: UInt64 = 0
    package var joinsRefused: UInt64 = 0
    /// Handlers and conditions that were not called, because the registrant may not call them.
    package var forbidden: UInt64 = 0

    package init() {}
}

/// Decides which triggers an event calls, in which order, and what their answers mean.
///
/// Each trigger has a queue of its own. Events of one item (or one subscription) are handled one after the
/// other, condition included; everything else at once, up to a limit. When more wait than may, the connections
/// that go on writing are held; after the handler timeout they are let go and the oldest events are dropped.
/// Pure: events go in, actions come out; time is an argument.
package struct TriggerEvaluator<Payload: CallPayload>: Sendable {
    package typealias Actions = [TriggerAction<Payload>]
    package typealias Event = TriggerEvent<Payload>

    private enum Stage: Sendable {
        case condition, handler
    }

    private struct QueueRun: Sendable {
        var trigger: Name
        /// Of the queue: one that came later under the same id is another.
        var queue: UInt64
        var event: Event
        var stage: Stage
    }

    private struct JoinRun: Sendable {
        var connection: ConnectionID
        var payload: Payload
        var triggers: [ActiveTrigger]
        var next = 0
        var stage = Stage.condition
        var isRefused = false
    }

    private enum Run: Sendable {
        case queue(QueueRun)
        case join(JoinRun)
    }

    private let limits: TriggerLimits
    private let failOpen: Bool
    private var queues: [Name: (id: UInt64, queue: TriggerQueue<Payload>)] = [:]
    private var runs: [UInt64: Run] = [:]
    private var nextID: UInt64 = 1
    private var fullQueues: Set<Name> = []
    private var warned = WarnedFunctions()

    package private(set) var counters = TriggerCounters()

    /// - Parameter failOpen: whether a join is allowed when its handler or condition fails.
    package init(limits: TriggerLimits = TriggerLimits(), failOpen: Bool = false) {
        self.limits = limits
        self.failOpen = failOpen
    }

    /// Handlers and conditions that have not answered, and events that wait.
    package var pendingCount: Int {
        queues.values.reduce(runs.count) { $0 + $1.queue.waitingCount }
    }

    /// How many events wait for a trigger.
    package func waitingCount(of trigger: Name) -> Int {
        queues[trigger]?.queue.waitingCount ?? 0
    }

    private mutating func takeID() -> UInt64 {
        defer { nextID += 1 }
        return nextID
    }

    // MARK: Events

    /// An event for `triggers`, which are in their order.
    /// - Parameters:
    ///   - registry: to look triggers up when their turn comes.
    ///   - servers: the connections that serve the functions of a trigger; they are never held.
    package mutating func fire(
        _ event: Event, at triggers: [ActiveTrigger], _ registry: TriggerRegistry, now: UInt64,
        servers: (ActiveTrigger) -> [ConnectionID], into actions: inout Actions
    ) {
        for trigger in triggers {
            if queues[trigger.id] == nil { queues[trigger.id] = (takeID(), TriggerQueue()) }
            queues[trigger.id]?.queue.append(event)
            startWaiting(trigger.id, registry, into: &actions)
            holdOrDrop(event, trigger, now: now, servers, into: &actions)
        }
    }

    /// A lane that keeps no order with any other event.
    package mutating func loneLane() -> TriggerLane { .alone(takeID()) }

    /// Makes room in a queue that is full with what could not start.
    private mutating func holdOrDrop(
        _ event: Event, _ trigger: ActiveTrigger, now: UInt64,
        _ servers: (ActiveTrigger) -> [ConnectionID], into actions: inout Actions
    ) {
        let id = trigger.id
        // Looked at in place: with a second reference to the queue, each change of it would copy it whole.
        let isFull =
            event.isDroppable
            ? queues[id]?.queue.isFull(limits) : queues[id]?.queue.isOversized(limits)
        guard isFull == true else { return }
        let canWait =
            queues[id]?.queue.isDropping == false
            && event.writer.map { !servers(trigger).contains($0) } ?? false
        guard canWait, let writer = event.writer else {
            return dropOldest(id, into: &actions)
        }
        guard queues[id]?.queue.held.insert(writer).inserted == true else { return }
        if queues[id]?.queue.holdDeadline == nil {
            queues[id]?.queue.holdDeadline = now + limits.timeout
        }
        fullQueues.insert(id)
        counters.holds += 1
        actions.append(.hold(writer))
    }

    /// Drops until the queue is not full: one large event may take the room of many.
    private mutating func dropOldest(_ id: Name, into actions: inout Actions) {
        while queues[id]?.queue.isFull(limits) == true, queues[id]?.queue.dropOldest() != nil {
            counters.dropped += 1
            actions.append(.log(LogLine(.warning, "trigger_event_dropped", ["trigger": id.string])))
        }
    }

    private mutating func startWaiting(
        _ id: Name, _ registry: TriggerRegistry, into actions: inout Actions
    ) {
        guard let queueID = queues[id]?.id, let trigger = registry.active(id) else { return }
        while let event = queues[id]?.queue.start(limits) {
            let run = QueueRun(trigger: id, queue: queueID, event: event, stage: .condition)
            start(run, trigger, into: &actions)
        }
        letGoIfShort(id, into: &actions)
    }

    private mutating func start(
        _ run: QueueRun, _ trigger: ActiveTrigger, into actions: inout Actions
    ) {
        var run = run
        let number = takeID()
        if trigger.conditionFunctionID == nil { run.stage = .handler }
        let call = trigger.conditionCall ?? trigger.handlerCall
        if run.stage == .handler { counters.handled += 1 }
        runs[number] = .queue(run)
        actions.append(
            .call(
                run: number, call, run.event.input,
                traceparent: run.event.traceparent, timeout: limits.timeout))
    }

    private mutating func letGoIfShort(_ id: Name, into actions: inout Actions) {
        guard queues[id]?.queue.isShort(limits) == true else { return }
        letGo(id, into: &actions)
        queues[id]?.queue.isDropping = false
        if queues[id]?.queue.isIdle == true { queues[id] = nil }
    }

    private mutating func letGo(_ id: Name, into actions: inout Actions) {
        guard fullQueues.remove(id) != nil else { return }
        for writer in queues[id]?.queue.held ?? [] { actions.append(.release(writer)) }
        queues[id]?.queue.held = []
        queues[id]?.queue.holdDeadline = nil
    }

    /// Triggers that are gone: their events are too.
    package mutating func forget(_ ids: Set<Name>, into actions: inout Actions) {
        for id in ids {
            letGo(id, into: &actions)
            queues[id] = nil
        }
    }

    /// A connection that has closed waits for nothing.
    package mutating func forget(_ writer: ConnectionID) {
        for id in fullQueues { queues[id]?.queue.held.remove(writer) }
    }

    // MARK: Time

    /// When ``tick(now:into:)`` has something to do.
    package var nextDeadline: UInt64? {
        fullQueues.compactMap { queues[$0]?.queue.holdDeadline }.min()
    }

    package mutating func tick(now: UInt64, into actions: inout Actions) {
        for id in fullQueues {
            guard let deadline = queues[id]?.queue.holdDeadline, deadline <= now else { continue }
            letGo(id, into: &actions)
            queues[id]?.queue.isDropping = true
            dropOldest(id, into: &actions)
        }
    }

    // MARK: Joins

    /// A client wants to join: `triggers` decide, one after the other.
    package mutating func askJoin(
        _ connection: ConnectionID, _ payload: Payload, _ triggers: [ActiveTrigger],
        into actions: inout Actions
    ) {
        step(
            JoinRun(connection: connection, payload: payload, triggers: triggers), into: &actions)
    }

    private mutating func step(_ join: JoinRun, into actions: inout Actions) {
        guard join.next < join.triggers.count else {
            if join.isRefused { counters.joinsRefused += 1 }
            return actions.append(
                .decideJoin(join.connection, join.payload, isAllowed: !join.isRefused))
        }
        var join = join
        let trigger = join.triggers[join.next]
        if join.stage == .condition, trigger.conditionFunctionID == nil { join.stage = .handler }
        let call =
            join.stage == .condition
            ? trigger.conditionCall ?? trigger.handlerCall : trigger.handlerCall
        if join.stage == .handler { counters.handled += 1 }
        let number = takeID()
        runs[number] = .join(join)
        actions.append(
            .call(
                run: number, call, .message(join.payload), traceparent: nil,
                timeout: limits.timeout))
    }

    private mutating func joinCallEnded(
        _ join: JoinRun, _ outcome: CallOutcome, into actions: inout Actions
    ) {
        var join = join
        let trigger = join.triggers[join.next]
        switch (join.stage, outcome) {
        case (_, .failure(let error)):
            noteFailure(trigger, error, "join", into: &actions)
            if !failOpen { join.isRefused = true }
        case (.condition, .success(let result)):
            guard result?.isFalse != true else {
                counters.skipped += 1
                break
            }
            join.stage = .handler
            return step(join, into: &actions)
        case (.handler, .success(let result)):
            if isRefusal(result, trigger, into: &actions) { join.isRefused = true }
        }
        goOn(join, into: &actions)
    }

    /// The next trigger is asked.
    private mutating func goOn(_ join: JoinRun, into actions: inout Actions) {
        var join = join
        join.next += 1
        join.stage = .condition
        step(join, into: &actions)
    }

    private mutating func isRefusal(
        _ result: JSONText?, _ trigger: ActiveTrigger, into actions: inout Actions
    ) -> Bool {
        if failOpen { return GuardAnswer.isRefusalOfTheOriginal(result) }
        let answer = GuardAnswer(result)
        if let oddity = answer.oddity, warned.isFirst(trigger.functionID) {
            actions.append(
                .log(
                    LogLine(
                        .warning, "join_result_odd",
                        [
                            "trigger": trigger.id.string, "function_id": trigger.functionID,
                            "found": oddity, "detail": GuardAnswer.shape,
                        ])))
        }
        return answer.isRefusal
    }

    // MARK: Answers

    /// A call that an action asked for has ended. An unknown run is one of a trigger that is gone.
    package mutating func callEnded(
        _ run: UInt64, _ outcome: CallOutcome, _ registry: TriggerRegistry,
        into actions: inout Actions
    ) {
        switch runs.removeValue(forKey: run) {
        case .join(let join): joinCallEnded(join, outcome, into: &actions)
        case .queue(let run): queueCallEnded(run, outcome, registry, into: &actions)
        case nil: break
        }
    }

    /// A call that an action asked for was not made: the registrant of the trigger may not call the function. A
    /// handler is skipped; a condition counts as failed.
    package mutating func callForbidden(
        _ run: UInt64, _ registry: TriggerRegistry, into actions: inout Actions
    ) {
        counters.forbidden += 1
        switch runs.removeValue(forKey: run) {
        case .join(let join):
            let trigger = join.triggers[join.next]
            guard join.stage == .handler else {
                return joinCallEnded(join, .forbidden, into: &actions)
            }
            counters.handled -= 1
            noteForbidden(trigger.handlerCall, into: &actions)
            goOn(join, into: &actions)
        case .queue(let run):
            guard run.stage == .handler else {
                return queueCallEnded(run, .forbidden, registry, into: &actions)
            }
            counters.handled -= 1
            if let trigger = registry.active(run.trigger) {
                noteForbidden(trigger.handlerCall, into: &actions)
            }
            finish(run, registry, into: &actions)
        case nil:
            break
        }
    }

    private func noteForbidden(_ call: TriggerCall, into actions: inout Actions) {
        actions.append(
            .log(
                LogLine(
                    .warning, "trigger_forbidden",
                    ["trigger": call.trigger.string, "function_id": call.functionID])))
    }

    private mutating func queueCallEnded(
        _ run: QueueRun, _ outcome: CallOutcome, _ registry: TriggerRegistry,
        into actions: inout Actions
    ) {
        guard queues[run.trigger]?.id == run.queue, let trigger = registry.active(run.trigger)
        else { return }
        if case .failure(let error) = outcome {
            let what = run.stage == .condition ? "condition" : "handler"
            noteFailure(trigger, error, what, into: &actions)
        } else if run.stage == .condition {
            if case .success(let result) = outcome, result?.isFalse == true {
                counters.skipped += 1
            } else {
                return handle(run, trigger, into: &actions)
            }
        }
        finish(run, registry, into: &actions)
    }

    private mutating func finish(
        _ run: QueueRun, _ registry: TriggerRegistry, into actions: inout Actions
    ) {
        guard queues[run.trigger]?.id == run.queue else { return }
        queues[run.trigger]?.queue.finish(run.event.lane)
        startWaiting(run.trigger, registry, into: &actions)
    }

    private mutating func handle(
        _ run: QueueRun, _ trigger: ActiveTrigger, into actions: inout Actions
    ) {
        var run = run
        run.stage = .handler
        counters.handled += 1
        let number = takeID()
        runs[number] = .queue(run)
        actions.append(
            .call(
                run: number, trigger.handlerCall, run.event.input,
                traceparent: run.event.traceparent, timeout: limits.timeout))
    }

    private mutating func noteFailure(
        _ trigger: ActiveTrigger, _ error: InvocationError, _ what: String,
        into actions: inout Actions
    ) {
        counters.failed += 1
        if error.isTimeout { counters.timedOut += 1 }
        actions.append(
            .log(
                LogLine(
                    .warning, "trigger_\(what)_failed",
                    [
                        "trigger": trigger.id.string, "function_id": trigger.functionID,
                        "code": error.code.prefix(bytes: 64),
                    ])))
    }
}

extension CallOutcome {
    fileprivate static let forbidden = CallOutcome.failure(
        InvocationError(code: "FORBIDDEN", message: "the registrant may not call it"))
}
