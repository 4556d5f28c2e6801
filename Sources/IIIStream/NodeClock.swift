internal import StreamCore
internal import StreamModel

/// What time it is, for everything that the control plane decides.
struct NodeClock: Sendable {
    let moment: @Sendable () -> Moment
    /// Since some start, for how long work takes.
    let uptime: @Sendable () -> Duration

    static let system = NodeClock(moment: currentMoment, uptime: currentUptime)
}
