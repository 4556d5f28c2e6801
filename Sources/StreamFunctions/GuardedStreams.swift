package import StreamModel

/// Streams that nobody joins without the word of a guard, a trigger of the type `stream:join` that has answered.
///
/// From the start until a stream has had its first guard, joins of it wait, each for a limited time: the guard's worker
/// may just be connecting. A guard that was there and has gone is not waited for.
package struct GuardedStreams<Join: Sendable>: Sendable {
    /// A join that waits for the first guard of its stream.
    package struct Waiting: Sendable {
        package var connection: ConnectionID
        package var stream: String
        package var join: Join
        var due: Duration
    }

    /// What is to be done with a join for which no trigger is there.
    package enum Decision: Sendable, Equatable {
        case wait
        case refuse
    }

    private let patterns: [Pattern]
    private let patience: Duration
    /// Patterns that have had a guard.
    private var seen: Set<Int> = []
    private var waiting: [Waiting] = []

    /// - Parameters:
    ///   - patterns: names, in which `*` stands for any run of characters.
    ///   - patience: how long a join waits.
    package init(_ patterns: [String], patience: Duration) {
        self.patterns = patterns.map(Pattern.init)
        self.patience = patience
    }

    package var isEmpty: Bool { patterns.isEmpty }
    package var waitingCount: Int { waiting.count }

    package func guards(_ stream: String) -> Bool {
        patterns.contains { $0.matches(stream) }
    }

    /// A join of a guarded stream has found a guard.
    package mutating func sawGuard(of stream: String) {
        for (index, pattern) in patterns.enumerated() where pattern.matches(stream) {
            seen.insert(index)
        }
    }

    /// A join of a guarded stream has found none. If it waits, it is kept.
    package mutating func missedGuard(
        of stream: String, _ connection: ConnectionID, _ join: Join, now: Duration
    ) -> Decision {
        let hadOne = patterns.enumerated().contains {
            seen.contains($0.offset) && $0.element.matches(stream)
        }
        guard !hadOne else { return .refuse }
        waiting.append(
            Waiting(connection: connection, stream: stream, join: join, due: now + patience))
        return .wait
    }

    /// When the next join has waited long enough.
    package var nextDeadline: Duration? { waiting.first?.due }

    /// Joins that have waited long enough: they are refused.
    package mutating func takeExpired(now: Duration) -> [Waiting] {
        let expired = waiting.prefix { $0.due <= now }
        waiting.removeFirst(expired.count)
        return Array(expired)
    }

    /// Joins whose guard has come: they are decided about as any other.
    package mutating func takeGuarded(_ hasGuard: (String) -> Bool) -> [Waiting] {
        guard !waiting.isEmpty else { return [] }
        let guarded = waiting.filter { hasGuard($0.stream) }
        if !guarded.isEmpty { waiting.removeAll { hasGuard($0.stream) } }
        return guarded
    }
}
