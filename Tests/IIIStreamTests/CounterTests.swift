import Foundation
import Testing

@testable import IIIStream

@Suite("The counters of a node")
struct CounterTests {
    @Test("docs/counters.md has those of the control plane, and no others")
    func documented() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(contentsOf: root.appending(path: "docs/counters.md"), encoding: .utf8)
        let section = try #require(text.components(separatedBy: "## The control plane\n").last)
        let documented = section.split(separator: "\n").map(String.init).filter {
            $0.hasPrefix("| `")
        }
        #expect(documented == ControlTable.rows.map { "| `\($0.name)` | counter | \($0.help) |" })
    }

    @Test("each has a name of its own")
    func names() async throws {
        var configuration = NodeConfiguration()
        configuration.stream.port = 0
        configuration.workers = [(host: "127.0.0.1", port: 0)]
        configuration.shards = 1
        let node = try await StreamNode.start(configuration)
        let names = await node.counters().map(\.name)
        #expect(Set(names).count == names.count)
        #expect(names.contains("waiting_outbox_bytes") && names.contains("joins_refused"))
        await node.stop()
    }
}
