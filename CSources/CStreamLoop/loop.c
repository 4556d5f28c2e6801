// A loop's life and its turn.
#include "loop_private.h"

#include <stdio.h>
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

_Static_assert(sizeof(struct sc_slot) == 24, "many idle connections are cheap");

static struct sc_loop_config with_defaults(const struct sc_backend_kind *backend,
                                           const struct sc_loop_config *config) {
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
    out.backend = backend;
    uint32_t count = out.receive_buffer_count;
    assert((count & (count - 1)) == 0 && count <= 32768); // What a buffer ring takes.
    return out;
}

// Twice a turn would be twice as dear: all that a turn does happens at one time.
static void read_clocks(struct sc_loop *loop) {
    const struct sc_backend *backend = loop->backend;
    loop->monotonic_ns = backend->kind->clock_ns(backend, CLOCK_MONOTONIC);
    loop->unix_ms = backend->kind->clock_ns(backend, CLOCK_REALTIME) / 1000000u;
}

static void free_parts(struct sc_loop *loop) {
    free(loop->inbox.entries);
    sc_array_free(loop->slots.entries, loop->slots.capacity * sizeof(struct sc_slot));
    free(loop->timers);
    free(loop);
}

static int open_backend(struct sc_loop *loop) {
    struct sc_backend base = {.kind = loop->config.backend,
                              .loop = loop,
                              .config = &loop->config,
                              .counters = &loop->counters};
    int rc = base.kind->open(&base, &loop->backend);
    loop->counters = (struct sc_loop_counters){0}; // What it tried is nobody's work.
    return rc;
}

int sc_loop_create_with(const struct sc_backend_kind *backend, const struct sc_loop_config *config,
                        struct sc_loop **out) {
    assert(sc_loop_current == NULL);
    static const struct sc_slot_list empty = {SC_SLOT_NONE, SC_SLOT_NONE, 0};
    struct sc_loop *loop = aligned_alloc(_Alignof(struct sc_loop), sizeof *loop);
    if (loop == NULL)
        return sc_explain_failure("allocating the loop", -ENOMEM);
    *loop = (struct sc_loop){.config = with_defaults(backend, config), .turn = 1};
    loop->config.reason = NULL; // Its caller's.
    snprintf(loop->reason, sizeof loop->reason, "%s", config->reason != NULL ? config->reason : "");
    loop->slots.free_head = SC_SLOT_NONE;
    loop->slots.count_max = loop->config.socket_count_max;
    loop->starved = loop->passed_over = loop->accept_idle = empty;
    sc_mailbox_init(&loop->mailbox);
    sc_listener_init(loop);
    int rc = open_backend(loop);
    if (rc != 0) {
        free_parts(loop);
        return rc;
    }
    read_clocks(loop);
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
    // A broken backend lets go of nothing before it is closed itself.
    assert(loop->slots.used == 0 || loop->backend->error != 0);
    assert(loop->backend->files_in_flight == 0 || loop->backend->error != 0);
    loop->backend->kind->close(loop->backend);
    sc_loop_current = NULL;
    free_parts(loop);
}

struct sc_loop *sc_loop_make_current(struct sc_loop *loop) {
    struct sc_loop *before = sc_loop_current;
    sc_loop_current = loop;
    return before;
}

struct sc_backend *sc_loop_backend(const struct sc_loop *loop) {
    return loop->backend;
}
const struct sc_file_ops *sc_loop_files(const struct sc_loop *loop) {
    return loop->backend->kind->files;
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
    return loop->backend->description;
}
const char *sc_loop_reason(const struct sc_loop *loop) {
    return loop->reason;
}

// ---- The failure to make one

// The step of sc_loop_create that failed last on this thread, and the backend that was asked for.
static _Thread_local const char *failed_step;

int sc_explain_failure(const char *step, int rc) {
    if (rc != 0)
        failed_step = step;
    return rc;
}

const char *sc_loop_explain_as(const struct sc_backend_kind *backend, int rc, char *out,
                               size_t size) {
    assert(size > 0);
    backend->explain(rc, failed_step, out, size);
    return out;
}

// ---- Completions

static bool grow_inbox(struct sc_inbox *inbox) {
    uint32_t capacity = inbox->capacity == 0 ? 256 : inbox->capacity * 2;
    struct sc_completion *entries = malloc(capacity * sizeof *entries);
    if (entries == NULL)
        return false;
    for (uint32_t i = 0; i < inbox->count; i++)
        entries[i] = *sc_inbox_at(inbox, i);
    free(inbox->entries);
    *inbox = (struct sc_inbox){entries, 0, inbox->count, capacity};
    return true;
}

