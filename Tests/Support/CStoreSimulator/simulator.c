// The lives of a store on the disk, and what must be true afterwards: of each group a prefix of its changes,
// with all that had been released; in its order; and no time stamp that is not greater than those before.
#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk.h"

#define GROUPS 6
#define ITEMS 8
#define SHARDS_MAX 4
#define VALUE_ITEM_SHIFT 56

/// A group's items in their order.
struct list {
    int count;
    uint64_t values[ITEMS]; // The item is in the top byte.
};

struct change {
    uint64_t value; // Of a deletion: the item alone.
    bool deletes, released;
    uint64_t position;
};

struct group {
    char stream[12], name[12];
    struct list base; // Its items when this process began.
    struct change *changes;
    int count, capacity;
    uint64_t stamps[ITEMS]; // The highest released one of each item.
    uint64_t sync_stamp;
};

/// A time stamp that has not been released.
struct stamp {
    uint64_t position, stamp;
    int group, item; // -1: a sync of the whole group.
};

struct simulation;
struct process_shard {
    struct simulation *simulation;
    uint32_t index;
    struct sc_store *store;
    struct sc_log *log;
    struct stamp *stamps;
    int stamp_count, stamp_capacity;
    struct sc_blob *applied; // The value that `apply` has lent.
};

struct simulation {
    struct sim_disk disk;
    const struct simulator_config *config;
    struct simulator_result *result;
    struct group groups[GROUPS];
    struct sc_directory *directory;
    struct process_shard shards[SHARDS_MAX];
    uint32_t shard_count;
    uint64_t seed, next_value, clock_ms, clock_ns;
    bool ended; // Nothing that comes back now is of interest.
    char reason[SC_REASON_SIZE];
    char *message;
    size_t message_size;
    bool failed;
};

__attribute__((format(printf, 2, 3))) static void violated(struct simulation *simulation,
                                                           const char *format, ...) {
    if (!simulation->failed) {
        int size = snprintf(simulation->message, simulation->message_size,
                            "seed %llu: ", (unsigned long long)simulation->config->seed);
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(simulation->message + size, simulation->message_size - (size_t)size, format,
                  arguments);
        va_end(arguments);
    }
    simulation->failed = true;
}

// ---- The model

static int item_of(uint64_t value) {
    return (int)(value >> VALUE_ITEM_SHIFT);
}

static void list_apply(struct list *list, const struct change *change) {
    int at = 0;
    while (at < list->count && item_of(list->values[at]) != item_of(change->value))
        at++;
    if (!change->deletes) {
        list->values[at] = change->value;
        list->count += at == list->count;
    } else if (at < list->count) {
        memmove(&list->values[at], &list->values[at + 1],
                (size_t)(list->count - at - 1) * sizeof list->values[0]);
        list->count--;
    }
}

static bool list_equal(const struct list *a, const struct list *b) {
    return a->count == b->count &&
           memcmp(a->values, b->values, (size_t)a->count * sizeof a->values[0]) == 0;
}

static struct sc_bytes text(const char *string) {
    return (struct sc_bytes){(const uint8_t *)string, strlen(string)};
}

static struct sc_group_name name_of(const struct simulation *simulation,
                                    const struct group *group) {
    struct sc_group_name name = {text(group->stream), text(group->name), 0};
    name.hash = sc_store_hash(name.stream, name.group, simulation->seed);
    return name;
}

static struct process_shard *shard_of(struct simulation *simulation, const struct group *group) {
    return &simulation->shards[(name_of(simulation, group).hash >> 32) % simulation->shard_count];
}

static bool owns(void *context, uint64_t hash) {
    struct process_shard *shard = context;
    return (hash >> 32) % shard->simulation->shard_count == shard->index;
}

// The bytes of a value follow from its number: any other bytes are a wrong value.
static size_t value_size(const struct simulation *simulation, uint64_t value) {
    uint64_t mixed = value * 0x9e3779b97f4a7c15u;
    uint32_t most = simulation->config->value_size_max;
    return 8 + (mixed >> 40) % (mixed >> 59 == 0 ? most : most / 16 + 1);
}

