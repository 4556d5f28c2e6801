import StreamModel

// The `config` of each entry that is ours.
extension ConfigurationDecoder {
    // MARK: iii-stream

    mutating func decodeStream(_ config: YAMLNode?) {
        let map = SettingsMap(
            config, at: SettingsPlace(worker: .stream), keys: Schema.stream, &report)
        map.read("enabled", into: &configuration.stream.isEnabled, &report)
        map.read("port", in: 0...65_535, into: &configuration.stream.port, &report)
        map.host("host", into: &configuration.stream.host, &report)
        if configuration.stream.isEnabled {
            note(
                host: configuration.stream.host, port: configuration.stream.port,
                at: map.position(of: "port") ?? config?.position)
        }
        configuration.stream.authFunction = map.functionID("auth_function", &report)
        configuration.stream.guardedStreams = guardedStreams(map)
        configuration.stream.origins = origins(
            map, "like `https://example.com` or `http://localhost:8080`, without a path",
            normalizedOrigin)
        configuration.stream.tls = tls(map)
        decodeAdapter(map)
        decodeShards(map)
        map.read(
            "poll_us", in: Configuration.pollRange, into: &configuration.poll.inMicroseconds,
            &report)
        if map["io"] != nil {
            if case .string(let name) = map["io"]?.value, let io = IOBackend(rawValue: name) {
                configuration.io = io
            } else {
                map.refuse("io", alternatives(IOBackend.allCases.map(\.rawValue)), &report)
            }
        }
        let compatibility = map.child("compat", keys: Schema.compatibility, &report)
        compatibility.read("fail_open", into: &configuration.compatibility.failOpen, &report)
        if configuration.compatibility.failOpen {
            report.warning(
                "`compat.fail_open` lets clients in when their auth function or join handler fails",
                at: compatibility.position(of: "fail_open"))
        }
        decodeLimits(map)
        map.child("timeouts", keys: Schema.timeouts, &report)
            .read(Timeouts.settings, into: &configuration.timeouts, &report)
        map.child("ping", keys: Schema.ping, &report)
            .read(Ping.settings, into: &configuration.ping, &report)
    }

    /// Reads a list of origins; nil: none is given.
    /// - Parameter origin: reads one, as browsers send it, or returns nil.
    private mutating func origins(
        _ map: SettingsMap, _ expected: String, _ origin: (String) -> String?
    ) -> [String]? {
        guard map.has("origins"), let node = map["origins"] else { return nil }
        guard case .list(let items) = node.value else {
            map.refuse("origins", "a list", &report)
            return nil
        }
        return items.compactMap { item in
            if case .string(let text) = item.value, let origin = origin(text) { return origin }
            report.error("an item of `origins` must be \(expected)", at: item.position)
            return nil
        }
    }

    private mutating func guardedStreams(_ map: SettingsMap) -> [String] {
        guard map.has("guarded_streams"), let node = map["guarded_streams"] else { return [] }
        guard case .list(let items) = node.value else {
            map.refuse("guarded_streams", "a list", &report)
            return []
        }
        return items.compactMap { item in
            if case .string(let text) = item.value, text.utf8.count <= 256 { return text }
            report.error(
                "an item of `guarded_streams` must be the name of a stream, or a pattern like"
                    + " `tenant-*`", at: item.position)
            return nil
        }
    }

    private mutating func decodeShards(_ map: SettingsMap) {
        guard let node = map["shards"], node.value != .string("auto") else { return }
        if case .integer(let count) = node.value, 1...64 ~= count {
            configuration.shards = count
        } else {
            map.refuse("shards", "`auto` or an integer from 1 to 64", &report)
        }
    }

