// Sockets: one multishot receive and at most one send in flight each.
//
// Closing: cancel, wait until nothing is in flight, close the descriptor by the ring, and with that
// completion tell the owner. The slot, and with it the generation, lasts until then.
#include "loop_private.h"

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/ioctl.h>

enum {
    RECEIVING = 1,  // A receive is in flight,
    CANCELLING = 2, // and a cancel for it.
    PAUSED = 4,
    STARVED = 8, // In a list of those that wait for buffers.
    ENDED = 16,  // on_end has run.
    SENDING = SC_SOCKET_SENDING,
    SENDING_WAIT = 64, // The send in flight may take its time.
    SHUTDOWN = 128,    // To be shut down once nothing is being sent.
    CLOSING = 256,
    CLOSE_IN_FLIGHT = 512,
    ABORT = 1024,
    SERVED = 2048,     // Bytes came since the receive was armed.
    CONNECTING = 4096, // With SENDING_WAIT: connecting is a send of nothing that takes its time.
};

static bool has(const struct sc_socket *socket, unsigned flag) {
    return (socket->flags & flag) != 0;
}
static void set(struct sc_socket *socket, unsigned flag) {
    socket->flags = (uint16_t)(socket->flags | flag);
}
static void clear(struct sc_socket *socket, unsigned flag) {
    socket->flags = (uint16_t)(socket->flags & ~flag);
}

int sc_socket_pool_open(struct sc_loop *loop) {
    loop->messages = calloc(SC_LOOP_SENDS_PER_SLICE, sizeof *loop->messages);
    loop->free_messages = calloc(SC_LOOP_SENDS_PER_SLICE, sizeof *loop->free_messages);
    if (loop->messages == NULL || loop->free_messages == NULL)
        return -ENOMEM;
    for (uint16_t i = 0; i < SC_LOOP_SENDS_PER_SLICE; i++)
        loop->free_messages[i] = i;
    loop->free_message_count = SC_LOOP_SENDS_PER_SLICE;
    return 0;
}

void sc_socket_pool_close(struct sc_loop *loop) {
    free(loop->messages);
    free(loop->free_messages);
}

// ---- Receiving

