// A loop's life and its turn.
#include "loop_private.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define LOOKS_PER_CLOCK 16u

// Between two looks at memory that another processor writes.
static inline void relax(void) {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static struct sc_loop_config with_defaults(const struct sc_loop_config *config) {
    struct sc_loop_config out = *config;
    if (out.receive_buffer_size == 0)
        out.receive_buffer_size = 8192;
    if (out.receive_buffer_count == 0)
        out.receive_buffer_count = 256;
    if (out.receive_bytes_per_turn == 0)
        out.receive_bytes_per_turn = 256u << 10;
    if (out.contended_us == 0)
        out.contended_us = SC_LOOP_CONTENDED_US;
    if (out.socket_count_max == 0)
        out.socket_count_max = SC_LOOP_SOCKET_COUNT_MAX;
    if (out.slice_us == 0)
        out.slice_us = SC_LOOP_SLICE_US;
    uint32_t count = out.receive_buffer_count;
    assert((count & (count - 1)) == 0 && count <= 32768); // What a buffer ring takes.
    return out;
}

static void read_clocks(struct sc_loop *loop) {
    loop->monotonic_ns = sc_clock_ns(CLOCK_MONOTONIC);
    loop->unix_ms = sc_clock_ns(CLOCK_REALTIME) / 1000000u;
}

static int open_parts(struct sc_loop *loop) {
    sc_sched_give_way(loop->config.slice_us);
    int rc = sc_ring_open(loop);
    if (rc != 0)
        return rc;
    return sc_explain_failure("allocating the send pool", sc_socket_pool_open(loop));
}

static void free_parts(struct sc_loop *loop) {
    sc_ring_close(loop);
    sc_socket_pool_close(loop);
    sc_array_free(loop->slots.entries, loop->slots.capacity * sizeof(struct sc_slot));
    free(loop->timers);
    free(loop);
}

int sc_loop_create(const struct sc_loop_config *config, struct sc_loop **out) {
    assert(sc_loop_current == NULL);
    static const struct sc_slot_list empty = {SC_SLOT_NONE, SC_SLOT_NONE, 0};
    struct sc_loop *loop = aligned_alloc(_Alignof(struct sc_loop), sizeof *loop);
    if (loop == NULL)
        return sc_explain_failure("allocating the loop", -ENOMEM);
    *loop = (struct sc_loop){.config = with_defaults(config), .event_fd = -1, .turn = 1};
    loop->slots.free_head = SC_SLOT_NONE;
    loop->slots.count_max = loop->config.socket_count_max;
    loop->starved = loop->passed_over = loop->accept_idle = empty;
    sc_mailbox_init(&loop->mailbox);
    sc_listener_init(loop);
    read_clocks(loop);
    int rc = open_parts(loop);
    if (rc != 0) {
        free_parts(loop);
        return rc;
    }
    loop->counters = (struct sc_loop_counters){0};
    sc_live_insert(loop);
    sc_loop_current = loop;
    *out = loop;
    return 0;
}

void sc_loop_destroy(struct sc_loop *loop) {
    if (loop == NULL)
        return;
    assert(sc_loop_is_current(loop));
    assert(loop->phase == SC_PHASE_OUTSIDE);
    sc_mailbox_end(loop);
    // A broken ring lets go of nothing before it is closed itself.
    assert(loop->slots.used == 0 || loop->error != 0);
    assert(loop->files_in_flight == 0 || loop->error != 0);
    sc_ring_submit(loop); // Wake-ups for other loops may be left.
    sc_live_remove(loop);
    sc_loop_current = NULL;
    free_parts(loop);
}

bool sc_loop_is_current(const struct sc_loop *loop) {
    return sc_loop_current == loop;
}
uint64_t sc_loop_monotonic_ns(const struct sc_loop *loop) {
    return loop->monotonic_ns;
}
uint64_t sc_loop_unix_ms(const struct sc_loop *loop) {
    return loop->unix_ms;
}
const struct sc_loop_counters *sc_loop_counters(const struct sc_loop *loop) {
    return &loop->counters;
}
const char *sc_loop_describe(const struct sc_loop *loop) {
    return loop->description;
}

// ---- Completions

static void run_event(struct sc_loop *loop, const struct sc_completion *completion) {
    loop->event_armed = false;
    if (completion->result < 0 && completion->result != -EINTR && completion->result != -EAGAIN)
        loop->error = completion->result; // Nobody could wake this loop any more.
    else
        sc_ring_arm_event(loop);
}

// What nobody waits for any more still carries a buffer or a descriptor.
static void drop(struct sc_loop *loop, enum sc_kind kind, const struct sc_completion *completion) {
    if (completion->flags & IORING_CQE_F_BUFFER)
        sc_ring_give_buffer(loop, completion->flags >> IORING_CQE_BUFFER_SHIFT);
    if (kind == SC_KIND_ACCEPT && completion->result >= 0)
        close(completion->result);
}

static bool run_owned(struct sc_loop *loop, enum sc_kind kind,
                      const struct sc_completion *completion) {
    void *owner = sc_slot_owner(loop, completion->user_data);
    if (owner == NULL) {
        drop(loop, kind, completion);
        return true;
    }
    if (kind >= SC_KIND_RECEIVE)
        return sc_socket_run(loop, owner, completion);
    sc_listener_run(loop, owner, completion);
    return true;
}

// Returns false when the completion has to wait for the next turn.
static bool run_completion(struct sc_loop *loop, const struct sc_completion *completion) {
    enum sc_kind kind = sc_tag_kind(completion->user_data);
    switch (kind) {
    case SC_KIND_NONE:
    case SC_KIND_WOKEN:
        return true;
    case SC_KIND_WAKE_FAILED:
        sc_live_wake(sc_tag_value(completion->user_data));
        return true;
    case SC_KIND_EVENT:
        run_event(loop, completion);
        return true;
    case SC_KIND_FILE:
        sc_file_run(loop, completion);
        return true;
    default:
        return run_owned(loop, kind, completion);
    }
}

// Forgets the entries before `end`, but for the first `kept` ones, which stay in front of what came since.
static void inbox_advance(struct sc_inbox *inbox, uint32_t end, uint32_t kept) {
    for (uint32_t i = kept; i-- > 0;)
        *sc_inbox_at(inbox, end - kept + i) = *sc_inbox_at(inbox, i);
    inbox->head = (inbox->head + end - kept) & (inbox->capacity - 1);
    inbox->count -= end - kept;
}

static void run_completions(struct sc_loop *loop) {
    struct sc_inbox *inbox = &loop->inbox;
    uint32_t count = inbox->count, ran = 0, kept = 0, i = 0;
    loop->phase = SC_PHASE_COMPLETIONS;
    while (i < count && ran < SC_LOOP_COMPLETIONS_PER_TURN) {
        struct sc_completion completion = *sc_inbox_at(inbox, i++);
        if (sc_tag_kind(completion.user_data) == SC_KIND_SEND_TRY)
            loop->tries_in_inbox--;
        if (run_completion(loop, &completion))
            ran++;
        else
            *sc_inbox_at(inbox, kept++) = completion;
    }
    loop->counters.receives_deferred += kept;
    if (i > 0)
        inbox_advance(inbox, i, kept);
}

// ---- The turn

static bool has_work(struct sc_loop *loop) {
    return sc_ring_has_more(loop) || sc_ring_ready(loop) || !sc_mailbox_is_empty(&loop->mailbox);
}

// A processor that halts wakes late, above all a virtual one: 30 us and more, and whoever wakes it pays as well. Looking
// takes no system call: the kernel says in the ring's memory that it has something.
static bool poll_for_work(struct sc_loop *loop, uint64_t time_ns) {
    sc_ring_submit(loop);
    if (has_work(loop) || loop->error != 0)
        return true;
    loop->counters.polls++;
    uint64_t start_ns = sc_clock_ns(CLOCK_MONOTONIC), now_ns = start_ns;
    bool found = false;
    while (!found && now_ns < start_ns + time_ns) {
        loop->missing_ns = now_ns;
        for (uint32_t i = 0; i < LOOKS_PER_CLOCK && !found; i++) {
            relax();
            found = has_work(loop);
        }
        now_ns = sc_clock_ns(CLOCK_MONOTONIC);
    }
    loop->counters.polled_ns += now_ns - start_ns;
    loop->counters.polls_in_vain += !found;
    return found;
}

static uint64_t sleep_at_most_ns(const struct sc_loop *loop) {
    uint64_t timeout_ns = sc_timer_next_ns(loop);
    uint64_t trim_ns = loop->trim_ns > loop->monotonic_ns ? loop->trim_ns - loop->monotonic_ns : 0;
    return loop->trim_ns != 0 && trim_ns < timeout_ns ? trim_ns : timeout_ns;
}

// True: it had nothing to do, and slept until there was.
static bool wait_for_work(struct sc_loop *loop) {
    uint64_t timeout_ns = sleep_at_most_ns(loop), poll_ns = loop->config.poll_us * 1000ull;
    if (poll_ns > 0 && timeout_ns > 0 && !has_work(loop))
        timeout_ns = poll_for_work(loop, timeout_ns < poll_ns ? timeout_ns : poll_ns)
                         ? 0
                         : sleep_at_most_ns(loop);
    if (sc_ring_ready(loop) || timeout_ns == 0 || !sc_mailbox_sleep(&loop->mailbox)) {
        sc_ring_wait(loop, 0);
        return false;
    }
    bool slept = !sc_ring_has_more(loop);
    sc_ring_wait(loop, timeout_ns);
    sc_mailbox_awake(&loop->mailbox);
    return slept;
}

int sc_loop_run_once(struct sc_loop *loop) {
    assert(sc_loop_is_current(loop));
    assert(loop->phase == SC_PHASE_OUTSIDE);
    loop->missing_ns = loop->monotonic_ns;
    bool slept = wait_for_work(loop);
    loop->turn++;
    loop->counters.turns++;
    read_clocks(loop);
    if (slept)
        loop->missing_ns = loop->monotonic_ns;
    sc_ring_reap(loop);
    sc_contention_begin_turn(loop);
    run_completions(loop);
    if (loop->contention.contended)
        sc_contention_end_turn(loop);
    loop->phase = SC_PHASE_TURN;
    sc_mailbox_run(loop, SC_LOOP_MESSAGES_PER_TURN);
    sc_timer_run_due(loop);
    if (loop->config.on_turn != NULL)
        loop->config.on_turn(loop->config.context);
    sc_socket_serve_starved(loop);
    sc_ring_trim_buffers(loop);
    loop->phase = SC_PHASE_OUTSIDE;
    return loop->error;
}

// ---- Flushing

static void run_try(struct sc_loop *loop, const struct sc_completion *completion) {
    bool ran = run_completion(loop, completion);
    assert(ran); // Only a receive can be put off.
}

static void run_tries_of_inbox(struct sc_loop *loop) {
    for (uint32_t i = 0; i < loop->inbox.count; i++) {
        struct sc_completion *entry = sc_inbox_at(&loop->inbox, i), completion = *entry;
        if (sc_tag_kind(completion.user_data) != SC_KIND_SEND_TRY)
            continue;
        entry->user_data = sc_tag(SC_KIND_NONE, 0);
        loop->tries_in_inbox--;
        run_try(loop, &completion);
    }
}

static void run_tries_of_ring(struct sc_loop *loop) {
    struct sc_completion completion;
    while (sc_ring_take(loop, &completion)) {
        if (sc_tag_kind(completion.user_data) == SC_KIND_SEND_TRY)
            run_try(loop, &completion);
        else
            sc_inbox_put(loop, &completion);
    }
}

int sc_loop_flush(struct sc_loop *loop) {
    assert(sc_loop_is_current(loop));
    assert(loop->phase == SC_PHASE_TURN || loop->phase == SC_PHASE_OUTSIDE);
    enum sc_phase phase = loop->phase;
    loop->phase = SC_PHASE_FLUSH;
    sc_ring_submit(loop);
    run_tries_of_ring(loop);
    while (loop->tries_in_flight > 0 && loop->error == 0) {
        if (loop->tries_in_inbox > 0)
            run_tries_of_inbox(loop);
        else
            sc_ring_wait(loop,
                         UINT64_MAX); // Does not sleep: they completed as they were submitted.
        run_tries_of_ring(loop);
    }
    loop->phase = phase;
    return loop->error;
}
