// What a `stream::*` call asks for: the `data` of its message, checked and taken apart. Pure: it touches
// neither streams nor connections.
#ifndef CSTREAM_CORE_CALL_INPUT_H
#define CSTREAM_CORE_CALL_INPUT_H

#include "CStreamJSON.h"

#pragma clang assume_nonnull begin

enum sc_call_op {
    SC_CALL_SET,
    SC_CALL_GET,
    SC_CALL_DELETE,
    SC_CALL_LIST,
    SC_CALL_LIST_GROUPS,
    SC_CALL_LIST_ALL,
    SC_CALL_SEND,
    SC_CALL_UPDATE,
};

/// Whether the operation changes something or tells somebody: set, delete, update, send.
static inline bool sc_call_writes(uint8_t op) {
    return (1u << op & (1u << SC_CALL_SET | 1u << SC_CALL_DELETE | 1u << SC_CALL_SEND |
                        1u << SC_CALL_UPDATE)) != 0;
}

/// The operation that a function id such as `stream::set` names (an enum sc_call_op), or -1.
int sc_call_op_find(struct sc_bytes function_id);

#define SC_CALL_FIELD_COUNT 7
/// The input of a call. Fields that the operation does not have are empty.
struct sc_call_input {
    // Decoded, at most SC_NAME_SIZE_MAX bytes each. Slices of the message, or of `names` when they were
    // escaped: do not copy the struct and drop the original.
    struct sc_bytes stream;
    struct sc_bytes group;
    struct sc_bytes item; // For send its `id`.
    struct sc_bytes type; // For send.
    bool has_item;        // False for a send whose `id` is absent or null.
    struct sc_json_value
        data; // For set and send: at most SC_VALUE_DEPTH_MAX deep, as written at most
              // SC_VALUE_SIZE_MAX bytes.
    struct sc_json_value ops; // For update: an array of anything.
    struct sc_bytes reason;   // -EINVAL: UTF-8 text to follow
                              // "Failed to deserialize input for <function id>: ".
    uint8_t names[SC_CALL_FIELD_COUNT][SC_NAME_SIZE_MAX];
    uint8_t reason_text[SC_JSON_REASON_SIZE_MAX];
};

/// Reads the input of `op` from `data`, the member of that name that sc_json_index_find gave for `index`
/// (NULL when there is none, which counts as null).
///
/// Owns:   borrows the scanned text until `input` is no longer used.
/// Errors: -EINVAL  bad input: `input->reason` says why.
SC_CHECKED int sc_call_input_read(enum sc_call_op op, const struct sc_json_index *index,
                                  const struct sc_json_member *_Nullable data,
                                  struct sc_call_input *input);

#pragma clang assume_nonnull end

#endif
