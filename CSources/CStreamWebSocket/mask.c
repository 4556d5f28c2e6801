// XOR with a repeated 4-byte mask (RFC 6455 section 5.3), and which vector instructions there are.
#include "CStreamWebSocket.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

static enum sc_simd_level detect(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") ? SC_SIMD_AVX2 : SC_SIMD_SSE2;
#else
    return SC_SIMD_SCALAR; // The compiler makes vectors of the scalar loops by itself.
#endif
}

enum sc_simd_level sc_simd_level(void) {
    // Threads that race here all store the same value.
    static _Atomic int known = -1;
    int level = atomic_load_explicit(&known, memory_order_relaxed);
    if (level < 0) {
        level = (int)detect();
        atomic_store_explicit(&known, level, memory_order_relaxed);
    }
    return (enum sc_simd_level)level;
}

// XORs with `key`, the mask twice in a row.
static void mask_scalar(uint8_t *data, size_t size, uint64_t key) {
    while (size >= 8) {
        uint64_t word;
        memcpy(&word, data, 8);
        word ^= key;
        memcpy(data, &word, 8);
        data += 8;
        size -= 8;
    }
    if (size >= 4) {
        uint32_t word;
        memcpy(&word, data, 4);
        word ^= (uint32_t)key;
        memcpy(data, &word, 4);
        data += 4;
        size -= 4;
    }
    for (size_t i = 0; i < size; i++)
        data[i] ^= (uint8_t)(key >> (8 * i));
}

#if defined(__x86_64__)
static void mask_sse2(uint8_t *data, size_t size, uint64_t key) {
    __m128i keys = _mm_set1_epi64x((long long)key);
    while (size >= 16) {
        __m128i block = _mm_loadu_si128((const __m128i_u *)data);
        _mm_storeu_si128((__m128i_u *)data, _mm_xor_si128(block, keys));
        data += 16;
        size -= 16;
    }
    mask_scalar(data, size, key);
}

__attribute__((target("avx2"))) static void mask_avx2(uint8_t *data, size_t size, uint64_t key) {
    __m256i keys = _mm256_set1_epi64x((long long)key);
    while (size >= 32) {
        __m256i block = _mm256_loadu_si256((const __m256i_u *)data);
        _mm256_storeu_si256((__m256i_u *)data, _mm256_xor_si256(block, keys));
        data += 32;
        size -= 32;
    }
    if (size >= 16) {
        __m128i block = _mm_loadu_si128((const __m128i_u *)data);
        block = _mm_xor_si128(block, _mm256_castsi256_si128(keys));
        _mm_storeu_si128((__m128i_u *)data, block);
        data += 16;
        size -= 16;
    }
    mask_scalar(data, size, key);
}
#endif

void sc_ws_mask_at(enum sc_simd_level level, uint8_t *data, size_t size, const uint8_t mask[4],
                   unsigned phase) {
    assert(level <= sc_simd_level());
    assert(phase < 4);
    uint32_t word;
    memcpy(&word, mask, 4);
    const uint64_t twice = 0x100000001u;
    uint64_t key = (uint32_t)(word * twice >> 8 * phase) * twice;
    switch (level) {
#if defined(__x86_64__)
    case SC_SIMD_AVX2:
        mask_avx2(data, size, key);
        return;
    case SC_SIMD_SSE2:
        mask_sse2(data, size, key);
        return;
#endif
    default:
        mask_scalar(data, size, key);
    }
}

void sc_ws_mask(uint8_t *data, size_t size, const uint8_t mask[4], unsigned phase) {
    sc_ws_mask_at(sc_simd_level(), data, size, mask, phase);
}
