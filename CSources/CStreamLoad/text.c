// The texts that go out, and that must come back. Keys of values are sorted and nothing is spaced, so that
// servers that parse and write values anew come to the same text.
//
//   value   {"i":1000012,"n":1000000345,"pa":"abcdefgh…","pb":…}      item, count, padding
//   id of a call   00000000-0000-4000-8000-<12 hexadecimal digits>
#include "load_private.h"

#include "CStreamWebSocket.h"

#include <stdlib.h>

// ---- Values

// Padding in members of about 24 letters each, more when the value is big.
// Members and not one long string: a server that parses and writes values anew is to pay for members as it would
// for real values. The last member takes what is too little for another one, so the size comes out exactly.
static void append_padding(struct sc_buffer *out, size_t left) {
    size_t chunk = left / 17 > 24 ? left / 17 : 24;
    for (char key = 'a'; left >= 8; key++) {
        assert(key <= 'z');
        size_t letters = left - 8 < chunk ? left - 8 : chunk;
        size_t after = left - 8 - letters;
        if (after < 8)
            letters += after;
        char head[] = {',', '"', 'p', key, '"', ':', '"'};
        sc_buffer_append(out, head, sizeof head);
        for (size_t i = 0; i < letters; i++) {
            char letter = (char)('a' + (i * 7 + (size_t)key) % 26);
            sc_buffer_append(out, &letter, 1);
        }
        sc_buffer_append(out, "\"", 1);
        left -= 8 + letters;
    }
}

// The text of a value is made once. Item and count have a fixed number of digits at fixed places, so a value is
// written and read with one copy or comparison and two runs of digits.
void sc_load_value_prepare(struct work *work) {
    struct sc_buffer out = {0};
    sc_buffer_append_bytes(&out, SC_LITERAL("{\"i\":"));
    work->value_item_at = (uint32_t)out.size;
    sc_buffer_append_bytes(&out, SC_LITERAL("0000000,\"n\":"));
    work->value_count_at = (uint32_t)out.size;
    sc_buffer_append_bytes(&out, SC_LITERAL("0000000000"));
    if (work->config.value_size > out.size + 1)
        append_padding(&out, work->config.value_size - out.size - 1);
    sc_buffer_append_bytes(&out, SC_LITERAL("}"));
    if (out.failed)
        abort();
    work->value = out.data;
    work->value_size = (uint32_t)out.size;
}

void sc_load_digits_write(uint8_t *out, uint64_t value, uint32_t digits) {
    for (uint32_t i = digits; i-- > 0; value /= 10)
        out[i] = (uint8_t)('0' + value % 10);
}

uint8_t *sc_load_value_write(const struct work *work, uint8_t *out, uint32_t item, uint64_t count) {
    memcpy(out, work->value, work->value_size);
    sc_load_digits_write(out + work->value_item_at, ITEM_BASE + item, ITEM_DIGITS);
    sc_load_digits_write(out + work->value_count_at, COUNT_BASE + count, COUNT_DIGITS);
    return out + work->value_size;
}

static bool digits_read(const uint8_t *data, uint32_t digits, uint64_t *out) {
    *out = 0;
    for (uint32_t i = 0; i < digits; i++) {
        if (data[i] < '0' || data[i] > '9')
            return false;
        *out = *out * 10 + (uint64_t)(data[i] - '0');
    }
    return true;
}

// All bytes are compared, the padding too: a server that mixes the bytes of two values is found out.
bool sc_load_value_read(const struct work *work, struct sc_bytes text, uint32_t *item,
                        uint64_t *count) {
    uint64_t number;
    if (text.size != work->value_size ||
        !digits_read(text.data + work->value_item_at, ITEM_DIGITS, &number) || number < ITEM_BASE ||
        number - ITEM_BASE >= work->config.item_count)
        return false;
    *item = (uint32_t)(number - ITEM_BASE);
    if (!digits_read(text.data + work->value_count_at, COUNT_DIGITS, count) || *count < COUNT_BASE)
        return false;
    *count -= COUNT_BASE;
    uint32_t between = work->value_item_at + ITEM_DIGITS,
             after = work->value_count_at + COUNT_DIGITS;
    return memcmp(text.data, work->value, work->value_item_at) == 0 &&
           memcmp(text.data + between, work->value + between, work->value_count_at - between) ==
               0 &&
           memcmp(text.data + after, work->value + after, work->value_size - after) == 0;
}

