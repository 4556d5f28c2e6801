// Messages as frames. A message is given as parts, its size is known before the first byte is written, so
// that a frame is written once, in place. Over SC_FRAGMENT_SIZE_MAX it is cut into fragments.
#include "core_functions.h"

uint64_t sc_frame_size(uint64_t payload) {
    if (payload <= SC_FRAGMENT_SIZE_MAX)
        return payload + sc_ws_header_size(payload);
    uint64_t whole = payload / SC_FRAGMENT_SIZE_MAX, rest = payload % SC_FRAGMENT_SIZE_MAX;
    return payload + whole * sc_ws_header_size(SC_FRAGMENT_SIZE_MAX) +
           (rest > 0 ? sc_ws_header_size(rest) : 0);
}

struct frame_writer sc_writer_begin(uint8_t *out, uint64_t payload) {
    return (struct frame_writer){.at = out, .left = payload};
}

struct frame_writer sc_writer_begin_text(uint8_t *out, uint64_t size) {
    return (struct frame_writer){.at = out, .left = size, .fragment_left = size, .begun = true};
}

void sc_writer_put(struct frame_writer *writer, struct sc_bytes part) {
    while (part.size > 0) {
        if (writer->fragment_left == 0) {
            bool final = writer->left <= SC_FRAGMENT_SIZE_MAX;
            writer->fragment_left = final ? writer->left : SC_FRAGMENT_SIZE_MAX;
            uint8_t opcode = writer->begun ? SC_WS_CONTINUATION : SC_WS_TEXT;
            writer->at +=
                sc_ws_header_write(writer->at, opcode, final, writer->fragment_left, NULL);
            writer->begun = true;
        }
        size_t size = part.size < writer->fragment_left ? part.size : writer->fragment_left;
        memcpy(writer->at, part.data, size);
        writer->at += size;
        writer->left -= size;
        writer->fragment_left -= size;
        part.data += size;
        part.size -= size;
    }
}

static void write_fragments(uint8_t *out, const struct sc_bytes *parts, size_t count,
                            uint64_t payload) {
    struct frame_writer writer = sc_writer_begin(out, payload);
    for (size_t i = 0; i < count; i++)
        sc_writer_put(&writer, parts[i]);
    assert(writer.left == 0);
}

static void write_parts(uint8_t *out, const struct sc_bytes *parts, size_t count,
                        uint64_t payload) {
    if (payload <= SC_FRAGMENT_SIZE_MAX) { // One frame, as nearly always.
        out += sc_ws_header_write(out, SC_WS_TEXT, true, payload, NULL);
        for (size_t i = 0; i < count; i++)
            out = sc_bytes_write(out, parts[i]);
    } else {
        write_fragments(out, parts, count, payload);
    }
}

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
    struct slice slice = sc_frames_take(shard, lane, sc_frame_size(payload));
    write_parts(slice_data(slice), parts, count, payload);
    return slice;
}

struct sc_blob *sc_frame_build_blob(const struct sc_bytes *parts, size_t count, size_t room) {
    uint64_t payload = sc_parts_size(parts, count);
    struct sc_blob *blob = sc_blob_create(room + sc_frame_size(payload));
    if (blob != NULL)
        write_parts(blob->data + room, parts, count, payload);
    return blob;
}

// ---- Frames of stream clients

static size_t id_parts(struct sc_bytes *parts, struct sc_buffer *escaped,
                       const struct sc_bytes *id) {
    if (id == NULL) {
        parts[0] = SC_LITERAL("null");
        return 1;
    }
    sc_json_write_string(escaped, *id);
    parts[0] = sc_buffer_bytes(escaped);
    return 1;
}

struct slice sc_stream_frame(struct shard *shard, uint32_t lane, uint64_t timestamp,
                             struct sc_bytes prefix, const struct sc_bytes *id,
                             const struct sc_bytes *event, size_t count) {
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
    struct slice slice = sc_frame_build(shard, lane, parts, at);
    if (large)
        sc_buffer_deinit(&escaped);
    return slice;
}
