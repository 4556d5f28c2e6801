// Frames, RFC 6455 section 5.2:
//
//   byte 0   FIN (0x80), three reserved bits, opcode
//   byte 1   MASK (0x80), length: 0-125, 126 (2 bytes follow), 127 (8 bytes follow), big endian
//            4 bytes of mask when MASK is set
//            payload
#include "CStreamWebSocket.h"

#include <errno.h>

void sc_ws_decoder_init(struct sc_ws_decoder *decoder, enum sc_ws_role role,
                        uint32_t frame_size_max, uint64_t message_size_max, bool check_utf8) {
    *decoder = (struct sc_ws_decoder){
        .message_size_max = message_size_max,
        .frame_size_max = frame_size_max,
        .role = (uint8_t)role,
        .check_utf8 = check_utf8,
        .utf8_state = SC_UTF8_ACCEPT,
    };
}

struct header {
    size_t size; // With its mask.
    uint64_t payload_size;
    uint8_t opcode;
    bool final;
    uint8_t mask[4];
};

static bool is_control(uint8_t opcode) {
    return (opcode & 8) != 0;
}

static int check_first_byte(const struct sc_ws_decoder *decoder, uint8_t byte) {
    uint8_t opcode = byte & 0x0f;
    bool final = (byte & 0x80) != 0;
    if ((byte & 0x70) != 0)
        return -EPROTO;
    switch (opcode) {
    case SC_WS_CONTINUATION:
        return decoder->opcode != 0 ? 0 : -EPROTO;
    case SC_WS_TEXT:
    case SC_WS_BINARY:
        return decoder->opcode == 0 ? 0 : -EPROTO;
    case SC_WS_CLOSE:
    case SC_WS_PING:
    case SC_WS_PONG:
        return final ? 0 : -EPROTO;
    default:
        return -EPROTO;
    }
}

static int check_second_byte(const struct sc_ws_decoder *decoder, uint8_t opcode, uint8_t byte) {
    uint8_t length = byte & 0x7f;
    bool masked = (byte & 0x80) != 0;
    if (masked != (decoder->role == SC_WS_SERVER))
        return -EPROTO;
    if (is_control(opcode) && length > SC_WS_CONTROL_SIZE_MAX)
        return -EPROTO;
    if (opcode == SC_WS_CLOSE && length == 1)
        return -EPROTO; // Half of a code.
    return 0;
}

static int check_payload_size(const struct sc_ws_decoder *decoder, const struct header *header) {
    if (is_control(header->opcode))
        return 0;
    uint64_t left = decoder->message_size_max - decoder->message_size;
    return header->payload_size > decoder->frame_size_max || header->payload_size > left ? -EMSGSIZE
                                                                                         : 0;
}

static uint64_t load_big_endian(const uint8_t *data, size_t size) {
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value = value << 8 | data[i];
    return value;
}

// Reads the length at byte 1 and its longer forms. Returns 1, 0 when more bytes are needed, -EPROTO
// when it is not in its shortest form or has its highest bit set.
static int parse_length(const uint8_t *data, size_t size, struct header *header) {
    uint8_t length = data[1] & 0x7f;
    size_t extra = length == 127 ? 8 : length == 126 ? 2 : 0;
    header->size = 2 + extra;
    header->payload_size = length;
    if (extra == 0)
        return 1;
    if (size < 2 + extra)
        return 0;
    header->payload_size = load_big_endian(data + 2, extra);
    if (header->payload_size > INT64_MAX || sc_ws_header_size(header->payload_size) != header->size)
        return -EPROTO;
    return 1;
}

// Returns 1, 0 when more bytes are needed, or a negative error. Each byte is judged before the next
// is looked at: the verdict does not depend on how the bytes were split.
static int parse_header(const struct sc_ws_decoder *decoder, const uint8_t *data, size_t size,
                        struct header *header) {
    if (size < 1)
        return 0;
    header->opcode = data[0] & 0x0f;
    header->final = (data[0] & 0x80) != 0;
    int rc = check_first_byte(decoder, data[0]);
    if (rc < 0 || size < 2)
        return rc;
    rc = check_second_byte(decoder, header->opcode, data[1]);
    if (rc < 0)
        return rc;
    rc = parse_length(data, size, header);
    if (rc <= 0)
        return rc;
    rc = check_payload_size(decoder, header);
    if (rc < 0)
        return rc;
    if (decoder->role == SC_WS_SERVER) {
        if (size - header->size < 4)
            return 0;
        memcpy(header->mask, data + header->size, 4);
        header->size += 4;
    }
    return 1;
}

