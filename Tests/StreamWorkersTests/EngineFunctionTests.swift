import StreamModel
import StreamWorkers
import Testing

@Suite("engine::workers::register")
struct RegisterWorkerTests {
    private var node = Node.with(1)

    private let success =
        #"1 send {"type":"invocationresult","invocation_id":"1","function_id":"engine::workers::register","result":{"success":true}}"#

    private mutating func register(_ data: String?, isVoid: Bool = false) -> [String] {
        node.call(1, "engine::workers::register", isVoid: isVoid, data: data)
    }

    private func failure(_ reason: String) -> String {
        errorLine(
            1, "engine::workers::register", "deserialization_error",
            "Failed to deserialize input for engine::workers::register: \(reason)")
    }

    /// What the Python client sends.
    @Test("everything a worker tells is stored") mutating func all() throws {
        let data =
            #"{"runtime":"python","version":"0.25.0","name":"host:123","os":"Linux 6 (x86_64)","pid":123,"isolation":null,"telemetry":{"language":"en_US","project_name":"p","framework":"iii-py","amplitude_api_key":null},"_caller_worker_id":"x"}"#
        #expect(
            register(data) == ["1 limit 67108864", success], "the version takes large messages")
        let metadata = try #require(node.router.metadata(of: connectionID(1)))
        #expect(metadata.runtime == "python")
        #expect(metadata.version == "0.25.0")
        #expect(metadata.name == "host:123")
        #expect(metadata.os == "Linux 6 (x86_64)")
        #expect(metadata.pid == 123)
        #expect(metadata.isolation == nil)
        #expect(metadata.telemetry?.language == "en_US")
        #expect(metadata.telemetry?.projectName == "p")
        #expect(metadata.telemetry?.framework == "iii-py")
    }

    @Test("a void call stores and answers nothing") mutating func void() {
        #expect(register(#"{"name":"n"}"#, isVoid: true).isEmpty)
        #expect(node.router.metadata(of: connectionID(1))?.name == "n")
    }

    @Test("a missing runtime is unknown", arguments: ["{}", "null", #"{"runtime":null}"#, nil])
    mutating func unknownRuntime(data: String?) {
        #expect(register(data) == [success])
        #expect(node.router.metadata(of: connectionID(1))?.runtime == "unknown")
    }

    @Test("a later call replaces what an earlier one said") mutating func again() {
        _ = register(#"{"name":"n","pid":1}"#)
        _ = register(#"{"name":"m"}"#)
        #expect(node.router.metadata(of: connectionID(1))?.name == "m")
        #expect(node.router.metadata(of: connectionID(1))?.pid == nil)
    }

    @Test(
        "the runtime python takes messages up to 1 MiB before version 0.24.5",
        arguments: [
            "0.11.6", "0.11", "0.23.0", "0.24.4", "0.24.5rc1", "0.24.5-next.1", "0.24", "0", "",
            "x", "0.24.x", "v1.0.0", "99999999999999999999",
        ])
    mutating func outboundLimit(version: String) {
        #expect(
            register("{\"runtime\":\"python\",\"version\":\"\(version)\"}")
                == ["1 limit 1048576", success])
    }

    @Test("python of no version takes up to 1 MiB") mutating func noVersion() {
        #expect(register(#"{"runtime":"python"}"#) == ["1 limit 1048576", success])
    }

    @Test(
        "a version from 0.24.5 on takes 64 MiB, of any runtime",
        arguments: [
            ("python", "0.24.5"), ("python", "0.24.10"), ("node", "0.25"), ("rust", "1"),
            ("python", "0.24.5+local"), ("python", "0.110.0"), ("unknown", "10.11.6"),
        ])
    mutating func largeVersion(runtime: String, version: String) {
        #expect(
            register("{\"runtime\":\"\(runtime)\",\"version\":\"\(version)\"}")
                == ["1 limit 67108864", success])
    }

    @Test("who declares large messages takes 64 MiB; a page otherwise 16 MiB, whatever its version")
    mutating func declared() {
        let features = #""features":["observe.v1","large-messages.v1"]"#
        #expect(
            register("{\"runtime\":\"python\",\(features)}") == ["1 limit 67108864", success])
        #expect(
            register(#"{"runtime":"browser","version":"0.25.0"}"#)
                == ["1 limit 16777216", success])
        #expect(
            register("{\"runtime\":\"browser\",\(features)}") == ["1 limit 67108864", success])
        #expect(
            register(#"{"runtime":"python","features":"large-messages.v1"}"#)
                == ["1 limit 1048576", success])
    }

    @Test("the limit holds before the answer to a void call, too") mutating func voidLimit() {
        #expect(
            register(#"{"runtime":"python","version":"0.11.6"}"#, isVoid: true)
                == ["1 limit 1048576"])
    }

    @Test(
        "what its handshake told holds for others, and again after a later call",
        arguments: [("node", "0.11.6"), ("rust", "0.24.4"), ("Python", "0.11.6"), ("mine", "x")])
    mutating func noOutboundLimit(runtime: String, version: String) {
        #expect(register("{\"runtime\":\"\(runtime)\",\"version\":\"\(version)\"}") == [success])
        _ = register(#"{"runtime":"python"}"#)
        #expect(
            register("{\"runtime\":\"\(runtime)\",\"version\":\"\(version)\"}")
                == ["1 limit \(Int.max)", success])
    }

    @Test(
        "input of the wrong shape is refused and changes nothing",
        arguments: [
            ("5", "invalid type: integer `5`, expected struct WorkerMetadata"),
            ("[]", "invalid type: sequence, expected struct WorkerMetadata"),
            (#""x""#, #"invalid type: string \"x\", expected struct WorkerMetadata"#),
            (#"{"runtime":5}"#, "invalid type: integer `5`, expected a string"),
            (#"{"version":1.5}"#, "invalid type: floating point `1.5`, expected a string"),
            (#"{"name":true}"#, "invalid type: boolean `true`, expected a string"),
            (#"{"os":[]}"#, "invalid type: sequence, expected a string"),
            (#"{"isolation":{}}"#, "invalid type: map, expected a string"),
            (#"{"pid":"1"}"#, #"invalid type: string \"1\", expected u32"#),
            (#"{"pid":-1}"#, "invalid value: integer `-1`, expected u32"),
            (#"{"telemetry":5}"#, "invalid type: integer `5`, expected struct WorkerTelemetry"),
            (#"{"telemetry":{"framework":5}}"#, "invalid type: integer `5`, expected a string"),
            (#"{"version":5,"pid":-1}"#, "invalid value: integer `-1`, expected u32"),
        ])
    mutating func wrongShape(data: String, reason: String) {
        _ = register(#"{"name":"before"}"#)
        #expect(register(data) == [failure(reason)])
        #expect(register(data, isVoid: true).isEmpty)
        #expect(node.router.metadata(of: connectionID(1))?.name == "before")
    }

    @Test("input has up to 64 KiB", arguments: [0, 1]) mutating func inputSize(over: Int) {
        let padding = String(repeating: "x", count: (64 << 10) - #"{"x":""}"#.utf8.count + over)
        #expect(
            register("{\"x\":\"\(padding)\"}")
                == (over == 0 ? [success] : [failure("input is over 65536 bytes")]))
    }

    @Test(
        "other engine functions are not found",
        arguments: ["engine::nope", "engine::channels::create", "engine::baggage::get", "engine::"])
    mutating func unknown(id: String) {
        #expect(
            node.call(1, id, data: "{}")
                == [errorLine(1, id, "function_not_found", "Function \(id) not found")])
        #expect(node.call(1, id, isVoid: true, data: "{}").isEmpty)
    }
}
