// Which of 64 bytes may end a run of plain characters in a string, as bits: quotes, backslashes, controls
// and what is not ASCII. Read block by block, so that finding the end of a short string is a shift.
#ifndef SC_JSON_BLOCKS_H
#define SC_JSON_BLOCKS_H

#include "bytes.h"

#if defined(__aarch64__)
#include <arm_neon.h>
#endif

#if defined(__x86_64__) || defined(__aarch64__)
#define SC_JSON_BLOCKS

#pragma clang assume_nonnull begin

enum { BLOCK = 64 };

struct block {
    const uint8_t *base;
    uint64_t specials; // Of the bytes from `base`. Bits behind the end of the text are set.
};

#if defined(__x86_64__)

static inline uint64_t block_mask_sse2(const uint8_t *p) {
    uint64_t low = special_mask_sse2(p) | (uint64_t)special_mask_sse2(p + 16) << 16;
    uint64_t high = special_mask_sse2(p + 32) | (uint64_t)special_mask_sse2(p + 48) << 16;
    return low | high << 32;
}

__attribute__((target("avx2,bmi,bmi2"))) static inline uint64_t block_mask_avx2(const uint8_t *p) {
    return special_mask_avx2(p) | (uint64_t)special_mask_avx2(p + 32) << 32;
}

#else

static inline uint8x16_t special_bytes_neon(const uint8_t *p) {
    uint8x16_t v = vld1q_u8(p);
    // As signed bytes, what is not ASCII is below zero: one comparison for it and the controls.
    uint8x16_t low = vcltq_s8(vreinterpretq_s8_u8(v), vdupq_n_s8(0x20));
    return vorrq_u8(vorrq_u8(vceqq_u8(v, vdupq_n_u8('"')), vceqq_u8(v, vdupq_n_u8('\\'))), low);
}

// There is no mask of signs: each byte keeps a bit of its own, and neighbours are added up to eight of them.
static inline uint64_t block_mask_neon(const uint8_t *p) {
    const uint8x16_t bits = vreinterpretq_u8_u64(vdupq_n_u64(0x8040201008040201));
    uint8x16_t a = vandq_u8(special_bytes_neon(p), bits),
               b = vandq_u8(special_bytes_neon(p + 16), bits);
    uint8x16_t c = vandq_u8(special_bytes_neon(p + 32), bits),
               d = vandq_u8(special_bytes_neon(p + 48), bits);
    uint8x16_t sums = vpaddq_u8(vpaddq_u8(a, b), vpaddq_u8(c, d));
    return vgetq_lane_u64(vreinterpretq_u64_u8(vpaddq_u8(sums, sums)), 0);
}

#endif

#pragma clang assume_nonnull end

#endif
#endif
