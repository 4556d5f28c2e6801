// Messages of stream clients: join and leave. The owner of a group takes the snapshot and notes the
// interest in one step, so that a subscriber gets `sync` and then exactly the changes after it.
#include <stdlib.h>

#include "core_functions.h"
#include "history.h"

#include <errno.h>

// ---- Asking for a join

static struct sc_bytes context_of(const struct connection *connection) {
    if (client_of(connection)->extra == NULL || client_of(connection)->extra->context == NULL)
        return (struct sc_bytes){0};
    return sc_blob_bytes(client_of(connection)->extra->context);
}

static void refuse_with(struct connection *connection, const struct sc_subscription_name *name,
                        struct sc_bytes event) {
    struct shard *shard = connection_shard(connection);
    struct sc_group_name group = {name->stream, name->group, 0};
    struct slice slice = sc_unauthorized_build(shard, &group, name->item, event);
    sc_out_append(connection, slice);
    sc_slice_release(shard, slice);
    shard->counters.subscriptions_refused++;
}

static void refuse(struct connection *connection, const struct sc_subscription_name *name) {
    refuse_with(connection, name, SC_EVENT_UNAUTHORIZED);
}

// At most one line a second says why joins are refused, however many are.
static void log_refusal(struct connection *connection, const struct sc_subscription_name *name,
                        struct sc_bytes why) {
    struct shard *shard = connection_shard(connection);
    uint64_t now_ns = sc_loop_monotonic_ns(shard->loop);
    if (shard->join_logged_ns != 0 && now_ns - shard->join_logged_ns < 1000000000u)
        return;
    shard->join_logged_ns = now_ns;
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
static void refuse_large(struct connection *connection, const struct sc_subscription_name *name) {
    struct shard *shard = connection_shard(connection);
    sc_announce_leave(shard, connection->id, name, sc_connection_account(connection));
    refuse_with(connection, name, SC_EVENT_SYNC_TOO_LARGE);
    shard->counters.syncs_too_large++;
    log_refusal(connection, name, SC_LITERAL("the sync is over limits.sync_bytes"));
}

static const struct request_kind join_kind, leave_kind;

// A connection that has left a group may have had its events up to the newest that has come from there.
static uint64_t join_from(const struct connection *connection, const struct sc_group_name *group,
                          const struct shard *owner) {
    const struct shard *shard = connection_shard(connection);
    if (sc_subscription_any(connection, group))
        return JOIN_FROM_NOW;
    if (!client_of(connection)->has_left)
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
    struct request *request = sc_request_make(shard, owner, &join_kind, &call, name->id);
    uint32_t override = name->item != NULL ? SC_WATCH_GET : SC_WATCH_LIST;
    bool function = (sc_watch_flags(shard, name->stream) & override) != 0;
    request->sync_source = function ? SYNC_OF_FUNCTION : SYNC_OF_STORE;
    request->from = join_from(connection, group, owner);
    if (client_of(connection)->extra != NULL && client_of(connection)->extra->context != NULL)
        request->context = sc_blob_retain(client_of(connection)->extra->context);
    return request;
}

static void join_send(struct connection *connection, const struct sc_subscription_name *name,
                      uint8_t attempt) {
    struct shard *shard = connection_shard(connection);
    uint64_t hash = sc_store_hash(name->stream, name->group, shard->node->config.seed);
    struct sc_group_name group = {name->stream, name->group, hash};
    struct request *request = join_request(connection, &group, name);
    request->attempt = attempt;
    client_of(connection)->join_pending = true;
    if (request->owner == shard) {
        sc_call_queue_take(shard, request); // Not counted: a connection joins once at a time.
        return;
    }
    request->topic = sc_topic_make(shard, &group);
    request->topic->registrations++;
    sc_request_send(request);
}

static void join(struct connection *connection, const struct sc_subscription_name *name) {
    struct shard *shard = connection_shard(connection);
    if (client_of(connection)->subscription_count >=
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
    client_of(connection)->join_pending = client_of(connection)->join_asked = true;
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
                                        .context = context_of(connection)};
    join(connection, &name);
}

// The subscription in a message that the core has made; it borrows from `names`.
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
    assert(client_of(connection)->join_asked);
    client_of(connection)->join_pending = client_of(connection)->join_asked = false;
    if (allowed)
        join_send(connection, &name, 0);
    else
        refuse(connection, &name);
}

