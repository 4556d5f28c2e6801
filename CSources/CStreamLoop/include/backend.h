// What a loop needs of the kernel, behind one table: io_uring fills it in uring/, epoll in epoll/, and a test fills it with
// memory and a clock that it sets itself. Nothing on the loop's side of this header knows which one runs.
//
// The contract is that of operations and completions. The loop starts an operation under a tag; later its completion comes
// with that tag. An operation that goes on (accepting, receiving) completes again and again, and says `more` until the last
// time. A backend that is told of readiness instead (epoll) fits: it keeps the tag by slot, does the call when the
// descriptor is ready, and queues the completion until it is taken. Files there go to a few threads that wait in its place.
// The number of calls for each message is small and fixed: completions are taken many at a time, submitting is once a turn.
//
// When an operation takes effect is open: a send may have left when it is started, or leave with the next `submit`. Its
// completion is never run before the loop takes it, so that no call of this table calls back.
//
// The low 32 bits of the tag of a socket or listener are its slot, the next 16 the generation of that. Slots are small
// numbers below `socket_count_max`, and each has a little room for the backend (struct sc_slot). From its first operation
// until the completion of `close_socket` a slot stands for one descriptor.
//
// How a backend does it is its own business: rings, lists of buffers that the kernel fills, writes that are linked, wake-ups
// by ring or by descriptor. Completions of that business carry SC_KIND_OWN and come back to it by `run`.
//
// Thread: all functions but `wake` run on the loop's thread. None of them calls back into who uses the loop, but for `run`.
#ifndef CSTREAM_LOOP_BACKEND_H
#define CSTREAM_LOOP_BACKEND_H

#include <assert.h>
#include <errno.h>
#include <time.h>

#include "CStreamLoop.h"

#pragma clang assume_nonnull begin

struct sockaddr;

// ---- Completions

/// What a completion is for: the top 4 bits of its tag.
enum sc_kind {
    SC_KIND_NONE,   // Nobody waits for it.
    SC_KIND_OWN,    // The backend's own. The low bits are its, too.
    SC_KIND_FILE,   // Low bits: the address of the operation, which stays put until now.
    SC_KIND_ACCEPT, // From here on: slot and generation.
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

static inline uint64_t sc_tag(enum sc_kind kind, uint64_t value) {
    return (uint64_t)kind << SC_KIND_SHIFT | value;
}
static inline enum sc_kind sc_tag_kind(uint64_t tag) {
    return (enum sc_kind)(tag >> SC_KIND_SHIFT);
}
static inline uint64_t sc_tag_value(uint64_t tag) {
    return tag & ((uint64_t)1 << SC_KIND_SHIFT) - 1;
}

struct sc_completion {
    uint64_t tag;
    int32_t result; // As the system call's; -errno on failure.
    uint32_t flags; // Those below; the top 16 bits are the number of the buffer.
};
// The values are those of io_uring, so that its completions are copied as they are.
#define SC_COMPLETION_BUFFER 1u // The bytes are in a lent buffer, which the loop gives back.
#define SC_COMPLETION_MORE 2u   // The operation goes on.
#define SC_COMPLETION_BUFFER_SHIFT 16

static inline bool sc_completion_has_buffer(const struct sc_completion *completion) {
    return (completion->flags & SC_COMPLETION_BUFFER) != 0;
}
static inline uint32_t sc_completion_buffer(const struct sc_completion *completion) {
    return completion->flags >> SC_COMPLETION_BUFFER_SHIFT;
}
static inline bool sc_completion_goes_on(const struct sc_completion *completion) {
    return (completion->flags & SC_COMPLETION_MORE) != 0;
}

// ---- Slots

/// What a tag names, as long as something is open. The array of them moves when one is taken: nobody keeps its address.
struct sc_slot {
    void *_Nullable owner; // A socket or a listener. NULL: free.
    uint32_t next, prev;   // Of the one list it is in, or of the free ones.
    uint16_t generation;   // One that is used again has the next.
    // The backend's, in what would be padding: an idle connection takes no more for it. Zero at first; the loop never
    // touches them, also when a slot is used again.
    uint16_t backend_flags;
    int32_t backend_fd;
};

// ---- A backend

struct sc_backend_kind;

/// The first member of a backend's own structure. The loop reads it without a call.
struct sc_backend {
    const struct sc_backend_kind *kind;
    struct sc_loop *loop;
    const struct sc_loop_config *config; // With its defaults filled in.
    struct sc_loop_counters *counters;   // The loop's: each side counts what it does.
    /// What completes in this turn had not done so at that time. After a sleep: the time of the turn. The loop writes it.
    uint64_t missing_ns;
    int error; // Not 0: it is broken, for good. No operation completes any more.
    /// What receives are lent: `receive_buffer_count` of `receive_buffer_size` bytes. The backend maps and unmaps it.
    uint8_t *_Nullable buffers;
    uint32_t buffers_out; // Lent, as far as completions were taken.
    uint32_t files_in_flight;
    char description[128]; // For the start-up log.
};

enum {
    SC_BACKEND_READY = 1, // `take` has completions.
    SC_BACKEND_MORE = 2,  // The kernel would make some, if `wait` asked it to.
};

struct sc_backend_kind {
    const char *name;
    /// Makes a backend of this kind for the calling thread: `base` is copied to its front. `*out` is set before anything may
    /// call sc_loop_reap. On failure nothing is left, and `*out` counts for nothing.
    /// Errors: as sc_loop_create's; `sc_explain_failure` has the step.
    int (*open)(const struct sc_backend *base, struct sc_backend *_Nullable *_Nonnull out);
    /// Lets wake-ups for other loops leave, cancels what is its own, and frees it. All else is over, or it is broken.
    void (*close)(struct sc_backend *);
    /// See sc_loop_explain.
    void (*explain)(int rc, const char *_Nullable step, char *out, size_t out_size);

