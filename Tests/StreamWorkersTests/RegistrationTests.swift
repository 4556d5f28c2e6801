import StreamModel
import StreamWorkers
import Testing

@Suite("Registration of functions")
struct FunctionRegistrationTests {
    /// Workers 1 to 3. The first call has the fourth UUID.
    private var node = Node.with(3)

    private func result(_ connection: Int, _ id: String, _ code: String, _ message: String)
        -> String
    {
        "\(connection) send {\"type\":\"functionregistrationresult\",\"id\":\"\(id)\","
            + "\"error\":{\"code\":\"\(code)\",\"message\":\"\(message)\"}}"
    }

    @Test("a new id is served, and nobody is told") mutating func new() {
        #expect(node.registerFunction(2, "f").isEmpty)
        #expect(node.call(1, "f") == ["2 call \(uuid(4)) f in"])
    }

    @Test("the same worker replaces its own") mutating func again() {
        _ = node.registerFunction(2, "f")
        #expect(node.registerFunction(2, "f").isEmpty)
        _ = node.say(2, .unregisterFunction(id: "f"))
        #expect(node.call(1, "f").first?.contains("function_not_found") == true)
    }

    @Test("another worker takes the id over with a warning in the log") mutating func takeOver() {
        _ = node.registerFunction(2, "f")
        #expect(
            node.registerFunction(3, "f")
                == ["log warning function_taken_over worker=\(uuid(3)) id=f"])
        #expect(node.call(1, "f") == ["3 call \(uuid(4)) f in"])
    }

    @Test("an owner that unregisters gives the id back to the earlier registrant")
    mutating func fallback() {
        _ = node.registerFunction(2, "f")
        _ = node.registerFunction(3, "f")
        #expect(node.say(3, .unregisterFunction(id: "f")).isEmpty)
        #expect(node.call(1, "f") == ["2 call \(uuid(4)) f in"])
        _ = node.say(2, .unregisterFunction(id: "f"))
        #expect(node.call(1, "f").first?.contains("function_not_found") == true)
    }

    @Test("a worker that has not registered an id cannot unregister it") mutating func notOwner() {
        _ = node.registerFunction(2, "f")
        #expect(node.say(3, .unregisterFunction(id: "f")).isEmpty)
        #expect(node.call(1, "f") == ["2 call \(uuid(4)) f in"])
    }

    @Test("unregistering an unknown id is ignored") mutating func unknown() {
        #expect(node.say(2, .unregisterFunction(id: "never")).isEmpty)
    }

    @Test(
        "built-in ids are refused where the worker can see it",
        arguments: [
            "stream::set", "stream::get", "stream::delete", "stream::list", "stream::list_groups",
            "stream::list_all", "stream::send", "stream::update",
        ])
    mutating func reserved(id: String) {
        #expect(
            node.registerFunction(2, id) == [
                result(2, id, "reserved", "Function \(id) is built in"),
                "log warning function_refused worker=\(uuid(2)) id=\(id) code=reserved",
            ])
        #expect(node.router.functions.count == 0)
        #expect(node.router.counters.registrationsRefused == 1)
    }

    @Test(
        "overrides of single streams, and other names, are taken",
        arguments: [
            "stream::set(todo)", "stream::get()", "stream::x", "stream", "engine:", "Engine::x", "",
        ])
    mutating func allowed(id: String) {
        #expect(node.registerFunction(2, id).isEmpty)
        #expect(node.router.functions.owner(of: Name(id)) == connectionID(2))
    }

    @Test("an id has up to 256 bytes") mutating func idSize() {
        let longest = String(repeating: "\u{E9}", count: 128)
        #expect(node.registerFunction(2, longest).isEmpty)
        let message = "The function id is longer than 256 bytes"
        #expect(
            node.registerFunction(2, longest + "x").first
                == result(2, longest, "limit_reached", message))
        let long = String(repeating: "y", count: 100_000)
        #expect(
            node.registerFunction(2, "engine::" + long).first?.utf8.count ?? 0 < 1000)
    }

    @Test("a worker offers so many functions and no more") mutating func count() {
        var limits = WorkerLimits()
        limits.functionsPerWorker = 2
        node = .with(3, limits: limits)
        #expect(node.registerFunction(2, "a").isEmpty)
        #expect(node.registerFunction(2, "b").isEmpty)
        #expect(
            node.registerFunction(2, "c").first
                == result(2, "c", "limit_reached", "The worker has 2 functions"))
        #expect(node.registerFunction(2, "b").isEmpty)
        #expect(node.registerFunction(3, "c").isEmpty)
        _ = node.say(2, .unregisterFunction(id: "a"))
        #expect(node.registerFunction(2, "c").first?.hasPrefix("log") == true)
    }

    @Test("the limit of functions and of triggers is 10,000") func defaultLimits() {
        #expect(WorkerLimits().functionsPerWorker == 10_000)
        #expect(WorkerLimits().triggersPerWorker == 10_000)
    }

    @Test("all registrations of a worker together hold so many bytes and no more")
    mutating func bytes() {
        var limits = WorkerLimits()
        limits.registrationSizePerWorker = 20
        node = .with(3, limits: limits)
        let function = FunctionRegistration(id: "a", metadata: text("\"1234567\""))
        #expect(node.say(2, .registerFunction(function)).isEmpty)  // 10
        #expect(node.registerTrigger(2, "t", "c", "f").isEmpty)  // 7
        #expect(node.say(2, .registerFunction(function)).isEmpty)
        let message = "The worker's registrations are over 20 bytes"
        #expect(
            node.registerFunction(2, "four").first == result(2, "four", "limit_reached", message))
        #expect(node.registerType(2, "ty").isEmpty)  // 3
        #expect(node.registerFunction(2, "x").first == result(2, "x", "limit_reached", message))
        #expect(node.registerType(2, "typ").first?.contains("limit_reached") == true)
        #expect(node.registerTrigger(2, "t", "c", "ff").first?.contains("limit_reached") == true)
        #expect(node.registerTrigger(2, "t", "c", "").isEmpty)
        #expect(node.registerFunction(2, "x").isEmpty)
        #expect(node.registerFunction(3, "other").isEmpty)
    }

    @Test("a function over HTTP is dropped with a line in the log") mutating func http() {
        let function = FunctionRegistration(id: "h", hasInvocation: true)
        #expect(
            node.say(2, .registerFunction(function))
                == ["log warning http_function_dropped worker=\(uuid(2)) id=h"])
        #expect(node.router.functions.owner(of: Name("h")) == nil)
    }

    @Test("services are accepted and ignored") mutating func services() {
        #expect(node.say(2, .registerService(id: "svc::x")).isEmpty)
    }
}

