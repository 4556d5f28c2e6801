import StreamModel

/// Ids that a live connection of another identity holds: a worker with rules does not take them over.
///
/// Its function goes below the holder's in the stack, its trigger waits. Both take effect when the holder goes.
extension WorkerRouter {
    /// Whether `worker` may not take over what `holder` has registered.
    func isHeld(by holder: ConnectionID, against worker: ConnectionID) -> Bool {
        holder != worker && isRestricted(worker) && workers[holder]?.isAlive == true
            && identity(of: holder) != identity(of: worker)
    }

    func holdsBack(_ trigger: TriggerRegistration, by worker: ConnectionID) -> Bool {
        triggers.trigger(Name(trigger.id)).map { isHeld(by: $0.owner, against: worker) } ?? false
    }

    func heldError(_ what: String, _ id: String) -> InvocationError {
        InvocationError(
            code: "id_held",
            message: "The \(what) \(id) is another worker's; yours takes effect when that one goes")
    }

    /// Keeps a trigger until the holder of its id goes.
    /// - Parameter asked: the trigger as its worker knows it.
    mutating func wait(
        _ trigger: TriggerRegistration, _ asked: TriggerRegistration, by worker: ConnectionID,
        into actions: inout Actions
    ) {
        do {
            _ = try triggers.conditionFunctionID(of: trigger)
        } catch {
            let error = InvocationError(
                code: "trigger_registration_failed",
                message: "Failed to deserialize \(trigger.triggerType) trigger: \(error.reason)")
            return refuse(asked, error, by: worker, into: &actions)
        }
        let used = triggers.usage(of: worker)
        let held = heldTriggers.usage(of: worker)
        guard used.count + held.count < limits(of: worker).triggersPerWorker,
            used.size + held.size + trigger.size <= limits(of: worker).registrationSizePerWorker
        else {
            let error = InvocationError(
                code: "limit_reached", message: "The worker has too many triggers that wait")
            return refuse(asked, error, by: worker, into: &actions)
        }
        heldTriggers.add(trigger, of: worker)
        refuse(
            asked, heldError("trigger", trigger.id.prefix(bytes: limits.nameSize)), by: worker,
            into: &actions)
    }

    /// Registers the trigger that has waited longest for an id, now that nobody has it.
    mutating func registerHeld(_ id: Name, into actions: inout Actions) {
        guard triggers.trigger(id) == nil, let next = heldTriggers.takeFirst(id) else { return }
        register(next.trigger, by: next.owner, into: &actions)
    }
}

/// Triggers that wait for their id. The router owns the list; ``WorkerRouter/registerHeld(_:into:)``, called
/// whenever a trigger goes, is the one place that wakes them.
struct HeldTriggers: Sendable {
    private var waiting: [Name: [OwnedTrigger]] = [:]
    private var idsByOwner: [ConnectionID: Set<Name>] = [:]
    private var sizes: [ConnectionID: Int] = [:]

    func usage(of owner: ConnectionID) -> DirectoryUsage {
        DirectoryUsage(count: idsByOwner[owner]?.count ?? 0, size: sizes[owner] ?? 0)
    }

    /// Replaces what the owner had waiting under the id.
    mutating func add(_ trigger: TriggerRegistration, of owner: ConnectionID) {
        let id = Name(trigger.id)
        remove(id, of: owner)
        waiting[id, default: []].append(OwnedTrigger(trigger: trigger, owner: owner))
        idsByOwner[owner, default: []].insert(id)
        sizes[owner, default: 0] += trigger.size
    }

    mutating func remove(_ id: Name, of owner: ConnectionID) {
        guard idsByOwner[owner]?.remove(id) != nil,
            let index = waiting[id]?.firstIndex(where: { $0.owner == owner }),
            let gone = waiting[id]?.remove(at: index)
        else { return }
        if waiting[id]?.isEmpty == true { waiting[id] = nil }
        sizes[owner, default: 0] -= gone.trigger.size
        if idsByOwner[owner]?.isEmpty == true {
            idsByOwner[owner] = nil
            sizes[owner] = nil
        }
    }

    mutating func removeAll(of owner: ConnectionID) {
        for id in idsByOwner[owner] ?? [] { remove(id, of: owner) }
    }

    mutating func takeFirst(_ id: Name) -> OwnedTrigger? {
        guard let first = waiting[id]?.first else { return nil }
        remove(id, of: first.owner)
        return first
    }
}
