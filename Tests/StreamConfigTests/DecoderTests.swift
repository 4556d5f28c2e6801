import StreamModel
import Testing

@testable import StreamConfig

@Suite("Entries of a file")
struct EntryTests {
    @Test(
        "a file without settings means the defaults",
        arguments: [
            "", "# only a comment\n", "---\n", "{}", "workers:\n", "workers: []\n",
            "workers:\nmodules:\n", "[]",
            "workers:\n  - name: iii-stream\n", "workers:\n  - name: iii-stream\n    config:\n",
            "workers:\n  - name: iii-stream\n    config: {}\n  - name: iii-worker-manager\n    config: null\n",
            "modules: [{name: iii-observability}]",
            "workers: [{name: iii-stream, config: {adapter: , limits: , timeouts: null, ping: , compat: }}]",
        ])
    func defaults(text: String) throws {
        let (configuration, warnings) = try read(text)
        #expect(configuration == Configuration())
        #expect(warnings == [])
    }

    @Test(
        "`workers`, `modules` and a list alone mean the same",
        arguments: [
            "workers:\n  - name: iii-stream\n    config: {port: 1}\n  - name: iii-worker-manager\n    config: {port: 2}\n",
            "modules:\n  - name: iii-stream\n    config: {port: 1}\n  - name: iii-worker-manager\n    config: {port: 2}\n",
            "- name: iii-stream\n  config: {port: 1}\n- name: iii-worker-manager\n  config: {port: 2}\n",
            "modules:\n- {name: iii-worker-manager, config: {port: 2}}\nworkers:\n- {name: iii-stream, config: {port: 1}}\n",
        ])
    func shapes(text: String) throws {
        let (configuration, _) = try read(text)
        #expect(configuration.stream.port == 1)
        #expect(configuration.workerListeners.map(\.port) == [2])
    }

    @Test("`workers` come before `modules`, whatever stands first")
    func order() throws {
        let text = """
            modules: [{name: iii-worker-manager, config: {port: 2}}]
            workers: [{name: iii-worker-manager, config: {port: 1}}]
            """
        #expect(try read(text).configuration.workerListeners.map(\.port) == [1, 2])
    }

