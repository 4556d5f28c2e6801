// Snapshots: the array of a group's values, and the frames that a joiner gets. The `sync` frame of a group is
// cached in the store until the group changes: eight bytes say where its array of values begins (0: the
// frame is fragmented), then the frame.
#include <stdlib.h>

#include "streams.h"

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

// A small one is copied: a chunk of its own would cost more than the bytes.
struct slice sc_sync_slice(struct shard *shard, struct sc_blob *blob) {
    size_t size = blob->size - sizeof(uint64_t);
    if (size > SYNC_COPY_SIZE_MAX)
        return sc_frames_wrap(shard, blob, sizeof(uint64_t));
    struct slice slice = sc_frames_take(shard, LANE_PRIVATE, size);
    memcpy(slice_data(slice), blob->data + sizeof(uint64_t), size);
    return slice;
}

// It is as the group is now. One that is still being made is left alone.
// The one that is kept and has not been overtaken is of now: its time begins anew.
static void keep(struct shard *shard, struct topic *topic, struct sc_blob *sync) {
    struct kept_sync *kept = topic->kept;
    if (kept != NULL && kept->sync == sync && sc_history_behind(&kept->reader) == 0) {
        kept->position = sc_store_position(shard->store);
        kept->made_ns = sc_loop_monotonic_ns(shard->loop);
    } else if (kept == NULL || kept->sync != NULL) {
        sc_kept_begin(shard, topic, sync);
    }
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

// ---- For a join

// The request retains the blobs: the history may be gone before the joiner has them.
static void add_part(void *context, const struct history_part *part) {
    struct request *request = context;
    join_of(request)->parts =
        sc_reallocate(join_of(request)->parts,
                      (join_of(request)->part_count + 1) * sizeof *join_of(request)->parts);
    join_of(request)->parts[join_of(request)->part_count] = *part;
    (void)sc_blob_retain(part->bytes);
    join_of(request)->part_count++;
}

static struct slice kept_sync(struct shard *shard, const struct kept_sync *kept,
                              struct request *request) {
    static const struct history_filter changes = {.changes = true};
    sc_history_read(&kept->reader, &changes, add_part, request);
    return sc_sync_slice(shard, kept->sync);
}

bool sc_sync_for_join(struct shard *shard, struct topic *topic, struct request *request,
                      bool at_once, struct slice *out) {
    const struct call *call = &request->call;
    struct sc_group *group = call->has_item ? NULL : sc_store_group_find(shard->store, &call->name);
    uint64_t size = sc_group_array_size(group);
    bool now = at_once || (group != NULL && sc_group_cache(group) != NULL);
    struct kept_sync *kept = topic->kept;
    if (!now && size >= SC_SYNC_KEPT_SIZE_MIN && kept != NULL && kept->sync != NULL &&
        sc_join_takes(request, kept->position) && !sc_kept_is_stale(shard, kept)) {
        shard->counters.syncs++;
        *out = kept_sync(shard, kept, request);
        return true;
    }
    if (!now && size > SC_GROUP_STEP_SIZE && size <= shard->node->config.sync_size_max) {
        sc_sync_reading_join(shard, topic, request);
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

struct slice sc_custom_sync_build(struct shard *shard, const struct pending_join *join,
                                  struct sc_bytes data) {
    struct sc_bytes item = {join->bytes, join->item_size};
    struct sc_bytes event[] = {SC_LITERAL("\"sync\",\"data\":"), data};
    return sc_stream_frame(shard, LANE_PRIVATE, join->timestamp, topic_prefix(join->topic),
                           join->has_item ? &item : NULL, event, 2);
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
