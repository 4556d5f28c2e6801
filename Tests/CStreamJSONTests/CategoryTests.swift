import CStreamJSON
import Glibc
import Testing

/// Vectors of our own for every category of the public JSON parsing suite, whose own files are not here:
/// what must be accepted, what must be refused, and our answer where the standard leaves it open
/// (docs/json.md).
@Suite("JSON by category")
struct CategoryTests {
    struct Vector: CustomTestStringConvertible {
        var text: [UInt8]
        var result: Int32
        var testDescription: String { String(decoding: text.prefix(60), as: UTF8.self) }
    }

    private static func accepted(_ texts: String...) -> [Vector] {
        texts.map { Vector(text: Array($0.utf8), result: 0) }
    }
    private static func refused(_ texts: String..., as result: Int32 = -EBADMSG) -> [Vector] {
        texts.map { Vector(text: Array($0.utf8), result: result) }
    }
    private static func refused(_ texts: [UInt8]..., as result: Int32 = -EBADMSG) -> [Vector] {
        texts.map { Vector(text: $0, result: result) }
    }

    private func check(_ vector: Vector) {
        #expect(Scan(Text(vector.text)).result == vector.result)
        // The recursive reader, which was written first, has no error codes.
        #expect((JSONReader.read(vector.text) != nil) == (vector.result == 0))
    }

    static let structures =
        accepted(
            "false", "7", "-0.5", "null", "\"only\"", "true", "\"\"", "[1]\n", "[true]",
            "\t[ ]\r\n", " 1 ",
            String(repeating: "[", count: 127) + String(repeating: "]", count: 127))
        + refused(
            "", " ", "\n", "[", "{", "]", "}", "[[", "[{", "[\"", "[\"x", "['", "[,", "{]", "{[",
            "{,", "{\"", "{'x'",
            "[1]]", "{}}", "[1]x", "{}x", "2@", "[][]", "[1", "[false, nul", "[ false, fals",
            "[true, tru", "{\"k\":",
            "{\"k\":1", "{\"k\":1,", "<.>", "[<null>]", "*", "å", "[True]", "aå", "{\"k\":/*x*/1}",
            "{}#", "[1}", "{\"k\":1]",
            "\\u000A\"\"", "[\u{C}]", "[\u{B}]", "\u{2060}", "[\u{2060}]", "1 // x", "[1],", ",",
            ":", "[1;2]")
        + refused([0x5B, 0x31, 0x5D, 0x00], [0x00], [0x5B, 0x00, 0x5D])
        + refused(
            String(repeating: "[", count: 100_000), String(repeating: "{\"\":", count: 100_000),
            String(repeating: "[", count: 128) + String(repeating: "]", count: 128), as: -ELOOP)

    @Test("structures", arguments: structures) func structure(vector: Vector) { check(vector) }

    static let numbers =
        accepted(
            "[12e3]", "[0e1]", "[0e+1]", "[ 4]",
            "[0.00000000000000000000000000000000000000000000000000000000001]",
            "[20e1]", "[-0]", "[-12]", "[-1]", "[-0.0]", "[1E22]", "[1E-2]", "[1E+2]", "[123e45]",
            "[123.456e78]",
            "[1e-2]", "[1e+2]", "[12]", "[12.5]", "[0]", "[0.0]", "[9007199254740993]", "[10.00]")
        + refused(
            "[++1]", "[+1]", "[+Inf]", "[-01]", "[-1.0.]", "[-2.]", "[-NaN]", "[.-1]", "[.2e-3]",
            "[0.1.2]", "[0.3e+]",
            "[0.3e]", "[0.e1]", "[0E+]", "[0E]", "[0e+]", "[0e]", "[1.0e+]", "[1.0e-]", "[1.0e]",
            "[1 000]", "[1eE2]",
            "[2.e+3]", "[2.e3]", "[9.e+]", "[Inf]", "[NaN]", "[１]", "[1+2]", "[0x1]", "[0x42]",
            "[Infinity]", "[0e+-1]",
            "[-12.x]", "[-Infinity]", "[-x]", "[- 1]", "[-012]", "[-.123]", "[-1x]", "[1ea]",
            "[1.]", "[.1]", "[1.2a-3]",
            "[1.8011670033376514H-308]", "[012]", "[-]", "[--1]", "[1-]", "123\u{0}", "00", "01",
            "1_000", "1,5")
        // Bad UTF-8 outside of a string is a syntax error.
        + refused(
            [0x5B, 0x31, 0xE5, 0x5D], [0x5B, 0x31, 0x65, 0x31, 0xE5, 0x5D],
            [0x5B, 0x30, 0xE5, 0x5D])

