// Connections: the request head, frames in, closing in good order, and patience that ends.
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "core_functions.h"

// Of a worker that executes functions, which must be read on, since what it waits for may wait for its
// results: further calls of it are answered with an error, and far beyond that it is closed with 1008.
#define PARKED_EXECUTOR_BYTES_MAX (8u << 20)
#define PARKED_EXECUTOR_BYTES_LIMIT (64u << 20)
// Messages of a stream client that wait for the decision about a join. One more: closed with 1008.
#define PARKED_JOINS_MAX 64u

// ---- Identity: shard, generation, place

static uint64_t id_of(const struct shard *shard, uint32_t place) {
    uint64_t generation = shard->places[place].generation & 0xffffffu;
    return (uint64_t)shard->index << 56 | generation << 32 | place;
}

#define NO_PLACE UINT32_MAX

static uint32_t place_take(struct shard *shard) {
    uint32_t place = shard->place_free;
    if (place != NO_PLACE) {
        shard->place_free = shard->places[place].next_free;
        return place;
    }
    if (shard->place_count == shard->place_capacity) {
        uint32_t capacity = shard->place_capacity == 0 ? 64 : shard->place_capacity * 2;
        const size_t size = sizeof *shard->places;
        shard->places = sc_grow(shard->places, shard->place_capacity * size, capacity * size);
        shard->place_capacity = capacity;
    }
    shard->places[shard->place_count] = (struct connection_place){.generation = 1};
    return shard->place_count++;
}

static void place_give(struct shard *shard, uint64_t id) {
    struct connection_place *place = &shard->places[(uint32_t)id];
    place->connection = NULL;
    // Never 0, with which the first place of the first shard would have the id of the node itself.
    if ((++place->generation & 0xffffffu) == 0)
        place->generation++;
    place->next_free = shard->place_free;
    shard->place_free = (uint32_t)id;
}

// ---- Lists

void sc_list_add(struct connection_list *list, struct connection *connection) {
    if (list->count == list->capacity) {
        list->capacity = list->capacity == 0 ? 8 : list->capacity * 2;
        list->all = sc_reallocate(list->all, list->capacity * sizeof(struct connection *));
    }
    list->all[list->count++] = connection;
}

// ---- What waits

struct inbound *sc_connection_inbound(struct connection *connection) {
    if (connection->inbound == NULL) {
        connection->inbound = sc_allocate(sizeof *connection->inbound);
        *connection->inbound = (struct inbound){0};
    }
    return connection->inbound;
}

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

static void inbound_free_if_empty(struct connection *connection) {
    struct inbound *inbound = connection->inbound;
    charge_unfinished(connection);
    if (inbound->undecoded.size > 0 || inbound->assembly.size > 0 ||
        inbound->parked_first != NULL || inbound->writes_first != NULL || inbound->decoding ||
        inbound->pong_size > 0 || connection->close_asked)
        return;
    if (inbound->unfinished > 0)
        sc_account_discharge(connection->account, SC_PLACE_UNFINISHED, inbound->unfinished);
    sc_buffer_deinit(&inbound->undecoded);
    sc_buffer_deinit(&inbound->assembly);
    free(inbound);
    connection->inbound = NULL;
}

static void free_messages(struct parked_message *message) {
    while (message != NULL) {
        struct parked_message *next = message->next;
        free(message);
        message = next;
    }
}

static void inbound_free(struct connection *connection) {
    struct inbound *inbound = connection->inbound;
    if (inbound == NULL)
        return;
    free_messages(inbound->parked_first);
    free_messages(inbound->writes_first);
    if (inbound->unfinished > 0)
        sc_account_discharge(connection->account, SC_PLACE_UNFINISHED, inbound->unfinished);
    if (inbound->parked_bytes > 0)
        sc_account_discharge(connection->account, SC_PLACE_PARKED, inbound->parked_bytes);
    sc_buffer_deinit(&inbound->undecoded);
    sc_buffer_deinit(&inbound->assembly);
    free(inbound);
    connection->inbound = NULL;
}

