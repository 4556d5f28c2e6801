// What every C target of the project shares: byte views, reference-counted blobs, asserts, limits.
#ifndef CSTREAM_BASE_H
#define CSTREAM_BASE_H

#include <assert.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/types.h>

#ifdef NDEBUG
#error "asserts stay on in release builds"
#endif
#if !defined(__linux__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the core needs 64-bit little-endian Linux"
#endif

#define SC_CHECKED __attribute__((warn_unused_result))

#include "account.h"
#include "file_ops.h"
#include "heap.h"
#include "limits.h"
#include "rate.h"
#include "wait_list.h"

#pragma clang assume_nonnull begin

_Static_assert(sizeof(size_t) == 8, "the core needs a 64-bit machine");

/// A borrowed view of `size` bytes. `data` may be NULL only when `size` is 0.
struct sc_bytes {
    const uint8_t *_Nullable data;
    size_t size;
};

/// A view of a string literal, without its terminator.
#define SC_LITERAL(text) ((struct sc_bytes){(const uint8_t *)(text), sizeof(text) - 1})

/// Most comparisons are of short names and keys, for which two overlapping loads take the place of a call.
static inline bool sc_bytes_equal(struct sc_bytes a, struct sc_bytes b) {
    if (a.size != b.size)
        return false;
    if (a.size > 16)
        return memcmp(a.data, b.data, a.size) == 0;
    if (a.size >= 8) {
        uint64_t first[2], last[2];
        memcpy(&first[0], a.data, 8);
        memcpy(&first[1], b.data, 8);
        memcpy(&last[0], a.data + a.size - 8, 8);
        memcpy(&last[1], b.data + a.size - 8, 8);
        return first[0] == first[1] && last[0] == last[1];
    }
    if (a.size >= 4) {
        uint32_t first[2], last[2];
        memcpy(&first[0], a.data, 4);
        memcpy(&first[1], b.data, 4);
        memcpy(&last[0], a.data + a.size - 4, 4);
        memcpy(&last[1], b.data + a.size - 4, 4);
        return first[0] == first[1] && last[0] == last[1];
    }
    for (size_t i = 0; i < a.size; i++)
        if (a.data[i] != b.data[i])
            return false;
    return true;
}

/// The first and the last `width` bytes of `size`, which may overlap; all are read before any is written.
static inline void sc_bytes_write_ends(uint8_t *out, const uint8_t *data, size_t size,
                                       size_t width) {
    uint8_t first[16], last[16];
    memcpy(first, data, width);
    memcpy(last, data + size - width, width);
    memcpy(out, first, width);
    memcpy(out + size - width, last, width);
}

/// Copies `bytes` to `out` and returns what follows. For what is mostly short: that takes no call.
static inline uint8_t *sc_bytes_write(uint8_t *out, struct sc_bytes bytes) {
    const uint8_t *data = bytes.data;
    size_t size = bytes.size;
    if (size > 64) {
        memcpy(out, data, size);
    } else if (size >= 16) {
        if (size > 32)
            sc_bytes_write_ends(out + 16, data + 16, size - 32, 16);
        sc_bytes_write_ends(out, data, size, 16);
    } else if (size >= 8) {
        sc_bytes_write_ends(out, data, size, 8);
    } else if (size >= 4) {
        sc_bytes_write_ends(out, data, size, 4);
    } else {
        for (size_t i = 0; i < size; i++)
            out[i] = data[i];
    }
    return out + size;
}

/// The bytes of a text that is given as parts.
static inline uint64_t sc_parts_size(const struct sc_bytes *parts, size_t count) {
    uint64_t size = 0;
    // One by one: a vector would load what has just been stored in halves, and wait for that.
#pragma clang loop vectorize(disable)
    for (size_t i = 0; i < count; i++)
        size += parts[i].size;
    return size;
}

/// Immutable bytes shared between threads. The creator fills `data` before it shares the blob.
///
/// Thread: retain and release from any thread.
struct sc_blob {
    _Atomic uint32_t references; // With SC_BLOB_OF_HEAP where its memory is a heap's.
    uint32_t size;
    uint8_t data[];
};
#define SC_BLOB_OF_HEAP (1u << 31)

/// Makes a blob of `size` bytes with one reference and undefined contents. NULL when memory is out.
struct sc_blob *_Nullable sc_blob_create(size_t size);
/// The same with memory of `heap`, unless it is too large for one. Thread: that of the heap.
struct sc_blob *_Nullable sc_blob_create_in(struct sc_heap *heap, size_t size);

static inline struct sc_blob *sc_blob_retain(struct sc_blob *blob) {
    atomic_fetch_add_explicit(&blob->references, 1, memory_order_relaxed);
    return blob;
}

/// Whether there are more references than one. For whom the one is: nobody else can make more of them.
static inline bool sc_blob_is_shared(const struct sc_blob *blob) {
    return (atomic_load_explicit(&blob->references, memory_order_acquire) & ~SC_BLOB_OF_HEAP) > 1;
}

