// What liburing has, over memory. Everything that the loop does not ask for is refused by name.
#include "scripted_kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 4096
#define LISTENERS_MAX 4
#define RING_DESCRIPTOR (DESCRIPTORS_MAX + 1)
#define SLEEP_NS 10000u

// A descriptor with a receive or an accept in flight.
struct descriptor {
    bool armed, scripted;
    uint32_t peer;
    uint64_t user_data;
};

static struct {
    struct descriptor descriptors[DESCRIPTORS_MAX];
    int peers[KERNEL_PEERS_MAX], listeners[LISTENERS_MAX];
    uint32_t peer_count, listener_count;
    unsigned sq_head, sq_tail, sq_flags, cq_head, cq_tail, *sq_array;
    struct io_uring_sqe *sqes;
    struct io_uring_cqe *cqes;
    unsigned sq_entries, cq_entries;
    struct io_uring_buf_ring *buffers;
    unsigned buffer_entries;
    uint16_t buffer_head;
    struct kernel_counts counts;
    uint64_t slept_ns;
} kernel;

static _Noreturn void give_up(const char *what, unsigned number) {
    fprintf(stderr, "scripted kernel: %s %u\n", what, number);
    abort();
}

struct kernel_counts kernel_counts(void) {
    return kernel.counts;
}

// ---- Time

// In place of libc's, for all that is linked with this file. 2026-01-01 and so many sleeps.
int clock_gettime(clockid_t clock, struct timespec *now) {
    uint64_t ns = (clock == CLOCK_REALTIME ? 1767225600000000000u : 1000000000u) + kernel.slept_ns;
    *now = (struct timespec){.tv_sec = (time_t)(ns / 1000000000u),
                             .tv_nsec = (long)(ns % 1000000000u)};
    return 0;
}

// ---- Completions

static void complete(uint64_t user_data, int result, unsigned flags) {
    if (kernel.cq_tail - __atomic_load_n(&kernel.cq_head, __ATOMIC_ACQUIRE) == kernel.cq_entries)
        give_up("more completions than the ring takes:", kernel.cq_entries);
    kernel.cqes[kernel.cq_tail & (kernel.cq_entries - 1)] =
        (struct io_uring_cqe){.user_data = user_data, .res = result, .flags = flags};
    __atomic_store_n(&kernel.cq_tail, kernel.cq_tail + 1, __ATOMIC_RELEASE);
}

static struct io_uring_buf *take_buffer(void) {
    if (kernel.buffer_head == __atomic_load_n(&kernel.buffers->tail, __ATOMIC_ACQUIRE))
        give_up("no receive buffer left of", kernel.buffer_entries);
    return &kernel.buffers->bufs[kernel.buffer_head++ & (kernel.buffer_entries - 1)];
}

static void complete_receive(struct descriptor *descriptor, const uint8_t *data, size_t size) {
    if (!descriptor->armed)
        give_up("bytes for a peer that is not received from:", descriptor->peer);
    while (size > 0) {
        struct io_uring_buf *buffer = take_buffer();
        size_t piece = size < buffer->len ? size : buffer->len;
        memcpy((void *)(uintptr_t)buffer->addr, data, piece);
        unsigned flags = IORING_CQE_F_MORE | IORING_CQE_F_BUFFER;
        complete(descriptor->user_data, (int)piece,
                 flags | (unsigned)buffer->bid << IORING_CQE_BUFFER_SHIFT);
        data += piece;
        size -= piece;
    }
}

// ---- The script's side

uint32_t kernel_connect(uint32_t listener) {
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0 || fd >= DESCRIPTORS_MAX || kernel.peer_count == KERNEL_PEERS_MAX)
        give_up("too many peers:", kernel.peer_count);
    if (listener >= kernel.listener_count)
        give_up("nobody listens as number", listener);
    uint32_t peer = kernel.peer_count++;
    kernel.peers[peer] = fd;
    kernel.descriptors[fd] = (struct descriptor){.scripted = true, .peer = peer};
    complete(kernel.descriptors[kernel.listeners[listener]].user_data, fd, IORING_CQE_F_MORE);
    return peer;
}

void kernel_deliver(uint32_t peer, const uint8_t *data, size_t size) {
    complete_receive(&kernel.descriptors[kernel.peers[peer]], data, size);
}

// A loop that opens tries its ring on a socket pair, which is real.
static void receive_real(void) {
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++) {
        struct descriptor *descriptor = &kernel.descriptors[fd];
        uint8_t data[64];
        if (!descriptor->armed || descriptor->scripted)
            continue;
        ssize_t size = recv(fd, data, sizeof data, MSG_DONTWAIT);
        if (size > 0)
            complete_receive(descriptor, data, (size_t)size);
        if (size == 0) {
            descriptor->armed = false;
            complete(descriptor->user_data, 0, 0);
        }
    }
}

// ---- Entries

static struct descriptor *descriptor_of(const struct io_uring_sqe *sqe) {
    if (sqe->fd < 0 || sqe->fd >= DESCRIPTORS_MAX)
        give_up("no such descriptor:", (unsigned)sqe->fd);
    return &kernel.descriptors[sqe->fd];
}

static void arm(const struct io_uring_sqe *sqe) {
    struct descriptor *descriptor = descriptor_of(sqe);
    descriptor->armed = true;
    descriptor->user_data = sqe->user_data;
}

