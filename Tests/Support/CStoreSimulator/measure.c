#include "disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static bool owns_all(void *context, uint64_t hash) {
    (void)context;
    (void)hash;
    return true;
}

static void nothing_durable(void *context) {
    (void)context;
}

static void nothing_failed(void *context, int error, bool unknown) {
    (void)context;
    (void)error;
    (void)unknown;
}

static void no_report(void *context, enum sc_report_level level, const char *event,
                      const char *text) {
    (void)context;
    (void)level;
    (void)event;
    (void)text;
}

static uint64_t processor_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

#define GROUPS 97u

struct place {
    char group[16], id[24];
    struct sc_group_name name;
    struct sc_bytes item;
};

static void place_of(struct place *place, uint64_t number) {
    int group = snprintf(place->group, sizeof place->group, "g%u", (unsigned)(number % GROUPS));
    int id = snprintf(place->id, sizeof place->id, "i%llu", (unsigned long long)number);
    place->name = (struct sc_group_name){
        {(const uint8_t *)"s", 1}, {(const uint8_t *)place->group, (size_t)group}, 0};
    place->name.hash = sc_store_hash(place->name.stream, place->name.group, 1);
    place->item = (struct sc_bytes){(const uint8_t *)place->id, (size_t)id};
}

static bool put(struct sc_store *store, uint64_t number, uint32_t size, uint64_t now_ms) {
    struct place place;
    place_of(&place, number);
    struct sc_blob *value = sc_store_value_create(store, size);
    if (value == NULL)
        return false;
    memset(value->data, (int)('a' + number % 26), size);
    struct sc_change change;
    int rc = sc_store_set(store, &place.name, place.item, value, now_ms, &change);
    if (rc == 0)
        sc_blob_release(change.old_value);
    return rc == 0;
}

struct measurement {
    struct sim_disk *disk;
    struct sc_log *log;
    uint64_t now_ns, worst_ns, turns, disk_most;
};

static void turn(struct measurement *measurement) {
    uint64_t begin = processor_ns();
    sc_log_turn(measurement->log, measurement->now_ns += 1000000);
    uint64_t took = processor_ns() - begin;
    if (took > measurement->worst_ns)
        measurement->worst_ns = took;
    measurement->turns++;
    while (sim_complete_one(measurement->disk)) {
    }
    uint64_t use = sim_disk_use(measurement->disk);
    if (use > measurement->disk_most)
        measurement->disk_most = use;
}

// Changes until a snapshot has been begun and finished by itself.
static bool work(struct measurement *measurement, struct sc_store *store, uint32_t items,
                 uint32_t large_size) {
    uint64_t number = 0, before = sc_log_counters(measurement->log).snapshots;
    for (uint32_t i = 0; i < 4; i++)
        if (!put(store, items + i, large_size, 1))
            return false;
    while (!sc_log_is_idle(measurement->log) || sc_log_counters(measurement->log).batches == 0)
        turn(measurement);
    measurement->worst_ns = 0; // Those wrote large values to the log, which is no compaction.
    while (sc_log_counters(measurement->log).snapshots < before + 2) {
        for (uint32_t i = 0; i < 64; i++, number++)
            if (!put(store, number % items, 200, number))
                return false;
        turn(measurement);
    }
    return true;
}

// ---- A store on a disk

struct opened {
    struct sim_disk *disk;
    struct sc_store *store;
    struct sc_directory *directory;
    struct sc_log *log;
};

static int open_with(struct opened *opened, const struct sc_log_events *events, char *reason) {
    struct sc_loop *loop = (struct sc_loop *)(void *)opened->disk;
    struct sc_directory_config config = {.path = "store",
                                         .shard_count = 1,
                                         .page_size = 512,
                                         .segment_size = 1u << 20,
                                         .ops = &sim_ops,
                                         .reporter = {NULL, no_report}};
    sim_begin_process(opened->disk);
    opened->store = sc_store_create(1);
    int rc = sc_directory_open(loop, &config, &opened->directory, reason);
    if (rc == 0)
        rc = sc_log_open(loop, opened->directory, 0, opened->store, owns_all, events, &opened->log,
                         reason);
    if (rc == 0)
        rc = sc_log_start(opened->log, reason);
    if (rc == 0)
        rc = sc_directory_commit(loop, opened->directory, reason);
    return rc;
}

