import StreamConfig
import StreamFunctions
package import StreamModel
import StreamTriggers

/// What a worker with rules may register, and what the node calls for its triggers.
extension WorkerRouter {
    // MARK: Registrations

    /// Why a worker may not register a thing of the kind; nil: it may.
    func refusal(
        of registration: Registration, _ session: AccessSession
    ) -> InvocationError? {
        switch registration {
        case .function:
            return session.mayRegisterFunctions ? nil : registration.denied
        case .triggerType:
            return session.mayRegisterTriggerTypes ? nil : registration.denied
        case .trigger(let trigger):
            return session.mayRegister(trigger: Name(trigger.triggerType))
                ? nil : registration.denied
        }
    }

    /// Why what a worker with rules registers may not have the name that it has, with its prefix, or may not name
    /// what it names; nil: it may.
    mutating func refusal(
        ofPrefixed registration: Registration, by worker: ConnectionID
    ) -> InvocationError? {
        guard let session = workers[worker]?.session, let access = access(of: worker) else {
            return nil
        }
        switch registration {
        case .function(let function):
            return refusal(ofName: Name(function.id), session, access)
        case .triggerType:
            return nil
        case .trigger(let trigger):
            return refusal(ofEventsOf: trigger, by: worker)
                ?? refusal(ofTargetOf: trigger, by: worker)
        }
    }

    private func refusal(
        ofName id: Name, _ session: AccessSession, _ access: AccessControl
    ) -> InvocationError? {
        let shown = id.string.prefix(bytes: limits.nameSize)
        if namedByConfiguration.contains(id) {
            return InvocationError(
                code: "reserved",
                message: "Function \(shown) is named by the configuration: only workers of a port"
                    + " without rbac may register it")
        }
        if id.hasPrefix("engine::") {
            return InvocationError(
                code: "reserved",
                message: "Function \(shown) is under engine::, where only workers of a port without"
                    + " rbac may register")
        }
        if functions.isStreamOverride(id),
            !session.allowsStreamOverrides, !access.allowsStreamOverrides
        {
            return InvocationError(
                code: "FORBIDDEN",
                message: "function '\(shown)' takes over a stream function, which needs"
                    + " allow_stream_overrides")
        }
        return nil
    }

    /// The changes of a stream show what two functions would.
    private mutating func refusal(
        ofEventsOf trigger: TriggerRegistration, by worker: ConnectionID
    ) -> InvocationError? {
        let type = Name(trigger.triggerType)
        guard type == Name("stream"), triggers.isBuiltIn(type: type) else { return nil }
        for read in ["stream::get", "stream::list"] where refusal(of: Name(read), by: worker) == nil
        {
            return nil
        }
        return InvocationError(
            code: "FORBIDDEN",
            message: "a trigger of the type 'stream' needs the right to call stream::get or"
                + " stream::list")
    }

    private mutating func refusal(
        ofTargetOf trigger: TriggerRegistration, by worker: ConnectionID
    ) -> InvocationError? {
        let target = Name(trigger.functionID)
        if let error = refusal(ofTarget: target, by: worker) { return error }
        guard triggers.isBuiltIn(type: Name(trigger.triggerType)) else {
            // The worker that provides the type fires it, with rights of its own: the rules are looked at again only
            // when the function comes into other hands.
            let isOwn = workers[worker]?.session?.functionPrefix.map { target.hasPrefix("\($0)::") }
            guard !isServed(target), isOwn != true else { return nil }
            return refusal(of: target, by: worker)?.error(of: target.string)
        }
        guard let condition = try? triggers.conditionFunctionID(of: trigger) else { return nil }
        return refusal(ofTarget: Name(resolved(condition: condition, of: worker)), by: worker)
    }

    /// What nobody serves yet is looked at when the trigger fires.
    mutating func refusal(
        ofTarget id: Name, by worker: ConnectionID
    ) -> InvocationError? {
        guard let refusal = refusal(ofTriggerCall: id, by: worker),
            isServed(id) || refusal == .forbidden
        else { return nil }
        return refusal.error(of: id.string)
    }

    func isServed(_ id: Name) -> Bool {
        builtInIDs.contains(id) || functions.owner(of: id) != nil
    }

    // MARK: Firing

    /// What the node calls for a trigger that fires: decided by the rules of its registrant, and by who serves
    /// the function now.
    package mutating func target(of call: TriggerCall) -> TriggerTarget {
        guard call.isRestricted else { return .function(call.functionID) }
        guard workers[call.owner]?.session != nil else { return .gone }
        if let known = triggerDecisions.known(call, functions.generation) { return known }
        let id =
            call.isCondition
            ? resolved(condition: call.functionID, of: call.owner) : call.functionID
        let refusal = refusal(ofTriggerCall: Name(id), by: call.owner)
        // A call of what nobody serves fails by itself.
        let target: TriggerTarget =
            refusal != nil && isServed(Name(id)) ? .forbidden : .function(id)
        triggerDecisions.note(target, of: call, functions.generation)
        return target
    }

    /// A worker may have triggers call what it may call itself, and what workers of its own identity serve.
    private mutating func refusal(ofTriggerCall id: Name, by worker: ConnectionID) -> Refusal? {
        if let server = functions.owner(of: id), identity(of: server) == identity(of: worker) {
            return nil
        }
        return refusal(of: id, by: worker)
    }

    /// A condition means the function with the worker's prefix if its own identity serves that.
    private func resolved(condition id: String, of worker: ConnectionID) -> String {
        let own = prefixed(id, worker)
        guard let server = functions.owner(of: Name(own)),
            identity(of: server) == identity(of: worker)
        else { return id }
        return own
    }

    // MARK: Identity

    /// Whose functions and triggers those of a connection are.
    func identity(of connection: ConnectionID) -> WorkerIdentity {
        guard isRestricted(connection), let worker = workers[connection],
            let session = worker.session
        else { return .unrestricted }
        return .restricted(listener: worker.peer.listener, session.identity)
    }
}

/// Workers that count as one: what one of them has registered another may take over.
enum WorkerIdentity: Hashable, Sendable {
    /// Of a port without rules.
    case unrestricted
    case restricted(listener: Int, JSONText)
}

/// What was decided about the calls of triggers, until a function changes.
struct TriggerDecisions: Sendable {
    private struct Key: Hashable {
        var trigger: Name
        var isCondition: Bool
    }

    private struct Decision {
        var call: TriggerCall
        var target: TriggerTarget
    }

    private var generation: UInt64 = 0
    private var decisions: [Key: Decision] = [:]

    /// Triggers that are remembered; with more all are forgotten, and decided again.
    static let countMax = 10_000

    func known(_ call: TriggerCall, _ generation: UInt64) -> TriggerTarget? {
        guard generation == self.generation,
            let decision = decisions[Key(trigger: call.trigger, isCondition: call.isCondition)],
            decision.call == call
        else { return nil }
        return decision.target
    }

    mutating func note(_ target: TriggerTarget, of call: TriggerCall, _ generation: UInt64) {
        if generation != self.generation || decisions.count >= Self.countMax {
            decisions.removeAll(keepingCapacity: true)
            self.generation = generation
        }
        let key = Key(trigger: call.trigger, isCondition: call.isCondition)
        decisions[key] = Decision(call: call, target: target)
    }
}
