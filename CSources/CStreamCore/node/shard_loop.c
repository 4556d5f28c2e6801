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

#include "../sessions/sessions.h"
#include "node.h"

// Between two steps of compaction on a shard that has nothing else to do: it must not keep a core busy.
#define COMPACT_PAUSE_MS 1

// ---- The end of a turn

// Memory is made dense behind everything else, as far as the budget of a turn allows: see compact.c.
// A shard without work goes on by the timer.
static void compact(struct shard *shard) {
    if (sc_store_compact(shard->store) && node_shard_of(shard)->compact_timer.due_ns == 0)
        sc_timer_start(shard->loop, &node_shard_of(shard)->compact_timer, COMPACT_PAUSE_MS);
}

static void compact_due(struct sc_timer *timer) {
    (void)timer; // The turn's end does it.
}

// The order of the steps. What comes first makes work for what follows, so that the work of one turn leaves in that turn:
//
// 1. Patience: a connection that ends here gives up its subscriptions below.
//    TLS handshakes follow, for a slice of time: what comes behind them may be messages.
// 2. Calls, lists and messages that waited: each has a budget, and the rest makes another turn. Messages come behind the
//    calls, because they add to those and would otherwise push them back.
// 3. Subscriptions of clients that serve nobody any more end before frames are handed out: they get none of them.
// 4. Dirty topics hand their frames to their members, and batches of events go to other shards.
// 5. The log writes the changes, before the sends: the disk works while the sockets are served.
// 6. One send a connection. It may show that a member is too slow, whose subscriptions end at once.
static void on_turn(void *context) {
    struct shard *shard = context;
    if (sc_transport_sweeps(&shard->transport))
        sc_transport_sweep_on(&shard->transport);
    if (!sc_wait_list_is_empty(&shard->transport.handshakes))
        sc_transport_shake_hands(&shard->transport);
    if (shard->call_queues.table.count > 0)
        sc_call_queues_turn(shard);
    if (shard->stepped > 0) {
        sc_joins_ready_turn(shard);
        sc_reading_turn(shard);
        sc_list_groups_turn(shard);
        sc_outcomes_release(shard);
    }
    if (!sc_wait_list_is_empty(&shard->transport.parked))
        sc_transport_resume(&shard->transport);
    if (!sc_wait_list_is_empty(&sessions_of(shard)->leaving))
        sc_clients_leave(shard);
    sc_topics_settle(shard);
    sc_batches_post(shard);
    sc_storage_turn(shard);
    sc_transport_flush(&shard->transport);
    if (!sc_wait_list_is_empty(
            &sessions_of(shard)->leaving)) // Members that turned out too slow, and the rest.
        sc_clients_leave(shard);
    if (shard->call_queues.waiting > 0 && sc_call_queues_may_run(shard))
        sc_shard_turn_again(shard); // The log has taken what waited.
    compact(shard);
}

// ---- Start

// Nobody tells of the progress of a client that takes a large `sync`. So the joins that wait for room look again by a timer.
static void snapshots_due(struct sc_timer *timer) {
    (void)timer; // The turn's end looks at the joins that wait.
}

// ---- Connections

// The transport knows no log: it says what has happened to a connection, and who that was is known here.
static void dead_peer(struct connection *connection) {
    sc_shard_log(connection_shard(connection), SC_LOG_INFO, "dead_peer_closed", connection->id,
                 (struct sc_bytes){0});
}

static void slow_reader(struct connection *connection) {
    sc_shard_log(connection_shard(connection), SC_LOG_WARN, "slow_reader_closed", connection->id,
                 (struct sc_bytes){0});
}

static void tls_failed(struct connection *connection, const char *why) {
    sc_shard_log(connection_shard(connection), SC_LOG_INFO, "tls_failed", connection->id,
                 (struct sc_bytes){(const uint8_t *)why, strlen(why)});
}

// Down there a transport is all there is. It lies in its shard, so the way back is an offset.
static void transport_turns_again(struct transport *transport) {
    sc_shard_turn_again(SC_CONTAINER_OF(transport, struct shard, transport));
}

static void transport_wakes(struct transport *transport, uint64_t waiting) {
    sc_shards_wake(SC_CONTAINER_OF(transport, struct shard, transport), waiting);
}

