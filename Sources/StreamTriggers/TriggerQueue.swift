package import StreamModel

/// What an event of a trigger must keep its order with.
package enum TriggerLane: Hashable, Sendable {
    case item(group: Name, item: Name)
    /// Events of no item.
    case group(Name)
    case subscription(ConnectionID, Name)
    /// One after the other, all of them.
    case single
    /// In no order with anything.
    case alone(UInt64)
}

/// An event on its way to a trigger.
package struct TriggerEvent<Payload: CallPayload>: Sendable {
    package var input: CallInput<Payload>
    package var lane: TriggerLane
    /// The connection that caused it, which can be made to wait.
    package var writer: ConnectionID?
    /// Bytes that it is counted with: those of the input, and ``overhead`` for the rest.
    package var size: Int
    /// Of a log record: the triggers whose handlers wrote what led to it. Its calls carry a trace context.
    package var authors: Set<Name>?
    /// Whether it may be dropped when too many wait. One that may not is bounded by its size only.
    package var isDroppable: Bool

    package init(
        input: CallInput<Payload>, lane: TriggerLane, writer: ConnectionID?, size: Int,
        authors: Set<Name>? = nil, isDroppable: Bool = true
    ) {
        self.input = input
        self.lane = lane
        self.writer = writer
        self.size = size
        self.authors = authors
        self.isDroppable = isDroppable
    }

    /// Bytes of an event in a queue beside its input.
    package static var overhead: Int { 512 }
}

/// The bounds of what waits for triggers, and of what their handlers are given.
package struct TriggerLimits: Hashable, Sendable {
    /// Events of one trigger that are being handled at once.
    package var inFlight = 256
    /// Events that wait for one trigger. With more, their writers wait; see ``TriggerEvaluator``.
    package var waiting = 10_000
    /// Bytes of the events that wait for one trigger.
    package var waitingSize = 64 << 20
    /// Bytes of all events of one writer that wait.
    package var waitingSizePerWriter = 64 << 20
    /// Calls of handlers and conditions that one worker executes at once, and the bytes of their events: a worker is
    /// given one event whatever its size. What is over it waits.
    package var inFlightPerServer = 5000
    package var inFlightSizePerServer = 64 << 20
    /// How long a condition or a handler may take, and a writer waits.
    package var timeout: Duration = .seconds(30)

    /// Events that may still come of writers that are held: they are in the control plane's hands already.
    package static let heldMax = 2048

    package init() {}
}

/// The events that wait for one trigger. Those of one lane are handled one after the other, in order.
struct TriggerQueue<Payload: CallPayload>: Sendable {
    typealias Event = TriggerEvent<Payload>

    private struct Lane {
        var events = Fifo<Event>()
        var isBusy = false
    }

    private var lanes: [TriggerLane: Lane] = [:]
    /// Lanes with an event that may start, in the order in which they may.
    private var ready = Fifo<TriggerLane>()
    /// The lane of each waiting event, oldest first; those that have started are skipped.
    private var arrivals = Fifo<(lane: TriggerLane, number: UInt64)>()
    private var started: [TriggerLane: UInt64] = [:]
    private var nextNumber: UInt64 = 0
    private(set) var waitingCount = 0
    private(set) var waitingSize = 0
    private(set) var inFlightCount = 0
    /// Writers that are held until the queue is shorter.
    var held: Set<ConnectionID> = []
    /// When they are let go whatever its length.
    var holdDeadline: Duration?
    /// The oldest events are dropped until the queue is shorter.
    var isDropping = false

    func isFull(_ limits: TriggerLimits) -> Bool {
        waitingCount > limits.waiting || waitingSize > limits.waitingSize
    }

    /// Whether as many events are being handled as may be.
    func isBusy(_ limits: TriggerLimits) -> Bool { inFlightCount >= limits.inFlight }

    func isOversized(_ limits: TriggerLimits) -> Bool { waitingSize > limits.waitingSize }

    /// So much over its limit that it is no use to hold writers: what they had sent before is too much.
    func isFarOver(_ limits: TriggerLimits) -> Bool {
        waitingCount > limits.waiting + TriggerLimits.heldMax
            || waitingSize > 2 * limits.waitingSize
    }

    func isShort(_ limits: TriggerLimits) -> Bool {
        waitingCount <= limits.waiting / 2 && waitingSize <= limits.waitingSize / 2
    }

