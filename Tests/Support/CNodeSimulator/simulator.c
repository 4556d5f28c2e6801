// The course of a run: a node, its clients and its disk, one step after the other, by the seed.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control.h"
#include "stepped.h"

#define WORKERS 2u
#define QUIET_ROUNDS 60u
#define START_ROUNDS 200u
#define STOP_TIMEOUT_MS 2000u
#define LONG_TIME_TURNS 16u

struct simulation {
    struct world world;
    struct checker checker;
    struct sim_disk disk;
    struct simulator_config disk_config;
    struct simulator_result disk_result;
    struct node_simulator_result *result;
    const struct node_simulator_config *config;
    enum node_simulator_theme theme;
    struct sc_node *_Nullable node;
    struct sc_node_stepper stepper;
    struct control control;
    struct client clients[CLIENTS_MAX];
    uint32_t client_count, monitors;
    uint32_t shard_count, item_count, padding;
    enum sc_node_durability durability;
    bool on_disk, disk_fails, ending;
};

// ---- What the node says

static void worker_opened(void *context, uint64_t connection, uint32_t listener, bool telemetry,
                          struct sc_bytes address, uint64_t message_size_max,
                          struct sc_message *head) {
    (void)listener, (void)telemetry, (void)address, (void)message_size_max, (void)head;
    const struct simulation *simulation = context;
    struct sc_bytes id = SC_LITERAL("00000000-0000-4000-8000-000000000000");
    sc_node_admit(simulation->node, connection, id, id, false, 0);
}

static void on_message(void *context, uint64_t connection, struct sc_message *message) {
    struct simulation *simulation = context;
    control_hears(&simulation->control, connection, message);
}
static void worker_alive(void *context, uint64_t connection, bool alive) {
    (void)context, (void)connection, (void)alive;
}
static void worker_closed(void *context, uint64_t connection) {
    (void)context, (void)connection;
}
static void undeliverable(void *context, uint64_t executor, struct sc_bytes invocation_id,
                          enum sc_undeliverable reason, uint64_t limit) {
    (void)context, (void)executor, (void)invocation_id, (void)reason, (void)limit;
}
static void on_log(void *context, enum sc_log_level level, const char *event, uint64_t connection,
                   struct sc_bytes detail) {
    (void)level, (void)connection;
    const struct simulation *simulation = context;
    if (simulation->config->verbose)
        fprintf(stderr, "node: %s %.*s\n", event, (int)detail.size, (const char *)detail.data);
}

// ---- Parts of a step

static uint64_t chance(struct simulation *simulation, uint64_t below) {
    return world_random(&simulation->world, below);
}

static void turn(struct simulation *simulation, uint32_t shard) {
    simulation->result->turns++;
    sc_node_turn(simulation->node, shard);
    // Those that the order is taken from read all the time, so that no other client is far ahead of them.
    for (uint32_t i = WORKERS; i < WORKERS + simulation->monitors && i < simulation->client_count;
         i++) {
        struct client *monitor = &simulation->clients[i];
        if (!simulation->ending && !monitor->ended)
            client_read(monitor, SIZE_MAX);
        if (!simulation->ending && monitor->ended)
            violated(&simulation->checker, "client %u, which reads all the time, was closed", i);
    }
}

// Everything moves once: bytes, disk, turns, and a little time.
static void round_of_all(struct simulation *simulation) {
    struct world *world = &simulation->world;
    for (uint32_t i = 0; i < world->peer_count; i++)
        while (world_deliver(world, world->peers[i], SIZE_MAX)) {
        }
    while (world->disk != NULL && sim_complete_one(world->disk)) {
    }
    while (!simulation->ending && control_answers(&simulation->control)) {
    }
    for (uint32_t i = 0; i < simulation->shard_count; i++)
        if (world->shards[i] != NULL)
            turn(simulation, i);
    for (uint32_t i = 0; i < simulation->client_count; i++)
        if (simulation->clients[i].peer != NULL)
            client_read(&simulation->clients[i], SIZE_MAX);
    world->now_ns += 200000;
}

static void step_while_waiting(void *context) {
    struct simulation *simulation =
        (struct simulation *)(void *)((char *)context - offsetof(struct simulation, world));
    round_of_all(simulation);
    simulation->world.now_ns += 1000000;
}

