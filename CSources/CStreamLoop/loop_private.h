// What the files of the loop share: slots, the inbox of completions, messages, timers. The kernel is behind backend.h.
#ifndef CSTREAM_LOOP_PRIVATE_H
#define CSTREAM_LOOP_PRIVATE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "backend.h"

#pragma clang assume_nonnull begin

/// Bytes between two looks at the clock while receives run.
#define SC_CONTENTION_LOOK_BYTES (64u << 10)
/// A contended loop calms down after so many turns in a row whose receives took a quarter of the limit at most.
#define SC_CONTENTION_CALM_TURNS 1000u

// ---- Completions

/// So many are taken from a backend by one call.
#define SC_TAKE_MAX 64u

/// Completions that left the backend and wait to be run, oldest first. Grows: it holds at most one completion
/// for each operation in flight, receive buffer and descriptor of the process.
struct sc_inbox {
    struct sc_completion *_Nullable entries;
    uint32_t head, count, capacity; // `capacity` is a power of two.
};

static inline struct sc_completion *sc_inbox_at(const struct sc_inbox *inbox, uint32_t index) {
    assert(index < inbox->count);
    return &inbox->entries[(inbox->head + index) & (inbox->capacity - 1)];
}

// ---- Slots: what a tag names. A slot that is used again has a new generation.

#define SC_SLOT_NONE UINT32_MAX

struct sc_slot_list {
    uint32_t head, tail, count;
};

struct sc_slots {
    struct sc_slot *_Nullable entries;
    uint32_t capacity, used, free_head, count_max;
    uint32_t fresh; // From here on they were never used, and have no contents.
};

// ---- Messages

#pragma clang assume_nonnull end
struct sc_mailbox {
    _Alignas(64) struct sc_loop_message *_Atomic tail; // Producers put here.
    _Atomic bool sleeping; // The consumer's; the producer that takes it back wakes.
    _Atomic uint32_t
        posting; // Producers at work: the loop cannot end before they are done with it.
    _Alignas(64) struct sc_loop_message *head; // The consumer's.
    struct sc_loop_message stub;
};
#pragma clang assume_nonnull begin

// ---- The loop

/// Senders that all have more at hand than they are given make turns long, and fill all receive buffers before the
/// others come. A loop whose turns are too long because of receives gives each socket one buffer a turn, and receives
/// of it once instead of again and again: the backend then fills no more buffers for a socket than its share.
struct sc_contention {
    uint32_t received;   // Bytes in this turn.
    uint32_t next_look;  // At the clock, when so many have been received.
    uint32_t calm_turns; // In a row.
    bool contended;
};

enum sc_phase { SC_PHASE_OUTSIDE, SC_PHASE_COMPLETIONS, SC_PHASE_TURN, SC_PHASE_FLUSH };

struct sc_loop {
    struct sc_backend *backend;
    struct sc_inbox inbox;
    struct sc_loop_config config;
    struct sc_loop_counters counters;
    uint64_t monotonic_ns, unix_ms; // Of this turn.
    uint64_t backend_due_ns; // When the backend wants a turn at the latest. 0: it does not mind.
    enum sc_phase phase;
    uint16_t turn;

    struct sc_contention contention;
    struct sc_slots slots;
    struct sc_slot_list starved;     // Sockets whose receive ended for want of buffers,
    struct sc_slot_list passed_over; // and those of them that had not got one: served first.
    struct sc_slot_list accept_idle; // Listeners that wait for descriptors.
    struct sc_timer accept_timer;

    uint32_t tries_in_flight; // SC_SEND_TRY started and not run.
    uint32_t tries_in_inbox;

    struct sc_timer *_Nonnull *_Nullable timers;
    uint32_t timer_count, timer_capacity;

    struct sc_mailbox mailbox;
    char reason[SC_LOOP_REASON_SIZE]; // Why it is this backend.
};

/// The loop of the calling thread.
extern _Thread_local struct sc_loop *_Nullable sc_loop_current;

static inline uint64_t sc_slot_tag(const struct sc_loop *loop, enum sc_kind kind, uint32_t slot) {
    return sc_tag(kind, (uint64_t)loop->slots.entries[slot].generation << 32 | slot);
}
static inline uint64_t sc_now_ns(const struct sc_loop *loop) {
    return loop->backend->kind->clock_ns(loop->backend, CLOCK_MONOTONIC);
}

// ---- slot.c

/// Errors: -ENFILE, -ENOMEM
SC_CHECKED int sc_slot_take(struct sc_loop *loop, void *owner, uint32_t *out);
void sc_slot_give(struct sc_loop *loop, uint32_t slot);
/// The owner of the slot that a completion names, or NULL when it is gone.
void *_Nullable sc_slot_owner(const struct sc_loop *loop, uint64_t tag);
void sc_slot_list_append(struct sc_loop *loop, struct sc_slot_list *list, uint32_t slot);
void sc_slot_list_remove(struct sc_loop *loop, struct sc_slot_list *list, uint32_t slot);

// ---- contention.c

static inline void sc_contention_begin_turn(struct sc_loop *loop) {
    loop->contention.received = 0;
    loop->contention.next_look = SC_CONTENTION_LOOK_BYTES;
}
/// Looks at the clock. Called when `received` has reached `next_look`.
void sc_contention_look(struct sc_loop *loop);
/// After the receives of a turn of a contended loop.
void sc_contention_end_turn(struct sc_loop *loop);

// ---- socket.c

/// Runs one completion of a socket. False: it has to wait for the next turn, in its order.
SC_CHECKED bool sc_socket_run(struct sc_loop *loop, struct sc_socket *socket,
                              const struct sc_completion *completion);
/// Starts receiving again where buffers had run out, as far as there are buffers now.
void sc_socket_serve_starved(struct sc_loop *loop);

// ---- listener.c, timer.c

void sc_listener_run(struct sc_loop *loop, struct sc_listener *listener,
                     const struct sc_completion *completion);
void sc_listener_init(struct sc_loop *loop);
void sc_timer_run_due(struct sc_loop *loop);
/// Nanoseconds to the next timer, UINT64_MAX without one.
uint64_t sc_timer_next_ns(const struct sc_loop *loop);

// ---- mailbox.c

void sc_mailbox_init(struct sc_mailbox *mailbox);
/// Nothing is queued, nor about to be.
bool sc_mailbox_is_empty(struct sc_mailbox *mailbox);
void sc_mailbox_run(struct sc_loop *loop, uint32_t limit);
/// Says that the loop is about to sleep. False when a message came in between: it must not.
SC_CHECKED bool sc_mailbox_sleep(struct sc_mailbox *mailbox);
void sc_mailbox_awake(struct sc_mailbox *mailbox);
/// Runs what is left, and returns when no producer is at work any more.
void sc_mailbox_end(struct sc_loop *loop);

#pragma clang assume_nonnull end

#endif
