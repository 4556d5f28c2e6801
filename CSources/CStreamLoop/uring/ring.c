// The ring: set up, entries, submitting, sleeping, completions.
#include "uring.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

// ---- Set up

// A ring's memory may be that of a ring that another thread has just given back. The kernel orders the two; the
// lock does so for a thread sanitizer, which does not see liburing's system calls.
static pthread_mutex_t mapping_lock = PTHREAD_MUTEX_INITIALIZER;

static int map_ring(struct uring *uring, struct io_uring_params *params) {
    pthread_mutex_lock(&mapping_lock);
    int rc = io_uring_queue_init_params(SC_RING_ENTRIES, &uring->ring, params);
    pthread_mutex_unlock(&mapping_lock);
    return rc;
}

static void unmap_ring(struct uring *uring) {
    pthread_mutex_lock(&mapping_lock);
    io_uring_queue_exit(&uring->ring);
    pthread_mutex_unlock(&mapping_lock);
}

static int init_ring(struct uring *uring) {
    static const uint32_t common = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                                   IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_TASKRUN_FLAG;
    bool defer = (uring->base.config->without & SC_LOOP_DEFER_TASKRUN) == 0;
    for (;;) {
        struct io_uring_params params = {
            .flags = common | (defer ? IORING_SETUP_DEFER_TASKRUN : IORING_SETUP_COOP_TASKRUN),
            .cq_entries = SC_RING_COMPLETIONS};
        int rc = map_ring(uring, &params);
        if (rc == -EINVAL && defer) {
            defer = false;
            continue;
        }
        return rc;
    }
}

// The kernel reads which entries are submitted from an array, which here never says anything but "the next".
static void map_entries(struct uring *uring) {
    for (uint32_t i = 0; i < uring->ring.sq.ring_entries; i++)
        uring->ring.sq.array[i] = i;
}

int uring_wait_for_one(struct uring *uring, struct sc_completion *out) {
    for (;;) {
        // A message may come all the same: to a ring that has gone, and whose descriptor this one has now.
        if (uring_take(&uring->base, out, 1) > 0) {
            if (out->tag != uring_own(URING_WOKEN, 0))
                return 0;
        } else {
            uring_wait(&uring->base, UINT64_MAX);
            if (uring->base.error != 0)
                return uring->base.error;
        }
    }
}

// A multishot receive cannot be asked for, only tried: an older kernel refuses it with -EINVAL.
static int try_multishot_receive(struct uring *uring, const int fds[2]) {
    if (write(fds[1], "x", 1) != 1)
        return -errno;
    struct io_uring_sqe *sqe = uring_entry(uring);
    io_uring_prep_recv_multishot(sqe, fds[0], NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = SC_RING_BUFFER_GROUP;
    sqe->user_data = sc_tag(SC_KIND_NONE, 0);
    struct sc_completion first, last;
    int rc = uring_wait_for_one(uring, &first);
    if (rc != 0)
        return rc;
    if (sc_completion_has_buffer(&first))
        uring_give_buffer(&uring->base, sc_completion_buffer(&first));
    if (!sc_completion_goes_on(&first)) // The kernel may end one at any time, once it has begun it.
        return first.result < 0 ? first.result : 0;
    // The end of the stream ends the receive.
    if (shutdown(fds[1], SHUT_WR) != 0)
        return -errno;
    do
        rc = uring_wait_for_one(uring, &last);
    while (rc == 0 && sc_completion_goes_on(&last));
    return rc;
}

static int check_multishot_receive(struct uring *uring) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return -errno;
    int rc = try_multishot_receive(uring, fds);
    close(fds[0]);
    close(fds[1]);
    return rc;
}

static void find_features(struct uring *uring) {
    struct io_uring_probe *probe = io_uring_get_probe_ring(&uring->ring);
    uring->ring_messages = (uring->base.config->without & SC_LOOP_RING_MESSAGES) == 0 &&
                           probe != NULL && io_uring_opcode_supported(probe, IORING_OP_MSG_RING);
    io_uring_free_probe(probe);
    // Spares a look-up of the ring's descriptor in each call.
    if (io_uring_register_ring_fd(&uring->ring) == 1)
        uring->enter_flags = IORING_ENTER_REGISTERED_RING;
    bool deferred = (uring->ring.flags & IORING_SETUP_DEFER_TASKRUN) != 0;
    snprintf(uring->base.description, sizeof uring->base.description,
             "io_uring (%s, %s, %u x %u bytes to receive)",
             deferred ? "defer_taskrun" : "coop_taskrun",
             uring->ring_messages ? "ring messages" : "no ring messages",
             uring->base.config->receive_buffer_count, uring->base.config->receive_buffer_size);
}

