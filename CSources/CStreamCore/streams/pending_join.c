// Joins of streams whose `get` or `list` a function overrides: the function makes the `sync`. The events that come meanwhile
// wait in the history of the topic.
#include <stdlib.h>

#include "streams.h"

// The events that come until the function has answered wait in the history.
// The reader stands at the position of the join: what the owner sends from now on waits for the function's answer.
void sc_pending_join_begin(struct connection *connection, const struct request *request) {
    struct sc_subscription_name name = sc_join_name(request);
    size_t item_size = name.item == NULL ? 0 : name.item->size;
    struct pending_join *join = sc_allocate(sizeof *join + item_size + name.id.size);
    *join = (struct pending_join){.topic = join_of(request)->topic,
                                  .timestamp = join_of(request)->timestamp,
                                  .attempt = join_of(request)->attempt,
                                  .has_item = name.item != NULL,
                                  .item_size = (uint16_t)item_size,
                                  .id_size = (uint16_t)name.id.size};
    if (item_size > 0)
        memcpy(join->bytes, name.item->data, item_size);
    if (name.id.size > 0)
        memcpy(join->bytes + item_size, name.id.data, name.id.size);
    struct subscriber_extra *client = sc_subscriber_extra(connection);
    client->pending_join = join;
    sc_topic_settle(connection_shard(connection), join->topic);
    const struct membership *membership = sc_membership_find(connection, join->topic);
    bool stands = sc_catch_up_stands(connection);
    join->covered = membership != NULL && !stands && sc_subscription_covers(membership, name.item);
    // A connection that gets events of some items would have them before the `sync` of the group, which is older.
    if (stands || (membership != NULL && !join->covered && !join->has_item))
        sc_catch_up_stand(connection, join->topic);
    else if (!join->covered)
        sc_history_enter(connection_shard(connection), &join->topic->history, &client->reader);
    subscriber_of(connection)->join_asked =
        true; // Its further messages wait as they do for a handler.
    sc_announce(connection_shard(connection), connection->id, sc_sync_message(&name));
}

// The reader leaves with it, so this comes before anything that could end the topic.
static struct pending_join *pending_take(struct connection *connection) {
    struct pending_join *join = subscriber_of(connection)->extra->pending_join;
    subscriber_of(connection)->extra->pending_join = NULL;
    return join;
}

static struct sc_bytes pending_id(const struct pending_join *join) {
    return (struct sc_bytes){join->bytes + join->item_size, join->id_size};
}

// Messages of the client that have waited for this join go on in the next turn.
static void pending_free(struct connection *connection, struct pending_join *join) {
    sc_history_leave(&subscriber_of(connection)->extra->reader);
    sc_blob_release(join->data);
    free(join);
}

static const struct sc_bytes *pending_item(const struct pending_join *join, struct sc_bytes *item) {
    *item = (struct sc_bytes){join->bytes, join->item_size};
    return join->has_item ? item : NULL;
}

static struct sc_subscription_name pending_name(const struct connection *connection,
                                                const struct pending_join *join,
                                                struct sc_bytes *item) {
    struct sc_group_name group = sc_topic_name(join->topic);
    return (struct sc_subscription_name){.id = pending_id(join),
                                         .stream = group.stream,
                                         .group = group.group,
                                         .item = pending_item(join, item),
                                         .context = subscriber_context(connection)};
}

void sc_pending_join_end(struct connection *connection) {
    struct shard *shard = connection_shard(connection);
    struct pending_join *join = pending_take(connection);
    struct sc_bytes item;
    struct sc_subscription_name name = pending_name(connection, join, &item);
    sc_announce_leave(shard, connection->id, &name, NULL);
    struct topic *topic = join->topic;
    pending_free(connection, join);
    sc_leave_send(shard, topic, 1);
}

// The answer of a function may come when the client has gone, or joins something else already.
static bool is_pending(const struct connection *connection) {
    return sc_connection_serves(connection) && subscriber_of(connection)->extra != NULL &&
           subscriber_of(connection)->extra->pending_join != NULL;
}

// What it has subscribed to before stands still until the next `sync`, which shows what it has lost.
//
// The interest of the join that was stays until the next one has its own.
static void pending_again(struct connection *connection, bool has_sync) {
    struct shard *shard = connection_shard(connection);
    struct pending_join *join = pending_take(connection);
    struct topic *topic = join->topic;
    struct sc_bytes item;
    struct sc_subscription_name name = pending_name(connection, join, &item);
    subscriber_of(connection)->join_asked = false;
    // May have made another one already.
    sc_join_again(connection, &name, has_sync ? join->attempt : SC_JOIN_ATTEMPTS_MAX);
    free(join);
    sc_leave_send(shard, topic, 1);
}