static struct client *add_client(struct simulation *simulation, uint32_t listener, uint32_t group,
                                 size_t room) {
    if (simulation->client_count == CLIENTS_MAX)
        return NULL;
    struct client *client = &simulation->clients[simulation->client_count];
    if (!client_connect(client, &simulation->world, &simulation->checker, simulation->client_count,
                        listener, group, room))
        return NULL;
    simulation->client_count++;
    return client;
}

// Stream ports are listener 0, and those after the worker port's.
static uint32_t stream_listener(struct simulation *simulation) {
    uint32_t shard = (uint32_t)chance(simulation, simulation->shard_count);
    return shard == 0 ? 0 : 1 + shard;
}

static size_t room_by_chance(struct simulation *simulation) {
    static const size_t rooms[] = {1u << 20, 64u << 10, 8u << 10, 2u << 10};
    // A large `sync` has many small turns otherwise.
    return rooms[chance(simulation, simulation->theme == NODE_SIMULATOR_LARGE ? 2 : 4)];
}

// ---- Actions of a step

static struct client *any_client(struct simulation *simulation, bool worker) {
    uint32_t from = worker ? 0 : WORKERS + simulation->monitors;
    uint32_t count = worker ? WORKERS : simulation->client_count - from;
    if (count == 0)
        return NULL;
    struct client *client = &simulation->clients[from + chance(simulation, count)];
    return client->ended ? NULL : client;
}

static uint32_t any_item(struct simulation *simulation) {
    return (uint32_t)chance(simulation, simulation->item_count);
}

static void act_write(struct simulation *simulation) {
    struct client *worker = any_client(simulation, true);
    if (worker == NULL)
        return;
    uint32_t count = 1 + (uint32_t)chance(simulation, world_chance(&simulation->world, 6) ? 12 : 2);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t group = (uint32_t)chance(simulation, simulation->checker.group_count);
        uint32_t item = any_item(simulation), padding = simulation->padding;
        uint64_t what = chance(simulation, 12);
        if (simulation->control.serves && what != 2) {
            control_writes(&simulation->control, group, item);
            continue;
        }
        switch (what) {
        case 0:
        case 1:
            client_call(worker, CALL_DELETE, group, item, 0);
            break;
        case 2:
            client_call(worker, CALL_CUSTOM, group,
                        world_chance(&simulation->world, 2) ? NO_ITEM : item, 10);
            break;
        case 3:
            client_call(worker, CALL_UPDATE, group, item, 0);
            break;
        case 4:
            client_call(worker, world_chance(&simulation->world, 2) ? CALL_LIST : CALL_GET, group,
                        item, 0);
            break;
        default:
            client_call(worker, CALL_SET, group, item,
                        padding == 0 ? 0 : 1 + (uint32_t)chance(simulation, padding));
        }
    }
}

static void act_connect(struct simulation *simulation) {
    uint32_t group = (uint32_t)chance(simulation, simulation->checker.group_count + 1);
    if (group == simulation->checker.group_count)
        group = GROUPS_MAX; // Joins by message only.
    struct client *client =
        add_client(simulation, stream_listener(simulation), group, room_by_chance(simulation));
    if (client != NULL)
        client->slow = world_chance(&simulation->world, 3);
    if (client != NULL)
        client->harm = simulation->config->harm;
}

static void act_join(struct simulation *simulation) {
    struct client *client = any_client(simulation, false);
    if (client == NULL)
        return;
    uint32_t group = (uint32_t)chance(simulation, simulation->checker.group_count);
    uint32_t id = 1 + (uint32_t)chance(simulation, 3);
    struct view *view = &client->views[group];
    if (view->ids[id] != 0 && !world_chance(&simulation->world, 4))
        client_leave(client, group, id);
    else if (view->pending_count < PENDING_JOINS_MAX)
        client_join(client, group, id,
                    world_chance(&simulation->world, 3) ? any_item(simulation) : NO_ITEM);
}

static void act_leave(struct simulation *simulation) {
    struct client *client = any_client(simulation, false);
    if (client == NULL)
        return;
    if (world_chance(&simulation->world, 6)) {
        client_close(client, world_chance(&simulation->world, 2));
        return;
    }
    uint32_t group = (uint32_t)chance(simulation, simulation->checker.group_count);
    uint32_t id = 1 + (uint32_t)chance(simulation, 3);
    if (client->views[group].ids[id] != 0)
        client_leave(client, group, id);
}

