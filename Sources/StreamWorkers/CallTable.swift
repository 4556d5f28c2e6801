import StreamModel

/// Who waits for a call, and for what.
enum CallPurpose: Sendable {
    /// A worker called; its answer is addressed.
    case answer(AnswerAddress)
    /// The node called, for what its caller knows by a number. Without `needsResult` a success is told without it.
    case node(UInt64, needsResult: Bool)
    /// The router called, to know what a worker may do.
    case access(AccessStep)
}

/// A call that its executor has not answered yet.
struct PendingCall: Sendable {
    /// The id towards the executor: ours, so that callers cannot collide or guess.
    var invocationID: Name
    var executor: ConnectionID
    /// The connection that waits; ``ConnectionID/node`` when the node itself does.
    var caller: ConnectionID
    var functionID: String
    var purpose: CallPurpose
    /// How long the executor may take, and when that is over; nil: no limit.
    var timeout: Duration?
    var deadline: Duration?
}

/// The calls in flight: by id; by executor and by caller in order of arrival; by the end of their time.
///
/// A call sits in a slot. Chains run through the slots, so that the calls of a connection that closes are found
/// without looking at others. A call comes out in O(1), one with a time limit in O(log n).
struct CallTable: Sendable {
    private var slots: [PendingCall?] = []
    private var freeSlots: [Int] = []
    private var slotByID: [Name: Int] = [:]
    private var executing = CallChains<ConnectionID>()
    private var waiting = CallChains<ConnectionID>()
    private var deadlines = DeadlineHeap()

    var count: Int { slotByID.count }

    /// How many calls `connection` executes.
    func executingCount(of connection: ConnectionID) -> Int { executing.count(of: connection) }

    /// How many calls `connection` has made, those without an answer included.
    func waitingCount(of connection: ConnectionID) -> Int { waiting.count(of: connection) }

    /// Adds a call whose id is not in the table.
    mutating func insert(_ call: PendingCall) {
        let slot = takeSlot()
        let previous = slotByID.updateValue(slot, forKey: call.invocationID)
        precondition(previous == nil, "an invocation id was made twice")
        executing.append(slot, to: call.executor)
        waiting.append(slot, to: call.caller)
        if let deadline = call.deadline { deadlines.insert(slot, due: deadline) }
        slots[slot] = call
    }

    /// Takes out the call `id`, if it is in the table and `executor` executes it.
    mutating func take(_ id: Name, from executor: ConnectionID) -> Taken {
        guard let index = slotByID.index(forKey: id) else { return .unknown }
        let slot = slotByID.values[index]
        guard let call = slots[slot], call.executor == executor else { return .foreign }
        slotByID.remove(at: index)
        clearSlot(slot)
        return .call(call)
    }

    /// When the first call is due.
    var nextDeadline: Duration? { deadlines.first?.due }

    /// Takes out a call whose time is over: the one that is due first, of several the one that came first.
    mutating func takeDue(now: Duration) -> PendingCall? {
        guard let first = deadlines.first, first.due <= now, let call = slots[first.slot]
        else { return nil }
        slotByID[call.invocationID] = nil
        clearSlot(first.slot)
        return call
    }

    enum Taken {
        case call(PendingCall)
        /// No such call.
        case unknown
        /// Another connection executes it.
        case foreign
    }

    /// Takes out a call that `connection` executes, or one that it has made; nil: there is none.
    mutating func removeFirst(of connection: ConnectionID) -> PendingCall? {
        guard let slot = executing.first(of: connection) ?? waiting.first(of: connection),
            let call = slots[slot]
        else { return nil }
        slotByID[call.invocationID] = nil
        clearSlot(slot)
        return call
    }

    /// Forgets a connection without calls.
    mutating func forget(_ connection: ConnectionID) {
        executing.forget(connection)
        waiting.forget(connection)
    }

    private mutating func takeSlot() -> Int {
        if let slot = freeSlots.popLast() { return slot }
        slots.append(nil)
        executing.addSlot()
        waiting.addSlot()
        deadlines.addSlot()
        return slots.count - 1
    }

