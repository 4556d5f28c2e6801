#include "group_commit.h"

#include <stdlib.h>

#include "log.h"

// ---- Callers that return

// Ids are dense in their low bits, once for each value of the top byte.
static struct sc_commit_caller *slot_of(struct sc_commit_callers *callers, uint64_t id) {
    return &callers->slots[(id + (id >> 56) * 128) % SC_LOG_CALLERS_MAX];
}

// Averages over eight batches, in whole numbers. What is old fades by an eighth with each.
void sc_commit_callers_batch(struct sc_commit_callers *callers) {
    callers->answered_before += callers->answered * 256 - callers->answered_before / 8;
    callers->returned_before +=
        (callers->returned + callers->returned_late) * 256 - callers->returned_before / 8;
    callers->answered = callers->returned = callers->returned_late = 0;
    callers->closed_before = callers->closed;
    callers->closed = false;
    callers->batch++;
}

// From here on who returns is too late for the batch.
void sc_commit_callers_close(struct sc_commit_callers *callers) {
    callers->closed = true;
}

// A caller that returns after the batch has left did not shorten any wait: it is not expected again.
static bool has_returned(struct sc_commit_callers *callers, const struct sc_commit_caller *caller) {
    bool is_last = caller->batch == callers->batch;
    if (is_last ? callers->closed : callers->closed_before)
        return false;
    if (is_last)
        callers->returned++;
    else
        callers->returned_late++;
    return true;
}

// True: a caller that was answered a short time ago is back. A slot may be another caller's: then nothing is learned of this one.
bool sc_commit_callers_asked(struct sc_commit_callers *callers, uint64_t id, uint64_t now_ns,
                             uint64_t patience_ns) {
    struct sc_commit_caller *caller = slot_of(callers, id);
    if (caller->id != id) {
        if (caller->waiting > 0)
            return false;
        *caller = (struct sc_commit_caller){.id = id};
    }
    return caller->waiting++ == 0 && caller->answered_ns != 0 &&
           now_ns - caller->answered_ns <= patience_ns && has_returned(callers, caller);
}

// Once for all its calls under way: a caller that pipelines is back when it has all its answers.
void sc_commit_callers_answered(struct sc_commit_callers *callers, uint64_t id, uint64_t now_ns) {
    struct sc_commit_caller *caller = slot_of(callers, id);
    if (caller->id != id || caller->waiting == 0 || --caller->waiting > 0)
        return;
    caller->answered_ns = now_ns;
    caller->batch = callers->batch;
    callers->answered++;
}

// Three of four do: then waiting for them makes batches larger than it makes answers late.
bool sc_commit_callers_return(const struct sc_commit_callers *callers) {
    uint64_t answered = callers->answered_before, returned = callers->returned_before;
    return answered > 0 && returned * 4 >= answered * 3;
}

// How many of those that were answered are still to come, by what was seen before.
uint32_t sc_commit_callers_expected(const struct sc_commit_callers *callers) {
    if (!sc_commit_callers_return(callers))
        return 0;
    uint64_t answered = callers->answered_before, returned = callers->returned_before;
    if (returned > answered)
        returned = answered;
    uint64_t likely = callers->answered * returned / answered;
    return likely > callers->returned ? (uint32_t)(likely - callers->returned) : 0;
}

// ---- The trial of both ways

#define EPOCH_NS (SC_LOG_TRIAL_EPOCH_MS * NS_PER_MS)

enum { TRIAL_EPOCHS = 2 * SC_LOG_TRIAL_EPOCHS, ROUND_EPOCHS = TRIAL_EPOCHS * SC_LOG_TRIAL_ROUND };

// Every other epoch of a trial goes the other way.
static bool is_at_once(const struct sc_commit_trial *trial) {
    bool other = trial->epoch < TRIAL_EPOCHS && trial->epoch % 2 == 1;
    return trial->at_once != other;
}

bool sc_commit_trial_delays(const struct sc_commit_trial *trial) {
    return !is_at_once(trial);
}

