// Operations on sockets: the calls themselves, and what is kept of an operation until its descriptor is ready.
#include "epoll.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static bool has(const struct sc_slot *slot, unsigned flag) {
    return (slot->backend_flags & flag) != 0;
}
static void set(struct sc_slot *slot, unsigned flag) {
    slot->backend_flags = (uint16_t)(slot->backend_flags | flag);
}
static void clear(struct sc_slot *slot, unsigned flag) {
    slot->backend_flags = (uint16_t)(slot->backend_flags & ~flag);
}

static uint32_t index_of(uint64_t tag) {
    return (uint32_t)tag;
}

// The slot of a tag. It stands for `fd` from its first operation on, until that is closed.
static struct sc_slot *slot_of(struct epoll *epoll, int fd, uint64_t tag) {
    struct sc_slot *slot = sc_loop_slot(epoll->base.loop, index_of(tag));
    if (!has(slot, SLOT_USED)) {
        slot->backend_fd = fd;
        set(slot, SLOT_USED);
    }
    assert(slot->backend_fd == fd && slot->generation == (uint16_t)(tag >> 32));
    return slot;
}

// ---- Receiving and accepting

// What was ready before it was added is an event all the same. What an operation before this one has left is known.
static void begin(struct epoll *epoll, int fd, unsigned flags, uint64_t tag) {
    struct sc_slot *slot = slot_of(epoll, fd, tag);
    epoll->base.counters->submissions++;
    int rc = sc_epoll_add(epoll, index_of(tag), slot);
    if (rc != 0) {
        sc_epoll_finish(epoll, tag, rc, 0);
        return;
    }
    set(slot, flags);
    if (has(slot, SLOT_READABLE))
        sc_epoll_line_up(epoll, index_of(tag), slot);
}

void sc_epoll_accept(struct sc_backend *backend, int fd, uint64_t tag) {
    begin(sc_epoll_of(backend), fd, SLOT_ACCEPTING, tag);
}

void sc_epoll_receive(struct sc_backend *backend, int fd, bool once, uint64_t tag) {
    begin(sc_epoll_of(backend), fd, SLOT_RECEIVING | SLOT_UNSERVED | (once ? SLOT_ONCE : 0), tag);
}

static bool says_nothing_more(ssize_t result) {
    return result == -EAGAIN || result == -EWOULDBLOCK;
}

