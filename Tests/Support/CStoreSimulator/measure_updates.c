// Updates of one large item: what they write, and what a start makes of it.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "disk.h"

/// The first bytes of the item's value count its updates, and the operations of an update are the next count.
struct measured {
    struct sim_disk *disk;
    struct sc_store *store;
    struct sc_directory *directory;
    struct sc_log *log;
    struct sc_blob *applied;
    uint64_t now_ns;
};

#define SEED 1u
static const struct sc_bytes id = {(const uint8_t *)"i", 1};

static struct sc_group_name name(void) {
    struct sc_group_name name = {{(const uint8_t *)"s", 1}, {(const uint8_t *)"g", 1}, 0};
    name.hash = sc_store_hash(name.stream, name.group, SEED);
    return name;
}

static bool owns(void *context, uint64_t hash) {
    (void)context, (void)hash;
    return true;
}
static void on_durable(void *context) {
    (void)context;
}
static void on_failed(void *context, int error, bool unknown) {
    (void)context, (void)error, (void)unknown;
}
static void report(void *context, enum sc_report_level level, const char *event, const char *text) {
    (void)context, (void)level, (void)event, (void)text;
}

static struct sc_blob *make(size_t size, uint64_t count) {
    struct sc_blob *blob = sc_blob_create(size);
    if (blob == NULL)
        abort();
    memset(blob->data, 'x', size);
    memcpy(blob->data, &count, sizeof count);
    return blob;
}

static int apply(void *context, struct sc_bytes value, struct sc_bytes operations,
                 struct sc_bytes *result) {
    struct measured *measured = context;
    uint64_t before, count;
    memcpy(&before, value.data, sizeof before);
    memcpy(&count, operations.data, sizeof count);
    sc_blob_release(measured->applied);
    measured->applied = make(value.size, before + 1);
    *result = sc_blob_bytes(measured->applied);
    return before + 1 == count ? 0 : -EBADMSG;
}

static int open_store(struct measured *measured, uint64_t replay_work_max, char *reason) {
    struct sc_loop *loop = (struct sc_loop *)(void *)measured->disk;
    struct sc_directory_config config = {.path = "store",
                                         .shard_count = 1,
                                         .segment_size = 1u << 20,
                                         .replay_work_max = replay_work_max,
                                         .ops = &sim_ops,
                                         .reporter = {NULL, report}};
    struct sc_log_events events = {measured, on_durable, on_failed, apply};
    sim_begin_process(measured->disk);
    measured->store = sc_store_create(SEED);
    int rc = sc_directory_open(loop, &config, &measured->directory, reason);
    if (rc == 0)
        rc = sc_log_open(loop, measured->directory, 0, measured->store, owns, &events,
                         &measured->log, reason);
    if (rc == 0)
        rc = sc_log_start(measured->log, reason);
    return rc < 0 ? rc : sc_directory_commit(loop, measured->directory, reason);
}

static void close_store(struct measured *measured) {
    sc_log_close(measured->log);
    sc_store_destroy(measured->store);
    sc_directory_close((struct sc_loop *)(void *)measured->disk, measured->directory);
    sc_blob_release(measured->applied);
    *measured = (struct measured){.disk = measured->disk, .now_ns = measured->now_ns};
}

static void settle(struct measured *measured) {
    do {
        sc_log_turn(measured->log, measured->now_ns += 1000000);
        while (sim_complete_one(measured->disk)) {
        }
    } while (!sc_log_is_idle(measured->log));
}

static int update(struct measured *measured, uint32_t size, uint64_t count) {
    struct sc_operations operations = {{(const uint8_t *)&count, sizeof count}, size};
    struct sc_group_name group = name();
    struct sc_change change;
    int rc =
        sc_store_update(measured->store, &group, id, make(size, count), &operations, 1, &change);
    if (rc == 0)
        sc_blob_release(change.old_value);
    return rc;
}

static int run(struct measured *measured, const struct simulator_updates *config,
               struct simulator_updated *updated, char *reason) {
    int rc = open_store(measured, config->replay_work_max, reason);
    if (rc == 0)
        rc = update(measured, config->size, 0); // There is no item yet: it is set.
    if (rc < 0)
        return rc;
    settle(measured);
    measured->disk->faults_on = true;
    struct sc_log_counters before = sc_log_counters(measured->log);
    uint64_t count = 0;
    while (rc == 0 && count < config->count) {
        rc = update(measured, config->size, ++count);
        settle(measured);
    }
    struct sc_log_counters after = sc_log_counters(measured->log);
    updated->updates = after.updates - before.updates;
    updated->log_bytes = after.bytes - before.bytes;
    updated->snapshots = after.snapshots - before.snapshots;
    while (rc == 0 && !sc_log_is_full(measured->log)) {
        rc = update(measured, config->size, ++count);
        updated->waiting++;
    }
    settle(measured);
    close_store(measured);
    measured->disk->faults_on = false;
    if (rc == 0)
        rc = open_store(measured, config->replay_work_max, reason);
    struct sc_group_name group = name();
    struct sc_blob *value = rc < 0 ? NULL : sc_store_get(measured->store, &group, id);
    struct sc_blob *expected = make(config->size, count);
    updated->kept = value != NULL && sc_bytes_equal(sc_blob_bytes(value), sc_blob_bytes(expected));
    sc_blob_release(expected);
    return rc;
}

int simulator_measure_updates(const struct simulator_updates *config,
                              struct simulator_updated *updated, char *message,
                              size_t message_size) {
    *updated = (struct simulator_updated){0};
    struct simulator_config faults = {.ignored_flush = -1,
                                      .fault_site =
                                          config->without_snapshots ? SC_SITE_SNAPSHOT_OPEN : -1,
                                      .fault = SIMULATOR_EIO};
    struct simulator_result result = {0};
    struct sim_disk *disk = calloc(1, sizeof *disk);
    if (disk == NULL)
        abort();
    disk->config = &faults;
    disk->result = &result;
    struct measured measured = {.disk = disk};
    char reason[SC_REASON_SIZE] = "a change was refused";
    int rc = run(&measured, config, updated, reason);
    close_store(&measured);
    sim_free(disk);
    free(disk);
    snprintf(message, message_size, "%s", rc == 0 ? "" : reason);
    return rc == 0 ? 0 : 1;
}
