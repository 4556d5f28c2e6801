// A message of a stream client, taken apart: a join or a leave. Pure.
#ifndef CSTREAM_CORE_CLIENT_MESSAGE_H
#define CSTREAM_CORE_CLIENT_MESSAGE_H

#include "CStreamBase.h"
#include "CStreamJSON.h"

#pragma clang assume_nonnull begin

/// Names that are written without escapes lie in the message, the others in `storage`.
struct client_message {
    bool is_join;
    bool has_item;
    struct sc_bytes subscription_id, stream, group, item;
    uint8_t storage[4][SC_NAME_SIZE_MAX];
};

/// Reads what a scan has found. Returns which field is wrong and what is wrong about it, in words for the log, or NULL.
const char *_Nullable sc_client_message_read(struct client_message *message,
                                             const struct sc_json_index *index);

#pragma clang assume_nonnull end

#endif
