internal import Glibc
package import StreamModel

/// What time it is.
package func currentMoment() -> Moment {
    Moment(uptime: milliseconds(CLOCK_MONOTONIC), unix: milliseconds(CLOCK_REALTIME))
}

/// Nanoseconds of the monotonic clock.
package func currentNanoseconds() -> UInt64 { nanoseconds(CLOCK_MONOTONIC) }

private func milliseconds(_ clock: clockid_t) -> UInt64 { nanoseconds(clock) / 1_000_000 }

private func nanoseconds(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    guard unsafe clock_gettime(clock, &time) == 0 else { return 0 }
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}