static void act_fault(struct simulation *simulation) {
    static const int sites[] = {SC_SITE_SEGMENT_OPEN,   SC_SITE_SEGMENT_ALLOCATE,
                                SC_SITE_SEGMENT_FILL,   SC_SITE_SEGMENT_HEADER,
                                SC_SITE_BATCH,          SC_SITE_SNAPSHOT_OPEN,
                                SC_SITE_SNAPSHOT_WRITE, SC_SITE_SEGMENT_DIRECTORY_FLUSH};
    struct simulator_config *config = &simulation->disk_config;
    config->fault_site = sites[chance(simulation, sizeof sites / sizeof *sites)];
    config->fault = world_chance(&simulation->world, 3) ? SIMULATOR_EIO : SIMULATOR_ENOSPC;
    if (world_chance(&simulation->world, 4))
        config->fault = SIMULATOR_SHORT;
    config->fault_after = (uint32_t)chance(simulation, 4);
    config->fault_count = 1 + (uint32_t)chance(simulation, 3);
    simulation->disk.fault_seen = 0;
    simulation->disk.faults_on = true;
}

static void act_time(struct simulation *simulation) {
    struct world *world = &simulation->world;
    bool long_one = world_chance(world, 20);
    // A reader's grace is time in which it could have read: the shards run while much of it passes.
    for (uint32_t i = 0; long_one && i < LONG_TIME_TURNS * simulation->shard_count; i++)
        turn(simulation, i % simulation->shard_count);
    world->now_ns += chance(simulation, long_one ? 1500000000u : 2000000u);
    if (world_chance(world, 20)) // Somebody sets the clock.
        world->wall_offset_ms += (int64_t)chance(simulation, 4000) - 2000;
}

static void step(struct simulation *simulation) {
    struct world *world = &simulation->world;
    uint64_t what = chance(simulation, 100);
    if (what < 3 && control_answers(&simulation->control)) {
        // The control plane takes its time, too.
    } else if (what < 45) {
        turn(simulation, (uint32_t)chance(simulation, simulation->shard_count));
    } else if (what < 60) {
        struct peer *peer = world->peers[chance(simulation, world->peer_count)];
        size_t most = world_chance(world, 4) ? 1 + chance(simulation, 40) : SIZE_MAX;
        while (world_deliver(world, peer, most) && !world_chance(world, 3)) {
        }
    } else if (what < 75) {
        struct client *client = &simulation->clients[chance(simulation, simulation->client_count)];
        if (!client->slow)
            client_read(client, SIZE_MAX);
        else if (world_chance(world, 3))
            client_read(client, 1 + chance(simulation, 20000));
    } else if (what < 82) {
        if (world->disk != NULL)
            (void)sim_complete_one(world->disk);
        else
            act_time(simulation);
    } else if (what < 90) {
        act_write(simulation);
    } else if (what < 95) {
        act_join(simulation);
    } else if (what < 96) {
        act_leave(simulation);
    } else if (what < 98) {
        act_connect(simulation);
    } else if (what < 99 || !simulation->disk_fails) {
        act_time(simulation);
    } else {
        act_fault(simulation);
    }
}

// ---- Life of the node

static bool start(struct simulation *simulation) {
    struct world *world = &simulation->world;
    struct sc_node_config config = sc_node_config_default();
    struct sc_node_address worker = {.host = "127.0.0.1", .budget = 64u << 20};
    static const struct sc_node_events template = {.worker_opened = worker_opened,
                                                   .message = on_message,
                                                   .worker_alive = worker_alive,
                                                   .worker_closed = worker_closed,
                                                   .undeliverable = undeliverable,
                                                   .log = on_log};
    struct sc_node_events events = template;
    events.context = simulation;
    config.shard_count = simulation->shard_count;
    config.stream.port = 0;
    config.workers = &worker;
    config.worker_count = 1;
    config.seed = simulation->config->seed;
    if (world_chance(world, 4)) // Readers that fall behind are closed.
        config.stream.budget = 200u << 10;
    if (simulation->theme == NODE_SIMULATOR_LARGE && world_chance(world, 4))
        config.snapshot_size_max = 1u << 20; // Joins wait for each other's.
    if (simulation->theme == NODE_SIMULATOR_LARGE && world_chance(world, 4))
        config.sync_size_max = 500u << 10;
    config.watched = control_watched(&simulation->control);
    config.storage.durability = simulation->durability;
    if (world->disk != NULL) {
        config.storage.path = "store";
        config.storage.segment_size = 64u << 10;
    }
    simulation->stepper = (struct sc_node_stepper){&world_backend, world, step_while_waiting};
    char reason[512];
    simulation->node = simulation->control.node = sc_node_create(&config, &events);
    if (simulation->node == NULL)
        abort();
    world->eager = true;
    int rc = sc_node_start_stepped(simulation->node, &simulation->stepper, reason, sizeof reason);
    world->eager = false;
    if (rc < 0)
        violated(&simulation->checker, "the node does not start: %s", reason);
    return rc == 0;
}

