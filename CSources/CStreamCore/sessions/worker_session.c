// A worker's way in and out, and what makes its messages wait. What it may say is in worker.c.
#include <stdlib.h>

#include "sessions.h"

// Of a worker that executes functions, which must be read on, since what it waits for may wait for its
// results: further calls of it are answered with an error, and far beyond that it is closed with 1008.
#define PARKED_EXECUTOR_BYTES_MAX (8u << 20)
#define PARKED_EXECUTOR_BYTES_LIMIT (64u << 20)

// ---- The way in

void sc_worker_limit_outbound(struct connection *connection, uint64_t size) {
    uint64_t all = connection_shard(connection)->node->config.message_size_max;
    worker_of(connection)->outbound_size_max = size < all ? size : all;
}

// Whichever comes first. The number that may wait is given back once.
void sc_worker_admission_ends(struct connection *connection) {
    if (worker_of(connection)->waits_for_admission)
        sc_upgrade_waits_no_more(connection_shard(connection));
    worker_of(connection)->waits_for_admission = false;
}

// Before it is let in the control plane knows its head only: the auth function sees headers and path.
static void announce(struct worker *worker, const struct sc_http_request *request) {
    struct connection *connection = &worker->caller.connection;
    struct sc_endpoint peer = sc_socket_peer(connection->socket.fd);
    uint8_t text[SC_ENDPOINT_SIZE_MAX];
    struct sc_bytes ip;
    size_t size = sc_endpoint_write(&peer, text, &ip);
    struct sc_message *head =
        sc_head_message(request, ip, true, connection_shard(connection)->heap, connection->account);
    if (head == NULL) {
        sc_connection_close(connection, 1011, "out of memory");
        return;
    }
    worker->announced = true;
    const struct sc_node_events *events = &connection_shard(connection)->node->events;
    events->worker_opened(events->context, connection->id, connection->port->index,
                          worker->telemetry, (struct sc_bytes){text, size},
                          worker->outbound_size_max, head);
    sc_message_release(head);
}

static void opened(struct worker *worker, const struct sc_http_request *request) {
    struct connection *connection = &worker->caller.connection;
    struct shard *shard = connection_shard(connection);
    worker->is_open = true;
    worker->deliveries.name = "room for deliveries";
    sessions_of(shard)->worker_connections++;
    (void)sc_connection_account(connection); // Each worker's calls need one.
    sc_worker_limit_outbound(connection, sc_head_is_python(request) ? SC_PYTHON_MESSAGE_SIZE_MAX
                                                                    : SC_UNKNOWN_MESSAGE_SIZE_MAX);
    worker->waits_for_admission =
        !worker->over_limit && sc_upgrade_is_in_time(shard) && sc_upgrade_may_wait(shard);
    if (worker->waits_for_admission)
        announce(worker, request);
    else
        sc_door_turn_away(connection);
}

static size_t on_head(struct connection *connection, const uint8_t *bytes, size_t size) {
    struct worker *worker = worker_of(connection);
    struct upgrade upgrade;
    size_t used = sc_upgrade_read(connection, bytes, size, &upgrade);
    if (used == 0 || connection->state != STATE_HEAD)
        return used;
    worker->telemetry = sc_bytes_equal(upgrade.request.path, SC_LITERAL("/otel"));
    bool known = worker->telemetry || sc_bytes_equal(upgrade.request.path, SC_LITERAL("/"));
    if (!sc_upgrade_check(connection, &upgrade, known ? 0 : 404))
        return used;
    sc_upgrade_accept(connection, upgrade.accept, upgrade.authorization);
    opened(worker, &upgrade.request);
    return used;
}

// From here on its messages are read. Those that came before have waited.
void sc_worker_admit(struct connection *connection, const struct worker_admission *admission) {
    struct worker *worker = worker_of(connection);
    struct sc_bytes id = admission->id;
    struct sc_bytes parts[SC_REGISTERED_PARTS];
    if (!worker->telemetry)
        sc_worker_send(connection, parts,
                       sc_registered_parts(parts, id, admission->reattach_token));
    sc_worker_admission_ends(connection);
    worker->admitted = true;
    worker->restricted = admission->restricted;
    worker->allowed_ops = admission->allowed_ops;
    worker->id_size = (uint8_t)id.size;
    memcpy(worker->id, id.data, id.size);
    uint32_t most = SC_PARKED_PER_SLICE;
    sc_connection_resume(connection, &most); // The rest of them is on the list of the shard.
}

// ---- What makes its messages wait

// What was set aside goes on first when the triggers have room: it is older than what comes.
static bool may_start_aside(const struct connection *connection) {
    return !worker_of(connection)->writes_held;
}

static bool refuse(struct connection *connection, struct sc_bytes text,
                   struct parked_sums waiting) {
    if (!connection->read_always || waiting.bytes <= PARKED_EXECUTOR_BYTES_MAX)
        return false;
    if (sc_worker_refuse_call(connection, text))
        return true;
    if (waiting.bytes > PARKED_EXECUTOR_BYTES_LIMIT)
        sc_connection_close(connection, 1008, "too many messages wait");
    return waiting.bytes > PARKED_EXECUTOR_BYTES_LIMIT;
}

// Results that the control plane has not taken: reading on would only add to them.
static bool is_throttled(const struct connection *connection) {
    return sc_account_bytes(connection->account, SC_PLACE_RESULTS) > SC_RESULTS_SIZE_MAX;
}

// A peer that is silent may still be there: another worker gets its ids, and it may get them back.
static void on_life(struct connection *connection, bool alive) {
    const struct sc_node_events *events = &connection_shard(connection)->node->events;
    events->worker_alive(events->context, connection->id, alive);
}

// ---- The way out

// What a closing worker still says counts for nothing, and its peer may take the whole patience of the close
// handshake: the control plane hears at once that it serves nobody any more.
// The control plane hears of it at once, so that callers of its functions need not wait for the socket to close.
static void on_ending(struct connection *connection) {
    struct worker *worker = worker_of(connection);
    if (!worker->announced)
        return;
    worker->announced = false;
    sc_deliveries_drop(connection);
    const struct sc_node_events *events = &connection_shard(connection)->node->events;
    events->worker_closed(events->context, connection->id);
}

static void on_closed(struct connection *connection) {
    struct worker *worker = worker_of(connection);
    struct shard *shard = connection_shard(connection);
    if (worker->is_open) {
        sessions_of(shard)->worker_connections--;
        sc_worker_admission_ends(connection);
        sc_answers_drop(caller_of(connection));
        sc_wait_list_remove(&worker->door);
    }
    if (worker->turned_away)
        sc_door_leave(shard, DOOR_WORKER);
    sc_accept_end(connection, worker->over_limit);
    sc_connection_free(connection);
}

const struct role sc_worker_role = {
    .name = "worker",
    .size = sizeof(struct worker),
    .slow_code = 1012, // SDKs come back from that code only.
    .sends_first = true,
    .finishes = true,
    .message_pong = {(const uint8_t *)"\x81\x0f{\"type\":\"pong\"}", 17},
    .on_head = on_head,
    .on_message = sc_worker_message,
    .may_start = sc_worker_may_start,
    .may_start_aside = may_start_aside,
    .refuse = refuse,
    .is_throttled = is_throttled,
    .on_room = sc_deliveries_resume,
    .on_life = on_life,
    .on_ending = on_ending,
    .on_closed = on_closed,
};
