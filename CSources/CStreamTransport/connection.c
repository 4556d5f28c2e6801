// A connection from its socket to its end. All changes of its state are made here, and each end goes through
// sc_connection_end. The model is TigerBeetle's: terminate (nothing more is said), join (the kernel lets go of the
// socket, the role of what it holds), close (the memory goes).
#include <errno.h>
#include <stdlib.h>

#include "transport_private.h"

// ---- Ids: index of the transport, generation, slot

#define NO_SLOT UINT32_MAX

static uint64_t id_of(const struct transport *transport, uint32_t slot) {
    uint64_t generation = transport->slots[slot].generation & 0xffffffu;
    return (uint64_t)transport->index << 56 | generation << 32 | slot;
}

static uint32_t slot_take(struct transport *transport) {
    uint32_t slot = transport->slot_free;
    if (slot != NO_SLOT) {
        transport->slot_free = transport->slots[slot].next_free;
        return slot;
    }
    if (transport->slot_count == transport->slot_capacity) {
        uint32_t capacity = transport->slot_capacity == 0 ? 64 : transport->slot_capacity * 2;
        const size_t size = sizeof *transport->slots;
        transport->slots =
            sc_grow(transport->slots, transport->slot_capacity * size, capacity * size);
        transport->slot_capacity = capacity;
    }
    transport->slots[transport->slot_count] = (struct connection_slot){.generation = 1};
    return transport->slot_count++;
}

static void slot_give(struct transport *transport, uint64_t id) {
    struct connection_slot *slot = &transport->slots[(uint32_t)id];
    slot->connection = NULL;
    // Never 0, with which the first slot of the first transport would have the id of the node itself.
    if ((++slot->generation & 0xffffffu) == 0)
        slot->generation++;
    slot->next_free = transport->slot_free;
    transport->slot_free = (uint32_t)id;
}

struct sc_account *sc_connection_account(struct connection *connection) {
    if (connection->account == NULL) {
        connection->account =
            sc_account_create(connection->port->budget, connection->transport->sums);
        if (connection->account == NULL)
            abort(); // Bookkeeping without memory: see sc_allocate.
    }
    return connection->account;
}

void sc_connection_drop_account(struct connection *connection) {
    struct sc_account *account = connection->account;
    if (account == NULL || sc_account_total(account) > 0 ||
        atomic_load_explicit(&account->references, memory_order_acquire) > 1)
        return;
    sc_account_release(account);
    connection->account = NULL;
}

void sc_connection_wake(struct connection *connection) {
    uint64_t waiting = sc_account_take_waiting(connection->account);
    if (waiting != 0)
        connection->transport->events->wake(connection->transport, waiting);
}

// ---- From head to open

void sc_connection_lives(struct connection *connection) {
    connection->tick = connection->transport->tick;
    connection->pinged = false;
}

void sc_connection_authenticate(struct connection *connection) {
    assert(connection->state == STATE_HEAD);
    connection->state = STATE_AUTHENTICATING;
    connection->paused = true;
    sc_socket_pause(&connection->socket);
}

void sc_connection_open(struct connection *connection) {
    assert(connection->state < STATE_OPEN);
    connection->state = STATE_OPEN;
    connection->framed = true;
    connection->tick = connection->transport->tick;
}

void sc_connection_refuse(struct connection *connection, const uint8_t *bytes, size_t size) {
    assert(connection->state < STATE_OPEN);
    sc_out_append_bytes(connection, bytes, size);
    sc_connection_end(connection, END_AFTER_REFUSAL);
}

// ---- Ends

static const uint8_t state_after[] = {[END_AFTER_CLOSE] = STATE_CLOSING,
                                      [END_AFTER_REFUSAL] = STATE_REFUSED,
                                      [END_WHEN_SENT] = STATE_DRAINING,
                                      [END_AT_ONCE] = STATE_TERMINATING,
                                      [END_RESET] = STATE_TERMINATING};

static enum connection_state next_state(const struct connection *connection,
                                        enum connection_end how) {
    enum connection_state state = state_after[how];
    // The peer says no more: nothing is left to wait for but our own bytes.
    bool peer_is_done =
        connection->state == STATE_PEER_ENDED || connection->state == STATE_PEER_CLOSED;
    if (peer_is_done && state < STATE_DRAINING)
        state = STATE_DRAINING;
    if (state == STATE_DRAINING && sc_out_is_empty(connection))
        state = STATE_TERMINATING;
    return state;
}

