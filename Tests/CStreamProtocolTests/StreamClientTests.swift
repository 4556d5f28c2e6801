import CStreamProtocol
import Testing

/// One message of a stream client, with the text that it borrows from.
private final class ClientMessage {
    let scan: Scan
    let message: UnsafeMutablePointer<sc_client_message>
    let problem: String?

    init(_ text: String) {
        scan = Scan(text)
        message = .allocate(capacity: 1)
        problem = sc_client_message_read(message, scan.index).map { String(cString: $0) }
    }

    deinit { message.deallocate() }

    var names: [String?] {
        [
            message.pointee.subscription_id, message.pointee.stream, message.pointee.group,
            message.pointee.item,
        ]
        .map(stringOrNil)
    }
}

private let nameSizeMax = Int(SC_NAME_SIZE_MAX)

@Suite("A message of a stream client")
struct ClientMessageTests {
    @Test("a join names a group, or an item of it")
    func join() {
        let group = ClientMessage(
            #"{"type":"join","data":{"subscriptionId":"1","streamName":"s","groupId":"g"}}"#)
        #expect(group.problem == nil && group.message.pointee.is_join)
        #expect(group.names == ["1", "s", "g", nil] && !group.message.pointee.has_item)
        let item = ClientMessage(
            #"{"data":{"id":"","groupId":"g","streamName":"s","subscriptionId":"1","x":{}},"type":"join"}"#
        )
        #expect(item.problem == nil)
        #expect(item.names == ["1", "s", "g", ""] && item.message.pointee.has_item)
    }

    @Test("a leave says enough with its subscription")
    func leave() {
        let leave = ClientMessage(#"{"type":"leave","data":{"subscriptionId":"1"}}"#)
        #expect(leave.problem == nil && !leave.message.pointee.is_join)
        #expect(leave.names == ["1", nil, nil, nil])
    }

    @Test("keys, type and names may be written with escapes")
    func escapes() {
        let join = ClientMessage(
            #"{"typ\u0065":"j\u006fin","d\u0061ta":{"subscriptionId":"\u0031","streamName":"\n","groupId":"\ud83d\ude00","id":"\\"}}"#
        )
        #expect(join.problem == nil && join.names == ["1", "\n", "😀", "\\"])
    }

    @Test("null is not there")
    func null() {
        let join = ClientMessage(
            #"{"type":"join","data":{"subscriptionId":"1","streamName":"s","groupId":"g","id":null}}"#
        )
        #expect(join.problem == nil && !join.message.pointee.has_item)
    }

    @Test(
        "what is wrong is said in words",
        arguments: [
            ("[]", "the message is no object"), ("{}", "`type` is missing"),
            (#"{"type":1}"#, "`type` is no string"),
            (#"{"type":"Join"}"#, "`type` is neither join nor leave"),
            (#"{"type":"join"}"#, "`data` is missing"),
            (#"{"type":"join","data":[]}"#, "`data` is no object"),
            (#"{"type":"join","data":{}}"#, "`data.subscriptionId` is missing"),
            (
                #"{"type":"leave","data":{"subscriptionId":null}}"#,
                "`data.subscriptionId` is missing"
            ),
            (#"{"type":"join","data":{"subscriptionId":1}}"#, "`data.subscriptionId` is no string"),
            (#"{"type":"join","data":{"subscriptionId":"1"}}"#, "`data.streamName` is missing"),
            (
                #"{"type":"join","data":{"subscriptionId":"1","streamName":"s"}}"#,
                "`data.groupId` is missing"
            ),
            (
                #"{"type":"join","data":{"subscriptionId":"1","streamName":"s","groupId":"g","id":[]}}"#,
                "`data.id` is no string"
            ),
            (
                #"{"type":"leave","data":{"subscriptionId":"1","streamName":1}}"#,
                "`data.streamName` is no string"
            ),
        ])
    func problems(text: String, problem: String) {
        #expect(ClientMessage(text).problem == problem)
    }

    /// A leave's names count, too: nothing larger than a name is ever copied.
    @Test("a name has at most 256 bytes", arguments: ["n", #"\u006e"#, #"\n"#], ["join", "leave"])
    func nameSize(spelling: String, type: String) {
        let keys = ["subscriptionId", "streamName", "groupId", "id"]
        for key in keys {
            func message(_ count: Int) -> ClientMessage {
                let members = keys.map {
                    #""\#($0)":"\#($0 == key ? String(repeating: spelling, count: count) : "x")""#
                }
                return ClientMessage(
                    #"{"type":"\#(type)","data":{\#(members.joined(separator: ","))}}"#)
            }
            #expect(message(nameSizeMax).problem == nil)
            #expect(message(nameSizeMax + 1).problem == "`data.\(key)` is longer than 256 bytes")
            #expect(
                message(6 * nameSizeMax + 1).problem == "`data.\(key)` is longer than 256 bytes")
        }
    }

    @Test("a message with more members than an index holds is refused when data is behind them")
    func overflow() {
        let many = (0..<Int(SC_JSON_INDEX_MEMBERS_MAX)).map { #""k\#($0)":0"# }.joined(
            separator: ",")
        #expect(
            ClientMessage(#"{\#(many),"type":"join","data":{"subscriptionId":"1"}}"#).problem
                == "the message has too many members")
        let inside = ClientMessage(
            #"{"type":"join","data":{\#(many),"subscriptionId":"1","streamName":"s","groupId":"g"}}"#
        )
        #expect(inside.problem == nil || inside.problem == "the message has too many members")
    }
}

@Suite("The path of a stream client")
struct StreamPathTests {
    private func read(_ path: String) -> (status: Int32, parts: [String], path: sc_stream_path) {
        var out = sc_stream_path()
        memset(&out, 0xAA, MemoryLayout<sc_stream_path>.size)
        let text = Text(path)
        return withUnsafeMutablePointer(to: &out) {
            let status = sc_stream_path_read(text.bytes, $0)
            guard status == 0, $0.pointee.joins else { return (status, [], $0.pointee) }
            let all =
                [$0.pointee.parts.0, $0.pointee.parts.1]
                + ($0.pointee.has_item ? [$0.pointee.parts.2] : [])
            return (status, all.map(string), $0.pointee)
        }
    }

    @Test(
        "a path joins a group or an item",
        arguments: [
            ("/", []), ("/stream/s/g", ["s", "g"]), ("/stream/s/g/", ["s", "g"]),
            ("/stream/s/g/i", ["s", "g", "i"]), ("/stream/s/g/i/", ["s", "g", "i"]),
            ("/stream/a%20b/%2F/%F0%9F%98%80", ["a b", "/", "😀"]), ("/stream/a+b/g", ["a+b", "g"]),
        ])
    func good(path: String, parts: [String]) {
        let read = read(path)
        #expect(read.status == 0 && read.parts == parts)
    }

    @Test(
        "what names nothing is 404, what is malformed 400",
        arguments: [
            ("", 404), ("*", 404), ("/s", 404), ("/stream", 404), ("/stream/", 404),
            ("/stream/s", 404),
            ("/stream/s/", 404), ("/stream//g", 404), ("/stream/s//", 404), ("/stream/s/g//", 404),
            ("/stream/s/g/i/x", 404), ("/Stream/s/g", 404), ("/stream/s/%", 400),
            ("/stream/s/%4", 400), ("/stream/s/%zz", 400), ("/stream/s/%ff", 400),
            ("/stream/%ed%a0%80/g", 400), ("/stream/s/g/%c0%80", 400),
        ] as [(String, Int32)])
    func bad(path: String, status: Int32) { #expect(read(path).status == status) }

    @Test("a name has at most 256 bytes, written with escapes or not", arguments: ["n", "%6e"])
    func nameSize(spelling: String) {
        let most = String(repeating: spelling, count: nameSizeMax)
        for path in ["/stream/\(most)/g", "/stream/s/\(most)", "/stream/s/g/\(most)"] {
            #expect(read(path).status == 0)
            #expect(read(path.replacing(most, with: most + spelling)).status == 404)
        }
    }

    @Test("a copy has names of its own")
    func copy() {
        let original = UnsafeMutablePointer<sc_stream_path>.allocate(capacity: 1)
        let copy = UnsafeMutablePointer<sc_stream_path>.allocate(capacity: 1)
        defer { copy.deallocate() }
        let text = Text("/stream/s/g/i")
        #expect(sc_stream_path_read(text.bytes, original) == 0)
        sc_stream_path_copy(copy, original)
        memset(original, 0xAA, MemoryLayout<sc_stream_path>.size)
        original.deallocate()
        #expect(copy.pointee.joins && copy.pointee.has_item)
        #expect(
            [copy.pointee.parts.0, copy.pointee.parts.1, copy.pointee.parts.2].map(string) == [
                "s", "g", "i",
            ])
    }
}
