// Timers in a binary heap, the next one first. Each timer knows its place, so that it can be stopped.
#include "loop_private.h"

#include <stdlib.h>
#include <time.h>

#define NS_PER_MS 1000000u
/// A timer later than this (584 years) is as good as none.
#define DELAY_MS_MAX (UINT64_MAX / 4 / NS_PER_MS)

uint64_t sc_clock_ns(clockid_t clock) {
    struct timespec now;
    int rc = clock_gettime(clock, &now);
    assert(rc == 0);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t sc_loop_clock_ns(void) {
    return sc_loop_current != NULL ? sc_now_ns(sc_loop_current) : sc_clock_ns(CLOCK_MONOTONIC);
}

// The one place that moves a timer: it always knows where it is.
static void place(struct sc_loop *loop, uint32_t index, struct sc_timer *timer) {
    loop->timers[index] = timer;
    timer->heap_index = index;
}

static void sift_up(struct sc_loop *loop, uint32_t index, struct sc_timer *timer) {
    while (index > 0) {
        uint32_t parent = (index - 1) / 2;
        if (loop->timers[parent]->due_ns <= timer->due_ns)
            break;
        place(loop, index, loop->timers[parent]);
        index = parent;
    }
    place(loop, index, timer);
}

static void sift_down(struct sc_loop *loop, uint32_t index, struct sc_timer *timer) {
    for (;;) {
        uint32_t child = 2 * index + 1;
        if (child >= loop->timer_count)
            break;
        if (child + 1 < loop->timer_count &&
            loop->timers[child + 1]->due_ns < loop->timers[child]->due_ns)
            child++;
        if (timer->due_ns <= loop->timers[child]->due_ns)
            break;
        place(loop, index, loop->timers[child]);
        index = child;
    }
    place(loop, index, timer);
}

// A timer that runs is moved. Memory that is out ends the process: nothing could be promised without timers.
void sc_timer_start_at(struct sc_loop *loop, struct sc_timer *timer, uint64_t due_ns) {
    assert(sc_loop_is_current(loop));
    assert(timer->on_due != NULL && due_ns != 0);
    sc_timer_stop(loop, timer);
    if (loop->timer_count == loop->timer_capacity) {
        uint32_t capacity = loop->timer_capacity == 0 ? 64 : loop->timer_capacity * 2;
        struct sc_timer **timers = realloc(loop->timers, capacity * sizeof(struct sc_timer *));
        if (timers == NULL)
            abort(); // As the header says.
        loop->timers = timers;
        loop->timer_capacity = capacity;
    }
    timer->due_ns = due_ns;
    sift_up(loop, loop->timer_count++, timer);
}

void sc_timer_start(struct sc_loop *loop, struct sc_timer *timer, uint64_t delay_ms) {
    if (delay_ms > DELAY_MS_MAX)
        delay_ms = DELAY_MS_MAX;
    // Not the time of the turn: that is past, and the timer would be early.
    sc_timer_start_at(loop, timer, sc_now_ns(loop) + delay_ms * NS_PER_MS);
}

// The last one takes its place, and goes up or down from there.
void sc_timer_stop(struct sc_loop *loop, struct sc_timer *timer) {
    assert(sc_loop_is_current(loop));
    if (timer->due_ns == 0)
        return;
    uint32_t index = timer->heap_index;
    assert(index < loop->timer_count && loop->timers[index] == timer);
    timer->due_ns = 0;
    struct sc_timer *last = loop->timers[--loop->timer_count];
    if (last == timer)
        return;
    if (index > 0 && last->due_ns < loop->timers[(index - 1) / 2]->due_ns)
        sift_up(loop, index, last);
    else
        sift_down(loop, index, last);
}

void sc_timer_run_due(struct sc_loop *loop) {
    // As many as there are now: one that starts itself again waits for the next turn.
    for (uint32_t left = loop->timer_count; left > 0 && loop->timer_count > 0; left--) {
        struct sc_timer *timer = loop->timers[0];
        if (timer->due_ns > loop->monotonic_ns)
            return;
        sc_timer_stop(loop, timer);
        timer->on_due(timer);
    }
}

// By the clock, not by the turn: the turn may have taken long, and the loop would sleep for that time again.
uint64_t sc_timer_next_ns(const struct sc_loop *loop) {
    if (loop->timer_count == 0)
        return UINT64_MAX;
    uint64_t now = sc_now_ns(loop), due = loop->timers[0]->due_ns;
    return due > now ? due - now : 0;
}