@Suite("Registration of triggers")
struct TriggerRegistrationTests {
    private var node = Node.with(4)

    private func refusal(
        _ connection: Int, _ id: String, _ type: String, _ code: String, _ message: String
    ) -> String {
        "\(connection) send {\"type\":\"triggerregistrationresult\",\"id\":\"\(id)\","
            + "\"trigger_type\":\"\(type)\",\"function_id\":\"f\","
            + "\"error\":{\"code\":\"\(code)\",\"message\":\"\(message)\"}}"
    }

    private func registerFrame(_ connection: Int, _ id: String, _ function: String = "f") -> String
    {
        "\(connection) send {\"type\":\"registertrigger\",\"id\":\"\(id)\",\"trigger_type\":\"cron\","
            + "\"function_id\":\"\(function)\",\"config\":null}"
    }

    private func unregisterFrame(_ connection: Int, _ id: String) -> String {
        "\(connection) send {\"type\":\"unregistertrigger\",\"id\":\"\(id)\",\"trigger_type\":\"cron\"}"
    }

    private func owner(of id: String) -> ConnectionID? {
        node.router.triggers.trigger(Name(id))?.owner
    }

    // MARK: Built-in types

    @Test("a stream trigger is stored, and nobody is told") mutating func stream() {
        #expect(node.registerTrigger(2, "t", "stream", config: #"{"stream_name":"s"}"#).isEmpty)
        #expect(owner(of: "t") == connectionID(2))
        guard case .stream(let filter)? = node.router.triggers.filter(of: Name("t")) else {
            Issue.record("no filter")
            return
        }
        #expect(filter.streamName == "s")
    }

