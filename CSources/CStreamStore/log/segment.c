// The next file of the log, prepared while the current one is in use: allocated, written full of zeros, flushed,
// its directory too. From then on a batch only overwrites what is there, so that its flush has to write no
// metadata, and a disk that runs full says so here, where nothing is lost yet.
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "log.h"

#define FILL_SIZE (1u << 20)
static const uint8_t zeros[FILL_SIZE];

static void step_done(struct sc_file_op *op, ssize_t result);

// One operation is under way at most: its memory is in the log, and nothing is allocated for a step.
static struct sc_file_op *begin(struct sc_log *log, enum prepare_step step, uint8_t site) {
    struct preparation *next = &log->next;
    assert(!next->busy);
    next->step = step;
    next->busy = true;
    next->op.on_complete = step_done;
    next->op.site = site;
    return &next->op;
}

// Whether the batch that waits is to have a file of its own size, as the log's have too little room for it. Where there was
// no space for that, a file as usual is tried: not the same again, while the batch still asks for it.
static bool is_for_batch(const struct sc_log *log, uint64_t size) {
    bool tries_less = log->next.error != 0 && log->next.tries_at_once;
    return size > log->segment_size && !tries_less;
}

// A leftover of the same name is cut off: only a manifest says which files count, and this one is not named yet.
static void open_file(struct sc_log *log) {
    struct preparation *next = &log->next;
    uint64_t size =
        2 * log->wanted + WAL_HEADER_SIZE; // The batch grows while the file is prepared.
    next->for_batch = is_for_batch(log, size);
    if (!next->for_batch)
        size = log->segment_size;
    uint64_t page_size = log->directory->config.page_size;
    size = (size + page_size - 1) / page_size * page_size;
    next->segment =
        (struct segment){.fd = -1,
                         .number = log->current.number + 1,
                         .size = size,
                         .offset = WAL_HEADER_SIZE,
                         .seed = sc_wal_seed(log->directory->id, WAL_LOG, log->directory->epoch,
                                             log->shard, log->current.number + 1, WAL_VERSION)};
    next->filled = WAL_HEADER_SIZE;
    sc_wal_log_name(next->name, log->directory->epoch, log->shard, next->segment.number);
    struct sc_file_op *op = begin(log, PREPARE_OPEN, SC_SITE_SEGMENT_OPEN);
    log->ops->open(log->loop, op, log->directory->fd, next->name,
                   O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
}

// Zeros that were written, not only allocated: the first write to an unwritten extent changes metadata, and its flush would
// have to write that too. They are also how a start recognises the end of the log.
static void fill(struct sc_log *log) {
    struct preparation *next = &log->next;
    uint64_t left = next->segment.size - next->filled;
    uint32_t size = left < FILL_SIZE ? (uint32_t)left : FILL_SIZE;
    struct sc_file_op *op = begin(log, PREPARE_FILL, SC_SITE_SEGMENT_FILL);
    log->ops->write_flush(log->loop, op, next->segment.fd, zeros, size, next->filled);
}

// Behind the zeros: a file with a valid header has its whole length.
static void write_header(struct sc_log *log) {
    struct preparation *next = &log->next;
    next->header = (struct wal_file_header){.kind = WAL_LOG,
                                            .epoch = log->directory->epoch,
                                            .shard = log->shard,
                                            .shard_count = log->directory->config.shard_count,
                                            .number = next->segment.number};
    memcpy(next->header.directory_id, log->directory->id, sizeof log->directory->id);
    sc_wal_header_seal(&next->header);
    struct sc_file_op *op = begin(log, PREPARE_HEADER, SC_SITE_SEGMENT_HEADER);
    log->ops->write_flush(log->loop, op, next->segment.fd, &next->header, sizeof next->header, 0);
}

// Less may be had: a file as usual, a smaller one, or none for a record that is too large for what is left. The
// next turn asks again for a batch that still waits.
static void ask_for_less(struct sc_log *log) {
    bool was_for_batch = log->next.for_batch;
    if (log->wanted > log->segment_size) {
        log->too_large = log->wanted / 2;
        log->too_large_until_ns = log->now_ns + SC_LOG_TOO_LARGE_MS * NS_PER_MS;
    }
    log->wanted = 0;
    log->next.tries_at_once = was_for_batch || log->segment_size / 2 >= SC_SEGMENT_SIZE_LEAST;
    if (log->next.tries_at_once && !was_for_batch)
        log->segment_size /= 2;
    log->no_growth_until_ns = log->now_ns + SC_LOG_TOO_LARGE_MS * NS_PER_MS;
}

static uint64_t retry_ns(const struct sc_log *log) {
    return log->now_ns + (log->next.tries_at_once ? 0 : SC_LOG_RETRY_MS * NS_PER_MS);
}

// An unfinished file is removed, so that a full disk does not keep half a file. The first failure is said, those that follow
// are counted: an operator needs one line, not two a second.
static void fail(struct sc_log *log, int error) {
    struct preparation *next = &log->next;
    next->tries_at_once = false;
    if (error == -ENOSPC || error == -EDQUOT || error == -EFBIG)
        ask_for_less(log);
    if (next->error == 0)
        sc_directory_report(
            log->directory, SC_REPORT_ERROR, "store_refuses",
            "shard %u: cannot prepare %s (%s); changes are refused once the current file is full, "
            "until it works again",
            log->shard, next->name, strerror(-error));
    log->counters.failures++;
    next->error = error;
    if (next->segment.fd < 0) {
        next->step = PREPARE_PAUSE;
        next->retry_ns = retry_ns(log);
        return;
    }
    struct sc_file_op *op = begin(log, PREPARE_CLOSE, SC_SITE_CLOSE);
    log->ops->close(log->loop, op, next->segment.fd);
}

// From here on a change that did not fit waits no longer: the next turn goes on.
static void is_ready(struct sc_log *log) {
    struct preparation *next = &log->next;
    next->step = PREPARE_READY;
    log->counters.segments++;
    if (next->error != 0)
        sc_directory_report(log->directory, SC_REPORT_INFO, "store_accepts",
                            "shard %u: %s is prepared; changes are taken again", log->shard,
                            next->name);
    next->error = 0;
}

static void after_directory(struct sc_log *log) {
    struct segment *segment = &log->next.segment;
    // Where the file system cannot, the kernel's cache has to do.
    segment->direct =
        log->durability == SC_DURABILITY_COMMIT && log->ops->direct(log->loop, segment->fd) == 0;
    if (!segment->direct) {
        is_ready(log);
        return;
    }
    // Its zeros are in the cache, for nothing, and a write past the cache that has to throw some out is left to a worker.
    struct sc_file_op *op = begin(log, PREPARE_FORGET, SC_SITE_SEGMENT_FORGET);
    log->ops->forget(log->loop, op, segment->fd);
}

static void after_open(struct sc_log *log, ssize_t result) {
    struct preparation *next = &log->next;
    next->segment.fd = (int)result;
    struct sc_file_op *op = begin(log, PREPARE_ALLOCATE, SC_SITE_SEGMENT_ALLOCATE);
    log->ops->allocate(log->loop, op, next->segment.fd, 0, next->segment.size);
}

static void after_write(struct sc_log *log, ssize_t result) {
    struct preparation *next = &log->next;
    next->filled += (uint64_t)result;
    if (next->filled < next->segment.size)
        fill(log);
    else
        write_header(log);
}

static void after_close(struct sc_log *log) {
    struct preparation *next = &log->next;
    next->segment.fd = -1;
    struct sc_file_op *op = begin(log, PREPARE_REMOVE, SC_SITE_REMOVE);
    log->ops->unlink(log->loop, op, log->directory->fd, next->name);
}

static void after_remove(struct sc_log *log) {
    struct preparation *next = &log->next;
    next->step = next->error == 0 ? PREPARE_IDLE : PREPARE_PAUSE;
    next->retry_ns = retry_ns(log);
}

// The end of each step begins the next one. Closing and removing may fail: there is nothing better to do than to go on,
// and the next start removes what is left. A file system that cannot allocate is asked for zeros all the same.
static void step_done(struct sc_file_op *op, ssize_t result) {
    struct sc_log *log = SC_CONTAINER_OF(op, struct sc_log, next.op);
    struct preparation *next = &log->next;
    next->busy = false;
    bool not_supported =
        next->step == PREPARE_ALLOCATE && (result == -EOPNOTSUPP || result == -ENOSYS);
    bool may_fail = next->step == PREPARE_CLOSE || next->step == PREPARE_REMOVE ||
                    next->step == PREPARE_CLOSE_LAST || next->step == PREPARE_FORGET;
    if (result < 0 && !not_supported && !may_fail) {
        fail(log, (int)result);
        return;
    }
    switch (next->step) {
    case PREPARE_CLOSE_LAST:
        next->step = PREPARE_IDLE;
        break;
    case PREPARE_OPEN:
        after_open(log, result);
        break;
    case PREPARE_ALLOCATE:
        fill(log);
        break;
    case PREPARE_FILL:
        if (result == 0)
            fail(log, -EIO);
        else
            after_write(log, result);
        break;
    case PREPARE_HEADER:
        if (result != sizeof next->header) {
            fail(log, -EIO);
        } else {
            op = begin(log, PREPARE_DIRECTORY, SC_SITE_SEGMENT_DIRECTORY_FLUSH);
            log->ops->flush(log->loop, op, log->directory->fd, false);
        }
        break;
    case PREPARE_DIRECTORY:
        after_directory(log);
        break;
    case PREPARE_FORGET:
        is_ready(log);
        break;
    case PREPARE_CLOSE:
        after_close(log);
        break;
    case PREPARE_REMOVE:
        after_remove(log);
        break;
    case PREPARE_IDLE:
    case PREPARE_READY:
    case PREPARE_PAUSE:
        assert(false);
    }
}

// A quarter into the current segment is early enough, and spares a quiet store the second one.
static bool is_wanted(const struct sc_log *log) {
    return log->current.fd < 0 || log->wanted > 0 || log->next.last_fd >= 0 ||
           log->current.offset > log->current.size / 4;
}

// Begins to prepare a file when the current one is used by a quarter: at full load there is time for the three quarters.
void sc_segment_turn(struct sc_log *log) {
    struct preparation *next = &log->next;
    if (next->busy || (log->finishing && log->open_count == 0))
        return; // At the end a segment is prepared only if the last batch needs one.
    if (next->step == PREPARE_PAUSE && log->now_ns >= next->retry_ns)
        next->step = PREPARE_IDLE;
    if (log->too_large != 0 && log->now_ns >= log->too_large_until_ns)
        log->too_large = 0;
    if (next->step != PREPARE_IDLE || !is_wanted(log))
        return;
    if (next->last_fd >= 0) {
        // The old one goes first.
        struct sc_file_op *op = begin(log, PREPARE_CLOSE_LAST, SC_SITE_CLOSE);
        log->ops->close(log->loop, op, next->last_fd);
        next->last_fd = -1;
        return;
    }
    open_file(log);
}

bool sc_segment_rotate(struct sc_log *log, uint64_t size) {
    struct preparation *next = &log->next;
    if (next->step != PREPARE_READY) {
        log->wanted = size;
        sc_segment_turn(log); // Now: nothing else may be under way that would lead to another turn.
        return false;
    }
    if (next->segment.size - next->segment.offset < size) {
        log->wanted = size;
        struct sc_file_op *op = begin(log, PREPARE_CLOSE, SC_SITE_CLOSE);
        log->ops->close(log->loop, op, next->segment.fd);
        return false;
    }
    next->last_fd = log->current.fd;
    log->current = next->segment;
    if (log->current.direct)
        sc_pages_begin(log, &next->header);
    next->segment.fd = -1;
    next->step = PREPARE_IDLE;
    log->wanted = 0;
    uint64_t most = log->directory->config.segment_size;
    if (!log->opening && log->now_ns >= log->no_growth_until_ns)
        log->segment_size = log->segment_size > most / SC_SEGMENT_GROWTH
                                ? most
                                : log->segment_size * SC_SEGMENT_GROWTH;
    return true;
}

bool sc_segment_is_busy(const struct sc_log *log) {
    return log->next.busy;
}

int sc_segment_error(const struct sc_log *log, size_t size) {
    const struct preparation *next = &log->next;
    bool fits = wal_padded(size) + WAL_HEADER_SIZE <= log->segment_size;
    return next->tries_at_once && fits ? 0 : next->error;
}
