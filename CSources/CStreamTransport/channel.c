// TLS between a connection and its socket. Ciphertext that comes is opened record by record, and goes on as plaintext does
// without TLS. What leaves is sealed when it is sent, and not before:
//
//     ready (plaintext)  --flush-->           ready (ciphertext in a chunk)   --send-->  socket
//     backlog (plaintext)  --sc_backlog_seal-->  its first piece (ciphertext)   --send-->  socket
//
// Copies: one of the plaintext where a turn has several slices, and one of the ciphertext out of OpenSSL's buffer. A turn's
// frames for a connection leave in one record, as far as one takes them, and in one send. What the socket does not take of
// the ciphertext is the first piece of the backlog. So all that waits is in the backlog, charged as ever, and at most
// SC_TLS_SEND_SIZE_MAX of it can no longer be dropped or overtaken.
//
// Handshakes cost a thousand times what a message does. They are queued, and one turn spends a slice of time on them.
#include <errno.h>
#include <stdlib.h>

#include "transport_private.h"

#define CONNECTION(socket_pointer) SC_CONTAINER_OF(socket_pointer, struct connection, socket)

/// Its part of a connection. An idle one is these bytes and OpenSSL's.
struct channel {
    struct sc_tls *_Nullable tls;                  // NULL once the socket is closed.
    struct channel_handshake *_Nullable handshake; // Until it is over.
    uint32_t charged;                              // To SC_PLACE_RECORDS.
    // The connection's `ready` is ciphertext, but for slices that come behind its first before it is sent.
    bool ready_is_sealed;
    bool ended;  // The peer's close_notify has come: nothing of it counts any more.
    bool failed; // Nothing is opened or sealed any more.
};

/// What a connection has while it shakes hands, and never again.
struct channel_handshake {
    struct sc_wait_node wait; // In transport->handshakes.
    struct connection *connection;
    struct sc_buffer bytes; // That have come and are not looked at.
};

static struct channel *channel_of(const struct connection *connection) {
    assert(connection->port->channel == &sc_channel_tls);
    return (struct channel *)((char *)connection + connection->port->role->size);
}

static bool open_channel(struct connection *connection) {
    assert(connection->port->role->size % _Alignof(struct channel) == 0);
    struct channel *channel = channel_of(connection);
    channel->tls = sc_tls_create(connection->port->tls, NULL);
    if (channel->tls == NULL)
        return false;
    channel->handshake = sc_allocate(sizeof *channel->handshake);
    *channel->handshake = (struct channel_handshake){.connection = connection};
    return true;
}

static void free_handshake(struct channel *channel) {
    if (channel->handshake == NULL)
        return;
    sc_wait_list_remove(&channel->handshake->wait);
    sc_buffer_deinit(&channel->handshake->bytes);
    free(channel->handshake);
    channel->handshake = NULL;
}

// Charges what has come and is not opened.
static void charge(struct connection *connection) {
    struct channel *channel = channel_of(connection);
    size_t size = channel->tls == NULL ? 0 : sc_tls_kept_size(channel->tls);
    if (channel->handshake != NULL)
        size += channel->handshake->bytes.capacity;
    if (size > channel->charged)
        sc_account_charge(sc_connection_account(connection), SC_PLACE_RECORDS,
                          size - channel->charged);
    else if (size < channel->charged)
        sc_account_discharge(connection->account, SC_PLACE_RECORDS, channel->charged - size);
    channel->charged = (uint32_t)size;
}

static void close_channel(struct connection *connection) {
    struct channel *channel = channel_of(connection);
    free_handshake(channel);
    sc_tls_destroy(channel->tls);
    channel->tls = NULL;
    charge(connection);
}

static void timed_out(struct connection *connection) {
    if (channel_of(connection)->handshake != NULL)
        connection->transport->counters.tls_handshakes_timed_out++;
}

// ---- What leaves

