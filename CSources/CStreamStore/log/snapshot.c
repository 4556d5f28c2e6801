// Compaction: a snapshot of the items, put together piece by piece while changes go on, and then the removal of
// the log's files that it replaces.
//
// It is fuzzy: an item is written as it is when the cursor comes by. Each change from the beginning on is in
// the log from `first_batch` on as well, and replaying it over the snapshot ends in the right state: a set says all
// about its item, the value and where it stands in the group, and an update that the item has already seen is known by its
// time stamp (recover.c). The snapshot counts once it has its final name, which it gets when the log has all that it
// may contain.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "log.h"

static void step_done(struct sc_file_op *op, ssize_t result);

// One operation is under way at most: its memory is in the log.
static struct sc_file_op *begin(struct sc_log *log, enum snapshot_step step, uint8_t site) {
    struct snapshot *snapshot = &log->snapshot;
    assert(!snapshot->busy);
    snapshot->step = step;
    snapshot->busy = true;
    snapshot->op.on_complete = step_done;
    snapshot->op.site = site;
    return &snapshot->op;
}

static struct cursor *cursor_of(const struct sc_log *log) {
    return &log->store->cursors[CURSOR_SNAPSHOT];
}

// ---- Pieces

// A value that takes several pieces is retained, and its names are copied: while it is written its item may be changed,
// moved or removed. The log has what it is then.
static void pin(struct snapshot *snapshot, const struct wal_record *record, struct sc_blob *value) {
    uint8_t *at = snapshot->pinned_names;
    snapshot->pinned_record = *record;
    struct sc_bytes *names[] = {&snapshot->pinned_record.stream, &snapshot->pinned_record.group,
                                &snapshot->pinned_record.item};
    for (size_t i = 0; i < 3; i++) {
        if (names[i]->size > 0)
            memcpy(at, names[i]->data, names[i]->size);
        names[i]->data = at;
        at += names[i]->size;
    }
    snapshot->pinned = sc_blob_retain(value);
    snapshot->pinned_at = 0;
}

// Writes a piece of a large value, and the item with the last one.
static void add_pinned(struct snapshot *snapshot, uint32_t *count) {
    struct sc_bytes rest = {snapshot->pinned->data + snapshot->pinned_at,
                            snapshot->pinned->size - snapshot->pinned_at};
    struct wal_record record = {.header = {.kind = WAL_PIECE}, .value = rest};
    bool last = rest.size <= SC_SNAPSHOT_PIECE_SIZE;
    if (last) {
        record = snapshot->pinned_record;
        record.value = rest;
    } else {
        record.value.size = SC_SNAPSHOT_PIECE_SIZE;
    }
    snapshot->pinned_at += record.value.size;
    sc_wal_record_write(&snapshot->bytes, &record);
    ++*count;
    if (!last)
        return;
    sc_blob_release(snapshot->pinned);
    snapshot->pinned = NULL;
    snapshot->items++;
}

// The cursor goes on before anything is written: the item may go while the piece is on its way.
static void add_item(struct snapshot *snapshot, struct cursor *cursor, uint32_t *count) {
    const struct sc_group *group = cursor->group;
    const struct item *item = cursor->item;
    struct wal_record record = {.header = {.kind = WAL_SET,
                                           .position = snapshot->begin_position,
                                           .created_at = item->created_at,
                                           .stamp_ms = item->stamp},
                                .stream = {group->stream->name, group->stream->name_size},
                                .group = {group->name, group->name_size},
                                .item = {item->id, item->id_size},
                                .value = sc_blob_bytes(item->value)};
    cursor->item = item->next;
    if (record.value.size > SC_SNAPSHOT_PIECE_SIZE) {
        pin(snapshot, &record, item->value);
        return;
    }
    sc_wal_record_write(&snapshot->bytes, &record);
    snapshot->items++;
    ++*count;
}

// Puts the next batch together. True: it is the last one. At a start nobody waits for the turn, and each batch for the disk.
static bool collect(struct sc_log *log, uint32_t *count) {
    struct snapshot *snapshot = &log->snapshot;
    struct cursor *cursor = cursor_of(log);
    bool opening = log->opening;
    uint32_t looks = opening ? UINT32_MAX : SC_SNAPSHOT_ITEMS_PER_TURN;
    size_t size = opening ? SC_SNAPSHOT_OPENING_SIZE : SC_SNAPSHOT_PIECE_SIZE;
    for (uint32_t looked = 0; looked < looks; looked++) {
        if (snapshot->bytes.size >= size)
            return false;
        if (snapshot->pinned != NULL) {
            add_pinned(snapshot, count);
        } else if (cursor->group == NULL) {
            struct wal_record end = {.header = {.kind = WAL_END,
                                                .position = log->store->position,
                                                .created_at = snapshot->items}};
            sc_wal_record_write(&snapshot->bytes, &end);
            ++*count;
            return true;
        } else if (cursor->item == NULL || cursor->item->created_at > snapshot->begin_position) {
            sc_cursor_go(cursor, cursor->group->all_next);
        } else {
            add_item(snapshot, cursor, count);
        }
    }
    return false;
}

