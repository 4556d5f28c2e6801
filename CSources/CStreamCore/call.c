// Calls of stream functions, at the shard that owns the group: evaluated when they arrive, in one order.
// What follows from a change (its event, its answer, a join) is an effect at the change's position, and
// effects leave in order once their position is durable. In memory that is at once.
#include "call_input.h"
#include "core_private.h"

#include <errno.h>
#include <stdlib.h>

// ---- Effects

struct effect *effect_push(struct shard *shard) {
    struct effects *effects = &shard->effects;
    uint32_t capacity = effects->ring == NULL ? 0 : effects->mask + 1;
    if (effects->tail - effects->head == capacity) {
        uint32_t larger = capacity == 0 ? 64 : capacity * 2;
        struct effect *ring = allocate(larger * sizeof *ring);
        for (uint32_t i = effects->head; i != effects->tail; i++)
            ring[i & (larger - 1)] = effects->ring[i & effects->mask];
        free(effects->ring);
        effects->ring = ring;
        effects->mask = larger - 1;
    }
    struct effect *effect = &effects->ring[effects->tail++ & effects->mask];
    *effect = (struct effect){.position = sc_store_position(shard->store)};
    return effect;
}

static void release_event(struct shard *shard, struct effect *effect) {
    struct topic *topic = effect->topic;
    struct sc_bytes item = {shard->effects.names.data + effect->item_offset, effect->item_size};
    const struct sc_bytes *id = effect->has_item ? &item : NULL;
    topic_deliver(shard, topic, id, effect->slice);
    if (topic->remotes != NULL)
        event_to_peers(shard, topic, id, effect->slice);
    slice_release(shard, effect->slice);
    topic->in_flight--;
    topic_drop_idle(shard, topic);
}

static void release_answer(struct shard *shard, struct effect *effect) {
    if (effect->request != NULL) {
        request_finish(effect->request);
        return;
    }
    struct connection *connection = connection_find(shard, effect->connection);
    if (connection != NULL)
        worker_answer_end(connection, effect->answer, effect->slice);
    slice_release(shard, effect->slice);
}

void effects_release(struct shard *shard) {
    struct effects *effects = &shard->effects;
    uint64_t durable = sc_store_position(shard->store); // In memory a change is as durable as it gets.
    while (effects->head != effects->tail) {
        struct effect effect = effects->ring[effects->head & effects->mask];
        if (effect.position > durable)
            return;
        effects->head++;
        if (effect.kind == EFFECT_EVENT)
            release_event(shard, &effect);
        else if (effect.kind == EFFECT_ANSWER)
            release_answer(shard, &effect);
        else
            join_release(shard, &effect);
    }
    effects->names.size = 0;
}

void effects_deinit(struct shard *shard) {
    assert(shard->effects.head == shard->effects.tail);
    free(shard->effects.ring);
    sc_buffer_deinit(&shard->effects.names);
}

// ---- Answers

#define RESULT_PARTS_MAX (FRAME_PARTS_MAX - 12)

static size_t add_trace(struct sc_bytes *parts, size_t at, const struct call *call) {
    if (call->traceparent.data != NULL) {
        parts[at++] = SC_LITERAL(",\"traceparent\":");
        parts[at++] = call->traceparent;
    }
    if (call->baggage.data != NULL) {
        parts[at++] = SC_LITERAL(",\"baggage\":");
        parts[at++] = call->baggage;
    }
    return at;
}

// `body` is what stands between the ids and the trace context: `,"result":…`, `,"error":…` or nothing.
static size_t answer_parts(struct sc_bytes *parts, const struct call *call, const struct sc_bytes *body,
                           size_t count) {
    size_t at = 0;
    parts[at++] = SC_LITERAL("{\"type\":\"invocationresult\",\"invocation_id\":");
    parts[at++] = call->invocation_id;
    parts[at++] = SC_LITERAL(",\"function_id\":");
    parts[at++] = call->function_id;
    for (size_t i = 0; i < count; i++)
        parts[at++] = body[i];
    at = add_trace(parts, at, call);
    parts[at++] = SC_LITERAL("}");
    return at;
}

