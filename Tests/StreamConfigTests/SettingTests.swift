import StreamModel
import Testing

@testable import StreamConfig

@Suite("Settings")
struct SettingTests {
    @Test(
        "unknown keys are named with their place and the nearest known key",
        arguments: [
            (
                stream("adaptr: {name: kv}"),
                "f:4:7: error: unknown key `adaptr` in `iii-stream`: did you mean `adapter`?"
            ),
            (
                stream("Port: 1"),
                "f:4:7: error: unknown key `Port` in `iii-stream`: did you mean `port`?"
            ),
            (
                stream("adapter: {name: kv, config: {store_metod: x}}"),
                "f:4:36: error: unknown key `store_metod` in `adapter.config` of `iii-stream`: did you mean `store_method`?"
            ),
            (
                stream("limits: {conections: 1}"),
                "f:4:16: error: unknown key `conections` in `limits` of `iii-stream`: did you mean `connections`?"
            ),
            (
                stream("zzzz: 1"),
                "f:4:7: error: unknown key `zzzz` in `iii-stream`: expected `port`, `host`"
            ),
            (
                stream("adapter: {name: redis, config: {store_method: in_memory}}"),
                "unknown key `store_method` in `adapter.config` of `iii-stream`"
            ),
            (
                manager("adapter: {name: kv}"),
                "f:4:7: error: unknown key `adapter` in `iii-worker-manager`"
            ),
            (
                stream("middleware_function_id: x"),
                "it belongs in the config of `iii-worker-manager`, as `middleware_function_id`"
            ),
            (
                stream("message_bytes: 1"),
                "it belongs in the config of `iii-stream`, as `limits.message_bytes`"
            ),
            (
                stream("timeouts: {interval_ms: 1}"),
                "it belongs in the config of `iii-stream`, as `ping.interval_ms`"
            ),
            (manager("rbac: {expose_function: []}"), "did you mean `expose_functions`?"),
        ])
    func unknownKeys(text: String, part: String) {
        let found = lines(text)
        #expect(found.count == 1)
        #expect(found.first?.contains(part) == true, "\(found)")
    }

    @Test(
        "a host is an address or a name",
        arguments: [
            ("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "0.0.0.0"), ("localhost", "localhost"),
            ("a-b.example.com", "a-b.example.com"), ("'::1'", "::1"), ("'[::1]'", "::1"),
            ("'::'", "::"),
            ("'1:2:3:4:5:6:7:8'", "1:2:3:4:5:6:7:8"), ("'::ffff:1.2.3.4'", "::ffff:1.2.3.4"),
        ])
    func hosts(text: String, host: String) throws {
        #expect(try read(stream("host: \(text)")).configuration.stream.host == host)
        #expect(try read(manager("host: \(text)")).configuration.workerListeners[0].host == host)
    }

    @Test(
        "what cannot be a host is refused",
        arguments: [
            "256.0.0.1", "1.2.3", "01.2.3.4", "'1:2:3:4:5:6:7'", "'1:2:3:4:5:6:7:8:9'", "'::1::'",
            "':::'",
            "'[::1'", "'[127.0.0.1]'", "a_b", "'-a'", "'a-'", "'a..b'", "'a b'", "'host:80'",
            "'http://h'", "'*'",
        ])
    func noHosts(text: String) {
        let found = lines(stream("host: \(text)"))
        #expect(found.count == 1)
        #expect(
            found.first?.contains("`host` of `iii-stream` must be an IP address or a host name")
                == true)
    }

    @Test("a name of 253 bytes with labels of 63 is a host, one byte more is not")
    func hostLengths() {
        let label = String(repeating: "a", count: 63)
        let longest = [label, label, label, String(repeating: "b", count: 61)].joined(
            separator: ".")
        #expect(problems(stream("host: \(longest)")) == [])
        #expect(problems(stream("host: \(longest)b")).count == 1)
        #expect(problems(stream("host: \(label)")) == [])
        #expect(problems(stream("host: \(label)a")).count == 1)
    }

