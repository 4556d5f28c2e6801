import StreamFunctions
import StreamModel
import Testing

private func text(_ string: String) -> JSONText {
    JSONText(validated: Array(string.utf8))
}

@Suite("Ids of overrides")
struct StreamOverrideTests {
    @Test(
        "an override is named by its operation and its stream, whatever characters that has",
        arguments: [
            ("stream::set(todo)", StreamOperation.set, "todo"),
            ("stream::get(todo)", .get, "todo"),
            ("stream::delete(todo)", .delete, "todo"),
            ("stream::list(todo)", .list, "todo"),
            ("stream::list_groups(todo)", .listGroups, "todo"),
            ("stream::update(todo)", .update, "todo"),
            ("stream::set()", .set, ""),
            ("stream::set(a(b)c)", .set, "a(b)c"),
            ("stream::set())", .set, ")"),
            ("stream::set(()", .set, "("),
            ("stream::set(()())", .set, "()()"),
            ("stream::set(a::b )", .set, "a::b "),
            ("stream::set(\u{301}\u{1F600})", .set, "\u{301}\u{1F600}"),
        ])
    func parse(id: String, operation: StreamOperation, stream: String) throws {
        let override = try #require(StreamOverride(functionID: id))
        #expect(override.operation == operation)
        #expect(Name(override.streamName) == Name(stream))
        #expect(Name(override.functionID) == Name(id))
    }

    @Test(
        "other ids take nothing over; list_all and send cannot be taken over",
        arguments: [
            "", "stream::set", "stream::set(", "stream::set)", "stream::set(todo) ",
            "stream::set (todo)",
            "stream::list_all(todo)", "stream::send(todo)", "stream::(todo)", "stream::Set(todo)",
            "Stream::set(todo)", " stream::set(todo)", "stream:set(todo)", "set(todo)", "stream::",
            "stream::(",
            "p::stream::set(todo)", "stream::set\u{301}(todo)",
        ])
    func none(id: String) {
        #expect(StreamOverride(functionID: id) == nil)
    }
}

/// The rows of the failure table of overrides, and what a good answer comes to.
@Suite("Results of overrides")
struct OverrideResultTests {
    private static let boom = InvocationError(
        code: "invocation_failed", message: "boom", stacktrace: "line 1")

    private func success(_ operation: StreamOperation, _ result: String?) -> OverrideResult {
        OverrideResult(of: operation, .success(result.map(text)))
    }

    // MARK: A function error

    @Test(
        "function error, set/delete/update: the code and words of the operation, and no stack trace",
        arguments: [
            (StreamOperation.set, "STREAM_SET_ERROR", "Failed to set value: boom"),
            (.delete, "STREAM_DELETE_ERROR", "Failed to delete value: boom"),
            (.update, "STREAM_UPDATE_ERROR", "Failed to update value: boom"),
        ])
    func writeFailure(operation: StreamOperation, code: String, message: String) {
        let result = OverrideResult(of: operation, .failure(Self.boom))
        #expect(result.answer == .failure(InvocationError(code: code, message: message)))
        #expect(result.change == nil)
    }

    @Test(
        "function error, get/list/list_groups: the function's own error, verbatim",
        arguments: [StreamOperation.get, .list, .listGroups])
    func readFailure(operation: StreamOperation) {
        let result = OverrideResult(of: operation, .failure(Self.boom))
        #expect(result.answer == .failure(Self.boom))
        #expect(result.change == nil)
    }

    @Test("a timeout is a function error", arguments: [StreamOperation.set, .delete, .update])
    func timeout(operation: StreamOperation) {
        guard case .failure(let error) = OverrideResult(of: operation, .timeout).answer else {
            Issue.record("no failure")
            return
        }
        #expect(error.code == "STREAM_\(operation.rawValue.uppercased())_ERROR")
        #expect(error.message == "Failed to \(operation.rawValue) value: Invocation timed out")
    }

    // MARK: No result

    @Test(
        "null / no result, set/delete/update: the function returned no result",
        arguments: [
            (StreamOperation.set, "STREAM_SET_ERROR", "Failed to set value"),
            (.delete, "STREAM_DELETE_ERROR", "Failed to delete value"),
            (.update, "STREAM_UPDATE_ERROR", "Failed to update value"),
        ])
    func writeNothing(operation: StreamOperation, code: String, prefix: String) {
        let result = success(operation, nil)
        let error = InvocationError(code: code, message: "\(prefix): Function returned no result")
        #expect(result.answer == .failure(error))
        #expect(result.change == nil)
    }

