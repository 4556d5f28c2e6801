import CStreamProtocol
import Testing

/// An envelope with the scan that it borrows from.
private final class Envelope {
    let scan: Scan
    let pointer: UnsafeMutablePointer<sc_envelope>

    init(_ text: String) {
        scan = Scan(text)
        pointer = .allocate(capacity: 1)
        sc_envelope_read(pointer, scan.index)
    }

    deinit { pointer.deallocate() }

    func field(_ field: sc_envelope_field) -> String? {
        stringOrNil(sc_envelope_string(pointer, field))
    }

    var type: Int32 { sc_envelope_type(pointer) }
    var action: sc_action { sc_envelope_action(pointer) }
    var streamOp: Int32 { sc_envelope_stream_op(pointer) }
    var problem: String? { sc_envelope_call_check(pointer, action).map { String(cString: $0) } }
}

/// So many members that an index of them overflows.
private let manyMembers = (0..<Int(SC_JSON_INDEX_MEMBERS_MAX)).map { #""k\#($0)":0"# }
    .joined(separator: ",")

@Suite("A worker's envelope")
struct EnvelopeTests {
    static let whole = #"""
        {"type":"invokefunction","invocation_id":"1","function_id":"f","data":{"type":"no"},
         "action":null,"traceparent":"t","baggage":"b","other":1}
        """#

    private func expectWhole(_ envelope: Envelope) {
        #expect(envelope.scan.result == 0)
        #expect(envelope.type == Int32(SC_MESSAGE_INVOKE.rawValue))
        #expect(envelope.field(SC_ENVELOPE_INVOCATION_ID) == #""1""#)
        #expect(envelope.field(SC_ENVELOPE_FUNCTION_ID) == #""f""#)
        #expect(envelope.field(SC_ENVELOPE_TRACEPARENT) == #""t""#)
        #expect(envelope.field(SC_ENVELOPE_BAGGAGE) == #""b""#)
        #expect(envelope.field(SC_ENVELOPE_DATA) == nil, "an object is no string")
        #expect(envelope.problem == nil)
    }

    @Test("all fields are found, those of members are not mixed with them")
    func fields() { expectWhole(Envelope(Self.whole)) }

    @Test("a key may be written with escapes")
    func escapes() {
        expectWhole(
            Envelope(
                Self.whole.replacing(#""type":"i"#, with: #""t\u0079pe":"i"#)
                    .replacing("invocation_id", with: #"invocation\u005fid"#)
                    .replacing("function_id", with: #"\u0066unction_id"#)
                    .replacing("traceparent", with: #"traceparen\u0074"#)
                    .replacing("baggage", with: #"ba\u0067gage"#)))
    }

    @Test("fields are found behind more members than an index holds")
    func overflow() {
        let envelope = Envelope(
            "{\(manyMembers)," + Self.whole.trimmingPrefix { $0 != "{" }.dropFirst())
        #expect(envelope.scan.index.pointee.overflow)
        expectWhole(envelope)
    }

    @Test("of several members with one key the last counts")
    func duplicates() {
        let envelope = Envelope(
            #"{"type":"ping","type":"pong","invocation_id":"1","invocation_id":2}"#)
        #expect(envelope.type == Int32(SC_TYPE_IGNORED))
        #expect(envelope.field(SC_ENVELOPE_INVOCATION_ID) == nil)
    }

    /// Decision 14: such a message is answered when it has said which call it is.
    @Test("fields before an error are kept", arguments: ["[", #"{"a":nul"#, #""\ud800""#, "\u{1}"])
    func broken(rest: String) {
        let envelope = Envelope(#"{"invocation_id":"7","function_id":"f","data":"# + rest)
        #expect(envelope.scan.result < 0)
        #expect(envelope.field(SC_ENVELOPE_INVOCATION_ID) == #""7""#)
        #expect(envelope.field(SC_ENVELOPE_FUNCTION_ID) == #""f""#)
    }

    @Test(
        "a text that is no object has no fields", arguments: ["[1]", "null", #""type""#, "", "}"])
    func noObject(text: String) {
        let envelope = Envelope(text)
        #expect(envelope.type == -1)
        #expect(envelope.field(SC_ENVELOPE_FUNCTION_ID) == nil)
    }

    @Test(
        "each type of message is known",
        arguments: [
            ("invokefunction", SC_MESSAGE_INVOKE.rawValue),
            ("invocationresult", SC_MESSAGE_RESULT.rawValue),
            ("ping", UInt32(SC_TYPE_PING)), ("pong", UInt32(SC_TYPE_IGNORED)),
            ("registerfunction", SC_MESSAGE_REGISTER_FUNCTION.rawValue),
            ("unregisterfunction", SC_MESSAGE_UNREGISTER_FUNCTION.rawValue),
            ("registertrigger", SC_MESSAGE_REGISTER_TRIGGER.rawValue),
            ("unregistertrigger", SC_MESSAGE_UNREGISTER_TRIGGER.rawValue),
            ("registertriggertype", SC_MESSAGE_REGISTER_TRIGGER_TYPE.rawValue),
            ("unregistertriggertype", SC_MESSAGE_UNREGISTER_TRIGGER_TYPE.rawValue),
            (
                "triggerregistrationresult", SC_MESSAGE_TRIGGER_REGISTRATION_RESULT.rawValue
            ),
            ("registerservice", SC_MESSAGE_REGISTER_SERVICE.rawValue),
            ("workerregistered", UInt32(SC_TYPE_IGNORED)),
            ("reattach", SC_MESSAGE_REATTACH.rawValue), ("observe", UInt32(SC_TYPE_IGNORED)),
            (#"p\u0069ng"#, UInt32(SC_TYPE_PING)),
        ] as [(String, UInt32)])
    func types(name: String, type: UInt32) {
        #expect(Envelope(#"{"type":"\#(name)"}"#).type == Int32(type))
    }

    @Test(
        "anything else is none",
        arguments: [#""""#, #""pin""#, #""ping ""#, #""Ping""#, "1", "null", #"["ping"]"#])
    func unknownType(value: String) {
        #expect(Envelope(#"{"type":\#(value)}"#).type == -1)
    }

    @Test(
        "an action is read with its queue",
        arguments: [
            ("null", SC_ACTION_CALL), (#"{"type":"void"}"#, SC_ACTION_VOID),
            (#"{"type":"enqueue","queue":"q"}"#, SC_ACTION_ENQUEUE),
            (#"{"queue":"q","type":"enqueue"}"#, SC_ACTION_ENQUEUE),
            (#"{"t\u0079pe":"v\u006fid"}"#, SC_ACTION_VOID),
            (#"{"type":"void","type":"enqueue","queue":""}"#, SC_ACTION_ENQUEUE),
            (#"{"type":"enqueue","queue":"q","type":"void"}"#, SC_ACTION_VOID),
            (#"{"type":"enqueue"}"#, SC_ACTION_INVALID),
            (#"{"type":"enqueue","queue":1}"#, SC_ACTION_INVALID),
            (#"{"type":"enqueue","queue":"q","queue":null}"#, SC_ACTION_INVALID),
            (#"{"type":"other"}"#, SC_ACTION_INVALID), (#"{"type":1}"#, SC_ACTION_INVALID),
            (#"{"type":"void","type":1}"#, SC_ACTION_INVALID), ("{}", SC_ACTION_INVALID),
            (#""void""#, SC_ACTION_INVALID), ("[]", SC_ACTION_INVALID), ("1", SC_ACTION_INVALID),
        ] as [(String, sc_action)])
    func action(text: String, expected: sc_action) {
        #expect(Envelope(#"{"action":\#(text)}"#).action == expected)
    }

    @Test("a message without an action is a call")
    func noAction() { #expect(Envelope("{}").action == SC_ACTION_CALL) }

    @Test(
        "a stream function is known by its id",
        arguments: [
            (#""stream::set""#, Int32(SC_CALL_SET.rawValue)),
            (#""stream\u003a:list_all""#, Int32(SC_CALL_LIST_ALL.rawValue)),
            (#""\u0073\u0074\u0072\u0065\u0061\u006d::get""#, Int32(SC_CALL_GET.rawValue)),
            (#""stream::set(room)""#, -1), (#""stream::""#, -1), (#""stream::SET""#, -1),
            (#""x""#, -1), ("null", -1), ("1", -1),
            ("\"" + String(repeating: #"\u0041"#, count: 64) + "\"", -1),
            ("\"" + String(repeating: #"\u0041"#, count: 65) + "\"", -1),
        ] as [(String, Int32)])
    func streamOp(id: String, op: Int32) {
        #expect(Envelope(#"{"function_id":\#(id)}"#).streamOp == op)
    }

    @Test(
        "a call's fields are strings, or not there",
        arguments: [
            (#""function_id":"f""#, nil),
            (#""function_id":"f","invocation_id":null,"traceparent":null,"baggage":null"#, nil),
            (#""invocation_id":"1""#, "missing or of the wrong type: function_id"),
            (#""function_id":1"#, "missing or of the wrong type: function_id"),
            (#""function_id":"f","action":{}"#, "unknown action"),
            (
                #""function_id":"f","invocation_id":1"#,
                "an id or the trace context is not a string"
            ),
            (
                #""function_id":"f","traceparent":{}"#,
                "an id or the trace context is not a string"
            ),
            (#""function_id":"f","baggage":[]"#, "an id or the trace context is not a string"),
        ] as [(String, String?)])
    func callCheck(fields: String, problem: String?) {
        #expect(Envelope("{\(fields)}").problem == problem)
    }

    @Test(
        "the id of a call has at most 1,024 bytes, unless nobody waits for it",
        arguments: ["x", #"\u0078"#])
    func idSize(spelling: String) {
        func call(_ count: Int, _ action: String = "") -> Envelope {
            let id = String(repeating: spelling, count: count)
            return Envelope(#"{"function_id":"f","invocation_id":"\#(id)"\#(action)}"#)
        }
        let most = Int(SC_INVOCATION_ID_SIZE_MAX)
        #expect(call(most).problem == nil)
        #expect(call(most + 1).problem == "invocation_id is longer than 1024 bytes")
        #expect(call(most + 1, #","action":{"type":"void"}"#).problem == nil)
    }
}

@Suite("Messages without an envelope")
struct OtherMessageTests {
    @Test(
        "only JSON's white space is blank",
        arguments: [
            ("", true), (" ", true), (" \t\r\n ", true), ("\u{b}", false), ("\0", false),
            (" x", false), ("\u{a0}", false), ("\u{7f}", false),
        ])
    func blank(text: String, expected: Bool) {
        #expect(sc_text_is_blank(Text(text).bytes) == expected)
    }

    @Test(
        "telemetry begins with four letters",
        arguments: [
            ("LOGS", SC_TELEMETRY_LOGS), ("LOGS{}", SC_TELEMETRY_LOGS),
            ("OTLP{}", SC_TELEMETRY_OTHER), ("MTRC", SC_TELEMETRY_OTHER),
            ("LOG", SC_TELEMETRY_NONE), ("", SC_TELEMETRY_NONE), ("logs{}", SC_TELEMETRY_NONE),
            ("LOGX", SC_TELEMETRY_NONE), ("{\"type\"", SC_TELEMETRY_NONE),
        ])
    func telemetry(text: String, expected: sc_telemetry) {
        #expect(sc_telemetry_kind(Text(text).bytes) == expected)
    }
}
