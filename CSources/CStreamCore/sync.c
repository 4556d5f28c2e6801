// Snapshots: the array of a group's values, and the frames that a joiner gets. The `sync` frame of a group is
// cached in the store until the group changes: eight bytes say where its array of values begins (0: the
// frame is fragmented), then the frame.
#include "core_functions.h"

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

uint64_t sc_group_array_size(const struct sc_group *group) {
    size_t items = group == NULL ? 0 : sc_group_item_count(group);
    return items == 0 ? 2 : sc_group_value_bytes(group) + items - 1 + 2;
}

// Appends the JSON array of a group's values.
bool sc_group_array_write(struct sc_buffer *out, const struct sc_group *group) {
    uint64_t size = sc_group_array_size(group);
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

static struct slice item_sync(struct shard *shard, const struct topic *topic,
                              const struct sc_group_name *name, const struct sc_bytes *item) {
    uint64_t timestamp = sc_store_stamp_item_sync(shard->store, name, *item, sc_now_ms(shard));
    struct sc_blob *value = sc_store_get(shard->store, name, *item);
    struct sc_bytes event[] = {SC_LITERAL("\"sync\",\"data\":"), text_or_null(value)};
    return sc_stream_frame(shard, LANE_PRIVATE, timestamp, topic_prefix(topic), item, event, 2);
}

// A sync of a whole group is built as a blob, so that all who join before the next change share it.
static struct sc_blob *group_sync_blob(struct shard *shard, const struct topic *topic,
                                       const struct sc_group_name *name, struct sc_group *group) {
    uint64_t timestamp = sc_store_stamp_group_sync(shard->store, name, sc_now_ms(shard));
    struct sc_buffer array = {0};
    if (!sc_group_array_write(&array, group)) {
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
    uint64_t offset = sc_parts_size(parts, 4) + sizeof offset;
    struct sc_blob *blob = sc_frame_build_blob(parts, 6, sizeof offset);
    uint64_t payload = sc_parts_size(parts, 6);
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
    if (sc_group_array_size(group) > shard->node->config.message_size_max)
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
        slice = sc_frames_take(shard, LANE_PRIVATE, size);
        memcpy(slice_data(slice), blob->data + sizeof(uint64_t), size);
    } else {
        slice = sc_frames_wrap(shard, blob, sizeof(uint64_t));
    }
    sc_blob_release(blob);
    return slice;
}

struct slice sc_sync_build(struct shard *shard, const struct sc_group_name *name,
                           const struct sc_bytes *item) {
    struct topic *topic = sc_topic_find(shard, name);
    assert(topic != NULL);
    shard->counters.syncs++;
    return item != NULL ? item_sync(shard, topic, name, item) : group_sync(shard, topic, name);
}

uint64_t sc_custom_sync_stamp(struct shard *shard, const struct sc_group_name *name,
                              const struct sc_bytes *item) {
    if (item != NULL)
        return sc_store_stamp_event(shard->store, name, item, sc_now_ms(shard));
    return sc_store_stamp_group_sync(shard->store, name, sc_now_ms(shard));
}

struct slice sc_custom_sync_build(struct shard *shard, const struct held_join *held,
                                  struct sc_bytes data) {
    struct sc_bytes item = {held->bytes, held->item_size};
    struct sc_bytes event[] = {SC_LITERAL("\"sync\",\"data\":"), data};
    return sc_stream_frame(shard, LANE_PRIVATE, held->timestamp, topic_prefix(held->topic),
                           held->has_item ? &item : NULL, event, 2);
}

struct slice sc_unauthorized_build(struct shard *shard, const struct sc_group_name *name,
                                   const struct sc_bytes *item) {
    struct sc_buffer prefix = {0};
    sc_buffer_append_bytes(&prefix, SC_LITERAL(",\"streamName\":"));
    sc_json_write_string(&prefix, name->stream);
    sc_buffer_append_bytes(&prefix, SC_LITERAL(",\"groupId\":"));
    sc_json_write_string(&prefix, name->group);
    sc_buffer_append_bytes(&prefix, SC_LITERAL(",\"id\":"));
    struct sc_bytes event = SC_LITERAL("\"unauthorized\"");
    struct slice slice = sc_stream_frame(shard, LANE_PRIVATE, sc_now_ms(shard),
                                         sc_buffer_bytes(&prefix), item, &event, 1);
    sc_buffer_deinit(&prefix);
    return slice;
}
