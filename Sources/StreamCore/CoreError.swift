/// Why the core could not do what it was asked to.
package enum CoreError: Error, Hashable, Sendable {
    /// What a start failed at.
    package enum StartStep: Hashable, Sendable {
        case other, kernel, directory, store, address, certificate
    }

    /// The node did not start; the sentence says why and what helps.
    case startFailed(StartStep, String)
    case outOfMemory
}
