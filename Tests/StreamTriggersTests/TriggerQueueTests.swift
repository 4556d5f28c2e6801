import StreamModel
import Testing

@testable import StreamTriggers

private func event(_ item: String) -> TriggerEvent {
    TriggerEvent(
        input: .text(.null), lane: .item(group: Name("g"), item: Name(item)), writer: nil, size: 4)
}

@Suite("Queue of a trigger")
struct TriggerQueueTests {
    private static let eventCount = 20_000
    private static let entriesMax = 5_000

    /// The second event of an item waits for the first, whose handler takes for ever: it stands in front of all
    /// the arrivals after it.
    @Test("does not grow behind an event that waits for its lane") func slowLane() {
        let limits = TriggerLimits()
        var queue = TriggerQueue()
        queue.append(event("slow"))
        queue.append(event("slow"))
        #expect(queue.start(limits) != nil)
        for number in 0..<Self.eventCount {
            queue.append(event("quick-\(number % 10)"))
            guard let started = queue.start(limits) else {
                Issue.record("a free lane's event did not start")
                return
            }
            queue.finish(started)
        }
        #expect(queue.waitingCount == 1)
        #expect(queue.entryCount < Self.entriesMax)
        // What is left is right: the one that waits is the one to be dropped.
        let dropped = queue.dropOldest()
        #expect(dropped?.lane == event("slow").lane)
        #expect(queue.dropOldest() == nil)
        #expect(queue.waitingCount == 0)
    }

    @Test("does not grow while all that comes is dropped") func dropping() throws {
        var limits = TriggerLimits()
        limits.inFlight = 1
        limits.waiting = 10
        var queue = TriggerQueue()
        queue.append(event("first"))
        let started = queue.start(limits)
        let first = try #require(started)
        for number in 0..<Self.eventCount {
            queue.append(event("item-\(number)"))
            #expect(queue.start(limits) == nil)
            while queue.isFull(limits) { #expect(queue.dropOldest() != nil) }
        }
        #expect(queue.waitingCount == 10)
        #expect(queue.entryCount < Self.entriesMax)
        // Those that are left start in their order.
        queue.finish(first)
        for number in (Self.eventCount - 10)..<Self.eventCount {
            let started = queue.start(limits)
            #expect(started?.event.lane == event("item-\(number)").lane)
            if let started { queue.finish(started) }
        }
    }
}