    var isIdle: Bool { waitingCount == 0 && inFlightCount == 0 && held.isEmpty }

    mutating func append(_ event: Event) {
        let isFirst = lanes[event.lane] == nil
        lanes[event.lane, default: Lane()].events.append(event)
        if isFirst {
            ready.append(event.lane)
            forgetStaleLanes()
        }
        waitingCount += 1
        waitingSize += event.size
        arrivals.append((event.lane, nextNumber))
        nextNumber += 1
    }

    /// The bytes of the next event that may start; nil: there is none.
    mutating func nextSize(_ limits: TriggerLimits) -> Int? {
        guard inFlightCount < limits.inFlight else { return nil }
        while let lane = ready.first {
            if lanes[lane]?.isBusy == false, let event = lanes[lane]?.events.first {
                return event.size
            }
            _ = ready.popFirst()  // Its last event was dropped.
        }
        return nil
    }

    /// Takes the event that ``nextSize(_:)`` has told of.
    mutating func start(_ limits: TriggerLimits) -> Event? {
        guard nextSize(limits) != nil, let lane = ready.popFirst(),
            let event = lanes[lane]?.events.popFirst()
        else { return nil }
        lanes[lane]?.isBusy = true
        inFlightCount += 1
        noteTaken(event)
        return event
    }

    /// The event of a lane that has started is dealt with.
    mutating func finish(_ lane: TriggerLane) {
        inFlightCount -= 1
        if lanes[lane]?.events.isEmpty == false {
            lanes[lane]?.isBusy = false
            ready.append(lane)
        } else {
            lanes[lane] = nil
        }
    }

    /// Takes out the event that has waited longest.
    mutating func dropOldest() -> Event? {
        while let arrival = arrivals.popFirst() {
            guard let event = takeIfWaiting(arrival) else { continue }
            return event
        }
        return nil
    }

    private mutating func takeIfWaiting(_ arrival: (lane: TriggerLane, number: UInt64)) -> Event? {
        // Of each lane the events start in their order: so many of its arrivals are no longer waiting.
        if let count = started[arrival.lane], count > 0 {
            started[arrival.lane] = count == 1 ? nil : count - 1
            return nil
        }
        guard let event = lanes[arrival.lane]?.events.popFirst() else { return nil }
        waitingCount -= 1
        waitingSize -= event.size
        if lanes[arrival.lane]?.events.isEmpty == true, lanes[arrival.lane]?.isBusy == false {
            lanes[arrival.lane] = nil
        }
        return event
    }

    private mutating func noteTaken(_ event: Event) {
        waitingCount -= 1
        waitingSize -= event.size
        if waitingCount == 0 {
            arrivals = Fifo()
            started.removeAll(keepingCapacity: true)
            return
        }
        started[event.lane, default: 0] += 1
        // What has started at the head of the arrivals is forgotten, so that they do not grow.
        while let first = arrivals.first, let count = started[first.lane], count > 0 {
            _ = arrivals.popFirst()
            started[first.lane] = count == 1 ? nil : count - 1
        }
        forgetStarted()
    }

    /// How many entries that stand for nothing any more may lie between the others.
    private static var staleMax: Int { 1024 }

    /// Behind an event that waits for long, those that have started meanwhile would pile up.
    private mutating func forgetStarted() {
        guard arrivals.count > 2 * waitingCount + Self.staleMax else { return }
        var waiting = Fifo<(lane: TriggerLane, number: UInt64)>()
        while let arrival = arrivals.popFirst() {
            if let count = started[arrival.lane], count > 0 {
                started[arrival.lane] = count == 1 ? nil : count - 1
            } else {
                waiting.append(arrival)
            }
        }
        arrivals = waiting
    }

    /// So would lanes whose events have been dropped, while nothing may start.
    private mutating func forgetStaleLanes() {
        guard ready.count > 2 * lanes.count + Self.staleMax else { return }
        var seen: Set<TriggerLane> = []
        var live = Fifo<TriggerLane>()
        while let lane = ready.popFirst() {
            if lanes[lane]?.isBusy == false, seen.insert(lane).inserted { live.append(lane) }
        }
        ready = live
    }

    /// Entries of the queue's own bookkeeping, for tests.
    var entryCount: Int { arrivals.count + ready.count + started.count + lanes.count }
}