static uint8_t value_byte(uint64_t value, size_t at) {
    return (uint8_t)(value * 31 + at * 7 + (at >> 8));
}

static struct sc_blob *make_value(const struct simulation *simulation, uint64_t value) {
    struct sc_blob *blob = sc_blob_create(value_size(simulation, value));
    memcpy(blob->data, &value, sizeof value);
    for (size_t i = sizeof value; i < blob->size; i++)
        blob->data[i] = value_byte(value, i);
    return blob;
}

/// The operations of an update: to another value than `base` they do something else.
struct operations {
    uint64_t base, value;
};

static int apply(void *context, struct sc_bytes value, struct sc_bytes operations,
                 struct sc_bytes *result) {
    struct process_shard *shard = context;
    struct operations wanted;
    uint64_t base;
    if (operations.size != sizeof wanted || value.size < sizeof base)
        return -EBADMSG;
    memcpy(&wanted, operations.data, sizeof wanted);
    memcpy(&base, value.data, sizeof base);
    sc_blob_release(shard->applied);
    shard->applied =
        make_value(shard->simulation, base == wanted.base ? wanted.value : ~wanted.value);
    *result = sc_blob_bytes(shard->applied);
    return 0;
}

struct reading {
    struct simulation *simulation;
    struct list list;
};

static void read_value(struct sc_blob *blob, void *context) {
    struct reading *reading = context;
    uint64_t value = 0;
    memcpy(&value, blob->data, blob->size < sizeof value ? blob->size : sizeof value);
    bool good = blob->size == value_size(reading->simulation, value);
    for (size_t i = sizeof value; good && i < blob->size; i++)
        good = blob->data[i] == value_byte(value, i);
    if (!good || reading->list.count == ITEMS) {
        violated(reading->simulation, "a value that nobody wrote");
        return;
    }
    reading->list.values[reading->list.count++] = value;
}

static struct list read_group(struct simulation *simulation, const struct group *group) {
    struct reading reading = {.simulation = simulation};
    struct sc_group_name name = name_of(simulation, group);
    struct sc_store *store = shard_of(simulation, group)->store;
    struct sc_group *found = sc_store_group_find(store, &name);
    if (found != NULL) {
        sc_group_for_each(found, read_value, &reading);
        if (sc_group_item_count(found) != (size_t)reading.list.count)
            violated(simulation, "a group's count is not that of its items");
    }
    for (int i = 0; i < reading.list.count; i++) {
        char id[8];
        snprintf(id, sizeof id, "i%d", item_of(reading.list.values[i]));
        struct sc_blob *blob = sc_store_get(store, &name, text(id));
        if (blob == NULL || memcmp(blob->data, &reading.list.values[i], 8) != 0)
            violated(simulation, "item %s is not found by its name, or is another", id);
    }
    return reading.list;
}

static int last_released(const struct group *group) {
    int last = group->count;
    while (last > 0 && !group->changes[last - 1].released)
        last--;
    return last;
}

static void describe(const struct list *list, char *out, size_t size) {
    size_t at = 0;
    out[0] = 0;
    for (int i = 0; i < list->count && at + 24 < size; i++)
        at += (size_t)snprintf(out + at, size - at, " i%d=%llu", item_of(list->values[i]),
                               (unsigned long long)(list->values[i] & 0xffffffffffffff));
}

// The recovered state must be what some prefix of the changes makes, no shorter than what was released.
static void check_recovered(struct simulation *simulation, struct group *group) {
    struct list found = read_group(simulation, group), list = group->base;
    int least = last_released(group);
    for (int done = 0;; done++) {
        if (done >= least && list_equal(&list, &found)) {
            group->base = found;
            group->count = 0;
            return;
        }
        if (done == group->count)
            break;
        list_apply(&list, &group->changes[done]);
    }
    char text_of_found[256], text_of_least[256];
    struct list released = group->base;
    for (int i = 0; i < least; i++)
        list_apply(&released, &group->changes[i]);
    describe(&found, text_of_found, sizeof text_of_found);
    describe(&released, text_of_least, sizeof text_of_least);
    violated(simulation, "%s/%s came back as [%s], released was [%s] of %d changes, %d released",
             group->stream, group->name, text_of_found, text_of_least, group->count, least);
}

