// A shard: one thread, one loop, its connections and its groups. What a turn has gathered leaves at its
// end: messages that waited, frames for members, batches for other shards, then one send a connection.
#define _GNU_SOURCE // pthread_setname_np()
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "core_functions.h"

#define PARKED_LOOK_MS 2
#define TIDY_PAUSE_MS 1
#define STOP_LOOK_MS 10

void *sc_allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL) {
        fprintf(stderr, "iii-stream: out of memory (%zu bytes)\n", size);
        abort();
    }
    return memory;
}

void *sc_reallocate(void *memory, size_t size) {
    memory = realloc(memory, size);
    if (memory == NULL) {
        fprintf(stderr, "iii-stream: out of memory (%zu bytes)\n", size);
        abort();
    }
    return memory;
}

void *sc_grow(void *array, size_t old_size, size_t new_size) {
    array = sc_array_grow(array, old_size, new_size);
    if (array == NULL) {
        fprintf(stderr, "iii-stream: out of memory (%zu bytes)\n", new_size);
        abort();
    }
    return array;
}

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

// Those whose messages were handled and still wait come behind those that were not looked at.
static void look_at_parked(struct shard *shard) {
    struct connection_list *list = &shard->parked;
    uint32_t count = list->count, most = SC_PARKED_PER_TURN; // Some may come behind them meanwhile.
    uint32_t seen = 0, kept = 0;
    for (; seen < count && most > 0; seen++) {
        struct connection *connection = list->all[seen];
        connection->on_parked_list = false;
        if (!sc_connection_resume(connection, &most) && !connection->on_parked_list) {
            connection->on_parked_list = true;
            list->all[kept++] = connection;
        }
    }
    uint32_t left = list->count - seen;
    if (seen < count) { // A part of them: turn the list.
        size_t size = kept * sizeof(struct connection *);
        struct connection **behind = sc_allocate(size + 1);
        memcpy(behind, list->all, size);
        memmove(list->all, list->all + seen, left * sizeof(struct connection *));
        memcpy(list->all + left, behind, size);
        free(behind);
        sc_shard_turn_again(shard);
    } else {
        memmove(list->all + kept, list->all + seen, left * sizeof(struct connection *));
    }
    list->count = kept + left;
    if (list->count > 0 && shard->parked_timer.due_ns == 0)
        sc_timer_start(shard->loop, &shard->parked_timer, PARKED_LOOK_MS);
}

static void parked_due(struct sc_timer *timer) {
    (void)timer; // The turn's end looks at them.
}

// What a closing connection still says counts for nothing, and its peer may take the whole patience of the
// close handshake: whoever waits for it hears now that it has gone.
//
// One with many subscriptions ends a part of them, and then waits for the others. The rest ends in the next turns.
static void end_closing(struct shard *shard) {
    struct connection_list *closing = &shard->closing;
    uint32_t most = SC_LEAVES_AT_ONCE;
    while (closing->count > 0 && most > 0) {
        if (shard->closing_next >= closing->count)
            shard->closing_next = 0;
        struct connection *connection = closing->all[shard->closing_next];
        uint32_t before = connection->subscription_count;
        bool done = sc_subscriptions_remove_some(
            connection, most < SC_LEAVES_PER_SLICE ? most : SC_LEAVES_PER_SLICE);
        uint32_t cost = 1 + before - connection->subscription_count;
        most -= cost < most ? cost : most;
        if (!done) {
            shard->closing_next++;
            continue;
        }
        closing->all[shard->closing_next] = closing->all[--closing->count];
        if (connection->worker != NULL)
            sc_worker_closed(connection);
        sc_connection_has_left(connection);
    }
    if (closing->count > 0)
        sc_shard_turn_again(shard);
}

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
    if (shard->parked.count > 0)
        look_at_parked(shard);
    if (shard->closing.count > 0)
        end_closing(shard);
    sc_topics_settle(shard);
    sc_batches_post(shard);
    sc_durable_turn(shard); // The disk works while the sockets are served.
    sc_out_flush(shard);
    if (shard->closing.count > 0) // Members that have turned out too slow meanwhile, and the rest.
        end_closing(shard);
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

