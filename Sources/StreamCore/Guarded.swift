internal import Glibc

/// A value behind a lock of pthreads. Swift's Mutex is as good, but on Linux its slow path is a system call that the
/// thread sanitizer cannot see, so that every use of it that waits is reported as a race.
///
/// Unchecked: the value is reached under the lock only, which the compiler cannot know.
@safe package final class Guarded<Value: Sendable>: @unchecked Sendable {
    private let lock: UnsafeMutablePointer<pthread_mutex_t>
    private var value: Value

    package init(_ value: Value) {
        self.value = value
        unsafe lock = .allocate(capacity: 1)
        let rc = unsafe pthread_mutex_init(lock, nil)
        precondition(rc == 0, "a lock takes nothing that could be missing")
    }

    deinit {
        unsafe pthread_mutex_destroy(lock)
        unsafe lock.deallocate()
    }

    /// Runs `body` while no other thread is in here. `body` must not call this again.
    package func withLock<Result>(_ body: (inout Value) -> Result) -> Result {
        unsafe pthread_mutex_lock(lock)
        defer { unsafe pthread_mutex_unlock(lock) }
        return body(&value)
    }
}
