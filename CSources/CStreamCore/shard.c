// A shard: one thread, one loop, its connections and its groups. What a turn has gathered leaves at its
// end: messages that waited, frames for members, batches for other shards, then one send a connection.
#define _GNU_SOURCE // pthread_setname_np()
#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core_functions.h"

#define TIDY_PAUSE_MS 1
#define STOP_LOOK_MS 10

uint64_t sc_now_ms(const struct shard *shard) {
    uint64_t now_ms = sc_loop_unix_ms(shard->loop);
    return sc_clock_is_sane(now_ms) ? now_ms : 0; // Time stamps count on from the last one.
}

void sc_shard_log(struct shard *shard, enum sc_log_level level, const char *event,
                  uint64_t connection, struct sc_bytes detail) {
    const struct sc_node_events *events = &shard->node->events;
    events->log(events->context, level, event, connection, detail);
}

// ---- The end of a turn

// A shard without work goes on by the timer.
static void tidy(struct shard *shard) {
    if (sc_store_tidy(shard->store) && shard->tidy_timer.due_ns == 0)
        sc_timer_start(shard->loop, &shard->tidy_timer, TIDY_PAUSE_MS);
}

static void tidy_due(struct sc_timer *timer) {
    (void)timer; // The turn's end does it.
}

static void on_turn(void *context) {
    struct shard *shard = context;
    if (shard->call_queues.table.count > 0)
        sc_call_queues_turn(shard);
    if (shard->stepped > 0) {
        sc_listing_turn(shard);
        sc_names_turn(shard);
    }
    if (!sc_wait_list_is_empty(&shard->transport.parked))
        sc_transport_resume(&shard->transport);
    if (!sc_wait_list_is_empty(&shard->leaving))
        sc_clients_leave(shard);
    sc_topics_settle(shard);
    sc_batches_post(shard);
    sc_durable_turn(shard); // The disk works while the sockets are served.
    sc_transport_flush(&shard->transport);
    if (!sc_wait_list_is_empty(&shard->leaving)) // Members that turned out too slow, and the rest.
        sc_clients_leave(shard);
    if (shard->call_queues.waiting > 0 && sc_call_queues_may_run(shard))
        sc_shard_turn_again(shard); // The log has taken what waited.
    tidy(shard);
}

static void turn_again(struct sc_loop_message *message) {
    SC_CONTAINER_OF(message, struct shard, again)->turns_again = false;
}

void sc_shard_turn_again(struct shard *shard) {
    if (shard->turns_again)
        return;
    shard->turns_again = true;
    shard->again.run = turn_again;
    sc_loop_post(shard->loop, &shard->again);
}

// ---- Start

static void snapshots_due(struct sc_timer *timer) {
    (void)timer; // The turn's end looks at the joins that wait.
}

// ---- Connections

static void dead_peer(struct connection *connection) {
    sc_shard_log(connection_shard(connection), SC_LOG_INFO, "dead_peer_closed", connection->id,
                 (struct sc_bytes){0});
}

static void slow_reader(struct connection *connection) {
    sc_shard_log(connection_shard(connection), SC_LOG_WARN, "slow_reader_closed", connection->id,
                 (struct sc_bytes){0});
}

static void transport_turns_again(struct transport *transport) {
    sc_shard_turn_again(SC_CONTAINER_OF(transport, struct shard, transport));
}

static void transport_wakes(struct transport *transport, uint64_t waiting) {
    sc_shards_wake(SC_CONTAINER_OF(transport, struct shard, transport), waiting);
}

static void set_up_transport(struct shard *shard) {
    static const struct transport_events events = {.on_dead_peer = dead_peer,
                                                   .on_slow_reader = slow_reader,
                                                   .turn_again = transport_turns_again,
                                                   .wake = transport_wakes};
    const struct sc_node_config *config = &shard->node->config;
    shard->transport =
        (struct transport){.loop = shard->loop,
                           .heap = shard->heap,
                           .sums = shard->sums,
                           .events = &events,
                           .limits = {.handshake_timeout_ms = config->handshake_timeout_ms,
                                      .ping_interval_ms = config->ping_interval_ms,
                                      .ping_deadline_ms = config->ping_deadline_ms,
                                      .close_timeout_ms = config->close_timeout_ms,
                                      .slow_reader_grace_ms = config->slow_reader_grace_ms},
                           .index = shard->index};
    sc_transport_init(&shard->transport);
}

