import StreamModel
import Testing

@Suite("Name")
struct NameTests {
    @Test("tells apart spellings that String treats as equal") func canonicalEquivalence() {
        let composed = "caf\u{E9}"
        let decomposed = "cafe\u{301}"
        #expect(composed == decomposed)
        #expect(Name(composed) != Name(decomposed))
        #expect(Set([Name(composed), Name(decomposed)]).count == 2)
    }

    /// Names are hashed eight bytes at a time: stand on both sides of each word.
    @Test("finds a name of any size, and none that differs in one byte", arguments: 0...34)
    func everySize(size: Int) {
        let name = String(repeating: "a", count: size)
        let names: Set = [Name(name)]
        #expect(names.contains(Name(name + "")))
        #expect(!names.contains(Name(name + "a")))
        #expect(!names.contains(Name(name + "\0")))
        for index in 0..<size {
            var other = Array(name.utf8)
            other[index] = UInt8(ascii: "b")
            #expect(!names.contains(Name(String(decoding: other, as: UTF8.self))))
        }
    }

    @Test("counts bytes, not characters") func size() {
        #expect(Name("").size == 0)
        #expect(Name("\u{E9}\u{1F600}").size == 6)
    }

    @Test("has the prefixes that its bytes have") func prefixes() {
        #expect(Name("engine::").hasPrefix("engine::"))
        #expect(Name("engine::x").hasPrefix("engine::"))
        #expect(!Name("engine:").hasPrefix("engine::"))
        #expect(!Name("Engine::x").hasPrefix("engine::"))
    }

    @Test(
        "a string is cut between scalars",
        arguments: [
            (0, ""), (1, "a"), (2, "a"), (3, "a\u{E9}"), (6, "a\u{E9}"), (7, "a\u{E9}\u{1F600}"),
            (9, "a\u{E9}\u{1F600}"),
        ])
    func cut(size: Int, expected: String) {
        #expect("a\u{E9}\u{1F600}".prefix(bytes: size) == expected)
    }
}
