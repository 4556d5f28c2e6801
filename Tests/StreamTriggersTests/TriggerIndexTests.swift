import StreamModel
@testable import StreamTriggers
import Testing

private let ann = ConnectionID(rawValue: 1)
private let bob = ConnectionID(rawValue: 2)

/// What an event calls, and what the rest of the node is told of changes.
@Suite("Triggers of an event")
struct TriggerIndexTests {
    private var registry = TriggerRegistry()

    private mutating func register(
        _ id: String, _ type: String, _ config: String = "null", function: String = "f",
        by owner: ConnectionID = ann
    ) throws {
        let trigger = TriggerRegistration(
            id: id, triggerType: type, functionID: function, config: text(config))
        _ = try registry.register(trigger, by: owner)
    }

    private func changes(_ stream: String, _ group: String = "g", _ item: String? = "i") -> [String]
    {
        registry.triggers(onChangeOf: stream, group: group, item: item).map(\.id.string)
    }

    private func joins(_ stream: String) -> [String] {
        registry.triggers(onJoinOf: stream).map(\.id.string)
    }

    private func leaves(_ stream: String) -> [String] {
        registry.triggers(onLeaveOf: stream).map(\.id.string)
    }

    private mutating func gone() -> [String] { registry.takeGoneIDs().map(\.string).sorted() }

    // MARK: What is called

