/// The calls of triggers that have not ended. The number of a run is its place and a count of all that there were, so that it is
/// found without a search, and a number of before stands for nothing.
struct RunTable: Sendable {
    private struct Place {
        var number: UInt64
        var run: TriggerEvaluator.Run?
    }

    private static let placeBits: UInt64 = 24
    private static let keptPlaces = 1024

    private var places: [Place] = []
    private var free: [Int] = []
    private var nextTurn: UInt64 = 1

    var count: Int { places.count - free.count }

    mutating func insert(_ run: TriggerEvaluator.Run) -> UInt64 {
        let index = free.popLast() ?? places.count
        precondition(index >> Self.placeBits == 0, "16 million calls of triggers are under way")
        let place = Place(number: nextTurn << Self.placeBits | UInt64(index), run: run)
        nextTurn += 1
        if index == places.count { places.append(place) } else { places[index] = place }
        return place.number
    }

    mutating func take(_ number: UInt64) -> TriggerEvaluator.Run? {
        let index = Int(number & (1 << Self.placeBits - 1))
        guard index < places.count, places[index].number == number,
            let run = places[index].run.take()
        else { return nil }
        free.append(index)
        if count == 0, places.count > Self.keptPlaces {
            places = []
            free = []
        }
        return run
    }
}
