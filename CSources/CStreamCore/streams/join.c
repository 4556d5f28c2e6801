// Messages of stream clients: join and leave. The owner of a group takes the snapshot and notes the
// interest in one step, so that a subscriber gets `sync` and then exactly the changes after it.
#include <stdlib.h>

#include <errno.h>

#include "streams.h"

// ---- Asking for a join

static void refuse_with(struct connection *connection, const struct sc_subscription_name *name,
                        struct sc_bytes event) {
    struct shard *shard = connection_shard(connection);
    struct sc_group_name group = {name->stream, name->group, 0};
    struct slice slice = sc_unauthorized_build(shard, &group, name->item, event);
    sc_out_append(connection, slice);
    sc_slice_release(shard, slice);
    shard->counters.subscriptions_refused++;
}

// The answer is of the shape of an event, so that a page finds it where it looks for the `sync`.
static void refuse(struct connection *connection, const struct sc_subscription_name *name) {
    refuse_with(connection, name, SC_EVENT_UNAUTHORIZED);
}

// At most one line a second says why joins are refused, however many are.
static void log_refusal(struct connection *connection, const struct sc_subscription_name *name,
                        struct sc_bytes why) {
    struct shard *shard = connection_shard(connection);
    uint64_t now_ns = sc_loop_monotonic_ns(shard->loop);
    if (streams_of(shard)->join_logged_ns != 0 &&
        now_ns - streams_of(shard)->join_logged_ns < 1000000000u)
        return;
    streams_of(shard)->join_logged_ns = now_ns;
    struct sc_buffer text = {0};
    sc_buffer_append_bytes(&text, why);
    sc_buffer_append_bytes(&text, SC_LITERAL(": stream "));
    sc_json_write_string(&text, name->stream);
    sc_buffer_append_bytes(&text, SC_LITERAL(", group "));
    sc_json_write_string(&text, name->group);
    sc_shard_log(shard, SC_LOG_WARN, "join_refused", connection->id, sc_buffer_bytes(&text));
    sc_buffer_deinit(&text);
}

// Its handler has let it in, and hears that it has gone.
void sc_join_refuse_large(struct connection *connection, const struct sc_subscription_name *name) {
    struct shard *shard = connection_shard(connection);
    sc_announce_leave(shard, connection->id, name, sc_connection_account(connection));
    refuse_with(connection, name, SC_EVENT_SYNC_TOO_LARGE);
    shard->counters.syncs_too_large++;
    log_refusal(connection, name, SC_LITERAL("the sync is over limits.sync_bytes"));
}

// A connection that has left a group may have had its events up to the newest that has come from there.
static uint64_t join_from(const struct connection *connection, const struct sc_group_name *group,
                          const struct shard *owner) {
    const struct shard *shard = connection_shard(connection);
    if (sc_subscription_any(connection, group))
        return JOIN_FROM_NOW;
    if (!subscriber_of(connection)->has_left)
        return JOIN_FROM_ANY;
    return owner == shard ? sc_durable_position(shard) : shard->peers[owner->index].position;
}

// The call carries the names; `extra` of the request the subscription's id.
static struct request *join_request(struct connection *connection,
                                    const struct sc_group_name *group,
                                    const struct sc_subscription_name *name) {
    struct shard *shard = connection_shard(connection);
    struct call call = {
        .name = *group, .connection = connection->id, .has_item = name->item != NULL};
    if (name->item != NULL)
        call.item = *name->item;
    struct shard *owner = sc_shard_of(shard, group->hash);
    struct request *request = sc_request_make(shard, owner, &sc_join_kind, &call, name->id);
    uint32_t override = name->item != NULL ? SC_WATCH_GET : SC_WATCH_LIST;
    bool function = (sc_watch_flags(shard, name->stream) & override) != 0;
    join_of(request)->sync_source = function ? SYNC_OF_FUNCTION : SYNC_OF_STORE;
    join_of(request)->from = join_from(connection, group, owner);
    if (subscriber_of(connection)->extra != NULL &&
        subscriber_of(connection)->extra->context != NULL)
        join_of(request)->context = sc_blob_retain(subscriber_of(connection)->extra->context);
    return request;
}

