// Chunks: memory for frames, with a reference for each slice of them that somebody holds.
#include <stdlib.h>

#include "transport_private.h"

#define FREE_CHUNKS_MAX 64u

static struct chunk *chunk_make(struct chunks *chunks, size_t capacity) {
    if (capacity == CHUNK_SIZE && chunks->free != NULL) {
        struct chunk *chunk = chunks->free;
        chunks->free = chunk->next_free;
        chunks->free_count--;
        chunk->references = 1;
        return chunk;
    }
    struct chunk *chunk = sc_allocate(sizeof *chunk + capacity);
    *chunk = (struct chunk){.references = 1, .capacity = (uint32_t)capacity};
    chunk->data = (uint8_t *)(chunk + 1);
    return chunk;
}

void sc_chunks_recycle(struct chunks *chunks, struct chunk *chunk) {
    chunk->size = 0;
    if (chunk->capacity == CHUNK_SIZE && chunks->free_count < FREE_CHUNKS_MAX) {
        chunk->next_free = chunks->free;
        chunks->free = chunk;
        chunks->free_count++;
        return;
    }
    sc_blob_release(chunk->external);
    free(chunk);
}

static void chunk_release(struct chunks *chunks, struct chunk *chunk) {
    sc_chunks_release(chunks, (struct slice){.chunk = chunk});
}

struct slice sc_chunks_take(struct chunks *chunks, uint32_t lane, size_t size) {
    assert(size > 0 && size <= UINT32_MAX / 2);
    if (size > CHUNK_SIZE / 4) {
        // Of its own: its end would otherwise leave most of a chunk unused. Never of the pool's size, by which the
        // backlog tells the two apart.
        struct chunk *own = chunk_make(chunks, size == CHUNK_SIZE ? size + 1 : size);
        own->size = (uint32_t)size;
        return (struct slice){own, 0, (uint32_t)size};
    }
    struct chunk *chunk = chunks->lanes[lane];
    if (chunk != NULL && chunk->references == 1)
        chunk->size = 0; // Only ours: all that was in it has left. The same, cache-hot bytes again.
    if (chunk == NULL || chunk->capacity - chunk->size < size) {
        if (chunk != NULL)
            chunk_release(chunks, chunk);
        chunk = chunks->lanes[lane] = chunk_make(chunks, CHUNK_SIZE);
    }
    struct slice slice = {chunk, chunk->size, (uint32_t)size};
    chunk->size += (uint32_t)size;
    chunk->references++;
    return slice;
}

void sc_chunks_trim(struct slice *slice, size_t size) {
    assert(size <= slice->size && slice->offset + slice->size == slice->chunk->size);
    slice->chunk->size = slice->offset + (uint32_t)size;
    slice->size = (uint32_t)size;
}

struct slice sc_chunks_wrap(struct chunks *chunks, struct sc_blob *blob, size_t offset) {
    struct chunk *chunk = chunk_make(chunks, 0);
    chunk->external = sc_blob_retain(blob);
    chunk->data = blob->data;
    chunk->size = blob->size;
    return (struct slice){chunk, (uint32_t)offset, (uint32_t)(blob->size - offset)};
}

void sc_chunks_deinit(struct chunks *chunks) {
    for (uint32_t lane = 0; lane < LANE_COUNT; lane++) {
        if (chunks->lanes[lane] != NULL)
            chunk_release(chunks, chunks->lanes[lane]);
        chunks->lanes[lane] = NULL;
    }
    while (chunks->free != NULL) {
        struct chunk *chunk = chunks->free;
        chunks->free = chunk->next_free;
        free(chunk);
    }
    chunks->free_count = 0;
}
