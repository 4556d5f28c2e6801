// Ids that nobody can guess, made of numbers.
#include "CStreamProtocol.h"

// SipHash is a keyed hash for short inputs (Aumasson and Bernstein, 2012): whoever sees ids learns neither the key nor the
// next id, and the node keeps no table of the ids that it gave.
static void sip_round(uint64_t v[4]) {
    v[0] += v[1];
    v[2] += v[3];
    v[1] = (v[1] << 13 | v[1] >> 51) ^ v[0];
    v[3] = (v[3] << 16 | v[3] >> 48) ^ v[2];
    v[0] = v[0] << 32 | v[0] >> 32;
    v[2] += v[1];
    v[0] += v[3];
    v[1] = (v[1] << 17 | v[1] >> 47) ^ v[2];
    v[3] = (v[3] << 21 | v[3] >> 43) ^ v[0];
    v[2] = v[2] << 32 | v[2] >> 32;
}

// SipHash-2-4 of the eight bytes of `number`, with 128 bits of output.
static void sip_hash(const uint64_t key[2], uint64_t number, uint64_t out[2]) {
    uint64_t v[4] = {key[0] ^ 0x736f6d6570736575, key[1] ^ 0x646f72616e646f6d ^ 0xee,
                     key[0] ^ 0x6c7967656e657261, key[1] ^ 0x7465646279746573};
    const uint64_t words[2] = {number, (uint64_t)sizeof number << 56};
    for (unsigned word = 0; word < 2; word++) {
        v[3] ^= words[word];
        sip_round(v);
        sip_round(v);
        v[0] ^= words[word];
    }
    v[2] ^= 0xee;
    for (unsigned half = 0; half < 2; half++) {
        for (unsigned round = 0; round < 4; round++)
            sip_round(v);
        out[half] = v[0] ^ v[1] ^ v[2] ^ v[3];
        v[1] ^= 0xdd;
    }
}

void sc_uuid_write(uint8_t out[SC_UUID_SIZE], uint64_t number, const uint64_t key[2]) {
    uint64_t halves[2];
    sip_hash(key, number, halves);
    halves[0] = (halves[0] & ~0xf000ull) | 0x4000;
    halves[1] = (halves[1] & ~(3ull << 62)) | 2ull << 62;
    size_t at = 0;
    for (unsigned digit = 0; digit < 32; digit++) {
        if (digit == 8 || digit == 12 || digit == 16 || digit == 20)
            out[at++] = '-';
        out[at++] = (uint8_t)"0123456789abcdef"[halves[digit / 16] >> (60 - 4 * (digit % 16)) & 15];
    }
}