static void accept_on(const struct io_uring_sqe *sqe) {
    if (kernel.listener_count == LISTENERS_MAX)
        give_up("too many listeners:", LISTENERS_MAX);
    kernel.listeners[kernel.listener_count++] = sqe->fd;
    arm(sqe);
    descriptor_of(sqe)->scripted = true;
}

static void send_to(const struct io_uring_sqe *sqe) {
    uint32_t peer = descriptor_of(sqe)->peer;
    size_t size = 0;
    kernel.counts.sends++;
    if (sqe->opcode == IORING_OP_SEND) {
        size = sqe->len;
        script_sent(peer, (const uint8_t *)(uintptr_t)sqe->addr, size);
    } else {
        const struct msghdr *message = (const struct msghdr *)(uintptr_t)sqe->addr;
        for (size_t i = 0; i < message->msg_iovlen; i++) {
            size += message->msg_iov[i].iov_len;
            script_sent(peer, message->msg_iov[i].iov_base, message->msg_iov[i].iov_len);
        }
    }
    complete(sqe->user_data, (int)size, 0);
}

static void run_entry(const struct io_uring_sqe *sqe) {
    kernel.counts.entries++;
    switch (sqe->opcode) {
    case IORING_OP_SEND:
    case IORING_OP_SENDMSG:
        send_to(sqe);
        return;
    case IORING_OP_RECV:
        arm(sqe);
        return;
    case IORING_OP_ACCEPT:
        accept_on(sqe);
        return;
    case IORING_OP_READ: // The eventfd, by which other threads wake the node: none does.
        return;
    default:
        give_up("it has to be taught the operation", sqe->opcode);
    }
}

// ---- What liburing has

// Until something comes, or until the time that the caller gives.
static int sleep_until(const struct io_uring_getevents_arg *limit) {
    kernel.counts.turns++;
    kernel.slept_ns += SLEEP_NS;
    script_next();
    if (kernel.cq_tail != kernel.cq_head)
        return 0;
    if (limit == NULL)
        give_up("it sleeps for ever after turn", (unsigned)kernel.counts.turns);
    const struct __kernel_timespec *left = (const struct __kernel_timespec *)(uintptr_t)limit->ts;
    kernel.slept_ns += (uint64_t)left->tv_sec * 1000000000u + (uint64_t)left->tv_nsec;
    return -ETIME;
}

int io_uring_enter2(unsigned fd, unsigned submit, unsigned wait, unsigned flags, sigset_t *argument,
                    size_t size) {
    (void)fd, (void)size;
    kernel.counts.enters++;
    for (unsigned i = 0; i < submit; i++) {
        run_entry(&kernel.sqes[kernel.sq_array[kernel.sq_head & (kernel.sq_entries - 1)]]);
        __atomic_store_n(&kernel.sq_head, kernel.sq_head + 1, __ATOMIC_RELEASE);
    }
    if ((flags & IORING_ENTER_GETEVENTS) == 0 || wait == 0)
        return (int)submit;
    receive_real();
    if (kernel.cq_tail != kernel.cq_head)
        return (int)submit;
    int rc = sleep_until((flags & IORING_ENTER_EXT_ARG) != 0 ? (const void *)argument : NULL);
    return submit > 0 ? (int)submit : rc;
}

static void *allocate(size_t count, size_t size) {
    void *memory = calloc(count, size);
    if (memory == NULL)
        give_up("out of memory for", (unsigned)count);
    return memory;
}

int io_uring_queue_init_params(unsigned entries, struct io_uring *ring,
                               struct io_uring_params *params) {
    if (kernel.sqes != NULL)
        give_up("there is one ring, not", 2);
    kernel.sq_entries = entries;
    kernel.cq_entries = params->cq_entries;
    kernel.sqes = allocate(entries, sizeof *kernel.sqes);
    kernel.cqes = allocate(params->cq_entries, sizeof *kernel.cqes);
    kernel.sq_array = allocate(entries, sizeof *kernel.sq_array);
    *ring = (struct io_uring){
        .sq = {.khead = &kernel.sq_head,
               .ktail = &kernel.sq_tail,
               .kring_entries = &kernel.sq_entries,
               .kflags = &kernel.sq_flags,
               .array = kernel.sq_array,
               .sqes = kernel.sqes,
               .ring_mask = entries - 1,
               .ring_entries = entries},
        .cq = {.khead = &kernel.cq_head,
               .ktail = &kernel.cq_tail,
               .kring_entries = &kernel.cq_entries,
               .cqes = kernel.cqes,
               .ring_mask = params->cq_entries - 1,
               .ring_entries = params->cq_entries},
        .flags = params->flags,
        .ring_fd = RING_DESCRIPTOR,
        .enter_ring_fd = RING_DESCRIPTOR,
    };
    return 0;
}

int io_uring_register_buf_ring(struct io_uring *ring, struct io_uring_buf_reg *reg,
                               unsigned flags) {
    (void)ring, (void)flags;
    kernel.buffers = (struct io_uring_buf_ring *)(uintptr_t)reg->ring_addr;
    kernel.buffer_entries = reg->ring_entries;
    return 0;
}

int io_uring_register_ring_fd(struct io_uring *ring) {
    (void)ring;
    return 1;
}

struct io_uring_probe *io_uring_get_probe_ring(struct io_uring *ring) {
    (void)ring;
    return NULL; // Knows nothing that is not used.
}

void io_uring_free_probe(struct io_uring_probe *probe) {
    (void)probe;
}

void io_uring_queue_exit(struct io_uring *ring) {
    (void)ring;
}
