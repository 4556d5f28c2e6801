// A stream client's way in and out: the path it asks for, the wait for the control plane where somebody has to say who may
// come in, and the end of its subscriptions. What it may say is in join.c.
#include <stdlib.h>

#include "sessions.h"

// Messages of a stream client that wait for the decision about a join. One more: closed with 1008.
#define PARKED_JOINS_MAX 64u
// Of one that waits for the auth function: also its address, which the control plane keeps for the log.
#define PENDING_SIZE (sizeof(struct pending_upgrade) + SC_ENDPOINT_SIZE_MAX)

static void upgrade_free(struct subscriber *client) {
    struct pending_upgrade *upgrade = client->extra->upgrade;
    if (upgrade == NULL)
        return;
    client->extra->upgrade = NULL;
    sc_account_discharge(client->connection.account, SC_PLACE_UPGRADES, PENDING_SIZE);
    sc_upgrade_waits_no_more(connection_shard(&client->connection));
    sc_heap_give(upgrade);
}

// ---- The way in

static void let_in(struct connection *connection, const char accept[28], bool authorization,
                   const struct sc_stream_path *path) {
    sc_upgrade_accept(connection, accept, authorization);
    subscriber_of(connection)->is_open = true;
    sessions_of(connection_shard(connection))->stream_connections++;
    if (path->joins)
        sc_join_by_path(connection, path->parts[0], path->parts[1],
                        path->has_item ? &path->parts[2] : NULL);
}

// Asks the control plane whether the client may come in. Its head is given back before that says so.
static void ask(struct connection *connection, const struct upgrade *upgrade,
                const struct sc_stream_path *path) {
    struct shard *shard = connection_shard(connection);
    const struct sc_http_request *request = &upgrade->request;
    bool page = sc_upgrade_is_page(connection, request);
    if (!sc_upgrade_may_wait(shard)) {
        sc_upgrade_refuse(connection, 503, page);
        return;
    }
    struct pending_upgrade *pending = sc_heap_take(shard->heap, sizeof *pending);
    if (pending == NULL)
        abort(); // Bookkeeping without memory: see sc_allocate.
    sc_account_charge(sc_connection_account(connection), SC_PLACE_UPGRADES, PENDING_SIZE);
    memcpy(pending->accept, upgrade->accept, sizeof pending->accept);
    pending->authorization = upgrade->authorization;
    pending->page = page;
    sc_stream_path_copy(&pending->path, path);
    sc_subscriber_extra(connection)->upgrade = pending;
    sc_connection_authenticate(connection); // What comes before the answer can wait in the socket.
    struct sc_endpoint peer = sc_socket_peer(connection->socket.fd);
    uint8_t text[SC_ENDPOINT_SIZE_MAX];
    struct sc_bytes ip;
    size_t size = sc_endpoint_write(&peer, text, &ip);
    struct sc_message *message = sc_head_message(request, (struct sc_bytes){text, size}, false,
                                                 shard->heap, connection->account);
    if (message == NULL)
        sc_upgrade_refuse(connection, 503, page);
    else
        sc_announce(shard, connection->id, message);
}

// The path may name a subscription. It is asked for when the client is in, in front of all that the client says itself.
static size_t on_head(struct connection *connection, const uint8_t *bytes, size_t size) {
    struct upgrade upgrade;
    struct sc_stream_path path;
    size_t used = sc_upgrade_read(connection, bytes, size, &upgrade);
    if (used == 0 || connection->state != STATE_HEAD)
        return used;
    int status = sc_stream_path_read(upgrade.request.path, &path);
    if (!sc_upgrade_check(connection, &upgrade, status))
        return used;
    if (subscriber_of(connection)->over_limit ||
        !sc_upgrade_is_in_time(connection_shard(connection)))
        sc_upgrade_refuse(connection, 503, sc_upgrade_is_page(connection, &upgrade.request));
    else if (connection_shard(connection)->node->config.authenticates)
        ask(connection, &upgrade, &path);
    else
        let_in(connection, upgrade.accept, upgrade.authorization, &path);
    return used;
}

