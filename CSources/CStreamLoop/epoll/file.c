// Operations on files as jobs for the pool, and what a job does: one system call, or a write and its flush.
#include "epoll.h"

#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

// Borrows what the job points to until the completion. Jobs are few, and are used again.
static struct job *begin(struct sc_loop *loop, struct sc_file_op *op, enum sc_file_kind kind,
                         int fd) {
    assert(sc_loop_is_current(loop));
    assert(op->on_complete != NULL);
    op->kind = (uint8_t)kind;
    struct epoll *epoll = sc_epoll_of(sc_loop_backend(loop));
    epoll->base.files_in_flight++;
    epoll->base.counters->submissions++;
    struct job *job = epoll->spare_jobs;
    if (job == NULL)
        job = sc_allocate(sizeof *job);
    else
        epoll->spare_jobs = job->next;
    *job = (struct job){.op = op, .kind = kind, .fd = fd};
    return job;
}

static void submit(struct sc_loop *loop, struct job *job) {
    sc_epoll_pool_put(sc_epoll_of(sc_loop_backend(loop)), job);
}

static void begin_bytes(struct sc_loop *loop, struct sc_file_op *op, enum sc_file_kind kind, int fd,
                        const void *data, uint32_t size, uint64_t offset, bool linked) {
    struct job *job = begin(loop, op, kind, fd);
    job->data = (void *)(uintptr_t)data;
    job->size = size;
    job->offset = offset;
    job->linked = linked;
    submit(loop, job);
}

static void read_file(struct sc_loop *loop, struct sc_file_op *op, int fd, void *data,
                      uint32_t size, uint64_t offset) {
    begin_bytes(loop, op, SC_FILE_READ, fd, data, size, offset, false);
}

static void write_file(struct sc_loop *loop, struct sc_file_op *op, int fd, const void *data,
                       uint32_t size, uint64_t offset) {
    begin_bytes(loop, op, SC_FILE_WRITE, fd, data, size, offset, false);
}

static void write_flush_file(struct sc_loop *loop, struct sc_file_op *op, int fd, const void *data,
                             uint32_t size, uint64_t offset) {
    begin_bytes(loop, op, SC_FILE_WRITE_FLUSH, fd, data, size, offset, false);
}

// The flush is the write's own: the thread that writes waits for the disk itself, and for no other thread of the kernel's.
static void write_pages_of_file(struct sc_loop *loop, struct sc_file_op *op, int fd,
                                const void *data, uint32_t size, uint64_t offset) {
    struct sc_backend *backend = sc_loop_backend(loop);
    bool linked = (backend->config->without & SC_LOOP_FLUSHED_WRITES) != 0;
    backend->counters->writes_linked += linked;
    begin_bytes(loop, op, SC_FILE_WRITE_PAGES, fd, data, size, offset, linked);
}

static void flush_file(struct sc_loop *loop, struct sc_file_op *op, int fd, bool data_only) {
    struct job *job = begin(loop, op, SC_FILE_FLUSH, fd);
    job->flags = data_only;
    submit(loop, job);
}

static void open_file(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                      const char *path, int flags, uint32_t mode) {
    struct job *job = begin(loop, op, SC_FILE_OPEN, directory_fd);
    job->path = path;
    job->flags = flags;
    job->mode = mode;
    submit(loop, job);
}

static void allocate_file(struct sc_loop *loop, struct sc_file_op *op, int fd, uint64_t offset,
                          uint64_t size) {
    struct job *job = begin(loop, op, SC_FILE_ALLOCATE, fd);
    job->offset = offset;
    job->size = size;
    submit(loop, job);
}

static void rename_file(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                        const char *from, const char *to) {
    struct job *job = begin(loop, op, SC_FILE_RENAME, directory_fd);
    job->path = from;
    job->other_path = to;
    submit(loop, job);
}

static void unlink_file(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                        const char *path) {
    struct job *job = begin(loop, op, SC_FILE_UNLINK, directory_fd);
    job->path = path;
    submit(loop, job);
}

static void make_directory(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                           const char *path, uint32_t mode) {
    struct job *job = begin(loop, op, SC_FILE_MKDIR, directory_fd);
    job->path = path;
    job->mode = mode;
    submit(loop, job);
}

static void close_file(struct sc_loop *loop, struct sc_file_op *op, int fd) {
    submit(loop, begin(loop, op, SC_FILE_CLOSE, fd));
}

static void forget_file(struct sc_loop *loop, struct sc_file_op *op, int fd) {
    submit(loop, begin(loop, op, SC_FILE_FORGET, fd));
}

// ---- Doing it

static ssize_t or_errno(ssize_t result) {
    return result >= 0 ? result : -errno;
}

static ssize_t write_bytes(const struct job *job, int flags) {
    struct iovec view = {job->data, job->size};
    return or_errno(pwritev2(job->fd, &view, 1, (off_t)job->offset, flags));
}

// Short writes too: what was written gets its flush, and the caller goes on behind it.
static ssize_t write_linked(const struct job *job) {
    ssize_t wrote = write_bytes(job, 0);
    if (wrote <= 0)
        return wrote;
    return fdatasync(job->fd) == 0 ? wrote : -errno;
}

// Some file systems, and some kernels that only look like Linux, know of no write with its flush.
static ssize_t write_synced(const struct job *job) {
    ssize_t wrote = write_bytes(job, RWF_DSYNC);
    return wrote == -EOPNOTSUPP || wrote == -ENOSYS ? write_linked(job) : wrote;
}

static ssize_t run(const struct job *job) {
    switch (job->kind) {
    case SC_FILE_READ:
        return or_errno(pread(job->fd, job->data, job->size, (off_t)job->offset));
    case SC_FILE_WRITE:
        return write_bytes(job, 0);
    case SC_FILE_WRITE_FLUSH:
    case SC_FILE_WRITE_PAGES:
        return job->linked ? write_linked(job) : write_synced(job);
    case SC_FILE_FLUSH:
        return or_errno(job->flags != 0 ? fdatasync(job->fd) : fsync(job->fd));
    case SC_FILE_OPEN:
        return or_errno(openat(job->fd, job->path, job->flags, (mode_t)job->mode));
    case SC_FILE_ALLOCATE:
        return or_errno(fallocate(job->fd, 0, (off_t)job->offset, (off_t)job->size));
    case SC_FILE_RENAME:
        return or_errno(renameat(job->fd, job->path, job->fd, job->other_path));
    case SC_FILE_UNLINK:
        return or_errno(unlinkat(job->fd, job->path, 0));
    case SC_FILE_MKDIR:
        return or_errno(mkdirat(job->fd, job->path, (mode_t)job->mode));
    case SC_FILE_CLOSE:
        return or_errno(close(job->fd));
    case SC_FILE_FORGET:
        return -posix_fadvise(job->fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    return -EINVAL;
}

void sc_epoll_job_run(struct job *job) {
    job->result = run(job);
}

const struct sc_file_ops sc_epoll_files = {
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
