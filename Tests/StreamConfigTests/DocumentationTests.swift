import Foundation
import Testing

@testable import StreamConfig

/// A row of a table of docs/configuration.md.
struct DocumentedSetting: Sendable, CustomTestStringConvertible {
    var worker: Schema.Worker
    var path: String
    var type: String
    var defaultText: String
    var allowed: String

    var testDescription: String { "\(worker.rawValue) \(path)" }

    /// `1 to 64`, where the values are numbers.
    var range: ClosedRange<Int>? {
        let words = allowed.split(separator: " ")
        guard type == "integer", words.count == 3, words[1] == "to", let low = Int(words[0]),
            let high = Int(words[2])
        else { return nil }
        return low...high
    }

    /// A file that sets this to `value`, with what else it takes for that to be allowed.
    func file(_ value: String) -> String {
        var flow = value
        for key in path.split(separator: ".").reversed() { flow = "{\(key): \(flow)}" }
        if path.hasPrefix("adapter.config.") {
            let other = path.hasSuffix("redis_url") ? "name: redis" : "name: kv"
            let method =
                path.hasSuffix("store_method") || path.hasSuffix("redis_url")
                ? "" : "store_method: file_based, "
            let key = path.split(separator: ".")[2]
            flow = "{adapter: {\(other), config: {\(method)\(key): \(value)}}}"
        }
        if path.hasPrefix("tls.") {
            let key = String(path.dropFirst(4))
            var entries = ["cert_file": "c", "key_file": "k"]
            entries[key] = value
            flow = "{tls: {\(entries.map { "\($0): \($1)" }.joined(separator: ", "))}}"
        }
        if path == "limits.frame_bytes" || path == "limits.value_bytes" {
            flow = "{limits: {message_bytes: 1073741824, \(path.dropFirst(7)): \(value)}}"
        }
        return "workers: [{name: \(worker.rawValue), config: \(flow)}]\n"
    }

    static let all: [DocumentedSetting] = {
        let path = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .appendingPathComponent("../../docs/configuration.md").path
        let text = (try? String(contentsOfFile: path, encoding: .utf8)) ?? ""
        var worker: Schema.Worker?
        var settings: [DocumentedSetting] = []
        for line in text.split(separator: "\n") {
            if line.hasPrefix("## ") {
                worker = Schema.Worker(rawValue: line.dropFirst(3).filter { $0 != "`" })
            }
            let cells = line.split(separator: "|", omittingEmptySubsequences: false)
                .map { $0.trimmingCharacters(in: CharacterSet(charactersIn: " `")) }
            guard let worker, cells.count >= 6, cells[1] != "Key", !cells[1].hasPrefix("---") else {
                continue
            }
            settings.append(
                DocumentedSetting(
                    worker: worker, path: cells[1], type: cells[2], defaultText: cells[3],
                    allowed: cells[4]))
        }
        return settings
    }()
    static let integers = all.filter { $0.type == "integer" }
}

@Suite("Settings and their documentation")
struct DocumentationTests {
    @Test("every setting is documented, and nothing else")
    func completeness() {
        let documented = DocumentedSetting.all.map {
            Schema.Setting(worker: $0.worker, path: $0.path)
        }
        #expect(Set(documented).count == documented.count)
        #expect(Set(documented) == Set(Schema.settings))
    }

    @Test("every integer documents its range")
    func ranges() {
        #expect(DocumentedSetting.integers.count >= 20)
        for setting in DocumentedSetting.integers {
            #expect(setting.range != nil, "\(setting.path)")
        }
    }

    @Test(
        "an integer may be its lowest and its highest, and no more",
        arguments: DocumentedSetting.integers)
    func limits(setting: DocumentedSetting) throws {
        let range = try #require(setting.range)
        for value in [
            range.lowerBound, range.lowerBound + 1, range.upperBound - 1, range.upperBound,
        ] {
            #expect(problems(setting.file("\(value)")).filter { $0.severity == .error } == [])
        }
        for value in [range.lowerBound - 1, range.upperBound + 1] {
            let found = problems(setting.file("\(value)")).filter { $0.severity == .error }
            #expect(found.count == 1)
            let message = found.first?.message ?? ""
            #expect(message.hasPrefix("`\(setting.path)` of `\(setting.worker.rawValue)` must be"))
            #expect(message.contains("integer from \(range.lowerBound) to \(range.upperBound)"))
            #expect(message.hasSuffix("found \(value)"))
        }
    }

