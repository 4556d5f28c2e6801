import StreamModel

/// The keys that each map of the file may have. What is not here is refused, and the documentation
/// is tested against it.
enum Schema {
    /// The workers whose entries are ours.
    enum Worker: String, CaseIterable {
        case stream = "iii-stream"
        case manager = "iii-worker-manager"
        case observability = "iii-observability"
    }

    static let file = ["workers", "modules"]
    static let entry = ["name", "config", "image"]

    static let stream = [
        "port", "host", "auth_function", "guarded_streams", "origins", "tls", "adapter",
        "shards",
        "poll_us", "io", "compat",
        "limits", "timeouts", "ping", "admin", "enabled",
    ]
    static let adapter = ["name", "config"]
    static let kv = [
        "store_method", "file_path", "durability", "save_interval_ms", "segment_bytes",
        "channel_size",
    ]
    static let redis = ["redis_url"]
    static let compatibility = ["fail_open"]
    static let limits = Limits.settings.map(\.key) + ["memory_bytes"]
    static let timeouts = Timeouts.settings.map(\.key)
    static let ping = Ping.settings.map(\.key)

    static let tls = ["cert_file", "key_file", "ca_file", "client_auth", "min_version"]

    static let manager = [
        "port", "host", "origins", "tls", "middleware_function_id", "rbac", "limits",
    ]
    static let accessControl = [
        "auth_function_id", "expose_functions", "on_trigger_registration_function_id",
        "on_trigger_type_registration_function_id", "on_function_registration_function_id",
        "allow_stream_overrides",
    ]
    static let exposedFunctions = ["metadata"]
    static let workerLimits = WorkerLimits.settings.map(\.key)

    static let observability = [
        "enabled", "logs_enabled", "logs_sampling_ratio", "service_name", "service_version",
        "service_namespace",
    ]

    /// Every setting, as `(worker, path in its config)`, without the maps that only hold others.
    static let settings: [Setting] = {
        func list(_ worker: Worker, _ prefix: String, _ keys: [String]) -> [Setting] {
            keys.map { Setting(worker: worker, path: prefix + $0) }
        }
        let maps: Set = ["adapter", "compat", "limits", "timeouts", "ping", "rbac", "tls"]
        return list(.stream, "", stream.filter { !maps.contains($0) })
            + list(.stream, "tls.", tls)
            + list(.stream, "adapter.", ["name"]) + list(.stream, "adapter.config.", kv + redis)
            + list(.stream, "compat.", compatibility) + list(.stream, "limits.", limits)
            + list(.stream, "timeouts.", timeouts) + list(.stream, "ping.", ping)
            + list(.manager, "", manager.filter { !maps.contains($0) })
            + list(.manager, "tls.", tls)
            + list(.manager, "rbac.", accessControl) + list(.manager, "limits.", workerLimits)
            + list(.observability, "", observability)
    }()

    /// A key of the original that sizes a queue this server does not have.
    static let channelSizeRange = 1...1_000_000

    struct Setting: Hashable {
        var worker: Worker
        var path: String

        var key: Substring { path.split(separator: ".").last ?? "" }
    }
}

/// A setting that is an integer: its key, where it goes, and what it may be.
struct IntegerSetting<Root>: Sendable {
    let key: String
    let field: any WritableKeyPath<Root, Int> & Sendable
    let range: ClosedRange<Int>

    init(
        _ key: String, _ field: any WritableKeyPath<Root, Int> & Sendable, _ range: ClosedRange<Int>
    ) {
        self.key = key
        self.field = field
        self.range = range
    }
}

private let byteCounts = 1024...(1 << 30)
private let budgets = (64 << 10)...(1 << 30)
private let durations = 1...3_600_000

extension Limits {
    static let settings: [IntegerSetting<Limits>] = [
        .init("subscriptions_per_connection", \.subscriptionsPerConnection, 1...1_000_000),
        .init("stream_client_budget_bytes", \.streamClientBudget, budgets),
        .init("slow_reader_grace_ms", \.slowReaderGrace.inMilliseconds, 0...3_600_000),
        .init("stream_client_hard_bytes", \.streamClientHardSize, budgets),
        .init("stream_client_unsent_bytes", \.streamClientUnsentSize, 0...(1 << 30)),
        .init("client_message_bytes", \.clientMessageSize, byteCounts),
        .init("sync_bytes", \.syncSize, byteCounts),
        .init("message_bytes", \.messageSize, byteCounts),
        .init("frame_bytes", \.frameSize, byteCounts),
        .init("value_bytes", \.valueSize, 1024...(16 << 20)),
        .init("snapshot_bytes", \.snapshotSize, (1 << 20)...(1 << 40)),
        .init("held_upgrades", \.heldUpgrades, 1...1_000_000),
        .init("turned_away", \.turnedAway, 1...10_000),
        .init("trigger_events", \.triggerEvents, 1...1_000_000),
        .init("trigger_event_bytes", \.triggerEventSize, budgets),
        .init("writer_event_bytes", \.writerEventSize, budgets),
        .init("trigger_calls", \.triggerCalls, 1...100_000),
        .init("handler_calls_per_worker", \.handlerCallsPerWorker, 1...1_000_000),
        .init("handler_bytes_per_worker", \.handlerSizePerWorker, budgets),
        .init("connections", \.connections, 1...10_000_000),
        .init("connections_per_address", \.connectionsPerAddress, 0...10_000_000),
        .init("handshakes_per_second", \.handshakesPerSecond, 0...1_000_000),
        .init("messages_per_second", \.messagesPerSecond, 0...1_000_000),
        .init("joins_per_second", \.joinsPerSecond, 0...1_000_000),
    ]
    static let memoryRange = (64 << 20)...(1 << 50)
}

extension WorkerLimits {
    static let settings: [IntegerSetting<WorkerLimits>] = [
        .init("pending_calls_per_worker", \.pendingCallsPerWorker, 1...1_000_000),
        .init("functions_per_worker", \.functionsPerWorker, 1...1_000_000),
        .init("registration_bytes_per_worker", \.registrationSizePerWorker, 4096...(1 << 30)),
        .init("triggers_per_worker", \.triggersPerWorker, 1...1_000_000),
        .init("worker_budget_bytes", \.workerBudget, budgets),
        .init("contest_ms", \.contest.inMilliseconds, durations),
    ]
}

extension Timeouts {
    static let settings: [IntegerSetting<Timeouts>] = [
        .init("handshake_ms", \.handshake.inMilliseconds, durations),
        .init("auth_ms", \.auth.inMilliseconds, durations),
        .init("handler_ms", \.handler.inMilliseconds, durations),
        .init("shutdown_ms", \.shutdown.inMilliseconds, 0...3_600_000),
    ]
}

extension Ping {
    static let settings: [IntegerSetting<Ping>] = [
        .init("interval_ms", \.interval.inMilliseconds, durations),
        .init("deadline_ms", \.deadline.inMilliseconds, durations),
    ]
}

extension FileStore {
    static let saveIntervalRange = durations
    static let segmentSizeRange = (64 << 10)...(1 << 30)
}
