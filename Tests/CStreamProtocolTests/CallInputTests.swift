import CStreamProtocol
import Testing

/// The input of one call, with the text that it borrows from.
private final class Input {
    let scan: Scan
    let input: UnsafeMutablePointer<sc_call_input>
    let result: Int32

    init(_ op: sc_call_op, _ data: String?, prefix: String = "") {
        scan = Scan(data.map { #"{\#(prefix)"data":\#($0)}"# } ?? "{}")
        input = .allocate(capacity: 1)
        var scratch = sc_json_member()
        let key = Text("data")
        let scan = scan, input = input
        result = withUnsafeMutablePointer(to: &scratch) {
            let member = sc_json_index_find(scan.index, -1, key.bytes, $0)
            return sc_call_input_read(op, scan.index, member, input)
        }
    }

    deinit { input.deallocate() }

    var reason: String? { result == 0 ? nil : string(input.pointee.reason) }
    var names: [String] {
        [input.pointee.stream, input.pointee.group, input.pointee.item, input.pointee.type].map(
            string)
    }
}

private let operations: [(String, sc_call_op)] = [
    ("set", SC_CALL_SET), ("get", SC_CALL_GET), ("delete", SC_CALL_DELETE), ("list", SC_CALL_LIST),
    ("list_groups", SC_CALL_LIST_GROUPS), ("list_all", SC_CALL_LIST_ALL), ("send", SC_CALL_SEND),
    ("update", SC_CALL_UPDATE),
]

private let nameSizeMax = Int(SC_NAME_SIZE_MAX)

@Suite("The input of a stream call")
struct CallInputTests {
    @Test("each function is known, and nothing that is nearly one", arguments: operations)
    func find(name: String, op: sc_call_op) {
        let id = Array("stream::\(name)".utf8)
        #expect(sc_call_op_find(Text(id).bytes) == Int32(op.rawValue))
        // The beginning of `stream::list_all` is a function, too.
        for size in 0..<id.count where size != "stream::list".utf8.count {
            #expect(sc_call_op_find(Text(Array(id[..<size])).bytes) == -1)
        }
        #expect(sc_call_op_find(Text(id + [0]).bytes) == -1)
        for at in id.indices {
            var other = id
            other[at] ^= 0x20
            #expect(sc_call_op_find(Text(other).bytes) == -1)
        }
    }

    @Test("set, delete, send and update write", arguments: operations)
    func writes(name: String, op: sc_call_op) {
        #expect(
            sc_call_writes(UInt8(op.rawValue))
                == ["set", "delete", "send", "update"].contains(name))
    }

    static let names = #""stream_name":"s","group_id":"g","item_id":"i""#

    @Test("set takes names and data")
    func set() {
        let input = Input(SC_CALL_SET, #"{\#(Self.names),"data":{"a":[1]},"ops":1,"more":2}"#)
        #expect(input.reason == nil)
        #expect(input.names == ["s", "g", "i", ""] && input.input.pointee.has_item)
        #expect(string(input.input.pointee.data.text) == #"{"a":[1]}"#)
        #expect(input.input.pointee.ops.kind == UInt8(SC_JSON_ABSENT.rawValue))
    }

    @Test("data may be null, but must be there")
    func nullData() {
        let input = Input(SC_CALL_SET, #"{\#(Self.names),"data":null}"#)
        #expect(input.reason == nil && string(input.input.pointee.data.text) == "null")
        #expect(Input(SC_CALL_SET, "{\(Self.names)}").reason == "missing field `data`")
    }

    @Test("get and delete take three names", arguments: [SC_CALL_GET, SC_CALL_DELETE])
    func get(op: sc_call_op) {
        let input = Input(op, "{\(Self.names)}")
        #expect(input.reason == nil && input.names == ["s", "g", "i", ""])
        #expect(
            Input(op, #"{"stream_name":"s","group_id":"g"}"#).reason == "missing field `item_id`")
    }

    @Test("a list takes no item")
    func list() {
        let input = Input(SC_CALL_LIST, "{\(Self.names)}")
        #expect(input.reason == nil && input.names == ["s", "g", "", ""])
        #expect(!input.input.pointee.has_item)
    }

    @Test("list_groups takes a stream, list_all nothing")
    func lists() {
        #expect(Input(SC_CALL_LIST_GROUPS, #"{"stream_name":"s"}"#).names == ["s", "", "", ""])
        #expect(Input(SC_CALL_LIST_ALL, nil).reason == nil)
        #expect(Input(SC_CALL_LIST_ALL, "null").reason == nil)
        #expect(Input(SC_CALL_LIST_ALL, #"{"stream_name":1}"#).reason == nil)
        #expect(
            Input(SC_CALL_LIST_ALL, "5").reason
                == "invalid type: integer `5`, expected struct StreamListAllInput")
    }

    @Test(
        "send takes an id, null or none",
        arguments: [
            (#","id":"x""#, "x", true), (#","id":null"#, "", false), ("", "", false),
            (#","id":"""#, "", true),
        ])
    func send(id: String, item: String, hasItem: Bool) {
        let input = Input(
            SC_CALL_SEND, #"{"stream_name":"s","group_id":"g","type":"t","data":1\#(id)}"#)
        #expect(input.reason == nil && input.names == ["s", "g", item, "t"])
        #expect(input.input.pointee.has_item == hasItem)
    }

    @Test("update takes an array of anything")
    func update() {
        let input = Input(SC_CALL_UPDATE, #"{\#(Self.names),"ops":[1,{}]}"#)
        #expect(input.reason == nil && string(input.input.pointee.ops.text) == "[1,{}]")
        #expect(
            Input(SC_CALL_UPDATE, #"{\#(Self.names),"ops":{}}"#).reason
                == "invalid type: map, expected a sequence")
    }

    @Test("no object is no input", arguments: operations.filter { $0.0 != "list_all" })
    func noObject(name: String, op: sc_call_op) throws {
        for data in [nil, "null"] as [String?] {
            let reason = try #require(Input(op, data).reason)
            #expect(reason.hasPrefix("invalid type: ") && reason.contains("expected struct Stream"))
        }
        #expect(try #require(Input(op, #""x""#).reason).hasPrefix(#"invalid type: string "x", "#))
    }

    @Test(
        "fields that are missing are named in the order of their declaration",
        arguments: [
            ("{}", "stream_name"), (#"{"item_id":"i","data":1}"#, "stream_name"),
            (#"{"stream_name":"s","item_id":"i"}"#, "group_id"),
            (#"{"stream_name":"s","group_id":"g"}"#, "item_id"),
        ])
    func missing(data: String, field: String) {
        #expect(Input(SC_CALL_SET, data).reason == "missing field `\(field)`")
    }

    /// Both orders are seen by callers: `group_id` comes before `stream_name`.
    @Test("wrong types come before missing fields, and in the order of the keys' bytes")
    func order() {
        #expect(
            Input(SC_CALL_SET, #"{"stream_name":1,"group_id":true}"#).reason
                == "invalid type: boolean `true`, expected a string")
        #expect(
            Input(SC_CALL_SET, #"{"stream_name":1}"#).reason
                == "invalid type: integer `1`, expected a string")
        #expect(
            Input(SC_CALL_SEND, #"{"id":1}"#).reason
                == "invalid type: integer `1`, expected a string")
    }

    @Test("of several members with one key the last counts")
    func duplicates() {
        let input = Input(SC_CALL_LIST_GROUPS, #"{"stream_name":1,"stream_name":"b"}"#)
        #expect(input.reason == nil && input.names[0] == "b")
        #expect(Input(SC_CALL_LIST_GROUPS, #"{"stream_name":"b","stream_name":1}"#).reason != nil)
    }

    @Test("keys and names may be written with escapes")
    func escapes() {
        let input = Input(
            SC_CALL_GET,
            #"{"str\u0065am_name":"\u0073\n","group\u005fid":"\ud83d\ude00","item_id":""}"#)
        #expect(input.reason == nil && input.names == ["s\n", "😀", "", ""])
    }

    @Test("fields are found behind more members than an index holds")
    func overflow() {
        let many = (0..<Int(SC_JSON_INDEX_MEMBERS_MAX)).map { #""k\#($0)":0"# }.joined(
            separator: ",")
        let input = Input(SC_CALL_SET, #"{\#(many),\#(Self.names),"data":"d"}"#)
        #expect(input.scan.index.pointee.overflow)
        #expect(input.reason == nil && input.names == ["s", "g", "i", ""])
        #expect(string(input.input.pointee.data.text) == #""d""#)
        let before = Input(SC_CALL_SET, #"{\#(Self.names),"data":"d"}"#, prefix: many + ",")
        #expect(before.reason == nil && before.names == ["s", "g", "i", ""])
    }

    /// A name of one more byte is refused, however it is written; the size is that of its characters.
    @Test("a name has at most 256 bytes", arguments: ["n", #"\u006e"#, "\\n"])
    func nameSize(spelling: String) {
        func name(_ count: Int) -> String { String(repeating: spelling, count: count) }
        let most = Input(SC_CALL_LIST_GROUPS, #"{"stream_name":"\#(name(nameSizeMax))"}"#)
        #expect(most.reason == nil && most.names[0].utf8.count == nameSizeMax)
        #expect(
            Input(SC_CALL_LIST_GROUPS, #"{"stream_name":"\#(name(nameSizeMax + 1))"}"#).reason
                == "`stream_name` of \(nameSizeMax + 1) bytes exceeds maximum of \(nameSizeMax)")
    }

    @Test("a name over its size is named after missing fields only")
    func longAndMissing() {
        let long = String(repeating: "n", count: nameSizeMax + 1)
        #expect(
            Input(SC_CALL_LIST, #"{"stream_name":"\#(long)"}"#).reason == "missing field `group_id`"
        )
    }

    @Test("data has a depth and a size")
    func dataLimits() {
        func set(_ data: String) -> Input {
            Input(SC_CALL_SET, #"{\#(Self.names),"data":\#(data)}"#)
        }
        let deepest = Int(SC_VALUE_DEPTH_MAX)
        #expect(set(nested(deepest)).reason == nil)
        #expect(
            set(nested(deepest + 1)).reason
                == "`data` of depth \(deepest + 1) exceeds maximum of \(deepest)")
        let size = Int(SC_VALUE_SIZE_MAX)
        let text = "\"" + String(repeating: "x", count: size - 2) + "\""
        #expect(set(text).reason == nil)
        #expect(set(text + " ").reason == nil, "white space behind it is not part of it")
        #expect(
            set("\"x" + text.dropFirst()).reason
                == "`data` of \(size + 1) bytes exceeds maximum of \(size)")
    }
}
