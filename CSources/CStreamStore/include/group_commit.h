// Group commit: whether the next batch of a log waits a moment for more changes.
//
// Callers of a closed loop ask for their next change as soon as they have the answer to the one before. Where nearly all
// do so, a batch that waits for those just answered costs nobody anything, and halves the number of flushes: without the
// delay callers fall into two halves that wait for each other's batches. Callers of an open loop do not return, and a
// batch must not wait for them. Which of both answers more depends on the disk, on the callers, and on when the kernel's
// threads get a processor. So a trial compares both ways now and then.
//
// Thread: of the log. Times are passed in: nothing here looks at a clock.
#ifndef CSTREAM_STORE_GROUP_COMMIT_H
#define CSTREAM_STORE_GROUP_COMMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "limits.h"

#pragma clang assume_nonnull begin

// ---- Callers that return

struct sc_commit_caller {
    uint64_t id;
    uint64_t answered_ns; // 0: never.
    uint32_t waiting;     // Answers that it waits for.
    uint32_t batch;       // The one that it was answered in last.
};

/// All zeros to begin with. A caller that shares a slot with another one that waits is not counted.
struct sc_commit_callers {
    struct sc_commit_caller slots[SC_LOG_CALLERS_MAX];
    uint32_t batch;         // The last one that is durable.
    uint32_t answered;      // Callers that wait for nothing since it,
    uint32_t returned;      // those of them that have asked again,
    uint32_t returned_late; // and those that were answered in an earlier one.
    // Of the batches before, each counting 7/8 of the next one; in 256ths.
    uint32_t answered_before, returned_before;
    bool closed,
        closed_before; // The batch after it has waited and was submitted: later callers are too late.
};

/// A batch is durable; the answers to it follow.
void sc_commit_callers_batch(struct sc_commit_callers *callers);
/// The next batch waits no longer.
void sc_commit_callers_close(struct sc_commit_callers *callers);
/// `id` asks for a change. True: it has returned, as it waited for nothing, and was answered no longer than `patience_ns`
/// ago.
bool sc_commit_callers_asked(struct sc_commit_callers *callers, uint64_t id, uint64_t now_ns,
                             uint64_t patience_ns);
void sc_commit_callers_answered(struct sc_commit_callers *callers, uint64_t id, uint64_t now_ns);
/// Whether most return: three of four.
bool sc_commit_callers_return(const struct sc_commit_callers *callers);
/// How many of those answered since the last batch are still likely to return.
uint32_t sc_commit_callers_expected(const struct sc_commit_callers *callers);

// ---- The trial of both ways

/// All zeros to begin with: batches are delayed.
struct sc_commit_trial {
    bool at_once; // The way that has answered more is to delay none.
    // Of the present round: first those of the trial, the two ways in turn, then those that keep to the better one.
    uint32_t epoch;
    uint32_t batches; // Of the present epoch,
    uint64_t records, // what was in them,
        took_ns;      // and how long they took.
    // Of the trial, in records a second; first those of delayed batches.
    uint64_t rates[2][SC_LOG_TRIAL_EPOCHS];
    uint64_t switches;
};

/// Whether the next batch may be delayed.
bool sc_commit_trial_delays(const struct sc_commit_trial *trial);
/// A batch of `records` is durable, `took_ns` after the one before. Not for a batch after a pause: that says nothing.
/// `callers_return`: most of those who asked do. Without them, or with only one of them, no trial begins, as nobody is
/// waited for. A trial that has begun goes on: whether callers are seen to return depends on the way.
void sc_commit_trial_batch(struct sc_commit_trial *trial, uint64_t took_ns, uint32_t records,
                           bool callers_return);

// ---- Both together, for one log

/// All zeros to begin with.
struct sc_group_commit {
    struct sc_commit_callers callers;
    struct sc_commit_trial trial;
    uint64_t submitted_ns; // When the last batch was given to the disk,
    uint64_t completed_ns; // when it was durable,
    uint64_t took_ns;      // how long that took,
    uint64_t returned_ns;  // and when the last of its callers returned.
    bool completed;        // It has become durable since the last turn.
    bool delayed;          // The open batch has waited for callers.
};

/// Forgets the callers, whose changes were taken back.
void sc_group_commit_reset(struct sc_group_commit *commit);
/// The open batch is given to the disk. True: it had been delayed.
bool sc_group_commit_submit(struct sc_group_commit *commit, uint64_t now_ns);
/// It is durable. Its answers follow, and then a turn.
void sc_group_commit_complete(struct sc_group_commit *commit);
/// The turn after it; `records` were in it.
void sc_group_commit_turn(struct sc_group_commit *commit, uint64_t now_ns, uint32_t records);
void sc_group_commit_asked(struct sc_group_commit *commit, uint64_t caller, uint64_t now_ns);
void sc_group_commit_answered(struct sc_group_commit *commit, uint64_t caller, uint64_t now_ns);
/// 0, or until when the open batch waits for callers that are likely to return.
uint64_t sc_group_commit_delays_until(const struct sc_group_commit *commit, uint64_t now_ns);

#pragma clang assume_nonnull end

#endif
