import StreamModel
import Testing

private func view(_ text: String) -> JSONView {
    JSONText(validated: Array(text.utf8)).view
}

private func written(_ view: JSONView?) -> String? {
    view.map { String(decoding: $0.text, as: UTF8.self) }
}

@Suite("JSON view")
struct JSONViewTests {
    @Test(
        "knows the kind of a value, white space around it or not",
        arguments: [
            ("null", JSONView.Kind.null), ("true", .boolean), ("false", .boolean),
            ("-1.5e3", .number),
            ("0", .number), ("\"\"", .string), ("[]", .array), ("{}", .object),
        ])
    func kinds(text: String, kind: JSONView.Kind) {
        #expect(view(text).kind == kind)
        #expect(view(" \n\t\r" + text + " ").kind == kind)
        #expect(written(view(" " + text + "\n")) == text)
    }

    @Test(
        "decodes every escape",
        arguments: [
            (#""""#, ""), (#""plain""#, "plain"), (#""\"\\\/\b\f\n\r\t""#, "\"\\/\u{8}\u{C}\n\r\t"),
            (#""\u0041\u00e9\u20AC""#, "A\u{E9}\u{20AC}"), (#""\ud83d\uDE00!""#, "\u{1F600}!"),
            (#""\ud83d""#, "\u{FFFD}"), (#""\ud83dx""#, "\u{FFFD}x"),
            (#""\ud83d\u0041""#, "\u{FFFD}A"),
            (#""\ude00""#, "\u{FFFD}"), ("\"\u{1F600}\"", "\u{1F600}"),
        ])
    func escapes(text: String, decoded: String) {
        #expect(view(text).string.map(Name.init) == Name(decoded))
    }

    @Test("has no string and no number where there is another kind") func otherKinds() {
        #expect(view("5").string == nil)
        #expect(view("5").number == "5")
        #expect(view("\"5\"").number == nil)
        #expect(Array(view("[1]").members.map(\.name)).isEmpty)
    }

    @Test("walks the members of an object and leaves nested values whole") func members() {
        let text =
            #"{ "a" : 1 , "b\u0041" : {"x":[1,{"}":"]"}]} ,"c":[ "\"{" ],"d":"e\\" , "f":null }"#
        let members = Array(view(text).members)
        #expect(members.map(\.name) == ["a", "bA", "c", "d", "f"])
        #expect(
            members.map { written($0.value) } == [
                "1", #"{"x":[1,{"}":"]"}]}"#, #"[ "\"{" ]"#, #""e\\""#, "null",
            ])
    }

    @Test("finds the last of repeated members, and no nested one") func lastWins() {
        let object = view(#"{"a":1,"b":{"c":3},"a":2}"#)
        #expect(written(object["a"]) == "2")
        #expect(written(object["b"]?["c"]) == "3")
        #expect(object["c"] == nil)
        #expect(view("{}")["a"] == nil)
    }

    /// The core hands over validated text only; a fault there must not become a crash here.
    @Test("every prefix of a text can be walked") func prefixes() {
        let text = Array(#"{"a\n":{"b":[1,"\ud83d\ude00"]},"c":-1.5e3,"d":tru,"e":"f"}"#.utf8)
        for count in 0...text.count {
            var members = 0
            for member in JSONText(validated: Array(text[..<count])).view.members {
                members += 1
                _ = member.value.string
            }
            #expect(members <= 4)
        }
    }

    @Test("any bytes can be walked") func noise() {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("JSON view noise: seed \(seed)")
        var random = SplitMix(state: seed)
        let alphabet = Array(#"{}[]":,\u0d89ntf-1 "#.utf8)
        for _ in 0..<2_000 {
            let bytes = (0..<40).map { _ in alphabet[Int(random.next() % UInt64(alphabet.count))] }
            let value = JSONText(validated: bytes).view
            _ = value.string
            let members = Array(value.members)
            #expect(members.count <= 20)
            for member in members { _ = member.value.string }
        }
    }

    @Test("a value a hundred thousand containers deep is skipped without recursion") func deep() {
        let deep = String(repeating: "[", count: 100_000) + String(repeating: "]", count: 100_000)
        let object = view("{\"a\":\(deep),\"b\":1}")
        #expect(written(object["b"]) == "1")
    }
}

@Suite("JSON mismatch")
struct JSONMismatchTests {
    @Test(
        "names what it found in the words of the engine",
        arguments: [
            ("5", "integer `5`"), ("-1", "integer `-1`"), ("1.5", "floating point `1.5`"),
            ("1.0", "floating point `1.0`"), ("-0", "floating point `-0.0`"),
            ("true", "boolean `true`"),
            ("[]", "sequence"), ("{}", "map"),
            ("18446744073709551615", "integer `18446744073709551615`"),
            ("18446744073709551616", "floating point `1.8446744073709552e+19`"),
        ])
    func unexpected(text: String, name: String) {
        #expect(throws: JSONMismatch(reason: "invalid type: \(name), expected a string")) {
            try view(text).optionalString()
        }
    }

    @Test("repeats at most 64 bytes of a string") func longString() {
        let long = String(repeating: "x", count: 1000)
        let shown = String(repeating: "x", count: 64)
        #expect(
            view("\"\(long)\"").mismatch(expected: "struct S").reason
                == "invalid type: string \"\(shown)\", expected struct S")
    }

    @Test("null counts as absent") func null() throws {
        #expect(try view("null").optionalString() == nil)
        #expect(try view("null").optionalUInt32() == nil)
    }

    @Test("an integer fits 32 bits or is refused") func integers() throws {
        #expect(try view("0").optionalUInt32() == 0)
        #expect(try view("4294967295").optionalUInt32() == .max)
        #expect(throws: JSONMismatch(reason: "invalid value: integer `4294967296`, expected u32")) {
            try view("4294967296").optionalUInt32()
        }
        #expect(throws: JSONMismatch(reason: "invalid value: integer `-1`, expected u32")) {
            try view("-1").optionalUInt32()
        }
        #expect(throws: JSONMismatch(reason: "invalid type: floating point `1.5`, expected u32")) {
            try view("1.5").optionalUInt32()
        }
        #expect(throws: JSONMismatch(reason: "invalid type: string \"1\", expected u32")) {
            try view("\"1\"").optionalUInt32()
        }
    }
}

@Suite("JSON object writer")
struct JSONObjectWriterTests {
    @Test("writes members in order and nothing for nil") func members() {
        var writer = JSONObjectWriter()
        writer.add("a", "b")
        writer.addIfPresent("no", nil as String?)
        writer.addIfPresent("none", nil as JSONText?)
        writer.add("c", JSONText(validated: Array("[1, 2]".utf8)))
        writer.addIfPresent("d", "e")
        writer.addIfPresent("f", JSONText.null)
        #expect(text(writer.finish()) == #"{"a":"b","c":[1, 2],"d":"e","f":null}"#)
        #expect(text(JSONObjectWriter().finish()) == "{}")
    }

    @Test("escapes what must be escaped and nothing else") func escapes() {
        let string = "\"\\/\u{8}\u{C}\n\r\t\0\u{1F}\u{7F}\u{E9}\u{2028}\u{1F600}"
        let expected = #""\"\\/\u0008\u000c\n\r\t\u0000\u001f"# + "\u{7F}\u{E9}\u{2028}\u{1F600}\""
        #expect(text(JSONText(string: string)) == expected)
    }

    @Test("what is written is read back", arguments: 0..<256) func roundTrip(byte: Int) {
        let string = "a\(Character(Unicode.Scalar(UInt8(byte))))\\\"z"
        #expect(JSONText(string: string).view.string.map(Name.init) == Name(string))
    }

    private func text(_ text: JSONText) -> String {
        String(decoding: text.bytes, as: UTF8.self)
    }
}

/// The generator of Steele, Lea and Flood, for random tests that can be repeated.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}
