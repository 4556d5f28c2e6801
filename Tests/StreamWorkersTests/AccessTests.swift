import StreamConfig
import StreamModel
import StreamWorkers
import Testing

/// A node with a plain listener, where worker 1 serves all that the rules call, and one with rules.
extension Node {
    /// The functions of worker 1: `auth`, `hook`, `middle`, and `f`.
    static func guarded(
        isAuthenticated: Bool = true, hasMiddleware: Bool = false, hasRules: Bool = true,
        limits: WorkerLimits = WorkerLimits(), named: [String] = [],
        _ adjust: (inout AccessControl) -> Void = { _ in }
    ) -> Node {
        var access = AccessControl()
        if isAuthenticated { access.authFunctionID = "auth" }
        adjust(&access)
        var listener = WorkerListener()
        if hasRules { listener.accessControl = access }
        if hasMiddleware { listener.middlewareFunctionID = "middle" }
        var node = Node(
            limits: limits, listeners: [WorkerListener(), listener], named: named)
        _ = node.open(1)
        for function in ["auth", "hook", "middle", "f"] { _ = node.registerFunction(1, function) }
        return node
    }

    /// Opens connection 2 at the listener with rules; its worker id is the second UUID. With an auth function
    /// that answers `session`, the call of it has the third.
    mutating func enter(_ session: String? = "{}") -> [String] {
        let lines = open(2, listener: 1)
        guard let session else { return lines }
        return answer(1, uuid(3), payload: session)
    }
}

@Suite("Authentication of workers")
struct WorkerAuthenticationTests {
    private var node = Node.guarded()

    private func denied(_ message: String) -> [String] {
        let escaped = message.replacing("\"", with: "\\\"")
        return [
            "log warning worker_denied address=127.0.0.1:1",
            "2 send {\"error\":{\"code\":\"AUTH_ERROR\",\"message\":\"\(escaped)\"},\"type\":\"error\"}",
            "2 close 1008",
        ]
    }

    @Test("a connection is held until the auth function has answered") mutating func held() {
        #expect(node.open(2, listener: 1, head: "head") == ["1 call \(uuid(3)) auth head"])
        #expect(node.changes == ["worker_connected \(uuid(1))"])
        #expect(node.answer(1, uuid(3), payload: "{}") == ["2 admit \(uuid(2)) restricted"])
        #expect(node.changes.last == "worker_connected \(uuid(2))")
    }

    @Test("what a connection says before it is let in is not heard") mutating func early() {
        _ = node.open(2, listener: 1)
        #expect(node.registerFunction(2, "g").isEmpty)
        #expect(node.call(2, "f").isEmpty)
        #expect(node.router.functions.owner(of: Name("g")) == nil)
    }

    @Test("function error: the function's own message") mutating func functionError() {
        #expect(node.enter("!boom") == denied("told so"))
        #expect(node.router.counters.connectionsDenied == 1)
    }

    @Test("no result: said so") mutating func noResult() {
        #expect(node.enter("null") == denied("auth function returned no result"))
    }

