// The node's side of the world: a backend of the loop. Sends complete when they are asked for, as a kernel does for who does
// not wait; all else completes when the simulator makes it happen, and is taken in a turn.
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define EPOCH_MS 1767225600000u // 2026-01-01

static struct shard_backend *own(struct sc_backend *backend) {
    return (struct shard_backend *)(void *)backend;
}

// ---- Completions

static void complete(struct shard_backend *backend, uint64_t tag, ssize_t result, uint32_t flags) {
    if (backend->queue_size == backend->queue_capacity) {
        backend->queue_capacity = backend->queue_capacity == 0 ? 64 : backend->queue_capacity * 2;
        backend->queue = realloc(backend->queue, backend->queue_capacity * sizeof *backend->queue);
        if (backend->queue == NULL)
            abort();
    }
    backend->queue[backend->queue_size++] = (struct sc_completion){tag, (int32_t)result, flags};
}

static size_t queued(const struct shard_backend *backend) {
    return backend->queue_size - backend->queue_at;
}

// Now and then only some of what has completed is there to be taken yet.
static uint32_t take(struct sc_backend *base, struct sc_completion *out, uint32_t most) {
    struct shard_backend *backend = own(base);
    size_t count = queued(backend);
    if (count > 1 && world_chance(backend->world, 4))
        count = 1 + world_random(backend->world, count);
    if (count > most)
        count = most;
    if (count > 0)
        memcpy(out, backend->queue + backend->queue_at, count * sizeof *out);
    backend->queue_at += count;
    if (backend->queue_at == backend->queue_size)
        backend->queue_at = backend->queue_size = 0;
    base->counters->completions += count;
    return (uint32_t)count;
}

bool world_has_completions(const struct world *world, uint32_t shard) {
    return queued(world->shards[shard]) > 0;
}

// ---- Life

static int open_backend(const struct sc_backend *base, struct sc_backend **out) {
    struct world *world = base->config->backend_context;
    struct shard_backend *backend = calloc(1, sizeof *backend);
    uint32_t count = base->config->receive_buffer_count;
    if (backend == NULL)
        return -ENOMEM;
    backend->base = *base;
    backend->world = world;
    backend->index = world->shard_count++;
    world->shards[backend->index] = backend;
    backend->base.buffers = malloc((size_t)count * base->config->receive_buffer_size);
    backend->free_buffers = calloc(count, sizeof *backend->free_buffers);
    if (backend->base.buffers == NULL || backend->free_buffers == NULL)
        abort();
    for (uint32_t i = 0; i < count; i++)
        backend->free_buffers[backend->free_count++] = i;
    *out = &backend->base;
    return 0;
}

static void close_backend(struct sc_backend *base) {
    struct shard_backend *backend = own(base);
    backend->world->shards[backend->index] = NULL;
    free(base->buffers);
    free(backend->free_buffers);
    free(backend->queue);
    free(backend);
}

static void explain(int rc, const char *step, char *out, size_t size) {
    (void)step;
    snprintf(out, size, "the simulator failed: %d", rc);
}

// ---- Sockets

static struct peer *peer_of(struct shard_backend *backend, int fd) {
    assert(fd >= SOCKET_FD_BASE);
    struct peer *peer = backend->world->peers[fd - SOCKET_FD_BASE];
    assert(peer != NULL && !peer->closed);
    peer->backend = backend;
    return peer;
}

static void accept_on(struct sc_backend *base, int fd, uint64_t tag) {
    struct shard_backend *backend = own(base);
    struct world *world = backend->world;
    uint32_t i = 0;
    while (i < world->listener_count && world->listeners[i].fd != fd)
        i++;
    assert(i < LISTENERS_MAX);
    if (i == world->listener_count)
        world->listener_count++;
    world->listeners[i] = (struct listener){fd, true, tag, backend};
}

static void receive(struct sc_backend *base, int fd, bool once, uint64_t tag) {
    struct peer *peer = peer_of(own(base), fd);
    assert(!peer->receiving);
    peer->receiving = true;
    peer->once = once;
    peer->receive_tag = tag;
}

static size_t room_of(const struct peer *peer) {
    size_t waiting = bytes_left(&peer->to_client);
    return waiting < peer->room ? peer->room - waiting : 0;
}