// Has bytes of TLS itself sent before all that is not sealed yet.
static void send_wire(struct connection *connection, struct sc_bytes wire) {
    struct channel *channel = channel_of(connection);
    if (wire.size == 0 || connection->state >= STATE_TERMINATING)
        return;
    bool sending = sc_socket_sending(&connection->socket);
    if (sending || sc_backlog_waits(connection) || connection->ready.chunk != NULL) {
        if (!sending)
            sc_out_ready_to_backlog(connection);
        sc_backlog_put_sealed(connection, wire, false);
    } else {
        connection->ready = sc_chunks_take(&connection->transport->chunks, LANE_SEALED, wire.size);
        memcpy(slice_data(connection->ready), wire.data, wire.size);
        channel->ready_is_sealed = true;
    }
    if (!sending)
        sc_out_mark_dirty(connection);
}

static bool takes_sealed(struct connection *connection) {
    struct channel *channel = channel_of(connection);
    bool sealed = channel->ready_is_sealed;
    channel->ready_is_sealed = false;
    return sealed;
}

static bool seal_backlog(struct connection *connection) {
    struct channel *channel = channel_of(connection);
    if (connection->backlog->first->sealed)
        return true;
    if (!channel->failed && channel->handshake == NULL && sc_backlog_seal(connection, channel->tls))
        return true;
    sc_connection_end(connection, END_RESET);
    return false;
}

// Takes the slices of `ready` that are plaintext for one of ciphertext. False: TLS has failed.
static bool seal_ready(struct connection *connection) {
    struct channel *channel = channel_of(connection);
    struct chunks *chunks = &connection->transport->chunks;
    struct ready_more *more = connection->more;
    struct sc_bytes pieces[READY_SLICES_MAX];
    uint32_t count = 0;
    size_t size = 0;
    if (!channel->ready_is_sealed)
        pieces[count++] = (struct sc_bytes){slice_data(connection->ready), connection->ready.size};
    for (uint32_t i = 0; more != NULL && i < more->count; i++)
        pieces[count++] = (struct sc_bytes){slice_data(more->slices[i]), more->slices[i].size};
    if (count == 0)
        return true;
    for (uint32_t i = 0; i < count; i++)
        size += pieces[i].size;
    if (channel->failed || channel->handshake != NULL)
        return false;
    struct slice sealed = sc_chunks_take(chunks, LANE_SEALED, sc_tls_sealed_size_max(size));
    ssize_t written = sc_tls_seal(channel->tls, pieces, count, slice_data(sealed), sealed.size);
    if (written < 0) {
        sc_chunks_release(chunks, sealed);
        return false;
    }
    sc_chunks_trim(&sealed, (size_t)written);
    for (uint32_t i = 0; more != NULL && i < more->count; i++)
        sc_chunks_release(chunks, more->slices[i]);
    if (channel->ready_is_sealed) { // What was sealed before leaves in front of it.
        more->count = 1;
        more->slices[0] = sealed;
        return true;
    }
    sc_chunks_release(chunks, connection->ready);
    free(more);
    connection->more = NULL;
    connection->ready = sealed;
    channel->ready_is_sealed = true;
    return true;
}

static bool flush(struct connection *connection) {
    if (connection->ready.chunk != NULL && sc_out_ready_size(connection) > SC_TLS_SEND_SIZE_MAX)
        sc_out_ready_to_backlog(connection);
    if (connection->ready.chunk == NULL) {
        if (sc_backlog_waits(connection))
            sc_out_send_backlog(connection);
        return false;
    }
    if (!seal_ready(connection)) {
        sc_connection_end(connection, END_RESET);
        return false;
    }
    struct sc_bytes pieces[2] = {{slice_data(connection->ready), connection->ready.size}};
    uint32_t count = 1;
    if (connection->more != NULL)
        pieces[count++] = (struct sc_bytes){slice_data(connection->more->slices[0]),
                                            connection->more->slices[0].size};
    sc_socket_send(&connection->socket, pieces, count, SC_SEND_TRY);
    return true;
}