    @Test("the function need not exist, before or after") mutating func functionLater() {
        _ = node.registerTrigger(2, "t", "stream", "late", config: #"{"stream_name":"s"}"#)
        _ = node.registerFunction(3, "late")
        _ = node.close(3)
        #expect(owner(of: "t") == connectionID(2))
    }

    @Test(
        "a stream trigger with a bad configuration is refused where the worker can see it",
        arguments: [
            ("null", "invalid type: null, expected struct StreamTriggerConfig"),
            ("{}", "missing field `stream_name`"),
            (#"{"stream_name":null}"#, "invalid type: null, expected a string"),
            (#"{"stream_name":5}"#, "invalid type: integer `5`, expected a string"),
            ("[]", "invalid type: sequence, expected struct StreamTriggerConfig"),
        ])
    mutating func badConfig(config: String, reason: String) {
        #expect(
            node.registerTrigger(2, "t", "stream", config: config) == [
                refusal(
                    2, "t", "stream", "trigger_registration_failed",
                    "Failed to deserialize stream trigger: \(reason)"),
                "log warning trigger_refused worker=\(uuid(2)) id=t code=trigger_registration_failed",
            ])
        #expect(owner(of: "t") == nil)
    }

    @Test(
        "join and leave triggers take any configuration",
        arguments: ["stream:join", "stream:leave"])
    mutating func joinConfig(type: String) {
        for config in ["null", "5", "[]", "{}", #"{"stream_name":"s"}"#] {
            #expect(node.registerTrigger(2, "t", type, config: config).isEmpty)
        }
    }

    // MARK: Ids

    @Test("an id is overwritten by its worker and stays one trigger") mutating func overwrite() {
        _ = node.registerTrigger(2, "t", "stream", "f", config: #"{"stream_name":"s"}"#)
        _ = node.registerTrigger(2, "t", "stream", "g", config: #"{"stream_name":"s"}"#)
        #expect(node.router.triggers.count == 1)
        #expect(node.router.triggers.trigger(Name("t"))?.trigger.functionID == "g")
    }

    @Test("another worker takes an id over, across types") mutating func takeOver() {
        _ = node.registerTrigger(2, "t", "stream", config: #"{"stream_name":"s"}"#)
        _ = node.registerTrigger(3, "t", "stream:join")
        #expect(owner(of: "t") == connectionID(3))
        #expect(node.router.triggers.triggers(of: Name("stream")).isEmpty)
        #expect(node.say(2, .unregisterTrigger(id: "t", triggerType: "stream")).isEmpty)
        #expect(owner(of: "t") == connectionID(3))
    }

    @Test("a replacement keeps its place, a refused one leaves the old one") mutating func place() {
        for id in ["a", "b", "c"] { _ = node.registerTrigger(2, id, "stream:join") }
        _ = node.registerTrigger(3, "b", "stream:join", "g")
        _ = node.registerTrigger(3, "a", "stream", config: "{}")
        let triggers = node.router.triggers.triggers(of: Name("stream:join"))
        #expect(triggers.map(\.trigger.id) == ["a", "b", "c"])
        #expect(triggers.map(\.owner) == [2, 3, 2].map(connectionID))
    }

    @Test(
        "its worker unregisters a trigger, whatever type it names",
        arguments: ["stream:join", "x", nil])
    mutating func unregister(type: String?) {
        _ = node.registerTrigger(2, "t", "stream:join")
        #expect(node.say(2, .unregisterTrigger(id: "t", triggerType: type)).isEmpty)
        #expect(owner(of: "t") == nil)
    }

    @Test("another worker cannot unregister a trigger") mutating func unregisterForeign() {
        _ = node.registerTrigger(2, "t", "stream:join")
        #expect(node.say(3, .unregisterTrigger(id: "t", triggerType: "stream:join")).isEmpty)
        #expect(owner(of: "t") == connectionID(2))
    }

    @Test("unregistering an unknown id is ignored") mutating func unregisterUnknown() {
        #expect(node.say(2, .unregisterTrigger(id: "t", triggerType: nil)).isEmpty)
    }

    @Test("a reconnect that registers before the old connection is cleaned up keeps its trigger")
    mutating func reconnect() {
        _ = node.registerTrigger(2, "t", "stream:join")
        _ = node.registerTrigger(3, "t", "stream:join")
        _ = node.close(2)
        #expect(owner(of: "t") == connectionID(3))
        _ = node.close(3)
        #expect(owner(of: "t") == nil)
    }

    // MARK: Provided types

    @Test("a trigger of an unknown type is remembered and bound when the type comes")
    mutating func unknownType() {
        #expect(node.registerTrigger(2, "t", "cron").isEmpty)
        #expect(node.registerType(3, "cron") == [registerFrame(3, "t")])
    }

    @Test("the provider is given each trigger of its type with configuration and metadata")
    mutating func provided() {
        #expect(node.registerType(3, "cron").isEmpty)
        #expect(
            node.registerTrigger(2, "t", "cron", "g", config: #"{"every": 5}"#, metadata: "[1]")
                == [
                    #"3 send {"type":"registertrigger","id":"t","trigger_type":"cron","function_id":"g","config":{"every": 5},"metadata":[1]}"#
                ])
    }

    @Test("a provider can use its own type") mutating func ownType() {
        _ = node.registerType(3, "cron")
        #expect(node.registerTrigger(3, "t", "cron") == [registerFrame(3, "t")])
    }

    @Test("stored triggers are replayed in their order to whoever provides the type next")
    mutating func replay() {
        _ = node.registerType(3, "cron")
        for id in ["b", "a", "c"] { _ = node.registerTrigger(2, id, "cron") }
        #expect(
            node.registerType(4, "cron")
                == ["log warning trigger_type_taken_over worker=\(uuid(4)) id=cron"]
                + ["b", "a", "c"].map { registerFrame(4, $0) })
        #expect(node.registerType(4, "cron") == ["b", "a", "c"].map { registerFrame(4, $0) })
    }

    @Test("a provider that is replaced is told nothing more and is not restored")
    mutating func replacedProvider() {
        _ = node.registerType(3, "cron")
        _ = node.registerType(4, "cron")
        #expect(node.registerTrigger(2, "t", "cron") == [registerFrame(4, "t")])
        _ = node.close(4)
        #expect(node.registerTrigger(2, "u", "cron").isEmpty)
    }

    @Test("the provider is told when a trigger goes") mutating func providedUnregister() {
        _ = node.registerType(3, "cron")
        _ = node.registerTrigger(2, "t", "cron")
        #expect(
            node.say(2, .unregisterTrigger(id: "t", triggerType: nil)) == [unregisterFrame(3, "t")])
    }

    /// Or a provider that does not look at ids would fire twice.
    @Test("the provider is told that the old trigger goes before its replacement comes")
    mutating func providedReplacement() {
        _ = node.registerType(3, "cron")
        _ = node.registerTrigger(2, "t", "cron")
        #expect(
            node.registerTrigger(4, "t", "cron", "g")
                == [unregisterFrame(3, "t"), registerFrame(3, "t", "g")])
        #expect(node.registerTrigger(2, "t", "stream:join") == [unregisterFrame(3, "t")])
    }

    @Test("a provider takes its type back, and its triggers wait for the next one")
    mutating func unregisterType() {
        _ = node.registerType(3, "cron")
        _ = node.registerTrigger(2, "t", "cron")
        #expect(node.say(4, .unregisterTriggerType(id: "cron")).isEmpty)
        #expect(node.router.triggers.provider(of: Name("cron")) == connectionID(3))
        #expect(node.say(3, .unregisterTriggerType(id: "cron")).isEmpty)
        #expect(node.registerTrigger(2, "u", "cron").isEmpty)
        #expect(node.registerType(4, "cron") == [registerFrame(4, "t"), registerFrame(4, "u")])
        #expect(node.say(4, .unregisterTriggerType(id: "never")).isEmpty)
    }

    @Test(
        "the node's own types cannot be provided",
        arguments: [
            "stream", "stream:join", "stream:leave", "log", "engine::workers-available",
            "engine::x",
        ])
    mutating func reservedType(type: String) {
        let frame =
            "3 send {\"type\":\"triggertyperegistrationresult\",\"id\":\"\(type)\","
            + "\"error\":{\"code\":\"reserved\",\"message\":\"Trigger type \(type) is built in\"}}"
        #expect(
            node.registerType(3, type) == [
                frame,
                "log warning trigger_type_refused worker=\(uuid(3)) id=\(type) code=reserved",
            ])
        #expect(node.router.triggers.provider(of: Name(type)) == nil)
    }

    // MARK: Answers of a provider

    private mutating func answer(
        _ connection: Int, _ id: String = "t", type: String = "cron", function: String = "f",
        fails: Bool = true
    ) -> [String] {
        let error = InvocationError(code: "c", message: "m", stacktrace: "s")
        return node.say(
            connection,
            .triggerRegistrationResult(
                id: id, triggerType: type, functionID: function, error: fails ? error : nil))
    }

    @Test("the provider's error goes on to the registrant, and the trigger stays")
    mutating func providerRefuses() {
        _ = node.registerType(3, "cron")
        _ = node.registerTrigger(2, "t", "cron")
        #expect(
            answer(3) == [
                #"2 send {"type":"triggerregistrationresult","id":"t","trigger_type":"cron","function_id":"f","error":{"code":"c","message":"m","stacktrace":"s"}}"#
            ])
        #expect(owner(of: "t") == connectionID(2))
    }