void call_answer(struct shard *shard, struct call *call, const struct sc_bytes *_Nullable body, size_t count) {
    assert(count <= RESULT_PARTS_MAX);
    if (!call->wants_answer && call->request == NULL)
        return;
    struct effect answer = {.kind = EFFECT_ANSWER,
                            .position = sc_store_position(shard->store),
                            .connection = call->connection,
                            .answer = call->answer,
                            .request = call->request};
    if (call->wants_answer) {
        struct sc_bytes parts[FRAME_PARTS_MAX];
        size_t part_count = answer_parts(parts, call, body, count);
        if (parts_size(parts, part_count) > call->size_max) {
            shard->counters.results_too_large++;
            struct sc_bytes error = SC_LITERAL(",\"error\":{\"code\":\"result_too_large\",\"message\":"
                                               "\"the result is larger than the caller accepts\"}");
            part_count = answer_parts(parts, call, &error, 1);
        }
        if (call->request == NULL)
            answer.slice = frame_build(shard, LANE_PRIVATE, parts, part_count);
        else
            call->request->reply = frame_build_blob(parts, part_count, 0);
    }
    *effect_push(shard) = answer;
}

void call_fail(struct shard *shard, struct call *call, const char *code, struct sc_bytes message) {
    if (!call->wants_answer && call->request == NULL)
        return;
    struct sc_buffer text = {0};
    sc_buffer_append_bytes(&text, SC_LITERAL(",\"error\":{\"code\":"));
    sc_json_write_string(&text, (struct sc_bytes){(const uint8_t *)code, strlen(code)});
    sc_buffer_append_bytes(&text, SC_LITERAL(",\"message\":"));
    sc_json_write_string(&text, message);
    sc_buffer_append_bytes(&text, SC_LITERAL("}"));
    struct sc_bytes body = sc_buffer_bytes(&text);
    call_answer(shard, call, &body, 1);
    sc_buffer_deinit(&text);
}

static void answer_result(struct shard *shard, struct call *call, struct sc_bytes text) {
    struct sc_bytes body[] = {SC_LITERAL(",\"result\":"), text};
    call_answer(shard, call, body, 2);
}

static void fail_without_memory(struct shard *shard, struct call *call, const char *code,
                                const char *prefix) {
    char text[96];
    size_t size = strlen(prefix);
    memcpy(text, prefix, size);
    memcpy(text + size, "out of memory", 13);
    call_fail(shard, call, code, (struct sc_bytes){(const uint8_t *)text, size + 13});
}

// ---- Events

#define NULL_TEXT SC_LITERAL("null")

static size_t id_parts(struct sc_bytes *parts, struct sc_buffer *escaped, const struct sc_bytes *id) {
    if (id == NULL) {
        parts[0] = NULL_TEXT;
        return 1;
    }
    sc_json_write_string(escaped, *id);
    parts[0] = sc_buffer_bytes(escaped);
    return 1;
}

static struct slice stream_frame(struct shard *shard, uint32_t lane, uint64_t timestamp, struct sc_bytes prefix,
                                 const struct sc_bytes *id, const struct sc_bytes *event, size_t count) {
    uint8_t digits[20];
    uint8_t inline_id[256];
    struct sc_buffer escaped = {.data = inline_id, .capacity = sizeof inline_id};
    struct sc_bytes parts[FRAME_PARTS_MAX];
    size_t at = 0;
    parts[at++] = SC_LITERAL("{\"type\":\"stream\",\"timestamp\":");
    parts[at++] = (struct sc_bytes){digits, sc_decimal_write(digits, timestamp)};
    parts[at++] = prefix;
    bool large = id != NULL && sc_json_string_size(*id) > sizeof inline_id;
    if (large)
        escaped = (struct sc_buffer){0};
    at += id_parts(&parts[at], &escaped, id);
    parts[at++] = SC_LITERAL(",\"event\":{\"type\":");
    for (size_t i = 0; i < count; i++)
        parts[at++] = event[i];
    parts[at++] = SC_LITERAL("}}");
    struct slice slice = frame_build(shard, lane, parts, at);
    if (large)
        sc_buffer_deinit(&escaped);
    return slice;
}

