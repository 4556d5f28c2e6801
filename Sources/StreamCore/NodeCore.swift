internal import CStreamCore
internal import Glibc
package import StreamModel

/// The running C core of one node: owns its handle, turns commands into calls of it.
///
/// Safe: commands may come from any thread (the core posts them to its shards and drops them once it
/// stops); `start` and `stop` are called by one owner, once each, in that order; the handle is destroyed
/// with this object, after `stop`.
@safe package final class NodeCore: @unchecked Sendable {
    let handle: OpaquePointer
    private let inbox: Unmanaged<EventInbox>
    private let workerCount: Int

    /// - Throws: ``CoreError/outOfMemory``.
    package init(settings: CoreSettings, inbox: EventInbox) throws(CoreError) {
        unsafe self.inbox = Unmanaged.passRetained(inbox)
        workerCount = settings.workers.count
        let context = unsafe self.inbox.toOpaque()
        guard let handle = unsafe NodeCore.create(settings, context) else {
            unsafe self.inbox.release()
            throw .outOfMemory
        }
        unsafe self.handle = handle
    }

    deinit {
        unsafe sc_node_destroy(handle)
        unsafe inbox.release()
    }

    private static func create(
        _ settings: CoreSettings, _ context: UnsafeMutableRawPointer
    ) -> OpaquePointer? {
        var events = unsafe EventInbox.table(context: context)
        // The core copies all names, so they live only as long as this call.
        let hosts = unsafe ([settings.stream] + settings.workers).map { unsafe strdup($0.host) }
        let origins = unsafe ([settings.stream] + settings.workers).map { address in
            unsafe address.origins.lines.map { unsafe strdup($0) } ?? nil
        }
        let path = unsafe settings.storage.map { unsafe strdup($0.path) } ?? nil
        let addressSettings = [settings.stream] + settings.workers
        // As the names, for this call only.
        let certificates = unsafe addressSettings.map { unsafe CertificateTable($0.certificate) }
        defer {
            unsafe certificates.forEach { unsafe $0?.free() }
            unsafe hosts.forEach { unsafe free($0) }
            unsafe origins.forEach { unsafe free($0) }
            unsafe free(path)
        }
        var addresses: [sc_node_address] = unsafe []
        for (index, address) in addressSettings.enumerated() {
            guard let host = unsafe hosts[index] else { return nil }
            unsafe addresses.append(
                sc_node_address(
                    host: host, port: address.port, budget: UInt64(address.clientBudget),
                    origin_rule: address.origins.rule, origins: origins[index],
                    tls: certificates[index]?.table))
        }
        let workers = unsafe Array(addresses.dropFirst())
        return unsafe workers.withUnsafeBufferPointer { workers in
            var config = unsafe sc_node_config_default()
            unsafe config.shard_count = UInt32(settings.shardCount)
            unsafe config.poll_us = UInt32(settings.poll.inMicroseconds)
            unsafe config.io = settings.io.code
            unsafe config.stream = addresses[0]
            unsafe config.workers = workers.baseAddress
            unsafe config.worker_count = UInt32(workers.count)
            unsafe config.authenticates = settings.authenticates
            unsafe config.watched = settings.watchesJoins ? UInt32(SC_WATCH_JOINS.rawValue) : 0
            unsafe settings.copyLimits(to: &config)
            unsafe config.without_ports = settings.withoutPorts
            unsafe config.without_streams = settings.withoutStreams
            if let storage = settings.storage {
                unsafe config.storage = unsafe storage.table(path: path)
            }
            return unsafe sc_node_create(&config, &events)
        }
    }

    /// Starts the shards and listens. Blocks until they run.
    /// - Throws: ``CoreError/startFailed(_:_:)`` with a sentence for the operator.
    package func start() throws(CoreError) {
        var reason = [CChar](repeating: 0, count: 512)
        let rc = unsafe reason.withUnsafeMutableBufferPointer { buffer -> Int32 in
            guard let start = buffer.baseAddress else { return -1 }
            return unsafe sc_node_start(handle, start, buffer.count)
        }
        guard rc < 0 else { return }
        let text = reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        let step: CoreError.StartStep =
            switch unsafe sc_node_start_step(handle) {
            case SC_START_LOOP: .kernel
            case SC_START_DIRECTORY: .directory
            case SC_START_STORE: .store
            case SC_START_LISTEN: .address
            case SC_START_CERTIFICATE: .certificate
            default: .other
            }
        throw .startFailed(step, String(decoding: text, as: UTF8.self))
    }

    /// Takes no new connections, and closes the stream clients. Blocks for a turn of each shard.
    package func closeClients() {
        unsafe sc_node_close_clients(handle)
    }

    /// How many stream clients are connected. Blocks for a turn of each shard.
    package func streamClientCount() -> Int {
        Int(unsafe sc_node_counters(handle).stream_connections)
    }

    /// Closes every connection in order and ends the shards. Blocks, at most `timeout` and a little.
    package func stop(timeout: Duration) {
        unsafe sc_node_stop(handle, UInt32(clamping: timeout.inMilliseconds))
    }

    package var streamPort: UInt16 { unsafe sc_node_port(handle, -1) }
    package var workerPorts: [UInt16] {
        (0..<workerCount).map { unsafe sc_node_port(handle, Int32($0)) }
    }
    /// Where it listens for stream clients: a host of several addresses has several.
    package var streamAddresses: [String] { addresses(-1) }
    /// The same for each worker port.
    package var workerAddresses: [[String]] { (0..<workerCount).map { addresses(Int32($0)) } }

    private func addresses(_ worker: Int32) -> [String] {
        let port = unsafe sc_node_port(handle, worker)
        return (0..<(unsafe sc_node_address_count(handle, worker))).map { index in
            let host = unsafe String(cString: sc_node_address_text(handle, worker, index))
            return "\(host):\(port)"
        }
    }
    /// The account of what no connection has caused.
    package var account: CoreAccount {
        unsafe CoreAccount(retaining: sc_node_account(handle))
    }
    package var backend: String { unsafe String(cString: sc_node_backend(handle)) }
    /// Why it is that one.
    package var backendReason: String { unsafe String(cString: sc_node_backend_reason(handle)) }

    /// Lends `bytes` to `body` as the core takes them; nil as the view without data.
    private func lend<R>(_ bytes: [UInt8]?, _ body: (sc_bytes) -> R) -> R {
        guard let bytes else { return unsafe body(sc_bytes()) }
        return unsafe bytes.withUnsafeBufferPointer { buffer in
            // An empty array has no address, but is not absent.
            let empty = unsafe UnsafeRawPointer(bitPattern: 1)?.assumingMemoryBound(to: UInt8.self)
            let view = unsafe sc_bytes(data: buffer.baseAddress ?? empty, size: buffer.count)
            return unsafe body(view)
        }
    }

    package func admit(
        _ connection: ConnectionID, workerID: String, reattachToken: String, isRestricted: Bool,
        allowed: [String]
    ) {
        let operations = allowed.reduce(0) { bits, id in
            unsafe bits | lend(Array(id.utf8)) { unsafe sc_node_stream_op($0) }
        }
        unsafe lend(Array(workerID.utf8)) { id in
            unsafe lend(Array(reattachToken.utf8)) { token in
                unsafe sc_node_admit(
                    handle, connection.rawValue, id, token, isRestricted, operations)
            }
        }
    }

    /// Sends one text message, which is JSON.
    package func send(_ text: [UInt8], to connection: ConnectionID) {
        unsafe lend(text) { unsafe sc_node_send(handle, connection.rawValue, $0) }
    }

    /// Sends one text message, which is a call: from now on the executor is read whatever waits.
    package func sendCall(_ text: [UInt8], to executor: ConnectionID) {
        unsafe lend(text) { unsafe sc_node_send_call(handle, executor.rawValue, $0) }
    }

    /// Sends the call on; an `undeliverable` event says if that failed.
    package func forwardCall(
        _ message: CoreMessage, to executor: ConnectionID, invocationID: String, functionID: String
    ) {
        unsafe lend(Array(invocationID.utf8)) { invocation in
            unsafe lend(Array(functionID.utf8)) { function in
                unsafe sc_node_forward_call(
                    handle, message.handle, executor.rawValue, invocation, function)
            }
        }
    }

    /// Sends the result on, under the caller's own ids.
    package func forwardResult(
        _ message: CoreMessage, to caller: ConnectionID, invocationID: JSONText, functionID: String,
        traceparent: String?, baggage: String?
    ) {
        unsafe lend(invocationID.bytes) { invocation in
            unsafe lend(Array(functionID.utf8)) { function in
                unsafe lend(traceparent.map { Array($0.utf8) }) { traceparent in
                    unsafe lend(baggage.map { Array($0.utf8) }) { baggage in
                        unsafe sc_node_forward_result(
                            handle, message.handle, caller.rawValue, invocation, function,
                            traceparent, baggage)
                    }
                }
            }
        }
    }

    package func limitOutbound(_ connection: ConnectionID, bytes: Int) {
        unsafe sc_node_limit_outbound(handle, connection.rawValue, UInt64(bytes))
    }

    /// Runs a stream function that the message of a restricted connection calls.
    package func runCall(_ message: CoreMessage, of connection: ConnectionID) {
        unsafe sc_node_run_call(handle, connection.rawValue, message.handle)
    }

    /// Calls a stream function for the node; the answer comes as a result of ``ConnectionID/node``.
    package func call(_ functionID: String, invocationID: String, data: JSONText) {
        unsafe lend(Array(invocationID.utf8)) { invocation in
            unsafe lend(Array(functionID.utf8)) { function in
                unsafe lend(data.bytes) { unsafe sc_node_call(handle, invocation, function, $0) }
            }
        }
    }

    /// Lets a worker's messages pass that a registration has stopped.
    package func release(_ connection: ConnectionID) {
        unsafe sc_node_release(handle, connection.rawValue)
    }

    /// Holds back what a worker writes to watched streams and logs, or lets it go on.
    package func hold(_ connection: ConnectionID, _ isHeld: Bool) {
        unsafe sc_node_hold(handle, connection.rawValue, isHeld)
    }

    /// Pings a worker now. When it is heard, an event says that it is alive.
    package func ping(_ connection: ConnectionID) {
        unsafe sc_node_ping(handle, connection.rawValue)
    }

    package func close(_ connection: ConnectionID, code: UInt16) {
        unsafe sc_node_close(handle, connection.rawValue, code)
    }
}