// Does nothing where a receive is in flight or not wanted.
static void arm_receive(struct sc_socket *socket) {
    if (has(socket, RECEIVING | PAUSED | STARVED | ENDED | CLOSING | CONNECTING))
        return;
    struct io_uring_sqe *sqe = sc_ring_entry(socket->loop);
    if (socket->loop->contention.contended)
        io_uring_prep_recv(sqe, socket->fd, NULL, 0, 0); // One buffer, of its whole size.
    else
        io_uring_prep_recv_multishot(sqe, socket->fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = SC_RING_BUFFER_GROUP;
    sqe->user_data = sc_slot_tag(socket->loop, SC_KIND_RECEIVE, socket->slot);
    set(socket, RECEIVING);
    clear(socket, SERVED);
}

static void cancel_receive(struct sc_socket *socket) {
    if (!has(socket, RECEIVING) || has(socket, CANCELLING))
        return;
    sc_ring_cancel(socket->loop, SC_KIND_CANCEL_RECEIVE, SC_KIND_RECEIVE, socket->slot);
    set(socket, CANCELLING);
}

static bool had_its_share(struct sc_socket *socket) {
    if (socket->turn != socket->loop->turn) {
        socket->turn = socket->loop->turn;
        socket->received_this_turn = 0;
    }
    const struct sc_loop *loop = socket->loop;
    if (socket->received_this_turn >= loop->config.receive_bytes_per_turn)
        return true;
    return loop->contention.contended && socket->received_this_turn > 0; // One buffer.
}

static void lend_buffer(struct sc_socket *socket, const struct sc_completion *completion) {
    struct sc_loop *loop = socket->loop;
    uint32_t id = completion->flags >> IORING_CQE_BUFFER_SHIFT;
    if (completion->result > 0 && !has(socket, CLOSING)) {
        size_t size = (size_t)completion->result;
        assert(size <= loop->config.receive_buffer_size);
        loop->counters.receives++;
        set(socket, SERVED);
        socket->received_this_turn += (uint32_t)size;
        loop->contention.received += (uint32_t)size;
        if (loop->contention.received >= loop->contention.next_look)
            sc_contention_look(loop);
        socket->handler->on_receive(socket, sc_ring_buffer(loop, id), size);
    }
    sc_ring_give_buffer(loop, id);
}

// Those that got nothing when it was their turn, as others had been quicker, stay in front of the others.
static struct sc_slot_list *starved_list(struct sc_socket *socket) {
    return has(socket, SERVED) ? &socket->loop->starved : &socket->loop->passed_over;
}

static void end_receive(struct sc_socket *socket, int reason) {
    set(socket, ENDED);
    if (!has(socket, CLOSING))
        socket->handler->on_end(socket, reason);
}

// A receive that ended goes on, waits for buffers, or was the last.
static void receive_over(struct sc_socket *socket, int result) {
    struct sc_loop *loop = socket->loop;
    if (result == -ENOBUFS) {
        loop->counters.receive_buffers_exhausted++;
        if (has(socket, CLOSING))
            return;
        set(socket, STARVED);
        sc_slot_list_append(loop, starved_list(socket), socket->slot);
    } else if (result > 0 || result == -ECANCELED || result == -EINTR || result == -EAGAIN) {
        arm_receive(socket);
    } else {
        end_receive(socket, result);
    }
}

static bool run_receive(struct sc_socket *socket, const struct sc_completion *completion) {
    // A socket that closes only gives its buffers back.
    if (had_its_share(socket) && !has(socket, CLOSING)) {
        cancel_receive(socket);
        return false;
    }
    bool over = (completion->flags & IORING_CQE_F_MORE) == 0;
    if (over)
        clear(socket, RECEIVING | CANCELLING);
    if (completion->flags & IORING_CQE_F_BUFFER)
        lend_buffer(socket, completion);
    if (over)
        receive_over(socket, completion->result);
    return true;
}

void sc_socket_serve_starved(struct sc_loop *loop) {
    uint32_t waiting = loop->passed_over.count + loop->starved.count;
    uint32_t free = sc_ring_buffers_free(loop);
    if (waiting == 0 || free < sc_ring_buffers_quarter(loop))
        return;
    // Each wants at least one buffer; the first may take them all. Those that wait longest come first.
    for (uint32_t i = 0; i < free && i < waiting; i++) {
        struct sc_slot_list *list =
            loop->passed_over.count > 0 ? &loop->passed_over : &loop->starved;
        uint32_t slot = list->head;
        struct sc_socket *socket = loop->slots.entries[slot].owner;
        sc_slot_list_remove(loop, list, slot);
        clear(socket, STARVED);
        arm_receive(socket);
    }
}

void sc_socket_pause(struct sc_socket *socket) {
    assert(sc_loop_is_current(socket->loop));
    assert(!has(socket, CLOSING));
    set(socket, PAUSED);
    cancel_receive(socket);
}

void sc_socket_resume(struct sc_socket *socket) {
    assert(sc_loop_is_current(socket->loop));
    assert(!has(socket, CLOSING));
    clear(socket, PAUSED);
    arm_receive(socket); // Or when the cancelled one is over.
}

// ---- Sending

static void give_message(struct sc_loop *loop, struct sc_slot *slot) {
    if (slot->message == SC_MESSAGE_NONE)
        return;
    assert(loop->free_message_count < SC_LOOP_SENDS_PER_SLICE);
    loop->free_messages[loop->free_message_count++] = slot->message;
    slot->message = SC_MESSAGE_NONE;
}

static struct msghdr *take_message(struct sc_loop *loop, uint32_t slot,
                                   const struct sc_bytes *pieces, uint32_t count) {
    assert(loop->free_message_count > 0);
    uint16_t index = loop->free_messages[--loop->free_message_count];
    loop->slots.entries[slot].message = index;
    struct sc_send_message *message = &loop->messages[index];
    for (uint32_t i = 0; i < count; i++)
        message->pieces[i] = (struct iovec){(void *)(uintptr_t)pieces[i].data, pieces[i].size};
    message->header = (struct msghdr){.msg_iov = message->pieces, .msg_iovlen = count};
    return &message->header;
}

static size_t size_of(const struct sc_bytes *pieces, uint32_t count) {
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++) {
        assert(pieces[i].size <= SC_LOOP_SEND_SIZE_MAX);
        size += pieces[i].size;
    }
    return size;
}

