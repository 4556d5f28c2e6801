// A node: its shards' threads, start, stop, counters.
#define _GNU_SOURCE // sched_getaffinity
#include <errno.h>
#include <inttypes.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#include "node.h"

// Those that the process may use, not those of the machine: a container has fewer.
uint32_t sc_available_cores(void) {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) < 0)
        return 1;
    return (uint32_t)CPU_COUNT(&set);
}

// The numbers are those of docs/configuration.md, which a test compares with the configuration's own. This copy is for callers
// of the C core alone: benchmarks, fuzzers and the simulation.
struct sc_node_config sc_node_config_default(void) {
    return (struct sc_node_config){
        .shard_count = 1,
        .stream = {.host = "127.0.0.1", .port = 3112, .budget = 8u << 20},
        .message_size_max = SC_MESSAGE_SIZE_MAX,
        .frame_size_max = SC_FRAME_SIZE_MAX,
        .value_size_max = SC_VALUE_SIZE_MAX,
        .subscriptions_per_connection_max = 10000,
        .client_message_size_max = SC_CLIENT_MESSAGE_SIZE_MAX,
        .slow_reader_grace_ms = 1000,
        .client_hard_size_max = SC_CLIENT_HARD_SIZE_MAX,
        .client_unsent_size = SC_CLIENT_UNSENT_SIZE,
        .sync_size_max = SC_SYNC_SIZE_MAX,
        .snapshot_size_max = SC_SNAPSHOTS_SIZE_MAX,
        .held_upgrade_count_max = SC_HELD_UPGRADES_MAX,
        .turned_away_count_max = SC_TURNED_AWAY_MAX,
        .connection_count_max = 100000,
        .messages_per_second_max = 20000,
        .joins_per_second_max = 10000,
        .handshake_timeout_ms = 10000,
        .ping_interval_ms = 20000,
        .ping_deadline_ms = 20000,
        .close_timeout_ms = 10000};
}

// Strings of the configuration belong to the caller, and may go as soon as sc_node_create has returned.
static void copy_address(struct sc_node_address *to, const struct sc_node_address *from) {
    *to = *from;
    to->host = strdup(from->host);
    if (from->origins != NULL)
        to->origins = strdup(from->origins);
    if (from->tls == NULL)
        return;
    struct sc_tls_files *files = sc_allocate(sizeof *files);
    *files = *from->tls;
    files->cert_file = strdup(from->tls->cert_file);
    files->key_file = strdup(from->tls->key_file);
    if (from->tls->ca_file != NULL)
        files->ca_file = strdup(from->tls->ca_file);
    to->tls = files;
}

static void free_address(struct sc_node_address *address) {
    free((char *)address->host);
    free((char *)address->origins);
    if (address->tls == NULL)
        return;
    free((char *)address->tls->cert_file);
    free((char *)address->tls->key_file);
    free((char *)address->tls->ca_file);
    free((struct sc_tls_files *)address->tls);
}

// One more than there are, so that a node without worker ports needs no case of its own.
static void copy_addresses(struct sc_node *node, const struct sc_node_config *config) {
    copy_address(&node->shared.config.stream, &config->stream);
    if (config->storage.path != NULL)
        node->shared.config.storage.path = strdup(config->storage.path);
    node->worker_addresses =
        sc_allocate((config->worker_count + 1) * sizeof *node->worker_addresses);
    node->places = sc_allocate((config->worker_count + 1) * sizeof *node->places);
    memset(node->places, 0, (config->worker_count + 1) * sizeof *node->places);
    for (uint32_t i = 0; i < config->worker_count; i++)
        copy_address(&node->worker_addresses[i], &config->workers[i]);
    node->shared.config.workers = node->worker_addresses;
}

