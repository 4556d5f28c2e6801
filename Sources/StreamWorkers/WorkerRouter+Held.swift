import StreamFunctions
import StreamModel
import StreamTriggers

/// Ids that a live connection of another identity holds: a worker with rules does not take them over.
///
/// Its function goes below the holder's in the stack; its trigger and its trigger type wait. They take effect when the
/// holder goes. The holder is pinged as soon as somebody wants an id of it, and one that is silent counts as gone.
extension WorkerRouter {
    /// Whether `worker` may not take over what `holder` has registered.
    func isHeld(by holder: ConnectionID, against worker: ConnectionID) -> Bool {
        holder != worker && isRestricted(worker) && workers[holder]?.isAlive == true
            && identity(of: holder) != identity(of: worker)
    }

    /// The worker that holds the id of a trigger, or provides a type, against another one.
    func holder(ofTrigger id: Name, against worker: ConnectionID) -> ConnectionID? {
        triggers.trigger(id).flatMap { isHeld(by: $0.owner, against: worker) ? $0.owner : nil }
    }
    func holder(ofType id: Name, against worker: ConnectionID) -> ConnectionID? {
        triggers.provider(of: id).flatMap { isHeld(by: $0, against: worker) ? $0 : nil }
    }

    func heldError(_ what: String, _ id: String) -> InvocationError {
        InvocationError(
            code: "id_held",
            message:
                "The \(what) \(id.prefix(bytes: limits.nameSize)) is another worker's; yours takes"
                + " effect when that one goes")
    }

    // MARK: What waits

    /// Keeps a trigger until the holder of its id goes.
    /// - Parameter asked: the trigger as its worker knows it.
    mutating func wait(
        _ trigger: TriggerRegistration, _ asked: TriggerRegistration, for holder: ConnectionID,
        by worker: ConnectionID, into actions: inout Actions
    ) {
        do {
            _ = try triggers.conditionFunctionID(of: trigger)
        } catch {
            let error = InvocationError(
                code: "trigger_registration_failed",
                message: "Failed to deserialize \(trigger.triggerType) trigger: \(error.reason)")
            return refuse(asked, error, by: worker, into: &actions)
        }
        let id = Name(trigger.id)
        heldTriggers.remove(id, of: worker)
        guard mayWait(trigger.size, beside: triggers.usage(of: worker), of: worker) else {
            return refuse(asked, .tooManyHeld, by: worker, into: &actions)
        }
        heldTriggers.add(trigger, under: id, size: trigger.size, of: worker)
        refuse(asked, heldError("trigger", trigger.id), by: worker, into: &actions)
        contest(.trigger(id), of: holder, into: &actions)
    }

    /// Keeps a trigger type until its provider goes.
    mutating func wait(
        _ type: TriggerTypeRegistration, for holder: ConnectionID, by worker: ConnectionID,
        into actions: inout Actions
    ) {
        let id = Name(type.id)
        heldTypes.remove(id, of: worker)
        guard mayWait(type.size, beside: triggers.typeUsage(of: worker), of: worker) else {
            return refuse(type, .tooManyHeld, by: worker, into: &actions)
        }
        heldTypes.add(type, under: id, size: type.size, of: worker)
        refuse(type, heldError("trigger type", type.id), by: worker, into: &actions)
        contest(.type(id), of: holder, into: &actions)
    }

    /// Whether one more registration of so many bytes may wait: those that wait count as those that do not.
    private func mayWait(
        _ size: Int, beside used: DirectoryUsage, of worker: ConnectionID
    ) -> Bool {
        let held = [heldTriggers.usage(of: worker), heldTypes.usage(of: worker)]
        let count = used.count + held.reduce(0) { $0 + $1.count }
        let total = used.size + held.reduce(size) { $0 + $1.size }
        return count < limits(of: worker).triggersPerWorker
            && total <= limits(of: worker).registrationSizePerWorker
    }

    /// Registers the trigger that has waited longest for an id, now that nobody who lives has it.
    mutating func registerHeld(_ id: Name, into actions: inout Actions) {
        if let holder = triggers.trigger(id)?.owner, workers[holder]?.isAlive == true { return }
        guard let next = heldTriggers.takeFirst(id) else { return }
        register(next.value, by: next.owner, into: &actions)
    }

    /// The same of a trigger type.
    mutating func registerHeldType(_ id: Name, into actions: inout Actions) {
        if let holder = triggers.provider(of: id), workers[holder]?.isAlive == true { return }
        guard let next = heldTypes.takeFirst(id) else { return }
        register(next.value, by: next.owner, into: &actions)
    }

    // MARK: Contests

    /// Somebody wants an id of `holder`, which is pinged unless an answer is due already.
    mutating func contest(_ id: HeldID, of holder: ConnectionID, into actions: inout Actions) {
        if contests.begin(id, of: holder, due: moment.uptime + limits(of: holder).contest) {
            actions.append(.ping(holder))
        }
    }

