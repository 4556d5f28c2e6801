import CStreamProtocol
import Testing

/// What an answer repeats, with the texts that it borrows.
private struct Echo {
    let invocation, function: Text
    let trace, baggage: Text?

    init(
        _ invocation: String = #""1""#, _ function: String = #""f""#, trace: String? = nil,
        baggage: String? = nil
    ) {
        self.invocation = Text(invocation)
        self.function = Text(function)
        self.trace = trace.map(Text.init)
        self.baggage = baggage.map(Text.init)
    }

    var echo: sc_echo {
        sc_echo(
            invocation_id: invocation.bytes, function_id: function.bytes,
            traceparent: trace?.bytes ?? sc_bytes(),
            baggage: baggage?.bytes ?? sc_bytes())
    }
}

/// The macro of that name is too much for the importer.
private let shownIDSizeMax = 6 * Int(SC_NAME_SIZE_MAX) + 2

private let head = #"{"type":"invocationresult","invocation_id":"1","function_id":"f""#

@Suite("Answers")
struct AnswerTextTests {
    private func answer(_ echo: Echo, _ body: [sc_bytes]) -> String {
        var copy = echo.echo
        return parts { sc_answer_parts($0, &copy, body, body.count) }
    }

    @Test("an answer has a body and a trace context, or not")
    func answer() {
        let body = [Text(#","result":"#), Text("{}")]
        #expect(answer(Echo(), []) == head + "}")
        #expect(answer(Echo(), body.map(\.bytes)) == head + #","result":{}}"#)
        #expect(
            answer(Echo(trace: #""t""#, baggage: #""b""#), body.map(\.bytes))
                == head + #","result":{},"traceparent":"t","baggage":"b"}"#)
        #expect(answer(Echo(baggage: #""b""#), []) == head + #","baggage":"b"}"#)
    }

    @Test("in place, it is the same text", arguments: [0, 1, 15, 16, 17, 64, 65, 1000])
    func inPlace(size: Int) {
        let value = Text("\"" + String(repeating: "v", count: size) + "\"")
        let echo = Echo("\"" + String(repeating: "i", count: size) + "\"")
        var copy = echo.echo
        var body = [sc_bytes](repeating: sc_bytes(), count: 2)
        let count = sc_result_value(&body, value.bytes)
        let written = Int(sc_answer_size(&copy, body, count))
        var out = [UInt8](repeating: 0xee, count: written + 1)
        sc_answer_write(&out, &copy, body, count)
        #expect(out.last == 0xee)
        #expect(
            String(decoding: out.dropLast(), as: UTF8.self) == answer(echo, Array(body[..<count])))
    }

    @Test(
        "a change says what was, and what is unless it was a delete",
        arguments: [
            ("1", "2", "", #","result":{"old_value":1,"new_value":2}"#),
            ("null", "2", "[3]", #","result":{"old_value":null,"new_value":2,"errors":[3]}"#),
            ("1", nil, "", #","result":{"old_value":1}"#),
        ] as [(String, String?, String, String)])
    func change(old: String, new: String?, errors: String, expected: String) {
        let old = Text(old), new = new.map(Text.init), errors = Text(errors)
        var result = sc_change_result(
            old_value: old.bytes, new_value: new?.bytes ?? sc_bytes(), errors: errors.bytes)
        #expect(parts { sc_result_change($0, &result) } == expected)
    }

    @Test("an error is escaped")
    func error() {
        let message = Text("\"\n")
        #expect(
            written { sc_error_write($0, "c", message.bytes) }
                == #","error":{"code":"c","message":"\"\n"}"#)
        let error = Text("{}")
        #expect(parts { sc_error_value($0, error.bytes) } == #","error":{}"#)
    }

    @Test("bad input is said of the function as it was written")
    func input() {
        let function = Text(#"stream\u003a:set"#), reason = Text("why")
        #expect(
            written { sc_input_error_write($0, function.bytes, reason.bytes) }
                == #"Failed to deserialize input for stream\u003a:set: why"#)
    }

    @Test(
        "a function id over the size of a name is cut where a character ends",
        arguments: ["n", "é", #"\u0001"#, "😀"])
    func shownID(character: String) throws {
        func shown(_ text: String) throws -> String {
            var room = [UInt8](repeating: 0, count: shownIDSizeMax)
            let id = Text(text)
            return try room.withUnsafeMutableBufferPointer {
                string(sc_shown_id(id.bytes, try #require($0.baseAddress)))
            }
        }
        let each = character.hasPrefix("\\") ? 1 : character.utf8.count
        let most = Int(SC_NAME_SIZE_MAX) / each
        let whole = "\"" + String(repeating: character, count: most) + "\""
        #expect(try shown(whole) == whole)
        #expect(try shown(String(whole.dropLast()) + character + "\"") == whole)
        #expect(try shown(#""f""#) == #""f""#)
        var room = [UInt8](repeating: 0, count: shownIDSizeMax)
        #expect(string(sc_shown_id(sc_bytes(), &room)) == #""""#)
    }

    @Test("the id of a call over its size is cut, too", arguments: ["x", #"\u0001"#])
    func shownCallID(character: String) throws {
        let most = Int(SC_INVOCATION_ID_SIZE_MAX)
        func shown(_ count: Int) throws -> String {
            var room = [UInt8](repeating: 0, count: 6 * most + 2)
            let id = Text("\"" + String(repeating: character, count: count) + "\"")
            return try room.withUnsafeMutableBufferPointer {
                string(sc_shown_call_id(id.bytes, try #require($0.baseAddress)))
            }
        }
        let whole = "\"" + String(repeating: character, count: most) + "\""
        #expect(try shown(most) == whole && shown(most + 1) == whole && shown(3 * most) == whole)
        #expect(try shown(0) == #""""#)
        var room = [UInt8](repeating: 0, count: 6 * most + 2)
        #expect(sc_shown_call_id(sc_bytes(), &room).data == nil)
    }

    @Test("a worker is told its id")
    func registered() {
        let id = Text("w"), token = Text("t")
        #expect(
            parts { sc_registered_parts($0, id.bytes, token.bytes) }
                == #"{"type":"workerregistered","worker_id":"w","reattach_token":"t"}"#)
    }

    @Test("the node calls as a worker would")
    func nodeCall() {
        let id = Text("\""), function = Text("f"), data = Text("[1]")
        #expect(
            written { sc_node_call_write($0, id.bytes, function.bytes, data.bytes) }
                == #"{"invocation_id":"\"","function_id":"f","data":[1]}"#)
    }
}

@Suite("Calls and results between workers")
struct ForwardTests {
    private func message(_ type: MessageType, _ text: String, caller: String = "") throws
        -> Message
    {
        let scan = Scan(text), caller = Text(caller)
        var why: UnsafePointer<CChar>?
        return try Message(
            taking: sc_message_make(type, scan.text.bytes, scan.index, caller.bytes, nil, &why))
    }

    private func forwarded(_ body: (UnsafeMutablePointer<sc_forward>) -> Bool) -> String {
        let forward = UnsafeMutablePointer<sc_forward>.allocate(capacity: 1)
        defer { forward.deallocate() }
        #expect(body(forward))
        defer { sc_forward_end(forward) }
        return withUnsafePointer(to: &forward.pointee.parts) {
            joined(
                UnsafeRawPointer($0).assumingMemoryBound(to: sc_bytes.self), forward.pointee.count)
        }
    }

    @Test("a call goes on with ids of ours, its data, and its trace context")
    func call() throws {
        let id = Text("u"), function = Text("f\"")
        let plain = try message(
            SC_MESSAGE_INVOKE, #"{"invocation_id":"1","function_id":"x","data":{"a":1}}"#,
            caller: "w")
        #expect(
            forwarded { sc_forward_call($0, plain.handle, id.bytes, function.bytes) }
                == #"{"type":"invokefunction","invocation_id":"u","function_id":"f\"","data":{"a":1,"_caller_worker_id":"w"}}"#
        )
        let traced = try message(
            SC_MESSAGE_INVOKE,
            #"{"function_id":"x","traceparent":"t","baggage":"b","data":{"_caller_worker_id":0}}"#,
            caller: "w")
        #expect(
            forwarded { sc_forward_call($0, traced.handle, id.bytes, function.bytes) }
                == #"{"type":"invokefunction","invocation_id":"u","function_id":"f\"","data":{"_caller_worker_id":"w"},"traceparent":"t","baggage":"b"}"#
        )
    }

    private func result(_ body: String, trace: String? = nil, baggage: String? = nil) throws
        -> String
    {
        let message = try message(
            SC_MESSAGE_RESULT, #"{"invocation_id":"u","function_id":"x"\#(body)}"#)
        let echo = Echo(#""1""#, "f", trace: trace, baggage: baggage)
        return forwarded {
            var caller = echo.echo
            return sc_forward_result($0, message.handle, &caller)
        }
    }

    @Test(
        "a result goes back with the ids that its caller knows",
        arguments: [
            ("", "}"), (#","result":[1]"#, #","result":[1]}"#),
            (#","error":{"code":"c","message":"m"}"#, #","error":{"code":"c","message":"m"}}"#),
            (
                #","error":{"code":"c","message":"m"},"result":1"#,
                #","error":{"code":"c","message":"m"}}"#
            ),
            (#","traceparent":"t","baggage":"b""#, #","traceparent":"t","baggage":"b"}"#),
        ])
    func result(body: String, expected: String) throws {
        #expect(try result(body) == head + expected)
    }

    @Test("the trace context is the executor's, or else the caller's")
    func trace() throws {
        #expect(
            try result("", trace: "t\"", baggage: "b") == head
                + #","traceparent":"t\"","baggage":"b"}"#)
        #expect(
            try result(#","traceparent":"own","baggage":"own""#, trace: "t", baggage: "b")
                == head + #","traceparent":"own","baggage":"own"}"#)
    }

    @Test("a result that is too large becomes an error, without a trace context")
    func tooLarge() throws {
        let message = try message(
            SC_MESSAGE_RESULT, #"{"invocation_id":"u","function_id":"x","result":1,"baggage":"b"}"#)
        let echo = Echo(#""1""#, "f")
        let text = forwarded {
            var caller = echo.echo
            let made = sc_forward_result($0, message.handle, &caller)
            sc_forward_result_too_large($0)
            return made
        }
        #expect(
            text == head
                + #","error":{"code":"result_too_large","message":"the result is larger than the caller accepts"}}"#
        )
    }
}

@Suite("What stream clients are told")
struct StreamTextTests {
    private func event(_ id: String?, _ event: [Text], timestamp: UInt64 = 5) -> String {
        let prefix = Text(written { sc_stream_prefix_write($0, Text("s\"").bytes, Text("").bytes) })
        let text = UnsafeMutablePointer<sc_event_text>.allocate(capacity: 1)
        defer { text.deallocate() }
        let own = Text(id ?? "")
        var bytes = own.bytes
        let parts = event.map(\.bytes)
        return withUnsafePointer(to: &bytes) {
            sc_event_text_begin(
                text, timestamp, prefix.bytes, id == nil ? nil : $0, parts, parts.count)
            defer { sc_event_text_end(text) }
            return withUnsafePointer(to: &text.pointee.parts) {
                joined(
                    UnsafeRawPointer($0).assumingMemoryBound(to: sc_bytes.self), text.pointee.count)
            }
        }
    }

    private let start = #"{"type":"stream","timestamp":5,"streamName":"s\"","groupId":"","id":"#

    @Test("an event has an id, or null")
    func event() {
        let kind = [Text(#""unauthorized""#)]
        #expect(event("i", kind) == start + #""i","event":{"type":"unauthorized"}}"#)
        #expect(event("", kind) == start + #""","event":{"type":"unauthorized"}}"#)
        #expect(event(nil, kind) == start + #"null,"event":{"type":"unauthorized"}}"#)
        #expect(event(nil, kind, timestamp: .max).contains("18446744073709551615"))
    }

    /// Up to 256 bytes of an id, as written, have a room of their own; 254 characters and two quotes fill it.
    @Test("an id is escaped, whatever its size", arguments: [1, 253, 254, 255, 256])
    func idSize(size: Int) {
        let kind = [Text(#""x""#)]
        let plain = String(repeating: "n", count: size)
        #expect(event(plain, kind) == start + #""\#(plain)","event":{"type":"x"}}"#)
        let odd = String(repeating: "\u{1}", count: size)
        #expect(
            event(odd, kind) == start + "\"" + String(repeating: #"\u0001"#, count: size)
                + #"","event":{"type":"x"}}"#)
    }

    @Test("changes, custom events and `sync`s")
    func events() {
        let kind = Text("update"), value = Text("[1]"), type = Text(#""t""#)
        #expect(parts { sc_event_change($0, kind.bytes, value.bytes) } == #""update","data":[1]"#)
        #expect(
            parts { sc_event_custom($0, type.bytes, value.bytes) }
                == #""event","event":{"type":"t","data":[1]}"#)
        #expect(parts { sc_event_sync($0, value.bytes) } == #""sync","data":[1]"#)
    }

    @Test("a `sync` of a group is a head, an array and an end")
    func syncHead() throws {
        let prefix = Text(written { sc_stream_prefix_write($0, Text("s\"").bytes, Text("").bytes) })
        var digits = [UInt8](repeating: 0, count: 20)
        let text = try digits.withUnsafeMutableBufferPointer { digits in
            let room = try #require(digits.baseAddress)
            return parts { sc_sync_head($0, room, prefix.bytes, 5) }
        }
        #expect(text + "[]}}" == event(nil, [Text(#""sync","data":"#), Text("[]")]))
    }

    // ---- Lists of names

    private func names(_ ofOneStream: Bool, _ names: [(String, String)]) -> String {
        var text = sc_names_text()
        let kept = names.map { (Text($0.0), Text($0.1)) }
        sc_names_text_begin(&text, ofOneStream)
        for (stream, group) in kept { sc_names_text_add(&text, stream.bytes, group.bytes) }
        sc_names_text_end(&text)
        defer { sc_buffer_deinit(&text.out) }
        return string(sc_buffer_bytes(&text.out))
    }

    @Test("the groups of a stream")
    func groups() {
        #expect(names(true, []) == "[]")
        #expect(names(true, [("s", "\""), ("s", "")]) == #"["\"",""]"#)
    }

    @Test("the groups of all streams, by stream")
    func all() {
        #expect(names(false, []) == #"{"stream":[],"count":0}"#)
        #expect(names(false, [("", "")]) == #"{"stream":[{"id":"","groups":[""]}],"count":1}"#)
        #expect(
            names(false, [("a", "1"), ("a", "2"), ("b", "1"), ("bb", "\n")])
                == #"{"stream":[{"id":"a","groups":["1","2"]},{"id":"b","groups":["1"]},{"id":"bb","groups":["\n"]}],"count":3}"#
        )
    }

    // ---- Ids

    private func uuid(_ number: UInt64, _ key: [UInt64] = [1, 2]) -> String {
        var out = [UInt8](repeating: 0, count: Int(SC_UUID_SIZE))
        sc_uuid_write(&out, number, key)
        return String(decoding: out, as: UTF8.self)
    }

    @Test("an id is a UUID of version 4, the same for the same number and key")
    func uuid() {
        #expect((0..<100).map { uuid($0) } == (0..<100).map { uuid($0) })
        #expect(Set((0..<1000).map { uuid($0) }).count == 1000)
        #expect(uuid(0) != uuid(0, [1, 3]) && uuid(0) != uuid(0, [0, 2]))
        for number in [0, 1, 77, .max] as [UInt64] {
            #expect(
                uuid(number).wholeMatch(
                    of: /[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}/)
                    != nil)
        }
    }
}
