// The ring: set up, entries, submitting, sleeping, completions, receive buffers.
#include "loop_private.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>

// ---- Set up

// A ring's memory may be that of a ring that another thread has just given back. The kernel orders the two; the
// lock does so for a thread sanitizer, which does not see liburing's system calls.
static pthread_mutex_t mapping_lock = PTHREAD_MUTEX_INITIALIZER;

static int map_ring(struct sc_loop *loop, struct io_uring_params *params) {
    pthread_mutex_lock(&mapping_lock);
    int rc = io_uring_queue_init_params(SC_RING_ENTRIES, &loop->ring, params);
    pthread_mutex_unlock(&mapping_lock);
    return rc;
}

static void unmap_ring(struct sc_loop *loop) {
    pthread_mutex_lock(&mapping_lock);
    io_uring_queue_exit(&loop->ring);
    pthread_mutex_unlock(&mapping_lock);
}

static int init_ring(struct sc_loop *loop) {
    static const uint32_t common = IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE |
                                   IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_TASKRUN_FLAG;
    bool defer = (loop->config.without & SC_LOOP_DEFER_TASKRUN) == 0;
    for (;;) {
        struct io_uring_params params = {
            .flags = common | (defer ? IORING_SETUP_DEFER_TASKRUN : IORING_SETUP_COOP_TASKRUN),
            .cq_entries = SC_RING_COMPLETIONS};
        int rc = map_ring(loop, &params);
        if (rc == -EINVAL && defer) {
            defer = false;
            continue;
        }
        return rc;
    }
}

// The kernel reads which entries are submitted from an array, which here never says anything but "the next".
static void map_entries(struct sc_loop *loop) {
    for (uint32_t i = 0; i < loop->ring.sq.ring_entries; i++)
        loop->ring.sq.array[i] = i;
}

static size_t buffer_ring_size(const struct sc_loop *loop) {
    return loop->config.receive_buffer_count * sizeof(struct io_uring_buf);
}
static size_t buffers_size(const struct sc_loop *loop) {
    return (size_t)loop->config.receive_buffer_count * loop->config.receive_buffer_size;
}