// The state in memory now: all changes, or with a failed log those that were released. In every mode the others are taken
// back: the kernel does not have them.
static void check_memory(struct simulation *simulation, struct group *group) {
    struct process_shard *shard = shard_of(simulation, group);
    struct list found = read_group(simulation, group), list = group->base;
    int until = sc_log_is_poisoned(shard->log) ? last_released(group) : group->count;
    for (int i = 0; i < until; i++)
        list_apply(&list, &group->changes[i]);
    if (!list_equal(&list, &found))
        violated(simulation, "%s/%s is not what it should be while running", group->stream,
                 group->name);
}

// ---- What the log says

static void update_released(struct process_shard *shard) {
    struct simulation *simulation = shard->simulation;
    uint64_t released = sc_log_released(shard->log);
    for (int g = 0; g < GROUPS; g++) {
        struct group *group = &simulation->groups[g];
        if (shard_of(simulation, group) != shard)
            continue;
        for (int i = group->count; i-- > 0 && !group->changes[i].released;)
            if (group->changes[i].position <= released)
                group->changes[i].released = true, simulation->result->released++;
    }
    int kept = 0;
    for (int i = 0; i < shard->stamp_count; i++) {
        struct stamp *stamp = &shard->stamps[i];
        struct group *group = &simulation->groups[stamp->group];
        if (stamp->position > released) {
            shard->stamps[kept++] = *stamp;
            continue;
        }
        uint64_t *highest = stamp->item < 0 ? &group->sync_stamp : &group->stamps[stamp->item];
        if (stamp->stamp > *highest)
            *highest = stamp->stamp;
    }
    shard->stamp_count = kept;
}

static void on_durable(void *context) {
    struct process_shard *shard = context;
    if (!shard->simulation->ended && !shard->simulation->disk.dead)
        update_released(shard);
}

static void on_failed(void *context, int error, bool unknown) {
    struct process_shard *shard = context;
    struct simulation *simulation = shard->simulation;
    if (simulation->ended || simulation->disk.dead || shard->log == NULL)
        return;
    (void)error;
    simulation->result->failures++;
    shard->stamp_count = 0; // Their frames were not sent, or are sent anew.
    for (int g = 0; g < GROUPS && !unknown; g++) {
        struct group *group = &simulation->groups[g];
        if (shard_of(simulation, group) == shard)
            group->count = last_released(group); // Refused: must never be seen.
    }
}

static void report(void *context, enum sc_report_level level, const char *event, const char *line) {
    struct simulation *simulation = context;
    (void)level;
    if (getenv("SIMULATOR_VERBOSE") != NULL && !simulation->ended)
        fprintf(stderr, "%s: %s\n", event, line);
}

// ---- A process

