// The backend over epoll, as its files share it: for a kernel, or a container, that has no io_uring for us.
//
// epoll says when a descriptor is ready; the calls are made here. Each descriptor is added once, edge-triggered, for all
// that may happen to it. So pausing and resuming a receive, and waiting for room to send, cost no system call, and closing
// takes the descriptor out. A flag remembers what has been said and not been used up.
//
// - A send is made with the next `submit`, a receive when completions are taken. A receive buffer is taken for the call and
//   belongs to nobody before it: connections that say nothing have none.
// - Sockets that are ready stand in one line. Each gets one receive, and goes to the end of the line while more may be there.
// - Operations on files go to a few threads (pool.c). A loop without files has no such thread.
//
// One thread, that of the loop, uses all of this. Two parts belong to others as well: `wake` writes to the eventfd, which never
// changes after `open`, and the threads of the pool take jobs and give them back.
#ifndef CSTREAM_LOOP_EPOLL_H
#define CSTREAM_LOOP_EPOLL_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "backend.h"

#include <pthread.h>
#include <stdatomic.h>

#pragma clang assume_nonnull begin

/// Events taken by one system call.
#define SC_EPOLL_EVENTS_MAX 256u
/// Receives that a socket gets in one turn, as far as its bytes and the buffers last. The rest follows in the next one.
#define SC_EPOLL_RECEIVES_PER_TURN 16u
/// Connections accepted before others in the line are served.
#define SC_EPOLL_ACCEPTS_MAX 16u
/// Threads of one loop that wait for files: one for the write of the log, the others for what may take its time beside it
/// (the next segment, a snapshot).
#define SC_EPOLL_THREADS_MAX 4u
/// Bytes of the stack of such a thread. It only makes system calls.
#define SC_EPOLL_THREAD_STACK (256u << 10)

/// What a descriptor is at: `backend_flags` of its slot.
enum {
    SLOT_ADDED = 1,    // To epoll.
    SLOT_READABLE = 2, // As far as is known. Cleared when a call has found nothing more.
    SLOT_READ_ON =
        4, // The end, an error or urgent data is ahead: fewer bytes than asked for do not mean no more.
    SLOT_RECEIVING = 8,    // A receive is in flight,
    SLOT_ONCE = 16,        // that ends after one buffer,
    SLOT_UNSERVED = 32,    // and has not been tried yet.
    SLOT_ACCEPTING = 64,   // An accept is in flight.
    SLOT_WAITING = 128,    // A send waits for room,
    SLOT_CONNECTING = 256, // or is a connect, without bytes.
    SLOT_LISTED = 512,     // In the line. Outlives the descriptor: leaving the line takes a search.
    SLOT_USED = 1024,      // There is a descriptor, `backend_fd`.
};

/// A send that waits for room. The bytes are its owner's, until the completion. The hash is the slot.
struct waiting_send {
    struct sc_table_node node;
    struct sc_bytes bytes;
};

/// A send that is made with the next `submit`: one right after another they find more of the kernel's path in the
/// processor's caches than each in the middle of our own work would.
struct prepared_send {
    uint64_t tag;
    struct sc_bytes first; // The others are in `pieces` of the same index.
    int32_t fd;
    uint32_t count;
};

/// Slots that are ready, the first to be served first. `capacity` is a power of two; a slot is in it once.
struct line {
    uint32_t *_Nullable slots;
    uint32_t head, count, capacity;
};

/// Completions that nobody has taken yet, oldest first. `capacity` is a power of two.
struct finished {
    struct sc_completion *_Nullable entries;
    uint32_t head, count, capacity;
};

/// An operation on a file, and what it came to. Belongs to the loop's thread, but between `sc_epoll_pool_put` and being
/// taken back, when it is a pool thread's.
struct job {
    struct job *_Nullable next;
    struct sc_file_op *op;
    const char *_Nullable path, *_Nullable other_path;
    void *_Nullable data;
    uint64_t offset, size;
    int32_t fd, flags;
    uint32_t mode;
    enum sc_file_kind kind;
    bool linked; // A write whose flush is a call of its own.
    ssize_t result;
};

struct pool {
    pthread_mutex_t lock; // Guards all of it but `done`.
    pthread_cond_t work;
    struct job *_Nullable first, *_Nullable last; // Nobody has begun them.
    uint32_t waiting, idle, count;                // Those jobs; threads without one; threads.
    bool open, ending;
    pthread_t threads[SC_EPOLL_THREADS_MAX];
#pragma clang assume_nonnull end
    struct job *_Atomic done; // The last one first. Threads put, the loop takes all.
#pragma clang assume_nonnull begin
};