static int open_store(struct opened *opened, char *reason) {
    static const struct sc_log_events events = {NULL, nothing_durable, nothing_failed, NULL};
    return open_with(opened, &events, reason);
}

static void close_store(struct opened *opened) {
    sc_log_close(opened->log);
    sc_store_destroy(opened->store);
    sc_directory_close((struct sc_loop *)(void *)opened->disk, opened->directory);
    *opened = (struct opened){.disk = opened->disk};
}

static struct sim_disk *make_disk(struct simulator_result *result) {
    static const struct simulator_config config = {.ignored_flush = -1, .fault_site = -1};
    struct sim_disk *disk = calloc(1, sizeof *disk);
    if (disk == NULL)
        abort();
    disk->config = &config;
    disk->result = result;
    return disk;
}

static void free_disk(struct sim_disk *disk) {
    sim_free(disk);
    free(disk);
}

int simulator_measure_snapshot(uint32_t items, uint32_t large_size, uint64_t *worst_ns,
                               uint64_t *turns, uint64_t *live, uint64_t *disk_most, char *message,
                               size_t message_size) {
    struct simulator_result result = {0};
    struct opened opened = {.disk = make_disk(&result)};
    struct measurement measurement = {.disk = opened.disk};
    char reason[SC_REASON_SIZE] = "a change was refused";
    int rc = open_store(&opened, reason);
    measurement.log = opened.log;
    if (rc == 0 && !work(&measurement, opened.store, items, large_size))
        rc = -1;
    snprintf(message, message_size, "%s", rc == 0 ? "" : reason);
    *worst_ns = measurement.worst_ns;
    *turns = measurement.turns;
    *live = sc_store_counters(opened.store).value_bytes;
    *disk_most = measurement.disk_most;
    close_store(&opened);
    free_disk(opened.disk);
    return rc == 0 ? 0 : 1;
}

// ---- Compacting

static bool take(struct sc_store *store, uint64_t number, uint64_t now_ms) {
    struct place place;
    place_of(&place, number);
    struct sc_change change;
    int rc = sc_store_delete(store, &place.name, place.item, now_ms, &change);
    if (rc == 0)
        sc_blob_release(change.old_value);
    return rc == 0;
}

static uint32_t size_of(uint64_t number) {
    return (uint32_t)(number * 2654435761u >> 7) % 900 + 16;
}

// Whether the store has the items that `sizes` says, and no others, in the order of their groups.
static bool is_right(struct sc_store *store, const uint32_t *sizes, uint32_t items) {
    uint64_t count = 0;
    for (uint64_t number = 0; number < items; number++) {
        struct place place;
        place_of(&place, number);
        struct sc_blob *value = sc_store_get(store, &place.name, place.item);
        if ((value == NULL) != (sizes[number] == 0))
            return false;
        if (value == NULL)
            continue;
        count++;
        if (value->size != sizes[number])
            return false;
        for (uint32_t i = 0; i < value->size; i++)
            if (value->data[i] != 'a' + number % 26)
                return false;
    }
    return sc_store_counters(store).items == count;
}

struct order {
    uint64_t digest;
};
static void add_value(struct sc_blob *value, void *context) {
    struct order *order = context;
    order->digest = (order->digest ^ value->size ^ value->data[0]) * 0x100000001b3u;
}

static uint64_t digest_of(struct sc_store *store) {
    struct order order = {0};
    for (uint64_t number = 0; number < GROUPS; number++) {
        struct place place;
        place_of(&place, number);
        struct sc_group *group = sc_store_group_find(store, &place.name);
        if (group != NULL)
            sc_group_for_each(group, add_value, &order);
        order.digest = order.digest * 31 + 1;
    }
    return order.digest;
}