void sc_load_item_name_write(uint8_t *out, uint32_t item) {
    out[0] = 'i';
    sc_load_digits_write(out + 1, ITEM_BASE + item, ITEM_DIGITS);
}

static void append_value(struct sc_buffer *out, const struct work *work, uint32_t item,
                         uint64_t count) {
    if (count == 0) {
        sc_buffer_append_bytes(out, SC_LITERAL("null"));
        return;
    }
    uint8_t *at = sc_buffer_reserve(out, work->value_size);
    if (at == NULL)
        abort();
    sc_load_value_write(work, at, item, count);
    out->size += work->value_size;
}

// ---- Frames of a client

// A fixed mask: what is random about masks protects browsers from proxies, which are not here.
static const uint8_t mask[4] = {0x5a, 0xc3, 0x96, 0x0f};

static void frame_append(struct sc_buffer *out, uint8_t opcode, struct sc_bytes payload) {
    uint8_t *at = sc_buffer_reserve(out, SC_WS_HEADER_SIZE_MAX + payload.size);
    if (at == NULL)
        abort();
    size_t header = sc_ws_header_write(at, opcode, true, payload.size, mask);
    if (payload.size > 0)
        memcpy(at + header, payload.data, payload.size);
    sc_ws_mask(at + header, payload.size, mask, 0);
    out->size += header + payload.size;
}

void sc_load_message_append(struct sc_buffer *out, struct sc_bytes text) {
    frame_append(out, SC_WS_TEXT, text);
}

void sc_load_control_append(struct sc_buffer *out, uint8_t opcode, struct sc_bytes payload) {
    frame_append(out, opcode, payload);
}

// ---- Calls

static const char *const functions[SC_LOAD_OP_COUNT] = {
    [SC_LOAD_SET] = "stream::set",       [SC_LOAD_GET] = "stream::get",
    [SC_LOAD_UPDATE] = "stream::update", [SC_LOAD_LIST] = "stream::list",
    [SC_LOAD_DELETE] = "stream::delete",
};

static void append_text(struct sc_buffer *out, const char *text) {
    sc_buffer_append(out, text, strlen(text));
}

// The number of the call is the last group of the id: an answer finds its call without a table of ids.
static void append_id(struct sc_buffer *out, uint64_t number) {
    static const char digits[] = "0123456789abcdef";
    char id[CALL_ID_SIZE] = "00000000-0000-4000-8000-";
    for (uint32_t i = 0; i < ID_DIGITS; i++)
        id[CALL_ID_SIZE - 1 - i] = digits[number >> 4 * i & 15];
    sc_buffer_append(out, id, sizeof id);
}

static void append_item_name(struct sc_buffer *out, uint32_t item) {
    uint8_t name[ITEM_NAME_SIZE];
    sc_load_item_name_write(name, item);
    sc_buffer_append(out, name, sizeof name);
}

static void append_call(struct sc_buffer *out, const struct call *call, uint64_t number) {
    const struct topic *topic = call->topic;
    append_text(out, "{\"type\":\"invokefunction\",\"invocation_id\":\"");
    append_id(out, number);
    append_text(out, "\",\"function_id\":\"");
    append_text(out, functions[call->op]);
    append_text(out, "\",\"data\":{\"stream_name\":\"");
    append_text(out, topic->work->load->config.stream_name);
    append_text(out, "\",\"group_id\":\"");
    sc_buffer_append(out, topic->name, topic->name_size);
    if (call->op != SC_LOAD_LIST) {
        append_text(out, "\",\"item_id\":\"");
        append_item_name(out, call->item);
    }
    sc_buffer_append(out, "\"", 1);
    if (call->op == SC_LOAD_SET) {
        append_text(out, ",\"data\":");
        append_value(out, topic->work, call->item, call->new_count);
    } else if (call->op == SC_LOAD_UPDATE) {
        append_text(out, ",\"ops\":[{\"type\":\"increment\",\"path\":\"n\",\"by\":1}]");
    }
    append_text(out, "}}");
}

