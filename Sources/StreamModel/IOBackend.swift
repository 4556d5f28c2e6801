/// By what the node talks to the kernel.
package enum IOBackend: String, Sendable, CaseIterable {
    /// io_uring, or epoll where the kernel refuses that or is too old for it.
    case auto
    case ioUring = "io_uring"
    case epoll
}
