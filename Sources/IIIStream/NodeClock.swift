internal import StreamCore
internal import StreamModel

/// What time it is, for everything that the control plane decides.
struct NodeClock: Sendable {
    let moment: @Sendable () -> Moment

    static let system = NodeClock(moment: currentMoment)
}