    /// Halfway between the largest double and 2^1024: what rounds to infinity begins here.
    static let infinite = [
        "17976931348623158079372897140530341507993413271003782693617377898044496829276475",
        "09466490179775872070963302864166928879109465555478519404026306574886715058206819",
        "08902000708383676273854845817711531764475730270069855571366959622842914819860834",
        "936475292719074168444365510704342711559699508093042880177904174497792",
    ].joined()
    static let largest = infinite.dropLast() + "1"  // Its last digit is 2.

    static let range = {
        var vectors: [Vector] = []
        for sign in ["", "-"] {
            for point in [0, 1, 2, 200, 308] {
                func spelt(_ digits: some StringProtocol, _ tail: String) -> String {
                    let whole = point == 0 ? "0.000" : digits.prefix(point) + "."
                    let exponent = point == 0 ? 312 : 309 - point
                    return "[\(sign)\(whole)\(digits.dropFirst(point))\(tail)e+0\(exponent)]"
                }
                vectors += accepted(spelt(largest, ""), spelt(largest, "999"))
                vectors += refused(
                    spelt(infinite, ""), spelt(infinite, "000"), spelt(infinite, "1"))
            }
            vectors += accepted(
                "[\(sign)\(largest)]", "[\(sign)1e308]", "[\(sign)1.7976931348623157e308]",
                "[\(sign)0e999999999999999999999]", "[\(sign)0.000e999999999999999999999]",
                "[\(sign)1e-999999999999999999999]",
                "[\(sign)0.\(String(repeating: "0", count: 1000))1e1308]")
            vectors += refused(
                "[\(sign)\(infinite)]", "[\(sign)1e309]", "[\(sign)1.7976931348623159e308]",
                "[\(sign)1e999999999999999999999]",
                "[\(sign)0.\(String(repeating: "0", count: 1000))1e1310]",
                "[\(sign)\(String(repeating: "7", count: 1_000_000))]")
        }
        return vectors
    }()

    @Test("the range of a double", arguments: range) func rangeNumbers(vector: Vector) {
        check(vector)
    }

    @Test("numbers", arguments: numbers) func number(vector: Vector) { check(vector) }

