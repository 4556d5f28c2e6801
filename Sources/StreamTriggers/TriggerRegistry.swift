package import StreamModel

/// What a trigger of a built-in type listens to.
package enum TriggerFilter: Hashable, Sendable {
    case stream(StreamTriggerFilter)
    case join(SubscriptionTriggerFilter)
    case leave(SubscriptionTriggerFilter)
    case log(LogTriggerFilter)
    /// Of a type that takes no configuration, or is none of the node's own.
    case none

    init(_ trigger: TriggerRegistration) throws(JSONMismatch) {
        self =
            switch trigger.triggerType {
            case "stream": .stream(try StreamTriggerFilter(config: trigger.config))
            case "stream:join": .join(try SubscriptionTriggerFilter(config: trigger.config))
            case "stream:leave": .leave(try SubscriptionTriggerFilter(config: trigger.config))
            case "log": .log(try LogTriggerFilter(config: trigger.config))
            default: .none
            }
    }

    /// The condition function that the configuration of a trigger of a built-in type names.
    package var conditionFunctionID: String? {
        switch self {
        case .stream(let filter): filter.conditionFunctionID
        case .join(let filter), .leave(let filter): filter.conditionFunctionID
        case .log, .none: nil
        }
    }
}

/// A trigger as it is called.
package struct ActiveTrigger: Hashable, Sendable {
    package var id: Name
    package var functionID: String
    package var conditionFunctionID: String?
    /// Who registered it, and whether rules say what that one may call.
    package var owner: ConnectionID
    package var isRestricted: Bool

    package var handlerCall: TriggerCall { call(functionID, isCondition: false) }
    package var conditionCall: TriggerCall? {
        conditionFunctionID.map { call($0, isCondition: true) }
    }

    private func call(_ functionID: String, isCondition: Bool) -> TriggerCall {
        TriggerCall(
            trigger: id, owner: owner, isRestricted: isRestricted, functionID: functionID,
            isCondition: isCondition)
    }
}

/// A stream, or all of them, to be told about.
package enum WatchedStream: Hashable, Sendable {
    case all
    case stream(Name)
}

/// What is to be heard of in a stream.
package struct TriggerWatch: OptionSet, Hashable, Sendable {
    package let rawValue: UInt8

    package init(rawValue: UInt8) {
        self.rawValue = rawValue
    }

    package static let changes = TriggerWatch(rawValue: 1)
    package static let joins = TriggerWatch(rawValue: 2)
    package static let leaves = TriggerWatch(rawValue: 4)
    package static let logs = TriggerWatch(rawValue: 8)
}

