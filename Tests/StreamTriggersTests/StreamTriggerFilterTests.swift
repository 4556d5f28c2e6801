import StreamModel
import StreamTriggers
import Testing

private func filter(_ config: String) throws -> StreamTriggerFilter {
    try StreamTriggerFilter(config: JSONText(validated: Array(config.utf8)))
}

@Suite("Configuration of a stream trigger")
struct StreamTriggerFilterTests {
    @Test("every field is read") func allFields() throws {
        let filter = try filter(
            #"{"condition_function_id":"c","item_id":"i","group_id":"g","stream_name":"s","x":[1]}"#
        )
        #expect(filter.streamName == "s")
        #expect(filter.groupID == "g")
        #expect(filter.itemID == "i")
        #expect(filter.conditionFunctionID == "c")
    }

    @Test("only the stream's name is needed; null is absent; the empty name is a name")
    func optionalFields() throws {
        let filter = try filter(#"{"stream_name":"","group_id":null,"item_id":""}"#)
        #expect(filter.streamName.isEmpty)
        #expect(filter.groupID == nil)
        #expect(filter.itemID?.isEmpty == true)
        #expect(filter.conditionFunctionID == nil)
    }

    @Test("the last of a repeated key counts") func repeated() throws {
        #expect(try filter(#"{"stream_name":5,"stream_name":"s"}"#).streamName == "s")
    }

    @Test(
        "what is not such an object is refused",
        arguments: [
            ("null", "invalid type: null, expected struct StreamTriggerConfig"),
            ("\"text\"", "invalid type: string \"text\", expected struct StreamTriggerConfig"),
            ("[]", "invalid type: sequence, expected struct StreamTriggerConfig"),
            ("{}", "missing field `stream_name`"),
            (#"{"stream_name":null}"#, "invalid type: null, expected a string"),
            (#"{"stream_name":5}"#, "invalid type: integer `5`, expected a string"),
            (#"{"stream_name":"s","group_id":1}"#, "invalid type: integer `1`, expected a string"),
            (#"{"stream_name":"s","item_id":{}}"#, "invalid type: map, expected a string"),
            (
                #"{"stream_name":"s","condition_function_id":true}"#,
                "invalid type: boolean `true`, expected a string"
            ),
        ])
    func refused(config: String, reason: String) {
        #expect(throws: JSONMismatch(reason: reason)) { try filter(config) }
    }

    @Test(
        "a name has up to 256 bytes",
        arguments: ["stream_name", "group_id", "item_id", "condition_function_id"])
    func nameSize(field: String) throws {
        let longest = String(repeating: "\u{E9}", count: 128)
        func config(_ name: String) -> String { "{\"stream_name\":\"s\",\"\(field)\":\"\(name)\"}" }
        _ = try filter(config(longest))
        #expect(throws: JSONMismatch(reason: "`\(field)` is longer than 256 bytes")) {
            try filter(config(longest + "x"))
        }
    }
}
