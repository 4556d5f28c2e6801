/// What an answer means for the disk.
package enum Durability: String, Sendable, CaseIterable {
    /// Nothing is seen by anyone before it is on disk.
    case commit
    /// Answers come at once, and the disk is made to have them every interval.
    case interval
    /// Answers come at once, and the kernel writes them when it likes.
    case none
}
