// File operations by the ring. What the kernel cannot do at once it gives to its own workers.
#include "loop_private.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

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
    assert(address >> SC_KIND_SHIFT == 0);
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

static int64_t size_of_file(struct sc_loop *loop, int fd) {
    (void)loop;
    struct stat status;
    return fstat(fd, &status) == 0 ? status.st_size : -errno;
}

static int lock_file(struct sc_loop *loop, int fd) {
    (void)loop;
    return flock(fd, LOCK_EX | LOCK_NB) == 0 ? 0 : -errno;
}

void sc_file_run(struct sc_loop *loop, const struct sc_completion *completion) {
    struct sc_file_op *op = (struct sc_file_op *)(uintptr_t)sc_tag_value(completion->user_data);
    assert(loop->files_in_flight > 0);
    loop->files_in_flight--;
    op->on_complete(op, completion->result);
}

const struct sc_file_ops sc_loop_file_ops = {
    .read = read_file,
    .write = write_file,
    .write_sync = write_sync_file,
    .sync = sync_file,
    .open = open_file,
    .allocate = allocate_file,
    .rename = rename_file,
    .unlink = unlink_file,
    .mkdir = make_directory,
    .close = close_file,
    .wait = sc_loop_run_once,
    .list = list_directory,
    .size = size_of_file,
    .lock = lock_file,
};
