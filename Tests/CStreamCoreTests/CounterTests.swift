import CStreamCore
import Foundation
import Testing

@Suite("The table of counters")
struct CounterTests {
    @Test("docs/counters.md has the rows of the table, and no others")
    func documented() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(contentsOf: root.appending(path: "docs/counters.md"), encoding: .utf8)
        let rows = (0..<UInt32(SC_COUNTER_COUNT)).map { index in
            let row = sc_counter_row(index).pointee
            return "| `\(String(cString: row.name))` | \(row.gauge ? "gauge" : "counter")"
                + " | \(String(cString: row.help)) |"
        }
        let section = try #require(text.components(separatedBy: "## The core\n").last)
        let documented = section.split(separator: "\n").map(String.init)
            .prefix { !$0.hasPrefix("## ") }.filter { $0.hasPrefix("| `") }
        #expect(Array(documented) == rows)
    }

    @Test("a row is the field of its name")
    func fields() {
        var counters = sc_node_counters()
        counters.stream_connections = 1
        counters.slow_readers_closed = 2
        counters.answers_taken_back = 3
        var values: [String: UInt64] = [:]
        for index in 0..<UInt32(SC_COUNTER_COUNT) {
            let name = String(cString: sc_counter_row(index).pointee.name)
            values[name] = sc_counter_value(&counters, index)
        }
        #expect(values.count == Int(SC_COUNTER_COUNT))
        #expect(
            values.filter { $0.value > 0 }
                == ["stream_connections": 1, "slow_readers_closed": 2, "answers_taken_back": 3])
    }
}