    static let strings =
        accepted(
            #"["\u0061\u30af\u30EA\u30b9"]"#, #"["\ud801\udc37"]"#,
            #"["\ud83d\ude39\ud83d\udc8d"]"#,
            #"["\"\\\/\b\f\n\r\t"]"#, #"["\\u0000"]"#, #"["\""]"#, #"["x/*y*/z/*w"]"#, #"["\\x"]"#,
            #"["\\n"]"#,
            #"["\u0012"]"#, #"["\uFFFF"]"#, #"["\uDBFF\uDFFF"]"#, #"["new\u00A0line"]"#,
            "[\"\u{10FFFF}\"]",
            "[\"\u{FFFF}\"]", #"["\u0000"]"#, "[\"\u{1BFFF}\"]", "[\"π\"]", #"["\uD834\uDd1e"]"#,
            "[\" \"]", "\" \"",
            "[\"\u{2028}\"]", "[\"\u{2029}\"]", "[\"\u{7F}\"]", #"["\u005C"]"#,
            #"["\u200B\u2064\uFDD0\uFFFE"]"#,
            "[\"€𝄞\"]", "[\"a\u{7F}a\"]", "[ \"x\"]", "[\"\u{FEFF}\"]")
        + refused(
            #"["\uD800\"]"#, #"["\uD800\u"]"#, #"["\uD800\u1"]"#, #"["\uD800\u1x"]"#, "[é]",
            #"["\x00"]"#, #"["\\\"]"#,
            "[\"\\\t\"]", "[\"\\🌀\"]", #"["\"]"#, #"["\u00A"]"#, #"["\uD834\uDd"]"#,
            #"["\uD800\uD800\x"]"#, #"["\a"]"#,
            #"["\uqqqq"]"#, #"[\u0020"x"]"#, #"[\n]"#, "\"", "['x']", "x", "[\"\\", "[\"a\u{0}a\"]",
            "[\"new\nline\"]",
            "[\"\t\"]", #"["\UA66D"]"#, "\"\"x", "[\"a]", "\"a\"b\"", #"["\u 041"]"#,
            #"["\u+041"]"#, #"["\u00g1"]"#)
        // Lone surrogates have no UTF-8 form: what they say could not be compared or sent on.
        + refused(
            #"["\uDADA"]"#, #"["\uD888\u1234"]"#, #"["\uD800\n"]"#, #"["\uDd1ea"]"#,
            #"["\uD800\uD800\n"]"#,
            #"["\ud800"]"#, #"["\ud800abc"]"#, #"["\uDd1e\uD834"]"#, #"["\uDFAA"]"#,
            #"{"\uDFAA":0}"#)

    @Test("strings", arguments: strings) func string(vector: Vector) { check(vector) }

    static let arrays =
        accepted(
            "[[]   ]", "[\"\"]", "[]", "[\"a\"]\n", "[false]", "[null, 1, \"1\", {}]", "[null]",
            "[1\n]", " [1]",
            "[1,null,null,null,2]", "[2] ", "[[[]],[]]")
        + refused(
            "[1 true]", "[\"\": 1]", "[\"\"],", "[,1]", "[1,,2]", "[\"x\",,]", "[\"x\"]]",
            "[\"\",]", "[\"x\"", "[x", "[3[4]]",
            "[1:2]", "[,]", "[-]", "[   , \"\"]", "[\"a\",\n4\n,1,", "[1,]", "[1,,]",
            "[\"\u{B}a\"\\f]", "[*]", "[\"\"", "[1,",
            "[1,\n1\n,1", "[{}", "[1 2]", "[[1]2]", "[1{}]")
        + refused([0x5B, 0x61, 0xE5, 0x5D], [0x5B, 0xFF, 0x5D])

    @Test("arrays", arguments: arrays) func array(vector: Vector) { check(vector) }

    static let objects =
        accepted(
            #"{"a":"b","c":"d"}"#, #"{"a":"b"}"#, #"{"a":"b","a":"c"}"#, #"{"a":"b","a":"b"}"#,
            "{}", #"{"":0}"#,
            #"{"a\u0000b":42}"#, #"{"min":-1.0e+28,"max":1.0e+28}"#, #"{"a":[]}"#,
            #"{"t":"\u041f\u043e\u043b"}"#, "{\n\"a\": \"b\"\n}",
            "{\"x\":[{\"id\":\"\(String(repeating: "x", count: 40))\"}],\"id\":\"\(String(repeating: "y", count: 40))\"}"
        )
        + refused(
            #"["x", truth]"#, #"{[: "x"}"#, #"{"x", null}"#, #"{"x"::"b"}"#, "{🇨🇭}",
            #"{"a":"a" 123}"#, "{key: 'value'}",
            #"{"a" b}"#, #"{:"b"}"#, #"{"a" "b"}"#, #"{"a":"#, #"{"a""#, "{1:1}", "{9999E9999:1}",
            "{null:null,null:null}",
            #"{"id":0,,,,,}"#, "{'a':0}", #"{"id":0,}"#, #"{"a":"b"}/**/"#, #"{"a":"b"}/**//"#,
            #"{"a":"b"}//"#,
            #"{"a":"b"}/"#, #"{"a":"b",,"c":"d"}"#, #"{a: "b"}"#, #"{"a":"a"#,
            #"{ "x" : "y", "z" }"#, #"{"a":"b"}#"#,
            #"{"a":1:2}"#, #"{"a":{"b"}}"#, #"{"a",}"#, "{true:1}", "{[]:1}", "{{}:1}", "{\"a\":}")
        + refused([0x7B, 0x22, 0xB9, 0x22, 0x3A, 0x30, 0x2C, 0x7D], as: -EILSEQ)

    @Test("objects", arguments: objects) func object(vector: Vector) { check(vector) }

    /// The bytes of `["` and `"]` around others.
    private static func quoted(_ bytes: UInt8...) -> [UInt8] {
        [0x5B, 0x22] + bytes + [0x22, 0x5D]
    }

    static let encodings =
        // No byte order mark, no UTF-16 or UTF-32 of either order.
        refused(
            [0xEF, 0xBB, 0xBF], [0xEF, 0xBB, 0xBF, 0x7B, 0x7D], [0xEF, 0xBB, 0x7B, 0x7D],
            [0xFF, 0xFE, 0x5B, 0x00, 0x22, 0x00, 0xE9, 0x00, 0x22, 0x00, 0x5D, 0x00],
            [0x00, 0x5B, 0x00, 0x22, 0x00, 0xE9, 0x00, 0x22, 0x00, 0x5D],
            [0x5B, 0x00, 0x22, 0x00, 0xE9, 0x00, 0x22, 0x00, 0x5D, 0x00],
            [0x00, 0x00, 0x00, 0x5B, 0x00, 0x00, 0x00, 0x5D], [0xE5], [0x80], [0xC3, 0xA9])
        + refused(
            quoted(0xE6, 0x97, 0xA5, 0xD1, 0x88, 0xFA), quoted(0xED, 0xA0, 0x80), quoted(0xFF),
            quoted(0xE9), quoted(0x81),
            quoted(0xF4, 0xBF, 0xBF, 0xBF), quoted(0xC0, 0xAF),
            quoted(0xFC, 0x83, 0xBF, 0xBF, 0xBF, 0xBF),
            quoted(0xFC, 0x80, 0x80, 0x80, 0x80, 0x80), quoted(0xE0, 0xFF),
            quoted(0xE0, 0x80, 0xAF),
            quoted(0xF0, 0x80, 0x80, 0xAF), quoted(0xE2, 0x82), quoted(0x5C, 0x6E, 0xE5),
            as: -EILSEQ)
        // After a backslash it is a bad escape.
        + refused(quoted(0x5C, 0xE5), quoted(0x5C, 0x75, 0xE5))
        // A text that was cut is never said to be bad UTF-8.
        + refused([0x22, 0xE2, 0x82], [0x22, 0xC3], [0x22, 0xF0, 0x9F, 0x98])

    @Test("encodings", arguments: encodings) func encoding(vector: Vector) { check(vector) }

    /// RFC 8259 section 6 lets a parser choose what numbers it takes.
    static let ranges =
        accepted(
            "[123.456e-789]", "[123e-10000000]", "[-123123123123123123123123123123]",
            "[100000000000000000000]",
            "[-237462374673276894279832749832423479823246327846]", "[1.7976931348623157e308]",
            "[0e99999999999]")
        + refused(
            "[0.4e006]1", "[1e9999]", "[-1e+9999]", "[1.5e+9999]", "[-123123e100000]",
            "[123123e100000]", "[1e309]")

    @Test("numbers beyond a double are refused, those too small for one are not", arguments: ranges)
    func beyondRange(vector: Vector) { check(vector) }
}