static void join_send(struct connection *connection, const struct sc_subscription_name *name,
                      uint8_t attempt) {
    struct shard *shard = connection_shard(connection);
    uint64_t hash = sc_store_hash(name->stream, name->group, shard->node->config.seed);
    struct sc_group_name group = {name->stream, name->group, hash};
    struct request *request = join_request(connection, &group, name);
    join_of(request)->attempt = attempt;
    subscriber_of(connection)->join_pending = true;
    if (request->owner == shard) {
        sc_call_queue_take(shard, request); // Not counted: a connection joins once at a time.
        return;
    }
    join_of(request)->topic = sc_topic_make(shard, &group);
    join_of(request)->topic->registrations++;
    sc_request_send(request);
}

// The control plane decides where a handler of `stream:join` listens, or a function makes the `sync`; then the join waits for it here. All
// others are sent at once.
void sc_join_ask(struct connection *connection, const struct sc_subscription_name *name) {
    struct shard *shard = connection_shard(connection);
    if (subscriber_of(connection)->subscription_count >=
            shard->node->config.subscriptions_per_connection_max &&
        !sc_subscription_exists(connection, name->id)) {
        refuse(connection, name);
        log_refusal(connection, name,
                    SC_LITERAL("the client has limits.subscriptions_per_connection already"));
        return;
    }
    if ((sc_watch_flags(shard, name->stream) & SC_WATCH_JOINS) == 0) {
        join_send(connection, name, 0);
        return;
    }
    subscriber_of(connection)->join_pending = subscriber_of(connection)->join_asked = true;
    shard->counters.joins_asked++;
    sc_announce(shard, connection->id,
                sc_join_message(SC_MESSAGE_JOIN, sc_now_ms(shard), connection->id, name,
                                sc_connection_account(connection)));
}

void sc_join_by_path(struct connection *connection, struct sc_bytes stream, struct sc_bytes group,
                     const struct sc_bytes *item) {
    uint8_t id[SC_UUID_SIZE];
    struct sc_subscription_name name = {.id = sc_subscription_path_id(connection, id),
                                        .stream = stream,
                                        .group = group,
                                        .item = item,
                                        .context = subscriber_context(connection)};
    sc_join_ask(connection, &name);
}

// The subscription in a message that the core has made; it borrows from `names`.
// Names of a message that was in the control plane's hands are read from it again: nothing else has kept them.
static struct sc_subscription_name subscription_of(const struct sc_message_names *names) {
    return (struct sc_subscription_name){.id = names->id,
                                         .stream = names->stream,
                                         .group = names->group,
                                         .item = names->item.data == NULL ? NULL : &names->item,
                                         .context = names->context};
}

void sc_join_decided(struct shard *shard, struct connection *connection, uint64_t id,
                     const struct sc_message *message, bool allowed) {
    struct sc_message_names names;
    sc_message_names_read(message, &names);
    struct sc_subscription_name name = subscription_of(&names);
    if (connection == NULL || !sc_connection_serves(connection)) {
        if (allowed) // Whoever let it in hears that it has gone.
            sc_announce_leave(shard, id, &name, NULL);
        return;
    }
    assert(subscriber_of(connection)->join_asked);
    subscriber_of(connection)->join_pending = subscriber_of(connection)->join_asked = false;
    if (allowed)
        join_send(connection, &name, 0);
    else
        refuse(connection, &name);
}

// ---- At the owner

// At the owner. The interest is counted before the snapshot is taken: between the two there must be no change that the joiner would miss.
static void evaluate(struct shard *owner, struct request *request) {
    struct topic *topic = sc_topic_make(owner, &request->call.name);
    topic->interest++;
    topic->in_flight++;
    sc_join_snapshot(owner, topic, request, false);
}

static const struct outcome_kind join_outcome;
static void release(struct shard *owner, struct outcome *outcome);

static void push(struct shard *owner, struct topic *topic, struct request *request,
                 struct slice sync) {
    join_of(request)->position = sc_store_position(owner->store);
    struct outcome outcome = {.kind = &join_outcome,
                              .topic = topic,
                              .request = request,
                              .slice = sync,
                              .position = join_of(request)->position};
    // Nothing of the group waits before it but the join itself: its place is now.
    if (topic->in_flight == 1 && join_of(request)->from != JOIN_FROM_NOW && !sc_read_waits(owner)) {
        release(owner, &outcome);
        return;
    }
    *sc_outcome_push(owner) = outcome;
}

