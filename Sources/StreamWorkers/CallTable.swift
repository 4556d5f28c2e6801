import StreamModel

/// Who waits for a call, and for what.
enum CallPurpose: Sendable {
    /// A worker called; its answer is addressed.
    case answer(AnswerAddress)
    /// The node called, for what its caller knows by a number.
    case node(UInt64)
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
    /// Milliseconds that the executor may take, and when they are over; nil: no limit.
    var timeout: UInt64?
    var deadline: UInt64 = .max
}

/// The calls in flight, by id, by executor, by caller and by time limit, each in order of arrival.
///
/// A call sits in a slot. Chains run through the slots, so that the calls of a connection that closes, and
/// those whose time is over, are found without looking at others, and a call comes out in O(1).
struct CallTable: Sendable {
    private var slots: [PendingCall?] = []
    private var freeSlots: [Int] = []
    private var slotByID: [Name: Int] = [:]
    private var executing = CallChains<ConnectionID>()
    private var waiting = CallChains<ConnectionID>()
    /// Of one time limit the oldest call is due first.
    private var timed = CallChains<UInt64>()
    private var timeouts: Set<UInt64> = []

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
        if let timeout = call.timeout {
            timed.append(slot, to: timeout)
            timeouts.insert(timeout)
        }
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
    var nextDeadline: UInt64? {
        timeouts.compactMap { timed.first(of: $0).flatMap { slots[$0]?.deadline } }.min()
    }

    /// Takes out a call whose time is over.
    mutating func takeDue(now: UInt64) -> PendingCall? {
        for timeout in timeouts {
            guard let slot = timed.first(of: timeout), let call = slots[slot], call.deadline <= now
            else { continue }
            slotByID[call.invocationID] = nil
            clearSlot(slot)
            return call
        }
        return nil
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
        timed.addSlot()
        return slots.count - 1
    }

    private mutating func clearSlot(_ slot: Int) {
        if slots[slot]?.timeout != nil { timed.remove(slot) }
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