// A group that is read in steps meanwhile, and what it had when that began.
struct reading {
    struct order seen;
    uint64_t expected;
};

static bool add_listed(struct sc_blob *value, void *context) {
    add_value(value, context);
    return false; // One a step.
}

// Goes on reading, or begins with the group of `number`. False: something else than what was there came.
static bool read_on(struct sc_store *store, struct reading *reading, uint64_t number) {
    if (!sc_read_view_is_active(store)) {
        struct place place;
        place_of(&place, number);
        struct sc_group *group = sc_store_group_find(store, &place.name);
        if (group == NULL)
            return true;
        struct order all = {0};
        sc_group_for_each(group, add_value, &all);
        *reading = (struct reading){.expected = all.digest};
        sc_read_view_begin(store, group);
        return true;
    }
    int rc = sc_read_view_step(store, add_listed, &reading->seen);
    if (rc == 0)
        sc_read_view_end(store);
    return rc == 1 || (rc == 0 && reading->seen.digest == reading->expected);
}

// Four of five items go, in no order, others change, and the store compacts its memory with every change. The log has a
// turn now and then, so that items move under a snapshot that is being taken.
static bool thin_out(struct measurement *measurement, struct sc_store *store, uint32_t *sizes,
                     uint32_t items) {
    struct reading reading = {0};
    bool more = true;
    for (uint32_t step = 0; more || step < 4 * items; step++) {
        uint64_t number = sim_random(measurement->disk, items);
        if (sizes[number] > 0 && number % 5 != 0 && step % 2 == 0) {
            if (!take(store, number, 1))
                return false;
            sizes[number] = 0;
        } else if (sizes[number] > 0) {
            sizes[number] = size_of(step);
            if (!put(store, number, sizes[number], 1))
                return false;
        }
        if (step % 512 == 0 || step >= 4 * items)
            turn(measurement);
        if (step % 16 == 0 && !read_on(store, &reading, number))
            return false;
        more = sc_store_compact(store);
    }
    sc_read_view_end(store);
    return true;
}

int simulator_compact(uint32_t items, uint64_t seed, uint64_t *used, uint64_t *idle,
                      uint64_t *snapshots, char *message, size_t message_size) {
    struct simulator_result result = {0};
    struct opened opened = {.disk = make_disk(&result)};
    opened.disk->random = seed;
    struct measurement measurement = {.disk = opened.disk};
    char reason[SC_REASON_SIZE] = "a change was refused";
    uint32_t *sizes = calloc(items, sizeof *sizes);
    if (sizes == NULL)
        abort();
    int rc = open_store(&opened, reason);
    measurement.log = opened.log;
    for (uint64_t number = 0; rc == 0 && number < items; number++) {
        sizes[number] = size_of(number);
        rc = put(opened.store, number, sizes[number], 1) ? 0 : -1;
        turn(&measurement);
    }
    uint64_t before = rc == 0 ? sc_log_counters(opened.log).snapshots : 0;
    if (rc == 0 && !thin_out(&measurement, opened.store, sizes, items))
        rc = -1;
    while (rc == 0 && !sc_log_is_idle(opened.log))
        turn(&measurement);
    uint64_t order = 0;
    if (rc == 0) {
        struct sc_heap_counters heap = sc_store_counters(opened.store).heap;
        *used = heap.used;
        *idle = heap.idle;
        *snapshots = sc_log_counters(opened.log).snapshots - before;
        order = digest_of(opened.store);
    }
    if (rc == 0 && !is_right(opened.store, sizes, items)) {
        rc = -1;
        snprintf(reason, sizeof reason, "items are not what they were");
    }
    close_store(&opened);
    if (rc == 0)
        rc = open_store(&opened, reason);
    if (rc == 0 && (!is_right(opened.store, sizes, items) || digest_of(opened.store) != order)) {
        rc = -1;
        snprintf(reason, sizeof reason, "items are not what they were, after a start");
    }
    snprintf(message, message_size, "%s", rc == 0 ? "" : reason);
    close_store(&opened);
    free_disk(opened.disk);
    free(sizes);
    return rc == 0 ? 0 : 1;
}

