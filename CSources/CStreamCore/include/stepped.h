// A node without threads: whoever starts it makes each turn of each shard, and so decides the order of everything. For tests
// that replay from a seed.
#ifndef CSTREAM_STEPPED_H
#define CSTREAM_STEPPED_H

#include "CStreamCore.h"

#pragma clang assume_nonnull begin

struct sc_backend_kind;

/// Borrowed until the node has stopped.
struct sc_node_stepper {
    const struct sc_backend_kind *backend; // Of the loops of all shards: see backend.h.
    void *context;                         // Theirs too.
    /// Lets the shards go on, where a node with threads would wait for them: while it stops, and for counters.
    void (*step)(void *context);
};

/// Starts the node on the calling thread, which is that of all calls from here on. Otherwise as sc_node_start. While it
/// runs, the loops' files complete without turns of their own.
SC_CHECKED int sc_node_start_stepped(struct sc_node *node, const struct sc_node_stepper *stepper,
                                     char *reason, size_t reason_size);
/// One turn of one shard.
void sc_node_turn(struct sc_node *node, uint32_t shard);

#pragma clang assume_nonnull end

#endif
