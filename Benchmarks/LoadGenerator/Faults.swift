/// When which fault comes. Times are those of the engine's clock.
struct FaultPlan {
    enum Action: Equatable {
        case stall(Int), halfOpen(Int), unstall
        case kill(Int)
        case restart(String)
    }

    private let faults: Faults
    private let start, end: UInt64
    private var stalled = false
    private var unstalled = false
    private var restarted = false
    private var killed = 0

    init(_ faults: Faults, start: UInt64, end: UInt64) {
        self.faults = faults
        self.start = start
        self.end = end
    }

    /// What is to be done at `time` and has not been done yet.
    mutating func due(_ time: UInt64) -> [Action] {
        var actions: [Action] = []
        let part = end > start ? Double(time - min(start, time)) / Double(end - start) : 1
        if !stalled, part >= 1.0 / 3 {
            stalled = true
            if faults.stall > 0 { actions.append(.stall(faults.stall)) }
            if faults.halfOpen > 0 { actions.append(.halfOpen(faults.halfOpen)) }
        }
        if stalled, !unstalled, part >= 2.0 / 3 {
            unstalled = true
            if faults.stall > 0 { actions.append(.unstall) }
        }
        let kills = Int(faults.kill * Double(time - min(start, time)) / 1e9)
        if kills > killed {
            actions.append(.kill(kills - killed))
            killed = kills
        }
        if !restarted, part >= 0.5, let command = faults.restart {
            restarted = true
            actions.append(.restart(command))
        }
        return actions
    }

    /// What has to be undone after the measured part.
    mutating func atEnd() -> [Action] {
        defer { unstalled = true }
        return stalled && !unstalled && faults.stall > 0 ? [.unstall] : []
    }
}
