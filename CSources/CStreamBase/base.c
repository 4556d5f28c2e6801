#ifndef _GNU_SOURCE
#define _GNU_SOURCE // mremap
#endif
#include "CStreamBase.h"

#include <stdlib.h>
#include <sys/mman.h>

struct sc_blob *sc_blob_create(size_t size) {
    if (size > UINT32_MAX)
        return NULL;
    struct sc_blob *blob = malloc(sizeof *blob + size);
    if (blob == NULL)
        return NULL;
    atomic_init(&blob->references, 1);
    blob->size = (uint32_t)size;
    return blob;
}

struct sc_blob *sc_blob_create_in(struct sc_heap *heap, size_t size) {
    if (size > SC_HEAP_SIZE_MAX - sizeof(struct sc_blob))
        return sc_blob_create(size);
    struct sc_blob *blob = sc_heap_take(heap, sizeof *blob + size);
    if (blob == NULL)
        return NULL;
    atomic_init(&blob->references, SC_BLOB_OF_HEAP | 1);
    blob->size = (uint32_t)size;
    return blob;
}

void sc_blob_release(struct sc_blob *blob) {
    if (blob == NULL)
        return;
    uint32_t before = atomic_fetch_sub_explicit(&blob->references, 1, memory_order_acq_rel);
    assert((before & ~SC_BLOB_OF_HEAP) > 0);
    if (before == 1)
        free(blob);
    else if (before == (SC_BLOB_OF_HEAP | 1))
        sc_heap_give(blob);
}

uint8_t *sc_buffer_reserve(struct sc_buffer *buffer, size_t size) {
    if (buffer->failed)
        return NULL;
    if (buffer->capacity - buffer->size < size) {
        size_t wanted = buffer->size + size;
        size_t capacity = buffer->capacity < 256 ? 256 : buffer->capacity;
        while (capacity < wanted)
            capacity += capacity < (1u << 20) ? capacity : capacity / 2;
        uint8_t *data = realloc(buffer->data, capacity);
        if (data == NULL) {
            buffer->failed = true;
            return NULL;
        }
        buffer->data = data;
        buffer->capacity = capacity;
    }
    return buffer->data + buffer->size;
}

void sc_buffer_append(struct sc_buffer *buffer, const void *data, size_t size) {
    if (size == 0)
        return;
    uint8_t *out = sc_buffer_reserve(buffer, size);
    if (out == NULL)
        return;
    memcpy(out, data, size);
    buffer->size += size;
}

void sc_buffer_deinit(struct sc_buffer *buffer) {
    free(buffer->data);
    *buffer = (struct sc_buffer){0};
}

#define MAPPED_FROM (32u << 10)

static void *map(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

void *sc_array_grow(void *array, size_t old_size, size_t new_size) {
    assert(new_size >= old_size);
    if (new_size < MAPPED_FROM)
        return realloc(array, new_size);
    if (old_size >= MAPPED_FROM) {
        void *moved = mremap(array, old_size, new_size, MREMAP_MAYMOVE);
        return moved == MAP_FAILED ? NULL : moved;
    }
    void *mapped = map(new_size);
    if (mapped == NULL)
        return NULL;
    if (old_size > 0)
        memcpy(mapped, array, old_size);
    free(array);
    return mapped;
}

void sc_array_free(void *array, size_t size) {
    if (size < MAPPED_FROM)
        free(array);
    else
        (void)munmap(array, size);
}

static inline uint64_t mix(uint64_t a, uint64_t b) {
    unsigned __int128 product = (unsigned __int128)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

static inline uint64_t load(const uint8_t *data, size_t size) {
    uint64_t word = 0;
    memcpy(&word, data, size);
    return word;
}

// At most 8 bytes as a number. Overlapping loads instead of a copy of a size that nobody knows beforehand.
static inline uint64_t load_tail(const uint8_t *data, size_t size) {
    if (size >= 8)
        return load(data, 8);
    if (size >= 4)
        return load(data, 4) | load(data + size - 4, 4) << 8 * (size - 4);
    if (size == 0)
        return 0;
    return data[0] | (uint64_t)data[size / 2] << 8 * (size / 2) |
           (uint64_t)data[size - 1] << 8 * (size - 1);
}

// A multiply-and-fold hash over 16 bytes a step; the size enters the last step, so that no padding
// makes two different strings the same.
uint64_t sc_hash(struct sc_bytes bytes, uint64_t seed) {
    static const uint64_t k0 = 0x9e3779b97f4a7c15u, k1 = 0xd6e8feb86659fd93u;
    const uint8_t *data = bytes.data;
    size_t left = bytes.size;
    uint64_t state = seed ^ k0;
    while (left > 16) {
        uint64_t a = load_tail(data, 8), b = load_tail(data + 8, 8);
        state = mix(a ^ k1, b ^ state);
        data += 16;
        left -= 16;
    }
    uint64_t a = 0, b = 0;
    if (left > 8) {
        a = load_tail(data, 8);
        b = load_tail(data + 8, left - 8);
    } else if (left > 0) {
        a = load_tail(data, left);
    }
    state = mix(a ^ k1, b ^ state);
    return mix(state ^ bytes.size, k0 ^ seed);
}

size_t sc_decimal_write(uint8_t *out, uint64_t value) {
    uint8_t digits[20];
    size_t at = sizeof digits;
    // Two digits a division: every frame has a time stamp of thirteen.
    while (value >= 100) {
        uint64_t pair = value % 100;
        value /= 100;
        digits[--at] = (uint8_t)('0' + pair % 10);
        digits[--at] = (uint8_t)('0' + pair / 10);
    }
    if (value >= 10) {
        digits[--at] = (uint8_t)('0' + value % 10);
        value /= 10;
    }
    digits[--at] = (uint8_t)('0' + value);
    memcpy(out, digits + at, sizeof digits - at);
    return sizeof digits - at;
}