    @Test("the provider's success is not passed on") mutating func providerAccepts() {
        _ = node.registerType(3, "cron")
        _ = node.registerTrigger(2, "t", "cron")
        #expect(answer(3, fails: false).isEmpty)
    }

    @Test("an error from anyone else, or about another trigger, goes nowhere")
    mutating func foreignRefusal() {
        _ = node.registerType(3, "cron")
        _ = node.registerTrigger(2, "t", "cron")
        #expect(answer(4).isEmpty)
        #expect(answer(2).isEmpty)
        #expect(answer(3, "u").isEmpty)
        #expect(answer(3, type: "stream").isEmpty)
        #expect(answer(3, function: "replaced").isEmpty)
        _ = node.registerTrigger(2, "t", "stream:join")
        #expect(answer(3).isEmpty)
    }

    // MARK: Limits

    @Test("ids, types and function ids have up to 256 bytes") mutating func nameSizes() {
        let longest = String(repeating: "x", count: 256)
        let long = longest + "x"
        #expect(node.registerTrigger(2, longest, longest, longest).isEmpty)
        #expect(node.registerType(2, longest).count == 1)
        #expect(
            node.registerTrigger(2, long, "cron").first
                == refusal(
                    2, longest, "cron", "limit_reached", "The trigger id is longer than 256 bytes"))
        #expect(
            node.registerTrigger(2, "t", long).first
                == refusal(
                    2, "t", longest, "limit_reached", "The trigger type is longer than 256 bytes"))
        #expect(
            node.registerTrigger(2, "t", "cron", long).first?.contains(
                "The function id is longer than 256 bytes") == true)
        #expect(
            node.registerType(2, long).first?.contains(
                #"triggertyperegistrationresult","id":""# + longest
                    + #"","error":{"code":"limit_reached","message":"The trigger type id is longer"#
            )
                == true)
        #expect(node.router.triggers.count == 1)
    }

    @Test("a worker has so many triggers and provides so many types, and no more")
    mutating func counts() {
        var limits = WorkerLimits()
        limits.triggersPerWorker = 2
        node = .with(4, limits: limits)
        for id in ["a", "b"] {
            #expect(node.registerTrigger(2, id, "cron").isEmpty)
            #expect(node.registerType(2, id).isEmpty)
        }
        #expect(
            node.registerTrigger(2, "c", "cron").first
                == refusal(2, "c", "cron", "limit_reached", "The worker has 2 triggers"))
        #expect(
            node.registerType(2, "c").first?.contains(
                #""code":"limit_reached","message":"The worker has 2 trigger types""#) == true)
        #expect(node.registerTrigger(2, "b", "cron").isEmpty)
        #expect(node.registerType(2, "b").isEmpty)
        #expect(node.registerTrigger(3, "a", "cron").isEmpty)
        #expect(node.registerTrigger(2, "c", "cron").isEmpty)
    }

    @Test("so many bytes of triggers are replayed to a provider and no more", arguments: [0, 1])
    mutating func replaySize(over: Int) {
        var limits = WorkerLimits()
        limits.replaySize = 20
        node = .with(4, limits: limits)
        _ = node.registerTrigger(2, "a", "cron")  // 10 bytes: id, type, function, "null"
        _ = node.registerTrigger(3, "b", "cron", String(repeating: "f", count: 1 + over))
        if over == 0 {
            #expect(node.registerType(4, "cron").count == 2)
        } else {
            #expect(
                node.registerType(4, "cron").first?.contains(
                    #""code":"limit_reached","message":"The triggers of the type are over 20 bytes""#
                )
                    == true)
            #expect(node.router.triggers.provider(of: Name("cron")) == nil)
        }
    }
}
