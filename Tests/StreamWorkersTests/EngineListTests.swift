import StreamConfig
import StreamFunctions
import StreamModel
import StreamTriggers
import StreamWorkers
import Testing

/// A node as it is assembled: with its own functions and trigger types, a plain listener and one with rules.
@Suite("Lists of the engine")
struct EngineListTests {
    private var node: Node

    init() {
        node = Self.node { _ in }
    }

    private static func node(_ adjust: (inout AccessControl) -> Void) -> Node {
        var access = AccessControl()
        adjust(&access)
        var guarded = WorkerListener()
        guarded.accessControl = access
        var node = Node(
            listeners: [WorkerListener(), guarded], builtIns: BuiltInFunctions.all,
            types: BuiltInTriggerTypes.all)
        _ = node.open(1)
        return node
    }

    /// The result of a call, as JSON.
    private mutating func list(_ what: String, _ input: String? = "{}", by worker: Int = 1)
        -> JSONText?
    {
        let line = node.call(worker, "engine::\(what)::list", data: input).first ?? ""
        return text(String(line.drop { $0 != "{" })).view["result"].map {
            JSONText(validated: Array($0.text))
        }
    }

    private func strings(_ list: JSONText?, _ name: String, _ field: String) -> [String] {
        list?.view[name]?.elements.compactMap { $0[field]?.string } ?? []
    }

    private func entry(_ list: JSONText?, _ name: String, _ field: String, _ value: String)
        -> String?
    {
        list?.view[name]?.elements.first { $0[field]?.string == value }
            .map { String(decoding: $0.text, as: UTF8.self) }
    }

    private func error(_ what: String, _ reason: String) -> [String] {
        let id = "engine::\(what)::list"
        return [
            errorLine(
                1, id, "deserialization_error", "Failed to deserialize input for \(id): \(reason)")
        ]
    }

    static let streamFunctions = [
        "stream::set", "stream::get", "stream::delete", "stream::list", "stream::list_groups",
        "stream::list_all", "stream::send", "stream::update",
    ]

    // MARK: Functions

