/// Why an executor did not get a call.
package enum UndeliverableReason: Hashable, Sendable {
    /// The frame is over the bytes that the executor takes.
    case tooLarge(limit: Int)
    /// The executor's outbound queue is closed.
    case gone
}