static struct sc_bytes topic_prefix(const struct topic *topic) {
    return (struct sc_bytes){topic->bytes + topic->stream_size + topic->group_size, topic->prefix_size};
}

// The topic of the call's group when anyone, on any shard, subscribes to it.
static struct topic *interested(struct shard *shard, const struct call *call) {
    struct topic *topic = topic_find(shard, &call->name);
    return topic != NULL && topic->interest > 0 ? topic : NULL;
}

static void emit(struct shard *shard, struct topic *topic, uint64_t timestamp, const struct sc_bytes *item,
                 const struct sc_bytes *event, size_t count) {
    struct slice slice = stream_frame(shard, lane_of_topic(topic->node.hash), timestamp,
                                      topic_prefix(topic), item, event, count);
    struct sc_buffer *names = &shard->effects.names;
    struct effect *effect = effect_push(shard);
    effect->kind = EFFECT_EVENT;
    effect->topic = topic;
    effect->slice = slice;
    effect->has_item = item != NULL;
    if (item != NULL) {
        effect->item_offset = (uint32_t)names->size;
        effect->item_size = (uint32_t)item->size;
        sc_buffer_append_bytes(names, *item);
        if (names->failed)
            abort();
    }
    topic->in_flight++;
    shard->counters.events++;
}

static void emit_change(struct shard *shard, const struct call *call, const struct sc_change *change,
                        struct sc_bytes value) {
    struct topic *topic = interested(shard, call);
    shard->counters.changes++;
    if (topic == NULL)
        return;
    struct sc_bytes event[] = {change->kind == SC_CHANGE_CREATE   ? SC_LITERAL("\"create\",\"data\":")
                               : change->kind == SC_CHANGE_UPDATE ? SC_LITERAL("\"update\",\"data\":")
                                                                  : SC_LITERAL("\"delete\",\"data\":"),
                               value};
    emit(shard, topic, change->timestamp_ms, &call->item, event, 2);
}

// ---- The functions

static struct sc_bytes text_or_null(const struct sc_blob *value) {
    return value == NULL ? NULL_TEXT : sc_blob_bytes(value);
}

static void execute_set(struct shard *shard, struct call *call) {
    struct sc_blob *value = NULL;
    if (call->data.compact) {
        value = sc_blob_create(call->data.text.size);
        if (value != NULL)
            memcpy(value->data, call->data.text.data, call->data.text.size);
    } else {
        struct sc_buffer text = {0};
        uint8_t *out = sc_buffer_reserve(&text, call->data.text.size);
        size_t size = out == NULL ? 0 : sc_json_compact(call->data, out);
        value = out == NULL ? NULL : sc_blob_create(size);
        if (value != NULL)
            memcpy(value->data, out, size);
        sc_buffer_deinit(&text);
    }
    struct sc_change change;
    if (value == NULL ||
        sc_store_set(shard->store, &call->name, call->item, value, now_ms(shard), &change) < 0) {
        fail_without_memory(shard, call, "STREAM_SET_ERROR", "Failed to set value: ");
        return;
    }
    emit_change(shard, call, &change, sc_blob_bytes(value));
    struct sc_bytes body[] = {SC_LITERAL(",\"result\":{\"old_value\":"), text_or_null(change.old_value),
                              SC_LITERAL(",\"new_value\":"), sc_blob_bytes(value), SC_LITERAL("}")};
    call_answer(shard, call, body, 5);
    sc_blob_release(change.old_value);
}

