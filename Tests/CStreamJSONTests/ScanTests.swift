import CStreamJSON
import Foundation
import SeededRandom
import Testing

/// Serialized: some of these choose the instruction set of all scans.
@Suite("JSON scanner", .serialized)
struct ScanTests {
    static let good = [
        "0", "-0", "12", "-1.5", "1e5", "1E+5", "2.5e-3", "null", "true", "false", "\"\"", "\"a\"",
        "[]", "{}", " [ ] ", "\t{\r\n}\n", "[1,2,3]", "[[],[[]],{}]", "{\"a\":1}", "{\"\":0}",
        #"{"a":{"b":[1,{"c":null}]},"d":"e"}"#, #"["\"\\\/\b\f\n\r\t\u0041\ud83d\ude00"]"#,
        #"{"é":"ключ","k":"日本語","😀":"😀"}"#, "[ 1 , \"a\" , { \"b\" : true } ]",
        #"{"type":"invokefunction","invocation_id":"7d0f","function_id":"stream::set","data":{"stream_name":"chat","group_id":"room-1","item_id":"msg-7","data":{"text":"hi","n":[1,2.5]}}}"#,
    ]

    @Test("accepts good texts and finds their kind and depth", arguments: good)
    func accepts(text: String) throws {
        let scan = Scan(text)
        let model = try #require(JSONReader.read(Array(text.utf8)))
        #expect(scan.accepted)
        #expect(Int(scan.root.depth) == model.depth)
        #expect(string(scan.root.text) == text.trimmingCharacters(in: .whitespacesAndNewlines))
        #expect(JSONReader.read(compact(scan.root)) == model)
    }

    @Test("refuses every prefix of a good text that is not one itself", arguments: good)
    func prefixes(text: String) {
        let bytes = Array(text.utf8)
        for size in bytes.indices {
            let prefix = Array(bytes[..<size])
            let scan = Scan(Text(prefix))
            #expect(scan.accepted == (JSONReader.read(prefix) != nil))
            // A text that was cut is never said to be bad UTF-8.
            #expect(scan.accepted || scan.result == -EBADMSG)
            #expect(scan.accepted || scan.index.pointee.error_offset <= size)
        }
    }

