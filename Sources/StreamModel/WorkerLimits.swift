/// The bounds of what one worker can make the node hold. Each is refused visibly. Those of a worker port are set by its entry
/// in the configuration.
package struct WorkerLimits: Hashable, Sendable {
    /// Bytes of a function, trigger or trigger type id. Longer: `limit_reached`.
    package var nameSize = 256
    /// Functions that one worker offers. More: `limit_reached`.
    package var functionsPerWorker = 10_000
    /// Triggers that one worker has, and trigger types that it provides. More: `limit_reached`.
    package var triggersPerWorker = 10_000
    /// Bytes of text in the functions, triggers and types of one worker. More: `limit_reached`.
    package var registrationSizePerWorker = 16 << 20
    /// Bytes of triggers that are replayed to a new provider. More: its type gets `limit_reached`.
    package var replaySize = 64 << 20
    /// Calls that one worker executes, and calls that it waits for. More: `too_many_calls`.
    package var pendingCallsPerWorker = 10_000
    /// Bytes, as written between its quotes, of the id of a void call that is repeated to it. Longer: an id of the
    /// node is sent instead.
    package var invocationIDSize = 1024
    /// Bytes of a call's trace context that are kept for its result. More: not echoed.
    package var traceContextSize = 8 << 10
    /// Bytes of input of an `engine::` function. More: `deserialization_error`.
    package var engineInputSize = 64 << 10
    /// Bytes of functions or triggers in a list, or in a notice of `engine::functions-available`. A list over it, or over what its
    /// caller takes: `result_too_large`. A notice: not sent, and logged.
    package var listSize = 64 << 20

    /// Bytes that wait to be sent to one worker. With more, its calls wait.
    package var workerBudget = 64 << 20

    /// How long the holder of an id may take to answer a ping when another worker wants the id. Silent: it counts as gone.
    package var contest: Duration = .seconds(2)

    package init() {}
}
