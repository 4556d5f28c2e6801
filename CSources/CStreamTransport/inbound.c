// What comes of a connection: bytes into messages, and messages that wait. A message waits when its role cannot start
// it yet; all later ones of the connection wait behind it, so that their order stays. The lists of those that wait are
// looked at in one place, at the end of each turn: no reason to start again can be missed.
#include <stdlib.h>

#include "transport_private.h"

#define PARKED_LOOK_MS 2

struct inbound *sc_inbound_of(struct connection *connection) {
    if (connection->inbound == NULL) {
        connection->inbound = sc_allocate(sizeof *connection->inbound);
        *connection->inbound = (struct inbound){.connection = connection};
    }
    return connection->inbound;
}

// ---- What is charged

// Charges what came of messages that are not whole, or are not looked at yet.
static void charge_unfinished(struct connection *connection) {
    struct inbound *inbound = connection->inbound;
    size_t size = inbound->undecoded.capacity + inbound->assembly.capacity;
    if (size > inbound->unfinished)
        sc_account_charge(sc_connection_account(connection), SC_PLACE_UNFINISHED,
                          size - inbound->unfinished);
    else if (size < inbound->unfinished)
        sc_account_discharge(connection->account, SC_PLACE_UNFINISHED, inbound->unfinished - size);
    inbound->unfinished = size;
}

static void free_messages(struct parked_queue *queue) {
    while (queue->first != NULL) {
        struct parked_message *message = queue->first;
        queue->first = message->next;
        free(message);
    }
    queue->last = NULL;
}

void sc_inbound_free(struct connection *connection) {
    struct inbound *inbound = connection->inbound;
    if (inbound == NULL)
        return;
    sc_wait_list_remove(&inbound->wait);
    free_messages(&inbound->parked);
    free_messages(&inbound->aside);
    if (inbound->unfinished > 0)
        sc_account_discharge(connection->account, SC_PLACE_UNFINISHED, inbound->unfinished);
    if (inbound->waiting.bytes > 0)
        sc_account_discharge(connection->account, SC_PLACE_PARKED, inbound->waiting.bytes);
    sc_buffer_deinit(&inbound->undecoded);
    sc_buffer_deinit(&inbound->assembly);
    free(inbound);
    connection->inbound = NULL;
}

void sc_inbound_free_if_empty(struct connection *connection) {
    struct inbound *inbound = connection->inbound;
    charge_unfinished(connection);
    bool has_bytes = inbound->undecoded.size > 0 || inbound->assembly.size > 0 || inbound->decoding;
    bool has_pong = inbound->pong_size > 0 || inbound->message_pong;
    if (has_bytes || has_pong || sc_connection_has_parked(connection) || connection->throttled ||
        connection->state == STATE_PEER_CLOSED)
        return;
    sc_inbound_free(connection);
}

// ---- Messages that wait

bool sc_connection_has_parked_in_order(const struct connection *connection) {
    return connection->inbound != NULL && connection->inbound->parked.first != NULL;
}

bool sc_connection_has_aside(const struct connection *connection) {
    return connection->inbound != NULL && connection->inbound->aside.first != NULL;
}

bool sc_connection_has_parked(const struct connection *connection) {
    return connection->inbound != NULL && connection->inbound->waiting.count > 0;
}

static void list(struct connection *connection) {
    struct inbound *inbound = sc_inbound_of(connection);
    if (!sc_wait_node_waits(&inbound->wait))
        sc_wait_list_add(&connection->transport->parked, &inbound->wait);
}

void sc_connection_pause(struct connection *connection) {
    if (connection->paused)
        return;
    connection->paused = true;
    sc_socket_pause(&connection->socket);
}

static void append(struct parked_queue *queue, struct parked_message *message) {
    *(queue->last != NULL ? &queue->last->next : &queue->first) = message;
    queue->last = message;
}

static void park(struct connection *connection, struct sc_bytes text, bool aside) {
    struct inbound *inbound = sc_inbound_of(connection);
    const struct role *role = connection->port->role;
    if (role->refuse != NULL && role->refuse(connection, text, inbound->waiting))
        return;
    struct parked_message *message = sc_allocate(sizeof *message + text.size);
    message->next = NULL;
    message->binary = connection->binary;
    message->size = (uint32_t)text.size;
    memcpy(message->bytes, text.data, text.size);
    append(aside ? &inbound->aside : &inbound->parked, message);
    size_t size = sizeof *message + text.size;
    inbound->waiting.count++;
    inbound->waiting.bytes += size;
    sc_account_charge(sc_connection_account(connection), SC_PLACE_PARKED, size);
    connection->transport->counters.messages_parked++;
    list(connection);
    if (!connection->read_always && inbound->waiting.bytes > SC_PARKED_SIZE_MAX)
        sc_connection_pause(connection);
}

void sc_connection_set_aside(struct connection *connection, struct sc_bytes text) {
    park(connection, text, true);
}

void sc_connection_throttle(struct connection *connection) {
    if (connection->throttled)
        return;
    connection->throttled = true;
    list(connection);
    sc_connection_pause(connection);
}

