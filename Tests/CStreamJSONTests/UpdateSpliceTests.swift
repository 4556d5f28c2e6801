import CStreamBase
import CStreamJSON
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
