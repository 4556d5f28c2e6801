internal import Foundation
internal import IIIStream
internal import StreamCore

/// Writes log lines to standard error: text for people when it is a terminal, JSON otherwise, with priorities where the
/// journal reads them.
///
/// One kind of event gets so many lines a second; the rest are counted, so that a client that sends rubbish does not
/// fill a disk.
final class LogWriter: Sendable {
    private static let linesPerSecondMax = 50

    private struct Window {
        var second = 0
        var lines = 0
        var suppressed = 0
    }

    private let format: LogFormat
    private let level: LogRecord.Level
    private let windows = Guarded<[String: Window]>([:])
    private let lines = LineWriter(descriptor: STDERR_FILENO)

    init(level: LogRecord.Level) {
        format = .ofStandardError
        self.level = level
    }

    func write(_ record: LogRecord) {
        guard record.level >= level else { return }
        let now = Date()
        let format = format
        for record in windows.withLock({ admit(record, at: now, &$0) }) {
            lines.write(format.line(record, at: now)) { count in
                format.line(Self.leftOut("dropped", "log", count), at: Date())
            }
        }
    }

    /// Waits until every line is written, though not for ever. For the end of the process.
    func flush() {
        lines.flush()
    }

    /// The lines to write for one record: none, itself, or also what had to be left out before it.
    private func admit(
        _ record: LogRecord, at now: Date, _ windows: inout [String: Window]
    ) -> [LogRecord] {
        let second = Int(now.timeIntervalSince1970)
        var window = windows[record.event] ?? Window()
        var records = [record]
        if window.second != second {
            if window.suppressed > 0 {
                records.insert(
                    Self.leftOut("suppressed", record.event, window.suppressed), at: 0)
            }
            window = Window(second: second)
        }
        window.lines += 1
        if window.lines > Self.linesPerSecondMax, record.level < .error {
            window.suppressed += 1
            records = []
        }
        windows[record.event] = window
        return records
    }

    private static func leftOut(_ why: String, _ event: String, _ count: Int) -> LogRecord {
        LogRecord(
            level: .warn, event: "log_lines_\(why)",
            fields: [("of", .text(event)), ("count", .number(UInt64(count)))])
    }
}
