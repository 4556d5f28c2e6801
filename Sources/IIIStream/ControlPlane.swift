internal import Dispatch
internal import StreamConfig
internal import StreamCore
internal import StreamFunctions
internal import StreamModel
internal import StreamTriggers
internal import StreamWorkers

/// Takes what the core has put into the inbox through the rules, and performs what they decide.
///
/// The rules are pure: the router (workers, functions, calls), the evaluator (triggers) and what the functions
/// of users mean by their answers. This actor holds them together: the answer to a call of one may be an event
/// of another. Nothing here waits, and nothing recurses: what follows from a step goes on a list of steps.
actor ControlPlane {
    typealias Router = WorkerRouter
    typealias Evaluator = TriggerEvaluator

    /// What a call of the node was for.
    enum Purpose {
        case trigger(run: UInt64)
        case authentication(ConnectionID, address: String)
        case override(StreamOverride, ConnectionID, CoreMessage)
        case sync(ConnectionID, CoreMessage)
        case host(CheckedContinuation<CallOutcome, Never>)
    }

    let core: NodeCore
    let configuration: Configuration
    let log: NodeLog
    private let inbox: EventInbox
    let clock: NodeClock
    var router: Router
    var evaluator: Evaluator
    var logGuard = LogGuard()
    var functionsNotice = FunctionsNotice()
    var guardedStreams: GuardedStreams<CoreMessage>
    var warnedFunctions = WarnedFunctions()
    private var routerActions: Router.Actions = []
    private var triggerActions: Evaluator.Actions = []
    private var purposes: [UInt64: Purpose] = [:]
    private var nextTag: UInt64 = 1
    private var alarm: (due: Duration, task: Task<Void, Never>)?
    private let signal: @Sendable () -> Void
    /// The number that decides whether a log record is among the share that is kept.
    private var logCount: UInt64 = 0
    private(set) var counters = ControlCounters()
    private var hasEnded = false
    var work = FairQueue<Lane, Work>()
    /// What the events that wait for triggers are charged to: the connections that have caused some.
    private var accounts: [ConnectionID: CoreAccount] = [:]
    /// Bytes that wait for triggers, and the most since free memory was given back.
    private var waitingSize = 0
    private var waitingSizeMost = 0

    /// What keeps its order with itself, and takes turns with all others.
    enum Lane: Hashable {
        /// What a connection sends.
        case connection(ConnectionID)
        /// Changes of watched streams: those of one item have one order, whoever wrote them.
        case changes
        /// Log records of a connection, which wait while it is held.
        case logs(ConnectionID)
        /// What the node itself announces.
        case notices
        /// Events of triggers that are gone.
        case forgotten
    }

    enum Work {
        case event(CoreEvent)
        case logs(LogWork, ConnectionID)
        /// An event with many triggers.
        case fire(FireWork)
        /// What a trigger type is to be told of the functions that a worker may call; of all, for the node.
        case functions(ConnectionID, [ActiveTrigger])
        /// What a connection that has closed has left behind.
        case departure(ConnectionID)
        case forget
    }

    init(
        core: NodeCore, inbox: EventInbox, configuration: Configuration, log: NodeLog,
        clock: NodeClock, router: Router, evaluator: Evaluator,
        signal: @escaping @Sendable () -> Void
    ) {
        self.core = core
        self.inbox = inbox
        self.configuration = configuration
        self.log = log
        self.clock = clock
        self.router = router
        self.evaluator = evaluator
        self.signal = signal
        guardedStreams = GuardedStreams(
            configuration.stream.guardedStreams,
            patience: configuration.timeouts.handler)
        accounts[.node] = core.account
    }

    /// Calls that somebody is waiting for, and events that wait for their trigger.
    private var pendingCount: Int { router.pendingCallCount + evaluator.pendingCount }
    var counted: ControlCounted {
        ControlCounted(workers: router.counters, triggers: evaluator.counters, clients: counters)
    }

    /// Handles events until the signals end. One signal may stand for many events.
    func run(signals: AsyncStream<Void>) async {
        for await _ in signals { drain() }
        drain()
        alarm?.task.cancel()
        hasEnded = true
        for case .host(let continuation) in purposes.values {
            continuation.resume(returning: .failure(.nodeStopped))
        }
        purposes = [:]
    }

    /// Calls a function for the host program.
    func call(_ functionID: String, _ data: JSONText, timeout: Duration) async -> CallOutcome {
        guard !hasEnded else { return .failure(.nodeStopped) }
        let moment = clock.moment()
        return await withCheckedContinuation { continuation in
            startCall(
                functionID, .text(data), .host(continuation), timeout: timeout,
                at: moment)
            settle(at: moment)
            setAlarm(at: moment)
        }
    }

    /// Whether somebody waits for a call, or an event for its trigger, after all that has been heard of so far.
    func isBusy() -> Bool {
        drain()
        return pendingCount > 0 || work.count > 0
    }

    /// Handles what has come. Over its budget the rest waits for the next turn of the actor.
    private func drain() {
        let moment = clock.moment()
        let events = inbox.take()
        let isFew = events.count <= Self.fewEvents
        for event in events {
            // What is too much for one piece waits, and all that comes behind it.
            if isFew, work.count == 0 {
                handle(event, at: moment)
                settle(at: moment)
            } else {
                work.append(.event(event), to: Self.lane(of: event))
            }
        }
        tick(at: moment)
        settle(at: moment)
        takeTurns()
        chargeEvents()
        setAlarm(at: moment)
        if !work.isIdle {
            counters.drainsCut += 1
            signal()
        }
    }

    /// So few events are handled at once, in the order in which they came.
    private static let fewEvents = 32
    /// How long one lane may take before the next one has its turn, and that one drain may take.
    private static let slice = Duration.microseconds(200)
    private static let drainBudget = Duration.milliseconds(2)

    /// Says in the accounts what waits for triggers now.
    private func chargeEvents() {
        for (writer, size, change) in evaluator.takeChangedWriters() {
            waitingSize += change
            accounts[writer]?.chargeEvents(size)
            // The account of one that has gone is kept for its events only.
            if size == 0, writer != .node, router.workerID(of: writer) == nil {
                accounts[writer] = nil
            }
        }
        waitingSizeMost = max(waitingSizeMost, waitingSize)
        if waitingSize == 0, waitingSizeMost >= Self.keptSize {
            waitingSizeMost = 0
            counters.memoryReturned += 1
            DispatchQueue.global().async { returnFreeMemory() }
        }
    }

    /// What malloc may keep of events that have waited. Of more, pages go back once none waits: they are small pieces
    /// between others, of which malloc by itself gives back what lies at the end.
    private static let keptSize = 16 << 20

    private static func lane(of event: CoreEvent) -> Lane {
        switch event {
        case .message(_, let message) where message.kind == .change: .changes
        case .message(let connection, _), .workerOpened(let connection, _, _, _, _, _),
            .workerAlive(let connection, _), .workerClosed(let connection),
            .undeliverable(let connection, _, _):
            .connection(connection)
        }
    }

    /// Begins with the records of a message. What its slice of time leaves over goes to a lane of its own, and so
    /// does what the connection logs behind it.
    private func startRecords(of message: CoreMessage, from worker: ConnectionID, at moment: Moment)
    {
        var records = LogWork(message, at: moment)
        let due = clock.uptime() + Self.slice
        if work.has(.logs(worker)) || fireRecords(&records, from: worker, until: due) {
            work.append(.logs(records, worker), to: .logs(worker))
        }
    }

    private func logsBehindRecords(_ event: CoreEvent) -> Bool {
        guard case .message(let connection, let message) = event, message.kind == .invoke,
            work.has(.logs(connection)), let function = message.string(.functionID)
        else { return false }
        return function.hasPrefix("engine::log::")
    }

    private func takeTurns() {
        guard !work.isIdle else { return }
        let end = clock.uptime() + Self.drainBudget
        var now = clock.uptime()
        while now < end, let lane = work.turn() {
            let slice = now + Self.slice
            if !takeTurn(of: lane, until: slice) {
                work.setAside(lane)
            } else {
                work.pass(lane)
            }
            now = clock.uptime()
        }
    }

    /// - Returns: false when the lane has to wait until its connection is released.
    private func takeTurn(of lane: Lane, until due: Duration) -> Bool {
        let moment = clock.moment()
        repeat {
            if case .logs(let connection) = lane, evaluator.isHeld(connection) { return false }
            switch work.take(from: lane) {
            case .event(let event):
                if case .logs = lane {
                    handleNow(event, at: moment)
                } else {
                    handle(event, at: moment)
                }
                settle(at: moment)
            case .logs(var records, let connection):
                guard fireRecords(&records, from: connection, until: due) else { continue }
                work.putBack(.logs(records, connection), in: lane)
            case .fire(var event):
                if !fire(&event, until: due) { work.putBack(.fire(event), in: lane) }
            case .functions(let worker, let triggers):
                fireFunctionsChanged(for: worker, triggers, at: moment)
                settle(at: moment)
            case .departure(let connection):
                router.departMore(connection, into: &routerActions)
                settle(at: moment)
            case .forget:
                evaluator.forgetMore(into: &triggerActions)
                settle(at: moment)
                if evaluator.hasForgotten { work.putBack(.forget, in: lane) }
            case nil:
                return true
            }
        } while clock.uptime() < due
        return true
    }

    private func handle(_ event: CoreEvent, at moment: Moment) {
        if case .message(let connection, let message) = event, message.kind == .logs {
            startRecords(of: message, from: connection, at: moment)
        } else if logsBehindRecords(event), case .message(let connection, _) = event {
            work.append(.event(event), to: .logs(connection))
        } else {
            handleNow(event, at: moment)
        }
    }

    private func handleNow(_ event: CoreEvent, at moment: Moment) {
        switch event {
        case .workerOpened(
            let connection, let listener, let isTelemetry, let address, let size, let head):
            let peer = WorkerPeer(
                listener: listener, address: address, isTelemetry: isTelemetry, messageSizeMax: size
            )
            accounts[connection] = head.account
            route(.opened(connection, peer, head: head), at: moment)
        case .message(let connection, let message):
            if let message = WorkerMessage(message) {
                route(.message(connection, message), at: moment)
            } else {
                decide(message, of: connection, at: moment)
            }
        case .workerAlive(let connection, let isAlive):
            route(.liveness(connection, isAlive: isAlive), at: moment)
        case .workerClosed(let connection):
            evaluator.forget(connection)
            work.wake(.logs(connection))
            logGuard.forget(connection)
            route(.closed(connection), at: moment)
            if !evaluator.isWaiting(for: connection) { accounts[connection] = nil }
        case .undeliverable(let connection, let invocationID, let reason):
            route(
                .undeliverable(connection, invocationID: invocationID, reason), at: moment)
        }
    }

    private func route(_ event: WorkerEvent, at moment: Moment) {
        router.handle(event, at: moment, into: &routerActions)
    }

    /// Lets the evaluator append what it wants done.
    func evaluate(
        _ body: (
            inout Evaluator, (Name) -> ActiveTrigger?, (TriggerCall) -> ConnectionID?,
            inout Evaluator.Actions
        ) -> Void
    ) {
        // The registry is asked in place: a copy of it would count a reference to each of its tables up and down.
        body(&evaluator, { router.triggers.active($0) }, server, &triggerActions)
    }

    /// The connection that serves what a trigger calls.
    private func server(of call: TriggerCall) -> ConnectionID? {
        guard case .function(let id) = router.target(of: call) else { return nil }
        return router.functions.owner(of: Name(id))
    }

    // MARK: Steps

    /// Performs actions until none is left.
    func settle(at moment: Moment) {
        while true {
            // The core hears of a change before anything that follows from it can come back.
            publishChanges(at: moment)
            if !triggerActions.isEmpty {
                let actions = triggerActions
                triggerActions.removeAll(keepingCapacity: true)
                for action in actions { perform(action, at: moment) }
            } else if !routerActions.isEmpty {
                let actions = routerActions
                routerActions.removeAll(keepingCapacity: true)
                for action in actions { perform(action, at: moment) }
            } else {
                return
            }
        }
    }

    /// Calls a function, and remembers what for.
    func startCall(
        _ functionID: String, _ input: CallInput, _ purpose: Purpose,
        traceparent: String? = nil, needsResult: Bool = true, timeout: Duration,
        at moment: Moment
    ) {
        let tag = nextTag
        nextTag += 1
        purposes[tag] = purpose
        router.call(
            functionID, input, tag: tag, traceparent: traceparent, needsResult: needsResult,
            timeout: timeout, at: moment, into: &routerActions)
    }

    /// A call of the node's own of a built-in function, which a function of a worker has taken over.
    func endBuiltInCall(_ invocationID: String, _ answer: Result<JSONText?, InvocationError>) {
        router.endBuiltInCall(invocationID, answer, into: &routerActions)
    }

    private func callEnded(_ tag: UInt64, _ outcome: CallOutcome, at moment: Moment) {
        switch purposes.removeValue(forKey: tag) {
        case .trigger(let run):
            logGuard.end(run: run)
            evaluate { $0.callEnded(run, outcome, active: $1, server: $2, into: &$3) }
        case .authentication(let connection, let address):
            authenticated(connection, at: address, outcome)
        case .override(let override, let caller, let call):
            overrideEnded(override, caller, call, outcome)
        case .sync(let connection, let request):
            syncEnded(connection, request, outcome)
        case .host(let continuation):
            continuation.resume(returning: outcome)
        case nil:
            break
        }
    }

    private func perform(_ action: TriggerAction, at moment: Moment) {
        switch action {
        case .call(let run, let call, let input, let authors, let needsResult, let timeout):
            let functionID: String
            switch router.target(of: call) {
            case .function(let id): functionID = id
            case .forbidden:
                return evaluate { $0.callForbidden(run, active: $1, server: $2, into: &$3) }
            case .gone:
                return evaluate { $0.callEnded(run, .gone, active: $1, server: $2, into: &$3) }
            }
            var traceparent: String?
            if let authors {
                let context = LogGuard.traceparent(UUIDText.random)
                traceparent = context
                logGuard.begin(
                    run: run, authors: authors, traceparent: context,
                    server: router.functions.owner(of: Name(functionID)))
            }
            startCall(
                functionID, input, .trigger(run: run), traceparent: traceparent,
                needsResult: needsResult, timeout: timeout, at: moment)
        case .decideJoin(let connection, let join, let isAllowed):
            core.decideJoin(.of(join), of: connection, isAllowed: isAllowed)
        case .hold(let connection):
            core.hold(connection, true)
        case .release(let connection):
            core.hold(connection, false)
            work.wake(.logs(connection))
        case .log(let line):
            log.write(line)
        }
    }

    private func perform(_ action: WorkerAction, at moment: Moment) {
        switch action {
        case .admit(
            let connection, let workerID, let reattachToken, let isRestricted, let allowed):
            core.admit(
                connection, workerID: workerID, reattachToken: reattachToken,
                isRestricted: isRestricted, allowed: allowed)
        case .send(let connection, let text):
            core.send(text, to: connection)
        case .sendCall(let executor, let text):
            core.sendCall(text, to: executor)
        case .forwardCall(let message, let executor, let invocationID, let functionID):
            core.forwardCall(
                .of(message), to: executor, invocationID: invocationID, functionID: functionID)
        case .forwardResult(
            let message, let caller, let invocationID, let functionID, let traceparent, let baggage):
            core.forwardResult(
                .of(message), to: caller, invocationID: invocationID, functionID: functionID,
                traceparent: traceparent, baggage: baggage)
        case .runStreamCall(let connection, let message):
            core.runCall(.of(message), of: connection)
        case .callStream(let invocationID, let functionID, let data):
            core.call(functionID, invocationID: invocationID, data: data)
        case .nodeCallEnded(let tag, let outcome):
            callEnded(tag, outcome, at: moment)
        case .release(let connection):
            core.release(connection)
        case .setOutboundLimit(let connection, let bytes):
            core.limitOutbound(connection, bytes: bytes)
        case .close(let connection, let code):
            core.close(connection, code: code)
        case .ping(let connection):
            core.ping(connection)
        case .departMore(let connection):
            work.append(.departure(connection), to: .connection(connection))
        case .record(let record, let connection):
            fire(record, from: connection, at: moment)
        case .workersChanged(let event, let workerID):
            fireWorkersChanged(event, workerID, at: moment)
        case .log(let line):
            log.write(line)
        }
    }

    // MARK: What the core wants to know

    /// Tells the core what to listen for, where that has changed.
    private func publishChanges(at moment: Moment) {
        guard router.triggers.hasNews || router.functions.hasNews else { return }
        let gone = router.triggers.takeGoneIDs()
        if !gone.isEmpty {
            evaluator.forget(gone, into: &triggerActions)
            if evaluator.hasForgotten, !work.has(.forgotten) {
                work.append(.forget, to: .forgotten)
            }
        }
        var streams = router.triggers.takeWatchChanges()
        let functions = router.functions.takeChangedIDs()
        if !functions.isEmpty { functionsNotice.change(at: moment) }
        for id in functions {
            guard let override = router.functions.streamOverride(id) else { continue }
            streams.insert(.stream(Name(override.streamName)))
        }
        for stream in streams { core.watch(stream.name, watch(of: stream)) }
        if !streams.isEmpty { askWaitingJoins() }
    }

    private func watch(of stream: WatchedStream) -> CoreWatch {
        var watch: CoreWatch = []
        let triggers = router.triggers.watch(of: stream)
        if triggers.contains(.changes) { watch.insert(.changes) }
        let isGuarded = stream == .all && !guardedStreams.isEmpty
        if triggers.contains(.joins) || isGuarded { watch.insert(.joins) }
        if triggers.contains(.leaves) { watch.insert(.leaves) }
        if triggers.contains(.logs) { watch.insert(.logs) }
        guard let name = stream.name else { return watch }
        for operation in StreamOperation.allCases {
            let id = StreamOverride(operation: operation, streamName: name).functionID
            if router.functions.owner(of: Name(id)) != nil {
                watch.insert(.overridden(operation))
            }
        }
        return watch
    }

    // MARK: Time

    private func tick(at moment: Moment) {
        if let due = router.nextDeadline, due <= moment.uptime { route(.tick, at: moment) }
        evaluator.tick(now: moment.uptime, into: &triggerActions)
        if functionsNotice.isDue(at: moment) { fireFunctionsChanged(at: moment) }
        for join in guardedStreams.takeExpired(now: moment.uptime) { refuseUnguarded(join) }
    }

    /// Sees to it that a signal comes when the next thing is due.
    private func setAlarm(at moment: Moment) {
        let due = [
            router.nextDeadline, evaluator.nextDeadline, functionsNotice.due,
            guardedStreams.nextDeadline,
        ]
        .compactMap(\.self).min()
        guard let due else { return }
        if let alarm, alarm.due <= due, alarm.due > moment.uptime { return }
        alarm?.task.cancel()
        let wait = max(due - moment.uptime, .zero)
        let signal = self.signal
        let task = Task {
            try? await Task.sleep(for: wait)
            if !Task.isCancelled { signal() }
        }
        alarm = (due, task)
    }

    /// Whether the next log record is among the share that is kept.
    func keepsRecord() -> Bool {
        let observability = configuration.observability
        guard observability.isEnabled, observability.logsEnabled else { return false }
        let ratio = observability.logsSamplingRatio
        logCount += 1
        return Double(logCount) * ratio >= (Double(logCount - 1) * ratio).rounded(.down) + 1
    }

    func noteRefusedClient() { counters.clientsRefused += 1 }
    func noteUnguardedJoin() { counters.joinsUnguarded += 1 }
}

/// What the control plane itself has counted.
struct ControlCounters: Sendable {
    /// Stream clients that the auth function did not let in.
    var clientsRefused: UInt64 = 0
    /// Joins of guarded streams that no guard was there for.
    var joinsUnguarded: UInt64 = 0
    /// Times that free memory was given back to the kernel.
    var memoryReturned: UInt64 = 0
    /// Turns of the control plane that were over their budget of time.
    var drainsCut: UInt64 = 0
}

extension InvocationError {
    fileprivate static let nodeStopped = InvocationError(
        code: "invocation_stopped", message: "Invocation stopped")
}

extension CallOutcome {
    /// The registrant of a trigger has gone, and with it what says whether the call may be made.
    fileprivate static let gone = CallOutcome.failure(
        InvocationError(code: "invocation_stopped", message: "Invocation stopped"))
}

extension WatchedStream {
    fileprivate var name: String? {
        switch self {
        case .all: nil
        case .stream(let name): name.string
        }
    }
}
