// Operations on files that are waited for: while a store is opened there is nothing else to do.
#include <errno.h>

#include "log.h"

// An operation and what has become of it. See `await` for how long it must live.
struct waiting {
    struct sc_file_op op;
    ssize_t result;
    bool done;
};

static void completed(struct sc_file_op *op, ssize_t result) {
    struct waiting *waiting = SC_CONTAINER_OF(op, struct waiting, op);
    waiting->result = result;
    waiting->done = true;
}

static struct waiting begin(uint8_t site) {
    return (struct waiting){.op = {.on_complete = completed, .site = site}};
}

// `waiting` lies on the caller's stack, which the kernel may write to: it is left only when the operation has completed. A
// loop that fails is broken for good, and its process ends.
static ssize_t await(struct sc_loop *loop, const struct sc_file_ops *ops, struct waiting *waiting) {
    while (!waiting->done) {
        int rc = ops->wait(loop);
        if (rc < 0)
            return rc;
    }
    return waiting->result;
}

// Short reads go on. Fewer bytes than asked for: the file ends there.
ssize_t sc_blocking_read(struct sc_loop *loop, const struct sc_file_ops *ops, int fd, void *data,
                         size_t size, uint64_t offset) {
    size_t done = 0;
    while (done < size) {
        struct waiting waiting = begin(SC_SITE_RECOVER_READ);
        size_t piece = size - done < (1u << 30) ? size - done : (1u << 30);
        ops->read(loop, &waiting.op, fd, (uint8_t *)data + done, (uint32_t)piece, offset + done);
        ssize_t result = await(loop, ops, &waiting);
        if (result < 0)
            return result;
        if (result == 0)
            break;
        done += (size_t)result;
    }
    return (ssize_t)done;
}

// Pieces of a megabyte: each is durable before the next begins, and a failure leaves a prefix.
int sc_blocking_write_flush(struct sc_loop *loop, const struct sc_file_ops *ops, uint8_t site,
                            int fd, const void *data, size_t size, uint64_t offset) {
    for (size_t done = 0; done < size;) {
        struct waiting waiting = begin(site);
        size_t piece = size - done < (1u << 20) ? size - done : (1u << 20);
        ops->write_flush(loop, &waiting.op, fd, (const uint8_t *)data + done, (uint32_t)piece,
                         offset + done);
        ssize_t result = await(loop, ops, &waiting);
        if (result <= 0)
            return result < 0 ? (int)result : -EIO;
        done += (size_t)result;
    }
    return 0;
}

// The descriptor, or -errno. The caller closes it by sc_blocking_close.
int sc_blocking_open(struct sc_loop *loop, const struct sc_file_ops *ops, uint8_t site,
                     int directory, const char *path, int flags, uint32_t mode) {
    struct waiting waiting = begin(site);
    ops->open(loop, &waiting.op, directory, path, flags, mode);
    return (int)await(loop, ops, &waiting);
}

// With metadata: what was allocated or renamed is to be there after a crash.
int sc_blocking_flush(struct sc_loop *loop, const struct sc_file_ops *ops, uint8_t site, int fd) {
    struct waiting waiting = begin(site);
    ops->flush(loop, &waiting.op, fd, false);
    return (int)await(loop, ops, &waiting);
}

int sc_blocking_rename(struct sc_loop *loop, const struct sc_file_ops *ops, uint8_t site,
                       int directory, const char *from, const char *to) {
    struct waiting waiting = begin(site);
    ops->rename(loop, &waiting.op, directory, from, to);
    return (int)await(loop, ops, &waiting);
}

int sc_blocking_mkdir(struct sc_loop *loop, const struct sc_file_ops *ops, uint8_t site,
                      int directory, const char *path, uint32_t mode) {
    struct waiting waiting = begin(site);
    ops->mkdir(loop, &waiting.op, directory, path, mode);
    return (int)await(loop, ops, &waiting);
}

void sc_blocking_unlink(struct sc_loop *loop, const struct sc_file_ops *ops, int directory,
                        const char *path) {
    struct waiting waiting = begin(SC_SITE_REMOVE);
    ops->unlink(loop, &waiting.op, directory, path);
    (void)await(loop, ops,
                &waiting); // A file that stays is ignored, and removed by the next start.
}

void sc_blocking_close(struct sc_loop *loop, const struct sc_file_ops *ops, int fd) {
    if (fd < 0)
        return;
    struct waiting waiting = begin(SC_SITE_CLOSE);
    ops->close(loop, &waiting.op, fd);
    (void)await(loop, ops, &waiting);
}
