internal import StreamConfig
internal import StreamCore
internal import StreamFunctions
internal import StreamModel
internal import StreamTriggers
internal import StreamWorkers

/// What the control plane decides about streams and their clients.
extension ControlPlane {
    /// Takes a message that the core has made.
    func decide(_ message: CoreMessage, of connection: ConnectionID, at moment: Moment) {
        switch message.kind {
        case .change: changed(message, by: connection, at: moment)
        case .join: joinAsked(message, of: connection, at: moment)
        case .leave: left(message, of: connection, at: moment)
        case .upgrade: authenticate(message, of: connection, at: moment)
        case .override: runOverride(message, of: connection, at: moment)
        case .sync: makeSync(message, of: connection, at: moment)
        default:
            preconditionFailure(
                "a worker's message is the router's, log records are work of their own")
        }
    }

    // MARK: Triggers

    /// Fires an event for few triggers at once, for many in steps. What comes behind it in `lane` waits meanwhile.
    /// - Parameter message: is dealt with when all have it.
    func fire(
        _ event: Evaluator.Event, at triggers: [ActiveTrigger], in lane: Lane,
        _ message: CoreMessage? = nil, at moment: Moment
    ) {
        fire(
            FireWork(event: event, triggers: triggers, message: message, moment: moment), in: lane)
    }

    func fire(_ event: FireWork, in lane: Lane) {
        if event.isLong {
            // Notices come from elsewhere than their lane, so that others may wait there.
            if lane == .notices {
                work.append(.fire(event), to: lane)
            } else {
                work.putFirst(.fire(event), in: lane)
            }
        } else {
            var event = event
            fireStep(&event)
        }
    }

    /// Goes on with an event until its slice of time is over.
    /// - Returns: whether all triggers have it.
    func fire(_ rest: inout FireWork, until due: Duration) -> Bool {
        repeat {
            fireStep(&rest)
            settle(at: rest.moment)
        } while !rest.isDone && clock.uptime() < due
        return rest.isDone
    }

    private func fireStep(_ rest: inout FireWork) {
        let triggers = rest.takeStep(router.triggers)
        if !triggers.isEmpty {
            evaluate { evaluator, active, server, actions in
                evaluator.fire(
                    rest.event, at: triggers, active: active, now: rest.moment.uptime,
                    server: server, into: &actions)
            }
        }
        if rest.isDone { rest.message?.settle() }
    }

    private func changed(_ message: CoreMessage, by writer: ConnectionID, at moment: Moment) {
        let stream = message.required(.stream)
        let group = message.required(.group)
        let item = message.string(.item)
        let lane: TriggerLane =
            item.map { .item(group: Name(group), item: Name($0)) } ?? .group(Name(group))
        fire(
            TriggerEvent(
                input: .message(message), lane: lane, writer: writer == .node ? nil : writer,
                size: message.dataSize + Evaluator.Event.overhead),
            at: router.triggers.triggers(onChangeOf: stream, group: group, item: item),
            in: .changes, message, at: moment)
    }

    private func joinAsked(_ message: CoreMessage, of client: ConnectionID, at moment: Moment) {
        let stream = message.required(.stream)
        let triggers = router.triggers.triggers(onJoinOf: stream)
        let isGuarded = guardedStreams.guards(stream)
        if isGuarded, triggers.isEmpty {
            let decision = guardedStreams.missedGuard(
                of: stream, client, message, now: moment.uptime)
            if decision == .refuse { refuseUnguarded(stream, message, of: client) }
            return
        }
        if isGuarded { guardedStreams.sawGuard(of: stream) }
        evaluate { evaluator, _, _, actions in
            evaluator.askJoin(client, message, triggers, needsAnswer: isGuarded, into: &actions)
        }
    }

    /// Joins that have waited for the first guard of their stream, which may be there now.
    func askWaitingJoins() {
        let asked = guardedStreams.takeGuarded { [triggers = router.triggers] stream in
            !triggers.triggers(onJoinOf: stream).isEmpty
        }
        for join in asked {
            guardedStreams.sawGuard(of: join.stream)
            let triggers = router.triggers.triggers(onJoinOf: join.stream)
            evaluate { evaluator, _, _, actions in
                evaluator.askJoin(
                    join.connection, join.join, triggers, needsAnswer: true, into: &actions)
            }
        }
    }

    func refuseUnguarded(_ join: GuardedStreams<CoreMessage>.Waiting) {
        refuseUnguarded(join.stream, join.join, of: join.connection)
    }

    private func refuseUnguarded(_ stream: String, _ join: CoreMessage, of client: ConnectionID) {
        noteUnguardedJoin()
        log.write(
            .warn, "join_unguarded",
            [
                "stream": .text(stream.prefix(bytes: 256)),
                "detail": .text(
                    "refused: the stream is one of `guarded_streams`, and no `stream:join` trigger is there"
                ),
            ])
        core.decideJoin(join, of: client, isAllowed: false)
    }