static void settle(struct measurement *measurement) {
    do
        turn(measurement);
    while (!sc_log_is_idle(measurement->log));
}

int simulator_measure_change(uint32_t items, uint32_t size, uint64_t *records, uint64_t *log_bytes,
                             uint64_t *disk_bytes, char *message, size_t message_size) {
    struct simulator_result result = {0};
    struct opened opened = {.disk = make_disk(&result)};
    char reason[SC_REASON_SIZE] = "a change was refused";
    int rc = open_store(&opened, reason);
    struct measurement measurement = {.disk = opened.disk, .log = opened.log};
    for (uint32_t i = 0; rc == 0 && i < items; i++) {
        rc = put(opened.store, (uint64_t)i * GROUPS, size, i) ? 0 : -1; // All in one group.
        if (i % 256 == 0)
            turn(&measurement);
    }
    if (rc == 0)
        settle(&measurement);
    struct sc_log_counters before = {0}, after = {0};
    uint64_t written = result.written_bytes;
    if (rc == 0) {
        before = sc_log_counters(opened.log);
        rc = put(opened.store, (uint64_t)(items / 2) * GROUPS, size, items) ? 0 : -1;
        settle(&measurement);
        after = sc_log_counters(opened.log);
    }
    *records = after.records - before.records;
    *log_bytes = after.bytes - before.bytes;
    *disk_bytes = result.written_bytes - written;
    snprintf(message, message_size, "%s", rc == 0 ? "" : reason);
    close_store(&opened);
    free_disk(opened.disk);
    return rc == 0 ? 0 : 1;
}

// ---- Callers and batches

#define CALLERS_MAX 256u
#define CALLERS_TURN_NS 5000u

struct caller {
    uint64_t due_ns, asked_ns;
    uint64_t position; // Of the change that it waits for. 0: of none.
};
struct calling {
    const struct simulator_callers *config;
    struct opened opened;
    struct caller callers[CALLERS_MAX];
    uint64_t now_ns, lands_ns, answers, waited_ns;
};

static void answer_callers(void *context) {
    struct calling *calling = context;
    const struct simulator_callers *config = calling->config;
    for (uint32_t i = 0; i < config->callers; i++) {
        struct caller *caller = &calling->callers[i];
        if (caller->position == 0 || caller->position > sc_log_released(calling->opened.log))
            continue;
        caller->position = 0;
        calling->answers++;
        calling->waited_ns += calling->now_ns - caller->asked_ns;
        sc_log_answered(calling->opened.log, i + 1, calling->now_ns);
        if (config->period_ns == 0)
            caller->due_ns = calling->now_ns + (i == 0 && config->straggler_ns != 0
                                                    ? config->straggler_ns
                                                    : config->think_ns * (i + 1) / config->callers);
    }
}

static bool ask(struct calling *calling) {
    const struct simulator_callers *config = calling->config;
    for (uint32_t i = 0; i < config->callers; i++) {
        struct caller *caller = &calling->callers[i];
        if (caller->position > 0 || caller->due_ns > calling->now_ns)
            continue;
        if (!put(calling->opened.store, i, 100, calling->now_ns / 1000000))
            return false;
        caller->position = sc_store_position(calling->opened.store);
        caller->asked_ns = calling->now_ns;
        caller->due_ns += config->period_ns;
        sc_log_asked(calling->opened.log, i + 1, calling->now_ns);
    }
    return true;
}

// The disk completes what it has been given after its time, all at once.
static void disk_turn(struct calling *calling) {
    if (calling->opened.disk->pending_count == 0) {
        calling->lands_ns = 0;
    } else if (calling->lands_ns == 0) {
        calling->lands_ns = calling->now_ns + calling->config->disk_ns;
    } else if (calling->now_ns >= calling->lands_ns) {
        calling->lands_ns = 0;
        for (int count = calling->opened.disk->pending_count; count > 0; count--)
            sim_complete_one(calling->opened.disk);
    }
}