// The rest of a slice of ciphertext, of which `sent` bytes have left, goes in front of all that came meanwhile.
static void keep_rest(struct connection *connection, struct slice slice, uint64_t sent) {
    if (sent < slice.size)
        sc_backlog_put_sealed(connection,
                              (struct sc_bytes){slice_data(slice) + sent, slice.size - sent}, true);
    sc_chunks_release(&connection->transport->chunks, slice);
}

static void sent_ready(struct connection *connection, uint64_t sent) {
    struct slice first = connection->ready;
    struct ready_more *more = connection->more;
    connection->ready = (struct slice){0};
    connection->more = NULL;
    channel_of(connection)->ready_is_sealed = false;
    // The last one first, as each is put before the others.
    if (more != NULL)
        keep_rest(connection, more->slices[0], sent > first.size ? sent - first.size : 0);
    keep_rest(connection, first, sent);
    free(more);
}

static void on_sent(struct sc_socket *socket, ssize_t result) {
    struct connection *connection = CONNECTION(socket);
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

static bool says_goodbye(struct connection *connection) {
    struct channel *channel = channel_of(connection);
    struct sc_buffer wire = {0};
    if (!channel->failed)
        sc_tls_say_goodbye(channel->tls, &wire);
    bool says = wire.size > 0;
    send_wire(connection, sc_buffer_bytes(&wire));
    sc_buffer_deinit(&wire);
    return says;
}

// ---- What fails

static void tell(struct connection *connection, const char *why) {
    const struct transport_events *events = connection->transport->events;
    if (events->on_tls_failed != NULL)
        events->on_tls_failed(connection, why);
}

// Sends an alert, unless plaintext that can no longer leave would have to do so before.
static void end_with(struct connection *connection, struct sc_bytes alert) {
    channel_of(connection)->failed = true;
    if (alert.size == 0 || !sc_out_is_empty(connection)) {
        sc_connection_end(connection, END_RESET);
        return;
    }
    send_wire(connection, alert);
    sc_connection_end(connection, END_AFTER_REFUSAL);
}

static const char plain_answer[] = "HTTP/1.1 400 Bad Request\r\n"
                                   "Content-Type: text/plain; charset=utf-8\r\n"
                                   "Content-Length: 59\r\n"
                                   "Connection: close\r\n"
                                   "\r\n"
                                   "This port speaks TLS: connect with wss:// or https:// here\n";

static void handshake_fails(struct connection *connection, int error, struct sc_bytes alert) {
    struct transport_counters *counters = &connection->transport->counters;
    bool is_plain = error == -EPROTONOSUPPORT;
    tell(connection, sc_tls_failure());
    if (is_plain)
        counters->tls_plain_refused++;
    else
        counters->tls_handshakes_failed++;
    free_handshake(channel_of(connection));
    channel_of(connection)->failed = true;
    send_wire(connection, is_plain ? SC_LITERAL(plain_answer) : alert);
    sc_connection_end(connection, is_plain || alert.size > 0 ? END_AFTER_REFUSAL : END_RESET);
}

// ---- What comes

// Opens what has come and hands it on.
static void open_records(struct connection *connection, struct sc_bytes in) {
    struct channel *channel = channel_of(connection);
    struct sc_buffer wire = {0};
    int rc = 1;
    while (rc == 1 && connection->state < STATE_TERMINATING) {
        struct sc_bytes plain;
        rc = sc_tls_open(channel->tls, &in, &plain, &wire);
        if (rc == 1)
            sc_inbound_receive(connection, (uint8_t *)plain.data, plain.size);
    }
    charge(connection);
    if (rc == -EPIPE) {
        channel->ended = true;
        if (connection->state < STATE_TERMINATING)
            sc_connection_peer_ended(connection, 0);
    } else if (rc < 0 && connection->state < STATE_TERMINATING) {
        connection->transport->counters.tls_failures++;
        tell(connection, sc_tls_failure());
        end_with(connection, sc_buffer_bytes(&wire));
    } else {
        send_wire(connection, sc_buffer_bytes(&wire));
    }
    sc_buffer_deinit(&wire);
}

static void keep_for_handshake(struct connection *connection, const uint8_t *bytes, size_t size) {
    struct channel_handshake *handshake = channel_of(connection)->handshake;
    sc_buffer_append(&handshake->bytes, bytes, size);
    charge(connection);
    if (handshake->bytes.failed) {
        sc_connection_end(connection, END_RESET);
        return;
    }
    if (!sc_wait_node_waits(&handshake->wait))
        sc_wait_list_add(&connection->transport->handshakes, &handshake->wait);
}

static void on_receive(struct sc_socket *socket, uint8_t *bytes, size_t size) {
    struct connection *connection = CONNECTION(socket);
    struct channel *channel = channel_of(connection);
    sc_connection_hears(connection);
    if (channel->ended || channel->failed)
        return;
    if (channel->handshake != NULL)
        keep_for_handshake(connection, bytes, size);
    else
        open_records(connection, (struct sc_bytes){bytes, size});
}

static void on_end(struct sc_socket *socket, int reason) {
    struct connection *connection = CONNECTION(socket);
    struct channel *channel = channel_of(connection);
    if (channel->handshake != NULL && connection->state == STATE_HEAD)
        connection->transport->counters.tls_handshakes_failed++;
    // The end of the stream was said by TLS already: messages that wait are still started.
    if (!channel->ended || reason != 0 || connection->state >= STATE_CLOSING)
        sc_connection_peer_ended(connection, reason);
}

static void on_closed(struct sc_socket *socket) {
    close_channel(CONNECTION(socket));
    sc_connection_socket_closed(CONNECTION(socket));
}

static const struct sc_socket_handler handler = {on_receive, on_end, on_sent, on_closed};

const struct channel_kind sc_channel_tls = {.size = sizeof(struct channel),
                                            .handler = &handler,
                                            .open = open_channel,
                                            .close = close_channel,
                                            .flush = flush,
                                            .takes_sealed = takes_sealed,
                                            .seal_backlog = seal_backlog,
                                            .says_goodbye = says_goodbye,
                                            .timed_out = timed_out};

// ---- Handshakes

static void handshake_is_over(struct connection *connection, struct sc_bytes rest) {
    struct channel *channel = channel_of(connection);
    struct transport_counters *counters = &connection->transport->counters;
    counters->tls_handshakes++;
    counters->tls_resumed += sc_tls_is_resumed(channel->tls);
    struct sc_buffer bytes = channel->handshake->bytes; // `rest` is the end of it.
    channel->handshake->bytes = (struct sc_buffer){0};
    free_handshake(channel);
    charge(connection);
    sc_connection_drop_account(connection);
    open_records(connection, rest);
    sc_buffer_deinit(&bytes);
}

static void take_step(struct connection *connection) {
    struct channel *channel = channel_of(connection);
    struct channel_handshake *handshake = channel->handshake;
    if (connection->state >= STATE_CLOSING)
        return; // Its patience was over, or the node ends.
    struct sc_bytes in = sc_buffer_bytes(&handshake->bytes);
    struct sc_buffer wire = {0};
    int rc = sc_tls_handshake(channel->tls, &in, &wire);
    if (rc < 0) {
        handshake_fails(connection, rc, sc_buffer_bytes(&wire));
    } else {
        send_wire(connection, sc_buffer_bytes(&wire));
        if (rc == 1)
            handshake_is_over(connection, in);
        else
            sc_buffer_deinit(&handshake->bytes);
    }
    sc_buffer_deinit(&wire);
    charge(connection);
}

void sc_transport_shake_hands(struct transport *transport) {
    struct sc_wait_list *list = &transport->handshakes;
    uint64_t end_ns = sc_loop_clock_ns() + SC_TLS_HANDSHAKE_NS_PER_TURN;
    while (!sc_wait_list_is_empty(list)) {
        struct sc_wait_node *node = sc_wait_list_take(list);
        take_step(SC_CONTAINER_OF(node, struct channel_handshake, wait)->connection);
        if (sc_loop_clock_ns() < end_ns || sc_wait_list_is_empty(list))
            continue;
        transport->counters.tls_handshakes_deferred += list->count;
        transport->events->turn_again(transport);
        return;
    }
}