static void *map_memory(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

static int open_buffers(struct sc_loop *loop) {
    loop->buffer_ring = map_memory(buffer_ring_size(loop));
    loop->buffers = map_memory(buffers_size(loop));
    if (loop->buffer_ring == NULL || loop->buffers == NULL)
        return -ENOMEM;
    struct io_uring_buf_reg reg = {.ring_addr = (uint64_t)(uintptr_t)loop->buffer_ring,
                                   .ring_entries = loop->config.receive_buffer_count,
                                   .bgid = SC_RING_BUFFER_GROUP};
    int rc = io_uring_register_buf_ring(&loop->ring, &reg, 0);
    if (rc != 0)
        return rc;
    io_uring_buf_ring_init(loop->buffer_ring);
    loop->buffers_out = loop->config.receive_buffer_count;
    for (uint32_t id = 0; id < loop->config.receive_buffer_count; id++)
        sc_ring_give_buffer(loop, id);
    return 0;
}

// Waits for one completion while nothing but the set up uses the ring. A message may come all the same: to
// a ring that has gone, and whose descriptor this one has now.
static int wait_for_one(struct sc_loop *loop, struct sc_completion *out) {
    for (;;) {
        if (sc_ring_take(loop, out)) {
            if (sc_tag_kind(out->user_data) != SC_KIND_WOKEN)
                return 0;
        } else {
            sc_ring_wait(loop, UINT64_MAX);
            if (loop->error != 0)
                return loop->error;
        }
    }
}

// A multishot receive cannot be asked for, only tried: an older kernel refuses it with -EINVAL.
static int try_multishot_receive(struct sc_loop *loop, const int fds[2]) {
    if (write(fds[1], "x", 1) != 1)
        return -errno;
    struct io_uring_sqe *sqe = sc_ring_entry(loop);
    io_uring_prep_recv_multishot(sqe, fds[0], NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = SC_RING_BUFFER_GROUP;
    sqe->user_data = sc_tag(SC_KIND_NONE, 0);
    struct sc_completion first, last;
    int rc = wait_for_one(loop, &first);
    if (rc != 0)
        return rc;
    if (first.flags & IORING_CQE_F_BUFFER)
        sc_ring_give_buffer(loop, first.flags >> IORING_CQE_BUFFER_SHIFT);
    if (!(first.flags &
          IORING_CQE_F_MORE)) // The kernel may end one at any time, once it has begun it.
        return first.result < 0 ? first.result : 0;
    // The end of the stream ends the receive.
    if (shutdown(fds[1], SHUT_WR) != 0)
        return -errno;
    do
        rc = wait_for_one(loop, &last);
    while (rc == 0 && (last.flags & IORING_CQE_F_MORE));
    return rc;
}

static int check_multishot_receive(struct sc_loop *loop) {
    int fds[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0)
        return -errno;
    int rc = try_multishot_receive(loop, fds);
    close(fds[0]);
    close(fds[1]);
    return rc;
}

static void find_features(struct sc_loop *loop) {
    struct io_uring_probe *probe = io_uring_get_probe_ring(&loop->ring);
    loop->ring_messages = (loop->config.without & SC_LOOP_RING_MESSAGES) == 0 && probe != NULL &&
                          io_uring_opcode_supported(probe, IORING_OP_MSG_RING);
    io_uring_free_probe(probe);
    // Spares a look-up of the ring's descriptor in each call.
    if (io_uring_register_ring_fd(&loop->ring) == 1)
        loop->enter_flags = IORING_ENTER_REGISTERED_RING;
    bool deferred = (loop->ring.flags & IORING_SETUP_DEFER_TASKRUN) != 0;
    snprintf(loop->description, sizeof loop->description,
             "io_uring (%s, %s, %u x %u bytes to receive)",
             deferred ? "defer_taskrun" : "coop_taskrun",
             loop->ring_messages ? "ring messages" : "no ring messages",
             loop->config.receive_buffer_count, loop->config.receive_buffer_size);
}

int sc_ring_open(struct sc_loop *loop) {
    loop->ring.ring_fd = -1;
    int rc = init_ring(loop);
    if (rc != 0) {
        loop->ring.ring_fd = -1;
        return sc_explain_failure("io_uring_setup", rc);
    }
    map_entries(loop);
    find_features(loop);
    rc = open_buffers(loop);
    if (rc != 0)
        return sc_explain_failure("registering receive buffers", rc);
    rc = check_multishot_receive(loop);
    if (rc != 0)
        return sc_explain_failure("multishot receive", rc);
    loop->event_fd = eventfd(0, EFD_CLOEXEC);
    if (loop->event_fd < 0)
        return sc_explain_failure("eventfd", -errno);
    sc_ring_arm_event(loop);
    return 0;
}

// The kernel may write to `event_value` until the read is over.
static void disarm_event(struct sc_loop *loop) {
    struct io_uring_sqe *sqe = sc_ring_entry(loop);
    io_uring_prep_cancel64(sqe, sc_tag(SC_KIND_EVENT, 0), 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = sc_tag(SC_KIND_NONE, 0);
    struct sc_completion completion;
    while (loop->event_armed && wait_for_one(loop, &completion) == 0) {
        if (sc_tag_kind(completion.user_data) == SC_KIND_EVENT)
            loop->event_armed = false;
    }
}

void sc_ring_close(struct sc_loop *loop) {
    if (loop->event_armed)
        disarm_event(loop);
    if (loop->ring.ring_fd >= 0)
        unmap_ring(loop);
    if (loop->event_fd >= 0)
        close(loop->event_fd);
    if (loop->buffer_ring != NULL)
        munmap(loop->buffer_ring, buffer_ring_size(loop));
    if (loop->buffers != NULL)
        munmap(loop->buffers, buffers_size(loop));
    free(loop->inbox.entries);
}

// ---- Submitting and sleeping

bool sc_ring_has_more(const struct sc_loop *loop) {
    uint32_t flags = __atomic_load_n(loop->ring.sq.kflags, __ATOMIC_RELAXED);
    return (flags & (IORING_SQ_TASKRUN | IORING_SQ_CQ_OVERFLOW)) != 0;
}

uint32_t sc_ring_unsubmitted(const struct sc_loop *loop) {
    const struct io_uring_sq *sq = &loop->ring.sq;
    return sq->sqe_tail - __atomic_load_n(sq->khead, __ATOMIC_ACQUIRE);
}

static uint32_t publish_entries(struct sc_loop *loop) {
    struct io_uring_sq *sq = &loop->ring.sq;
    if (sq->sqe_head != sq->sqe_tail) {
        sq->sqe_head = sq->sqe_tail;
        __atomic_store_n(sq->ktail, sq->sqe_tail, __ATOMIC_RELEASE);
    }
    return sc_ring_unsubmitted(loop);
}

// Submits all but the last `submit_max`, and returns how many are left: more after an error, which comes again, and is
// looked at then.
static uint32_t submit_parts(struct sc_loop *loop, uint32_t count) {
    uint32_t most = loop->config.submit_max;
    while (most != 0 && count > most) {
        int rc = io_uring_enter2((unsigned)loop->ring.enter_ring_fd, most, 0, loop->enter_flags,
                                 NULL, _NSIG / 8);
        loop->counters.enters++;
        if (rc <= 0)
            break;
        loop->counters.submissions += (uint32_t)rc;
        count = sc_ring_unsubmitted(loop);
    }
    return count;
}

// The one system call. -EINTR and -ETIME are ordinary, -EAGAIN and -EBUSY pass: all of them the caller sees
// by what has come, or not. Anything else is the end of the ring.
static int enter(struct sc_loop *loop, uint32_t wait_count, uint32_t flags, uint64_t timeout_ns) {
    if (loop->error != 0)
        return loop->error;
    uint32_t count = submit_parts(loop, publish_entries(loop));
    struct __kernel_timespec timeout = {.tv_sec = (int64_t)(timeout_ns / 1000000000u),
                                        .tv_nsec = (int64_t)(timeout_ns % 1000000000u)};
    struct io_uring_getevents_arg arg = {.ts = (uint64_t)(uintptr_t)&timeout};
    bool timed = wait_count > 0 && timeout_ns != UINT64_MAX;
    if (timed)
        flags |= IORING_ENTER_EXT_ARG;
    int rc = io_uring_enter2((unsigned)loop->ring.enter_ring_fd, count, wait_count,
                             flags | loop->enter_flags, timed ? (sigset_t *)&arg : NULL,
                             timed ? sizeof arg : _NSIG / 8);
    loop->counters.enters++;
    if (rc > 0)
        loop->counters.submissions += (uint32_t)rc;
    if (rc < 0 && rc != -EINTR && rc != -ETIME && rc != -EAGAIN && rc != -EBUSY)
        loop->error = rc;
    return rc;
}

void sc_ring_submit(struct sc_loop *loop) {
    if (sc_ring_unsubmitted(loop) > 0)
        (void)enter(loop, 0, 0, 0);
}

void sc_ring_wait(struct sc_loop *loop, uint64_t timeout_ns) {
    if (timeout_ns > 0)
        (void)enter(loop, 1, IORING_ENTER_GETEVENTS, timeout_ns);
    else
        sc_ring_submit(loop);
    // A recent kernel makes few completions a call. More of them in a turn means fewer, bigger sends.
    for (uint32_t i = 0; i < SC_RING_GATHER_CALLS_MAX && sc_ring_has_more(loop) &&
                         io_uring_cq_ready(&loop->ring) < SC_RING_GATHER_MAX;
         i++) {
        if (enter(loop, 0, IORING_ENTER_GETEVENTS, 0) < 0)
            return;
    }
}

bool sc_ring_ready(const struct sc_loop *loop) {
    return loop->inbox.count > 0 || io_uring_cq_ready(&loop->ring) > 0;
}

struct io_uring_sqe *sc_ring_entry(struct sc_loop *loop) {
    for (uint32_t i = 0; loop->error == 0 && i < SC_RING_SUBMIT_ATTEMPTS_MAX; i++) {
        struct io_uring_sqe *sqe = io_uring_get_sqe(&loop->ring);
        if (sqe != NULL)
            return sqe;
        int rc = enter(loop, 0, 0, 0);
        if (rc == -EAGAIN || rc == -EBUSY)
            sc_ring_reap(loop); // Makes room for completions.
    }
    if (loop->error == 0)
        loop->error = -EBUSY;
    return &loop->spare;
}

void sc_ring_make_room(struct sc_loop *loop, uint32_t count) {
    for (uint32_t i = 0; loop->error == 0 && io_uring_sq_space_left(&loop->ring) < count; i++) {
        if (i == SC_RING_SUBMIT_ATTEMPTS_MAX) {
            loop->error = -EBUSY;
            return;
        }
        int rc = enter(loop, 0, 0, 0);
        if (rc == -EAGAIN || rc == -EBUSY)
            sc_ring_reap(loop); // Makes room for completions.
    }
}

void sc_ring_cancel(struct sc_loop *loop, enum sc_kind kind, enum sc_kind target, uint32_t slot) {
    struct io_uring_sqe *sqe = sc_ring_entry(loop);
    io_uring_prep_cancel64(sqe, sc_slot_tag(loop, target, slot), 0);
    sqe->flags |= IOSQE_CQE_SKIP_SUCCESS;
    sqe->user_data = sc_slot_tag(loop, kind, slot);
}

void sc_ring_arm_event(struct sc_loop *loop) {
    struct io_uring_sqe *sqe = sc_ring_entry(loop);
    io_uring_prep_read(sqe, loop->event_fd, &loop->event_value, sizeof loop->event_value, 0);
    sqe->user_data = sc_tag(SC_KIND_EVENT, 0);
    loop->event_armed = true;
}

// ---- Completions

bool sc_ring_take(struct sc_loop *loop, struct sc_completion *out) {
    struct io_uring_cq *cq = &loop->ring.cq;
    uint32_t head = *cq->khead;
    if (head == __atomic_load_n(cq->ktail, __ATOMIC_ACQUIRE))
        return false;
    const struct io_uring_cqe *cqe = &cq->cqes[head & cq->ring_mask];
    *out = (struct sc_completion){cqe->user_data, cqe->res, cqe->flags};
    __atomic_store_n(cq->khead, head + 1, __ATOMIC_RELEASE);
    loop->counters.completions++;
    if (out->flags & IORING_CQE_F_BUFFER)
        loop->buffers_out++;
    return true;
}

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

void sc_inbox_put(struct sc_loop *loop, const struct sc_completion *completion) {
    struct sc_inbox *inbox = &loop->inbox;
    if (inbox->count == inbox->capacity && !grow_inbox(inbox)) {
        loop->error = -ENOMEM; // A completion is lost: nothing can be relied on.
        return;
    }
    inbox->count++;
    *sc_inbox_at(inbox, inbox->count - 1) = *completion;
    if (sc_tag_kind(completion->user_data) == SC_KIND_SEND_TRY)
        loop->tries_in_inbox++;
}

void sc_ring_reap(struct sc_loop *loop) {
    struct sc_completion completion;
    while (sc_ring_take(loop, &completion))
        sc_inbox_put(loop, &completion);
}

// ---- Receive buffers

void sc_ring_give_buffer(struct sc_loop *loop, uint32_t id) {
    assert(loop->buffers_out > 0);
    loop->buffers_out--;
    uint32_t mask = loop->config.receive_buffer_count - 1;
    io_uring_buf_ring_add(loop->buffer_ring, sc_ring_buffer(loop, id),
                          loop->config.receive_buffer_size, (uint16_t)id, (int)mask, 0);
    io_uring_buf_ring_advance(loop->buffer_ring, 1);
}

uint32_t sc_ring_buffers_free(const struct sc_loop *loop) {
    return loop->config.receive_buffer_count - loop->buffers_out;
}

uint32_t sc_ring_buffers_quarter(const struct sc_loop *loop) {
    return (loop->config.receive_buffer_count + 3) / 4;
}

// All buffers are empty when none is out and no completion waits to be looked at. They stay so until this
// thread enters the kernel for completions, which only a ring that defers its work to then can say of itself.
static bool buffers_are_empty(const struct sc_loop *loop) {
    return (loop->ring.flags & IORING_SETUP_DEFER_TASKRUN) != 0 && loop->buffers_out == 0 &&
           io_uring_cq_ready(&loop->ring) == 0;
}

void sc_ring_trim_buffers(struct sc_loop *loop) {
    uint64_t receives = loop->counters.receives;
    if (loop->trim_ns == 0) {
        if (receives != loop->trim_receives)
            loop->trim_ns = loop->monotonic_ns + SC_RING_TRIM_MS * 1000000ull;
        return;
    }
    if (loop->monotonic_ns < loop->trim_ns)
        return;
    bool few = receives - loop->trim_receives < loop->config.receive_buffer_count;
    if (few && buffers_are_empty(loop)) {
        (void)madvise(loop->buffers, buffers_size(loop), MADV_DONTNEED);
        loop->counters.receive_buffers_trimmed++;
        loop->trim_ns = 0;
    } else {
        loop->trim_ns = loop->monotonic_ns + SC_RING_TRIM_MS * 1000000ull;
    }
    loop->trim_receives = receives;
}
