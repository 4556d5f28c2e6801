// The node: its shards' threads and loops, their start and their end, and what reaches them from other threads.
#ifndef CSTREAM_NODE_H
#define CSTREAM_NODE_H

#include <pthread.h>

#include "../sessions/sessions.h"

#pragma clang assume_nonnull begin

/// Set in `api_callers`: the node takes no command any more.
#define NODE_CLOSED (1ull << 63)

/// All of a shard: its rooms, its thread, and its timers.
struct node_shard {
    struct sessions sessions;
    pthread_t thread;
    struct sc_timer log_timer, delay_timer, sweep_timer, compact_timer;
    // What was said last of connections that could not be taken.
    uint64_t refused_logged, accepts_failed_logged, refusals_logged_ns;
    bool quiet; // Has nothing open, and nothing under way to other shards; said so to the node.
    bool end;   // All are quiet.
    struct sc_timer stop_timer;
};
/// The shard of one of those timers, which lies so far into the struct.
static inline struct shard *shard_of_timer(struct sc_timer *timer, size_t offset) {
    struct node_shard *own = (struct node_shard *)(void *)((char *)timer - offset);
    return &own->sessions.calls.streams.shard;
}
static inline struct node_shard *node_shard_of(const struct shard *shard) {
    return SC_CONTAINER_OF(shard, struct node_shard, sessions.calls.streams.shard);
}

struct sc_node {
    struct node shared;
    struct sc_node_address *_Nullable worker_addresses;
    struct sc_directory *_Nullable directory;
    struct sc_account *account; // Of what waits for triggers and that no connection has caused.
    struct sc_account_sums *sums;
    struct listen_place *places; // Of the stream port, then of each worker port.
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t started, quiet, ended; // Shards; under the lock.
    uint32_t met;                   // How often shards have met; see sc_shards_barrier.
    int met_result;
    bool incomplete; // Some shards never were.
    int start_error;
    enum sc_start_step start_step; // At which it was.
    _Atomic int store_full; // -errno: a start found no room to write. Until all shards have met.
    char start_reason[SC_REASON_SIZE];
    bool running;
    _Atomic uint64_t
        api_callers; // Threads that post a command; with NODE_CLOSED set, none may begin.
    char backend[128];
};
static inline struct sc_node *node_of(const struct shard *shard) {
    return SC_CONTAINER_OF(shard->node, struct sc_node, shared);
}

// ---- node.c

/// Between the two the shards' loops stay. False: the node is stopping.
///
/// Thread: any.
bool sc_node_api_enter(struct sc_node *node);
void sc_node_api_leave(struct sc_node *node);

// ---- listen.c

/// Looks the names of all hosts up. It may wait for the resolver. -ENOENT and others, with the node's reason.
SC_CHECKED int sc_places_resolve(struct sc_node *node);
/// Shards do it one after the other; the first finds the ports.
SC_CHECKED int sc_shard_listen(struct shard *shard);

// ---- import.c

/// Takes the files that the original wrote into the shard's store, those of its groups. -errno and a reason.
SC_CHECKED int sc_import_originals(struct shard *shard, char *reason);

// ---- storage.c

/// Opens the shard's part of the store; all shards call it, each on its thread, with what has gone wrong so
/// far. Returns the first error of any of them.
int sc_storage_start(struct shard *shard, int rc);
/// The value that the text `operations` of an update makes of `value`, as it did when the update was called: `apply` of
/// struct sc_log_events.
SC_CHECKED int sc_operations_apply(struct sc_json_updater *updater, struct sc_json_index *scratch,
                                   struct sc_bytes value, struct sc_bytes operations,
                                   struct sc_bytes *result);
/// Writes what a turn has changed.
void sc_storage_turn(struct shard *shard);
/// Writes the last changes; sc_storage_is_idle says when that is over.
void sc_storage_finish(struct shard *shard);
bool sc_storage_is_idle(const struct shard *shard);
void sc_storage_close(struct shard *shard);
void sc_storage_close_directory(struct shard *shard);

// ---- shard_loop.c

/// The thread of a shard: `argument` is it.
void *_Nullable sc_shard_main(void *_Nullable argument);

// ---- lifecycle.c: thread: the shard's

/// A barrier: waits, while the node starts, until all shards have come here. The first error of any of them, or 0.
int sc_shards_barrier(struct shard *shard, int rc, enum sc_start_step step,
                      const char *_Nullable reason);
/// Opens the shard's listeners, if `rc` of what came before is 0, and waits until all shards have. The first error of any.
int sc_shard_report_start(struct shard *shard, int rc);
/// Waits until all shards have ended: none frees what another one may still look at.
void sc_shard_say_ended(struct shard *shard);
/// Takes no new connections, and closes the stream clients.
void sc_shard_close_clients(struct shard *shard);
/// Closes the workers too, and tells the node when nothing is open any more.
void sc_shard_stop(struct shard *shard);
/// Whether something that this shard has sent to another one is not back yet, or something here waits for the disk.
bool sc_shard_waits_for_peers(const struct shard *shard);

#pragma clang assume_nonnull end

#endif
