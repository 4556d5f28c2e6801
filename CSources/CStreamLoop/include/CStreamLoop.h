// Sockets, files, timers and messages between threads on one event loop a thread. Nothing above this
// header knows which backend runs: see backend.h.
//
// A turn: submit, sleep when there is nothing to do, reap completions and run their callbacks, run
// messages, run due timers, call `on_turn`. What a turn prepared leaves with the next turn or with
// sc_loop_flush. Callbacks never re-enter: no call of this header runs another callback before it
// returns, but for sc_loop_flush, which runs `on_sent` only.
#ifndef CSTREAM_LOOP_H
#define CSTREAM_LOOP_H

#include "CStreamBase.h"
#include "write_way.h"

#pragma clang assume_nonnull begin

struct sc_loop;
struct sc_backend_kind;
/// The kernel's, by liburing and by epoll: see backend.h.
extern const struct sc_backend_kind sc_uring;
extern const struct sc_backend_kind sc_epoll;

/// By what a loop talks to the kernel.
enum sc_loop_io {
    SC_LOOP_IO_AUTO, // io_uring, or epoll where that is refused or too old.
    SC_LOOP_IO_URING,
    SC_LOOP_IO_EPOLL,
};
#define SC_LOOP_REASON_SIZE 512u

/// Kernel features that a loop uses when they are there.
enum sc_loop_feature {
    SC_LOOP_DEFER_TASKRUN = 1, // Completions are made only when the loop looks (Linux 6.1).
    SC_LOOP_RING_MESSAGES =
        2, // Loops wake each other by the ring, without an eventfd (Linux 5.18).
    SC_LOOP_FLUSHED_WRITES =
        4, // Pages are written and synced by one entry, unless that comes late.
};

struct sc_loop_config {
    uint32_t receive_buffer_size;  // Bytes of one lent receive buffer. Default 8192.
    uint32_t receive_buffer_count; // A power of two. Default 256.
    uint32_t
        receive_bytes_per_turn; // Given to one socket in one turn; the rest waits. Default 256 KiB.
    /// Receives that take longer than this in one turn make the loop contended. Default 1 ms.
    uint32_t contended_us;
    uint32_t socket_count_max; // Sockets and listeners. Default SC_LOOP_SOCKET_COUNT_MAX.
    uint32_t slice_us;         // Asked of the scheduler, for the thread. Default SC_LOOP_SLICE_US.
    uint32_t submit_max;       // Entries of one system call, in a loop without files. 0: all.
    uint32_t poll_us; // How long it looks for work before it sleeps. Default 0: not at all.
    uint32_t without; // Of enum sc_loop_feature: do without them, as on an older kernel.
    enum sc_loop_io io;
    const struct sc_backend_kind *_Nullable backend; // NULL: as `io` says.
    const char *_Nullable reason;    // Why that one. Copied; sc_loop_create sets it.
    void *_Nullable backend_context; // For a backend that is told more: a test's.
    void (*_Nullable on_turn)(void *_Nullable context); // After the callbacks of a turn.
    void *_Nullable context;
};

/// Makes a loop that belongs to the calling thread: all calls but sc_loop_post must come from it. A thread has one loop at
/// most (asserted). It asks the scheduler for longer slices. A number that is 0 in `config` takes its default.
///
/// Errors: -ENOSYS, -EPERM, -EINVAL, ...  the kernel refuses io_uring or is too old, and epoll was not to be taken
///                  instead: see sc_loop_explain.
///         -ENOMEM, -EMFILE, -ENFILE
SC_CHECKED int sc_loop_create(const struct sc_loop_config *config,
                              struct sc_loop *_Nullable *_Nonnull loop);
/// The same with this backend, whatever `config` says.
SC_CHECKED int sc_loop_create_with(const struct sc_backend_kind *backend,
                                   const struct sc_loop_config *config,
                                   struct sc_loop *_Nullable *_Nonnull loop);
/// Runs the messages that are left and frees a loop with nothing open in it (asserted).
void sc_loop_destroy(struct sc_loop *_Nullable loop);

/// Writes one sentence for an operator: why sc_loop_create failed with `rc` on this thread (kernel too
/// old, the sysctl kernel.io_uring_disabled, a seccomp filter such as a container's default profile,
/// memory lock limit) and the remedy. Returns `out`.
const char *sc_loop_explain(int rc, char *out, size_t out_size);
/// The same of sc_loop_create_with.
const char *sc_loop_explain_as(const struct sc_backend_kind *backend, int rc, char *out,
                               size_t out_size);
/// The backend and kernel features in use, for the start-up log: "io_uring (defer_taskrun, ...)".
const char *sc_loop_describe(const struct sc_loop *loop);
/// Why it is this backend: a part of a sentence, such as "the kernel has it".
const char *sc_loop_reason(const struct sc_loop *loop);

/// Runs one turn; sleeps at most until the next timer when there is nothing to do. Returns 0, also when
/// a signal ended the sleep, or -errno of a ring that is broken, for good.
SC_CHECKED int sc_loop_run_once(struct sc_loop *loop);
bool sc_loop_is_current(const struct sc_loop *loop);