void sc_join_snapshot(struct shard *owner, struct topic *topic, struct request *request,
                      bool at_once) {
    struct call *call = &request->call;
    struct slice sync = {0};
    if (join_of(request)->sync_source != SYNC_OF_STORE)
        join_of(request)->timestamp =
            sc_custom_sync_stamp(owner, &call->name, call->has_item ? &call->item : NULL);
    else if (!sc_sync_for_join(owner, topic, request, at_once, &sync))
        return;
    else if (join_of(request)->attempt > 0 && join_of(request)->from == JOIN_FROM_NOW && !at_once)
        sc_stand_push(owner, topic, request); // This `sync` shows what its reader has lost.
    push(owner, topic, request, sync);
}

void sc_join_with_sync(struct shard *owner, struct topic *topic, struct request *request,
                       struct sc_blob *sync) {
    owner->counters.syncs++;
    push(owner, topic, request, sc_sync_slice(owner, sync));
}

static void note_remote_interest(struct shard *owner, struct topic *topic,
                                 const struct request *request) {
    if (topic->remotes == NULL) {
        size_t size = owner->node->shard_count * sizeof(struct remote_interest);
        topic->remotes = sc_allocate(size);
        memset(topic->remotes, 0, size);
    }
    struct remote_interest *remote = &topic->remotes[request->origin->index];
    remote->topic = join_of(request)->topic;
    remote->count++;
}

// A cached sync goes as it is, another one as a copy; `sync_offset` says where in the reply the frame begins.
// Chunks belong to a shard and cannot travel. A blob can, and is shared; what lies in a chunk is copied, since it is small.
static void reply_with(struct request *request, struct slice slice) {
    if (slice.chunk == NULL)
        return;
    if (slice.chunk->external != NULL && slice.offset == sizeof(uint64_t)) {
        request->reply = sc_blob_retain(slice.chunk->external);
        join_of(request)->sync_offset = sizeof(uint64_t);
        return;
    }
    request->reply = sc_blob_create(slice.size);
    join_of(request)->sync_offset = 0;
    if (request->reply != NULL)
        memcpy(request->reply->data, slice_data(slice), slice.size);
}

// The joiner's place in the order of outcomes has come: what follows is for it.
static void release(struct shard *owner, struct outcome *outcome) {
    struct topic *topic = outcome->topic;
    struct request *request = outcome->request;
    topic->in_flight--;
    if (request->origin == owner) {
        join_of(request)->topic = topic;
        sc_join_complete(owner, request, outcome->slice);
        sc_slice_release(owner, outcome->slice);
        sc_request_free(request);
        return;
    }
    note_remote_interest(owner, topic, request);
    reply_with(request, outcome->slice);
    sc_slice_release(owner, outcome->slice);
    sc_batches_post(owner); // Earlier frames of the group go first.
    sc_request_finish(request);
}

// Its `sync` is one of after the rollback. A connection that gets events already first gets what has come until then.
static void revoke(struct shard *owner, struct outcome *outcome,
                   const struct revocation *revocation) {
    (void)revocation;
    struct request *request = outcome->request;
    const struct call *call = &request->call;
    if (join_of(request)->sync_source == SYNC_OF_STORE) {
        sc_slice_release(owner, outcome->slice);
        sc_join_drop_parts(join_of(request));
        if (join_of(request)->from == JOIN_FROM_NOW)
            sc_stand_push(owner, outcome->topic, request);
        outcome->slice = sc_sync_build(owner, &call->name, call->has_item ? &call->item : NULL);
    }
    sc_outcome_again(owner, outcome);
}

static const struct outcome_kind join_outcome = {release, revoke};

// ---- At the joiner's shard

struct sc_subscription_name sc_join_name(const struct request *request) {
    return (struct sc_subscription_name){
        .id = request->extra,
        .stream = request->call.name.stream,
        .group = request->call.name.group,
        .item = request->call.has_item ? &request->call.item : NULL,
        .context = join_of(request)->context == NULL ? (struct sc_bytes){0}
                                                     : sc_blob_bytes(join_of(request)->context)};
}

void sc_join_subscribe(struct connection *connection, struct topic *topic, struct sc_bytes id,
                       const struct sc_bytes *item) {
    sc_topic_settle(connection_shard(connection), topic);
    sc_subscription_remove(connection, id);
    sc_topic_subscribe(connection, topic, id, item);
}

