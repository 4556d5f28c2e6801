internal import StreamCore
internal import StreamFunctions
internal import StreamModel
internal import StreamTriggers
internal import StreamWorkers

/// Takes what the core has put into the inbox through the router, and performs what the router decides.
actor ControlPlane {
    typealias Router = WorkerRouter<CoreMessage, FunctionRegistry, TriggerRegistry>

    private let core: NodeCore
    private let inbox: EventInbox
    private let log: NodeLog
    private var router: Router
    private var actions: Router.Actions = []

    init(core: NodeCore, inbox: EventInbox, log: NodeLog, router: Router) {
        self.core = core
        self.inbox = inbox
        self.log = log
        self.router = router
    }

    /// Calls that workers are waiting for.
    var pendingCallCount: Int { router.pendingCallCount }
    var counters: WorkerCounters { router.counters }

    /// Handles events until the signals end. One signal may stand for many events.
    func run(signals: AsyncStream<Void>) async {
        for await _ in signals {
            drain()
        }
        drain()
    }

    private func drain() {
        for event in inbox.take() {
            handle(event)
            for action in actions {
                perform(action)
            }
            actions.removeAll(keepingCapacity: true)
        }
    }

    private func handle(_ event: CoreEvent) {
        switch event {
        case .workerOpened(let connection, let listener, let address, let query):
            let peer = WorkerPeer(listener: listener, address: address, query: query)
            router.handle(.opened(connection, peer), into: &actions)
        case .workerMessage(let connection, let message):
            router.handle(.message(connection, WorkerMessage(message)), into: &actions)
        case .workerClosed(let connection):
            router.handle(.closed(connection), into: &actions)
        case .undeliverable(let connection, let invocationID, let why):
            let reason: UndeliverableReason =
                switch why {
                case .gone: .gone
                case .tooLarge(let limit): .tooLarge(limit: limit)
                }
            router.handle(
                .undeliverable(connection, invocationID: invocationID, reason), into: &actions)
        }
    }

    private func perform(_ action: WorkerAction<CoreMessage>) {
        switch action {
        case .admit(let connection, let workerID):
            core.admit(connection, workerID: workerID)
        case .send(let connection, let text):
            core.send(text, to: connection)
        case .forwardCall(let message, let executor, let invocationID, let functionID):
            core.forwardCall(
                message, to: executor, invocationID: invocationID, functionID: functionID)
        case .forwardResult(
            let message, let caller, let invocationID, let functionID, let traceparent, let baggage):
            core.forwardResult(
                message, to: caller, invocationID: invocationID, functionID: functionID,
                traceparent: traceparent, baggage: baggage)
        case .setOutboundLimit(let connection, let bytes):
            core.limitOutbound(connection, bytes: bytes)
        case .close(let connection, let code):
            core.close(connection, code: code)
        case .log(let line):
            log.write(line)
        }
    }
}
