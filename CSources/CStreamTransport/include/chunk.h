// Frames on their way out: built once, in chunks of memory that all connections of a loop send from.
//
// Thread: all of it that of the loop. Counts are plain, since a chunk never leaves its loop.
#ifndef CSTREAM_TRANSPORT_CHUNK_H
#define CSTREAM_TRANSPORT_CHUNK_H

#include "CStreamBase.h"

#pragma clang assume_nonnull begin

/// Memory of many frames. It goes back to its pool with the last reference.
struct chunk {
    struct chunk *_Nullable next_free;
    uint32_t references;
    uint32_t size;
    uint32_t capacity;
    struct sc_blob *_Nullable external; // The bytes are this blob's, shared with other loops.
    uint8_t *data;
};

/// Whole frames inside a chunk. Holding one means holding a reference to the chunk.
struct slice {
    struct chunk *_Nullable chunk; // NULL: there is nothing.
    uint32_t offset;
    uint32_t size;
};

// Frames that go to the same connections should lie side by side, so that a turn's worth of them is one
// piece: one lane for what goes to a single connection, and a few for events, by topic.
#define LANE_PRIVATE 0u
#define LANE_EVENTS 1u
#define LANE_EVENT_COUNT 8u
#define LANE_SEALED (LANE_EVENTS + LANE_EVENT_COUNT) // Ciphertext: never beside plaintext.
#define LANE_COUNT (LANE_SEALED + 1)

/// A loop's chunks. All zero is an empty pool.
struct chunks {
    struct chunk *_Nullable lanes[LANE_COUNT]; // Those that are being filled.
    struct chunk *_Nullable free;
    uint32_t free_count;
};

/// Room for `size` bytes of frames (1 or more, asserted), which the caller fills. The caller owns one reference.
struct slice sc_chunks_take(struct chunks *chunks, uint32_t lane, size_t size);
/// Gives back what is over `size` of the slice that was taken last.
void sc_chunks_trim(struct slice *slice, size_t size);
/// The bytes of a blob from `offset` on, without a copy. Retains the blob; the caller owns one reference.
struct slice sc_chunks_wrap(struct chunks *chunks, struct sc_blob *blob, size_t offset);
/// A chunk without references goes to the pool, or is freed.
void sc_chunks_recycle(struct chunks *chunks, struct chunk *chunk);
/// Frees the pool. Chunks that somebody holds stay valid.
void sc_chunks_deinit(struct chunks *chunks);

static inline void sc_slice_retain(struct slice slice) {
    slice.chunk->references++;
}
/// Gives a reference up; nothing for a slice without a chunk.
static inline void sc_chunks_release(struct chunks *chunks, struct slice slice) {
    if (slice.chunk == NULL)
        return;
    assert(slice.chunk->references > 0);
    if (--slice.chunk->references == 0)
        sc_chunks_recycle(chunks, slice.chunk);
}
static inline uint8_t *slice_data(struct slice slice) {
    return slice.chunk->data + slice.offset;
}

#pragma clang assume_nonnull end

#endif
