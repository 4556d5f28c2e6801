// File operations by the ring. What the kernel cannot do at once it gives to its own workers.
#include "uring.h"

#include <fcntl.h>

static struct io_uring_sqe *begin(struct sc_loop *loop, struct sc_file_op *op,
                                  enum sc_file_kind kind) {
    assert(sc_loop_is_current(loop));
    assert(op->on_complete != NULL);
    op->kind = (uint8_t)kind;
    struct sc_backend *backend = sc_loop_backend(loop);
    backend->files_in_flight++;
    return uring_entry(uring_of(backend));
}

// The operation stays put and is not cancelled: its address needs no slot.
static void submit(struct io_uring_sqe *sqe, struct sc_file_op *op) {
    sqe->user_data = sc_tag(SC_KIND_FILE, (uint64_t)(uintptr_t)op);
}

static void read_file(struct sc_loop *loop, struct sc_file_op *op, int fd, void *data,
                      uint32_t size, uint64_t offset) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_READ);
    io_uring_prep_read(sqe, fd, data, size, offset);
    submit(sqe, op);
}

static void write_file(struct sc_loop *loop, struct sc_file_op *op, int fd, const void *data,
                       uint32_t size, uint64_t offset) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_WRITE);
    io_uring_prep_write(sqe, fd, data, size, offset);
    submit(sqe, op);
}

static void write_flush_file(struct sc_loop *loop, struct sc_file_op *op, int fd, const void *data,
                             uint32_t size, uint64_t offset) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_WRITE_FLUSH);
    io_uring_prep_write(sqe, fd, data, size, offset);
    sqe->rw_flags = RWF_DSYNC;
    submit(sqe, op);
}

static void add_flush(struct uring *uring, struct sc_file_op *op, int fd) {
    struct io_uring_sqe *sqe = uring_entry(uring);
    io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
    sqe->user_data = uring_own(URING_PAGES_FLUSH, (uint64_t)(uintptr_t)op);
}

static void write_pages_of_file(struct sc_loop *loop, struct sc_file_op *op, int fd,
                                const void *data, uint32_t size, uint64_t offset) {
    struct uring *uring = uring_of(sc_loop_backend(loop));
    assert(uring->base.config->submit_max == 0);
    uring_make_room(uring, 2); // What is linked is submitted together.
    op->linked = (uring->base.config->without & SC_LOOP_FLUSHED_WRITES) != 0 ||
                 sc_write_way_next(&uring->write_way);
    op->slot = size;
    op->fd = fd;
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_WRITE_PAGES);
    io_uring_prep_write(sqe, fd, data, size, offset);
    sqe->user_data = uring_own(URING_PAGES, (uint64_t)(uintptr_t)op);
    if (op->linked) {
        // One completion: the flush's, or, when not all is written, the write's.
        sqe->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
        uring->base.counters->writes_linked++;
        add_flush(uring, op, fd);
    } else {
        sqe->rw_flags = RWF_DSYNC;
    }
    op->began_ns = sc_clock_ns(CLOCK_MONOTONIC);
    // At once: the kernel holds what the disk is to do until it has gone through all that is submitted together, so that
    // the write would wait for all the sends behind it.
    uring_submit(&uring->base);
    // A kernel that took the write and not its flush, for want of memory, would not make the flush wait for the write.
    if (op->linked && uring_unsubmitted(uring) == 1)
        uring->base.error = -ENOMEM;
}

static void flush_file(struct sc_loop *loop, struct sc_file_op *op, int fd, bool data_only) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_FLUSH);
    io_uring_prep_fsync(sqe, fd, data_only ? IORING_FSYNC_DATASYNC : 0);
    submit(sqe, op);
}

static void open_file(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                      const char *path, int flags, uint32_t mode) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_OPEN);
    io_uring_prep_openat(sqe, directory_fd, path, flags, mode);
    submit(sqe, op);
}

static void allocate_file(struct sc_loop *loop, struct sc_file_op *op, int fd, uint64_t offset,
                          uint64_t size) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_ALLOCATE);
    io_uring_prep_fallocate(sqe, fd, 0, (off_t)offset, (off_t)size);
    submit(sqe, op);
}

static void rename_file(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                        const char *from, const char *to) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_RENAME);
    io_uring_prep_renameat(sqe, directory_fd, from, directory_fd, to, 0);
    submit(sqe, op);
}

static void unlink_file(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                        const char *path) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_UNLINK);
    io_uring_prep_unlinkat(sqe, directory_fd, path, 0);
    submit(sqe, op);
}

static void make_directory(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                           const char *path, uint32_t mode) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_MKDIR);
    io_uring_prep_mkdirat(sqe, directory_fd, path, mode);
    submit(sqe, op);
}

static void close_file(struct sc_loop *loop, struct sc_file_op *op, int fd) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_CLOSE);
    io_uring_prep_close(sqe, fd);
    submit(sqe, op);
}

static void forget_file(struct sc_loop *loop, struct sc_file_op *op, int fd) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_FORGET);
    io_uring_prep_fadvise(sqe, fd, 0, 0, POSIX_FADV_DONTNEED);
    submit(sqe, op);
}

// True: it is over, and `*result` is what it came to.
static bool end_pages(struct uring *uring, struct sc_file_op *op, bool is_flush, int32_t *result) {
    if (is_flush && *result >= 0)
        *result = (int32_t)op->slot;
    if (is_flush || !op->linked || *result <= 0)
        return true;
    // A short one, behind which the kernel drops the flush: what was written gets its own.
    op->slot = (uint32_t)*result;
    add_flush(uring, op, op->fd);
    return false;
}

static void note_time(struct uring *uring, const struct sc_file_op *op) {
    struct sc_write_way *way = &uring->write_way;
    // Not until now: a long turn of the loop is not the disk's.
    uint64_t missing_ns = uring->base.missing_ns;
    uint64_t took_ns = missing_ns > op->began_ns ? missing_ns - op->began_ns : 0;
    sc_write_way_took(way, op->linked, op->slot, took_ns);
    uring->base.counters->write_ways_changed = way->switches;
}

void uring_run_pages(struct uring *uring, const struct sc_completion *completion) {
    struct sc_file_op *op = (struct sc_file_op *)(uintptr_t)uring_own_value(completion->tag);
    int32_t result = completion->result;
    if (!end_pages(uring, op, uring_own_of(completion->tag) == URING_PAGES_FLUSH, &result))
        return;
    if (result > 0)
        note_time(uring, op);
    assert(uring->base.files_in_flight > 0);
    uring->base.files_in_flight--;
    op->on_complete(op, result);
}

const struct sc_file_ops uring_files = {
    .read = read_file,
    .write = write_file,
    .write_flush = write_flush_file,
    .write_pages = write_pages_of_file,
    .flush = flush_file,
    .open = open_file,
    .allocate = allocate_file,
    .rename = rename_file,
    .unlink = unlink_file,
    .mkdir = make_directory,
    .close = close_file,
    .forget = forget_file,
    .wait = sc_loop_run_once,
    .list = sc_file_list,
    .size = sc_file_size,
    .data = sc_file_data,
    .links = sc_file_links,
    .direct = sc_file_direct,
    .lock = sc_file_lock,
};
