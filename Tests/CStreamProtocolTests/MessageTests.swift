import CStreamProtocol
import Testing

/// Makes a message of `text`; nil with the name of the field that is wrong.
private func make(
    _ type: MessageType, _ text: String, caller: String = "", account: TestAccount? = nil
) -> (message: Message?, why: String?) {
    let scan = Scan(text), caller = Text(caller)
    var why: UnsafePointer<CChar>?
    let made = sc_message_make(
        type, scan.text.bytes, scan.index, caller.bytes, account?.account, &why)
    return (Message(ifMade: made), why.map { String(cString: $0) })
}

private let malformed = #"{"code":"invalid_message","message":"the worker's result is malformed"}"#

@Suite("Messages for the control plane")
struct MessageTests {
    /// Each type with what it must have, and one member that it may have.
    static let types: [(MessageType, [String], String?)] = [
        (SC_MESSAGE_REGISTER_FUNCTION, ["id"], "description"),
        (SC_MESSAGE_UNREGISTER_FUNCTION, ["id"], nil),
        (SC_MESSAGE_REGISTER_TRIGGER_TYPE, ["id", "description"], nil),
        (SC_MESSAGE_UNREGISTER_TRIGGER_TYPE, ["id"], nil),
        (SC_MESSAGE_REGISTER_TRIGGER, ["id", "trigger_type", "function_id"], nil),
        (SC_MESSAGE_UNREGISTER_TRIGGER, ["id"], "trigger_type"),
        (SC_MESSAGE_TRIGGER_REGISTRATION_RESULT, ["id", "trigger_type", "function_id"], nil),
        (SC_MESSAGE_REGISTER_SERVICE, ["id"], nil),
        (SC_MESSAGE_INVOKE, ["function_id"], "invocation_id"),
        (SC_MESSAGE_REATTACH, ["previous_worker_id"], "reattach_token"),
    ]

