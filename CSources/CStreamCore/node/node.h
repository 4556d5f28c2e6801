// The node: its shards' threads and loops, their start and their end, and what reaches them from other threads.
#ifndef CSTREAM_NODE_H
#define CSTREAM_NODE_H

#include <pthread.h>

#include "../sessions/sessions.h"
#include "stepped.h"

#pragma clang assume_nonnull begin

/// Set in `api_callers`: the node takes no command any more.
#define NODE_CLOSED (1ull << 63)

/// All of a shard: its rooms, its thread, and its timers.
struct node_shard {
    struct sessions sessions;
    pthread_t thread;
    struct sc_timer log_timer, delay_timer, sweep_timer, compact_timer;
    // What was said last of connections that could not be taken.
    uint64_t refused_logged, addresses_refused_logged, accepts_failed_logged, refusals_logged_ns;
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

/// Steps of a start, see sc_shard_start_step.
#define START_STEPS 5u
struct start_failure {
    enum sc_start_step step;
    char reason[SC_REASON_SIZE]; // Empty: none, or the node knows it already.
};

struct sc_node {
    struct node shared;
    struct sc_node_address *_Nullable worker_addresses;
    struct sc_directory *_Nullable directory;
    struct sc_account *account; // Of what waits for triggers and that no connection has caused.
    struct sc_account_sums *sums;
    struct listen_place *places;                    // Of the stream port, then of each worker port.
    struct sc_certificates *_Nullable certificates; // Of the ports; the control plane's.
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t started, quiet, ended; // Shards; under the lock.
    uint32_t met;                   // How often shards have met; see `barrier` in lifecycle.c.
    uint32_t listening;             // Shards that have opened their listeners, or failed to.
    int met_result;
    bool incomplete; // Some shards never were.
    int start_error;
    enum sc_start_step start_step; // At which it was.
    _Atomic int store_full; // -errno: a start found no room to write. Until all shards have met.
    char start_reason[SC_REASON_SIZE];
    bool running;
    const struct sc_node_stepper *_Nullable stepper; // NULL: each shard has a thread.
    _Atomic uint64_t
        api_callers; // Threads that post a command; with NODE_CLOSED set, none may begin.
    char backend[128], backend_reason[SC_LOOP_REASON_SIZE];
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
/// Waits for `changed`, with the node's lock. Without threads it lets the shards go on instead.
void sc_node_wait(struct sc_node *node);

// ---- stepped.c

/// The end of a node without threads, in place of joining them.
void sc_stepped_end(struct sc_node *node);

// ---- listen.c

/// Looks the names of all hosts up. It may wait for the resolver. -ENOENT and others, with the node's reason.
SC_CHECKED int sc_places_resolve(struct sc_node *node);
/// Shards do it one after the other; the first finds the ports.
SC_CHECKED int sc_shard_listen(struct shard *shard);

// ---- certificates.c

/// Reads those of all ports. -errno, with the node's reason and step.
SC_CHECKED int sc_certificates_load(struct sc_node *node);
void sc_certificates_free(struct sc_certificates *_Nullable certificates);
/// Reads that of a port, the stream port being 0, if it is to be read now: see sc_node_look_at_certificate.
struct sc_certificate_look sc_certificates_look_at(struct sc_node *node, uint32_t port,
                                                   uint64_t now_seconds, bool at_once);
/// What connections to a port begin with; NULL: it speaks no TLS. The caller owns a reference.
///
/// Thread: that of the function above; a shard's, while the node starts.
struct sc_tls_context *_Nullable sc_certificates_context(const struct sc_node *node, uint32_t port);
/// The shard, which has no connections any more, gives up those of its ports.
void sc_certificates_let_go(struct shard *shard);

// ---- import.c

/// Takes the files that the original wrote into the shard's store, those of its groups. -errno and a reason.
SC_CHECKED int sc_import_originals(struct shard *shard, char *reason);

// ---- storage.c

// Steps of a start. In memory there is nothing to do.
int sc_storage_start_directory(struct shard *shard, struct start_failure *why);
int sc_storage_start_log(struct shard *shard, struct start_failure *why);
int sc_storage_start_commit(struct shard *shard, struct start_failure *why);
/// All shards have their logs: refuses changes from here on when one of them had no room.
void sc_storage_started(struct shard *shard);
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

/// The thread of a shard: `argument` is it. Does by itself what stepped.c does for shards without threads.
void *_Nullable sc_shard_main(void *_Nullable argument);
/// Makes the shard's loop, and all that it has while it runs.
int sc_shard_set_up(struct shard *shard);
/// One turn of the loop. A loop that is broken ends the process.
void sc_shard_turn(struct shard *shard);
/// After a start that failed: closes what this shard has opened.
void sc_shard_abandon(struct shard *shard);
/// Nothing is open any more: writes what the log has, and closes it.
void sc_shard_finish(struct shard *shard);
/// Frees all but the shard itself. No other shard uses this one any more.
void sc_shard_tear_down(struct shard *shard);

// ---- lifecycle.c: thread: the shard's

/// All shards take each step before any of them takes the next: they share a directory, and nobody may accept before all
/// listen, as until then nothing may be sent from shard to shard.
/// `step` is one of START_STEPS. 0 or -errno, with the reason in `why`.
int sc_shard_start_step(struct shard *shard, uint32_t step, struct start_failure *why);
/// Takes all steps, each with the others. The first error of any of them.
int sc_shard_start(struct shard *shard);
/// Notes the first failure of a start. Under the node's lock.
void sc_node_note_failure(struct sc_node *node, int rc, const struct start_failure *why);
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
