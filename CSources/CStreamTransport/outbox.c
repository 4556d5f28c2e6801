// Bytes on their way out. What a turn has for a connection is a few slices of chunks; at the end of the turn each
// connection gets one send that never waits. What its socket does not take goes to the connection's own backlog,
// charged to its account, so that a slow reader holds nothing that others share.
//
// Where a port has a certificate, a channel (channel.c) stands between flush() and the socket. It takes the slices of a turn
// for ciphertext, which is what is sent then. So frames are only looked for in plaintext, and budgets count what waits.
#include <errno.h>
#include <stdlib.h>

#include "transport_private.h"

// ---- What a turn puts together

// Those that send first come before all others: an answer does not wait for the end of a large fan-out.
void sc_out_mark_dirty(struct connection *connection) {
    if (connection->dirty)
        return;
    struct transport *transport = connection->transport;
    connection->dirty = true;
    if (connection->port->role->sends_first && transport->dirty_first != NULL) {
        connection->dirty_next = transport->dirty_first;
        transport->dirty_first = connection;
        return;
    }
    connection->dirty_next = NULL;
    if (transport->dirty_last != NULL)
        transport->dirty_last->dirty_next = connection;
    else
        transport->dirty_first = connection;
    transport->dirty_last = connection;
}

bool sc_out_is_empty(const struct connection *connection) {
    return connection->ready.chunk == NULL && !sc_socket_sending(&connection->socket) &&
           !sc_backlog_waits(connection);
}

uint64_t sc_out_ready_size(const struct connection *connection) {
    uint64_t size = connection->ready.size;
    for (uint32_t i = 0; connection->more != NULL && i < connection->more->count; i++)
        size += connection->more->slices[i].size;
    return size;
}

uint64_t sc_out_behind(const struct connection *connection) {
    return connection->backlog == NULL ? 0 : connection->backlog->bytes;
}

uint64_t sc_out_waiting(const struct connection *connection) {
    uint64_t behind = sc_out_behind(connection);
    return connection->ready.chunk == NULL ? behind : behind + sc_out_ready_size(connection);
}

static bool extends(struct slice *last, struct slice slice) {
    if (last->chunk != slice.chunk || last->offset + last->size != slice.offset)
        return false;
    last->size += slice.size;
    return true;
}

void sc_out_ready_to_backlog(struct connection *connection) {
    struct chunks *chunks = &connection->transport->chunks;
    if (connection->ready.chunk == NULL)
        return;
    const struct channel_kind *channel = connection->port->channel;
    if (channel != NULL && channel->takes_sealed(connection))
        sc_backlog_put_sealed(
            connection, (struct sc_bytes){slice_data(connection->ready), connection->ready.size},
            false);
    else
        sc_backlog_append(connection, connection->ready, 0);
    sc_chunks_release(chunks, connection->ready);
    connection->ready = (struct slice){0};
    for (uint32_t i = 0; connection->more != NULL && i < connection->more->count; i++) {
        sc_backlog_append(connection, connection->more->slices[i], 0);
        sc_chunks_release(chunks, connection->more->slices[i]);
    }
    free(connection->more);
    connection->more = NULL;
}

void sc_out_append(struct connection *connection, struct slice slice) {
    if (connection->state >= STATE_CLOSING)
        return;
    // Most follow on from what the turn has for the connection already.
    if (connection->dirty && connection->more == NULL && !sc_socket_sending(&connection->socket) &&
        connection->ready.chunk != NULL && extends(&connection->ready, slice))
        return;
    if (sc_backlog_waits(connection) || sc_socket_sending(&connection->socket)) {
        sc_backlog_append(connection, slice, 0);
        sc_backlog_check(connection);
        if (!sc_socket_sending(&connection->socket))
            sc_out_mark_dirty(connection); // Its send has just ended, or cannot have begun.
        return;
    }
    sc_out_mark_dirty(connection);
    if (connection->ready.chunk == NULL) {
        connection->ready = slice;
        sc_slice_retain(slice);
        return;
    }
    struct ready_more *more = connection->more;
    struct slice *last = more == NULL ? &connection->ready : &more->slices[more->count - 1];
    if (extends(last, slice))
        return;
    if (more == NULL) {
        more = connection->more = sc_allocate(sizeof *more);
        more->count = 0;
    }
    if (more->count == READY_SLICES_MAX - 1) {
        // More pieces than one send takes: they leave copied together.
        sc_out_ready_to_backlog(connection);
        sc_backlog_append(connection, slice, 0);
        return;
    }
    more->slices[more->count++] = slice;
    sc_slice_retain(slice);
}

