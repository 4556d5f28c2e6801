#include "pace.h"

#include <stdlib.h>

#define EPOCH_NS (SC_LOG_PACE_EPOCH_MS * 1000000ull)

enum {
    TRIAL_EPOCHS = 2 * SC_LOG_PACE_TRIAL_EPOCHS,
    ROUND_EPOCHS = TRIAL_EPOCHS * SC_LOG_PACE_ROUND
};

static bool hurries_now(const struct sc_pace *pace) {
    bool other = pace->epoch < TRIAL_EPOCHS && pace->epoch % 2 == 1;
    return pace->hurries != other;
}

bool sc_pace_waits(const struct sc_pace *pace) {
    return !hurries_now(pace);
}

static int compare(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return a < b ? -1 : a > b;
}

// One epoch in which the disk, or this process, stood still for a while decides nothing.
static uint64_t median(uint64_t rates[SC_LOG_PACE_TRIAL_EPOCHS]) {
    qsort(rates, SC_LOG_PACE_TRIAL_EPOCHS, sizeof *rates, compare);
    return rates[SC_LOG_PACE_TRIAL_EPOCHS / 2];
}

static void decide(struct sc_pace *pace) {
    uint64_t present = median(pace->rates[pace->hurries]),
             other = median(pace->rates[!pace->hurries]);
    if (other <= present + present / SC_LOG_PACE_GAIN)
        return;
    pace->hurries = !pace->hurries;
    pace->switches++;
}

static void end_epoch(struct sc_pace *pace) {
    if (pace->epoch < TRIAL_EPOCHS)
        pace->rates[hurries_now(pace)][pace->epoch / 2] =
            pace->records * 1000000000 / pace->took_ns;
    pace->epoch++;
    if (pace->epoch == TRIAL_EPOCHS)
        decide(pace);
    else if (pace->epoch == ROUND_EPOCHS)
        pace->epoch = 0;
    pace->batches = 0;
    pace->records = pace->took_ns = 0;
}

void sc_pace_batch(struct sc_pace *pace, uint64_t took_ns, uint32_t records, bool come_back) {
    bool begins = pace->epoch == 0 && pace->batches == 0;
    if (begins && (!come_back || records < 2))
        return;
    pace->batches++;
    pace->records += records;
    pace->took_ns += took_ns;
    if (pace->batches >= SC_LOG_PACE_EPOCH_BATCHES && pace->took_ns >= EPOCH_NS)
        end_epoch(pace);
}
