// The store's calls of its log: each change becomes a record of the open batch, and an entry of what takes it back.
#include <errno.h>

#include "crc32c.h"
#include "log.h"

// Without a prepared segment, what does not fit the current one any more has nowhere to go.
static bool has_room(const struct sc_log *log, size_t size) {
    const struct segment *segment = &log->current;
    uint64_t needed = wal_padded(log->open.size + size) + log->in_flight_size;
    return segment->size - segment->offset >= needed;
}

// All that could fail does so here, before the store has changed anything: behind it a change is made as a whole.
int sc_log_reserve(struct sc_log *log, size_t names, size_t value) {
    assert(!log->opening);
    size_t size = wal_record_size(names, value);
    int rc = log->failed;
    if (rc == 0 && !has_room(log, size))
        rc = sc_segment_error(log, log->open.size + size);
    if (rc == 0 && log->open.size + size > UINT32_MAX / 2)
        rc = -ENOBUFS;
    if (rc == 0 && sc_buffer_reserve(&log->open, size) == NULL) {
        log->open.failed = false; // The records in it are still good.
        rc = -ENOMEM;
    }
    if (rc == 0 && log->too_large != 0 && size >= log->too_large && !has_room(log, size))
        rc = -ENOSPC; // Alone: what waits beside it need not fail with it.
    if (rc == 0)
        rc = sc_rollback_reserve(&log->rollback, names);
    if (rc < 0)
        log->counters.changes_refused++;
    return rc;
}

void sc_log_append(struct sc_log *log, const struct wal_record *record) {
    sc_wal_record_write(&log->open, record);
    assert(!log->open.failed);
    log->open_count++;
    log->open_position = record->header.position;
    log->counters.records++;
}

// ---- The calls of the journal
static struct sc_log *log_of(struct journal *journal) {
    return SC_CONTAINER_OF(journal, struct sc_log, journal);
}

static int reserve(struct journal *journal, size_t names, size_t value) {
    return sc_log_reserve(log_of(journal), names, value);
}

// A start applies them again. So that it does not take long for a log that is short, their work leads to a snapshot, and
// until that is taken to values once more.
static size_t operations_size(const struct journal *journal, const struct sc_operations *operations,
                              size_t size) {
    const struct sc_log *log = SC_CONTAINER_OF(journal, const struct sc_log, journal);
    size_t logged = sizeof(struct wal_update) + operations->text.size;
    uint64_t most = SC_LOG_REPLAY_WORK_FACTOR * sc_snapshot_work_max(log);
    bool is_small =
        size >= log->directory->config.update_size_least && logged <= size / SC_LOG_UPDATE_RATIO;
    bool is_bounded = operations->work <= most && log->replay_work <= most - operations->work;
    return log->events.apply != NULL && is_small && is_bounded ? logged : 0;
}

// The checksums of an update tell a replay that it applies the operations to the same bytes, and has made the same ones.
// The stamp is that of the frame: it orders the update and what a snapshot has of the item.
static void set(struct journal *journal, const struct sc_group_name *name, const struct item *item,
                struct sc_blob *old, const struct sc_operations *operations) {
    struct sc_log *log = log_of(journal);
    struct sc_bytes id = {item->id, item->id_size}, value = sc_blob_bytes(item->value);
    struct wal_record record = {.header = {.kind = WAL_SET,
                                           .position = log->store->position,
                                           .created_at = item->created_at,
                                           .stamp_ms = item->stamp},
                                .stream = name->stream,
                                .group = name->group,
                                .item = id,
                                .value = value};
    if (operations != NULL) {
        struct sc_bytes base = sc_blob_bytes(old);
        record.header.kind = WAL_UPDATE;
        record.value = operations->text;
        record.update =
            (struct wal_update){.base_size = (uint32_t)base.size,
                                .base_checksum = sc_crc32c(0, base.data, base.size),
                                .result_size = (uint32_t)value.size,
                                .result_checksum = sc_crc32c(0, value.data, value.size)};
        log->replay_work += operations->work;
        log->counters.updates++;
    }
    sc_log_append(log, &record);
    sc_rollback_push(&log->rollback, name, id, log->store->position, old, item->created_at);
}

// Called before the item goes: name and value are still there to be kept for the way back.
static void delete_item(struct journal *journal, const struct sc_group_name *name,
                        const struct item *item) {
    struct sc_log *log = log_of(journal);
    struct sc_bytes id = {item->id, item->id_size};
    struct wal_record record = {
        .header = {.kind = WAL_DELETE, .position = log->store->position, .stamp_ms = item->stamp},
        .stream = name->stream,
        .group = name->group,
        .item = id};
    sc_log_append(log, &record);
    sc_rollback_push(&log->rollback, name, id, log->store->position, item->value, item->created_at);
}

// A stamp that was seen must not be given out again after a crash. So a batch with a ceiling over it is durable before the
// frame with it leaves. To have one batch for many stamps, the ceiling is a second ahead.
static void raise_ceiling(struct journal *journal, uint64_t stamp, bool changes) {
    struct sc_log *log = log_of(journal);
    if (!changes && (log->opening || sc_log_reserve(log, 0, 0) < 0))
        return; // Nothing can be written: the clock has to do.
    log->store->ceiling = stamp + SC_LOG_STAMP_RESERVE_MS;
    if (changes)
        return;
    struct wal_record record = {
        .header = {.kind = WAL_MARK, .position = ++log->store->position, .stamp_ms = stamp}};
    sc_log_append(log, &record);
}

const struct journal_calls sc_log_journal = {.reserve = reserve,
                                             .operations_size = operations_size,
                                             .set = set,
                                             .delete_item = delete_item,
                                             .raise_ceiling = raise_ceiling};