static int start(struct simulation *simulation) {
    struct sim_disk *disk = &simulation->disk;
    struct sc_loop *loop = (struct sc_loop *)(void *)disk;
    sim_begin_process(disk);
    simulation->ended = false;
    simulation->shard_count = 1 + (uint32_t)sim_random(disk, SHARDS_MAX);
    simulation->seed = sim_random(disk, UINT64_MAX);
    struct sc_directory_config config = {
        .path = "store",
        .durability = simulation->config->durability,
        .flush_interval_ms = 20,
        .shard_count = simulation->shard_count,
        .page_size = simulation->config->page_size == 0 ? SECTOR : simulation->config->page_size,
        .piece_size = 2 * SC_LOG_PAGE_SIZE, // So that many batches take more than one.
        .segment_size = simulation->config->segment_size,
        .update_size_least = 64,
        .replay_work_max = simulation->config->replay_work_max,
        .random = {simulation->config->seed, 7},
        .ops = &sim_ops,
        .reporter = {simulation, report}};
    int rc = sc_directory_open(loop, &config, &simulation->directory, simulation->reason);
    if (rc < 0) {
        simulation->directory = NULL;
        return rc;
    }
    for (uint32_t i = 0; i < simulation->shard_count && rc == 0; i++) {
        struct process_shard *shard = &simulation->shards[i];
        *shard = (struct process_shard){.simulation = simulation,
                                        .index = i,
                                        .stamps = shard->stamps,
                                        .stamp_capacity = shard->stamp_capacity};
        shard->store = sc_store_create(simulation->seed);
        struct sc_log_events events = {shard, on_durable, on_failed, apply};
        rc = sc_log_open(loop, simulation->directory, i, shard->store, owns, &events, &shard->log,
                         simulation->reason);
        if (rc == 0)
            rc = sc_log_start(shard->log, simulation->reason);
    }
    return rc < 0 ? rc : sc_directory_commit(loop, simulation->directory, simulation->reason);
}

static void close_process(struct simulation *simulation) {
    struct sc_loop *loop = (struct sc_loop *)(void *)&simulation->disk;
    for (uint32_t i = 0; i < SHARDS_MAX; i++) {
        struct process_shard *shard = &simulation->shards[i];
        sc_log_close(shard->log);
        sc_store_destroy(shard->store);
        sc_blob_release(shard->applied);
        shard->applied = NULL;
        shard->log = NULL;
        shard->store = NULL;
    }
    sc_directory_close(loop, simulation->directory);
    simulation->directory = NULL;
}

// In the modes that answer before the disk has it, a cut may take back what was released, from the end. The end of the
// process alone takes nothing back: the kernel has it.
static void forget_promises(struct simulation *simulation, const struct process_shard *of) {
    for (int g = 0; g < GROUPS; g++) {
        struct group *group = &simulation->groups[g];
        if (of != NULL && shard_of(simulation, group) != of)
            continue;
        for (int i = 0; i < group->count; i++)
            group->changes[i].released = false;
        memset(group->stamps, 0, sizeof group->stamps);
        group->sync_stamp = 0;
    }
}

static bool promises_less(const struct simulation *simulation) {
    return simulation->config->durability != SC_DURABILITY_COMMIT && simulation->config->power_cuts;
}

static void crash(struct simulation *simulation) {
    if (promises_less(simulation) && !simulation->ended)
        forget_promises(simulation, NULL);
    simulation->ended = true;
    sim_end_process(&simulation->disk);
    close_process(simulation);
    if (simulation->config->power_cuts)
        sim_cut_power(&simulation->disk);
}

// A store that was ended in order has everything, in every mode. A shard that failed before that ends like a crash.
static void end_shard(struct process_shard *shard) {
    struct simulation *simulation = shard->simulation;
    bool failed = sc_log_health(shard->log) != 0 || simulation->failed || simulation->disk.dead;
    if (failed && promises_less(simulation))
        forget_promises(simulation, shard);
    for (int g = 0; g < GROUPS && !failed; g++) {
        struct group *group = &simulation->groups[g];
        for (int i = 0; i < group->count && shard_of(simulation, group) == shard; i++)
            group->changes[i].released = true;
    }
}

static void end_in_order(struct simulation *simulation) {
    bool all = false;
    for (uint32_t i = 0; i < simulation->shard_count; i++)
        sc_log_finish(simulation->shards[i].log);
    while (!all) {
        all = true;
        for (uint32_t i = 0; i < simulation->shard_count; i++) {
            struct process_shard *shard = &simulation->shards[i];
            sc_log_turn(shard->log, simulation->clock_ns);
            all &= sc_log_is_idle(shard->log);
        }
        if (!all && !sim_complete_one(&simulation->disk)) {
            violated(simulation, "a store that is ended waits for nothing");
            break;
        }
    }
    for (uint32_t i = 0; i < simulation->shard_count; i++)
        end_shard(&simulation->shards[i]);
    simulation->ended = true;
    close_process(simulation);
    if (simulation->config->power_cuts) {
        simulation->disk.dead = true;
        sim_cut_power(&simulation->disk);
    }
}