void sc_socket_send(struct sc_socket *socket, const struct sc_bytes *pieces, uint32_t count,
                    enum sc_send_mode mode) {
    struct sc_loop *loop = socket->loop;
    assert(sc_loop_is_current(loop));
    assert(!has(socket, CLOSING));
    assert(!has(socket, SENDING));
    assert(count >= 1 && count <= SC_LOOP_SEND_PIECES_MAX);
    size_t size = size_of(pieces, count);
    assert(size >= 1 && size <= SC_LOOP_SEND_SIZE_MAX);
    bool try = mode == SC_SEND_TRY;
    int flags = MSG_NOSIGNAL | (try ? MSG_DONTWAIT : 0);
    struct io_uring_sqe *sqe = sc_ring_entry(loop);
    if (count == 1) {
        io_uring_prep_send(sqe, socket->fd, pieces[0].data, size, flags);
    } else {
        assert(try);
        io_uring_prep_sendmsg(sqe, socket->fd, take_message(loop, socket->slot, pieces, count),
                              (unsigned)flags);
    }
    sqe->user_data = sc_slot_tag(loop, try ? SC_KIND_SEND_TRY : SC_KIND_SEND_WAIT, socket->slot);
    set(socket, try ? SENDING : SENDING | SENDING_WAIT);
    if (try) {
        assert(loop->tries_in_flight < SC_LOOP_SENDS_PER_SLICE);
        loop->tries_in_flight++;
    }
    loop->counters.sends++;
}

static void shutdown_if_sent(struct sc_socket *socket) {
    if (has(socket, SHUTDOWN) && !has(socket, SENDING | CLOSING)) {
        clear(socket, SHUTDOWN);
        (void)shutdown(socket->fd, SHUT_WR); // Fails only when the connection is gone already.
    }
}

void sc_socket_shutdown(struct sc_socket *socket) {
    assert(sc_loop_is_current(socket->loop));
    assert(!has(socket, CLOSING));
    set(socket, SHUTDOWN);
    shutdown_if_sent(socket);
}

static void run_sent(struct sc_socket *socket, const struct sc_completion *completion) {
    struct sc_loop *loop = socket->loop;
    if (sc_tag_kind(completion->user_data) == SC_KIND_SEND_TRY) {
        assert(loop->tries_in_flight > 0);
        loop->tries_in_flight--;
    }
    give_message(loop, &loop->slots.entries[socket->slot]);
    bool connected = has(socket, CONNECTING) && completion->result >= 0;
    clear(socket, SENDING | SENDING_WAIT | CONNECTING);
    if (has(socket, CLOSING))
        return;
    if (connected)
        arm_receive(socket);
    socket->handler->on_sent(socket, completion->result);
    shutdown_if_sent(socket);
}

uint32_t sc_socket_unacknowledged(const struct sc_socket *socket) {
    int size = 0;
    return ioctl(socket->fd, SIOCOUTQ, &size) == 0 && size > 0 ? (uint32_t)size : 0;
}

// ---- Opening and closing

static int take_over(struct sc_loop *loop, struct sc_socket *socket, int fd,
                     const struct sc_socket_handler *handler) {
    assert(sc_loop_is_current(loop));
    assert(fd >= 0);
    *socket = (struct sc_socket){.handler = handler, .loop = loop, .fd = fd};
    int rc = sc_slot_take(loop, socket, &socket->slot);
    if (rc != 0)
        return rc;
    return 0;
}