// A short write is no failure: what is left follows.
static void write_bytes(struct sc_log *log) {
    struct snapshot *snapshot = &log->snapshot;
    struct sc_file_op *op = begin(log, SNAPSHOT_WRITE, SC_SITE_SNAPSHOT_WRITE);
    log->ops->write_flush(log->loop, op, snapshot->fd, snapshot->bytes.data + snapshot->written,
                          (uint32_t)(snapshot->bytes.size - snapshot->written),
                          snapshot->offset + snapshot->written);
}

// A piece a turn, and the next one when it is durable: a snapshot of any size takes little of the disk and of a turn.
//
// The last piece says which batches of the log it relies on: all that are closed now, and the open one if it has changes,
// as the items may be newer than what is durable.
static void write_piece(struct sc_log *log) {
    static const uint8_t room[sizeof(struct wal_batch_header)], padding[WAL_ALIGNMENT];
    struct snapshot *snapshot = &log->snapshot;
    snapshot->bytes.size = snapshot->written = 0;
    sc_buffer_append(&snapshot->bytes, room, sizeof room);
    uint32_t count = 0;
    bool last = collect(log, &count);
    if (snapshot->bytes.failed) {
        snapshot->bytes.failed = false;
        snapshot->error = -ENOMEM;
        snapshot->abandon = true;
        return;
    }
    if (count == 0)
        return; // Only groups without old items so far.
    struct wal_batch_header header = {.magic = WAL_BATCH_MAGIC,
                                      .size = (uint32_t)snapshot->bytes.size,
                                      .count = count,
                                      .epoch = log->directory->epoch,
                                      .number = snapshot->batch++,
                                      .ceiling_ms = log->store->ceiling};
    sc_wal_batch_seal(snapshot->bytes.data, &header, snapshot->seed);
    sc_buffer_append(&snapshot->bytes, padding, wal_padded(header.size) - header.size);
    if (last)
        snapshot->end_batch = log->next_batch + (log->open_count > 0);
    write_bytes(log);
}

static void after_write(struct sc_log *log, ssize_t result) {
    struct snapshot *snapshot = &log->snapshot;
    snapshot->written += (size_t)result;
    if (snapshot->written < snapshot->bytes.size) {
        write_bytes(log);
        return;
    }
    snapshot->offset += snapshot->bytes.size;
    if (snapshot->end_batch != 0)
        snapshot->step = SNAPSHOT_LOG;
}

// ---- The end

// Last of all: without it the file is none, whatever happens before.
static void write_header(struct sc_log *log) {
    struct snapshot *snapshot = &log->snapshot;
    snapshot->header = (struct wal_file_header){.kind = WAL_SNAPSHOT,
                                                .epoch = log->directory->epoch,
                                                .shard = log->shard,
                                                .shard_count = log->directory->config.shard_count,
                                                .number = snapshot->number,
                                                .first_segment = snapshot->first_segment,
                                                .first_batch = snapshot->first_batch,
                                                .position = snapshot->begin_position};
    memcpy(snapshot->header.directory_id, log->directory->id, sizeof log->directory->id);
    sc_wal_header_seal(&snapshot->header);
    struct sc_file_op *op = begin(log, SNAPSHOT_HEADER, SC_SITE_SNAPSHOT_HEADER);
    log->ops->write_flush(log->loop, op, snapshot->fd, &snapshot->header, sizeof snapshot->header,
                          0);
}

// The snapshot counts. The log from its segment on, and what came while it was taken, is what the next one replaces.
static void finish(struct sc_log *log) {
    struct snapshot *snapshot = &log->snapshot;
    log->bytes_since_snapshot -= snapshot->replaced_bytes;
    log->replay_work -= snapshot->replaced_work;
    snapshot->replaced_bytes = snapshot->replaced_work = 0;
    snapshot->finished_size = snapshot->offset;
    snapshot->error = 0;
    log->counters.snapshots++;
    if (!log->opening)
        sc_directory_report(log->directory, SC_REPORT_INFO, "snapshot",
                            "shard %u: %s has %llu items in %llu bytes", log->shard,
                            snapshot->final_name, (unsigned long long)snapshot->items,
                            (unsigned long long)snapshot->offset);
    snapshot->step = SNAPSHOT_TRIM;
}