// ---- What happens

static void add_stamp(struct process_shard *shard, struct stamp stamp) {
    if (shard->stamp_count == shard->stamp_capacity) {
        shard->stamp_capacity = shard->stamp_capacity == 0 ? 64 : shard->stamp_capacity * 2;
        shard->stamps =
            realloc(shard->stamps, (size_t)shard->stamp_capacity * sizeof *shard->stamps);
    }
    shard->stamps[shard->stamp_count++] = stamp;
}

static void check_stamp(struct simulation *simulation, const struct group *group, int item,
                        uint64_t stamp) {
    uint64_t before =
        group->stamps[item] > group->sync_stamp ? group->stamps[item] : group->sync_stamp;
    if (stamp <= before)
        violated(simulation, "%s/%s i%d: stamp %llu after %llu", group->stream, group->name, item,
                 (unsigned long long)stamp, (unsigned long long)before);
}

// Half of the changes of an item that is there, where updates are asked for.
static int set_or_update(struct simulation *simulation, struct process_shard *shard,
                         const struct sc_group_name *name, const char *id, uint64_t number,
                         struct sc_change *made) {
    struct sc_blob *value = make_value(simulation, number);
    struct sc_blob *old = sc_store_get(shard->store, name, text(id));
    bool updates = simulation->config->updates && old != NULL && sim_random(&simulation->disk, 2);
    if (!updates)
        return sc_store_set(shard->store, name, text(id), value, simulation->clock_ms, made);
    struct operations wanted = {.value = number};
    memcpy(&wanted.base, old->data, sizeof wanted.base);
    struct sc_operations operations = {{(const uint8_t *)&wanted, sizeof wanted}, value->size};
    return sc_store_update(shard->store, name, text(id), value, &operations, simulation->clock_ms,
                           made);
}

static void change(struct simulation *simulation) {
    struct sim_disk *disk = &simulation->disk;
    uint32_t groups = simulation->config->groups == 0 ? GROUPS : simulation->config->groups;
    int g = (int)sim_random(disk, groups), item = (int)sim_random(disk, ITEMS);
    struct group *group = &simulation->groups[g];
    struct process_shard *shard = shard_of(simulation, group);
    if (sc_log_is_full(shard->log))
        return;
    struct sc_group_name name = name_of(simulation, group);
    char id[8];
    snprintf(id, sizeof id, "i%d", item);
    struct sc_change made;
    struct change wanted = {.deletes = sim_random(disk, 3) == 0};
    wanted.value =
        (uint64_t)item << VALUE_ITEM_SHIFT | (wanted.deletes ? 0 : ++simulation->next_value);
    int rc = wanted.deletes
                 ? sc_store_delete(shard->store, &name, text(id), simulation->clock_ms, &made)
                 : set_or_update(simulation, shard, &name, id, wanted.value, &made);
    if (rc < 0) {
        simulation->result->refused++;
        // One that found no space lately is refused by its size for a while.
        bool was_full = rc == -ENOSPC && (simulation->config->fault == SIMULATOR_ENOSPC ||
                                          simulation->config->disk_size > 0);
        if (sc_log_health(shard->log) == 0 && !was_full)
            violated(simulation, "a healthy store refused a change: %s", strerror(-rc));
        return;
    }
    if (made.kind == SC_CHANGE_NONE)
        return;
    sc_blob_release(made.old_value);
    wanted.position = made.position;
    check_stamp(simulation, group, item, made.timestamp_ms);
    add_stamp(shard, (struct stamp){made.position, made.timestamp_ms, g, item});
    if (group->count == group->capacity) {
        group->capacity = group->capacity == 0 ? 64 : group->capacity * 2;
        group->changes = realloc(group->changes, (size_t)group->capacity * sizeof *group->changes);
    }
    group->changes[group->count++] = wanted;
    simulation->result->changes++;
}