static int open_parts(struct uring *uring) {
    int rc = init_ring(uring);
    if (rc != 0) {
        uring->ring.ring_fd = -1;
        return sc_explain_failure("io_uring_setup", rc);
    }
    map_entries(uring);
    find_features(uring);
    rc = uring_buffers_open(uring);
    if (rc != 0)
        return sc_explain_failure("registering receive buffers", rc);
    rc = check_multishot_receive(uring);
    if (rc != 0)
        return sc_explain_failure("multishot receive", rc);
    uring->messages = calloc(SC_LOOP_SENDS_PER_SLICE, sizeof *uring->messages);
    if (uring->messages == NULL)
        return sc_explain_failure("allocating the send pool", -ENOMEM);
    return uring_wake_open(uring);
}

static void close_parts(struct uring *uring) {
    uring_wake_close(uring);
    if (uring->ring.ring_fd >= 0)
        unmap_ring(uring);
    uring_buffers_close(uring);
    free(uring->messages);
    free(uring);
}

static int open_backend(const struct sc_backend *base, struct sc_backend **out) {
    struct uring *uring = calloc(1, sizeof *uring);
    if (uring == NULL)
        return sc_explain_failure("allocating the ring", -ENOMEM);
    uring->base = *base;
    uring->ring.ring_fd = uring->event_fd = -1;
    sc_sched_give_way(base->config->slice_us);
    *out =
        &uring
             ->base; // From here on the loop can take completions, should the ring be full of them.
    int rc = open_parts(uring);
    if (rc != 0)
        close_parts(uring);
    return rc;
}

static void close_backend(struct sc_backend *backend) {
    uring_submit(backend); // Wake-ups for other loops may be left.
    close_parts(uring_of(backend));
}

// ---- Submitting and sleeping

static bool has_more(const struct uring *uring) {
    uint32_t flags = __atomic_load_n(uring->ring.sq.kflags, __ATOMIC_RELAXED);
    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

uint32_t uring_unsubmitted(const struct uring *uring) {
    const struct io_uring_sq *sq = &uring->ring.sq;
    return sq->sqe_tail - __atomic_load_n(sq->khead, __ATOMIC_ACQUIRE);
}

static uint32_t publish_entries(struct uring *uring) {
    struct io_uring_sq *sq = &uring->ring.sq;
    if (sq->sqe_head != sq->sqe_tail) {
        sq->sqe_head = sq->sqe_tail;
        __atomic_store_n(sq->ktail, sq->sqe_tail, __ATOMIC_RELEASE);
    }
    return uring_unsubmitted(uring);
}

// Submits all but the last `submit_max`, and returns how many are left: more after an error, which comes again, and is
// looked at then.
static uint32_t submit_parts(struct uring *uring, uint32_t count) {
    uint32_t most = uring->base.config->submit_max;
    while (most != 0 && count > most) {
        int rc = io_uring_enter2((unsigned)uring->ring.enter_ring_fd, most, 0, uring->enter_flags,
                                 NULL, _NSIG / 8);
        uring->base.counters->enters++;
        if (rc <= 0)
            break;
        uring->base.counters->submissions += (uint32_t)rc;
        count = uring_unsubmitted(uring);
    }
    return count;
}

// The one system call. -EINTR and -ETIME are ordinary, -EAGAIN and -EBUSY pass: all of them the caller sees
// by what has come, or not. Anything else is the end of the ring.
static int enter(struct uring *uring, uint32_t wait_count, uint32_t flags, uint64_t timeout_ns) {
    if (uring->base.error != 0)
        return uring->base.error;
    uint32_t count = submit_parts(uring, publish_entries(uring));
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(timeout_ns / 1000000000u),
                                        .tv_nsec = (int64_t)(timeout_ns % 1000000000u)};
    struct io_uring_getevents_arg arg = {.ts = (uint64_t)(uintptr_t)&timeout};
    bool timed = wait_count > 0 && timeout_ns != UINT64_MAX;
    if (timed)
        flags |= IORING_ENTER_EXT_ARG;
    int rc = io_uring_enter2((unsigned)uring->ring.enter_ring_fd, count, wait_count,
                             flags | uring->enter_flags, timed ? (sigset_t *)&arg : NULL,
                             timed ? sizeof arg : _NSIG / 8);
    uring->base.counters->enters++;
    if (rc > 0)
        uring->base.counters->submissions += (uint32_t)rc;
    if (rc < 0 && rc != -EINTR && rc != -ETIME && rc != -EAGAIN && rc != -EBUSY)
        uring->base.error = rc;
    return rc;
}