struct sc_account *sc_connection_account(struct connection *connection) {
    if (connection->account == NULL) {
        connection->account =
            sc_account_create(sc_connection_budget(connection), connection->shard->sums);
        if (connection->account == NULL)
            abort();
    }
    return connection->account;
}

static bool has_room(const struct sc_account *account) {
    return account == NULL ||
           (account_in_work(account) <= account->limit &&
            sc_account_messages(account) <= MESSAGES_MAX &&
            sc_account_bytes(account, SC_PLACE_REQUESTS) <= SC_REQUESTS_SIZE_MAX);
}

bool sc_connection_can_start(struct connection *connection) {
    if (connection->join_pending || !has_room(connection->account))
        return false;
    if (connection->worker == NULL)
        return true;
    // A worker that does not read its answers gets no more of them, long before its budget is used up. One
    // that wants to go need not read them.
    bool reads = connection->backlog == NULL || connection->close_asked || connection->ended ||
                 connection->backlog->bytes <= sc_connection_budget(connection) / 4;
    return reads && sc_worker_can_start(connection->worker);
}

// `write`: behind those that a held writer has written.
static void park(struct connection *connection, struct sc_bytes text, bool write) {
    struct shard *shard = connection->shard;
    struct inbound *inbound = sc_connection_inbound(connection);
    if (connection->join_asked && inbound->parked_count >= PARKED_JOINS_MAX) {
        shard->counters.joins_overrun++;
        sc_connection_close(connection, 1008, "too many messages during a join");
        return;
    }
    bool executes = connection->worker != NULL && connection->worker->calls_received > 0;
    if (executes && inbound->parked_bytes > PARKED_EXECUTOR_BYTES_MAX) {
        if (sc_worker_refuse_call(connection, text))
            return;
        if (inbound->parked_bytes > PARKED_EXECUTOR_BYTES_LIMIT) {
            sc_connection_close(connection, 1008, "too many messages wait");
            return;
        }
    }
    inbound->parked_count++;
    struct parked_message *message = sc_allocate(sizeof *message + text.size);
    message->next = NULL;
    message->binary = connection->binary;
    message->size = (uint32_t)text.size;
    memcpy(message->bytes, text.data, text.size);
    struct parked_message **first = write ? &inbound->writes_first : &inbound->parked_first;
    struct parked_message **last = write ? &inbound->writes_last : &inbound->parked_last;
    if (*last != NULL)
        (*last)->next = message;
    else
        *first = message;
    *last = message;
    inbound->parked_bytes += sizeof *message + text.size;
    sc_account_charge(sc_connection_account(connection), SC_PLACE_PARKED,
                      sizeof *message + text.size);
    shard->counters.calls_parked++;
    if (!connection->on_parked_list) {
        connection->on_parked_list = true;
        sc_list_add(&shard->parked, connection);
    }
    if (!executes && inbound->parked_bytes > SC_PARKED_SIZE_MAX && !connection->paused) {
        connection->paused = true;
        sc_socket_pause(&connection->socket);
    }
}

static void parked_list_remove(struct connection *connection) {
    if (!connection->on_parked_list)
        return;
    struct connection_list *list = &connection->shard->parked;
    uint32_t i = 0;
    while (list->all[i] != connection)
        i++;
    assert(i < list->count);
    list->all[i] = list->all[--list->count];
    connection->on_parked_list = false;
}

static bool has_parked(const struct connection *connection) {
    return connection->inbound != NULL &&
           (connection->inbound->parked_first != NULL || connection->inbound->writes_first != NULL);
}

void sc_connection_hold_write(struct connection *connection, struct sc_bytes text) {
    park(connection, text, true);
}

void sc_connection_hold_writes(struct connection *connection, bool held) {
    connection->worker->writes_held = held; // What waits is looked at when the turn ends.
}

static bool has_many_results(const struct connection *connection) {
    return sc_account_bytes(connection->account, SC_PLACE_RESULTS) > SC_RESULTS_SIZE_MAX;
}

static bool results_wait(const struct connection *connection) {
    return connection->worker != NULL && connection->worker->results_wait;
}