    /// The files of the originals hold numbers, and what is read there must be what is read here.
    @Test("an integer is no other type", arguments: DocumentedSetting.integers)
    func integerTypes(setting: DocumentedSetting) {
        for (value, kind) in [
            ("\"3112\"", "a string"), ("true", "a boolean"), ("1.5", "a float"), ("[1]", "a list"),
            ("{a: 1}", "a map"),
            ("9223372036854775808", "an integer beyond 64 bits"),
        ] {
            let found = problems(setting.file(value)).filter { $0.severity == .error }
            #expect(found.count == 1, "\(value)")
            #expect(found.first?.message.hasSuffix("found \(kind)") == true, "\(found)")
            #expect(found.first?.position?.line == 1)
        }
    }

    @Test("every other setting refuses what is not its type", arguments: DocumentedSetting.all)
    func types(setting: DocumentedSetting) {
        let wrong: [String]
        switch setting.type {
        case "boolean": wrong = ["1", "\"true\"", "yes", "[true]", "{a: true}", "1.0"]
        case "string": wrong = ["1", "true", "[a]", "{a: b}", "1.5", "\"\""]
        case "list", "list of strings": wrong = ["1", "true", "a", "{a: b}"]
        case "number": wrong = ["\"1\"", "true", "[1]", "-0.001", "1.001", "2", ".nan"]
        case "integer": wrong = ["\"1\""]
        case "any": wrong = []
        default:
            Issue.record("\(setting.path) has the unknown type \(setting.type)")
            wrong = []
        }
        for value in wrong {
            let found = problems(setting.file(value)).filter { $0.severity == .error }
            #expect(found.count == 1, "\(setting.path): \(value): \(found)")
            #expect(
                found.first?.message.contains(setting.path.split(separator: ".").last ?? "?")
                    == true, "\(found)")
        }
    }

    @Test("null is no value where there is a default", arguments: DocumentedSetting.all)
    func null(setting: DocumentedSetting) {
        let isOptional = ["null", "[]"].contains(setting.defaultText)
        let found = problems(setting.file("null")).filter { $0.severity == .error }
        #expect(found.isEmpty == isOptional, "\(found)")
    }

    @Test("the defaults are as documented", arguments: DocumentedSetting.all)
    func defaults(setting: DocumentedSetting) throws {
        // What is printed only with another adapter, and what has no effect.
        var configuration = Configuration()
        switch setting.path {
        case "adapter.config.file_path", "adapter.config.durability",
            "adapter.config.segment_bytes":
            configuration.adapter = .kv(.fileBased(FileStore()))
        case "adapter.config.save_interval_ms":
            var store = FileStore()
            store.durability = .interval
            configuration.adapter = .kv(.fileBased(store))
        case "adapter.config.redis_url":
            configuration = try read(stream("adapter: {name: redis}")).configuration
        case "adapter.config.channel_size", "admin":
            return
        case "tls.cert_file", "tls.key_file":
            return
        case _ where setting.path.hasPrefix("tls."):
            configuration.stream.tls = TLSFiles(certificate: "c", key: "k")
            configuration.workerListeners[0].tls = configuration.stream.tls
        case _ where setting.path.hasPrefix("rbac."):
            configuration.workerListeners[0].accessControl = AccessControl()
        default:
            break
        }
        var node = try #require(yaml(configuration.yaml()).node?["workers"])
        guard case .list(let entries) = node.value else { return #expect(Bool(false), "a list") }
        node = try #require(
            entries.first { $0["name"]?.value == .string(setting.worker.rawValue) }?["config"])
        for key in setting.path.split(separator: ".") { node = try #require(node[String(key)]) }
        #expect(try node.value == value(setting.defaultText), "\(setting.path)")
    }
}
