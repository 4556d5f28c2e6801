package import StreamModel

/// What the evaluation of triggers wants done, in this order.
package enum TriggerAction: Sendable {
    /// Call a function, if the rules let it; the answer, or what came of it, is given back with
    /// ``TriggerEvaluator/callEnded`` or ``TriggerEvaluator/callForbidden``. `authors`: of a log record, the triggers
    /// whose handlers have led to the call, its own among them. `needsResult`: of a success it matters what it says.
    case call(
        run: UInt64, TriggerCall, CallInput, authors: Set<Name>?, needsResult: Bool,
        timeout: Duration)
    /// A join is decided.
    case decideJoin(ConnectionID, any CallPayload, isAllowed: Bool)
    /// Take no further changes of watched streams from this connection, or take them again. They pair up, and do
    /// not nest.
    case hold(ConnectionID)
    case release(ConnectionID)
    case log(LogLine)
}

/// What has been counted since the start.
package struct TriggerCounters: Hashable, Sendable {
    /// Handlers called.
    package var handled: UInt64 = 0
    /// Conditions that said no.
    package var skipped: UInt64 = 0
    /// Conditions and handlers that failed, timed out ones included.
    package var failed: UInt64 = 0
    package var timedOut: UInt64 = 0
    /// Events dropped because their trigger's queue stayed full, or their writer had too many bytes waiting.
    package var dropped: UInt64 = 0
    /// Times that a trigger had to wait because the worker of its function had enough calls.
    package var serverWaits: UInt64 = 0
    /// Events that had to wait because their trigger had as many calls under way as it may.
    package var callWaits: UInt64 = 0
    /// Times that a writer was made to wait.
    package var holds: UInt64 = 0
    package var joinsRefused: UInt64 = 0
    /// Handlers and conditions that were not called, because the registrant may not call them.
    package var forbidden: UInt64 = 0

    package init() {}
}
