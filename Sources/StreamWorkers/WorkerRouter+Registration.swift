import StreamFunctions
import StreamModel
import StreamTriggers

extension WorkerRouter {
    // MARK: Functions

    mutating func register(
        _ function: FunctionRegistration, by worker: ConnectionID, into actions: inout Actions
    ) {
        let id = Name(function.id)
        if let error = refusal(of: function, id, by: worker) {
            var asked = function
            asked.id = unprefixed(function.id, worker)
            return refuse(asked, error, by: worker, into: &actions)
        }
        if function.hasInvocation {
            return log(.warning, "http_function_dropped", function.id, worker, into: &actions)
        }
        if let holder = functions.owner(of: id), isHeld(by: holder, against: worker) {
            functions.registerBelow(function, by: worker)
            let shown = unprefixed(function.id, worker).prefix(bytes: limits.nameSize)
            let error = heldError("function", shown)
            actions.append(
                .send(worker, WorkerFrame.functionRegistrationResult(id: shown, error: error)))
            contest(.function(id), of: holder, into: &actions)
            return log(.warning, "function_held", function.id, worker, into: &actions)
        }
        let before = functions.owner(of: id)
        if functions.register(function, by: worker) != nil {
            log(.warning, "function_taken_over", function.id, worker, into: &actions)
        }
        if before != worker { recheckTargets(id, into: &actions) }
    }

    mutating func refuse(
        _ function: FunctionRegistration, _ error: InvocationError, by worker: ConnectionID,
        into actions: inout Actions
    ) {
        let shown = function.id.prefix(bytes: limits.nameSize)
        actions.append(
            .send(worker, WorkerFrame.functionRegistrationResult(id: shown, error: error)))
        noteRefusal("function_refused", id: shown, error, by: worker, into: &actions)
    }

    private func refusal(
        of function: FunctionRegistration, _ id: Name, by worker: ConnectionID
    ) -> InvocationError? {
        if builtInIDs.contains(id) {
            return InvocationError(
                code: "reserved",
                message: "Function \(function.id.prefix(bytes: limits.nameSize)) is built in")
        }
        return overlong("function id", function.id)
            ?? refusal(
                of: function.size, replacing: functions.size(of: id, by: worker),
                functions.usage(of: worker), countMax: limits(of: worker).functionsPerWorker,
                "functions",
                worker)
    }

    // MARK: Trigger types

    mutating func register(
        _ type: TriggerTypeRegistration, by worker: ConnectionID, into actions: inout Actions
    ) {
        let id = Name(type.id)
        if let error = refusal(of: type, id, by: worker) {
            return refuse(type, error, by: worker, into: &actions)
        }
        if let holder = holder(ofType: id, against: worker) {
            return wait(type, for: holder, by: worker, into: &actions)
        }
        if let provider = triggers.provider(of: id), provider != worker {
            log(.warning, "trigger_type_taken_over", type.id, worker, into: &actions)
        }
        triggers.registerType(type, by: worker)
        for owned in triggers.triggers(of: id)
        where !targets.isWithheld(owned.trigger, of: owned.owner) {
            actions.append(.send(worker, WorkerFrame.registerTrigger(owned.trigger)))
        }
    }

    mutating func refuse(
        _ type: TriggerTypeRegistration, _ error: InvocationError, by worker: ConnectionID,
        into actions: inout Actions
    ) {
        let shown = type.id.prefix(bytes: limits.nameSize)
        actions.append(
            .send(worker, WorkerFrame.triggerTypeRegistrationResult(id: shown, error: error)))
        noteRefusal("trigger_type_refused", id: shown, error, by: worker, into: &actions)
    }

    private func refusal(
        of type: TriggerTypeRegistration, _ id: Name, by worker: ConnectionID
    ) -> InvocationError? {
        if triggers.isBuiltIn(type: id) {
            return InvocationError(
                code: "reserved",
                message: "Trigger type \(type.id.prefix(bytes: limits.nameSize)) is built in")
        }
        return overlong("trigger type id", type.id)
            ?? refusal(
                of: type.size, replacing: triggers.size(ofType: id, by: worker),
                triggers.typeUsage(of: worker), countMax: limits(of: worker).triggersPerWorker,
                "trigger types",
                worker)
            ?? refusalOfReplay(of: id)
    }

    private func refusalOfReplay(of type: Name) -> InvocationError? {
        let size = triggers.triggers(of: type).reduce(0) { $0 + $1.trigger.size }
        guard size > limits.replaySize else { return nil }
        return InvocationError(
            code: "limit_reached",
            message: "The triggers of the type are over \(limits.replaySize) bytes")
    }

    // MARK: Triggers