    // Operations on sockets. Each has one completion with `tag`, unless it says something else.

    /// Completes with a descriptor each, and `more`, until an error or a cancel.
    void (*accept)(struct sc_backend *, int fd, uint64_t tag);
    /// Completes with bytes in a lent buffer, and `more`. 0 is the end of the stream. When all buffers are out, it either
    /// waits until some are back, and counts that, or completes with -ENOBUFS without `more`: then the loop starts it again
    /// when enough are back. `once`: it ends after one buffer.
    void (*receive)(struct sc_backend *, int fd, bool once, uint64_t tag);
    /// Bytes that the socket took, maybe fewer than there are. `pieces` is copied, the bytes stay put until the
    /// completion. With SC_SEND_TRY it completes in the next `submit` at the latest; with SC_SEND_WAIT, which has one
    /// piece, once the socket takes a byte.
    void (*send)(struct sc_backend *, int fd, const struct sc_bytes *pieces, uint32_t count,
                 enum sc_send_mode mode, uint64_t tag);
    /// `address` stays put until the completion.
    void (*connect)(struct sc_backend *, int fd, const struct sockaddr *address, uint32_t size,
                    uint64_t tag);
    /// Ends the operation of `target` on `fd` early: it completes as ever, with -ECANCELED if nothing better has come.
    /// The cancel itself completes, with an error, only when it found nothing to end.
    void (*cancel)(struct sc_backend *, int fd, uint64_t target, uint64_t tag);
    /// Nothing else of `fd` is in flight. `abort`: with a TCP reset.
    void (*close_socket)(struct sc_backend *, int fd, bool abort, uint64_t tag);
    /// At once, without a completion: FIN follows what was sent.
    void (*shutdown)(struct sc_backend *, int fd);
    /// Bytes that the peer has not acknowledged.
    uint32_t (*unacknowledged)(struct sc_backend *, int fd);
    /// The loop is done with the bytes of a lent buffer.
    void (*give_buffer)(struct sc_backend *, uint32_t buffer);

    /// Operations on files; SC_KIND_FILE or SC_KIND_OWN. They count in `files_in_flight`; the loop counts down those of
    /// SC_KIND_FILE, the backend its own.
    const struct sc_file_ops *files;

    // The turn.

