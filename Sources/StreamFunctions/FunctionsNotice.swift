package import StreamModel

/// When the trigger type `engine::functions-available` fires: once for many changes, but not never while
/// they go on.
package struct FunctionsNotice: Sendable {
    /// After the last change.
    private static let quiet = Duration.milliseconds(100)
    /// Between two notices, and the longest that a change waits for its notice.
    private static let interval = Duration.seconds(1)

    package private(set) var due: Duration?
    private var last: Duration?
    /// When the first change came that no notice has told of.
    private var first: Duration?

    package init() {}

    package mutating func change(at moment: Moment) {
        let first = self.first ?? moment.uptime
        self.first = first
        let earliest = last.map { $0 + Self.interval } ?? .zero
        due = max(min(moment.uptime + Self.quiet, first + Self.interval), earliest)
    }

    package func isDue(at moment: Moment) -> Bool {
        due.map { $0 <= moment.uptime } ?? false
    }

    package mutating func fire(at moment: Moment) {
        due = nil
        first = nil
        last = moment.uptime
    }
}