static void message(struct connection *connection, struct sc_bytes text) {
    connection->transport->counters.messages_received++;
    if (!connection->port->role->on_message(connection, text, FROM_PEER))
        park(connection, text, false);
}

// ---- Frames in

static void close_frame(struct connection *connection, uint16_t code) {
    if (!connection->port->role->finishes || !sc_connection_has_parked(connection)) {
        sc_connection_peer_closed(connection, code);
        return;
    }
    connection->inbound->close_code = code;
    sc_connection_finish_later(connection, STATE_PEER_CLOSED);
}

static void data(struct connection *connection, const struct sc_ws_event *event) {
    connection->binary = event->opcode == SC_WS_BINARY;
    if (event->first && event->last) {
        message(connection, event->bytes);
        return;
    }
    struct inbound *inbound = sc_inbound_of(connection);
    if (event->first)
        inbound->assembly.size = 0;
    sc_buffer_append_bytes(&inbound->assembly, event->bytes);
    if (inbound->assembly.failed) {
        sc_connection_end(connection, END_RESET);
        return;
    }
    if (!event->last)
        return;
    struct sc_buffer whole = inbound->assembly;
    inbound->assembly = (struct sc_buffer){0};
    charge_unfinished(connection);
    message(connection, sc_buffer_bytes(&whole));
    sc_buffer_deinit(&whole);
}

static void event(struct connection *connection, const struct sc_ws_event *event) {
    bool closes = event->kind == SC_WS_EVENT_CONTROL && event->opcode == SC_WS_CLOSE;
    if (connection->state == STATE_CLOSING) { // Nothing else counts.
        if (closes)
            sc_connection_peer_closed(connection, event->close_code);
    } else if (closes)
        close_frame(connection, event->close_code);
    else if (event->kind == SC_WS_EVENT_CONTROL && event->opcode == SC_WS_PING)
        sc_out_pong(connection, event->bytes);
    else if (event->kind == SC_WS_EVENT_DATA)
        data(connection, event);
}

// Whether frames that have come are looked at.
static bool decodes(const struct connection *connection) {
    return !connection->paused &&
           (connection->state == STATE_OPEN || connection->state == STATE_PEER_ENDED ||
            connection->state == STATE_CLOSING);
}

// Whether what comes counts for nothing.
static bool is_deaf(const struct connection *connection) {
    return connection->state == STATE_PEER_CLOSED || connection->state > STATE_CLOSING;
}

static size_t decode_with(struct connection *connection, struct sc_ws_decoder *decoder,
                          uint8_t *bytes, size_t size) {
    size_t at = 0;
    while (at < size && decodes(connection)) {
        struct sc_ws_event next;
        ssize_t used = sc_ws_decode(decoder, bytes + at, size - at, &next);
        if (used == 0)
            break;
        if (used < 0) {
            sc_connection_broken(connection, (int)used);
            break; // Nothing behind it can be understood.
        }
        at += (size_t)used;
        event(connection, &next);
    }
    return at;
}

// Decodes what is whole and returns the bytes used up.
static size_t decode(struct connection *connection, uint8_t *bytes, size_t size) {
    if (is_deaf(connection))
        return size;
    struct inbound *inbound = connection->inbound;
    struct sc_ws_decoder decoder =
        inbound != NULL && inbound->decoding ? inbound->decoder : connection->port->decoder;
    size_t used = decode_with(connection, &decoder, bytes, size);
    if (decoder.opcode != 0) {
        inbound = sc_inbound_of(connection);
        inbound->decoder = decoder;
        inbound->decoding = true;
    } else if (connection->inbound != NULL) {
        connection->inbound->decoding = false;
    }
    return is_deaf(connection) ? size : used;
}

static size_t process(struct connection *connection, uint8_t *bytes, size_t size) {
    size_t used = 0;
    if (connection->state == STATE_HEAD)
        used = connection->port->role->on_head(connection, bytes, size);
    if (connection->framed)
        return used + decode(connection, bytes + used, size - used);
    return connection->state >= STATE_CLOSING ? size : used;
}

static void keep(struct connection *connection, const uint8_t *bytes, size_t size) {
    if (size > 0 && connection->state < STATE_TERMINATING)
        sc_buffer_append(&sc_inbound_of(connection)->undecoded, bytes, size);
}

// The bytes that wait to be decoded. Owns: the caller has them.
static struct sc_buffer take_undecoded(struct connection *connection) {
    struct sc_buffer undecoded = {0};
    if (connection->inbound != NULL) {
        undecoded = connection->inbound->undecoded;
        connection->inbound->undecoded = (struct sc_buffer){0};
    }
    return undecoded;
}