static void stamp_something(struct simulation *simulation) {
    struct sim_disk *disk = &simulation->disk;
    int g = (int)sim_random(disk, GROUPS), item = (int)sim_random(disk, ITEMS);
    struct group *group = &simulation->groups[g];
    struct process_shard *shard = shard_of(simulation, group);
    if (sc_log_health(shard->log) != 0)
        return; // Without a disk only the clock is left.
    struct sc_group_name name = name_of(simulation, group);
    struct stamp stamp = {.group = g, .item = item};
    char id[8];
    snprintf(id, sizeof id, "i%d", item);
    struct sc_bytes bytes = text(id);
    if (sim_random(disk, 2) == 0) {
        stamp.stamp = sc_store_stamp_event(shard->store, &name, &bytes, simulation->clock_ms);
        check_stamp(simulation, group, item, stamp.stamp);
    } else {
        stamp.stamp = sc_store_stamp_group_sync(shard->store, &name, simulation->clock_ms);
        stamp.item = -1;
    }
    stamp.position = sc_store_position(shard->store);
    add_stamp(shard, stamp);
    update_released(shard);
}

static void step(struct simulation *simulation) {
    struct sim_disk *disk = &simulation->disk;
    simulation->clock_ns += 1000000 * sim_random(disk, 3);
    simulation->clock_ms +=
        sim_random(disk, 20) == 0 ? sim_random(disk, 2500) : sim_random(disk, 3);
    if (sim_random(disk, 50) == 0)
        simulation->clock_ms -= sim_random(disk, 3000); // Clocks are set back.
    for (uint64_t count = sim_random(disk, 4); count > 0; count--)
        change(simulation);
    if (sim_random(disk, 4) == 0)
        stamp_something(simulation);
    for (uint32_t i = 0; i < simulation->shard_count; i++)
        if (sim_random(disk, 3) > 0)
            sc_log_turn(simulation->shards[i].log, simulation->clock_ns);
    for (uint64_t count = sim_random(disk, 6); count > 0 && !disk->dead; count--)
        (void)sim_complete_one(disk);
    if (!disk->dead && sim_random(disk, 16) == 0)
        check_memory(simulation, &simulation->groups[sim_random(disk, GROUPS)]);
}

static void count_logs(struct simulation *simulation) {
    for (uint32_t i = 0; i < simulation->shard_count; i++) {
        if (simulation->shards[i].log == NULL)
            continue;
        struct sc_log_counters counters = sc_log_counters(simulation->shards[i].log);
        simulation->result->snapshots += counters.snapshots;
        simulation->result->batches += counters.batches;
        simulation->result->segments += counters.segments;
        simulation->result->updates += counters.updates;
    }
}

// Ends a start in the middle, some of the time: operations are counted down.
static int start_or_crash(struct simulation *simulation) {
    struct sim_disk *disk = &simulation->disk;
    disk->die_after = sim_random(disk, 4) == 0 ? 1 + sim_random(disk, 120) : 0;
    int rc = start(simulation);
    disk->die_after = 0;
    return rc == 0 && disk->dead ? -EIO : rc; // It died while it removed what it did not need.
}

static void round_of(struct simulation *simulation) {
    struct sim_disk *disk = &simulation->disk;
    int rc = start_or_crash(simulation);
    if (rc < 0) {
        bool died = disk->dead;
        crash(simulation);
        bool tolerated =
            died || (rc != -EBADMSG && (simulation->config->fault != SIMULATOR_NO_FAULT ||
                                        simulation->config->disk_size > 0));
        if (!tolerated)
            violated(simulation, "the start was refused: %s (%s)", simulation->reason,
                     strerror(-rc));
        return;
    }
    for (int g = 0; g < GROUPS; g++)
        check_recovered(simulation, &simulation->groups[g]);
    disk->faults_on = true;
    for (uint64_t left = sim_random(disk, simulation->config->steps) + 1;
         left > 0 && !simulation->failed && !disk->dead; left--)
        step(simulation);
    count_logs(simulation);
    if (!disk->dead && simulation->config->clean_ends && sim_random(disk, 3) == 0)
        end_in_order(simulation);
    else
        crash(simulation);
}

