internal import Foundation

/// Microseconds at an axis, where numbers are round.
private func roundMicroseconds(_ value: Double) -> String {
    switch value {
    case 1e6...: String(format: "%g s", value / 1e6)
    case 1e3...: String(format: "%g ms", value / 1e3)
    default: String(format: "%g µs", value)
    }
}

/// A result as one HTML page: charts as inline SVG, nothing loaded from elsewhere, light or dark as the
/// reader's system is.
enum Report {
    static func page(_ result: RunResult, beside earlier: RunResult?) -> String {
        """
        <!doctype html>
        <html lang="en">
        <head>
        <meta charset="utf-8">
        <meta name="viewport" content="width=device-width, initial-scale=1">
        <meta name="color-scheme" content="light dark">
        <title>\(escaped(result.label)) – iii-stream-bench</title>
        <style>\(style)</style>
        </head>
        <body>
        <main>
        \(head(result, earlier))
        \(tiles(result, earlier))
        \(violations(result))
        <section class="charts">
        \(charts(result, earlier).map(\.html).joined(separator: "\n"))
        </section>
        \(latencies(result, earlier))
        \(rounds(result))
        \(footer(result, earlier))
        </main>
        </body>
        </html>

        """
    }

    static func escaped(_ text: String) -> String {
        text.replacing("&", with: "&amp;").replacing("<", with: "&lt;").replacing(">", with: "&gt;")
            .replacing("\"", with: "&quot;")
    }

    // MARK: Head and tiles

    private static func head(_ result: RunResult, _ earlier: RunResult?) -> String {
        let badge =
            result.isClean
            ? "<span class=\"badge good\">all checks passed</span>"
            : "<span class=\"badge bad\">\(result.violationCount) violations</span>"
        let beside = earlier.map {
            "<p class=\"beside\">Dashed and in brackets: <b>\(escaped($0.label))</b>, \(escaped($0.startedAt))</p>"
        }
        return """
            <header>
            <h1>\(escaped(result.label)) \(badge)</h1>
            <p>\(escaped(result.scenario.kind.summary)). \(escaped(workText(result)))</p>
            \(beside ?? "")
            </header>
            """
    }

    private static func workText(_ result: RunResult) -> String {
        result.scenario.works.map { work in
            var parts: [String] = []
            if result.scenario.works.count > 1 { parts.append(work.name + ":") }
            parts.append(work.groups == 1 ? "1 group" : "\(work.groups) groups")
            if work.subscribers > 0 { parts.append("× \(work.subscribers) subscribers") }
            if work.callers > 0, !work.idle {
                parts.append("· \(work.callers) caller\(work.callers == 1 ? "" : "s")")
                parts.append(
                    work.rate > 0
                        ? "· \(short(work.rate)) calls/s" : "· \(work.inFlight) in flight a group")
                parts.append("· values of \(work.valueSize) B")
            }
            return parts.joined(separator: " ")
        }.joined(separator: "; ") + "."
    }

    private struct Tile {
        var name, value: String
        var earlier: String?
    }

    private static func tiles(_ result: RunResult, _ earlier: RunResult?) -> String {
        var tiles: [Tile] = []
        func add(_ name: String, _ value: (RunResult) -> Double?, _ format: (Double) -> String) {
            guard let new = value(result) else { return }
            tiles.append(
                Tile(name: name, value: format(new), earlier: earlier.flatMap(value).map(format)))
        }
        add("deliveries/s", { $0.rate(\.deliveries) }, short)
        add("answers/s", { $0.rate(\.answers) }, short)
        let main = mainLatency(result)
        add("\(main) p50", { $0.works.first?.latencies[main]?.p50 }, microseconds)
        add("\(main) p99", { $0.works.first?.latencies[main]?.p99 }, microseconds)
        add("server CPU a delivery", { $0.server?.perDelivery }) { String(format: "%.3f µs", $0) }
        if result.server?.perDelivery == nil {
            add("server CPU an answer", { $0.server?.perAnswer }) { String(format: "%.3f µs", $0) }
        }
        add("server memory, peak", { $0.server.map { Double($0.residentPeak) } }, bytes)
        add("generator CPU", { $0.own.share }) { String(format: "%.0f %%", $0 * 100) }
        let items = tiles.map { tile in
            "<div class=\"tile\"><span>\(escaped(tile.name))</span><b>\(escaped(tile.value))</b>"
                + (tile.earlier.map { "<i>[\(escaped($0))]</i>" } ?? "") + "</div>"
        }
        let warning =
            result.own.isLimit
            ? "<p class=\"warning\">The generator used over 85 % of its core: rates and latencies say little of the server.</p>"
            : ""
        return "<section class=\"tiles\">\(items.joined())</section>\(warning)"
    }

    private static func violations(_ result: RunResult) -> String {
        guard !result.isClean else { return "" }
        let items = result.violations.map { "<li>\(escaped($0))</li>" }.joined()
        return "<section class=\"violations\"><h2>Violations</h2><ol>\(items)</ol></section>"
    }

