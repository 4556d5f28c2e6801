package import StreamModel

/// Decides which triggers an event calls, in which order, and what their answers mean.
///
/// Each trigger has a queue of its own. Events of one item (or one subscription) are handled one after the
/// other, condition included; everything else at once, up to a limit, and as long as the worker of the function
/// has room for further calls. When more wait than may, the connections that go on writing are held; after the
/// handler timeout they are let go and the oldest events are dropped. Pure: events go in, actions come out; time is
/// an argument.
package struct TriggerEvaluator<Payload: CallPayload>: Sendable {
    package typealias Actions = [TriggerAction<Payload>]
    package typealias Event = TriggerEvent<Payload>

    enum Stage: Sendable {
        case condition, handler
    }

    struct QueueRun: Sendable {
        var trigger: Name
        /// Of the queue: one that came later under the same id is another.
        var queue: UInt64
        var event: Event
        var stage: Stage
        var server: ConnectionID?
    }

    /// A worker that executes handlers and conditions of queues.
    private struct Server: Sendable {
        var count = 0
        var size = 0
        /// Triggers that wait until it has answered; ``endCall(of:_:_:into:)`` wakes them.
        var waiting = Fifo<Name>()
    }

    /// A connection whose events wait.
    private struct Writer: Sendable {
        var size = 0
        /// Queues that hold it, and itself if it has too many bytes waiting.
        var holds = 0
        /// Since it has had too many bytes waiting: when it is let go whatever they are.
        var deadline: Duration?
        /// Its events make the oldest go until half of its limit waits.
        var isDropping = false
        /// Its size as ``takeChangedWriters()`` has told it last, and whether it is among those to be told.
        var told = 0
        var isChanged = false

        var isIdle: Bool { size == 0 && holds == 0 && !isChanged }
    }

    struct JoinRun: Sendable {
        var connection: ConnectionID
        var payload: Payload
        var triggers: [ActiveTrigger]
        var next = 0
        var stage = Stage.condition
        var isRefused = false
        /// Some handler must have answered.
        var needsAnswer = false
        var isAnswered = false
    }

    enum Run: Sendable {
        case queue(QueueRun)
        case join(JoinRun)
    }

    let limits: TriggerLimits
    let failOpen: Bool
    private var queues: [Name: (id: UInt64, queue: TriggerQueue<Payload>)] = [:]
    var runs: [UInt64: Run] = [:]
    private var nextID: UInt64 = 1
    private var fullQueues: Set<Name> = []
    private var servers: [ConnectionID: Server] = [:]
    private var writers: [ConnectionID: Writer] = [:]
    /// Writers whose size has changed.
    private var changedWriters: [ConnectionID] = []
    /// Queues of triggers that are gone. Their events still have to be taken out.
    private var forgotten: [TriggerQueue<Payload>] = []
    /// Writers that are held for their own bytes.
    private var fullWriters: Set<ConnectionID> = []
    /// Triggers that wait for their server.
    private var waitingForServer: Set<Name> = []
    private var drops = DropNotice()
    var warned = WarnedFunctions()

    package internal(set) var counters = TriggerCounters()

    /// - Parameter failOpen: whether a join is allowed when its handler or condition fails.
    package init(limits: TriggerLimits = TriggerLimits(), failOpen: Bool = false) {
        self.limits = limits
        self.failOpen = failOpen
    }

    /// Handlers and conditions that have not answered, and events that wait.
    package var pendingCount: Int {
        (queues.values.map(\.queue) + forgotten).reduce(runs.count) { $0 + $1.waitingCount }
    }

    /// How many events wait for a trigger.
    package func waitingCount(of trigger: Name) -> Int {
        queues[trigger]?.queue.waitingCount ?? 0
    }

    mutating func takeID() -> UInt64 {
        defer { nextID += 1 }
        return nextID
    }

    // MARK: Events

    /// An event for `triggers`, which are in their order.
    /// - Parameters:
    ///   - registry: to look triggers up when their turn comes.
    ///   - serverOf: the connection that serves what a trigger calls. It is not held for that trigger.
    package mutating func fire(
        _ event: Event, at triggers: [ActiveTrigger], _ registry: TriggerRegistry, now: Duration,
        server serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
    ) {
        for trigger in triggers where event.authors?.contains(trigger.id) != true {
            if queues[trigger.id] == nil { queues[trigger.id] = (takeID(), TriggerQueue()) }
            if queues[trigger.id]?.queue.isBusy(limits) == true { counters.callWaits += 1 }
            queues[trigger.id]?.queue.append(event)
            noteWaiting(event)
            startWaiting(trigger.id, registry, serverOf, into: &actions)
            holdOrDrop(event, trigger, now: now, serverOf, into: &actions)
        }
    }

    /// Whether a connection takes no changes: it is held.
    package func isHeld(_ writer: ConnectionID) -> Bool { (writers[writer]?.holds ?? 0) > 0 }

    /// Whether events that a connection has caused wait.
    package func isWaiting(for writer: ConnectionID) -> Bool { (writers[writer]?.size ?? 0) > 0 }

    /// A lane that keeps no order with any other event.
    package mutating func loneLane() -> TriggerLane { .alone(takeID()) }

    private mutating func noteWaiting(_ event: Event) {
        change(event.writer ?? .node, by: event.size)
    }

    private mutating func change(_ writer: ConnectionID, by size: Int) {
        var state = writers[writer] ?? Writer()
        state.size += size
        if !state.isChanged {
            state.isChanged = true
            changedWriters.append(writer)
        }
        writers[writer] = state
    }

    /// The writers whose bytes that wait have changed since the last call, with those bytes and the change.
    package mutating func takeChangedWriters() -> [(writer: ConnectionID, size: Int, change: Int)] {
        guard !changedWriters.isEmpty else { return [] }
        defer { changedWriters = [] }
        return changedWriters.map { writer in
            guard var state = writers[writer] else { return (writer, 0, 0) }
            let change = state.size - state.told
            state.told = state.size
            state.isChanged = false
            writers[writer] = state.isIdle ? nil : state
            return (writer, state.size, change)
        }
    }

    /// An event waits no more: it has started, or is dropped.
    private mutating func noteTaken(_ event: Event, into actions: inout Actions) {
        let writer = event.writer ?? .node
        change(writer, by: -event.size)
        guard (writers[writer]?.size ?? 0) <= limits.waitingSizePerWriter / 2 else { return }
        writers[writer]?.isDropping = false
        if fullWriters.contains(writer) { letGo(writer, into: &actions) }
    }

    /// Makes room when more waits than may.
    private mutating func holdOrDrop(
        _ event: Event, _ trigger: ActiveTrigger, now: Duration,
        _ serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
    ) {
        let id = trigger.id
        // Looked at in place: with a second reference to the queue, each change of it would copy it whole.
        let isFull =
            event.isDroppable
            ? queues[id]?.queue.isFull(limits) : queues[id]?.queue.isOversized(limits)
        let writer = event.writer ?? .node
        let isOver = (writers[writer]?.size ?? 0) > limits.waitingSizePerWriter
        guard isFull == true || isOver else { return }
        let isHoldable =
            event.writer != nil && serverOf(trigger.handlerCall) != writer
            && trigger.conditionCall.flatMap(serverOf) != writer
        if isFull == true {
            let mayGrow =
                queues[id]?.queue.isDropping == false
                && queues[id]?.queue.isFarOver(limits) == false
            if isHoldable, mayGrow {
                hold(writer, for: id, now: now, into: &actions)
            } else {
                dropOldest(id, bySizeOnly: !event.isDroppable, into: &actions)
            }
        }
        guard isOver else { return }
        let isFarOver = (writers[writer]?.size ?? 0) > 2 * limits.waitingSizePerWriter
        if isHoldable, !isFarOver, writers[writer]?.isDropping == false {
            hold(writer, now: now, into: &actions)
        } else {
            dropOldest(of: writer, at: id, into: &actions)
        }
    }

    // MARK: Writers that wait

    private mutating func hold(
        _ writer: ConnectionID, for id: Name, now: Duration, into actions: inout Actions
    ) {
        guard queues[id]?.queue.held.insert(writer).inserted == true else { return }
        if queues[id]?.queue.holdDeadline == nil {
            queues[id]?.queue.holdDeadline = now + limits.timeout
        }
        fullQueues.insert(id)
        addHold(writer, into: &actions)
    }

    private mutating func hold(
        _ writer: ConnectionID, now: Duration, into actions: inout Actions
    ) {
        guard fullWriters.insert(writer).inserted else { return }
        writers[writer]?.deadline = now + limits.timeout
        addHold(writer, into: &actions)
    }

    private mutating func addHold(_ writer: ConnectionID, into actions: inout Actions) {
        writers[writer, default: Writer()].holds += 1
        guard writers[writer]?.holds == 1 else { return }
        counters.holds += 1
        actions.append(.hold(writer))
    }

    private mutating func removeHold(_ writer: ConnectionID, into actions: inout Actions) {
        guard var state = writers[writer], state.holds > 0 else { return }
        state.holds -= 1
        writers[writer] = state.isIdle ? nil : state
        if state.holds == 0 { actions.append(.release(writer)) }
    }

    private mutating func letGo(_ writer: ConnectionID, into actions: inout Actions) {
        guard fullWriters.remove(writer) != nil else { return }
        writers[writer]?.deadline = nil
        removeHold(writer, into: &actions)
    }

    private mutating func letGoIfShort(_ id: Name, into actions: inout Actions) {
        guard queues[id]?.queue.isShort(limits) == true else { return }
        letGo(id, into: &actions)
        queues[id]?.queue.isDropping = false
        if queues[id]?.queue.isIdle == true { queues[id] = nil }
    }

    private mutating func letGo(_ id: Name, into actions: inout Actions) {
        guard fullQueues.remove(id) != nil else { return }
        let held = queues[id]?.queue.held ?? []
        queues[id]?.queue.held = []
        queues[id]?.queue.holdDeadline = nil
        for writer in held { removeHold(writer, into: &actions) }
    }

    // MARK: Events that go

    /// Drops until the queue is not full: one large event may take the room of many.
    /// - Parameter bySizeOnly: however many wait, as long as their bytes are not too many.
    private mutating func dropOldest(
        _ id: Name, bySizeOnly: Bool = false, into actions: inout Actions
    ) {
        func isOver(_ queue: TriggerQueue<Payload>?) -> Bool? {
            bySizeOnly ? queue?.isOversized(limits) : queue?.isFull(limits)
        }
        while isOver(queues[id]?.queue) == true, drop(id, into: &actions) {}
    }

    /// The same until the writer has few enough bytes waiting, or nothing waits here.
    private mutating func dropOldest(
        of writer: ConnectionID, at id: Name, into actions: inout Actions
    ) {
        while (writers[writer]?.size ?? 0) > limits.waitingSizePerWriter, drop(id, into: &actions) {
        }
    }

    private mutating func drop(_ id: Name, into actions: inout Actions) -> Bool {
        guard let event = queues[id]?.queue.dropOldest() else { return false }
        counters.dropped += 1
        noteTaken(event, into: &actions)
        drops.note(id)
        return true
    }

    // MARK: Calls

    private mutating func startWaiting(
        _ id: Name, _ registry: TriggerRegistry, _ serverOf: (TriggerCall) -> ConnectionID?,
        into actions: inout Actions
    ) {
        guard let queueID = queues[id]?.id, let trigger = registry.active(id) else { return }
        let server = serverOf(trigger.conditionCall ?? trigger.handlerCall)
        while let size = queues[id]?.queue.nextSize(limits) {
            guard hasRoom(server, for: size) else {
                waitForServer(server, id)
                break
            }
            guard let event = queues[id]?.queue.start(limits) else { break }
            noteTaken(event, into: &actions)
            let stage: Stage = trigger.conditionFunctionID == nil ? .handler : .condition
            let run = QueueRun(trigger: id, queue: queueID, event: event, stage: stage)
            call(run, trigger, server, into: &actions)
        }
        letGoIfShort(id, into: &actions)
    }

    private func hasRoom(_ server: ConnectionID?, for size: Int) -> Bool {
        guard let server, let state = servers[server], state.count > 0 else { return true }
        return state.count < limits.inFlightPerServer
            && state.size + size <= limits.inFlightSizePerServer
    }

    private mutating func waitForServer(_ server: ConnectionID?, _ id: Name) {
        guard let server, waitingForServer.insert(id).inserted else { return }
        counters.serverWaits += 1
        servers[server, default: Server()].waiting.append(id)
    }

    /// Calls the condition or the handler of a run.
    private mutating func call(
        _ run: QueueRun, _ trigger: ActiveTrigger, _ server: ConnectionID?,
        into actions: inout Actions
    ) {
        var run = run
        run.server = server
        if let server {
            servers[server, default: Server()].count += 1
            servers[server]?.size += run.event.size
        }
        let input = run.event.input
        let call: TriggerCall
        switch run.stage {
        case .condition: call = trigger.conditionCall ?? trigger.handlerCall
        case .handler:
            counters.handled += 1
            call = trigger.handlerCall
            run.event.input = .text(.null)  // Only a condition's is needed once more.
        }
        let number = takeID()
        runs[number] = .queue(run)
        actions.append(
            .call(
                run: number, call, input,
                authors: run.event.authors.map { $0.union([trigger.id]) },
                timeout: limits.timeout))
    }

    /// Triggers that are looked at when one call of their server has ended.
    private static var looksPerCall: Int { 32 }

    /// The call of a run has ended: its server has room for others.
    private mutating func endCall(
        of run: QueueRun, _ registry: TriggerRegistry, _ serverOf: (TriggerCall) -> ConnectionID?,
        into actions: inout Actions
    ) {
        guard let server = run.server, servers[server] != nil else { return }
        servers[server]?.count -= 1
        servers[server]?.size -= run.event.size
        // Each looks once, and few at a time: one that goes on waiting is behind the others. A server without a call
        // is never left waiting.
        var left = servers[server]?.waiting.count ?? 0
        var looks = 0
        while left > 0, looks < Self.looksPerCall || servers[server]?.count == 0,
            hasRoom(server, for: 0), let id = servers[server]?.waiting.popFirst()
        {
            left -= 1
            looks += 1
            waitingForServer.remove(id)
            startWaiting(id, registry, serverOf, into: &actions)
        }
        if servers[server]?.count == 0, servers[server]?.waiting.isEmpty == true {
            servers[server] = nil
        }
    }

    /// Triggers that are gone: their events are too. Where many wait, ``forgetMore(into:)`` goes on.
    package mutating func forget(_ ids: Set<Name>, into actions: inout Actions) {
        for id in ids {
            letGo(id, into: &actions)
            guard var queue = queues.removeValue(forKey: id)?.queue else { continue }
            if !takeOut(Self.forgottenAtOnce, of: &queue, into: &actions) {
                forgotten.append(queue)
            }
        }
    }

    private static var forgottenAtOnce: Int { 4 }
    private static var forgottenPerStep: Int { 128 }

    /// - Returns: whether that was all.
    private mutating func takeOut(
        _ count: Int, of queue: inout TriggerQueue<Payload>, into actions: inout Actions
    ) -> Bool {
        for _ in 0..<count {
            guard let event = queue.dropOldest() else { return true }
            noteTaken(event, into: &actions)
        }
        return queue.waitingCount == 0
    }

    /// Whether events of triggers that are gone are still there.
    package var hasForgotten: Bool { !forgotten.isEmpty }

    /// Takes out some of them.
    package mutating func forgetMore(into actions: inout Actions) {
        guard var queue = forgotten.popLast() else { return }
        if !takeOut(Self.forgottenPerStep, of: &queue, into: &actions) { forgotten.append(queue) }
    }

    /// A connection that has closed waits for nothing.
    package mutating func forget(_ writer: ConnectionID) {
        for id in fullQueues { queues[id]?.queue.held.remove(writer) }
        fullWriters.remove(writer)
        guard var state = writers[writer] else { return }
        state.holds = 0
        state.deadline = nil
        writers[writer] = state.isIdle ? nil : state
    }

    // MARK: Time

    /// When ``tick(now:into:)`` has something to do.
    package var nextDeadline: Duration? {
        let queues = fullQueues.compactMap { self.queues[$0]?.queue.holdDeadline }.min()
        let writers = fullWriters.compactMap { self.writers[$0]?.deadline }.min()
        return [queues, writers, drops.due].compactMap(\.self).min()
    }

    package mutating func tick(now: Duration, into actions: inout Actions) {
        for id in fullQueues {
            guard let deadline = queues[id]?.queue.holdDeadline, deadline <= now else { continue }
            letGo(id, into: &actions)
            queues[id]?.queue.isDropping = true
            dropOldest(id, into: &actions)
        }
        for writer in fullWriters {
            guard let deadline = writers[writer]?.deadline, deadline <= now else { continue }
            letGo(writer, into: &actions)
            writers[writer]?.isDropping = true
        }
        if let line = drops.line(now: now) { actions.append(.log(line)) }
    }

    // MARK: Answers

    /// A call that an action asked for has ended. An unknown run is one of a trigger that is gone.
    package mutating func callEnded(
        _ run: UInt64, _ outcome: CallOutcome, _ registry: TriggerRegistry,
        server serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
    ) {
        switch runs.removeValue(forKey: run) {
        case .join(let join): joinCallEnded(join, outcome, into: &actions)
        case .queue(let run):
            queueCallEnded(run, outcome, registry, serverOf, into: &actions)
            endCall(of: run, registry, serverOf, into: &actions)
        case nil: break
        }
    }

    /// A call that an action asked for was not made: the registrant of the trigger may not call the function. A
    /// handler is skipped; a condition counts as failed.
    package mutating func callForbidden(
        _ run: UInt64, _ registry: TriggerRegistry,
        server serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
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
            if run.stage == .handler {
                counters.handled -= 1
                if let trigger = registry.active(run.trigger) {
                    noteForbidden(trigger.handlerCall, into: &actions)
                }
                finish(run, registry, serverOf, into: &actions)
            } else {
                queueCallEnded(run, .forbidden, registry, serverOf, into: &actions)
            }
            endCall(of: run, registry, serverOf, into: &actions)
        case nil:
            break
        }
    }

    func noteForbidden(_ call: TriggerCall, into actions: inout Actions) {
        actions.append(
            .log(
                LogLine(
                    .warning, "trigger_forbidden",
                    ["trigger": call.trigger.string, "function_id": call.functionID])))
    }

    private mutating func queueCallEnded(
        _ run: QueueRun, _ outcome: CallOutcome, _ registry: TriggerRegistry,
        _ serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
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
                var run = run
                run.stage = .handler
                return call(run, trigger, serverOf(trigger.handlerCall), into: &actions)
            }
        }
        finish(run, registry, serverOf, into: &actions)
    }

    private mutating func finish(
        _ run: QueueRun, _ registry: TriggerRegistry,
        _ serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
    ) {
        guard queues[run.trigger]?.id == run.queue else { return }
        queues[run.trigger]?.queue.finish(run.event.lane)
        startWaiting(run.trigger, registry, serverOf, into: &actions)
    }

    mutating func noteFailure(
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
