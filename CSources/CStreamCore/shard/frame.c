// Frames where they are sent from: in the memory of a shard, or in a blob that shards share.
#include "shard.h"

struct slice sc_frame_begin(struct shard *shard, uint32_t lane, uint64_t payload, uint8_t **out) {
    assert(payload > 0 && payload <= SC_FRAGMENT_SIZE_MAX);
    struct slice slice = sc_frames_take(shard, lane, payload + sc_ws_header_size(payload));
    *out = slice_data(slice);
    *out += sc_ws_header_write(*out, SC_WS_TEXT, true, payload, NULL);
    return slice;
}

struct slice sc_frame_build(struct shard *shard, uint32_t lane, const struct sc_bytes *parts,
                            size_t count) {
    uint64_t payload = sc_parts_size(parts, count);
    assert(payload > 0);
    struct slice slice = sc_frames_take(shard, lane, sc_ws_message_size(payload));
    sc_ws_message_write(slice_data(slice), parts, count, payload);
    return slice;
}

struct sc_blob *sc_frame_build_blob(const struct sc_bytes *parts, size_t count, size_t room) {
    uint64_t payload = sc_parts_size(parts, count);
    struct sc_blob *blob = sc_blob_create(room + sc_ws_message_size(payload));
    if (blob != NULL)
        sc_ws_message_write(blob->data + room, parts, count, payload);
    return blob;
}

// ---- Frames of stream clients

struct slice sc_stream_frame(struct shard *shard, uint32_t lane, uint64_t timestamp,
                             struct sc_bytes prefix, const struct sc_bytes *id,
                             const struct sc_bytes *event, size_t count) {
    struct sc_event_text text;
    sc_event_text_begin(&text, timestamp, prefix, id, event, count);
    struct slice slice = sc_frame_build(shard, lane, text.parts, text.count);
    sc_event_text_end(&text);
    return slice;
}