// Events have gone that were to follow the `sync`. A later one shows what they have changed; when that is too late again
// and again, the group changes faster than the client may be sent.
void sc_join_again(struct connection *connection, const struct sc_subscription_name *name,
                   uint8_t attempt) {
    if (attempt + 1 < SC_JOIN_ATTEMPTS_MAX) {
        connection_shard(connection)->counters.joins_asked_again++;
        join_send(connection, name, attempt + 1);
        return;
    }
    connection->transport->counters.slow_readers_closed++;
    sc_out_drop_waiting(connection);
    sc_connection_close(connection, 1013, "the sync takes too long");
}

// They are changes of the owner's progress, which this shard has not delivered: none of them comes again.
static void append_parts(struct connection *connection, const struct request *request) {
    struct shard *shard = connection_shard(connection);
    for (uint32_t i = 0; i < join_of(request)->part_count; i++) {
        struct slice slice = sc_frames_wrap(shard, join_of(request)->parts[i].bytes,
                                            join_of(request)->parts[i].offset);
        slice.size = join_of(request)->parts[i].size;
        sc_out_append(connection, slice);
        sc_slice_release(shard, slice);
    }
}

// What a connection may have had of a group is known by positions of its owner: see join_from.
static void note_position(struct shard *shard, const struct request *request) {
    struct peer *owner = &shard->peers[request->owner->index];
    if (join_of(request)->position > owner->position)
        owner->position = join_of(request)->position;
}

// What may have changed since the join was sent is looked at first: the connection may have gone, the function may make the `sync`, events
// may be lost, the group may be too large. In each case the interest that the owner has counted is given back, or used.
void sc_join_complete(struct shard *shard, struct request *request, struct slice slice) {
    struct topic *topic = join_of(request)->topic;
    struct connection *connection = sc_connection_find(shard, request->call.connection);
    note_position(shard, request);
    if (join_of(request)->sync_source == SYNC_STAMP) {
        sc_pending_join_stamped(connection, join_of(request)->timestamp);
        sc_leave_send(shard, topic, 1); // Of the stamp: the join counts for itself.
        return;
    }
    struct sc_subscription_name name = sc_join_name(request);
    if (connection == NULL || !sc_connection_serves(connection)) {
        sc_announce_leave(shard, request->call.connection, &name, NULL);
        sc_leave_send(shard, topic, 1);
        return;
    }
    if (join_of(request)->sync_source == SYNC_OF_FUNCTION) {
        sc_pending_join_begin(connection, request);
        return;
    }
    if (sc_catch_up_has_lost(connection)) {
        sc_join_again(connection, &name, join_of(request)->attempt);
        sc_leave_send(shard, topic, 1);
        return;
    }
    subscriber_of(connection)->join_pending = false;
    sc_topic_settle(shard, topic); // What it is a member for already comes first.
    sc_catch_up_resume(connection);
    if (slice.chunk == NULL) {
        sc_catch_up_send(connection, topic);
        sc_join_refuse_large(connection, &name);
        sc_leave_send(shard, topic, 1);
        return;
    }
    sc_out_append(connection, slice);
    sc_join_subscribe(connection, topic, request->extra,
                      request->call.has_item ? &request->call.item : NULL);
    sc_catch_up_send(connection, topic);
    append_parts(connection, request);
}

// Back at the joiner's shard, behind all events that the owner had sent before.
static void finish(struct shard *origin, struct request *request) {
    struct slice slice = {0};
    if (request->reply != NULL)
        slice = sc_frames_wrap(origin, request->reply, join_of(request)->sync_offset);
    sc_join_complete(origin, request, slice);
    sc_slice_release(origin, slice);
}

void sc_join_drop_parts(struct join *join) {
    for (uint32_t i = 0; i < join->part_count; i++)
        sc_blob_release(join->parts[i].bytes);
    free(join->parts);
    join->parts = NULL;
    join->part_count = 0;
}

// Thread: the origin's, where the blobs may be the last references.
static void drop(struct request *request) {
    sc_join_drop_parts(join_of(request));
    sc_blob_release(join_of(request)->context);
}

const struct request_kind sc_join_kind = {
    .size = sizeof(struct join), .evaluate = evaluate, .finish = finish, .drop = drop};