static void send_pieces(struct sc_backend *base, int fd, const struct sc_bytes *pieces,
                        uint32_t count, enum sc_send_mode mode, uint64_t tag) {
    struct shard_backend *backend = own(base);
    struct peer *peer = peer_of(backend, fd);
    struct world *world = backend->world;
    assert(!peer->sending);
    if (mode == SC_SEND_WAIT) {
        peer->sending = true;
        peer->send_tag = tag;
        peer->piece = pieces[0];
        world->result->delayed_sends++;
        return; // Even with room: it is seen later.
    }
    size_t room = room_of(peer), taken = 0;
    if (room > 1 && world_chance(world, 8)) // A short one.
        room = 1 + world_random(world, room);
    for (uint32_t i = 0; i < count && taken < room; i++) {
        size_t size = pieces[i].size < room - taken ? pieces[i].size : room - taken;
        bytes_put(&peer->to_client, pieces[i].data, size);
        world_trace(world, pieces[i].data, size);
        taken += size;
    }
    complete(backend, tag, taken > 0 ? (ssize_t)taken : -EAGAIN, 0);
}

void world_make_room(struct world *world, struct peer *peer) {
    size_t room = room_of(peer);
    if (!peer->sending || room == 0)
        return;
    size_t size = peer->piece.size < room ? peer->piece.size : room;
    if (size > 1 && world_chance(world, 4))
        size = 1 + world_random(world, size);
    bytes_put(&peer->to_client, peer->piece.data, size);
    world_trace(world, peer->piece.data, size);
    peer->sending = false;
    complete(peer->backend, peer->send_tag, (ssize_t)size, 0);
}

static void connect_to(struct sc_backend *base, int fd, const struct sockaddr *address,
                       uint32_t size, uint64_t tag) {
    (void)base, (void)fd, (void)address, (void)size, (void)tag;
    abort(); // A node connects to nobody.
}

static void cancel(struct sc_backend *base, int fd, uint64_t target, uint64_t tag) {
    struct shard_backend *backend = own(base);
    struct world *world = backend->world;
    bool *armed = NULL;
    if (sc_tag_kind(target) == SC_KIND_ACCEPT) {
        for (uint32_t i = 0; i < world->listener_count; i++)
            if (world->listeners[i].fd == fd)
                armed = &world->listeners[i].armed;
    } else {
        struct peer *peer = peer_of(backend, fd);
        armed = sc_tag_kind(target) == SC_KIND_RECEIVE ? &peer->receiving : &peer->sending;
    }
    if (armed == NULL || !*armed) {
        complete(backend, tag, -ENOENT, 0);
        return;
    }
    *armed = false;
    complete(backend, target, -ECANCELED, 0);
}

static void close_socket(struct sc_backend *base, int fd, bool abort_it, uint64_t tag) {
    struct shard_backend *backend = own(base);
    (void)abort_it;
    if (fd >= SOCKET_FD_BASE) {
        struct peer *peer = peer_of(backend, fd);
        assert(!peer->receiving && !peer->sending);
        peer->closed = peer->node_ended = true;
    } else {
        close(fd);
        for (uint32_t i = 0; i < backend->world->listener_count; i++)
            if (backend->world->listeners[i].fd == fd)
                backend->world->listeners[i].fd = -1;
    }
    complete(backend, tag, 0, 0);
}

static void shut_down(struct sc_backend *base, int fd) {
    peer_of(own(base), fd)->node_ended = true;
}

static uint32_t unacknowledged(struct sc_backend *base, int fd) {
    return (uint32_t)bytes_left(&peer_of(own(base), fd)->to_client);
}

static void give_buffer(struct sc_backend *base, uint32_t buffer) {
    struct shard_backend *backend = own(base);
    assert(base->buffers_out > 0);
    base->buffers_out--;
    backend->free_buffers[backend->free_count++] = buffer;
}

// ---- The client's side

struct peer *world_connect(struct world *world, uint32_t listener, size_t room) {
    struct listener *at = &world->listeners[listener];
    if (world->peer_count == PEERS_MAX || at->fd < 0 || !at->armed)
        return NULL;
    struct peer *peer = calloc(1, sizeof *peer);
    if (peer == NULL)
        abort();
    peer->index = world->peer_count;
    peer->room = room;
    world->peers[world->peer_count++] = peer;
    complete(at->backend, at->tag, SOCKET_FD_BASE + (int)peer->index, SC_COMPLETION_MORE);
    return peer;
}

static void end_receive(struct peer *peer, int result) {
    peer->receiving = false;
    complete(peer->backend, peer->receive_tag, result, 0);
}

