internal import Foundation

/// The end of a run as text.
enum Table {
    static func text(_ result: RunResult) -> String {
        var lines: [String] = []
        lines.append(
            "\(result.scenario.kind.rawValue) against \(result.target), \(String(format: "%.1f", result.seconds)) s"
        )
        for work in result.works { lines += rows(work, result) }
        for (number, round) in result.rounds.enumerated() { lines.append(row(number, round)) }
        if let server = result.server { lines.append(row(server, result)) }
        lines.append(String(format: "  generator   %.0f %% of a core", result.own.share * 100))
        if result.own.isLimit {
            lines.append(
                "  WARNING: the generator itself is the limit; rates and latencies say little of the server"
            )
        }
        lines.append(verdict(result))
        return lines.joined(separator: "\n") + "\n"
    }

    private static func rows(_ work: WorkResult, _ result: RunResult) -> [String] {
        var lines: [String] = []
        let counts = work.counts
        var rates: [String] = []
        func add(_ count: UInt64, _ what: String) {
            guard count > 0 else { return }
            rates.append("\(short(Double(count) / max(result.seconds, 1e-9))) \(what)/s")
        }
        add(counts.deliveries, "deliveries")
        add(counts.answers, "answers")
        add(counts.triggered, "triggers")
        let name = result.works.count > 1 ? work.name : "throughput"
        if !rates.isEmpty {
            lines.append("  \(name.padded(to: 11)) \(rates.joined(separator: ", "))")
        }
        if work.liveSubscribers > 0 {
            lines.append("  subscribers \(work.liveSubscribers) in sync")
        }
        let shown = Latency.all.compactMap { latency in
            work.latencies[latency.name].map { (latency.name, $0) }
        }
        if !shown.isEmpty {
            lines.append(
                "  latency          p50        p90        p99      p99.9        max      count")
        }
        for (name, latency) in shown {
            let values = [latency.p50, latency.p90, latency.p99, latency.p999, latency.max]
                .map { microseconds($0).leftPadded(to: 11) }.joined()
            lines.append(
                "    \(name.padded(to: 9))\(values)\(short(Double(latency.count)).leftPadded(to: 11))"
            )
        }
        if counts.killed > 0 { lines.append("  killed      \(counts.killed) and connected again") }
        if counts.stalledClosed > 0 {
            lines.append("  stalled     \(counts.stalledClosed) were closed by the server")
        }
        return lines
    }

    private static func row(_ number: Int, _ round: Round) -> String {
        var text = String(
            format: "  round %-5d %d in sync after %.3f s (%@/s), %d different syncs, %@",
            number + 1,
            round.connections, round.seconds,
            short(Double(round.connections) / max(round.seconds, 1e-9)),
            Int(round.syncsParsed), bytes(Double(round.syncBytes)))
        if let cpu = round.serverCPU, round.connections > 0 {
            text += String(format: ", server %.1f µs each", cpu * 1e6 / Double(round.connections))
        }
        if round.listenOverflows > 0 { text += ", \(round.listenOverflows) listen queue overflows" }
        return text
    }

    private static func row(_ server: ServerUse, _ result: RunResult) -> String {
        var parts = [
            String(format: "%.0f %% of a core", server.cpuSeconds / max(result.seconds, 1e-9) * 100)
        ]
        if let cost = server.perDelivery {
            parts.append(String(format: "%.3f CPU-µs a delivery", cost))
        }
        if let cost = server.perAnswer {
            parts.append(String(format: "%.3f CPU-µs an answer", cost))
        }
        parts.append(
            "resident \(bytes(Double(server.residentAfter))), at most \(bytes(Double(server.residentPeak)))"
        )
        if result.scenario.kind == .idle, let each = server.perConnectionBytes {
            parts.append("\(bytes(each)) a connection")
        }
        return "  server      " + parts.joined(separator: ", ")
    }

    private static func verdict(_ result: RunResult) -> String {
        if result.isClean {
            return "  checks      clean: no gap, no repeat, order and end state right"
        }
        let shown = result.violations.map { "    - \($0)" }
        return (["  checks      \(result.violationCount) VIOLATIONS"] + shown).joined(
            separator: "\n")
    }
}
