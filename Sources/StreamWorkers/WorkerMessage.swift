package import StreamModel

/// What a worker says, as the core hands it over: parsed and validated. `CallPayload` is the core's own
/// handle of a call's data or of a result, which passes through untouched.
package enum WorkerMessage: Sendable {
    case registerFunction(FunctionRegistration)
    case unregisterFunction(id: String)
    case registerTriggerType(TriggerTypeRegistration)
    case unregisterTriggerType(id: String)
    case registerTrigger(TriggerRegistration)
    /// The id alone says which trigger is meant; the type is informative.
    case unregisterTrigger(id: String, triggerType: String?)
    case triggerRegistrationResult(
        id: String, triggerType: String, functionID: String, error: InvocationError?)
    case registerService(id: String)
    /// The worker was connected before, as this worker.
    case reattach(previousWorkerID: String, token: String?)
    case invoke(Invocation)
    case result(InvocationOutcome)
}

/// A call as its caller wrote it.
package struct Invocation: Sendable {
    package var functionID: String
    /// The caller's id as written, a JSON string with its quotes, which is echoed and never looked into.
    package var invocationID: JSONText?
    /// Whether the caller wants no answer, whatever the id says.
    package var isVoid: Bool
    /// Whether it is to be put on a queue.
    package var isEnqueue: Bool
    /// The action as written.
    package var action: JSONText?
    package var traceparent: String?
    package var baggage: String?
    /// The call's data, only for ids under `engine::`.
    package var data: JSONText?
    package var payload: any CallPayload

    package init(
        functionID: String, invocationID: JSONText?, isVoid: Bool = false, isEnqueue: Bool = false,
        action: JSONText? = nil, traceparent: String? = nil, baggage: String? = nil,
        data: JSONText? = nil, payload: any CallPayload
    ) {
        self.functionID = functionID
        self.invocationID = invocationID
        self.isVoid = isVoid
        self.isEnqueue = isEnqueue
        self.action = action
        self.traceparent = traceparent
        self.baggage = baggage
        self.data = data
        self.payload = payload
    }
}

/// What an executor answers.
package struct InvocationOutcome: Sendable {
    /// The id that the node gave the call towards its executor.
    package var invocationID: String
    package var isError: Bool
    package var payload: any CallPayload

    package init(invocationID: String, isError: Bool, payload: any CallPayload) {
        self.invocationID = invocationID
        self.isError = isError
        self.payload = payload
    }
}