// ---- Control frames

// RFC 6455 section 7.4 and the IANA registry. 1004 to 1006 and 1015 never travel.
static bool close_code_valid(uint16_t code) {
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
           (code >= 3000 && code <= 4999);
}

static int parse_close(struct sc_ws_event *event) {
    if (event->bytes.size == 0) {
        event->close_code = 1005;
        return 0;
    }
    assert(event->bytes.size >= 2); // 1 was refused with the header.
    event->close_code = (uint16_t)load_big_endian(event->bytes.data, 2);
    event->bytes.data += 2;
    event->bytes.size -= 2;
    if (!close_code_valid(event->close_code))
        return -EPROTO;
    return sc_utf8_valid(event->bytes) ? 0 : -EILSEQ;
}

static ssize_t decode_control(struct sc_ws_decoder *decoder, const struct header *header,
                              uint8_t *data, size_t size, struct sc_ws_event *event) {
    size_t payload_size = (size_t)header->payload_size;
    if (size - header->size < payload_size)
        return 0;
    uint8_t *payload = data + header->size;
    if (decoder->role == SC_WS_SERVER)
        sc_ws_mask(payload, payload_size, header->mask, 0);
    event->kind = SC_WS_EVENT_CONTROL;
    event->opcode = header->opcode;
    event->bytes = (struct sc_bytes){payload, payload_size};
    if (header->opcode == SC_WS_CLOSE) {
        int rc = parse_close(event);
        if (rc < 0)
            return rc;
        decoder->closed = true;
    }
    return (ssize_t)(header->size + payload_size);
}

// ---- Data frames

static void begin_frame(struct sc_ws_decoder *decoder, const struct header *header) {
    if (header->opcode != SC_WS_CONTINUATION) {
        decoder->opcode = header->opcode;
        decoder->message_size = 0;
        decoder->utf8_state = SC_UTF8_ACCEPT;
    }
    decoder->in_frame = true;
    decoder->final = header->final;
    decoder->frame_left = header->payload_size;
    decoder->mask_phase = 0;
    if (decoder->role == SC_WS_SERVER)
        memcpy(decoder->mask, header->mask, 4);
}

// Unmasks and checks `piece` and counts it as come. Returns 0 or -EILSEQ.
static int take_piece(struct sc_ws_decoder *decoder, uint8_t *data, size_t size) {
    if (decoder->role == SC_WS_SERVER) {
        sc_ws_mask(data, size, decoder->mask, decoder->mask_phase);
        decoder->mask_phase = (uint8_t)((decoder->mask_phase + size) & 3);
    }
    decoder->frame_left -= size;
    decoder->message_size += size;
    if (!decoder->check_utf8 || decoder->opcode != SC_WS_TEXT)
        return 0;
    decoder->utf8_state = sc_utf8_continue(decoder->utf8_state, (struct sc_bytes){data, size});
    bool complete = decoder->frame_left == 0 && decoder->final;
    if (decoder->utf8_state == SC_UTF8_REJECT ||
        (complete && decoder->utf8_state != SC_UTF8_ACCEPT))
        return -EILSEQ;
    return 0;
}

// Decodes what has come of the payload of the current frame. Returns its size, or -EILSEQ.
static ssize_t decode_payload(struct sc_ws_decoder *decoder, uint8_t *data, size_t size,
                              struct sc_ws_event *event) {
    size_t piece_size = size < decoder->frame_left ? size : (size_t)decoder->frame_left;
    bool first = decoder->message_size == 0;
    int rc = take_piece(decoder, data, piece_size);
    if (rc < 0)
        return rc;
    bool last = decoder->frame_left == 0 && decoder->final;
    if (piece_size > 0 || last) {
        event->kind = SC_WS_EVENT_DATA;
        event->opcode = decoder->opcode;
        event->first = first;
        event->last = last;
        event->bytes = (struct sc_bytes){data, piece_size};
    }
    if (decoder->frame_left == 0)
        decoder->in_frame = false;
    if (last) {
        decoder->opcode = 0;
        decoder->message_size = 0;
    }
    return (ssize_t)piece_size;
}

