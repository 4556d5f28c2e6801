// Where the node listens. Each shard listens for stream clients itself; the first one accepts all workers and deals them
// out.
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "../sessions/sessions.h"
#include "node.h"

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

static struct shard *shard_with_fewest_workers(struct sc_node *node) {
    uint32_t best = 0, fewest = UINT32_MAX;
    for (uint32_t i = 0; i < node->shared.shard_count; i++) {
        uint32_t count = atomic_load_explicit(&node->shared.worker_counts[i], memory_order_relaxed);
        if (count < fewest) {
            fewest = count;
            best = i;
        }
    }
    atomic_fetch_add_explicit(&node->shared.worker_counts[best], 1, memory_order_relaxed);
    return node->shared.shards[best];
}

// Workers are few and stay long: dealt out by count, since a hash of the address would fall unevenly.
static void accepted(struct listeners *listeners, const struct port *port, int fd) {
    struct shard *own =
        &SC_CONTAINER_OF(listeners, struct sessions, listeners)->calls.streams.shard;
    bool is_worker = entrance_of(port)->door == DOOR_WORKER;
    struct shard *shard = is_worker ? shard_with_fewest_workers(node_of(own)) : own;
    if (shard == own) {
        sc_accept(own, port, fd);
        return;
    }
    struct adoption *adoption = sc_allocate(sizeof *adoption);
    *adoption = (struct adoption){.message.run = adopt,
                                  .shard = shard,
                                  .port = &sessions_of(shard)->worker_entrances[port->index].port,
                                  .fd = fd};
    sc_loop_post(shard->loop, &adoption->message);
}

// ---- Listening

static int explained(struct sc_node *node, int rc, const struct listen_reason *reason) {
    if (rc < 0)
        snprintf(node->start_reason, sizeof node->start_reason, "%s", reason->text);
    return rc;
}

int sc_places_resolve(struct sc_node *node) {
    const struct sc_node_config *config = &node->shared.config;
    struct listen_reason reason;
    int rc = 0;
    for (uint32_t i = config->without_streams ? 1 : 0; rc == 0 && i <= config->worker_count; i++) {
        const struct sc_node_address *address = i == 0 ? &config->stream : &config->workers[i - 1];
        rc = sc_place_resolve(&node->places[i], address->host, address->port, &reason);
    }
    return explained(node, rc, &reason);
}

static int open_listener(struct shard *shard, const struct port *port, int fd) {
    if (entrance_of(port)->door == DOOR_STREAM) // Accepted sockets inherit it.
        sc_listen_unsent(fd, shard->node->config.client_unsent_size);
    return sc_listeners_add(&sessions_of(shard)->listeners, port, fd);
}

static int listen_first(struct shard *shard, struct listen_place *place, uint16_t number,
                        const struct port *port) {
    int fds[SC_HOST_ADDRESSES_MAX];
    struct listen_reason reason;
    int count = explained(node_of(shard), sc_place_bind(place, number, fds, &reason), &reason);
    int rc = count < 0 ? count : 0, i = 0;
    for (; rc == 0 && i < count; i++)
        rc = open_listener(shard, port, fds[i]);
    for (; i < count; i++)
        close(fds[i]);
    return rc;
}

static int listen_shared(struct shard *shard, const struct listen_place *place) {
    struct listen_reason reason;
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < place->host.count; i++) {
        int fd = explained(node_of(shard), sc_place_share(place, i, &reason), &reason);
        rc = fd < 0 ? fd : open_listener(shard, &sessions_of(shard)->stream_entrance.port, fd);
    }
    return rc;
}

int sc_shard_listen(struct shard *shard) {
    struct sc_node *node = node_of(shard);
    const struct sc_node_config *config = &node->shared.config;
    uint32_t places = shard->index == 0 ? 1 + config->worker_count : 1;
    sc_listeners_init(&sessions_of(shard)->listeners, shard->loop, places * SC_HOST_ADDRESSES_MAX,
                      accepted);
    bool has_streams = !config->without_streams;
    if (shard->index > 0)
        return has_streams ? listen_shared(shard, &node->places[0]) : 0;
    int rc = 0;
    if (has_streams)
        rc = listen_first(shard, &node->places[0], config->stream.port,
                          &sessions_of(shard)->stream_entrance.port);
    for (uint32_t i = 0; rc == 0 && i < config->worker_count; i++)
        rc = listen_first(shard, &node->places[i + 1], config->workers[i].port,
                          &sessions_of(shard)->worker_entrances[i].port);
    return rc;
}

// ---- What it has come to

static const struct listen_place *place_of(const struct sc_node *node, int worker) {
    assert(worker >= -1 && worker < (int)node->shared.config.worker_count);
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