static void init(struct simulation *simulation, const struct simulator_config *config,
                 struct simulator_result *result, char *message, size_t message_size) {
    *result = (struct simulator_result){0};
    simulation->config = config;
    simulation->result = result;
    simulation->message = message;
    simulation->message_size = message_size;
    simulation->disk.random = config->seed;
    simulation->disk.config = config;
    simulation->disk.result = result;
    simulation->clock_ms = 1700000000000;
    simulation->clock_ns = 1;
    for (int g = 0; g < GROUPS; g++) {
        snprintf(simulation->groups[g].stream, sizeof simulation->groups[g].stream, "s%d", g / 3);
        snprintf(simulation->groups[g].name, sizeof simulation->groups[g].name, "g%d", g);
    }
}

static void deinit(struct simulation *simulation) {
    sim_free(&simulation->disk);
    for (int g = 0; g < GROUPS; g++)
        free(simulation->groups[g].changes);
    for (int i = 0; i < SHARDS_MAX; i++)
        free(simulation->shards[i].stamps);
    free(simulation);
}

int simulator_run(const struct simulator_config *config, struct simulator_result *result,
                  char *message, size_t message_size) {
    struct simulation *simulation = calloc(1, sizeof *simulation);
    if (simulation == NULL)
        abort();
    init(simulation, config, result, message, message_size);
    for (uint32_t i = 0; i < config->rounds && !simulation->failed; i++)
        round_of(simulation);
    int rc = simulation->failed;
    deinit(simulation);
    return rc;
}

// ---- Every byte

// Changes, each batch of them written before the next.
static void fill(struct simulation *simulation, uint32_t changes) {
    uint32_t made = 0;
    while (made < changes && !simulation->failed) {
        uint64_t before = simulation->result->changes;
        change(simulation);
        made += simulation->result->changes > before;
        if (sim_random(&simulation->disk, 2) == 0)
            continue;
        for (uint32_t i = 0; i < simulation->shard_count; i++)
            sc_log_turn(simulation->shards[i].log, simulation->clock_ns += 1000000);
        while (sim_complete_one(&simulation->disk)) {
        }
    }
}

static bool is_prefix(struct simulation *simulation, struct group *group, const struct list *base) {
    struct list found = read_group(simulation, group), list = *base;
    for (int done = 0;; done++) {
        if (list_equal(&list, &found))
            return true;
        if (done == group->count)
            return false;
        list_apply(&list, &group->changes[done]);
    }
}

static void harm(struct sim_file *file, enum simulator_harm kind, uint64_t at, uint8_t bits) {
    if (kind == SIMULATOR_CUT)
        file->size = at;
    else
        file->data[at] ^= bits;
}

struct saved {
    struct sim_entry entries[ENTRIES_MAX];
    int entry_count;
    uint8_t *data[ENTRIES_MAX];
    uint64_t sizes[ENTRIES_MAX];
};

static void save(struct sim_disk *disk, struct saved *saved) {
    memcpy(saved->entries, disk->entries, sizeof disk->entries);
    saved->entry_count = disk->entry_count;
    for (int i = 0; i < disk->entry_count; i++) {
        struct sim_file *file = &disk->files[disk->entries[i].file];
        saved->sizes[i] = file->size;
        saved->data[i] = malloc(file->size + 1);
        if (file->size > 0)
            memcpy(saved->data[i], file->data, file->size);
    }
}

static void restore(struct sim_disk *disk, const struct saved *saved) {
    disk->entry_count = disk->durable_count = disk->change_count = 0;
    sim_begin_process(disk);
    for (int i = 0; i < saved->entry_count; i++) {
        sim_place(disk, saved->entries[i].name, saved->data[i], saved->sizes[i]);
    }
    disk->directory_made = disk->directory_durable = true;
}

