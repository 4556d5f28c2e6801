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
package struct TriggerEvent: Sendable {
    package var input: CallInput
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
        input: CallInput, lane: TriggerLane, writer: ConnectionID?, size: Int,
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
///
/// A lane is looked up by what it is once an event, when that comes. From then on it is a place in an array.
struct TriggerQueue: Sendable {
    typealias Event = TriggerEvent

    private struct Lane {
        var key: TriggerLane
        /// Tells a lane from those that were in its place before: the number of its first event.
        var number: UInt64
        var events = Fifo<Numbered>()
        var isBusy = false
    }

    private struct Numbered {
        var event: Event
        var number: UInt64
    }

    /// An event in its place: of a lane, or the lane itself by its first event.
    private struct Entry {
        var place: Int
        var number: UInt64
    }

    /// An event that is being handled.
    struct Started: Sendable {
        var event: Event
        /// Its lane's, until it has finished.
        fileprivate var place: Int
    }

    private var lanes: [Lane] = []
    private var freePlaces: [Int] = []
    private var places: [TriggerLane: Int] = [:]
    /// Lanes with an event that may start, in the order in which they may. Some have gone, or are busy again.
    private var ready = Fifo<Entry>()
    /// Events, oldest first. Those that have started are skipped.
    private var arrivals = Fifo<Entry>()
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
        let number = nextNumber
        nextNumber += 1
        let place: Int
        if let known = places[event.lane] {
            place = known
        } else {
            place = takePlace(event.lane, number)
            ready.append(Entry(place: place, number: number))
            forgetStaleLanes()
        }
        waitingCount += 1
        waitingSize += event.size
        lanes[place].events.append(Numbered(event: event, number: number))
        arrivals.append(Entry(place: place, number: number))
    }

    private mutating func takePlace(_ key: TriggerLane, _ number: UInt64) -> Int {
        let lane = Lane(key: key, number: number)
        let place: Int
        if let free = freePlaces.popLast() {
            place = free
            lanes[place] = lane
        } else {
            place = lanes.count
            lanes.append(lane)
        }
        places[key] = place
        return place
    }

    /// A lane without events that nobody handles one of.
    private mutating func givePlace(_ place: Int) {
        places[lanes[place].key] = nil
        lanes[place].key = .single  // Its names go now.
        lanes[place].number = .max
        freePlaces.append(place)
    }

    /// Places that a queue without events keeps for the next ones.
    private static var keptPlaces: Int { 64 }

    /// What thousands of lanes have taken goes with the last of them.
    private mutating func shrinkIfEmpty() {
        guard places.isEmpty, lanes.count > Self.keptPlaces else { return }
        lanes = []
        freePlaces = []
        places = [:]
        ready = Fifo()
        arrivals = Fifo()
    }

    /// Whether an entry of `ready` is a lane whose next event may start.
    private func mayStart(_ entry: Entry) -> Bool {
        let lane = lanes[entry.place]
        return lane.number == entry.number && !lane.isBusy && !lane.events.isEmpty
    }

    /// The bytes of the next event that may start; nil: there is none.
    mutating func nextSize(_ limits: TriggerLimits) -> Int? {
        guard inFlightCount < limits.inFlight else { return nil }
        while let entry = ready.first {
            if mayStart(entry) { return lanes[entry.place].events.first?.event.size }
            _ = ready.popFirst()  // Its last event was dropped.
        }
        return nil
    }

    /// Takes the event that ``nextSize(_:)`` has told of.
    mutating func start(_ limits: TriggerLimits) -> Started? {
        guard nextSize(limits) != nil, let entry = ready.popFirst(),
            let event = lanes[entry.place].events.popFirst()?.event
        else { return nil }
        lanes[entry.place].isBusy = true
        inFlightCount += 1
        waitingCount -= 1
        waitingSize -= event.size
        forgetStarted()
        return Started(event: event, place: entry.place)
    }

    /// An event that has started is dealt with.
    mutating func finish(_ started: Started) {
        let place = started.place
        inFlightCount -= 1
        lanes[place].isBusy = false
        if lanes[place].events.isEmpty {
            givePlace(place)
            shrinkIfEmpty()
        } else {
            ready.append(Entry(place: place, number: lanes[place].number))
        }
    }

    /// Takes out the event that has waited longest.
    mutating func dropOldest() -> Event? {
        while let arrival = arrivals.popFirst() {
            guard isWaiting(arrival), let event = lanes[arrival.place].events.popFirst()?.event
            else { continue }
            waitingCount -= 1
            waitingSize -= event.size
            if lanes[arrival.place].events.isEmpty, !lanes[arrival.place].isBusy {
                givePlace(arrival.place)
                shrinkIfEmpty()
            }
            return event
        }
        return nil
    }

    /// Whether the event of an arrival waits still. The events of a lane start in their order, and numbers only grow: of a
    /// place, all below its first one have started.
    private func isWaiting(_ arrival: Entry) -> Bool {
        guard let first = lanes[arrival.place].events.first else { return false }
        return arrival.number >= first.number
    }

    /// How many entries that stand for nothing any more may lie between the others.
    private static var staleMax: Int { 1024 }

    /// What has started at the head of the arrivals goes, so that they do not grow. Behind an event that waits for long,
    /// those that have started meanwhile would pile up.
    private mutating func forgetStarted() {
        guard waitingCount > 0 else {
            arrivals.removeAll()
            return
        }
        while let first = arrivals.first, !isWaiting(first) { _ = arrivals.popFirst() }
        guard arrivals.count > 2 * waitingCount + Self.staleMax else { return }
        var waiting = Fifo<Entry>()
        while let arrival = arrivals.popFirst() {
            if isWaiting(arrival) { waiting.append(arrival) }
        }
        arrivals = waiting
    }

    /// So would lanes whose events have been dropped, while nothing may start.
    private mutating func forgetStaleLanes() {
        guard ready.count > 2 * places.count + Self.staleMax else { return }
        var live = Fifo<Entry>()
        while let entry = ready.popFirst() {
            if lanes[entry.place].number == entry.number, !lanes[entry.place].isBusy {
                live.append(entry)
            }
        }
        ready = live
    }

    /// Entries of the queue's own bookkeeping, for tests.
    var entryCount: Int { arrivals.count + ready.count + places.count }
}