    @Test("each manager entry is one more listener; the others may be there once")
    func repeatedEntries() throws {
        let two =
            "- {name: iii-worker-manager, config: {port: 1}}\n- {name: iii-worker-manager, config: {port: 2}}\n"
        #expect(try read(two).configuration.workerListeners.map(\.port) == [1, 2])
        for name in ["iii-stream", "iii-observability"] {
            #expect(
                lines("- name: \(name)\n- name: iii-state\n- name: \(name)\n").contains(
                    "f:3:9: error: `\(name)` is given twice, in line 1 and again in line 3"))
        }
    }

    @Test(
        "two listeners on one address are refused",
        arguments: [
            (
                "- {name: iii-worker-manager, config: {port: 7}}\n- {name: iii-worker-manager, config: {port: 7}}\n",
                2
            ),
            ("- name: iii-stream\n  config: {port: 49134}\n", 2),
            (
                "- name: iii-stream\n  config: {port: 5}\n- name: iii-worker-manager\n  config:\n    port: 5\n",
                5
            ),
        ])
    func sameAddress(text: String, line: Int) {
        let found = problems(text)
        #expect(found.map(\.message.isEmpty) == [false])
        #expect(found.first?.message.hasPrefix("two listeners have the address 0.0.0.0:") == true)
        #expect(found.first?.position == nil || found.first?.position?.line == line)
    }

    @Test("two listeners on different hosts, or on any free port, are none on one address")
    func differentAddresses() {
        #expect(
            problems(
                "- {name: iii-stream, config: {port: 0}}\n- {name: iii-worker-manager, config: {port: 0}}\n"
            ) == [])
        #expect(
            problems(
                "- {name: iii-stream, config: {port: 9, host: 127.0.0.1}}\n- {name: iii-worker-manager, config: {port: 9, host: '::1'}}\n"
            ) == [])
    }

    @Test("entries of other workers are ignored, with one warning each")
    func otherWorkers() throws {
        let text = """
            workers:
              - name: iii-http
                config: {port: 3111, cors: {allowed_origins: ['*']}}
              - name: iii-state
                image: "x"
                whatever: 1
              - name: my-own-worker
            """
        let (configuration, warnings) = try read(text)
        #expect(configuration == Configuration())
        #expect(
            warnings.map { $0.text(file: "f") } == [
                "f:2:11: warning: the worker `iii-http` is not part of this server: its entry is ignored",
                "f:4:11: warning: the worker `iii-state` is not part of this server: its entry is ignored",
                "f:7:11: warning: the worker `my-own-worker` is not part of this server: its entry is ignored",
            ])
    }

    @Test(
        "a misspelt name of ours is an error with the right one",
        arguments: [
            ("iii-straem", "iii-stream"), ("iii_stream", "iii-stream"),
            ("III-Stream", "iii-stream"),
            ("stream", "iii-stream"), ("iii-worker-manger", "iii-worker-manager"),
            ("worker-manager", "iii-worker-manager"), ("iii-observabilty", "iii-observability"),
        ])
    func misspeltNames(name: String, meant: String) {
        #expect(
            lines("- name: \(name)\n") == [
                "f:1:9: error: unknown worker `\(name)`: did you mean `\(meant)`?"
            ])
    }

    @Test(
        "what is no file of entries is explained",
        arguments: [
            ("5", "f:1:1: error: the file must be a map, found an integer"),
            ("text", "f:1:1: error: the file must be a map, found a string"),
            ("workers: {}\n", "f:1:10: error: `workers` must be a list of entries, found a map"),
            (
                "modules: 1\n",
                "f:1:10: error: `modules` must be a list of entries, found an integer"
            ),
            (
                "workrs: []\n",
                "f:1:1: error: unknown key `workrs`, expected `workers` or `modules`: did you mean `workers`?"
            ),
            (
                "foo: 1\n",
                "f:1:1: error: unknown key `foo`, expected `workers` or `modules`. A file looks like this:"
            ),
            ("- 1\n", "f:1:3: error: an entry must be a map with a `name`, found an integer"),
            ("- config: {}\n", "f:1:3: error: this entry has no `name`. "),
            (
                "- adapter: {name: kv}\n  port: 1\n",
                "f:1:3: error: this entry has no `name`; these are settings of `iii-stream`, they belong in its `config`. A file looks like this:"
            ),
            ("- name: 5\n", "f:1:9: error: `name` must be a string, found an integer"),
            ("- name:\n", "error: `name` must be a string, found nothing"),
            (
                "- {name: iii-stream, port: 1}\n",
                "f:1:22: error: unknown key `port` in the entry of `iii-stream`: settings belong under `config`"
            ),
            (
                "- {name: iii-stream, confg: {}}\n",
                "f:1:22: error: unknown key `confg` in the entry of `iii-stream`: did you mean `config`?"
            ),
            (
                "- {name: iii-stream, config: 7}\n",
                "f:1:30: error: `iii-stream` must be a map, found an integer"
            ),
            (
                "- {name: iii-observability, config: [1]}\n",
                "f:1:37: error: `iii-observability` must be a map, found a list"
            ),
        ])
    func wrongShapes(text: String, part: String) {
        let found = lines(text)
        #expect(found.count == 1)
        #expect(found.first?.contains(part) == true, "\(found)")
    }

    @Test("a file of the old form is told so once, whatever the number of its entries")
    func oldForm() {
        let entries = ["stream::StreamModule", "api::RestApiModule", "cron::CronModule"]
        let text =
            "modules:\n"
            + entries.map { "  - class: modules::\($0)\n    config: {port: 1}\n" }.joined()
        let found = lines(text)
        #expect(found.count == 1)
        #expect(
            found.first?.hasPrefix(
                "f:2:5: error: `class: modules::stream::StreamModule` is the old form") == true,
            "\(found)")
        #expect(found.first?.contains("`name: iii-stream`") == true)
        // One entry of it does not hide what is wrong with the others.
        #expect(lines(text + "  - config: {}\n").count == 2)
    }

    @Test("the seed's shape, with a name, is shown to whoever left it out")
    func shapeIsShown() {
        let shown = lines("- adapter: {name: kv}\n")[0]
        let shape = shown.split(separator: "\n", maxSplits: 1)[1]
        #expect(throws: Never.self) { try read(String(shape)) }
    }

    @Test("an image has no effect, and that is said")
    func image() {
        #expect(
            lines("- {name: iii-stream, image: x}\n") == [
                "f:1:22: warning: `image` of `iii-stream` has no effect: the worker is built in"
            ])
    }

    @Test("all problems of a file are told at once, in its order")
    func allAtOnce() {
        let text = stream("port: x\nhost: 1\nlimits: {connections: 0}\nnope: 1") + "bad: 1\n"
        #expect(problems(text).compactMap(\.position?.line) == [4, 5, 6, 7, 8])
    }
}