bool world_deliver(struct world *world, struct peer *peer, size_t most) {
    size_t left = bytes_left(&peer->to_node);
    if (!peer->receiving || (left == 0 && !peer->client_ended))
        return false;
    struct shard_backend *backend = peer->backend;
    if (left == 0) {
        end_receive(peer, 0);
        return true;
    }
    if (backend->free_count == 0) {
        end_receive(peer, -ENOBUFS);
        return true;
    }
    uint32_t buffer = backend->free_buffers[--backend->free_count];
    size_t size = left < backend->base.config->receive_buffer_size
                      ? left
                      : backend->base.config->receive_buffer_size;
    if (size > most)
        size = most;
    memcpy(backend->base.buffers + (size_t)buffer * backend->base.config->receive_buffer_size,
           bytes_front(&peer->to_node), size);
    bytes_take(&peer->to_node, size);
    backend->base.buffers_out++;
    peer->receiving = !peer->once;
    complete(backend, peer->receive_tag, (ssize_t)size,
             SC_COMPLETION_BUFFER | (peer->once ? 0 : SC_COMPLETION_MORE) |
                 buffer << SC_COMPLETION_BUFFER_SHIFT);
    (void)world;
    return true;
}

// ---- Files

static void disk_completed(struct sc_file_op *op, ssize_t result) {
    struct file_operation *operation = (struct file_operation *)(void *)op;
    struct shard_backend *backend = operation->backend;
    complete(backend, sc_tag(SC_KIND_FILE, (uint64_t)(uintptr_t)operation->real), result, 0);
    operation->next_free = backend->world->free_operations;
    backend->world->free_operations = operation;
}

static struct sc_file_op *stand_in(struct sc_loop *loop, struct sc_file_op *real) {
    struct shard_backend *backend = own(sc_loop_backend(loop));
    struct world *world = backend->world;
    struct file_operation *operation = world->free_operations;
    if (operation != NULL)
        world->free_operations = operation->next_free;
    else if ((operation = malloc(sizeof *operation)) == NULL)
        abort();
    *operation = (struct file_operation){.op = {.site = real->site, .on_complete = disk_completed},
                                         .real = real,
                                         .backend = backend};
    backend->base.files_in_flight++;
    return &operation->op;
}

static struct sc_loop *disk_of(struct sc_loop *loop) {
    return (struct sc_loop *)(void *)own(sc_loop_backend(loop))->world->disk;
}

static void file_read(struct sc_loop *loop, struct sc_file_op *op, int fd, void *data,
                      uint32_t size, uint64_t offset) {
    sim_ops.read(disk_of(loop), stand_in(loop, op), fd, data, size, offset);
}
static void file_write(struct sc_loop *loop, struct sc_file_op *op, int fd, const void *data,
                       uint32_t size, uint64_t offset) {
    sim_ops.write(disk_of(loop), stand_in(loop, op), fd, data, size, offset);
}
static void file_write_flush(struct sc_loop *loop, struct sc_file_op *op, int fd, const void *data,
                             uint32_t size, uint64_t offset) {
    sim_ops.write_flush(disk_of(loop), stand_in(loop, op), fd, data, size, offset);
}
static void file_write_pages(struct sc_loop *loop, struct sc_file_op *op, int fd, const void *data,
                             uint32_t size, uint64_t offset) {
    sim_ops.write_pages(disk_of(loop), stand_in(loop, op), fd, data, size, offset);
}
static void file_flush(struct sc_loop *loop, struct sc_file_op *op, int fd, bool data_only) {
    sim_ops.flush(disk_of(loop), stand_in(loop, op), fd, data_only);
}
static void file_open(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                      const char *path, int flags, uint32_t mode) {
    sim_ops.open(disk_of(loop), stand_in(loop, op), directory_fd, path, flags, mode);
}
static void file_allocate(struct sc_loop *loop, struct sc_file_op *op, int fd, uint64_t offset,
                          uint64_t size) {
    sim_ops.allocate(disk_of(loop), stand_in(loop, op), fd, offset, size);
}
static void file_rename(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                        const char *from, const char *to) {
    sim_ops.rename(disk_of(loop), stand_in(loop, op), directory_fd, from, to);
}
static void file_unlink(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                        const char *path) {
    sim_ops.unlink(disk_of(loop), stand_in(loop, op), directory_fd, path);
}
static void file_mkdir(struct sc_loop *loop, struct sc_file_op *op, int directory_fd,
                       const char *path, uint32_t mode) {
    sim_ops.mkdir(disk_of(loop), stand_in(loop, op), directory_fd, path, mode);
}
static void file_close(struct sc_loop *loop, struct sc_file_op *op, int fd) {
    sim_ops.close(disk_of(loop), stand_in(loop, op), fd);
}
static void file_forget(struct sc_loop *loop, struct sc_file_op *op, int fd) {
    sim_ops.forget(disk_of(loop), stand_in(loop, op), fd);
}
static int file_list(struct sc_loop *loop, int directory_fd, void (*body)(const char *, void *),
                     void *context) {
    return sim_ops.list(disk_of(loop), directory_fd, body, context);
}
static int64_t file_size(struct sc_loop *loop, int fd) {
    return sim_ops.size(disk_of(loop), fd);
}
static int64_t file_data(struct sc_loop *loop, int fd, uint64_t offset) {
    return sim_ops.data(disk_of(loop), fd, offset);
}
static int64_t file_links(struct sc_loop *loop, int fd) {
    return sim_ops.links(disk_of(loop), fd);
}
static int file_direct(struct sc_loop *loop, int fd) {
    return sim_ops.direct(disk_of(loop), fd);
}
static int file_lock(struct sc_loop *loop, int fd) {
    return sim_ops.lock(disk_of(loop), fd);
}