void sc_out_append_bytes(struct connection *connection, const uint8_t *bytes, size_t size) {
    struct chunks *chunks = &connection->transport->chunks;
    struct slice slice = sc_chunks_take(chunks, LANE_PRIVATE, size);
    memcpy(slice_data(slice), bytes, size);
    sc_out_append(connection, slice);
    sc_chunks_release(chunks, slice);
}

void sc_out_append_control(struct connection *connection, const uint8_t *frame, size_t size) {
    if (connection->state >= STATE_CLOSING)
        return;
    if (sc_backlog_waits(connection))
        sc_backlog_put_second(connection, frame, size);
    else
        sc_out_append_bytes(connection, frame, size);
}

// ---- Pongs

// At most one of each kind waits: whoever pings and does not read costs no more than that.

static bool takes_pongs(const struct connection *connection) {
    return !sc_backlog_waits(connection) &&
           (connection->ready.chunk == NULL || sc_out_ready_size(connection) <= SC_PONGS_SIZE_MAX);
}

void sc_out_pong(struct connection *connection, struct sc_bytes payload) {
    uint8_t frame[2 + SC_WS_CONTROL_SIZE_MAX];
    size_t size = sc_ws_header_write(frame, SC_WS_PONG, true, payload.size, NULL);
    if (payload.size > 0)
        memcpy(frame + size, payload.data, payload.size);
    size += payload.size;
    if (takes_pongs(connection)) {
        sc_out_append_control(connection, frame, size);
        return;
    }
    struct inbound *inbound = sc_inbound_of(connection);
    inbound->pong_size = (uint8_t)size;
    memcpy(inbound->pong, frame, size);
}

void sc_out_message_pong(struct connection *connection) {
    struct sc_bytes pong = connection->port->role->message_pong;
    if (takes_pongs(connection))
        sc_out_append_bytes(connection, pong.data, pong.size);
    else
        sc_inbound_of(connection)->message_pong = true;
}

// The next to leave begins with a whole frame: pongs that wait go before it, one that is a message not into the middle
// of another.
static void pongs_to_backlog(struct connection *connection) {
    const struct backlog_piece *first = connection->backlog->first;
    struct inbound *inbound = connection->inbound;
    if (inbound == NULL || first->sealed || first->sent > 0 || !connection->framed)
        return;
    bool between_messages = (first->data[0] & 0x0f) != 0;
    if (inbound->message_pong && between_messages) {
        struct sc_bytes pong = connection->port->role->message_pong;
        inbound->message_pong = false;
        sc_backlog_put_first(connection, pong.data, pong.size);
    }
    if (inbound->pong_size > 0) {
        sc_backlog_put_first(connection, inbound->pong, inbound->pong_size);
        inbound->pong_size = 0;
    }
}

// Nothing waits any more.
static void pongs_to_ready(struct connection *connection) {
    struct inbound *inbound = connection->inbound;
    if (inbound->message_pong) {
        struct sc_bytes pong = connection->port->role->message_pong;
        inbound->message_pong = false;
        sc_out_append_bytes(connection, pong.data, pong.size);
    }
    if (inbound->pong_size > 0) {
        uint8_t size = inbound->pong_size;
        inbound->pong_size = 0;
        sc_out_append_bytes(connection, inbound->pong, size);
    }
}

// ---- Sending

void sc_out_send_backlog(struct connection *connection) {
    pongs_to_backlog(connection);
    const struct channel_kind *channel = connection->port->channel;
    if (channel != NULL && !channel->seal_backlog(connection))
        return;
    struct backlog_piece *piece = connection->backlog->first;
    size_t size = piece->size - piece->sent;
    if (size > SC_LOOP_SEND_SIZE_MAX)
        size = SC_LOOP_SEND_SIZE_MAX;
    struct sc_bytes bytes = {piece->data + piece->sent, size};
    sc_socket_send(&connection->socket, &bytes, 1, SC_SEND_WAIT);
}