/// The time of this turn: monotonic ns, and Unix ms of the wall clock. Read once a turn.
uint64_t sc_loop_monotonic_ns(const struct sc_loop *loop);
uint64_t sc_loop_unix_ms(const struct sc_loop *loop);
/// The monotonic time of now, for work that takes a good part of a turn.
uint64_t sc_loop_clock_ns(void);

/// Counters since creation, plain values of the loop thread. `enters` are system calls, `submissions` operations: with
/// io_uring a call has many of them, with epoll each has its call.
struct sc_loop_counters {
    uint64_t turns, enters, submissions, completions, receives, sends, accepts;
    uint64_t messages, wakeups_sent, receive_buffers_exhausted;
    uint64_t receive_buffers_trimmed; // How often their memory was given back.
    uint64_t receives_deferred;       // Put off to the next turn: their socket had its share.
    uint64_t turns_contended;         // Sockets got small shares, as receives had taken too long.
    uint64_t accepts_failed;          // For want of descriptors or memory; tried again.
    uint64_t writes_linked;           // Of pages, with a sync of its own: see write_way.h.
    uint64_t write_ways_changed;
    uint64_t polls, polls_in_vain; // Looks for work before a sleep, and those that found none.
    uint64_t polled_ns;            // How long it has looked.
};
const struct sc_loop_counters *sc_loop_counters(const struct sc_loop *loop);

// ---- Messages between threads

/// A message is embedded in what it carries. `run` is called once on the loop's thread and may free it.
struct sc_loop_message {
    struct sc_loop_message *_Nullable next; // The loop's.
    void (*run)(struct sc_loop_message *message);
};
/// Queues `message` for `loop` and wakes it if it sleeps. Messages of one thread run in their order. Never
/// fails and never waits: whoever posts holds a credit that bounds how many are under way.
///
/// Thread: any. From a thread with a loop the wake-up is a ring message, which leaves when that loop
///         next submits (sc_loop_run_once, sc_loop_flush, sc_loop_destroy); otherwise an eventfd.
void sc_loop_post(struct sc_loop *loop, struct sc_loop_message *message);

// ---- Timers

struct sc_timer {
    uint64_t due_ns; // 0: not running. The rest is the loop's.
    uint32_t heap_index;
    void (*_Nullable on_due)(struct sc_timer *timer);
};
/// Calls timer->on_due once, `delay_ms` from now; starting a running timer moves it. Never early.
/// Aborts the process only when memory is out (timers are few: one a shard and one a pending call).
void sc_timer_start(struct sc_loop *loop, struct sc_timer *timer, uint64_t delay_ms);
/// The same at a time of sc_loop_monotonic_ns's clock, for who needs better than a millisecond.
void sc_timer_start_at(struct sc_loop *loop, struct sc_timer *timer, uint64_t due_ns);
void sc_timer_stop(struct sc_loop *loop, struct sc_timer *timer);

// ---- Listening

struct sc_listener {
    int fd;
    uint32_t slot; // The loop's, as the following two.
    bool in_flight, closing, paused, idle;
    /// A new connection: the callee owns `fd` (non-blocking, close-on-exec).
    void (*on_accept)(struct sc_listener *listener, int fd);
    void (*on_closed)(struct sc_listener *listener);
};

#define SC_HOST_ADDRESSES_MAX 8u
struct sc_host_addresses {
    uint32_t count;
    char texts[SC_HOST_ADDRESSES_MAX][64]; // IPv6 in brackets.
};
/// The addresses of a host, as numbers, each once. A host of more has its first ones. May wait for the resolver.
///
/// Thread: any.
/// Errors: -ENOENT (no such host), -ENOMEM, ...
SC_CHECKED int sc_host_addresses(const char *host, struct sc_host_addresses *out);

/// Binds and listens on `host` (a name or an address, IPv6 with or without brackets) and `port` (0: the
/// kernel picks). The first listener of an address binds without SO_REUSEPORT, so that a second process is
/// refused, and sets it after; further ones of this process pass `shared` with the port that was picked.
/// Returns the fd; `*port_out` is the bound port. Of several addresses of a name the first that exists
/// on this host is taken; one that is taken by another process is an error and not skipped.
///
/// Thread: any; not bound to a loop. Looking a name up may wait for the resolver.
/// Errors: -EADDRINUSE, -EACCES, -EADDRNOTAVAIL, -ENOENT (no such host), ...
SC_CHECKED int sc_listen(const char *host, uint16_t port, bool shared, int backlog,
                         uint16_t *port_out);

/// Has the kernel hold at most about `size` bytes unsent for each socket accepted on `fd`; 0: as much as it likes. What
/// was sent and not acknowledged does not count.
void sc_listen_unsent(int fd, uint32_t size);

