import StreamConfig
import StreamModel
import StreamWorkers
import Testing

/// Worker 2 comes by a listener with hooks, which worker 1 serves. The first call has the fourth UUID.
@Suite("Hooks of registrations")
struct HookTests {
    private var node: Node
    private let before: Int

    init() {
        node = Self.node()
        before = node.releases
    }

    private static func node(session: String? = nil, hook: String = "hook") -> Node {
        var node = Node.guarded {
            $0.functionRegistrationFunctionID = hook
            $0.exposedFunctions = [.pattern("*")]
            $0.triggerRegistrationFunctionID = hook
            $0.triggerTypeRegistrationFunctionID = hook
        }
        _ = node.enter(
            session ?? #"{"context":{"user":"a"},"allow_trigger_type_registration":true}"#)
        return node
    }

    private func asked(_ input: String, number: Int = 4) -> String {
        "1 send {\"type\":\"invokefunction\",\"invocation_id\":\"\(uuid(number))\",\"function_id\":\"hook\","
            + "\"data\":{\(input),\"context\":{\"user\":\"a\"}}}"
    }

    private func released() -> Int { node.releases - before }

    private mutating func hookAnswers(_ payload: String, number: Int = 4) -> [String] {
        node.answer(1, uuid(number), payload: payload)
    }

    private mutating func register(_ function: FunctionRegistration) -> [String] {
        node.say(2, .registerFunction(function))
    }

    // MARK: What they are called with

    @Test("a function's hook gets its id, its description, its metadata and the context")
    mutating func functionInput() {
        let function = FunctionRegistration(
            id: "g", description: text("\"d\""), requestFormat: text("{}"), metadata: text("[1]"))
        #expect(
            register(function) == [asked(#""function_id":"g","description":"d","metadata":[1]"#)])
        #expect(
            register(FunctionRegistration(id: "h"))
                == [asked(#""function_id":"h","description":null,"metadata":null"#, number: 5)])
    }

    @Test("a trigger type's hook gets its id, its description and the context")
    mutating func typeInput() {
        #expect(
            node.registerType(2, "cron") == [asked(#""trigger_type_id":"cron","description":"d""#)])
    }

    @Test("a trigger's hook gets all of it and the context") mutating func triggerInput() {
        #expect(
            node.registerTrigger(2, "t", "cron", "g", config: "[5]", metadata: "true") == [
                asked(
                    #""trigger_id":"t","trigger_type":"cron","function_id":"g","config":[5],"metadata":true"#
                )
            ])
    }

    // MARK: What they answer

    @Test("nothing is registered, and the worker does not go on, before the hook has answered")
    mutating func waits() {
        _ = node.registerFunction(2, "g")
        #expect(node.router.functions.owner(of: Name("g")) == nil)
        #expect(released() == 0)
        #expect(hookAnswers("{}").isEmpty)
        #expect(node.router.functions.owner(of: Name("g")) == connectionID(2))
        #expect(released() == 1)
    }

    @Test("strings of the answer replace those of a function, and any metadata")
    mutating func changedFunction() {
        _ = register(
            FunctionRegistration(id: "g", description: text("\"d\""), requestFormat: text("{}")))
        _ = hookAnswers(#"{"function_id":"h","description":"new","metadata":{"a":1},"x":5}"#)
        #expect(
            node.router.functions.function(Name("h"))
                == FunctionRegistration(
                    id: "h", description: text("\"new\""), requestFormat: text("{}"),
                    metadata: text(#"{"a":1}"#)))
        #expect(node.router.functions.owner(of: Name("g")) == nil)
    }

    @Test("null, an absent field and another kind of value keep what was asked for")
    mutating func keptFunction() {
        let function = FunctionRegistration(
            id: "g", description: text("\"d\""), metadata: text("[1]"))
        for (index, answer) in [
            "{}", #"{"function_id":null,"description":null,"metadata":null}"#,
            #"{"function_id":5,"description":{}}"#,
        ].enumerated() {
            _ = register(function)
            #expect(hookAnswers(answer, number: 4 + index).isEmpty)
            #expect(node.router.functions.function(Name("g")) == function)
        }
    }

    @Test("a trigger type is changed the same way") mutating func changedType() {
        _ = node.registerType(2, "cron")
        _ = hookAnswers(#"{"trigger_type_id":"clock","description":"new"}"#)
        #expect(node.router.triggers.provider(of: Name("clock")) == connectionID(2))
        #expect(
            node.router.triggers.allTypes == [
                TriggerTypeRegistration(id: "clock", description: "new")
            ])
    }

    @Test("a trigger is changed the same way; its config and metadata may be anything but null")
    mutating func changedTrigger() {
        _ = node.registerTrigger(2, "t", "cron", "g", config: "[5]", metadata: "true")
        _ = hookAnswers(
            #"{"trigger_id":"u","trigger_type":"clock","function_id":"h","config":6,"metadata":false}"#
        )
        #expect(
            node.router.triggers.allTriggers.map(\.trigger) == [
                restricted(
                    TriggerRegistration(
                        id: "u", triggerType: "clock", functionID: "h", config: text("6"),
                        metadata: text("false")))
            ])
        _ = node.registerTrigger(2, "v", "cron", "g", config: "[5]", metadata: "true")
        _ = hookAnswers(#"{"trigger_id":null,"config":null,"metadata":null}"#, number: 5)
        #expect(
            node.router.triggers.trigger(Name("v"))?.trigger
                == restricted(
                    TriggerRegistration(
                        id: "v", triggerType: "cron", functionID: "g", config: text("[5]"),
                        metadata: text("true"))))
    }

    private func restricted(_ trigger: TriggerRegistration) -> TriggerRegistration {
        var trigger = trigger
        trigger.isRestricted = true
        return trigger
    }

    @Test(
        "an answer that is no object refuses",
        arguments: ["null", "5", "true", "\"g\"", "[]"])
    mutating func noObject(answer: String) {
        _ = node.registerFunction(2, "g")
        #expect(
            hookAnswers(answer) == [
                #"2 send {"type":"functionregistrationresult","id":"g","error":{"code":"registration_refused","message":"The hook returned no object"}}"#,
                "log warning function_refused worker=\(uuid(2)) id=g code=registration_refused",
            ])
        #expect(node.router.functions.owner(of: Name("g")) == nil)
        #expect(released() == 1)
    }

    @Test("an error refuses with it: a function") mutating func functionError() {
        _ = node.registerFunction(2, "g")
        #expect(
            hookAnswers("!no").first
                == #"2 send {"type":"functionregistrationresult","id":"g","error":{"code":"no","message":"told so"}}"#
        )
        #expect(released() == 1)
    }

    @Test("an error refuses with it: a trigger type") mutating func typeError() {
        _ = node.registerType(2, "cron")
        #expect(
            hookAnswers("!no").first
                == #"2 send {"type":"triggertyperegistrationresult","id":"cron","error":{"code":"no","message":"told so"}}"#
        )
        #expect(node.router.triggers.provider(of: Name("cron")) == nil)
        #expect(released() == 1)
    }

    @Test("an error refuses with it: a trigger") mutating func triggerError() {
        _ = node.registerTrigger(2, "t", "cron", "g")
        #expect(
            hookAnswers("!no").first
                == #"2 send {"type":"triggerregistrationresult","id":"t","trigger_type":"cron","function_id":"g","error":{"code":"no","message":"told so"}}"#
        )
        #expect(node.router.triggers.count == 0)
        #expect(released() == 1)
    }

    // MARK: What is checked besides

    @Test("the type of a trigger is checked before the hook is asked") mutating func checkedBefore()
    {
        node = Self.node(session: #"{"allowed_trigger_types":["cron"]}"#)
        #expect(node.registerTrigger(2, "t", "log").first?.contains("FORBIDDEN") == true)
        #expect(node.router.pendingCallCount == 0)
        #expect(released() == 1)
    }

    @Test("and again after it: a hook does not lead to a type that is not allowed")
    mutating func checkedAfter() {
        node = Self.node(session: #"{"allowed_trigger_types":["cron"]}"#)
        _ = node.registerTrigger(2, "t", "cron")
        let lines = hookAnswers(#"{"trigger_type":"log"}"#)
        #expect(lines.first?.contains("FORBIDDEN") == true)
        #expect(node.router.triggers.count == 0)
        #expect(released() == 1)
    }

    @Test("who may not register is refused without a hook") mutating func mayNot() {
        node = Self.node(session: #"{"allow_function_registration":false}"#)
        #expect(node.registerFunction(2, "g").first?.contains("FORBIDDEN") == true)
        #expect(node.registerType(2, "cron").first?.contains("FORBIDDEN") == true)
        #expect(node.router.pendingCallCount == 0)
        #expect(released() == 2)
    }

    @Test("a hook does not lead to what is reserved") mutating func reserved() {
        _ = node.registerFunction(2, "g")
        let lines = hookAnswers(#"{"function_id":"stream::set"}"#)
        #expect(lines.first?.contains(#""id":"stream::set","error":{"code":"reserved""#) == true)
        #expect(released() == 1)
    }

    @Test("unregistering asks no hook") mutating func unregister() {
        _ = node.registerFunction(2, "g")
        _ = hookAnswers("{}")
        #expect(node.say(2, .unregisterFunction(id: "g")).isEmpty)
        #expect(node.router.functions.owner(of: Name("g")) == nil)
        #expect(released() == 2)
    }

    // MARK: When a hook does not answer

    @Test("a hook that takes too long refuses, once") mutating func timeout() {
        _ = node.registerFunction(2, "g")
        #expect(node.tick(after: 299).isEmpty)
        #expect(node.tick(after: 1).first?.contains("invocation_timeout") == true)
        #expect(released() == 1)
        #expect(hookAnswers("{}").isEmpty)
        #expect(released() == 1)
        #expect(node.router.functions.owner(of: Name("g")) == nil)
    }

    @Test("a hook whose worker goes refuses, once") mutating func hookGoes() {
        _ = node.registerFunction(2, "g")
        #expect(node.close(1).first?.contains("invocation_stopped") == true)
        #expect(released() == 1)
    }

    @Test("a hook that nobody serves refuses at once") mutating func noHook() {
        node = Self.node(hook: "nope")
        #expect(
            node.registerFunction(2, "g").first
                == #"2 send {"type":"functionregistrationresult","id":"g","error":{"code":"function_not_found","message":"Function nope not found"}}"#
        )
        #expect(released() == 1)
    }

    @Test("a worker that closes meanwhile registers nothing, and is not released")
    mutating func workerGoes() {
        _ = node.registerFunction(2, "g")
        #expect(node.close(2).isEmpty)
        #expect(node.router.pendingCallCount == 0)
        #expect(hookAnswers("{}").isEmpty)
        #expect(node.router.functions.owner(of: Name("g")) == nil)
        #expect(released() == 0)
    }

    @Test("an engine function as hook answers at once") mutating func engineHook() {
        node = Self.node(hook: "engine::triggers::list")
        #expect(node.registerFunction(2, "g").isEmpty)
        #expect(node.router.functions.owner(of: Name("g")) == connectionID(2))
        #expect(released() == 1)
    }
}

@Suite("Release after a registration")
struct ReleaseTests {
    private var node = Node.with(2)

    @Test("each registration, taken or refused, releases its worker exactly once")
    mutating func once() {
        let function = FunctionRegistration(id: "f")
        let trigger = TriggerRegistration(id: "t", triggerType: "cron", functionID: "f")
        let type = TriggerTypeRegistration(id: "cron", description: "d")
        let bad = TriggerRegistration(id: "t", triggerType: "stream", functionID: "f")
        let http = FunctionRegistration(id: "h", hasInvocation: true)
        let messages: [WorkerMessage] = [
            .registerFunction(function), .registerFunction(function), .registerFunction(http),
            .registerFunction(FunctionRegistration(id: "stream::set")),
            .registerFunction(FunctionRegistration(id: String(repeating: "x", count: 257))),
            .registerTriggerType(type),
            .registerTriggerType(TriggerTypeRegistration(id: "stream", description: "")),
            .registerTrigger(trigger), .registerTrigger(bad),
            .unregisterTrigger(id: "t", triggerType: nil),
            .unregisterTrigger(id: "nope", triggerType: nil),
            .unregisterTriggerType(id: "cron"), .unregisterTriggerType(id: "nope"),
            .unregisterFunction(id: "f"), .unregisterFunction(id: "nope"),
        ]
        for (index, message) in messages.enumerated() {
            _ = node.say(1, message)
            #expect(node.releases == index + 1)
        }
    }

    @Test("calls, results and services release nobody") mutating func others() {
        _ = node.call(1, "nope")
        _ = node.answer(1, uuid(9))
        _ = node.say(1, .registerService(id: "s"))
        _ = node.say(
            1, .triggerRegistrationResult(id: "t", triggerType: "c", functionID: "f", error: nil))
        _ = node.say(1, .reattach(previousWorkerID: uuid(2), token: nil))
        #expect(node.releases == 0)
    }
}

@Suite("Prefix of a worker's functions")
struct PrefixTests {
    /// Worker 2 has the prefix `p`. The first call has the fourth UUID.
    private var node = Node.guarded { $0.exposedFunctions = [.pattern("*")] }

    init() {
        _ = node.enter(#"{"function_registration_prefix":"p"}"#)
    }

    @Test("its functions are registered with it, and called without it") mutating func functions() {
        _ = node.registerFunction(2, "g")
        #expect(node.router.functions.owner(of: Name("g")) == nil)
        #expect(node.call(1, "p::g") == ["2 call \(uuid(4)) g in"])
        #expect(node.nodeCall("p::g", .message(Packet("in"))) == ["2 call \(uuid(5)) g in"])
        #expect(node.nodeCall("p::g", "5").first?.contains(#""function_id":"g","data":5"#) == true)
        #expect(node.call(1, "g").first?.contains("function_not_found") == true)
    }

    @Test("the caller's result names the function as the caller wrote it") mutating func result() {
        _ = node.registerFunction(2, "g")
        _ = node.call(1, "p::g")
        #expect(node.answer(2, uuid(4)) == ["1 result \"1\" p::g out - -"])
    }

    @Test("only the first prefix is taken off") mutating func twice() {
        _ = node.registerFunction(2, "p::g")
        #expect(node.call(1, "p::p::g") == ["2 call \(uuid(4)) p::g in"])
    }

    @Test("unregistering uses it") mutating func unregister() {
        _ = node.registerFunction(1, "g")
        _ = node.registerFunction(2, "g")
        _ = node.say(2, .unregisterFunction(id: "g"))
        #expect(node.router.functions.owner(of: Name("p::g")) == nil)
        #expect(node.router.functions.owner(of: Name("g")) == connectionID(1))
    }

    @Test("a trigger's function gets it, its id and type do not") mutating func trigger() {
        _ = node.registerTrigger(2, "t", "cron", "g")
        let trigger = node.router.triggers.trigger(Name("t"))?.trigger
        #expect(trigger?.functionID == "p::g")
        #expect(trigger?.triggerType == "cron")
    }

    @Test("a trigger type and the calls that the worker makes do not") mutating func others() {
        node = .guarded { $0.exposedFunctions = [.pattern("*")] }
        _ = node.enter(
            #"{"function_registration_prefix":"p","allow_trigger_type_registration":true}"#)
        _ = node.registerType(2, "cron")
        #expect(node.router.triggers.provider(of: Name("cron")) == connectionID(2))
        #expect(node.call(2, "f") == ["1 call \(uuid(4)) f in"])
    }

    @Test("it comes after the hook") mutating func afterHook() {
        node = .guarded { $0.triggerRegistrationFunctionID = "hook" }
        _ = node.enter(#"{"function_registration_prefix":"p"}"#)
        #expect(
            node.registerTrigger(2, "t", "cron", "g").first?.contains(#""function_id":"g""#) == true
        )
        _ = node.answer(1, uuid(4), payload: #"{"function_id":"h"}"#)
        #expect(node.router.triggers.trigger(Name("t"))?.trigger.functionID == "p::h")
    }

    @Test("it does not lead to what is reserved") mutating func reserved() {
        node = .guarded()
        _ = node.enter(#"{"function_registration_prefix":"stream"}"#)
        #expect(node.registerFunction(2, "set").first?.contains("reserved") == true)
        node = .guarded()
        _ = node.enter(#"{"function_registration_prefix":"engine"}"#)
        #expect(node.registerFunction(2, "x").first?.contains("reserved") == true)
    }

    @Test("what is refused is named as the worker named it") mutating func refusals() {
        let long = String(repeating: "x", count: 254)
        #expect(node.registerFunction(2, long).first?.contains("\"id\":\"\(long)\"") == true)
        #expect(
            node.registerTrigger(2, "t", "stream", "g").first
                == #"2 send {"type":"triggerregistrationresult","id":"t","trigger_type":"stream","function_id":"g","error":{"code":"trigger_registration_failed","message":"Failed to deserialize stream trigger: invalid type: null, expected struct StreamTriggerConfig"}}"#
        )
    }

    @Test("a provider gets the whole id, and the registrant its own with the provider's refusal")
    mutating func provider() {
        _ = node.registerType(1, "cron")
        #expect(
            node.registerTrigger(2, "t", "cron", "g").first?.contains(#""function_id":"p::g""#)
                == true)
        let error = InvocationError(code: "no", message: "m")
        let lines = node.say(
            1,
            .triggerRegistrationResult(
                id: "t", triggerType: "cron", functionID: "p::g", error: error))
        #expect(lines.first?.contains(#""function_id":"g","error":{"code":"no""#) == true)
    }
}