void uring_submit(struct sc_backend *backend) {
    struct uring *uring = uring_of(backend);
    if (uring_unsubmitted(uring) > 0)
        (void)enter(uring, 0, 0, 0);
}

void uring_wait(struct sc_backend *backend, uint64_t timeout_ns) {
    struct uring *uring = uring_of(backend);
    if (timeout_ns > 0)
        (void)enter(uring, 1, IORING_ENTER_GETEVENTS, timeout_ns);
    else
        uring_submit(backend);
    // A recent kernel makes few completions a call. More of them in a turn means fewer, bigger sends.
    for (uint32_t i = 0; i < SC_RING_GATHER_CALLS_MAX && has_more(uring) &&
                         io_uring_cq_ready(&uring->ring) < SC_RING_GATHER_MAX;
         i++) {
        if (enter(uring, 0, IORING_ENTER_GETEVENTS, 0) < 0)
            return;
    }
}

static unsigned look(const struct sc_backend *backend) {
    const struct uring *uring = (const struct uring *)(const void *)backend;
    unsigned ready = io_uring_cq_ready(&uring->ring) > 0 ? SC_BACKEND_READY : 0;
    return ready | (has_more(uring) ? SC_BACKEND_MORE : 0);
}

struct io_uring_sqe *uring_entry_of_full(struct uring *uring) {
    for (uint32_t i = 0; uring->base.error == 0 && i < SC_RING_SUBMIT_ATTEMPTS_MAX; i++) {
        int rc = enter(uring, 0, 0, 0);
        if (rc == -EAGAIN || rc == -EBUSY)
            sc_loop_reap(uring->base.loop); // Makes room for completions.
        struct io_uring_sqe *sqe = io_uring_get_sqe(&uring->ring);
        if (sqe != NULL)
            return sqe;
    }
    if (uring->base.error == 0)
        uring->base.error = -EBUSY;
    return &uring->spare;
}

void uring_make_room(struct uring *uring, uint32_t count) {
    for (uint32_t i = 0; uring->base.error == 0 && io_uring_sq_space_left(&uring->ring) < count;
         i++) {
        if (i == SC_RING_SUBMIT_ATTEMPTS_MAX) {
            uring->base.error = -EBUSY;
            return;
        }
        int rc = enter(uring, 0, 0, 0);
        if (rc == -EAGAIN || rc == -EBUSY)
            sc_loop_reap(uring->base.loop); // Makes room for completions.
    }
}

// ---- Completions

_Static_assert(SC_COMPLETION_BUFFER == IORING_CQE_F_BUFFER &&
                   SC_COMPLETION_MORE == IORING_CQE_F_MORE &&
                   SC_COMPLETION_BUFFER_SHIFT == IORING_CQE_BUFFER_SHIFT,
               "completions are copied");

// One store gives their places back to the kernel.
uint32_t uring_take(struct sc_backend *backend, struct sc_completion *out, uint32_t most) {
    struct uring *uring = uring_of(backend);
    struct io_uring_cq *cq = &uring->ring.cq;
    uint32_t head = *cq->khead, count = __atomic_load_n(cq->ktail, __ATOMIC_ACQUIRE) - head;
    if (count > most)
        count = most;
    for (uint32_t i = 0; i < count; i++) {
        const struct io_uring_cqe *cqe = &cq->cqes[(head + i) & cq->ring_mask];
        out[i] = (struct sc_completion){cqe->user_data, cqe->res, cqe->flags};
        backend->buffers_out += cqe->flags & SC_COMPLETION_BUFFER;
    }
    if (count > 0)
        __atomic_store_n(cq->khead, head + count, __ATOMIC_RELEASE);
    backend->counters->completions += count;
    return count;
}