// Returns whether a send that does not wait was started.
static bool flush(struct connection *connection) {
    if (connection->state >= STATE_TERMINATING || sc_socket_sending(&connection->socket))
        return false;
    if (connection->port->channel != NULL)
        return connection->port->channel->flush(connection);
    if (connection->ready.chunk != NULL && sc_out_ready_size(connection) > SC_LOOP_SEND_SIZE_MAX)
        sc_out_ready_to_backlog(connection);
    if (connection->ready.chunk == NULL) {
        if (sc_backlog_waits(connection))
            sc_out_send_backlog(connection);
        return false;
    }
    struct sc_bytes pieces[READY_SLICES_MAX];
    uint32_t count = 1;
    pieces[0] = (struct sc_bytes){slice_data(connection->ready), connection->ready.size};
    for (uint32_t i = 0; connection->more != NULL && i < connection->more->count; i++) {
        struct slice slice = connection->more->slices[i];
        pieces[count++] = (struct sc_bytes){slice_data(slice), slice.size};
    }
    sc_socket_send(&connection->socket, pieces, count, SC_SEND_TRY);
    return true;
}

static struct connection *dirty_pop(struct transport *transport) {
    struct connection *connection = transport->dirty_first;
    transport->dirty_first = connection->dirty_next;
    if (transport->dirty_first == NULL)
        transport->dirty_last = NULL;
    connection->dirty = false;
    return connection;
}

// When those who have waited longest have much to get, no turn ends before all have got theirs: who writes must not
// get ahead of what is sent, or it would be copied to the backlogs of readers that are not slow.
static uint32_t sends_max(const struct connection *waited) {
    bool much = sc_out_ready_size(waited) > SC_LOOP_SEND_SIZE_MAX / 4 ||
                (waited->more != NULL && waited->more->count >= READY_SLICES_MAX / 2);
    return much ? UINT32_MAX : SC_CLIENT_SENDS_PER_TURN;
}

void sc_transport_flush(struct transport *transport) {
    uint32_t started = 0, bounded = 0, most = SC_CLIENT_SENDS_PER_TURN;
    while (transport->dirty_first != NULL && bounded < most) {
        struct connection *connection = dirty_pop(transport);
        bool is_bounded = !connection->port->role->sends_first;
        if (bounded == 0 && is_bounded)
            most = sends_max(connection);
        if (connection->state == STATE_FREED) {
            sc_heap_give(connection);
        } else if (flush(connection)) {
            started++;
            bounded += is_bounded;
        }
        bool last = transport->dirty_first == NULL || bounded == most;
        if (started == SC_LOOP_SENDS_PER_SLICE || (last && started > 0)) {
            int rc = sc_loop_flush(
                transport->loop); // Ends in sc_out_sent, which may make some dirty again.
            assert(rc == 0);
            started = 0;
        }
    }
    if (transport->dirty_first != NULL)
        transport->events->turn_again(transport);
}

void sc_out_free(struct connection *connection) {
    assert(connection->state == STATE_FREED);
    if (!connection->dirty)
        sc_heap_give(connection);
}

void sc_out_free_dirty(struct transport *transport) {
    while (transport->dirty_first != NULL) {
        struct connection *connection = dirty_pop(transport);
        assert(connection->state == STATE_FREED);
        sc_heap_give(connection);
    }
}

// ---- What a send has come to

// The bytes of the first frame of a slice that a partial send has begun lie behind this offset.
static uint32_t frame_start_before(const uint8_t *data, uint32_t size, uint32_t sent) {
    uint32_t at = 0;
    for (;;) {
        uint64_t payload = data[at + 1] & 0x7f;
        uint32_t header = payload < 126 ? 2 : payload == 126 ? 4 : 10;
        if (payload >= 126) {
            uint64_t length = 0;
            for (uint32_t i = 2; i < header; i++)
                length = length << 8 | data[at + i];
            payload = length;
        }
        uint64_t next = (uint64_t)at + header + payload;
        if (next > sent || next >= size)
            return at;
        at = (uint32_t)next;
    }
}

