import Testing

@testable import StreamConfig

@Suite("YAML that is refused")
struct YAMLErrorTests {
    /// A text, where the problem is, and a part of what is said about it.
    @Test(
        "says where and why",
        arguments: [
            // What the subset leaves out.
            ("a: &x 1", 1, 4, "anchors"), ("a: *x", 1, 4, "aliases"), ("a: !!str 1", 1, 4, "tags"),
            ("? a\n: b", 1, 1, "complex keys"), ("[a]: b", 1, 4, "cannot be a key"),
            ("{[a]: b}", 1, 2, "cannot be a key"), ("%YAML 1.2\n---\n", 1, 1, "directives"),
            ("<<: {a: 1}", 1, 1, "merge keys"), ("a: 1\n---\nb: 2\n", 2, 1, "second one"),
            ("---\n---\n", 2, 1, "second one"), ("a: 1\n...\nb: 2\n", 3, 1, "end of the document"),
            ("a:\n\tb: 1", 2, 1, "tab"), ("a:\n  b: 1\n \tc: 2", 3, 2, "tab"),
            ("-\t- a", 1, 2, "tab"),
            ("[\n\t1]", 2, 1, "tab"), ("a: |\n\tb", 2, 1, "tab"),
            ("a: b\n  c", 2, 3, "several lines"), ("[a: 1]", 1, 3, "needs braces"),
            ("\"a\n b\": 1", 1, 1, "key must be on one line"),
            ("{'a\n': 1}", 1, 2, "key must be on one line"),
            // What is not YAML.
            ("a: b: c", 1, 5, "needs quotes"), ("a: - b", 1, 4, "line after its key"),
            ("a: 1\n b: 2", 2, 2, "indented like nothing"),
            ("a:\n    b: 1\n  c: 2", 3, 3, "indented like nothing"),
            ("- a\nb: 1", 2, 1, "indented like nothing"),
            ("- a\n  - b", 2, 3, "indented like nothing"),
            ("a: 1\n- b", 2, 1, "list item"), ("a: 1\nb", 2, 1, "expected `key: value`"),
            ("a: \"b\" c", 1, 8, "unexpected text"), ("a: [1] x", 1, 8, "unexpected text"),
            ("a: 'b", 1, 4, "never closed"), ("a: \"b\n---\n", 1, 4, "never closed"),
            ("a: [1,\n 2", 1, 4, "never closed"), ("a: {b: [}", 1, 9, "unexpected `}`"),
            ("[1 2", 1, 1, "never closed"), ("[\"1\" 2]", 1, 6, "expected `,` or `]`"),
            ("{a}", 1, 3, "expected `:`"), ("[,]", 1, 2, "unexpected `,`"),
            ("a: ]", 1, 4, "unexpected `]`"),
            (": a", 1, 1, "key is missing"), ("[- ]", 1, 2, "list item"),
            ("[|]", 1, 2, "block text"),
            ("a: @b", 1, 4, "needs quotes"), ("a: `b`", 1, 4, "needs quotes"),
            ("a: %b", 1, 4, "needs quotes"),
            ("a: \"\\q\"", 1, 5, "no escape"), ("a: \"\\x4\"", 1, 5, "2 hexadecimal"),
            ("a: \"\\ud800\"", 1, 5, "no character"),
            ("a: \"\\ud800\\u0041\"", 1, 5, "no character"),
            ("a: \"\\udc00\"", 1, 5, "no character"), ("a: \"\\U00110000\"", 1, 5, "no character"),
            ("a: |x\n b", 1, 5, "end of the line"), ("a: |0\n b", 1, 5, "end of the line"),
            ("a: |\n    \n  b", 3, 3, "empty line above"), ("a: \"b\"# c", 1, 7, "space before"),
            ("[a,#b\n]", 1, 4, "space before"),
            // What goes on left of its block, or behind a tab.
            ("a: [b,\nc]", 2, 1, "at least 1 space"), ("a: [\n b\n]", 3, 1, "at least 1 space"),
            ("a: {b: 1,\nc: 2}", 2, 1, "at least 1 space"),
            ("a: {b:\n1}", 2, 1, "at least 1 space"), ("a: {b: 1\n}", 2, 1, "at least 1 space"),
            ("- [a,\nb]", 2, 1, "at least 1 space"), ("a:\n- [b,\nc]", 3, 1, "at least 1 space"),
            ("a:\n  b: [[c,\n  d]]", 3, 3, "at least 3 spaces"),
            ("- a: [b,\n  c]", 2, 3, "at least 3 spaces"),
            ("a: \"b\nc\"", 2, 1, "at least 1 space"), ("a: 'b\nc'", 2, 1, "at least 1 space"),
            ("a: \"b\\\nc\"", 2, 1, "at least 1 space"),
            ("a: \"b\n\n\"", 3, 1, "at least 1 space"),
            ("a: [\"b\nc\"]", 2, 1, "at least 1 space"),
            ("a:\n  b:\n    \"c\n  d\"", 4, 3, "at least 3 spaces"),
            ("a: \"b\n\tc\"", 2, 1, "tab"), ("a: 'b\n\tc'", 2, 1, "tab"),
            ("a: \"b\n\t\n c\"", 2, 1, "tab"), ("a:\n  b: 'c\n \td'", 3, 2, "tab"),
            ("a: |\n\t\nb: 1", 2, 1, "tab"), ("a: >\n\t\n", 2, 1, "tab"),
            ("a: |\n  b\n\t\nc: 1", 3, 1, "tab"), ("a: |\n  b\n \t# c\n", 3, 2, "tab"),
            // What is no text.
            ("a: \u{1}", 1, 4, "U+1"), ("a:\r b", 1, 3, "U+D"), ("é: \u{7F}", 1, 4, "U+7F"),
            ("a: b\u{FEFF}", 1, 5, "U+FEFF"),
        ])
    func errors(text: String, line: Int, column: Int, part: String) throws {
        let (node, problems) = yaml(text)
        #expect(node == nil)
        let problem = try #require(problems.first)
        #expect(problems.count == 1)
        #expect(problem.position == SourcePosition(line: line, column: column))
        #expect(problem.message.contains(part), "\(problem.message)")
    }