// Removes one file that the snapshot replaces. A file that cannot be removed is ignored by a start, and by the
// next one removed.
static void trim(struct sc_log *log) {
    struct snapshot *snapshot = &log->snapshot;
    if (snapshot->trim_segment < snapshot->first_segment)
        sc_wal_log_name(snapshot->name, log->directory->epoch, log->shard,
                        snapshot->trim_segment++);
    else if (snapshot->trim_snapshot < snapshot->number)
        sc_wal_snapshot_name(snapshot->name, log->directory->epoch, log->shard,
                             snapshot->trim_snapshot++, true);
    else {
        snapshot->step = SNAPSHOT_IDLE;
        return;
    }
    struct sc_file_op *op = begin(log, SNAPSHOT_TRIM, SC_SITE_REMOVE);
    log->ops->unlink(log->loop, op, log->directory->fd, snapshot->name);
}

// Nothing of the store may be held on to: what is taken back or removed would stay.
static void forget_cursor(struct sc_log *log) {
    struct snapshot *snapshot = &log->snapshot;
    sc_cursor_go(cursor_of(log), NULL);
    sc_blob_release(snapshot->pinned);
    snapshot->pinned = NULL;
}

static void abandon(struct sc_log *log) {
    struct snapshot *snapshot = &log->snapshot;
    forget_cursor(log);
    snapshot->abandon = false;
    snapshot->replaced_bytes = snapshot->replaced_work = 0;
    log->counters.snapshots_failed++;
    if (snapshot->error != 0)
        sc_directory_report(log->directory, SC_REPORT_WARN, "snapshot_failed",
                            "shard %u: writing %s failed (%s); tried again", log->shard,
                            snapshot->name, strerror(-snapshot->error));
    if (snapshot->fd < 0) {
        snapshot->step = SNAPSHOT_PAUSE;
        snapshot->retry_ns = log->now_ns + SC_LOG_RETRY_MS * NS_PER_MS;
        return;
    }
    struct sc_file_op *op = begin(log, SNAPSHOT_ABANDON, SC_SITE_CLOSE);
    log->ops->close(log->loop, op, snapshot->fd);
}

// An operation under way is waited for first: the kernel has the file and the memory until then. When it ends, `abandon`
// keeps the next step from being begun.
void sc_snapshot_abandon(struct sc_log *log) {
    switch (log->snapshot.step) {
    case SNAPSHOT_OPEN:
    case SNAPSHOT_WRITE:
    case SNAPSHOT_LOG:
    case SNAPSHOT_HEADER:
        log->snapshot.abandon = true;
        forget_cursor(log);
        break;
    default:
        break; // Finished but for its name, or not begun.
    }
}

// ---- Steps

// The end of each step begins the next one, but for pieces, which wait for the turn.
static void succeeded(struct sc_log *log, ssize_t result) {
    struct snapshot *snapshot = &log->snapshot;
    struct sc_file_op *op;
    switch (snapshot->step) {
    case SNAPSHOT_OPEN:
        snapshot->fd = (int)result;
        snapshot->step = SNAPSHOT_WRITE;
        break;
    case SNAPSHOT_WRITE:
        after_write(log, result);
        break;
    case SNAPSHOT_HEADER:
        op = begin(log, SNAPSHOT_CLOSE, SC_SITE_CLOSE);
        log->ops->close(log->loop, op, snapshot->fd);
        break;
    case SNAPSHOT_CLOSE:
        snapshot->fd = -1;
        op = begin(log, SNAPSHOT_RENAME, SC_SITE_SNAPSHOT_RENAME);
        log->ops->rename(log->loop, op, log->directory->fd, snapshot->name, snapshot->final_name);
        break;
    case SNAPSHOT_RENAME:
        op = begin(log, SNAPSHOT_DIRECTORY, SC_SITE_SNAPSHOT_DIRECTORY_FLUSH);
        log->ops->flush(log->loop, op, log->directory->fd, false);
        break;
    case SNAPSHOT_DIRECTORY:
        finish(log);
        break;
    default:
        assert(false);
    }
}