static int compare(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

// One epoch in which the disk, or this process, stood still for a while decides nothing.
static uint64_t median(uint64_t rates[SC_LOG_TRIAL_EPOCHS]) {
    qsort(rates, SC_LOG_TRIAL_EPOCHS, sizeof *rates, compare);
    return rates[SC_LOG_TRIAL_EPOCHS / 2];
}

// A change of way has to be worth something, or noise would decide.
static void decide(struct sc_commit_trial *trial) {
    uint64_t present = median(trial->rates[trial->at_once]),
             other = median(trial->rates[!trial->at_once]);
    if (other <= present + present / SC_LOG_TRIAL_GAIN)
        return;
    trial->at_once = !trial->at_once;
    trial->switches++;
}

// A round is a trial and a long time without one: trying costs what the worse way costs.
static void end_epoch(struct sc_commit_trial *trial) {
    if (trial->epoch < TRIAL_EPOCHS)
        trial->rates[is_at_once(trial)][trial->epoch / 2] =
            trial->records * 1000000000 / trial->took_ns;
    trial->epoch++;
    if (trial->epoch == TRIAL_EPOCHS)
        decide(trial);
    else if (trial->epoch == ROUND_EPOCHS)
        trial->epoch = 0;
    trial->batches = 0;
    trial->records = trial->took_ns = 0;
}

// A trial begins when there is something to find out: with one caller both ways are the same.
void sc_commit_trial_batch(struct sc_commit_trial *trial, uint64_t took_ns, uint32_t records,
                           bool callers_return) {
    bool begins = trial->epoch == 0 && trial->batches == 0;
    if (begins && (!callers_return || records < 2))
        return;
    trial->batches++;
    trial->records += records;
    trial->took_ns += took_ns;
    if (trial->batches >= SC_LOG_TRIAL_EPOCH_BATCHES && trial->took_ns >= EPOCH_NS)
        end_epoch(trial);
}

// ---- Both together

// How long the next batch waits for callers, at most.
static uint64_t patience_ns(const struct sc_group_commit *commit) {
    uint64_t patience = commit->took_ns * SC_LOG_DELAY_FACTOR;
    return patience < SC_LOG_DELAY_MS * NS_PER_MS ? patience : SC_LOG_DELAY_MS * NS_PER_MS;
}

// Stop delaying when no caller has returned for the duration of one batch: the waiting callers have then lost as much time
// as a larger batch could save.
static uint64_t delays_until(const struct sc_group_commit *commit) {
    uint64_t last = commit->completed_ns + patience_ns(commit),
             next = commit->returned_ns + commit->took_ns;
    return next < last ? next : last;
}

// After a failure the disk may be another one, in effect.
void sc_group_commit_reset(struct sc_group_commit *commit) {
    commit->callers = (struct sc_commit_callers){0};
    commit->trial = (struct sc_commit_trial){.switches = commit->trial.switches};
    commit->delayed = false;
}

// True: it had been delayed, which is counted.
bool sc_group_commit_submit(struct sc_group_commit *commit, uint64_t now_ns) {
    bool was_delayed = commit->delayed;
    commit->submitted_ns = now_ns;
    if (was_delayed)
        sc_commit_callers_close(&commit->callers);
    commit->delayed = false;
    return was_delayed;
}

void sc_group_commit_complete(struct sc_group_commit *commit) {
    commit->completed = true;
    sc_commit_callers_batch(&commit->callers);
}

// The time between two completions says how much is answered, unless nothing waited in between.
void sc_group_commit_turn(struct sc_group_commit *commit, uint64_t now_ns, uint32_t records) {
    if (!commit->completed)
        return;
    commit->completed = false;
    bool paused = commit->submitted_ns > commit->completed_ns + 2 * patience_ns(commit);
    if (commit->completed_ns != 0 && !paused)
        sc_commit_trial_batch(&commit->trial, now_ns - commit->completed_ns, records,
                              sc_commit_callers_return(&commit->callers));
    commit->took_ns = now_ns - commit->submitted_ns;
    commit->completed_ns = commit->returned_ns = now_ns;
}

void sc_group_commit_asked(struct sc_group_commit *commit, uint64_t caller, uint64_t now_ns) {
    if (sc_commit_callers_asked(&commit->callers, caller, now_ns, patience_ns(commit)))
        commit->returned_ns = now_ns;
}

void sc_group_commit_answered(struct sc_group_commit *commit, uint64_t caller, uint64_t now_ns) {
    sc_commit_callers_answered(&commit->callers, caller, now_ns);
}

uint64_t sc_group_commit_delays_until(const struct sc_group_commit *commit, uint64_t now_ns) {
    uint64_t until = delays_until(commit);
    bool delays = now_ns < until && sc_commit_callers_expected(&commit->callers) > 0 &&
                  sc_commit_trial_delays(&commit->trial);
    return delays ? until : 0;
}
