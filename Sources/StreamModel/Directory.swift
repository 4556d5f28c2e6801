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