    @Test(
        "null / no result, get/list/list_groups: success without a result",
        arguments: [StreamOperation.get, .list, .listGroups])
    func readNothing(operation: StreamOperation) {
        #expect(success(operation, nil).answer == .success(nil))
    }

    // MARK: A wrong shape

    @Test(
        "wrong shape, set/delete/update: JSON_ERROR",
        arguments: [
            (StreamOperation.set, "5", "invalid type: integer `5`, expected struct SetResult"),
            (.set, "\"x\"", "invalid type: string \"x\", expected struct SetResult"),
            (.set, "[]", "invalid type: sequence, expected struct SetResult"),
            (.set, "{}", "missing field `new_value`"),
            (.set, #"{"old_value":1}"#, "missing field `new_value`"),
            (.delete, "true", "invalid type: boolean `true`, expected struct DeleteResult"),
            (.delete, "1.5", "invalid type: floating point `1.5`, expected struct DeleteResult"),
            (.update, "5", "invalid type: integer `5`, expected struct UpdateResult"),
            (.update, "{}", "missing field `new_value`"),
            (.update, #"{"new_value":1,"errors":{}}"#, "invalid type: map, expected a sequence"),
            (
                .update, #"{"new_value":1,"errors":5}"#,
                "invalid type: integer `5`, expected a sequence"
            ),
        ])
    func wrongShape(operation: StreamOperation, answer: String, reason: String) {
        let result = success(operation, answer)
        let message = "Failed to convert result to value: \(reason)"
        #expect(result.answer == .failure(InvocationError(code: "JSON_ERROR", message: message)))
        #expect(result.change == nil)
    }

    @Test(
        "wrong shape, get/list/list_groups: not checked",
        arguments: [StreamOperation.get, .list, .listGroups],
        ["5", "\"x\"", "{}", "[1, 2]", "false"])
    func anyShape(operation: StreamOperation, answer: String) {
        let result = success(operation, answer)
        #expect(result.answer == .success(text(answer)))
        #expect(result.change == nil)
    }

    // MARK: Success

    @Test(
        "set and update answer both values, and say create without an old value, else update",
        arguments: [StreamOperation.set, .update],
        [
            (
                #"{"new_value":2}"#, #"{"old_value":null,"new_value":2}"#,
                OverrideChange.create(text("2"))
            ),
            (
                #"{"new_value":2,"old_value":null}"#, #"{"old_value":null,"new_value":2}"#,
                .create(text("2"))
            ),
            (#"{"new_value":null}"#, #"{"old_value":null,"new_value":null}"#, .create(.null)),
            (
                #"{"old_value":1,"new_value":2,"x":3}"#, #"{"old_value":1,"new_value":2}"#,
                .update(text("2"))
            ),
            (
                #"{"old_value":false,"new_value":{"a":[1]}}"#,
                #"{"old_value":false,"new_value":{"a":[1]}}"#,
                .update(text(#"{"a":[1]}"#))
            ),
        ] as [(String, String, OverrideChange)])
    func write(operation: StreamOperation, row: (String, String, OverrideChange)) {
        let result = success(operation, row.0)
        #expect(result.answer == .success(text(row.1)))
        #expect(result.change == row.2)
    }

    @Test(
        "delete answers the old value, and says delete only if there was one",
        arguments: [
            ("{}", #"{"old_value":null}"#, nil),
            (#"{"old_value":null}"#, #"{"old_value":null}"#, nil),
            (
                #"{"old_value":0,"new_value":1}"#, #"{"old_value":0}"#,
                OverrideChange.delete(text("0"))
            ),
        ])
    func delete(answer: String, expected: String, change: OverrideChange?) {
        let result = success(.delete, answer)
        #expect(result.answer == .success(text(expected)))
        #expect(result.change == change)
    }

    @Test(
        "the errors of an update are passed on unless there are none",
        arguments: [
            ("[]", ""), ("[ ]", ""), (#"[{"code":"c"}]"#, #","errors":[{"code":"c"}]"#),
            ("[[]]", #","errors":[[]]"#),
        ])
    func updateErrors(errors: String, expected: String) {
        #expect(
            success(.update, "{\"new_value\":1,\"errors\":\(errors)}").answer
                == .success(text("{\"old_value\":null,\"new_value\":1\(expected)}")))
    }

    @Test("the errors of a set are nobody's business") func setErrors() {
        #expect(
            success(.set, #"{"new_value":1,"errors":[1]}"#).answer
                == .success(text(#"{"old_value":null,"new_value":1}"#)))
    }
}
