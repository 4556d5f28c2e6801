// Snapshots: the array of a group's values, and the frames that a joiner gets. The `sync` frame of a group is
// cached in the store until the group changes: eight bytes say where its array of values begins (0: the
// frame is fragmented), then the frame.
#include <stdlib.h>

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
    if (value != NULL && value->size > shard->node->config.sync_size_max)
        return (struct slice){0};
    struct sc_bytes event[2];
    size_t count = sc_event_sync(event, text_or_null(value));
    return sc_stream_frame(shard, LANE_PRIVATE, timestamp, topic_prefix(topic), item, event, count);
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
    struct sc_bytes parts[SC_SYNC_HEAD_PARTS + 2];
    sc_sync_head(parts, digits, topic_prefix(topic), timestamp);
    parts[SC_SYNC_HEAD_PARTS] = sc_buffer_bytes(&array);
    parts[SC_SYNC_HEAD_PARTS + 1] = SC_STREAM_TEXT_END;
    uint64_t offset = sc_parts_size(parts, SC_SYNC_HEAD_PARTS) + sizeof offset;
    struct sc_blob *blob = sc_frame_build_blob(parts, SC_SYNC_HEAD_PARTS + 2, sizeof offset);
    uint64_t payload = sc_parts_size(parts, SC_SYNC_HEAD_PARTS + 2);
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

struct slice sc_sync_slice(struct shard *shard, struct sc_blob *blob) {
    size_t size = blob->size - sizeof(uint64_t);
    if (size > SYNC_COPY_SIZE_MAX)
        return sc_frames_wrap(shard, blob, sizeof(uint64_t));
    struct slice slice = sc_frames_take(shard, LANE_PRIVATE, size);
    memcpy(slice_data(slice), blob->data + sizeof(uint64_t), size);
    return slice;
}

// It is as the group is now. One that is still being made is left alone.
static void keep(struct shard *shard, struct topic *topic, struct sc_blob *sync) {
    struct kept_sync *kept = topic->kept;
    if (kept != NULL && kept->sync == sync && kept->tail.size == 0)
        kept->made_ns = sc_loop_monotonic_ns(shard->loop);
    else if (kept == NULL || kept->sync != NULL)
        sc_kept_begin(shard, topic, sync);
}

static struct slice group_sync(struct shard *shard, struct topic *topic,
                               const struct sc_group_name *name) {
    struct sc_group *group = sc_store_group_find(shard->store, name);
    uint64_t size = sc_group_array_size(group);
    if (size > shard->node->config.sync_size_max)
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
    if (size >= SC_SYNC_KEPT_SIZE_MIN)
        keep(shard, topic, blob);
    struct slice slice = sc_sync_slice(shard, blob);
    sc_blob_release(blob);
    return slice;
}

// ---- A `sync` that is kept while the group changes

void sc_kept_begin(struct shard *shard, struct topic *topic, struct sc_blob *sync) {
    sc_kept_drop(topic);
    struct kept_sync *kept = topic->kept = sc_allocate(sizeof *kept);
    *kept = (struct kept_sync){.sync = sync == NULL ? NULL : sc_blob_retain(sync),
                               .made_ns = sc_loop_monotonic_ns(shard->loop),
                               .topic = topic,
                               .next = shard->kept_syncs,
                               .link = &shard->kept_syncs};
    if (kept->next != NULL)
        kept->next->link = &kept->next;
    shard->kept_syncs = kept;
}

void sc_kept_drop(struct topic *topic) {
    struct kept_sync *kept = topic->kept;
    if (kept == NULL)
        return;
    *kept->link = kept->next;
    if (kept->next != NULL)
        kept->next->link = kept->link;
    sc_blob_release(kept->sync);
    sc_blob_release(kept->tail.bytes);
    free(kept);
    topic->kept = NULL;
}

void sc_kept_drop_all(struct shard *shard) {
    while (shard->kept_syncs != NULL)
        sc_kept_drop(shard->kept_syncs->topic);
}

static bool is_stale(const struct shard *shard, const struct kept_sync *kept) {
    return sc_loop_monotonic_ns(shard->loop) - kept->made_ns > SC_SYNC_KEPT_MS * 1000000ull;
}

