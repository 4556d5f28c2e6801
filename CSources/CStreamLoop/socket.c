// Sockets: one receive that goes on and at most one send in flight each.
//
// Closing: cancel, wait until nothing is in flight, close the descriptor, and with that completion tell the
// owner. The slot, and with it the generation, lasts until then.
#include "loop_private.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

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

// A tag names the slot and its generation: a completion of a socket that has gone finds nobody.
static uint64_t tag_of(const struct sc_socket *socket, enum sc_kind kind) {
    return sc_slot_tag(socket->loop, kind, socket->slot);
}

static void cancel(const struct sc_socket *socket, enum sc_kind target, enum sc_kind kind) {
    struct sc_backend *backend = socket->loop->backend;
    backend->kind->cancel(backend, socket->fd, tag_of(socket, target), tag_of(socket, kind));
}

// ---- Receiving

// Does nothing where a receive is in flight or not wanted.
static void arm_receive(struct sc_socket *socket) {
    if (has(socket, RECEIVING | PAUSED | STARVED | ENDED | CLOSING | CONNECTING))
        return;
    struct sc_backend *backend = socket->loop->backend;
    backend->kind->receive(backend, socket->fd, socket->loop->contention.contended,
                           tag_of(socket, SC_KIND_RECEIVE));
    set(socket, RECEIVING);
    clear(socket, SERVED);
}

// Its completion ends the receive, whatever had come before: bytes that the kernel has put into a buffer are not lost.
static void cancel_receive(struct sc_socket *socket) {
    if (!has(socket, RECEIVING) || has(socket, CANCELLING))
        return;
    cancel(socket, SC_KIND_RECEIVE, SC_KIND_CANCEL_RECEIVE);
    set(socket, CANCELLING);
}

// Counted by turn, without a visit to each socket when a turn begins.
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

static uint8_t *bytes_of(const struct sc_loop *loop, uint32_t buffer) {
    assert(buffer < loop->config.receive_buffer_count);
    return loop->backend->buffers + (size_t)buffer * loop->config.receive_buffer_size;
}

// Lent for the call: the owner copies what it keeps. So a few buffers serve any number of sockets.
static void lend_buffer(struct sc_socket *socket, const struct sc_completion *completion) {
    struct sc_loop *loop = socket->loop;
    struct sc_backend *backend = loop->backend;
    uint32_t buffer = sc_completion_buffer(completion);
    if (completion->result > 0 && !has(socket, CLOSING)) {
        size_t size = (size_t)completion->result;
        assert(size <= loop->config.receive_buffer_size);
        loop->counters.receives++;
        set(socket, SERVED);
        socket->received_this_turn += (uint32_t)size;
        loop->contention.received += (uint32_t)size;
        if (loop->contention.received >= loop->contention.next_look)
            sc_contention_look(loop);
        socket->handler->on_receive(socket, bytes_of(loop, buffer), size);
    }
    backend->kind->give_buffer(backend, buffer);
}

// Those that got nothing when it was their turn, as others had been quicker, stay in front of the others.
static struct sc_slot_list *starved_list(struct sc_socket *socket) {
    return has(socket, SERVED) ? &socket->loop->starved : &socket->loop->passed_over;
}

// Once. A socket that closes is told nothing any more.
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

// False: the completion stays in the inbox, with its buffer, for the next turn.
static bool run_receive(struct sc_socket *socket, const struct sc_completion *completion) {
    // A socket that closes only gives its buffers back.
    if (had_its_share(socket) && !has(socket, CLOSING)) {
        cancel_receive(socket);
        return false;
    }
    bool over = !sc_completion_goes_on(completion);
    if (over)
        clear(socket, RECEIVING | CANCELLING);
    if (sc_completion_has_buffer(completion))
        lend_buffer(socket, completion);
    if (over)
        receive_over(socket, completion->result);
    return true;
}

