// The log of one shard: batches of records, one under way, the next one collecting meanwhile.
#include <errno.h>
#include <stdlib.h>

#include "log.h"

// ---- Batches

static void batch_written(struct sc_file_op *op, ssize_t result);
static void current_flushed(struct sc_file_op *op, ssize_t result);

// The header of a batch stands before its records but is known only when it is sealed: its room is kept free.
static void begin_open_batch(struct sc_log *log) {
    static const uint8_t room[sizeof(struct wal_batch_header)];
    log->open.size = 0;
    sc_buffer_append(&log->open, room, sizeof room);
    log->open_count = 0;
}

// Gives what is left of the batch in flight to the disk. A short write comes back here for the rest.
//
// Under SC_DURABILITY_COMMIT the write and its flush are one operation. In the other modes the kernel's cache is enough, and
// flushes come between batches.
static void write_in_flight(struct sc_log *log) {
    log->op.on_complete = batch_written;
    log->op.site = SC_SITE_BATCH;
    log->busy = true;
    if (log->current.direct) {
        sc_pages_write(log);
        return;
    }
    const uint8_t *bytes = log->in_flight.data + log->in_flight_written;
    uint32_t size = (uint32_t)(log->in_flight.size - log->in_flight_written);
    uint64_t offset = log->current.offset + log->in_flight_written;
    if (log->durability == SC_DURABILITY_COMMIT)
        log->ops->write_flush(log->loop, &log->op, log->current.fd, bytes, size, offset);
    else
        log->ops->write(log->loop, &log->op, log->current.fd, bytes, size, offset);
}

// A store that ends in order says this instead of its ceiling: nothing was reserved in vain, and the next start goes on
// right behind it.
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
    uint64_t end = log->current.offset + log->in_flight_size;
    uint64_t fill = (page_size - end % page_size) % page_size;
    sc_buffer_append(&log->in_flight, zeros, fill);
    log->in_flight.failed = false; // Then without.
}

// The open batch is submitted, and an empty one becomes the open one.
static void seal(struct sc_log *log) {
    uint8_t padding[WAL_ALIGNMENT] = {0};
    struct wal_batch_header header = {.magic = WAL_BATCH_MAGIC,
                                      .size = (uint32_t)log->open.size,
                                      .count = log->open_count,
                                      .epoch = log->directory->epoch,
                                      .number = log->next_batch++,
                                      .flushed = log->flushed,
                                      .ceiling_ms =
                                          log->finishing ? newest_stamp(log) : log->store->ceiling};
    sc_wal_batch_seal(log->open.data, &header, log->current.seed);
    sc_buffer_append(&log->open, padding, wal_padded(log->open.size) - log->open.size);
    if (log->open.failed)
        abort(); // Eight bytes.
    struct sc_buffer buffer = log->in_flight;
    log->in_flight = log->open;
    log->open = buffer;
    log->in_flight_size = log->in_flight.size;
    log->in_flight_written = 0;
    log->in_flight_count = log->open_count;
    log->in_flight_position = log->open_position;
    log->in_flight_ceiling = header.ceiling_ms;
    log->counters.batches_delayed += sc_group_commit_submit(&log->commit, log->now_ns);
    begin_open_batch(log);
    if (!log->current.direct)
        fill_page(log);
    write_in_flight(log);
}

// After a failed write or flush nobody knows what the disk has: the kernel may have dropped the pages, and a second flush
// would succeed without them. So nothing is tried again before a start has read what is there.
static void poison(struct sc_log *log, int error) {
    log->failed = error;
    log->counters.failures++;
    sc_directory_report(
        log->directory, SC_REPORT_ERROR, "store_failed",
        "shard %u: writing its log failed (%s); changes are refused until the node is "
        "started again",
        log->shard, strerror(-error));
    sc_log_roll_back(log, error, true);
}

