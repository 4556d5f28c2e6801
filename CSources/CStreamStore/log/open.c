// Opening a log: what was recovered goes to a new file and is flushed, whatever the page cache said.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "log.h"

static struct sc_log *make(struct sc_loop *loop, struct sc_directory *directory, uint32_t shard,
                           struct sc_store *store, const struct sc_log_events *events) {
    struct sc_log *log = calloc(1, sizeof *log);
    if (log == NULL)
        return NULL;
    log->loop = loop;
    log->ops = directory->ops;
    log->directory = directory;
    log->store = store;
    log->events = *events;
    log->shard = shard;
    log->durability = directory->config.durability;
    log->opening = true;
    log->next_batch = log->flushed = 1;
    log->segment_size = directory->config.segment_size < SC_SEGMENT_SIZE_LEAST
                            ? directory->config.segment_size
                            : SC_SEGMENT_SIZE_LEAST;
    log->current.fd = log->next.segment.fd = log->next.last_fd = log->snapshot.fd = -1;
    log->snapshot.trim_segment = log->snapshot.trim_snapshot = 1;
    if ((log->durability == SC_DURABILITY_COMMIT && !sc_pages_init(log)) ||
        sc_buffer_reserve(&log->open, sizeof(struct wal_batch_header)) == NULL) {
        free(log->pages.bytes);
        free(log);
        return NULL;
    }
    memset(log->open.data, 0, sizeof(struct wal_batch_header));
    log->open.size = sizeof(struct wal_batch_header);
    return log;
}

// Runs the steps of the log until `done`.
// The steps of segments and snapshots are those of a running log: at a start they are run one after the other, and waited
// for. A failure that a smaller file may mend is tried again at once.
static int pump(struct sc_log *log, bool (*done)(const struct sc_log *log)) {
    for (;;) {
        sc_log_turn(log, 0);
        bool tries = log->next.error != 0 && log->next.tries_at_once; // A smaller file.
        int error = log->next.error == 0 || tries ? log->snapshot.error : log->next.error;
        if (error != 0 || (!tries && done(log)))
            return error;
        int rc = log->ops->wait(log->loop);
        if (rc < 0)
            return rc;
    }
}

// The conditions that a start waits for.
static bool segment_is_ready(const struct sc_log *log) {
    return log->next.step == PREPARE_READY;
}

static bool snapshot_is_done(const struct sc_log *log) {
    return log->snapshot.step == SNAPSHOT_IDLE;
}

// A disk without room is the failure that an operator meets most: the sentence names the setting that helps, and the size.
static int explain(const struct sc_log *log, int rc, const char *what, char *reason) {
    const struct sc_directory *directory = log->directory;
    if (rc != -ENOSPC && rc != -EDQUOT)
        return sc_directory_explain(directory, rc, what, "", reason);
    snprintf(reason, SC_REASON_SIZE,
             "%s has no room for the logs of %u shards, of at least %u KiB each, and for a copy of "
             "what it has: %s; make room, or lower `shards`",
             directory->path, directory->config.shard_count, SC_SEGMENT_SIZE_LEAST >> 10,
             strerror(-rc));
    return rc;
}

// First the log, then the snapshot: the snapshot says in which segment the log goes on.
static int prepare(struct sc_log *log, char *reason) {
    int rc = pump(log, segment_is_ready);
    if (rc < 0)
        return explain(log, rc, "cannot write a log in", reason);
    bool rotated = sc_segment_rotate(log, 0);
    assert(rotated);
    (void)rotated;
    sc_snapshot_begin(log);
    rc = pump(log, snapshot_is_done);
    if (rc < 0)
        return explain(log, rc, "cannot write a snapshot in", reason);
    return 0;
}

int sc_log_open(struct sc_loop *loop, struct sc_directory *directory, uint32_t shard,
                struct sc_store *store, bool (*owns)(void *context, uint64_t group_hash),
                const struct sc_log_events *events, struct sc_log **out, char *reason) {
    struct recover_config config = {.loop = loop,
                                    .directory = directory,
                                    .reports = shard == 0,
                                    .store = store,
                                    .owns = owns,
                                    .apply = events->apply,
                                    .context = events->context};
    struct recovered recovered;
    int rc = sc_recover(&config, &recovered, reason);
    if (rc < 0)
        return rc;
    sc_store_load_finish(store, recovered.ceiling, recovered.position);
    struct sc_log *log = make(loop, directory, shard, store, events);
    if (log == NULL)
        return sc_directory_explain(directory, -ENOMEM, "cannot open", "", reason);
    log->durable = store->position;
    log->durable_ceiling = store->ceiling = recovered.ceiling;
    log->journal.calls = &sc_log_journal;
    store->journal = &log->journal;
    *out = log;
    return 0;
}

// The recovered state is written anew, whatever the page cache said: what counts from now on was written and flushed by this
// process. Nothing names it before the directory is committed, so a start that fails leaves all as it was.
int sc_log_start(struct sc_log *log, char *reason) {
    int rc = prepare(log, reason);
    if (rc < 0)
        return rc;
    log->opening = false;
    sc_buffer_deinit(&log->snapshot.bytes); // From now on its pieces are smaller.
    log->durable = log->store->position;    // The snapshot has it all.
    return 0;
}

// As after a failed write: what is in memory is what is on the disk, in the files of the last run.
void sc_log_refuse(struct sc_log *log, int error) {
    log->failed = error;
    log->opening = false;
    sc_snapshot_abandon(log);
    log->durable = log->store->position;
}
