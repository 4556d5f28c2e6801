internal import Dispatch
internal import Foundation
internal import IIIStream
internal import Synchronization

/// Writes log lines to standard error: text for people when it is a terminal, JSON otherwise.
///
/// Never waits for whoever reads them: lines go through a bounded queue to one thread, and what does not fit
/// is dropped and counted. One kind of event gets so many lines a second; the rest are counted too, so that
/// a client that sends rubbish does not fill a disk.
final class LogWriter: Sendable {
    private static let queuedMax = 4096
    private static let linesPerSecondMax = 50

    private struct Window {
        var second = 0
        var lines = 0
        var suppressed = 0
    }

    private struct State {
        var queued = 0
        var dropped = 0
        var windows: [String: Window] = [:]
    }

    private let isTerminal: Bool
    private let level: LogRecord.Level
    private let state = Mutex(State())
    private let queue = DispatchQueue(label: "log")

    init(level: LogRecord.Level) {
        isTerminal = isatty(STDERR_FILENO) != 0
        self.level = level
    }

    func write(_ record: LogRecord) {
        guard record.level >= level else { return }
        let now = Date()
        let lines = state.withLock { admit(record, at: now, &$0) }
        for line in lines {
            queue.async { [self] in
                FileHandle.standardError.write(Data((format(line, at: now) + "\n").utf8))
                state.withLock { $0.queued -= 1 }
            }
        }
    }

    /// Waits until every line is written. For the end of the process.
    func flush() {
        queue.sync {}
    }

    /// The lines to write for one record: none, itself, or also what had to be left out before it.
    private func admit(_ record: LogRecord, at now: Date, _ state: inout State) -> [LogRecord] {
        let second = Int(now.timeIntervalSince1970)
        var window = state.windows[record.event] ?? Window()
        var lines = [record]
        if window.second != second {
            if window.suppressed > 0 {
                lines.insert(leftOut("suppressed", record.event, window.suppressed), at: 0)
            }
            window = Window(second: second)
        }
        window.lines += 1
        if window.lines > Self.linesPerSecondMax, record.level < .error {
            window.suppressed += 1
            lines = []
        }
        state.windows[record.event] = window
        if !lines.isEmpty, state.queued + lines.count > Self.queuedMax {
            state.dropped += lines.count
            lines = []
        } else if !lines.isEmpty, state.dropped > 0 {
            lines.insert(leftOut("dropped", "log", state.dropped), at: 0)
            state.dropped = 0
        }
        state.queued += lines.count
        return lines
    }

    private func leftOut(_ why: String, _ event: String, _ count: Int) -> LogRecord {
        LogRecord(
            level: .warn, event: "log_lines_\(why)",
            fields: [("of", .text(event)), ("count", .number(UInt64(count)))])
    }

    private func format(_ record: LogRecord, at date: Date) -> String {
        isTerminal ? text(record, at: date) : json(record, at: date)
    }

    private func time(_ date: Date) -> String {
        date.formatted(
            .iso8601.year().month().day().timeZone(separator: .omitted)
                .time(includingFractionalSeconds: true).timeSeparator(.colon))
    }

    private func text(_ record: LogRecord, at date: Date) -> String {
        var line = "\(time(date)) \(record.level.rawValue.uppercased()) \(record.event)"
        for (name, value) in record.fields {
            switch value {
            case .text(let text): line += " \(name)=\(text)"
            case .number(let number): line += " \(name)=\(number)"
            case .list(let texts): line += " \(name)=\(texts.joined(separator: ","))"
            }
        }
        return line
    }

    private func json(_ record: LogRecord, at date: Date) -> String {
        var line = "{\"time\":\"\(time(date))\",\"level\":\"\(record.level.rawValue)\""
        line += ",\"event\":\(quoted(record.event))"
        for (name, value) in record.fields {
            line += ",\(quoted(name)):"
            switch value {
            case .text(let text): line += quoted(text)
            case .number(let number): line += String(number)
            case .list(let texts): line += "[\(texts.map(quoted).joined(separator: ","))]"
            }
        }
        return line + "}"
    }

    private func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case _ where scalar.value < 0x20:
                let digits = String(scalar.value, radix: 16)
                out += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }
}