static void run_own(struct sc_backend *backend, const struct sc_completion *completion) {
    struct uring *uring = uring_of(backend);
    switch (uring_own_of(completion->tag)) {
    case URING_WOKEN:
        return;
    case URING_WAKE_FAILED:
        uring_run_wake_failed(uring_own_value(completion->tag));
        return;
    case URING_EVENT:
        uring_run_event(uring, completion->result);
        return;
    case URING_PAGES:
    case URING_PAGES_FLUSH:
        uring_run_pages(uring, completion);
        return;
    }
}

static uint64_t clock_ns(const struct sc_backend *backend, clockid_t clock) {
    (void)backend;
    return sc_clock_ns(clock);
}

// ---- Sockets

static void accept_on(struct sc_backend *backend, int fd, uint64_t tag) {
    struct io_uring_sqe *sqe = uring_entry(uring_of(backend));
    io_uring_prep_multishot_accept(sqe, fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    sqe->user_data = tag;
}

static void receive(struct sc_backend *backend, int fd, bool once, uint64_t tag) {
    struct io_uring_sqe *sqe = uring_entry(uring_of(backend));
    if (once)
        io_uring_prep_recv(sqe, fd, NULL, 0, 0); // One buffer, of its whole size.
    else
        io_uring_prep_recv_multishot(sqe, fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = SC_RING_BUFFER_GROUP;
    sqe->user_data = tag;
}

// An entry of the pool is free again once the kernel has submitted its send (IORING_FEAT_SUBMIT_STABLE). Between two flushes
// there are at most as many sends as entries, so the one that comes round has been submitted.
static struct msghdr *take_message(struct uring *uring, const struct sc_bytes *pieces,
                                   uint32_t count) {
    struct uring_message *message =
        &uring->messages[uring->message_next++ % SC_LOOP_SENDS_PER_SLICE];
    for (uint32_t i = 0; i < count; i++)
        message->pieces[i] = (struct iovec){(void *)(uintptr_t)pieces[i].data, pieces[i].size};
    message->header = (struct msghdr){.msg_iov = message->pieces, .msg_iovlen = count};
    return &message->header;
}

static void send_pieces(struct sc_backend *backend, int fd, const struct sc_bytes *pieces,
                        uint32_t count, enum sc_send_mode mode, uint64_t tag) {
    struct uring *uring = uring_of(backend);
    int flags = MSG_NOSIGNAL | (mode == SC_SEND_TRY ? MSG_DONTWAIT : 0);
    struct io_uring_sqe *sqe = uring_entry(uring);
    if (count == 1)
        io_uring_prep_send(sqe, fd, pieces[0].data, pieces[0].size, flags);
    else
        io_uring_prep_sendmsg(sqe, fd, take_message(uring, pieces, count), (unsigned)flags);
    sqe->user_data = tag;
}

static void connect_to(struct sc_backend *backend, int fd, const struct sockaddr *address,
                       uint32_t size, uint64_t tag) {
    struct io_uring_sqe *sqe = uring_entry(uring_of(backend));
    io_uring_prep_connect(sqe, fd, address, size);
    sqe->user_data = tag;
}

static void cancel(struct sc_backend *backend, int fd, uint64_t target, uint64_t tag) {
    (void)fd;
    struct io_uring_sqe *sqe = uring_entry(uring_of(backend));
    io_uring_prep_cancel64(sqe, target, 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = tag;
}

static void close_socket(struct sc_backend *backend, int fd, bool abort, uint64_t tag) {
    if (abort)
        sc_socket_reset_on_close(fd);
    struct io_uring_sqe *sqe = uring_entry(uring_of(backend));
    io_uring_prep_close(sqe, fd);
    sqe->user_data = tag;
}

const struct sc_backend_kind sc_uring = {.name = "io_uring",
                                         .open = open_backend,
                                         .close = close_backend,
                                         .explain = uring_explain,
                                         .accept = accept_on,
                                         .receive = receive,
                                         .send = send_pieces,
                                         .connect = connect_to,
                                         .cancel = cancel,
                                         .close_socket = close_socket,
                                         .shutdown = sc_socket_end_stream,
                                         .unacknowledged = sc_socket_in_kernel,
                                         .give_buffer = uring_give_buffer,
                                         .files = &uring_files,
                                         .submit = uring_submit,
                                         .wait = uring_wait,
                                         .look = look,
                                         .take = uring_take,
                                         .run = run_own,
                                         .end_turn = uring_end_turn,
                                         .wake = uring_wake,
                                         .clock_ns = clock_ns};
