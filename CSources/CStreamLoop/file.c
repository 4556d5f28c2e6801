// File operations by the ring. What the kernel cannot do at once it gives to its own workers.
#define _GNU_SOURCE // O_DIRECT
#include "loop_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

// In the address of an operation: the completion is that of a sync that follows its write.
#define ITS_SYNC 1u

static struct io_uring_sqe *begin(struct sc_loop *loop, struct sc_file_op *op,
                                  enum sc_file_kind kind) {
    assert(sc_loop_is_current(loop));
    assert(op->on_complete != NULL);
    op->kind = (uint8_t)kind;
    loop->files_in_flight++;
    return sc_ring_entry(loop);
}

// The operation stays put and is not cancelled: its address needs no slot.
static void submit(struct io_uring_sqe *sqe, struct sc_file_op *op) {
    uint64_t address = (uint64_t)(uintptr_t)op;
    assert(address >> SC_KIND_SHIFT == 0 && (address & ITS_SYNC) == 0);
    sqe->user_data = sc_tag(SC_KIND_FILE, address);
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

static void write_sync_file(struct sc_loop *loop, struct sc_file_op *op, int fd, const void *data,
                            uint32_t size, uint64_t offset) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_WRITE_SYNC);
    io_uring_prep_write(sqe, fd, data, size, offset);
    sqe->rw_flags = RWF_DSYNC;
    submit(sqe, op);
}

static void add_sync(struct sc_loop *loop, struct sc_file_op *op, int fd) {
    struct io_uring_sqe *sqe = sc_ring_entry(loop);
    io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
    submit(sqe, op);
    sqe->user_data |= ITS_SYNC;
}

static void write_pages_of_file(struct sc_loop *loop, struct sc_file_op *op, int fd,
                                const void *data, uint32_t size, uint64_t offset) {
    assert(loop->config.submit_max == 0);
    sc_ring_make_room(loop, 2); // What is linked is submitted together.
    op->linked =
        (loop->config.without & SC_LOOP_SYNCED_WRITES) != 0 || sc_write_way_next(&loop->write_way);
    op->slot = size;
    op->fd = fd;
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_WRITE_PAGES);
    io_uring_prep_write(sqe, fd, data, size, offset);
    submit(sqe, op);
    if (op->linked) {
        // One completion: the sync's, or, when not all is written, the write's.
        sqe->flags |= IOSQE_IO_LINK | IOSQE_CQE_SKIP_SUCCESS;
        loop->counters.writes_linked++;
        add_sync(loop, op, fd);
    } else {
        sqe->rw_flags = RWF_DSYNC;
    }
    op->began_ns = sc_clock_ns(CLOCK_MONOTONIC);
    // At once: the kernel holds what the disk is to do until it has gone through all that is submitted together, so that
    // the write would wait for all the sends behind it.
    sc_ring_submit(loop);
    // A kernel that took the write and not its sync, for want of memory, would not make the sync wait for the write.
    if (op->linked && sc_ring_unsubmitted(loop) == 1)
        loop->error = -ENOMEM;
}

static void sync_file(struct sc_loop *loop, struct sc_file_op *op, int fd, bool data_only) {
    struct io_uring_sqe *sqe = begin(loop, op, SC_FILE_SYNC);
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

static int list_directory(struct sc_loop *loop, int directory_fd,
                          void (*body)(const char *name, void *context), void *context) {
    (void)loop;
    int fd = openat(directory_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        int rc = -errno;
        close(fd);
        return rc;
    }
    struct dirent *entry;
    while (errno = 0, (entry = readdir(directory)) != NULL)
        body(entry->d_name, context);
    int rc = -errno;
    closedir(directory);
    return rc;
}

// Of a pipe, a device and the like nobody knows when a read ends.
static int64_t size_of_file(struct sc_loop *loop, int fd) {
    (void)loop;
    struct stat status;
    if (fstat(fd, &status) != 0)
        return -errno;
    if (!S_ISREG(status.st_mode))
        return -ENOTSUP;
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0 || fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0)
        return -errno;
    return status.st_size;
}

static int64_t next_data(struct sc_loop *loop, int fd, uint64_t offset) {
    (void)loop;
    off_t at = lseek(fd, (off_t)offset, SEEK_DATA);
    return at >= 0 ? at : errno == ENXIO ? -ENXIO : (int64_t)offset;
}

static int64_t links_of(struct sc_loop *loop, int fd) {
    (void)loop;
    struct stat status;
    return fstat(fd, &status) == 0 ? (int64_t)status.st_nlink : -errno;
}

// That a file can be made so says little: some file systems accept it, and refuse each write. Those that can say how
// since Linux 6.1; no others are trusted.
static int make_direct(struct sc_loop *loop, int fd) {
    (void)loop;
    struct statx status;
    if (statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_DIOALIGN, &status) != 0)
        return -errno;
    uint32_t offset = status.stx_dio_offset_align, memory = status.stx_dio_mem_align;
    if ((status.stx_mask & STATX_DIOALIGN) == 0 || offset == 0 || SC_LOG_PAGE_SIZE % offset != 0 ||
        memory == 0 || SC_LOG_PAGE_SIZE % memory != 0)
        return -EOPNOTSUPP;
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_DIRECT) == 0 ? 0 : -errno;
}

static int lock_file(struct sc_loop *loop, int fd) {
    (void)loop;
    return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
}

// True: it is over, and `*result` is what it came to.
static bool end_pages(struct sc_loop *loop, struct sc_file_op *op, bool is_sync, int32_t *result) {
    if (is_sync && *result >= 0)
        *result = (int32_t)op->slot;
    if (is_sync || !op->linked || *result <= 0)
        return true;
    // A short one, behind which the kernel drops the sync: what was written gets its own.
    op->slot = (uint32_t)*result;
    add_sync(loop, op, op->fd);
    return false;
}

static void note_time(struct sc_loop *loop, const struct sc_file_op *op) {
    struct sc_write_way *way = &loop->write_way;
    // Not until now: a long turn of the loop is not the disk's.
    uint64_t took_ns = loop->missing_ns > op->began_ns ? loop->missing_ns - op->began_ns : 0;
    sc_write_way_took(way, op->linked, op->slot, took_ns);
    loop->counters.write_ways_changed = way->switches;
}

void sc_file_run(struct sc_loop *loop, const struct sc_completion *completion) {
    uint64_t address = sc_tag_value(completion->user_data);
    struct sc_file_op *op = (struct sc_file_op *)(uintptr_t)(address & ~(uint64_t)ITS_SYNC);
    int32_t result = completion->result;
    if (op->kind == SC_FILE_WRITE_PAGES) {
        if (!end_pages(loop, op, (address & ITS_SYNC) != 0, &result))
            return;
        if (result > 0)
            note_time(loop, op);
    }
    assert(loop->files_in_flight > 0);
    loop->files_in_flight--;
    op->on_complete(op, result);
}

const struct sc_file_ops sc_loop_file_ops = {
    .read = read_file,
    .write = write_file,
    .write_sync = write_sync_file,
    .write_pages = write_pages_of_file,
    .sync = sync_file,
    .open = open_file,
    .allocate = allocate_file,
    .rename = rename_file,
    .unlink = unlink_file,
    .mkdir = make_directory,
    .close = close_file,
    .forget = forget_file,
    .wait = sc_loop_run_once,
    .list = list_directory,
    .size = size_of_file,
    .data = next_data,
    .links = links_of,
    .direct = make_direct,
    .lock = lock_file,
};