    private func left(_ message: CoreMessage, of client: ConnectionID, at moment: Moment) {
        fire(
            TriggerEvent(
                input: .message(message),
                lane: .subscription(client, Name(message.required(.id))), writer: nil,
                size: message.dataSize + Evaluator.Event.overhead, isDroppable: false),
            at: router.triggers.triggers(onLeaveOf: message.required(.stream)),
            in: .connection(client), message, at: moment)
    }

    // MARK: Authentication

    private func authenticate(
        _ message: CoreMessage, of client: ConnectionID, at moment: Moment
    ) {
        guard let function = configuration.stream.authFunction else {
            return core.upgrade(client, refusal: nil, context: nil)
        }
        startCall(
            function, .message(message),
            .authentication(client, address: message.json(.data)?.view["addr"]?.string ?? ""),

            timeout: configuration.timeouts.auth, at: moment)
    }

    func authenticated(_ client: ConnectionID, at address: String, _ outcome: CallOutcome) {
        warnOfOddity(outcome)
        switch ClientAuthentication(outcome, failOpen: configuration.compatibility.failOpen) {
        case .accepted(let context):
            core.upgrade(client, refusal: nil, context: context)
        case .refused(let status, let reason):
            noteRefusedClient()
            log.write(
                .warn, "client_refused",
                [
                    "reason": .text(reason),
                    "function_id": .text(configuration.stream.authFunction ?? ""),
                    "address": .text(address),
                ])
            core.upgrade(client, refusal: status, context: nil)
        }
    }

    /// Says once what the auth function should have answered.
    private func warnOfOddity(_ outcome: CallOutcome) {
        guard case .success(let result?) = outcome, result.view.kind == .object,
            let oddity = GuardAnswer(result).oddity,
            let function = configuration.stream.authFunction, warnedFunctions.isFirst(function)
        else { return }
        log.write(
            .warn, "auth_result_odd",
            [
                "function_id": .text(function), "found": .text(oddity),
                "detail": .text(GuardAnswer.shape),
            ])
    }

    // MARK: Overrides

    private func runOverride(_ call: CoreMessage, of caller: ConnectionID, at moment: Moment) {
        let override = StreamOverride(
            operation: call.operation, streamName: call.required(.stream))
        startCall(
            override.functionID, .message(call), .override(override, caller, call),
            timeout: configuration.timeouts.handler, at: moment)
    }

    func overrideEnded(
        _ override: StreamOverride, _ caller: ConnectionID, _ call: CoreMessage,
        _ outcome: CallOutcome
    ) {
        let result = OverrideResult(of: override.operation, outcome)
        switch result.change {
        case .create(let value): core.emit(call, kind: .create, data: value, writer: caller)
        case .update(let value): core.emit(call, kind: .update, data: value, writer: caller)
        case .delete(let value): core.emit(call, kind: .delete, data: value, writer: caller)
        case nil: break
        }
        guard let invocationID = call.json(.invocationID) else { return call.settle() }
        if caller == .node {
            return endBuiltInCall(call.required(.invocationID), result.answer)
        }
        let frame = router.resultFrame(
            result.answer, to: invocationID, functionID: call.required(.functionID),
            traceparent: call.string(.traceparent), baggage: call.string(.baggage), for: caller)
        core.send(frame, to: caller)
        call.settle()
    }

    private func makeSync(_ request: CoreMessage, of client: ConnectionID, at moment: Moment) {
        let operation: StreamOperation = request.has(.item) ? .get : .list
        let override = StreamOverride(
            operation: operation, streamName: request.required(.stream))
        startCall(
            override.functionID, .message(request), .sync(client, request),
            timeout: configuration.timeouts.handler, at: moment)
    }

    func syncEnded(_ client: ConnectionID, _ request: CoreMessage, _ outcome: CallOutcome) {
        switch outcome {
        case .success(let data):
            core.sync(request, of: client, data: data ?? .null)
        case .failure(let error):
            log.write(.warn, "custom_sync_failed", ["code": .text(error.code.prefix(bytes: 64))])
            core.sync(request, of: client, data: nil)
        }
    }
}

/// An event on its way to many triggers.
struct FireWork: Sendable {
    let event: ControlPlane.Evaluator.Event
    private let triggers: [ActiveTrigger]
    let message: CoreMessage?
    let moment: Moment
    private var next = 0

    /// Triggers in one piece.
    static let step = 32

    init(
        event: ControlPlane.Evaluator.Event, triggers: [ActiveTrigger], message: CoreMessage?,
        moment: Moment
    ) {
        self.event = event
        self.triggers = triggers
        self.message = message
        self.moment = moment
    }

    var isLong: Bool { triggers.count > Self.step }
    var isDone: Bool { next == triggers.count }

    /// Takes the next triggers. Those that have gone meanwhile, or are others now, are left out.
    mutating func takeStep(_ registry: TriggerRegistry) -> [ActiveTrigger] {
        let isFirst = next == 0
        let end = min(next + Self.step, triggers.count)
        defer { next = end }
        if isFirst, end == triggers.count { return triggers }
        return triggers[next..<end].filter { registry.active($0.id) == $0 }
    }
}
