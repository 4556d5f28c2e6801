// The backend over io_uring, as its files share it. One thread, that of the loop, uses it; `wake` alone comes from others and
// reads what never changes after `open`.
#ifndef CSTREAM_LOOP_URING_H
#define CSTREAM_LOOP_URING_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "backend.h"

#include <liburing.h>
#include <sys/socket.h>

#pragma clang assume_nonnull begin

#define SC_RING_ENTRIES 1024u
#define SC_RING_COMPLETIONS 4096u
#define SC_RING_BUFFER_GROUP 1
/// Attempts to submit while the kernel says -EAGAIN or -EBUSY. Then the ring counts as broken.
#define SC_RING_SUBMIT_ATTEMPTS_MAX 1000u
/// Completions that a turn waits for while the kernel has more at hand: it makes about 20 a call.
#define SC_RING_GATHER_MAX 256u
#define SC_RING_GATHER_CALLS_MAX 16u

_Static_assert(SC_LOOP_SENDS_PER_SLICE * 2 <= SC_RING_ENTRIES,
               "a slice of sends goes out in one submit");
_Static_assert(SC_LOOP_SENDS_PER_SLICE * 2 <= SC_RING_COMPLETIONS,
               "and comes back without overflow");

/// What a completion of SC_KIND_OWN is for: the next 4 bits of its tag.
enum uring_own {
    URING_WOKEN,       // A message of another ring.
    URING_WAKE_FAILED, // A message to another ring did not arrive. Low bits: the id of its loop.
    URING_EVENT,       // The eventfd was written to.
    URING_PAGES,       // Low bits: the address of a write of pages,
    URING_PAGES_FLUSH, // and the sync that follows it.
};
#define URING_OWN_SHIFT 56

static inline uint64_t uring_own(enum uring_own what, uint64_t value) {
    assert(value >> URING_OWN_SHIFT == 0);
    return sc_tag(SC_KIND_OWN, (uint64_t)what << URING_OWN_SHIFT | value);
}
static inline enum uring_own uring_own_of(uint64_t tag) {
    return (enum uring_own)(sc_tag_value(tag) >> URING_OWN_SHIFT);
}
static inline uint64_t uring_own_value(uint64_t tag) {
    return tag & ((uint64_t)1 << URING_OWN_SHIFT) - 1;
}

/// The header and pieces of a send: the kernel reads them when it is submitted.
struct uring_message {
    struct msghdr header;
    struct iovec pieces[SC_LOOP_SEND_PIECES_MAX];
};

struct uring {
    struct sc_backend base;
    struct io_uring ring;
    struct io_uring_sqe spare; // Takes what is prepared once the ring is broken.
    uint32_t enter_flags;
    bool ring_messages; // Never changes after `open`: other threads read it.
    bool event_armed;
    int event_fd;
    uint64_t event_value;
    struct io_uring_buf_ring *_Nullable buffer_ring;
    struct sc_trim trim;
    struct uring_message *_Nullable messages; // SC_LOOP_SENDS_PER_SLICE, used in turn.
    uint32_t message_next;
    struct sc_write_way write_way;
    uint64_t id; // Never used twice in a process. 0: not among the live ones.
    struct uring *_Nullable next_live, *_Nullable prev_live;
};

static inline struct uring *uring_of(struct sc_backend *backend) {
    return (struct uring *)(void *)backend;
}

// ---- ring.c

struct io_uring_sqe *uring_entry_of_full(struct uring *uring);
/// An entry to fill in. Never NULL; on a broken ring it leads nowhere. Inline: each send takes one.
static inline struct io_uring_sqe *uring_entry(struct uring *uring) {
    struct io_uring_sqe *sqe =
        uring->base.error == 0 ? io_uring_get_sqe(&uring->ring) : &uring->spare;
    return sqe != NULL ? sqe : uring_entry_of_full(uring);
}
/// The next `count` entries are submitted together, unless the ring is broken.
void uring_make_room(struct uring *uring, uint32_t count);
void uring_submit(struct sc_backend *backend);
/// Entries that the kernel has not taken yet.
uint32_t uring_unsubmitted(const struct uring *uring);
void uring_wait(struct sc_backend *backend, uint64_t timeout_ns);
uint32_t uring_take(struct sc_backend *backend, struct sc_completion *out, uint32_t most);
/// Waits for one completion while nothing but the set up or the end uses the ring. Wake-ups are passed over.
SC_CHECKED int uring_wait_for_one(struct uring *uring, struct sc_completion *out);

// ---- buffers.c

SC_CHECKED int uring_buffers_open(struct uring *uring);
void uring_buffers_close(struct uring *uring);
void uring_give_buffer(struct sc_backend *backend, uint32_t id);
/// Gives the memory of the receive buffers back once little has come for a while. The kernel takes buffers in
/// turn, so that all get touched, however few are needed.
uint64_t uring_end_turn(struct sc_backend *backend);

// ---- wake.c

SC_CHECKED int uring_wake_open(struct uring *uring);
void uring_wake_close(struct uring *uring);
void uring_wake(struct sc_backend *to, struct sc_backend *_Nullable from);
void uring_run_event(struct uring *uring, int32_t result);
void uring_run_wake_failed(uint64_t id);

// ---- file.c

extern const struct sc_file_ops uring_files;
void uring_run_pages(struct uring *uring, const struct sc_completion *completion);

// ---- explain.c

void uring_explain(int rc, const char *_Nullable step, char *out, size_t size);

#pragma clang assume_nonnull end

#endif
