import CStreamLoop
import Glibc
import Testing

/// The kernels that a loop may meet: this one, those without a feature that it has, and those without io_uring.
enum Variant: String, CaseIterable {
    case full, withoutDeferTaskrun, withoutRingMessages, withoutBoth, epoll

    /// One for each backend.
    static let backends: [Variant] = [.full, .epoll]

    var io: sc_loop_io { self == .epoll ? SC_LOOP_IO_EPOLL : SC_LOOP_IO_URING }
    var without: UInt32 {
        switch self {
        case .full, .epoll: 0
        case .withoutDeferTaskrun: SC_LOOP_DEFER_TASKRUN.rawValue
        case .withoutRingMessages: SC_LOOP_RING_MESSAGES.rawValue
        case .withoutBoth: SC_LOOP_DEFER_TASKRUN.rawValue | SC_LOOP_RING_MESSAGES.rawValue
        }
    }
    var hasRingMessages: Bool {
        self != .epoll && without & SC_LOOP_RING_MESSAGES.rawValue == 0
    }
}

/// Makes a loop, gives it to `body`, and closes everything.
func withLoop(
    _ variant: Variant, _ configure: (inout sc_loop_config) -> Void = { _ in },
    _ body: (TestLoop) throws -> Void
) throws {
    let loop = try TestLoop {
        $0.without = variant.without
        $0.io = variant.io
        configure(&$0)
    }
    do {
        try body(loop)
    } catch {
        try loop.end()
        throw error
    }
    try loop.end()
}

/// The same for each backend, one after the other.
func withLoop(
    _ configure: (inout sc_loop_config) -> Void = { _ in }, _ body: (TestLoop) throws -> Void
) throws {
    for variant in Variant.backends { try withLoop(variant, configure, body) }
}

/// Two ends of a local stream, the first of which the loop owns: cheaper than TCP where many are needed.
func localPair(_ loop: TestLoop) throws -> (Connection, Peer) {
    var fds: [CInt] = [-1, -1]
    let type = CInt(SOCK_STREAM.rawValue) | CInt(SOCK_CLOEXEC.rawValue)
    try #require(socketpair(AF_UNIX, type, 0, &fds) == 0, "socketpair: \(errno)")
    return (try Connection(loop, fd: fds[0]), Peer(fd: fds[1]))
}

/// Bytes in which a gap, a repetition or a swap shows.
func pattern(_ count: Int, from start: Int = 0) -> [UInt8] {
    (start..<start + count).map { UInt8(truncatingIfNeeded: $0 ^ $0 >> 8 &* 31 ^ $0 >> 16) }
}

/// A thread of its own, outside of the pool that runs the tests.
final class TestThread {
    private var handle = pthread_t()

    init(_ body: @escaping @Sendable () -> Void) {
        let context = Unmanaged.passRetained(Body(body)).toOpaque()
        let rc = pthread_create(
            &handle, nil,
            { context in
                guard let context else { return nil }
                Unmanaged<Body>.fromOpaque(context).takeRetainedValue().body()
                return nil
            }, context)
        precondition(rc == 0, "pthread_create")
    }

    func join() { pthread_join(handle, nil) }

    private final class Body {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
}

/// Freed with the last of the threads that know it.
final class Semaphore: @unchecked Sendable {
    private let semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)

    init() { sem_init(semaphore, 0, 0) }
    deinit {
        sem_destroy(semaphore)
        semaphore.deallocate()
    }

    func post() { sem_post(semaphore) }
    func wait() { while sem_wait(semaphore) != 0 {} }
}
