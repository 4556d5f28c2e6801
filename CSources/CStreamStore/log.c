// The log of one shard: batches of records, one under way, the next one collecting meanwhile.
#include <errno.h>
#include <stdlib.h>

#include "crc32c.h"
#include "log_private.h"

// ---- What the store says

// Without a prepared segment, what does not fit the current one any more has nowhere to go.
static bool has_room(const struct sc_log *log, size_t size) {
    const struct segment *segment = &log->current;
    uint64_t needed = wal_padded(log->open.size + size) + log->flying_size;
    return segment->size - segment->offset >= needed;
}

int sc_log_reserve(struct sc_log *log, size_t names, size_t value) {
    if (log == NULL)
        return 0;
    assert(!log->opening);
    size_t size = wal_record_size(names, value);
    int rc = log->failed;
    if (rc == 0 && !has_room(log, size))
        rc = sc_segment_error(log, log->open.size + size);
    if (rc == 0 && log->open.size + size > UINT32_MAX / 2)
        rc = -ENOBUFS;
    if (rc == 0 && sc_buffer_reserve(&log->open, size) == NULL) {
        log->open.failed = false; // What was collected is still good.
        rc = -ENOMEM;
    }
    if (rc == 0 && log->too_large != 0 && size >= log->too_large && !has_room(log, size))
        rc = -ENOSPC; // Alone: what waits beside it need not fail with it.
    if (rc == 0)
        rc = sc_undo_reserve(&log->undo, names);
    if (rc < 0)
        log->counters.changes_refused++;
    return rc;
}

static void append(struct sc_log *log, const struct wal_record *record) {
    sc_wal_record_write(&log->open, record);
    assert(!log->open.failed);
    log->open_count++;
    log->open_position = record->header.position;
    log->counters.records++;
}

void sc_log_set(struct sc_log *log, const struct sc_group_name *name, const struct item *item,
                struct sc_blob *old) {
    if (log == NULL)
        return;
    struct sc_bytes id = {item->id, item->id_size};
    struct wal_record record = {.header = {.kind = WAL_SET,
                                           .position = log->store->position,
                                           .place = item->place,
                                           .stamp_ms = item->stamp},
                                .stream = name->stream,
                                .group = name->group,
                                .item = id,
                                .value = sc_blob_bytes(item->value)};
    append(log, &record);
    sc_undo_push(&log->undo, name, id, log->store->position, old, item->place);
}

size_t sc_log_operations_size(const struct sc_operations *operations) {
    return sizeof(struct wal_update) + operations->text.size;
}

// A start applies them again. So that it does not take long for a log that is short, their work leads to a snapshot, and
// until that is taken to values once more.
bool sc_log_takes(const struct sc_log *log, const struct sc_operations *operations, size_t size) {
    if (log == NULL || log->events.apply == NULL ||
        size < log->directory->config.update_size_least ||
        sc_log_operations_size(operations) > size / SC_LOG_UPDATE_RATIO)
        return false;
    uint64_t most = 2 * sc_snapshot_work_max(log);
    return operations->work <= most && log->replay_work <= most - operations->work;
}

void sc_log_update(struct sc_log *log, const struct sc_group_name *name, const struct item *item,
                   struct sc_blob *old, const struct sc_operations *operations) {
    struct sc_bytes id = {item->id, item->id_size}, base = sc_blob_bytes(old),
                    result = sc_blob_bytes(item->value);
    struct wal_record record = {
        .header = {.kind = WAL_UPDATE,
                   .position = log->store->position,
                   .place = item->place,
                   .stamp_ms = item->stamp},
        .stream = name->stream,
        .group = name->group,
        .item = id,
        .value = operations->text,
        .update = {.base_size = (uint32_t)base.size,
                   .base_checksum = sc_crc32c(0, base.data, base.size),
                   .result_size = (uint32_t)result.size,
                   .result_checksum = sc_crc32c(0, result.data, result.size)}};
    append(log, &record);
    log->replay_work += operations->work;
    log->counters.updates++;
    sc_undo_push(&log->undo, name, id, log->store->position, old, item->place);
}

void sc_log_delete(struct sc_log *log, const struct sc_group_name *name, const struct item *item) {
    if (log == NULL)
        return;
    struct sc_bytes id = {item->id, item->id_size};
    struct wal_record record = {
        .header = {.kind = WAL_DELETE, .position = log->store->position, .stamp_ms = item->stamp},
        .stream = name->stream,
        .group = name->group,
        .item = id};
    append(log, &record);
    sc_undo_push(&log->undo, name, id, log->store->position, item->value, item->place);
}

