#include "callers.h"

#include <stddef.h>

// Ids are dense in their low bits, once for each value of the top byte.
static struct sc_caller *place_of(struct sc_callers *callers, uint64_t id) {
    return &callers->all[(id + (id >> 56) * 128) % SC_LOG_CALLERS_MAX];
}

void sc_callers_batch(struct sc_callers *callers) {
    callers->answered_before += callers->answered * 256 - callers->answered_before / 8;
    callers->came_before += (callers->came + callers->came_late) * 256 - callers->came_before / 8;
    callers->answered = callers->came = callers->came_late = 0;
    callers->closed_before = callers->closed;
    callers->closed = false;
    callers->batch++;
}

void sc_callers_close(struct sc_callers *callers) {
    callers->closed = true;
}

static bool came_back(struct sc_callers *callers, const struct sc_caller *caller) {
    bool is_last = caller->batch == callers->batch;
    if (is_last ? callers->closed : callers->closed_before)
        return false;
    if (is_last)
        callers->came++;
    else
        callers->came_late++;
    return true;
}

bool sc_callers_asked(struct sc_callers *callers, uint64_t id, uint64_t now_ns,
                      uint64_t patience_ns) {
    struct sc_caller *caller = place_of(callers, id);
    if (caller->id != id) {
        if (caller->waiting > 0)
            return false;
        *caller = (struct sc_caller){.id = id};
    }
    return caller->waiting++ == 0 && caller->answered_ns != 0 &&
           now_ns - caller->answered_ns <= patience_ns && came_back(callers, caller);
}

void sc_callers_answered(struct sc_callers *callers, uint64_t id, uint64_t now_ns) {
    struct sc_caller *caller = place_of(callers, id);
    if (caller->id != id || caller->waiting == 0 || --caller->waiting > 0)
        return;
    caller->answered_ns = now_ns;
    caller->batch = callers->batch;
    callers->answered++;
}

bool sc_callers_come_back(const struct sc_callers *callers) {
    uint64_t answered = callers->answered_before, came = callers->came_before;
    return answered > 0 && came * 4 >= answered * 3;
}

uint32_t sc_callers_expected(const struct sc_callers *callers) {
    if (!sc_callers_come_back(callers))
        return 0;
    uint64_t answered = callers->answered_before, came = callers->came_before;
    if (came > answered)
        came = answered;
    uint64_t likely = callers->answered * came / answered;
    return likely > callers->came ? (uint32_t)(likely - callers->came) : 0;
}