int sc_socket_open(struct sc_loop *loop, struct sc_socket *socket, int fd,
                   const struct sc_socket_handler *handler) {
    int rc = take_over(loop, socket, fd, handler);
    if (rc == 0)
        arm_receive(socket);
    return rc;
}

int sc_socket_connect(struct sc_loop *loop, struct sc_socket *socket, int fd,
                      const struct sockaddr *address, uint32_t address_size,
                      const struct sc_socket_handler *handler) {
    int rc = take_over(loop, socket, fd, handler);
    if (rc != 0)
        return rc;
    int one = 1;
    // As accepted ones have it from their listener. Not every socket is TCP.
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    set(socket, SENDING | SENDING_WAIT | CONNECTING);
    struct io_uring_sqe *sqe = sc_ring_entry(loop);
    io_uring_prep_connect(sqe, fd, address, address_size);
    sqe->user_data = sc_slot_tag(loop, SC_KIND_SEND_WAIT, socket->slot);
    return 0;
}

static void close_if_idle(struct sc_socket *socket) {
    if (has(socket, RECEIVING | SENDING | CLOSE_IN_FLIGHT))
        return;
    set(socket, CLOSE_IN_FLIGHT);
    if (has(socket, ABORT)) {
        struct linger linger = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(socket->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
    }
    struct io_uring_sqe *sqe = sc_ring_entry(socket->loop);
    io_uring_prep_close(sqe, socket->fd);
    sqe->user_data = sc_slot_tag(socket->loop, SC_KIND_SOCKET_CLOSED, socket->slot);
}

static void cancel_send(struct sc_socket *socket) {
    if (has(socket, SENDING_WAIT))
        sc_ring_cancel(socket->loop, SC_KIND_CANCEL_SEND, SC_KIND_SEND_WAIT, socket->slot);
}

void sc_socket_close(struct sc_socket *socket, bool abort) {
    struct sc_loop *loop = socket->loop;
    assert(sc_loop_is_current(loop));
    assert(!has(socket, CLOSING));
    if (has(socket, STARVED)) {
        sc_slot_list_remove(loop, starved_list(socket), socket->slot);
        clear(socket, STARVED);
    }
    set(socket, abort ? CLOSING | ABORT : CLOSING);
    cancel_receive(socket);
    cancel_send(socket);
    close_if_idle(socket);
}

// A cancel that found nothing to cancel came too late, as a rule; else it is tried again.
static void run_cancel(struct sc_socket *socket, const struct sc_completion *completion) {
    if (completion->result >= 0)
        return;
    if (sc_tag_kind(completion->user_data) == SC_KIND_CANCEL_SEND) {
        cancel_send(socket);
    } else if (has(socket, CANCELLING)) {
        clear(socket, CANCELLING);
        if (has(socket, PAUSED | CLOSING))
            cancel_receive(socket);
    }
}

static void run_closed(struct sc_loop *loop, struct sc_socket *socket) {
    assert(has(socket, CLOSE_IN_FLIGHT));
    sc_slot_give(loop, socket->slot);
    socket->fd = -1;
    socket->handler->on_closed(socket); // Frees it, as a rule.
}

bool sc_socket_run(struct sc_loop *loop, struct sc_socket *socket,
                   const struct sc_completion *completion) {
    switch (sc_tag_kind(completion->user_data)) {
    case SC_KIND_RECEIVE:
        if (!run_receive(socket, completion))
            return false;
        break;
    case SC_KIND_SEND_TRY:
    case SC_KIND_SEND_WAIT:
        run_sent(socket, completion);
        break;
    case SC_KIND_SOCKET_CLOSED:
        run_closed(loop, socket);
        return true;
    default:
        run_cancel(socket, completion);
    }
    if (has(socket, CLOSING))
        close_if_idle(socket);
    return true;
}
