// A message that the core makes: text, and where in it the fields are.
#ifndef CSTREAM_PROTOCOL_BUILDER_H
#define CSTREAM_PROTOCOL_BUILDER_H

#include "CStreamProtocol.h"

#pragma clang assume_nonnull begin

/// All zero is an empty one. A failed allocation is kept by `text`, and seen by sc_builder_finish.
struct sc_message_builder {
    struct sc_buffer text;
    struct sc_heap *_Nullable heap; // Of the message, if that fits. NULL: it comes from malloc.
    uint32_t starts[SC_FIELD_COUNT], ends[SC_FIELD_COUNT];
    uint8_t override;
    bool is_void;
};
void sc_builder_begin(struct sc_message_builder *builder, enum sc_message_field field);
void sc_builder_end(struct sc_message_builder *builder, enum sc_message_field field);
void sc_builder_add(struct sc_message_builder *builder, struct sc_bytes text);
/// Adds JSON text as a field; nothing for data == NULL.
void sc_builder_field(struct sc_message_builder *builder, enum sc_message_field field,
                      struct sc_bytes text);
/// Adds characters as a field that is a JSON string.
void sc_builder_string(struct sc_message_builder *builder, enum sc_message_field field,
                       struct sc_bytes text);
/// Makes the message, with one reference for the caller, and takes the builder's memory, also on failure. NULL when
/// memory is out.
struct sc_message *_Nullable sc_builder_finish(struct sc_message_builder *builder,
                                               enum sc_message_type type,
                                               struct sc_account *_Nullable account);

#pragma clang assume_nonnull end

#endif
