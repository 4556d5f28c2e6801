// Messages of stream clients: join and leave. The owner of a group takes the snapshot and notes the
// interest in one step, so that a subscriber gets `sync` and then exactly the changes after it.
#include <stdlib.h>

#include "core_private.h"

#include <errno.h>

// ---- Joining

// The call carries the names; `extra` of the request the subscription's id.
static struct request *join_request(struct connection *connection, const struct sc_group_name *name,
                                    struct sc_bytes subscription_id, const struct sc_bytes *item) {
    struct shard *shard = connection->shard;
    struct call call = {.name = *name, .connection = connection->id, .has_item = item != NULL};
    if (item != NULL)
        call.item = *item;
    struct shard *owner = shard_of(shard, name->hash);
    return request_make(shard, owner, REQUEST_JOIN, &call, subscription_id);
}

static void refuse(struct connection *connection, const struct sc_group_name *name,
                   const struct sc_bytes *item) {
    struct shard *shard = connection->shard;
    struct slice slice = unauthorized_build(shard, name, item);
    out_append(connection, slice);
    slice_release(shard, slice);
    shard->counters.subscriptions_refused++;
}

static void join(struct connection *connection, struct sc_bytes stream, struct sc_bytes group,
                 struct sc_bytes subscription_id, const struct sc_bytes *item) {
    struct shard *shard = connection->shard;
    uint64_t hash = sc_store_hash(stream, group, shard->node->config.seed);
    struct sc_group_name name = {stream, group, hash};
    if (connection->subscription_count >= shard->node->config.subscriptions_per_connection_max &&
        !subscription_exists(connection, subscription_id)) {
        refuse(connection, &name, item);
        return;
    }
    struct request *request = join_request(connection, &name, subscription_id, item);
    if (request->owner == shard) {
        join_evaluate(shard, request);
        return;
    }
    request->topic = topic_make(shard, &name);
    request->topic->registrations++;
    connection->join_pending = true;
    request_send(request);
}

void join_by_path(struct connection *connection, struct sc_bytes stream, struct sc_bytes group,
                  const struct sc_bytes *item) {
    // The connection's own id makes it unique among all subscriptions that anyone may name.
    uint8_t id[32];
    size_t size = sc_decimal_write(id, connection->id);
    join(connection, stream, group, (struct sc_bytes){id, size}, item);
}

void join_evaluate(struct shard *owner, struct request *request) {
    struct call *call = &request->call;
    struct topic *topic = topic_make(owner, &call->name);
    topic->interest++;
    topic->in_flight++;
    struct effect effect = {.kind = EFFECT_JOIN, .topic = topic, .request = request};
    effect.slice = sync_build(owner, &call->name, call->has_item ? &call->item : NULL);
    effect.position = sc_store_position(owner->store);
    *effect_push(owner) = effect;
    effects_release(owner);
}

// The joiner's place in the order of effects has come: what follows is for it.
void join_release(struct shard *owner, struct effect *effect) {
    struct topic *topic = effect->topic;
    struct request *request = effect->request;
    struct shard *origin = request->origin;
    topic->in_flight--;
    if (origin == owner) {
        request->topic = topic;
        struct connection *connection = connection_find(owner, request->call.connection);
        if (connection != NULL && connection->state == STATE_OPEN) {
            topic_settle(owner, topic);
            subscription_remove(connection, request->subscription_id);
            topic_subscribe(connection, topic, request->subscription_id,
                            request->call.has_item ? &request->call.item : NULL);
            if (effect->slice.chunk != NULL)
                out_append(connection, effect->slice);
        } else {
            topic->interest--;
            topic_drop_idle(owner, topic);
        }
        slice_release(owner, effect->slice);
        free(request);
        return;
    }
    if (topic->remotes == NULL) {
        size_t size = owner->node->shard_count * sizeof(struct remote_interest);
        topic->remotes = allocate(size);
        memset(topic->remotes, 0, size);
    }
    struct remote_interest *remote = &topic->remotes[origin->index];
    remote->topic = request->topic;
    remote->count++;
    if (effect->slice.chunk != NULL) {
        struct chunk *chunk = effect->slice.chunk;
        if (chunk->external != NULL && effect->slice.offset == sizeof(uint64_t)) {
            request->reply = sc_blob_retain(chunk->external);
            request->size = sizeof(uint64_t); // Where the frame begins in the reply.
        } else {
            request->reply = sc_blob_create(effect->slice.size);
            request->size = 0;
            if (request->reply != NULL)
                memcpy(request->reply->data, slice_data(effect->slice), effect->slice.size);
        }
    }
    slice_release(owner, effect->slice);
    batches_post(owner); // Earlier frames of the group go first.
    request_finish(request);
}

// At the joiner's shard, when the owner is another one.
void join_complete(struct shard *shard, struct request *request) {
    struct topic *topic = request->topic;
    struct connection *connection = connection_find(shard, request->call.connection);
    if (connection == NULL || connection->state != STATE_OPEN) {
        leave_send(shard, topic);
        return;
    }
    connection->join_pending = false;
    topic_settle(shard, topic);
    subscription_remove(connection, request->subscription_id);
    topic_subscribe(connection, topic, request->subscription_id,
                    request->call.has_item ? &request->call.item : NULL);
    if (request->reply == NULL)
        return;
    struct slice slice = frames_wrap(shard, request->reply, request->size);
    out_append(connection, slice);
    slice_release(shard, slice);
}