    mutating func endDueContests(into actions: inout Actions) {
        while let holder = contests.takeDue(now: moment.uptime) {
            guard let worker = workers[holder] else { continue }
            workers[holder]?.isAlive = false
            counters.contestsWon += 1
            actions.append(.log(LogLine(.warning, "holder_silent", ["worker": worker.id])))
            yieldIDs(of: holder, into: &actions)
        }
    }

    /// What others want of a connection that counts as gone becomes theirs.
    mutating func yieldIDs(of holder: ConnectionID, into actions: inout Actions) {
        for id in contests.takeIDs(of: holder) {
            switch id {
            case .function(let id):
                guard functions.owner(of: id) == holder else { continue }
                functions.raise(id) { workers[$0]?.isAlive == true }
                recheckTargets(id, into: &actions)
            case .trigger(let id): registerHeld(id, into: &actions)
            case .type(let id): registerHeldType(id, into: &actions)
            }
        }
    }
}

extension InvocationError {
    fileprivate static let tooManyHeld = InvocationError(
        code: "limit_reached",
        message: "The worker has too many triggers or trigger types that wait")
}

/// What somebody holds and somebody else wants.
enum HeldID: Hashable, Sendable {
    case function(Name)
    case trigger(Name)
    case type(Name)
}

/// The ids that others want of their holders, and the holders that have to answer a ping.
struct Contests: Sendable {
    private struct Holder {
        var ids: [HeldID] = []
        var known: Set<HeldID> = []
        /// Until then it has to answer.
        var due: Duration?
    }

    private var holders: [ConnectionID: Holder] = [:]
    /// In the order in which they are due: all have the same time.
    private var order = Fifo<(holder: ConnectionID, due: Duration)>()

    /// - Returns: whether the holder is to be pinged.
    mutating func begin(_ id: HeldID, of holder: ConnectionID, due: Duration) -> Bool {
        if holders[holder, default: Holder()].known.insert(id).inserted {
            holders[holder]?.ids.append(id)
        }
        guard holders[holder]?.due == nil else { return false }
        holders[holder]?.due = due
        order.append((holder, due))
        return true
    }

    /// The holder is heard.
    mutating func answered(by holder: ConnectionID) {
        holders[holder]?.due = nil
    }

    /// Takes the ids that others want of the holder, and forgets it.
    mutating func takeIDs(of holder: ConnectionID) -> [HeldID] {
        holders.removeValue(forKey: holder)?.ids ?? []
    }

    private func isOpen(_ entry: (holder: ConnectionID, due: Duration)) -> Bool {
        holders[entry.holder]?.due == entry.due
    }

    /// A holder that has not answered in its time.
    mutating func takeDue(now: Duration) -> ConnectionID? {
        while let first = order.first, !isOpen(first) || first.due <= now {
            _ = order.popFirst()
            guard isOpen(first) else { continue }
            holders[first.holder]?.due = nil
            return first.holder
        }
        return nil
    }

    var nextDeadline: Duration? { order.first?.due }
}

/// Registrations that wait for their id. The router owns the lists; `registerHeld` and `registerHeldType`, called
/// whenever a trigger or a type goes, are the places that wake them.
struct HeldRegistrations<Value: Sendable>: Sendable {
    private struct Entry {
        var value: Value
        var owner: ConnectionID
        var size: Int
    }

    private var waiting: [Name: [Entry]] = [:]
    private var idsByOwner: [ConnectionID: Set<Name>] = [:]
    private var sizes: [ConnectionID: Int] = [:]

    func usage(of owner: ConnectionID) -> DirectoryUsage {
        DirectoryUsage(count: idsByOwner[owner]?.count ?? 0, size: sizes[owner] ?? 0)
    }

    /// Replaces what the owner had waiting under the id.
    mutating func add(_ value: Value, under id: Name, size: Int, of owner: ConnectionID) {
        remove(id, of: owner)
        waiting[id, default: []].append(Entry(value: value, owner: owner, size: size))
        idsByOwner[owner, default: []].insert(id)
        sizes[owner, default: 0] += size
    }

    mutating func remove(_ id: Name, of owner: ConnectionID) {
        guard idsByOwner[owner]?.remove(id) != nil,
            let index = waiting[id]?.firstIndex(where: { $0.owner == owner }),
            let gone = waiting[id]?.remove(at: index)
        else { return }
        if waiting[id]?.isEmpty == true { waiting[id] = nil }
        sizes[owner, default: 0] -= gone.size
        if idsByOwner[owner]?.isEmpty == true {
            idsByOwner[owner] = nil
            sizes[owner] = nil
        }
    }

    func first(of owner: ConnectionID) -> Name? { idsByOwner[owner]?.first }

    mutating func takeFirst(_ id: Name) -> (value: Value, owner: ConnectionID)? {
        guard let first = waiting[id]?.first else { return nil }
        remove(id, of: first.owner)
        return (first.value, first.owner)
    }
}