// Goes on until nothing has been sent for so many rounds.
static bool settle(struct simulation *simulation, uint32_t rounds) {
    uint64_t trace = simulation->result->trace;
    for (uint32_t i = 0; i < rounds && !simulation->checker.failed; i++) {
        round_of_all(simulation);
        if (trace != simulation->result->trace)
            i = 0;
        trace = simulation->result->trace;
    }
    return !simulation->checker.failed;
}

static bool open_clients(struct simulation *simulation) {
    for (uint32_t i = 0; i < WORKERS; i++)
        if (add_client(simulation, 1, GROUPS_MAX, 1u << 24) == NULL)
            violated(&simulation->checker, "nobody accepts workers");
    for (uint32_t i = 0; i < simulation->monitors; i++) {
        struct client *client = add_client(simulation, stream_listener(simulation), i, 1u << 24);
        if (client == NULL)
            violated(&simulation->checker, "nobody accepts clients");
        else
            client->views[i].orders = true;
    }
    for (uint32_t i = 0; i < START_ROUNDS && !simulation->checker.failed; i++) {
        bool all = true;
        round_of_all(simulation);
        for (uint32_t j = 0; j < simulation->monitors; j++)
            all &= simulation->clients[WORKERS + j].views[j].pending_count == 0;
        if (all)
            return true;
    }
    violated(&simulation->checker, "the first clients are not served");
    return false;
}

// Large groups are there before the others come.
static void fill(struct simulation *simulation) {
    for (uint32_t item = 0; item < simulation->item_count; item++)
        client_call(&simulation->clients[0], CALL_SET, 0, item, simulation->padding);
    (void)settle(simulation, 40);
}

static void finish(struct simulation *simulation) {
    for (uint32_t i = 0; i < simulation->client_count; i++)
        simulation->clients[i].peer->room = 1u << 24;
    simulation->disk.faults_on = false;
    if (settle(simulation, QUIET_ROUNDS)) {
        for (uint32_t group = 0;
             group < simulation->checker.group_count && !simulation->control.serves; group++)
            client_call(&simulation->clients[0], CALL_LIST, group, NO_ITEM, 0);
        (void)settle(simulation, QUIET_ROUNDS);
    }
    for (uint32_t i = 0; i < simulation->client_count && !simulation->checker.failed; i++)
        client_end(&simulation->clients[i]);
    if (!simulation->checker.failed)
        checker_end(&simulation->checker);
    uint64_t lost = sc_node_counters(simulation->node).history_readers_lost;
    if (simulation->checker.gaps > lost)
        violated(&simulation->checker,
                 "%llu times something sent is missing, %llu times it was lost",
                 (unsigned long long)simulation->checker.gaps, (unsigned long long)lost);
}

