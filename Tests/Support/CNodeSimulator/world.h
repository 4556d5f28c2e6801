// The world around the node: sockets, clock, disk. One thread, no locks.
#ifndef NODE_SIMULATOR_WORLD_H
#define NODE_SIMULATOR_WORLD_H

#include "CNodeSimulator.h"
#include "backend.h"
#include "disk.h"

#pragma clang assume_nonnull begin

#define SHARDS_MAX 4u
#define PEERS_MAX 512u
#define LISTENERS_MAX 8u
/// Descriptors of simulated sockets. No real one is so large: a system call on it fails, and does no harm.
#define SOCKET_FD_BASE (1 << 24)

/// Bytes in order: taken from the front, put at the back.
struct bytes {
    uint8_t *_Nullable data;
    size_t at, size, capacity;
};
void bytes_put(struct bytes *bytes, const void *data, size_t size);
void bytes_take(struct bytes *bytes, size_t size);
void bytes_free(struct bytes *bytes);
static inline const uint8_t *bytes_front(const struct bytes *bytes) {
    return bytes->data + bytes->at;
}
static inline size_t bytes_left(const struct bytes *bytes) {
    return bytes->size - bytes->at;
}

/// A connection, with both of its ends.
struct peer {
    uint32_t index;
    struct bytes to_node;   // Written by the client, not received yet.
    struct bytes to_client; // Taken by the socket, not read by the client yet.
    size_t room;            // How much the socket takes before the client reads.
    bool client_ended;      // FIN after `to_node`.
    bool node_ended;        // FIN after `to_client`.
    bool closed;            // The node has closed its end.
    // Operations of the node.
    struct shard_backend *_Nullable backend;
    bool receiving, once, sending;
    uint64_t receive_tag, send_tag;
    struct sc_bytes piece; // Of the send that waits.
};

struct listener {
    int fd;
    bool armed;
    uint64_t tag;
    struct shard_backend *backend;
};

/// An operation on a file on its way to the disk: the disk completes on nobody's thread, the shard takes it in a turn.
struct file_operation {
    struct sc_file_op op; // The disk's.
    struct sc_file_op *real;
    struct shard_backend *backend;
    struct file_operation *_Nullable next_free;
};

struct shard_backend {
    struct sc_backend base;
    struct world *world;
    uint32_t index;
    struct sc_completion *_Nullable queue; // Oldest first.
    size_t queue_at, queue_size, queue_capacity;
    uint32_t *_Nullable free_buffers;
    uint32_t free_count;
};

struct world {
    uint64_t random;
    uint64_t now_ns;
    int64_t wall_offset_ms;
    bool eager; // While the node starts or stops: who would sleep gets what is under way.
    struct shard_backend *_Nullable shards[SHARDS_MAX];
    uint32_t shard_count;
    struct peer *_Nullable peers[PEERS_MAX];
    uint32_t peer_count;
    struct listener listeners[LISTENERS_MAX];
    uint32_t listener_count;
    struct sim_disk *_Nullable disk;
    struct file_operation *_Nullable free_operations;
    struct node_simulator_result *result;
};

extern const struct sc_backend_kind world_backend;

uint64_t world_random(struct world *world, uint64_t below);
/// True once in `in` times.
bool world_chance(struct world *world, uint64_t in);
/// Mixes bytes into the trace.
void world_trace(struct world *world, const void *data, size_t size);
/// A client connects. NULL: nobody accepts now.
struct peer *_Nullable world_connect(struct world *world, uint32_t listener, size_t room);
/// Hands a part of what the client has written to the node, or its end. False: there is nothing, or nobody receives.
bool world_deliver(struct world *world, struct peer *peer, size_t most);
/// The client has read: a send that waits goes on.
void world_make_room(struct world *world, struct peer *peer);
/// Anything that a shard may do in its next turn.
bool world_has_completions(const struct world *world, uint32_t shard);
void world_free(struct world *world);

#pragma clang assume_nonnull end

#endif