static uint32_t tick_ms(const struct sc_node_config *config) {
    uint32_t least = config->ping_interval_ms;
    if (config->ping_deadline_ms < least)
        least = config->ping_deadline_ms;
    if (config->handshake_timeout_ms < least)
        least = config->handshake_timeout_ms;
    if (config->close_timeout_ms < least)
        least = config->close_timeout_ms;
    uint32_t tick = least / 8;
    return tick < 20 ? 20 : tick > 1000 ? 1000 : tick;
}

static void snapshots_due(struct sc_timer *timer) {
    (void)timer; // The turn's end looks at the joins that wait.
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
    const struct sc_node_config *limits = &node->config;
    uint64_t client = limits->client_message_size_max;
    if (client > limits->message_size_max)
        client = limits->message_size_max;
    uint32_t frame = client < limits->frame_size_max ? (uint32_t)client : limits->frame_size_max;
    sc_ws_decoder_init(&shard->decoders[PORT_STREAM], SC_WS_SERVER, frame, client, false);
    sc_ws_decoder_init(&shard->decoders[PORT_WORKER], SC_WS_SERVER, limits->frame_size_max,
                       limits->message_size_max, false);
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
    shard->place_free = UINT32_MAX;
    shard->tick_ms = tick_ms(&node->config);
    shard->sweep_timer.on_due = sc_sweep;
    shard->parked_timer.on_due = parked_due;
    shard->tidy_timer.on_due = tidy_due;
    shard->over_timer.on_due = sc_out_over_budget_check;
    sc_timer_start(shard->loop, &shard->sweep_timer, shard->tick_ms);
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
    return shard->connection_count == 0 && shard->open_listeners == 0 &&
           !sc_shard_waits_for_peers(shard);
}

static void say_quiet(struct shard *shard) {
    struct sc_node *node = shard->node;
    pthread_mutex_lock(&node->lock);
    node->quiet++;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

static void stop_look(struct sc_timer *timer) {
    struct shard *shard = SC_CONTAINER_OF(timer, struct shard, stop_timer);
    if (sc_loop_monotonic_ns(shard->loop) >= shard->stop_due_ns)
        for (uint32_t i = 0; i < shard->place_count; i++)
            if (shard->places[i].connection != NULL)
                sc_connection_abort(shard->places[i].connection);
    if (is_quiet(shard) && !shard->quiet) {
        shard->quiet = true;
        say_quiet(shard);
    }
    sc_timer_start(shard->loop, timer, STOP_LOOK_MS);
}

void sc_shard_close_clients(struct shard *shard) {
    shard->stopping = true;
    sc_listeners_close(shard);
    for (uint32_t i = 0; i < shard->place_count; i++) {
        struct connection *connection = shard->places[i].connection;
        if (connection != NULL && connection->port == PORT_STREAM)
            sc_connection_close(connection, 1001, "shutting down");
    }
}

void sc_shard_stop(struct shard *shard) {
    sc_shard_close_clients(shard);
    for (uint32_t i = 0; i < shard->place_count; i++) {
        struct connection *connection = shard->places[i].connection;
        if (connection != NULL && connection->port == PORT_WORKER)
            sc_connection_close(connection, 1012, "shutting down");
    }
    shard->stop_timer.on_due = stop_look;
    sc_timer_start(shard->loop, &shard->stop_timer, 1);
}

static void tear_down(struct shard *shard) {
    if (shard->loop != NULL) {
        sc_durable_close_directory(shard);
        sc_effects_deinit(shard);
        sc_out_deinit(shard);
        sc_chunks_free(shard);
    }
    sc_snapshots_deinit(shard);
    sc_account_release(shard->account);
    sc_account_sums_release(shard->sums);
    sc_table_deinit(&shard->topics);
    sc_watches_deinit(shard);
    sc_array_free(shard->places, shard->place_capacity * sizeof *shard->places);
    free(shard->parked.all);
    free(shard->closing.all);
    sc_heap_destroy(shard->heap);
    free(shard->listeners);
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
    sc_listeners_close(shard);
    while (shard->open_listeners > 0)
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
        rc = sc_listeners_open(shard);
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