static void choose(struct simulation *simulation) {
    static const enum node_simulator_theme themes[] = {NODE_SIMULATOR_JOINS, NODE_SIMULATOR_JOINS,
                                                       NODE_SIMULATOR_FAULTS, NODE_SIMULATOR_LARGE};
    enum node_simulator_theme drawn = themes[chance(simulation, 4)];
    simulation->theme =
        simulation->config->theme == NODE_SIMULATOR_ANY ? drawn : simulation->config->theme;
    static const uint32_t shard_counts[] = {1, 2, 2, 3, 4, 4};
    simulation->shard_count = shard_counts[chance(simulation, 6)];
    simulation->monitors = simulation->checker.group_count = 1 + (uint32_t)chance(simulation, 2);
    simulation->item_count = 2 + (uint32_t)chance(simulation, 5);
    // From small on, over what makes a `sync` worth keeping, to what is read in steps.
    static const uint32_t paddings[] = {20, 20, 500, 4000, 8000};
    simulation->padding = paddings[chance(simulation, 5)];
    if (simulation->theme == NODE_SIMULATOR_FAULTS && world_chance(&simulation->world, 12))
        simulation->padding = 90000;
    if (simulation->theme == NODE_SIMULATOR_LARGE) {
        simulation->checker.group_count = simulation->monitors = 1;
        simulation->item_count = 8 + (uint32_t)chance(simulation, 8);
        simulation->padding = 60000;
    }
    simulation->on_disk =
        simulation->theme == NODE_SIMULATOR_FAULTS ||
        ((simulation->theme == NODE_SIMULATOR_LARGE || simulation->theme == NODE_SIMULATOR_JOINS) &&
         world_chance(&simulation->world, 3));
    // A change that was answered before it is on disk may go: nobody can be held to anything when that fails.
    if (simulation->theme != NODE_SIMULATOR_FAULTS && simulation->on_disk)
        simulation->durability = (enum sc_node_durability)chance(simulation, 3);
    simulation->control.decides = world_chance(&simulation->world, 3);
    simulation->control.serves =
        simulation->theme == NODE_SIMULATOR_JOINS && world_chance(&simulation->world, 4);
    // What a function has changed is not taken back.
    simulation->disk_fails = simulation->on_disk && simulation->durability == SC_NODE_COMMIT &&
                             !simulation->control.serves;
    if (simulation->on_disk) {
        simulation->disk_config = (struct simulator_config){
            .seed = chance(simulation, UINT64_MAX), .ignored_flush = -1, .fault_site = -1};
        simulation->disk_config.no_direct = world_chance(&simulation->world, 2);
        simulation->disk.random = simulation->disk_config.seed;
        simulation->disk.config = &simulation->disk_config;
        simulation->disk.result = &simulation->disk_result;
        sim_begin_process(&simulation->disk);
        simulation->world.disk = &simulation->disk;
    }
    static const char *const durabilities[] = {"commit", "interval", "none"};
    snprintf(simulation->checker.about, sizeof simulation->checker.about, "%u shards, %s%s%s",
             simulation->shard_count,
             simulation->on_disk ? durabilities[simulation->durability] : "memory",
             simulation->control.decides ? ", joins are decided" : "",
             simulation->control.serves ? ", a function serves" : "");
}

int node_simulator_run(const struct node_simulator_config *config,
                       struct node_simulator_result *result, char *message, size_t message_size) {
    struct simulation *simulation = calloc(1, sizeof *simulation);
    if (simulation == NULL)
        abort();
    *result = (struct node_simulator_result){0};
    simulation->config = config;
    simulation->result = simulation->world.result = simulation->checker.result = result;
    simulation->world.random = config->seed;
    simulation->checker.message = message;
    simulation->checker.message_size = message_size;
    simulation->checker.seed = config->seed;
    simulation->checker.verbose = config->verbose;
    simulation->control.world = &simulation->world;
    simulation->control.checker = &simulation->checker;
    simulation->control.clients = simulation->clients;
    choose(simulation);
    uint32_t steps = config->steps != 0 ? config->steps : 300 + (uint32_t)chance(simulation, 1500);
    if (start(simulation)) {
        if (open_clients(simulation) && simulation->theme == NODE_SIMULATOR_LARGE)
            fill(simulation);
        for (uint32_t i = 0; i < steps && !simulation->checker.failed; i++) {
            simulation->checker.step = i;
            result->steps++;
            step(simulation);
        }
        if (!simulation->checker.failed)
            finish(simulation);
        simulation->world.eager = simulation->ending = true;
        for (uint32_t i = 0; i < simulation->client_count; i++)
            client_close(&simulation->clients[i], false);
        sc_node_stop(simulation->node, STOP_TIMEOUT_MS);
        control_end(&simulation->control);
    }
    sc_node_destroy(simulation->node);
    for (uint32_t i = 0; i < simulation->client_count; i++)
        client_free(&simulation->clients[i]);
    control_free(&simulation->control);
    world_free(&simulation->world);
    sim_free(&simulation->disk);
    checker_free(&simulation->checker);
    bool failed = simulation->checker.failed;
    free(simulation);
    return failed;
}