// At the end of a turn, when a quarter of the buffers is free: fewer would wake many for little.
void sc_socket_serve_starved(struct sc_loop *loop) {
    uint32_t waiting = loop->passed_over.count + loop->starved.count;
    if (waiting == 0)
        return;
    uint32_t count = loop->config.receive_buffer_count, free = count - loop->backend->buffers_out;
    if (free < (count + 3) / 4)
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

// Bytes that have come meanwhile are given to the owner all the same: it keeps them, and takes them up when it resumes.
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

// Within what one message to the kernel may have: the caller has cut longer ones.
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
    loop->counters.sends++;
    enum sc_kind kind = SC_KIND_SEND_TRY;
    if (mode == SC_SEND_TRY) {
        assert(loop->tries_in_flight < SC_LOOP_SENDS_PER_SLICE);
        loop->tries_in_flight++;
        set(socket, SENDING);
    } else {
        assert(count == 1);
        kind = SC_KIND_SEND_WAIT;
        set(socket, SENDING | SENDING_WAIT);
    }
    // Last, so that it is a jump and no call: each delivery comes by here.
    loop->backend->kind->send(loop->backend, socket->fd, pieces, count, mode, tag_of(socket, kind));
}

// Behind the last byte. A shutdown before it would cut it off.
static void shutdown_if_sent(struct sc_socket *socket) {
    if (has(socket, SHUTDOWN) && !has(socket, SENDING | CLOSING)) {
        clear(socket, SHUTDOWN);
        socket->loop->backend->kind->shutdown(socket->loop->backend, socket->fd);
    }
}

void sc_socket_shutdown(struct sc_socket *socket) {
    assert(sc_loop_is_current(socket->loop));
    assert(!has(socket, CLOSING));
    set(socket, SHUTDOWN);
    shutdown_if_sent(socket);
}

// A connect is the first send. What the owner sends from `on_sent` on is the next one.
static void run_sent(struct sc_socket *socket, const struct sc_completion *completion) {
    struct sc_loop *loop = socket->loop;
    if (sc_tag_kind(completion->tag) == SC_KIND_SEND_TRY) {
        assert(loop->tries_in_flight > 0);
        loop->tries_in_flight--;
    }
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
    return socket->loop->backend->kind->unacknowledged(socket->loop->backend, socket->fd);
}

// ---- Opening and closing

// From here on the descriptor belongs to the socket, which closes it.
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
    loop->backend->kind->connect(loop->backend, fd, address, address_size,
                                 tag_of(socket, SC_KIND_SEND_WAIT));
    return 0;
}

// The kernel may write to a buffer, or read from one, until each operation has completed. Then the descriptor may go.
static void close_if_idle(struct sc_socket *socket) {
    if (has(socket, RECEIVING | SENDING | CLOSE_IN_FLIGHT))
        return;
    set(socket, CLOSE_IN_FLIGHT);
    struct sc_backend *backend = socket->loop->backend;
    backend->kind->close_socket(backend, socket->fd, has(socket, ABORT),
                                tag_of(socket, SC_KIND_SOCKET_CLOSED));
}

// A try has completed by the time it is asked for: only sends that wait are cancelled.
static void cancel_send(struct sc_socket *socket) {
    if (has(socket, SENDING_WAIT))
        cancel(socket, SC_KIND_SEND_WAIT, SC_KIND_CANCEL_SEND);
}

// The owner hears of the end by `on_closed`, never from within this call: it may be in a callback of its own.
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
    if (sc_tag_kind(completion->tag) == SC_KIND_CANCEL_SEND) {
        cancel_send(socket);
    } else if (has(socket, CANCELLING)) {
        clear(socket, CANCELLING);
        if (has(socket, PAUSED | CLOSING))
            cancel_receive(socket);
    }
}

// The slot goes first: the owner may open another socket from here.
static void run_closed(struct sc_loop *loop, struct sc_socket *socket) {
    assert(has(socket, CLOSE_IN_FLIGHT));
    sc_slot_give(loop, socket->slot);
    socket->fd = -1;
    socket->handler->on_closed(socket); // Frees it, as a rule.
}

// Whatever came may have been the last thing that a closing socket waited for.
bool sc_socket_run(struct sc_loop *loop, struct sc_socket *socket,
                   const struct sc_completion *completion) {
    switch (sc_tag_kind(completion->tag)) {
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
