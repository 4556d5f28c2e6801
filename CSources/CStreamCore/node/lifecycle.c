// The start and the end of a shard, as far as shards wait for each other. The node's lock guards what they share.
#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include "node.h"

// A stop ends soon after the last connection, without a message from each place that could be the last.
#define STOP_LOOK_MS 10

// ---- Start

// One reason is told: the first. What follows from it would only hide it.
void sc_node_note_failure(struct sc_node *node, int rc, const struct start_failure *why) {
    if (node->start_error != 0)
        return;
    node->start_error = rc;
    node->start_step = why->step;
    if (why->reason[0] != 0)
        snprintf(node->start_reason, sizeof node->start_reason, "%s", why->reason);
}

// Time stamps are the order of what clients see. A clock that is far off would make stamps that stay in the store, and no later one
// could be newer: so such a start is refused.
static int start_loop(struct shard *shard, struct start_failure *why) {
    why->step = SC_START_LOOP;
    int rc = sc_shard_set_up(shard);
    if (rc == 0 && !sc_clock_is_sane(sc_loop_unix_ms(shard->loop))) {
        snprintf(why->reason, sizeof why->reason,
                 "the clock is not set: it says %llu ms since 1970, which is no time between 2000 "
                 "and 2200",
                 (unsigned long long)sc_loop_unix_ms(shard->loop));
        rc = -ETIME;
    }
    return rc;
}

// Shards listen one after the other, so that the first listener picks the port.
static int start_listening(struct shard *shard, struct start_failure *why) {
    struct sc_node *node = node_of(shard);
    why->step = SC_START_LISTEN;
    sc_storage_started(shard);
    pthread_mutex_lock(&node->lock);
    while (node->listening < shard->index && node->start_error == 0)
        sc_node_wait(node);
    int rc = node->start_error;
    pthread_mutex_unlock(&node->lock);
    if (rc == 0 && !node->shared.config.without_ports)
        rc = sc_shard_listen(shard);
    pthread_mutex_lock(&node->lock);
    if (rc < 0)
        sc_node_note_failure(node, rc, why); // Before the next one listens.
    node->listening++;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
    return rc;
}

// The default of `why` is what fails most, so that a step says something else only where it knows better.
int sc_shard_start_step(struct shard *shard, uint32_t step, struct start_failure *why) {
    static int (*const steps[START_STEPS])(struct shard *, struct start_failure *) = {
        start_loop, sc_storage_start_directory, sc_storage_start_log, sc_storage_start_commit,
        start_listening};
    *why = (struct start_failure){.step = SC_START_DIRECTORY};
    return steps[step](shard, why);
}

// Waits until all shards have come here. Returns the first error of any of them, or 0.
static int barrier(struct shard *shard, int rc, const struct start_failure *why) {
    struct sc_node *node = node_of(shard);
    pthread_mutex_lock(&node->lock);
    if (rc < 0)
        sc_node_note_failure(node, rc, why);
    uint32_t all = (node->met++ / node->shared.shard_count + 1) * node->shared.shard_count;
    // The last one says how it ended: a shard that wakes late must not take a later failure for this one's.
    if (node->met == all)
        node->met_result = node->start_error;
    pthread_cond_broadcast(&node->changed);
    while (node->met < all && !node->incomplete)
        sc_node_wait(node);
    rc = node->incomplete ? node->start_error : node->met_result;
    pthread_mutex_unlock(&node->lock);
    return rc;
}

// A shard that fails goes on to the barrier all the same: the others wait for it there.
int sc_shard_start(struct shard *shard) {
    struct sc_node *node = node_of(shard);
    int rc = 0;
    for (uint32_t i = 0; i < START_STEPS && rc == 0; i++) {
        struct start_failure why;
        rc = sc_shard_start_step(shard, i, &why);
        rc = barrier(shard, rc, &why);
    }
    pthread_mutex_lock(&node->lock);
    node->started++;
    pthread_cond_broadcast(&node->changed);
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
        sc_node_wait(node);
    pthread_mutex_unlock(&node->lock);
}

// ---- Stop

// A shard may end only when nothing of it is on another one's thread. What waits here for the disk counts too: callers are owed their
// answers, and their shards hear of them from here.
bool sc_shard_waits_for_peers(const struct shard *shard) {
    for (uint32_t i = 0; i < shard->node->shard_count; i++)
        if (shard->peers[i].requests > 0 || shard->peers[i].event_bytes > 0)
            return true;
    return shard->outcomes.head != shard->outcomes.tail || shard->readings.first != NULL ||
           streams_of(shard)->joins_ready != NULL || shard->call_queues.waiting > 0 ||
           !sc_wait_list_is_empty(&calls_of(shard)->gathers) ||
           !sc_wait_list_is_empty(&calls_of(shard)->collections);
}

// Listeners are closed by completions: until then one more connection may come.
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

// The patience of the stop is over: peers that do not take what is theirs are cut off.
static void reset_all(struct transport *transport) {
    for (uint32_t slot = 0; slot < transport->slot_count; slot++)
        if (sc_transport_at(transport, slot) != NULL)
            sc_connection_end(sc_transport_at(transport, slot), END_RESET);
}

// Every few milliseconds until the end: work of other shards may come after this one has been quiet, and is served.
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

// Each in the way of its role. A connection that is closing already is left alone: its own time limit ends it.
static void close_all(struct transport *transport, const struct role *role, uint16_t code) {
    for (uint32_t slot = 0; slot < transport->slot_count; slot++) {
        struct connection *connection = sc_transport_at(transport, slot);
        if (connection != NULL && connection->port->role == role)
            sc_connection_close(connection, code, "shutting down");
    }
}

// 1001: browsers come again by themselves, to another node or to this one when it is back.
void sc_shard_close_clients(struct shard *shard) {
    shard->stopping = true;
    sc_listeners_close(&sessions_of(shard)->listeners);
    close_all(&shard->transport, &sc_stream_role, 1001);
}

// Workers go last, and with 1012: they have answers to come, and their SDKs reconnect from that.
void sc_shard_stop(struct shard *shard) {
    sc_shard_close_clients(shard);
    close_all(&shard->transport, &sc_worker_role, 1012);
    node_shard_of(shard)->stop_timer.on_due = stop_look;
    sc_timer_start(shard->loop, &node_shard_of(shard)->stop_timer, 1);
}
