// What the files of the loop share. Only loop_uring.c talks to the ring; the others ask it for an entry,
// fill it in, and get its completion by kind.
#ifndef CSTREAM_LOOP_PRIVATE_H
#define CSTREAM_LOOP_PRIVATE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "CStreamLoop.h"

#include <liburing.h>
#include <sys/socket.h>

#pragma clang assume_nonnull begin

#define SC_RING_ENTRIES 1024u
#define SC_RING_COMPLETIONS 4096u
#define SC_RING_BUFFER_GROUP 1
/// Pause after which the memory of receive buffers is given back, if fewer than all were used in it.
#define SC_RING_TRIM_MS 500u
/// Attempts to submit while the kernel says -EAGAIN or -EBUSY. Then the ring counts as broken.
#define SC_RING_SUBMIT_ATTEMPTS_MAX 1000u
/// Completions that a turn waits for while the kernel has more at hand: it makes about 20 a call.
#define SC_RING_GATHER_MAX 256u
#define SC_RING_GATHER_CALLS_MAX 16u
/// Bytes between two looks at the clock while receives run.
#define SC_CONTENTION_LOOK_BYTES (64u << 10)
/// A contended loop calms down after so many turns in a row whose receives took a quarter of the limit at most.
#define SC_CONTENTION_CALM_TURNS 1000u

_Static_assert(SC_LOOP_SENDS_PER_SLICE * 2 <= SC_RING_ENTRIES,
               "a slice of sends goes out in one submit");
_Static_assert(SC_LOOP_SENDS_PER_SLICE * 2 <= SC_RING_COMPLETIONS,
               "and comes back without overflow");

// ---- Completions

/// What a completion is for: the top 4 bits of its user data.
enum sc_kind {
    SC_KIND_NONE,        // Nobody waits for it.
    SC_KIND_WOKEN,       // A message of another ring.
    SC_KIND_WAKE_FAILED, // A message to another ring did not arrive. Low bits: the id of its loop.
    SC_KIND_EVENT,       // The eventfd was written to.
    SC_KIND_FILE,        // Low bits: the address of the operation, which stays put until now.
    SC_KIND_ACCEPT,      // From here on: slot and generation.
    SC_KIND_CANCEL_ACCEPT,
    SC_KIND_LISTENER_CLOSED,
    SC_KIND_RECEIVE,
    SC_KIND_CANCEL_RECEIVE,
    SC_KIND_SEND_TRY,
    SC_KIND_SEND_WAIT,
    SC_KIND_CANCEL_SEND,
    SC_KIND_SOCKET_CLOSED,
};
#define SC_KIND_SHIFT 60

struct sc_completion {
    uint64_t user_data;
    int32_t result;
    uint32_t flags;
};

/// Completions that left the ring and wait to be run, oldest first. Grows: it holds at most one completion
/// for each operation in flight, receive buffer and descriptor of the process.
struct sc_inbox {
    struct sc_completion *_Nullable entries;
    uint32_t head, count, capacity; // `capacity` is a power of two.
};

static inline struct sc_completion *sc_inbox_at(const struct sc_inbox *inbox, uint32_t index) {
    assert(index < inbox->count);
    return &inbox->entries[(inbox->head + index) & (inbox->capacity - 1)];
}

// ---- Slots: what user data names. A slot that is used again has a new generation.

#define SC_SLOT_NONE UINT32_MAX
#define SC_MESSAGE_NONE UINT16_MAX

struct sc_slot {
    void *_Nullable owner; // A socket or a listener. NULL: free.
    uint32_t next, prev;   // Of the one list it is in, or of the free ones.
    uint16_t generation;
    uint16_t message; // The entry of the message pool that its send in flight uses.
};

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

/// The header and pieces of a send in flight: the kernel reads them, so they lie in a pool.
struct sc_send_message {
    struct msghdr header;
    struct iovec pieces[SC_LOOP_SEND_PIECES_MAX];
};

/// Senders that all have more at hand than they are given make turns long, and fill all receive buffers before the
/// others come. A loop whose turns are too long because of receives gives each socket one buffer a turn, and receives
/// of it once instead of again and again: the kernel then takes no more buffers for a socket than its share.
struct sc_contention {
    uint32_t received;   // Bytes in this turn.
    uint32_t next_look;  // At the clock, when so many have been received.
    uint32_t calm_turns; // In a row.
    bool contended;
};

enum sc_phase { SC_PHASE_OUTSIDE, SC_PHASE_COMPLETIONS, SC_PHASE_TURN, SC_PHASE_FLUSH };

struct sc_loop {
    struct io_uring ring;
    struct io_uring_sqe spare; // Takes what is prepared once the ring is broken.
    struct sc_inbox inbox;
    struct sc_loop_config config;
    struct sc_loop_counters counters;
    uint64_t monotonic_ns, unix_ms;
    uint64_t
        missing_ns; // What completes in this turn had not done so then; after a sleep: the turn's time.
    int error;      // Not 0: the ring is broken.
    uint32_t enter_flags;
    enum sc_phase phase;
    uint16_t turn;
    bool ring_messages;

    struct io_uring_buf_ring *buffer_ring;
    uint8_t *buffers;
    uint32_t buffers_out;   // Not in the buffer ring, as far as completions were reaped.
    uint64_t trim_ns;       // When their memory may be given back; 0: nothing has come since.
    uint64_t trim_receives; // The counter then.

    struct sc_contention contention;
    struct sc_slots slots;
    struct sc_slot_list starved;     // Sockets whose receive ended for want of buffers,
    struct sc_slot_list passed_over; // and those of them that had not got one: served first.
    struct sc_slot_list accept_idle; // Listeners that wait for descriptors.
    struct sc_timer accept_timer;
    uint32_t files_in_flight;
    struct sc_write_way write_way;

