// A worker's message, taken apart: the members of its envelope that decide what becomes of it. Pure.
#ifndef CSTREAM_CORE_ENVELOPE_H
#define CSTREAM_CORE_ENVELOPE_H

#include "CStreamJSON.h"

#pragma clang assume_nonnull begin

enum envelope_field {
    ENVELOPE_TYPE,
    ENVELOPE_DATA,
    ENVELOPE_ACTION,
    ENVELOPE_BAGGAGE,
    ENVELOPE_FUNCTION_ID,
    ENVELOPE_TRACEPARENT,
    ENVELOPE_INVOCATION_ID,
    ENVELOPE_FIELD_COUNT
};

struct envelope {
    const struct sc_json_index *index;
    const struct sc_json_member *_Nullable fields[ENVELOPE_FIELD_COUNT]; // NULL: not there.
    struct sc_json_member scratch[ENVELOPE_FIELD_COUNT]; // Theirs when the index overflowed.
};

/// Finds all fields in one walk over what a scan has found. Of several members with one key the last counts.
void sc_envelope_read(struct envelope *out, const struct sc_json_index *index);

/// A field that is a string, as written, with its quotes; data == NULL when it is none.
static inline struct sc_bytes envelope_string(const struct envelope *envelope,
                                              enum envelope_field field) {
    const struct sc_json_member *member = envelope->fields[field];
    if (member == NULL || member->value.kind != SC_JSON_STRING)
        return (struct sc_bytes){0};
    return member->value.text;
}

/// Whether a field is absent, null or a string.
static inline bool envelope_string_or_none(const struct envelope *envelope,
                                           enum envelope_field field) {
    const struct sc_json_member *member = envelope->fields[field];
    return member == NULL || member->value.kind == SC_JSON_NULL ||
           member->value.kind == SC_JSON_STRING;
}

enum { TYPE_PING = 100, TYPE_IGNORED }; // Beside those of enum sc_message_type.

/// What the message is: an enum sc_message_type, one of the above, or -1.
int sc_envelope_type(const struct envelope *envelope);

enum action { ACTION_CALL, ACTION_VOID, ACTION_ENQUEUE, ACTION_INVALID };
enum action sc_envelope_action_read(const struct sc_json_member *action);
static inline enum action envelope_action(const struct envelope *envelope) {
    const struct sc_json_member *action = envelope->fields[ENVELOPE_ACTION];
    return action == NULL ? ACTION_CALL : sc_envelope_action_read(action);
}

/// The stream operation (enum sc_call_op) that a call names by its function id, or -1.
int sc_envelope_stream_op(const struct envelope *envelope);

#pragma clang assume_nonnull end

#endif
