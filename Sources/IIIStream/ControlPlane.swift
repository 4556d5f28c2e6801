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
    typealias Router = WorkerRouter<CoreMessage, FunctionRegistry, TriggerRegistry>
    typealias Evaluator = TriggerEvaluator<CoreMessage>

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
    private let clock: NodeClock
    var router: Router
    var evaluator: Evaluator
    var logGuard = LogGuard()
    var functionsNotice = FunctionsNotice()
    var warnedFunctions = WarnedFunctions()
    private var routerActions: Router.Actions = []
    private var triggerActions: Evaluator.Actions = []
    private var purposes: [UInt64: Purpose] = [:]
    private var nextTag: UInt64 = 1
    private var alarm: (due: UInt64, task: Task<Void, Never>)?
    private let signal: @Sendable () -> Void
    /// The number that decides whether a log record is among the share that is kept.
    private var logCount: UInt64 = 0
    private(set) var counters = ControlCounters()
    private var hasEnded = false

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
    }

    /// Calls that somebody is waiting for, and events that wait for their trigger.
    private var pendingCount: Int { router.pendingCallCount + evaluator.pendingCount }
    var workerCounters: WorkerCounters { router.counters }
    var triggerCounters: TriggerCounters { evaluator.counters }

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
    func call(_ functionID: String, _ data: JSONText, timeout: UInt64) async -> CallOutcome {
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
        return pendingCount > 0
    }

    private func drain() {
        let moment = clock.moment()
        for event in inbox.take() {
            handle(event, at: moment)
            settle(at: moment)
        }
        tick(at: moment)
        settle(at: moment)
        setAlarm(at: moment)
    }

    private func handle(_ event: CoreEvent, at moment: Moment) {
        switch event {
        case .workerOpened(let connection, let listener, let isTelemetry, let address, let head):
            let peer = WorkerPeer(listener: listener, address: address, isTelemetry: isTelemetry)
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
            logGuard.forget(connection)
            route(.closed(connection), at: moment)
        case .undeliverable(let connection, let invocationID, let why):
            let reason: UndeliverableReason =
                switch why {
                case .gone: .gone
                case .tooLarge(let limit): .tooLarge(limit: limit)
                }
            route(
                .undeliverable(connection, invocationID: invocationID, reason), at: moment)
        }
    }

    private func route(_ event: WorkerEvent<CoreMessage>, at moment: Moment) {
        router.handle(event, at: moment, into: &routerActions)
    }

    /// Lets the evaluator append what it wants done.
    func evaluate(_ body: (inout Evaluator, TriggerRegistry, inout Evaluator.Actions) -> Void) {
        body(&evaluator, router.triggers, &triggerActions)
    }

    // MARK: Steps

    /// Performs actions until none is left.
    private func settle(at moment: Moment) {
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
        _ functionID: String, _ input: CallInput<CoreMessage>, _ purpose: Purpose,
        traceparent: String? = nil, timeout: UInt64, at moment: Moment
    ) {
        let tag = nextTag
        nextTag += 1
        purposes[tag] = purpose
        router.call(
            functionID, input, tag: tag, traceparent: traceparent, timeout: timeout, at: moment,
            into: &routerActions)
    }

    /// A call of the node's own of a built-in function, which a function of a worker has taken over.
    func endBuiltInCall(_ invocationID: String, _ answer: Result<JSONText?, InvocationError>) {
        router.endBuiltInCall(invocationID, answer, into: &routerActions)
    }

    private func callEnded(_ tag: UInt64, _ outcome: CallOutcome, at moment: Moment) {
        switch purposes.removeValue(forKey: tag) {
        case .trigger(let run):
            logGuard.end(run: run)
            evaluate { $0.callEnded(run, outcome, $1, into: &$2) }
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

    private func perform(_ action: TriggerAction<CoreMessage>, at moment: Moment) {
        switch action {
        case .call(let run, let call, let input, let traceparent, let timeout):
            let functionID: String
            switch router.target(of: call) {
            case .function(let id): functionID = id
            case .forbidden: return evaluate { $0.callForbidden(run, $1, into: &$2) }
            case .gone: return evaluate { $0.callEnded(run, .gone, $1, into: &$2) }
            }
            logGuard.begin(
                run: run, traceparent: traceparent,
                server: router.functions.owner(of: Name(functionID)))
            startCall(
                functionID, input, .trigger(run: run), traceparent: traceparent, timeout: timeout,
                at: moment)
        case .decideJoin(let connection, let join, let isAllowed):
            core.decideJoin(join, of: connection, isAllowed: isAllowed)
        case .hold(let connection):
            core.hold(connection)
        case .release(let connection):
            core.release(connection)
        case .log(let line):
            log.write(line)
        }
    }

    private func perform(_ action: WorkerAction<CoreMessage>, at moment: Moment) {
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
                message, to: executor, invocationID: invocationID, functionID: functionID)
        case .forwardResult(
            let message, let caller, let invocationID, let functionID, let traceparent, let baggage):
            core.forwardResult(
                message, to: caller, invocationID: invocationID, functionID: functionID,
                traceparent: traceparent, baggage: baggage)
        case .runStreamCall(let connection, let message):
            core.runCall(message, of: connection)
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
        let gone = router.triggers.takeGoneIDs()
        if !gone.isEmpty { evaluator.forget(gone, into: &triggerActions) }
        var streams = router.triggers.takeWatchChanges()
        let functions = router.functions.takeChangedIDs()
        if !functions.isEmpty { functionsNotice.change(at: moment) }
        for id in functions {
            guard let override = StreamOverride(functionID: id.string) else { continue }
            streams.insert(.stream(Name(override.streamName)))
        }
        for stream in streams { core.watch(stream.name, watch(of: stream)) }
    }

    private func watch(of stream: WatchedStream) -> CoreWatch {
        var watch: CoreWatch = []
        let triggers = router.triggers.watch(of: stream)
        if triggers.contains(.changes) { watch.insert(.changes) }
        if triggers.contains(.joins) { watch.insert(.joins) }
        if triggers.contains(.leaves) { watch.insert(.leaves) }
        if triggers.contains(.logs) { watch.insert(.logs) }
        guard let name = stream.name else { return watch }
        for operation in StreamOperation.allCases {
            let id = StreamOverride(operation: operation, streamName: name).functionID
            if router.functions.owner(of: Name(id)) != nil {
                watch.insert(.overridden(operation.core))
            }
        }
        return watch
    }

    // MARK: Time

    private func tick(at moment: Moment) {
        if let due = router.nextDeadline, due <= moment.uptime { route(.tick, at: moment) }
        evaluate {
            $0.tick(now: moment.uptime, into: &$2); _ = $1
        }
        if functionsNotice.isDue(at: moment) { fireFunctionsChanged(at: moment) }
    }

    /// Sees to it that a signal comes when the next thing is due.
    private func setAlarm(at moment: Moment) {
        let due = [router.nextDeadline, evaluator.nextDeadline, functionsNotice.due]
            .compactMap(\.self).min()
        guard let due else { return }
        if let alarm, alarm.due <= due, alarm.due > moment.uptime { return }
        alarm?.task.cancel()
        let wait = due > moment.uptime ? due - moment.uptime : 0
        let signal = self.signal
        let task = Task {
            try? await Task.sleep(for: .milliseconds(wait))
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
}

/// What the control plane itself has counted.
struct ControlCounters: Sendable {
    /// Stream clients that the auth function did not let in.
    var clientsRefused: UInt64 = 0
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

extension StreamOperation {
    fileprivate var core: CoreMessage.Operation {
        switch self {
        case .set: .set
        case .get: .get
        case .delete: .delete
        case .list: .list
        case .listGroups: .listGroups
        case .update: .update
        }
    }
}
