import StreamModel
import Testing

@testable import StreamConfig

@Suite("A printed configuration")
struct PrintingTests {
    /// What is printed must be read back to the same, with everything set to something unusual.
    private func roundTrip(
        _ configuration: Configuration, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let text = configuration.yaml()
        let (again, _) = try read(text)
        #expect(again == configuration, "\(text)", sourceLocation: sourceLocation)
        #expect(again.yaml() == text, sourceLocation: sourceLocation)
    }

    @Test("reads back to itself: defaults, on loopback, in files, in Redis")
    func simple() throws {
        try roundTrip(Configuration())
        try roundTrip(.withoutFile)
        var configuration = Configuration()
        configuration.adapter = .kv(.fileBased(FileStore()))
        try roundTrip(configuration)
        configuration.adapter = .redis(url: "redis://localhost:6379")
        try roundTrip(configuration)
    }

    @Test("reads back to itself whatever a text holds")
    func texts() throws {
        for text in [
            "a", "a b", " a ", "a: b", "a #b", "'", "\"", "\\", "null", "true", "5", "1e3", "~",
            "-", "- a", "é🎉", "\n\t\u{1}",
            "{a}", "[a]", "*a", "&a", "!a", "|", ">", "%", "@", "`", "${HOME}", "${X:y}", "$${a}",
            "${", "a:", "? b", "\u{FEFF}x", "\u{2028}", "x::y",
        ] {
            var configuration = Configuration()
            configuration.stream.authFunction = text
            configuration.workerListeners[0].middlewareFunctionID = text
            configuration.workerListeners.append(WorkerListener(host: "127.0.0.1", port: 49135))
            if !text.contains("\n") {
                var access = AccessControl()
                let json = JSONText(validated: Array("{\"k\":\(doubleQuoted(text))}".utf8))
                access.exposedFunctions = [
                    .metadata([MetadataCondition(key: "json", test: .equals(json))]),
                    .pattern(text), .metadata([MetadataCondition(key: text, test: .pattern(text))]),
                ]
                configuration.workerListeners[0].accessControl = access
            }
            try roundTrip(configuration)
        }
    }

