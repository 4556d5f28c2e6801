// Where the node listens. The name of a host may have several addresses: all that this host has are listened at. Each
// shard listens for stream clients itself; the first one accepts all workers and deals them out.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core_functions.h"

#define BACKLOG 4096
// With port 0 the first address picks the port, which may be taken at the next one.
#define PICKS_MAX 16u

// ---- Accepting

struct adoption {
    struct sc_loop_message message;
    struct shard *shard;
    const struct port *port; // Of that shard.
    int fd;
};

static void adopt(struct sc_loop_message *message) {
    struct adoption *adoption = SC_CONTAINER_OF(message, struct adoption, message);
    sc_accept(adoption->shard, adoption->port, adoption->fd);
    free(adoption);
}

static void stream_accepted(struct sc_listener *listener, int fd) {
    struct port_listener *own = SC_CONTAINER_OF(listener, struct port_listener, listener);
    sc_accept(own->shard, &own->shard->stream_port, fd);
}

// Workers are few and stay long: dealt out by count, since a hash of the address would fall unevenly.
static void worker_accepted(struct sc_listener *listener, int fd) {
    struct port_listener *own = SC_CONTAINER_OF(listener, struct port_listener, listener);
    struct sc_node *node = own->shard->node;
    uint32_t best = 0, fewest = UINT32_MAX;
    for (uint32_t i = 0; i < node->shard_count; i++) {
        uint32_t count = atomic_load_explicit(&node->worker_counts[i], memory_order_relaxed);
        if (count < fewest) {
            fewest = count;
            best = i;
        }
    }
    atomic_fetch_add_explicit(&node->worker_counts[best], 1, memory_order_relaxed);
    if (best == own->shard->index) {
        sc_accept(own->shard, &own->shard->worker_ports[own->index], fd);
        return;
    }
    struct adoption *adoption = sc_allocate(sizeof *adoption);
    struct shard *shard = node->shards[best];
    *adoption = (struct adoption){
        .message.run = adopt, .shard = shard, .port = &shard->worker_ports[own->index], .fd = fd};
    sc_loop_post(adoption->shard->loop, &adoption->message);
}

static void closed(struct sc_listener *listener) {
    SC_CONTAINER_OF(listener, struct port_listener, listener)->shard->open_listeners--;
}

// ---- Why an address cannot be had

enum holder { HOLDER_UNKNOWN, HOLDER_LISTENER, HOLDER_CONNECTION };

// The kernel's table of sockets says what has the port, if it can be read.
static enum holder holder_of(const char *table, uint16_t port) {
    FILE *file = fopen(table, "re");
    if (file == NULL)
        return HOLDER_UNKNOWN;
    enum holder holder = HOLDER_UNKNOWN;
    char line[512];
    while (holder != HOLDER_LISTENER && fgets(line, sizeof line, file) != NULL) {
        unsigned local_port, state;
        if (sscanf(line, " %*u: %*[0-9A-Fa-f]:%x %*[0-9A-Fa-f]:%*x %x", &local_port, &state) == 2 &&
            local_port == port)
            holder = state == 0x0a ? HOLDER_LISTENER : HOLDER_CONNECTION;
    }
    fclose(file);
    return holder;
}

static int explain_in_use(struct sc_node *node, const char *host, uint16_t port) {
    enum holder holder = holder_of("/proc/net/tcp", port);
    enum holder other = holder_of("/proc/net/tcp6", port);
    if (other == HOLDER_LISTENER || holder == HOLDER_UNKNOWN)
        holder = other;
    if (holder == HOLDER_CONNECTION)
        snprintf(node->start_reason, sizeof node->start_reason,
                 "address %s:%u is already in use: by a connection to which the kernel has lent "
                 "the port; keep it for the node with sysctl -w "
                 "net.ipv4.ip_local_reserved_ports=%u, or choose another one",
                 host, port, port);
    else
        snprintf(node->start_reason, sizeof node->start_reason, "address %s:%u is already in use%s",
                 host, port, holder == HOLDER_LISTENER ? ": another process listens there" : "");
    return -EADDRINUSE;
}

static int explain(struct sc_node *node, const char *host, uint16_t port, int rc) {
    if (rc == -EADDRINUSE)
        return explain_in_use(node, host, port);
    snprintf(node->start_reason, sizeof node->start_reason, "failed to bind to %s:%u: %s", host,
             port, rc == -ENOENT ? "no such host" : strerror(-rc));
    return rc;
}

// ---- Listening

// A process that was killed has its addresses for some milliseconds after its end: the kernel frees its ring, and with
// it the listeners, a little later.
static int bind_patiently(const char *host, uint16_t port, bool shared, uint16_t *bound) {
    static const struct timespec pause = {.tv_nsec = 5000000};
    for (uint32_t waited_ms = 0;; waited_ms += 5) {
        int fd = sc_listen(host, port, shared, BACKLOG, bound);
        if (fd != -EADDRINUSE || waited_ms >= SC_LISTEN_PATIENCE_MS)
            return fd;
        nanosleep(&pause, NULL);
    }
}

static bool is_missing(int rc) {
    return rc == -EADDRNOTAVAIL || rc == -EAFNOSUPPORT;
}

