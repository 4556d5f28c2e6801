import CStreamProtocol
import Testing

/// A request head that has been parsed, with the bytes that it borrows.
final class Head {
    let text: Text
    let request: UnsafeMutablePointer<sc_http_request>

    init(target: String = "/", _ fields: [String] = []) throws {
        text = Text("GET \(target) HTTP/1.1\r\n" + fields.map { $0 + "\r\n" }.joined() + "\r\n")
        request = .allocate(capacity: 1)
        request.initialize(to: sc_http_request())
        let data = try #require(text.bytes.data)
        try #require(sc_http_request_parse(data, text.bytes.size, request) > 0)
    }

    deinit { request.deallocate() }
}

@Suite("Messages that the core makes")
struct NoticeTests {
    private func name(
        _ id: Text, _ item: UnsafePointer<sc_bytes>?, context: sc_bytes = sc_bytes(), stream: Text,
        group: Text
    ) -> sc_subscription_name {
        sc_subscription_name(
            id: id.bytes, stream: stream.bytes, group: group.bytes, item: item, context: context)
    }

    @Test("a change is what a `stream` trigger is called with", arguments: [true, false])
    func change(hasItem: Bool) throws {
        let stream = Text("s\""), group = Text(""), item = Text("i"), kind = Text("create")
        let event = [Text(#""create","data":"#), Text("{}")]
        var bytes = item.bytes
        let parts = event.map(\.bytes)
        let account = try TestAccount()
        let message = try withUnsafePointer(to: &bytes) { item in
            try parts.withUnsafeBufferPointer { parts in
                var notice = sc_change_notice(
                    timestamp: 1_700_000_000_123, stream: stream.bytes, group: group.bytes,
                    item: hasItem ? item : nil, event: try #require(parts.baseAddress),
                    event_count: parts.count, kind: kind.bytes)
                return try Message(taking: sc_change_message(&notice, account.account))
            }
        }
        let id = hasItem ? #""i""# : "null"
        #expect(
            message.data
                == #"{"type":"stream","timestamp":1700000000123,"streamName":"s\"","groupId":"","id":\#(id),"#
                + #""event":{"type":"create","data":{}},"event_type":"create","stream_name":"s\"","group_id":""}"#
        )
        #expect(isJSON(try #require(message.data)))
        #expect(message[SC_FIELD_STREAM] == #""s\"""# && message[SC_FIELD_GROUP] == #""""#)
        #expect(message[SC_FIELD_ITEM] == (hasItem ? #""i""# : nil))
        #expect(sc_message_type(message.handle) == SC_MESSAGE_CHANGE)
        #expect(account.bytes(SC_PLACE_MESSAGES) > 0)
        sc_message_settle(message.handle)
    }

    @Test(
        "a join and a leave name the subscription",
        arguments: [(SC_MESSAGE_JOIN, "stream:join"), (SC_MESSAGE_LEAVE, "stream:leave")])
    func join(type: MessageType, event: String) throws {
        let id = Text("1"), stream = Text("s"), group = Text("g"), item = Text("i"),
            context = Text(#"{"a":1}"#)
        var bytes = item.bytes
        let message = try withUnsafePointer(to: &bytes) {
            var name = name(id, $0, context: context.bytes, stream: stream, group: group)
            return try Message(taking: sc_join_message(type, 7, 0xABC, &name, nil))
        }
        #expect(
            message.data
                == #"{"subscription_id":"1","connection_id":"abc","stream_name":"s","group_id":"g","id":"i","#
                + #""context":{"a":1},"event_type":"\#(event)","timestamp":7}"#)
        var names = sc_message_names()
        withUnsafeMutablePointer(to: &names) {
            sc_message_names_read(message.handle, $0)
            #expect(
                [$0.pointee.id, $0.pointee.stream, $0.pointee.group, $0.pointee.item].map(string)
                    == ["1", "s", "g", "i"])
            #expect(string($0.pointee.context) == #"{"a":1}"#)
        }
    }

    @Test(
        "a join of a group has no item, a client without a context none",
        arguments: [UInt64(0), .max])
    func barejoin(connection: UInt64) throws {
        let id = Text("\\"), stream = Text("\n"), group = Text("")
        var name = name(id, nil, stream: stream, group: group)
        let message = try Message(
            taking: sc_join_message(SC_MESSAGE_JOIN, 0, connection, &name, nil))
        let shown = String(connection, radix: 16)
        #expect(
            message.data
                == #"{"subscription_id":"\\","connection_id":"\#(shown)","stream_name":"\n","group_id":"","id":null,"#
                + #""context":null,"event_type":"stream:join","timestamp":0}"#)
        var names = sc_message_names()
        withUnsafeMutablePointer(to: &names) {
            sc_message_names_read(message.handle, $0)
            #expect(
                [$0.pointee.id, $0.pointee.stream, $0.pointee.group].map(string) == [
                    "\\", "\n", "",
                ])
            #expect($0.pointee.item.data == nil && $0.pointee.context.data == nil)
        }
    }

