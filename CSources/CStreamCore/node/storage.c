// The store's files, as a shard sees them: opened before anyone may connect, written at the end of each turn.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "node.h"

_Static_assert(SC_STORE_SHARD_DESCRIPTORS < SC_DESCRIPTORS_KEPT_BACK_A_SHARD &&
                   SC_STORE_DESCRIPTORS < SC_DESCRIPTORS_KEPT_BACK,
               "clients leave the store its files");

// ---- Start

// Every shard reads every log, since the number of shards may have changed: each takes the groups that are its own now.
static bool owns(void *context, uint64_t hash) {
    struct shard *shard = context;
    return sc_shard_of(shard, hash) == shard;
}

// Thread: that of the shard that reads or writes. Lines of the log may come from any.
static void report(void *context, enum sc_report_level level, const char *event, const char *text) {
    const struct sc_node *node = context;
    static const enum sc_log_level levels[] = {SC_LOG_INFO, SC_LOG_WARN, SC_LOG_ERROR};
    struct sc_bytes detail = {(const uint8_t *)text, strlen(text)};
    node->shared.events.log(node->shared.events.context, levels[level], event, 0, detail);
}

// By the first shard, for all of them: it takes the lock, and knows which logs there are.
static int open_directory(struct shard *shard, char *reason) {
    struct sc_node *node = node_of(shard);
    const struct sc_node_storage *storage = &node->shared.config.storage;
    uint64_t random[2]; // What is stored tells nothing of the hash tables.
    if (getrandom(random, sizeof random, 0) != sizeof random) {
        snprintf(reason, SC_REASON_SIZE, "the system gives no random bytes");
        return -EIO;
    }
    static const enum sc_durability durability[] = {[SC_NODE_COMMIT] = SC_DURABILITY_COMMIT,
                                                    [SC_NODE_INTERVAL] = SC_DURABILITY_INTERVAL,
                                                    [SC_NODE_NO_SYNC] = SC_DURABILITY_NONE};
    struct sc_directory_config config = {.path = storage->path,
                                         .durability = durability[storage->durability],
                                         .flush_interval_ms = storage->flush_interval_ms,
                                         .shard_count = node->shared.shard_count,
                                         .segment_size = storage->segment_size,
                                         .random = {random[0], random[1]},
                                         .repair = storage->repair,
                                         .ops = sc_loop_files(shard->loop),
                                         .reporter = {.context = node, .report = report}};
    int rc = sc_directory_open(shard->loop, &config, &node->directory, reason);
    if (rc == 0 && node->shared.config.without_ports && !sc_directory_is_new(node->directory)) {
        snprintf(reason, SC_REASON_SIZE, "%s has a log of its own already: nothing was taken in",
                 storage->path);
        rc = -EEXIST;
    }
    return rc;
}

// The log has written up to a position: outcomes up to there leave, from the turn in which the completion came.
static void on_durable(void *context) {
    struct shard *shard = context;
    sc_outcomes_release(shard);
}

// What was not written is not in the store any more when this is called. The order is that of who may still show it: syncs that are kept,
// joins that wait with one, outcomes, and last the group that is being read. Then what has become of them leaves.
static void on_failed(void *context, int error, bool unknown) {
    struct shard *shard = context;
    shard->rollbacks++;
    sc_kept_drop_all(shard);
    sc_joins_ready_rollback(shard);
    sc_outcomes_revoke(shard, error, unknown);
    sc_reading_rollback(shard, error, unknown);
    sc_outcomes_release(shard);
}

// The one place where an update is made again: recovery and inspection must come to the very bytes that the call has made.
int sc_operations_apply(struct sc_json_updater *updater, struct sc_json_index *scratch,
                        struct sc_bytes value, struct sc_bytes operations,
                        struct sc_bytes *result) {
    if (sc_json_scan(operations, SC_JSON_DEPTH_MAX, scratch) < 0 ||
        scratch->root.kind != SC_JSON_ARRAY)
        return -EBADMSG;
    struct sc_json_update update;
    int rc = sc_json_update_apply(updater, value, scratch->root, SC_VALUE_SIZE_MAX,
                                  SC_VALUE_DEPTH_MAX, &update);
    *result = update.value;
    return rc == 0 || rc == -ENOMEM ? rc : -EBADMSG;
}

static int apply(void *context, struct sc_bytes value, struct sc_bytes operations,
                 struct sc_bytes *result) {
    struct shard *shard = context;
    return sc_operations_apply(shard->updater, &shard->index_scratch, value, operations, result);
}

// Errors that an operator mends by making room. All others end the start.
static bool is_full(int rc) {
    return rc == -ENOSPC || rc == -EDQUOT;
}