    struct sc_send_message *messages;
    uint16_t *free_messages;
    uint32_t free_message_count;
    uint32_t tries_in_flight; // SC_SEND_TRY prepared and not run.
    uint32_t tries_in_inbox;

    struct sc_timer *_Nonnull *_Nullable timers;
    uint32_t timer_count, timer_capacity;

    struct sc_mailbox mailbox;
    int event_fd;
    bool event_armed;
    uint64_t event_value;
    uint64_t id; // Never used twice in a process.
    struct sc_loop *_Nullable next_live, *_Nullable prev_live;
    char description[128];
};

/// The loop of the calling thread.
extern _Thread_local struct sc_loop *_Nullable sc_loop_current;

// ---- sched.c

/// Asks for such a slice for the calling thread, unless it has a longer one.
void sc_sched_give_way(uint32_t slice_us);

// ---- loop_uring.c: the ring

SC_CHECKED int sc_ring_open(struct sc_loop *loop);
/// Cancels what the loop itself has in flight, waits for it, and frees the ring.
void sc_ring_close(struct sc_loop *loop);
/// An entry to fill in. Never NULL; on a broken ring it leads nowhere.
struct io_uring_sqe *sc_ring_entry(struct sc_loop *loop);
/// The next `count` entries are submitted together, unless the ring is broken.
void sc_ring_make_room(struct sc_loop *loop, uint32_t count);
void sc_ring_cancel(struct sc_loop *loop, enum sc_kind kind, enum sc_kind target, uint32_t slot);
/// Submits, and sleeps for a completion: at most `timeout_ns`, or for ever when that is UINT64_MAX. With 0
/// it only looks.
void sc_ring_wait(struct sc_loop *loop, uint64_t timeout_ns);
void sc_ring_submit(struct sc_loop *loop);
/// Entries that the kernel has not taken yet.
uint32_t sc_ring_unsubmitted(const struct sc_loop *loop);
/// Moves the completions of the ring to the inbox.
void sc_ring_reap(struct sc_loop *loop);
/// Takes the oldest completion off the ring.
bool sc_ring_take(struct sc_loop *loop, struct sc_completion *out);
void sc_inbox_put(struct sc_loop *loop, const struct sc_completion *completion);
/// Whether the kernel says that it has completions to make.
bool sc_ring_has_more(const struct sc_loop *loop);
/// Whether sc_ring_wait would find completions without sleeping.
bool sc_ring_ready(const struct sc_loop *loop);
uint32_t sc_ring_buffers_quarter(const struct sc_loop *loop);
uint32_t sc_ring_buffers_free(const struct sc_loop *loop);
void sc_ring_give_buffer(struct sc_loop *loop, uint32_t id);
/// Gives the memory of the receive buffers back once little has come for a while. The kernel takes buffers in
/// turn, so that all get touched, however few are needed.
void sc_ring_trim_buffers(struct sc_loop *loop);
void sc_ring_arm_event(struct sc_loop *loop);

static inline uint8_t *sc_ring_buffer(const struct sc_loop *loop, uint32_t id) {
    assert(id < loop->config.receive_buffer_count);
    return loop->buffers + (size_t)id * loop->config.receive_buffer_size;
}

static inline uint64_t sc_tag(enum sc_kind kind, uint64_t value) {
    return (uint64_t)kind << SC_KIND_SHIFT | value;
}
static inline enum sc_kind sc_tag_kind(uint64_t user_data) {
    return (enum sc_kind)(user_data >> SC_KIND_SHIFT);
}
static inline uint64_t sc_tag_value(uint64_t user_data) {
    return user_data & ((uint64_t)1 << SC_KIND_SHIFT) - 1;
}
static inline uint64_t sc_slot_tag(const struct sc_loop *loop, enum sc_kind kind, uint32_t slot) {
    return sc_tag(kind, (uint64_t)loop->slots.entries[slot].generation << 32 | slot);
}

// ---- slot.c

/// Errors: -ENFILE, -ENOMEM
SC_CHECKED int sc_slot_take(struct sc_loop *loop, void *owner, uint32_t *out);
void sc_slot_give(struct sc_loop *loop, uint32_t slot);
/// The owner of the slot that a completion names, or NULL when it is gone.
void *_Nullable sc_slot_owner(const struct sc_loop *loop, uint64_t user_data);
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
SC_CHECKED int sc_socket_pool_open(struct sc_loop *loop);
void sc_socket_pool_close(struct sc_loop *loop);

// ---- listener.c, file.c, timer.c

void sc_listener_run(struct sc_loop *loop, struct sc_listener *listener,
                     const struct sc_completion *completion);
void sc_listener_init(struct sc_loop *loop);
void sc_file_run(struct sc_loop *loop, const struct sc_completion *completion);
void sc_timer_run_due(struct sc_loop *loop);
/// Nanoseconds to the next timer, UINT64_MAX without one.
uint64_t sc_timer_next_ns(const struct sc_loop *loop);
uint64_t sc_clock_ns(clockid_t clock);

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
/// Enters and leaves the list of live loops, where failed wake-ups look for their target.
void sc_live_insert(struct sc_loop *loop);
void sc_live_remove(struct sc_loop *loop);
void sc_live_wake(uint64_t id);

// ---- explain.c

/// Remembers for sc_loop_explain at what sc_loop_create failed. Returns `rc`.
int sc_explain_failure(const char *step, int rc);

#pragma clang assume_nonnull end

#endif
