package import StreamModel

/// Where a worker connects from.
package struct WorkerPeer: Hashable, Sendable {
    /// The index of the worker port that it came in by.
    package var listener: Int
    package var address: String
    package var query: String

    package init(listener: Int, address: String, query: String) {
        self.listener = listener
        self.address = address
        self.query = query
    }
}

/// What happens to the router.
package enum WorkerEvent<Payload: Sendable>: Sendable {
    /// A connection has finished its handshake. First event of its id, which is never used again.
    case opened(ConnectionID, WorkerPeer)
    case message(ConnectionID, WorkerMessage<Payload>)
    /// Whether the connection has shown life within the deadline of pings. True until said otherwise.
    case liveness(ConnectionID, isAlive: Bool)
    /// A forwarded call that the core could not give to its executor, the connection named.
    case undeliverable(ConnectionID, invocationID: String, UndeliverableReason)
    /// Last event of its connection.
    case closed(ConnectionID)
}

/// Why an executor did not get a call.
package enum UndeliverableReason: Hashable, Sendable {
    /// The frame is over the bytes that the executor takes.
    case tooLarge(limit: Int)
    /// The executor's outbound queue is closed.
    case gone
}

/// What the router wants done, in this order.
package enum WorkerAction<Payload: Sendable>: Sendable {
    /// Send `workerregistered`, and let the connection's messages through.
    case admit(ConnectionID, workerID: String)
    /// Send one JSON text message.
    case send(ConnectionID, [UInt8])
    /// Send a call with the data and the trace context of the payload, and `_caller_worker_id` in
    /// object data.
    case forwardCall(Payload, to: ConnectionID, invocationID: String, functionID: String)
    /// Send the result or the error of the payload, with the executor's trace context; with the one
    /// given, which is the caller's, when the executor sent none.
    case forwardResult(
        Payload, to: ConnectionID, invocationID: JSONText, functionID: String,
        traceparent: String?, baggage: String?)
    /// Send the connection no message over so many bytes from now on.
    case setOutboundLimit(ConnectionID, bytes: Int)
    case close(ConnectionID, code: UInt16)
    case log(WorkerLog)
}