static void set_up_ports(struct shard *shard) {
    const struct sc_node_config *config = &shard->node->config;
    uint64_t client = config->client_message_size_max;
    if (client > config->message_size_max)
        client = config->message_size_max;
    uint32_t frame = client < config->frame_size_max ? (uint32_t)client : config->frame_size_max;
    shard->stream_port = (struct port){.role = &sc_stream_role,
                                       .budget = config->stream.budget,
                                       .hard_size_max = config->client_hard_size_max};
    sc_ws_decoder_init(&shard->stream_port.decoder, SC_WS_SERVER, frame, client, false);
    shard->worker_ports = sc_allocate((config->worker_count + 1) * sizeof *shard->worker_ports);
    for (uint32_t i = 0; i < config->worker_count; i++) {
        struct port *port = &shard->worker_ports[i];
        *port =
            (struct port){.role = &sc_worker_role, .budget = config->workers[i].budget, .index = i};
        sc_ws_decoder_init(&port->decoder, SC_WS_SERVER, config->frame_size_max,
                           config->message_size_max, false);
    }
}

// At most once a second, however many they were.
static void log_refusals(struct shard *shard) {
    uint64_t failed = sc_loop_counters(shard->loop)->accepts_failed;
    uint64_t refused = shard->counters.connections_refused;
    uint64_t now_ns = sc_loop_monotonic_ns(shard->loop);
    bool none = failed == shard->accepts_failed_logged && refused == shard->refused_logged;
    if (none || shard->stopping || now_ns - shard->refusals_logged_ns < 1000000000u)
        return;
    char text[160];
    int size = snprintf(text, sizeof text,
                        "connections refused over the limit of %u: %" PRIu64
                        "; accepts that failed for want of descriptors or memory: %" PRIu64,
                        shard->node->config.connection_count_max, refused - shard->refused_logged,
                        failed - shard->accepts_failed_logged);
    sc_shard_log(shard, SC_LOG_WARN, "connections_refused", SC_NODE_CONNECTION,
                 (struct sc_bytes){(const uint8_t *)text, (size_t)size});
    shard->accepts_failed_logged = failed;
    shard->refused_logged = refused;
    shard->refusals_logged_ns = now_ns;
}

static void sweep(struct sc_timer *timer) {
    struct shard *shard = SC_CONTAINER_OF(timer, struct shard, sweep_timer);
    log_refusals(shard);
    sc_transport_sweep(&shard->transport);
    sc_kept_sweep(shard);
    if (shard->snapshots != NULL) // Lets go of those that nobody has to take any more.
        (void)sc_snapshots_have_room(shard, 0);
    sc_timer_start(shard->loop, timer, shard->transport.tick_ms);
}

static int set_up(struct shard *shard) {
    struct sc_node *node = shard->node;
    struct sc_loop_config config = {
        .poll_us = node->config.poll_us, .on_turn = on_turn, .context = shard};
    int rc = sc_loop_create(&config, &shard->loop);
    if (rc < 0) {
        pthread_mutex_lock(&node->lock);
        sc_loop_explain(rc, node->start_reason, sizeof node->start_reason);
        pthread_mutex_unlock(&node->lock);
        return rc;
    }
    shard->store = sc_store_create(node->config.seed);
    shard->updater = sc_json_updater_create();
    shard->heap = sc_heap_create();
    shard->sums = sc_account_sums_create();
    uint64_t snapshots = node->config.snapshot_size_max / node->shard_count;
    shard->account = shard->sums == NULL ? NULL : sc_account_create(snapshots, shard->sums);
    if (shard->account == NULL)
        return -ENOMEM;
    shard->snapshot_timer.on_due = snapshots_due;
    shard->door_timer.on_due = sc_door_due;
    shard->turned_away.name = "to be turned away";
    if (shard->store == NULL || shard->updater == NULL || shard->heap == NULL ||
        shard->sums == NULL)
        return -ENOMEM;
    set_up_ports(shard);
    set_up_transport(shard);
    shard->leaving.name = "to leave";
    shard->sweep_timer.on_due = sweep;
    shard->tidy_timer.on_due = tidy_due;
    sc_timer_start(shard->loop, &shard->sweep_timer, shard->transport.tick_ms);
    if (shard->index == 0)
        snprintf(node->backend, sizeof node->backend, "%s", sc_loop_describe(shard->loop));
    return 0;
}

