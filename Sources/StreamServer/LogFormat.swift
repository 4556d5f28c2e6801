internal import Foundation
internal import IIIStream
internal import StreamCore

/// How a log record becomes a line.
enum LogFormat: Sendable {
    /// For people.
    case text
    case json
    /// JSON behind the priority that the journal takes off.
    case journal

    static var ofStandardError: LogFormat {
        if isatty(STDERR_FILENO) != 0 { return .text }
        return ProcessFacts.isJournal(STDERR_FILENO) ? .journal : .json
    }

    func line(_ record: LogRecord, at date: Date) -> String {
        switch self {
        case .text: Self.text(record, at: date)
        case .json: Self.json(record, at: date)
        case .journal: "<\(Self.priority(record.level))>" + Self.json(record, at: date)
        }
    }

    /// As syslog(3) numbers them.
    private static func priority(_ level: LogRecord.Level) -> Int {
        switch level {
        case .debug: 7
        case .info: 6
        case .warn: 4
        case .error: 3
        }
    }

    private static func time(_ date: Date) -> String {
        date.formatted(
            .iso8601.year().month().day().timeZone(separator: .omitted)
                .time(includingFractionalSeconds: true).timeSeparator(.colon))
    }

    private static func text(_ record: LogRecord, at date: Date) -> String {
        var line = "\(time(date)) \(record.level.rawValue.uppercased()) \(record.event)"
        for (name, value) in record.fields {
            switch value {
            case .text(let text): line += " \(name)=\(plain(text))"
            case .number(let number): line += " \(name)=\(number)"
            case .list(let texts): line += " \(name)=\(texts.map(plain).joined(separator: ","))"
            }
        }
        return line
    }

    private static func json(_ record: LogRecord, at date: Date) -> String {
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

    /// What a terminal would obey, or show as something else than it is: controls, line ends, marks that change the
    /// direction of writing, and what shows as nothing.
    static func isActive(_ scalar: Unicode.Scalar) -> Bool {
        switch scalar.properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse,
            .unassigned:
            true
        default: false
        }
    }

    private static func escaped(_ scalar: Unicode.Scalar) -> String {
        scalar.utf16.map { unit in
            let digits = String(unit, radix: 16)
            return "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        }.joined()
    }

    /// A name of somebody else's as it may stand in a line for a terminal.
    static func plain(_ text: String) -> String {
        guard text.unicodeScalars.contains(where: { isActive($0) || $0 == "\\" }) else {
            return text
        }
        return text.unicodeScalars.map { scalar in
            scalar == "\\" ? "\\\\" : isActive(scalar) ? escaped(scalar) : String(scalar)
        }.joined()
    }

    private static func quoted(_ text: String) -> String {
        var out = "\""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\"": out += "\\\""
            case "\\": out += "\\\\"
            case _ where isActive(scalar): out += escaped(scalar)
            default: out.unicodeScalars.append(scalar)
            }
        }
        return out + "\""
    }
}
