// Messages that are sent. A message is given as parts, and its size is known before the first byte is written, so that
// a frame is written once, in place.
#include "CStreamWebSocket.h"

uint64_t sc_ws_message_size(uint64_t payload) {
    if (payload <= SC_FRAGMENT_SIZE_MAX)
        return payload + sc_ws_header_size(payload);
    uint64_t whole = payload / SC_FRAGMENT_SIZE_MAX, rest = payload % SC_FRAGMENT_SIZE_MAX;
    return payload + whole * sc_ws_header_size(SC_FRAGMENT_SIZE_MAX) +
           (rest > 0 ? sc_ws_header_size(rest) : 0);
}

struct sc_ws_writer sc_ws_writer_begin(uint8_t *out, uint64_t payload) {
    return (struct sc_ws_writer){.at = out, .left = payload};
}

struct sc_ws_writer sc_ws_writer_begin_bare(uint8_t *out, uint64_t payload) {
    return (struct sc_ws_writer){
        .at = out, .left = payload, .fragment_left = payload, .begun = true};
}

void sc_ws_writer_put(struct sc_ws_writer *writer, struct sc_bytes part) {
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
    struct sc_ws_writer writer = sc_ws_writer_begin(out, payload);
    for (size_t i = 0; i < count; i++)
        sc_ws_writer_put(&writer, parts[i]);
    assert(writer.left == 0);
}

void sc_ws_message_write(uint8_t *out, const struct sc_bytes *parts, size_t count,
                         uint64_t payload) {
    if (payload <= SC_FRAGMENT_SIZE_MAX) { // One frame, as nearly always.
        out += sc_ws_header_write(out, SC_WS_TEXT, true, payload, NULL);
        for (size_t i = 0; i < count; i++)
            out = sc_bytes_write(out, parts[i]);
    } else {
        write_fragments(out, parts, count, payload);
    }
}