// ---- At the owner

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
    request->position = sc_store_position(owner->store);
    struct outcome outcome = {.kind = &join_outcome,
                              .topic = topic,
                              .request = request,
                              .slice = sync,
                              .position = request->position};
    // Nothing of the group waits before it but the join itself: its place is now.
    if (topic->in_flight == 1 && request->from != JOIN_FROM_NOW && !sc_read_waits(owner)) {
        release(owner, &outcome);
        return;
    }
    *sc_outcome_push(owner) = outcome;
}

void sc_join_snapshot(struct shard *owner, struct topic *topic, struct request *request,
                      bool at_once) {
    struct call *call = &request->call;
    struct slice sync = {0};
    if (request->sync_source != SYNC_OF_STORE)
        request->timestamp =
            sc_custom_sync_stamp(owner, &call->name, call->has_item ? &call->item : NULL);
    else if (!sc_sync_for_join(owner, topic, request, at_once, &sync))
        return;
    else if (request->attempt > 0 && request->from == JOIN_FROM_NOW && !at_once)
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
    remote->topic = request->topic;
    remote->count++;
}

// A cached sync goes as it is, another one as a copy; `sync_offset` says where in the reply the frame begins.
static void reply_with(struct request *request, struct slice slice) {
    if (slice.chunk == NULL)
        return;
    if (slice.chunk->external != NULL && slice.offset == sizeof(uint64_t)) {
        request->reply = sc_blob_retain(slice.chunk->external);
        request->sync_offset = sizeof(uint64_t);
        return;
    }
    request->reply = sc_blob_create(slice.size);
    request->sync_offset = 0;
    if (request->reply != NULL)
        memcpy(request->reply->data, slice_data(slice), slice.size);
}

