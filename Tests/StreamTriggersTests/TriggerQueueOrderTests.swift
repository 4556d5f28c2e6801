import StreamModel
import Testing

@testable import StreamTriggers

private func lane(_ item: String) -> TriggerLane { .item(group: Name("g"), item: Name(item)) }

@Suite("Order in the queue of a trigger")
struct TriggerQueueOrderTests {
    private var queue = TriggerQueue()
    private var limits = TriggerLimits()
    private var running: [TriggerLane: TriggerQueue.Started] = [:]

    private mutating func append(_ event: String, _ item: String, size: Int = 1) {
        queue.append(
            TriggerEvent(input: .message(Packet(event)), lane: lane(item), writer: nil, size: size))
    }

    /// Starts all that may, and says which.
    private mutating func start() -> [String] {
        var started: [String] = []
        while let event = startNext() { started.append(event.input.message) }
        return started
    }

    private mutating func startNext() -> TriggerEvent? {
        guard let next = queue.start(limits) else { return nil }
        running[next.event.lane] = next
        return next.event
    }

    private mutating func finish(_ lane: TriggerLane) {
        guard let done = running.removeValue(forKey: lane) else {
            Issue.record("nothing of \(lane) is being handled")
            return
        }
        queue.finish(done)
    }

    @Test("events of different lanes start at once, in their order") mutating func lanes() {
        for item in ["c", "a", "b"] { append(item, item) }
        #expect(start() == ["c", "a", "b"])
        #expect(queue.inFlightCount == 3)
        #expect(queue.waitingCount == 0)
    }

    @Test("those of one lane start one after the other, in their order") mutating func oneLane() {
        for event in ["1", "2", "3"] { append(event, "a") }
        append("x", "b")
        #expect(start() == ["1", "x"])
        #expect(start().isEmpty)
        finish(lane("b"))
        #expect(start().isEmpty)
        finish(lane("a"))
        #expect(start() == ["2"])
        finish(lane("a"))
        #expect(start() == ["3"])
        #expect(!queue.isIdle)
        finish(lane("a"))
        #expect(queue.isIdle)
    }

    @Test("so many are in flight and no more", arguments: [1, 2, 256]) mutating func inFlight(
        limit: Int
    ) {
        limits.inFlight = limit
        for number in 0...limit { append("\(number)", "\(number)") }
        #expect(start().count == limit)
        finish(lane("0"))
        #expect(start() == ["\(limit)"])
    }

    @Test("a lane that has waited for its turn comes before one that has just been busy")
    mutating func fair() {
        limits.inFlight = 1
        for event in ["1", "2"] { append(event, "a") }
        append("x", "b")
        #expect(start() == ["1"])
        finish(lane("a"))
        #expect(start() == ["x"])
    }

    @Test("it is full over the limit of events, and short at half of it") mutating func count() {
        limits.waiting = 4
        for number in 0..<4 {
            #expect(queue.isShort(limits) == (number <= 2))
            append("\(number)", "a")
        }
        #expect(!queue.isFull(limits))
        append("5", "a")
        #expect(queue.isFull(limits))
    }

    @Test("it is full over the limit of bytes, and short at half of it") mutating func bytes() {
        limits.waitingSize = 100
        append("1", "a", size: 50)
        #expect(queue.isShort(limits))
        append("2", "a", size: 50)
        #expect(!queue.isShort(limits))
        #expect(!queue.isFull(limits))
        append("3", "a", size: 1)
        #expect(queue.isFull(limits))
        #expect(start() == ["1"])
        #expect(queue.waitingSize == 51)
        #expect(queue.dropOldest()?.input.message == "2")
        #expect(queue.waitingSize == 1)
    }