    private mutating func clearSlot(_ slot: Int) {
        if slots[slot]?.deadline != nil { deadlines.remove(slot) }
        slots[slot] = nil
        freeSlots.append(slot)
        executing.remove(slot)
        waiting.remove(slot)
    }
}

/// Doubly linked chains through the slots of a table, one for each owner, such as a connection.
///
/// An owner has a seat, the place of its chain, from its first call until it is forgotten, so that a call
/// comes out without a look-up.
private struct CallChains<Owner: Hashable & Sendable>: Sendable {
    private struct Link {
        var seat = 0
        var previous: Int?
        var next: Int?
    }

    private struct Chain {
        var first: Int?
        var last: Int?
        var count = 0
    }

    private var links: [Link] = []
    private var chains: [Chain] = []
    private var seats: [Owner: Int] = [:]
    private var freeSeats: [Int] = []

    func count(of owner: Owner) -> Int {
        seats[owner].map { chains[$0].count } ?? 0
    }

    func first(of owner: Owner) -> Int? {
        seats[owner].flatMap { chains[$0].first }
    }

    mutating func addSlot() {
        links.append(Link())
    }

    mutating func append(_ slot: Int, to owner: Owner) {
        let seat = seats[owner] ?? takeSeat(owner)
        let last = chains[seat].last
        links[slot] = Link(seat: seat, previous: last, next: nil)
        if let last { links[last].next = slot } else { chains[seat].first = slot }
        chains[seat].last = slot
        chains[seat].count += 1
    }

    mutating func remove(_ slot: Int) {
        let link = links[slot]
        if let next = link.next {
            links[next].previous = link.previous
        } else {
            chains[link.seat].last = link.previous
        }
        if let previous = link.previous {
            links[previous].next = link.next
        } else {
            chains[link.seat].first = link.next
        }
        chains[link.seat].count -= 1
    }

    /// Gives back the seat of an owner whose chain is empty.
    mutating func forget(_ owner: Owner) {
        guard let seat = seats.removeValue(forKey: owner) else { return }
        precondition(chains[seat].count == 0, "an owner is forgotten with calls in flight")
        freeSeats.append(seat)
    }

    private mutating func takeSeat(_ owner: Owner) -> Int {
        if let seat = freeSeats.popLast() {
            seats[owner] = seat
            return seat
        }
        chains.append(Chain())
        seats[owner] = chains.count - 1
        return chains.count - 1
    }
}

/// Slots by the time at which they are due: a binary heap that knows where each slot is.
private struct DeadlineHeap: Sendable {
    struct Entry: Sendable {
        var due: Duration
        /// Of the insertions: of two that are due together the first comes first.
        var number: UInt64
        var slot: Int

        static func < (left: Entry, right: Entry) -> Bool {
            (left.due, left.number) < (right.due, right.number)
        }
    }

    private var entries: [Entry] = []
    /// Where the slot is in the heap; -1: it is not.
    private var places: [Int] = []
    private var nextNumber: UInt64 = 0

    var first: Entry? { entries.first }

    mutating func addSlot() {
        places.append(-1)
    }

    mutating func insert(_ slot: Int, due: Duration) {
        entries.append(Entry(due: due, number: nextNumber, slot: slot))
        nextNumber += 1
        rise(from: entries.count - 1)
    }

    mutating func remove(_ slot: Int) {
        let place = places[slot]
        places[slot] = -1
        guard let last = entries.popLast(), last.slot != slot else { return }
        entries[place] = last
        rise(from: place)
        sink(from: places[last.slot])
    }

    private mutating func rise(from start: Int) {
        var place = start
        let entry = entries[place]
        while place > 0, entry < entries[(place - 1) / 2] {
            put(entries[(place - 1) / 2], at: place)
            place = (place - 1) / 2
        }
        put(entry, at: place)
    }

    private mutating func sink(from start: Int) {
        var place = start
        let entry = entries[place]
        while true {
            var child = 2 * place + 1
            guard child < entries.count else { break }
            if child + 1 < entries.count, entries[child + 1] < entries[child] { child += 1 }
            guard entries[child] < entry else { break }
            put(entries[child], at: place)
            place = child
        }
        put(entry, at: place)
    }

    private mutating func put(_ entry: Entry, at place: Int) {
        entries[place] = entry
        places[entry.slot] = place
    }
}
