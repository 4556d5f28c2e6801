import StreamModel

/// The calls of triggers that have not ended. A run's number is its place and how many have been in it, so that it is found
/// without a search, and a number of before stands for nothing.
struct RunTable: Sendable {
    private struct Place {
        var turn: UInt64 = 0
        var run: TriggerEvaluator.Run?
    }

    private static let placeBits: UInt64 = 32

    private var places: [Place] = []
    private var free: [Int] = []

    var count: Int { places.count - free.count }

    mutating func insert(_ run: TriggerEvaluator.Run) -> UInt64 {
        let index: Int
        if let last = free.popLast() {
            index = last
        } else {
            index = places.count
            places.append(Place())
        }
        places[index].turn += 1
        places[index].run = run
        return places[index].turn << Self.placeBits | UInt64(index)
    }

    mutating func take(_ number: UInt64) -> TriggerEvaluator.Run? {
        let index = Int(number & (1 << Self.placeBits - 1))
        guard index < places.count, places[index].turn == number >> Self.placeBits,
            let run = places[index].run.take()
        else { return nil }
        free.append(index)
        return run
    }
}
