import StreamModel

/// A call that its executor has not answered yet.
struct PendingCall: Sendable {
    /// The id towards the executor: ours, so that callers cannot collide or guess.
    var invocationID: Name
    var executor: ConnectionID
    var caller: ConnectionID
    /// The caller's own id as written; nil when it wants no answer.
    var callerInvocationID: JSONText?
    /// As the caller wrote it.
    var functionID: String
    var traceparent: String?
    var baggage: String?
}

/// The calls in flight, by id, by executor and by caller, each in order of arrival.
///
/// A call sits in a slot. Two chains run through the slots, so that the calls of a connection that
/// closes are found without looking at those of others, and a call comes out in O(1).
struct CallTable: Sendable {
    private var slots: [PendingCall?] = []
    private var freeSlots: [Int] = []
    private var slotByID: [Name: Int] = [:]
    private var executing = CallChains()
    private var waiting = CallChains()

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

    enum Taken {
        case call(PendingCall)
        /// No such call.
        case unknown
        /// Another connection executes it.
        case foreign
    }

    /// Takes out all calls that `connection` executes, then all that it has made.
    mutating func removeAll(of connection: ConnectionID) -> [PendingCall] {
        var removed: [PendingCall] = []
        while let slot = executing.first(of: connection) ?? waiting.first(of: connection),
            let call = slots[slot]
        {
            slotByID[call.invocationID] = nil
            clearSlot(slot)
            removed.append(call)
        }
        executing.forget(connection)
        waiting.forget(connection)
        return removed
    }

    private mutating func takeSlot() -> Int {
        if let slot = freeSlots.popLast() { return slot }
        slots.append(nil)
        executing.addSlot()
        waiting.addSlot()
        return slots.count - 1
    }

    private mutating func clearSlot(_ slot: Int) {
        slots[slot] = nil
        freeSlots.append(slot)
        executing.remove(slot)
        waiting.remove(slot)
    }
}

/// Doubly linked chains through the slots of a table, one for each connection.
///
/// A connection has a seat, the place of its chain, from its first call until it is forgotten, so that
/// a call comes out without a look-up.
private struct CallChains: Sendable {
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
    private var seats: [ConnectionID: Int] = [:]
    private var freeSeats: [Int] = []

    func count(of connection: ConnectionID) -> Int {
        seats[connection].map { chains[$0].count } ?? 0
    }

    func first(of connection: ConnectionID) -> Int? {
        seats[connection].flatMap { chains[$0].first }
    }

    mutating func addSlot() {
        links.append(Link())
    }

    mutating func append(_ slot: Int, to connection: ConnectionID) {
        let seat = seats[connection] ?? takeSeat(connection)
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

    /// Gives back the seat of a connection whose chain is empty.
    mutating func forget(_ connection: ConnectionID) {
        guard let seat = seats.removeValue(forKey: connection) else { return }
        precondition(chains[seat].count == 0, "a connection is forgotten with calls in flight")
        freeSeats.append(seat)
    }

    private mutating func takeSeat(_ connection: ConnectionID) -> Int {
        if let seat = freeSeats.popLast() {
            seats[connection] = seat
            return seat
        }
        chains.append(Chain())
        seats[connection] = chains.count - 1
        return chains.count - 1
    }
}
