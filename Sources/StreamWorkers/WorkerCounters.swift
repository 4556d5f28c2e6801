/// What the router has counted since the node started.
package struct WorkerCounters: Hashable, Sendable {
    package var connectionsOpened: UInt64 = 0
    package var connectionsClosed: UInt64 = 0
    /// Calls handed to an executor.
    package var callsForwarded: UInt64 = 0
    /// Calls that their executor has answered.
    package var callsAnswered: UInt64 = 0
    /// Calls ended because their executor or their caller went.
    package var callsStopped: UInt64 = 0
    /// Calls that the core could not give to their executor.
    package var callsUndeliverable: UInt64 = 0
    /// Calls of a function that nobody serves.
    package var callsNotFound: UInt64 = 0
    /// Calls over the limit of pending calls.
    package var callsRefused: UInt64 = 0
    /// Calls that a worker may not make.
    package var callsForbidden: UInt64 = 0
    /// Calls of the node whose executor took too long.
    package var callsTimedOut: UInt64 = 0
    /// Connections that the auth function of their listener refused.
    package var connectionsDenied: UInt64 = 0
    /// Results of calls that are over or never were.
    package var resultsUnknown: UInt64 = 0
    /// Results from a connection that does not execute the call.
    package var resultsForeign: UInt64 = 0
    /// Functions, triggers and trigger types that were refused.
    package var registrationsRefused: UInt64 = 0

    /// Holders of an id that did not answer while another worker wanted it.
    package var contestsWon: UInt64 = 0
    /// Void calls of lists, which were not worked out.
    package var readsDropped: UInt64 = 0

    package init() {}
}
