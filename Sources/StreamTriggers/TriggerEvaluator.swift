package import StreamModel

/// Decides which triggers an event calls, in which order, and what their answers mean.
///
/// Each trigger has a queue of its own. Events of one item (or one subscription) are handled one after the
/// other, condition included; everything else at once, up to a limit, and as long as the worker of the function
/// has room for further calls. When more wait than may, the connections that go on writing are held; after the
/// handler timeout they are let go and the oldest events are dropped. Pure: events go in, actions come out; time is
/// an argument.
package struct TriggerEvaluator: Sendable {
    package typealias Actions = [TriggerAction]
    package typealias Event = TriggerEvent

    enum Stage: Sendable {
        case condition, handler
    }

    /// The queue of a trigger, in its place.
    private struct Queue: Sendable {
        var trigger: Name
        /// One that came later, in the same place or for the same trigger, is another. 0: the place is free.
        var id: UInt64
        var queue = TriggerQueue()
    }

    struct QueueRun: Sendable {
        /// Where the queue is, and which it is.
        var place: Int
        var queue: UInt64
        var started: TriggerQueue.Started
        var stage: Stage
        var server: ConnectionID?
    }

    /// A worker that executes handlers and conditions of queues.
    private struct Server: Sendable {
        var count = 0
        var size = 0
        /// The places of queues that wait until it has answered; ``endCall(of:_:_:into:)`` wakes them.
        var waiting = Fifo<Int>()

        mutating func add(_ bytes: Int) {
            count += 1
            size += bytes
        }
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

        /// - Returns: its size, and whether it had not changed since it was told.
        mutating func add(_ change: Int, short: Int) -> (size: Int, isFirstChange: Bool) {
            let isFirst = !isChanged
            isChanged = true
            size += change
            if change < 0, size <= short { isDropping = false }
            return (size, isFirst)
        }
    }

    struct JoinRun: Sendable {
        var connection: ConnectionID
        var payload: any CallPayload
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
    private var queues: [Queue] = []
    private var freePlaces: [Int] = []
    private var places: [Name: Int] = [:]
    var runs = RunTable()
    private var nextID: UInt64 = 1
    private var fullQueues: Set<Int> = []
    private var servers: [ConnectionID: Server] = [:]
    private var writers: [ConnectionID: Writer] = [:]
    /// Writers whose size has changed.
    private var changedWriters: [ConnectionID] = []
    /// Queues of triggers that are gone. Their events still have to be taken out.
    private var forgotten: [TriggerQueue] = []
    /// Writers that are held for their own bytes.
    private var fullWriters: Set<ConnectionID> = []
    /// The places of queues that wait for their server.
    private var waitingForServer: Set<Int> = []
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
        (queues.map(\.queue) + forgotten).reduce(runs.count) { $0 + $1.waitingCount }
    }

    /// How many events wait for a trigger.
    package func waitingCount(of trigger: Name) -> Int {
        places[trigger].map { queues[$0].queue.waitingCount } ?? 0
    }

    mutating func takeID() -> UInt64 {
        defer { nextID += 1 }
        return nextID
    }

    // MARK: Events

    /// An event for `triggers`, which are in their order.
    /// - Parameters:
    ///   - active: looks a trigger up.
    ///   - serverOf: the connection that serves what a trigger calls. It is not held for that trigger.
    package mutating func fire(
        _ event: Event, at triggers: [ActiveTrigger], active: (Name) -> ActiveTrigger?,
        now: Duration, server serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
    ) {
        for trigger in triggers where event.authors?.contains(trigger.id) != true {
            let place = places[trigger.id] ?? takePlace(trigger.id)
            if queues[place].queue.isBusy(limits) { counters.callWaits += 1 }
            queues[place].queue.append(event)
            noteWaiting(event)
            startWaiting(place, trigger, serverOf, into: &actions)
            holdOrDrop(event, place, trigger, now: now, serverOf, into: &actions)
        }
    }

    private mutating func takePlace(_ trigger: Name) -> Int {
        let queue = Queue(trigger: trigger, id: takeID())
        let place: Int
        if let free = freePlaces.popLast() {
            place = free
            queues[place] = queue
        } else {
            place = queues.count
            queues.append(queue)
        }
        places[trigger] = place
        return place
    }

    /// - Returns: the queue that was there.
    private mutating func givePlace(_ place: Int) -> TriggerQueue {
        let queue = queues[place]
        places[queue.trigger] = nil
        waitingForServer.remove(place)
        queues[place] = Queue(trigger: Name(""), id: 0)
        freePlaces.append(place)
        return queue.queue
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

    /// - Returns: the bytes of the writer that wait now.
    @discardableResult
    private mutating func change(_ writer: ConnectionID, by size: Int) -> Int {
        let short = limits.waitingSizePerWriter / 2
        let after = writers[writer, default: Writer()].add(size, short: short)
        if after.isFirstChange { changedWriters.append(writer) }
        return after.size
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
        let size = change(writer, by: -event.size)
        guard size <= limits.waitingSizePerWriter / 2 else { return }
        if !fullWriters.isEmpty, fullWriters.contains(writer) { letGo(writer, into: &actions) }
    }

    /// Makes room when more waits than may.
    private mutating func holdOrDrop(
        _ event: Event, _ place: Int, _ trigger: ActiveTrigger, now: Duration,
        _ serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
    ) {
        let isFull =
            event.isDroppable
            ? queues[place].queue.isFull(limits) : queues[place].queue.isOversized(limits)
        let writer = event.writer ?? .node
        let isOver = (writers[writer]?.size ?? 0) > limits.waitingSizePerWriter
        guard isFull || isOver else { return }
        let isHoldable =
            event.writer != nil && serverOf(trigger.handlerCall) != writer
            && trigger.conditionCall.flatMap(serverOf) != writer
        if isFull {
            let mayGrow =
                !queues[place].queue.isDropping && !queues[place].queue.isFarOver(limits)
            if isHoldable, mayGrow {
                hold(writer, for: place, now: now, into: &actions)
            } else {
                dropOldest(place, bySizeOnly: !event.isDroppable, into: &actions)
            }
        }
        guard isOver else { return }
        let isFarOver = (writers[writer]?.size ?? 0) > 2 * limits.waitingSizePerWriter
        if isHoldable, !isFarOver, writers[writer]?.isDropping == false {
            hold(writer, now: now, into: &actions)
        } else {
            dropOldest(of: writer, at: place, into: &actions)
        }
    }

    // MARK: Writers that wait

    private mutating func hold(
        _ writer: ConnectionID, for place: Int, now: Duration, into actions: inout Actions
    ) {
        guard queues[place].queue.held.insert(writer).inserted else { return }
        if queues[place].queue.holdDeadline == nil {
            queues[place].queue.holdDeadline = now + limits.timeout
        }
        fullQueues.insert(place)
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

    private mutating func letGoIfShort(_ place: Int, into actions: inout Actions) {
        guard queues[place].queue.isShort(limits) else { return }
        if !fullQueues.isEmpty { letGoQueue(place, into: &actions) }
        queues[place].queue.isDropping = false
        if queues[place].queue.isIdle, queues[place].id != 0 { keepOrGive(place) }
    }

    /// Of a trigger with nothing to do a queue is kept as long as they are few: the next event finds it.
    private mutating func keepOrGive(_ place: Int) {
        if places.count > Self.idleQueuesMax { _ = givePlace(place) }
    }

    private static var idleQueuesMax: Int { 1024 }

    private mutating func letGoQueue(_ place: Int, into actions: inout Actions) {
        guard fullQueues.remove(place) != nil else { return }
        let held = queues[place].queue.held
        queues[place].queue.held = []
        queues[place].queue.holdDeadline = nil
        for writer in held { removeHold(writer, into: &actions) }
    }

    // MARK: Events that go

    /// Drops until the queue is not full: one large event may take the room of many.
    /// - Parameter bySizeOnly: however many wait, as long as their bytes are not too many.
    private mutating func dropOldest(
        _ place: Int, bySizeOnly: Bool = false, into actions: inout Actions
    ) {
        while bySizeOnly
            ? queues[place].queue.isOversized(limits) : queues[place].queue.isFull(limits),
            drop(place, into: &actions)
        {}
    }

    /// The same until the writer has few enough bytes waiting, or nothing waits here.
    private mutating func dropOldest(
        of writer: ConnectionID, at place: Int, into actions: inout Actions
    ) {
        while (writers[writer]?.size ?? 0) > limits.waitingSizePerWriter,
            drop(place, into: &actions)
        {}
    }

    private mutating func drop(_ place: Int, into actions: inout Actions) -> Bool {
        guard let event = queues[place].queue.dropOldest() else { return false }
        counters.dropped += 1
        noteTaken(event, into: &actions)
        drops.note(queues[place].trigger)
        return true
    }

    // MARK: Calls

    private mutating func startWaiting(
        _ place: Int, _ trigger: ActiveTrigger, _ serverOf: (TriggerCall) -> ConnectionID?,
        into actions: inout Actions
    ) {
        guard var size = queues[place].queue.nextSize(limits) else {
            return letGoIfShort(place, into: &actions)
        }
        let server = serverOf(trigger.conditionCall ?? trigger.handlerCall)
        while true {
            guard hasRoom(server, for: size) else {
                waitForServer(server, place)
                break
            }
            guard let started = queues[place].queue.start(limits) else { break }
            noteTaken(started.event, into: &actions)
            let stage: Stage = trigger.conditionFunctionID == nil ? .handler : .condition
            let run = QueueRun(
                place: place, queue: queues[place].id, started: started, stage: stage)
            call(run, trigger, server, into: &actions)
            guard let next = queues[place].queue.nextSize(limits) else { break }
            size = next
        }
        letGoIfShort(place, into: &actions)
    }

    private func hasRoom(_ server: ConnectionID?, for size: Int) -> Bool {
        guard let server, let state = servers[server], state.count > 0 else { return true }
        return state.count < limits.inFlightPerServer
            && state.size + size <= limits.inFlightSizePerServer
    }

    private mutating func waitForServer(_ server: ConnectionID?, _ place: Int) {
        guard let server, waitingForServer.insert(place).inserted else { return }
        counters.serverWaits += 1
        servers[server, default: Server()].waiting.append(place)
    }

    /// Calls the condition or the handler of a run.
    private mutating func call(
        _ run: QueueRun, _ trigger: ActiveTrigger, _ server: ConnectionID?,
        into actions: inout Actions
    ) {
        var run = run
        run.server = server
        if let server { servers[server, default: Server()].add(run.started.event.size) }
        let input = run.started.event.input
        let call: TriggerCall
        switch run.stage {
        case .condition: call = trigger.conditionCall ?? trigger.handlerCall
        case .handler:
            counters.handled += 1
            call = trigger.handlerCall
            run.started.event.input = .text(.null)  // Only a condition's is needed once more.
        }
        let authors = run.started.event.authors.map { $0.union([trigger.id]) }
        let needsResult = run.stage == .condition
        let number = runs.insert(.queue(run))
        actions.append(
            .call(
                run: number, call, input, authors: authors, needsResult: needsResult,
                timeout: limits.timeout))
    }

    /// Triggers that are looked at when one call of their server has ended.
    private static var looksPerCall: Int { 32 }

    /// The call of a run has ended: its server has room for others.
    private mutating func endCall(
        of run: QueueRun, _ active: (Name) -> ActiveTrigger?,
        _ serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
    ) {
        guard let server = run.server, var state = servers[server] else { return }
        state.count -= 1
        state.size -= run.started.event.size
        if state.waiting.isEmpty {
            servers[server] = state.count == 0 ? nil : state
            return
        }
        servers[server] = state
        // Each looks once, and few at a time: one that goes on waiting is behind the others. A server without a call
        // is never left waiting.
        var left = state.waiting.count
        var looks = 0
        while left > 0, looks < Self.looksPerCall || servers[server]?.count == 0,
            hasRoom(server, for: 0), let place = servers[server]?.waiting.popFirst()
        {
            left -= 1
            looks += 1
            waitingForServer.remove(place)
            if let trigger = active(queues[place].trigger) {
                startWaiting(place, trigger, serverOf, into: &actions)
            }
        }
        if servers[server]?.count == 0, servers[server]?.waiting.isEmpty == true {
            servers[server] = nil
        }
    }

    /// Triggers that are gone: their events are too. Where many wait, ``forgetMore(into:)`` goes on.
    package mutating func forget(_ ids: Set<Name>, into actions: inout Actions) {
        for id in ids {
            guard let place = places[id] else { continue }
            letGoQueue(place, into: &actions)
            var queue = givePlace(place)
            if !takeOut(Self.forgottenAtOnce, of: &queue, into: &actions) {
                forgotten.append(queue)
            }
        }
    }

    private static var forgottenAtOnce: Int { 4 }
    private static var forgottenPerStep: Int { 128 }

    /// - Returns: whether that was all.
    private mutating func takeOut(
        _ count: Int, of queue: inout TriggerQueue, into actions: inout Actions
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
        for place in fullQueues { queues[place].queue.held.remove(writer) }
        fullWriters.remove(writer)
        guard var state = writers[writer] else { return }
        state.holds = 0
        state.deadline = nil
        writers[writer] = state.isIdle ? nil : state
    }

    // MARK: Time

    /// When ``tick(now:into:)`` has something to do.
    package var nextDeadline: Duration? {
        guard !fullQueues.isEmpty || !fullWriters.isEmpty else { return drops.due }
        let queues = fullQueues.compactMap { self.queues[$0].queue.holdDeadline }.min()
        let writers = fullWriters.compactMap { self.writers[$0]?.deadline }.min()
        return [queues, writers, drops.due].compactMap(\.self).min()
    }

    package mutating func tick(now: Duration, into actions: inout Actions) {
        for place in fullQueues {
            guard let deadline = queues[place].queue.holdDeadline, deadline <= now else { continue }
            letGoQueue(place, into: &actions)
            queues[place].queue.isDropping = true
            dropOldest(place, into: &actions)
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
        _ run: UInt64, _ outcome: CallOutcome, active: (Name) -> ActiveTrigger?,
        server serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
    ) {
        switch runs.take(run) {
        case .join(let join): joinCallEnded(join, outcome, into: &actions)
        case .queue(let run):
            queueCallEnded(run, outcome, active, serverOf, into: &actions)
            endCall(of: run, active, serverOf, into: &actions)
        case nil: break
        }
    }

    /// A call that an action asked for was not made: the registrant of the trigger may not call the function. A
    /// handler is skipped; a condition counts as failed.
    package mutating func callForbidden(
        _ run: UInt64, active: (Name) -> ActiveTrigger?,
        server serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
    ) {
        counters.forbidden += 1
        switch runs.take(run) {
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
                if queues[run.place].id == run.queue,
                    let trigger = active(queues[run.place].trigger)
                {
                    noteForbidden(trigger.handlerCall, into: &actions)
                    finish(run, trigger, serverOf, into: &actions)
                }
            } else {
                queueCallEnded(run, .forbidden, active, serverOf, into: &actions)
            }
            endCall(of: run, active, serverOf, into: &actions)
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
        _ run: QueueRun, _ outcome: CallOutcome, _ active: (Name) -> ActiveTrigger?,
        _ serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
    ) {
        guard queues[run.place].id == run.queue, let trigger = active(queues[run.place].trigger)
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
        finish(run, trigger, serverOf, into: &actions)
    }

    private mutating func finish(
        _ run: QueueRun, _ trigger: ActiveTrigger,
        _ serverOf: (TriggerCall) -> ConnectionID?, into actions: inout Actions
    ) {
        queues[run.place].queue.finish(run.started)
        startWaiting(run.place, trigger, serverOf, into: &actions)
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
