// New certificates on their way to the shards, whose new connections begin with them.
#include <stdlib.h>

#include "node.h"

struct exchange {
    struct sc_loop_message message;
    struct shard *shard;
    struct sc_tls_context *context; // A reference.
    uint32_t port;
    uint32_t *done; // Under the node's lock.
};

static void run(struct sc_loop_message *message) {
    struct exchange *exchange = SC_CONTAINER_OF(message, struct exchange, message);
    struct sessions *sessions = sessions_of(exchange->shard);
    struct sc_node *node = node_of(exchange->shard);
    struct entrance *entrance = exchange->port == 0
                                    ? &sessions->stream_entrance
                                    : &sessions->worker_entrances[exchange->port - 1];
    sc_tls_context_release(entrance->port.tls);
    entrance->port.tls = exchange->context;
    pthread_mutex_lock(&node->lock);
    ++*exchange->done;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

// Waits until all have it: whoever is told of the new certificate finds no shard that shows the old one.
static void tell_shards(struct sc_node *node, uint32_t port) {
    if (!sc_node_api_enter(node))
        return;
    uint32_t count = node->shared.shard_count, done = 0;
    struct exchange *exchanges = sc_allocate(count * sizeof *exchanges);
    for (uint32_t i = 0; i < count; i++) {
        exchanges[i] = (struct exchange){.message.run = run,
                                         .shard = node->shared.shards[i],
                                         .context = sc_certificates_context(node, port),
                                         .port = port,
                                         .done = &done};
        sc_loop_post(exchanges[i].shard->loop, &exchanges[i].message);
    }
    pthread_mutex_lock(&node->lock);
    while (done < count)
        sc_node_wait(node);
    pthread_mutex_unlock(&node->lock);
    free(exchanges);
    sc_node_api_leave(node);
}

struct sc_certificate_look sc_node_look_at_certificate(struct sc_node *node, int worker,
                                                       uint64_t now_seconds, bool at_once) {
    uint32_t port = (uint32_t)(worker + 1);
    struct sc_certificate_look look = sc_certificates_look_at(node, port, now_seconds, at_once);
    if (look.taken)
        tell_shards(node, port);
    return look;
}
