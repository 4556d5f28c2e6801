internal import CStreamCore
package import StreamModel

/// What the core tells the control plane.
package enum CoreEvent: Sendable {
    case workerOpened(
        ConnectionID, listener: Int, isTelemetry: Bool, address: String, messageSizeMax: Int,
        head: CoreMessage)
    case message(ConnectionID, CoreMessage)
    case workerAlive(ConnectionID, isAlive: Bool)
    case workerClosed(ConnectionID)
    case undeliverable(ConnectionID, invocationID: String, UndeliverableReason)
}

/// A line of the core's log.
package struct CoreLog: Sendable {
    package var level: LogLevel
    package var event: String
    package var connection: ConnectionID?
    package var detail: String
}

/// Where the shards leave their events. They never wait here: an append under a lock, and a signal when the
/// box was empty.
///
/// How much can lie here is bounded by the core: a connection with 1,024 messages here is read no further
/// than its results, and of those there are no more than calls were forwarded to it.
package final class EventInbox: Sendable {
    private let events = Guarded<[CoreEvent]>([])
    private let signal: @Sendable () -> Void
    private let log: @Sendable (CoreLog) -> Void

    /// - Parameters:
    ///   - signal: Called, on a shard's thread, when events came into the empty box. Must not block.
    ///   - log: Called on a shard's thread. Must not block.
    package init(
        signal: @escaping @Sendable () -> Void, log: @escaping @Sendable (CoreLog) -> Void
    ) {
        self.signal = signal
        self.log = log
    }

    /// Takes all events, in the order in which each shard left them.
    package func take() -> [CoreEvent] {
        events.withLock { events in
            defer { events = [] }
            return events
        }
    }

    private func put(_ event: CoreEvent) {
        let first = events.withLock { events in
            events.append(event)
            return events.count == 1
        }
        if first { signal() }
    }
}

/// Copies borrowed bytes into a string.
private func string(_ bytes: sc_bytes) -> String {
    let buffer = unsafe UnsafeBufferPointer(start: bytes.data, count: bytes.size)
    return unsafe String(decoding: buffer, as: UTF8.self)
}

extension EventInbox {
    private static func from(_ context: UnsafeMutableRawPointer) -> EventInbox {
        unsafe Unmanaged<EventInbox>.fromOpaque(context).takeUnretainedValue()
    }

    /// The table that C calls. `context` is a retained inbox; whoever destroys the node releases it.
    static func table(context: UnsafeMutableRawPointer) -> sc_node_events {
        unsafe sc_node_events(
            context: context,
            worker_opened: {
                context, connection, listener, telemetry, address, messageSizeMax, head in
                let event = unsafe CoreEvent.workerOpened(
                    ConnectionID(rawValue: connection), listener: Int(listener),
                    isTelemetry: telemetry, address: string(address),
                    messageSizeMax: Int(messageSizeMax),
                    head: CoreMessage(retaining: head))
                unsafe EventInbox.from(context).put(event)
            },
            message: { context, connection, message in
                let copy = unsafe CoreMessage(retaining: message)
                unsafe EventInbox.from(context).put(
                    .message(ConnectionID(rawValue: connection), copy))
            },
            worker_alive: { context, connection, alive in
                unsafe EventInbox.from(context).put(
                    .workerAlive(ConnectionID(rawValue: connection), isAlive: alive))
            },
            worker_closed: { context, connection in
                unsafe EventInbox.from(context).put(
                    .workerClosed(ConnectionID(rawValue: connection)))
            },
            undeliverable: { context, executor, invocationID, reason, limit in
                let why: UndeliverableReason =
                    reason == SC_UNDELIVERABLE_GONE ? .gone : .tooLarge(limit: Int(limit))
                let event = unsafe CoreEvent.undeliverable(
                    ConnectionID(rawValue: executor), invocationID: string(invocationID), why)
                unsafe EventInbox.from(context).put(event)
            },
            log: { context, level, event, connection, detail in
                let line = unsafe CoreLog(
                    level: LogLevel(level), event: String(cString: event),
                    connection: connection == 0 ? nil : ConnectionID(rawValue: connection),
                    detail: string(detail))
                unsafe EventInbox.from(context).log(line)
            })
    }
}

extension LogLevel {
    init(_ level: sc_log_level) {
        switch level {
        case SC_LOG_DEBUG: self = .debug
        case SC_LOG_INFO: self = .info
        case SC_LOG_WARN: self = .warning
        default: self = .error
        }
    }
}