static void execute_get(struct shard *shard, struct call *call) {
    struct sc_blob *value = sc_store_get(shard->store, &call->name, call->item);
    if (value == NULL)
        call_answer(shard, call, NULL, 0); // A missing item: no `result` at all.
    else
        answer_result(shard, call, sc_blob_bytes(value));
}

static void execute_delete(struct shard *shard, struct call *call) {
    struct sc_change change;
    sc_store_delete(shard->store, &call->name, call->item, now_ms(shard), &change);
    if (change.kind == SC_CHANGE_DELETE)
        emit_change(shard, call, &change, sc_blob_bytes(change.old_value));
    struct sc_bytes body[] = {SC_LITERAL(",\"result\":{\"old_value\":"), text_or_null(change.old_value),
                              SC_LITERAL("}")};
    call_answer(shard, call, body, 3);
    sc_blob_release(change.old_value);
}

static void execute_update(struct shard *shard, struct call *call) {
    struct sc_blob *old = sc_store_get(shard->store, &call->name, call->item);
    struct sc_bytes old_text = old == NULL ? (struct sc_bytes){0} : sc_blob_bytes(old);
    struct sc_json_update update;
    int rc = sc_json_update_apply(shard->updater, old_text, call->ops,
                                  shard->node->config.value_size_max, SC_VALUE_DEPTH_MAX, &update);
    if (rc == -EINVAL) {
        struct sc_buffer text = {0};
        sc_buffer_append_bytes(&text, SC_LITERAL("Failed to deserialize input for stream::update: "));
        sc_buffer_append_bytes(&text, update.reason);
        call_fail(shard, call, "deserialization_error", sc_buffer_bytes(&text));
        sc_buffer_deinit(&text);
        return;
    }
    if (rc == -EMSGSIZE || rc == -ELOOP) {
        call_fail(shard, call, "STREAM_UPDATE_ERROR",
                  rc == -ELOOP ? SC_LITERAL("Failed to update value: the value would nest deeper than 124")
                               : SC_LITERAL("Failed to update value: the value would be over value_bytes"));
        return;
    }
    struct sc_blob *value = rc < 0 ? NULL : sc_blob_create(update.value.size);
    if (value != NULL)
        memcpy(value->data, update.value.data, update.value.size);
    struct sc_change change;
    if (value == NULL ||
        sc_store_set(shard->store, &call->name, call->item, value, now_ms(shard), &change) < 0) {
        fail_without_memory(shard, call, "STREAM_UPDATE_ERROR", "Failed to update value: ");
        return;
    }
    emit_change(shard, call, &change, sc_blob_bytes(value));
    struct sc_bytes body[7] = {SC_LITERAL(",\"result\":{\"old_value\":"), text_or_null(change.old_value),
                               SC_LITERAL(",\"new_value\":"), sc_blob_bytes(value)};
    size_t count = 4;
    if (update.errors.size > 0) {
        body[count++] = SC_LITERAL(",\"errors\":");
        body[count++] = update.errors;
    }
    body[count++] = SC_LITERAL("}");
    call_answer(shard, call, body, count);
    sc_blob_release(change.old_value);
}

static void execute_send(struct shard *shard, struct call *call) {
    struct topic *topic = interested(shard, call);
    const struct sc_bytes *item = call->has_item ? &call->item : NULL;
    if (topic != NULL) {
        uint64_t timestamp = sc_store_stamp_event(shard->store, &call->name, item, now_ms(shard));
        struct sc_buffer type = {0};
        sc_json_write_string(&type, call->type);
        struct sc_bytes event[] = {SC_LITERAL("\"event\",\"event\":{\"type\":"), sc_buffer_bytes(&type),
                                   SC_LITERAL(",\"data\":"), call->data.text, SC_LITERAL("}")};
        struct sc_buffer compact = {0};
        if (!call->data.compact) {
            uint8_t *out = sc_buffer_reserve(&compact, call->data.text.size);
            if (out != NULL)
                event[3] = (struct sc_bytes){out, sc_json_compact(call->data, out)};
        }
        emit(shard, topic, timestamp, item, event, 5);
        sc_buffer_deinit(&compact);
        sc_buffer_deinit(&type);
    }
    answer_result(shard, call, NULL_TEXT);
}

