import Testing

@testable import StreamConfig

@Suite("Variables in a file")
struct ExpansionTests {
    static let environment = [
        "NAME": "value", "EMPTY": "", "PORT": "4711", "LIST": "[1, 2]", "LINES": "a: 1\nb: 2",
        "NESTED": "${NAME}",
        "HASH": "x # y", "A-B.c": "odd",
    ]

    @Test(
        "are replaced before parsing",
        arguments: [
            ("k: ${NAME}", ["k": "value"]), ("k: ${NAME:other}", ["k": "value"]),
            ("k: ${UNSET:other}", ["k": "other"]),
            ("k: ${EMPTY:other}", ["k": nil]), ("k: ${UNSET:}", ["k": nil]),
            ("k: '${UNSET:}'", ["k": ""]),
            ("k: ${UNSET:a:b c}", ["k": "a:b c"]), ("k: ${UNSET:-x}", ["k": "-x"]),
            ("k: \"${UNSET:redis://localhost:6379}\"", ["k": "redis://localhost:6379"]),
            ("k: ${UNSET:__III_ENGINE_VERSION__}", ["k": "9.8.7"]),
            ("k: ${NAME:__III_ENGINE_VERSION__}", ["k": "value"]),
            ("k: ${PORT}", ["k": 4711]), ("k: \"${PORT}\"", ["k": "4711"]),
            ("k: ${UNSET:3112}", ["k": 3112]),
            ("k: ${LIST}", ["k": [1, 2]]), ("${LINES}\nc: 3", ["a": 1, "b": 2, "c": 3]),
            ("k: ${NESTED:x}", ["k": "${NAME}"]), ("k: ${UNSET:${NAME}}", ["k": "${NAME}"]),
            ("k: '${UNSET:{a}}'", ["k": "{a}"]), ("k: $NAME", ["k": "$NAME"]),
            ("k: '${UNCLOSED'", ["k": "${UNCLOSED"]),
            ("k: '${}'", ["k": "${}"]), ("k: '${:x}'", ["k": "${:x}"]),
            ("k: $${NAME}", ["k": "$value"]),
            ("k: a${NAME}b${PORT}c", ["k": "avalueb4711c"]), ("${NAME}: 1", ["value": 1]),
            ("k: '${NAME}'", ["k": "value"]), ("k: ${A-B.c}", ["k": "odd"]),
            ("k: ${HASH}", ["k": "x"]),
            ("k: |\n  ${NAME}\n  # ${NAME}\n", ["k": "value\n# value\n"]),
            ("k: ${UNSET: }x", ["k": "x"]),
        ] as [(String, YAMLNode.Value)])
    func replaced(text: String, expected: YAMLNode.Value) throws {
        #expect(try value(text, environment: Self.environment) == expected)
    }

    @Test("are an error with their place when they are not set and have no default")
    func unset() {
        let text = "a: 1\nb:\n  - ${NAME}${NONE}\n  - ${NAME}\n"
        #expect(
            yaml(text, environment: Self.environment).problems.map { $0.text(file: "f") } == [
                "f:3:12: error: Environment variable 'NONE' not set and no default provided"
            ])
    }

    @Test("are all reported, not only the first")
    func severalUnset() {
        #expect(yaml("a: ${ONE}\nb: ${TWO}\n").problems.compactMap(\.position?.line) == [1, 2])
    }

    @Test("are left alone in comments")
    func comments() throws {
        #expect(try value("# ${NONE}\nk: 1 # ${NONE} ${ALSO}\n") == ["k": 1])
    }

    @Test("do not reach over the end of a line")
    func lineEnd() throws {
        #expect(
            try value("a: '${X'\nb: 'y}'\n", environment: ["X'\nb: 'y": "z"]) == [
                "a": "${X", "b": "y}",
            ])
    }

    @Test("keep the places of what comes after them")
    func places() {
        let found = yaml("a: ${LINES_OF}\nb: [1\n", environment: ["LINES_OF": "'1\n\n 2'"]).problems
        #expect(found.map(\.position) == [SourcePosition(line: 2, column: 4)])
    }

    @Test("may not bring bytes that YAML has not")
    func controlBytes() {
        let found = yaml("a: ${X}", environment: ["X": "a\u{1}"]).problems
        #expect(
            found.map(\.message) == [
                "in the value of 'X': the control character U+1 is not allowed"
            ])
    }

    @Test("may make a file longer, up to a limit")
    func sizes() {
        let room = ExpandingReader.expandedSizeMax - "a: ".utf8.count
        let fits = yaml("a: ${X}", environment: ["X": String(repeating: "x", count: room - 4)])
        #expect(fits.problems == [])
        let tooLong = yaml("a: ${X}", environment: ["X": String(repeating: "x", count: room + 1)])
        #expect(
            tooLong.problems.map(\.message) == [
                "with its values put in, the file has more than 4194304 bytes"
            ])
    }

    @Test("reach the settings with the type they have")
    func settings() throws {
        #expect(try read(stream("port: ${STREAM_PORT:3112}")).configuration.stream.port == 3112)
        #expect(
            try read(stream("port: ${STREAM_PORT:3112}"), environment: ["STREAM_PORT": "5"])
                .configuration.stream.port == 5)
        let found = lines(stream("port: \"${STREAM_PORT:3112}\""))
        #expect(
            found == [
                "f:4:13: error: `port` of `iii-stream` must be an integer from 0 to 65535, found a string"
            ])
    }
}
