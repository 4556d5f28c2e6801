package import StreamModel

/// Where a worker connects from.
package struct WorkerPeer: Hashable, Sendable {
    /// The index of the worker port that it came in by.
    package var listener: Int
    /// IP address and port.
    package var address: String
    /// Whether it only sends telemetry: it is no worker that anybody sees.
    package var isTelemetry: Bool

    /// Bytes of one message that it takes, as far as its handshake tells.
    package var messageSizeMax: Int

    package init(
        listener: Int, address: String, isTelemetry: Bool = false, messageSizeMax: Int = .max
    ) {
        self.messageSizeMax = messageSizeMax
        self.listener = listener
        self.address = address
        self.isTelemetry = isTelemetry
    }

    /// The address without the port and the brackets of IPv6.
    var ip: String {
        let host = address.lastIndex(of: ":").map { address[..<$0] } ?? address[...]
        return host.first == "[" ? String(host.dropFirst().dropLast()) : String(host)
    }
}

/// What happens to the router.
package enum WorkerEvent: Sendable {
    /// A connection has finished its handshake. First event of its id, which is never used again. The head's
    /// data is what an auth function is called with.
    case opened(ConnectionID, WorkerPeer, head: any CallPayload)
    case message(ConnectionID, WorkerMessage)
    /// Whether the connection has shown life within the deadline of pings. True until said otherwise.
    case liveness(ConnectionID, isAlive: Bool)
    /// A forwarded call that the core could not give to its executor, the connection named.
    case undeliverable(ConnectionID, invocationID: String, UndeliverableReason)
    /// Time has passed.
    case tick
    /// Last event of its connection.
    case closed(ConnectionID)
}

/// What the router wants done, in this order.
package enum WorkerAction: Sendable {
    /// Send `workerregistered`, and let the connection's messages through. A restricted one's calls of stream
    /// functions come to the router too, but for those named, which it may call always.
    case admit(
        ConnectionID, workerID: String, reattachToken: String, isRestricted: Bool,
        allowed: [String])
    /// Send one JSON text message.
    case send(ConnectionID, [UInt8])
    /// Send one JSON text message, which is a call of the node itself.
    case sendCall(ConnectionID, [UInt8])
    /// Send a call with the data and the trace context of the payload, and `_caller_worker_id` in
    /// object data.
    case forwardCall(any CallPayload, to: ConnectionID, invocationID: String, functionID: String)
    /// Send the result or the error of the payload, with the executor's trace context; with the one
    /// given, which is the caller's, when the executor sent none.
    case forwardResult(
        any CallPayload, to: ConnectionID, invocationID: JSONText, functionID: String,
        traceparent: String?, baggage: String?)
    /// Run a stream function that the message of a restricted connection calls.
    case runStreamCall(ConnectionID, any CallPayload)
    /// Run a stream function for the node, which answers with a message of ``ConnectionID/node``.
    case callStream(invocationID: String, functionID: String, data: JSONText)
    /// A call that the node has started is over.
    case nodeCallEnded(tag: UInt64, CallOutcome)
    /// A registration is dealt with: what the connection said after it may follow.
    case release(ConnectionID)
    /// Send the connection no message over so many bytes from now on.
    case setOutboundLimit(ConnectionID, bytes: Int)
    case close(ConnectionID, code: UInt16)
    /// Call ``WorkerRouter/departMore(_:into:)`` again soon, for a connection that has closed.
    case departMore(ConnectionID)
    /// Ping a worker, and tell with ``WorkerEvent/liveness(_:isAlive:)`` when it is heard.
    case ping(ConnectionID)
    /// Somebody wrote a log record.
    case record(TelemetryLogRecord, from: ConnectionID)
    /// A worker has come, gone, or told about itself.
    case workersChanged(event: String, workerID: String)
    case log(LogLine)
}