static void wait_for_end(struct connection *connection) {
    struct transport *transport = connection->transport;
    connection->tick =
        transport->tick + transport->limits.close_timeout_ms / transport->tick_ms + 1;
    if (connection->paused && connection->state < STATE_DRAINING) {
        connection->paused = false; // For the peer's close, which may be behind what was held.
        sc_socket_resume(&connection->socket);
    }
}

void sc_connection_end(struct connection *connection, enum connection_end how) {
    enum connection_state before = connection->state, state = next_state(connection, how);
    if (state <= before)
        return;
    sc_account_end(connection->account, how == END_WHEN_SENT ? SC_ACCOUNT_LEFT : SC_ACCOUNT_CUT);
    connection->state = (uint8_t)state;
    if (state == STATE_TERMINATING)
        sc_socket_close(&connection->socket, how == END_RESET);
    else if (before < STATE_CLOSING)
        wait_for_end(connection);
    if (before < STATE_CLOSING)
        connection->port->role->on_ending(connection);
}

// Queues a close frame behind all that is queued, and ends the connection.
static void say_close(struct connection *connection, uint16_t code, const char *reason,
                      enum connection_end how) {
    uint8_t frame[2 + SC_WS_CONTROL_SIZE_MAX];
    struct sc_bytes text = {(const uint8_t *)reason, strlen(reason)};
    size_t size = sc_ws_close_write(frame, code, text);
    sc_out_append_bytes(connection, frame, size);
    sc_connection_end(connection, how);
}

void sc_connection_close(struct connection *connection, uint16_t code, const char *reason) {
    if (connection->state < STATE_OPEN)
        sc_connection_end(connection, END_RESET);
    else if (sc_connection_serves(connection))
        say_close(connection, code, reason, END_AFTER_CLOSE);
}

void sc_connection_broken(struct connection *connection, int error) {
    struct transport_counters *counters = &connection->transport->counters;
    if (!sc_connection_serves(connection)) {
        sc_connection_end(connection, END_AFTER_REFUSAL);
    } else if (error == -EMSGSIZE) {
        counters->messages_too_large++;
        say_close(connection, 1009, "message too large", END_AFTER_REFUSAL);
    } else {
        counters->protocol_errors++;
        say_close(connection, error == -EILSEQ ? 1007 : 1002, "protocol error", END_AFTER_REFUSAL);
    }
}

void sc_connection_peer_closed(struct connection *connection, uint16_t code) {
    sc_account_end(connection->account, SC_ACCOUNT_LEFT);
    if (connection->state == STATE_CLOSING)
        sc_connection_end(connection, END_AT_ONCE);
    else // Our half of the handshake ends it.
        say_close(connection, code == 1005 ? 0 : code, "", END_WHEN_SENT);
}

void sc_connection_finish_later(struct connection *connection, enum connection_state state) {
    assert(sc_connection_serves(connection) && sc_connection_has_parked(connection));
    sc_account_end(connection->account, SC_ACCOUNT_LEFT);
    connection->state = (uint8_t)state;
    if (connection->paused)
        return;
    connection->paused = true;
    if (state == STATE_PEER_CLOSED)
        sc_socket_pause(&connection->socket);
}

void sc_connection_drained(struct connection *connection) {
    assert(connection->state >= STATE_CLOSING);
    const struct channel_kind *channel = connection->port->channel;
    if (channel != NULL && channel->says_goodbye(connection))
        return;
    if (connection->state == STATE_DRAINING)
        sc_connection_end(connection, END_AT_ONCE);
    else // The peer's end, or its close frame, is awaited.
        sc_socket_shutdown(&connection->socket);
}

// ---- The socket's events

#define CONNECTION(socket_pointer) SC_CONTAINER_OF(socket_pointer, struct connection, socket)

static void say_alive(struct connection *connection, bool alive) {
    const struct role *role = connection->port->role;
    connection->silent = !alive;
    if (role->on_life != NULL)
        role->on_life(connection, alive);
}