void sc_inbound_receive(struct connection *connection, uint8_t *bytes, size_t size) {
    struct sc_buffer undecoded = {0};
    if (connection->inbound != NULL && connection->inbound->undecoded.size > 0) {
        undecoded = take_undecoded(connection);
        sc_buffer_append(&undecoded, bytes, size);
        if (undecoded.failed) {
            sc_buffer_deinit(&undecoded);
            sc_connection_end(connection, END_RESET);
            return;
        }
        bytes = undecoded.data;
        size = undecoded.size;
    }
    size_t used = connection->paused ? 0 : process(connection, bytes, size);
    keep(connection, bytes + used, size - used);
    sc_buffer_deinit(&undecoded);
    if (connection->inbound != NULL)
        sc_inbound_free_if_empty(connection);
}

// ---- Going on

void sc_connection_read_on(struct connection *connection) {
    bool finishes = connection->state == STATE_PEER_ENDED || connection->state == STATE_PEER_CLOSED;
    if (finishes && sc_connection_has_parked(connection))
        return;
    connection->paused = false;
    if (sc_connection_serves(connection))
        sc_connection_lives(connection);
    if (connection->state == STATE_PEER_CLOSED)
        sc_connection_peer_closed(connection, connection->inbound->close_code);
    struct sc_buffer undecoded = take_undecoded(connection);
    size_t used = process(connection, undecoded.data == NULL ? (uint8_t *)"" : undecoded.data,
                          undecoded.size);
    keep(connection, undecoded.data + used, undecoded.size - used);
    sc_buffer_deinit(&undecoded);
    if (connection->state == STATE_PEER_ENDED) {
        if (sc_connection_has_parked(connection))
            connection->paused = true; // More has come up in what was undecoded.
        else
            sc_connection_end(connection, END_WHEN_SENT);
    } else if (!connection->paused && connection->state < STATE_TERMINATING) {
        sc_socket_resume(&connection->socket);
    }
    if (connection->inbound != NULL)
        sc_inbound_free_if_empty(connection);
}

// Starts the first message of a queue. False: it has to wait on.
static bool start_first(struct connection *connection, struct parked_queue *queue,
                        enum message_source source) {
    struct inbound *inbound = connection->inbound;
    struct parked_message *first = queue->first;
    connection->binary = first->binary;
    if (!connection->port->role->on_message(connection,
                                            (struct sc_bytes){first->bytes, first->size}, source))
        return false;
    queue->first = first->next;
    if (queue->first == NULL)
        queue->last = NULL;
    size_t size = sizeof *first + first->size;
    inbound->waiting.count--;
    inbound->waiting.bytes -= size;
    sc_account_discharge(connection->account, SC_PLACE_PARKED, size);
    free(first);
    return true;
}

// Starts what the role has set aside, in its order and as far as it may. What comes later waits behind it.
static void resume_aside(struct connection *connection, uint32_t *left) {
    const struct role *role = connection->port->role;
    while (sc_connection_serves(connection) && sc_connection_has_aside(connection) && *left > 0 &&
           role->may_start_aside(connection) &&
           start_first(connection, &connection->inbound->aside, FROM_ASIDE))
        --*left;
}

bool sc_connection_resume(struct connection *connection, uint32_t *most) {
    const struct role *role = connection->port->role;
    uint32_t slice = *most < SC_PARKED_PER_SLICE ? *most : SC_PARKED_PER_SLICE, left = slice;
    if (connection->throttled && !role->is_throttled(connection)) {
        connection->throttled = false;
        sc_connection_read_on(connection);
    }
    resume_aside(connection, &left);
    bool goes_on = true;
    while (goes_on && left > 0 && sc_connection_serves(connection) &&
           sc_connection_has_parked_in_order(connection)) {
        goes_on = role->may_start(connection) &&
                  start_first(connection, &connection->inbound->parked, FROM_PARKED);
        left -= goes_on ? 1 : 0;
    }
    *most -= slice - left;
    if (left == 0 && sc_connection_has_parked(connection))
        connection->transport->events->turn_again(connection->transport);
    if (!goes_on)
        return false;
    if (sc_connection_serves(connection) &&
        (connection->throttled || sc_connection_has_parked(connection)))
        return false;
    if (!connection->paused || connection->state >= STATE_TERMINATING)
        return true;
    sc_connection_read_on(connection);
    return !sc_connection_has_parked(connection);
}

// Those whose messages were handled and still wait come behind those that were not looked at.
void sc_transport_resume(struct transport *transport) {
    struct sc_wait_list *parked = &transport->parked;
    uint32_t count = parked->count,
             most = SC_PARKED_PER_TURN; // Some may come behind them meanwhile.
    for (; count > 0 && most > 0 && !sc_wait_list_is_empty(parked); count--) {
        struct inbound *inbound = SC_CONTAINER_OF(sc_wait_list_take(parked), struct inbound, wait);
        struct connection *connection = inbound->connection;
        if (!sc_connection_resume(connection, &most)) // It has kept what it has of it, then.
            list(connection);
    }
    if (count > 0 && !sc_wait_list_is_empty(parked))
        transport->events->turn_again(transport);
    if (!sc_wait_list_is_empty(parked) && transport->parked_timer.due_ns == 0)
        sc_timer_start(transport->loop, &transport->parked_timer, PARKED_LOOK_MS);
}