    @Test("names of 256 bytes, each an escape, come back")
    func longNames() throws {
        let long = Text([UInt8](repeating: 1, count: Int(SC_NAME_SIZE_MAX)))
        var name = name(long, nil, stream: long, group: long)
        let message = try Message(taking: sc_join_message(SC_MESSAGE_LEAVE, 0, 1, &name, nil))
        var names = sc_message_names()
        withUnsafeMutablePointer(to: &names) {
            sc_message_names_read(message.handle, $0)
            for read in [$0.pointee.id, $0.pointee.stream, $0.pointee.group] {
                #expect(array(read) == array(long.bytes))
            }
        }
    }

    @Test("a `sync` is asked for with the keys of `get` or `list`")
    func sync() throws {
        let id = Text("1"), stream = Text("s"), group = Text("g"), item = Text("i")
        var bytes = item.bytes
        var name = name(id, nil, stream: stream, group: group)
        let list = try Message(taking: sc_sync_message(&name))
        #expect(list.data == #"{"stream_name":"s","group_id":"g"}"#)
        #expect(list[SC_FIELD_ID] == #""1""# && list[SC_FIELD_ITEM] == nil)
        let get = try withUnsafePointer(to: &bytes) {
            name.item = $0
            return try Message(taking: sc_sync_message(&name))
        }
        #expect(
            get.data == #"{"stream_name":"s","group_id":"g","item_id":"i"}"#
                && get[SC_FIELD_ITEM] == #""i""#)
    }

