// UTF-8 as RFC 3629 section 4 defines it: runs of ASCII in vectors, the rest by an automaton.
#include "CStreamWebSocket.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// Bytes that no state tells apart.
enum {
    ASCII,
    CONT_80, // 80-8F
    CONT_90, // 90-9F
    CONT_A0, // A0-BF
    LEAD_2,  // C2-DF
    LEAD_E0, // Then A0-BF: less is overlong.
    LEAD_3,  // E1-EC, EE, EF
    LEAD_ED, // Then 80-9F: more is a surrogate.
    LEAD_F0, // Then 90-BF: less is overlong.
    LEAD_4,  // F1-F3
    LEAD_F4, // Then 80-8F: more is over U+10FFFF.
    NEVER,   // C0, C1, F5-FF
    BYTE_CLASS_COUNT,
};

static const uint8_t byte_classes[256] = {
    [0x00 ... 0x7f] = ASCII,   [0x80 ... 0x8f] = CONT_80, [0x90 ... 0x9f] = CONT_90,
    [0xa0 ... 0xbf] = CONT_A0, [0xc0 ... 0xc1] = NEVER,   [0xc2 ... 0xdf] = LEAD_2,
    [0xe0] = LEAD_E0,          [0xe1 ... 0xec] = LEAD_3,  [0xed] = LEAD_ED,
    [0xee ... 0xef] = LEAD_3,  [0xf0] = LEAD_F0,          [0xf1 ... 0xf3] = LEAD_4,
    [0xf4] = LEAD_F4,          [0xf5 ... 0xff] = NEVER,
};

// A state is the place of its row in the table, so that a step is one addition and one load.
enum {
    OK = SC_UTF8_ACCEPT,
    NO = SC_UTF8_REJECT,
    ONE = 2 * BYTE_CLASS_COUNT, // One continuation byte is to come.
    TWO = 3 * BYTE_CLASS_COUNT,
    E0 = 4 * BYTE_CLASS_COUNT, // That lead byte was the last.
    ED = 5 * BYTE_CLASS_COUNT,
    F0 = 6 * BYTE_CLASS_COUNT,
    THREE = 7 * BYTE_CLASS_COUNT,
    F4 = 8 * BYTE_CLASS_COUNT,
    STATE_COUNT = 9,
};
_Static_assert(NO == BYTE_CLASS_COUNT, "the second row of the table is the rejecting state");

static const uint8_t next_states[STATE_COUNT * BYTE_CLASS_COUNT] = {
    // clang-format off
    //  ascii 80-8F  90-9F  A0-BF  C2-DF  E0  E1..EF  ED  F0  F1-F3  F4  never
    /* OK    */ OK, NO,    NO,    NO,    ONE, E0, TWO, ED, F0, THREE, F4, NO,
    /* NO    */ NO, NO,    NO,    NO,    NO,  NO, NO,  NO, NO, NO,    NO, NO,
    /* ONE   */ NO, OK,    OK,    OK,    NO,  NO, NO,  NO, NO, NO,    NO, NO,
    /* TWO   */ NO, ONE,   ONE,   ONE,   NO,  NO, NO,  NO, NO, NO,    NO, NO,
    /* E0    */ NO, NO,    NO,    ONE,   NO,  NO, NO,  NO, NO, NO,    NO, NO,
    /* ED    */ NO, ONE,   ONE,   NO,    NO,  NO, NO,  NO, NO, NO,    NO, NO,
    /* F0    */ NO, NO,    TWO,   TWO,   NO,  NO, NO,  NO, NO, NO,    NO, NO,
    /* THREE */ NO, TWO,   TWO,   TWO,   NO,  NO, NO,  NO, NO, NO,    NO, NO,
    /* F4    */ NO, TWO,   NO,    NO,    NO,  NO, NO,  NO, NO, NO,    NO, NO,
    // clang-format on
};

// Each returns the first byte in [at, end) that is not ASCII, or `end`.
typedef const uint8_t *ascii_skipper(const uint8_t *at, const uint8_t *end);

static inline const uint8_t *skip_scalar(const uint8_t *at, const uint8_t *end) {
    while (end - at >= 8) {
        uint64_t word;
        memcpy(&word, at, 8);
        word &= 0x8080808080808080u;
        if (word != 0)
            return at + (__builtin_ctzll(word) >> 3);
        at += 8;
    }
    while (at < end && *at < 0x80)
        at++;
    return at;
}

#if defined(__x86_64__)
static inline const uint8_t *skip_sse2(const uint8_t *at, const uint8_t *end) {
    while (end - at >= 16) {
        int high_bits = _mm_movemask_epi8(_mm_loadu_si128((const __m128i_u *)at));
        if (high_bits != 0)
            return at + __builtin_ctz((unsigned)high_bits);
        at += 16;
    }
    return skip_scalar(at, end);
}

__attribute__((target("avx2"))) static inline const uint8_t *skip_avx2(const uint8_t *at,
                                                                       const uint8_t *end) {
    while (end - at >= 32) {
        int high_bits = _mm256_movemask_epi8(_mm256_loadu_si256((const __m256i_u *)at));
        if (high_bits != 0)
            return at + __builtin_ctz((unsigned)high_bits);
        at += 32;
    }
    return skip_sse2(at, end);
}
#endif

static inline __attribute__((always_inline)) uint32_t run(uint32_t state, struct sc_bytes bytes,
                                                          ascii_skipper *skip) {
    if (bytes.size == 0)
        return state; // Its data may be NULL.
    const uint8_t *at = bytes.data;
    const uint8_t *end = at + bytes.size;
    while (at < end) {
        if (state == SC_UTF8_ACCEPT)
            at = skip(at, end);
        // From here to the next ASCII byte that starts a character.
        while (at < end && (state != SC_UTF8_ACCEPT || *at >= 0x80)) {
            state = next_states[state + byte_classes[*at]];
            if (state == SC_UTF8_REJECT)
                return state;
            at++;
        }
    }
    return state;
}

#if defined(__x86_64__)
static uint32_t run_sse2(uint32_t state, struct sc_bytes bytes) {
    return run(state, bytes, skip_sse2);
}

__attribute__((target("avx2"))) static uint32_t run_avx2(uint32_t state, struct sc_bytes bytes) {
    return run(state, bytes, skip_avx2);
}
#endif

uint32_t sc_utf8_continue_at(enum sc_simd_level level, uint32_t state, struct sc_bytes bytes) {
    assert(level <= sc_simd_level());
    assert(state < sizeof next_states && state % BYTE_CLASS_COUNT == 0);
    switch (level) {
#if defined(__x86_64__)
    case SC_SIMD_AVX2:
        return run_avx2(state, bytes);
    case SC_SIMD_SSE2:
        return run_sse2(state, bytes);
#endif
    default:
        return run(state, bytes, skip_scalar);
    }
}

uint32_t sc_utf8_continue(uint32_t state, struct sc_bytes bytes) {
    return sc_utf8_continue_at(sc_simd_level(), state, bytes);
}

bool sc_utf8_valid(struct sc_bytes bytes) {
    return sc_utf8_continue(SC_UTF8_ACCEPT, bytes) == SC_UTF8_ACCEPT;
}