    @Test("a change calls the stream triggers of its stream that match, in their order")
    mutating func change() throws {
        try register("c", "stream", #"{"stream_name":"s"}"#)
        try register("x", "stream", #"{"stream_name":"t"}"#)
        try register("a", "stream", #"{"stream_name":"s","group_id":"g"}"#)
        try register("y", "stream", #"{"stream_name":"s","group_id":"h"}"#)
        try register("b", "stream", #"{"stream_name":"s","item_id":"i"}"#)
        try register("j", "stream:join")
        #expect(changes("s") == ["c", "a", "b"])
        #expect(changes("s", "g", nil) == ["c", "a"])
        #expect(changes("t") == ["x"])
        #expect(changes("").isEmpty)
    }

    @Test("the stream named with the empty string is a stream") mutating func emptyName() throws {
        try register("a", "stream", #"{"stream_name":""}"#)
        #expect(changes("") == ["a"])
        #expect(changes("s").isEmpty)
    }

    @Test("join and leave call those of the stream and those of all streams, in their order")
    mutating func joinAndLeave() throws {
        for type in ["join", "leave"] {
            try register("\(type)1", "stream:\(type)", #"{"stream_name":"s"}"#)
            try register("\(type)2", "stream:\(type)")
            try register("\(type)3", "stream:\(type)", #"{"stream_name":"t"}"#)
            try register("\(type)4", "stream:\(type)", #"{"stream_name":"s"}"#)
        }
        #expect(joins("s") == ["join1", "join2", "join4"])
        #expect(joins("u") == ["join2"])
        #expect(leaves("s") == ["leave1", "leave2", "leave4"])
        #expect(leaves("t") == ["leave2", "leave3"])
    }

    @Test("a record calls the log triggers of its severity, in their order") mutating func log()
        throws
    {
        try register("w", "log", #"{"level":"warn"}"#)
        try register("a", "log")
        try register("i", "log", #"{"level":"info"}"#)
        #expect(registry.triggers(onLogOf: 0).map(\.id.string) == ["a"])
        #expect(registry.triggers(onLogOf: 9).map(\.id.string) == ["a", "i"])
        #expect(registry.triggers(onLogOf: 13).map(\.id.string) == ["w", "a", "i"])
    }

    @Test("without the type log nothing is called or heard of") mutating func noLog() throws {
        let types = [
            TriggerTypeRegistration(id: "log", description: "d"),
            .init(id: "stream", description: "d"),
        ]
        registry = TriggerRegistry(builtInTypes: types, offersLog: false)
        try register("a", "log")
        #expect(registry.triggers(onLogOf: 17).isEmpty)
        #expect(registry.watch(of: .all).isEmpty)
        #expect(registry.allTypes.map(\.id) == ["stream"])
    }

    @Test("an event of another type calls all of its triggers") mutating func otherType() throws {
        try register("b", "engine::workers-available")
        try register("a", "engine::workers-available", "5")
        try register("c", "engine::functions-available")
        #expect(
            registry.triggers(onEventOf: "engine::workers-available").map(\.id.string) == [
                "b", "a",
            ])
    }

    @Test("a trigger is called with its function and its condition") mutating func active() throws {
        let condition = #"{"stream_name":"s","condition_function_id":"c"}"#
        for type in ["stream", "stream:join", "stream:leave"] {
            try register("a", type, condition)
            #expect(
                registry.active(Name("a"))
                    == ActiveTrigger(
                        id: Name("a"), functionID: "f", conditionFunctionID: "c", owner: ann,
                        isRestricted: false))
        }
        try register("a", "log", condition)
        #expect(registry.active(Name("a"))?.conditionFunctionID == nil)
        #expect(registry.active(Name("b")) == nil)
    }

    // MARK: Replacement

    @Test("a replacement keeps the place of the old trigger, whatever its type, stream and owner")
    mutating func place() throws {
        let all = "null"
        let one = #"{"stream_name":"s"}"#
        for id in ["a", "b", "c"] { try register(id, "stream:join", one) }
        try register("b", "stream:join", all, by: bob)
        #expect(joins("s") == ["a", "b", "c"])
        try register("a", "stream:leave", one, by: bob)
        #expect(joins("s") == ["b", "c"])
        try register("a", "stream:join", one)
        try register("b", "stream:join", one)
        #expect(joins("s") == ["a", "b", "c"])
        #expect(leaves("s").isEmpty)
        #expect(registry.allTriggers.map(\.trigger.id) == ["a", "b", "c"])
    }

    @Test("a trigger that comes back after it has gone comes last") mutating func comesBack() throws
    {
        for id in ["a", "b"] { try register(id, "stream:join") }
        _ = registry.unregister(Name("a"), by: ann)
        try register("a", "stream:join")
        #expect(joins("s") == ["b", "a"])
    }

    @Test("a refused replacement leaves the old one, and tells of nothing") mutating func refused()
        throws
    {
        try register("a", "stream", #"{"stream_name":"s"}"#)
        _ = gone()
        _ = registry.takeWatchChanges()
        #expect(throws: JSONMismatch.self) { try register("a", "stream", "{}", by: bob) }
        #expect(throws: JSONMismatch.self) { try register("a", "log", #"{"level":"x"}"#, by: bob) }
        #expect(changes("s") == ["a"])
        #expect(gone().isEmpty)
        #expect(registry.takeWatchChanges().isEmpty)
    }

    // MARK: Gone ids

    @Test("a replacement with the same filter keeps the events that wait, whoever registers it")
    mutating func inherits() throws {
        let config = #"{"stream_name":"s","group_id":"g"}"#
        try register("a", "stream", config)
        try register("a", "stream", config, function: "other", by: bob)
        #expect(gone().isEmpty)
    }

    @Test(
        "a replacement with another filter or type does not",
        arguments: [
            ("stream", #"{"stream_name":"t"}"#), ("stream", #"{"stream_name":"s","group_id":"g"}"#),
            ("stream", #"{"stream_name":"s","condition_function_id":"c"}"#),
            ("stream:join", #"{"stream_name":"s"}"#), ("cron", "null"),
        ])
    mutating func inheritsNothing(type: String, config: String) throws {
        try register("a", "stream", #"{"stream_name":"s"}"#)
        try register("a", type, config)
        #expect(gone() == ["a"])
        #expect(gone().isEmpty)
    }

    @Test("types without a filter of their own are told apart by their names")
    mutating func byName() throws {
        try register("a", "cron")
        try register("a", "cron", "5")
        #expect(gone().isEmpty)
        try register("a", "queue")
        #expect(gone() == ["a"])
    }

    @Test("what was gone before a replacement stays gone") mutating func stillGone() throws {
        try register("a", "stream", #"{"stream_name":"s"}"#)
        try register("a", "stream", #"{"stream_name":"t"}"#)
        try register("a", "stream", #"{"stream_name":"t"}"#)
        #expect(gone() == ["a"])
        _ = registry.unregister(Name("a"), by: ann)
        try register("a", "stream", #"{"stream_name":"t"}"#)
        try register("a", "stream", #"{"stream_name":"t"}"#)
        #expect(gone() == ["a"])
    }

    @Test("those of a connection that closes are gone") mutating func closed() throws {
        for id in ["a", "b", "c"] { try register(id, "stream:join") }
        try register("c", "stream:join", by: bob)
        _ = registry.unregisterAll(of: ann)
        #expect(gone() == ["a", "b"])
    }

    // MARK: What to listen for

    @Test("the first trigger of a kind in a stream and the last are changes of what to hear")
    mutating func watchChanges() throws {
        let config = #"{"stream_name":"s"}"#
        let stream = WatchedStream.stream(Name("s"))
        try register("a", "stream", config)
        #expect(registry.takeWatchChanges() == [stream])
        #expect(registry.watch(of: stream) == .changes)
        try register("b", "stream", config)
        #expect(registry.takeWatchChanges().isEmpty)
        try register("c", "stream:join", config)
        #expect(registry.takeWatchChanges() == [stream])
        #expect(registry.watch(of: stream) == [.changes, .joins])
        _ = registry.unregister(Name("a"), by: ann)
        #expect(registry.takeWatchChanges().isEmpty)
        _ = registry.unregisterAll(of: ann)
        #expect(registry.takeWatchChanges() == [stream])
        #expect(registry.watch(of: stream).isEmpty)
    }

    @Test("a trigger of all streams is no part of any one") mutating func watchAll() throws {
        try register("a", "stream:join")
        try register("b", "stream:leave")
        try register("c", "log")
        #expect(registry.takeWatchChanges() == [.all])
        #expect(registry.watch(of: .all) == [.joins, .leaves, .logs])
        #expect(registry.watch(of: .stream(Name("s"))).isEmpty)
        _ = registry.unregisterAll(of: ann)
        #expect(registry.watch(of: .all).isEmpty)
    }

    @Test("triggers of other types are nothing to listen for") mutating func noWatch() throws {
        try register("a", "cron")
        try register("b", "engine::functions-available")
        #expect(registry.takeWatchChanges().isEmpty)
    }

    // MARK: Against a model

    private struct Model {
        var place: Int
        var type: String
        var stream: String?
        var owner: ConnectionID
    }

    /// Against a plain table of triggers.
    @Test("any sequence agrees with a table") mutating func random() throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("trigger index: seed \(seed)")
        var random = SplitMix(state: seed)
        var model: [String: Model] = [:]
        var nextPlace = 0
        var watched: [WatchedStream: TriggerWatch] = [:]
        for _ in 0..<1000 {
            let id = "\(Int.random(in: 0..<12, using: &random))"
            let owner = Bool.random(using: &random) ? ann : bob
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<6:
                let type = ["stream", "stream:join", "stream:leave"][
                    Int.random(in: 0..<3, using: &random)]
                let anyStream = type != "stream" && Bool.random(using: &random)
                let stream = anyStream ? nil : ["s", "t"][Int.random(in: 0..<2, using: &random)]
                let place = model[id]?.place ?? nextPlace
                if model[id] == nil { nextPlace += 1 }
                model[id] = Model(place: place, type: type, stream: stream, owner: owner)
                try register(
                    id, type, stream.map { "{\"stream_name\":\"\($0)\"}" } ?? "null", by: owner)
            case 6..<9:
                if model[id]?.owner == owner { model[id] = nil }
                _ = registry.unregister(Name(id), by: owner)
            default:
                model = model.filter { $0.value.owner != owner }
                _ = registry.unregisterAll(of: owner)
            }
            func expected(_ type: String, _ stream: String) -> [String] {
                model.filter { $0.value.type == type && ($0.value.stream ?? stream) == stream }
                    .sorted { $0.value.place < $1.value.place }.map(\.key)
            }
            for stream in ["s", "t"] {
                #expect(changes(stream) == expected("stream", stream))
                #expect(joins(stream) == expected("stream:join", stream))
                #expect(leaves(stream) == expected("stream:leave", stream))
            }
            let told = registry.takeWatchChanges()
            for stream in [WatchedStream.all, .stream(Name("s")), .stream(Name("t"))] {
                let watch = registry.watch(of: stream)
                if watch != watched[stream, default: []] { #expect(told.contains(stream)) }
                watched[stream] = watch
            }
        }
    }
}
