// The leaves of the grammar that the scanners share: escapes, UTF-8, literals, numbers. Each returns what
// follows, or NULL after it has said where and why in a `struct fault`.
#ifndef SC_JSON_GRAMMAR_H
#define SC_JSON_GRAMMAR_H

#include "bytes.h"

#include <errno.h>

#pragma clang assume_nonnull begin

/// What stopped a scan.
struct fault {
    const uint8_t *_Nullable at;
    int rc; // -EBADMSG, -EILSEQ or -ELOOP.
};

static inline const uint8_t *_Nullable fail(struct fault *fault, const uint8_t *at, int rc) {
    *fault = (struct fault){at, rc};
    return NULL;
}

/// The escape at `p`, a surrogate pair as one.
const uint8_t *_Nullable sc_escape_end(struct fault *fault, const uint8_t *p, const uint8_t *end);
/// The run of characters beyond ASCII at `p`.
const uint8_t *_Nullable sc_utf8_end(struct fault *fault, const uint8_t *p, const uint8_t *end);
/// The number at `p`.
const uint8_t *_Nullable sc_number_end(struct fault *fault, const uint8_t *p, const uint8_t *end);

static inline const uint8_t *_Nullable literal_end(struct fault *fault, const uint8_t *p,
                                                   const uint8_t *end, const char *word,
                                                   size_t size) {
    if ((size_t)(end - p) < size || memcmp(p, word, size) != 0)
        return fail(fault, p, -EBADMSG);
    return p + size;
}

/// The scanner of blocks: true when `text` is a JSON object or array, and `index` is filled. False says
/// nothing: the plain scanner decides, and says what is wrong.
typedef bool sc_scan_function(struct sc_bytes text, unsigned depth_max,
                              struct sc_json_index *index);
#if defined(__x86_64__)
sc_scan_function sc_scan_sse2, sc_scan_avx2;
#elif defined(__aarch64__)
sc_scan_function sc_scan_neon;
#endif

#pragma clang assume_nonnull end

#endif
