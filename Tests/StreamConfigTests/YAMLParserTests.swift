import Testing

@testable import StreamConfig

@Suite("YAML that is read")
struct YAMLParserTests {
    @Test(
        "gives plain scalars the type of the core schema",
        arguments: [
            ("", nil), ("~", nil), ("null", nil), ("Null", nil), ("NULL", nil), ("nUll", "nUll"),
            ("true", true), ("True", true), ("FALSE", false), ("yes", "yes"), ("off", "off"),
            ("0", 0), ("3112", 3112), ("-7", -7), ("+7", 7), ("007", 7), ("0o17", 15),
            ("0xfF", 255),
            ("0o8", "0o8"), ("0x", "0x"), ("1_000", "1_000"), ("0b1", "0b1"),
            ("9223372036854775807", 9_223_372_036_854_775_807),
            ("9223372036854775808", .hugeInteger("9223372036854775808")),
            ("-9223372036854775808", .integer(.min)),
            ("-9223372036854775809", .hugeInteger("-9223372036854775809")),
            ("0x8000000000000000", .hugeInteger("0x8000000000000000")),
            ("1.5", 1.5), ("1.", 1.0), (".5", 0.5), ("-1e3", -1000.0), ("1E-2", 0.01), (".", "."),
            ("1e", "1e"), ("e3", "e3"), ("1.2.3", "1.2.3"), ("-", "-"), ("127.0.0.1", "127.0.0.1"),
            ("12:30", "12:30"), ("redis://localhost:6379", "redis://localhost:6379"),
            ("a b", "a b"), ("-x", "-x"), ("?x", "?x"), (":x", ":x"), ("a#b", "a#b"),
            ("it's", "it's"), ("a'b # c", "a'b"), ("${open", "${open"), ("$NAME", "$NAME"),
        ] as [(String, YAMLNode.Value)])
    func plainScalars(text: String, expected: YAMLNode.Value) throws {
        if text != "-" {
            #expect(try value("key: \(text)\n") == ["key": expected])
            if !text.isEmpty, !text.contains("{"), !text.contains("#") {
                #expect(try value("[x, \(text), y]") == ["x", expected, "y"])
            }
        }
        #expect(plainValue(text) == (text.contains(" #") ? .string(text) : expected))
    }

    @Test("reads infinities and not-a-number")
    func specialFloats() throws {
        #expect(
            try value("[.inf, -.Inf, +.INF]") == [
                .float(.infinity), .float(-.infinity), .float(.infinity),
            ])
        guard case .list(let items) = try value("[.nan]"), case .float(let number) = items[0].value
        else { return #expect(Bool(false), "a list with a float") }
        #expect(number.isNaN)
    }

    @Test(
        "reads block maps and lists",
        arguments: [
            ("a: 1\nb:\n  c: 2\n  d: 3\ne: 4\n", ["a": 1, "b": ["c": 2, "d": 3], "e": 4]),
            ("- 1\n- - 2\n  - 3\n-\n  - 4\n-\n- 5\n", [1, [2, 3], [4], nil, 5]),
            ("a:\n- 1\n- 2\nb:\n  - 3\n", ["a": [1, 2], "b": [3]]),
            (
                "- a: 1\n  b: 2\n-   c:\n      d: 3\n    e: 4\n",
                [["a": 1, "b": 2], ["c": ["d": 3], "e": 4]]
            ),
            ("a:\nb:\n", ["a": nil, "b": nil]),
            ("a:\n\n\n  # about b\n  b: 1 # one\n# end", ["a": ["b": 1]]),
            ("  a: 1\n  b: 2\n", ["a": 1, "b": 2]),
            ("a : 1\n\"b\" : 2\n'c':\t3\n", ["a": 1, "b": 2, "c": 3]),
            ("a:\n  - b: 1\n    c:\n    - 2\n  - 3\n", ["a": [["b": 1, "c": [2]], 3]]),
            ("1: x\ntrue: y\n", ["1": "x", "true": "y"]),
            ("x", "x"), ("", nil), ("# only a comment\n\n", nil), ("\n\n  \n", nil),
            ("---\na: 1\n", ["a": 1]), ("# c\n--- # d\n- 1\n...\n# e\n", [1]), ("---\n", nil),
            ("a: ---\nb: ...\n", ["a": "---", "b": "..."]),
            ("a: 1\r\nb:\r\n  - 2\r\n", ["a": 1, "b": [2]]),
            ("\u{FEFF}a: 1\n", ["a": 1]), ("ключ: значение 🎉\n", ["ключ": "значение 🎉"]),
        ] as [(String, YAMLNode.Value)])
    func blocks(text: String, expected: YAMLNode.Value) throws {
        #expect(try value(text) == expected)
    }

    @Test(
        "reads flow maps and lists",
        arguments: [
            ("[]", []), ("{}", [:]), ("[ 1 , two,\"three\" , ]", [1, "two", "three"]),
            (
                "{a: 1, \"b\":2, 'c' : [3], d: , e: {f: g}, }",
                ["a": 1, "b": 2, "c": [3], "d": nil, "e": ["f": "g"]]
            ),
            ("a: {b: 1, # one\n  c: [2,\n 3 ] }\nd: 4\n", ["a": ["b": 1, "c": [2, 3]], "d": 4]),
            ("[a,\nb\n]", ["a", "b"]), ("a:\n- [b,\n c]\n", ["a": [["b", "c"]]]),
            ("a:\n  b: [c,\n\n# d\n\t\n   e\n   ]\n", ["a": ["b": ["c", "e"]]]),
            ("[a:b, redis://h:1/0]", ["a:b", "redis://h:1/0"]),
            (
                "{\"a\": [true, null, -1.5e3, \"\\u00e9\\ud83c\\udf89\"]}",
                ["a": [true, nil, -1500.0, "é🎉"]]
            ),
            ("- [1]\n- {a: 1} # c\n", [[1], ["a": 1]]),
        ] as [(String, YAMLNode.Value)])
    func flow(text: String, expected: YAMLNode.Value) throws {
        #expect(try value(text) == expected)
    }