    private mutating func decodeLimits(_ map: SettingsMap) {
        let limits = map.child("limits", keys: Schema.limits, &report)
        limits.read(Limits.settings, into: &configuration.limits, &report)
        if limits.has("memory_bytes") {
            var memory = 0
            limits.read("memory_bytes", in: Limits.memoryRange, into: &memory, &report)
            configuration.limits.memory = memory
        }
        // Frames and values travel in messages: a default gives way, a wish that cannot be is told.
        let message = configuration.limits.messageSize
        for (key, field) in [("frame_bytes", \Limits.frameSize), ("value_bytes", \.valueSize)]
        where configuration.limits[keyPath: field] > message {
            if let position = limits.position(of: key) {
                report.error(
                    "`limits.\(key)` of `iii-stream` must be at most `limits.message_bytes`, which"
                        + " is \(message)", at: position)
            }
            configuration.limits[keyPath: field] = message
        }
    }

    // MARK: adapter

    private mutating func decodeAdapter(_ map: SettingsMap) {
        guard map.has("adapter") else { return }
        // The keys of its `config` depend on the name: looked at below.
        let adapter = map.child("adapter", keys: Schema.adapter, &report)
        guard adapter["name"] != nil else {
            if case .map = map["adapter"]?.value {
                report.error(
                    "`adapter` of `iii-stream` needs a `name`: \(alternatives(Self.adapters))",
                    at: map["adapter"]?.position)
            }
            return
        }
        guard let name = adapter.text("name", &report) else { return }
        switch name {
        case "kv":
            decodeStore(adapter.child("config", keys: Schema.kv, &report))
        case "redis":
            decodeRedis(adapter.child("config", keys: Schema.redis, &report))
        default:
            let near = nearest(to: name, among: Self.adapters).map { "; did you mean `\($0)`?" }
            report.error(
                "Adapter factory \(quoted(name, with: "'")) not found. Available:"
                    + " [\(Self.adapters.joined(separator: ", "))]" + (near ?? ""),
                at: adapter["name"]?.position)
        }
    }

    private static let adapters = ["kv", "redis"]

    private mutating func decodeStore(_ map: SettingsMap) {
        var store = FileStore()
        if map["file_path"] != nil, let path = map.text("file_path", &report) {
            store.path = path
            if path.utf8.contains(0) { map.refuse("file_path", "a path without NUL", &report) }
        }
        map.read(
            "save_interval_ms", in: FileStore.saveIntervalRange,
            into: &store.saveInterval.inMilliseconds, &report)
        decodeDurability(map, &store)
        map.read(
            "segment_bytes", in: FileStore.segmentSizeRange, into: &store.segmentSize, &report)
        var ignored = 0
        map.read("channel_size", in: Schema.channelSizeRange, into: &ignored, &report)
        if let position = map.position(of: "channel_size") {
            report.warning("`channel_size` has no effect: there is no queue to size", at: position)
        }
        let methods = ["in_memory", "file_based"]
        switch map["store_method"]?.value {
        case .string("file_based"):
            configuration.adapter = .kv(.fileBased(store))
            return
        case nil, .string("in_memory"):
            configuration.adapter = .kv(.inMemory)
        case .string(let name):
            let near = nearest(to: name, among: methods).map { ": did you mean `\($0)`?" } ?? ""
            report.error(
                "unknown `store_method` \(quoted(name)), expected \(alternatives(methods))\(near)",
                at: map["store_method"]?.position)
            return
        default:
            map.refuse("store_method", alternatives(methods), &report)
            return
        }
        if map["store_method"] == nil, let position = map.position(of: "file_path") {
            report.error(
                "`file_path` without `store_method: file_based` would keep all items in memory",
                at: position)
            return
        }
        for key in ["file_path", "durability", "save_interval_ms", "segment_bytes"] {
            if let position = map.position(of: key) {
                report.warning("`\(key)` has no effect with `in_memory`", at: position)
            }
        }
    }