struct sc_node *sc_node_create(const struct sc_node_config *config,
                               const struct sc_node_events *events) {
    assert(config->shard_count > 0 && config->shard_count <= SC_SHARD_COUNT_MAX);
    assert(config->poll_us <= SC_LOOP_POLL_US_MAX);
    struct sc_node *node = calloc(1, sizeof *node);
    if (node == NULL)
        return NULL;
    // Ids that clients see are made with this key and with no other secret: whoever guesses one learns nothing of the seed of the hash
    // tables.
    if (getrandom(node->shared.id_key, sizeof node->shared.id_key, 0) !=
        sizeof node->shared.id_key) {
        free(node);
        return NULL;
    }
    node->sums = sc_account_sums_create();
    node->account = node->sums == NULL ? NULL : sc_account_create(UINT64_MAX, node->sums);
    if (node->account == NULL)
        abort();
    node->shared.config = *config;
    node->shared.events = *events;
    node->shared.shard_count = config->shard_count;
    copy_addresses(node, config);
    if (config->connections_per_address_max > 0)
        node->shared.addresses = sc_addresses_create(config->connections_per_address_max,
                                                     config->connection_count_max, config->seed);
    pthread_mutex_init(&node->lock, NULL);
    // Waits are measured by the clock that nobody sets.
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&node->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    node->shared.shards = sc_allocate(node->shared.shard_count * sizeof *node->shared.shards);
    node->shared.worker_counts =
        sc_allocate(node->shared.shard_count * sizeof *node->shared.worker_counts);
    for (uint32_t i = 0; i < node->shared.shard_count; i++) {
        struct node_shard *own = sc_allocate(sizeof *own);
        memset(own, 0, sizeof *own);
        struct shard *shard = node->shared.shards[i] = &own->sessions.calls.streams.shard;
        shard->node = &node->shared;
        shard->index = i;
        shard->watch_all = config->watched;
        atomic_init(&node->shared.worker_counts[i], 0);
    }
    return node;
}

// The memory of the shards stays until sc_node_destroy: one that ends may still be looked at by another.
static void join_threads(struct sc_node *node, uint32_t count) {
    for (uint32_t i = 0; i < count; i++)
        pthread_join(node_shard_of(node->shared.shards[i])->thread, NULL);
}

// What the store and the loops may need of descriptors while clients have all others.
static uint64_t kept_back(const struct sc_node *node) {
    return SC_DESCRIPTORS_KEPT_BACK +
           node->shared.shard_count * (uint64_t)SC_DESCRIPTORS_KEPT_BACK_A_SHARD +
           node->shared.config.worker_count;
}