void sc_log_raise_ceiling(struct sc_log *log, uint64_t stamp, bool changes) {
    if (!changes && (log->opening || sc_log_reserve(log, 0, 0) < 0))
        return; // Nothing can be written: the clock has to do.
    log->store->ceiling = stamp + SC_LOG_STAMP_RESERVE_MS;
    if (changes)
        return;
    struct wal_record record = {
        .header = {.kind = WAL_MARK, .position = ++log->store->position, .stamp_ms = stamp}};
    append(log, &record);
}

// ---- Batches

static void batch_written(struct sc_file_op *op, ssize_t result);
static void current_synced(struct sc_file_op *op, ssize_t result);

static void begin_open_batch(struct sc_log *log) {
    static const uint8_t room[sizeof(struct wal_batch_header)];
    log->open.size = 0;
    sc_buffer_append(&log->open, room, sizeof room);
    log->open_count = 0;
}

static void write_flying(struct sc_log *log) {
    log->op.on_complete = batch_written;
    log->op.site = SC_SITE_BATCH;
    log->busy = true;
    if (log->current.direct) {
        sc_pages_write(log);
        return;
    }
    const uint8_t *bytes = log->flying.data + log->flying_written;
    uint32_t size = (uint32_t)(log->flying.size - log->flying_written);
    uint64_t offset = log->current.offset + log->flying_written;
    if (log->durability == SC_DURABILITY_COMMIT)
        log->ops->write_sync(log->loop, &log->op, log->current.fd, bytes, size, offset);
    else
        log->ops->write(log->loop, &log->op, log->current.fd, bytes, size, offset);
}

static uint64_t newest_stamp(const struct sc_log *log) {
    uint64_t newest = log->store->floor;
    for (const struct sc_group *group = log->store->all_first; group != NULL;
         group = group->all_next)
        if (group->newest > newest)
            newest = group->newest;
    return newest;
}

// Zeros up to the end of the page: what is written over as a whole the kernel does not have to read first, in case
// it has forgotten what is there. They are there already.
static void fill_page(struct sc_log *log) {
    static const uint8_t zeros[SC_LOG_PAGE_SIZE];
    uint64_t page_size = log->directory->config.page_size;
    uint64_t end = log->current.offset + log->flying_size;
    uint64_t fill = (page_size - end % page_size) % page_size;
    sc_buffer_append(&log->flying, zeros, fill);
    log->flying.failed = false; // Then without.
}

// The open batch takes off, and an empty one takes its place.
static void seal(struct sc_log *log) {
    uint8_t padding[WAL_ALIGNMENT] = {0};
    struct wal_batch_header header = {.magic = WAL_BATCH_MAGIC,
                                      .size = (uint32_t)log->open.size,
                                      .count = log->open_count,
                                      .epoch = log->directory->epoch,
                                      .number = log->next_batch++,
                                      .synced = log->synced,
                                      .ceiling_ms =
                                          log->finishing ? newest_stamp(log) : log->store->ceiling};
    sc_wal_batch_seal(log->open.data, &header, log->current.seed);
    sc_buffer_append(&log->open, padding, wal_padded(log->open.size) - log->open.size);
    if (log->open.failed)
        abort(); // Eight bytes.
    struct sc_buffer buffer = log->flying;
    log->flying = log->open;
    log->open = buffer;
    log->flying_size = log->flying.size;
    log->flying_written = 0;
    log->flying_count = log->open_count;
    log->flying_position = log->open_position;
    log->flying_ceiling = header.ceiling_ms;
    log->took_off_ns = log->now_ns;
    if (log->held) {
        sc_callers_close(&log->callers);
        log->counters.batches_held++;
    }
    log->held = false;
    begin_open_batch(log);
    if (!log->current.direct)
        fill_page(log);
    write_flying(log);
}

static void poison(struct sc_log *log, int error) {
    log->failed = error;
    log->counters.failures++;
    sc_directory_report(
        log->directory, SC_REPORT_ERROR, "store_failed",
        "shard %u: writing its log failed (%s); changes are refused until the node is "
        "started again",
        log->shard, strerror(-error));
    sc_log_take_back(log, error, true);
}

// What is not durable was never seen by anyone, and now never was.
void sc_log_take_back(struct sc_log *log, int error, bool unknown) {
    sc_undo_apply(&log->undo, log->store);
    log->flying_size = 0;
    begin_open_batch(log);
    log->durable = log->store->position;
    log->store->ceiling = log->durable_ceiling;
    sc_snapshot_abandon(log); // It may hold what was taken back.
    log->callers = (struct sc_callers){0};
    log->pace = (struct sc_pace){.switches = log->pace.switches};
    log->held = false;
    log->events.on_failed(log->events.context, error, unknown);
}

// What has no name any more goes with this process, however often it is synced.
static bool is_removed(struct sc_log *log) {
    if (log->now_ns < log->look_ns)
        return false;
    log->look_ns = log->now_ns + SC_LOG_LOOK_MS * NS_PER_MS;
    return log->ops->links(log->loop, log->directory->fd) == 0 ||
           log->ops->links(log->loop, log->current.fd) == 0;
}

