import StreamModel
import StreamTriggers

/// The functions that triggers of provided types have called.
///
/// The worker that provides a type fires its triggers, with rights of its own, so the node cannot look at the rules of
/// the registrant then. When a function comes into other hands, the rules are decided again: a provider is told that a
/// trigger is gone whose registrant may not call the function now, and told of it anew when it may.
extension WorkerRouter {
    /// Notes a trigger that a worker with rules has registered. False: its provider must not hear of it.
    mutating func noteTarget(of trigger: TriggerRegistration, by worker: ConnectionID) -> Bool {
        guard trigger.isRestricted, !triggers.isBuiltIn(type: Name(trigger.triggerType)) else {
            return true
        }
        return !targets.insert(Name(trigger.id), Name(trigger.functionID), of: worker)
    }

    /// - Returns: whether the provider of the trigger's type knows of it.
    mutating func forgetTarget(of trigger: TriggerRegistration, by owner: ConnectionID) -> Bool {
        guard trigger.isRestricted else { return true }
        return !targets.remove(Name(trigger.id), Name(trigger.functionID), of: owner)
    }

    /// A function is served by somebody else than before.
    mutating func recheckTargets(_ function: Name, into actions: inout Actions) {
        guard isServed(function) else { return }  // Who calls it is told so.
        for owner in targets.owners(of: function) where workers[owner] != nil {
            let isAllowed = refusal(ofTarget: function, by: owner) == nil
            guard let changed = targets.change(function, of: owner, isWithheld: !isAllowed) else {
                continue
            }
            for id in changed {
                guard let trigger = triggers.trigger(id)?.trigger,
                    let provider = triggers.provider(of: Name(trigger.triggerType))
                else { continue }
                let frame =
                    isAllowed
                    ? WorkerFrame.registerTrigger(trigger) : WorkerFrame.unregisterTrigger(trigger)
                actions.append(.send(provider, frame))
            }
            if !isAllowed {
                actions.append(
                    .log(
                        LogLine(
                            .warning, "triggers_withheld",
                            [
                                "worker": workers[owner]?.id ?? "", "function_id": function.string,
                                "count": "\(changed.count)",
                            ])))
            }
        }
    }
}

/// Triggers of provided types by the function that they have called, and by their owner.
struct TriggerTargets: Sendable {
    private struct Share {
        var triggers: Set<Name> = []
        /// Their owner may not call the function: the provider does not know of them.
        var isWithheld = false
    }

    private var shares: [Name: [ConnectionID: Share]] = [:]

    var isEmpty: Bool { shares.isEmpty }

    func owners(of function: Name) -> [ConnectionID] {
        shares[function].map { $0.keys.sorted { $0.rawValue < $1.rawValue } } ?? []
    }

    func isWithheld(_ trigger: TriggerRegistration, of owner: ConnectionID) -> Bool {
        shares[Name(trigger.functionID)]?[owner].map {
            $0.isWithheld && $0.triggers.contains(Name(trigger.id))
        } ?? false
    }

    /// - Returns: whether it is withheld.
    mutating func insert(_ trigger: Name, _ function: Name, of owner: ConnectionID) -> Bool {
        shares[function, default: [:]][owner, default: Share()].triggers.insert(trigger)
        return shares[function]?[owner]?.isWithheld == true
    }

    /// - Returns: whether it was withheld.
    mutating func remove(_ trigger: Name, _ function: Name, of owner: ConnectionID) -> Bool {
        guard let share = shares[function]?[owner], share.triggers.contains(trigger) else {
            return false
        }
        shares[function]?[owner]?.triggers.remove(trigger)
        if shares[function]?[owner]?.triggers.isEmpty == true { shares[function]?[owner] = nil }
        if shares[function]?.isEmpty == true { shares[function] = nil }
        return share.isWithheld
    }

    /// - Returns: the triggers of the owner, if that is a change.
    mutating func change(
        _ function: Name, of owner: ConnectionID, isWithheld: Bool
    ) -> [Name]? {
        guard let share = shares[function]?[owner], share.isWithheld != isWithheld else {
            return nil
        }
        shares[function]?[owner]?.isWithheld = isWithheld
        return share.triggers.sorted { $0.string.utf8.lexicographicallyPrecedes($1.string.utf8) }
    }
}