static bool is_of_item(const void *context, const struct sc_bytes *item) {
    const struct sc_bytes *wanted = context;
    return item != NULL && sc_bytes_equal(*item, *wanted);
}

// What waits is of all items, or of the one that is asked for: events of others have come meanwhile.
static void send_waiting(struct connection *connection, const struct pending_join *join) {
    struct sc_bytes item;
    const struct sc_bytes *wanted = pending_item(join, &item);
    struct history_filter filter = {.wants = wanted == NULL ? NULL : is_of_item, .context = wanted};
    struct history_reader *reader = &subscriber_of(connection)->extra->reader;
    if (reader->history != NULL)
        sc_history_send(reader, &filter, connection);
}

// A function that fails (`data` without bytes) leaves the client subscribed without a `sync`, as the original does.
static void pending_complete(struct connection *connection, struct sc_bytes data) {
    struct shard *shard = connection_shard(connection);
    bool lost = subscriber_of(connection)->extra->reader.lost &&
                !subscriber_of(connection)->extra->pending_join->covered;
    if (lost && (data.data != NULL || sc_catch_up_stands(connection))) {
        pending_again(connection, data.data != NULL);
        return;
    }
    struct pending_join *join = pending_take(connection);
    struct sc_bytes item;
    subscriber_of(connection)->join_pending = subscriber_of(connection)->join_asked = false;
    sc_catch_up_resume(connection);
    sc_join_subscribe(connection, join->topic, pending_id(join), pending_item(join, &item));
    if (data.data != NULL) {
        struct slice slice = sc_custom_sync_build(shard, join, data);
        sc_out_append(connection, slice);
        sc_slice_release(shard, slice);
    }
    send_waiting(connection, join);
    pending_free(connection, join);
}

// A connection that is covered already has had events since the join: the owner stamps the `sync` anew, in the order of the
// group's changes.
static bool stamp_again(struct connection *connection, struct sc_bytes data) {
    struct shard *shard = connection_shard(connection);
    struct pending_join *join = subscriber_of(connection)->extra->pending_join;
    struct sc_group_name group = sc_topic_name(join->topic);
    join->data = join->covered ? sc_blob_create((size_t)data.size) : NULL;
    if (join->data == NULL)
        return false;
    if (data.size > 0)
        memcpy(join->data->data, data.data, data.size);
    struct call call = {.name = group, .connection = connection->id, .has_item = join->has_item};
    (void)pending_item(join, &call.item);
    struct request *request = sc_request_make(shard, sc_shard_of(shard, group.hash), &sc_join_kind,
                                              &call, (struct sc_bytes){0});
    join_of(request)->sync_source = SYNC_STAMP;
    if (request->owner == shard) {
        sc_call_queue_take(shard, request);
    } else {
        join_of(request)->topic = join->topic;
        join_of(request)->topic->registrations++;
        sc_request_send(request);
    }
    return true;
}

void sc_pending_join_stamped(struct connection *connection, uint64_t timestamp) {
    if (connection == NULL || !is_pending(connection))
        return;
    struct pending_join *join = subscriber_of(connection)->extra->pending_join;
    if (join->data == NULL)
        return;
    join->timestamp = timestamp;
    pending_complete(connection, sc_blob_bytes(join->data));
}

// A client that has had no event of it since the join needs no other stamp.
void sc_sync_decided(struct connection *connection, struct sc_bytes data) {
    if (!is_pending(connection))
        return;
    if (data.data == NULL || !stamp_again(connection, data))
        pending_complete(connection, data);
}

void sc_sync_refused(struct connection *connection) {
    if (!is_pending(connection))
        return;
    if (sc_catch_up_has_lost(connection)) {
        pending_again(connection, false);
        return;
    }
    struct pending_join *join = pending_take(connection);
    struct sc_bytes item;
    struct sc_subscription_name name = pending_name(connection, join, &item);
    subscriber_of(connection)->join_pending = subscriber_of(connection)->join_asked = false;
    struct topic *topic = join->topic;
    if (sc_catch_up_stands(connection)) {
        sc_catch_up_resume(connection);
        sc_catch_up_send(connection, topic);
    }
    sc_join_refuse_large(connection, &name);
    pending_free(connection, join);
    sc_leave_send(connection_shard(connection), topic, 1);
}
