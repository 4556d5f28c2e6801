// What callers, executors and workers are told: the texts around ids and values, as parts, so that no value is copied.
//
//   {"type":"invocationresult","invocation_id":…,"function_id":…  <body>  [,"traceparent":…][,"baggage":…]}
//
// The body is `,"result":…`, `,"error":…`, or nothing for a result that is not there.
#include "CStreamProtocol.h"

#define CALL_HEAD SC_LITERAL("{\"type\":\"invokefunction\",\"invocation_id\":")
#define END SC_LITERAL("}")

static size_t add_trace(struct sc_bytes *parts, struct sc_bytes traceparent,
                        struct sc_bytes baggage) {
    size_t at = 0;
    if (traceparent.data != NULL) {
        parts[at++] = SC_LITERAL(",\"traceparent\":");
        parts[at++] = traceparent;
    }
    if (baggage.data != NULL) {
        parts[at++] = SC_LITERAL(",\"baggage\":");
        parts[at++] = baggage;
    }
    return at;
}

// Parts in place of one text: a value of 16 MiB is copied once, into the frame that leaves.
size_t sc_answer_parts(struct sc_bytes parts[SC_TEXT_PARTS_MAX], const struct sc_echo *echo,
                       const struct sc_bytes *body, size_t count) {
    assert(count <= SC_ANSWER_BODY_PARTS_MAX);
    size_t at = 0;
    parts[at++] = SC_ANSWER_HEAD;
    parts[at++] = echo->invocation_id;
    parts[at++] = SC_ANSWER_FUNCTION_KEY;
    parts[at++] = echo->function_id;
    assert(at == SC_ANSWER_BODY_AT);
    for (size_t i = 0; i < count; i++)
        parts[at++] = body[i];
    at += add_trace(&parts[at], echo->traceparent, echo->baggage);
    parts[at++] = END;
    return at;
}

static inline uint8_t *write_literal(uint8_t *out, struct sc_bytes text) {
    memcpy(out, text.data, text.size); // A few moves: the compiler knows the text.
    return out + text.size;
}

void sc_answer_write(uint8_t *out, const struct sc_echo *echo, const struct sc_bytes *body,
                     size_t count) {
    out = write_literal(out, SC_ANSWER_HEAD);
    out = sc_bytes_write(out, echo->invocation_id);
    out = write_literal(out, SC_ANSWER_FUNCTION_KEY);
    out = sc_bytes_write(out, echo->function_id);
    for (size_t i = 0; i < count; i++)
        out = sc_bytes_write(out, body[i]);
    *out = '}';
}

// ---- Errors

void sc_error_write(struct sc_buffer *out, const char *code, struct sc_bytes message) {
    sc_buffer_append_bytes(out, SC_LITERAL(",\"error\":{\"code\":"));
    sc_json_write_string(out, (struct sc_bytes){(const uint8_t *)code, strlen(code)});
    sc_buffer_append_bytes(out, SC_LITERAL(",\"message\":"));
    sc_json_write_string(out, message);
    sc_buffer_append_bytes(out, SC_LITERAL("}"));
}

void sc_input_error_write(struct sc_buffer *out, struct sc_bytes function, struct sc_bytes reason) {
    sc_buffer_append_bytes(out, SC_LITERAL("Failed to deserialize input for "));
    sc_buffer_append_bytes(out, function);
    sc_buffer_append_bytes(out, SC_LITERAL(": "));
    sc_buffer_append_bytes(out, reason);
}

// The cut is at a whole character as it is written, so what is left is a JSON string still.
static struct sc_bytes cut(struct sc_bytes id, size_t size_max, uint8_t *room) {
    struct sc_bytes inner = {id.data + 1, id.size - 2};
    size_t size = sc_json_prefix_size(inner, size_max);
    if (size == inner.size)
        return id;
    assert(size <= 6 * size_max);
    memcpy(room, id.data, size + 1);
    room[size + 1] = '"';
    return (struct sc_bytes){room, size + 2};
}

struct sc_bytes sc_shown_id_cut(struct sc_bytes id, uint8_t room[SC_SHOWN_ID_SIZE_MAX]) {
    return id.data == NULL ? SC_LITERAL("\"\"") : cut(id, SC_NAME_SIZE_MAX, room);
}

struct sc_bytes sc_shown_call_id_cut(struct sc_bytes id, uint8_t room[SC_SHOWN_CALL_ID_SIZE_MAX]) {
    return cut(id, SC_INVOCATION_ID_SIZE_MAX, room);
}

// ---- Calls and results between workers

static struct sc_bytes quoted(struct sc_buffer *out, struct sc_bytes characters) {
    sc_json_write_string(out, characters);
    return sc_buffer_bytes(out);
}

