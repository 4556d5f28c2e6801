import StreamModel
import StreamTriggers
import Testing

@Suite("Configuration of a join or leave trigger")
struct SubscriptionTriggerFilterTests {
    private func filter(_ config: String) throws -> SubscriptionTriggerFilter {
        try SubscriptionTriggerFilter(config: text(config))
    }

    @Test("both fields are read, others ignored") func allFields() throws {
        let filter = try filter(#"{"condition_function_id":"c","stream_name":"s","group_id":5}"#)
        #expect(filter.streamName == "s")
        #expect(filter.conditionFunctionID == "c")
    }

    @Test(
        "what names no stream listens to all",
        arguments: [
            "null", "5", "\"s\"", "[]", "{}", #"{"stream_name":null}"#, #"{"stream_name":""}"#,
        ])
    func allStreams(config: String) throws {
        let filter = try filter(config)
        #expect(filter.streamName == nil)
        #expect(filter.conditionFunctionID == nil)
        #expect(filter.matches(stream: ""))
        #expect(filter.matches(stream: "anything"))
    }

    @Test("a name matches byte for byte") func matches() throws {
        let filter = try filter("{\"stream_name\":\"caf\u{E9}\"}")
        #expect(filter.matches(stream: "caf\u{E9}"))
        #expect(!filter.matches(stream: "cafe\u{301}"))
        #expect(!filter.matches(stream: "caf"))
    }

    @Test(
        "a field of a wrong type is refused",
        arguments: [
            (#"{"stream_name":5}"#, "invalid type: integer `5`, expected a string"),
            (#"{"condition_function_id":{}}"#, "invalid type: map, expected a string"),
        ])
    func refused(config: String, reason: String) {
        #expect(throws: JSONMismatch(reason: reason)) { try filter(config) }
    }

    @Test("a name has up to 256 bytes", arguments: ["stream_name", "condition_function_id"])
    func nameSize(field: String) throws {
        let longest = String(repeating: "x", count: 256)
        _ = try filter("{\"\(field)\":\"\(longest)\"}")
        #expect(throws: JSONMismatch(reason: "`\(field)` is longer than 256 bytes")) {
            try filter("{\"\(field)\":\"\(longest)x\"}")
        }
    }
}

@Suite("Configuration of a log trigger")
struct LogTriggerFilterTests {
    @Test(
        "a level is a minimum",
        arguments: [
            ("trace", 1), ("debug", 5), ("info", 9), ("warn", 13), ("error", 17),
        ])
    func minimum(level: String, severity: Int) throws {
        let filter = try LogTriggerFilter(config: text("{\"level\":\"\(level)\"}"))
        #expect(!filter.matches(severity: severity - 1))
        #expect(filter.matches(severity: severity))
        #expect(filter.matches(severity: 24))
    }

    @Test(
        "all, no level and no string mean every record, those without a severity too",
        arguments: [
            #"{"level":"all"}"#, "{}", #"{"level":null}"#, #"{"level":5}"#, "null", "5",
            "\"error\"", "[]",
        ])
    func all(config: String) throws {
        let filter = try LogTriggerFilter(config: text(config))
        for severity in 0...24 { #expect(filter.matches(severity: severity)) }
    }

    @Test("an unknown level is refused", arguments: ["", "INFO", "warning", "fatal"])
    func unknown(level: String) {
        let reason =
            "unknown level `\(level)`, expected one of `all`, `trace`, `debug`, `info`, `warn`, `error`"
        #expect(throws: JSONMismatch(reason: reason)) {
            try LogTriggerFilter(config: text("{\"level\":\"\(level)\"}"))
        }
    }

    @Test("a long level is cut in its refusal") func longLevel() {
        let level = String(repeating: "x", count: 1000)
        do {
            _ = try LogTriggerFilter(config: text("{\"level\":\"\(level)\"}"))
            Issue.record("no refusal")
        } catch {
            #expect(error.reason.utf8.count < 200)
        }
    }
}

@Suite("Matching of a stream trigger")
struct StreamTriggerMatchTests {
    @Test(
        "a group and an item match if they are the same, or not asked for",
        arguments: [
            (#"{"stream_name":"s"}"#, "g", "i", true),
            (#"{"stream_name":"s"}"#, "g", nil, true),
            (#"{"stream_name":"s","group_id":"","item_id":""}"#, "g", "i", true),
            (#"{"stream_name":"s","group_id":"","item_id":""}"#, "g", nil, true),
            (#"{"stream_name":"s","group_id":"g"}"#, "g", "i", true),
            (#"{"stream_name":"s","group_id":"g"}"#, "g", nil, true),
            (#"{"stream_name":"s","group_id":"g"}"#, "h", "i", false),
            (#"{"stream_name":"s","group_id":"g"}"#, "", "i", false),
            (#"{"stream_name":"s","item_id":"i"}"#, "g", "i", true),
            (#"{"stream_name":"s","item_id":"i"}"#, "g", "j", false),
            (#"{"stream_name":"s","item_id":"i"}"#, "g", "", false),
            (#"{"stream_name":"s","item_id":"i"}"#, "g", nil, false),
            (#"{"stream_name":"s","group_id":"g","item_id":"i"}"#, "g", "i", true),
            (#"{"stream_name":"s","group_id":"g","item_id":"i"}"#, "h", "i", false),
            ("{\"stream_name\":\"s\",\"item_id\":\"\u{E9}\"}", "g", "e\u{301}", false),
        ] as [(String, String, String?, Bool)])
    func matches(config: String, group: String, item: String?, expected: Bool) throws {
        var registry = TriggerRegistry()
        _ = try registry.register(
            TriggerRegistration(
                id: "t", triggerType: "stream", functionID: "f", config: text(config)),
            by: connectionID(1))
        let called = registry.triggers(onChangeOf: "s", group: group, item: item)
        #expect(called.count == (expected ? 1 : 0))
    }
}
