// Vector helpers over bytes that the scanner and the walker share: where the run of plain characters of
// a string ends. The scalar form is the meaning; the others are the same, faster.
#ifndef SC_JSON_BYTES_H
#define SC_JSON_BYTES_H

#include "CStreamJSON.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#pragma clang assume_nonnull begin

static inline bool is_white(uint8_t c) {
    return c == ' ' || c == '\n' || c == '\r' || c == '\t';
}

/// A byte that ends a run inside a string: a quote, a backslash, a control or anything not ASCII.
static inline bool is_special(uint8_t c) {
    return c == '"' || c == '\\' || c < 0x20 || c >= 0x80;
}

static inline const uint8_t *run_end_scalar(const uint8_t *p, const uint8_t *end) {
    while (p < end && !is_special(*p))
        p++;
    return p;
}

#if defined(__x86_64__)

static inline unsigned special_mask_sse2(const uint8_t *p) {
    __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i quote = _mm_cmpeq_epi8(v, _mm_set1_epi8('"'));
    __m128i slash = _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'));
    // As signed bytes, what is not ASCII is below zero: one comparison for it and the controls.
    __m128i low = _mm_cmplt_epi8(v, _mm_set1_epi8(0x20));
    return (unsigned)_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(quote, slash), low));
}

static inline const uint8_t *run_end_sse2(const uint8_t *p, const uint8_t *end) {
    for (; end - p >= 16; p += 16) {
        unsigned mask = special_mask_sse2(p);
        if (mask != 0)
            return p + __builtin_ctz(mask);
    }
    return run_end_scalar(p, end);
}

__attribute__((target("avx2"))) static inline unsigned special_mask_avx2(const uint8_t *p) {
    __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
    __m256i quote = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('"'));
    __m256i slash = _mm256_cmpeq_epi8(v, _mm256_set1_epi8('\\'));
    __m256i low = _mm256_cmpgt_epi8(_mm256_set1_epi8(0x20), v);
    return (unsigned)_mm256_movemask_epi8(_mm256_or_si256(_mm256_or_si256(quote, slash), low));
}

#endif

/// The same, with what every machine of the kind has.
static inline const uint8_t *run_end(const uint8_t *p, const uint8_t *end) {
#if defined(__x86_64__)
    return run_end_sse2(p, end);
#else
    return run_end_scalar(p, end);
#endif
}

/// The closing quote of a validated string; `p` is after the opening one. Sets *escaped when a
/// backslash was on the way.
static inline const uint8_t *string_close(const uint8_t *p, const uint8_t *end, bool *escaped) {
    for (;;) {
#if defined(__x86_64__)
        while (end - p >= 16) {
            __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
            __m128i hit = _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('"')),
                                       _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));
            unsigned mask = (unsigned)_mm_movemask_epi8(hit);
            if (mask != 0) {
                p += __builtin_ctz(mask);
                break;
            }
            p += 16;
        }
#endif
        while (*p != '"' && *p != '\\')
            p++;
        assert(p < end);
        if (*p == '"')
            return p;
        *escaped = true;
        p += 2;
    }
}

#pragma clang assume_nonnull end

#endif