static void refuse_removed(struct sc_log *log) {
    log->failed = -ENOENT;
    log->counters.failures++;
    sc_directory_report(log->directory, SC_REPORT_ERROR, "store_removed",
                        "shard %u: %s or its log was removed; changes are refused until the node "
                        "is started again, and those since are lost with it",
                        log->shard, log->directory->path);
    sc_log_take_back(log, -ENOENT, false);
}

static void batch_done(struct sc_log *log) {
    log->current.offset += log->flying_size;
    log->bytes_since_snapshot += log->flying_size;
    log->counters.bytes += log->flying_size;
    log->counters.batches++;
    log->flying_size = 0;
    log->durable_ceiling = log->flying_ceiling;
    if (log->durability == SC_DURABILITY_COMMIT)
        log->synced = log->next_batch;
    else if (log->unsynced_since_ns == 0)
        log->unsynced_since_ns = log->took_off_ns;
    log->durable = log->flying_position;
    log->landed = true;
    sc_undo_forget(&log->undo, log->durable);
    sc_callers_batch(&log->callers);
    log->events.on_durable(log->events.context);
}

static void batch_written(struct sc_file_op *op, ssize_t result) {
    struct sc_log *log = SC_CONTAINER_OF(op, struct sc_log, op);
    log->busy = false;
    size_t written = result <= 0           ? 0
                     : log->current.direct ? sc_pages_written(log, (size_t)result)
                                           : (size_t)result;
    if (written == 0) {
        poison(log, result < 0 ? (int)result : -EIO);
        return;
    }
    log->flying_written += written;
    if (log->flying_written < log->flying.size)
        write_flying(log);
    else
        batch_done(log);
}

// ---- Syncs between batches, for the modes that do not sync each

static bool is_unsynced(const struct sc_log *log) {
    return log->synced < log->next_batch;
}

static void start_sync(struct sc_log *log) {
    log->op.on_complete = current_synced;
    log->op.site = SC_SITE_INTERVAL_SYNC;
    log->busy = log->syncing = true;
    log->sync_target = log->next_batch;
    log->unsynced_since_ns = 0;
    log->ops->sync(log->loop, &log->op, log->current.fd, true);
}

static void current_synced(struct sc_file_op *op, ssize_t result) {
    struct sc_log *log = SC_CONTAINER_OF(op, struct sc_log, op);
    log->busy = log->syncing = false;
    if (result < 0)
        poison(log, (int)result);
    else
        log->synced = log->sync_target;
}

// The interval is an upper bound, and the sync takes its time too: it begins after three quarters.
uint64_t sc_log_sync_due_ns(const struct sc_log *log) {
    if (log->durability != SC_DURABILITY_INTERVAL || log->unsynced_since_ns == 0)
        return 0;
    return log->unsynced_since_ns + log->directory->config.sync_interval_ms * NS_PER_MS * 3 / 4;
}

static bool sync_is_due(const struct sc_log *log) {
    if (!is_unsynced(log))
        return false;
    if (log->finishing || log->snapshot.step == SNAPSHOT_LOG)
        return true;
    uint64_t due_ns = sc_log_sync_due_ns(log);
    return due_ns != 0 && log->now_ns >= due_ns;
}

// ---- The turn

// How long the next batch waits for those who come back, at most.
static uint64_t patience_ns(const struct sc_log *log) {
    uint64_t patience = log->took_ns * SC_LOG_GATHER_FACTOR;
    return patience < SC_LOG_GATHER_MS * NS_PER_MS ? patience : SC_LOG_GATHER_MS * NS_PER_MS;
}

static void batch_has_landed(struct sc_log *log) {
    log->landed = false;
    bool paused = log->took_off_ns > log->landed_ns + 2 * patience_ns(log);
    if (log->landed_ns != 0 && !paused)
        sc_pace_batch(&log->pace, log->now_ns - log->landed_ns, log->flying_count,
                      sc_callers_come_back(&log->callers));
    log->took_ns = log->now_ns - log->took_off_ns;
    log->landed_ns = log->came_ns = log->now_ns;
}

// Once none has come for as long as a batch takes, those who wait have lost as much as those to come would save.
static uint64_t gathers_until(const struct sc_log *log) {
    uint64_t last = log->landed_ns + patience_ns(log), next = log->came_ns + log->took_ns;
    return next < last ? next : last;
}

// While it is full nobody could come.
static bool is_gathering(const struct sc_log *log) {
    return log->now_ns < gathers_until(log) && sc_callers_expected(&log->callers) > 0 &&
           sc_pace_waits(&log->pace) && !log->finishing && !sc_log_is_full(log);
}

uint64_t sc_log_gathers_until(const struct sc_log *log) {
    return !log->busy && log->open_count > 0 && is_gathering(log) ? gathers_until(log) : 0;
}

