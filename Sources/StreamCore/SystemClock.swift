internal import Glibc
package import StreamModel

/// What time it is; 1970 for a clock that is before it.
package func currentMoment() -> Moment {
    Moment(uptime: milliseconds(CLOCK_MONOTONIC), unix: milliseconds(CLOCK_REALTIME))
}

/// Nanoseconds of the monotonic clock.
package func currentNanoseconds() -> UInt64 { nanoseconds(CLOCK_MONOTONIC) }

private func milliseconds(_ clock: clockid_t) -> UInt64 { nanoseconds(clock) / 1_000_000 }

private func nanoseconds(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    guard unsafe clock_gettime(clock, &time) == 0 else { return 0 }
    return UInt64(min(max(0, time.tv_sec), 9_000_000_000)) * 1_000_000_000 + UInt64(time.tv_nsec)
}