// Changes that are not durable were never seen by anyone, and now never were.
// The order matters: the store is as the disk is before anyone is told, since the answers that are made then may read it.
void sc_log_roll_back(struct sc_log *log, int error, bool unknown) {
    sc_rollback_apply(&log->rollback, log->store);
    log->in_flight_size = 0;
    begin_open_batch(log);
    log->durable = log->store->position;
    log->store->ceiling = log->durable_ceiling;
    sc_snapshot_abandon(log); // It may hold what was taken back.
    sc_group_commit_reset(&log->commit);
    log->events.on_failed(log->events.context, error, unknown);
}

// A file without a name goes with this process, however often it is flushed.
static bool is_removed(struct sc_log *log) {
    if (log->now_ns < log->look_ns)
        return false;
    log->look_ns = log->now_ns + SC_LOG_LOOK_MS * NS_PER_MS;
    return log->ops->links(log->loop, log->directory->fd) == 0 ||
           log->ops->links(log->loop, log->current.fd) == 0;
}

// A batch that was not given to the disk is not on it: the outcome is known.
static void refuse_removed(struct sc_log *log) {
    log->failed = -ENOENT;
    log->counters.failures++;
    sc_directory_report(log->directory, SC_REPORT_ERROR, "store_removed",
                        "shard %u: %s or its log was removed; changes are refused until the node "
                        "is started again, and those since are lost with it",
                        log->shard, log->directory->path);
    sc_log_roll_back(log, -ENOENT, false);
}

// The batch in flight is durable, or with the kernel. The position moves before on_durable is called, which releases what
// waited up to it and may append the next changes to the open batch.
static void batch_done(struct sc_log *log) {
    log->current.offset += log->in_flight_size;
    log->bytes_since_snapshot += log->in_flight_size;
    log->counters.bytes += log->in_flight_size;
    log->counters.batches++;
    log->in_flight_size = 0;
    log->durable_ceiling = log->in_flight_ceiling;
    if (log->durability == SC_DURABILITY_COMMIT)
        log->flushed = log->next_batch;
    else if (log->unflushed_since_ns == 0)
        log->unflushed_since_ns = log->commit.submitted_ns;
    log->durable = log->in_flight_position;
    sc_rollback_forget(&log->rollback, log->durable);
    sc_group_commit_complete(&log->commit);
    log->events.on_durable(log->events.context);
}

// The end of a write. Nothing written at all counts as a failure: to try again for ever would hang the shard.
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
    log->in_flight_written += written;
    if (log->in_flight_written < log->in_flight.size)
        write_in_flight(log);
    else
        batch_done(log);
}

// ---- Flushes between batches, for the modes that do not flush each

static bool is_unflushed(const struct sc_log *log) {
    return log->flushed < log->next_batch;
}

// One operation at a time goes to the current file, so no batch is in flight while it is flushed: all before the open one
// is durable when it succeeds.
static void start_flush(struct sc_log *log) {
    log->op.on_complete = current_flushed;
    log->op.site = SC_SITE_INTERVAL_FLUSH;
    log->busy = log->flushing = true;
    log->flush_target = log->next_batch;
    log->unflushed_since_ns = 0;
    log->ops->flush(log->loop, &log->op, log->current.fd, true);
}

static void current_flushed(struct sc_file_op *op, ssize_t result) {
    struct sc_log *log = SC_CONTAINER_OF(op, struct sc_log, op);
    log->busy = log->flushing = false;
    if (result < 0)
        poison(log, (int)result);
    else
        log->flushed = log->flush_target;
}

// The interval is an upper bound, and the flush takes its time too: it begins after three quarters.
uint64_t sc_log_flush_due_ns(const struct sc_log *log) {
    if (log->durability != SC_DURABILITY_INTERVAL || log->unflushed_since_ns == 0)
        return 0;
    return log->unflushed_since_ns + log->directory->config.flush_interval_ms * NS_PER_MS * 3 / 4;
}

// At the end of a store, and before a snapshot counts, the flush is not waited for by time: what they rely on must be on
// the disk.
static bool flush_is_due(const struct sc_log *log) {
    if (!is_unflushed(log))
        return false;
    if (log->finishing || log->snapshot.step == SNAPSHOT_LOG)
        return true;
    uint64_t due_ns = sc_log_flush_due_ns(log);
    return due_ns != 0 && log->now_ns >= due_ns;
}

