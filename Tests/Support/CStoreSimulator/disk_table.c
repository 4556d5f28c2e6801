// The operations as the store asks for them: each is put down, and done when the simulator says so.
#include "disk.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>

static struct sim_disk *disk_of(struct sc_loop *loop) {
    return (struct sim_disk *)(void *)loop;
}

static struct sim_pending *add(struct sc_loop *loop, struct sc_file_op *op,
                               enum sc_file_kind kind) {
    struct sim_disk *disk = disk_of(loop);
    assert(disk->pending_count < PENDING_MAX);
    op->kind = (uint8_t)kind;
    disk->result->operations[op->site]++;
    struct sim_pending *pending = &disk->pending[disk->pending_count++];
    *pending = (struct sim_pending){.op = op};
    return pending;
}

static void sim_read(struct sc_loop *loop, struct sc_file_op *op, int fd, void *data, uint32_t size,
                     uint64_t offset) {
    struct sim_pending *pending = add(loop, op, SC_FILE_READ);
    pending->fd = fd, pending->data = data, pending->size = size, pending->offset = offset;
}
static void add_write(struct sc_loop *loop, struct sc_file_op *op, enum sc_file_kind kind, int fd,
                      const void *data, uint32_t size, uint64_t offset) {
    struct sim_pending *pending = add(loop, op, kind);
    pending->fd = fd, pending->data = (void *)(uintptr_t)data, pending->size = size,
    pending->offset = offset;
}
static void sim_write(struct sc_loop *loop, struct sc_file_op *op, int fd, const void *data,
                      uint32_t size, uint64_t offset) {
    assert(!disk_of(loop)->direct[fd - 1000]);
    add_write(loop, op, SC_FILE_WRITE, fd, data, size, offset);
}
static void sim_write_flush(struct sc_loop *loop, struct sc_file_op *op, int fd, const void *data,
                            uint32_t size, uint64_t offset) {
    assert(!disk_of(loop)->direct[fd - 1000]);
    add_write(loop, op, SC_FILE_WRITE_FLUSH, fd, data, size, offset);
}
static void sim_write_pages(struct sc_loop *loop, struct sc_file_op *op, int fd, const void *data,
                            uint32_t size, uint64_t offset) {
    assert(disk_of(loop)->direct[fd - 1000]);
    assert(offset % SECTOR == 0 && size % SECTOR == 0 && (uintptr_t)data % SECTOR == 0);
    add_write(loop, op, SC_FILE_WRITE_PAGES, fd, data, size, offset);
}
static int sim_direct(struct sc_loop *loop, int fd) {
    struct sim_disk *disk = disk_of(loop);
    if (disk->config->no_direct)
        return -EOPNOTSUPP;
    disk->direct[fd - 1000] = true;
    return 0;
}
static void sim_flush(struct sc_loop *loop, struct sc_file_op *op, int fd, bool data_only) {
    struct sim_pending *pending = add(loop, op, SC_FILE_FLUSH);
    pending->fd = fd, pending->data_only = data_only;
}
static void sim_open(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                     const char *path, int flags, uint32_t mode) {
    (void)directory_fd, (void)mode;
    struct sim_pending *pending = add(loop, op, SC_FILE_OPEN);
    snprintf(pending->path, sizeof pending->path, "%s", path);
    pending->flags = flags;
}
static void sim_allocate(struct sc_loop *loop, struct sc_file_op *op, int fd, uint64_t offset,
                         uint64_t size) {
    struct sim_pending *pending = add(loop, op, SC_FILE_ALLOCATE);
    pending->fd = fd, pending->offset = offset, pending->size = (uint32_t)size;
}
static void sim_rename(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                       const char *from, const char *to) {
    (void)directory_fd;
    struct sim_pending *pending = add(loop, op, SC_FILE_RENAME);
    snprintf(pending->path, sizeof pending->path, "%s", from);
    snprintf(pending->other, sizeof pending->other, "%s", to);
}
static void sim_unlink(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                       const char *path) {
    (void)directory_fd;
    struct sim_pending *pending = add(loop, op, SC_FILE_UNLINK);
    snprintf(pending->path, sizeof pending->path, "%s", path);
}
static void sim_mkdir(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                      const char *path, uint32_t mode) {
    (void)directory_fd, (void)mode;
    struct sim_pending *pending = add(loop, op, SC_FILE_MKDIR);
    snprintf(pending->path, sizeof pending->path, "%s", path);
}
static void sim_close(struct sc_loop *loop, struct sc_file_op *op, int fd) {
    struct sim_pending *pending = add(loop, op, SC_FILE_CLOSE);
    pending->fd = fd;
}
static void sim_forget(struct sc_loop *loop, struct sc_file_op *op, int fd) {
    struct sim_pending *pending = add(loop, op, SC_FILE_FORGET);
    pending->fd = fd;
}
static int sim_wait(struct sc_loop *loop) {
    return sim_complete_one(disk_of(loop)) ? 0 : -EDEADLK;
}
static int sim_list(struct sc_loop *loop, int directory_fd, void (*body)(const char *, void *),
                    void *context) {
    (void)directory_fd;
    for (int i = 0; i < disk_of(loop)->entry_count; i++)
        body(disk_of(loop)->entries[i].name, context);
    return 0;
}
static int64_t sim_size(struct sc_loop *loop, int fd) {
    return (int64_t)disk_of(loop)->files[sim_target(disk_of(loop), fd)].size;
}
static int64_t sim_data(struct sc_loop *loop, int fd, uint64_t offset) {
    return (int64_t)offset < sim_size(loop, fd) ? (int64_t)offset : -ENXIO;
}
static int64_t sim_links(struct sc_loop *loop, int fd) {
    (void)loop, (void)fd;
    return 1;
}
static int sim_lock(struct sc_loop *loop, int fd) {
    (void)fd;
    if (disk_of(loop)->locked)
        return -EWOULDBLOCK;
    disk_of(loop)->locked = true;
    return 0;
}

const struct sc_file_ops sim_ops = {.read = sim_read,
                                    .write = sim_write,
                                    .write_flush = sim_write_flush,
                                    .write_pages = sim_write_pages,
                                    .direct = sim_direct,
                                    .flush = sim_flush,
                                    .open = sim_open,
                                    .allocate = sim_allocate,
                                    .rename = sim_rename,
                                    .unlink = sim_unlink,
                                    .mkdir = sim_mkdir,
                                    .close = sim_close,
                                    .forget = sim_forget,
                                    .wait = sim_wait,
                                    .list = sim_list,
                                    .size = sim_size,
                                    .data = sim_data,
                                    .links = sim_links,
                                    .lock = sim_lock};
