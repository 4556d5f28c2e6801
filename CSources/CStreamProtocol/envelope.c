// The envelope of a worker's message: which kind it is, and what of it decides about its way.
#include "CStreamProtocol.h"

static const struct sc_bytes keys[SC_ENVELOPE_FIELD_COUNT] = {
    [SC_ENVELOPE_TYPE] = {(const uint8_t *)"type", 4},
    [SC_ENVELOPE_DATA] = {(const uint8_t *)"data", 4},
    [SC_ENVELOPE_ACTION] = {(const uint8_t *)"action", 6},
    [SC_ENVELOPE_BAGGAGE] = {(const uint8_t *)"baggage", 7},
    [SC_ENVELOPE_FUNCTION_ID] = {(const uint8_t *)"function_id", 11},
    [SC_ENVELOPE_TRACEPARENT] = {(const uint8_t *)"traceparent", 11},
    [SC_ENVELOPE_INVOCATION_ID] = {(const uint8_t *)"invocation_id", 13},
};

// By size first: few keys of an envelope have a size that is another field's.
static int field_of(struct sc_bytes key) {
    switch (key.size) {
    case 4:
        return memcmp(key.data, "type", 4) == 0   ? SC_ENVELOPE_TYPE
               : memcmp(key.data, "data", 4) == 0 ? SC_ENVELOPE_DATA
                                                  : -1;
    case 6:
        return memcmp(key.data, "action", 6) == 0 ? SC_ENVELOPE_ACTION : -1;
    case 7:
        return memcmp(key.data, "baggage", 7) == 0 ? SC_ENVELOPE_BAGGAGE : -1;
    case 11:
        return memcmp(key.data, "function_id", 11) == 0   ? SC_ENVELOPE_FUNCTION_ID
               : memcmp(key.data, "traceparent", 11) == 0 ? SC_ENVELOPE_TRACEPARENT
                                                          : -1;
    case 13:
        return memcmp(key.data, "invocation_id", 13) == 0 ? SC_ENVELOPE_INVOCATION_ID : -1;
    default:
        return -1;
    }
}

// A key may be spelt with escapes; nobody does, so this may take its time.
static int field_of_escaped(struct sc_bytes key) {
    for (int field = 0; field < SC_ENVELOPE_FIELD_COUNT; field++)
        if (sc_json_string_equal(key, true, keys[field]))
            return field;
    return -1;
}