/// Accepts on `fd` (from sc_listen; owned from here on) until closed. On EMFILE and the like it waits
/// SC_LOOP_ACCEPT_RETRY_MS and tries again.
/// Errors: -ENFILE, -ENOMEM; the fd stays the caller's then.
SC_CHECKED int sc_listener_open(struct sc_loop *loop, struct sc_listener *listener, int fd);
/// Stops accepting until resumed; connections that the kernel had handed over already may still come. Twice is once.
void sc_listener_pause(struct sc_loop *loop, struct sc_listener *listener);
void sc_listener_resume(struct sc_loop *loop, struct sc_listener *listener);
/// Stops and closes; `on_closed` runs when the kernel has let go.
void sc_listener_close(struct sc_loop *loop, struct sc_listener *listener);

// ---- Sockets

struct sc_socket;
struct sc_socket_handler {
    /// Bytes came. `data` is lent for the call and may be written to (unmasking).
    void (*on_receive)(struct sc_socket *socket, uint8_t *data, size_t size);
    /// Nothing more will come: 0 at the end of the stream, else -errno. Called once; the owner closes.
    void (*on_end)(struct sc_socket *socket, int reason);
    /// A send ended: bytes the kernel took (may be less than asked), or -errno; -EAGAIN when it took none of
    /// a SC_SEND_TRY.
    void (*on_sent)(struct sc_socket *socket, ssize_t result);
    /// All operations are over and the fd is closed: the socket's memory may be freed.
    void (*on_closed)(struct sc_socket *socket);
};

/// Embedded in a connection. 32 bytes; the loop's but for `handler`.
struct sc_socket {
    const struct sc_socket_handler *handler;
    struct sc_loop *loop;
    int32_t fd;
    uint32_t slot;
    uint16_t flags;
    uint16_t turn;               // The last turn in which bytes came,
    uint32_t received_this_turn; // and how many.
};

/// Takes over a connected fd and starts receiving.
/// Errors: -ENFILE, -ENOMEM; the fd stays the caller's then.
SC_CHECKED int sc_socket_open(struct sc_loop *loop, struct sc_socket *socket, int fd,
                              const struct sc_socket_handler *handler);

struct sockaddr;
/// Takes over an unconnected fd and connects it. Ends in `on_sent` with 0, or with -errno (-ECONNREFUSED,
/// -ETIMEDOUT, ...), after which the owner closes; until then the socket counts as sending. Receiving starts
/// by itself. `address` stays put until then.
/// Errors: -ENFILE, -ENOMEM; the fd stays the caller's then.
SC_CHECKED int sc_socket_connect(struct sc_loop *loop, struct sc_socket *socket, int fd,
                                 const struct sockaddr *address, uint32_t address_size,
                                 const struct sc_socket_handler *handler);

/// Stops and resumes receiving. What the kernel had already handed over may still come after a pause.
void sc_socket_pause(struct sc_socket *socket);
void sc_socket_resume(struct sc_socket *socket);

enum sc_send_mode {
    SC_SEND_TRY,  // Never waits: takes what fits the socket now (MSG_DONTWAIT).
    SC_SEND_WAIT, // Completes when at least one byte is taken.
};
/// Sends `count` (1 to SC_LOOP_SEND_PIECES_MAX) pieces in order, at most SC_LOOP_SEND_SIZE_MAX bytes in
/// all; one send in flight per socket (asserted). The bytes stay put until `on_sent`; the array of pieces is
/// copied. SC_SEND_TRY may be used SC_LOOP_SENDS_PER_SLICE times between two sc_loop_flush.
/// With SC_SEND_WAIT there is exactly one piece. After sc_socket_close the bytes stay put until
/// `on_closed`, as then there is no `on_sent`.
void sc_socket_send(struct sc_socket *socket, const struct sc_bytes *pieces, uint32_t count,
                    enum sc_send_mode mode);
#define SC_SOCKET_SENDING 32u // Among `flags`, which are the loop's else.
static inline bool sc_socket_sending(const struct sc_socket *socket) {
    return (socket->flags & SC_SOCKET_SENDING) != 0;
}
/// Submits what is prepared and runs the `on_sent` of every SC_SEND_TRY before it returns, also of those
/// that an `on_sent` starts; all other completions wait for the next turn. For use in `on_turn`, every
/// SC_LOOP_SENDS_PER_SLICE sends; not from the callback of a socket, listener or file (asserted).
SC_CHECKED int sc_loop_flush(struct sc_loop *loop);

/// Bytes that the kernel has and the peer does not have, or has not acknowledged.
uint32_t sc_socket_unacknowledged(const struct sc_socket *socket);

/// Sends FIN once the current send is over, and what its `on_sent` sends on; receiving goes on.
void sc_socket_shutdown(struct sc_socket *socket);
/// Cancels everything, waits until nothing is in flight, closes the fd, calls `on_closed` in a later turn.
/// `abort`: with a TCP reset. No other callback runs after this call.
void sc_socket_close(struct sc_socket *socket, bool abort);

// ---- Files

/// The operations of file_ops.h by this loop. `wait` runs a turn.
const struct sc_file_ops *sc_loop_files(const struct sc_loop *loop);

#pragma clang assume_nonnull end

#endif