// ---- Lists and syncs. The `sync` frame of a group is cached in the store until the group changes: eight
// bytes say where its array of values begins (0: the frame is fragmented), then the frame.

struct value_writer {
    uint8_t *at;
    bool begun;
};

static void write_value(struct sc_blob *value, void *context) {
    struct value_writer *writer = context;
    if (writer->begun)
        *writer->at++ = ',';
    writer->begun = true;
    memcpy(writer->at, value->data, value->size);
    writer->at += value->size;
}

static uint64_t array_size(const struct sc_group *group) {
    size_t items = group == NULL ? 0 : sc_group_item_count(group);
    return items == 0 ? 2 : sc_group_value_bytes(group) + items - 1 + 2;
}

// Appends the JSON array of a group's values.
static bool write_array(struct sc_buffer *out, const struct sc_group *group) {
    uint64_t size = array_size(group);
    uint8_t *data = sc_buffer_reserve(out, size);
    if (data == NULL)
        return false;
    struct value_writer writer = {.at = data + 1};
    data[0] = '[';
    if (group != NULL)
        sc_group_for_each(group, write_value, &writer);
    *writer.at++ = ']';
    assert((uint64_t)(writer.at - data) == size);
    out->size += size;
    return true;
}

static void execute_list(struct shard *shard, struct call *call) {
    struct sc_group *group = sc_store_group_find(shard->store, &call->name);
    if (array_size(group) > call->size_max) {
        shard->counters.results_too_large++;
        call_fail(shard, call, "result_too_large",
                  SC_LITERAL("the result is larger than the caller accepts"));
        return;
    }
    struct sc_blob *cache = group == NULL ? NULL : sc_group_cache(group);
    uint64_t offset = 0;
    if (cache != NULL)
        memcpy(&offset, cache->data, sizeof offset);
    if (offset != 0) {
        answer_result(shard, call, (struct sc_bytes){cache->data + offset, array_size(group)});
        return;
    }
    struct sc_buffer text = {0};
    if (write_array(&text, group))
        answer_result(shard, call, sc_buffer_bytes(&text));
    else
        fail_without_memory(shard, call, "STREAM_GET_GROUP_ERROR", "Failed to get group: ");
    sc_buffer_deinit(&text);
}

static struct slice item_sync(struct shard *shard, const struct topic *topic,
                              const struct sc_group_name *name, const struct sc_bytes *item) {
    uint64_t timestamp = sc_store_stamp_item_sync(shard->store, name, *item, now_ms(shard));
    struct sc_blob *value = sc_store_get(shard->store, name, *item);
    struct sc_bytes event[] = {SC_LITERAL("\"sync\",\"data\":"), text_or_null(value)};
    return stream_frame(shard, LANE_PRIVATE, timestamp, topic_prefix(topic), item, event, 2);
}