    mutating func register(
        _ trigger: TriggerRegistration, by worker: ConnectionID, into actions: inout Actions
    ) {
        var asked = trigger
        asked.functionID = unprefixed(trigger.functionID, worker)
        if let error = refusal(of: trigger, by: worker) {
            return refuse(asked, error, by: worker, into: &actions)
        }
        if let holder = holder(ofTrigger: Name(trigger.id), against: worker) {
            return wait(trigger, asked, for: holder, by: worker, into: &actions)
        }
        let replaced: OwnedTrigger?
        do {
            replaced = try triggers.register(trigger, by: worker)
        } catch {
            let error = InvocationError(
                code: "trigger_registration_failed",
                message: "Failed to deserialize \(trigger.triggerType) trigger: \(error.reason)")
            return refuse(asked, error, by: worker, into: &actions)
        }
        if let replaced {
            tellProvider(thatGone: replaced.trigger, of: replaced.owner, into: &actions)
        }
        guard noteTarget(of: trigger, by: worker) else { return }
        if let provider = triggers.provider(of: Name(trigger.triggerType)) {
            actions.append(.send(provider, WorkerFrame.registerTrigger(trigger)))
        }
    }

    mutating func unregisterTrigger(
        _ id: String, by worker: ConnectionID, into actions: inout Actions
    ) {
        heldTriggers.remove(Name(id), of: worker)
        guard let trigger = triggers.unregister(Name(id), by: worker) else { return }
        tellProvider(thatGone: trigger, of: worker, into: &actions)
        registerHeld(Name(id), into: &actions)
    }

    /// Tells the worker that provides the trigger's type, if there is one that knows of it and is still connected.
    mutating func tellProvider(
        thatGone trigger: TriggerRegistration, of owner: ConnectionID, into actions: inout Actions
    ) {
        guard forgetTarget(of: trigger, by: owner),
            let provider = triggers.provider(of: Name(trigger.triggerType)),
            workers[provider] != nil
        else { return }
        actions.append(.send(provider, WorkerFrame.unregisterTrigger(trigger)))
    }

    /// Tells the registrant of a trigger that its provider refuses it. The trigger stays, for the next
    /// provider. An answer to a registration that has been replaced since is dropped.
    func passOn(
        _ error: InvocationError, ofTrigger id: String, _ type: String, _ functionID: String,
        from worker: ConnectionID, into actions: inout Actions
    ) {
        guard triggers.provider(of: Name(type)) == worker, let owned = triggers.trigger(Name(id)),
            Name(owned.trigger.triggerType) == Name(type),
            Name(owned.trigger.functionID) == Name(functionID)
        else { return }
        let frame = WorkerFrame.triggerRegistrationResult(
            id: id, triggerType: type, functionID: unprefixed(functionID, owned.owner), error: error
        )
        actions.append(.send(owned.owner, frame))
    }

    private func refusal(
        of trigger: TriggerRegistration, by worker: ConnectionID
    ) -> InvocationError? {
        overlong("trigger id", trigger.id)
            ?? overlong("trigger type", trigger.triggerType)
            ?? overlong("function id", trigger.functionID)
            ?? refusal(
                of: trigger.size, replacing: triggers.size(of: Name(trigger.id), by: worker),
                triggers.usage(of: worker), countMax: limits(of: worker).triggersPerWorker,
                "triggers", worker)
    }

    mutating func refuse(
        _ trigger: TriggerRegistration, _ error: InvocationError, by worker: ConnectionID,
        into actions: inout Actions
    ) {
        let size = limits.nameSize
        let shown = trigger.id.prefix(bytes: size)
        let frame = WorkerFrame.triggerRegistrationResult(
            id: shown, triggerType: trigger.triggerType.prefix(bytes: size),
            functionID: trigger.functionID.prefix(bytes: size), error: error)
        actions.append(.send(worker, frame))
        noteRefusal("trigger_refused", id: shown, error, by: worker, into: &actions)
    }

    // MARK: Limits

    private func overlong(_ what: String, _ name: String) -> InvocationError? {
        guard name.utf8.count > limits.nameSize else { return nil }
        return InvocationError(
            code: "limit_reached", message: "The \(what) is longer than \(limits.nameSize) bytes")
    }

    /// - Parameters:
    ///   - size: of the registration that is asked for.
    ///   - replaced: the size of the worker's own registration that it would replace.
    private func refusal(
        of size: Int, replacing replaced: Int?, _ usage: DirectoryUsage, countMax: Int,
        _ what: String, _ worker: ConnectionID
    ) -> InvocationError? {
        if replaced == nil, usage.count >= countMax {
            return InvocationError(
                code: "limit_reached", message: "The worker has \(countMax) \(what)")
        }
        let total =
            functions.usage(of: worker).size + triggers.usage(of: worker).size
            + triggers.typeUsage(of: worker).size - (replaced ?? 0) + size
        let sizeMax = limits(of: worker).registrationSizePerWorker
        guard total > sizeMax else { return nil }
        return InvocationError(
            code: "limit_reached", message: "The worker's registrations are over \(sizeMax) bytes")
    }

    // MARK: Log

    private mutating func noteRefusal(
        _ event: String, id: String, _ error: InvocationError, by worker: ConnectionID,
        into actions: inout Actions
    ) {
        counters.registrationsRefused += 1
        let fields: KeyValuePairs = [
            "worker": workers[worker]?.id ?? "", "id": id, "code": error.code,
        ]
        actions.append(.log(LogLine(.warning, event, fields)))
    }

    private func log(
        _ level: LogLevel, _ event: String, _ id: String, _ worker: ConnectionID,
        into actions: inout Actions
    ) {
        let fields: KeyValuePairs = ["worker": workers[worker]?.id ?? "", "id": id]
        actions.append(.log(LogLine(level, event, fields)))
    }
}