static void step_done(struct sc_file_op *op, ssize_t result) {
    struct sc_log *log = SC_CONTAINER_OF(op, struct sc_log, snapshot.op);
    struct snapshot *snapshot = &log->snapshot;
    snapshot->busy = false;
    switch (snapshot->step) {
    case SNAPSHOT_ABANDON:
        snapshot->fd = -1;
        op = begin(log, SNAPSHOT_REMOVE, SC_SITE_REMOVE);
        log->ops->unlink(log->loop, op, log->directory->fd, snapshot->name);
        return;
    case SNAPSHOT_REMOVE:
        snapshot->step = SNAPSHOT_PAUSE;
        snapshot->retry_ns = log->now_ns + SC_LOG_RETRY_MS * NS_PER_MS;
        return;
    case SNAPSHOT_TRIM:
        return; // The next turn goes on.
    default:
        break;
    }
    bool is_short =
        (snapshot->step == SNAPSHOT_WRITE && result == 0) ||
        (snapshot->step == SNAPSHOT_HEADER && result >= 0 && result != sizeof snapshot->header);
    if (result < 0 || is_short) {
        snapshot->error = result < 0 ? (int)result : -EIO;
        snapshot->abandon = true;
        if (snapshot->step == SNAPSHOT_OPEN || snapshot->step == SNAPSHOT_CLOSE)
            snapshot->fd = -1;
    } else if (!snapshot->abandon || snapshot->step == SNAPSHOT_OPEN) {
        succeeded(log, result);
    }
}

// Everything up to `begin_position` is in the snapshot or was changed later; later changes are in the log from the open
// batch on. So items that were created later need not be looked at: they stand behind all others of their group.
void sc_snapshot_begin(struct sc_log *log) {
    struct snapshot *snapshot = &log->snapshot;
    snapshot->number++;
    snapshot->offset = WAL_HEADER_SIZE;
    snapshot->batch = 1;
    snapshot->items = 0;
    snapshot->end_batch = 0;
    snapshot->first_segment = log->current.number;
    snapshot->first_batch = log->next_batch;
    snapshot->begin_position = log->store->position;
    snapshot->replaced_bytes = log->bytes_since_snapshot;
    snapshot->replaced_work =
        log->replay_work; // Updates of it that are replayed all the same are skipped.
    sc_cursor_go(cursor_of(log), log->store->all_first);
    snapshot->seed = sc_wal_seed(log->directory->id, WAL_SNAPSHOT, log->directory->epoch,
                                 log->shard, snapshot->number, WAL_VERSION);
    sc_wal_snapshot_name(snapshot->name, log->directory->epoch, log->shard, snapshot->number,
                         false);
    sc_wal_snapshot_name(snapshot->final_name, log->directory->epoch, log->shard, snapshot->number,
                         true);
    struct sc_file_op *op = begin(log, SNAPSHOT_OPEN, SC_SITE_SNAPSHOT_OPEN);
    log->ops->open(log->loop, op, log->directory->fd, snapshot->name,
                   O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

static uint64_t live_or(const struct sc_log *log, uint64_t least) {
    uint64_t live = log->store->value_bytes + log->store->item_count * 128;
    return live > least ? live : least;
}

uint64_t sc_snapshot_work_max(const struct sc_log *log) {
    return live_or(log, log->directory->config.replay_work_max);
}

// The log may grow to the size of what lives, and a little: then both together are a small multiple of it. The work of
// its replay is bounded in the same way, so that a start does not take long for a log that is short.
static bool is_due(const struct sc_log *log) {
    return log->bytes_since_snapshot > live_or(log, 2 * log->directory->config.segment_size) ||
           log->replay_work > sc_snapshot_work_max(log);
}

// After a failure there is a pause, so that a disk that is full is not asked in each turn. The log goes on growing.
void sc_snapshot_turn(struct sc_log *log) {
    struct snapshot *snapshot = &log->snapshot;
    if (snapshot->busy)
        return;
    if (snapshot->abandon)
        abandon(log);
    else if (snapshot->step == SNAPSHOT_PAUSE &&
             (log->now_ns >= snapshot->retry_ns || log->finishing))
        snapshot->step = SNAPSHOT_IDLE;
    else if (snapshot->step == SNAPSHOT_IDLE && !log->opening && !log->finishing &&
             log->failed == 0 && is_due(log))
        sc_snapshot_begin(log);
    else if (snapshot->step == SNAPSHOT_WRITE)
        write_piece(log);
    else if (snapshot->step == SNAPSHOT_LOG && log->flushed >= snapshot->end_batch)
        write_header(log);
    else if (snapshot->step == SNAPSHOT_TRIM)
        trim(log);
}

bool sc_snapshot_is_busy(const struct sc_log *log) {
    switch (log->snapshot.step) {
    case SNAPSHOT_IDLE:
    case SNAPSHOT_PAUSE:
        return log->snapshot.busy;
    case SNAPSHOT_TRIM:
        return log->snapshot.busy || !log->finishing; // Each removal is whole by itself.
    default:
        return true;
    }
}