    @Test(
        "wrong shape: the reason",
        arguments: [
            ("5", "invalid type: integer `5`, expected struct AuthResult"),
            ("true", "invalid type: boolean `true`, expected struct AuthResult"),
            (#""x""#, #"invalid type: string "x", expected struct AuthResult"#),
            ("[]", "invalid type: sequence, expected struct AuthResult"),
            (#"{"allowed_functions":"f"}"#, #"invalid type: string "f", expected a sequence"#),
            (#"{"allowed_functions":[5]}"#, "invalid type: integer `5`, expected a string"),
            (#"{"forbidden_functions":{}}"#, "invalid type: map, expected a sequence"),
            (#"{"allowed_trigger_types":5}"#, "invalid type: integer `5`, expected a sequence"),
            (
                #"{"allow_trigger_type_registration":"yes"}"#,
                #"invalid type: string "yes", expected a boolean"#
            ),
            (
                #"{"allow_function_registration":1}"#,
                "invalid type: integer `1`, expected a boolean"
            ),
            (
                #"{"function_registration_prefix":5}"#,
                "invalid type: integer `5`, expected a string"
            ),
        ])
    mutating func wrongShape(result: String, reason: String) {
        #expect(node.enter(result) == denied(reason))
    }

    @Test("a function that nobody serves: not found") mutating func notFound() {
        node = .guarded { $0.authFunctionID = "nope" }
        #expect(node.open(2, listener: 1) == denied("Function nope not found"))
    }

    @Test("a function that takes too long: timed out") mutating func timeout() {
        _ = node.open(2, listener: 1)
        #expect(node.tick(after: 99).isEmpty)
        #expect(node.tick(after: 1) == denied("Invocation timed out"))
    }

    @Test("a function whose worker goes: stopped") mutating func stopped() {
        _ = node.open(2, listener: 1)
        #expect(node.close(1) == denied("Invocation stopped"))
    }

    @Test("one that is denied was never there: nobody hears of it") mutating func deniedChanges() {
        _ = node.enter("null")
        #expect(node.registerFunction(2, "g").isEmpty)
        #expect(node.close(2).isEmpty)
        #expect(node.changes == ["worker_connected \(uuid(1))"])
    }

    @Test("one that closes meanwhile is not admitted") mutating func closes() {
        _ = node.open(2, listener: 1)
        #expect(node.close(2).isEmpty)
        #expect(node.answer(1, uuid(3), payload: "{}").isEmpty)
        #expect(node.router.pendingCallCount == 0)
        #expect(node.changes == ["worker_connected \(uuid(1))"])
    }

    @Test("a connection for telemetry is let in the same way, and is no worker that anybody sees")
    mutating func telemetry() {
        _ = node.open(2, listener: 1, isTelemetry: true)
        #expect(
            node.answer(1, uuid(3), payload: "null") == denied("auth function returned no result"))
        #expect(node.changes == ["worker_connected \(uuid(1))"])
    }

    @Test("without an auth function a listener with rules lets everybody in, to register anything")
    mutating func noAuthFunction() {
        node = .guarded(isAuthenticated: false)
        #expect(node.open(2, listener: 1) == ["2 admit \(uuid(2)) restricted"])
        #expect(node.registerFunction(2, "g").isEmpty)
        #expect(node.registerType(2, "cron").isEmpty)
        #expect(node.registerTrigger(2, "t", "queue", "g").isEmpty)
        #expect(node.releases == 7)
    }

    @Test("a listener without rules restricts nobody") mutating func noRules() {
        node = .guarded(hasRules: false)
        #expect(node.open(2, listener: 1) == ["2 admit \(uuid(2))"])
    }

    // MARK: Defaults of what the function answers

    @Test("by default trigger types may not be registered, functions and triggers may")
    mutating func defaults() {
        _ = node.enter("{}")
        #expect(
            node.registerType(2, "cron").first
                == #"2 send {"type":"triggertyperegistrationresult","id":"cron","error":{"code":"FORBIDDEN","message":"trigger type 'cron' may not be registered"}}"#
        )
        #expect(node.registerFunction(2, "g").isEmpty)
        #expect(node.registerTrigger(2, "t", "anything", "g").isEmpty)
        #expect(node.router.functions.owner(of: Name("g")) == connectionID(2))
    }

    @Test("null stands for all trigger types, and for no prefix") mutating func nulls() {
        _ = node.enter(#"{"allowed_trigger_types":null,"function_registration_prefix":null}"#)
        #expect(node.registerFunction(2, "g").isEmpty)
        #expect(node.registerTrigger(2, "t", "anything", "g").isEmpty)
        #expect(node.router.functions.owner(of: Name("g")) == connectionID(2))
    }

    @Test("registering trigger types can be allowed") mutating func types() {
        _ = node.enter(#"{"allow_trigger_type_registration":true}"#)
        #expect(node.registerType(2, "cron").isEmpty)
        #expect(node.router.triggers.provider(of: Name("cron")) == connectionID(2))
    }

    @Test("registering functions can be forbidden") mutating func functions() {
        _ = node.enter(#"{"allow_function_registration":false}"#)
        #expect(
            node.registerFunction(2, "g") == [
                #"2 send {"type":"functionregistrationresult","id":"g","error":{"code":"FORBIDDEN","message":"function 'g' may not be registered"}}"#,
                "log warning function_refused worker=\(uuid(2)) id=g code=FORBIDDEN",
            ])
        #expect(node.router.functions.owner(of: Name("g")) == nil)
    }

    @Test("only triggers of the allowed types may be registered") mutating func triggers() {
        _ = node.enter(#"{"allowed_trigger_types":["stream","cron"]}"#)
        #expect(node.registerFunction(2, "g").isEmpty)
        #expect(node.registerTrigger(2, "t", "cron", "g").isEmpty)
        #expect(
            node.registerTrigger(2, "u", "log", "g").first
                == #"2 send {"type":"triggerregistrationresult","id":"u","trigger_type":"log","function_id":"g","error":{"code":"FORBIDDEN","message":"trigger of the type 'log' may not be registered"}}"#
        )
        #expect(node.router.triggers.count == 1)
        node = .guarded()
        _ = node.enter(#"{"allowed_trigger_types":[]}"#)
        #expect(node.registerTrigger(2, "t", "cron").first?.contains("FORBIDDEN") == true)
    }
}

@Suite("Calls that a worker may make")
struct CallAccessTests {
    private var node = Node.guarded()

    private func forbidden(_ function: String, _ advice: String, id: String = "1") -> String {
        errorLine(
            2, function, "FORBIDDEN", "function '\(function)' not allowed (\(advice))", id: id)
    }

    private let notExposed = "add to rbac.expose_functions"
    private let isForbidden = "remove from rbac.forbidden_functions"

    private mutating func isAllowed(_ function: String) -> Bool {
        node.call(2, function, data: "{}").first?.contains("FORBIDDEN") != true
    }

    @Test("a function that is not exposed may not be called") mutating func notExposedAtAll() {
        _ = node.enter()
        #expect(node.call(2, "f") == [forbidden("f", notExposed)])
        #expect(node.call(2, "stream::get") == [forbidden("stream::get", notExposed)])
        #expect(node.call(2, "nope") == [forbidden("nope", notExposed)])
        #expect(node.router.counters.callsForbidden == 3)
    }

    @Test("the answer goes to void calls too: under their id, or one of ours") mutating func void()
    {
        _ = node.enter()
        #expect(node.call(2, "f", isVoid: true) == [forbidden("f", notExposed)])
        #expect(
            node.call(2, "f", id: nil, isVoid: true) == [forbidden("f", notExposed, id: uuid(4))])
        #expect(node.call(2, "f", id: nil) == [forbidden("f", notExposed, id: uuid(5))])
    }

    @Test("under one of ours when theirs is over the limit") mutating func longID() {
        _ = node.enter()
        let id = String(repeating: "x", count: 2000)
        #expect(
            node.call(2, "f", id: id, isVoid: true) == [forbidden("f", notExposed, id: uuid(4))])
    }

    @Test("an allowed function may be called, exposed or not") mutating func allowed() {
        _ = node.enter(#"{"allowed_functions":["f","stream::get"]}"#)
        #expect(node.call(2, "f") == ["1 call \(uuid(4)) f in"])
        #expect(node.call(2, "stream::get") == ["2 run in"])
        #expect(node.call(2, "stream::set") == [forbidden("stream::set", notExposed)])
    }

    @Test("the stream functions that may be called are told once, and run without being asked for")
    mutating func runAtOnce() {
        #expect(
            node.enter(#"{"allowed_functions":["f","stream::get","stream::set"]}"#)
                == ["2 admit \(uuid(2)) restricted stream::set stream::get"])
        node = .guarded { $0.exposedFunctions = [.pattern("stream::li*")] }
        #expect(
            node.enter(#"{"forbidden_functions":["stream::list_all"]}"#)
                == ["2 admit \(uuid(2)) restricted stream::list stream::list_groups"])
        node = .guarded(hasMiddleware: true) { $0.exposedFunctions = [.pattern("*")] }
        #expect(node.enter() == ["2 admit \(uuid(2)) restricted"])
    }

    @Test("what was decided holds until a function changes") mutating func decidedOnce() {
        let condition = MetadataCondition(key: "a", test: .equals(text("1")))
        node = .guarded { $0.exposedFunctions = [.metadata([condition])] }
        _ = node.enter()
        for _ in 0..<2 { #expect(!isAllowed("f")) }
        let exposed = FunctionRegistration(id: "f", metadata: text(#"{"a":1}"#))
        _ = node.say(1, .registerFunction(exposed))
        for _ in 0..<2 { #expect(isAllowed("f")) }
        _ = node.registerFunction(1, "f")
        #expect(!isAllowed("f"))
    }

    @Test("more ids than are remembered are decided all the same", arguments: [127, 128, 129, 300])
    mutating func manyIDs(count: Int) {
        node = .guarded { $0.exposedFunctions = [.pattern("yes*")] }
        _ = node.enter()
        for round in 0..<2 {
            for number in 0..<count {
                #expect(isAllowed("yes\(number)"), "round \(round)")
                #expect(!isAllowed("no\(number)"), "round \(round)")
            }
        }
    }

    @Test("forbidden comes before allowed and exposed") mutating func forbiddenFirst() {
        node = .guarded { $0.exposedFunctions = [.pattern("*")] }
        _ = node.enter(#"{"allowed_functions":["f"],"forbidden_functions":["f","stream::get"]}"#)
        #expect(node.call(2, "f") == [forbidden("f", isForbidden)])
        #expect(
            node.call(2, "stream::get", isVoid: true) == [forbidden("stream::get", isForbidden)])
        #expect(isAllowed("stream::set"))
    }

    static let infrastructure = [
        "engine::channels::create", "engine::workers::register", "engine::log::info",
        "engine::log::warn", "engine::log::error", "engine::log::debug", "engine::log::trace",
        "engine::baggage::get", "engine::baggage::set", "engine::baggage::get_all",
    ]

    @Test("what every worker needs may be called", arguments: infrastructure)
    mutating func needed(function: String) {
        _ = node.enter()
        #expect(isAllowed(function))
    }

    @Test("unless it is forbidden", arguments: infrastructure) mutating func neededButForbidden(
        function: String
    ) {
        _ = node.enter("{\"forbidden_functions\":[\"\(function)\"]}")
        #expect(node.call(2, function, data: "{}") == [forbidden(function, isForbidden)])
    }

    @Test(
        "other engine functions are not",
        arguments: [
            "engine::functions::list", "engine::workers::list", "engine::log::fatal", "engine::",
        ])
    mutating func otherEngine(function: String) {
        _ = node.enter()
        #expect(node.call(2, function, data: "{}") == [forbidden(function, notExposed)])
    }

    @Test("workers of other listeners may call everything") mutating func plainListener() {
        _ = node.open(3)
        #expect(node.call(3, "f").first?.hasPrefix("1 call") == true)
    }

    @Test("without an auth function only what is exposed may be called")
    mutating func noAuthFunction() {
        node = .guarded(isAuthenticated: false) { $0.exposedFunctions = [.pattern("f")] }
        _ = node.enter(nil)
        #expect(isAllowed("f"))
        #expect(!isAllowed("auth"))
    }

    // MARK: Patterns

    @Test(
        "a star stands for any run of characters",
        arguments: [
            ("f", "f", true), ("f", "F", false), ("f", "ff", false), ("f", "", false),
            ("", "", true),
            ("", "f", false), ("*", "", true), ("*", "anything::at all", true), ("a*", "a", true),
            ("a*", "abc", true), ("a*", "ba", false), ("*a", "a", true), ("*a", "cba", true),
            ("*a", "ab", false), ("a*a", "a", false), ("a*a", "aa", true), ("a*a", "abca", true),
            ("a*b*c", "abc", true), ("a*b*c", "a-b-b-c", true), ("a*b*c", "acb", false),
            ("a*b*c", "abcb", false), ("ab*ba", "aba", false), ("**", "x", true),
            ("a**b", "ab", true),
            ("a?c", "abc", false), ("a.c", "abc", false), ("[a]", "a", false),
            ("api::*", "api::x", true),
            ("api::*", "api:x", false), ("caf*", "cafe\u{301}", true),
            ("*\u{301}", "cafe\u{301}", true),
            ("caf\u{E9}", "cafe\u{301}", false),
        ])
    mutating func pattern(pattern: String, function: String, matches: Bool) {
        node = .guarded { $0.exposedFunctions = [.pattern("x::y"), .pattern(pattern)] }
        _ = node.enter()
        #expect(isAllowed(function) == matches)
    }

    @Test("many stars are no way to keep the node busy") mutating func manyStars() {
        let pattern = String(repeating: "*a", count: 30) + "*b"
        node = .guarded { $0.exposedFunctions = [.pattern(pattern)] }
        _ = node.enter()
        #expect(!isAllowed(String(repeating: "a", count: 256)))
    }

    // MARK: Metadata

    private mutating func isAllowed(metadata: String?, _ conditions: [MetadataCondition]) -> Bool {
        node = .guarded { $0.exposedFunctions = [.metadata(conditions)] }
        let metadata = metadata.map(text)
        _ = node.say(1, .registerFunction(FunctionRegistration(id: "g", metadata: metadata)))
        _ = node.enter()
        return isAllowed("g")
    }

    @Test(
        "a value of the metadata is compared as JSON",
        arguments: [
            (#"{"public":true}"#, "true", true), (#"{"x":1,"public" : true}"#, "true", true),
            (#"{"public":false}"#, "true", false), (#"{"public":"true"}"#, "true", false),
            (#"{"public":null}"#, "null", true), ("{}", "null", false), ("{}", "true", false),
            (#"{"public":1.0}"#, "1", true), (#"{"public":[1,2]}"#, "[1,2]", true),
            (#"{"public":{"b":1,"a":2}}"#, #"{"a":2,"b":1}"#, true), ("null", "true", false),
            ("\"public\"", "true", false), ("[true]", "true", false),
        ])
    mutating func metadata(metadata: String, value: String, matches: Bool) {
        let condition = MetadataCondition(key: "public", test: .equals(text(value)))
        #expect(isAllowed(metadata: metadata, [condition]) == matches)
    }

    @Test(
        "a pattern is for strings",
        arguments: [
            (#"{"tier":"gold"}"#, true), (#"{"tier":"g"}"#, true), (#"{"tier":"bronze"}"#, false),
            (#"{"tier":5}"#, false), (#"{"tier":["gold"]}"#, false), ("{}", false),
        ])
    mutating func metadataPattern(metadata: String, matches: Bool) {
        let condition = MetadataCondition(key: "tier", test: .pattern("g*"))
        #expect(isAllowed(metadata: metadata, [condition]) == matches)
    }

    @Test("all conditions of an entry must hold") mutating func allConditions() {
        let conditions = [
            MetadataCondition(key: "a", test: .equals(text("1"))),
            MetadataCondition(key: "b", test: .pattern("x")),
        ]
        #expect(isAllowed(metadata: #"{"a":1,"b":"x"}"#, conditions))
        #expect(!isAllowed(metadata: #"{"a":1,"b":"y"}"#, conditions))
        #expect(!isAllowed(metadata: #"{"a":1}"#, conditions))
    }

    @Test("a function without metadata, one that nobody serves and a built-in one match none")
    mutating func noMetadata() {
        let condition = MetadataCondition(key: "a", test: .equals(text("1")))
        #expect(!isAllowed(metadata: nil, [condition]))
        #expect(!isAllowed("nope"))
        #expect(!isAllowed("stream::get"))
    }

    @Test("any entry is enough") mutating func anyEntry() {
        node = .guarded {
            $0.exposedFunctions = [
                .metadata([MetadataCondition(key: "a", test: .equals(text("1")))]), .pattern("f"),
            ]
        }
        _ = node.enter()
        #expect(isAllowed("f"))
    }
}
