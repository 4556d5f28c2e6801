package import StreamModel

/// When the trigger type `engine::functions-available` fires: once for many changes.
package struct FunctionsNotice: Sendable {
    /// Milliseconds after the last change, and between two notices.
    private static let quiet: UInt64 = 100
    private static let interval: UInt64 = 1000

    package private(set) var due: UInt64?
    private var last: UInt64?

    package init() {}

    package mutating func change(at moment: Moment) {
        let earliest = last.map { $0 + Self.interval } ?? 0
        due = max(moment.uptime + Self.quiet, earliest)
    }

    package func isDue(at moment: Moment) -> Bool {
        due.map { $0 <= moment.uptime } ?? false
    }

    package mutating func fire(at moment: Moment) {
        due = nil
        last = moment.uptime
    }
}
