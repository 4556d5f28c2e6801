// File operations by the ring. What the kernel cannot do at once it gives to its own workers.
#include "loop_private.h"

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

void sc_file_run(struct sc_loop *loop, const struct sc_completion *completion) {
    struct sc_file_op *op = (struct sc_file_op *)(uintptr_t)sc_tag_value(completion->user_data);
    assert(loop->files_in_flight > 0);
    loop->files_in_flight--;
    op->on_complete(op, completion->result);
}

const struct sc_file_ops sc_loop_file_ops = {
    .read = read_file,
    .write = write_file,
    .sync = sync_file,
    .open = open_file,
    .allocate = allocate_file,
};
