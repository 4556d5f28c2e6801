// Chance, bytes and the end of the world.
#include "world.h"

#include <stdlib.h>
#include <string.h>

uint64_t world_random(struct world *world, uint64_t below) {
    uint64_t word = world->random += 0x9e3779b97f4a7c15u;
    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
    word = (word ^ word >> 27) * 0x94d049bb133111ebu;
    return below == 0 ? 0 : (word ^ word >> 31) % below;
}

bool world_chance(struct world *world, uint64_t in) {
    return world_random(world, in) == 0;
}

// Of much, the size and both ends: most of what is sent is padding.
void world_trace(struct world *world, const void *data, size_t size) {
    const uint8_t *bytes = data;
    uint64_t hash = world->result->trace ^ size ^ world->now_ns;
    for (size_t i = 0; i < size; i = i == 64 && size > 128 ? size - 64 : i + 1)
        hash = (hash ^ bytes[i]) * 0x100000001b3u;
    world->result->trace = hash;
}

void bytes_put(struct bytes *bytes, const void *data, size_t size) {
    if (bytes->at > 0 && bytes->size + size > bytes->capacity) {
        memmove(bytes->data, bytes->data + bytes->at, bytes->size - bytes->at);
        bytes->size -= bytes->at;
        bytes->at = 0;
    }
    if (bytes->size + size > bytes->capacity) {
        bytes->capacity = 2 * (bytes->size + size);
        bytes->data = realloc(bytes->data, bytes->capacity);
        if (bytes->data == NULL)
            abort();
    }
    if (size > 0)
        memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
}

void bytes_take(struct bytes *bytes, size_t size) {
    assert(size <= bytes->size - bytes->at);
    bytes->at += size;
    if (bytes->at == bytes->size)
        bytes->at = bytes->size = 0;
}

void bytes_free(struct bytes *bytes) {
    free(bytes->data);
    *bytes = (struct bytes){0};
}

void world_free(struct world *world) {
    for (uint32_t i = 0; i < world->peer_count; i++) {
        bytes_free(&world->peers[i]->to_node);
        bytes_free(&world->peers[i]->to_client);
        free(world->peers[i]);
    }
    while (world->free_operations != NULL) {
        struct file_operation *operation = world->free_operations;
        world->free_operations = operation->next_free;
        free(operation);
    }
}