void sc_log_asked(struct sc_log *log, uint64_t caller, uint64_t now_ns) {
    if (log != NULL && log->durability == SC_DURABILITY_COMMIT &&
        sc_callers_asked(&log->callers, caller, now_ns, patience_ns(log)))
        log->came_ns = now_ns;
}

void sc_log_answered(struct sc_log *log, uint64_t caller, uint64_t now_ns) {
    if (log != NULL && log->durability == SC_DURABILITY_COMMIT)
        sc_callers_answered(&log->callers, caller, now_ns);
}

static void commit_turn(struct sc_log *log) {
    if (log->next.error == -ENOENT && !log->opening) {
        log->look_ns = 0; // No file can be made any more.
        if (is_removed(log)) {
            refuse_removed(log);
            return;
        }
    }
    if (sync_is_due(log)) {
        start_sync(log);
        return;
    }
    if (log->landed)
        batch_has_landed(log);
    if (log->open_count == 0)
        return;
    if (is_gathering(log)) {
        log->held = true;
        return;
    }
    uint64_t size = wal_padded(log->open.size);
    if (log->current.size - log->current.offset < size) {
        // All before the last segment is durable, in every mode: recovery relies on it for what it may cut.
        if (is_unsynced(log)) {
            start_sync(log);
            return;
        }
        log->look_ns = 0; // At the one that is left, and, below, at the next one.
        if (is_removed(log)) {
            refuse_removed(log);
            return;
        }
        if (!sc_segment_rotate(log, size)) {
            int error = sc_segment_error(log, size);
            if (error != 0)
                sc_log_take_back(log, error, false);
            return;
        }
        log->look_ns = 0;
    }
    if (is_removed(log))
        refuse_removed(log);
    else
        seal(log);
}

void sc_log_turn(struct sc_log *log, uint64_t now_ns) {
    log->now_ns = now_ns;
    if (log->failed == 0)
        sc_segment_turn(log);
    if (log->failed == 0 && !log->busy)
        commit_turn(log);
    sc_snapshot_turn(log);
}

uint64_t sc_log_released(const struct sc_log *log) {
    return log->durable;
}

bool sc_log_is_full(const struct sc_log *log) {
    // With no file to go to nothing is waited for: changes are refused instead.
    bool is_full = log->open.size > SC_LOG_WAITING_MAX || log->undo.value_bytes > SC_LOG_UNDO_MAX;
    return is_full && log->failed == 0 && sc_segment_error(log, log->open.size) == 0;
}

int sc_log_health(const struct sc_log *log) {
    return log->failed != 0 ? log->failed : log->next.error;
}

bool sc_log_is_poisoned(const struct sc_log *log) {
    return log->failed != 0;
}

struct sc_log_counters sc_log_counters(const struct sc_log *log) {
    struct sc_log_counters counters = log->counters;
    counters.log_bytes = log->bytes_since_snapshot;
    counters.snapshot_bytes = log->snapshot.finished_size;
    counters.pace_switches = log->pace.switches;
    return counters;
}

// ---- The end

bool sc_log_is_idle(const struct sc_log *log) {
    if (log->busy || sc_segment_is_busy(log) || sc_snapshot_is_busy(log))
        return false;
    return log->failed != 0 || sc_segment_error(log, log->open.size) != 0 ||
           (log->open_count == 0 && (!log->finishing || !is_unsynced(log)));
}

void sc_log_finish(struct sc_log *log) {
    if (log->finishing)
        return;
    sc_snapshot_abandon(log);
    // The reserve of time stamps is given back: the next start goes on from where this one ends.
    if (sc_log_reserve(log, 0, 0) == 0) {
        struct wal_record record = {
            .header = {.kind = WAL_MARK, .position = ++log->store->position}};
        append(log, &record);
    }
    log->finishing = true;
}

void sc_log_close(struct sc_log *log) {
    if (log == NULL)
        return;
    log->finishing = true;
    sc_snapshot_abandon(log);
    sc_snapshot_turn(log);
    while (log->busy || sc_segment_is_busy(log) || sc_snapshot_is_busy(log)) {
        if (log->ops->wait(log->loop) < 0)
            abort(); // A broken loop: the kernel may still write to what would be freed.
        sc_snapshot_turn(log);
    }
    if (log->store != NULL)
        log->store->log = NULL;
    sc_await_close(log->loop, log->ops, log->current.fd);
    sc_await_close(log->loop, log->ops, log->next.segment.fd);
    sc_await_close(log->loop, log->ops, log->next.last_fd);
    sc_undo_deinit(&log->undo);
    sc_buffer_deinit(&log->open);
    sc_buffer_deinit(&log->flying);
    free(log->pages.bytes);
    sc_buffer_deinit(&log->snapshot.bytes);
    free(log);
}
