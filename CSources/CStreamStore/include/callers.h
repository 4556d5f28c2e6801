// Who comes back: callers that ask for the next change as soon as they have the answer to the one before. Where
// nearly all do so, a batch that waits for those just answered costs nobody anything, and halves the syncs: without it
// callers fall into two halves that wait for each other's batches. Where they do not (an open loop), it must not wait.
#ifndef CSTREAM_STORE_CALLERS_H
#define CSTREAM_STORE_CALLERS_H

#include <stdbool.h>
#include <stdint.h>

#include "limits.h"

#pragma clang assume_nonnull begin

struct sc_caller {
    uint64_t id;
    uint64_t answered_ns; // 0: never.
    uint32_t waiting;     // Answers that it waits for.
    uint32_t batch;       // The one that it was answered in last.
};

/// All zeros to begin with. Callers that share a place with another one that waits are not counted.
struct sc_callers {
    struct sc_caller all[SC_LOG_CALLERS_MAX];
    uint32_t batch;     // The last one that is durable.
    uint32_t answered;  // Callers that wait for nothing since it,
    uint32_t came;      // those of them that have asked again,
    uint32_t came_late; // and those that were answered in an earlier one.
    // Of the batches before, each counting 7/8 of the next one; in 256ths.
    uint32_t answered_before, came_before;
    bool closed,
        closed_before; // The batch after it has waited and gone: who comes now comes too late.
};

/// A batch is durable; the answers to it follow.
void sc_callers_batch(struct sc_callers *callers);
/// The next batch waits no longer.
void sc_callers_close(struct sc_callers *callers);
/// `id` asks for a change. True: it has come back, as it waited for nothing, and was answered no longer than `patience_ns`
/// ago.
bool sc_callers_asked(struct sc_callers *callers, uint64_t id, uint64_t now_ns,
                      uint64_t patience_ns);
void sc_callers_answered(struct sc_callers *callers, uint64_t id, uint64_t now_ns);
/// Whether most do: three of four.
bool sc_callers_come_back(const struct sc_callers *callers);
/// How many of those answered since the last batch are still likely to come.
uint32_t sc_callers_expected(const struct sc_callers *callers);

#pragma clang assume_nonnull end

#endif