int sc_shards_meet(struct shard *shard, int rc, enum sc_start_step step, const char *reason) {
    struct sc_node *node = shard->node;
    pthread_mutex_lock(&node->lock);
    if (rc < 0 && node->start_error == 0) {
        node->start_error = rc;
        node->start_step = step;
        if (reason != NULL)
            snprintf(node->start_reason, sizeof node->start_reason, "%s", reason);
    }
    uint32_t all = (node->met++ / node->shard_count + 1) * node->shard_count;
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

// Shards listen one after the other, so that the first listener picks the port; nobody accepts before all
// have, because until then nothing may be sent from shard to shard.
static int report_start(struct shard *shard, int rc) {
    struct sc_node *node = shard->node;
    pthread_mutex_lock(&node->lock);
    if (rc < 0 && node->start_error == 0) {
        node->start_error = rc;
        node->start_step = SC_START_LISTEN;
    }
    node->started++;
    pthread_cond_broadcast(&node->changed);
    while (node->started < node->shard_count && node->start_error == 0)
        pthread_cond_wait(&node->changed, &node->lock);
    rc = node->start_error;
    pthread_mutex_unlock(&node->lock);
    return rc;
}

// ---- Stop

bool sc_shard_waits_for_peers(const struct shard *shard) {
    for (uint32_t i = 0; i < shard->node->shard_count; i++)
        if (shard->peers[i].requests > 0 || shard->peers[i].event_bytes > 0)
            return true;
    return shard->effects.head != shard->effects.tail || shard->listings.first != NULL ||
           shard->call_queues.waiting > 0 || !sc_wait_list_is_empty(&shard->gathers);
}

static bool is_quiet(const struct shard *shard) {
    return shard->transport.connection_count == 0 && shard->listeners.open == 0 &&
           !sc_shard_waits_for_peers(shard);
}

static void say_quiet(struct shard *shard) {
    struct sc_node *node = shard->node;
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
    struct shard *shard = SC_CONTAINER_OF(timer, struct shard, stop_timer);
    if (sc_loop_monotonic_ns(shard->loop) >= shard->stop_due_ns)
        reset_all(&shard->transport);
    if (is_quiet(shard) && !shard->quiet) {
        shard->quiet = true;
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
    sc_listeners_close(&shard->listeners);
    close_all(&shard->transport, &sc_stream_role, 1001);
}

void sc_shard_stop(struct shard *shard) {
    sc_shard_close_clients(shard);
    close_all(&shard->transport, &sc_worker_role, 1012);
    shard->stop_timer.on_due = stop_look;
    sc_timer_start(shard->loop, &shard->stop_timer, 1);
}

static void tear_down(struct shard *shard) {
    if (shard->loop != NULL) {
        sc_durable_close_directory(shard);
        sc_effects_deinit(shard);
        sc_transport_deinit(&shard->transport);
    }
    sc_snapshots_deinit(shard);
    sc_account_release(shard->account);
    sc_account_sums_release(shard->sums);
    sc_table_deinit(&shard->topics);
    sc_watches_deinit(shard);
    free(shard->worker_ports);
    sc_heap_destroy(shard->heap);
    sc_listeners_deinit(&shard->listeners);
    sc_json_updater_destroy(shard->updater);
    sc_store_destroy(shard->store);
    sc_loop_destroy(shard->loop);
    shard->loop = NULL;
}

static void say_ended(struct shard *shard) {
    struct sc_node *node = shard->node;
    pthread_mutex_lock(&node->lock);
    // No shard frees what another one may still look at: all leave together.
    node->ended++;
    pthread_cond_broadcast(&node->changed);
    while (node->ended < node->shard_count)
        pthread_cond_wait(&node->changed, &node->lock);
    pthread_mutex_unlock(&node->lock);
}

static void run_until_closed(struct shard *shard) {
    sc_listeners_close(&shard->listeners);
    while (shard->listeners.open > 0)
        if (sc_loop_run_once(shard->loop) < 0)
            abort();
}

static int open_listeners(struct shard *shard) {
    struct sc_node *node = shard->node;
    pthread_mutex_lock(&node->lock);
    while (node->started < shard->index && node->start_error == 0)
        pthread_cond_wait(&node->changed, &node->lock);
    int rc = node->start_error;
    pthread_mutex_unlock(&node->lock);
    if (rc == 0 && !node->config.without_ports)
        rc = sc_shard_listen(shard);
    return rc;
}

static void run_once(struct shard *shard) {
    int rc = sc_loop_run_once(shard->loop);
    if (rc < 0) {
        fprintf(stderr, "iii-stream: the event loop failed: %s\n", strerror(-rc));
        abort();
    }
}

void *sc_shard_main(void *argument) {
    struct shard *shard = argument;
    char name[16];
    snprintf(name, sizeof name, "iii-shard-%u", shard->index);
    pthread_setname_np(pthread_self(), name);
    int rc = sc_durable_start(shard, set_up(shard));
    rc = report_start(shard, rc < 0 ? rc : open_listeners(shard));
    if (rc < 0) {
        if (shard->loop != NULL)
            run_until_closed(shard);
        sc_durable_close(shard);
        say_ended(shard);
        tear_down(shard);
        return NULL;
    }
    while (!shard->end)
        run_once(shard);
    sc_durable_finish(shard);
    while (!sc_durable_is_idle(shard))
        run_once(shard);
    sc_durable_close(shard);
    say_ended(shard);
    tear_down(shard);
    return NULL;
}
