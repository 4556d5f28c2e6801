import CStreamJSON
import Testing

/// The prefix of a string as written, when it is cut at so many bytes of what it says.
@Suite("Prefixes of JSON strings")
struct PrefixTests {
    private func prefix(_ raw: String, _ size: Int) -> String {
        let bytes = Array(raw.utf8)
        let count = bytes.withUnsafeBufferPointer {
            sc_json_prefix_size(sc_bytes(data: $0.baseAddress, size: $0.count), size)
        }
        return String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    @Test(
        "whole characters and whole escapes only",
        arguments: [
            ("abc", 0, ""), ("abc", 2, "ab"), ("abc", 3, "abc"), ("abc", 4, "abc"),
            ("aéb", 2, "a"), ("aéb", 3, "aé"), ("a€", 3, "a"), ("a€", 4, "a€"),
            ("😀b", 3, ""), ("😀b", 4, "😀"), (#"a\nb"#, 1, "a"), (#"a\nb"#, 2, #"a\n"#),
            (#"\u0041b"#, 1, #"\u0041"#), (#"\u00e9b"#, 1, ""), (#"\u00e9b"#, 2, #"\u00e9"#),
            (#"\ud83d\ude00b"#, 3, ""), (#"\ud83d\ude00b"#, 4, #"\ud83d\ude00"#),
        ])
    func cuts(raw: String, size: Int, expected: String) {
        #expect(prefix(raw, size) == expected)
    }
}
