internal import StreamCore
internal import StreamModel
internal import StreamWorkers

/// A line of a node's log: an event and fields, never a payload.
public struct LogRecord: Sendable {
    public enum Level: String, Sendable, Comparable {
        case debug, info, warn, error

        public static func < (left: Level, right: Level) -> Bool {
            left.rank < right.rank
        }

        private var rank: Int {
            switch self {
            case .debug: 0
            case .info: 1
            case .warn: 2
            case .error: 3
            }
        }
    }

    public enum Value: Sendable {
        case text(String)
        case number(UInt64)
        case list([String])
    }

    public var level: Level
    /// A fixed word for each kind of event, such as `listening`.
    public var event: String
    public var fields: [(name: String, value: Value)]

    public init(level: Level, event: String, fields: [(name: String, value: Value)]) {
        self.level = level
        self.event = event
        self.fields = fields
    }
}

/// Where the parts of a node log to.
struct NodeLog: Sendable {
    let sink: @Sendable (LogRecord) -> Void

    func write(
        _ level: LogRecord.Level, _ event: String,
        _ fields: KeyValuePairs<String, LogRecord.Value> = [:]
    ) {
        sink(
            LogRecord(
                level: level, event: event, fields: fields.map { (name: $0.key, value: $0.value) }))
    }

    func write(_ line: LogLine) {
        let fields = line.fields.map { (name: $0.name, value: LogRecord.Value.text($0.value)) }
        sink(LogRecord(level: LogRecord.Level(line.level), event: line.event, fields: fields))
    }

    func write(_ line: CoreLog) {
        var fields: [(name: String, value: LogRecord.Value)] = []
        if let connection = line.connection {
            fields.append(("connection", .text(String(connection.rawValue, radix: 16))))
        }
        if !line.detail.isEmpty {
            fields.append(("detail", .text(line.detail)))
        }
        sink(LogRecord(level: LogRecord.Level(line.level), event: line.event, fields: fields))
    }
}

extension LogRecord.Level {
    init(_ level: LogLevel) {
        self =
            switch level {
            case .debug: .debug
            case .info: .info
            case .warning: .warn
            case .error: .error
            }
    }
}