// The ids are characters, since the control plane decodes them to look them up; they are escaped anew here.
bool sc_forward_call(struct sc_forward *out, const struct sc_message *message,
                     struct sc_bytes invocation_id, struct sc_bytes function_id) {
    *out = (struct sc_forward){0};
    out->parts[out->count++] = CALL_HEAD;
    out->parts[out->count++] = quoted(&out->id, invocation_id);
    out->parts[out->count++] = SC_ANSWER_FUNCTION_KEY;
    out->parts[out->count++] = quoted(&out->function, function_id);
    out->parts[out->count++] = SC_LITERAL(",\"data\":");
    out->count += sc_message_data_parts(message, &out->data, &out->parts[out->count]);
    out->count +=
        add_trace(&out->parts[out->count], sc_message_field(message, SC_FIELD_TRACEPARENT),
                  sc_message_field(message, SC_FIELD_BAGGAGE));
    out->parts[out->count++] = END;
    return !out->id.failed && !out->function.failed && !out->data.failed;
}

static void begin_result(struct sc_forward *out, struct sc_bytes invocation_id,
                         struct sc_bytes function) {
    out->count = 0;
    out->parts[out->count++] = SC_ANSWER_HEAD;
    out->parts[out->count++] = invocation_id;
    out->parts[out->count++] = SC_ANSWER_FUNCTION_KEY;
    out->parts[out->count++] = function;
}

static struct sc_bytes field_of(const struct sc_message *message, enum sc_message_field field) {
    return message == NULL ? (struct sc_bytes){0} : sc_message_field(message, field);
}

bool sc_forward_result(struct sc_forward *out, const struct sc_message *message,
                       const struct sc_echo *caller) {
    *out = (struct sc_forward){0};
    begin_result(out, caller->invocation_id, quoted(&out->function, caller->function_id));
    struct sc_bytes error = field_of(message, SC_FIELD_ERROR);
    struct sc_bytes result = field_of(message, SC_FIELD_RESULT);
    if (error.data != NULL)
        out->count += sc_error_value(&out->parts[out->count], error);
    else if (result.data != NULL)
        out->count += sc_result_value(&out->parts[out->count], result);
    struct sc_bytes traceparent = field_of(message, SC_FIELD_TRACEPARENT);
    struct sc_bytes baggage = field_of(message, SC_FIELD_BAGGAGE);
    if (caller->traceparent.data != NULL && traceparent.data == NULL)
        traceparent = quoted(&out->id, caller->traceparent);
    if (caller->baggage.data != NULL && baggage.data == NULL)
        baggage = quoted(&out->data, caller->baggage);
    out->count += add_trace(&out->parts[out->count], traceparent, baggage);
    out->parts[out->count++] = END;
    return !out->id.failed && !out->function.failed && !out->data.failed;
}

// The ids of the parts that are there already: the caller looks at the size of the whole first. The trace context goes, so
// that the error fits whatever the limit is.
void sc_forward_result_too_large(struct sc_forward *out) {
    begin_result(out, out->parts[1], out->parts[3]);
    out->count += sc_error_value(&out->parts[out->count], SC_ERROR_RESULT_TOO_LARGE);
    out->parts[out->count++] = END;
}

void sc_forward_end(struct sc_forward *forward) {
    sc_buffer_deinit(&forward->id);
    sc_buffer_deinit(&forward->function);
    sc_buffer_deinit(&forward->data);
}

size_t sc_registered_parts(struct sc_bytes parts[SC_REGISTERED_PARTS], struct sc_bytes worker_id,
                           struct sc_bytes reattach_token) {
    parts[0] = SC_LITERAL("{\"type\":\"workerregistered\",\"worker_id\":\"");
    parts[1] = worker_id;
    parts[2] = SC_LITERAL("\",\"reattach_token\":\"");
    parts[3] = reattach_token;
    parts[4] = SC_LITERAL("\"}");
    return SC_REGISTERED_PARTS;
}

void sc_node_call_write(struct sc_buffer *out, struct sc_bytes invocation_id,
                        struct sc_bytes function_id, struct sc_bytes data) {
    sc_buffer_append_bytes(out, SC_LITERAL("{\"invocation_id\":"));
    sc_json_write_string(out, invocation_id);
    sc_buffer_append_bytes(out, SC_ANSWER_FUNCTION_KEY);
    sc_json_write_string(out, function_id);
    sc_buffer_append_bytes(out, SC_LITERAL(",\"data\":"));
    sc_buffer_append_bytes(out, data);
    sc_buffer_append_bytes(out, END);
}
