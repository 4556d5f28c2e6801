/// The stream functions that a function of a worker can take over for one stream.
package enum StreamOperation: String, Hashable, Sendable, CaseIterable {
    case set, get, delete, list, update
    case listGroups = "list_groups"
}