    @Test("the oldest that waits is dropped, of whatever lane") mutating func dropOldest() {
        for (event, item) in [("1", "a"), ("2", "a"), ("3", "b"), ("4", "a"), ("5", "b")] {
            append(event, item)
        }
        #expect(start() == ["1", "3"])
        #expect(queue.dropOldest()?.input.message == "2")
        #expect(queue.dropOldest()?.input.message == "4")
        finish(lane("b"))
        #expect(start() == ["5"])
        #expect(queue.dropOldest() == nil)
    }

    @Test("a lane whose events were all dropped starts again with the next")
    mutating func droppedLane() {
        limits.inFlight = 1
        append("1", "a")
        #expect(start() == ["1"])
        append("2", "b")
        append("3", "c")
        #expect(queue.dropOldest()?.input.message == "2")
        append("4", "b")
        append("5", "b")
        var order: [String] = []
        for _ in 0..<4 {
            for lane in running.keys { finish(lane) }
            order += start()
        }
        #expect(order.sorted() == ["3", "4", "5"])
        #expect((order.firstIndex(of: "4") ?? 9) < (order.firstIndex(of: "5") ?? 0))
    }

    // MARK: Against a model

    private struct Waiting {
        var number: Int
        var item: String
        var size: Int
    }

    /// Against a plain list of what waits, in order, and the set of lanes that are busy.
    @Test("any sequence agrees with a list", arguments: [1, 3, 1000]) mutating func random(
        inFlight: Int
    ) {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("trigger queue: seed \(seed)")
        var random = SplitMix(state: seed)
        limits.inFlight = inFlight
        var waiting: [Waiting] = []
        var busy: [String: Int] = [:]
        for number in 0..<10_000 {
            let item = "\(Int.random(in: 0..<8, using: &random))"
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<4:
                let size = Int.random(in: 0..<100, using: &random)
                append("\(number)", item, size: size)
                waiting.append(Waiting(number: number, item: item, size: size))
            case 4..<8:
                if Bool.random(using: &random),
                    let done = busy.keys.sorted().randomElement(using: &random)
                {
                    busy[done] = nil
                    finish(lane(done))
                }
                guard let event = startNext() else {
                    let canStart = waiting.contains { busy[$0.item] == nil }
                    #expect(busy.count == inFlight || !canStart)
                    break
                }
                let started = waiting.firstIndex { "\($0.number)" == event.input.message }
                guard let started else {
                    Issue.record("\(event.input.message) did not wait")
                    return
                }
                let item = waiting[started].item
                #expect(busy[item] == nil)
                #expect(waiting.firstIndex { $0.item == item } == started)
                busy[item] = waiting.remove(at: started).number
            default:
                let oldest = waiting.isEmpty ? nil : waiting.removeFirst()
                #expect(queue.dropOldest()?.input.message == oldest.map { "\($0.number)" })
            }
            #expect(queue.waitingCount == waiting.count)
            #expect(queue.waitingSize == waiting.reduce(0) { $0 + $1.size })
            #expect(queue.inFlightCount == busy.count)
            #expect(queue.isIdle == (waiting.isEmpty && busy.isEmpty))
        }
    }
}

@Suite("Queue in an array")
struct FifoTests {
    @Test("any sequence agrees with an array") func random() {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("fifo: seed \(seed)")
        var random = SplitMix(state: seed)
        var fifo = Fifo<Int>()
        var model: [Int] = []
        for number in 0..<20_000 {
            switch Int.random(in: 0..<100, using: &random) {
            case 0..<51:
                fifo.append(number)
                model.append(number)
            default:
                #expect(fifo.popFirst() == (model.isEmpty ? nil : model.removeFirst()))
            }
            #expect(fifo.count == model.count)
            #expect(fifo.first == model.first)
            #expect(fifo.isEmpty == model.isEmpty)
        }
    }
}

extension CallInput {
    var message: String {
        switch self {
        case .message(let payload): (payload as? Packet)?.text ?? "?"
        case .text(let text): String(decoding: text.bytes, as: UTF8.self)
        }
    }
}
