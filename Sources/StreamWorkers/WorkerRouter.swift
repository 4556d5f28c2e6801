package import StreamConfig
package import StreamFunctions
package import StreamModel
package import StreamTriggers

/// Routes the messages of all worker connections of a node: who serves which function, which calls are
/// in flight, who owns which trigger.
///
/// Pure: an event goes in, and the actions to perform come out, in order. Sockets, parsing and the
/// built-in `stream::` functions are the core's.
package struct WorkerRouter: Sendable {
    package typealias Actions = [WorkerAction]

    struct Worker: Sendable {
        let id: String
        let peer: WorkerPeer
        /// Proves, after a reconnect, that a connection is the same worker.
        let reattachToken: String
        let connectedAt: UInt64
        var isAlive = true
        /// Whether it has got past the auth function of its listener.
        var isAdmitted = false
        /// What it may do; nil: everything. Set once it is admitted.
        var session: AccessSession?
        var metadata: WorkerMetadata?
        /// Bytes of one message that it takes.
        var messageSizeMax: Int { metadata?.messageSizeMax ?? peer.messageSizeMax }
        /// What was decided about its calls.
        var decisions = CallDecisions()
    }

    let limits: WorkerLimits
    let listenerLimits: [WorkerLimits]
    let listeners: [WorkerListener]
    /// What each listener with rules exposes.
    let exposures: [Exposure?]
    /// Functions that only workers without rules may register.
    let namedByConfiguration: Set<Name>
    /// `auth` for auth functions, `handler` for hooks and middleware.
    let timeouts: Timeouts
    let builtInFunctions: [FunctionRegistration]
    let builtInIDs: Set<Name>
    let logOrigin: LogOrigin
    let makeUUID: @Sendable () -> String
    let makeToken: @Sendable () -> String
    var workers: [ConnectionID: Worker] = [:]
    var connections: [String: ConnectionID] = [:]
    var calls = CallTable()
    var moment = Moment()
    /// What was decided about the calls of triggers.
    var triggerDecisions = TriggerDecisions()
    /// Triggers and trigger types whose id another worker holds.
    var heldTriggers = HeldRegistrations<TriggerRegistration>()
    var heldTypes = HeldRegistrations<TriggerTypeRegistration>()
    var contests = Contests()
    /// Connections that have closed, and what is left of them.
    var departures: [ConnectionID: Departure] = [:]
    /// The functions of triggers whose types workers provide.
    var targets = TriggerTargets()
    let startedAt: UInt64

    /// Who serves which function.
    package var functions: FunctionRegistry
    /// The triggers and their types.
    package var triggers: TriggerRegistry
    /// What has been counted so far.
    package internal(set) var counters = WorkerCounters()

    /// A router without connections.
    /// - Parameters:
    ///   - listenerLimits: the limits of the workers of each listener; `limits` for all when nil.
    ///   - listeners: the worker ports; a connection names its own by index.
    ///   - namedByConfiguration: functions that the configuration names: only workers without rules may
    ///     register them.
    ///   - timeouts: `auth` for auth functions, `handler` for hooks and middleware.
    ///   - builtInFunctions: those that the node serves; reserved.
    ///   - makeUUID: makes a random UUID, version 4, in lower case with hyphens; never the same twice.
    ///   - makeToken: makes a secret that proves who a worker is after a reconnect; a UUID if nil.
    package init(
        limits: WorkerLimits, listenerLimits: [WorkerLimits]? = nil,
        listeners: [WorkerListener] = [WorkerListener()],
        namedByConfiguration: [String] = [],
        timeouts: Timeouts = Timeouts(),
        builtInFunctions: [FunctionRegistration], logOrigin: LogOrigin,
        functions: FunctionRegistry, triggers: TriggerRegistry, startedAt: UInt64 = 0,
        makeUUID: @escaping @Sendable () -> String,
        makeToken: (@Sendable () -> String)? = nil
    ) {
        self.limits = limits
        self.listenerLimits = listenerLimits ?? listeners.map { _ in limits }
        self.listeners = listeners
        exposures = listeners.map { $0.accessControl.map(Exposure.init) }
        self.namedByConfiguration = Set(namedByConfiguration.map(Name.init))
        self.timeouts = timeouts
        self.builtInFunctions = builtInFunctions
        builtInIDs = Set(builtInFunctions.map { Name($0.id) })
        self.logOrigin = logOrigin
        self.functions = functions
        self.triggers = triggers
        self.startedAt = startedAt
        self.makeUUID = makeUUID
        self.makeToken = makeToken ?? makeUUID
    }

    /// Calls whose time is over that one tick ends; ``nextDeadline`` asks for the next.
    private static var dueCallsMax: Int { 256 }

    /// How many calls wait for their executor.
    package var pendingCallCount: Int { calls.count }

    /// When ``WorkerEvent/tick`` has something to do, in ``Moment/uptime``.
    package var nextDeadline: Duration? {
        [calls.nextDeadline, contests.nextDeadline].compactMap(\.self).min()
    }

    /// The id that the worker at a connection was given.
    package func workerID(of connection: ConnectionID) -> String? {
        workers[connection]?.id
    }

    /// What the worker at a connection has told of itself.
    package func metadata(of connection: ConnectionID) -> WorkerMetadata? {
        workers[connection]?.metadata
    }

    /// The limits of the worker at a connection.
    func limits(of worker: ConnectionID) -> WorkerLimits {
        workers[worker].map { listenerLimits[$0.peer.listener] } ?? limits
    }

    /// Takes one event and returns what to do.
    package mutating func handle(
        _ event: WorkerEvent, at moment: Moment = Moment()
    ) -> Actions {
        var actions: Actions = []
        handle(event, at: moment, into: &actions)
        return actions
    }

    /// Takes one event and appends what to do to `actions`.
    package mutating func handle(
        _ event: WorkerEvent, at moment: Moment, into actions: inout Actions
    ) {
        self.moment = moment
        switch event {
        case .opened(let connection, let peer, let head):
            open(connection, peer, head, into: &actions)
        case .message(let connection, let message):
            // Messages still under way when their connection has closed, or has not been let in.
            guard workers[connection]?.isAdmitted == true || connection == .node else { return }
            handle(message, from: connection, into: &actions)
        case .liveness(let connection, let isAlive):
            workers[connection]?.isAlive = isAlive
            if isAlive {
                contests.answered(by: connection)
            } else {
                yieldIDs(of: connection, into: &actions)
            }
        case .undeliverable(let executor, let invocationID, let reason):
            failCall(invocationID, to: executor, reason, into: &actions)
        case .tick:
            var left = Self.dueCallsMax
            while left > 0, let call = calls.takeDue(now: moment.uptime) {
                left -= 1
                counters.callsTimedOut += 1
                end(call, .timeout, into: &actions)
            }
            endDueContests(into: &actions)
        case .closed(let connection):
            close(connection, into: &actions)
        }
    }

    private mutating func handle(
        _ message: WorkerMessage, from worker: ConnectionID, into actions: inout Actions
    ) {
        switch message {
        case .invoke(let invocation):
            invoke(invocation, from: worker, into: &actions)
        case .result(let outcome):
            finishCall(outcome, from: worker, into: &actions)
        case .registerFunction(let function):
            ask(.function(function), by: worker, into: &actions)
        case .unregisterFunction(let id):
            let id = Name(prefixed(id, worker))
            functions.unregister(id, by: worker) { workers[$0]?.isAlive == true }
            recheckTargets(id, into: &actions)
            actions.append(.release(worker))
        case .registerTriggerType(let type):
            ask(.triggerType(type), by: worker, into: &actions)
        case .unregisterTriggerType(let id):
            heldTypes.remove(Name(id), of: worker)
            triggers.unregisterType(Name(id), by: worker)
            registerHeldType(Name(id), into: &actions)
            actions.append(.release(worker))
        case .registerTrigger(let trigger):
            ask(.trigger(trigger), by: worker, into: &actions)
        case .unregisterTrigger(let id, triggerType: _):
            unregisterTrigger(id, by: worker, into: &actions)
            actions.append(.release(worker))
        case .triggerRegistrationResult(let id, let type, let functionID, let error):
            guard let error else { return }
            passOn(error, ofTrigger: id, type, functionID, from: worker, into: &actions)
        case .registerService:
            break  // Nothing reads services.
        case .reattach(let previousWorkerID, let token):
            reattach(previousWorkerID, token, by: worker, into: &actions)
        }
    }

    // MARK: Connections

    private mutating func open(
        _ connection: ConnectionID, _ peer: WorkerPeer, _ head: any CallPayload,
        into actions: inout Actions
    ) {
        let worker = Worker(
            id: makeUUID(), peer: peer, reattachToken: makeToken(), connectedAt: moment.unix)
        let previous = workers.updateValue(worker, forKey: connection)
        precondition(previous == nil, "a connection id was used twice")
        connections[worker.id] = connection
        counters.connectionsOpened += 1
        let access = listeners[peer.listener].accessControl
        if let function = access?.authFunctionID {
            startCall(
                function, .message(head), .access(.authenticate(connection)), caller: connection,
                timeout: timeouts.auth, into: &actions)
        } else {
            let hasRules = access != nil || listeners[peer.listener].middlewareFunctionID != nil
            admit(
                connection, hasRules ? AccessSession.unlimited : nil, into: &actions)
        }
    }

    mutating func admit(
        _ connection: ConnectionID, _ session: AccessSession?, into actions: inout Actions
    ) {
        guard let worker = workers[connection] else { return }
        workers[connection]?.session = session
        workers[connection]?.isAdmitted = true
        actions.append(
            .admit(
                connection, workerID: worker.id, reattachToken: worker.reattachToken,
                isRestricted: session != nil, allowed: functionsToRunAtOnce(of: connection)))
        noteChange("worker_connected", worker, into: &actions)
    }

    func noteChange(_ event: String, _ worker: Worker, into actions: inout Actions) {
        if !worker.peer.isTelemetry {
            actions.append(.workersChanged(event: event, workerID: worker.id))
        }
    }

    /// Cleans up after a connection: its functions, its triggers, its types, the calls it takes part in. Where that is
    /// much, ``departMore(_:into:)`` goes on.
    private mutating func close(_ connection: ConnectionID, into actions: inout Actions) {
        guard let worker = workers.removeValue(forKey: connection) else { return }
        connections[worker.id] = nil
        counters.connectionsClosed += 1
        _ = contests.takeIDs(of: connection)
        departures[connection] = Departure(
            functions: functions.ids(of: connection).reversed(),
            triggers: triggers.ids(of: connection).reversed(),
            types: triggers.typeIDs(of: connection).reversed())
        triggers.depart(connection)
        departMore(connection, into: &actions)
        if worker.isAdmitted { noteChange("worker_disconnected", worker, into: &actions) }
    }

    /// Retires the worker's previous connection at once, if the token proves that it was its own.
    private mutating func reattach(
        _ previousWorkerID: String, _ token: String?, by worker: ConnectionID,
        into actions: inout Actions
    ) {
        guard let previous = connections[previousWorkerID], previous != worker,
            let token, workers[previous]?.reattachToken == token
        else { return }
        close(previous, into: &actions)
        actions.append(.close(previous, code: 1012))
    }
}