    /// At every place of a good text, a byte of each class is put in, and a byte taken out: the scanner says
    /// what the plain reader says.
    @Test("agrees with a plain reader on every broken good text", arguments: good)
    func splits(text: String) {
        let bytes = Array(text.utf8)
        let classes: [UInt8] = [
            0, 0x0B, 0x20, 0x22, 0x2C, 0x2D, 0x2E, 0x30, 0x31, 0x3A, 0x5B, 0x5C, 0x5D, 0x65, 0x75,
            0x7B,
            0x7D, 0x7F, 0x80, 0xC3, 0xED, 0xF0, 0xFF,
        ]
        for at in 0...bytes.count {
            for byte in classes {
                var changed = bytes
                changed.insert(byte, at: at)
                #expect(
                    Scan(Text(changed)).accepted == (JSONReader.read(changed) != nil), "\(changed)")
            }
            guard at < bytes.count else { continue }
            var changed = bytes
            changed.remove(at: at)
            #expect(Scan(Text(changed)).accepted == (JSONReader.read(changed) != nil), "\(changed)")
        }
    }

    static let refused = [
        // Structure
        "", " ", "[", "]", "{", "}", "[]]", "{}}", "[}", "{]", "[1", "[1,", "[,", "[,1]", "[1,]",
        "[1,,2]",
        "[1 2]", "[1:2]", "{\"a\"}", "{\"a\":}", "{:1}", "{\"a\":1,}", "{,\"a\":1}", "{\"a\" 1}",
        "{\"a\":1 \"b\":2}", "{\"a\":1,,\"b\":2}", "{\"a\":1:2}", "{a:1}", "{'a':1}", "{1:1}",
        "{null:1}",
        "{[]:1}", "1 2", "[] []", "{}#", "[1]x", "\"a\" \"b\"", "*", "/**/1", "1//", "[1]/**/",
        "<a>", "(1)",
        // Literals
        "nul", "nulll", "tru", "True", "fals", "FALSE", "nan", "NaN", "Infinity", "-Infinity",
        "-nan",
        "[nullx]", "[truefalse]", "undefined",
        // Numbers
        "-", "+1", "01", "-01", "00", "1.", ".5", "-.5", "1.e5", "1e", "1e+", "1E-", "1e5.5",
        "0x10", "1_000",
        "1,0", "--1", "1.2.3", "1e400", "-1e400", "1e309", "179769313486231581e291", "- 1", "1 e5",
        "١",
        // Strings
        "\"", "\"a", "'a'", "\"\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u12G4\"", "\"\\U0041\"", "\"\\",
        "\"\\u",
        "\"\u{0}\"", "\"\u{1F}\"", "\"\t\"", "\"\n\"", "\"\\\n\"", "\"\\ud800\"", "\"\\udc00\"",
        "\"\\ud800\\ud800\"", "\"\\ud800x\"", "\"\\ud800\\n\"", "\"\\ud800\\u0041\"",
        "{\"\\ud800\":1}",
        // Outside of strings
        "\u{FEFF}1", "[\u{A0}1]", "[1]\u{2028}", "\u{C}1", "\u{B}1", "[1]\u{0}", "é",
    ]

    @Test("refuses what is not JSON", arguments: refused) func refuses(text: String) {
        #expect(Scan(text).result == -EBADMSG)
        #expect(JSONReader.read(Array(text.utf8)) == nil)
    }

    static let numbers = [
        "0", "-0", "-0.0", "0e0", "0e999999999999999999", "-0.0E-99999999999", "1e308", "-1e308",
        "1.7976931348623157e308", "17976931348623157e292", "1e-400", "5e-324",
        "123456789012345678901234567890",
        "0.00000000000000000000000000000000000001e345", "1" + String(repeating: "0", count: 308),
        "0." + String(repeating: "0", count: 400) + "1e700",
        // The largest text that rounds to the largest double, and the smallest that does not.
        "1797693134862315807372897" + String(repeating: "0", count: 284),
    ]

    @Test("accepts every finite number", arguments: numbers) func finite(text: String) {
        #expect(Scan(text).accepted)
    }

    /// 2^1024 - 2^970 lies half way between the largest double and what would be the next: it rounds to the
    /// even one, infinity, and anything below it does not.
    @Test("draws the line at the exact rounding border") func border() {
        let border =
            "179769313486231580793728971405303415079934132710037826936173778980444968292764750946649"
            + "017977587207096330286416692887910946555547851940402630657488671505820681908902000708383"
            + "676273854845817711531764475730270069855571366959622842914819860834936475292719074168444"
            + "365510704342711559699508093042880177904174497792"
        let below = border.dropLast() + "1"
        #expect(border.count == 309)
        #expect(!Scan(border).accepted)
        #expect(!Scan("-" + border + ".000").accepted)
        #expect(Scan(String(below)).accepted)
        #expect(Scan(below + ".99999" + String(repeating: "9", count: 1000)).accepted)
        #expect(!Scan("1" + String(repeating: "0", count: 309)).accepted)
    }

    @Test("tells bad UTF-8 in a string from bad JSON") func utf8() {
        let bad: [[UInt8]] = [
            [0x80], [0xBF], [0xC0, 0x80], [0xC1, 0xBF], [0xC3, 0x28], [0xE0, 0x80, 0x80],
            [0xE0, 0x9F, 0xBF],
            [0xE2, 0x28, 0xA1], [0xE2, 0x82, 0x28], [0xED, 0xA0, 0x80], [0xED, 0xBF, 0xBF],
            [0xF0, 0x80, 0x80, 0x80], [0xF0, 0x8F, 0xBF, 0xBF], [0xF0, 0x90, 0x28, 0x80],
            [0xF4, 0x90, 0x80, 0x80], [0xF5, 0x80, 0x80, 0x80], [0xFE], [0xFF], [0xE2, 0x82, 0x22],
        ]
        for sequence in bad {
            for padding in 0...70 {
                let body = [UInt8](repeating: 0x61, count: padding) + sequence
                #expect(Scan(Text([0x22] + body + [0x22])).result == -EILSEQ, "\(sequence)")
                #expect(Scan(Text([0x22] + body + [0x61, 0x22])).result == -EILSEQ, "\(sequence)")
            }
        }
    }

    @Test("accepts the first and last character of each UTF-8 length")
    func utf8Edges() throws {
        let scalars: [UInt32] = [
            0x7F, 0x80, 0x7FF, 0x800, 0xFFF, 0x1000, 0xD7FF, 0xE000, 0xFFFF, 0x10000, 0x3FFFF,
            0x40000,
            0xFFFFF, 0x100000, 0x10FFFF,
        ]
        for value in scalars {
            let scalar = try #require(Unicode.Scalar(value))
            #expect(Scan("\"\(scalar)\"").accepted)
        }
    }

    @Test("accepts containers up to the limit, not one more", arguments: [1, 2, 16, 127, 255])
    func depth(limit: Int) {
        func nested(_ depth: Int, object: Bool) -> String {
            object
                ? String(repeating: "{\"a\":", count: depth - 1) + "{}"
                    + String(repeating: "}", count: depth - 1)
                : String(repeating: "[", count: depth) + String(repeating: "]", count: depth)
        }
        for object in [false, true] {
            for depth in max(1, limit - 1)...limit {
                let scan = Scan(nested(depth, object: object), depthMax: UInt32(limit))
                #expect(scan.accepted)
                #expect(Int(scan.root.depth) == depth)
            }
            #expect(
                Scan(nested(limit + 1, object: object), depthMax: UInt32(limit)).result == -ELOOP)
        }
        #expect(Scan("1", depthMax: 0).accepted)
        #expect(Scan("[]", depthMax: 0).result == -ELOOP)
        #expect(Scan(String(repeating: "[", count: 1_000_000)).result == -ELOOP)
    }

    // MARK: Index

    @Test("indexes the members of the root and of its objects, in the order of the text")
    func index() {
        let scan = Scan(
            #"{"a":1,"b":{"c":[{"x":1}],"d":{"y":{"z":[]}}},"e":[{"f":1}],"g":"h","i":{}}"#)
        let expected: [Member] = [
            Member(key: "a", parent: -1, value: "1", kind: SC_JSON_NUMBER, depth: 0, compact: true),
            Member(
                key: "b", parent: -1, value: #"{"c":[{"x":1}],"d":{"y":{"z":[]}}}"#,
                kind: SC_JSON_OBJECT,
                depth: 4, compact: true),
            Member(
                key: "c", parent: 1, value: #"[{"x":1}]"#, kind: SC_JSON_ARRAY, depth: 2,
                compact: true),
            Member(
                key: "d", parent: 1, value: #"{"y":{"z":[]}}"#, kind: SC_JSON_OBJECT, depth: 3,
                compact: true),
            Member(
                key: "e", parent: -1, value: #"[{"f":1}]"#, kind: SC_JSON_ARRAY, depth: 2,
                compact: true),
            Member(
                key: "g", parent: -1, value: "\"h\"", kind: SC_JSON_STRING, depth: 0, compact: true),
            Member(
                key: "i", parent: -1, value: "{}", kind: SC_JSON_OBJECT, depth: 1, compact: true),
        ]
        #expect(scan.members == expected)
        #expect(!scan.index.pointee.overflow)
        #expect(Scan(#"[{"a":{"b":1}}]"#).members.isEmpty)
    }

    @Test("knows which values have white space between their tokens")
    func compactness() {
        let scan = Scan(
            "{\"a\": {\"b\":1 },\"c\":[1,2],\n\"d\" : \" x \",\"e\":{\"f\" :1},\"g\":{}}")
        let flags = Dictionary(uniqueKeysWithValues: scan.members.map { ($0.key, $0.compact) })
        #expect(
            flags == [
                "a": false, "b": true, "c": true, "d": true, "e": false, "f": true, "g": true,
            ])
        #expect(!scan.root.compact)
        #expect(Scan(" {\"a\":1} ").root.compact)
    }

    @Test("finds the last of duplicate keys, however they are escaped") func duplicates() {
        let scan = Scan(#"{"a":1,"b":{"a":2,"\u0061":3,"k":{"a":9}},"\u0061":4,"b":5,"a\u0000":6}"#)
        #expect(scan.find("a") == "4")
        #expect(scan.find("b") == "5")
        #expect(scan.find("a", parent: 1) == "3")
        #expect(scan.find("a\0") == "6")
        #expect(scan.find("c") == nil)
        #expect(scan.find("") == nil)
    }

    @Test(
        "looks members up in the text when there are too many for the index",
        arguments: [39, 40, 41, 100])
    func overflow(count: Int) throws {
        let root = (0..<count).map { "\"k\($0)\":\($0)" }.joined(separator: ",")
        let scan = Scan("{\(root)}")
        #expect(scan.members.count == min(count, 40))
        #expect(scan.index.pointee.overflow == (count > 40))
        for i in 0..<count { #expect(scan.find("k\(i)") == "\(i)") }
        #expect(scan.find("k\(count)") == nil)

        let nested = Scan("{\"d\":{\(root)},\"last\":true}")
        #expect(nested.index.pointee.overflow == (count + 2 > 40))
        for i in 0..<count { #expect(nested.find("k\(i)", parent: 0) == "\(i)") }
        #expect(nested.find("last") == "true")
    }

    @Test("keeps the complete root members of a broken text, without the broken one")
    func brokenIndex() {
        func keys(_ text: String) -> [String] {
            let scan = Scan(text)
            #expect(!scan.accepted)
            #expect(scan.root.kind == UInt8(SC_JSON_ABSENT.rawValue))
            return scan.members.map(\.key)
        }
        #expect(keys(#"{"invocation_id":"x","data":{"a":1,"b":\"#) == ["invocation_id"])
        #expect(keys(#"{"invocation_id":"x" "#) == ["invocation_id"])
        #expect(keys(#"{"invocation_id":"x"?"#) == ["invocation_id"])
        #expect(keys(#"{"invocation_id":"x","#) == ["invocation_id"])
        #expect(keys(#"{"invocation_id":"x","d"#) == ["invocation_id"])
        #expect(keys(#"{"invocation_id":"x","d""#) == ["invocation_id"])
        #expect(keys(#"{"invocation_id":"x","d":tru}"#) == ["invocation_id"])
        #expect(keys(#"{"a":{"b":1},"c":[1,}"#) == ["a", "b"])
        #expect(keys(#"{"a":{"b":1},"c":{"d":[}"#) == ["a", "b"])
        #expect(keys(#"{"a":{"b":1}}x"#) == ["a", "b"])
        #expect(keys(#"{"invocation_id":"x"#) == [])
        #expect(Scan(#"{"invocation_id":"x","a":[}"#).find("invocation_id") == "\"x\"")
        #expect(Scan(#"{"a":[[]]}"#, depthMax: 2).result == -ELOOP)
    }

    // MARK: Instruction sets

    /// Strings of every length up to 130, at every alignment, with each special byte at each place.
    @Test("every instruction set gives the scalar answer") func levels() {
        defer { restoreBestLevel() }
        let specials: [[UInt8]] = [
            [], [0x22], [0x5C, 0x6E], [0x5C], [0x00], [0x1F], [0x20], [0x7F], [0x80], [0xC3, 0xA9],
            [0xFF],
            [0xF0, 0x9F, 0x98, 0x80],
        ]
        for length in 0...130 {
            for (number, special) in specials.enumerated() {
                let place = length == 0 ? 0 : (length * 7 + number * 13) % length
                var body = [UInt8](repeating: 0x61, count: length)
                body.insert(contentsOf: special, at: place)
                let bytes = [0x7B, 0x22] + body + [0x22, 0x3A, 0x22] + body + [0x22, 0x7D]
                for offset in 0..<32 {
                    let text = Text(bytes, offset: offset)
                    let results = Self.levels.map { level in
                        #expect(sc_json_scan_use_level(level))
                        let scan = Scan(text)
                        return Outcome(scan)
                    }
                    #expect(results.allSatisfy { $0 == results[0] }, "\(bytes) at \(offset)")
                    #expect((results[0].result == 0) == (JSONReader.read(bytes) != nil))
                }
            }
        }
    }

    /// Strings, numbers, white space and containers of every kind, moved over the edges of blocks of 64
    /// bytes one by one.
    @Test(
        "every instruction set gives the scalar answer across the edges of blocks",
        arguments: 0...130)
    func blocks(size: Int) {
        defer { restoreBestLevel() }
        let padding = String(repeating: "a", count: size)
        let white = String(repeating: " ", count: size)
        let body =
            #""n":1234567,"m" : -12345678 ,"o":{"p":[0,-0.5e1,[{"q":"é\u00e9\n"}]],"r":{}},"\"":"x","s":true"#
        for text in [
            "{\"\(padding)\":{\(body)},\(body)}", "{\"a\":\"\(padding)\",\(body)}",
            "{\"a\":\(white){\(body),\"z\":[\(padding.replacing("a", with: "0,"))1]}\n}",
            "\(white)[{\(body)},\"\(padding)é\"]",
            "{\(body),\"z\":1\(padding.replacing("a", with: "0"))}",
            "{\"a\":\"\(padding)", "{\"a\":\"\(padding)}", "[\"\(padding)\"}",
            "{\"a\":[\"\(padding)\"]",
            "{\"a\":{\"\(padding)\":1}}}", "{\"a\":1\(white)1}", "{\"a\":\(padding)}",
        ] {
            let bytes = Array(text.utf8)
            let results = Self.levels.map { level in
                #expect(sc_json_scan_use_level(level))
                return Outcome(Scan(Text(bytes)))
            }
            #expect(results.allSatisfy { $0 == results[0] }, "\(text)")
            #expect((results[0].result == 0) == (JSONReader.read(bytes) != nil), "\(text)")
        }
    }

    struct Outcome: Equatable {
        var result: Int32
        var error: Int
        var members: [Member]
        init(_ scan: Scan) {
            (result, error, members) = (scan.result, scan.index.pointee.error_offset, scan.members)
        }
    }

    static let levels = [
        SC_JSON_SCAN_SCALAR, SC_JSON_SCAN_SSE2, SC_JSON_SCAN_AVX2, SC_JSON_SCAN_NEON,
    ].filter {
        let supported = sc_json_scan_use_level($0)
        restoreBestLevel()
        return supported
    }

    @Test("every instruction set agrees with a plain reader on random texts") func randomTexts() {
        defer { restoreBestLevel() }
        var generator = SeededGenerator(seed: randomSeed())
        for _ in 0..<3000 {
            var writer = RandomJSON(generator: generator)
            var bytes = writer.text()
            generator = writer.generator
            if Bool.random(using: &generator), !bytes.isEmpty {
                bytes[Int.random(in: bytes.indices, using: &generator)] = UInt8.random(
                    in: 0...255, using: &generator)
            }
            let model = JSONReader.read(bytes)
            for level in Self.levels {
                #expect(sc_json_scan_use_level(level))
                let scan = Scan(Text(bytes))
                #expect(scan.accepted == (model != nil), "\(bytes)")
                guard let model, scan.accepted else { continue }
                #expect(Int(scan.root.depth) == model.depth)
                let short = compact(scan.root)
                #expect(JSONReader.read(short) == model)
                #expect(Scan(Text(short)).root.compact)
                #expect(scan.root.compact == (short.count == scan.root.text.size))
            }
        }
    }
}

func restoreBestLevel() {
    for level in [SC_JSON_SCAN_NEON, SC_JSON_SCAN_AVX2, SC_JSON_SCAN_SSE2, SC_JSON_SCAN_SCALAR]
    where sc_json_scan_use_level(level) { return }
}

/// Writes random JSON texts with all the spellings that the grammar allows.
struct RandomJSON {
    var generator: SeededGenerator
    var white = true

    mutating func text(depth: Int = 0) -> [UInt8] { Array(value(depth: depth).utf8) }

    private mutating func pick(_ range: Range<Int>) -> Int {
        Int.random(in: range, using: &generator)
    }

    private mutating func gap() -> String {
        white && pick(0..<8) == 0 ? ["", " ", "\n", "\t\r ", "  "][pick(0..<5)] : ""
    }

    mutating func value(depth: Int = 0) -> String {
        switch pick(0..<(depth > 5 ? 6 : 9)) {
        case 0: "null"
        case 1: "true"
        case 2: "false"
        case 3: number()
        case 4, 5: string()
        case 6: "[" + gap() + list { $0.value(depth: depth + 1) } + gap() + "]"
        default: "{" + gap() + list { $0.member(depth: depth + 1) } + gap() + "}"
        }
    }

    private mutating func list(_ element: (inout RandomJSON) -> String) -> String {
        var parts: [String] = []
        for _ in 0..<pick(0..<6) { parts.append(gap() + element(&self) + gap()) }
        return parts.joined(separator: ",")
    }

    private mutating func member(depth: Int) -> String {
        string() + gap() + ":" + gap() + value(depth: depth)
    }

    mutating func number() -> String {
        let fixed = [
            "0", "-0", "1", "-1", "9007199254740993", "18446744073709551616", "1e5", "1.0", "0.1",
        ]
        switch pick(0..<3) {
        case 0: return fixed[pick(0..<fixed.count)]
        case 1: return "\(Int64.random(in: .min ... .max, using: &generator) >> pick(0..<63))"
        default: return shortestText(Double(pick(0..<2_000_000)) / 1000 - 1000)
        }
    }

    mutating func string() -> String {
        let pieces = [
            "a", "key", "0", " ", "é", "ключ", "日本", "😀", "\\n", "\\\"", "\\\\", "\\/", "\\u0041",
            "\\u00e9",
            "\\ud83d\\ude00", "{", "}", "[", ",", ":",
            "a longer run of plain text than a vector has",
        ]
        return "\"" + (0..<pick(0..<5)).map { _ in pieces[pick(0..<pieces.count)] }.joined() + "\""
    }
}
