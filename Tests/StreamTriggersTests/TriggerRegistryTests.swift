import StreamModel
import StreamTriggers
import Testing

private let ann = ConnectionID(rawValue: 1)
private let bob = ConnectionID(rawValue: 2)

@Suite("Trigger registry")
struct TriggerRegistryTests {
    private var registry = TriggerRegistry()

    private func trigger(_ id: String, _ type: String = "cron", _ function: String = "f")
        -> TriggerRegistration
    {
        let config = type == "stream" ? #"{"stream_name":"s"}"# : "null"
        return TriggerRegistration(
            id: id, triggerType: type, functionID: function,
            config: JSONText(validated: Array(config.utf8)))
    }

    private func ids(of type: String) -> [String] {
        registry.triggers(of: Name(type)).map(\.trigger.id)
    }

    @Test(
        "the node's own types are built in",
        arguments: ["stream", "stream:join", "stream:leave", "log", "engine::", "engine::anything"])
    func builtIn(type: String) {
        #expect(registry.isBuiltIn(type: Name(type)))
    }

    @Test("other types are not", arguments: ["", "cron", "streams", "stream:", "engine:", "Log"])
    func notBuiltIn(type: String) {
        #expect(!registry.isBuiltIn(type: Name(type)))
    }

    @Test("a trigger is kept whether or not its type is known") mutating func unknownType() throws {
        #expect(try registry.register(trigger("a"), by: ann) == nil)
        #expect(registry.trigger(Name("a")) == OwnedTrigger(trigger: trigger("a"), owner: ann))
        #expect(ids(of: "cron") == ["a"])
    }

    @Test("triggers of a type are in the order of registration, a replacement in the old place")
    mutating func order() throws {
        for id in ["c", "a", "b"] { _ = try registry.register(trigger(id), by: ann) }
        let replaced = try registry.register(trigger("a", "cron", "g"), by: bob)
        #expect(replaced == OwnedTrigger(trigger: trigger("a"), owner: ann))
        #expect(ids(of: "cron") == ["c", "a", "b"])
        #expect(registry.count == 3)
    }

    @Test("an id moves to another type with its registration") mutating func acrossTypes() throws {
        _ = try registry.register(trigger("a"), by: ann)
        _ = try registry.register(trigger("a", "stream"), by: bob)
        #expect(ids(of: "cron").isEmpty)
        #expect(ids(of: "stream") == ["a"])
        guard case .stream(let filter)? = registry.filter(of: Name("a")) else {
            Issue.record("no filter")
            return
        }
        #expect(filter.streamName == "s")
        #expect(registry.usage(of: ann) == DirectoryUsage())
    }

    @Test("a refused configuration leaves the old trigger") mutating func refused() throws {
        _ = try registry.register(trigger("a"), by: ann)
        let bad = TriggerRegistration(id: "a", triggerType: "stream", functionID: "f")
        #expect(throws: JSONMismatch.self) { try registry.register(bad, by: bob) }
        #expect(registry.trigger(Name("a")) == OwnedTrigger(trigger: trigger("a"), owner: ann))
        #expect(registry.usage(of: bob) == DirectoryUsage())
    }

    @Test(
        "the other built-in types take any configuration",
        arguments: ["stream:join", "stream:leave", "log", "engine::functions-available"])
    mutating func anyConfiguration(type: String) throws {
        for (index, config) in ["null", "5", "\"x\"", "[]", "{}"].enumerated() {
            let trigger = TriggerRegistration(
                id: "\(index)", triggerType: type, functionID: "f",
                config: JSONText(validated: Array(config.utf8)))
            _ = try registry.register(trigger, by: ann)
        }
        #expect(ids(of: type).count == 5)
    }

    @Test("only the last registrant takes a trigger out") mutating func ownership() throws {
        _ = try registry.register(trigger("a"), by: ann)
        _ = try registry.register(trigger("a"), by: bob)
        #expect(registry.unregister(Name("a"), by: ann) == nil)
        #expect(registry.unregisterAll(of: ann).isEmpty)
        #expect(registry.unregister(Name("a"), by: bob) == trigger("a"))
        #expect(registry.unregister(Name("a"), by: bob) == nil)
        #expect(registry.count == 0)
    }

    @Test("all triggers of a connection go in their order") mutating func unregisterAll() throws {
        for id in ["c", "a", "b"] { _ = try registry.register(trigger(id), by: ann) }
        _ = try registry.register(trigger("z"), by: bob)
        #expect(registry.unregisterAll(of: ann).map(\.id) == ["c", "a", "b"])
        #expect(ids(of: "cron") == ["z"])
        #expect(registry.usage(of: ann) == DirectoryUsage())
    }

    @Test("the last provider of a type has it, and only it can give it up") mutating func types() {
        let type = TriggerTypeRegistration(id: "cron", description: "d")
        registry.registerType(type, by: ann)
        registry.registerType(type, by: bob)
        registry.unregisterType(Name("cron"), by: ann)
        registry.unregisterAllTypes(of: ann)
        #expect(registry.provider(of: Name("cron")) == bob)
        registry.unregisterType(Name("cron"), by: bob)
        #expect(registry.provider(of: Name("cron")) == nil)
    }

    @Test("triggers outlive their type") mutating func typeGoes() throws {
        registry.registerType(TriggerTypeRegistration(id: "cron", description: "d"), by: bob)
        _ = try registry.register(trigger("a"), by: ann)
        registry.unregisterAllTypes(of: bob)
        #expect(registry.provider(of: Name("cron")) == nil)
        #expect(ids(of: "cron") == ["a"])
    }

    @Test("usage counts what each owner has now") mutating func usage() throws {
        let text = JSONText(validated: Array("12345".utf8))
        let type = TriggerTypeRegistration(
            id: "t", description: "dd", triggerRequestFormat: text, callRequestFormat: text)
        registry.registerType(type, by: ann)
        registry.registerType(type, by: ann)
        #expect(registry.typeUsage(of: ann) == DirectoryUsage(count: 1, size: 13))
        #expect(registry.size(ofType: Name("t"), by: ann) == 13)
        #expect(registry.size(ofType: Name("t"), by: bob) == nil)
        _ = try registry.register(trigger("a"), by: ann)
        #expect(registry.usage(of: ann) == DirectoryUsage(count: 1, size: 10))
        #expect(registry.size(of: Name("a"), by: ann) == 10)
        #expect(registry.size(of: Name("a"), by: bob) == nil)
        registry.unregisterAllTypes(of: ann)
        #expect(registry.typeUsage(of: ann) == DirectoryUsage())
        #expect(registry.usage(of: ann) == DirectoryUsage(count: 1, size: 10))
    }
}