static void inbox_put(struct sc_loop *loop, const struct sc_completion *completion) {
    struct sc_inbox *inbox = &loop->inbox;
    if (inbox->count == inbox->capacity && !grow_inbox(inbox)) {
        loop->backend->error = -ENOMEM; // A completion is lost: nothing can be relied on.
        return;
    }
    inbox->count++;
    *sc_inbox_at(inbox, inbox->count - 1) = *completion;
    if (sc_tag_kind(completion->tag) == SC_KIND_SEND_TRY)
        loop->tries_in_inbox++;
}

// Many at a time, through the stack: one call of the backend for all of an ordinary turn.
// A few at a time through the stack, so that a backend needs no memory of the loop's.
void sc_loop_reap(struct sc_loop *loop) {
    struct sc_completion taken[SC_TAKE_MAX];
    uint32_t count;
    do {
        count = loop->backend->kind->take(loop->backend, taken, SC_TAKE_MAX);
        for (uint32_t i = 0; i < count; i++)
            inbox_put(loop, &taken[i]);
    } while (count == SC_TAKE_MAX);
}

static void run_file(struct sc_loop *loop, const struct sc_completion *completion) {
    struct sc_file_op *op = (struct sc_file_op *)(uintptr_t)sc_tag_value(completion->tag);
    assert(loop->backend->files_in_flight > 0);
    loop->backend->files_in_flight--;
    op->on_complete(op, completion->result);
}

// What nobody waits for any more still carries a buffer or a descriptor.
static void drop(struct sc_loop *loop, enum sc_kind kind, const struct sc_completion *completion) {
    if (sc_completion_has_buffer(completion))
        loop->backend->kind->give_buffer(loop->backend, sc_completion_buffer(completion));
    if (kind == SC_KIND_ACCEPT && completion->result >= 0)
        close(completion->result);
}

