package import StreamConfig

/// Why the store that a configuration asks for cannot be had.
package enum StoreSelectionError: Error, Hashable, Sendable {
    /// The adapter is known, and not part of this version.
    case notBuiltYet(String)
}

/// Where the core keeps the items of a node.
package enum SelectedStore: Equatable, Sendable {
    /// In the shards' memory, gone with the process.
    case memory
    /// In the shards' memory and in the files of a directory.
    case files(FileStore)

    /// Chooses the store for a configured adapter. There is no falling back: what cannot be had is an
    /// error, never silently memory.
    package init(for adapter: Adapter) throws(StoreSelectionError) {
        switch adapter {
        case .kv(.inMemory): self = .memory
        case .kv(.fileBased(let store)): self = .files(store)
        case .redis: throw .notBuiltYet("redis")
        }
    }
}