// ---- The turn

// While it is full no caller could return.
static uint64_t delays_until(const struct sc_log *log) {
    return log->finishing || sc_log_is_full(log)
               ? 0
               : sc_group_commit_delays_until(&log->commit, log->now_ns);
}

uint64_t sc_log_delays_until(const struct sc_log *log) {
    return !log->busy && log->open_count > 0 ? delays_until(log) : 0;
}

void sc_log_asked(struct sc_log *log, uint64_t caller, uint64_t now_ns) {
    if (log != NULL && log->durability == SC_DURABILITY_COMMIT)
        sc_group_commit_asked(&log->commit, caller, now_ns);
}

void sc_log_answered(struct sc_log *log, uint64_t caller, uint64_t now_ns) {
    if (log != NULL && log->durability == SC_DURABILITY_COMMIT)
        sc_group_commit_answered(&log->commit, caller, now_ns);
}

// Starts at most one operation on the current file: a flush that is due, or the open batch. The steps have this order:
// first what has been lost is noticed, so that no batch goes to a file without a name; then a flush, which others wait for;
// then the batch, unless it gains from a delay; and a new file last, behind a flush of the one before.
static void commit_turn(struct sc_log *log) {
    if (log->next.error == -ENOENT && !log->opening) {
        log->look_ns = 0; // No file can be made any more.
        if (is_removed(log)) {
            refuse_removed(log);
            return;
        }
    }
    if (flush_is_due(log)) {
        start_flush(log);
        return;
    }
    sc_group_commit_turn(&log->commit, log->now_ns, log->in_flight_count);
    if (log->open_count == 0)
        return;
    if (delays_until(log) != 0) {
        log->commit.delayed = true;
        return;
    }
    uint64_t size = wal_padded(log->open.size);
    if (log->current.size - log->current.offset < size) {
        // All before the last segment is durable, in every mode: recovery relies on it for what it may cut.
        if (is_unflushed(log)) {
            start_flush(log);
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
                sc_log_roll_back(log, error, false);
            return;
        }
        log->look_ns = 0;
    }
    if (is_removed(log))
        refuse_removed(log);
    else
        seal(log);
}

// Called at the end of each turn of the loop: all changes of the turn are in one batch.
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
    bool is_full =
        log->open.size > SC_LOG_WAITING_MAX || log->rollback.value_bytes > SC_LOG_ROLLBACK_MAX;
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
    counters.delay_switches = log->commit.trial.switches;
    return counters;
}

// ---- The end

// A log that cannot write will not get any better: its node ends without waiting for it.
bool sc_log_is_idle(const struct sc_log *log) {
    if (log->busy || sc_segment_is_busy(log) || sc_snapshot_is_busy(log))
        return false;
    return log->failed != 0 || sc_segment_error(log, log->open.size) != 0 ||
           (log->open_count == 0 && (!log->finishing || !is_unflushed(log)));
}

// The mark is a batch of its own where nothing else waits, so that the ceiling gets down to what was given out.
void sc_log_finish(struct sc_log *log) {
    if (log->finishing)
        return;
    sc_snapshot_abandon(log);
    // The reserve of time stamps is given back: the next start goes on from where this one ends.
    if (sc_log_reserve(log, 0, 0) == 0) {
        struct wal_record record = {
            .header = {.kind = WAL_MARK, .position = ++log->store->position}};
        sc_log_append(log, &record);
    }
    log->finishing = true;
}

// The kernel may write to the memory of operations under way: they are waited for, whatever their result.
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
        log->store->journal = NULL;
    sc_blocking_close(log->loop, log->ops, log->current.fd);
    sc_blocking_close(log->loop, log->ops, log->next.segment.fd);
    sc_blocking_close(log->loop, log->ops, log->next.last_fd);
    sc_rollback_deinit(&log->rollback);
    sc_buffer_deinit(&log->open);
    sc_buffer_deinit(&log->in_flight);
    free(log->pages.bytes);
    sc_buffer_deinit(&log->snapshot.bytes);
    free(log);
}
