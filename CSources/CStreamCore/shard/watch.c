// What the control plane wants to hear of, by stream: triggers, and functions that are overridden. Every
// shard has a copy, changed by commands; what nobody watches never leaves the core.
#include <stdlib.h>

#include "shard.h"

struct watch {
    struct sc_table_node node; // In shard->watches, by stream.
    uint32_t flags;
    uint16_t stream_size;
    uint8_t stream[];
};

static struct watch *watch_find(struct shard *shard, struct sc_bytes stream, uint64_t hash) {
    struct sc_table_node *node = sc_table_first(&shard->watches, hash);
    for (; node != NULL; node = sc_table_next(node)) {
        struct watch *watch = SC_CONTAINER_OF(node, struct watch, node);
        if (sc_bytes_equal((struct sc_bytes){watch->stream, watch->stream_size}, stream))
            return watch;
    }
    return NULL;
}

uint32_t sc_watch_flags_find(struct shard *shard, struct sc_bytes stream) {
    struct watch *watch = watch_find(shard, stream, sc_hash(stream, shard->node->config.seed));
    return shard->watch_all | (watch == NULL ? 0 : watch->flags);
}

static struct watch *watch_make(struct shard *shard, struct sc_bytes stream, uint64_t hash) {
    struct watch *watch = sc_allocate(sizeof *watch + stream.size);
    *watch = (struct watch){.node.hash = hash, .stream_size = (uint16_t)stream.size};
    if (stream.size > 0)
        memcpy(watch->stream, stream.data, stream.size);
    if (sc_table_insert(&shard->watches, &watch->node) < 0)
        abort(); // Bookkeeping without memory: see sc_allocate.
    return watch;
}

void sc_watch_set(struct shard *shard, struct sc_bytes stream, uint32_t flags) {
    if (stream.data == NULL) {
        shard->watch_all = flags;
        return;
    }
    assert(stream.size <= SC_NAME_SIZE_MAX);
    uint64_t hash = sc_hash(stream, shard->node->config.seed);
    struct watch *watch = watch_find(shard, stream, hash);
    if (flags == 0) {
        if (watch == NULL)
            return;
        sc_table_remove(&shard->watches, &watch->node);
        free(watch);
        return;
    }
    if (watch == NULL)
        watch = watch_make(shard, stream, hash);
    watch->flags = flags;
}

static void watch_free(struct sc_table_node *node, void *context) {
    (void)context;
    free(SC_CONTAINER_OF(node, struct watch, node));
}

void sc_watches_deinit(struct shard *shard) {
    sc_table_for_each(&shard->watches, watch_free, NULL);
    sc_table_deinit(&shard->watches);
}
