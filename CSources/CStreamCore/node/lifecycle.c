// The start and the end of a shard, as far as shards wait for each other. The node's lock guards what they share.
#include <pthread.h>
#include <stdio.h>

#include "../sessions/sessions.h"
#include "node.h"

#define STOP_LOOK_MS 10

// ---- Start

int sc_shards_barrier(struct shard *shard, int rc, enum sc_start_step step, const char *reason) {
    struct sc_node *node = node_of(shard);
    pthread_mutex_lock(&node->lock);
    if (rc < 0 && node->start_error == 0) {
        node->start_error = rc;
        node->start_step = step;
        if (reason != NULL)
            snprintf(node->start_reason, sizeof node->start_reason, "%s", reason);
    }
    uint32_t all = (node->met++ / node->shared.shard_count + 1) * node->shared.shard_count;
    // The last one says how it ended: a shard that wakes late must not take a later failure for this one's.
    if (node->met == all)
        node->met_result = node->start_error;
    pthread_cond_broadcast(&node->changed);
    while (node->met < all && !node->incomplete)
        pthread_cond_wait(&node->changed, &node->lock);
    rc = node->incomplete ? node->start_error : node->met_result;
    pthread_mutex_unlock(&node->lock);
    return rc;
}

static int open_listeners(struct shard *shard) {
    struct sc_node *node = node_of(shard);
    pthread_mutex_lock(&node->lock);
    while (node->started < shard->index && node->start_error == 0)
        pthread_cond_wait(&node->changed, &node->lock);
    int rc = node->start_error;
    pthread_mutex_unlock(&node->lock);
    if (rc == 0 && !node->shared.config.without_ports)
        rc = sc_shard_listen(shard);
    return rc;
}

// Shards listen one after the other, so that the first listener picks the port; nobody accepts before all
// have, because until then nothing may be sent from shard to shard.
int sc_shard_report_start(struct shard *shard, int rc) {
    if (rc == 0)
        rc = open_listeners(shard);
    struct sc_node *node = node_of(shard);
    pthread_mutex_lock(&node->lock);
    if (rc < 0 && node->start_error == 0) {
        node->start_error = rc;
        node->start_step = SC_START_LISTEN;
    }
    node->started++;
    pthread_cond_broadcast(&node->changed);
    while (node->started < node->shared.shard_count && node->start_error == 0)
        pthread_cond_wait(&node->changed, &node->lock);
    rc = node->start_error;
    pthread_mutex_unlock(&node->lock);
    return rc;
}

void sc_shard_say_ended(struct shard *shard) {
    struct sc_node *node = node_of(shard);
    pthread_mutex_lock(&node->lock);
    // No shard frees what another one may still look at: all leave together.
    node->ended++;
    pthread_cond_broadcast(&node->changed);
    while (node->ended < node->shared.shard_count)
        pthread_cond_wait(&node->changed, &node->lock);
    pthread_mutex_unlock(&node->lock);
}

// ---- Stop

bool sc_shard_waits_for_peers(const struct shard *shard) {
    for (uint32_t i = 0; i < shard->node->shard_count; i++)
        if (shard->peers[i].requests > 0 || shard->peers[i].event_bytes > 0)
            return true;
    return shard->outcomes.head != shard->outcomes.tail || shard->readings.first != NULL ||
           streams_of(shard)->joins_ready != NULL || shard->call_queues.waiting > 0 ||
           !sc_wait_list_is_empty(&calls_of(shard)->gathers) ||
           !sc_wait_list_is_empty(&calls_of(shard)->collections);
}

static bool is_quiet(const struct shard *shard) {
    return shard->transport.connection_count == 0 && sessions_of(shard)->listeners.open == 0 &&
           !sc_shard_waits_for_peers(shard);
}

static void say_quiet(struct shard *shard) {
    struct sc_node *node = node_of(shard);
    pthread_mutex_lock(&node->lock);
    node->quiet++;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

static void reset_all(struct transport *transport) {
    for (uint32_t slot = 0; slot < transport->slot_count; slot++)
        if (sc_transport_at(transport, slot) != NULL)
            sc_connection_end(sc_transport_at(transport, slot), END_RESET);
}

static void stop_look(struct sc_timer *timer) {
    struct shard *shard = shard_of_timer(timer, offsetof(struct node_shard, stop_timer));
    if (sc_loop_monotonic_ns(shard->loop) >= shard->stop_due_ns)
        reset_all(&shard->transport);
    if (is_quiet(shard) && !node_shard_of(shard)->quiet) {
        node_shard_of(shard)->quiet = true;
        say_quiet(shard);
    }
    sc_timer_start(shard->loop, timer, STOP_LOOK_MS);
}

static void close_all(struct transport *transport, const struct role *role, uint16_t code) {
    for (uint32_t slot = 0; slot < transport->slot_count; slot++) {
        struct connection *connection = sc_transport_at(transport, slot);
        if (connection != NULL && connection->port->role == role)
            sc_connection_close(connection, code, "shutting down");
    }
}

void sc_shard_close_clients(struct shard *shard) {
    shard->stopping = true;
    sc_listeners_close(&sessions_of(shard)->listeners);
    close_all(&shard->transport, &sc_stream_role, 1001);
}

void sc_shard_stop(struct shard *shard) {
    sc_shard_close_clients(shard);
    close_all(&shard->transport, &sc_worker_role, 1012);
    node_shard_of(shard)->stop_timer.on_due = stop_look;
    sc_timer_start(shard->loop, &node_shard_of(shard)->stop_timer, 1);
}
