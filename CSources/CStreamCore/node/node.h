// The node: its shards' threads and loops, their start and their end, and what reaches them from other threads.
#ifndef CSTREAM_NODE_H
#define CSTREAM_NODE_H

#include "../core_functions.h"

#pragma clang assume_nonnull begin

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