static uint32_t accept_some(struct epoll *epoll, uint32_t index, struct sc_slot *slot,
                            struct sc_completion *out, uint32_t most) {
    uint64_t tag = sc_epoll_tag(index, slot, SC_KIND_ACCEPT);
    uint32_t count = 0;
    if (most > SC_EPOLL_ACCEPTS_MAX)
        most = SC_EPOLL_ACCEPTS_MAX;
    while (count < most) {
        int fd = accept4(slot->backend_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        int result = fd >= 0 ? fd : -errno;
        epoll->base.counters->enters++;
        if (says_nothing_more(result)) {
            clear(slot, SLOT_READABLE);
            return count;
        }
        out[count++] = (struct sc_completion){tag, result, result >= 0 ? SC_COMPLETION_MORE : 0};
        if (result < 0) {
            // What waits to be accepted is still there: the next accept finds it without an event.
            clear(slot, SLOT_ACCEPTING);
            return count;
        }
    }
    sc_epoll_line_up(epoll, index, slot);
    return count;
}

// Fewer bytes than there was room for were all, unless something is ahead. What comes later is an event of its own.
static bool was_all(const struct epoll *epoll, const struct sc_slot *slot, ssize_t result) {
    return result > 0 && result < (ssize_t)epoll->base.config->receive_buffer_size &&
           !has(slot, SLOT_READ_ON);
}

static uint32_t receive_once(struct epoll *epoll, uint32_t index, struct sc_slot *slot,
                             struct sc_completion *out) {
    if (epoll->free_count == 0) {
        // Nothing is lost: it stands in the line, as all behind it, and buffers come back with this turn.
        epoll->starved = true;
        epoll->base.counters->receive_buffers_exhausted++;
        sc_epoll_line_up(epoll, index, slot);
        return 0;
    }
    clear(slot, SLOT_UNSERVED);
    uint32_t size = epoll->base.config->receive_buffer_size;
    uint16_t buffer = epoll->free_buffers[epoll->free_count - 1];
    ssize_t result =
        recv(slot->backend_fd, epoll->base.buffers + (size_t)buffer * size, size, MSG_DONTWAIT);
    if (result < 0)
        result = -errno;
    epoll->base.counters->enters++;
    if (says_nothing_more(result)) {
        clear(slot, SLOT_READABLE | SLOT_READ_ON);
        return 0;
    }
    uint64_t tag = sc_epoll_tag(index, slot, SC_KIND_RECEIVE);
    *out = (struct sc_completion){tag, (int32_t)result, 0};
    if (result <= 0 || has(slot, SLOT_ONCE))
        clear(slot, SLOT_RECEIVING | SLOT_ONCE);
    else
        out->flags = SC_COMPLETION_MORE;
    if (result <= 0)
        return 1;
    epoll->free_count--;
    epoll->base.buffers_out++;
    out->flags |= SC_COMPLETION_BUFFER | (uint32_t)buffer << SC_COMPLETION_BUFFER_SHIFT;
    if (was_all(epoll, slot, result))
        clear(slot, SLOT_READABLE);
    else if (has(slot, SLOT_RECEIVING))
        sc_epoll_line_up(epoll, index, slot);
    return 1;
}

uint32_t sc_epoll_serve(struct epoll *epoll, uint32_t index, struct sc_completion *out,
                        uint32_t most) {
    assert(most > 0);
    struct sc_slot *slot = sc_loop_slot(epoll->base.loop, index);
    if (!has(slot, SLOT_READABLE))
        return 0;
    if (has(slot, SLOT_RECEIVING))
        return receive_once(epoll, index, slot, out);
    return has(slot, SLOT_ACCEPTING) ? accept_some(epoll, index, slot, out, most) : 0;
}

void sc_epoll_give_buffer(struct sc_backend *backend, uint32_t buffer) {
    struct epoll *epoll = sc_epoll_of(backend);
    assert(backend->buffers_out > 0 && epoll->free_count < backend->config->receive_buffer_count);
    backend->buffers_out--;
    epoll->free_buffers[epoll->free_count++] = (uint16_t)buffer;
}

// ---- Sending and connecting

static int32_t send_now(struct epoll *epoll, int fd, const struct sc_bytes *pieces,
                        uint32_t count) {
    epoll->base.counters->enters++;
    ssize_t result;
    if (count == 1) {
        result = send(fd, pieces[0].data, pieces[0].size, MSG_NOSIGNAL | MSG_DONTWAIT);
    } else {
        struct iovec views[SC_LOOP_SEND_PIECES_MAX];
        for (uint32_t i = 0; i < count; i++)
            views[i] = (struct iovec){(void *)(uintptr_t)pieces[i].data, pieces[i].size};
        struct msghdr header = {.msg_iov = views, .msg_iovlen = count};
        result = sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    return result >= 0 ? (int32_t)result : -errno;
}

// Aborts only when memory is out, as the list of timers does: there are few, those of readers that are slow now.
static struct waiting_send *take_send(struct epoll *epoll) {
    struct sc_table_node *spare = epoll->spare_sends;
    if (spare == NULL)
        return sc_allocate(sizeof(struct waiting_send));
    epoll->spare_sends = spare->next;
    return SC_CONTAINER_OF(spare, struct waiting_send, node);
}

// Borrows the bytes until the completion.
static void wait_for_room(struct epoll *epoll, struct sc_slot *slot, struct sc_bytes bytes,
                          unsigned flags, uint64_t tag) {
    assert(!has(slot, SLOT_WAITING));
    int rc = sc_epoll_add(epoll, index_of(tag), slot);
    struct waiting_send *send = take_send(epoll);
    *send = (struct waiting_send){.node.hash = index_of(tag), .bytes = bytes};
    if (rc == 0)
        rc = sc_table_insert(&epoll->sends, &send->node);
    if (rc == 0) {
        set(slot, SLOT_WAITING | flags);
        return;
    }
    send->node.next = epoll->spare_sends;
    epoll->spare_sends = &send->node;
    sc_epoll_finish(epoll, tag, rc, 0);
}

// A slot has one send at most, and so the first node is it.
static struct waiting_send *waiting_of(struct epoll *epoll, uint32_t index) {
    struct sc_table_node *node = sc_table_first(&epoll->sends, index);
    assert(node != NULL);
    return SC_CONTAINER_OF(node, struct waiting_send, node);
}

static void end_waiting(struct epoll *epoll, uint32_t index, struct sc_slot *slot) {
    struct waiting_send *send = waiting_of(epoll, index);
    sc_table_remove(&epoll->sends, &send->node);
    send->node.next = epoll->spare_sends;
    epoll->spare_sends = &send->node;
    clear(slot, SLOT_WAITING | SLOT_CONNECTING);
}

// One that may wait is tried at once: as a rule there is room again when the loop comes to it. An event that says so comes
// after each send that was not taken whole.
static void send_or_wait(struct epoll *epoll, int fd, struct sc_bytes bytes, uint64_t tag) {
    int32_t result = send_now(epoll, fd, &bytes, 1);
    if (says_nothing_more(result))
        wait_for_room(epoll, slot_of(epoll, fd, tag), bytes, 0, tag);
    else
        sc_epoll_finish(epoll, tag, result, 0);
}

void sc_epoll_send(struct sc_backend *backend, int fd, const struct sc_bytes *pieces,
                   uint32_t count, enum sc_send_mode mode, uint64_t tag) {
    struct epoll *epoll = sc_epoll_of(backend);
    backend->counters->submissions++;
    if (mode == SC_SEND_WAIT) {
        send_or_wait(epoll, fd, pieces[0], tag);
        return;
    }
    if (epoll->prepared_count == SC_LOOP_SENDS_PER_SLICE)
        sc_epoll_submit(backend);
    uint32_t index = epoll->prepared_count++;
    epoll->prepared[index] = (struct prepared_send){tag, pieces[0], fd, count};
    if (count > 1)
        memcpy(epoll->pieces[index], pieces, count * sizeof *pieces);
}

void sc_epoll_submit(struct sc_backend *backend) {
    struct epoll *epoll = sc_epoll_of(backend);
    uint32_t count = epoll->prepared_count;
    epoll->prepared_count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const struct prepared_send *send = &epoll->prepared[i];
        const struct sc_bytes *pieces = send->count == 1 ? &send->first : epoll->pieces[i];
        sc_epoll_finish(epoll, send->tag, send_now(epoll, send->fd, pieces, send->count), 0);
    }
}

static int connect_now(int fd, const struct sockaddr *address, uint32_t size) {
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || ((flags & O_NONBLOCK) == 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0))
        return -errno;
    return connect(fd, address, size) == 0 ? 0 : -errno;
}