static void send_ping(struct connection *connection) {
    uint8_t ping[2];
    connection->pinged = true;
    sc_out_append_control(connection, ping, sc_ws_header_write(ping, SC_WS_PING, true, 0, NULL));
}

void sc_connection_ask(struct connection *connection) {
    if (!sc_connection_serves(connection))
        return;
    if (connection->paused || sc_backlog_waits(connection)) {
        say_alive(connection, true);
        return;
    }
    struct transport *transport = connection->transport;
    uint32_t interval = transport->limits.ping_interval_ms / transport->tick_ms + 1;
    if (transport->tick - connection->tick < interval)
        connection->tick = transport->tick - interval;
    connection->silent = true; // So that its next byte is told.
    send_ping(connection);
}

void sc_connection_hears(struct connection *connection) {
    // Of a peer for which something waits only what it takes counts.
    if (sc_connection_serves(connection) && !sc_backlog_waits(connection))
        sc_connection_lives(connection);
    if (connection->silent && sc_connection_serves(connection) && !connection->pinged)
        say_alive(connection, true);
}

static void on_receive(struct sc_socket *socket, uint8_t *bytes, size_t size) {
    sc_connection_hears(CONNECTION(socket));
    sc_inbound_receive(CONNECTION(socket), bytes, size);
}

void sc_connection_peer_ended(struct connection *connection, int reason) {
    sc_account_end(connection->account, reason == 0 ? SC_ACCOUNT_LEFT : SC_ACCOUNT_CUT);
    if (reason != 0)
        sc_connection_end(connection, END_RESET);
    else if (connection->state == STATE_OPEN && sc_connection_has_parked(connection))
        sc_connection_finish_later(connection, STATE_PEER_ENDED);
    else if (connection->state >= STATE_CLOSING)
        sc_connection_end(connection, END_WHEN_SENT);
    else if (connection->state != STATE_PEER_CLOSED) // That one ends when what waits is started.
        sc_connection_end(connection, END_AT_ONCE);
}

static void on_end(struct sc_socket *socket, int reason) {
    sc_connection_peer_ended(CONNECTION(socket), reason);
}

static void on_sent(struct sc_socket *socket, ssize_t result) {
    sc_out_sent(CONNECTION(socket), result);
}

void sc_connection_socket_closed(struct connection *connection) {
    assert(connection->state == STATE_TERMINATING);
    connection->state = STATE_CLOSED;
    connection->port->role->on_closed(connection);
}

static void on_closed(struct sc_socket *socket) {
    sc_connection_socket_closed(CONNECTION(socket));
}

static const struct sc_socket_handler handler = {on_receive, on_end, on_sent, on_closed};

struct connection *sc_connection_adopt(struct transport *transport, const struct port *port,
                                       int fd) {
    const struct channel_kind *channel = port->channel;
    size_t size = port->role->size + (channel != NULL ? channel->size : 0);
    struct connection *connection = sc_heap_take(transport->heap, size);
    if (connection == NULL)
        return NULL;
    memset(connection, 0, size);
    connection->transport = transport;
    connection->port = port;
    if (channel != NULL && !channel->open(connection)) {
        sc_heap_give(connection);
        return NULL;
    }
    if (sc_socket_open(transport->loop, &connection->socket, fd,
                       channel != NULL ? channel->handler : &handler) < 0) {
        if (channel != NULL)
            channel->close(connection);
        sc_heap_give(connection);
        return NULL;
    }
    uint32_t slot = slot_take(transport);
    transport->slots[slot].connection = connection;
    transport->slots[slot].label = 0;
    connection->id = id_of(transport, slot);
    connection->tick =
        transport->tick + transport->limits.handshake_timeout_ms / transport->tick_ms + 1;
    transport->connection_count++;
    return connection;
}

void sc_connection_free(struct connection *connection) {
    struct transport *transport = connection->transport;
    assert(connection->state == STATE_CLOSED);
    connection->state = STATE_FREED;
    sc_out_discard(connection);
    sc_inbound_free(connection);
    if (connection->account != NULL)
        sc_connection_wake(connection);
    sc_account_release(connection->account);
    slot_give(transport, connection->id);
    transport->connection_count--;
    sc_out_free(connection);
}

