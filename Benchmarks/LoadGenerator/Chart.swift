internal import Foundation

/// A line chart as inline SVG. Colours come from the page's style sheet, so that it follows light and dark.
struct Chart {
    struct Series {
        var name: String
        /// Place in the page's palette.
        var colour: Int
        /// Of an earlier result: dashed.
        var isEarlier = false
        var points: [(x: Double, y: Double)]
    }

    enum Horizontal {
        case seconds
        /// Shares, spaced by their nines: 0, 90 %, 99 %, ...
        case shares
    }

    var title: String
    var note: String
    var horizontal: Horizontal
    var isLogarithmic = false
    var format: (Double) -> String
    var series: [Series]

    private static let width = 640.0
    private static let height = 300.0
    private static let left = 64.0
    private static let right = 16.0
    private static let top = 12.0
    private static let bottom = 34.0

    var html: String {
        // What would lie on the axis beside something much bigger is left out.
        let peaks = series.map { $0.points.map(\.y).max() ?? 0 }
        let drawn = zip(series, peaks).filter { line, peak in
            line.points.count > 1 && (isLogarithmic || peak * 50 >= peaks.max() ?? 0)
        }.map(\.0)
        guard !drawn.isEmpty else { return "" }
        let scale = Scale(drawn, self)
        var svg = ""
        for tick in scale.verticalTicks {
            let y = scale.y(tick)
            svg +=
                "<line class=\"grid\" x1=\"\(Self.left)\" x2=\"\(Self.width - Self.right)\" y1=\"\(n(y))\" y2=\"\(n(y))\"/>"
            svg +=
                "<text class=\"tick\" x=\"\(Self.left - 8)\" y=\"\(n(y + 4))\" text-anchor=\"end\">\(format(tick))</text>"
        }
        for (tick, text) in scale.horizontalTicks {
            let x = scale.x(tick)
            let anchor = x > Self.width - 40 ? "end" : "middle"
            svg +=
                "<line class=\"grid\" x1=\"\(n(x))\" x2=\"\(n(x))\" y1=\"\(Self.top)\" y2=\"\(Self.height - Self.bottom)\"/>"
            svg +=
                "<text class=\"tick\" x=\"\(n(x))\" y=\"\(Self.height - Self.bottom + 18)\" text-anchor=\"\(anchor)\">\(text)</text>"
        }
        for line in drawn.sorted(by: { $0.isEarlier && !$1.isEarlier }) {
            let points = line.points.map { "\(n(scale.x($0.x))),\(n(scale.y($0.y)))" }.joined(
                separator: " ")
            let style = "line c\(line.colour)\(line.isEarlier ? " earlier" : "")"
            svg +=
                "<polyline class=\"\(style)\" points=\"\(points)\"><title>\(Report.escaped(line.name))</title></polyline>"
        }
        let legend = drawn.map { line in
            "<span class=\"key c\(line.colour)\(line.isEarlier ? " earlier" : "")\">\(Report.escaped(line.name))</span>"
        }.joined()
        return """
            <figure>
            <figcaption><b>\(Report.escaped(title))</b> <span>\(Report.escaped(note))</span></figcaption>
            <svg viewBox="0 0 \(Int(Self.width)) \(Int(Self.height))" role="img" aria-label="\(Report.escaped(title))">\(svg)</svg>
            <div class="legend">\(legend)</div>
            </figure>
            """
    }

    private func n(_ value: Double) -> String { String(format: "%.1f", value) }

    /// Where values are in the picture.
    private struct Scale {
        let chart: Chart
        var low, high: Double
        var end: Double
        var verticalTicks: [Double] = []
        var horizontalTicks: [(Double, String)] = []

        init(_ series: [Series], _ chart: Chart) {
            self.chart = chart
            let values = series.flatMap { $0.points.map(\.y) }
            let greatest = max(values.max() ?? 1, 1e-9)
            let least = values.filter { $0 > 0 }.min() ?? greatest
            let last = series.flatMap { $0.points.map(\.x) }.max() ?? 1
            if chart.isLogarithmic {
                low = pow(10, (log10(least) + 1e-9).rounded(.down))
                high = greatest
                let decades = log10(greatest / low)
                let steps = decades < 1.5 ? [1.0, 2, 3, 5, 7] : decades < 4 ? [1.0, 2, 5] : [1.0]
                var decade = low
                while decade <= greatest {
                    verticalTicks += steps.map { $0 * decade }
                    decade *= 10
                }
                // The axis ends with the first mark that nothing is over, and begins with the last below all.
                let ticks = verticalTicks
                high = ticks.first { $0 >= greatest } ?? decade
                low = ticks.last { $0 <= least } ?? low
                let (bottom, top) = (low, high)
                verticalTicks = ticks.filter { $0 >= bottom && $0 <= top }
                if high == low { high = low * 10 }
            } else {
                low = 0
                let step = Scale.step(greatest / 4)
                high = (greatest / step).rounded(.up) * step
                verticalTicks = stride(from: 0, through: high * 1.0001, by: step).map { $0 }
            }
            switch chart.horizontal {
            case .seconds:
                end = last
                let step = Scale.step(last / 6)
                horizontalTicks = stride(from: 0, through: last, by: step).map {
                    ($0, String(format: "%g s", ($0 * 1000).rounded() / 1000))
                }
            case .shares:
                let nines = max(Scale.nines(last), 1)
                end = nines
                let marks = [
                    (0.5, "50 %"), (0.9, "90 %"), (0.99, "99 %"), (0.999, "99.9 %"),
                    (0.9999, "99.99 %"),
                    (0.99999, "99.999 %"),
                ]
                horizontalTicks = marks.filter { Scale.nines($0.0) <= nines + 1e-9 }
            }
        }

        func x(_ value: Double) -> Double {
            let place = chart.horizontal == .shares ? Scale.nines(value) : value
            return Chart.left + place / end * (Chart.width - Chart.left - Chart.right)
        }

        func y(_ value: Double) -> Double {
            let part =
                chart.isLogarithmic
                ? log(max(value, low) / low) / log(high / low) : (value - low) / (high - low)
            return Chart.height - Chart.bottom - part * (Chart.height - Chart.top - Chart.bottom)
        }

        static func nines(_ share: Double) -> Double { share >= 1 ? 7 : -log10(1 - share) }

        /// 1, 2 or 5 times a power of ten, at least `least`.
        static func step(_ least: Double) -> Double {
            let power = pow(10, log10(max(least, 1e-12)).rounded(.down))
            return [1.0, 2, 5, 10].map { $0 * power }.first { $0 >= least * 0.999 } ?? power * 10
        }
    }
}