static bool run_owned(struct sc_loop *loop, enum sc_kind kind,
                      const struct sc_completion *completion) {
    void *owner = sc_slot_owner(loop, completion->tag);
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
    enum sc_kind kind = sc_tag_kind(completion->tag);
    switch (kind) {
    case SC_KIND_NONE:
        return true;
    case SC_KIND_OWN:
        loop->backend->kind->run(loop->backend, completion);
        return true;
    case SC_KIND_FILE:
        run_file(loop, completion);
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

// Those that are there when the turn begins, at most so many. What cannot run yet stays in front: the order of one socket's completions
// is that of its bytes.
static void run_completions(struct sc_loop *loop) {
    struct sc_inbox *inbox = &loop->inbox;
    uint32_t count = inbox->count, ran = 0, kept = 0, i = 0;
    loop->phase = SC_PHASE_COMPLETIONS;
    while (i < count && ran < SC_LOOP_COMPLETIONS_PER_TURN) {
        struct sc_completion completion = *sc_inbox_at(inbox, i++);
        if (sc_tag_kind(completion.tag) == SC_KIND_SEND_TRY)
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

// Messages of other threads do not wake a loop that is awake: it looks.
static bool has_work(struct sc_loop *loop) {
    struct sc_backend *backend = loop->backend;
    const struct sc_backend_kind *kind = backend->kind;
    return loop->inbox.count > 0 || !sc_mailbox_is_empty(&loop->mailbox) ||
           (kind->look_by_call != NULL ? kind->look_by_call(backend) : kind->look(backend)) != 0;
}

// A processor that halts wakes late, above all a virtual one: 30 us and more, and whoever wakes it pays as well. Looking
// takes no system call on a ring: the kernel says in shared memory that it has something.
static bool poll_for_work(struct sc_loop *loop, uint64_t time_ns) {
    loop->backend->kind->submit(loop->backend);
    if (has_work(loop) || loop->backend->error != 0)
        return true;
    loop->counters.polls++;
    uint64_t start_ns = sc_clock_ns(CLOCK_MONOTONIC), now_ns = start_ns;
    bool found = false;
    while (!found && now_ns < start_ns + time_ns) {
        loop->backend->missing_ns = now_ns;
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
    uint64_t timeout_ns = sc_timer_next_ns(loop), due_ns = loop->backend_due_ns;
    if (due_ns == 0)
        return timeout_ns;
    uint64_t left_ns = due_ns > loop->monotonic_ns ? due_ns - loop->monotonic_ns : 0;
    return left_ns < timeout_ns ? left_ns : timeout_ns;
}

// True: it had nothing to do, and slept until there was.
// The mailbox is told that the loop sleeps before it does: who posts from then on wakes it.
static bool wait_for_work(struct sc_loop *loop) {
    uint64_t timeout_ns = sleep_at_most_ns(loop), poll_ns = loop->config.poll_us * 1000ull;
    if (poll_ns > 0 && timeout_ns > 0 && !has_work(loop))
        timeout_ns = poll_for_work(loop, timeout_ns < poll_ns ? timeout_ns : poll_ns)
                         ? 0
                         : sleep_at_most_ns(loop);
    struct sc_backend *backend = loop->backend;
    unsigned found = loop->inbox.count > 0 ? SC_BACKEND_READY : backend->kind->look(backend);
    if ((found & SC_BACKEND_READY) != 0 || timeout_ns == 0 || !sc_mailbox_sleep(&loop->mailbox)) {
        backend->kind->wait(backend, 0);
        return false;
    }
    backend->kind->wait(backend, timeout_ns);
    sc_mailbox_awake(&loop->mailbox);
    return found == 0;
}

// The order of a turn: what the kernel has done, what other threads have posted, timers, then the owner's end of the turn, which sends. Buffers that
// came back serve sockets that waited for one last.
int sc_loop_run_once(struct sc_loop *loop) {
    assert(sc_loop_is_current(loop));
    assert(loop->phase == SC_PHASE_OUTSIDE);
    loop->backend->missing_ns = loop->monotonic_ns;
    bool slept = wait_for_work(loop);
    loop->turn++;
    loop->counters.turns++;
    read_clocks(loop);
    if (slept)
        loop->backend->missing_ns = loop->monotonic_ns;
    sc_loop_reap(loop);
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
    loop->backend_due_ns = loop->backend->kind->end_turn(loop->backend);
    loop->phase = SC_PHASE_OUTSIDE;
    return loop->backend->error;
}

// ---- Flushing

static void run_try(struct sc_loop *loop, const struct sc_completion *completion) {
    bool ran = run_completion(loop, completion);
    assert(ran); // Only a receive can be put off.
}

static void run_tries_of_inbox(struct sc_loop *loop) {
    for (uint32_t i = 0; i < loop->inbox.count; i++) {
        struct sc_completion *entry = sc_inbox_at(&loop->inbox, i), completion = *entry;
        if (sc_tag_kind(completion.tag) != SC_KIND_SEND_TRY)
            continue;
        entry->tag = sc_tag(SC_KIND_NONE, 0);
        loop->tries_in_inbox--;
        run_try(loop, &completion);
    }
}

// The others go to the inbox before any of these runs: an `on_sent` may have further completions taken, which come behind.
static void take_tries(struct sc_loop *loop) {
    struct sc_completion taken[SC_TAKE_MAX];
    uint32_t count, tries;
    do {
        count = loop->backend->kind->take(loop->backend, taken, SC_TAKE_MAX);
        tries = 0;
        for (uint32_t i = 0; i < count; i++) {
            if (sc_tag_kind(taken[i].tag) == SC_KIND_SEND_TRY)
                taken[tries++] = taken[i];
            else
                inbox_put(loop, &taken[i]);
        }
        for (uint32_t i = 0; i < tries; i++)
            run_try(loop, &taken[i]);
    } while (count == SC_TAKE_MAX);
}

int sc_loop_flush(struct sc_loop *loop) {
    assert(sc_loop_is_current(loop));
    assert(loop->phase == SC_PHASE_TURN || loop->phase == SC_PHASE_OUTSIDE);
    struct sc_backend *backend = loop->backend;
    enum sc_phase phase = loop->phase;
    loop->phase = SC_PHASE_FLUSH;
    backend->kind->submit(backend);
    take_tries(loop);
    while (loop->tries_in_flight > 0 && backend->error == 0) {
        if (loop->tries_in_inbox > 0)
            run_tries_of_inbox(loop);
        else // Does not sleep: they completed as they were submitted.
            backend->kind->wait(backend, UINT64_MAX);
        take_tries(loop);
    }
    loop->phase = phase;
    return backend->error;
}
