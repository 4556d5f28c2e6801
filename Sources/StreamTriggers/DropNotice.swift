import StreamModel

/// Counts events that were dropped, for one line of the log a second.
struct DropNotice: Sendable {
    private var count = 0
    private var triggers: Set<Name> = []
    private var next: Duration = .zero

    mutating func note(_ trigger: Name) {
        count += 1
        if triggers.count < Self.triggersMax { triggers.insert(trigger) }
    }

    /// Triggers that are counted apart.
    private static let triggersMax = 1000

    /// When there is something to say.
    var due: Duration? { count > 0 ? next : nil }

    mutating func line(now: Duration) -> LogLine? {
        guard count > 0, next <= now, let first = triggers.first else { return nil }
        defer {
            count = 0
            triggers = []
            next = now + .seconds(1)
        }
        return LogLine(
            .warning, "trigger_events_dropped",
            ["trigger": first.string, "triggers": "\(triggers.count)", "count": "\(count)"])
    }
}