// Peers that are turned away share the rest with connections. They get at most a quarter of it.
static bool share_descriptors(struct sc_node *node, char *reason, size_t reason_size) {
    struct rlimit limit;
    if (node->shared.config.without_ports || getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return true;
    uint64_t kept = kept_back(node);
    uint64_t rest = limit.rlim_cur > kept ? limit.rlim_cur - kept : 0;
    if (rest < SC_DESCRIPTORS_FOR_PEERS_MIN) {
        snprintf(reason, reason_size,
                 "the process may have %" PRIu64 " descriptors, and %" PRIu64
                 " are the least with %" PRIu32
                 " shards: raise the limit (ulimit -n, LimitNOFILE=)",
                 (uint64_t)limit.rlim_cur, kept + SC_DESCRIPTORS_FOR_PEERS_MIN,
                 node->shared.shard_count);
        return false;
    }
    if (node->shared.config.turned_away_count_max > rest / 8)
        node->shared.config.turned_away_count_max = (uint32_t)(rest / 8);
    uint64_t most = rest - 2 * (uint64_t)node->shared.config.turned_away_count_max;
    if (most < node->shared.config.connection_count_max)
        node->shared.config.connection_count_max = (uint32_t)most;
    return true;
}

// Borrows the lock of the caller, as pthread_cond_wait does: what it guards may have changed on return, with or without threads.
void sc_node_wait(struct sc_node *node) {
    if (node->stepper == NULL) {
        pthread_cond_wait(&node->changed, &node->lock);
        return;
    }
    pthread_mutex_unlock(&node->lock);
    node->stepper->step(node->stepper->context);
    pthread_mutex_lock(&node->lock);
}

int sc_node_start(struct sc_node *node, char *reason, size_t reason_size) {
    assert(!node->running && node->started == 0);
    if (!share_descriptors(node, reason, reason_size)) {
        node->start_step = SC_START_LOOP;
        return -EMFILE;
    }
    int found = sc_certificates_load(node);
    if (found == 0 && !node->shared.config.without_ports) {
        found = sc_places_resolve(node);
        node->start_step = found < 0 ? SC_START_LISTEN : node->start_step;
    }
    if (found < 0) {
        snprintf(reason, reason_size, "%s", node->start_reason);
        return found;
    }
    // A thread that cannot be made ends the start of all: those that run already wait in a barrier, which must not wait for
    // the one that never comes.
    uint32_t count = 0;
    while (count < node->shared.shard_count &&
           pthread_create(&node_shard_of(node->shared.shards[count])->thread, NULL, sc_shard_main,
                          node->shared.shards[count]) == 0)
        count++;
    pthread_mutex_lock(&node->lock);
    if (count < node->shared.shard_count) {
        node->start_error = -EAGAIN;
        snprintf(node->start_reason, sizeof node->start_reason, "cannot start a thread");
        node->ended += node->shared.shard_count - count; // Those that never were.
        node->incomplete = true;
        pthread_cond_broadcast(&node->changed);
    }
    while (node->started < node->shared.shard_count && node->start_error == 0)
        sc_node_wait(node);
    int rc = node->start_error;
    pthread_mutex_unlock(&node->lock);
    node->running = rc == 0;
    if (rc < 0) {
        join_threads(node, count);
        snprintf(reason, reason_size, "%s", node->start_reason);
    }
    return rc;
}

enum sc_start_step sc_node_start_step(const struct sc_node *node) {
    return node->start_step;
}

const char *sc_node_backend(const struct sc_node *node) {
    return node->backend;
}
const char *sc_node_backend_reason(const struct sc_node *node) {
    return node->backend_reason;
}

// ---- Broadcasts: something to run on every shard

// Owns: the memory of all of them is the caller's, which waits until the last one has run. `done` lies on its stack.
struct broadcast {
    struct sc_loop_message message;
    struct shard *shard;
    void (*run)(struct shard *shard, void *context);
    void *context;
    uint32_t *done; // Under the node's lock.
};

// After the lock is released the memory may be gone, so nothing of it is touched any more.
static void broadcast_run(struct sc_loop_message *message) {
    struct broadcast *broadcast = SC_CONTAINER_OF(message, struct broadcast, message);
    struct sc_node *node = node_of(broadcast->shard);
    broadcast->run(broadcast->shard, broadcast->context);
    pthread_mutex_lock(&node->lock);
    ++*broadcast->done;
    pthread_cond_broadcast(&node->changed);
    pthread_mutex_unlock(&node->lock);
}

// Runs a function on each shard, on its thread, and waits for all of them.
// Thread: any but those of the shards, which would wait for themselves.
static void broadcast(struct sc_node *node, void (*run)(struct shard *, void *), void *context) {
    struct broadcast *broadcasts = sc_allocate(node->shared.shard_count * sizeof *broadcasts);
    uint32_t done = 0;
    for (uint32_t i = 0; i < node->shared.shard_count; i++) {
        broadcasts[i] = (struct broadcast){.message.run = broadcast_run,
                                           .shard = node->shared.shards[i],
                                           .run = run,
                                           .context = context,
                                           .done = &done};
        sc_loop_post(node->shared.shards[i]->loop, &broadcasts[i].message);
    }
    pthread_mutex_lock(&node->lock);
    while (done < node->shared.shard_count)
        sc_node_wait(node);
    pthread_mutex_unlock(&node->lock);
    free(broadcasts);
}

// Each shard measures its patience by its own loop, in whose time its timers are.
static void begin_stop(struct shard *shard, void *context) {
    const uint32_t *timeout_ms = context;
    shard->stop_due_ns = sc_loop_monotonic_ns(shard->loop) + *timeout_ms * 1000000ull;
    sc_shard_stop(shard);
}

static void close_clients(struct shard *shard, void *context) {
    (void)context;
    sc_shard_close_clients(shard);
}

void sc_node_close_clients(struct sc_node *node) {
    if (node->running)
        broadcast(node, close_clients, NULL);
}

// Counts in an atomic number: the shards run this at the same time.
static void count_if_waiting(struct shard *shard, void *context) {
    _Atomic uint32_t *waiting = context;
    if (sc_shard_waits_for_peers(shard))
        atomic_fetch_add_explicit(waiting, 1, memory_order_relaxed);
}

// The last commands may have sent work from shard to shard, which must be back before any of them goes.
static void let_requests_return(struct sc_node *node) {
    _Atomic uint32_t waiting;
    do {
        atomic_init(&waiting, 0);
        broadcast(node, count_if_waiting, (void *)&waiting);
    } while (atomic_load(&waiting) > 0);
}

// The last message of a shard. Its thread leaves its loop behind the turn that has run this.
static void end(struct shard *shard, void *context) {
    (void)context;
    node_shard_of(shard)->end = true;
}

// A caller counts itself first and looks then, and whoever closes marks first and counts then. So one of the two always sees the
// other: no command is posted to a loop that has gone.
bool sc_node_api_enter(struct sc_node *node) {
    uint64_t before = atomic_fetch_add_explicit(&node->api_callers, 1, memory_order_acquire);
    if ((before & NODE_CLOSED) == 0)
        return true;
    sc_node_api_leave(node);
    return false;
}

void sc_node_api_leave(struct sc_node *node) {
    atomic_fetch_sub_explicit(&node->api_callers, 1, memory_order_release);
}

static void close_api(struct sc_node *node) {
    atomic_fetch_or_explicit(&node->api_callers, NODE_CLOSED, memory_order_acq_rel);
    while (atomic_load_explicit(&node->api_callers, memory_order_acquire) != NODE_CLOSED)
        sched_yield(); // They only queue a message each.
}

// The order of a stop. (1) Nobody new is accepted, and all are asked to go; (2) each shard says when nothing is open and nothing is
// under way; (3) no command may begin any more; (4) what the last commands have sent from shard to shard is back; (5) all shards
// end, and free what they have behind the last of them.
void sc_node_stop(struct sc_node *node, uint32_t timeout_ms) {
    if (!node->running)
        return;
    broadcast(node, begin_stop, &timeout_ms);
    pthread_mutex_lock(&node->lock);
    while (node->quiet < node->shared.shard_count)
        sc_node_wait(node);
    pthread_mutex_unlock(&node->lock);
    close_api(node);
    let_requests_return(node);
    broadcast(node, end, NULL);
    if (node->stepper == NULL)
        join_threads(node, node->shared.shard_count);
    else
        sc_stepped_end(node);
    node->running = false;
}

void sc_node_destroy(struct sc_node *node) {
    if (node == NULL)
        return;
    assert(!node->running);
    sc_certificates_free(node->certificates);
    sc_account_release(node->account);
    sc_account_sums_release(node->sums);
    for (uint32_t i = 0; i < node->shared.shard_count; i++)
        free(node_shard_of(node->shared.shards[i]));
    for (uint32_t i = 0; i < node->shared.config.worker_count; i++)
        free_address(&node->worker_addresses[i]);
    free_address(&node->shared.config.stream);
    free((char *)node->shared.config.storage.path);
    free(node->worker_addresses);
    free(node->places);
    sc_addresses_destroy(node->shared.addresses);
    free(node->shared.shards);
    free((void *)node->shared.worker_counts);
    pthread_cond_destroy(&node->changed);
    pthread_mutex_destroy(&node->lock);
    free(node);
}

// Borrowed: as long as the node. For what Swift keeps and no connection has caused.
struct sc_account *sc_node_account(struct sc_node *node) {
    return node->account;
}

// ---- Counters

// Counters of the log belong to it: they are read here, on the thread that writes them.
static void count_log(const struct shard *shard, struct sc_node_counters *own) {
    if (shard->log == NULL)
        return;
    struct sc_log_counters log = sc_log_counters(shard->log);
    own->store_unhealthy = sc_log_health(shard->log) != 0;
    own->log_bytes = log.log_bytes;
    own->snapshot_bytes = log.snapshot_bytes;
    own->log_batches = log.batches;
    own->log_updates = log.updates;
    own->log_batches_delayed = log.batches_delayed;
    own->log_delay_switches = log.delay_switches;
    own->log_records = log.records;
    own->log_bytes_written = log.bytes;
    own->log_segments = log.segments;
    own->snapshots = log.snapshots;
    own->snapshots_failed = log.snapshots_failed;
    own->changes_refused = log.changes_refused;
    own->store_failures = log.failures;
}

// A shard's own numbers, and those of the parts that count for themselves. Gauges are of this moment. All are 64 bits wide, so that
// they are added as one row of numbers: a new one needs no line here, unless another part counts it.
static void gather_counters(struct shard *shard, void *context) {
    struct sc_node *node = node_of(shard);
    struct sc_node_counters own = shard->counters;
    struct sc_store_counters store = sc_store_counters(shard->store);
    const struct sc_loop_counters *loop = sc_loop_counters(shard->loop);
    own.stream_connections = sessions_of(shard)->stream_connections;
    own.worker_connections = sessions_of(shard)->worker_connections;
    own.subscriptions = streams_of(shard)->subscriptions;
    own.topics = streams_of(shard)->topics.count;
    own.streams = store.streams;
    own.groups = store.groups;
    own.items = store.items;
    own.value_bytes = store.value_bytes;
    for (uint32_t place = 0; place < SC_PLACE_COUNT; place++)
        own.waiting[place] = sc_account_sums_bytes(shard->sums, place);
    const struct transport_counters *transport = &shard->transport.counters;
    own.messages_received = transport->messages_received;
    own.messages_too_large = transport->messages_too_large;
    own.calls_parked = transport->messages_parked;
    own.protocol_errors = transport->protocol_errors;
    own.handshakes_timed_out = transport->handshakes_timed_out;
    own.tls_handshakes = transport->tls_handshakes;
    own.tls_resumed = transport->tls_resumed;
    own.tls_handshakes_failed = transport->tls_handshakes_failed;
    own.tls_handshakes_timed_out = transport->tls_handshakes_timed_out;
    own.tls_handshakes_deferred = transport->tls_handshakes_deferred;
    own.tls_plain_refused = transport->tls_plain_refused;
    own.tls_failures = transport->tls_failures;
    own.dead_peers_closed = transport->dead_peers_closed;
    own.slow_readers_closed = transport->slow_readers_closed;
    own.calls_waiting = shard->call_queues.waiting;
    own.accepts_failed = loop->accepts_failed;
    own.turns = loop->turns;
    own.enters = loop->enters;
    own.submissions = loop->submissions;
    own.sends = loop->sends;
    own.receive_buffers_exhausted = loop->receive_buffers_exhausted;
    own.turns_contended = loop->turns_contended;
    own.polls = loop->polls;
    own.polls_in_vain = loop->polls_in_vain;
    own.writes_linked = loop->writes_linked;
    own.write_ways_changed = loop->write_ways_changed;
    count_log(shard, &own);
    uint64_t *sum = context;
    const uint64_t *numbers = (const uint64_t *)&own;
    pthread_mutex_lock(&node->lock);
    for (size_t i = 0; i < sizeof own / sizeof *numbers; i++)
        sum[i] += numbers[i];
    pthread_mutex_unlock(&node->lock);
}

// Waits for a turn of each shard: their numbers are plain, and no other thread may read them.
struct sc_node_counters sc_node_counters(struct sc_node *node) {
    struct sc_node_counters sum = {0};
    if (node->running)
        broadcast(node, gather_counters, &sum);
    for (uint32_t place = 0; place < SC_PLACE_COUNT; place++)
        sum.waiting[place] += sc_account_sums_bytes(node->sums, place);
    return sum;
}