    @Test(
        "reads quoted scalars",
        arguments: [
            ("'it''s # no: comment'", "it's # no: comment"), ("''", ""), ("\"\"", ""),
            (
                "\"\\0\\a\\b\\t\\n\\v\\f\\r\\e\\ \\\"\\/\\\\\\N\\_\\L\\P\"",
                "\0\u{7}\u{8}\t\n\u{B}\u{C}\r\u{1B} \"/\\\u{85}\u{A0}\u{2028}\u{2029}"
            ),
            ("\"\\x41\\u0416\\U0001F389\"", "AЖ🎉"), ("'\\n'", "\\n"),
            ("\"a  \n  b\n\n\n  c \\\n   d\\ \n e\"", "a b\n\nc d  e"),
            ("'a\n\n b'", "a\nb"), ("\"a\n \tb\n \t\n c\"", "a b\nc"), ("\"3112\"", "3112"),
            ("'null'", "null"),
        ] as [(String, YAMLNode.Value)])
    func quotedScalars(text: String, expected: YAMLNode.Value) throws {
        #expect(try value(text) == expected)
        #expect(try value("a: \(text)\nb: 1\n") == ["a": expected, "b": 1])
    }

    @Test(
        "reads block texts",
        arguments: [
            ("|\n  a\n   b\n\n  c\n", "a\n b\n\nc\n"), ("|-\n  a\n\n", "a"),
            ("|+\n  a\n\n\n", "a\n\n\n"),
            (">\n  a\n  b\n\n  c\n   d\n  e\n", "a b\nc\n d\ne\n"),
            ("|\n  # no comment\n", "# no comment\n"),
            ("|2\n    a\n", "  a\n"), ("| # a comment\n  x: y\n", "x: y\n"), ("|\n", ""),
            (">-\n\n  a\n", "\na"),
            ("|\n  a\n  \t\n", "a\n\t\n"), ("|\n  a\n# c\n\t\n", "a\n"),
            ("|\n  a", "a"), ("|-2\n   a\n", " a"), ("|\n  a\n # comment\n", "a\n"),
        ] as [(String, YAMLNode.Value)])
    func blockTexts(text: String, expected: YAMLNode.Value) throws {
        #expect(try value("k: \(text)") == ["k": expected])
        if text.hasSuffix("\n") {
            #expect(try value("k: \(text)l: 1\n") == ["k": expected, "l": 1])
        }
    }

    @Test("quoted text alone in a file may begin each line at its left end")
    func quotedAlone() throws {
        #expect(try value("\"a\n\tb\nc\"") == "a b c")
        #expect(try value("---\n'a\n\t\nb'\n") == "a\nb")
    }

    @Test("remembers where every key and value stands")
    func positions() throws {
        let (node, _) = yaml("# c\nä: [1, {b: x}]\nc:\n  - d\n")
        let root = try #require(node)
        guard case .map(let entries) = root.value else { return #expect(Bool(false), "a map") }
        #expect(root.position == SourcePosition(line: 2, column: 1))
        #expect(entries[1].keyPosition == SourcePosition(line: 3, column: 1))
        #expect(root["ä"]?.position == SourcePosition(line: 2, column: 4))
        guard case .list(let items) = root["ä"]?.value else {
            return #expect(Bool(false), "a list")
        }
        #expect(items[1].position == SourcePosition(line: 2, column: 8))
        #expect(items[1]["b"]?.position == SourcePosition(line: 2, column: 12))
        guard case .list(let list) = root["c"]?.value else { return #expect(Bool(false), "a list") }
        #expect(list[0].position == SourcePosition(line: 4, column: 5))
    }

    @Test(
        "reads what is as deep as allowed and refuses what is one deeper",
        arguments: [
            ("[", "]"), ("{a: ", "}"), ("- ", ""), ("[{a: ", "}]"),
        ])
    func depth(open: String, close: String) {
        let levels = open == "[{a: " ? 2 : 1
        let deepest = YAMLParser.depthMax / levels
        func nested(_ count: Int) -> String {
            String(repeating: open, count: count) + "1" + String(repeating: close, count: count)
        }
        #expect(yaml(nested(deepest)).problems == [])
        #expect(yaml(nested(deepest - 1)).problems == [])
        let refused = yaml(nested(deepest + 1))
        #expect(refused.problems.map(\.message) == ["lists and maps are nested more than 64 deep"])
        #expect(yaml(nested(200_000)).problems.count == 1)
    }

    @Test("reads nested block maps as deep as allowed")
    func blockMapDepth() {
        func nested(_ count: Int) -> String {
            (0..<count).map { String(repeating: " ", count: $0) + "a:" }.joined(separator: "\n")
                + " 1"
        }
        #expect(yaml(nested(YAMLParser.depthMax)).problems == [])
        #expect(yaml(nested(YAMLParser.depthMax + 1)).problems.count == 1)
    }
}