// Before anything may be accepted. The transport borrows the loop, the heap and the sums of the shard, all of which outlive it.
static void set_up_transport(struct shard *shard) {
    static const struct transport_events events = {.on_dead_peer = dead_peer,
                                                   .on_slow_reader = slow_reader,
                                                   .on_tls_failed = tls_failed,
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

static void secure(struct shard *shard, struct port *port, uint32_t number) {
    port->tls = sc_certificates_context(node_of(shard), number);
    port->channel = port->tls == NULL ? NULL : &sc_channel_tls;
}

// Each shard has ports of its own: a port carries the decoder's limits and the role of its connections, which are read with each
// frame, and nothing of another shard may be read there. A stream client says little, so its frames may be as long as its messages.
static void set_up_entrances(struct shard *shard) {
    const struct sc_node_config *config = &shard->node->config;
    uint64_t client = config->client_message_size_max;
    if (client > config->message_size_max)
        client = config->message_size_max;
    uint32_t frame = client < config->frame_size_max ? (uint32_t)client : config->frame_size_max;
    sessions_of(shard)->stream_entrance =
        (struct entrance){.port = {.role = &sc_stream_role,
                                   .budget = config->stream.budget,
                                   .hard_size_max = config->client_hard_size_max},
                          .address = &config->stream,
                          .door = DOOR_STREAM};
    secure(shard, &sessions_of(shard)->stream_entrance.port, 0);
    sc_ws_decoder_init(&sessions_of(shard)->stream_entrance.port.decoder, SC_WS_SERVER, frame,
                       client, false);
    size_t size = (config->worker_count + 1) * sizeof *sessions_of(shard)->worker_entrances;
    sessions_of(shard)->worker_entrances = sc_allocate(size);
    for (uint32_t i = 0; i < config->worker_count; i++) {
        struct entrance *entrance = &sessions_of(shard)->worker_entrances[i];
        *entrance = (struct entrance){
            .port = {.role = &sc_worker_role, .budget = config->workers[i].budget, .index = i},
            .address = &config->workers[i],
            .door = DOOR_WORKER};
        secure(shard, &entrance->port, i + 1);
        sc_ws_decoder_init(&entrance->port.decoder, SC_WS_SERVER, config->frame_size_max,
                           config->message_size_max, false);
    }
}

// A flood of peers must not become a flood of lines.
// At most once a second, however many they were.
static void log_refusals(struct shard *shard) {
    uint64_t failed = sc_loop_counters(shard->loop)->accepts_failed;
    uint64_t refused = shard->counters.connections_refused;
    uint64_t of_addresses = shard->counters.addresses_refused;
    uint64_t now_ns = sc_loop_monotonic_ns(shard->loop);
    bool none = failed == node_shard_of(shard)->accepts_failed_logged &&
                refused == node_shard_of(shard)->refused_logged;
    if (none || shard->stopping || now_ns - node_shard_of(shard)->refusals_logged_ns < 1000000000u)
        return;
    char text[256];
    int size = snprintf(
        text, sizeof text,
        "connections refused over the limit of %u, or of %u for an address: %" PRIu64 ", %" PRIu64
        " of them of such addresses"
        "; accepts that failed for want of descriptors or memory: %" PRIu64,
        shard->node->config.connection_count_max, shard->node->config.connections_per_address_max,
        refused - node_shard_of(shard)->refused_logged,
        of_addresses - node_shard_of(shard)->addresses_refused_logged,
        failed - node_shard_of(shard)->accepts_failed_logged);
    sc_shard_log(shard, SC_LOG_WARN, "connections_refused", SC_NODE_CONNECTION,
                 (struct sc_bytes){(const uint8_t *)text, (size_t)size});
    node_shard_of(shard)->accepts_failed_logged = failed;
    node_shard_of(shard)->refused_logged = refused;
    node_shard_of(shard)->addresses_refused_logged = of_addresses;
    node_shard_of(shard)->refusals_logged_ns = now_ns;
}

// What nobody is woken for: silence of peers, syncs that are kept too long, large ones that have been taken.
static void sweep(struct sc_timer *timer) {
    struct shard *shard = shard_of_timer(timer, offsetof(struct node_shard, sweep_timer));
    log_refusals(shard);
    sc_transport_sweep(&shard->transport);
    sc_kept_sweep(shard);
    if (streams_of(shard)->snapshots != NULL) // Lets go of those that nobody has to take any more.
        (void)sc_snapshots_have_room(shard, 0);
    sc_timer_start(shard->loop, timer, shard->transport.tick_ms);
}

_Static_assert((int)SC_NODE_IO_URING == (int)SC_LOOP_IO_URING &&
                   (int)SC_NODE_IO_EPOLL == (int)SC_LOOP_IO_EPOLL,
               "one is cast to the other");

// All that a shard owns is made here and freed in sc_shard_tear_down, on the thread of the shard: a ring belongs to the thread that has
// made it.
int sc_shard_set_up(struct shard *shard) {
    struct sc_node *node = node_of(shard);
    struct sc_loop_config config = {.poll_us = node->shared.config.poll_us,
                                    .io = (enum sc_loop_io)node->shared.config.io,
                                    .on_turn = on_turn,
                                    .context = shard};
    if (node->stepper != NULL) {
        config.backend = node->stepper->backend;
        config.backend_context = node->stepper->context;
    }
    int rc = sc_loop_create(&config, &shard->loop);
    if (rc < 0) {
        pthread_mutex_lock(&node->lock);
        sc_loop_explain(rc, node->start_reason, sizeof node->start_reason);
        pthread_mutex_unlock(&node->lock);
        return rc;
    }
    shard->store = sc_store_create(node->shared.config.seed);
    shard->updater = sc_json_updater_create();
    shard->heap = sc_heap_create();
    shard->sums = sc_account_sums_create();
    // The limit is of the node. Shards do not share it while they run, so each gets its part.
    uint64_t snapshots = node->shared.config.snapshot_size_max / node->shared.shard_count;
    shard->account = shard->sums == NULL ? NULL : sc_account_create(snapshots, shard->sums);
    if (shard->account == NULL)
        return -ENOMEM;
    shard->readings.room_timer.on_due = snapshots_due;
    sessions_of(shard)->door_timer.on_due = sc_door_due;
    sessions_of(shard)->turned_away.name = "to be turned away";
    if (shard->store == NULL || shard->updater == NULL || shard->heap == NULL ||
        shard->sums == NULL)
        return -ENOMEM;
    set_up_entrances(shard);
    set_up_transport(shard);
    sessions_of(shard)->leaving.name = "to leave";
    node_shard_of(shard)->sweep_timer.on_due = sweep;
    node_shard_of(shard)->compact_timer.on_due = compact_due;
    sc_timer_start(shard->loop, &node_shard_of(shard)->sweep_timer, shard->transport.tick_ms);
    if (shard->index == 0) {
        snprintf(node->backend, sizeof node->backend, "%s", sc_loop_describe(shard->loop));
        snprintf(node->backend_reason, sizeof node->backend_reason, "%s",
                 sc_loop_reason(shard->loop));
    }
    return 0;
}

// In the opposite order: what is freed first borrows from what is freed later. The loop is last, since sockets and timers are its.
void sc_shard_tear_down(struct shard *shard) {
    if (shard->loop != NULL) {
        sc_storage_close_directory(shard);
        sc_outcomes_deinit(shard);
        sc_transport_deinit(&shard->transport);
    }
    sc_snapshots_deinit(shard);
    sc_account_release(shard->account);
    sc_account_sums_release(shard->sums);
    sc_table_deinit(&streams_of(shard)->topics);
    sc_paces_deinit(streams_of(shard));
    sc_table_deinit(&shard->call_queues.table);
    sc_watches_deinit(shard);
    sc_certificates_let_go(shard);
    free(sessions_of(shard)->worker_entrances);
    sc_heap_destroy(shard->heap);
    sc_listeners_deinit(&sessions_of(shard)->listeners);
    sc_json_updater_destroy(shard->updater);
    sc_store_destroy(shard->store);
    sc_loop_destroy(shard->loop);
    shard->loop = NULL;
}

// A loop whose ring is broken can serve nobody, and what it owes cannot be known. Recovery begins with what the log has.
void sc_shard_turn(struct shard *shard) {
    int rc = sc_loop_run_once(shard->loop);
    if (rc < 0) {
        fprintf(stderr, "iii-stream: the event loop failed: %s\n", strerror(-rc));
        abort();
    }
}

// Listeners close by completions, which need turns. Nothing has been accepted yet.
void sc_shard_abandon(struct shard *shard) {
    if (shard->loop != NULL) {
        sc_listeners_close(&sessions_of(shard)->listeners);
        while (sessions_of(shard)->listeners.open > 0)
            sc_shard_turn(shard);
    }
    sc_storage_close(shard);
}

// The last batch is flushed in every mode: an orderly end loses nothing.
void sc_shard_finish(struct shard *shard) {
    sc_storage_finish(shard);
    while (!sc_storage_is_idle(shard))
        sc_shard_turn(shard);
    sc_storage_close(shard);
}

void *sc_shard_main(void *argument) {
    struct shard *shard = argument;
    char name[16];
    snprintf(name, sizeof name, "iii-shard-%u", shard->index);
    pthread_setname_np(pthread_self(), name);
    if (sc_shard_start(shard) < 0) {
        sc_shard_abandon(shard);
    } else {
        while (!node_shard_of(shard)->end)
            sc_shard_turn(shard);
        sc_shard_finish(shard);
    }
    sc_shard_say_ended(shard);
    sc_shard_tear_down(shard);
    return NULL;
}
