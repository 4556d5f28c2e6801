package import StreamModel

/// Which connection serves which function id.
///
/// Each id has a stack of registrants, at most one entry for each connection; the top serves. A worker
/// that restarts can so register before its old connection is cleaned up, and the clean-up of either
/// leaves the other's registration alone.
package struct FunctionRegistry: Sendable {
    private struct Entry {
        var owner: ConnectionID
        var function: FunctionRegistration
    }

    private struct Holding {
        var ids: Set<Name> = []
        var size = 0
    }

    private var stacks: [Name: [Entry]] = [:]
    private var holdings: [ConnectionID: Holding] = [:]
    private var changedIDs: Set<Name> = []
    /// Counts what has changed of who serves what, so that what was decided before can be told from it.
    package private(set) var generation: UInt64 = 0
    private let offersStreams: Bool

    /// - Parameter offersStreams: whether there are stream functions, which functions of workers can take over.
    package init(offersStreams: Bool = true) {
        self.offersStreams = offersStreams
    }

    /// The stream function that a function of this id takes over; nil: none.
    package func streamOverride(_ id: Name) -> StreamOverride? {
        offersStreams ? StreamOverride(functionID: id.string) : nil
    }

    /// Whether a function of this id takes over a stream function for one stream.
    package func isStreamOverride(_ id: Name) -> Bool { streamOverride(id) != nil }

    /// Whether there is anything to take with ``takeChangedIDs()``.
    package var hasNews: Bool { !changedIDs.isEmpty }

    /// Ids that are served now and were not at the last call, or the other way round.
    package mutating func takeChangedIDs() -> Set<Name> {
        defer { changedIDs.removeAll() }
        return changedIDs
    }

    /// The connection that serves `id` now.
    package func owner(of id: Name) -> ConnectionID? {
        stacks[id]?.last?.owner
    }

    /// What the connection that serves `id` registered.
    package func function(_ id: Name) -> FunctionRegistration? {
        stacks[id]?.last?.function
    }

    /// How many ids are served.
    package var count: Int { stacks.count }

    /// All functions that are served, sorted by id.
    package var served: [OwnedFunction] {
        stacks.values.compactMap(\.last)
            .map { OwnedFunction(function: $0.function, owner: $0.owner) }
            .sorted { $0.function.id.utf8.lexicographicallyPrecedes($1.function.id.utf8) }
    }

    /// The ids that `owner` serves, sorted.
    package func ids(servedBy owner: ConnectionID) -> [String] {
        (holdings[owner]?.ids ?? []).filter { self.owner(of: $0) == owner }.map(\.string)
            .sorted { $0.utf8.lexicographicallyPrecedes($1.utf8) }
    }

    package mutating func register(
        _ function: FunctionRegistration, by owner: ConnectionID
    ) -> ConnectionID? {
        let id = Name(function.id)
        generation += 1
        let previous = stacks[id]?.last?.owner
        if previous == nil { noteChange(id) }
        removeEntry(of: owner, under: id)
        stacks[id, default: []].append(Entry(owner: owner, function: function))
        holdings[owner, default: Holding()].ids.insert(id)
        holdings[owner, default: Holding()].size += function.size
        return previous == owner ? nil : previous
    }

    /// Puts `owner` right below the one that serves the id now, which goes on serving.
    package mutating func registerBelow(_ function: FunctionRegistration, by owner: ConnectionID) {
        let id = Name(function.id)
        generation += 1
        removeEntry(of: owner, under: id)
        let entry = Entry(owner: owner, function: function)
        stacks[id, default: []].insert(entry, at: max((stacks[id]?.count ?? 0) - 1, 0))
        holdings[owner, default: Holding()].ids.insert(id)
        holdings[owner, default: Holding()].size += function.size
    }

    /// Takes out what `owner` registered under `id`; nothing happens when that is nothing. When it was
    /// on top, the next registrant for which `isAlive` serves, or just the next when none is alive.
    package mutating func unregister(
        _ id: Name, by owner: ConnectionID, isAlive: (ConnectionID) -> Bool
    ) {
        let served = self.owner(of: id) == owner
        generation += 1
        removeEntry(of: owner, under: id)
        guard served else { return }
        if stacks[id] == nil { noteChange(id) } else { raiseLivingEntry(under: id, isAlive) }
    }

    /// Puts the highest registrant for which `isAlive` on top; nothing happens when there is none.
    package mutating func raise(_ id: Name, isAlive: (ConnectionID) -> Bool) {
        generation += 1
        raiseLivingEntry(under: id, isAlive)
    }

    /// The ids that `owner` has registered, whoever serves them.
    package func ids(of owner: ConnectionID) -> [Name] { Array(holdings[owner]?.ids ?? []) }

    /// The size of what `owner` has registered under `id`; nil when that is nothing.
    package func size(of id: Name, by owner: ConnectionID) -> Int? {
        stacks[id]?.last(where: { $0.owner == owner })?.function.size
    }

    package func usage(of owner: ConnectionID) -> DirectoryUsage {
        guard let holding = holdings[owner] else { return DirectoryUsage() }
        return DirectoryUsage(count: holding.ids.count, size: holding.size)
    }

    /// Two changes of one id undo each other.
    private mutating func noteChange(_ id: Name) {
        if changedIDs.remove(id) == nil { changedIDs.insert(id) }
    }

    /// Takes the entry of `owner` out of a stack, and the stack with its last entry.
    private mutating func removeEntry(of owner: ConnectionID, under id: Name) {
        guard holdings[owner]?.ids.remove(id) != nil,
            let index = stacks[id]?.lastIndex(where: { $0.owner == owner }),
            let entry = stacks[id]?.remove(at: index)
        else { return }
        if stacks[id]?.isEmpty == true { stacks[id] = nil }
        holdings[owner]?.size -= entry.function.size
        if holdings[owner]?.ids.isEmpty == true { holdings[owner] = nil }
    }

    /// Moves the highest living entry to the top; the order stays as it is when none lives.
    private mutating func raiseLivingEntry(under id: Name, _ isAlive: (ConnectionID) -> Bool) {
        guard let index = stacks[id]?.lastIndex(where: { isAlive($0.owner) }),
            let entry = stacks[id]?.remove(at: index)
        else { return }
        stacks[id]?.append(entry)
    }
}