    // MARK: Charts

    private static func mainLatency(_ result: RunResult) -> String {
        let names = result.works.first?.latencies ?? [:]
        let order = [
            "trigger", "delivery", "set", "get", "update", "list", "delete", "sync", "handshake",
        ]
        return order.first { names[$0] != nil } ?? "set"
    }

    private static func charts(_ result: RunResult, _ earlier: RunResult?) -> [Chart] {
        let both = [(result, false)] + (earlier.map { [($0, true)] } ?? [])
        var percentiles: [Chart.Series] = []
        for (run, isEarlier) in both {
            for (number, work) in run.works.enumerated() {
                for (place, latency) in Latency.all.enumerated() {
                    guard let summary = work.latencies[latency.name] else { continue }
                    let name = run.works.count > 1 ? "\(work.name): \(latency.name)" : latency.name
                    percentiles.append(
                        .init(
                            name: name + (isEarlier ? " (earlier)" : ""),
                            colour: (place + 4 + number) % 6,
                            isEarlier: isEarlier,
                            points: summary.curve.map { ($0.share, max($0.value, 0.1)) }))
                }
            }
        }
        func overTime(_ parts: [(String, (Sample) -> Double?)]) -> [Chart.Series] {
            both.flatMap { run, isEarlier in
                parts.enumerated().compactMap { index, part in
                    let points = run.samples.compactMap { sample in
                        part.1(sample).map { (sample.time, $0) }
                    }
                    guard points.contains(where: { $0.1 > 0 }) else { return nil }
                    return .init(
                        name: part.0 + (isEarlier ? " (earlier)" : ""), colour: index,
                        isEarlier: isEarlier,
                        points: points)
                }
            }
        }
        return [
            Chart(
                title: "Latency by percentile", note: "from the intended send", horizontal: .shares,
                isLogarithmic: true, format: roundMicroseconds, series: percentiles),
            Chart(
                title: "Throughput", note: "a second", horizontal: .seconds, format: short,
                series: overTime([("deliveries", { $0.deliveries }), ("answers", { $0.answers })])),
            Chart(
                title: "Latency over time", note: "each tenth of a second: \(mainLatency(result))",
                horizontal: .seconds,
                isLogarithmic: true, format: roundMicroseconds,
                series: overTime([
                    ("p50", { $0.p50 > 0 ? $0.p50 : nil }), ("p99", { $0.p99 > 0 ? $0.p99 : nil }),
                ])),
            Chart(
                title: "CPU", note: "of a core", horizontal: .seconds,
                format: { String(format: "%.0f %%", $0 * 100) },
                series: overTime([("server", { $0.serverCPU }), ("generator", { $0.ownCPU })])),
        ]
    }

    // MARK: Tables

    private static func latencies(_ result: RunResult, _ earlier: RunResult?) -> String {
        var rows = ""
        for (index, work) in result.works.enumerated() {
            for latency in Latency.all {
                guard let summary = work.latencies[latency.name] else { continue }
                let before = earlier.flatMap {
                    index < $0.works.count ? $0.works[index].latencies[latency.name] : nil
                }
                let name = result.works.count > 1 ? "\(work.name): \(latency.name)" : latency.name
                rows += "<tr><th>\(escaped(name))</th>"
                for part in [\LatencySummary.p50, \.p90, \.p99, \.p999, \.max] {
                    rows += "<td>\(microseconds(summary[keyPath: part]))"
                    if let before { rows += " <i>[\(microseconds(before[keyPath: part]))]</i>" }
                    rows += "</td>"
                }
                rows += "<td>\(short(Double(summary.count)))</td></tr>"
            }
        }
        guard !rows.isEmpty else { return "" }
        return """
            <section class="table"><h2>Latencies</h2><table>
            <tr><th></th><th>p50</th><th>p90</th><th>p99</th><th>p99.9</th><th>max</th><th>count</th></tr>
            \(rows)</table></section>
            """
    }

    private static func rounds(_ result: RunResult) -> String {
        guard !result.rounds.isEmpty else { return "" }
        let rows = result.rounds.enumerated().map { number, round in
            let cpu = round.serverCPU.map {
                String(format: "%.1f µs", $0 * 1e6 / Double(max(round.connections, 1)))
            }
            let cells = [
                "\(round.connections)", String(format: "%.3f s", round.seconds),
                "\(round.syncsParsed)",
                bytes(Double(round.syncBytes)), cpu ?? "–",
                round.serverPeak.map { bytes(Double($0)) } ?? "–",
                "\(round.listenOverflows)",
            ]
            return "<tr><th>round \(number + 1)</th>" + cells.map { "<td>\($0)</td>" }.joined()
                + "</tr>"
        }
        return """
            <section class="table"><h2>Rounds</h2><table>
            <tr><th></th><th>connections</th><th>all in sync after</th><th>different syncs</th><th>sync bytes</th>\
            <th>server CPU each</th><th>server memory, peak</th><th>listen queue overflows</th></tr>
            \(rows.joined())</table></section>
            """
    }

