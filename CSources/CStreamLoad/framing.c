// Frames of a server, whole ones only: a WebSocket frame, a reply of Redis, a line or message of NATS.
#include "load_private.h"

#include "CStreamWebSocket.h"

// A reader of its own, and not the product's: the generator is to find faults of the decoder, not to share them.
// It needs whole frames in one piece and no masks, which makes it short.
static int websocket_read(const uint8_t *data, size_t size, struct frame *frame) {
    if (size < 2)
        return 0;
    if ((data[0] & 0x70) != 0 || (data[1] & 0x80) != 0)
        return -1;
    uint64_t payload = data[1] & 0x7f;
    size_t header = payload < 126 ? 2 : payload == 126 ? 4 : 10;
    if (size < header)
        return 0;
    if (header > 2) {
        payload = 0;
        for (size_t i = 2; i < header; i++)
            payload = payload << 8 | data[i];
    }
    if (payload > SC_MESSAGE_SIZE_MAX)
        return -1;
    frame->size = header + (size_t)payload;
    uint8_t opcode = data[0] & 0x0f;
    bool final = (data[0] & 0x80) != 0;
    frame->last = final;
    if (opcode == SC_WS_CONTINUATION || (opcode <= SC_WS_BINARY && !final))
        frame->kind = FRAME_FRAGMENT;
    else if (opcode <= SC_WS_BINARY)
        frame->kind = FRAME_DATA;
    else if (!final)
        return -1;
    else
        frame->kind = opcode == SC_WS_PING    ? FRAME_PING
                      : opcode == SC_WS_CLOSE ? FRAME_CLOSE
                                              : FRAME_IGNORED;
    if (size < frame->size)
        return 0;
    frame->payload = (struct sc_bytes){data + header, (size_t)payload};
    frame->close_code = 1005;
    if (frame->kind == FRAME_CLOSE && payload >= 2)
        frame->close_code = (uint16_t)(data[header] << 8 | data[header + 1]);
    return 1;
}

// The end of the line at `at` with its line feed, or 0 when it is not there.
static size_t line_end(const uint8_t *data, size_t size, size_t at) {
    const uint8_t *end = at < size ? memchr(data + at, '\n', size - at) : NULL;
    return end == NULL ? 0 : (size_t)(end - data) + 1;
}

// Lengths stand at the end of their line in both text protocols: reading from the back needs no search for where
// the number begins.
static size_t decimal_before(const uint8_t *data, size_t end) {
    size_t value = 0, unit = 1;
    while (end > 0 && (data[end - 1] == '\n' || data[end - 1] == '\r'))
        end--;
    for (; end > 0 && data[end - 1] >= '0' && data[end - 1] <= '9'; end--, unit *= 10)
        value += (size_t)(data[end - 1] - '0') * unit;
    return value;
}

// *3 message <channel> <payload>; integers and the answer to SUBSCRIBE are passed over.
static int redis_read(const uint8_t *data, size_t size, struct frame *frame) {
    size_t end = line_end(data, size, 0);
    if (end == 0)
        return 0;
    if (data[0] == '-')
        return -1;
    frame->kind = FRAME_IGNORED;
    frame->size = end;
    if (data[0] != '*')
        return 1;
    size_t count = decimal_before(data, end), at = end;
    for (size_t i = 0; i < count; i++) {
        end = line_end(data, size, at);
        frame->size = 0;
        if (end == 0)
            return 0;
        if (data[at] == ':') {
            at = end;
            continue;
        }
        size_t length = decimal_before(data, end);
        if (size - end < length + 2)
            return 0;
        bool message = length == 7 && memcmp(data + end, "message", 7) == 0;
        if (i == 0 && message)
            frame->kind = FRAME_DATA;
        frame->payload = (struct sc_bytes){data + end, length};
        at = end + length + 2;
    }
    frame->size = at;
    return 1;
}

// `MSG <subject> <sid> <bytes>`, then the payload and CRLF. `+OK` and `INFO` are passed over.
static int nats_read(const uint8_t *data, size_t size, struct frame *frame) {
    size_t end = line_end(data, size, 0);
    if (end == 0)
        return 0;
    if (data[0] == '-')
        return -1;
    frame->kind = memcmp(data, "PING", end < 4 ? end : 4) == 0 ? FRAME_PING : FRAME_IGNORED;
    frame->size = end;
    if (end < 4 || memcmp(data, "MSG ", 4) != 0)
        return 1;
    size_t length = decimal_before(data, end);
    frame->kind = FRAME_DATA;
    frame->size = end + length + 2;
    frame->payload = (struct sc_bytes){data + end, length};
    return size < frame->size ? 0 : 1;
}

int sc_load_frame_read(enum sc_load_protocol protocol, const uint8_t *data, size_t size,
                       struct frame *frame) {
    *frame = (struct frame){0};
    switch (protocol) {
    case SC_LOAD_REDIS:
        return redis_read(data, size, frame);
    case SC_LOAD_NATS:
        return nats_read(data, size, frame);
    default:
        return websocket_read(data, size, frame);
    }
}