/// How many references there are. More may come or go meanwhile, where others hold some.
static inline uint32_t sc_blob_references(const struct sc_blob *blob) {
    return atomic_load_explicit(&blob->references, memory_order_acquire) & ~SC_BLOB_OF_HEAP;
}

/// Gives one reference back and frees the blob with the last one. `blob` may be NULL.
void sc_blob_release(struct sc_blob *_Nullable blob);

static inline struct sc_bytes sc_blob_bytes(const struct sc_blob *blob) {
    return (struct sc_bytes){blob->data, blob->size};
}

/// A byte string that grows: the target of everything that writes text. All zero is an empty buffer.
///
/// A failed allocation sets `failed`; later appends do nothing. Look once, at the end.
struct sc_buffer {
    uint8_t *_Nullable data;
    size_t size;
    size_t capacity;
    bool failed;
};

/// Makes room for `size` more bytes and returns where they go, or NULL (and sets `failed`).
uint8_t *_Nullable sc_buffer_reserve(struct sc_buffer *buffer, size_t size);
void sc_buffer_append(struct sc_buffer *buffer, const void *_Nullable data, size_t size);
void sc_buffer_deinit(struct sc_buffer *buffer);

static inline void sc_buffer_append_bytes(struct sc_buffer *buffer, struct sc_bytes bytes) {
    sc_buffer_append(buffer, bytes.data, bytes.size);
}

static inline struct sc_bytes sc_buffer_bytes(const struct sc_buffer *buffer) {
    return (struct sc_bytes){buffer->data, buffer->size};
}

/// Makes an array of `old_size` bytes one of `new_size` (not less); NULL when memory is out, the array is as it was
/// then. A large one is mapped by itself: growing copies nothing, leaves no hole of its old size behind,
/// and what is not used of it takes no memory. The first time `array` is NULL and `old_size` 0.
SC_CHECKED void *_Nullable sc_array_grow(void *_Nullable array, size_t old_size, size_t new_size);
void sc_array_free(void *_Nullable array, size_t size);

/// Hashes `bytes` with a seed, 64 bits, well mixed in all of them. The seed keeps hostile names from
/// choosing their bucket.
uint64_t sc_hash(struct sc_bytes bytes, uint64_t seed);

/// Writes `value` in decimal and returns the number of digits, at most 20.
size_t sc_decimal_write(uint8_t *out, uint64_t value);

// ---- Hash table

/// Embedded in what a table holds. `next` is the table's; `hash` is set by the caller before insert.
struct sc_table_node {
    struct sc_table_node *_Nullable next;
    uint64_t hash;
};

/// A chained table that grows and shrinks step by step: no change moves more than a few chains. All zero is
/// empty.
struct sc_table {
    struct sc_table_node *_Nullable *_Nullable buckets;
    struct sc_table_node *_Nullable *_Nullable old_buckets; // While resizing: chains not moved yet.
    size_t mask, old_mask, moved;
    size_t count;
    struct sc_heap
        *_Nullable heap; // Where small arrays of buckets come from, if set before the first node.
};

/// The first node with `hash`; go on with sc_table_next and compare the keys.
struct sc_table_node *_Nullable sc_table_first(struct sc_table *table, uint64_t hash);
static inline struct sc_table_node *_Nullable sc_table_next(const struct sc_table_node *node) {
    struct sc_table_node *next = node->next;
    while (next != NULL && next->hash != node->hash)
        next = next->next;
    return next;
}
/// Errors: -ENOMEM  nothing was inserted.
SC_CHECKED int sc_table_insert(struct sc_table *table, struct sc_table_node *node);
/// `node` must be in the table (asserted).
void sc_table_remove(struct sc_table *table, struct sc_table_node *node);
/// Puts `moved`, a copy of `node`, in its place. `node` must be in the table (asserted).
void sc_table_replace(struct sc_table *table, const struct sc_table_node *node,
                      struct sc_table_node *moved);
/// Calls `body` for every node; it may not change the table.
void sc_table_for_each(struct sc_table *table,
                       void (*body)(struct sc_table_node *node, void *_Nullable context),
                       void *_Nullable context);
/// Frees the table's own memory, not the nodes.
void sc_table_deinit(struct sc_table *table);

/// Bookkeeping that nothing can do without: ends the process when memory is out. The caller frees it.
void *sc_allocate(size_t size);
void *sc_reallocate(void *_Nullable memory, size_t size);
/// sc_array_grow that never fails, as the two above.
void *sc_grow(void *_Nullable array, size_t old_size, size_t new_size);

#define SC_CONTAINER_OF(pointer, type, member)                                                     \
    ((type *)((char *)(pointer) - offsetof(type, member)))

#pragma clang assume_nonnull end

#endif
