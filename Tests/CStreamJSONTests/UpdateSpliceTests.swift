import CStreamBase
import CStreamJSON
import Foundation
import Testing

/// One operation on one member is spliced; two of them go through the tree. Both must come to the same.
@Suite("Update by splice")
struct UpdateSpliceTests {
    struct Outcome: Equatable {
        var rc: Int32
        var value = ""
        var errors = ""
        var depth: UInt32 = 0
    }

    private func apply(_ old: String, _ ops: String) throws -> Outcome {
        let updater = try #require(sc_json_updater_create())
        defer { sc_json_updater_destroy(updater) }
        let old = Array(old.utf8)
        let ops = Array(ops.utf8)
        return try old.withUnsafeBufferPointer { old in
            try ops.withUnsafeBufferPointer { ops in
                let index = UnsafeMutablePointer<sc_json_index>.allocate(capacity: 1)
                defer { index.deallocate() }
                let text = sc_bytes(data: ops.baseAddress, size: ops.count)
                try #require(sc_json_scan(text, UInt32(SC_JSON_DEPTH_MAX), index) == 0)
                var update = sc_json_update()
                let rc = sc_json_update_apply(
                    updater, sc_bytes(data: old.baseAddress, size: old.count), index.pointee.root,
                    1 << 20,
                    UInt32(SC_VALUE_DEPTH_MAX), &update)
                guard rc == 0 else { return Outcome(rc: rc) }
                func string(_ bytes: sc_bytes) -> String {
                    String(
                        decoding: UnsafeBufferPointer(start: bytes.data, count: bytes.size),
                        as: UTF8.self)
                }
                return Outcome(
                    rc: rc, value: string(update.value), errors: string(update.errors),
                    depth: update.depth)
            }
        }
    }