static int open_listener(struct shard *shard, int fd, bool is_stream, uint32_t index) {
    if (is_stream) // Accepted sockets inherit it.
        sc_listen_unsent(fd, shard->node->config.client_unsent_size);
    struct port_listener *own = &shard->listeners[shard->listener_count];
    *own = (struct port_listener){
        .listener = {.on_accept = is_stream ? stream_accepted : worker_accepted,
                     .on_closed = closed},
        .shard = shard,
        .index = index};
    int rc = sc_listener_open(shard->loop, &own->listener, fd);
    if (rc < 0) {
        close(fd);
        return rc;
    }
    shard->listener_count++;
    shard->open_listeners++;
    return 0;
}

// Binds all addresses of a place to one port. Those that this host does not have are left out from here on.
static int bind_all(struct sc_node *node, struct listen_place *place, uint16_t port,
                    int fds[SC_HOST_ADDRESSES_MAX]) {
    uint32_t count = 0;
    int rc = -ENOENT;
    place->port = port;
    for (uint32_t i = 0; i < place->host.count; i++) {
        const char *host = place->host.texts[i];
        uint16_t bound = place->port;
        rc = bind_patiently(host, place->port, false, &bound);
        if (is_missing(rc) && place->host.count > 1)
            continue;
        if (rc < 0) {
            rc = explain(node, host, place->port, rc);
            while (count > 0)
                close(fds[--count]);
            return rc;
        }
        place->port = bound;
        fds[count] = rc;
        if (count != i)
            memcpy(place->host.texts[count], host, sizeof place->host.texts[count]);
        count++;
    }
    if (count == 0)
        return explain(node, place->host.texts[0], port, rc);
    place->host.count = count;
    return 0;
}

static int listen_first(struct shard *shard, struct listen_place *place, uint16_t port,
                        bool is_stream, uint32_t index) {
    int fds[SC_HOST_ADDRESSES_MAX];
    int rc = -EADDRINUSE;
    uint32_t picks = port == 0 ? PICKS_MAX : 1;
    for (uint32_t i = 0; i < picks && rc == -EADDRINUSE; i++)
        rc = bind_all(shard->node, place, port, fds);
    for (uint32_t i = 0; rc == 0 && i < place->host.count; i++)
        rc = open_listener(shard, fds[i], is_stream, index);
    return rc;
}

static int listen_shared(struct shard *shard, const struct listen_place *place) {
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < place->host.count; i++) {
        uint16_t bound;
        int fd = bind_patiently(place->host.texts[i], place->port, true, &bound);
        rc = fd < 0 ? explain(shard->node, place->host.texts[i], place->port, fd)
                    : open_listener(shard, fd, true, 0);
    }
    return rc;
}

int sc_places_resolve(struct sc_node *node) {
    const struct sc_node_config *config = &node->config;
    for (uint32_t i = config->without_streams ? 1 : 0; i <= config->worker_count; i++) {
        const struct sc_node_address *address = i == 0 ? &config->stream : &config->workers[i - 1];
        int rc = sc_host_addresses(address->host, &node->places[i].host);
        if (rc < 0)
            return explain(node, address->host, address->port, rc);
    }
    return 0;
}

int sc_listeners_open(struct shard *shard) {
    struct sc_node *node = shard->node;
    const struct sc_node_config *config = &node->config;
    uint32_t places = shard->index == 0 ? 1 + config->worker_count : 1;
    shard->listeners = sc_allocate(places * SC_HOST_ADDRESSES_MAX * sizeof *shard->listeners);
    bool has_streams = !config->without_streams;
    if (shard->index > 0)
        return has_streams ? listen_shared(shard, &node->places[0]) : 0;
    int rc = 0;
    if (has_streams)
        rc = listen_first(shard, &node->places[0], config->stream.port, true, 0);
    for (uint32_t i = 0; rc == 0 && i < config->worker_count; i++)
        rc = listen_first(shard, &node->places[i + 1], config->workers[i].port, false, i);
    return rc;
}

void sc_listeners_close(struct shard *shard) {
    if (shard->listener_count == 0 || shard->listeners_closing)
        return;
    shard->listeners_closing = true;
    for (uint32_t i = 0; i < shard->listener_count; i++)
        sc_listener_close(shard->loop, &shard->listeners[i].listener);
}

void sc_listeners_pause_workers(struct shard *shard, bool pause) {
    if (shard->listeners_closing || shard->workers_paused == pause)
        return;
    shard->workers_paused = pause;
    shard->counters.accepts_paused += pause;
    for (uint32_t i = 0; i < shard->listener_count; i++) {
        struct sc_listener *listener = &shard->listeners[i].listener;
        if (listener->on_accept != worker_accepted)
            continue;
        if (pause)
            sc_listener_pause(shard->loop, listener);
        else
            sc_listener_resume(shard->loop, listener);
    }
}

// ---- What it has come to

static const struct listen_place *place_of(const struct sc_node *node, int worker) {
    assert(worker >= -1 && worker < (int)node->config.worker_count);
    return &node->places[worker + 1];
}

uint16_t sc_node_port(const struct sc_node *node, int worker) {
    return place_of(node, worker)->port;
}

uint32_t sc_node_address_count(const struct sc_node *node, int worker) {
    return place_of(node, worker)->host.count;
}

const char *sc_node_address_text(const struct sc_node *node, int worker, uint32_t index) {
    assert(index < place_of(node, worker)->host.count);
    return place_of(node, worker)->host.texts[index];
}
