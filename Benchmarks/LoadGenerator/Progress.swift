internal import Foundation

/// One line at the bottom of a terminal that says where the run is; nothing when that is no terminal.
struct Progress {
    private let isShown: Bool
    private var width = 0

    init(isShown: Bool) {
        self.isShown = isShown && isatty(STDERR_FILENO) == 1
    }

    mutating func say(_ text: String) {
        guard isShown else { return }
        let line = text.padded(to: width)
        width = text.count
        FileHandle.standardError.write(Data("\r\(line)".utf8))
    }

    mutating func show(_ sample: Sample, of seconds: Double, violations: UInt64) {
        guard isShown else { return }
        var text = String(format: "%5.1f of %g s", sample.time, seconds)
        if sample.deliveries > 0 { text += "   \(short(sample.deliveries)) deliveries/s" }
        if sample.answers > 0 { text += "   \(short(sample.answers)) answers/s" }
        text += String(format: "   p99 %@", microseconds(sample.p99))
        if let server = sample.serverCPU {
            text += String(format: "   server %3.0f %%", server * 100)
        }
        text += String(format: "   own %3.0f %%", sample.ownCPU * 100)
        if violations > 0 { text += "   VIOLATIONS \(violations)" }
        say(text)
    }

    mutating func end() {
        guard isShown else { return }
        FileHandle.standardError.write(Data("\r\(String(repeating: " ", count: width))\r".utf8))
    }
}

/// 1234567 as 1.23 M.
func short(_ value: Double) -> String {
    switch value {
    case 1e9...: String(format: "%.2f G", value / 1e9)
    case 1e6...: String(format: "%.2f M", value / 1e6)
    case 1e4...: String(format: "%.1f k", value / 1e3)
    case 100...: String(format: "%.0f", value)
    default: String(format: "%.3g", value)
    }
}

/// Microseconds with a unit that reads well.
func microseconds(_ value: Double) -> String {
    switch value {
    case 1e6...: String(format: "%.2f s", value / 1e6)
    case 1e3...: String(format: "%.2f ms", value / 1e3)
    default: String(format: "%.0f µs", value)
    }
}

/// Bytes with a unit that reads well.
func bytes(_ value: Double) -> String {
    switch abs(value) {
    case 1_048_576...: String(format: "%.1f MiB", value / 1_048_576)
    case 1024...: String(format: "%.1f KiB", value / 1024)
    default: String(format: "%.0f B", value)
    }
}