    @Test(
        "the text around the member stays as it was written",
        arguments: [
            (#"{"n":1}"#, #"{"n":2}"#),
            (#"{"a":1.0,"n":9,"b":"\u0041"}"#, #"{"a":1.0,"n":10,"b":"\u0041"}"#),
            (#"{"a":{"n":5},"n":-1}"#, #"{"a":{"n":5},"n":0}"#),
            (#"{"n":99999}"#, #"{"n":100000}"#),
            (#"{"\u006e":1}"#, #"{"\u006e":2}"#),
            (#"{"s":"}\",{","n":1,"t":[]}"#, #"{"s":"}\",{","n":2,"t":[]}"#),
        ])
    func increments(old: String, new: String) throws {
        #expect(try apply(old, #"[{"type":"increment","path":"n","by":1}]"#).value == new)
    }

    @Test("a value that is not compact is stored compact, and its depth counts")
    func spaced() throws {
        let outcome = try apply(
            #"{"a":[[]],"n":1}"#, #"[ {"type":"set","path":"n","value":{ "x" : [ [ 1 ] ] }} ]"#)
        #expect(outcome.value == #"{"a":[[]],"n":{"x":[[1]]}}"#)
        #expect(outcome.depth == 4)
    }

    static let filler = String(repeating: "x", count: 40)

    /// Behind the comma is what a search for `"key":` could take for a member.
    @Test(
        "what only looks like the member is not it",
        arguments: [
            (",", #"{"f":"FILLER","a":"b,",":c":1}"#, #"{"f":"FILLER","a":"b,",":c":1,",":1}"#),
            (":c", #"{"f":"FILLER","a":"b,",":c":1}"#, #"{"f":"FILLER","a":"b,",":c":2}"#),
            ("}", #"{"f":"FILLER","a":"{","}":4}"#, #"{"f":"FILLER","a":"{","}":5}"#),
            (
                #"a\",\"b"#, #"{"f":"FILLER","x":"a","b":1}"#,
                #"{"f":"FILLER","x":"a","b":1,"a\",\"b":1}"#
            ),
            ("n", #"{"f":"FILLER","x":"n","y":"n"}"#, #"{"f":"FILLER","x":"n","y":"n","n":1}"#),
            ("n", #"{"f":"FILLER","m":"\"n\":","n":7}"#, #"{"f":"FILLER","m":"\"n\":","n":8}"#),
            ("n", #"{"f":"FILLER","m":{"n":5},"n":7}"#, #"{"f":"FILLER","m":{"n":5},"n":8}"#),
            ("n", #"{"f":"FILLER","m":[{"n":5}]}"#, #"{"f":"FILLER","m":[{"n":5}],"n":1}"#),
            ("n", #"{"n":1,"f":"FILLER","n":5}"#, #"{"f":"FILLER","n":6}"#),
            ("n", #"{"\u006e":1,"f":"FILLER","n":5}"#, #"{"f":"FILLER","n":6}"#),
            ("nn", #"{"n":1,"f":"FILLER","nnn":5}"#, #"{"n":1,"f":"FILLER","nnn":5,"nn":1}"#),
        ])
    func impostors(path: String, old: String, new: String) throws {
        let ops = #"[{"type":"increment","path":"\#(path)","by":1}]"#
        let outcome = try apply(old.replacing("FILLER", with: Self.filler), ops)
        #expect(outcome.value == new.replacing("FILLER", with: Self.filler))
    }

    /// The search goes by steps of 16 bytes, the last of which reaches back, and takes keys of up to 14.
    @Test("the member is found at every place", arguments: 1...18)
    func places(keySize: Int) throws {
        let key = String("klmnopqrstuvwxyzab".prefix(keySize))
        let updater = try Updater()
        for before in 0...35 {
            for after in 0...35 {
                let old =
                    #"{"a":"\#(String(repeating: "x", count: before))","\#(key)":99,"#
                    + #""z":"\#(String(repeating: "y", count: after))"}"#
                let ops = #"[ { "by" : -4, "path": "\#(key)", "type":"decrement" } ]"#
                let outcome = try updater.apply(old, ops)
                #expect(outcome.value == old.replacing(":99,", with: ":103,"), "\(old)")
                #expect(outcome.depth == 1)
            }
        }
    }

    /// Operations are mostly read in a short way: what it leaves to the long one must come to the same.
    @Test(
        "an operation means the same however it is written",
        arguments: [
            #"[{"type":"increment","path":"n","by":3}]"#,
            #"[{"by":3,"path":"n","type":"increment"}]"#,
            #"[ { "type" : "increment" , "path" : "n" , "by" : 3 } ]"#,
            #"[{"type":"increment","path":"n","by":3.0}]"#,
            #"[{"type":"increment","path":"n","by":3,"x":{}}]"#,
            #"[{"type":"increment","path":"n","by":3,"value":"of no use"}]"#,
            #"[{"type":"set","type":"increment","path":"a","path":"n","by":"","by":3}]"#,
            #"[{"typ\u0065":"incre\u006dent","path":"\u006e","by":3}]"#,
            #"[{"type":"decrement","path":"n","by":-3}]"#,
            #"[{"type":"set","path":"n","value":10}]"#,
            #"[{"type":"set","path":"n","value":10,"by":1}]"#,
        ])
    func spellings(ops: String) throws {
        let old = #"{"f":"\#(Self.filler)","n":7}"#
        #expect(try apply(old, ops).value == #"{"f":"\#(Self.filler)","n":10}"#)
    }

    @Test("numbers of 17 to 20 digits are counted on exactly")
    func longNumbers() throws {
        for (number, next) in [
            ("99999999999999999", "100000000000000000"),
            ("999999999999999999", "1000000000000000000"),
            ("-1000000000000000000", "-999999999999999999"),
            ("9223372036854775807", "9223372036854775808"),
            ("18446744073709551614", "18446744073709551615"),
        ] {
            let ops = #"[{"type":"increment","path":"n","by":1}]"#
            #expect(try apply("{\"n\":\(number)}", ops).value == "{\"n\":\(next)}")
            let by = #"[{"type":"increment","path":"n","by":\#(number)}]"#
            let fits = Int64(number) != nil
            #expect(try apply("{\"n\":0}", by).rc == (fits ? 0 : -EINVAL))
            if fits { #expect(try apply("{\"n\":0}", by).value == "{\"n\":\(number)}") }
        }
    }

    @Test("random objects and operations")
    func random() throws {
        let seed = UInt64.random(in: 1 ... .max)
        var state = seed
        func pick(_ count: Int) -> Int {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return Int((state >> 33) % UInt64(count))
        }
        let keys = ["n", "a", "nn", "\\u006e", "", "k\\\"", "ä"]
        func value(_ depth: Int) -> String {
            switch pick(depth < 3 ? 8 : 6) {
            case 0: return "null"
            case 1: return "\(pick(2000) - 1000)"
            case 2: return "\(pick(100)).5"
            case 3: return "9223372036854775808"
            case 4: return "\"\(String(repeating: "x", count: pick(40)))\\n}\""
            case 5: return "true"
            case 6:
                return "[" + (0..<pick(4)).map { _ in value(depth + 1) }.joined(separator: ",")
                    + "]"
            default: return object(depth + 1)
            }
        }
        func object(_ depth: Int) -> String {
            let members = (0..<pick(6)).map { _ in "\"\(keys[pick(keys.count)])\":\(value(depth))" }
            return "{" + members.joined(separator: ",") + "}"
        }
        for _ in 0..<20_000 {
            let old = object(0)
            let path = keys[pick(keys.count)]
            let name = ["set", "increment", "decrement"][pick(3)]
            let by = pick(100) - 50
            let first = name == "set" ? "\"value\":\(value(1))" : "\"by\":\(by)"
            let op = "{\"type\":\"\(name)\",\"path\":\"\(path)\",\(first)}"
            // The second changes nothing, but that two of them go another way.
            let again = name == "set" ? op : "{\"type\":\"\(name)\",\"path\":\"\(path)\",\"by\":0}"
            // No sum here leaves the range: after an error the second operation would not be without effect.
            let one = try apply(old, "[\(op)]")
            let two = try apply(old, "[\(op),\(again)]")
            #expect(
                one.rc == two.rc && one.value == two.value && one.depth == two.depth,
                "seed \(seed): \(old) \(op)")
            #expect(one.errors.isEmpty == two.errors.isEmpty, "seed \(seed): \(old) \(op)")
        }
    }
}
