// What stream clients are told. Every frame of a stream is
//
//   {"type":"stream","timestamp":…,"streamName":…,"groupId":…,"id":…,"event":{"type":…}}
//
// Stream and group are written once for a topic, as a prefix. What stands behind `"event":{"type":` is the event.
#include "CStreamProtocol.h"

#define HEAD SC_LITERAL("{\"type\":\"stream\",\"timestamp\":")
#define SYNC_EVENT SC_LITERAL("\"sync\",\"data\":")

// The names are escaped once a topic, not once an event.
void sc_stream_prefix_write(struct sc_buffer *out, struct sc_bytes stream, struct sc_bytes group) {
    sc_buffer_append_bytes(out, SC_LITERAL(",\"streamName\":"));
    sc_json_write_string(out, stream);
    sc_buffer_append_bytes(out, SC_LITERAL(",\"groupId\":"));
    sc_json_write_string(out, group);
    sc_buffer_append_bytes(out, SC_LITERAL(",\"id\":"));
}

// ---- Events

// A short id is escaped in place: no allocation for a delivery.
static struct sc_bytes id_text(struct sc_event_text *text, const struct sc_bytes *id) {
    if (id == NULL)
        return SC_LITERAL("null");
    text->owns_id = sc_json_string_size(*id) > sizeof text->room;
    text->escaped = text->owns_id
                        ? (struct sc_buffer){0}
                        : (struct sc_buffer){.data = text->room, .capacity = sizeof text->room};
    sc_json_write_string(&text->escaped, *id);
    return sc_buffer_bytes(&text->escaped);
}

void sc_event_text_begin(struct sc_event_text *text, uint64_t timestamp, struct sc_bytes prefix,
                         const struct sc_bytes *id, const struct sc_bytes *event, size_t count) {
    assert(count <= SC_EVENT_PARTS_MAX);
    size_t at = 0;
    text->owns_id = false;
    text->parts[at++] = HEAD;
    text->parts[at++] = (struct sc_bytes){text->digits, sc_decimal_write(text->digits, timestamp)};
    text->parts[at++] = prefix;
    text->parts[at++] = id_text(text, id);
    text->parts[at++] = SC_LITERAL(",\"event\":{\"type\":");
    for (size_t i = 0; i < count; i++)
        text->parts[at++] = event[i];
    text->parts[at++] = SC_STREAM_TEXT_END;
    text->count = at;
}

void sc_event_text_end(struct sc_event_text *text) {
    if (text->owns_id)
        sc_buffer_deinit(&text->escaped);
}

size_t sc_event_custom(struct sc_bytes parts[5], struct sc_bytes type, struct sc_bytes data) {
    parts[0] = SC_LITERAL("\"event\",\"event\":{\"type\":");
    parts[1] = type;
    parts[2] = SC_LITERAL(",\"data\":");
    parts[3] = data;
    parts[4] = SC_LITERAL("}");
    return 5;
}

size_t sc_event_sync(struct sc_bytes parts[2], struct sc_bytes data) {
    parts[0] = SYNC_EVENT;
    parts[1] = data;
    return 2;
}

// The array itself comes from the store, in steps when it is large, so only what stands around it is written here.
size_t sc_sync_head(struct sc_bytes parts[SC_SYNC_HEAD_PARTS], uint8_t digits[20],
                    struct sc_bytes prefix, uint64_t timestamp) {
    parts[0] = HEAD;
    parts[1] = (struct sc_bytes){digits, sc_decimal_write(digits, timestamp)};
    parts[2] = prefix;
    parts[3] = SC_LITERAL("null,\"event\":{\"type\":\"sync\",\"data\":");
    return SC_SYNC_HEAD_PARTS;
}
