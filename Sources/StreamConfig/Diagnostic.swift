/// One thing to say about a configuration: what, where, and whether the node can start.
package struct Diagnostic: Hashable, Sendable {
    package enum Severity: String, Sendable {
        case error, warning
    }

    package var severity: Severity
    package var message: String
    package var position: SourcePosition?

    package init(_ severity: Severity, _ message: String, at position: SourcePosition? = nil) {
        self.severity = severity
        self.message = message
        self.position = position
    }

    /// The line for a terminal or a log: `config.yaml:4:7: error: …`.
    package func text(file: String?) -> String {
        var place = file.map { $0 + ":" } ?? ""
        if let position {
            place += "\(position.line):\(position.column):"
        }
        return (place.isEmpty ? "" : place + " ") + "\(severity.rawValue): \(message)"
    }
}

/// Collects what there is to say, so that all problems of a file are reported together.
struct DiagnosticList {
    /// More problems than this help nobody: the rest is counted.
    static let countMax = 50

    private var kept: [Diagnostic] = []
    private var dropped = 0
    private(set) var hasErrors = false

    mutating func add(_ diagnostic: Diagnostic) {
        hasErrors = hasErrors || diagnostic.severity == .error
        if kept.count < Self.countMax {
            kept.append(diagnostic)
        } else if diagnostic.severity == .error, let place = kept.lastIndex(where: \.isWarning) {
            // An error is never lost behind warnings: it is what the start fails with.
            kept[place] = diagnostic
            dropped += 1
        } else {
            dropped += 1
        }
    }

    mutating func error(_ message: String, at position: SourcePosition?) {
        add(Diagnostic(.error, message, at: position))
    }

    mutating func warning(_ message: String, at position: SourcePosition?) {
        add(Diagnostic(.warning, message, at: position))
    }

    /// Everything said, in the order of the file; what has no place comes last.
    var inFileOrder: [Diagnostic] {
        let end = SourcePosition(line: .max, column: .max)
        var sorted = kept.enumerated().sorted { left, right in
            let places = (left.element.position ?? end, right.element.position ?? end)
            return places.0 == places.1 ? left.offset < right.offset : places.0 < places.1
        }.map(\.element)
        if dropped > 0 {
            sorted.append(
                Diagnostic(hasErrors ? .error : .warning, "and \(dropped) more like these"))
        }
        return sorted
    }
}

extension Diagnostic {
    fileprivate var isWarning: Bool { severity == .warning }
}
