// Which of 64 bytes may end a run of plain characters in a string, as bits: quotes, backslashes, controls
// and what is not ASCII. Read block by block, so that finding the end of a short string is a shift.
#ifndef SC_JSON_BLOCKS_H
#define SC_JSON_BLOCKS_H

#include "bytes.h"

#if defined(__x86_64__)

#pragma clang assume_nonnull begin

enum { BLOCK = 64 };

struct block {
    const uint8_t *base;
    uint64_t specials; // Of the bytes from `base`. Bits behind the end of the text are set.
};

typedef uint64_t block_mask(const uint8_t *p);

static inline uint64_t block_mask_sse2(const uint8_t *p) {
    uint64_t low = special_mask_sse2(p) | (uint64_t)special_mask_sse2(p + 16) << 16;
    uint64_t high = special_mask_sse2(p + 32) | (uint64_t)special_mask_sse2(p + 48) << 16;
    return low | high << 32;
}

__attribute__((target("avx2,bmi,bmi2"))) static inline uint64_t block_mask_avx2(const uint8_t *p) {
    return special_mask_avx2(p) | (uint64_t)special_mask_avx2(p + 32) << 32;
}

#pragma clang assume_nonnull end

#endif
#endif
