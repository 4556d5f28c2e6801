import StreamModel

extension Configuration {
    /// Every setting with its value, as a file that reads back to this configuration. Passwords in
    /// URLs are masked, and then the one thing that does not.
    package func yaml() -> String {
        node(masksPasswords: true).yaml()
    }

    func node(masksPasswords: Bool) -> YAMLNode {
        var entries = [entry(.stream, streamSettings(masksPasswords: masksPasswords))]
        entries += workerListeners.map { entry(.manager, $0.settings) }
        entries.append(
            entry(
                .observability,
                [
                    ("enabled", .boolean(observability.isEnabled)),
                    ("logs_enabled", .boolean(observability.logsEnabled)),
                    ("logs_sampling_ratio", .float(observability.logsSamplingRatio)),
                    ("service_name", .string(observability.serviceName)),
                    ("service_version", .text(observability.serviceVersion)),
                    ("service_namespace", .text(observability.serviceNamespace)),
                ]))
        return .map([("workers", .list(entries))])
    }

    private func entry(_ worker: Schema.Worker, _ settings: [(String, YAMLNode)]) -> YAMLNode {
        .map([("name", .string(worker.rawValue)), ("config", .map(settings))])
    }

    private func streamSettings(masksPasswords: Bool) -> [(String, YAMLNode)] {
        [
            ("enabled", .boolean(stream.isEnabled)),
            ("port", .integer(stream.port)),
            ("host", .string(stream.host)),
            ("auth_function", .text(stream.authFunction)),
            ("guarded_streams", .list(stream.guardedStreams.map { .string($0) })),
            ("origins", stream.origins.map { .list($0.map { .string($0) }) } ?? .null),
            ("tls", stream.tls?.node ?? .null),
            ("adapter", adapter.node(masksPasswords: masksPasswords)),
            ("shards", shards.map { .integer($0) } ?? .string("auto")),
            ("poll_us", .integer(poll.inMicroseconds)),
            ("io", .string(io.rawValue)),
            ("compat", .map([("fail_open", .boolean(compatibility.failOpen))])),
            (
                "limits",
                .map(
                    values(limits, Limits.settings) + [
                        ("memory_bytes", limits.memory.map { .integer($0) } ?? .null)
                    ])
            ),
            ("timeouts", .map(values(timeouts, Timeouts.settings))),
            ("ping", .map(values(ping, Ping.settings))),
        ]
    }
}

extension Adapter {
    fileprivate func node(masksPasswords: Bool) -> YAMLNode {
        switch self {
        case .redis(let url):
            let shown = masksPasswords ? maskingPassword(in: url) : url
            let config = YAMLNode.map([("redis_url", .string(shown))])
            return .map([("name", .string("redis")), ("config", config)])
        case .kv(let method):
            return .map([("name", .string("kv")), ("config", .map(method.settings))])
        }
    }
}

extension StoreMethod {
    fileprivate var settings: [(String, YAMLNode)] {
        switch self {
        case .inMemory:
            [("store_method", .string("in_memory"))]
        case .fileBased(let store):
            [
                ("store_method", .string("file_based")),
                ("file_path", .string(store.path)),
                ("durability", .string(store.durability.rawValue)),
                ("segment_bytes", .integer(store.segmentSize)),
            ]
                + (store.durability == .interval
                    ? [("save_interval_ms", .integer(store.saveInterval.inMilliseconds))] : [])
        }
    }
}

extension WorkerListener {
    fileprivate var settings: [(String, YAMLNode)] {
        [
            ("port", .integer(port)),
            ("host", .string(host)),
            ("origins", origins.map { .list($0.map { .string($0) }) } ?? .null),
            ("tls", tls?.node ?? .null),
            ("middleware_function_id", .text(middlewareFunctionID)),
            ("rbac", accessControl?.node ?? .null),
            ("limits", .map(values(limits, WorkerLimits.settings))),
        ]
    }
}

extension AccessControl {
    fileprivate var node: YAMLNode {
        .map([
            ("auth_function_id", .text(authFunctionID)),
            ("expose_functions", .list(exposedFunctions.map(\.node))),
            ("on_trigger_registration_function_id", .text(triggerRegistrationFunctionID)),
            ("on_trigger_type_registration_function_id", .text(triggerTypeRegistrationFunctionID)),
            ("on_function_registration_function_id", .text(functionRegistrationFunctionID)),
            ("allow_stream_overrides", .boolean(allowsStreamOverrides)),
        ])
    }
}

extension ExposedFunctions {
    fileprivate var node: YAMLNode {
        switch self {
        case .pattern(let pattern): match(pattern)
        case .metadata(let conditions):
            .map([("metadata", .map(conditions.map { ($0.key, $0.test.node) }))])
        }
    }
}

extension MetadataCondition.Test {
    fileprivate var node: YAMLNode {
        switch self {
        case .pattern(let pattern): match(pattern)
        case .equals(let json): YAMLNode(json: json) ?? .null
        }
    }
}

private func match(_ pattern: String) -> YAMLNode {
    .string("match(\"\(pattern)\")")
}

private func values<Root>(
    _ root: Root, _ settings: [IntegerSetting<Root>]
) -> [(String, YAMLNode)] {
    settings.map { ($0.key, .integer(root[keyPath: $0.field])) }
}

/// A URL that is fit to be seen: `redis://user:***@host`.
func maskingPassword(in url: String) -> String {
    guard let scheme = url.firstRange(ofASCII: "://") else { return url }
    // A password may hold what ends a host elsewhere: all before the last `@` is taken for it.
    guard let at = url[scheme...].lastIndex(of: "@"),
        let colon = url[scheme..<at].firstIndex(of: ":")
    else { return url }
    return url[...colon] + "***" + url[at...]
}

extension String {
    /// The index behind the first `text` in this string.
    fileprivate func firstRange(ofASCII text: String) -> Index? {
        indices.first { self[$0...].hasPrefix(text) }.map { index($0, offsetBy: text.count) }
    }
}

extension YAMLNode {
    fileprivate static var null: YAMLNode { YAMLNode(.null) }
    fileprivate static func boolean(_ value: Bool) -> YAMLNode { YAMLNode(.boolean(value)) }
    fileprivate static func integer(_ value: Int) -> YAMLNode { YAMLNode(.integer(value)) }
    fileprivate static func float(_ value: Double) -> YAMLNode { YAMLNode(.float(value)) }
    fileprivate static func string(_ value: String) -> YAMLNode { YAMLNode(.string(value)) }
    fileprivate static func list(_ items: [YAMLNode]) -> YAMLNode { YAMLNode(.list(items)) }
    fileprivate static func text(_ value: String?) -> YAMLNode {
        value.map { .string($0) } ?? .null
    }
    fileprivate static func map(_ entries: [(String, YAMLNode)]) -> YAMLNode {
        YAMLNode(.map(entries.map { YAMLEntry($0.0, $0.1) }))
    }

    /// The value of a JSON text: JSON is YAML.
    fileprivate init?(json: JSONText) {
        var report = DiagnosticList()
        guard let node = YAMLNode.parse(json.bytes, environment: [:], version: "", &report) else {
            return nil
        }
        self = node
    }
}