// Added to epoll after the call: a socket that has not begun to connect is ready for all, in vain.
void sc_epoll_connect(struct sc_backend *backend, int fd, const struct sockaddr *address,
                      uint32_t size, uint64_t tag) {
    struct epoll *epoll = sc_epoll_of(backend);
    backend->counters->submissions++;
    backend->counters->enters++;
    int rc = connect_now(fd, address, size);
    if (rc != -EINPROGRESS && rc != -EINTR) {
        sc_epoll_finish(epoll, tag, rc, 0);
        return;
    }
    wait_for_room(epoll, slot_of(epoll, fd, tag), (struct sc_bytes){0}, SLOT_CONNECTING, tag);
}

static int32_t connect_result(const struct sc_slot *slot) {
    int error = 0;
    socklen_t size = sizeof error;
    if (getsockopt(slot->backend_fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        return -errno;
    return -error;
}

void sc_epoll_writable(struct epoll *epoll, uint32_t index, struct sc_slot *slot) {
    int32_t result = has(slot, SLOT_CONNECTING)
                         ? connect_result(slot)
                         : send_now(epoll, slot->backend_fd, &waiting_of(epoll, index)->bytes, 1);
    if (says_nothing_more(result))
        return;
    end_waiting(epoll, index, slot);
    sc_epoll_finish(epoll, sc_epoll_tag(index, slot, SC_KIND_SEND_WAIT), result, 0);
}

// ---- Ending

static bool end_operation(struct epoll *epoll, uint32_t index, struct sc_slot *slot,
                          enum sc_kind kind) {
    unsigned flag = kind == SC_KIND_RECEIVE ? SLOT_RECEIVING : SLOT_ACCEPTING;
    if (kind == SC_KIND_SEND_WAIT) {
        if (!has(slot, SLOT_WAITING))
            return false;
        end_waiting(epoll, index, slot);
        return true;
    }
    bool found = has(slot, flag);
    clear(slot, flag | SLOT_ONCE | SLOT_UNSERVED);
    return found;
}

// A receive that is ended before its turn came brings what is there, as one on a ring does: who pauses and resumes in each
// turn would never get anything.
static void serve_before_end(struct epoll *epoll, uint32_t index, struct sc_slot *slot) {
    struct sc_completion completion;
    if (has(slot, SLOT_RECEIVING) && has(slot, SLOT_UNSERVED) && has(slot, SLOT_READABLE) &&
        receive_once(epoll, index, slot, &completion) == 1)
        sc_epoll_finish(epoll, completion.tag, completion.result, completion.flags);
}

void sc_epoll_cancel(struct sc_backend *backend, int fd, uint64_t target, uint64_t tag) {
    struct epoll *epoll = sc_epoll_of(backend);
    struct sc_slot *slot = slot_of(epoll, fd, target);
    uint32_t index = index_of(target);
    backend->counters->submissions++;
    if (sc_tag_kind(target) == SC_KIND_RECEIVE)
        serve_before_end(epoll, index, slot);
    if (end_operation(epoll, index, slot, sc_tag_kind(target)))
        sc_epoll_finish(epoll, target, -ECANCELED, 0);
    else
        sc_epoll_finish(epoll, tag, -ENOENT, 0);
}

// Closing takes the descriptor out of epoll: nobody else has it. A file that another process has for a moment, between its
// fork and exec, may still bring an event, and an event is a hint: the next socket of the slot then finds nothing.
void sc_epoll_close_socket(struct sc_backend *backend, int fd, bool abort, uint64_t tag) {
    struct epoll *epoll = sc_epoll_of(backend);
    struct sc_slot *slot = slot_of(epoll, fd, tag);
    assert(!has(slot, SLOT_WAITING | SLOT_RECEIVING | SLOT_ACCEPTING));
    if (abort)
        sc_socket_reset_on_close(fd);
    slot->backend_flags &= SLOT_LISTED;
    backend->counters->submissions++;
    backend->counters->enters++;
    int rc = close(fd) == 0 ? 0 : -errno;
    sc_epoll_finish(epoll, tag, rc, 0);
}
