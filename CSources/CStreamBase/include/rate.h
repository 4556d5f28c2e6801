// How often something may happen: so many times a second, and as many at once after a quiet second.
//
// One number is kept for each that is limited, not a count and the time of its window: the time up to which all that has
// happened would take at an even pace. (GCRA, ITU-T I.371 annex A.) Nothing has to be reset, and there is no edge of a
// window at which twice as much passes.
#ifndef CSTREAM_RATE_H
#define CSTREAM_RATE_H

#include <stdbool.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

#define SC_RATE_BURST_NS 1000000000u

/// `paced_ns` with one more happening at `now_ns`. `per_second` is 1 or more. It begins with 0.
static inline uint64_t sc_rate_next(uint64_t paced_ns, uint64_t now_ns, uint32_t per_second) {
    uint64_t from = paced_ns > now_ns ? paced_ns : now_ns;
    return from + 1000000000u / per_second;
}
/// Whether so much has happened more than may.
static inline bool sc_rate_is_over(uint64_t paced_ns, uint64_t now_ns) {
    return paced_ns > now_ns + SC_RATE_BURST_NS;
}

#pragma clang assume_nonnull end

#endif
