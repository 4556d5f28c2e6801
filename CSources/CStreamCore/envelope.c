#include "envelope.h"

#include "CStreamCore.h"
#include "call_input.h"

static const struct sc_bytes keys[ENVELOPE_FIELD_COUNT] = {
    [ENVELOPE_TYPE] = {(const uint8_t *)"type", 4},
    [ENVELOPE_DATA] = {(const uint8_t *)"data", 4},
    [ENVELOPE_ACTION] = {(const uint8_t *)"action", 6},
    [ENVELOPE_BAGGAGE] = {(const uint8_t *)"baggage", 7},
    [ENVELOPE_FUNCTION_ID] = {(const uint8_t *)"function_id", 11},
    [ENVELOPE_TRACEPARENT] = {(const uint8_t *)"traceparent", 11},
    [ENVELOPE_INVOCATION_ID] = {(const uint8_t *)"invocation_id", 13},
};

// By size first: few keys of an envelope have a size that is another field's.
static int field_of(struct sc_bytes key) {
    switch (key.size) {
    case 4:
        return memcmp(key.data, "type", 4) == 0   ? ENVELOPE_TYPE
               : memcmp(key.data, "data", 4) == 0 ? ENVELOPE_DATA
                                                  : -1;
    case 6:
        return memcmp(key.data, "action", 6) == 0 ? ENVELOPE_ACTION : -1;
    case 7:
        return memcmp(key.data, "baggage", 7) == 0 ? ENVELOPE_BAGGAGE : -1;
    case 11:
        return memcmp(key.data, "function_id", 11) == 0   ? ENVELOPE_FUNCTION_ID
               : memcmp(key.data, "traceparent", 11) == 0 ? ENVELOPE_TRACEPARENT
                                                          : -1;
    case 13:
        return memcmp(key.data, "invocation_id", 13) == 0 ? ENVELOPE_INVOCATION_ID : -1;
    default:
        return -1;
    }
}

static int field_of_escaped(struct sc_bytes key) {
    for (int field = 0; field < ENVELOPE_FIELD_COUNT; field++)
        if (sc_json_string_equal(key, true, keys[field]))
            return field;
    return -1;
}

void sc_envelope_read(struct envelope *out, const struct sc_json_index *index) {
    out->index = index;
    memset(out->fields, 0, sizeof out->fields);
    if (index->overflow) {
        for (int field = 0; field < ENVELOPE_FIELD_COUNT; field++)
            out->fields[field] = sc_json_index_find(index, -1, keys[field], &out->scratch[field]);
        return;
    }
    for (unsigned i = 0; i < index->root_count; i++) {
        const struct sc_json_member *member = &index->members[index->roots[i]];
        int field = member->key_escaped ? field_of_escaped(member->key) : field_of(member->key);
        if (field >= 0)
            out->fields[field] = member;
    }
}

// ---- What the fields say

static struct sc_bytes inner(struct sc_bytes string) {
    return (struct sc_bytes){string.data + 1, string.size - 2};
}

static inline bool says(const struct sc_json_value *string, struct sc_bytes text) {
    return string->escaped ? sc_json_string_equal(inner(string->text), true, text)
                           : sc_bytes_equal(inner(string->text), text);
}

#define NAME(text) {(const uint8_t *)(text), sizeof(text) - 1}

int sc_envelope_type(const struct envelope *envelope) {
    static const struct {
        struct sc_bytes name;
        int type;
    } names[] = {
        {NAME("invokefunction"), SC_MESSAGE_INVOKE},
        {NAME("invocationresult"), SC_MESSAGE_RESULT},
        {NAME("ping"), TYPE_PING},
        {NAME("pong"), TYPE_IGNORED},
        {NAME("registerfunction"), SC_MESSAGE_REGISTER_FUNCTION},
        {NAME("unregisterfunction"), SC_MESSAGE_UNREGISTER_FUNCTION},
        {NAME("registertrigger"), SC_MESSAGE_REGISTER_TRIGGER},
        {NAME("unregistertrigger"), SC_MESSAGE_UNREGISTER_TRIGGER},
        {NAME("registertriggertype"), SC_MESSAGE_REGISTER_TRIGGER_TYPE},
        {NAME("unregistertriggertype"), SC_MESSAGE_UNREGISTER_TRIGGER_TYPE},
        {NAME("triggerregistrationresult"), SC_MESSAGE_TRIGGER_REGISTRATION_RESULT},
        {NAME("registerservice"), SC_MESSAGE_REGISTER_SERVICE},
        {NAME("workerregistered"), TYPE_IGNORED},
        {NAME("reattach"), SC_MESSAGE_REATTACH},
        // Of newer clients, which do without an answer.
        {NAME("observe"), TYPE_IGNORED},
        {NAME("unobserve"), TYPE_IGNORED},
        {NAME("observerack"), TYPE_IGNORED},
        {NAME("invocationsobserved"), TYPE_IGNORED},
        {NAME("localinvocationstats"), TYPE_IGNORED},
    };
    const struct sc_json_member *type = envelope->fields[ENVELOPE_TYPE];
    if (type == NULL || type->value.kind != SC_JSON_STRING)
        return -1;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (says(&type->value, names[i].name))
            return names[i].type;
    return -1;
}

enum action sc_envelope_action_read(const struct sc_json_member *action) {
    if (action->value.kind == SC_JSON_NULL)
        return ACTION_CALL;
    if (action->value.kind != SC_JSON_OBJECT)
        return ACTION_INVALID;
    enum action found = ACTION_INVALID;
    bool queue = false;
    size_t offset = 0;
    struct sc_json_member member;
    while (sc_json_next(action->value, &offset, &member)) {
        bool string = member.value.kind == SC_JSON_STRING;
        if (sc_json_string_equal(member.key, member.key_escaped, SC_LITERAL("queue")))
            queue = string;
        if (!sc_json_string_equal(member.key, member.key_escaped, SC_LITERAL("type")))
            continue;
        found = ACTION_INVALID;
        if (string && says(&member.value, SC_LITERAL("void")))
            found = ACTION_VOID;
        if (string && says(&member.value, SC_LITERAL("enqueue")))
            found = ACTION_ENQUEUE;
    }
    return found == ACTION_ENQUEUE && !queue ? ACTION_INVALID : found;
}

int sc_envelope_stream_op(const struct envelope *envelope) {
    const struct sc_json_member *function = envelope->fields[ENVELOPE_FUNCTION_ID];
    if (function == NULL || function->value.kind != SC_JSON_STRING)
        return -1;
    struct sc_bytes name = inner(function->value.text);
    if (!function->value.escaped)
        return sc_call_op_find(name);
    uint8_t decoded[64]; // Longer than any: how it is written must not matter.
    if (sc_json_unescaped_size(name) > sizeof decoded)
        return -1;
    return sc_call_op_find((struct sc_bytes){decoded, sc_json_unescape(name, decoded)});
}