// A sync of a whole group is built as a blob, so that all who join before the next change share it.
static struct sc_blob *group_sync_blob(struct shard *shard, const struct topic *topic,
                                       const struct sc_group_name *name, struct sc_group *group) {
    uint64_t timestamp = sc_store_stamp_group_sync(shard->store, name, now_ms(shard));
    struct sc_buffer array = {0};
    if (!write_array(&array, group)) {
        sc_buffer_deinit(&array);
        return NULL;
    }
    uint8_t digits[20];
    struct sc_bytes parts[] = {SC_LITERAL("{\"type\":\"stream\",\"timestamp\":"),
                               {digits, sc_decimal_write(digits, timestamp)},
                               topic_prefix(topic),
                               SC_LITERAL("null,\"event\":{\"type\":\"sync\",\"data\":"),
                               sc_buffer_bytes(&array),
                               SC_LITERAL("}}")};
    uint64_t offset = parts_size(parts, 4) + sizeof offset;
    struct sc_blob *blob = frame_build_blob(parts, 6, sizeof offset);
    uint64_t payload = parts_size(parts, 6);
    sc_buffer_deinit(&array);
    if (blob == NULL)
        return NULL;
    offset = payload > SC_FRAGMENT_SIZE_MAX ? 0 : offset + sc_ws_header_size(payload);
    memcpy(blob->data, &offset, sizeof offset);
    if (group != NULL)
        shard->counters.syncs_serialised++;
    return blob;
}

#define SYNC_COPY_SIZE_MAX 2048u

static struct slice group_sync(struct shard *shard, const struct topic *topic,
                               const struct sc_group_name *name) {
    struct sc_group *group = sc_store_group_find(shard->store, name);
    if (array_size(group) > shard->node->config.message_size_max)
        return (struct slice){0};
    struct sc_blob *blob = group == NULL ? NULL : sc_group_cache(group);
    if (blob != NULL) {
        sc_blob_retain(blob);
    } else {
        blob = group_sync_blob(shard, topic, name, group);
        if (blob == NULL)
            return (struct slice){0};
        if (group != NULL)
            sc_group_cache_set(group, blob);
    }
    struct slice slice;
    size_t size = blob->size - sizeof(uint64_t);
    if (size <= SYNC_COPY_SIZE_MAX) {
        slice = frames_take(shard, LANE_PRIVATE, size);
        memcpy(slice_data(slice), blob->data + sizeof(uint64_t), size);
    } else {
        slice = frames_wrap(shard, blob, sizeof(uint64_t));
    }
    sc_blob_release(blob);
    return slice;
}

struct slice sync_build(struct shard *shard, const struct sc_group_name *name,
                        const struct sc_bytes *item) {
    struct topic *topic = topic_find(shard, name);
    assert(topic != NULL);
    shard->counters.syncs++;
    return item != NULL ? item_sync(shard, topic, name, item) : group_sync(shard, topic, name);
}

struct slice unauthorized_build(struct shard *shard, const struct sc_group_name *name,
                                const struct sc_bytes *item) {
    struct sc_buffer prefix = {0};
    sc_buffer_append_bytes(&prefix, SC_LITERAL(",\"streamName\":"));
    sc_json_write_string(&prefix, name->stream);
    sc_buffer_append_bytes(&prefix, SC_LITERAL(",\"groupId\":"));
    sc_json_write_string(&prefix, name->group);
    sc_buffer_append_bytes(&prefix, SC_LITERAL(",\"id\":"));
    struct sc_bytes event = SC_LITERAL("\"unauthorized\"");
    struct slice slice = stream_frame(shard, LANE_PRIVATE, now_ms(shard), sc_buffer_bytes(&prefix), item, &event, 1);
    sc_buffer_deinit(&prefix);
    return slice;
}

void call_execute(struct shard *shard, struct call *call) {
    shard->counters.calls++;
    switch ((enum sc_call_op)call->op) {
    case SC_CALL_SET:
        execute_set(shard, call);
        break;
    case SC_CALL_GET:
        execute_get(shard, call);
        break;
    case SC_CALL_DELETE:
        execute_delete(shard, call);
        break;
    case SC_CALL_LIST:
        execute_list(shard, call);
        break;
    case SC_CALL_SEND:
        execute_send(shard, call);
        break;
    case SC_CALL_UPDATE:
        execute_update(shard, call);
        break;
    case SC_CALL_LIST_GROUPS:
    case SC_CALL_LIST_ALL:
        names_start(shard, call); // Groups are on all shards: gathered by the caller's.
        return;
    }
    effects_release(shard);
}