    /// Hands what was started to the kernel. Does not sleep.
    void (*submit)(struct sc_backend *);
    /// The same, and sleeps until there is a completion or a wake-up, at most `timeout_ns`; for ever with UINT64_MAX. With
    /// 0 it only looks.
    void (*wait)(struct sc_backend *, uint64_t timeout_ns);
    /// Of SC_BACKEND_READY and SC_BACKEND_MORE, as far as it is known without a system call. Each turn looks.
    unsigned (*look)(const struct sc_backend *);
    /// The same, by a system call, for a loop that polls instead of sleeping. NULL: `look` knows all.
    unsigned (*_Nullable look_by_call)(struct sc_backend *);
    /// Takes the oldest completions off the kernel's hands, at most `most`. Returns how many.
    uint32_t (*take)(struct sc_backend *, struct sc_completion *out, uint32_t most);
    /// Handles a completion of SC_KIND_OWN, in its order among the others. May run the `on_complete` of a file.
    void (*run)(struct sc_backend *, const struct sc_completion *completion);
    /// The end of a turn: small duties, such as giving idle memory back. Returns when it wants the next turn at the latest
    /// (monotonic ns), 0: it does not mind.
    uint64_t (*end_turn)(struct sc_backend *);
    /// Wakes a loop that sleeps or is about to; at once, or with the next `submit` of `from`. `from` is the backend of the loop of the calling thread, if it has one.
    /// Thread: any.
    void (*wake)(struct sc_backend *to, struct sc_backend *_Nullable from);
    /// CLOCK_MONOTONIC or CLOCK_REALTIME.
    uint64_t (*clock_ns)(const struct sc_backend *, clockid_t clock);
};

// ---- What the loop offers to its backend

/// Takes completions early, so that the kernel has room for those of what is to be submitted. They run in their order.
void sc_loop_reap(struct sc_loop *loop);
struct sc_backend *sc_loop_backend(const struct sc_loop *loop);
/// Makes this loop that of the calling thread, or none: for a test that runs several by turns on one thread. Returns the one
/// before.
struct sc_loop *_Nullable sc_loop_make_current(struct sc_loop *_Nullable loop);
/// Borrowed until the next callback.
struct sc_slot *sc_loop_slot(struct sc_loop *loop, uint32_t slot);
/// Remembers for sc_loop_explain at what sc_loop_create failed. Returns `rc`.
int sc_explain_failure(const char *step, int rc);
/// The system's clock.
uint64_t sc_clock_ns(clockid_t clock);
/// Asks for such a slice for the calling thread, unless it has a longer one.
void sc_sched_give_way(uint32_t slice_us);

// The memory of receive buffers, for a backend of the kernel's.

/// Maps `buffers`, as `config` says. 0 or -ENOMEM.
SC_CHECKED int sc_buffers_map(struct sc_backend *backend);
/// Does nothing when they are not mapped.
void sc_buffers_unmap(struct sc_backend *backend);
/// Pause after which the memory of receive buffers is given back, if fewer than all were used in it.
#define SC_BUFFERS_TRIM_MS 500u
struct sc_trim {
    uint64_t due_ns;   // When the memory may be given back; 0: nothing has come since.
    uint64_t receives; // The counter then.
};
/// Gives the memory back once little has come for a while, if `are_empty` says that no buffer holds anything. Returns when it
/// wants to be called again at the latest (monotonic ns), 0: it does not mind.
uint64_t sc_buffers_trim(struct sc_backend *backend, struct sc_trim *trim,
                         bool (*are_empty)(const struct sc_backend *backend));

// Calls that are the same with each backend of the kernel's.

/// FIN follows what was sent. For `shutdown`.
void sc_socket_end_stream(struct sc_backend *backend, int fd);
/// For `unacknowledged`.
uint32_t sc_socket_in_kernel(struct sc_backend *backend, int fd);
/// Closing it will be a TCP reset.
void sc_socket_reset_on_close(int fd);

// The operations of file_ops.h that wait or are done at once, for a backend of the kernel's.
int sc_file_list(struct sc_loop *loop, int directory_fd,
                 void (*body)(const char *name, void *context), void *context);
int64_t sc_file_size(struct sc_loop *loop, int fd);
int64_t sc_file_data(struct sc_loop *loop, int fd, uint64_t offset);
int64_t sc_file_links(struct sc_loop *loop, int fd);
int sc_file_direct(struct sc_loop *loop, int fd);
int sc_file_lock(struct sc_loop *loop, int fd);

#pragma clang assume_nonnull end

#endif