static ssize_t decode(struct sc_ws_decoder *decoder, uint8_t *data, size_t size,
                      struct sc_ws_event *event) {
    if (decoder->in_frame)
        return decode_payload(decoder, data, size, event);
    struct header header;
    int rc = parse_header(decoder, data, size, &header);
    if (rc <= 0)
        return rc;
    if (is_control(header.opcode))
        return decode_control(decoder, &header, data, size, event);
    begin_frame(decoder, &header);
    ssize_t payload_size = decode_payload(decoder, data + header.size, size - header.size, event);
    return payload_size < 0 ? payload_size : (ssize_t)header.size + payload_size;
}

// A message in one frame that has come to its end, as nearly all do. Returns its size, or 0 for anything else
// and for all that is wrong: the long way says what. Between messages the decoder's state does not change.
static inline size_t decode_whole(const struct sc_ws_decoder *decoder, uint8_t *data, size_t size,
                                  struct sc_ws_event *event) {
    uint8_t opcode = data[0] ^ 0x80;
    if (size < 8 || (opcode != SC_WS_TEXT && opcode != SC_WS_BINARY) || decoder->opcode != 0 ||
        decoder->in_frame || decoder->check_utf8 || decoder->role != SC_WS_SERVER)
        return 0;
    size_t header = 6, payload = data[1] ^ 0x80u; // Without a mask it is over 127.
    if (payload == 126) {
        header = 8;
        payload = (size_t)data[2] << 8 | data[3];
        if (payload < 126)
            return 0;
    } else if (payload > 126) {
        return 0;
    }
    if (size - header < payload || payload > decoder->frame_size_max ||
        payload > decoder->message_size_max)
        return 0;
    sc_ws_mask(data + header, payload, data + header - 4, 0);
    *event = (struct sc_ws_event){.kind = SC_WS_EVENT_DATA,
                                  .opcode = opcode,
                                  .first = true,
                                  .last = true,
                                  .bytes = {data + header, payload}};
    return header + payload;
}

ssize_t sc_ws_decode(struct sc_ws_decoder *decoder, uint8_t *data, size_t size,
                     struct sc_ws_event *event) {
    *event = (struct sc_ws_event){.kind = SC_WS_EVENT_NONE};
    if (decoder->closed || size == 0)
        return 0;
    size_t whole = decode_whole(decoder, data, size, event);
    if (whole > 0)
        return (ssize_t)whole;
    ssize_t consumed = decode(decoder, data, size, event);
    if (consumed < 0) {
        *event = (struct sc_ws_event){.kind = SC_WS_EVENT_NONE};
        decoder->closed = true;
    }
    return consumed;
}

// ---- Writing

static void store_big_endian_16(uint8_t *out, uint64_t value) {
    uint16_t swapped = __builtin_bswap16((uint16_t)value);
    memcpy(out, &swapped, sizeof swapped);
}

static void store_big_endian_64(uint8_t *out, uint64_t value) {
    uint64_t swapped = __builtin_bswap64(value);
    memcpy(out, &swapped, sizeof swapped);
}

size_t sc_ws_header_write(uint8_t *out, uint8_t opcode, bool final, uint64_t payload_size,
                          const uint8_t *mask) {
    assert(payload_size <= INT64_MAX);
    assert(!is_control(opcode) || (final && payload_size <= SC_WS_CONTROL_SIZE_MAX));
    size_t size = sc_ws_header_size(payload_size);
    uint8_t length = size == 2 ? (uint8_t)payload_size : size == 4 ? 126 : 127;
    out[0] = (uint8_t)((final ? 0x80 : 0) | opcode);
    out[1] = (uint8_t)((mask != NULL ? 0x80 : 0) | length);
    if (size == 4)
        store_big_endian_16(out + 2, payload_size);
    else if (size > 4)
        store_big_endian_64(out + 2, payload_size);
    if (mask == NULL)
        return size;
    memcpy(out + size, mask, 4);
    return size + 4;
}

size_t sc_ws_close_write(uint8_t *out, uint16_t code, struct sc_bytes reason) {
    assert(code == 0 ? reason.size == 0 : close_code_valid(code));
    size_t payload_size = code == 0 ? 0 : 2 + reason.size;
    size_t size = sc_ws_header_write(out, SC_WS_CLOSE, true, payload_size, NULL);
    if (code == 0)
        return size;
    store_big_endian_16(out + size, code);
    if (reason.size > 0)
        memcpy(out + size + 2, reason.data, reason.size);
    return size + payload_size;
}
