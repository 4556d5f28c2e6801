package import StreamModel

/// The triggers and trigger types of a node, and who owns them.
package struct TriggerRegistry: TriggerDirectory {
    /// The types that the node itself fires, beside those under `engine::`.
    package static let builtInTypes: Set<Name> = [
        Name("stream"), Name("stream:join"), Name("stream:leave"), Name("log"),
    ]

    private struct Entry {
        var trigger: TriggerRegistration
        var owner: ConnectionID
        /// Where the trigger stands among all: the order in which triggers of one event run.
        var place: UInt64
        /// What it listens to, when its type is `stream`.
        var filter: StreamTriggerFilter?
    }

    private struct TypeEntry {
        var type: TriggerTypeRegistration
        var provider: ConnectionID
    }

    private struct Holding {
        var triggers: Set<Name> = []
        var triggerSize = 0
        var types: Set<Name> = []
        var typeSize = 0

        var isEmpty: Bool { triggers.isEmpty && types.isEmpty }
    }

    private var entries: [Name: Entry] = [:]
    private var idsByType: [Name: Set<Name>] = [:]
    private var types: [Name: TypeEntry] = [:]
    private var holdings: [ConnectionID: Holding] = [:]
    private var nextPlace: UInt64 = 0

    package init() {}

    /// How many triggers are stored.
    package var count: Int { entries.count }

    package func isBuiltIn(type: Name) -> Bool {
        Self.builtInTypes.contains(type) || type.hasPrefix("engine::")
    }

    // MARK: Triggers

    package mutating func register(
        _ trigger: TriggerRegistration, by owner: ConnectionID
    ) throws(JSONMismatch) -> OwnedTrigger? {
        let filter: StreamTriggerFilter? =
            trigger.triggerType == "stream" ? try StreamTriggerFilter(config: trigger.config) : nil
        let id = Name(trigger.id)
        let previous = removeEntry(id)
        let place = previous?.place ?? takePlace()
        entries[id] = Entry(trigger: trigger, owner: owner, place: place, filter: filter)
        idsByType[Name(trigger.triggerType), default: []].insert(id)
        holdings[owner, default: Holding()].triggers.insert(id)
        holdings[owner, default: Holding()].triggerSize += trigger.size
        return previous.map { OwnedTrigger(trigger: $0.trigger, owner: $0.owner) }
    }

    package mutating func unregister(
        _ id: Name, by owner: ConnectionID
    ) -> TriggerRegistration? {
        guard entries[id]?.owner == owner else { return nil }
        return removeEntry(id)?.trigger
    }

    package mutating func unregisterAll(of owner: ConnectionID) -> [TriggerRegistration] {
        let ids = holdings[owner]?.triggers ?? []
        return ids.compactMap { removeEntry($0) }.sorted { $0.place < $1.place }.map(\.trigger)
    }

    package func trigger(_ id: Name) -> OwnedTrigger? {
        entries[id].map { OwnedTrigger(trigger: $0.trigger, owner: $0.owner) }
    }

    package func triggers(of type: Name) -> [OwnedTrigger] {
        (idsByType[type] ?? []).compactMap { entries[$0] }.sorted { $0.place < $1.place }
            .map { OwnedTrigger(trigger: $0.trigger, owner: $0.owner) }
    }

    /// What a stored trigger of the type `stream` listens to.
    package func filter(of id: Name) -> StreamTriggerFilter? {
        entries[id]?.filter
    }

    package func size(of id: Name, by owner: ConnectionID) -> Int? {
        guard let entry = entries[id], entry.owner == owner else { return nil }
        return entry.trigger.size
    }

    package func usage(of owner: ConnectionID) -> DirectoryUsage {
        guard let holding = holdings[owner] else { return DirectoryUsage() }
        return DirectoryUsage(count: holding.triggers.count, size: holding.triggerSize)
    }

    private mutating func takePlace() -> UInt64 {
        defer { nextPlace += 1 }
        return nextPlace
    }

    private mutating func removeEntry(_ id: Name) -> Entry? {
        guard let entry = entries.removeValue(forKey: id) else { return nil }
        let type = Name(entry.trigger.triggerType)
        idsByType[type]?.remove(id)
        if idsByType[type]?.isEmpty == true { idsByType[type] = nil }
        holdings[entry.owner]?.triggers.remove(id)
        holdings[entry.owner]?.triggerSize -= entry.trigger.size
        dropHoldingIfEmpty(of: entry.owner)
        return entry
    }

    // MARK: Types

    package mutating func registerType(
        _ type: TriggerTypeRegistration, by provider: ConnectionID
    ) {
        let id = Name(type.id)
        removeType(id)
        types[id] = TypeEntry(type: type, provider: provider)
        holdings[provider, default: Holding()].types.insert(id)
        holdings[provider, default: Holding()].typeSize += type.size
    }

    package mutating func unregisterType(_ id: Name, by provider: ConnectionID) {
        if types[id]?.provider == provider { removeType(id) }
    }

    package mutating func unregisterAllTypes(of provider: ConnectionID) {
        for id in holdings[provider]?.types ?? [] { removeType(id) }
    }

    package func provider(of type: Name) -> ConnectionID? {
        types[type]?.provider
    }

    package func size(ofType id: Name, by provider: ConnectionID) -> Int? {
        guard let entry = types[id], entry.provider == provider else { return nil }
        return entry.type.size
    }

    package func typeUsage(of provider: ConnectionID) -> DirectoryUsage {
        guard let holding = holdings[provider] else { return DirectoryUsage() }
        return DirectoryUsage(count: holding.types.count, size: holding.typeSize)
    }

    private mutating func removeType(_ id: Name) {
        guard let entry = types.removeValue(forKey: id) else { return }
        holdings[entry.provider]?.types.remove(id)
        holdings[entry.provider]?.typeSize -= entry.type.size
        dropHoldingIfEmpty(of: entry.provider)
    }

    private mutating func dropHoldingIfEmpty(of owner: ConnectionID) {
        if holdings[owner]?.isEmpty == true { holdings[owner] = nil }
    }
}