void sc_connection_check_results(struct connection *connection) {
    struct shard *shard = connection->shard;
    if (!has_many_results(connection) || connection->worker->results_wait)
        return;
    connection->worker->results_wait = true;
    shard->counters.results_held++;
    if (!connection->on_parked_list) {
        connection->on_parked_list = true;
        sc_list_add(&shard->parked, connection);
    }
    if (!connection->paused) {
        connection->paused = true;
        sc_socket_pause(&connection->socket);
    }
}

static bool handle(struct connection *connection, struct sc_bytes text, bool waited) {
    if (connection->kind == KIND_STREAM) {
        bool others_wait = !waited && has_parked(connection);
        return !others_wait && sc_stream_message(connection, text);
    }
    return sc_worker_message(connection, text, waited);
}

static void message(struct connection *connection, struct sc_bytes text) {
    connection->shard->counters.messages_received++;
    if (!handle(connection, text, false))
        park(connection, text, false);
}

// ---- Frames in

static void peer_closed(struct connection *connection, uint16_t code) {
    sc_account_end(connection->account, SC_ACCOUNT_LEFT);
    if (connection->state == STATE_CLOSING) {
        sc_socket_close(&connection->socket, false);
        connection->state = STATE_GONE;
        return;
    }
    sc_connection_close(connection, code == 1005 ? 0 : code, "");
    connection->close_when_sent = true; // Our half of the handshake ends it.
}

static void control(struct connection *connection, const struct sc_ws_event *event) {
    if (event->opcode == SC_WS_CLOSE) {
        if (connection->worker == NULL || !has_parked(connection)) {
            peer_closed(connection, event->close_code);
            return;
        }
        sc_account_end(connection->account, SC_ACCOUNT_LEFT);
        connection->close_asked = connection->paused = true; // What it sent before still counts.
        connection->inbound->close_code = event->close_code;
        sc_socket_pause(&connection->socket);
    } else if (event->opcode == SC_WS_PING) {
        sc_out_pong(connection, event->bytes);
    }
}

