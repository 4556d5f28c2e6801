// Whether a batch waits for those who come back (callers.h). A batch that waits is bigger, and one that does not keeps the
// processor busy while the disk works: what answers more depends on the disk, on the callers, and on when the kernel's
// threads get a processor. So both ways are tried in turn, now and then. The times are passed in.
#ifndef CSTREAM_STORE_PACE_H
#define CSTREAM_STORE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#include "limits.h"

#pragma clang assume_nonnull begin

/// All zeros to begin with: batches wait.
struct sc_pace {
    bool hurries; // What has answered more: not to wait.
    // Of the present round: first those of the trial, the two ways in turn, then those that keep to the better one.
    uint32_t epoch;
    uint32_t batches; // Of the present epoch,
    uint64_t records, // what was in them,
        took_ns;      // and how long they took.
    uint64_t rates
        [2]
        [SC_LOG_PACE_TRIAL_EPOCHS]; // Of the trial, in records a second; first those that waited.
    uint64_t switches;
};

/// Whether the next batch may wait.
bool sc_pace_waits(const struct sc_pace *pace);
/// A batch of `records` is durable, `took_ns` after the one before. Not for a batch after a pause: that says nothing.
/// `come_back`: most of those who asked do. Without them, or with only one of them, no trial begins, as nobody is waited
/// for; one that has begun goes on, as whether they are seen to come back depends on the way.
void sc_pace_batch(struct sc_pace *pace, uint64_t took_ns, uint32_t records, bool come_back);

#pragma clang assume_nonnull end

#endif