static void leftover(struct connection *connection, struct slice slice, uint64_t *sent) {
    if (*sent >= slice.size) {
        *sent -= slice.size;
    } else {
        uint32_t out = (uint32_t)*sent;
        // Before the upgrade there are no frames: the response is one piece.
        uint32_t start = !connection->framed || out == 0
                             ? 0
                             : frame_start_before(slice_data(slice), slice.size, out);
        struct slice rest = {slice.chunk, slice.offset + start, slice.size - start};
        sc_backlog_append(connection, rest, out - start);
        *sent = 0;
    }
    sc_chunks_release(&connection->transport->chunks, slice);
}

static void sent_ready(struct connection *connection, uint64_t sent) {
    struct slice first = connection->ready;
    struct ready_more *more = connection->more;
    connection->ready = (struct slice){0};
    connection->more = NULL;
    leftover(connection, first, &sent);
    for (uint32_t i = 0; more != NULL && i < more->count; i++)
        leftover(connection, more->slices[i], &sent);
    free(more);
}

// What waits for room in the account goes on: what the role keeps back, and calls of the connection elsewhere.
static void say_room(struct connection *connection) {
    struct sc_account *account = connection->account;
    if (account == NULL)
        return;
    if (sc_account_bytes(account, SC_PLACE_DELIVERIES) > 0)
        connection->port->role->on_room(connection);
    if (atomic_load_explicit(&account->waiting, memory_order_relaxed) != 0)
        sc_connection_wake(connection);
}

void sc_out_sent(struct connection *connection, ssize_t result) {
    if (connection->state >= STATE_TERMINATING)
        return;
    if (result < 0 && result != -EAGAIN && result != -ECANCELED && result != -EINTR) {
        sc_connection_end(connection, END_RESET);
        return;
    }
    uint64_t sent = result > 0 ? (uint64_t)result : 0;
    if (connection->ready.chunk != NULL)
        sent_ready(connection, sent);
    else
        sc_backlog_sent(connection, sent);
    sc_out_go_on(connection);
}

void sc_out_go_on(struct connection *connection) {
    if (sc_backlog_waits(connection)) {
        sc_backlog_check(connection);
        say_room(connection);
        if (connection->state < STATE_TERMINATING && !sc_socket_sending(&connection->socket))
            sc_out_send_backlog(connection);
        return;
    }
    if (connection->backlog != NULL)
        sc_backlog_free(connection);
    if (connection->inbound != NULL) {
        pongs_to_ready(connection);
        sc_inbound_free_if_empty(connection); // It may have been there for a pong alone.
    }
    say_room(connection);
    if (connection->state >= STATE_CLOSING)
        sc_connection_drained(connection);
}

bool sc_out_progress(struct connection *connection) {
    uint32_t kib = sc_socket_unacknowledged(&connection->socket) >> 10;
    uint16_t before = connection->unsent_kib;
    connection->unsent_kib = kib > UINT16_MAX ? UINT16_MAX : (uint16_t)kib;
    return kib < before;
}

void sc_out_discard(struct connection *connection) {
    struct chunks *chunks = &connection->transport->chunks;
    sc_chunks_release(chunks, connection->ready);
    connection->ready = (struct slice){0};
    for (uint32_t i = 0; connection->more != NULL && i < connection->more->count; i++)
        sc_chunks_release(chunks, connection->more->slices[i]);
    free(connection->more);
    connection->more = NULL;
    if (connection->backlog != NULL)
        sc_backlog_free(connection);
}

void sc_out_drop_waiting(struct connection *connection) {
    if (sc_backlog_waits(connection))
        sc_backlog_drop_waiting(connection);
}

void sc_out_close_slow(struct connection *connection) {
    connection->transport->counters.slow_readers_closed++;
    connection->transport->events->on_slow_reader(connection);
    sc_out_drop_waiting(connection);
    sc_connection_close(connection, connection->port->role->slow_code, "too slow");
}