// A group that does not change any more must not be held twice.
void sc_kept_sweep(struct shard *shard) {
    struct kept_sync *kept = shard->kept_syncs;
    while (kept != NULL) {
        struct kept_sync *next = kept->next;
        if (kept->sync != NULL && is_stale(shard, kept))
            sc_kept_drop(kept->topic);
        kept = next;
    }
}

static bool tail_reserve(struct frame_tail *tail, uint32_t more) {
    uint64_t capacity = tail->bytes == NULL ? 4096 : tail->bytes->size;
    uint64_t needed = (uint64_t)tail->size + more;
    if (tail->bytes != NULL && capacity >= needed)
        return true;
    while (capacity < needed)
        capacity *= 2;
    struct sc_blob *bytes = capacity > UINT32_MAX / 2 ? NULL : sc_blob_create(capacity);
    if (bytes == NULL)
        return false;
    if (tail->size > 0)
        memcpy(bytes->data, tail->bytes->data, tail->size);
    sc_blob_release(tail->bytes);
    tail->bytes = bytes;
    return true;
}

void sc_tail_append(struct frame_tail *tail, struct slice frame) {
    if (tail->failed || !tail_reserve(tail, frame.size)) {
        tail->failed = true;
        return;
    }
    memcpy(tail->bytes->data + tail->size, slice_data(frame), frame.size);
    tail->size += frame.size;
}

void sc_kept_append(struct shard *shard, struct topic *topic, struct slice frame, bool change) {
    struct kept_sync *kept = topic->kept;
    bool made = kept->sync != NULL;
    kept->passed += frame.size;
    if (!change)
        return;
    // A joiner is to have room for what comes next, too. While the sync is made, the reading sees to that.
    uint64_t most =
        made ? shard->node->config.stream.budget / 2 : shard->node->config.stream.budget;
    if (made && kept->sync->size < most)
        most = kept->sync->size;
    bool fits = (uint64_t)kept->tail.size + frame.size <= most;
    if (made && (!fits || is_stale(shard, kept)))
        sc_kept_drop(topic);
    else if (fits)
        sc_tail_append(&kept->tail, frame);
    else
        kept->tail.failed = true;
}

static struct slice kept_sync(struct shard *shard, const struct kept_sync *kept,
                              struct request *request) {
    if (kept->tail.size > 0) {
        request->tail = sc_blob_retain(kept->tail.bytes);
        request->tail_size = kept->tail.size;
    }
    return sc_sync_slice(shard, kept->sync);
}

// Who has frames of the group already (hold.c), or may have had some before it left, gets none that was begun before.
bool sc_sync_for_join(struct shard *shard, struct topic *topic, struct request *request,
                      struct slice *out) {
    const struct call *call = &request->call;
    struct sc_group *group = call->has_item ? NULL : sc_store_group_find(shard->store, &call->name);
    uint64_t size = sc_group_array_size(group);
    bool cached = group != NULL && sc_group_cache(group) != NULL;
    struct kept_sync *kept = topic->kept;
    bool now = cached || request->at_once;
    if (!now && !request->again && !request->fresh && size >= SC_SYNC_KEPT_SIZE_MIN &&
        kept != NULL && kept->sync != NULL && !is_stale(shard, kept)) {
        shard->counters.syncs++;
        *out = kept_sync(shard, kept, request);
        return true;
    }
    if (!now && size > SC_GROUP_STEP_SIZE && size <= shard->node->config.sync_size_max) {
        sc_listing_add_join(shard, topic, request);
        return false;
    }
    *out = sc_sync_build(shard, &call->name, call->has_item ? &call->item : NULL);
    return true;
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
                                  uint64_t timestamp, struct sc_bytes data) {
    struct sc_bytes item = {held->bytes, held->item_size};
    struct sc_bytes event[2];
    size_t count = sc_event_sync(event, data);
    return sc_stream_frame(shard, LANE_PRIVATE, timestamp, topic_prefix(held->topic),
                           held->has_item ? &item : NULL, event, count);
}

struct slice sc_unauthorized_build(struct shard *shard, const struct sc_group_name *name,
                                   const struct sc_bytes *item, struct sc_bytes event) {
    struct sc_buffer prefix = {0};
    sc_stream_prefix_write(&prefix, name->stream, name->group);
    struct slice slice = sc_stream_frame(shard, LANE_PRIVATE, sc_now_ms(shard),
                                         sc_buffer_bytes(&prefix), item, &event, 1);
    sc_buffer_deinit(&prefix);
    return slice;
}
