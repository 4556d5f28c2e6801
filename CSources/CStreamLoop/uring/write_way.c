#include "write_way.h"

bool sc_write_way_next(struct sc_write_way *way) {
    if (way->state == SC_WAY_TRIAL)
        return true;
    if (way->writes_left > 0) {
        way->writes_left--;
        return way->state == SC_WAY_LINKED;
    }
    if (way->state == SC_WAY_LINKED) {
        way->state = SC_WAY_FLUSHED;
        way->switches++;
    }
    return false;
}

static bool is_late(uint32_t size, uint64_t took_ns) {
    return took_ns > (SC_LOOP_FLUSH_LATE_US + size / SC_LOOP_FLUSH_BYTES_PER_US) * 1000ull;
}

static void synced_took(struct sc_write_way *way, uint32_t size, uint64_t took_ns) {
    if (!is_late(size, took_ns)) {
        // Now and then one is, on a processor that is busy too.
        if (way->kept > 0 && ++way->in_time == way->kept)
            way->kept = 0;
    } else if (way->writes_left == 0) {
        way->state = SC_WAY_TRIAL;
        way->late_ns = took_ns;
    }
}

static void trial_took(struct sc_write_way *way, uint64_t took_ns) {
    if (took_ns >= way->late_ns / 2) {
        // The disk is slow, or this one had to wait too.
        way->state = SC_WAY_FLUSHED;
        way->writes_left = SC_LOOP_TRIAL_PAUSE_WRITES;
        return;
    }
    uint32_t keep = way->kept == 0 ? SC_LOOP_LINKED_WRITES_MIN : 2 * way->kept;
    if (keep > SC_LOOP_LINKED_WRITES_MAX)
        keep = SC_LOOP_LINKED_WRITES_MAX;
    way->state = SC_WAY_LINKED;
    way->writes_left = way->kept = keep;
    way->in_time = 0;
    way->switches++;
}

// With several under way one may come that was begun in another state: it says nothing.
void sc_write_way_took(struct sc_write_way *way, bool linked, uint32_t size, uint64_t took_ns) {
    if (!linked && way->state == SC_WAY_FLUSHED)
        synced_took(way, size, took_ns);
    else if (linked && way->state == SC_WAY_TRIAL)
        trial_took(way, took_ns);
}