    @Test("reads back to itself with random settings")
    func random() throws {
        let seed = UInt64.random(in: 0 ... .max)
        print("seed \(seed)")
        var source = Generator(state: seed)
        for _ in 0..<200 {
            var configuration = Configuration()
            configuration.stream.port = .random(in: 1...30000, using: &source)
            configuration.stream.host =
                ["127.0.0.1", "::1", "localhost"].randomElement(using: &source) ?? ""
            configuration.stream.origins =
                Bool.random(using: &source) ? ["https://a.b", "null"] : nil
            configuration.shards =
                Bool.random(using: &source) ? .random(in: 1...64, using: &source) : nil
            configuration.poll.inMicroseconds = .random(in: 0...1000, using: &source)
            configuration.io = IOBackend.allCases.randomElement(using: &source) ?? .auto
            configuration.compatibility.failOpen = .random(using: &source)
            fill(&configuration.limits, Limits.settings, &source)
            configuration.limits.messageSize = 1 << 30
            configuration.limits.memory =
                Bool.random(using: &source) ? .random(in: Limits.memoryRange, using: &source) : nil
            fill(&configuration.timeouts, Timeouts.settings, &source)
            fill(&configuration.ping, Ping.settings, &source)
            configuration.observability.isEnabled = .random(using: &source)
            configuration.observability.logsSamplingRatio = .random(in: 0...1, using: &source)
            configuration.observability.serviceName = Bool.random(using: &source) ? "iii" : "a: b"
            configuration.observability.serviceNamespace =
                Bool.random(using: &source) ? "#1" : nil
            configuration.workerListeners = (0..<Int.random(in: 1...3, using: &source)).map {
                index in
                var listener = WorkerListener(host: "0.0.0.0", port: 40_000 + index)
                fill(&listener.limits, WorkerLimits.settings, &source)
                if Bool.random(using: &source) {
                    var access = AccessControl()
                    access.authFunctionID = "auth"
                    access.allowsStreamOverrides = .random(using: &source)
                    access.exposedFunctions = [
                        .metadata([
                            MetadataCondition(
                                key: "k",
                                test: .equals(
                                    JSONText(validated: Array(#"{"a":[1,"x",null,true]}"#.utf8))))
                        ])
                    ]
                    listener.accessControl = access
                }
                return listener
            }
            configuration.workerListeners.append(WorkerListener(host: "127.0.0.1", port: 49135))
            try roundTrip(configuration)
        }
    }

    private func fill<Root>(
        _ root: inout Root, _ settings: [IntegerSetting<Root>], _ source: inout Generator
    ) {
        for setting in settings {
            root[keyPath: setting.field] = .random(in: setting.range, using: &source)
        }
    }

    @Test(
        "masks passwords, and nothing else",
        arguments: [
            ("redis://localhost:6379", "redis://localhost:6379"),
            ("redis://u:p@h:1/0", "redis://u:***@h:1/0"),
            ("redis://:p@h", "redis://:***@h"), ("redis://u@h", "redis://u@h"),
            ("rediss://u:a@b:c/d@h:1", "rediss://u:***@h:1"),
            ("redis://[::1]:6379", "redis://[::1]:6379"), ("redis://u:p:q@h", "redis://u:***@h"),
        ])
    func passwords(url: String, shown: String) {
        #expect(maskingPassword(in: url) == shown)
        var configuration = Configuration()
        configuration.adapter = .redis(url: url)
        #expect(configuration.yaml().contains(shown))
    }
}

@Suite("What is not built yet")
struct NotBuiltYetTests {
    @Test("is refused with its place, whatever else the file says")
    func refused() {
        for feature in NotBuiltYet.all {
            var flow = feature.value ?? "x"
            if feature.path == "limits.memory_bytes" { flow = "100000000" }
            for key in feature.path.split(separator: ".").reversed() { flow = "{\(key): \(flow)}" }
            if feature.path.hasPrefix("adapter.config") {
                flow = "{adapter: {name: kv, config: {store_method: file_based}}}"
            }
            let text = "- name: \(feature.worker.rawValue)\n  config: \(flow)\n"
            #expect(
                problems(text, notBuiltYet: []).filter { $0.severity == .error } == [],
                "\(feature.path)")
            let found = problems(text, notBuiltYet: NotBuiltYet.all)
            #expect(found.count == 1)
            #expect(found.first?.position?.line == 2)
            #expect(
                found.first?.message.hasPrefix("\(feature.name) is not built yet: `\(feature.path)")
                    == true)
            #expect(throws: ConfigurationError.self) {
                try Configuration.parse(Array(text.utf8), environment: [:], version: "")
            }
        }
    }

    @Test("may be named where it is not asked for")
    func notAsked() throws {
        let text =
            stream(
                "auth_function: null\nadapter: {name: kv, config: {store_method: in_memory}}\nio: io_uring\nadmin:"
            )
            + "  - name: iii-worker-manager\n    config: {middleware_function_id: null, rbac: null}\n"
        #expect(problems(text, notBuiltYet: NotBuiltYet.all) == [])
    }
}

/// A generator with a seed, so that a failure can be had again.
private struct Generator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

@Suite("Settings that differ")
struct ChangedSettingsTests {
    @Test("nothing differs from itself") func nothing() throws {
        let one = try read(stream("limits: {connections: 5}")).configuration
        #expect(one.settings(changedIn: one) == [])
    }

    @Test("each is named with its entry, in the order of the file that is printed")
    func names() throws {
        let one = Configuration()
        let two = try read(
            stream("ping: {deadline_ms: 7}\nport: 5\nguarded_streams: [a]")
                + "  - {name: iii-worker-manager, config: {port: 1}}\n"
                + "  - {name: iii-worker-manager, config: {port: 2}}\n"
        ).configuration
        let changed = one.settings(changedIn: two)
        #expect(
            Array(changed.prefix(4)) == [
                "`port` of `iii-stream`", "`guarded_streams` of `iii-stream`",
                "`ping.deadline_ms` of `iii-stream`", "`port` of `iii-worker-manager`",
            ])
        #expect(changed.contains("`port` of `iii-worker-manager` (2)"))
        #expect(two.settings(changedIn: one).count == changed.count)
    }

    @Test("a password is a value like others, and is not shown") func password() throws {
        func redis(_ password: String) throws -> Configuration {
            let url = "redis://user:\(password)@host"
            return try read(stream("adapter: {name: redis, config: {redis_url: \"\(url)\"}}"))
                .configuration
        }
        #expect(
            try redis("one").settings(changedIn: redis("two")) == [
                "`adapter.config.redis_url` of `iii-stream`"
            ])
    }
}