static bool in_use(const uint8_t *data, uint64_t size, uint64_t at) {
    // The zeros behind the last batch say nothing; one byte of them is as good as all.
    for (uint64_t i = at; i < size && i < at + 64; i++)
        if (data[i] != 0)
            return true;
    return at > 0 && data[at - 1] != 0;
}

int simulator_harm_every_byte(enum simulator_harm kind, uint32_t changes, bool with_snapshot,
                              bool with_updates, uint64_t seed, uint64_t *refused,
                              uint64_t *prefixes, char *message, size_t message_size) {
    struct simulator_config config = {.seed = seed,
                                      .ignored_flush = -1,
                                      .fault_site = -1,
                                      .updates = with_updates,
                                      .groups = with_updates ? 1 : 0,
                                      .value_size_max = with_updates ? 8000 : 64,
                                      .segment_size = with_snapshot ? 2048 : 65536};
    struct simulator_result result;
    struct simulation *simulation = calloc(1, sizeof *simulation);
    struct saved saved = {0};
    if (simulation == NULL)
        abort();
    init(simulation, &config, &result, message, message_size);
    *refused = *prefixes = 0;
    if (start(simulation) < 0)
        violated(simulation, "the first start was refused: %s", simulation->reason);
    else
        fill(simulation, changes);
    count_logs(simulation);
    if (with_updates && result.updates == 0)
        violated(simulation, "no update was logged as one");
    crash(simulation);
    struct list bases[GROUPS] = {0};
    simulation->ended = true;
    save(&simulation->disk, &saved);
    for (int i = 0; i < saved.entry_count && !simulation->failed; i++) {
        for (uint64_t at = 0; at < saved.sizes[i] && !simulation->failed; at++) {
            if (!in_use(saved.data[i], saved.sizes[i], at))
                continue;
            restore(&simulation->disk, &saved);
            struct sim_file *file = sim_find(&simulation->disk, saved.entries[i].name);
            harm(file, kind, at, (uint8_t)(1 + sim_random(&simulation->disk, 255)));
            int rc = start(simulation);
            bool good = rc == -EBADMSG || rc == 0;
            *refused += rc < 0;
            *prefixes += rc == 0;
            if (!good)
                violated(simulation, "%s, byte %llu: the start failed with %s",
                         saved.entries[i].name, (unsigned long long)at, simulation->reason);
            for (int g = 0; rc == 0 && g < GROUPS; g++)
                if (!is_prefix(simulation, &simulation->groups[g], &bases[g]))
                    violated(simulation, "%s, byte %llu: what came back is no prefix",
                             saved.entries[i].name, (unsigned long long)at);
            crash(simulation);
        }
    }
    for (int i = 0; i < saved.entry_count; i++)
        free(saved.data[i]);
    int rc = simulation->failed;
    deinit(simulation);
    return rc;
}

// ---- Names

static const char *const site_names[] = {
    "directory_make",
    "directory_parent_flush",
    "directory_open",
    "lock_open",
    "recover_open",
    "recover_read",
    "recover_copy",
    "close",
    "remove",
    "manifest_open",
    "manifest_read",
    "manifest_write",
    "manifest_rename",
    "manifest_directory_flush",
    "segment_open",
    "segment_allocate",
    "segment_fill",
    "segment_header",
    "segment_directory_flush",
    "segment_forget",
    "batch",
    "interval_flush",
    "snapshot_open",
    "snapshot_write",
    "snapshot_header",
    "snapshot_rename",
    "snapshot_directory_flush",
};
_Static_assert(sizeof site_names / sizeof *site_names == SC_SITE_COUNT, "a name for each site");

const char *simulator_site_name(int site) {
    return site < 0 || site >= SC_SITE_COUNT ? "none" : site_names[site];
}

int simulator_site_count(void) {
    return SC_SITE_COUNT;
}