// The peer may have said more, or gone, while it waited: the bytes are kept, and read from here on.
void sc_client_decide(struct connection *connection, int status, struct sc_bytes context) {
    if (connection->state != STATE_AUTHENTICATING)
        return;
    struct subscriber_extra *extra = subscriber_of(connection)->extra;
    struct pending_upgrade *pending = extra->upgrade;
    if (context.data != NULL) {
        extra->context = sc_blob_create(context.size);
        if (extra->context != NULL)
            memcpy(extra->context->data, context.data, context.size);
        else
            status = 503;
    }
    if (status == 101)
        let_in(connection, pending->accept, pending->authorization, &pending->path);
    else
        sc_upgrade_refuse(connection, status, pending->page);
    upgrade_free(subscriber_of(connection));
    uint32_t most = SC_PARKED_PER_SLICE;
    if (status == 101)
        sc_connection_resume(connection, &most); // The rest of them is on the list of the shard.
}

// ---- Messages

static bool on_message(struct connection *connection, struct sc_bytes text,
                       enum message_source source) {
    if (source == FROM_PEER) // One that was parked has been counted.
        sc_pace_message(connection);
    bool others_wait = source == FROM_PEER && sc_connection_has_parked(connection);
    return !others_wait && sc_stream_message(connection, text);
}

static bool refuse(struct connection *connection, struct sc_bytes text,
                   struct parked_sums waiting) {
    (void)text;
    if (!subscriber_of(connection)->join_asked || waiting.count < PARKED_JOINS_MAX)
        return false;
    connection_shard(connection)->counters.joins_overrun++;
    sc_connection_close(connection, 1008, "too many messages during a join");
    return true;
}

// ---- The way out

static bool has_subscriptions(const struct subscriber *client) {
    return client->memberships != NULL ||
           (client->extra != NULL && client->extra->pending_join != NULL);
}

// Its subscriptions end with the turn, a part in each: somebody may be walking the lists of members now. One that has
// none may get its first in this very turn: its join is complete, and its `sync` the reason for its end.
// Frames that come now are for nobody. The subscriptions end in the turns to come, a part in each.
static void on_ending(struct connection *connection) {
    if (subscriber_of(connection)->is_open)
        sc_wait_list_add(&sessions_of(connection_shard(connection))->leaving,
                         &sc_subscriber_extra(connection)->leaving);
}

// The memory of the client goes back to the heap when its socket is closed and its last subscription has ended.
static void finish(struct subscriber *client) {
    struct shard *shard = connection_shard(&client->connection);
    assert(!has_subscriptions(client));
    if (client->is_open)
        sessions_of(shard)->stream_connections--;
    if (client->extra != NULL)
        upgrade_free(client);
    sc_subscriber_extra_free(&client->connection);
    sc_accept_end(&client->connection, client->over_limit);
    sc_connection_free(&client->connection);
}

static void on_closed(struct connection *connection) {
    struct subscriber *client = subscriber_of(connection);
    bool leaves = client->extra != NULL && sc_wait_node_waits(&client->extra->leaving);
    if (!leaves) // Otherwise the end of its last subscription does.
        finish(client);
}

// One client with many subscriptions ends a part of them, and then waits behind the others.
void sc_clients_leave(struct shard *shard) {
    struct sc_wait_list *leaving = &sessions_of(shard)->leaving;
    uint32_t most = SC_LEAVES_AT_ONCE;
    while (most > 0 && !sc_wait_list_is_empty(leaving)) {
        struct subscriber_extra *extra =
            SC_CONTAINER_OF(sc_wait_list_take(leaving), struct subscriber_extra, leaving);
        struct subscriber *client = extra->subscriber;
        uint32_t before = client->subscription_count;
        bool done = sc_subscriptions_remove_some(
            &client->connection, most < SC_LEAVES_PER_SLICE ? most : SC_LEAVES_PER_SLICE);
        uint32_t cost = 1 + before - client->subscription_count;
        most -= cost < most ? cost : most;
        if (!done)
            sc_wait_list_add(leaving, &extra->leaving);
        else if (client->connection.state == STATE_CLOSED)
            finish(client);
    }
    if (!sc_wait_list_is_empty(leaving))
        sc_shard_turn_again(shard);
}

const struct role sc_stream_role = {
    .name = "stream client",
    .size = sizeof(struct subscriber),
    .slow_code = 1013,
    .on_head = on_head,
    .on_message = on_message,
    .may_start = sc_subscriber_may_start,
    .refuse = refuse,
    .is_throttled = sc_pace_waits,
    .on_ending = on_ending,
    .on_closed = on_closed,
};