    /// A file of the original gives an interval and knows of no durability: it means `interval`.
    private mutating func decodeDurability(_ map: SettingsMap, _ store: inout FileStore) {
        let interval = map.position(of: "save_interval_ms")
        guard let node = map["durability"] else {
            if interval != nil { store.durability = .interval }
            return
        }
        guard case .string(let name) = node.value, let durability = Durability(rawValue: name)
        else {
            return map.refuse(
                "durability", alternatives(Durability.allCases.map(\.rawValue)), &report)
        }
        store.durability = durability
        if durability != .interval, let interval {
            report.warning(
                "`save_interval_ms` has no effect with `durability: \(name)`", at: interval)
        }
    }

    private mutating func decodeRedis(_ map: SettingsMap) {
        var url = "redis://localhost:6379"
        if map["redis_url"] != nil, let given = map.text("redis_url", &report) {
            url = given
        }
        if !url.hasPrefix("redis://"), !url.hasPrefix("rediss://") {
            // Never the text: it may hold a password.
            report.error(
                "`adapter.config.redis_url` of `iii-stream` must start with `redis://` or"
                    + " `rediss://`", at: map["redis_url"]?.position)
        }
        configuration.adapter = .redis(url: url)
    }

    // MARK: iii-worker-manager

    mutating func decodeWorkerListener(_ config: YAMLNode?) {
        let map = SettingsMap(
            config, at: SettingsPlace(worker: .manager), keys: Schema.manager, &report)
        var listener = WorkerListener()
        map.read("port", in: 0...65_535, into: &listener.port, &report)
        map.host("host", into: &listener.host, &report)
        note(
            host: listener.host, port: listener.port,
            at: map.position(of: "port") ?? config?.position)
        listener.origins = origins(
            map, "like `https://example.com`, `null`, `chrome-extension://abc` or `*`",
            normalizedOriginOfAnyScheme)
        if listener.origins?.contains("*") == true {
            report.warning(
                "`*` in `origins` lets pages of any origin call what workers may call",
                at: map.position(of: "origins"))
        }
        listener.tls = tls(map)
        listener.middlewareFunctionID = map.functionID("middleware_function_id", &report)
        if map.has("rbac") {
            listener.accessControl = accessControl(
                map.child("rbac", keys: Schema.accessControl, &report))
        }
        map.child("limits", keys: Schema.workerLimits, &report)
            .read(WorkerLimits.settings, into: &listener.limits, &report)
        configuration.workerListeners.append(listener)
    }

    // MARK: iii-observability

    mutating func decodeObservability(_ config: YAMLNode?) {
        guard let config, !config.isNull else { return }
        guard case .map(let entries) = config.value else {
            report.error(
                "`iii-observability` must be a map, found \(config.kind)", at: config.position)
            return
        }
        let (known, others) = entries.reduce(into: ([YAMLEntry](), [YAMLEntry]())) { parts, entry in
            if Schema.observability.contains(entry.key) {
                parts.0.append(entry)
            } else {
                parts.1.append(entry)
            }
        }
        if let first = others.first {
            let names = others.prefix(8).map { quoted($0.key) }.joined(separator: ", ")
            report.warning(
                "of `iii-observability`, these settings have no effect here: \(names)"
                    + (others.count > 8 ? " and \(others.count - 8) more" : ""),
                at: first.keyPosition)
        }
        let map = SettingsMap(
            YAMLNode(.map(known), at: config.position), at: SettingsPlace(worker: .observability),
            keys: Schema.observability, &report)
        map.read("enabled", into: &configuration.observability.isEnabled, &report)
        map.read("logs_enabled", into: &configuration.observability.logsEnabled, &report)
        map.read(
            "logs_sampling_ratio", ratio: &configuration.observability.logsSamplingRatio, &report)
        if let name = map.text("service_name", &report) {
            configuration.observability.serviceName = name
        }
        configuration.observability.serviceVersion = map.optionalText("service_version", &report)
        configuration.observability.serviceNamespace = map.optionalText(
            "service_namespace", &report)
    }
}