// ---- Patience: once a tick, each connection

// Dead is a peer that sends nothing, and one that takes nothing of what waits for it. A fall of what its socket holds is
// a sign of life as any byte is: the deadline starts anew.
static void look_for_life(struct connection *connection, uint32_t quiet_ms) {
    struct transport *transport = connection->transport;
    const struct transport_limits *limits = &transport->limits;
    if (quiet_ms < limits->ping_interval_ms) {
        if (connection->silent)
            say_alive(connection, true);
        return;
    }
    bool behind = sc_backlog_waits(connection);
    if (connection->paused && !behind)
        return;
    if (sc_out_progress(connection) && connection->pinged)
        connection->tick = transport->tick - limits->ping_interval_ms / transport->tick_ms;
    else if (quiet_ms >= limits->ping_interval_ms + limits->ping_deadline_ms) {
        transport->counters.dead_peers_closed++;
        transport->events->on_dead_peer(connection);
        if (behind)
            sc_out_close_slow(connection);
        else
            sc_connection_end(connection, END_RESET);
        return;
    }
    if (quiet_ms >= limits->ping_deadline_ms && !connection->silent && connection->pinged)
        say_alive(connection, false);
    if (!connection->pinged)
        send_ping(connection);
}

static void look_at(struct connection *connection) {
    struct transport *transport = connection->transport;
    if (sc_connection_serves(connection)) { // As nearly all do.
        look_for_life(connection, (transport->tick - connection->tick) * transport->tick_ms);
        return;
    }
    if ((int32_t)(transport->tick - connection->tick) < 0)
        return;
    if (connection->state == STATE_HEAD) {
        transport->counters.handshakes_timed_out++;
        if (connection->port->channel != NULL)
            connection->port->channel->timed_out(connection);
        sc_connection_end(connection, END_RESET);
    } else if (connection->state >= STATE_CLOSING && connection->state < STATE_TERMINATING) {
        sc_connection_end(connection, END_AT_ONCE);
    }
}

void sc_transport_sweep_on(struct transport *transport) {
    uint32_t slot = transport->sweep_next, left = transport->slot_count - slot;
    uint32_t end = slot + (left < SC_SWEPT_PER_TURN ? left : SC_SWEPT_PER_TURN);
    for (; slot < end; slot++)
        if (transport->slots[slot].connection != NULL)
            look_at(transport->slots[slot].connection);
    transport->sweep_next = end < transport->slot_count ? end : UINT32_MAX;
    if (sc_transport_sweeps(transport))
        transport->events->turn_again(transport);
}

// A tick that comes before the last one is over does not begin anew: the last slots would never be looked at.
void sc_transport_sweep(struct transport *transport) {
    transport->tick++;
    if (!sc_transport_sweeps(transport))
        transport->sweep_next = 0;
    sc_transport_sweep_on(transport);
}

// ---- All of them

static uint32_t tick_ms(const struct transport_limits *limits) {
    uint32_t least = limits->ping_interval_ms;
    if (limits->ping_deadline_ms < least)
        least = limits->ping_deadline_ms;
    if (limits->handshake_timeout_ms < least)
        least = limits->handshake_timeout_ms;
    if (limits->close_timeout_ms < least)
        least = limits->close_timeout_ms;
    uint32_t tick = least / 8;
    return tick < 20 ? 20 : tick > 1000 ? 1000 : tick;
}

static void parked_due(struct sc_timer *timer) {
    (void)timer; // The turn's end looks at them.
}

void sc_transport_deinit(struct transport *transport) {
    assert(transport->connection_count == 0);
    sc_out_free_dirty(transport);
    sc_chunks_deinit(&transport->chunks);
    sc_array_free(transport->slots, transport->slot_capacity * sizeof *transport->slots);
}

void sc_transport_init(struct transport *transport) {
    transport->slot_free = NO_SLOT;
    transport->sweep_next = UINT32_MAX;
    transport->tick_ms = tick_ms(&transport->limits);
    transport->parked.name = "to be started";
    transport->handshakes.name = "to shake hands";
    transport->parked_timer.on_due = parked_due;
    transport->over_budget.name = "within the budget again";
    transport->over_timer.on_due = sc_backlog_over_due;
}