static int begin_calling(struct calling *calling, const struct sc_log_events *events,
                         char *reason) {
    const struct simulator_callers *config = calling->config;
    for (uint32_t i = 0; i < config->callers; i++)
        calling->callers[i].due_ns = 1 + config->period_ns * i / config->callers;
    return open_with(&calling->opened, events, reason);
}

static struct calling *make_calling(const struct simulator_callers *config,
                                    struct simulator_result *result) {
    struct calling *calling = calloc(1, sizeof *calling);
    if (calling == NULL || config->callers > CALLERS_MAX)
        abort();
    calling->config = config;
    calling->opened.disk = make_disk(result);
    return calling;
}

static int end_calling(struct calling *calling, int rc, const char *reason, char *message,
                       size_t message_size) {
    snprintf(message, message_size, "%s", rc == 0 ? "" : reason);
    close_store(&calling->opened);
    free_disk(calling->opened.disk);
    free(calling);
    return rc == 0 ? 0 : 1;
}

static bool calling_turn(struct calling *calling) {
    calling->now_ns += CALLERS_TURN_NS;
    disk_turn(calling);
    if (!ask(calling))
        return false;
    sc_log_turn(calling->opened.log, calling->now_ns);
    return true;
}

int simulator_measure_callers(const struct simulator_callers *config, struct simulator_calls *calls,
                              char *message, size_t message_size) {
    struct simulator_result result = {0};
    struct calling *calling = make_calling(config, &result);
    struct sc_log_events events = {calling, answer_callers, nothing_failed, NULL};
    char reason[SC_REASON_SIZE] = "a change was refused";
    int rc = begin_calling(calling, &events, reason);
    while (rc == 0 && calling->now_ns < config->run_ns)
        rc = calling_turn(calling) ? 0 : -1;
    struct sc_log_counters before = {0}, after = {0};
    uint64_t answers = calling->answers, waited_ns = calling->waited_ns;
    if (rc == 0)
        before = sc_log_counters(calling->opened.log);
    while (rc == 0 && calling->now_ns < 2 * config->run_ns)
        rc = calling_turn(calling) ? 0 : -1;
    if (rc == 0) {
        after = sc_log_counters(calling->opened.log);
        calls->held = after.batches_delayed - before.batches_delayed;
        calls->changes_a_batch =
            (double)(after.records - before.records) / (double)(after.batches - before.batches);
        calls->wait_us =
            (double)(calling->waited_ns - waited_ns) / (double)(calling->answers - answers) / 1e3;
    }
    return end_calling(calling, rc, reason, message, message_size);
}

int simulator_fill_waiting_batch(bool *waits, bool *waits_full, char *message,
                                 size_t message_size) {
    static const struct simulator_callers config = {
        .callers = 2, .disk_ns = 200000, .think_ns = 50000};
    struct simulator_result result = {0};
    struct calling *calling = make_calling(&config, &result);
    struct sc_log_events events = {calling, answer_callers, nothing_failed, NULL};
    char reason[SC_REASON_SIZE] = "a change was refused";
    int rc = begin_calling(calling, &events, reason);
    // Until both have come back often enough, and the first of them has come once more.
    while (rc == 0 && (calling->answers < 100 || sc_log_delays_until(calling->opened.log) == 0))
        rc = calling_turn(calling) ? 0 : -1;
    *waits = rc == 0;
    for (uint64_t i = 0; rc == 0 && !sc_log_is_full(calling->opened.log); i++)
        rc = put(calling->opened.store, 2 + i, 100000, 1) ? 0 : -1;
    *waits_full = rc == 0 && sc_log_delays_until(calling->opened.log) != 0;
    return end_calling(calling, rc, reason, message, message_size);
}
