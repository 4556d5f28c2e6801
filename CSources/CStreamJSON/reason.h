// Builds a text of bounded size; what does not fit is left out.
#ifndef SC_JSON_REASON_H
#define SC_JSON_REASON_H

#include "CStreamJSON.h"

#pragma clang assume_nonnull begin

struct reason {
    size_t size;
    uint8_t text[SC_JSON_REASON_SIZE_MAX];
};

void sc_reason_put(struct reason *reason, struct sc_bytes text);
/// A C string, for the words of a message.
void sc_reason_say(struct reason *reason, const char *words);
void sc_reason_number(struct reason *reason, uint64_t value);
/// The decoded characters of a string as written, cut at a bounded size. With `debug`, as a source text
/// would spell them between quotes.
void sc_reason_string(struct reason *reason, struct sc_bytes raw, bool debug);
/// "invalid type: <value>, expected <expected>"
void sc_reason_mismatch(struct reason *reason, struct sc_json_value value, const char *expected);

#pragma clang assume_nonnull end

#endif