static void data(struct connection *connection, const struct sc_ws_event *event) {
    connection->binary = event->opcode == SC_WS_BINARY;
    if (event->first && event->last) {
        message(connection, event->bytes);
        return;
    }
    struct inbound *inbound = sc_connection_inbound(connection);
    if (event->first)
        inbound->assembly.size = 0;
    sc_buffer_append_bytes(&inbound->assembly, event->bytes);
    if (inbound->assembly.failed) {
        sc_connection_abort(connection);
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

static void broken(struct connection *connection, int error) {
    struct sc_node_counters *counters = &connection->shard->counters;
    if (error == -EMSGSIZE) {
        counters->messages_too_large++;
        sc_connection_close(connection, 1009, "message too large");
    } else {
        counters->protocol_errors++;
        sc_connection_close(connection, error == -EILSEQ ? 1007 : 1002, "protocol error");
    }
}

static size_t decode_with(struct connection *connection, struct sc_ws_decoder *decoder,
                          uint8_t *bytes, size_t size) {
    size_t at = 0;
    while (at < size && !connection->paused &&
           (connection->state == STATE_OPEN || connection->state == STATE_CLOSING)) {
        struct sc_ws_event event;
        ssize_t used = sc_ws_decode(decoder, bytes + at, size - at, &event);
        if (used == 0)
            break;
        if (used < 0) {
            connection->deaf = true;
            if (connection->state == STATE_OPEN)
                broken(connection, (int)used);
            return size; // Nothing behind it can be understood.
        }
        at += (size_t)used;
        if (event.kind == SC_WS_EVENT_CONTROL && event.opcode == SC_WS_CLOSE)
            connection->deaf = true;
        if (connection->state == STATE_CLOSING) {
            if (event.kind == SC_WS_EVENT_CONTROL && event.opcode == SC_WS_CLOSE)
                peer_closed(connection, event.close_code);
            continue;
        }
        if (event.kind == SC_WS_EVENT_CONTROL)
            control(connection, &event);
        else if (event.kind == SC_WS_EVENT_DATA)
            data(connection, &event);
    }
    return at;
}

// Decodes what is whole and returns the bytes used up.
static size_t decode(struct connection *connection, uint8_t *bytes, size_t size) {
    if (connection->deaf)
        return size;
    struct inbound *inbound = connection->inbound;
    struct sc_ws_decoder decoder = inbound != NULL && inbound->decoding
                                       ? inbound->decoder
                                       : connection->shard->decoders[connection->port];
    size_t used = decode_with(connection, &decoder, bytes, size);
    if (decoder.opcode != 0) {
        inbound = sc_connection_inbound(connection);
        inbound->decoder = decoder;
        inbound->decoding = true;
    } else if (connection->inbound != NULL) {
        connection->inbound->decoding = false;
    }
    return connection->deaf ? size : used;
}

void sc_connection_respond(struct connection *connection, const uint8_t *bytes, size_t size) {
    struct shard *shard = connection->shard;
    struct slice slice = sc_frames_take(shard, LANE_PRIVATE, size);
    memcpy(slice_data(slice), bytes, size);
    sc_out_append(connection, slice);
    sc_slice_release(shard, slice);
}

static void leave(struct connection *connection) {
    if (connection->leaving)
        return;
    connection->leaving = true;
    sc_list_add(&connection->shard->closing, connection);
}

void sc_connection_begin_closing(struct connection *connection) {
    struct shard *shard = connection->shard;
    connection->state = STATE_CLOSING;
    connection->tick = shard->tick + shard->node->config.close_timeout_ms / shard->tick_ms + 1;
    leave(connection);
}

static size_t process(struct connection *connection, uint8_t *bytes, size_t size) {
    size_t used = 0;
    if (connection->state == STATE_HANDSHAKE)
        used = sc_upgrade_read(connection, bytes, size);
    if (connection->kind != KIND_UNKNOWN)
        used += decode(connection, bytes + used, size - used);
    else if (connection->state == STATE_CLOSING)
        used = size;
    return used;
}

// ---- The socket's events

#define CONNECTION(socket_pointer) SC_CONTAINER_OF(socket_pointer, struct connection, socket)

static void say_alive(struct connection *connection, bool alive) {
    const struct sc_node_events *events = &connection->shard->node->events;
    connection->silent = !alive;
    events->worker_alive(events->context, connection->id, alive);
}

static void on_receive(struct sc_socket *socket, uint8_t *bytes, size_t size) {
    struct connection *connection = CONNECTION(socket);
    // Of a peer for which something waits only what it takes counts.
    if (connection->state == STATE_OPEN && !sc_out_is_behind(connection))
        sc_connection_lives(connection);
    if (connection->silent && connection->state == STATE_OPEN && !connection->pinged)
        say_alive(connection, true);
    struct sc_buffer held = {0};
    if (connection->inbound != NULL && connection->inbound->undecoded.size > 0) {
        held = connection->inbound->undecoded;
        connection->inbound->undecoded = (struct sc_buffer){0};
        sc_buffer_append(&held, bytes, size);
        if (held.failed) {
            sc_buffer_deinit(&held);
            sc_connection_abort(connection);
            return;
        }
        bytes = held.data;
        size = held.size;
    }
    size_t used = connection->paused ? 0 : process(connection, bytes, size);
    if (used < size && connection->state != STATE_GONE)
        sc_buffer_append(&sc_connection_inbound(connection)->undecoded, bytes + used, size - used);
    sc_buffer_deinit(&held);
    if (connection->inbound != NULL)
        inbound_free_if_empty(connection);
}

static void finish_ended(struct connection *connection) {
    connection->state = STATE_GONE;
    sc_socket_close(&connection->socket, false);
}

void sc_connection_read_on(struct connection *connection) {
    if (connection->close_asked && has_parked(connection))
        return;
    connection->paused = false;
    if (connection->state == STATE_OPEN)
        sc_connection_lives(connection);
    if (connection->close_asked) {
        connection->close_asked = false;
        peer_closed(connection, connection->inbound->close_code);
    }
    struct sc_buffer held = {0};
    if (connection->inbound != NULL) {
        held = connection->inbound->undecoded;
        connection->inbound->undecoded = (struct sc_buffer){0};
    }
    size_t used = process(connection, held.data == NULL ? (uint8_t *)"" : held.data, held.size);
    if (used < held.size && connection->state != STATE_GONE)
        sc_buffer_append(&sc_connection_inbound(connection)->undecoded, held.data + used,
                         held.size - used);
    sc_buffer_deinit(&held);
    if (connection->ended && connection->state != STATE_GONE && !connection->paused)
        finish_ended(connection);
    else if (!connection->paused && connection->state != STATE_GONE)
        sc_socket_resume(&connection->socket);
    inbound_free_if_empty(connection);
}

// Handles the first of those that wait. False: it has to wait on.
static bool resume_first(struct connection *connection, bool write) {
    struct inbound *inbound = connection->inbound;
    struct parked_message *message = write ? inbound->writes_first : inbound->parked_first;
    connection->binary = message->binary;
    if (!handle(connection, (struct sc_bytes){message->bytes, message->size}, true))
        return false;
    if (write) {
        inbound->writes_first = message->next;
        inbound->writes_last = message->next == NULL ? NULL : inbound->writes_last;
    } else {
        inbound->parked_first = message->next;
        inbound->parked_last = message->next == NULL ? NULL : inbound->parked_last;
    }
    inbound->parked_bytes -= sizeof *message + message->size;
    sc_account_discharge(connection->account, SC_PLACE_PARKED, sizeof *message + message->size);
    inbound->parked_count--;
    free(message);
    return true;
}

// What a writer wrote while it was held, in its order and as far as it may. What comes later of it waits behind.
static void resume_writes(struct connection *connection, uint32_t *left) {
    struct worker *worker = connection->worker;
    if (worker == NULL || worker->writes_held)
        return;
    worker->writes_due = true;
    while (connection->state == STATE_OPEN && connection->inbound != NULL &&
           connection->inbound->writes_first != NULL && *left > 0 && resume_first(connection, true))
        --*left;
    worker->writes_due = false;
}

bool sc_connection_resume(struct connection *connection, uint32_t *most) {
    uint32_t slice = *most < SC_PARKED_PER_SLICE ? *most : SC_PARKED_PER_SLICE, left = slice;
    if (results_wait(connection) && !has_many_results(connection)) {
        connection->worker->results_wait = false;
        sc_connection_read_on(connection);
    }
    resume_writes(connection, &left);
    bool goes_on = true;
    while (goes_on && left > 0 && connection->state == STATE_OPEN && connection->inbound != NULL &&
           connection->inbound->parked_first != NULL) {
        goes_on = resume_first(connection, false);
        left -= goes_on ? 1 : 0;
    }
    *most -= slice - left;
    if (left == 0 && has_parked(connection))
        sc_shard_turn_again(connection->shard);
    if (!goes_on || (left == 0 && connection->state == STATE_OPEN && has_parked(connection)))
        return false;
    if (connection->state == STATE_OPEN && (results_wait(connection) || has_parked(connection)))
        return false;
    if (!connection->paused || connection->state == STATE_GONE)
        return true;
    sc_connection_read_on(connection);
    return !has_parked(connection);
}

static void on_end(struct sc_socket *socket, int reason) {
    struct connection *connection = CONNECTION(socket);
    connection->ended = true;
    sc_account_end(connection->account, reason == 0 ? SC_ACCOUNT_LEFT : SC_ACCOUNT_CUT);
    bool waits = connection->state == STATE_OPEN && has_parked(connection) && reason == 0;
    if (waits) {
        connection->paused = true; // What it sent before the end still counts.
        return;
    }
    if (connection->state == STATE_CLOSING && reason == 0 && !sc_out_empty(connection)) {
        connection->close_when_sent = true;
        return;
    }
    connection->state = STATE_GONE;
    sc_socket_close(socket, reason != 0);
}

static void on_sent(struct sc_socket *socket, ssize_t result) {
    sc_out_sent(CONNECTION(socket), result);
}

static void finish_gone(struct connection *connection) {
    struct shard *shard = connection->shard;
    if (connection->kind == KIND_STREAM)
        shard->stream_connections--;
    if (connection->worker != NULL) {
        sc_worker_closed(connection);
        sc_worker_free(connection);
    }
    sc_client_free(connection);
    if (connection->port == PORT_WORKER)
        atomic_fetch_sub_explicit(&shard->node->worker_counts[shard->index], 1,
                                  memory_order_relaxed);
    sc_out_discard(connection);
    inbound_free(connection);
    sc_account_fell(shard, connection->account);
    sc_account_release(connection->account);
    place_give(shard, connection->id);
    shard->connection_count--;
    if (connection->over_limit)
        sc_door_leave(shard, (enum connection_port)connection->port);
    else
        atomic_fetch_sub_explicit(&shard->node->connection_count, 1, memory_order_relaxed);
    sc_out_free(connection);
}

void sc_connection_has_left(struct connection *connection) {
    connection->leaving = false;
    if (connection->unbound)
        finish_gone(connection);
}

// What it has subscribed to ends in steps; it is freed after that.
static void on_closed(struct sc_socket *socket) {
    struct connection *connection = CONNECTION(socket);
    assert(connection->state == STATE_GONE);
    parked_list_remove(connection);
    connection->unbound = true;
    if (connection->leaving)
        return;
    if (connection->kind == KIND_STREAM)
        leave(connection);
    else
        finish_gone(connection);
}

static const struct sc_socket_handler handler = {on_receive, on_end, on_sent, on_closed};

void sc_connection_adopt(struct shard *shard, int fd, enum connection_port port,
                         uint32_t listener) {
    shard->counters.connections_accepted++;
    uint32_t before =
        atomic_fetch_add_explicit(&shard->node->connection_count, 1, memory_order_relaxed);
    bool full = before >= shard->node->config.connection_count_max;
    if (full) {
        atomic_fetch_sub_explicit(&shard->node->connection_count, 1, memory_order_relaxed);
        shard->counters.connections_refused++;
    }
    bool at_door = full && !shard->stopping && sc_door_enter(shard, port);
    struct connection *connection = (full && !at_door) || shard->stopping
                                        ? NULL
                                        : sc_heap_take(shard->heap, sizeof *connection);
    if (connection != NULL) {
        *connection = (struct connection){.shard = shard,
                                          .port = (uint8_t)port,
                                          .listener = (uint8_t)listener,
                                          .over_limit = full};
        if (sc_socket_open(shard->loop, &connection->socket, fd, &handler) == 0) {
            uint32_t place = place_take(shard);
            shard->places[place].connection = connection;
            connection->id = id_of(shard, place);
            connection->tick =
                shard->tick + shard->node->config.handshake_timeout_ms / shard->tick_ms + 1;
            shard->connection_count++;
            return;
        }
        sc_heap_give(connection);
    }
    if (at_door)
        sc_door_leave(shard, port);
    if (!full) {
        shard->counters.connections_refused++;
        atomic_fetch_sub_explicit(&shard->node->connection_count, 1, memory_order_relaxed);
    }
    if (port == PORT_WORKER)
        atomic_fetch_sub_explicit(&shard->node->worker_counts[shard->index], 1,
                                  memory_order_relaxed);
    close(fd);
}

// ---- Closing

// Everything that was queued has been taken by the socket.
void sc_connection_drained(struct connection *connection) {
    assert(connection->state == STATE_CLOSING);
    if (connection->close_when_sent) {
        connection->state = STATE_GONE;
        sc_socket_close(&connection->socket, false);
        return;
    }
    sc_socket_shutdown(&connection->socket);
}

void sc_connection_close(struct connection *connection, uint16_t code, const char *reason) {
    if (connection->state < STATE_OPEN) {
        sc_connection_abort(connection);
        return;
    }
    if (connection->state != STATE_OPEN)
        return;
    sc_account_end(connection->account, SC_ACCOUNT_CUT);
    uint8_t frame[2 + SC_WS_CONTROL_SIZE_MAX];
    struct sc_bytes text = {(const uint8_t *)reason, strlen(reason)};
    size_t size = sc_ws_close_write(frame, code, text);
    if (code == 1013)
        sc_out_drop_waiting(connection);
    sc_connection_respond(connection, frame, size);
    if (connection->paused) { // For the peer's close, which may be behind what is held.
        connection->paused = false;
        sc_socket_resume(&connection->socket);
    }
    sc_connection_begin_closing(connection);
}

void sc_connection_abort(struct connection *connection) {
    if (connection->state == STATE_GONE)
        return;
    sc_account_end(connection->account, SC_ACCOUNT_CUT);
    connection->state = STATE_GONE;
    sc_socket_close(&connection->socket, true);
}

// ---- Patience: once a tick, each connection

// Dead is who sends nothing, and who takes nothing of what waits for it. A fall of what its socket holds is a sign of
// life as any byte is: the deadline starts anew.
static void look_for_life(struct connection *connection, uint32_t quiet_ms) {
    struct shard *shard = connection->shard;
    const struct sc_node_config *config = &shard->node->config;
    bool behind = sc_out_is_behind(connection);
    if (quiet_ms < config->ping_interval_ms) {
        if (connection->silent)
            say_alive(connection, true);
        return;
    }
    if (connection->paused && !behind)
        return;
    if (sc_out_progress(connection) && connection->pinged)
        connection->tick = shard->tick - config->ping_interval_ms / shard->tick_ms;
    else if (quiet_ms >= config->ping_interval_ms + config->ping_deadline_ms) {
        shard->counters.dead_peers_closed++;
        sc_shard_log(shard, SC_LOG_INFO, "dead_peer_closed", connection->id, (struct sc_bytes){0});
        if (behind)
            sc_out_close_slow(connection);
        else
            sc_connection_abort(connection);
        return;
    }
    if (connection->worker != NULL && quiet_ms >= config->ping_deadline_ms && !connection->silent &&
        connection->pinged)
        say_alive(connection, false);
    if (!connection->pinged) {
        uint8_t ping[2];
        connection->pinged = true;
        sc_out_append_control(connection, ping,
                              sc_ws_header_write(ping, SC_WS_PING, true, 0, NULL));
    }
}

static void look_at(struct connection *connection) {
    struct shard *shard = connection->shard;
    uint32_t quiet_ms = (shard->tick - connection->tick) * shard->tick_ms;
    if (connection->state == STATE_HANDSHAKE) {
        if ((int32_t)(shard->tick - connection->tick) >= 0) {
            shard->counters.handshakes_timed_out++;
            sc_connection_abort(connection);
        }
    } else if (connection->state == STATE_CLOSING) {
        if ((int32_t)(shard->tick - connection->tick) >= 0) {
            connection->state = STATE_GONE;
            sc_socket_close(&connection->socket, false);
        }
    } else if (connection->state == STATE_OPEN) {
        look_for_life(connection, quiet_ms);
    }
}

// At most once a second, however many they were.
static void log_refusals(struct shard *shard) {
    uint64_t failed = sc_loop_counters(shard->loop)->accepts_failed;
    uint64_t refused = shard->counters.connections_refused;
    uint64_t now_ns = sc_loop_monotonic_ns(shard->loop);
    bool none = failed == shard->accepts_failed_logged && refused == shard->refused_logged;
    if (none || shard->stopping || now_ns - shard->refusals_logged_ns < 1000000000u)
        return;
    char text[160];
    int size = snprintf(text, sizeof text,
                        "connections refused over the limit of %u: %" PRIu64
                        "; accepts that failed for want of descriptors or memory: %" PRIu64,
                        shard->node->config.connection_count_max, refused - shard->refused_logged,
                        failed - shard->accepts_failed_logged);
    sc_shard_log(shard, SC_LOG_WARN, "connections_refused", SC_NODE_CONNECTION,
                 (struct sc_bytes){(const uint8_t *)text, (size_t)size});
    shard->accepts_failed_logged = failed;
    shard->refused_logged = refused;
    shard->refusals_logged_ns = now_ns;
}

void sc_sweep(struct sc_timer *timer) {
    struct shard *shard = SC_CONTAINER_OF(timer, struct shard, sweep_timer);
    shard->tick++;
    log_refusals(shard);
    for (uint32_t i = 0; i < shard->place_count; i++)
        if (shard->places[i].connection != NULL)
            look_at(shard->places[i].connection);
    sc_kept_sweep(shard);
    if (shard->snapshots != NULL)
        (void)sc_snapshots_have_room(shard,
                                     0); // Lets go of those that nobody has to take any more.
    sc_timer_start(shard->loop, timer, shard->tick_ms);
}
