/// Why the core could not do what it was asked to.
package enum CoreError: Error, Hashable, Sendable {
    /// The node did not start; the sentence says why and what helps.
    case startFailed(String)
    case outOfMemory
}