    @Test("reports every key that is given twice, with both lines, and goes on")
    func duplicateKeys() {
        let (node, problems) = yaml("a: 1\nb: {c: 1, \"c\": 2}\n\na: 3\na: 4\n")
        #expect(
            problems.map { $0.text(file: "f") } == [
                "f:2:11: error: the key `c` is given twice, in line 2 and again in line 2",
                "f:4:1: error: the key `a` is given twice, in line 1 and again in line 4",
                "f:5:1: error: the key `a` is given twice, in line 1 and again in line 5",
            ])
        #expect(node?.value == ["a": 1, "b": ["c": 1]])
    }

    @Test("refuses bytes that are not UTF-8, with their place")
    func invalidUTF8() {
        var report = DiagnosticList()
        let bytes = Array("é: 1\nb: ".utf8) + [0xC3, 0x28]
        #expect(YAMLNode.parse(bytes, environment: [:], version: "", &report) == nil)
        #expect(
            report.inFileOrder == [
                Diagnostic(.error, "the text is not UTF-8", at: SourcePosition(line: 2, column: 4))
            ])
    }

    @Test("reads a file of the greatest size and refuses one byte more")
    func sizeLimit() {
        let limit = ExpandingReader.sourceSizeMax
        let largest = "a: " + String(repeating: "x", count: limit - 3)
        #expect(yaml(largest).problems == [])
        #expect(yaml(String(largest.dropLast())).problems == [])
        #expect(
            yaml(largest + "x").problems.map(\.message) == [
                "the file has more than the 1048576 bytes that are read"
            ])
    }

    @Test("keeps a message short, on one line and free of control characters")
    func messagesAreHarmless() {
        let key = "\"\\e[31m\\n" + String(repeating: "k", count: 500) + "\""
        let problem = yaml("\(key): 1\n\(key): 2\n").problems[0]
        #expect(problem.message.unicodeScalars.allSatisfy { $0.value >= 0x20 })
        #expect(problem.message.count < 200)
        #expect(problem.message.contains("\\u{1b}[31m\\u{a}kkk"))
    }

    @Test("keeps errors when there are more warnings than it keeps")
    func diagnosticLimit() {
        for count in [
            DiagnosticList.countMax - 1, DiagnosticList.countMax, DiagnosticList.countMax + 1,
        ] {
            var report = DiagnosticList()
            for line in 1...count { report.warning("w", at: SourcePosition(line: line, column: 1)) }
            #expect(report.inFileOrder.count == count)
            #expect((report.inFileOrder.last?.message == "w") == (count <= DiagnosticList.countMax))
            report.error("e", at: .start)
            #expect(report.inFileOrder.contains { $0.message == "e" })
            #expect(report.hasErrors)
        }
    }
}