// What a broadcast server without a protocol is given: the frame that a node would have made of the call.
static void append_event(struct sc_buffer *out, const struct call *call) {
    const struct topic *topic = call->topic;
    uint8_t stamp[13];
    sc_load_digits_write(stamp, call->intended_ns / 1000, sizeof stamp);
    stamp[0] = '1'; // A number without leading zeros, which grows within a run.
    append_text(out, "{\"type\":\"stream\",\"timestamp\":");
    sc_buffer_append(out, stamp, sizeof stamp);
    append_text(out, ",\"streamName\":\"");
    append_text(out, topic->work->load->config.stream_name);
    append_text(out, "\",\"groupId\":\"");
    sc_buffer_append(out, topic->name, topic->name_size);
    append_text(out, "\",\"id\":\"");
    append_item_name(out, call->item);
    append_text(out, call->old_count == 0 ? "\",\"event\":{\"type\":\"create\",\"data\":"
                                          : "\",\"event\":{\"type\":\"update\",\"data\":");
    append_value(out, topic->work, call->item, call->new_count);
    append_text(out, "}}");
}

static void append_decimal(struct sc_buffer *out, uint64_t value) {
    uint8_t digits[20];
    sc_buffer_append(out, digits, sc_decimal_write(digits, value));
}

bool sc_load_publishes(const struct work *work) {
    return work->load->config.protocol != SC_LOAD_STREAM && work->config.subscribers_per_topic > 0;
}

// The text is made in the scratch buffer of the load and then framed: its size comes before it in each protocol.
// The buffer stays allocated, so a call allocates nothing.
void sc_load_call_append(struct caller *caller, const struct call *call, uint64_t number,
                         struct sc_buffer *out) {
    struct sc_load *load = caller->connection.load;
    struct sc_buffer *text = &load->scratch;
    text->size = 0;
    if (sc_load_publishes(caller->connection.work))
        append_event(text, call);
    else
        append_call(text, call, number);
    if (text->failed)
        abort();
    const struct topic *topic = call->topic;
    switch (load->config.protocol) {
    case SC_LOAD_STREAM:
    case SC_LOAD_RAW:
        sc_load_message_append(out, sc_buffer_bytes(text));
        return;
    case SC_LOAD_REDIS:
        append_text(out, "*3\r\n$7\r\nPUBLISH\r\n$");
        append_decimal(out, topic->name_size);
        append_text(out, "\r\n");
        sc_buffer_append(out, topic->name, topic->name_size);
        append_text(out, "\r\n$");
        append_decimal(out, text->size);
        append_text(out, "\r\n");
        break;
    case SC_LOAD_NATS:
        append_text(out, "PUB ");
        sc_buffer_append(out, topic->name, topic->name_size);
        append_text(out, " ");
        append_decimal(out, text->size);
        append_text(out, "\r\n");
        break;
    }
    sc_buffer_append_bytes(out, sc_buffer_bytes(text));
    append_text(out, "\r\n");
}

// The answer that a correct server gives, byte for byte. False: an answer that is not checked as text, as that of
// a list, or a `get` of nothing.
bool sc_load_result_append(const struct call *call, struct sc_buffer *out) {
    const struct topic *topic = call->topic;
    const struct work *work = topic->work;
    switch ((enum sc_load_op)call->op) {
    case SC_LOAD_SET:
    case SC_LOAD_UPDATE:
        append_text(out, "{\"old_value\":");
        append_value(out, work, call->item, call->old_count);
        append_text(out, ",\"new_value\":");
        append_value(out, work, call->item, call->new_count);
        append_text(out, "}");
        return true;
    case SC_LOAD_GET:
        append_value(out, work, call->item, call->old_count);
        return call->old_count != 0;
    case SC_LOAD_DELETE:
        append_text(out, "{\"old_value\":");
        append_value(out, work, call->item, call->old_count);
        append_text(out, "}");
        return true;
    case SC_LOAD_LIST:
    case SC_LOAD_OP_COUNT:
        break;
    }
    return false;
}