// A start reads its log, and then writes what it has read into a new one: so a log is never appended to behind an end that a crash
// has left. That takes room; without it the shard serves what it has read, and refuses changes.
static int open_log(struct shard *shard, char *reason) {
    struct sc_node *node = node_of(shard);
    struct sc_log_events events = {
        .context = shard, .on_durable = on_durable, .on_failed = on_failed, .apply = apply};
    struct sc_log *log = NULL;
    int rc = sc_log_open(shard->loop, node->directory, shard->index, shard->store, owns, &events,
                         &log, reason);
    if (rc == 0 && sc_directory_is_new(node->directory))
        rc = sc_import_originals(shard, reason);
    if (rc == 0)
        rc = sc_log_start(log, reason);
    // What was read can be served without.
    if (is_full(rc) && !sc_directory_is_new(node->directory)) {
        atomic_store_explicit(&node->store_full, rc, memory_order_relaxed);
        rc = 0;
    }
    if (rc < 0)
        sc_log_close(log);
    else
        shard->log = log;
    return rc;
}

// One rename makes the new logs those of the directory, all or none. By the first shard, when all have theirs.
static int commit_directory(struct shard *shard, char *reason) {
    struct sc_node *node = node_of(shard);
    int full = atomic_load_explicit(&node->store_full, memory_order_relaxed);
    int rc = full != 0 ? full : sc_directory_commit(shard->loop, node->directory, reason);
    if (!is_full(rc) || sc_directory_is_new(node->directory))
        return rc;
    atomic_store_explicit(&node->store_full, rc, memory_order_relaxed);
    char text[SC_REASON_SIZE];
    snprintf(text, sizeof text,
             "%s has no room for a second copy of what it has, which a start writes (%s): it is "
             "served, and changes are refused until the node is started again with more room",
             node->shared.config.storage.path, strerror(-rc));
    report(node, SC_REPORT_ERROR, "store_read_only", text);
    return 0;
}

int sc_storage_start_directory(struct shard *shard, struct start_failure *why) {
    if (shard->index != 0 || shard->node->config.storage.path == NULL)
        return 0;
    snprintf(why->reason, sizeof why->reason, "out of memory");
    int rc = open_directory(shard, why->reason);
    if (rc == -EBADMSG)
        why->step = SC_START_STORE;
    return rc;
}

int sc_storage_start_log(struct shard *shard, struct start_failure *why) {
    if (shard->node->config.storage.path == NULL)
        return 0;
    snprintf(why->reason, sizeof why->reason, "out of memory");
    int rc = open_log(shard, why->reason);
    bool writes = rc == -ENOSPC || rc == -EDQUOT || rc == -EROFS || rc == -EACCES;
    why->step = writes ? SC_START_DIRECTORY : SC_START_STORE;
    return rc;
}

int sc_storage_start_commit(struct shard *shard, struct start_failure *why) {
    if (shard->index != 0 || shard->node->config.storage.path == NULL)
        return 0;
    return commit_directory(shard, why->reason);
}

void sc_storage_started(struct shard *shard) {
    int full = atomic_load_explicit(&node_of(shard)->store_full, memory_order_relaxed);
    if (shard->log != NULL && full != 0)
        sc_log_refuse(shard->log, full);
}

// ---- Running, and the end

static void timer_due(struct sc_timer *timer) {
    (void)timer; // It only wakes the loop: the end of the turn looks at the log.
}

// A timer for each thing that is due by time. Nothing is done when the time is the one that is set already: a turn asks each time.
static void wake_at(struct shard *shard, struct sc_timer *timer, uint64_t due_ns) {
    if (due_ns == timer->due_ns)
        return;
    timer->on_due = timer_due;
    if (due_ns != 0)
        sc_timer_start_at(shard->loop, timer, due_ns);
    else
        sc_timer_stop(shard->loop, timer);
}

// The one place that writes: all changes of a turn are one batch.
void sc_storage_turn(struct shard *shard) {
    if (shard->log == NULL)
        return;
    sc_log_turn(shard->log, sc_loop_monotonic_ns(shard->loop));
    wake_at(shard, &node_shard_of(shard)->delay_timer, sc_log_delays_until(shard->log));
    // While a sync or a write is under way its end is what wakes the loop.
    uint64_t due_ns = sc_log_flush_due_ns(shard->log);
    wake_at(shard, &node_shard_of(shard)->log_timer,
            due_ns > sc_loop_monotonic_ns(shard->loop) ? due_ns : 0);
}

void sc_storage_finish(struct shard *shard) {
    if (shard->log == NULL)
        return;
    sc_log_finish(shard->log);
    sc_storage_turn(shard);
}

bool sc_storage_is_idle(const struct shard *shard) {
    return shard->log == NULL || sc_log_is_idle(shard->log);
}

// From here on the store is one in memory, whose changes count as durable: nothing may change it any more.
void sc_storage_close(struct shard *shard) {
    struct sc_log *log = shard->log;
    shard->log = NULL;
    sc_log_close(log);
}

// The last shard to go has left its files by then: sc_shard_say_ended is a barrier.
void sc_storage_close_directory(struct shard *shard) {
    if (shard->index == 0)
        sc_directory_close(shard->loop, node_of(shard)->directory);
}