/// What the control plane wants to hear of in a stream.
package struct CoreWatch: OptionSet, Hashable, Sendable {
    package let rawValue: UInt32

    package init(rawValue: UInt32) {
        self.rawValue = rawValue
    }

    package static let changes = CoreWatch(rawValue: SC_WATCH_CHANGES.rawValue)
    package static let joins = CoreWatch(rawValue: SC_WATCH_JOINS.rawValue)
    package static let leaves = CoreWatch(rawValue: SC_WATCH_LEAVES.rawValue)
    package static let logs = CoreWatch(rawValue: SC_WATCH_LOGS.rawValue)

    /// The function is overridden.
    package static func overridden(_ operation: StreamOperation) -> CoreWatch {
        switch operation {
        case .set: CoreWatch(rawValue: SC_WATCH_SET.rawValue)
        case .get: CoreWatch(rawValue: SC_WATCH_GET.rawValue)
        case .delete: CoreWatch(rawValue: SC_WATCH_DELETE.rawValue)
        case .list: CoreWatch(rawValue: SC_WATCH_LIST.rawValue)
        case .listGroups: CoreWatch(rawValue: SC_WATCH_LIST_GROUPS.rawValue)
        case .update: CoreWatch(rawValue: SC_WATCH_UPDATE.rawValue)
        }
    }
}

