import StreamModel
import Testing

private func text(_ string: String) -> JSONText {
    JSONText(validated: Array(string.utf8))
}

private func written(_ view: JSONView) -> String {
    String(decoding: view.text, as: UTF8.self)
}

@Suite("Elements of a JSON array")
struct JSONElementsTests {
    @Test(
        "are walked in their order, nested ones whole",
        arguments: [
            ("[]", []), ("[ ]", []), ("[1]", ["1"]), ("[1,2]", ["1", "2"]),
            (" [ 1 , \"a,]\" , null ] ", ["1", "\"a,]\"", "null"]),
            (#"[[1,[2]],{"a":[3]},"]"]"#, ["[1,[2]]", #"{"a":[3]}"#, "\"]\""]),
            ("[[],[],{}]", ["[]", "[]", "{}"]),
        ])
    func walk(array: String, elements: [String]) {
        #expect(text(array).view.elements.map(written) == elements)
    }

    @Test(
        "of another kind of value there are none", arguments: ["{\"a\":1}", "5", "\"[1]\"", "null"])
    func otherKinds(value: String) {
        #expect(Array(text(value).view.elements).isEmpty)
    }

    /// The core hands over validated text only; a fault there must not become a trap or a loop here.
    @Test("every prefix of a text can be walked") func prefixes() {
        let array = Array(#"[1,{"a":[2]},"b\"",[[3],4],tru,,}"#.utf8)
        for count in 0...array.count {
            #expect(Array(JSONText(validated: Array(array[..<count])).view.elements).count <= 5)
        }
    }

    @Test(
        "are written back as an array without white space",
        arguments: [([], "[]"), (["1"], "[1]"), (["1", "\"a\"", "[]"], "[1,\"a\",[]]")])
    func write(elements: [String], array: String) {
        #expect(JSONText(array: elements.map(text)) == text(array))
    }
}

@Suite("Equality of JSON values")
struct JSONEqualityTests {
    @Test(
        "the same value is equal however it is written",
        arguments: [
            ("null", "null"), ("true", "true"), ("1", "1"), ("1", "1.0"), ("100", "1e2"),
            ("0", "-0"),
            ("18446744073709551615", "18446744073709551615"),
            ("9007199254740993", "9007199254740993"),
            (#""a""#, #""\u0061""#), ("[]", "[ ]"), ("[1,[2]]", "[ 1 , [ 2.0 ] ]"), ("{}", "{ }"),
            (#"{"a":1,"b":{"c":[]}}"#, #"{ "b" : { "c" : [] } , "a" : 1 }"#),
            (#"{"a":1}"#, #"{"a":2,"a":1}"#), (#"{"\u0061":1}"#, #"{"a":1}"#),
        ])
    func equal(left: String, right: String) {
        #expect(text(left).view.isEqual(to: text(right).view))
        #expect(text(right).view.isEqual(to: text(left).view))
    }

    @Test(
        "other values are not equal",
        arguments: [
            ("null", "false"), ("true", "false"), ("1", "2"), ("1", "\"1\""), ("0", "null"),
            ("0", "false"),
            ("\"a\"", "\"A\""), ("\"\u{E9}\"", "\"e\u{301}\""), ("[]", "{}"), ("[1]", "[1,1]"),
            ("[1,2]", "[2,1]"), ("[]", "[null]"), (#"{"a":1}"#, #"{"a":2}"#),
            (#"{"a":1}"#, #"{"b":1}"#),
            (#"{"a":1}"#, #"{"a":1,"b":1}"#), (#"{"a":null}"#, "{}"),
            (#"{"a":{"b":1}}"#, #"{"a":{"b":2}}"#),
        ])
    func different(left: String, right: String) {
        #expect(!text(left).view.isEqual(to: text(right).view))
        #expect(!text(right).view.isEqual(to: text(left).view))
    }

    /// As doubles they are the same number.
    @Test(
        "integers above 2^53 differ by one",
        arguments: [
            ("9007199254740992", "9007199254740993"), ("-9007199254740992", "-9007199254740993"),
            ("18446744073709551614", "18446744073709551615"),
        ])
    func largeIntegers(left: String, right: String) {
        #expect(!text(left).view.isEqual(to: text(right).view))
    }
}