    @Test(
        "a function id has at most 256 bytes",
        arguments: ["auth_function"])
    func functionIDs(key: String) throws {
        let longest = String(repeating: "é", count: 128)
        #expect(try read(stream("\(key): \(longest)")).configuration.stream.authFunction == longest)
        #expect(
            lines(stream("\(key): \(longest)x")).first?.contains(
                "a function id of at most 256 bytes") == true)
        #expect(try read(stream("\(key): null")).configuration.stream.authFunction == nil)
    }

    @Test(
        "origins are compared as a browser sends them",
        arguments: [
            ("[https://Example.com]", ["https://example.com"]), ("[]", []),
            (
                "['https://a.b:443', 'http://a.b:80', 'http://a.b:443']",
                ["https://a.b", "http://a.b", "http://a.b:443"]
            ),
            ("['http://[::1]:8080', 'null']", ["http://[::1]:8080", "null"]),
        ])
    func origins(text: String, expected: [String]) throws {
        #expect(try read(stream("origins: \(text)")).configuration.stream.origins == expected)
    }

    @Test(
        "what no browser sends as an origin is refused",
        arguments: [
            "example.com", "https://a/", "https://a/b", "ftp://a", "'https://a:0'",
            "'https://a:65536'", "https://", "'*'", "5", "''",
        ])
    func noOrigins(text: String) {
        let found = lines(stream("origins: [\(text)]"))
        #expect(found.count == 1)
        #expect(found.first?.contains("must be like `https://example.com`") == true)
    }

    @Test("shards are a number or `auto`")
    func shards() throws {
        #expect(try read(stream("shards: auto")).configuration.shards == nil)
        #expect(try read(stream("shards: 64")).configuration.shards == 64)
        for wrong in ["0", "65", "all", "1.0", "'1'", "true", "null", "~", ""] {
            #expect(
                lines(stream("shards: \(wrong)")).first?.contains(
                    "`auto` or an integer from 1 to 64") == true)
        }
    }

    @Test("polling is a number of microseconds, up to a millisecond")
    func polling() throws {
        #expect(try read(stream("port: 1")).configuration.poll.inMicroseconds == 0)
        for time in [0, 1, 1000] {
            #expect(
                try read(stream("poll_us: \(time)")).configuration.poll.inMicroseconds == time)
        }
        for wrong in ["-1", "1001", "1.5", "'1'", "true"] {
            #expect(
                lines(stream("poll_us: \(wrong)")).first?.contains("an integer from 0 to 1000")
                    == true)
        }
    }

    @Test("the ways to talk to the kernel are named")
    func io() throws {
        for backend in IOBackend.allCases {
            #expect(try read(stream("io: \(backend.rawValue)")).configuration.io == backend)
        }
        #expect(
            lines(stream("io: uring")).first?.contains("must be `auto`, `io_uring` or `epoll`")
                == true)
    }

    @Test("failing open is allowed, and warned of")
    func failOpen() throws {
        let (configuration, warnings) = try read(stream("compat: {fail_open: true}"))
        #expect(configuration.compatibility.failOpen)
        #expect(warnings.map(\.position?.line) == [4])
        #expect(problems(stream("compat: {fail_open: false}")) == [])
    }

    @Test("frames and values fit into messages: a default gives way, a wish is refused")
    func messageSizes() throws {
        let limits = try read(stream("limits: {message_bytes: 2048}")).configuration.limits
        #expect((limits.messageSize, limits.frameSize, limits.valueSize) == (2048, 2048, 2048))
        #expect(
            problems(stream("limits: {message_bytes: 2048, frame_bytes: 2048, value_bytes: 2047}"))
                == [])
        #expect(
            lines(stream("limits: {message_bytes: 2048, frame_bytes: 2049}")).first?.contains(
                "`limits.frame_bytes` of `iii-stream` must be at most `limits.message_bytes`, which is 2048"
            ) == true)
        #expect(problems(stream("limits: {message_bytes: 2048, value_bytes: 2049}")).count == 1)
    }

    @Test("a value has at most 16 MiB: more is refused and not passed over")
    func valueSize() throws {
        #expect(
            try read(stream("limits: {value_bytes: 16777216}")).configuration.limits.valueSize
                == 16 << 20)
        #expect(
            lines(stream("limits: {value_bytes: 16777217}")).first?.contains(
                "must be an integer from 1024 to 16777216, found 16777217") == true)
    }

    @Test("an integer beyond 64 bits is out of range, and no float")
    func hugeIntegers() {
        for number in ["99999999999999999999", "-99999999999999999999", "0xfffffffffffffffff"] {
            #expect(
                lines(stream("port: \(number)")) == [
                    "f:4:13: error: `port` of `iii-stream` must be an integer from 0 to 65535,"
                        + " found an integer beyond 64 bits"
                ])
        }
    }

    // MARK: Adapters

    @Test("the store in files keeps its settings")
    func fileStore() throws {
        let text = stream(
            "adapter: {name: kv, config: {store_method: file_based, file_path: ./d, save_interval_ms: 7}}"
        )
        var store = FileStore()
        store.path = "./d"
        store.saveInterval.inMilliseconds = 7
        store.durability = .interval
        #expect(try read(text).configuration.adapter == .kv(.fileBased(store)))
        #expect(
            try read(stream("adapter: {name: kv, config: {store_method: file_based}}"))
                .configuration.adapter == .kv(.fileBased(FileStore())))
        store.durability = .none
        store.segmentSize = 65_536
        let explicit =
            "store_method: file_based, file_path: ./d, durability: none, segment_bytes: 65536"
        let (configuration, warnings) = try read(
            stream("adapter: {name: kv, config: {\(explicit), save_interval_ms: 7}}"))
        #expect(configuration.adapter == .kv(.fileBased(store)))
        #expect(warnings.count == 1)
        #expect(
            lines(stream("adapter: {name: kv, config: {store_method: file_based, durability: x}}"))
                .first?.contains("`commit`, `interval` or `none`") == true)
    }

    @Test(
        "an adapter that is none is refused, and never taken for memory",
        arguments: [
            (
                "{name: kvv}",
                "Adapter factory 'kvv' not found. Available: [kv, redis]; did you mean `kv`?"
            ),
            ("{name: bridge}", "Adapter factory 'bridge' not found. Available: [kv, redis]"),
            ("{config: {}}", "`adapter` of `iii-stream` needs a `name`: `kv` or `redis`"),
            ("{name: null}", "`adapter.name` of `iii-stream` must be a string, found nothing"),
            ("kv", "`adapter` of `iii-stream` must be a map, found a string"),
            (
                "{name: kv, config: {store_method: in_memry}}",
                "unknown `store_method` `in_memry`, expected `in_memory` or `file_based`: did you mean `in_memory`?"
            ),
            (
                "{name: kv, config: {store_method: null}}",
                "must be `in_memory` or `file_based`, found nothing"
            ),
            (
                "{name: kv, config: {file_path: d}}",
                "`file_path` without `store_method: file_based` would keep all items in memory"
            ),
            (
                "{name: kv, config: {store_method: file_based, file_path: \"a\\0b\"}}",
                "a path without NUL"
            ),
        ])
    func wrongAdapters(text: String, part: String) {
        let found = lines(stream("adapter: \(text)"))
        #expect(found.count == 1)
        #expect(found.first?.contains(part) == true, "\(found)")
    }

    @Test("settings of files without effect are told")
    func settingsWithoutEffect() {
        let found = problems(
            stream(
                "adapter: {name: kv, config: {store_method: in_memory, file_path: d, save_interval_ms: 1, channel_size: 256}}"
            ))
        #expect(found.map(\.severity) == [.warning, .warning, .warning])
    }

    @Test("a Redis address that is none is not repeated: it may hold a password")
    func redis() throws {
        #expect(
            try read(stream("adapter: {name: redis, config: {redis_url: 'rediss://u:p@h:1/2'}}"))
                .configuration.adapter == .redis(url: "rediss://u:p@h:1/2"))
        let found = lines(
            stream("adapter: {name: redis, config: {redis_url: 'http://u:secret@h'}}"))
        #expect(found.count == 1)
        #expect(found.first?.contains("must start with `redis://` or `rediss://`") == true)
        #expect(found.first?.contains("secret") == false)
    }

    // MARK: Workers

    @Test("access control is read whole")
    func accessControl() throws {
        let text =
            manager(
                """
                middleware_function_id: m
                rbac:
                  auth_function_id: a
                  on_trigger_registration_function_id: t
                  on_trigger_type_registration_function_id: tt
                  on_function_registration_function_id: f
                  expose_functions:
                    - match("api::*")
                    - match( 'x' )
                    - metadata: {public: true, tier: match("g*"), n: 1.5, deep: {a: [null, "é\\n"]}}
                  allow_stream_overrides: true
                """) + "  - name: iii-worker-manager\n    config: {host: 127.0.0.1, port: 49135}\n"
        let listener = try read(text).configuration.workerListeners[0]
        let access = try #require(listener.accessControl)
        #expect(listener.middlewareFunctionID == "m")
        #expect(access.authFunctionID == "a")
        #expect(access.triggerRegistrationFunctionID == "t")
        #expect(access.triggerTypeRegistrationFunctionID == "tt")
        #expect(access.functionRegistrationFunctionID == "f")
        let deep = JSONText(validated: Array(#"{"a":[null,"é\n"]}"#.utf8))
        #expect(
            access.exposedFunctions == [
                .pattern("api::*"), .pattern("x"),
                .metadata([
                    MetadataCondition(
                        key: "public", test: .equals(JSONText(validated: Array("true".utf8)))),
                    MetadataCondition(key: "tier", test: .pattern("g*")),
                    MetadataCondition(
                        key: "n", test: .equals(JSONText(validated: Array("1.5".utf8)))),
                    MetadataCondition(key: "deep", test: .equals(deep)),
                ]),
            ])
    }

    @Test("an empty `rbac` is access control that exposes nothing; null is none")
    func emptyAccessControl() throws {
        #expect(
            try read(manager("rbac: {}")).configuration.workerListeners[0].accessControl
                == AccessControl())
        #expect(
            try read(manager("rbac: null")).configuration.workerListeners[0].accessControl == nil)
    }

    @Test(
        "what exposes no functions is refused",
        arguments: [
            ("[foo]", "expected match(\"pattern\"), got: `foo`"),
            ("['match(x)']", "expected match(\"pattern\")"),
            ("['match(\"x'')']", "expected match(\"pattern\")"), ("[1]", "found an integer"),
            ("[{}]", "needs a `metadata` map"), ("[{metadata: {}}]", "needs a `metadata` map"),
            ("[{metadata: 1}]", "needs a `metadata` map"),
            ("[{metadata: {a: .inf}}]", "JSON, which has no such number"),
            ("[{metdata: {a: 1}}]", "did you mean `metadata`?"), ("{}", "must be a list"),
        ])
    func wrongExposedFunctions(text: String, part: String) {
        let found = lines(manager("rbac: {expose_functions: \(text)}"))
        #expect(found.contains { $0.contains(part) }, "\(found)")
    }

    @Test("what of observability has no effect is told in one warning")
    func observability() throws {
        let text = file(
            "iii-observability",
            "enabled: false\nlogs_enabled: false\nlogs_sampling_ratio: 0\nexporter: otlp\nformat: x"
        )
        let (configuration, warnings) = try read(text)
        #expect(!configuration.observability.isEnabled && !configuration.observability.logsEnabled)
        #expect(configuration.observability.logsSamplingRatio == 0)
        #expect(
            warnings.map { $0.text(file: "f") } == [
                "f:7:7: warning: of `iii-observability`, these settings have no effect here: `exporter`, `format`"
            ])
        #expect(
            try read(file("iii-observability", "logs_sampling_ratio: 0.25")).configuration
                .observability.logsSamplingRatio == 0.25)
    }

    @Test("the service names itself in the resource of its log records")
    func service() throws {
        let text = file(
            "iii-observability",
            "service_name: shop\nservice_version: '2'\nservice_namespace: null")
        let resource = try read(text).configuration.observability.resource
        #expect(
            String(decoding: resource.bytes, as: UTF8.self)
                == #"{"service.name":"shop","service.version":"2"}"#)
        #expect(
            lines(file("iii-observability", "service_name: ''")).contains {
                $0.contains("not empty")
            })
        #expect(lines(file("iii-observability", "service_name: null")).count == 1)
    }
}
