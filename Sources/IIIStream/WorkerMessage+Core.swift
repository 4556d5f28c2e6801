internal import StreamCore
internal import StreamModel
internal import StreamWorkers

extension WorkerMessage {
    /// Reads what the router needs of a message that the core has checked: required fields are there. Nil: the
    /// message is none of a worker.
    init?(_ message: CoreMessage) {
        switch message.kind {
        case .registerFunction: self = .registerFunction(.init(message))
        case .unregisterFunction: self = .unregisterFunction(id: message.required(.id))
        case .registerTriggerType: self = .registerTriggerType(.init(message))
        case .unregisterTriggerType: self = .unregisterTriggerType(id: message.required(.id))
        case .registerTrigger: self = .registerTrigger(.init(message))
        case .unregisterTrigger:
            self = .unregisterTrigger(
                id: message.required(.id), triggerType: message.string(.triggerType))
        case .triggerRegistrationResult:
            self = .triggerRegistrationResult(
                id: message.required(.id), triggerType: message.required(.triggerType),
                functionID: message.required(.functionID), error: InvocationError(message))
        case .registerService: self = .registerService(id: message.required(.id))
        case .invoke: self = .invoke(.init(message))
        case .reattach:
            self = .reattach(
                previousWorkerID: message.required(.previousWorkerID),
                token: message.string(.reattachToken))
        case .result:
            self = .result(
                .init(
                    invocationID: message.required(.invocationID), isError: message.has(.error),
                    payload: message))
        case .change, .join, .leave, .sync, .upgrade, .override, .logs: return nil
        }
    }
}

extension CoreMessage {
    func required(_ field: Field) -> String {
        guard let value = string(field) else {
            preconditionFailure("the core lets no message without this field through")
        }
        return value
    }
}

extension FunctionRegistration {
    fileprivate init(_ message: CoreMessage) {
        self.init(
            id: message.required(.id), description: message.json(.description),
            requestFormat: message.json(.requestFormat),
            responseFormat: message.json(.responseFormat), metadata: message.json(.metadata),
            hasInvocation: message.has(.invocation))
    }
}

extension TriggerTypeRegistration {
    fileprivate init(_ message: CoreMessage) {
        self.init(
            id: message.required(.id), description: message.required(.description),
            triggerRequestFormat: message.json(.triggerRequestFormat),
            callRequestFormat: message.json(.callRequestFormat))
    }
}

extension TriggerRegistration {
    fileprivate init(_ message: CoreMessage) {
        self.init(
            id: message.required(.id), triggerType: message.required(.triggerType),
            functionID: message.required(.functionID), config: message.json(.config) ?? .null,
            metadata: message.json(.metadata))
    }
}

extension InvocationError {
    fileprivate init?(_ message: CoreMessage) {
        guard message.has(.error) else { return nil }
        self.init(
            code: message.string(.errorCode) ?? "", message: message.string(.errorMessage) ?? "",
            stacktrace: message.string(.errorStacktrace))
    }
}

extension Invocation {
    fileprivate init(_ message: CoreMessage) {
        let functionID = message.required(.functionID)
        self.init(
            functionID: functionID, invocationID: message.json(.invocationID),
            isVoid: message.isVoid, isEnqueue: message.isEnqueue, action: message.json(.action),
            traceparent: message.string(.traceparent),
            baggage: message.string(.baggage),
            data: functionID.hasPrefix("engine::") ? message.json(.data) : nil, payload: message)
    }
}
