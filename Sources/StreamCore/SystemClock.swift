internal import Glibc
package import StreamModel

/// What time it is; 1970 for a clock that is before it.
package func currentMoment() -> Moment {
    Moment(uptime: currentUptime(), unix: nanoseconds(CLOCK_REALTIME) / 1_000_000)
}

/// The time of the monotonic clock.
package func currentUptime() -> Duration {
    .nanoseconds(Int64(clamping: nanoseconds(CLOCK_MONOTONIC)))
}

private func nanoseconds(_ clock: clockid_t) -> UInt64 {
    var time = timespec()
    guard unsafe clock_gettime(clock, &time) == 0 else { return 0 }
    return UInt64(min(max(0, time.tv_sec), 9_000_000_000)) * 1_000_000_000 + UInt64(time.tv_nsec)
}