    private func object(_ members: [String: String]) -> String {
        "{" + members.map { #""\#($0)":\#($1)"# }.sorted().joined(separator: ",") + "}"
    }

    @Test("what a type must have is a string; the field that is not is named", arguments: types)
    func required(type: MessageType, names: [String], optional: String?) {
        let good = Dictionary(uniqueKeysWithValues: names.map { ($0, #""x""#) })
        #expect(make(type, object(good)).message != nil)
        for name in names {
            for value in [nil, "null", "1", "{}", "[]", "true"] as [String?] {
                var members = good
                members[name] = value
                let made = make(type, object(members))
                #expect(made.message == nil && made.why == name)
            }
        }
        guard let optional else { return }
        for (value, fits) in [("null", true), (#""y""#, true), ("1", false), ("{}", false)] {
            var members = good
            members[optional] = value
            let made = make(type, object(members))
            #expect((made.message != nil) == fits)
            #expect(fits || made.why == optional)
        }
    }

    @Test("fields are as written, and those that are null are not there")
    func fields() throws {
        let message = try #require(
            make(
                SC_MESSAGE_REGISTER_FUNCTION,
                #"{"id":"\u0061","description":null,"request_format":{ "a" : 1 },"metadata":null}"#
            ).message)
        #expect(sc_message_type(message.handle) == SC_MESSAGE_REGISTER_FUNCTION)
        #expect(message[SC_FIELD_ID] == #""\u0061""#)
        #expect(message[SC_FIELD_DESCRIPTION] == nil && message[SC_FIELD_METADATA] == nil)
        #expect(message[SC_FIELD_REQUEST_FORMAT] == #"{ "a" : 1 }"#)
        var decoded = [UInt8](repeating: 0, count: 8)
        #expect(sc_message_string(message.handle, SC_FIELD_ID, &decoded) == 1 && decoded[0] == 0x61)
    }

    @Test(
        "a value that is null, or not there, is the text null", arguments: [#","config":null"#, ""])
    func nullValue(config: String) throws {
        let text = #"{"id":"1","trigger_type":"t","function_id":"f"\#(config)}"#
        let message = try #require(make(SC_MESSAGE_REGISTER_TRIGGER, text).message)
        #expect(message[SC_FIELD_CONFIG] == "null")
        let invoke = try #require(make(SC_MESSAGE_INVOKE, #"{"function_id":"f"}"#).message)
        #expect(invoke.data == "null")
    }

    @Test("the text is a copy")
    func copy() throws {
        let text = #"{"function_id":"f","data":[1]}"#
        let message = try #require(make(SC_MESSAGE_INVOKE, text).message)
        #expect(string(sc_message_text(message.handle)) == text && message.data == "[1]")
        let other = try #require(make(SC_MESSAGE_INVOKE, text).message)
        #expect(sc_message_text(message.handle).data != sc_message_text(other.handle).data)
    }

    @Test(
        "a call that nobody waits for is void",
        arguments: [
            (#"{"function_id":"f"}"#, false, true),
            (#"{"function_id":"f","invocation_id":null}"#, false, true),
            (#"{"function_id":"f","invocation_id":"1"}"#, false, false),
            (#"{"function_id":"f","invocation_id":"1"}"#, true, true),
        ])
    func void(text: String, isVoid: Bool, expected: Bool) throws {
        let message = try #require(make(SC_MESSAGE_INVOKE, text).message)
        sc_message_set_action(message.handle, isVoid, !isVoid)
        #expect(sc_message_is_void(message.handle) == expected)
        #expect(sc_message_is_enqueue(message.handle) == !isVoid)
    }

    // ---- Results

    @Test("a result has a value, an error, or neither")
    func results() throws {
        let value = try #require(
            make(SC_MESSAGE_RESULT, #"{"invocation_id":"1","function_id":"f","result":[ 1 ]}"#)
                .message)
        #expect(value[SC_FIELD_RESULT] == "[ 1 ]" && value[SC_FIELD_ERROR] == nil)
        let error = try #require(
            make(
                SC_MESSAGE_RESULT,
                #"{"invocation_id":"1","function_id":"f","error":{"code":"c","message":"m","stacktrace":"s","x":1}}"#
            ).message)
        #expect(error[SC_FIELD_ERROR] == #"{"code":"c","message":"m","stacktrace":"s","x":1}"#)
        #expect(error[SC_FIELD_ERROR_CODE] == #""c""# && error[SC_FIELD_ERROR_MESSAGE] == #""m""#)
        #expect(error[SC_FIELD_ERROR_STACKTRACE] == #""s""#)
        let none = try #require(
            make(SC_MESSAGE_RESULT, #"{"invocation_id":"1","function_id":"f","error":null}"#)
                .message)
        #expect(none[SC_FIELD_RESULT] == nil && none[SC_FIELD_ERROR] == nil)
    }

    @Test(
        "a result that is malformed but names its call ends it with an error",
        arguments: [
            #"{"invocation_id":"1"}"#, #"{"invocation_id":"1","function_id":1}"#,
            #"{"invocation_id":"1","function_id":"f","error":1}"#,
            #"{"invocation_id":"1","function_id":"f","error":{}}"#,
            #"{"invocation_id":"1","function_id":"f","error":{"code":1,"message":"m"}}"#,
            #"{"invocation_id":"1","function_id":"f","error":{"code":"c"}}"#,
            #"{"invocation_id":"1","function_id":"f","error":{"code":"c","message":"m","stacktrace":1}}"#,
            #"{"invocation_id":"1","function_id":"f","traceparent":1}"#,
        ])
    func malformedResult(text: String) throws {
        let message = try #require(make(SC_MESSAGE_RESULT, text).message)
        #expect(message[SC_FIELD_ERROR] == malformed)
        #expect(message[SC_FIELD_INVOCATION_ID] == #""1""#)
    }

    @Test(
        "a result that names no call is none",
        arguments: ["{}", #"{"invocation_id":1,"function_id":"f"}"#])
    func namelessResult(text: String) {
        let made = make(SC_MESSAGE_RESULT, text)
        #expect(made.message == nil && made.why == "invocation_id")
    }

    @Test("a broken result says nothing but that")
    func setMalformed() throws {
        let message = try #require(
            make(
                SC_MESSAGE_RESULT,
                #"{"invocation_id":"1","function_id":"f","error":{"code":"c","message":"m","stacktrace":"s"}}"#
            ).message)
        sc_message_set_malformed(message.handle)
        #expect(message[SC_FIELD_ERROR] == malformed)
        for field in [SC_FIELD_ERROR_CODE, SC_FIELD_ERROR_MESSAGE, SC_FIELD_ERROR_STACKTRACE] {
            #expect(message[field] == nil)
        }
    }

    // ---- The data of a call

    private func data(_ data: String, caller: String) throws -> String {
        let message = try #require(
            make(SC_MESSAGE_INVOKE, #"{"function_id":"f","data":\#(data)}"#, caller: caller).message
        )
        var scratch = sc_buffer()
        defer { sc_buffer_deinit(&scratch) }
        return parts { sc_message_data_parts(message.handle, &scratch, $0) }
    }

    @Test(
        "the caller's id is added to an object, in place of one that it wrote itself",
        arguments: [
            ("{}", #"{"_caller_worker_id":"w"}"#),
            (#"{"a":1}"#, #"{"a":1,"_caller_worker_id":"w"}"#),
            (#"{"_caller_worker_id":"x"}"#, #"{"_caller_worker_id":"w"}"#),
            (
                #"{"_caller_worker_id":1,"a":[2],"_caller\u005fworker_id":{}}"#,
                #"{"a":[2],"_caller_worker_id":"w"}"#
            ),
            (
                #"{"a":1,"_caller_worker_id":"x","b":"y"}"#,
                #"{"a":1,"b":"y","_caller_worker_id":"w"}"#
            ),
            (
                #"{"a":{"_caller_worker_id":1}}"#,
                #"{"a":{"_caller_worker_id":1},"_caller_worker_id":"w"}"#
            ),
        ])
    func caller(text: String, expected: String) throws {
        #expect(try data(text, caller: "w") == expected)
    }

    @Test("data that is no object is as it was", arguments: ["null", "[]", #""x""#, "1"])
    func otherData(text: String) throws {
        #expect(try data(text, caller: "w") == text)
    }

    @Test("without a caller nothing is added")
    func nobody() throws { #expect(try data(#"{"a":1}"#, caller: "") == #"{"a":1}"#) }

    // ---- Accounts

    @Test(
        "a message is charged until it is dealt with",
        arguments: [(SC_MESSAGE_INVOKE, SC_PLACE_MESSAGES), (SC_MESSAGE_RESULT, SC_PLACE_RESULTS)])
    func account(type: MessageType, place: sc_place) throws {
        let account = try TestAccount()
        let text = #"{"invocation_id":"1","function_id":"f"}"#
        do {
            let message = try #require(make(type, text, account: account).message)
            #expect(account.bytes(place) > UInt64(text.utf8.count))
            sc_message_retain(message.handle)
            sc_message_settle(message.handle)
            #expect(account.bytes(place) == 0, "though somebody holds it still")
            sc_message_release(message.handle)
        }
        #expect(account.bytes(place) == 0)
        do { #expect(make(type, text, account: account).message != nil) }
        #expect(account.bytes(place) == 0, "the last reference settles")
    }
}