// One subscription less: tells the owner.
void leave_send(struct shard *shard, struct topic *topic) {
    if (topic->owner == shard->index) {
        assert(topic->interest > 0);
        topic->interest--;
        topic_drop_idle(shard, topic);
        return;
    }
    struct call call = {.name = topic_name(topic)};
    struct request *request = request_make(shard, shard->node->shards[topic->owner], REQUEST_LEAVE, &call,
                                           (struct sc_bytes){0});
    request->topic = topic;
    request_send(request);
}

// ---- Messages

struct client_message {
    bool is_join;
    bool has_item;
    struct sc_bytes subscription_id, stream, group, item;
    bool complete;
    uint8_t storage[4][SC_NAME_SIZE_MAX];
};

enum field_result { FIELD_ABSENT, FIELD_OK, FIELD_WRONG };

static enum field_result read_name(const struct sc_json_index *index, int parent, struct sc_bytes key,
                                   uint8_t *storage, struct sc_bytes *out) {
    struct sc_json_member scratch;
    const struct sc_json_member *member = sc_json_index_find(index, parent, key, &scratch);
    if (member == NULL || member->value.kind == SC_JSON_NULL)
        return FIELD_ABSENT;
    if (member->value.kind != SC_JSON_STRING)
        return FIELD_WRONG;
    struct sc_bytes raw = {member->value.text.data + 1, member->value.text.size - 2};
    if (!member->value.escaped) {
        *out = raw;
        return raw.size <= SC_NAME_SIZE_MAX ? FIELD_OK : FIELD_WRONG;
    }
    if (raw.size > 6 * SC_NAME_SIZE_MAX)
        return FIELD_WRONG;
    uint8_t decoded[6 * SC_NAME_SIZE_MAX];
    size_t size = sc_json_unescape(raw, decoded);
    if (size > SC_NAME_SIZE_MAX)
        return FIELD_WRONG;
    memcpy(storage, decoded, size);
    *out = (struct sc_bytes){storage, size};
    return FIELD_OK;
}

static bool read_message(const struct sc_json_index *index, struct client_message *message) {
    struct sc_json_member scratch, data_scratch;
    const struct sc_json_member *type = sc_json_index_find(index, -1, SC_LITERAL("type"), &scratch);
    if (type == NULL || type->value.kind != SC_JSON_STRING)
        return false;
    struct sc_bytes raw = {type->value.text.data + 1, type->value.text.size - 2};
    message->is_join = sc_json_string_equal(raw, type->value.escaped, SC_LITERAL("join"));
    if (!message->is_join && !sc_json_string_equal(raw, type->value.escaped, SC_LITERAL("leave")))
        return false;
    const struct sc_json_member *data = sc_json_index_find(index, -1, SC_LITERAL("data"), &data_scratch);
    if (data == NULL || data->value.kind != SC_JSON_OBJECT || data == &data_scratch)
        return false;
    int parent = (int)(data - index->members);
    enum field_result id = read_name(index, parent, SC_LITERAL("subscriptionId"), message->storage[0],
                                     &message->subscription_id);
    enum field_result stream =
        read_name(index, parent, SC_LITERAL("streamName"), message->storage[1], &message->stream);
    enum field_result group =
        read_name(index, parent, SC_LITERAL("groupId"), message->storage[2], &message->group);
    enum field_result item =
        read_name(index, parent, SC_LITERAL("id"), message->storage[3], &message->item);
    if (id != FIELD_OK || stream == FIELD_WRONG || group == FIELD_WRONG || item == FIELD_WRONG)
        return false;
    message->has_item = item == FIELD_OK;
    message->complete = stream == FIELD_OK && group == FIELD_OK;
    return true;
}

static bool is_blank(struct sc_bytes text) {
    for (size_t i = 0; i < text.size; i++)
        if (memchr(" \t\r\n", text.data[i], 4) == NULL)
            return false;
    return true;
}

static void invalid(struct connection *connection, struct sc_bytes why) {
    connection->shard->counters.messages_invalid++;
    shard_log(connection->shard, SC_LOG_WARN, "stream_message_invalid", connection->id, why);
}

bool stream_message(struct connection *connection, struct sc_bytes text) {
    struct shard *shard = connection->shard;
    if (is_blank(text))
        return true;
    if (!connection_can_start(connection))
        return false;
    struct sc_json_index *index = &shard->index_scratch;
    int rc = sc_json_scan(text, SC_JSON_DEPTH_MAX, index);
    if (rc < 0) {
        if (!connection->binary && !sc_utf8_valid(text))
            connection_close(connection, 1007, "text is not UTF-8");
        else
            invalid(connection, SC_LITERAL("not JSON"));
        return true;
    }
    struct client_message message;
    if (index->root.kind != SC_JSON_OBJECT || !read_message(index, &message) ||
        (message.is_join && !message.complete)) {
        invalid(connection, SC_LITERAL("not a join or leave"));
        return true;
    }
    if (message.is_join)
        join(connection, message.stream, message.group, message.subscription_id,
             message.has_item ? &message.item : NULL);
    else
        subscription_remove(connection, message.subscription_id);
    return true;
}
