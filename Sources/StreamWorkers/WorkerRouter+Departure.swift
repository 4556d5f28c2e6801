internal import StreamFunctions
package import StreamModel
internal import StreamTriggers

/// What a connection that has closed leaves behind goes in steps, so that others are served meanwhile.
extension WorkerRouter {
    private static var departuresPerStep: Int { 64 }

    /// Takes out some of what a connection has left behind: functions first, so that nobody calls it any more, then its
    /// calls.
    package mutating func departMore(_ connection: ConnectionID, into actions: inout Actions) {
        guard var left = departures.removeValue(forKey: connection) else { return }
        for _ in 0..<Self.departuresPerStep {
            if let id = left.functions.popLast() {
                leave(function: id, of: connection, into: &actions)
            } else if let call = calls.removeFirst(of: connection) {
                stop(call, with: connection, into: &actions)
            } else if let id = left.triggers.popLast() {
                unregisterTrigger(id.string, by: connection, into: &actions)
            } else if let id = left.types.popLast() {
                triggers.unregisterType(id, by: connection)
                registerHeldType(id, into: &actions)
            } else if let id = heldTriggers.first(of: connection) {
                heldTriggers.remove(id, of: connection)
            } else if let id = heldTypes.first(of: connection) {
                heldTypes.remove(id, of: connection)
            } else {
                return calls.forget(connection)
            }
        }
        departures[connection] = left
        actions.append(.departMore(connection))
    }

    private mutating func leave(
        function id: Name, of connection: ConnectionID, into actions: inout Actions
    ) {
        functions.unregister(id, by: connection) { workers[$0]?.isAlive == true }
        recheckTargets(id, into: &actions)
    }

    /// Ends a call that a connection, which is closed, executes or waits for.
    private mutating func stop(
        _ call: PendingCall, with connection: ConnectionID, into actions: inout Actions
    ) {
        counters.callsStopped += 1
        guard call.caller != connection else { return }
        let error = InvocationError(code: "invocation_stopped", message: "Invocation stopped")
        end(call, .failure(error), into: &actions)
    }
}

/// What a connection that has closed had registered, in reverse order.
struct Departure: Sendable {
    var functions: [Name]
    var triggers: [Name]
    var types: [Name]
}