    @Test("functions: the node's own, then those of workers, sorted by id")
    mutating func functions() {
        for id in ["b", "\u{E9}", "a", "Z"] { _ = node.registerFunction(1, id) }
        #expect(
            strings(list("functions"), "functions", "function_id")
                == Self.streamFunctions + ["Z", "a", "b", "\u{E9}"])
    }

    @Test("functions: all five keys are always there") mutating func functionKeys() {
        _ = node.registerFunction(1, "f")
        #expect(
            entry(list("functions"), "functions", "function_id", "f")
                == #"{"function_id":"f","description":null,"request_format":null,"response_format":null,"metadata":null}"#
        )
        let function = FunctionRegistration(
            id: "g", description: text("\"d\""), requestFormat: text("{}"),
            responseFormat: text("true"),
            metadata: text("[1]"))
        _ = node.say(1, .registerFunction(function))
        #expect(
            entry(list("functions"), "functions", "function_id", "g")
                == #"{"function_id":"g","description":"d","request_format":{},"response_format":true,"metadata":[1]}"#
        )
    }

    @Test("functions: those of the engine only with include_internal", arguments: [true, false])
    mutating func internalFunctions(isIncluded: Bool) {
        let ids = strings(
            list("functions", "{\"include_internal\":\(isIncluded)}"), "functions", "function_id")
        #expect(ids.contains("engine::workers::register") == isIncluded)
        #expect(ids.contains("engine::log::info") == isIncluded)
    }

    @Test("functions: on a listener with rules only those that the worker may call")
    mutating func allowedFunctions() {
        node = Self.node {
            $0.exposedFunctions = [.pattern("stream::get"), .pattern("a*"), .pattern("engine::f*")]
        }
        for id in ["a", "ab", "b"] { _ = node.registerFunction(1, id) }
        _ = node.open(2, listener: 1)
        #expect(
            strings(list("functions", by: 2), "functions", "function_id") == [
                "stream::get", "a", "ab",
            ])
        let all = strings(
            list("functions", #"{"include_internal":true}"#, by: 2), "functions", "function_id")
        #expect(all.contains("engine::functions::list"))
        #expect(all.contains("engine::workers::register"))
        #expect(!all.contains("engine::workers::list"))
    }

    @Test("functions: the one that serves is shown, once") mutating func takenOver() {
        _ = node.open(2)
        _ = node.registerFunction(1, "f")
        _ = node.say(2, .registerFunction(FunctionRegistration(id: "f", metadata: text("2"))))
        let list = list("functions")
        #expect(strings(list, "functions", "function_id").filter { $0 == "f" }.count == 1)
        #expect(entry(list, "functions", "function_id", "f")?.contains("\"metadata\":2") == true)
    }

    // MARK: Triggers

    @Test("triggers: in the order of registration, metadata only where there are some")
    mutating func triggers() {
        _ = node.registerTrigger(1, "b", "cron", "f", config: "[5]")
        _ = node.registerTrigger(
            1, "a", "stream", "g", config: #"{"stream_name":"s"}"#, metadata: "1")
        #expect(
            list("triggers")
                == text(
                    #"{"triggers":[{"id":"b","trigger_type":"cron","function_id":"f","config":[5]},{"id":"a","trigger_type":"stream","function_id":"g","config":{"stream_name":"s"},"metadata":1}]}"#
                ))
    }

    @Test("triggers: those that call the engine only with include_internal")
    mutating func internalTriggers() {
        _ = node.registerTrigger(1, "a", "cron", "engine::log::info")
        #expect(list("triggers") == text(#"{"triggers":[]}"#))
        #expect(strings(list("triggers", #"{"include_internal":true}"#), "triggers", "id") == ["a"])
    }

    @Test("triggers: on a listener with rules one's own, and those of functions that one may call")
    mutating func allowedTriggers() {
        node = Self.node {
            $0.exposedFunctions = [.pattern("engine::triggers::list"), .pattern("f")]
        }
        _ = node.open(2, listener: 1)
        _ = node.registerTrigger(1, "a", "cron", "f")
        _ = node.registerTrigger(1, "b", "cron", "g")
        _ = node.registerFunction(2, "own")
        _ = node.registerTrigger(2, "c", "cron", "own")
        #expect(strings(list("triggers", by: 2), "triggers", "id") == ["a", "c"])
    }

    // MARK: Trigger types

    @Test("trigger types: the node's own, then those of workers, schemas only where there are some")
    mutating func types() {
        _ = node.registerType(1, "zeta")
        let type = TriggerTypeRegistration(
            id: "cron", description: "c", triggerRequestFormat: text("{}"),
            callRequestFormat: text("true"))
        _ = node.say(1, .registerTriggerType(type))
        let list = list("trigger-types")
        #expect(
            strings(list, "trigger_types", "id")
                == ["stream", "stream:leave", "stream:join", "log", "zeta", "cron"])
        #expect(entry(list, "trigger_types", "id", "zeta") == #"{"id":"zeta","description":"d"}"#)
        #expect(
            entry(list, "trigger_types", "id", "cron")
                == #"{"id":"cron","description":"c","trigger_request_format":{},"call_request_format":true}"#
        )
        #expect(
            entry(list, "trigger_types", "id", "log")?.hasPrefix(
                #"{"id":"log","description":"Log event trigger","trigger_request_format":{"#)
                == true)
    }

    @Test("trigger types: those of the engine only with include_internal")
    mutating func internalTypes() {
        let all = strings(
            list("trigger-types", #"{"include_internal":true}"#), "trigger_types", "id")
        #expect(all.contains("engine::functions-available"))
        #expect(all.contains("engine::workers-available"))
    }

    // MARK: Workers

    private mutating func tell(_ worker: Int, _ data: String) {
        _ = node.call(worker, "engine::workers::register", isVoid: true, data: data)
    }

    @Test("workers: what one has told, what it serves, and the node among them")
    mutating func workers() {
        _ = node.open(2, address: "[::1]:5")
        tell(
            2,
            #"{"runtime":"python","version":"0.25.0","name":"host:1","os":"Linux","pid":123,"isolation":"vm"}"#
        )
        for id in ["g", "f"] { _ = node.registerFunction(2, id) }
        _ = node.call(1, "f")
        #expect(
            list("workers")
                == text(
                    #"{"workers":[{"id":"\#(uuid(2))","name":"host:1","runtime":"python","version":"0.25.0","os":"Linux","ip_address":"::1","internal":false,"status":"connected","connected_at_ms":1767225600000,"function_count":2,"functions":["f","g"],"active_invocations":1,"latest_metrics":null,"pid":123,"isolation":"vm"},{"id":"iii-stream","name":"iii-stream","runtime":"engine","version":"9","os":null,"ip_address":null,"internal":false,"status":"available","connected_at_ms":1767225500000,"function_count":8,"functions":["stream::set","stream::get","stream::delete","stream::list","stream::list_groups","stream::list_all","stream::send","stream::update"],"active_invocations":0,"latest_metrics":null,"isolation":"in-process"}],"timestamp":1767225600000}"#
                ))
    }

    @Test("workers: one without a pid is hidden unless it is asked for by its id")
    mutating func noPID() {
        tell(1, #"{"name":"browser"}"#)
        #expect(strings(list("workers"), "workers", "id") == ["iii-stream"])
        let list = list("workers", "{\"worker_id\":\"\(uuid(1))\"}")
        #expect(strings(list, "workers", "id") == [uuid(1)])
        #expect(
            entry(list, "workers", "id", uuid(1))?.hasPrefix(
                #"{"id":"\#(uuid(1))","name":"browser","runtime":"unknown","version":null,"os":null,"ip_address":"127.0.0.1","#
            )
                == true)
        #expect(entry(list, "workers", "id", uuid(1))?.contains("pid") == false)
    }

    @Test("workers: one that has told nothing has null for it") mutating func toldNothing() {
        let list = list("workers", "{\"worker_id\":\"\(uuid(1))\"}")
        #expect(
            entry(list, "workers", "id", uuid(1))?.contains(
                #""name":null,"runtime":null,"version":null"#) == true)
    }

    @Test("workers: by id, the node too, and nothing for an unknown one") mutating func byID() {
        tell(1, #"{"pid":1}"#)
        #expect(
            strings(list("workers", #"{"worker_id":"iii-stream"}"#), "workers", "id") == [
                "iii-stream"
            ])
        #expect(
            list("workers", #"{"worker_id":"x"}"#)?.view["workers"]?.elements.map { $0 }.count == 0)
        #expect(strings(list("workers", #"{"worker_id":null}"#), "workers", "id").count == 2)
    }

    @Test("workers: sorted by name, or by id where there is none, then by id")
    mutating func sorted() {
        for (worker, data) in [
            (2, #"{"pid":1,"name":"z"}"#), (3, #"{"pid":1,"name":"b"}"#), (4, #"{"pid":1}"#),
            (5, #"{"pid":1,"name":"b"}"#),
        ] {
            _ = node.open(worker)
            tell(worker, data)
        }
        #expect(
            strings(list("workers"), "workers", "id") == [
                uuid(4), uuid(3), uuid(5), "iii-stream", uuid(2),
            ])
    }

    @Test("workers: connections for telemetry are none, not even by id") mutating func telemetry() {
        _ = node.open(2, isTelemetry: true)
        tell(2, #"{"pid":1}"#)
        #expect(strings(list("workers"), "workers", "id") == ["iii-stream"])
        #expect(strings(list("workers", "{\"worker_id\":\"\(uuid(2))\"}"), "workers", "id").isEmpty)
        #expect(node.changes == ["worker_connected \(uuid(1))"])
    }

    @Test("workers: a function that another has taken over counts for that one")
    mutating func takenOverFunctions() {
        _ = node.open(2)
        for worker in 1...2 {
            tell(worker, #"{"pid":1}"#)
            _ = node.registerFunction(worker, "f")
        }
        let list = list("workers")
        #expect(
            entry(list, "workers", "id", uuid(1))?.contains(#""function_count":0,"functions":[]"#)
                == true)
        #expect(
            entry(list, "workers", "id", uuid(2))?.contains(
                #""function_count":1,"functions":["f"]"#) == true)
    }

    @Test("workers: on a listener with rules only functions that the worker may call")
    mutating func allowedFunctionsOfWorkers() {
        node = Self.node {
            $0.exposedFunctions = [
                .pattern("engine::workers::list"), .pattern("f"), .pattern("stream::get"),
            ]
        }
        for id in ["f", "g"] { _ = node.registerFunction(1, id) }
        tell(1, #"{"pid":1}"#)
        _ = node.open(2, listener: 1)
        let list = list("workers", by: 2)
        #expect(
            entry(list, "workers", "id", uuid(1))?.contains(
                #""function_count":1,"functions":["f"]"#) == true)
        #expect(
            entry(list, "workers", "id", "iii-stream")?.contains(
                #""function_count":1,"functions":["stream::get"]"#)
                == true)
    }

    // MARK: Input

    @Test(
        "null and no input count as an object without members; unknown keys are ignored",
        arguments: ["functions", "workers", "triggers", "trigger-types"],
        ["null", nil, #"{"_caller_worker_id":"x","y":5}"#, #"{"include_internal":null}"#])
    mutating func input(what: String, input: String?) {
        let plain = list(what)
        #expect(plain != nil)
        #expect(list(what, input) == plain)
    }

    @Test("each list looks at its own input only") mutating func othersInput() {
        for what in ["functions", "triggers", "trigger-types"] {
            #expect(list(what, #"{"worker_id":5}"#) == list(what))
        }
        #expect(list("workers", #"{"include_internal":5}"#) == list("workers"))
    }

    @Test(
        "input of the wrong shape is refused",
        arguments: [
            ("functions", "5", "invalid type: integer `5`, expected a map"),
            ("functions", "[]", "invalid type: sequence, expected a map"),
            (
                "functions", #"{"include_internal":1}"#,
                "invalid type: integer `1`, expected a boolean"
            ),
            ("triggers", #"{"include_internal":[]}"#, "invalid type: sequence, expected a boolean"),
            ("trigger-types", #"{"include_internal":{}}"#, "invalid type: map, expected a boolean"),
            ("workers", #"{"worker_id":5}"#, "invalid type: integer `5`, expected a string"),
        ])
    mutating func wrongShape(what: String, input: String, reason: String) {
        #expect(node.call(1, "engine::\(what)::list", data: input) == error(what, reason))
    }

    // MARK: What is announced

    @Test("workers come, tell about themselves and go") mutating func changes() {
        _ = node.open(2)
        tell(2, #"{"pid":1}"#)
        tell(2, "5")
        _ = node.close(2)
        #expect(
            node.changes == [
                "worker_connected \(uuid(1))", "worker_connected \(uuid(2))",
                "worker_metadata_updated \(uuid(2))",
                "worker_disconnected \(uuid(2))",
            ])
    }
}

@Suite("engine::log")
struct EngineLogTests {
    private var node = Node.with(1)

    private func record(
        _ number: Int, _ text: String, _ message: String, attributes: String = "{}",
        trace: String = "",
        span: String = "", service: String = "unknown"
    ) -> String {
        "1 record {\"timestamp_unix_nano\":1767225600000000000,"
            + "\"observed_timestamp_unix_nano\":1767225600000000000,\"severity_number\":\(number),"
            + "\"severity_text\":\"\(text)\",\"body\":\"\(message)\",\"attributes\":\(attributes),"
            + "\"trace_id\":\"\(trace)\",\"span_id\":\"\(span)\",\"resource\":{\"service.name\":\"iii\"},"
            + "\"service_name\":\"\(service)\",\"instrumentation_scope_name\":\"iii\","
            + "\"instrumentation_scope_version\":\"9\"}"
    }

    private mutating func log(_ data: String?, level: String = "info") -> [String] {
        node.call(1, "engine::log::\(level)", isVoid: true, data: data)
    }

    @Test(
        "each level has its number and text, and the call no result",
        arguments: [("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("error", 17)])
    mutating func levels(level: String, number: Int) {
        #expect(
            node.call(1, "engine::log::\(level)", data: #"{"message":"m"}"#) == [
                record(number, level.uppercased(), "m"),
                "1 send {\"type\":\"invocationresult\",\"invocation_id\":\"1\",\"function_id\":\"engine::log::\(level)\"}",
            ])
    }

    @Test("everything that is given is in the record; a void call is not answered")
    mutating func all() {
        let data =
            #"{"message":"m","trace_id":"ab","span_id":"cd","service_name":"shop","data":{"b":1,"a":[2]},"_caller_worker_id":"x"}"#
        #expect(
            log(data) == [
                record(
                    9, "INFO", "m", attributes: #"{"b":1,"a":[2]}"#, trace: "ab", span: "cd",
                    service: "shop")
            ])
    }

    @Test("null is none") mutating func nulls() {
        let data = #"{"message":"","trace_id":null,"span_id":null,"service_name":null,"data":null}"#
        #expect(log(data) == [record(9, "INFO", "")])
    }

    @Test("data that are no object are no attributes", arguments: ["5", "\"x\"", "[1]", "true"])
    mutating func noObject(data: String) {
        #expect(log("{\"message\":\"m\",\"data\":\(data)}") == [record(9, "INFO", "m")])
    }

    @Test(
        "wrong types come first, in the byte order of the fields, then what is missing",
        arguments: [
            ("null", "invalid type: null, expected struct LogInput"),
            (nil, "invalid type: null, expected struct LogInput"),
            ("5", "invalid type: integer `5`, expected struct LogInput"),
            ("[]", "invalid type: sequence, expected struct LogInput"),
            ("{}", "missing field `message`"),
            (#"{"message":5}"#, "invalid type: integer `5`, expected a string"),
            (#"{"message":null}"#, "invalid type: null, expected a string"),
            (#"{"message":{},"trace_id":5}"#, "invalid type: map, expected a string"),
            (#"{"trace_id":5}"#, "invalid type: integer `5`, expected a string"),
            (
                #"{"message":"m","span_id":true,"trace_id":5}"#,
                "invalid type: boolean `true`, expected a string"
            ),
            (
                #"{"message":"m","service_name":[],"span_id":5}"#,
                "invalid type: sequence, expected a string"
            ),
        ] as [(String?, String)])
    mutating func refused(data: String?, reason: String) {
        let message = "Failed to deserialize input for engine::log::warn: \(reason)"
        #expect(
            node.call(1, "engine::log::warn", data: data)
                == [errorLine(1, "engine::log::warn", "deserialization_error", message)])
    }

    @Test("other levels are no functions", arguments: ["", "fatal", "INFO", "info2"])
    mutating func unknownLevel(level: String) {
        #expect(
            node.call(1, "engine::log::\(level)", data: #"{"message":"m"}"#).first?.contains(
                "function_not_found")
                == true)
    }
}
