package import StreamModel

/// Routes the messages of all worker connections of a node: who serves which function, which calls are
/// in flight, who owns which trigger.
///
/// Pure: an event goes in, and the actions to perform come out, in order. Sockets, parsing and the
/// built-in `stream::` functions are the core's.
package struct WorkerRouter<
    Payload: Sendable, Functions: FunctionDirectory, Triggers: TriggerDirectory
>: Sendable {
    package typealias Actions = [WorkerAction<Payload>]

    struct Worker: Sendable {
        let id: String
        let peer: WorkerPeer
        var isAlive = true
        var metadata: WorkerMetadata?
    }

    let limits: WorkerLimits
    let reservedFunctionIDs: Set<Name>
    let makeUUID: @Sendable () -> String
    var workers: [ConnectionID: Worker] = [:]
    var calls = CallTable()

    /// Who serves which function.
    package internal(set) var functions: Functions
    /// The triggers and their types.
    package internal(set) var triggers: Triggers
    /// What has been counted so far.
    package internal(set) var counters = WorkerCounters()

    /// A router without connections.
    /// - Parameters:
    ///   - reservedFunctionIDs: built-in functions, beside all ids under `engine::`.
    ///   - makeUUID: makes a random UUID, version 4, in lower case with hyphens; never the same twice.
    package init(
        limits: WorkerLimits, reservedFunctionIDs: Set<String>,
        functions: Functions, triggers: Triggers, makeUUID: @escaping @Sendable () -> String
    ) {
        self.limits = limits
        self.reservedFunctionIDs = Set(reservedFunctionIDs.map(Name.init))
        self.functions = functions
        self.triggers = triggers
        self.makeUUID = makeUUID
    }

    /// How many calls wait for their executor.
    package var pendingCallCount: Int { calls.count }

    /// The id that the worker at a connection was given.
    package func workerID(of connection: ConnectionID) -> String? {
        workers[connection]?.id
    }

    /// What the worker at a connection has told of itself.
    package func metadata(of connection: ConnectionID) -> WorkerMetadata? {
        workers[connection]?.metadata
    }

    /// Takes one event and returns what to do.
    package mutating func handle(_ event: WorkerEvent<Payload>) -> Actions {
        var actions: Actions = []
        handle(event, into: &actions)
        return actions
    }

    /// Takes one event and appends what to do to `actions`.
    package mutating func handle(_ event: WorkerEvent<Payload>, into actions: inout Actions) {
        switch event {
        case .opened(let connection, let peer):
            open(connection, peer, into: &actions)
        case .message(let connection, let message):
            // Messages still under way when their connection has closed.
            guard workers[connection] != nil else { return }
            handle(message, from: connection, into: &actions)
        case .liveness(let connection, let isAlive):
            workers[connection]?.isAlive = isAlive
        case .undeliverable(let executor, let invocationID, let reason):
            failCall(invocationID, to: executor, reason, into: &actions)
        case .closed(let connection):
            close(connection, into: &actions)
        }
    }

    private mutating func handle(
        _ message: WorkerMessage<Payload>, from worker: ConnectionID, into actions: inout Actions
    ) {
        switch message {
        case .invoke(let invocation):
            invoke(invocation, from: worker, into: &actions)
        case .result(let outcome):
            finishCall(outcome, from: worker, into: &actions)
        case .registerFunction(let function):
            register(function, by: worker, into: &actions)
        case .unregisterFunction(let id):
            functions.unregister(Name(id), by: worker) { workers[$0]?.isAlive == true }
        case .registerTriggerType(let type):
            register(type, by: worker, into: &actions)
        case .unregisterTriggerType(let id):
            triggers.unregisterType(Name(id), by: worker)
        case .registerTrigger(let trigger):
            register(trigger, by: worker, into: &actions)
        case .unregisterTrigger(let id, triggerType: _):
            unregisterTrigger(id, by: worker, into: &actions)
        case .triggerRegistrationResult(let id, let type, let functionID, let error):
            guard let error else { return }
            passOn(error, ofTrigger: id, type, functionID, from: worker, into: &actions)
        case .registerService:
            break  // Nothing reads services.
        }
    }

    private mutating func open(
        _ connection: ConnectionID, _ peer: WorkerPeer, into actions: inout Actions
    ) {
        let worker = Worker(id: makeUUID(), peer: peer)
        let previous = workers.updateValue(worker, forKey: connection)
        precondition(previous == nil, "a connection id was used twice")
        counters.connectionsOpened += 1
        actions.append(.admit(connection, workerID: worker.id))
    }

    /// Cleans up after a connection: its functions, the calls it takes part in, its triggers, its types.
    private mutating func close(_ connection: ConnectionID, into actions: inout Actions) {
        guard workers.removeValue(forKey: connection) != nil else { return }
        counters.connectionsClosed += 1
        functions.unregisterAll(of: connection) { workers[$0]?.isAlive == true }
        stopCalls(of: connection, into: &actions)
        for trigger in triggers.unregisterAll(of: connection) {
            tellProvider(thatGone: trigger, into: &actions)
        }
        triggers.unregisterAllTypes(of: connection)
    }
}