/// What an overriding function has done to an item.
package enum CoreChangeKind: Hashable, Sendable {
    case create, update, delete
}

extension NodeCore {
    /// Replaces what is watched in `stream`, nil for all streams.
    package func watch(_ stream: String?, _ watch: CoreWatch) {
        unsafe lend(stream.map { Array($0.utf8) }) {
            unsafe sc_node_watch(handle, $0, watch.rawValue)
        }
    }

    /// Lets a stream client in (nil: no refusal), or refuses it with an HTTP status.
    package func upgrade(_ connection: ConnectionID, refusal: Int?, context: JSONText?) {
        unsafe lend(context?.bytes) {
            unsafe sc_node_upgrade(handle, connection.rawValue, Int32(refusal ?? 101), $0)
        }
    }

    package func decideJoin(_ join: CoreMessage, of connection: ConnectionID, isAllowed: Bool) {
        unsafe sc_node_decide_join(handle, connection.rawValue, join.handle, isAllowed)
    }

    /// Gives a join of an overridden stream its snapshot; nil: there is none.
    package func sync(_ request: CoreMessage, of connection: ConnectionID, data: JSONText?) {
        unsafe lend(data?.bytes) {
            unsafe sc_node_sync(handle, connection.rawValue, request.handle, $0)
        }
    }