    private static func footer(_ result: RunResult, _ earlier: RunResult?) -> String {
        let machine = result.machine
        let other = earlier.map { before in
            before.machine == machine ? "" : " The earlier result is from another machine."
        }
        return """
            <footer>
            <p><code>iii-stream-bench \(escaped(result.command))</code></p>
            <p>\(escaped(result.startedAt)) against \(escaped(result.target)) · \(escaped(machine.cpu)), \
            \(machine.cores) cores, Linux \(escaped(machine.kernel)).\(other ?? "") Every frame was checked: sync first, no \
            gap, no repeat, order of the writes, and the state at the end.</p>
            </footer>
            """
    }

    private static let style = """
        :root{--page:#fbfbfa;--card:#fff;--ink:#1c1e21;--soft:#5c636e;--line:#e4e5e8;--grid:#eceef1;--good:#1a7f4b;\
        --bad:#c62828;--c0:#2563eb;--c1:#d9730d;--c2:#0d9373;--c3:#b0339b;--c4:#7a5af0;--c5:#5c636e}
        @media (prefers-color-scheme:dark){:root{--page:#15171a;--card:#1d2024;--ink:#e8eaed;--soft:#9aa3af;\
        --line:#2e3238;--grid:#282c32;--good:#4cc38a;--bad:#ff7b72;--c0:#6ea8fe;--c1:#ffa657;--c2:#4cd1ac;--c3:#e58ad5;\
        --c4:#b3a1ff;--c5:#9aa3af}}
        *{box-sizing:border-box}
        body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,\
        "Helvetica Neue",Arial,sans-serif;font-variant-numeric:tabular-nums}
        main{max-width:1120px;margin:0 auto;padding:32px 20px 48px}
        h1{font-size:26px;line-height:1.25;margin:0 0 6px;font-weight:650;letter-spacing:-.01em}
        h2{font-size:16px;margin:28px 0 8px}
        header p{margin:0;color:var(--soft)}
        header .beside{margin-top:4px}
        .badge{display:inline-block;vertical-align:4px;margin-left:8px;padding:2px 10px;border-radius:99px;\
        font-size:13px;font-weight:600;border:1px solid currentColor;letter-spacing:0}
        .good{color:var(--good)}.bad{color:var(--bad)}
        .tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(140px,1fr));gap:12px;margin:24px 0}
        .tile,figure{background:var(--card);border:1px solid var(--line);border-radius:10px}
        .tile{padding:12px 14px}
        .tile span{display:block;color:var(--soft);font-size:13px;line-height:1.3}
        .tile b{display:block;font-size:21px;font-weight:650;margin-top:4px;white-space:nowrap}
        .tile i,td i{font-style:normal;color:var(--soft);font-size:13px}
        .warning,.violations{border:1px solid var(--bad);border-radius:10px;padding:10px 16px;color:var(--bad);\
        background:var(--card)}
        .violations h2{margin:0 0 4px}
        .violations ol{margin:0;padding-left:22px;color:var(--ink);font-size:13px;overflow-wrap:anywhere}
        .charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,480px),1fr));gap:16px;margin-top:16px}
        figure{margin:0;padding:14px 16px 12px;min-width:0}
        figcaption{margin-bottom:6px}
        figcaption span{color:var(--soft);font-size:13px;margin-left:6px}
        svg{display:block;width:100%;height:auto}
        .grid{stroke:var(--grid);stroke-width:1}
        .tick{fill:var(--soft);font-size:12px}
        .line{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
        .line.earlier{stroke-dasharray:5 5;stroke-width:1.6;opacity:.75}
        .c0{color:var(--c0)}.c1{color:var(--c1)}.c2{color:var(--c2)}.c3{color:var(--c3)}.c4{color:var(--c4)}.c5{color:var(--c5)}
        .legend{display:flex;flex-wrap:wrap;gap:4px 16px;padding-left:64px;font-size:13px}
        .key::before{content:"";display:inline-block;width:16px;margin-right:6px;vertical-align:4px;\
        border-top:2px solid currentColor}
        .key.earlier::before{border-top-style:dashed}
        .table{overflow-x:auto}
        table{border-collapse:collapse;width:100%;font-size:14px}
        td,th{padding:6px 10px;text-align:right;border-bottom:1px solid var(--line);font-weight:400;white-space:nowrap}
        tr:first-child th{color:var(--soft);font-size:13px;white-space:normal;vertical-align:bottom}
        th:first-child{text-align:left}
        footer{margin-top:28px;color:var(--soft);font-size:13px}
        footer p{margin:6px 0}
        code{font:13px ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;overflow-wrap:anywhere;color:var(--ink)}
        """
}

extension RunResult {
    /// How often something happened a second; nil when it did not.
    func rate(_ count: KeyPath<Counts, UInt64>) -> Double? {
        let value = total[keyPath: count]
        return value > 0 && seconds > 0 ? Double(value) / seconds : nil
    }
}