    @Test("log records are the data")
    func logs() throws {
        let records = Text(#"{"a":[]}"#)
        let message = try Message(taking: sc_logs_message(records.bytes, nil))
        #expect(message.data == #"{"a":[]}"# && sc_message_type(message.handle) == SC_MESSAGE_LOGS)
    }

    @Test(
        "an override is called with the declared keys and no others",
        arguments: [
            (SC_CALL_SET, #"{"stream_name":"s","group_id":"g","item_id":"i","data":{"a":[1]}}"#),
            (SC_CALL_GET, #"{"stream_name":"s","group_id":"g","item_id":"i"}"#),
            (SC_CALL_DELETE, #"{"stream_name":"s","group_id":"g","item_id":"i"}"#),
            (SC_CALL_LIST, #"{"stream_name":"s","group_id":"g"}"#),
            (SC_CALL_LIST_GROUPS, #"{"stream_name":"s"}"#),
            (SC_CALL_UPDATE, #"{"stream_name":"s","group_id":"g","item_id":"i","ops":[{}]}"#),
        ])
    func override(op: sc_call_op, data: String) throws {
        let scan = Scan(#"{ "a" : [ 1 ] }"#)
        let stream = Text("s"), group = Text("g"), item = Text("i"), ops = Text("[{}]")
        let invocation = Text(#""1""#), function = Text(#""stream::x""#), trace = Text(#""t""#)
        var call = sc_override()
        call.op = op
        (call.stream, call.group, call.item, call.ops) = (
            stream.bytes, group.bytes, item.bytes, ops.bytes
        )
        call.data = scan.index.pointee.root
        (call.invocation_id, call.function_id, call.traceparent) = (
            invocation.bytes, function.bytes, trace.bytes
        )
        call.bit = 9
        for wanted in [true, false] {
            call.wants_answer = wanted
            let message = try Message(taking: sc_override_message(&call, nil))
            #expect(message.data == data)
            #expect(message[SC_FIELD_INVOCATION_ID] == (wanted ? #""1""# : nil))
            #expect(
                message[SC_FIELD_FUNCTION_ID] == #""stream::x""#
                    && message[SC_FIELD_TRACEPARENT] == #""t""#)
            #expect(message[SC_FIELD_BAGGAGE] == nil)
            #expect(
                sc_message_override(message.handle) == 9
                    && sc_message_is_void(message.handle) == !wanted)
        }
    }
}

@Suite("Request heads")
struct HeadTests {
    private func data(_ head: Head, worker: Bool = false) throws -> String {
        let address = Text("127.0.0.1:1"), heap = try #require(sc_heap_create())
        defer { sc_heap_destroy(heap) }
        let text = try #require(
            Message(taking: sc_head_message(head.request, address.bytes, worker, heap, nil)).data)
        #expect(sc_heap_counters(heap).objects == 0, "the memory of a message went back with it")
        return text
    }

    @Test("a stream client's head")
    func client() throws {
        let head = try Head(
            target: "/stream/%20/g?b=2&a=1&b=&c&=x&&b=3=4", ["Host: h", "X-A: 1", "x-a: \"2\""])
        #expect(
            try data(head)
                == #"{"headers":{"host":"h","x-a":"\"2\""},"query_params":{"a":["1"],"b":["2","","3=4"],"c":[""]},"#
                + #""path":"/stream/%20/g","addr":"127.0.0.1:1"}"#)
    }

    @Test("a worker's head has the address alone")
    func worker() throws {
        #expect(
            try data(Head(), worker: true)
                == #"{"headers":{},"query_params":{},"ip_address":"127.0.0.1:1"}"#)
    }

    /// What is not plain ASCII cannot be told in JSON as it is: such a value counts as not there.
    @Test("a value with other bytes is left out, also where it is the last of its name")
    func odd() throws {
        let head = try Head(["A: ok", "a: \u{e9}", "B: \u{e9}", "C: a\tb"])
        #expect(try data(head, worker: true).hasPrefix(#"{"headers":{"a":"ok","c":"a\tb"}"#))
    }

    @Test("as many headers and parameters as a head may have")
    func many() throws {
        let fields = (0..<Int(SC_HTTP_HEADER_COUNT_MAX)).map { "h\($0): \($0)" }
        let query = (0..<2000).map { "k\($0)=" }.joined(separator: "&")
        let text = try data(Head(target: "/?" + query, fields))
        #expect(isJSON(text))
        #expect(text.contains(#""h99":"99""#) && text.contains(#""k1999":[""]"#))
    }

    @Test(
        "the Python SDK is known by its user agent",
        arguments: [
            (["User-Agent: Python/3.12 websockets/15.0"], true),
            (["user-agent: Python/3 websockets/1"], true),
            (["User-Agent: Python/3.12"], false),
            (["User-Agent: python/3.12 websockets/15.0"], false),
            (["User-Agent: x Python/3.12 websockets/15.0"], false), (["User-Agent:"], false),
            ([], false),
        ])
    func python(fields: [String], expected: Bool) throws {
        #expect(sc_head_is_python(try Head(fields).request) == expected)
    }
}