// The joiner's place in the order of outcomes has come: what follows is for it.
static void release(struct shard *owner, struct outcome *outcome) {
    struct topic *topic = outcome->topic;
    struct request *request = outcome->request;
    topic->in_flight--;
    if (request->origin == owner) {
        request->topic = topic;
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
    if (request->sync_source == SYNC_OF_STORE) {
        sc_slice_release(owner, outcome->slice);
        sc_request_drop_parts(request);
        if (request->from == JOIN_FROM_NOW)
            sc_stand_push(owner, outcome->topic, request);
        outcome->slice = sc_sync_build(owner, &call->name, call->has_item ? &call->item : NULL);
    }
    sc_outcome_again(owner, outcome);
}

static const struct outcome_kind join_outcome = {release, revoke};

// ---- At the joiner's shard

static struct sc_subscription_name name_of(const struct request *request) {
    return (struct sc_subscription_name){
        .id = request->subscription_id,
        .stream = request->call.name.stream,
        .group = request->call.name.group,
        .item = request->call.has_item ? &request->call.item : NULL,
        .context =
            request->context == NULL ? (struct sc_bytes){0} : sc_blob_bytes(request->context)};
}

static void subscribe(struct connection *connection, struct topic *topic, struct sc_bytes id,
                      const struct sc_bytes *item) {
    sc_topic_settle(connection_shard(connection), topic);
    sc_subscription_remove(connection, id);
    sc_topic_subscribe(connection, topic, id, item);
}

// The events that come until the function has answered wait in the history.
static void ask_function(struct connection *connection, const struct request *request) {
    struct sc_subscription_name name = name_of(request);
    size_t item_size = name.item == NULL ? 0 : name.item->size;
    struct pending_join *join = sc_allocate(sizeof *join + item_size + name.id.size);
    *join = (struct pending_join){.topic = request->topic,
                                  .timestamp = request->timestamp,
                                  .attempt = request->attempt,
                                  .has_item = name.item != NULL,
                                  .item_size = (uint16_t)item_size,
                                  .id_size = (uint16_t)name.id.size};
    if (item_size > 0)
        memcpy(join->bytes, name.item->data, item_size);
    if (name.id.size > 0)
        memcpy(join->bytes + item_size, name.id.data, name.id.size);
    struct client_extra *client = sc_client_extra(connection);
    client->pending_join = join;
    sc_topic_settle(connection_shard(connection), join->topic);
    sc_history_enter(connection_shard(connection), &join->topic->history, &client->reader);
    client_of(connection)->join_asked = true; // Its further messages wait as they do for a handler.
    sc_announce(connection_shard(connection), connection->id, sc_sync_message(&name));
}

// ---- Joins that wait for a function to make their `sync`

static struct pending_join *pending_take(struct connection *connection) {
    struct pending_join *join = client_of(connection)->extra->pending_join;
    client_of(connection)->extra->pending_join = NULL;
    return join;
}

static struct sc_bytes pending_id(const struct pending_join *join) {
    return (struct sc_bytes){join->bytes + join->item_size, join->id_size};
}

static void pending_free(struct connection *connection, struct pending_join *join) {
    sc_history_leave(&client_of(connection)->extra->reader);
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
                                         .context = context_of(connection)};
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

// Events have gone that were to follow the `sync`. A later one shows what they have changed; when that is too late again
// and again, the group changes faster than the client may be sent.
static void ask_again(struct connection *connection, const struct sc_subscription_name *name,
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

static bool is_pending(const struct connection *connection) {
    return sc_connection_serves(connection) && client_of(connection)->extra != NULL &&
           client_of(connection)->extra->pending_join != NULL;
}

// The interest of the join that was stays until the next one has its own.
static void pending_again(struct connection *connection) {
    struct shard *shard = connection_shard(connection);
    struct pending_join *join = pending_take(connection);
    struct topic *topic = join->topic;
    struct sc_bytes item;
    struct sc_subscription_name name = pending_name(connection, join, &item);
    client_of(connection)->join_asked = false;
    ask_again(connection, &name, join->attempt); // May have made another one already.
    sc_blob_release(join->data);
    free(join);
    sc_leave_send(shard, topic, 1);
}

static void pending_complete(struct connection *connection, uint64_t timestamp,
                             struct sc_bytes data) {
    struct shard *shard = connection_shard(connection);
    struct history_reader *reader = &client_of(connection)->extra->reader;
    if (reader->lost && data.data != NULL) {
        pending_again(connection);
        return;
    }
    struct pending_join *join = pending_take(connection);
    struct sc_bytes item;
    struct history_filter filter = {.item = pending_item(join, &item)};
    // What another subscription of it has brought already is not repeated.
    bool follow = !sc_subscription_covers(connection, join->topic, filter.item);
    client_of(connection)->join_pending = client_of(connection)->join_asked = false;
    subscribe(connection, join->topic, pending_id(join), filter.item);
    if (data.data != NULL) {
        // Stamps rise: over those of the events before it, under those of the events behind it.
        bool any = follow && sc_history_behind(reader) > 0;
        struct slice slice =
            sc_custom_sync_build(shard, join, any ? join->timestamp : timestamp, data);
        sc_out_append(connection, slice);
        sc_slice_release(shard, slice);
    }
    if (follow)
        sc_history_send(reader, &filter, connection);
    pending_free(connection, join);
}

// A connection that is in the group already has had events of it since the join: the owner stamps the `sync` anew, in the
// order of the group's changes.
static bool stamp_again(struct connection *connection, struct sc_bytes data) {
    struct shard *shard = connection_shard(connection);
    struct pending_join *join = client_of(connection)->extra->pending_join;
    struct sc_group_name group = sc_topic_name(join->topic);
    join->data = sc_subscription_any(connection, &group) ? sc_blob_create((size_t)data.size) : NULL;
    if (join->data == NULL)
        return false;
    if (data.size > 0)
        memcpy(join->data->data, data.data, data.size);
    struct call call = {.name = group, .connection = connection->id, .has_item = join->has_item};
    (void)pending_item(join, &call.item);
    struct request *request = sc_request_make(shard, sc_shard_of(shard, group.hash), &join_kind,
                                              &call, (struct sc_bytes){0});
    request->sync_source = SYNC_STAMP;
    if (request->owner == shard) {
        sc_call_queue_take(shard, request);
    } else {
        request->topic = join->topic;
        request->topic->registrations++;
        sc_request_send(request);
    }
    return true;
}

static void stamped(struct connection *connection, uint64_t timestamp) {
    if (connection != NULL && is_pending(connection) &&
        client_of(connection)->extra->pending_join->data != NULL)
        pending_complete(connection, timestamp,
                         sc_blob_bytes(client_of(connection)->extra->pending_join->data));
}

void sc_sync_decided(struct connection *connection, struct sc_bytes data) {
    if (!is_pending(connection))
        return;
    if (data.data == NULL || !stamp_again(connection, data))
        pending_complete(connection, client_of(connection)->extra->pending_join->timestamp, data);
}

void sc_sync_refused(struct connection *connection) {
    if (!is_pending(connection))
        return;
    struct pending_join *join = pending_take(connection);
    struct sc_bytes item;
    struct sc_subscription_name name = pending_name(connection, join, &item);
    client_of(connection)->join_pending = client_of(connection)->join_asked = false;
    refuse_large(connection, &name);
    struct topic *topic = join->topic;
    pending_free(connection, join);
    sc_leave_send(connection_shard(connection), topic, 1);
}

static void append_parts(struct connection *connection, const struct request *request) {
    struct shard *shard = connection_shard(connection);
    for (uint32_t i = 0; i < request->part_count; i++) {
        struct slice slice =
            sc_frames_wrap(shard, request->parts[i].bytes, request->parts[i].offset);
        slice.size = request->parts[i].size;
        sc_out_append(connection, slice);
        sc_slice_release(shard, slice);
    }
}

static void note_position(struct shard *shard, const struct request *request) {
    struct peer *owner = &shard->peers[request->owner->index];
    if (request->position > owner->position)
        owner->position = request->position;
}

static bool has_lost_events(const struct connection *connection) {
    return client_of(connection)->extra != NULL && client_of(connection)->extra->catch_up != NULL &&
           client_of(connection)->extra->reader.lost;
}

void sc_join_complete(struct shard *shard, struct request *request, struct slice slice) {
    struct topic *topic = request->topic;
    struct connection *connection = sc_connection_find(shard, request->call.connection);
    note_position(shard, request);
    if (request->sync_source == SYNC_STAMP) {
        stamped(connection, request->timestamp);
        sc_leave_send(shard, topic, 1); // Of the stamp: the join counts for itself.
        return;
    }
    struct sc_subscription_name name = name_of(request);
    if (connection == NULL || !sc_connection_serves(connection)) {
        sc_announce_leave(shard, request->call.connection, &name, NULL);
        sc_leave_send(shard, topic, 1);
        return;
    }
    if (request->sync_source == SYNC_OF_FUNCTION) {
        ask_function(connection, request);
        return;
    }
    if (has_lost_events(connection)) {
        ask_again(connection, &name, request->attempt);
        sc_leave_send(shard, topic, 1);
        return;
    }
    client_of(connection)->join_pending = false;
    sc_topic_settle(shard, topic); // What it is a member for already comes first.
    if (slice.chunk == NULL) {
        sc_catch_up(connection);
        refuse_large(connection, &name);
        sc_leave_send(shard, topic, 1);
        return;
    }
    sc_out_append(connection, slice);
    sc_catch_up(connection);
    subscribe(connection, topic, request->subscription_id,
              request->call.has_item ? &request->call.item : NULL);
    append_parts(connection, request);
}

static void finish(struct shard *origin, struct request *request) {
    struct slice slice = {0};
    if (request->reply != NULL)
        slice = sc_frames_wrap(origin, request->reply, request->sync_offset);
    sc_join_complete(origin, request, slice);
    sc_slice_release(origin, slice);
}

static const struct request_kind join_kind = {.evaluate = evaluate, .finish = finish};

// ---- Leaving

static void evaluate_leave(struct shard *owner, struct request *request) {
    struct topic *topic = sc_topic_find(owner, &request->call.name);
    assert(topic != NULL && topic->remotes != NULL && topic->interest >= request->count);
    struct remote_interest *remote = &topic->remotes[request->origin->index];
    assert(remote->count >= request->count);
    remote->count -= request->count;
    topic->interest -= request->count;
    sc_topic_drop_idle(owner, topic);
    sc_batches_post(owner); // The frames sent to it before must not come after its topic has gone.
    sc_request_finish(request);
}

static void finish_leave(struct shard *origin, struct request *request) {
    struct topic *topic = request->topic;
    assert(topic->registrations >= request->count);
    topic->registrations -= request->count;
    sc_topic_drop_idle(origin, topic);
}

static const struct request_kind leave_kind = {
    .evaluate = evaluate_leave, .finish = finish_leave, .never_waits = true};

void sc_leave_send(struct shard *shard, struct topic *topic, uint32_t count) {
    if (topic->owner == shard->index) {
        assert(topic->interest >= count);
        topic->interest -= count;
        sc_topic_drop_idle(shard, topic);
        return;
    }
    struct call call = {.name = sc_topic_name(topic)};
    struct request *request = sc_request_make(shard, shard->node->shards[topic->owner], &leave_kind,
                                              &call, (struct sc_bytes){0});
    request->topic = topic;
    request->count = count;
    sc_request_send(request);
}

// ---- Messages

static bool is_blank(struct sc_bytes text) {
    for (size_t i = 0; i < text.size; i++)
        if (memchr(" \t\r\n", text.data[i], 4) == NULL)
            return false;
    return true;
}

static void invalid(struct connection *connection, const char *why) {
    connection_shard(connection)->counters.messages_invalid++;
    sc_shard_log(connection_shard(connection), SC_LOG_WARN, "stream_message_invalid",
                 connection->id, (struct sc_bytes){(const uint8_t *)why, strlen(why)});
}

bool sc_stream_message(struct connection *connection, struct sc_bytes text) {
    struct shard *shard = connection_shard(connection);
    if (is_blank(text))
        return true;
    if (!sc_client_may_start(connection))
        return false;
    struct sc_json_index *index = &shard->index_scratch;
    int rc = sc_json_scan(text, SC_JSON_DEPTH_MAX, index);
    if (rc < 0) {
        if (!connection->binary && !sc_utf8_valid(text))
            sc_connection_close(connection, 1007, "text is not UTF-8");
        else
            invalid(connection, rc == -ELOOP ? "the message is nested too deep" : "not JSON");
        return true;
    }
    struct sc_client_message message;
    const char *wrong = sc_client_message_read(&message, index);
    if (wrong != NULL) {
        invalid(connection, wrong);
        return true;
    }
    struct sc_subscription_name name = {.id = message.subscription_id,
                                        .stream = message.stream,
                                        .group = message.group,
                                        .item = message.has_item ? &message.item : NULL,
                                        .context = context_of(connection)};
    if (message.is_join)
        join(connection, &name);
    else
        sc_subscription_remove(connection, message.subscription_id);
    return true;
}
