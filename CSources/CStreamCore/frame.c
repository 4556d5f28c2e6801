// Messages as frames. A message is given as parts, its size is known before the first byte is written, so
// that a frame is written once, in place. Over SC_FRAGMENT_SIZE_MAX it is cut into fragments.
#include "core_private.h"

uint64_t parts_size(const struct sc_bytes *parts, size_t count) {
    uint64_t size = 0;
    for (size_t i = 0; i < count; i++)
        size += parts[i].size;
    return size;
}

static uint64_t wire_size(uint64_t payload) {
    if (payload <= SC_FRAGMENT_SIZE_MAX)
        return payload + sc_ws_header_size(payload);
    uint64_t whole = payload / SC_FRAGMENT_SIZE_MAX, rest = payload % SC_FRAGMENT_SIZE_MAX;
    return payload + whole * sc_ws_header_size(SC_FRAGMENT_SIZE_MAX) +
           (rest > 0 ? sc_ws_header_size(rest) : 0);
}

struct fragment_writer {
    uint8_t *at;
    uint64_t left;          // Payload bytes not written yet.
    uint64_t fragment_left; // Of them, in the current fragment.
    bool begun;
};

static void put(struct fragment_writer *writer, struct sc_bytes part) {
    while (part.size > 0) {
        if (writer->fragment_left == 0) {
            bool final = writer->left <= SC_FRAGMENT_SIZE_MAX;
            writer->fragment_left = final ? writer->left : SC_FRAGMENT_SIZE_MAX;
            uint8_t opcode = writer->begun ? SC_WS_CONTINUATION : SC_WS_TEXT;
            writer->at += sc_ws_header_write(writer->at, opcode, final, writer->fragment_left, NULL);
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

static void write_parts(uint8_t *out, const struct sc_bytes *parts, size_t count, uint64_t payload) {
    struct fragment_writer writer = {.at = out, .left = payload};
    for (size_t i = 0; i < count; i++)
        put(&writer, parts[i]);
    assert(writer.left == 0);
}

struct slice frame_build(struct shard *shard, uint32_t lane, const struct sc_bytes *parts,
                         size_t count) {
    uint64_t payload = parts_size(parts, count);
    assert(payload > 0);
    struct slice slice = frames_take(shard, lane, wire_size(payload));
    write_parts(slice_data(slice), parts, count, payload);
    return slice;
}

struct sc_blob *frame_build_blob(const struct sc_bytes *parts, size_t count, size_t room) {
    uint64_t payload = parts_size(parts, count);
    struct sc_blob *blob = sc_blob_create(room + wire_size(payload));
    if (blob != NULL)
        write_parts(blob->data + room, parts, count, payload);
    return blob;
}