struct epoll {
    struct sc_backend base;
    int fd, event_fd;
    struct line line;
    uint32_t round_left;                      // Slots of the line that this round has yet to serve,
    uint32_t rounds_left;                     // and the rounds of this turn that have not begun.
    bool taking;                              // This turn may still receive.
    bool starved;                             // Buffers have run out in this turn.
    bool rounded_waits;                       // The kernel knows no nanoseconds to wait for.
    struct prepared_send *_Nullable prepared; // SC_LOOP_SENDS_PER_SLICE,
    struct sc_bytes (*_Nullable pieces)[SC_LOOP_SEND_PIECES_MAX]; // and as many of these.
    uint32_t prepared_count;
    struct sc_table sends; // Those that wait.
    struct sc_table_node *_Nullable spare_sends;
    struct finished finished;
    uint16_t *_Nullable free_buffers; // The one given back last is lent next: it is warm.
    uint32_t free_count;
    struct sc_trim trim;
    struct job *_Nullable spare_jobs;
    struct pool pool;
};

static inline struct epoll *sc_epoll_of(struct sc_backend *backend) {
    return (struct epoll *)(void *)backend;
}

// ---- poll.c

/// Adds the descriptor of `slot` to epoll, unless it has been. 0 or -errno.
SC_CHECKED int sc_epoll_add(struct epoll *epoll, uint32_t index, struct sc_slot *slot);
/// Puts a slot in the line, at its end, unless it is in it.
void sc_epoll_line_up(struct epoll *epoll, uint32_t index, struct sc_slot *slot);
/// Queues a completion.
void sc_epoll_finish(struct epoll *epoll, uint64_t tag, int32_t result, uint32_t flags);
void sc_epoll_wake(struct sc_backend *to, struct sc_backend *_Nullable from);
static inline uint64_t sc_epoll_tag(uint32_t index, const struct sc_slot *slot, enum sc_kind kind) {
    return sc_tag(kind, (uint64_t)slot->generation << 32 | index);
}

// ---- sockets.c

void sc_epoll_accept(struct sc_backend *backend, int fd, uint64_t tag);
void sc_epoll_receive(struct sc_backend *backend, int fd, bool once, uint64_t tag);
void sc_epoll_send(struct sc_backend *backend, int fd, const struct sc_bytes *pieces,
                   uint32_t count, enum sc_send_mode mode, uint64_t tag);
void sc_epoll_connect(struct sc_backend *backend, int fd, const struct sockaddr *address,
                      uint32_t size, uint64_t tag);
void sc_epoll_cancel(struct sc_backend *backend, int fd, uint64_t target, uint64_t tag);
void sc_epoll_close_socket(struct sc_backend *backend, int fd, bool abort, uint64_t tag);
void sc_epoll_give_buffer(struct sc_backend *backend, uint32_t buffer);
/// Serves one that was in the line. Writes at most `most` completions (not 0) to `out`, and returns how many.
uint32_t sc_epoll_serve(struct epoll *epoll, uint32_t index, struct sc_completion *out,
                        uint32_t most);
/// Makes the sends that were prepared.
void sc_epoll_submit(struct sc_backend *backend);
/// There may be room for the send that waits, or a connect has come to an end.
void sc_epoll_writable(struct epoll *epoll, uint32_t index, struct sc_slot *slot);

// ---- pool.c

SC_CHECKED int sc_epoll_pool_open(struct epoll *epoll);
/// Ends the threads, which bring to an end what they have begun.
void sc_epoll_pool_close(struct epoll *epoll);
/// Consumes `job` until sc_epoll_pool_take gives it back.
void sc_epoll_pool_put(struct epoll *epoll, struct job *job);
/// Queues the completions of jobs that are done.
void sc_epoll_pool_take(struct epoll *epoll);
static inline bool sc_epoll_pool_has_done(const struct epoll *epoll) {
    return atomic_load_explicit(&epoll->pool.done, memory_order_relaxed) != NULL;
}

// ---- file.c

extern const struct sc_file_ops sc_epoll_files;
/// Does what the job says, and waits for it.
/// Thread: any; the job is the caller's.
void sc_epoll_job_run(struct job *job);

#pragma clang assume_nonnull end

#endif
