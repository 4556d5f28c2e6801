import StreamFunctions
import StreamModel

extension FunctionRegistry {
    /// Takes out all that `owner` has registered.
    mutating func unregisterAll(of owner: ConnectionID, isAlive: (ConnectionID) -> Bool) {
        for id in ids(of: owner) { unregister(id, by: owner, isAlive: isAlive) }
    }
}
