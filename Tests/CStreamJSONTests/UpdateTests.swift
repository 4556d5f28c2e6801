import CStreamJSON
import Foundation
import SeededRandom
import Testing

@Suite("Path operations")
struct UpdateTests {
    private let updater: Updater
    init() throws { updater = try Updater() }

    /// The new value of an update that has no errors.
    private func new(
        _ old: String?, _ ops: String, sourceLocation: SourceLocation = #_sourceLocation
    ) throws -> String {
        let outcome = try updater.apply(old, ops)
        #expect(outcome.result == 0 && outcome.errors.isEmpty, sourceLocation: sourceLocation)
        let depth = JSONReader.read(Array(outcome.value.utf8), depthMax: 255)?.depth
        #expect(depth == Int(outcome.depth), sourceLocation: sourceLocation)
        return outcome.value
    }

    // MARK: Vectors

    @Test("do what every recorded case says") func cases() throws {
        let cases = try #require(JSONReader.read(try vector("update-ops-cases.json"))).elements
        #expect(cases.count == 174)
        for example in cases {
            let name = example["name"]?.string ?? ""
            let outcome = try updater.apply(example["old"]?.text, #require(example["ops"]).text)
            try #require(outcome.result == 0, "\(name)")
            let new = try #require(JSONReader.read(Array(outcome.value.utf8)), "\(name)")
            #expect(try new.means(#require(example["new"])), "\(name): \(outcome.value)")
            let errors = outcome.errors.isEmpty ? "[]" : outcome.errors
            let list = try #require(JSONReader.read(Array(errors.utf8)), "\(name)")
            #expect(try list.means(#require(example["errors"])), "\(name): \(errors)")
            #expect(outcome.depth == UInt32(new.depth), "\(name)")
        }
    }

    @Test("refuse every recorded malformed call in its words, and change nothing") func rejects()
        throws
    {
        let rejects = try #require(JSONReader.read(try vector("update-ops-rejects.json"))).elements
        #expect(rejects.count == 56)
        var count = 0
        for example in rejects where example["function_id"]?.string == "stream::update" {
            guard case .array(let ops)? = example["payload"]?["ops"] else { continue }
            count += 1
            let name = example["name"]?.string ?? ""
            let outcome = try updater.apply(#"{"a":1}"#, JSON.array(ops).text)
            if example["here"]?.string == "accepted" {
                #expect(outcome.result == 0, "\(name)")
                continue
            }
            #expect(outcome.result == -EINVAL, "\(name)")
            #expect(
                "Failed to deserialize input for stream::update: " + outcome.reason
                    == example["error"]?["message"]?.string, "\(name)")
        }
        #expect(count == 26)
    }

    // MARK: What stays as it was

    @Test(
        "keep the spelling of numbers, strings and keys that they do not touch, and the order of keys",
        arguments: [
            #"{"z":1.50,"a":1E2,"\u0061b":"\u00e9\/","m":[1.0,-0,1e-2],"big":123456789012345678901234567890}"#
        ])
    func spelling(old: String) throws {
        let rest = old.dropLast()
        #expect(
            try new(old, #"[{"type":"set","path":"new","value":1.10}]"#) == rest + #","new":1.10}"#)
        #expect(try new(old, #"[{"type":"remove","path":"absent"}]"#) == old)
        #expect(try new(old, "[]") == old)
        #expect(
            try new(old, #"[{"type":"merge","value":{"m":2.50}}]"#)
                == old.replacingOccurrences(of: "[1.0,-0,1e-2]", with: "2.50"))
        #expect(
            try new(old, #"[{"type":"increment","path":"z","by":1}]"#)
                == old.replacingOccurrences(of: "1.50", with: "2.5"))
        #expect(
            try new(old, #"[{"type":"append","path":"m","value":1e0}]"#)
                == old.replacingOccurrences(of: "1e-2]", with: "1e-2,1e0]"))
        #expect(
            try new(old, #"[{"type":"set","path":"ab","value":0}]"#)
                == old.replacingOccurrences(of: #""\u00e9\/""#, with: "0"))
    }

    @Test("leave white space out of what they put in") func whiteSpace() throws {
        let value = "{ \"a\" : [ 1 , { } ] ,\n\t\"b c\" : \" d \" }"
        let short = #"{"a":[1,{}],"b c":" d "}"#
        #expect(
            try new(nil, "[ { \"type\" : \"set\" , \"path\" : \"\" , \"value\" : \(value) } ]")
                == short)
        #expect(
            try new("{}", "[{\"type\":\"set\",\"path\":\"k\",\"value\": \(value)}]")
                == "{\"k\":\(short)}")
        #expect(
            try new("[]", "[{\"type\":\"append\",\"path\":\"\",\"value\":\(value)}]")
                == "[\(short)]")
        #expect(try new("{}", "[{\"type\":\"merge\",\"value\":\(value)}]") == short)
    }

    @Test("make room and go again: every operation of a call sees the one before it")
    func sequences() throws {
        let ops = #"""
            [{"type":"append","path":"l","value":1},{"type":"append","path":"l","value":[2]},
             {"type":"append","path":"s","value":"a"},{"type":"append","path":"s","value":"\u0062"},
             {"type":"increment","path":"n","by":5},{"type":"decrement","path":"n","by":7},
             {"type":"merge","path":["o","p"],"value":{"q":1}},{"type":"merge","path":["o","p"],"value":{"r":2}},
             {"type":"remove","path":"gone"},{"type":"set","path":"gone","value":1},{"type":"remove","path":"gone"}]
            """#
        #expect(try new(nil, ops) == #"{"l":[1,[2]],"s":"a\u0062","n":-2,"o":{"p":{"q":1,"r":2}}}"#)
    }

    // MARK: Duplicate keys

    @Test("act on the last of duplicate keys and remove the others, however they are spelled")
    func duplicates() throws {
        let old = #"{"a":1,"b":2,"\u0061":3,"c":4,"a":5,"d":6}"#
        #expect(try new(old, "[]") == old)
        #expect(
            try new(old, #"[{"type":"set","path":"a","value":9}]"#) == #"{"b":2,"c":4,"a":9,"d":6}"#
        )
        #expect(try new(old, #"[{"type":"remove","path":"\u0061"}]"#) == #"{"b":2,"c":4,"d":6}"#)
        #expect(
            try new(old, #"[{"type":"increment","path":"a","by":1}]"#)
                == #"{"b":2,"c":4,"a":6,"d":6}"#)
        #expect(
            try new(old, #"[{"type":"merge","path":["a"],"value":{"x":1}}]"#)
                == #"{"b":2,"c":4,"a":{"x":1},"d":6}"#)
        #expect(
            try new("{}", #"[{"type":"merge","value":{"x":1,"y":2,"\u0078":3}}]"#)
                == #"{"x":3,"y":2}"#)
        // Of a failed operation nothing is seen.
        #expect(
            try updater.apply(#"{"a":1,"a":"s"}"#, #"[{"type":"increment","path":"a","by":1}]"#)
                .value
                == #"{"a":1,"a":"s"}"#)
    }

    @Test(
        "find the last of duplicate keys in objects of every size",
        arguments: [1, 15, 16, 17, 100, 2000])
    func duplicatesInLargeObjects(count: Int) throws {
        let members = (0..<count).map { "\"k\($0)\":\($0)" }
        let old =
            "{" + (["\"d\":1"] + members + ["\"\\u0064\":2"] + members).joined(separator: ",") + "}"
        // More than a few searches, so that an index is made.
        let ops = (0..<8).map { "{\"type\":\"increment\",\"path\":\"k\($0 % count)\",\"by\":1}" }
        let result = try new(
            old,
            "["
                + (ops + [
                    #"{"type":"append","path":"e","value":1},{"type":"set","path":"d","value":3}"#
                ])
                .joined(separator: ",") + "]")
        let read = try #require(JSONReader.read(Array(result.utf8)))
        guard case .object(let pairs) = read else { return #expect(Bool(false)) }
        #expect(pairs.filter { $0.key == Array("d".utf8) }.map(\.value) == [.number("3")])
        #expect(pairs.filter { $0.key == Array("k0".utf8) }.count == 1)
        #expect(pairs.last?.key == Array("e".utf8))
        if count > 8 { #expect(pairs.filter { $0.key == Array("k8".utf8) }.count == 2) }
    }

    @Test("take the last of duplicate keys of an operation, however it is spelled")
    func duplicateFields() throws {
        let op =
            #"{"type":"remove","path":"x","ty\u0070e":"set","path":"a","value":1,"v\u0061lue":2,"by":false}"#
        #expect(try new("{}", "[\(op)]") == #"{"a":2}"#)
    }

    // MARK: Escapes in keys

    @Test("compare keys by what they say, and write a new one as it was sent")
    func escapes() throws {
        #expect(
            try new(#"{"é\n":1}"#, #"[{"type":"set","path":"\u00e9\u000a","value":2}]"#)
                == #"{"é\n":2}"#)
        #expect(
            try new(#"{"\ud83d\ude00":1}"#, #"[{"type":"remove","path":"😀"}]"#) == "{}")
        #expect(
            try new("{}", #"[{"type":"set","path":"\"\\\u0000","value":1}]"#)
                == #"{"\"\\\u0000":1}"#)
        #expect(
            try new(#"{"a.b":{"c":1}}"#, #"[{"type":"set","path":"a.b","value":2}]"#)
                == #"{"a.b":2}"#)
        #expect(
            try new("{}", #"[{"type":"merge","path":["\u0061","b"],"value":{"\u0063":1}}]"#)
                == #"{"\u0061":{"b":{"\u0063":1}}}"#)
    }

    // MARK: Remove

    @Test("ignore a value that a remove does not have") func removeWithValue() throws {
        #expect(try new(#"{"a":1}"#, #"[{"type":"remove","path":"","value":7}]"#) == "null")
        #expect(try new(#"{"a":1}"#, #"[{"type":"remove","path":"a","value":7,"by":"x"}]"#) == "{}")
    }

    // MARK: Arithmetic

    static let sums: [(String, String, String?)] = [
        // i64 and u64, and the edges between them
        ("9223372036854775806", "1", "9223372036854775807"),
        ("9223372036854775807", "1", "9223372036854775808"),
        ("9223372036854775807", "9223372036854775807", "18446744073709551614"),
        ("18446744073709551614", "1", "18446744073709551615"),
        ("18446744073709551615", "0", "18446744073709551615"),
        ("18446744073709551615", "1", nil),
        ("18446744073709551615", "-9223372036854775808", "9223372036854775807"),
        ("9223372036854775808", "-1", "9223372036854775807"),
        ("9223372036854775808", "-9223372036854775808", "0"),
        ("-9223372036854775807", "-1", "-9223372036854775808"),
        ("-9223372036854775808", "-1", nil),
        ("-9223372036854775808", "-9223372036854775808", nil),
        ("-9223372036854775808", "9223372036854775807", "-1"),
        ("0", "-9223372036854775808", "-9223372036854775808"),
        ("9007199254740993", "2", "9007199254740995"),
        // Doubles stay doubles
        ("1.0", "1", "2.0"), ("-0", "0", "0.0"), ("-0.0", "1", "1.0"), ("0.1", "0", "0.1"),
        ("0.5", "-1", "-0.5"),
        ("1e2", "1", "101.0"), ("1E+2", "-100", "0.0"), ("1e300", "1", "1e300"),
        ("0.1", "1", "1.1"),
        ("18446744073709551616", "0", "1.8446744073709552e19"),
        ("-9223372036854775809", "0", "-9.223372036854776e18"),
        ("1.7976931348623157e308", "9223372036854775807", "1.7976931348623157e308"),
        ("5e-324", "0", "5e-324"), ("1e16", "0", "1e16"), ("1e15", "0", "1000000000000000.0"),
        ("0.00001", "0", "0.00001"), ("0.000001", "0", "1e-6"), ("-1.5", "1", "-0.5"),
        // Any spelling of a whole step
        ("1", "2.0", "3"), ("1", "1e2", "101"), ("1", "-0", "1"), ("1", "-3.0e0", "-2"),
        ("1.5", "1.0", "2.5"),
    ]

    @Test("add whole numbers exactly, and doubles as doubles", arguments: sums)
    func increment(x: String, by: String, sum: String?) throws {
        for path in ["", "n"] {
            let old = path.isEmpty ? x : "{\"n\":\(x)}"
            let outcome = try updater.apply(
                old, "[{\"type\":\"increment\",\"path\":\"\(path)\",\"by\":\(by)}]")
            let want = sum ?? x
            #expect(outcome.value == (path.isEmpty ? want : "{\"n\":\(want)}"))
            #expect(outcome.codes == (sum == nil ? ["increment.not_number"] : []))
            if sum == nil {
                let label = path.isEmpty ? "root" : path
                #expect(
                    outcome.failures[0].message == "Expected number at path '\(label)', got number."
                )
            }
        }
    }

    @Test("subtract to either edge, and make of nothing what the step says") func decrement() throws
    {
        func decrement(_ old: String?, _ by: String) throws -> String {
            try new(old, "[{\"type\":\"decrement\",\"path\":\"\",\"by\":\(by)}]")
        }
        #expect(try decrement("-1", "9223372036854775807") == "-9223372036854775808")
        #expect(
            try decrement("9223372036854775807", "-9223372036854775808") == "18446744073709551615")
        #expect(try decrement(nil, "-9223372036854775808") == "9223372036854775808")
        #expect(try decrement(nil, "9223372036854775807") == "-9223372036854775807")
        #expect(try decrement(nil, "0") == "0")
        #expect(try decrement("1.25", "1") == "0.25")
        #expect(
            try updater.apply("-9223372036854775808", #"[{"type":"decrement","path":"","by":1}]"#)
                .codes
                == ["decrement.not_number"])
    }

    @Test(
        "refuse a step that is no whole number within i64",
        arguments: [
            ("1.5", "invalid type: floating point `1.5`, expected i64"),
            ("1e-1", "invalid type: floating point `0.1`, expected i64"),
            ("1e19", "invalid type: floating point `1e19`, expected i64"),
            (
                "9223372036854775808.0",
                "invalid type: floating point `9.223372036854776e18`, expected i64"
            ),
            (
                "18446744073709551616",
                "invalid type: floating point `1.8446744073709552e19`, expected i64"
            ),
            (
                "-9223372036854775809",
                "invalid type: floating point `-9.223372036854776e18`, expected i64"
            ),
            ("18446744073709551615", "invalid value: integer `18446744073709551615`, expected i64"),
            ("true", "invalid type: boolean `true`, expected i64"),
            ("[]", "invalid type: sequence, expected i64"),
            (#""\n\u0000\"é""#, #"invalid type: string "\n\0\"é", expected i64"#),
        ])
    func badStep(by: String, reason: String) throws {
        for type in ["increment", "decrement"] {
            let outcome = try updater.apply(
                "1", "[{\"type\":\"\(type)\",\"path\":\"\",\"by\":\(by)}]")
            #expect(outcome.result == -EINVAL)
            #expect(outcome.reason == reason)
        }
    }

    // MARK: Malformed operations

    @Test(
        "say of several things that are wrong the one that a reader meets first",
        arguments: [
            (#"[{"by":null}]"#, "missing field `type`"),
            (#"[{"type":"increment","by":null}]"#, "invalid type: null, expected i64"),
            (
                #"[{"type":"increment","by":"x","path":1}]"#,
                #"invalid type: string "x", expected i64"#
            ),
            (#"[{"type":"increment","path":1}]"#, "invalid type: integer `1`, expected a string"),
            (#"[{"type":"append"}]"#, "missing field `path`"),
            (
                #"[{"type":"merge","path":true}]"#,
                "data did not match any variant of untagged enum MergePath"
            ),
            (#"[{"type":null}]"#, "invalid type: null, expected variant identifier"),
            (#"[{"type":{}}]"#, "invalid type: map, expected variant identifier"),
            (#"[null]"#, "invalid type: null, expected internally tagged enum UpdateOp"),
            (#"[[]]"#, "invalid type: sequence, expected internally tagged enum UpdateOp"),
            (
                #"[1.50]"#,
                "invalid type: floating point `1.5`, expected internally tagged enum UpdateOp"
            ),
            (
                #"[{"type":"remove","path":"a"},{"type":"é\n"},5]"#,
                "unknown variant `é\n`, expected one of `set`, `merge`, `increment`, `decrement`, `append`, `remove`"
            ),
        ])
    func firstReason(ops: String, reason: String) throws {
        let outcome = try updater.apply(#"{"a":1}"#, ops)
        #expect(outcome == Outcome(result: -EINVAL, reason: reason))
    }

    @Test("cut the text of a long string in a reason, between two characters", arguments: 0...4)
    func longReason(shift: Int) throws {
        let long = String(repeating: "x", count: shift) + String(repeating: "😀", count: 200)
        let outcome = try updater.apply(nil, "[\"\(long)\"]")
        #expect(outcome.result == -EINVAL)
        #expect(outcome.reason.hasPrefix("invalid type: string \"" + long.prefix(64)))
        #expect(outcome.reason.hasSuffix("😀…\", expected internally tagged enum UpdateOp"))
        #expect(outcome.reason.utf8.count <= 512)
        // Spelled, each of these is eight characters.
        let controls = String(repeating: "\\u0001", count: 300)
        #expect(try updater.apply(nil, "[\"\(controls)\"]").reason.utf8.count <= 512)
    }

    // MARK: Paths

    @Test("take 32 segments and 256 bytes, not one more") func pathLimits() throws {
        func merge(_ count: Int) throws -> Outcome {
            let path = (0..<count).map { "\"s\($0)\"" }.joined(separator: ",")
            return try updater.apply(
                "{}", "[{\"type\":\"merge\",\"path\":[\(path)],\"value\":{\"v\":1}}]")
        }
        #expect(try merge(32).depth == 33)
        #expect(try merge(33).codes == ["merge.path.too_deep"])
        #expect(try merge(33).failures[0].message == "Path depth 33 exceeds maximum of 32")
        #expect(try merge(33).value == "{}")

        func set(_ key: String, _ type: String = "set") throws -> Outcome {
            try updater.apply(
                "{}", "[{\"type\":\"\(type)\",\"path\":\"\(key)\",\"value\":{},\"by\":1}]")
        }
        for type in ["set", "merge", "increment", "decrement", "append", "remove"] {
            // 256 bytes of two-byte characters, plain and escaped: counted decoded.
            for character in ["é", "\\u00e9"] {
                #expect(try set(String(repeating: character, count: 128), type).errors.isEmpty)
                let over = try set(String(repeating: character, count: 128) + "x", type)
                #expect(over.codes == ["\(type).path.segment_too_long"])
                #expect(
                    over.failures[0].message == "Path segment of 257 bytes exceeds maximum of 256")
            }
            for name in ["__proto__", "constructor", "prototype", "\\u005f_proto__"] {
                #expect(try set(name, type).codes == ["\(type).path.proto_polluted"])
                #expect(try set(name, type).value == "{}")
            }
            #expect(try set("__proto", type).errors.isEmpty)
            #expect(try set("Constructor", type).errors.isEmpty)
        }
    }

    @Test("check a merge's segments in order: empty, too long, forbidden") func mergePathOrder()
        throws
    {
        let long = String(repeating: "x", count: 257)
        func code(_ path: String) throws -> [String] {
            try updater.apply("{}", "[{\"type\":\"merge\",\"path\":\(path),\"value\":5}]").codes
        }
        #expect(try code("[\"a\",\"\",\"\(long)\"]") == ["merge.path.empty_segment"])
        #expect(try code("[\"\(long)\",\"\",\"__proto__\"]") == ["merge.path.segment_too_long"])
        #expect(try code("[\"prototype\",\"\"]") == ["merge.path.proto_polluted"])
        #expect(try code("[\"a\"]") == ["merge.value.not_an_object"])
        for root in ["[]", "\"\"", "null"] {
            #expect(try code(root) == ["merge.value.not_an_object"])
        }
    }

    // MARK: Merge values

    @Test("count the top-level keys of a merge, each once", arguments: [1023, 1024, 1025, 5000])
    func mergeKeys(count: Int) throws {
        let members = (0..<count).map { "\"k\($0)\":\($0)" }
        let ops = { (members: [String]) in
            "[{\"type\":\"merge\",\"value\":{" + members.joined(separator: ",") + "}}]"
        }
        let outcome = try updater.apply("{}", ops(members))
        if count <= 1024 {
            #expect(outcome.value == "{" + members.joined(separator: ",") + "}")
            // The same keys again are the same keys.
            #expect(try updater.apply("{}", ops(members + members)) == outcome)
        } else {
            #expect(outcome.codes == ["merge.value.too_many_keys"])
            #expect(
                outcome.failures[0].message
                    == "Merge value has \(count) top-level keys, exceeds maximum of 1024")
        }
    }

    @Test("take 16 levels in a merge, not one more, and name the first forbidden key in byte order")
    func mergeValues() throws {
        func merge(_ value: String) throws -> Outcome {
            try updater.apply("{}", "[{\"type\":\"merge\",\"value\":\(value)}]")
        }
        func nested(_ depth: Int) -> String {
            String(repeating: "{\"a\":", count: depth - 1) + "{}"
                + String(repeating: "}", count: depth - 1)
        }
        #expect(try merge(nested(16)).depth == 16)
        #expect(
            try merge(nested(17)).failures.map(\.message) == [
                "Merge value JSON nesting depth 17 exceeds maximum of 16"
            ])
        #expect(
            try merge(#"{"prototype":1,"c\u006fnstructor":2,"a":{"__proto__":3}}"#).failures.map(
                \.message)
                == [#"Merge value top-level key "constructor" is a prototype-pollution sink"#])
        #expect(try merge(#"{"a":{"__proto__":3}}"#).value == #"{"a":{"__proto__":3}}"#)
    }

    // MARK: Limits of a call

    @Test("make values of 124 levels, not of 125", arguments: [0, 1, 2, 32])
    func depthLimit(levels: Int) throws {
        func nested(_ depth: Int) -> String {
            String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        let path = (0..<levels).map { "\"s\($0)\"" }.joined(separator: ",")
        // A merge is shallow enough itself, so what is deep is put in afterwards.
        if levels == 0 {
            #expect(
                try updater.apply(
                    nil, "[{\"type\":\"set\",\"path\":\"\",\"value\":\(nested(124))}]"
                ).depth == 124)
            let over = try updater.apply(
                nil, "[{\"type\":\"append\",\"path\":\"\",\"value\":\(nested(124))}]")
            #expect(over.result == -ELOOP)
        } else if levels == 1 {
            #expect(
                try updater.apply(
                    nil, "[{\"type\":\"set\",\"path\":\"a\",\"value\":\(nested(123))}]"
                ).depth == 124)
            #expect(
                try updater.apply(
                    nil, "[{\"type\":\"set\",\"path\":\"a\",\"value\":\(nested(124))}]"
                ).result == -ELOOP)
            // Only the outcome counts.
            let gone =
                "[{\"type\":\"set\",\"path\":\"a\",\"value\":\(nested(124))},{\"type\":\"remove\",\"path\":\"a\"}]"
            #expect(try updater.apply(nil, gone).value == "{}")
        } else {
            let ops = "[{\"type\":\"merge\",\"path\":[\(path)],\"value\":{\"v\":\(nested(15))}}]"
            let depth = UInt32(levels + 16)
            #expect(try updater.apply(nil, ops, depthMax: depth).depth == depth)
            #expect(try updater.apply(nil, ops, depthMax: depth - 1).result == -ELOOP)
        }
    }

    @Test("make values up to the limit of size, not one byte more") func sizeLimit() throws {
        let ops = #"[{"type":"append","path":"s","value":"0123456789"}]"#
        #expect(try updater.apply(#"{"s":""}"#, ops, sizeMax: 18).value.utf8.count == 18)
        #expect(try updater.apply(#"{"s":""}"#, ops, sizeMax: 17).result == -EMSGSIZE)
        // What is only copied counts as well.
        #expect(try updater.apply(#"{"s":""}"#, "[]", sizeMax: 8).result == 0)
        #expect(try updater.apply(#"{"s":""}"#, "[]", sizeMax: 7).result == -EMSGSIZE)
        // Only the outcome counts.
        let gone = #"[{"type":"set","path":"a","value":"0123456789"},{"type":"remove","path":"a"}]"#
        #expect(try updater.apply(nil, gone, sizeMax: 2).value == "{}")
    }

    @Test("keep the list of errors within the limit of size too") func errorLimit() throws {
        let op = #"{"type":"set","path":"a","value":1}"#
        let size = try updater.apply("1", "[\(op),\(op)]").errors.utf8.count
        #expect(try updater.apply("1", "[\(op),\(op)]", sizeMax: size).result == 0)
        #expect(try updater.apply("1", "[\(op),\(op)]", sizeMax: size - 1).result == -EMSGSIZE)
        // A malformed operation after too many errors still has the say.
        let many = [String](repeating: op, count: 100).joined(separator: ",")
        #expect(try updater.apply("1", "[\(many)]", sizeMax: size).result == -EMSGSIZE)
        #expect(try updater.apply("1", "[\(many),7]", sizeMax: size).result == -EINVAL)
    }

    @Test("change big values, and small ones after them") func bigValues() throws {
        let text = String(repeating: "0123456789abcdef", count: 500_000)  // 8 MB, twice fit
        let old =
            "{\"text\":\"\(text)\",\"n\":1,\"list\":[\(String(repeating: "1,", count: 100_000))1]}"
        #expect(
            try new(old, #"[{"type":"increment","path":"n","by":1}]"#)
                == old.replacingOccurrences(of: "\"n\":1", with: "\"n\":2"))
        let longer = try new(old, "[{\"type\":\"append\",\"path\":\"text\",\"value\":\"\(text)\"}]")
        #expect(longer.utf8.count == old.utf8.count + text.utf8.count)
        #expect(
            try updater.apply(
                longer, "[{\"type\":\"append\",\"path\":\"text\",\"value\":\"\(text)\"}]"
            ).result == -EMSGSIZE)
        #expect(try new(nil, #"[{"type":"set","path":"a","value":1}]"#) == #"{"a":1}"#)
        #expect(try new("[]", #"[{"type":"append","path":"","value":1}]"#) == "[1]")
    }

    @Test("take many operations in one call") func manyOperations() throws {
        let ops = (0..<20_000).map {
            "{\"type\":\"increment\",\"path\":\"k\($0 % 3000)\",\"by\":1}"
        }
        let result = try new(nil, "[" + ops.joined(separator: ",") + "]")
        let members = (0..<3000).map { "\"k\($0)\":\($0 < 2000 ? 7 : 6)" }
        #expect(result == "{" + members.joined(separator: ",") + "}")
    }

    // MARK: Random sequences

    @Test("do what a naive applier does, in random sequences") func random() throws {
        var random = RandomUpdate(generator: SeededGenerator(seed: randomSeed()))
        var old: JSON?
        for step in 0..<4000 {
            if step % 25 == 0 { old = random.coin() ? nil : random.value() }
            let ops = (0..<random.pick(0..<6)).map { _ in random.operation() }
            var model = UpdateModel(old: old)
            model.apply(ops)
            let outcome = try updater.apply(old?.text, JSON.array(ops).text)
            try #require(outcome.result == 0)
            let context: Comment = "\(old?.text ?? "nothing") \(JSON.array(ops).text)"
            try #require(JSONReader.read(Array(outcome.value.utf8)) == model.root, context)
            try #require(outcome.failures == model.failures, context)
            #expect(Int(outcome.depth) == model.root.depth)
            old = model.root.depth > 60 ? nil : model.root
        }
    }
}

/// Makes values and operations that meet each other often.
private struct RandomUpdate {
    var generator: SeededGenerator

    mutating func pick(_ range: Range<Int>) -> Int { Int.random(in: range, using: &generator) }
    mutating func coin() -> Bool { pick(0..<2) == 0 }

    private mutating func key() -> [UInt8] {
        let names = [
            "a", "b", "c", "d", "é", "a\"b", "", "__proto__", String(repeating: "x", count: 257),
        ]
        return Array(names[pick(0..<(pick(0..<8) == 0 ? names.count : 4))].utf8)
    }

    mutating func value(depth: Int = 0) -> JSON {
        switch pick(0..<(depth > 3 ? 5 : 9)) {
        case 0: return .null
        case 1: return .bool(coin())
        case 2, 3:
            let texts = [
                "0", "1", "-1", "1.5", "-0", "9223372036854775807", "-9223372036854775808",
                "18446744073709551615", "1e300", "2.50", "0.1",
            ]
            return .number(texts[pick(0..<texts.count)])
        case 4: return .text(["", "s", "é", "\n"][pick(0..<4)])
        case 5: return .array((0..<pick(0..<3)).map { _ in value(depth: depth + 1) })
        default:
            return .object(
                (0..<pick(0..<24)).map { _ in .init(key: key(), value: value(depth: depth + 2)) })
        }
    }

    mutating func operation() -> JSON {
        let type = ["set", "merge", "increment", "decrement", "append", "remove"][pick(0..<6)]
        var path: JSON = .string(pick(0..<6) == 0 ? [] : key())
        if type == "merge", coin() { path = .array((0..<pick(0..<4)).map { _ in .string(key()) }) }
        let by = ["1", "-1", "0", "9223372036854775807", "-9223372036854775808", "2.0", "1e2"][
            pick(0..<7)]
        return .object([
            .init(key: Array("type".utf8), value: .text(type)),
            .init(key: Array("path".utf8), value: path),
            .init(key: Array("value".utf8), value: value(depth: type == "merge" ? 0 : 2)),
            .init(key: Array("by".utf8), value: .number(by)),
        ])
    }
}