static const struct sc_file_ops file_ops = {.read = file_read,
                                            .write = file_write,
                                            .write_flush = file_write_flush,
                                            .write_pages = file_write_pages,
                                            .flush = file_flush,
                                            .open = file_open,
                                            .allocate = file_allocate,
                                            .rename = file_rename,
                                            .unlink = file_unlink,
                                            .mkdir = file_mkdir,
                                            .close = file_close,
                                            .forget = file_forget,
                                            .wait = sc_loop_run_once,
                                            .list = file_list,
                                            .size = file_size,
                                            .data = file_data,
                                            .links = file_links,
                                            .direct = file_direct,
                                            .lock = file_lock};

// ---- The turn

static void submit(struct sc_backend *base) {
    (void)base;
}

// Nobody sleeps: a turn without work ends, and the simulator says whose is next.
static void wait_for(struct sc_backend *base, uint64_t timeout_ns) {
    struct shard_backend *backend = own(base);
    if (timeout_ns == 0 || !backend->world->eager || queued(backend) > 0)
        return;
    if (backend->world->disk != NULL && sim_complete_one(backend->world->disk))
        return;
    if (timeout_ns != UINT64_MAX)
        backend->world->now_ns += timeout_ns;
}

static unsigned look(const struct sc_backend *base) {
    return queued((const struct shard_backend *)(const void *)base) > 0 ? SC_BACKEND_READY : 0;
}

static void run(struct sc_backend *base, const struct sc_completion *completion) {
    (void)base, (void)completion;
    abort(); // It has none of its own.
}

static uint64_t end_turn(struct sc_backend *base) {
    (void)base;
    return 0;
}

static void wake(struct sc_backend *to, struct sc_backend *from) {
    (void)to, (void)from;
}

// Work takes time, for who looks at the clock twice.
static uint64_t clock_ns(const struct sc_backend *base, clockid_t clock) {
    struct world *world = ((const struct shard_backend *)(const void *)base)->world;
    world->now_ns += world_random(world, 3000);
    if (clock == CLOCK_MONOTONIC)
        return 1000000000u + world->now_ns;
    return (uint64_t)((int64_t)EPOCH_MS + world->wall_offset_ms) * 1000000u + world->now_ns;
}

const struct sc_backend_kind world_backend = {.name = "simulator",
                                              .open = open_backend,
                                              .close = close_backend,
                                              .explain = explain,
                                              .accept = accept_on,
                                              .receive = receive,
                                              .send = send_pieces,
                                              .connect = connect_to,
                                              .cancel = cancel,
                                              .close_socket = close_socket,
                                              .shutdown = shut_down,
                                              .unacknowledged = unacknowledged,
                                              .give_buffer = give_buffer,
                                              .files = &file_ops,
                                              .submit = submit,
                                              .wait = wait_for,
                                              .look = look,
                                              .take = take,
                                              .run = run,
                                              .end_turn = end_turn,
                                              .wake = wake,
                                              .clock_ns = clock_ns};