    /// Announces what an overriding function has made of the item that `call` names.
    package func emit(
        _ call: CoreMessage, kind: CoreChangeKind, data: JSONText, writer: ConnectionID
    ) {
        let kind =
            switch kind {
            case .create: SC_EVENT_CREATE
            case .update: SC_EVENT_UPDATE
            case .delete: SC_EVENT_DELETE
            }
        unsafe lend(data.bytes) {
            unsafe sc_node_emit(handle, writer.rawValue, call.handle, kind, $0)
        }
    }
}

extension IOBackend {
    fileprivate var code: UInt32 {
        switch self {
        case .auto: SC_NODE_IO_AUTO.rawValue
        case .ioUring: SC_NODE_IO_URING.rawValue
        case .epoll: SC_NODE_IO_EPOLL.rawValue
        }
    }
}

extension CoreSettings.Storage {
    fileprivate func table(path: UnsafeMutablePointer<CChar>?) -> sc_node_storage {
        var table = unsafe sc_node_storage()
        unsafe table.path = unsafe UnsafePointer(path)
        switch durability {
        case .commit: unsafe table.durability = SC_NODE_COMMIT
        case .none: unsafe table.durability = SC_NODE_NO_SYNC
        case .interval:
            unsafe table.durability = SC_NODE_INTERVAL
            unsafe table.flush_interval_ms = UInt32(flushInterval.inMilliseconds)
        }
        unsafe table.segment_size = UInt64(segmentSize)
        unsafe table.repair = repairs
        unsafe table.import_last = importSplitsLast
        unsafe table.import_skips_broken = importSkipsBroken
        return unsafe table
    }
}

extension CoreSettings {
    fileprivate func copyLimits(to config: inout sc_node_config) {
        unsafe config.message_size_max = UInt64(messageSizeMax)
        unsafe config.frame_size_max = UInt32(frameSizeMax)
        unsafe config.value_size_max = UInt32(valueSizeMax)
        unsafe config.subscriptions_per_connection_max = UInt32(subscriptionsPerConnectionMax)
        unsafe config.client_message_size_max = UInt64(clientMessageSizeMax)
        unsafe config.sync_size_max = UInt64(syncSizeMax)
        unsafe config.slow_reader_grace_ms = UInt32(slowReaderGrace.inMilliseconds)
        unsafe config.client_hard_size_max = UInt64(clientHardSizeMax)
        unsafe config.snapshot_size_max = UInt64(snapshotSizeMax)
        unsafe config.held_upgrade_count_max = UInt32(heldUpgradeCountMax)
        unsafe config.turned_away_count_max = UInt32(turnedAwayCountMax)
        unsafe config.client_unsent_size = UInt32(clientUnsentSize)
        unsafe config.connection_count_max = UInt32(connectionCountMax)
        unsafe config.connections_per_address_max = UInt32(connectionsPerAddressMax)
        unsafe config.handshakes_per_second_max = UInt32(handshakesPerSecondMax)
        unsafe config.messages_per_second_max = UInt32(messagesPerSecondMax)
        unsafe config.joins_per_second_max = UInt32(joinsPerSecondMax)
        unsafe config.handshake_timeout_ms = UInt32(handshake.inMilliseconds)
        unsafe config.ping_interval_ms = UInt32(pingInterval.inMilliseconds)
        unsafe config.ping_deadline_ms = UInt32(pingDeadline.inMilliseconds)
        unsafe config.seed = seed
    }
}

extension CoreSettings.Origins {
    fileprivate var rule: sc_origin_rule {
        switch self {
        case .all: SC_ORIGINS_ALL
        case .listed: SC_ORIGINS_LISTED
        case .local: SC_ORIGINS_LOCAL
        }
    }

    fileprivate var lines: String? {
        guard case .listed(let origins) = self else { return nil }
        return origins.joined(separator: "\n")
    }
}
