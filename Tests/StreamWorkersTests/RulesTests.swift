import StreamConfig
import StreamModel
import StreamWorkers
import Testing

/// What a worker with rules may register. Worker 1 has none; worker 2 is let in with rules.
@Suite("Rules for registrations")
struct RegistrationRulesTests {
    private var node = Node.guarded()

    private func code(_ lines: [String]) -> String? {
        guard let line = lines.first, line.hasPrefix("2 send"),
            let start = line.firstRange(of: #""code":""#)
        else { return nil }
        return String(line[start.upperBound...].prefix { $0 != "\"" })
    }

    // MARK: Names

    @Test("functions that the configuration names are reserved to workers without rules")
    mutating func named() {
        node = .guarded(named: ["auth", "p::hook"])
        _ = node.enter(#"{"function_registration_prefix":null}"#)
        #expect(code(node.registerFunction(2, "auth")) == "reserved")
        #expect(node.router.functions.owner(of: Name("auth")) == connectionID(1))
        #expect(
            code(node.registerFunction(2, "hook")) == "id_held",
            "worker 1 has it; it is not reserved")
        #expect(code(node.registerFunction(2, "p")) == nil)
        #expect(node.registerFunction(1, "auth").isEmpty)
    }

    @Test("they are compared behind the prefix, and behind what the hook makes of them")
    mutating func namedBehindPrefix() {
        node = .guarded(named: ["p::hook"])
        _ = node.enter(#"{"function_registration_prefix":"p"}"#)
        #expect(code(node.registerFunction(2, "hook")) == "reserved")
        #expect(code(node.registerFunction(2, "other")) == nil)
        node = .guarded(named: ["auth"]) { $0.functionRegistrationFunctionID = "hook" }
        _ = node.enter()
        _ = node.registerFunction(2, "innocent")
        #expect(code(node.answer(1, uuid(4), payload: #"{"function_id":"auth"}"#)) == "reserved")
    }

    @Test(
        "ids under engine:: are reserved to workers without rules",
        arguments: ["engine::x", "engine::"])
    mutating func engine(id: String) {
        _ = node.enter()
        #expect(code(node.registerFunction(2, id)) == "reserved")
        #expect(node.registerFunction(1, id).isEmpty)
        #expect(node.router.functions.owner(of: Name(id)) == connectionID(1))
    }

    @Test(
        "an override needs to be allowed, in one of three places",
        arguments: [
            ("{}", false, false), (#"{"allow_stream_overrides":true}"#, false, true),
            (#"{"allow_stream_overrides":false}"#, false, false),
            (#"{"allow_stream_overrides":null}"#, false, false),
            (#"{"context":{"iii_stream":{"allow_stream_overrides":true}}}"#, false, true),
            (#"{"context":{"iii_stream":{"allow_stream_overrides":false}}}"#, false, false),
            (#"{"context":{"iii_stream":null}}"#, false, false), ("{}", true, true),
        ])
    mutating func overrides(session: String, byListener: Bool, isAllowed: Bool) {
        node = .guarded { $0.allowsStreamOverrides = byListener }
        _ = node.enter(session)
        let lines = node.registerFunction(2, "stream::set(pay)")
        #expect(code(lines) == (isAllowed ? nil : "FORBIDDEN"))
        #expect(isAllowed || lines.first?.contains("allow_stream_overrides") == true)
        #expect((node.router.functions.owner(of: Name("stream::set(pay)")) != nil) == isAllowed)
        // What only looks like one is free.
        #expect(code(node.registerFunction(2, "stream::send(pay)")) == nil)
        #expect(node.registerFunction(1, "stream::get(pay)").isEmpty)
    }

    @Test(
        "settings of a wrong type deny the connection",
        arguments: [
            #"{"allow_stream_overrides":1}"#, #"{"context":{"iii_stream":5}}"#,
            #"{"context":{"iii_stream":{"allow_stream_overrides":"yes"}}}"#,
        ])
    mutating func wrongTypes(session: String) {
        #expect(node.enter(session).last == "2 close 1008")
    }

    // MARK: Trigger types

    @Test(
        "types that show more than may be called have to be allowed by name",
        arguments: ["stream:join", "stream:leave", "log", "engine::workers-available"])
    mutating func typesByName(type: String) {
        let config = #"{"stream_name":"s"}"#
        for session in ["{}", #"{"allowed_trigger_types":null}"#] {
            node = .guarded()
            _ = node.enter(session)
            _ = node.registerFunction(2, "g")
            let config = type.hasPrefix("stream") ? config : "null"
            #expect(code(node.registerTrigger(2, "t", type, "g", config: config)) == "FORBIDDEN")
        }
        node = .guarded()
        _ = node.enter("{\"allowed_trigger_types\":[\"\(type)\"]}")
        _ = node.registerFunction(2, "g")
        #expect(
            code(
                node.registerTrigger(
                    2, "t", type, "g", config: type.hasPrefix("stream") ? config : "null")) == nil)
        #expect(node.router.triggers.count == 1)
    }

    @Test(
        "a stream trigger needs the right to read: stream::get or stream::list",
        arguments: [
            ("stream::get", true), ("stream::list", true), ("stream::set", false),
            ("stream::list_all", false), ("*", true),
        ])
    mutating func streamTrigger(exposed: String, isAllowed: Bool) {
        node = .guarded { $0.exposedFunctions = [.pattern(exposed)] }
        _ = node.enter(#"{"allowed_trigger_types":["stream"]}"#)
        _ = node.registerFunction(2, "g")
        let lines = node.registerTrigger(2, "t", "stream", "g", config: #"{"stream_name":"s"}"#)
        #expect(code(lines) == (isAllowed ? nil : "FORBIDDEN"))
        #expect(node.router.triggers.count == (isAllowed ? 1 : 0))
    }

    // MARK: Targets

    private mutating func enterReading(_ session: String = "{}", exposing: [String] = []) {
        node = .guarded {
            $0.exposedFunctions = (exposing + ["stream::get"]).map { .pattern($0) }
        }
        _ = node.enter(session)
    }

    private mutating func register(target: String, condition: String? = nil) -> String? {
        let condition = condition.map { ",\"condition_function_id\":\"\($0)\"" } ?? ""
        return code(
            node.registerTrigger(
                2, "t", "stream", target, config: "{\"stream_name\":\"s\"\(condition)}"))
    }

    @Test("a trigger may call what its worker may, and its own functions") mutating func targets() {
        enterReading(exposing: ["open"])
        _ = node.registerFunction(1, "open")
        _ = node.registerFunction(2, "own")
        #expect(register(target: "f") == "FORBIDDEN")
        #expect(register(target: "stream::delete") == "FORBIDDEN")
        #expect(register(target: "open") == nil)
        #expect(register(target: "own") == nil)
        #expect(register(target: "own", condition: "f") == "FORBIDDEN")
        #expect(register(target: "own", condition: "open") == nil)
        #expect(register(target: "own", condition: "own") == nil)
    }

    @Test("what nobody serves yet may be bound, unless it is forbidden by name")
    mutating func unserved() {
        enterReading(#"{"forbidden_functions":["never"]}"#)
        #expect(register(target: "later") == nil)
        #expect(register(target: "never") == "FORBIDDEN")
    }

    @Test(
        "a trigger of a worker's type binds nothing that others may serve later, for the type's worker fires it"
    )
    mutating func providedType() {
        enterReading(#"{"function_registration_prefix":"p"}"#, exposing: ["open::*"])
        _ = node.registerType(1, "cron")
        #expect(code(node.registerTrigger(2, "t", "cron", "mine")) == nil, "under its own prefix")
        enterReading(exposing: ["open::*"])
        _ = node.registerType(1, "cron")
        #expect(code(node.registerTrigger(2, "t", "cron", "later")) == "FORBIDDEN")
        #expect(code(node.registerTrigger(2, "t", "cron", "open::later")) == nil)
        #expect(code(node.registerTrigger(2, "t", "unknown", "later")) == "FORBIDDEN")
        _ = node.registerFunction(2, "own")
        #expect(code(node.registerTrigger(2, "t", "cron", "own")) == nil)
    }

    @Test("the rules look at what the hook makes of a trigger") mutating func hookedTarget() {
        node = .guarded {
            $0.triggerRegistrationFunctionID = "hook"
            $0.exposedFunctions = [.pattern("stream::get")]
        }
        _ = node.enter()
        _ = node.registerFunction(2, "own")
        _ = node.registerTrigger(2, "t", "stream", "own", config: #"{"stream_name":"s"}"#)
        #expect(code(node.answer(1, uuid(4), payload: #"{"function_id":"f"}"#)) == "FORBIDDEN")
        #expect(node.router.triggers.count == 0)
    }
}

/// What the node calls for a trigger of worker 2 when it fires.
@Suite("Rules when a trigger fires")
struct FiringRulesTests {
    private var node = Node.guarded()

    private mutating func enter(_ session: String = "{}", _ connection: Int = 2) {
        let lines = node.open(connection, listener: 1)
        guard let call = lines.first?.split(separator: " ").dropFirst(2).first else { return }
        _ = node.answer(1, String(call), payload: session)
    }

    private mutating func target(
        _ function: String, isCondition: Bool = false, owner: Int = 2, isRestricted: Bool = true
    ) -> TriggerTarget {
        node.router.target(
            of: TriggerCall(
                trigger: Name("t"), owner: connectionID(owner), isRestricted: isRestricted,
                functionID: function, isCondition: isCondition))
    }

    @Test("a trigger of a worker without rules calls anything") mutating func unrestricted() {
        #expect(target("f", owner: 1, isRestricted: false) == .function("f"))
    }

    @Test("what somebody else registers later is decided when it is called")
    mutating func registeredLater() {
        enter()
        #expect(target("later") == .function("later"), "the call fails by itself")
        _ = node.registerFunction(1, "later")
        #expect(target("later") == .forbidden)
        #expect(target("later") == .forbidden, "from what was decided")
        _ = node.say(1, .unregisterFunction(id: "later"))
        _ = node.registerFunction(2, "later")
        #expect(target("later") == .function("later"))
        // Worker 1 has no rules, and takes it over.
        _ = node.registerFunction(1, "later")
        #expect(target("later") == .forbidden)
    }

    @Test("what the worker may call its triggers may call, built-in functions too")
    mutating func exposed() {
        node = .guarded { $0.exposedFunctions = [.pattern("f"), .pattern("stream::list")] }
        enter()
        #expect(target("f") == .function("f"))
        #expect(target("hook") == .forbidden)
        #expect(target("stream::list") == .function("stream::list"))
        #expect(target("stream::set") == .forbidden)
    }

    @Test("functions of the same identity may be called, of another not") mutating func identity() {
        enter(#"{"context":{"iii_stream":{"identity":"a"}},"allowed_functions":["x"]}"#)
        enter(#"{"context":{"iii_stream":{"identity":"a"}}}"#, 3)
        enter(#"{"context":{"iii_stream":{"identity":"b"}}}"#, 4)
        _ = node.registerFunction(3, "ours")
        _ = node.registerFunction(4, "theirs")
        #expect(target("ours") == .function("ours"))
        #expect(target("theirs") == .forbidden)
    }

    @Test(
        "without an identity of its own a session is known by all that the auth function answered")
    mutating func wholeAnswer() {
        enter(#"{"context":{"team":"a"}}"#)
        enter(#"{"context":{"team":"a"}}"#, 3)
        enter(#"{"context":{"team":"b"}}"#, 4)
        _ = node.registerFunction(3, "ours")
        _ = node.registerFunction(4, "theirs")
        #expect(target("ours") == .function("ours"))
        #expect(target("theirs") == .forbidden)
    }

    @Test("a condition means the worker's own function first, and is looked at like any")
    mutating func condition() {
        enter(#"{"function_registration_prefix":"p"}"#)
        #expect(target("c", isCondition: true) == .function("c"))
        _ = node.registerFunction(1, "c")
        #expect(target("c", isCondition: true) == .forbidden)
        _ = node.registerFunction(1, "p::c")
        #expect(target("c", isCondition: true) == .forbidden, "not of its own identity")
        _ = node.say(1, .unregisterFunction(id: "p::c"))
        _ = node.registerFunction(2, "c")
        #expect(target("c", isCondition: true) == .function("p::c"))
    }

    @Test("when the registrant has gone nothing tells what it may") mutating func gone() {
        enter()
        _ = node.registerFunction(2, "g")
        _ = node.close(2)
        #expect(target("g") == .gone)
        #expect(target("f") == .gone)
    }

    @Test("the answer is not that of the trigger that had the id before") mutating func replaced() {
        enter()
        _ = node.registerFunction(2, "g")
        #expect(target("g") == .function("g"))
        #expect(target("f") == .forbidden)
        #expect(target("g") == .function("g"))
    }
}