// One walk over the members that the scan met, in place of a search for each field: of a duplicate key the last is met last.
// An index that overflowed has not all members, so each field is then looked for in the text.
void sc_envelope_read(struct sc_envelope *out, const struct sc_json_index *index) {
    out->index = index;
    memset(out->fields, 0, sizeof out->fields);
    if (index->overflow) {
        for (int field = 0; field < SC_ENVELOPE_FIELD_COUNT; field++)
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

// The types that come with every call stand first. Those of newer clients are known so that they are ignored in silence,
// and not answered as mistakes.
int sc_envelope_type(const struct sc_envelope *envelope) {
    static const struct {
        struct sc_bytes name;
        int type;
    } names[] = {
        {NAME("invokefunction"), SC_MESSAGE_INVOKE},
        {NAME("invocationresult"), SC_MESSAGE_RESULT},
        {NAME("ping"), SC_TYPE_PING},
        {NAME("pong"), SC_TYPE_IGNORED},
        {NAME("registerfunction"), SC_MESSAGE_REGISTER_FUNCTION},
        {NAME("unregisterfunction"), SC_MESSAGE_UNREGISTER_FUNCTION},
        {NAME("registertrigger"), SC_MESSAGE_REGISTER_TRIGGER},
        {NAME("unregistertrigger"), SC_MESSAGE_UNREGISTER_TRIGGER},
        {NAME("registertriggertype"), SC_MESSAGE_REGISTER_TRIGGER_TYPE},
        {NAME("unregistertriggertype"), SC_MESSAGE_UNREGISTER_TRIGGER_TYPE},
        {NAME("triggerregistrationresult"), SC_MESSAGE_TRIGGER_REGISTRATION_RESULT},
        {NAME("registerservice"), SC_MESSAGE_REGISTER_SERVICE},
        {NAME("workerregistered"), SC_TYPE_IGNORED},
        {NAME("reattach"), SC_MESSAGE_REATTACH},
        // Of newer clients, which do without an answer.
        {NAME("observe"), SC_TYPE_IGNORED},
        {NAME("unobserve"), SC_TYPE_IGNORED},
        {NAME("observerack"), SC_TYPE_IGNORED},
        {NAME("invocationsobserved"), SC_TYPE_IGNORED},
        {NAME("localinvocationstats"), SC_TYPE_IGNORED},
    };
    const struct sc_json_member *type = envelope->fields[SC_ENVELOPE_TYPE];
    if (type == NULL || type->value.kind != SC_JSON_STRING)
        return -1;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (says(&type->value, names[i].name))
            return names[i].type;
    return -1;
}

// An action that is not understood makes the call invalid: to carry it out as a plain call would be a guess.
enum sc_action sc_envelope_action_read(const struct sc_json_member *action) {
    if (action->value.kind == SC_JSON_NULL)
        return SC_ACTION_CALL;
    if (action->value.kind != SC_JSON_OBJECT)
        return SC_ACTION_INVALID;
    enum sc_action found = SC_ACTION_INVALID;
    bool queue = false;
    size_t offset = 0;
    struct sc_json_member member;
    while (sc_json_next(action->value, &offset, &member)) {
        bool string = member.value.kind == SC_JSON_STRING;
        if (sc_json_string_equal(member.key, member.key_escaped, SC_LITERAL("queue")))
            queue = string;
        if (!sc_json_string_equal(member.key, member.key_escaped, SC_LITERAL("type")))
            continue;
        found = SC_ACTION_INVALID;
        if (string && says(&member.value, SC_LITERAL("void")))
            found = SC_ACTION_VOID;
        if (string && says(&member.value, SC_LITERAL("enqueue")))
            found = SC_ACTION_ENQUEUE;
    }
    return found == SC_ACTION_ENQUEUE && !queue ? SC_ACTION_INVALID : found;
}

int sc_envelope_stream_op(const struct sc_envelope *envelope) {
    const struct sc_json_member *function = envelope->fields[SC_ENVELOPE_FUNCTION_ID];
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

// Whether a field is absent, null or a string.
static bool is_string_or_none(const struct sc_envelope *envelope, enum sc_envelope_field field) {
    const struct sc_json_member *member = envelope->fields[field];
    return sc_envelope_is_string_or_absent(envelope, field) || member->value.kind == SC_JSON_NULL;
}

_Static_assert(SC_INVOCATION_ID_SIZE_MAX == 1024, "a sentence says so");
static bool is_overlong(struct sc_bytes id) {
    if (id.size <= SC_INVOCATION_ID_SIZE_MAX + 2)
        return false;
    struct sc_bytes raw = {id.data + 1, id.size - 2};
    return sc_json_prefix_size(raw, SC_INVOCATION_ID_SIZE_MAX) < raw.size;
}

const char *sc_envelope_call_problem(const struct sc_envelope *envelope, enum sc_action action) {
    if (sc_envelope_string(envelope, SC_ENVELOPE_FUNCTION_ID).data == NULL)
        return "missing or of the wrong type: function_id";
    if (action == SC_ACTION_INVALID)
        return "unknown action";
    if (!is_string_or_none(envelope, SC_ENVELOPE_INVOCATION_ID) ||
        !is_string_or_none(envelope, SC_ENVELOPE_TRACEPARENT) ||
        !is_string_or_none(envelope, SC_ENVELOPE_BAGGAGE))
        return "an id or the trace context is not a string";
    if (action != SC_ACTION_VOID &&
        is_overlong(sc_envelope_string(envelope, SC_ENVELOPE_INVOCATION_ID)))
        return "invocation_id is longer than 1024 bytes";
    return NULL;
}

// ---- Messages without an envelope

bool sc_text_is_blank(struct sc_bytes text) {
    for (size_t i = 0; i < text.size; i++)
        if (text.data[i] > ' ' || memchr(" \t\r\n", text.data[i], 4) == NULL)
            return false;
    return true;
}

enum sc_telemetry sc_telemetry_kind(struct sc_bytes binary) {
    if (binary.size < SC_TELEMETRY_HEAD_SIZE)
        return SC_TELEMETRY_NONE;
    if (memcmp(binary.data, "LOGS", SC_TELEMETRY_HEAD_SIZE) == 0)
        return SC_TELEMETRY_LOGS;
    bool other = memcmp(binary.data, "OTLP", SC_TELEMETRY_HEAD_SIZE) == 0 ||
                 memcmp(binary.data, "MTRC", SC_TELEMETRY_HEAD_SIZE) == 0;
    return other ? SC_TELEMETRY_OTHER : SC_TELEMETRY_NONE;
}
