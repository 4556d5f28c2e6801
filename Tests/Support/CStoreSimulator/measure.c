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

static bool put(struct sc_store *store, uint64_t number, uint32_t size, uint64_t now_ms) {
    char group[16], id[24];
    int group_size = snprintf(group, sizeof group, "g%llu", (unsigned long long)number % 97);
    int id_size = snprintf(id, sizeof id, "i%llu", (unsigned long long)number);
    struct sc_group_name name = {
        {(const uint8_t *)"s", 1}, {(const uint8_t *)group, (size_t)group_size}, 0};
    name.hash = sc_store_hash(name.stream, name.group, 1);
    struct sc_blob *value = sc_blob_create(size);
    if (value == NULL)
        return false;
    memset(value->data, 'x', size);
    struct sc_change change;
    int rc = sc_store_set(store, &name, (struct sc_bytes){(const uint8_t *)id, (size_t)id_size},
                          value, now_ms, &change);
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

int simulator_measure_snapshot(uint32_t items, uint32_t large_size, uint64_t *worst_ns,
                               uint64_t *turns, uint64_t *live, uint64_t *disk_most, char *message,
                               size_t message_size) {
    static const struct simulator_config config = {.ignored_sync = -1, .fault_site = -1};
    struct simulator_result result = {0};
    struct sim_disk *disk = calloc(1, sizeof *disk);
    if (disk == NULL)
        abort();
    disk->config = &config;
    disk->result = &result;
    sim_begin_process(disk);
    struct sc_loop *loop = (struct sc_loop *)(void *)disk;
    struct sc_directory_config directory_config = {.path = "store",
                                                   .shard_count = 1,
                                                   .segment_size = 1u << 20,
                                                   .ops = &sim_ops,
                                                   .reporter = {NULL, no_report}};
    struct sc_log_events events = {NULL, nothing_durable, nothing_failed};
    struct sc_directory *directory = NULL;
    struct measurement measurement = {.disk = disk};
    struct sc_store *store = sc_store_create(1);
    char reason[SC_REASON_SIZE] = "a change was refused";
    int rc = sc_directory_open(loop, &directory_config, &directory, reason);
    if (rc == 0)
        rc = sc_log_open(loop, directory, 0, store, owns_all, &events, &measurement.log, reason);
    if (rc == 0)
        rc = sc_log_start(measurement.log, reason);
    if (rc == 0)
        rc = sc_directory_commit(loop, directory, reason);
    if (rc == 0 && !work(&measurement, store, items, large_size))
        rc = -1;
    snprintf(message, message_size, "%s", rc == 0 ? "" : reason);
    *worst_ns = measurement.worst_ns;
    *turns = measurement.turns;
    *live = sc_store_counters(store).value_bytes;
    *disk_most = measurement.disk_most;
    sc_log_close(measurement.log);
    sc_store_destroy(store);
    sc_directory_close(loop, directory);
    sim_free(disk);
    free(disk);
    return rc == 0 ? 0 : 1;
}