/// The triggers and trigger types of a node, and who owns them.
package struct TriggerRegistry: Sendable {
    /// The types that a node with streams fires for them.
    private static let streamTypes: Set<Name> = [
        Name("stream"), Name("stream:join"), Name("stream:leave"),
    ]

    private struct Entry {
        var trigger: TriggerRegistration
        var owner: ConnectionID
        /// Where the trigger stands among all: the order in which triggers of one event run.
        var place: UInt64
        var filter: TriggerFilter
    }

    private struct TypeEntry {
        var type: TriggerTypeRegistration
        var provider: ConnectionID
        var place: UInt64
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
    /// Those that may match an event of a stream, by kind; `.all` is not part of the others.
    private var changeIDs = TriggerIndex()
    private var joinIDs = TriggerIndex()
    private var leaveIDs = TriggerIndex()
    /// What records of a level call, as far as some have come since the last change.
    private var logTriggers: [Int: [ActiveTrigger]] = [:]
    private var types: [Name: TypeEntry] = [:]
    private var holdings: [ConnectionID: Holding] = [:]
    /// Owners that have closed, whose triggers call nothing any more until they are taken out.
    private var departed: Set<ConnectionID> = []
    private var nextPlace: UInt64 = 0
    private var watchChanges: Set<WatchedStream> = []
    private var goneIDs: Set<Name> = []
    private let builtInDescriptions: [TriggerTypeRegistration]
    private let offersLog: Bool
    private let offersStreams: Bool

    /// - Parameters:
    ///   - builtInTypes: how the built-in types describe themselves in lists.
    ///   - offersLog: whether there is a type `log`. Its id is reserved in any case.
    ///   - offersStreams: whether there are the types of streams. Without, workers may provide types of their ids.
    package init(
        builtInTypes: [TriggerTypeRegistration] = [], offersLog: Bool = true,
        offersStreams: Bool = true
    ) {
        builtInDescriptions = builtInTypes.filter {
            (offersLog || $0.id != "log")
                && (offersStreams || !Self.streamTypes.contains(Name($0.id)))
        }
        self.offersLog = offersLog
        self.offersStreams = offersStreams
    }

    /// How many triggers are stored.
    package var count: Int { entries.count }

    /// Whether the type is the node's own, so that no worker can provide it.
    package func isBuiltIn(type: Name) -> Bool {
        (offersStreams && Self.streamTypes.contains(type)) || type == Name("log")
            || type.hasPrefix("engine::")
    }

    private func listening(of trigger: TriggerRegistration) throws(JSONMismatch) -> TriggerFilter {
        isBuiltIn(type: Name(trigger.triggerType)) ? try TriggerFilter(trigger) : .none
    }

    // MARK: Triggers

    /// Stores a trigger under its id. One that is replaced hands on its place in the order.
    /// - Returns: the trigger that had the id until now.
    /// - Throws: when the type is built in and refuses the configuration; nothing has changed then.
    package mutating func register(
        _ trigger: TriggerRegistration, by owner: ConnectionID
    ) throws(JSONMismatch) -> OwnedTrigger? {
        let filter = try listening(of: trigger)
        let id = Name(trigger.id)
        let wasGone = goneIDs.contains(id)
        let previous = removeEntry(id)
        let place = previous?.place ?? takePlace()
        insert(Entry(trigger: trigger, owner: owner, place: place, filter: filter), id)
        // Events that wait for the trigger are still its own if it listens to the same.
        if !wasGone, previous?.filter == filter,
            previous.map({ Name($0.trigger.triggerType) }) == Name(trigger.triggerType)
        {
            goneIDs.remove(id)
        }
        return previous.map { OwnedTrigger(trigger: $0.trigger, owner: $0.owner) }
    }

    package mutating func unregister(
        _ id: Name, by owner: ConnectionID
    ) -> TriggerRegistration? {
        guard entries[id]?.owner == owner else { return nil }
        return removeEntry(id)?.trigger
    }

    /// The ids of the triggers of `owner`, in their order.
    package func ids(of owner: ConnectionID) -> [Name] {
        let placed = (holdings[owner]?.triggers ?? []).map {
            (id: $0, place: entries[$0]?.place ?? 0)
        }
        return placed.sorted { $0.place < $1.place }.map(\.id)
    }

    package func conditionFunctionID(
        of trigger: TriggerRegistration
    ) throws(JSONMismatch) -> String? {
        try listening(of: trigger).conditionFunctionID
    }

    package func trigger(_ id: Name) -> OwnedTrigger? {
        entries[id].map { OwnedTrigger(trigger: $0.trigger, owner: $0.owner) }
    }

    /// The triggers of a type, in their order.
    package func triggers(of type: Name) -> [OwnedTrigger] {
        inOrder(idsByType[type] ?? [])
    }

    /// All triggers, in their order.
    package var allTriggers: [OwnedTrigger] {
        entries.values.sorted { $0.place < $1.place }
            .map { OwnedTrigger(trigger: $0.trigger, owner: $0.owner) }
    }

    /// What a stored trigger listens to.
    package func filter(of id: Name) -> TriggerFilter? {
        entries[id]?.filter
    }

    /// The size of the trigger that `owner` has under `id`; nil when that is nothing.
    package func size(of id: Name, by owner: ConnectionID) -> Int? {
        guard let entry = entries[id], entry.owner == owner else { return nil }
        return entry.trigger.size
    }

    package func usage(of owner: ConnectionID) -> DirectoryUsage {
        guard let holding = holdings[owner] else { return DirectoryUsage() }
        return DirectoryUsage(count: holding.triggers.count, size: holding.triggerSize)
    }

    private func inOrder(_ ids: Set<Name>) -> [OwnedTrigger] {
        ids.compactMap { entries[$0] }.sorted { $0.place < $1.place }
            .map { OwnedTrigger(trigger: $0.trigger, owner: $0.owner) }
    }

    private mutating func takePlace() -> UInt64 {
        defer { nextPlace += 1 }
        return nextPlace
    }

    private mutating func insert(_ entry: Entry, _ id: Name) {
        entries[id] = entry
        idsByType[Name(entry.trigger.triggerType), default: []].insert(id)
        holdings[entry.owner, default: Holding()].triggers.insert(id)
        holdings[entry.owner, default: Holding()].triggerSize += entry.trigger.size
        index(entry, id) { $0.insert(id, $1, $2, place: entry.place) }
    }

    private mutating func removeEntry(_ id: Name) -> Entry? {
        guard let entry = entries.removeValue(forKey: id) else { return nil }
        let type = Name(entry.trigger.triggerType)
        idsByType[type]?.remove(id)
        if idsByType[type]?.isEmpty == true { idsByType[type] = nil }
        index(entry, id) { $0.remove(id, $1, $2, place: entry.place) }
        holdings[entry.owner]?.triggers.remove(id)
        holdings[entry.owner]?.triggerSize -= entry.trigger.size
        dropHoldingIfEmpty(of: entry.owner)
        goneIDs.insert(id)
        return entry
    }

    /// Lets `change` put the trigger into its index, or take it out.
    private mutating func index(
        _ entry: Entry, _ id: Name,
        _ change: (inout TriggerIndex, WatchedStream, TriggerIndex.Part) -> Bool
    ) {
        let watched: WatchedStream
        let changed: Bool
        switch entry.filter {
        case .stream(let filter):
            watched = .stream(Name(filter.streamName))
            let part = TriggerIndex.Part(group: filter.groupID, item: filter.itemID)
            changed = change(&changeIDs, watched, part)
        case .join(let filter):
            watched = filter.streamName.map { .stream(Name($0)) } ?? .all
            changed = change(&joinIDs, watched, TriggerIndex.Part())
        case .leave(let filter):
            watched = filter.streamName.map { .stream(Name($0)) } ?? .all
            changed = change(&leaveIDs, watched, TriggerIndex.Part())
        case .log:
            watched = .all
            changed = true
            logTriggers = [:]
        case .none:
            return
        }
        if changed { watchChanges.insert(watched) }
    }

    // MARK: What an event calls

    /// The trigger `id` as it is called.
    package func active(_ id: Name) -> ActiveTrigger? {
        guard let entry = entries[id], departed.isEmpty || !departed.contains(entry.owner) else {
            return nil
        }
        return ActiveTrigger(
            id: id, functionID: entry.trigger.functionID,
            conditionFunctionID: entry.filter.conditionFunctionID, owner: entry.owner,
            isRestricted: entry.trigger.isRestricted)
    }

    /// The triggers of `owner`, which has closed, call nothing any more, though they have yet to be taken out.
    package mutating func depart(_ owner: ConnectionID) {
        guard holdings[owner]?.triggers.isEmpty == false else { return }
        departed.insert(owner)
        logTriggers = [:]
    }

    /// The triggers of the type `stream` that an event calls, in their order.
    package func triggers(onChangeOf stream: String, group: String, item: String?)
        -> [ActiveTrigger]
    {
        changeIDs.ids(of: Name(stream), group: group, item: item).compactMap(active)
    }

    /// The triggers of the type `stream:join` for a stream, in their order.
    package func triggers(onJoinOf stream: String) -> [ActiveTrigger] {
        joinIDs.ids(of: Name(stream)).compactMap(active)
    }

    /// The triggers of the type `stream:leave` for a stream, in their order.
    package func triggers(onLeaveOf stream: String) -> [ActiveTrigger] {
        leaveIDs.ids(of: Name(stream)).compactMap(active)
    }

    /// The triggers of the type `log` that a record of a severity calls, in their order. Records come by the
    /// thousand: what those of a severity call is worked out once.
    package mutating func triggers(onLogOf severity: Int) -> [ActiveTrigger] {
        guard offersLog, let ids = idsByType[Name("log")] else { return [] }
        let level = LogTriggerFilter.level(of: severity)
        if let known = logTriggers[level] { return known }
        let found = ids.compactMap { entries[$0] }.sorted { $0.place < $1.place }.filter {
            guard case .log(let filter) = $0.filter else { return false }
            return filter.matches(severity: level)
        }.compactMap { active(Name($0.trigger.id)) }
        logTriggers[level] = found
        return found
    }

    /// The triggers of a type that takes no configuration, in their order.
    package func triggers(onEventOf type: String) -> [ActiveTrigger] {
        triggers(of: Name(type)).compactMap { active(Name($0.trigger.id)) }
    }

    // MARK: What has changed

    /// Whether there is anything to take of what has changed.
    package var hasNews: Bool { !goneIDs.isEmpty || !watchChanges.isEmpty }

    /// Triggers that are no longer, or listen to something else, since the last call.
    package mutating func takeGoneIDs() -> Set<Name> {
        defer { goneIDs.removeAll() }
        return goneIDs
    }

    /// Streams in which something else is to be heard of than at the last call.
    package mutating func takeWatchChanges() -> Set<WatchedStream> {
        defer { watchChanges.removeAll() }
        return watchChanges
    }

    package func watch(of stream: WatchedStream) -> TriggerWatch {
        var watch: TriggerWatch = []
        if changeIDs.holds(stream) { watch.insert(.changes) }
        if joinIDs.holds(stream) { watch.insert(.joins) }
        if leaveIDs.holds(stream) { watch.insert(.leaves) }
        if stream == .all, offersLog, idsByType[Name("log")] != nil { watch.insert(.logs) }
        return watch
    }

    // MARK: Types

    package mutating func registerType(
        _ type: TriggerTypeRegistration, by provider: ConnectionID
    ) {
        let id = Name(type.id)
        removeType(id)
        types[id] = TypeEntry(type: type, provider: provider, place: takePlace())
        holdings[provider, default: Holding()].types.insert(id)
        holdings[provider, default: Holding()].typeSize += type.size
    }

    /// Takes out the type if `provider` provides it. Its triggers stay.
    package mutating func unregisterType(_ id: Name, by provider: ConnectionID) {
        if types[id]?.provider == provider { removeType(id) }
    }

    /// The ids of the types that `provider` provides, in their order.
    package func typeIDs(of provider: ConnectionID) -> [Name] {
        (holdings[provider]?.types ?? []).sorted {
            (types[$0]?.place ?? 0) < (types[$1]?.place ?? 0)
        }
    }

    /// The worker that provides the type; nil for built-in and for unknown types.
    package func provider(of type: Name) -> ConnectionID? {
        types[type]?.provider
    }

    /// All types, the node's own first.
    package var allTypes: [TriggerTypeRegistration] {
        builtInDescriptions + types.values.sorted { $0.place < $1.place }.map(\.type)
    }

    /// The size of the type that `provider` has under `id`; nil when that is nothing.
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
        guard let holding = holdings[owner] else { return }
        if holding.triggers.isEmpty { departed.remove(owner) }
        if holding.isEmpty { holdings[owner] = nil }
    }
}
