/// How much of a directory one connection holds.
package struct DirectoryUsage: Hashable, Sendable {
    package var count: Int
    /// Bytes of text.
    package var size: Int

    package init(count: Int = 0, size: Int = 0) {
        self.count = count
        self.size = size
    }
}

/// Who serves which function id. Only the latest registrant of an id serves; earlier ones stay behind it.
package protocol FunctionDirectory: Sendable {
    /// The connection that serves `id` now.
    func owner(of id: Name) -> ConnectionID?

    /// Puts `owner` on top of the registrants of the id, replacing what it registered before.
    /// - Returns: the other connection that served the id until now.
    mutating func register(_ function: FunctionRegistration, by owner: ConnectionID)
        -> ConnectionID?

    /// Puts `owner` right below the one that serves the id now, which goes on serving.
    mutating func registerBelow(_ function: FunctionRegistration, by owner: ConnectionID)

    /// Takes out what `owner` registered under `id`; nothing happens when that is nothing. When it was
    /// on top, the next registrant for which `isAlive` serves, or just the next when none is alive.
    mutating func unregister(
        _ id: Name, by owner: ConnectionID, isAlive: (ConnectionID) -> Bool)

    /// Puts the highest registrant for which `isAlive` on top; nothing happens when there is none.
    mutating func raise(_ id: Name, isAlive: (ConnectionID) -> Bool)

    /// The ids that `owner` has registered, whoever serves them.
    func ids(of owner: ConnectionID) -> [Name]

    /// The size of what `owner` has registered under `id`; nil when that is nothing.
    func size(of id: Name, by owner: ConnectionID) -> Int?

    func usage(of owner: ConnectionID) -> DirectoryUsage

    /// What serves `id`.
    func function(_ id: Name) -> FunctionRegistration?

    /// Whether a function of this id takes over a stream function for one stream.
    func isStreamOverride(_ id: Name) -> Bool

    /// Counts what has changed of who serves what, so that what was decided before can be told from it.
    var generation: UInt64 { get }

    /// All functions that are served, sorted by id.
    var served: [OwnedFunction] { get }

    /// The ids that `owner` serves, sorted.
    func ids(servedBy owner: ConnectionID) -> [String]
}

/// A function and the connection that serves it.
package struct OwnedFunction: Hashable, Sendable {
    package var function: FunctionRegistration
    package var owner: ConnectionID

    package init(function: FunctionRegistration, owner: ConnectionID) {
        self.function = function
        self.owner = owner
    }
}

/// A trigger and the connection that registered it last.
package struct OwnedTrigger: Hashable, Sendable {
    package var trigger: TriggerRegistration
    package var owner: ConnectionID

    package init(trigger: TriggerRegistration, owner: ConnectionID) {
        self.trigger = trigger
        self.owner = owner
    }
}

/// Triggers, trigger types, and who owns them.
///
/// A trigger belongs to the connection that registered its id last, and only that one can take it out. It
/// is kept whether or not its type is known.
package protocol TriggerDirectory: Sendable {
    /// Whether the type is the node's own, so that no worker can provide it.
    func isBuiltIn(type: Name) -> Bool

    /// Stores a trigger under its id. One that is replaced hands on its place in the order.
    /// - Returns: the trigger that had the id until now.
    /// - Throws: when the type is built in and refuses the configuration; nothing has changed then.
    mutating func register(
        _ trigger: TriggerRegistration, by owner: ConnectionID
    ) throws(JSONMismatch) -> OwnedTrigger?

    /// Takes out the trigger `id` if `owner` registered it last.
    mutating func unregister(_ id: Name, by owner: ConnectionID) -> TriggerRegistration?

    /// The triggers of `owner`, which has closed, call nothing any more, though they have yet to be taken out.
    mutating func depart(_ owner: ConnectionID)

    /// The ids of the triggers of `owner`, in their order.
    func ids(of owner: ConnectionID) -> [Name]

    func trigger(_ id: Name) -> OwnedTrigger?

    /// The condition function that the configuration of a trigger of a built-in type names.
    func conditionFunctionID(of trigger: TriggerRegistration) throws(JSONMismatch) -> String?

    /// The triggers of a type, in their order.
    func triggers(of type: Name) -> [OwnedTrigger]

    /// All triggers, in their order.
    var allTriggers: [OwnedTrigger] { get }

    /// All types, the node's own first.
    var allTypes: [TriggerTypeRegistration] { get }

    /// Makes `provider` the one that provides the type, in place of any other.
    mutating func registerType(_ type: TriggerTypeRegistration, by provider: ConnectionID)

    /// Takes out the type if `provider` provides it. Its triggers stay.
    mutating func unregisterType(_ id: Name, by provider: ConnectionID)

    /// The ids of the types that `provider` provides, in their order.
    func typeIDs(of provider: ConnectionID) -> [Name]

    /// The worker that provides the type; nil for built-in and for unknown types.
    func provider(of type: Name) -> ConnectionID?

    /// The size of the trigger that `owner` has under `id`; nil when that is nothing.
    func size(of id: Name, by owner: ConnectionID) -> Int?
    func usage(of owner: ConnectionID) -> DirectoryUsage
    /// The size of the type that `provider` has under `id`; nil when that is nothing.
    func size(ofType id: Name, by provider: ConnectionID) -> Int?
    func typeUsage(of provider: ConnectionID) -> DirectoryUsage
}
