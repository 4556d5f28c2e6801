// Recovery from whatever lies in a directory, on a disk in memory. Two kinds of input, by the first byte:
//
// Harm: a directory that a store wrote (the second byte says which of BASES), then patches of its files. What comes
// back is of each group a prefix of its changes, or the start is refused; a repair never makes up a value.
//
// Forged: files whose checksums are made right whatever they say (recover_forge.h). The start, an inspection and a second
// start agree, and the second start, with another number of shards, has what the first had.
//
// In both, what is allocated at any time is bounded.
#include "recover_forge.h"

#include <errno.h>
#include <sanitizer/allocator_interface.h>

enum { OPTION_FORGE = 1, OPTION_REPAIR = 2, OPTION_SHARDS_SHIFT = 2 };
enum { BASES = 16, GROUPS = 3, ITEMS = 4, CHANGES_MOST = 96, SHARDS = 4, FILES = 24 };
#define MEMORY_MOST (12u << 20)

// ---- A store on the disk

static struct sim_disk disk;
static struct simulator_result disk_result;
static const struct simulator_config disk_config = {.ignored_flush = -1, .fault_site = -1};
static struct sc_file_ops ops;
static size_t allocated_before;

struct process {
    struct sc_directory *directory;
    struct sc_store *stores[SHARDS];
    struct sc_log *logs[SHARDS];
    uint32_t shard_count;
    char reason[SC_REASON_SIZE];
};
struct owner {
    uint32_t shard, shard_count;
};

static struct sc_loop *loop(void) {
    return (struct sc_loop *)(void *)&disk;
}

static int wait_and_look(struct sc_loop *waiting) {
    CHECK(__sanitizer_get_current_allocated_bytes() < allocated_before + MEMORY_MOST);
    return sim_ops.wait(waiting);
}

static bool owns(void *context, uint64_t hash) {
    const struct owner *owner = context;
    return (hash >> 32) % owner->shard_count == owner->shard;
}
static void on_durable(void *context) {
    (void)context;
}
// Operations of eight bytes are the number of the value that they are for, and of the one that they make of it.
static int apply_operations(void *context, struct sc_bytes value, struct sc_bytes operations,
                            struct sc_bytes *result);
static void on_failed(void *context, int error, bool unknown) {
    (void)context, (void)error, (void)unknown;
    CHECK(false); // This disk does not fail.
}
static void report(void *context, enum sc_report_level level, const char *event, const char *text) {
    (void)context, (void)level;
    CHECK(*event != 0 && strlen(text) < SC_REASON_SIZE);
}

static struct sc_directory_config config_of(uint32_t shard_count, bool repair) {
    return (struct sc_directory_config){.path = "store",
                                        .durability = SC_DURABILITY_COMMIT,
                                        .shard_count = shard_count,
                                        .page_size = 512,
                                        .piece_size = SC_LOG_PAGE_SIZE,
                                        .segment_size = 1536,
                                        .update_size_least = 128,
                                        .random = {1, 2},
                                        .repair = repair,
                                        .ops = &ops,
                                        .reporter = {NULL, report}};
}

static int start(struct process *process, uint32_t shard_count, bool repair) {
    static struct owner owners[SHARDS];
    *process = (struct process){.shard_count = shard_count};
    sim_begin_process(&disk);
    struct sc_directory_config config = config_of(shard_count, repair);
    int rc = sc_directory_open(loop(), &config, &process->directory, process->reason);
    if (rc < 0)
        process->directory = NULL;
    for (uint32_t i = 0; i < shard_count && rc == 0; i++) {
        owners[i] = (struct owner){i, shard_count};
        process->stores[i] = sc_store_create(shard_count);
        struct sc_log_events events = {&owners[i], on_durable, on_failed, apply_operations};
        rc = sc_log_open(loop(), process->directory, i, process->stores[i], owns, &events,
                         &process->logs[i], process->reason);
        if (rc == 0)
            rc = sc_log_start(process->logs[i], process->reason);
    }
    if (rc == 0)
        rc = sc_directory_commit(loop(), process->directory, process->reason);
    CHECK(rc == 0 || rc == -EBADMSG);
    CHECK((rc == 0) == (process->reason[0] == 0));
    return rc;
}

static void end(struct process *process) {
    sim_end_process(&disk);
    for (uint32_t i = 0; i < process->shard_count; i++) {
        sc_log_close(process->logs[i]);
        sc_store_destroy(process->stores[i]);
    }
    sc_directory_close(loop(), process->directory);
}

static void reset_disk(void) {
    sim_free(&disk);
    memset(&disk, 0, sizeof disk);
    disk.config = &disk_config;
    disk.result = &disk_result;
    disk.random = 1;
    disk.directory_made = disk.directory_durable = true;
    ops = sim_ops;
    ops.wait = wait_and_look;
    allocated_before = __sanitizer_get_current_allocated_bytes();
    sim_begin_process(&disk);
}

// ---- What is in it

static struct sc_bytes text_of(const char *text) {
    return (struct sc_bytes){(const uint8_t *)text, strlen(text)};
}

static struct sc_group_name group_name(const struct process *process, int group) {
    static const char *const names[GROUPS] = {"g0", "g1", "g2"};
    struct sc_group_name name = {text_of("s"), text_of(names[group]), 0};
    name.hash = sc_store_hash(name.stream, name.group, process->shard_count);
    return name;
}

static struct sc_store *store_of(const struct process *process, uint64_t hash) {
    return process->stores[(hash >> 32) % process->shard_count];
}

static struct sc_bytes item_id(int item) {
    static const char *const names[ITEMS] = {"i0", "i1", "i2", "i3"};
    return text_of(names[item]);
}

/// A group: the number of each value, in order. Its item is the number modulo ITEMS.
struct state {
    int count;
    uint32_t numbers[ITEMS];
    bool strange; // A value that nobody wrote, or more of them than there are items.
};

static size_t value_size(uint32_t number) {
    return 4 + number % 7 * 17 + (number % 13 == 0 ? 1600 : 0);
}

static void fill_value(uint8_t *data, size_t size, uint32_t number) {
    memcpy(data, &number, 4);
    for (size_t i = 4; i < size; i++)
        data[i] = (uint8_t)(number + i);
}

static int apply_operations(void *context, struct sc_bytes value, struct sc_bytes operations,
                            struct sc_bytes *result) {
    static uint8_t made[4096];
    (void)context;
    uint32_t numbers[2], number;
    if (operations.size == 1) {
        *result = forged_result(value.size);
        return 0;
    }
    if (operations.size != sizeof numbers || value.size < 4)
        return -EBADMSG;
    memcpy(numbers, operations.data, sizeof numbers);
    memcpy(&number, value.data, 4);
    number = number == numbers[0] ? numbers[1] : ~numbers[1];
    *result = (struct sc_bytes){made, value_size(number)};
    fill_value(made, result->size, number);
    return 0;
}

static void read_value(struct sc_blob *value, void *context) {
    struct state *state = context;
    uint32_t number = 0;
    if (value->size >= 4)
        memcpy(&number, value->data, 4);
    bool good = state->count < ITEMS && value->size == value_size(number);
    for (size_t i = 4; good && i < value->size; i++)
        good = value->data[i] == (uint8_t)(number + i);
    if (good)
        state->numbers[state->count++] = number;
    state->strange |= !good;
}

static struct state state_of(const struct process *process, int group) {
    struct state state = {0};
    struct sc_group_name name = group_name(process, group);
    struct sc_group *found = sc_store_group_find(store_of(process, name.hash), &name);
    if (found != NULL)
        sc_group_for_each(found, read_value, &state);
    return state;
}

// ---- Directories that a store wrote

struct change {
    int group, item;
    uint32_t number; // 0: deleted.
};
struct file {
    char name[80];
    uint8_t *data;
    uint64_t size;
};
struct base {
    bool made;
    struct change changes[CHANGES_MOST];
    int change_count;
    struct file files[FILES];
    int file_count;
};
static struct base bases[BASES];

static void change_store(struct process *process, const struct change *change) {
    struct sc_group_name name = group_name(process, change->group);
    struct sc_store *store = store_of(process, name.hash);
    struct sc_change made;
    if (change->number == 0) {
        CHECK(sc_store_delete(store, &name, item_id(change->item), 1, &made) == 0);
    } else {
        struct sc_blob *value = sc_blob_create(value_size(change->number));
        CHECK(value != NULL);
        fill_value(value->data, value->size, change->number);
        uint32_t numbers[2] = {0, change->number};
        struct sc_blob *old = sc_store_get(store, &name, item_id(change->item));
        if (old != NULL)
            memcpy(&numbers[0], old->data, 4);
        struct sc_operations operations = {{(const uint8_t *)numbers, sizeof numbers}, 1};
        CHECK(sc_store_update(store, &name, item_id(change->item), value, &operations, 1, &made) ==
              0);
    }
    sc_blob_release(made.old_value);
}

static void run_logs(struct process *process, uint64_t *now_ns) {
    bool more = true;
    while (more) {
        *now_ns += 1000000;
        for (uint32_t i = 0; i < process->shard_count; i++)
            sc_log_turn(process->logs[i], *now_ns);
        more = false;
        while (sim_complete_one(&disk))
            more = true;
    }
}

static void save_files(struct base *base) {
    for (int i = 0; i < disk.entry_count; i++) {
        const struct sim_file *file = &disk.files[disk.entries[i].file];
        CHECK(base->file_count < FILES);
        struct file *saved = &base->files[base->file_count++];
        strcpy(saved->name, disk.entries[i].name);
        saved->size = file->size;
        saved->data = copy_of(file->data, file->size);
    }
}

static void make_base(struct base *base, uint32_t which) {
    reset_disk();
    uint64_t random = which, now_ns = 1;
    struct process process;
    CHECK(start(&process, 1 + which % 3, false) == 0);
    base->change_count = which < 4 ? 4 * (int)which : CHANGES_MOST;
    for (int i = 0; i < base->change_count; i++) {
        struct change *change = &base->changes[i];
        *change = (struct change){(int)(next_random(&random) % GROUPS),
                                  (int)(next_random(&random) % ITEMS), 0};
        if (next_random(&random) % 4 > 0)
            change->number = (uint32_t)(i + 1) * ITEMS + (uint32_t)change->item;
        change_store(&process, change);
        if (next_random(&random) % 3 > 0)
            run_logs(&process, &now_ns);
    }
    run_logs(&process, &now_ns);
    end(&process);
    sim_begin_process(&disk);
    save_files(base);
    base->made = true;
}

static const struct base *base_of(uint8_t byte) {
    struct base *base = &bases[byte % BASES];
    if (!base->made)
        make_base(base, byte % BASES);
    return base;
}

// ---- Harm

struct harmed {
    struct file files[FILES];
    int count;
};

static void resize(struct file *file, uint64_t size) {
    uint8_t *data = calloc(1, size);
    CHECK(data != NULL || size == 0);
    if (size > 0 && file->size > 0)
        memcpy(data, file->data, size < file->size ? size : file->size);
    free(file->data);
    file->data = data;
    file->size = size;
}

// A patch is eight bytes: what, which file, where (two), how much or which bits, from which file, from where (two).
static void patch(struct harmed *harmed, const uint8_t *bytes) {
    struct file *file = &harmed->files[bytes[1] % harmed->count];
    const struct file *other = &harmed->files[bytes[5] % harmed->count];
    uint64_t at = bytes[2] | (uint64_t)bytes[3] << 8, from = bytes[6] | (uint64_t)bytes[7] << 8;
    uint64_t size = 1 + (uint64_t)bytes[4] * 8;
    if (file->size == 0)
        return;
    at %= file->size;
    size = size < file->size - at ? size : file->size - at;
    switch (bytes[0] % 6) {
    case 0:
        file->data[at] ^= bytes[4];
        break;
    case 1:
        resize(file, at);
        break;
    case 2:
        memset(file->data + at, bytes[5], size);
        break;
    case 3:
        if (other->size == 0)
            break;
        from %= other->size;
        size = size < other->size - from ? size : other->size - from;
        memmove(file->data + at, other->data + from, size);
        break;
    case 4:
        resize(file, file->size + size);
        break;
    case 5:
        free(file->data);
        *file = harmed->files[--harmed->count];
        break;
    }
}

// Whether the file has a valid header or batch that the store never wrote there: the fuzzer found a checksum.
static bool is_lucky(const struct file *file, const struct base *base, const uint8_t *id) {
    const struct file *original = NULL;
    for (int i = 0; i < base->file_count; i++)
        if (strcmp(base->files[i].name, file->name) == 0)
            original = &base->files[i];
    struct wal_file_header header;
    if (file->size >= sizeof header) {
        memcpy(&header, file->data, sizeof header);
        if (sc_wal_header_check(&header) == NULL &&
            (original->size < sizeof header || memcmp(original->data, &header, sizeof header) != 0))
            return true;
    }
    struct wal_name name;
    if (!sc_wal_name_read(file->name, &name))
        return false;
    for (uint64_t at = WAL_HEADER_SIZE; at + sizeof(struct wal_batch_header) <= file->size;
         at += 8) {
        struct wal_batch_header batch;
        memcpy(&batch, file->data + at, sizeof batch);
        if (batch.magic != WAL_BATCH_MAGIC || batch.size < sizeof batch ||
            batch.size > file->size - at ||
            !sc_wal_batch_is_valid(file->data + at, seed_of(&name, id)))
            continue;
        bool known = false;
        for (uint64_t i = WAL_HEADER_SIZE; i + batch.size <= original->size && !known; i += 8)
            known = memcmp(original->data + i, file->data + at, batch.size) == 0;
        if (!known)
            return true;
    }
    return false;
}

static void apply(struct state *state, const struct change *change) {
    int at = 0;
    while (at < state->count && (int)(state->numbers[at] % ITEMS) != change->item)
        at++;
    if (change->number != 0) {
        state->numbers[at] = change->number;
        state->count += at == state->count;
    } else if (at < state->count) {
        memmove(&state->numbers[at], &state->numbers[at + 1],
                (size_t)(state->count - at - 1) * sizeof state->numbers[0]);
        state->count--;
    }
}

static bool is_prefix(const struct base *base, int group, const struct state *found) {
    struct state state = {0};
    for (int i = 0; i <= base->change_count; i++) {
        if (state.count == found->count &&
            memcmp(state.numbers, found->numbers, (size_t)state.count * sizeof(uint32_t)) == 0)
            return true;
        if (i < base->change_count && base->changes[i].group == group)
            apply(&state, &base->changes[i]);
    }
    return false;
}

static bool was_written(const struct base *base, int group, uint32_t number) {
    for (int i = 0; i < base->change_count; i++)
        if (base->changes[i].group == group && base->changes[i].number == number)
            return true;
    return false;
}

static void check_harmed(const struct base *base, const struct process *process, bool repaired) {
    for (int group = 0; group < GROUPS; group++) {
        struct state found = state_of(process, group);
        CHECK(!found.strange);
        for (int i = 0; i < found.count; i++)
            CHECK(was_written(base, group, found.numbers[i]));
        if (!repaired)
            CHECK(is_prefix(base, group, &found));
    }
}

static void run_harm(const uint8_t *data, size_t size) {
    const struct base *base = base_of(data[1]);
    struct harmed harmed = {.count = base->file_count};
    uint8_t id[16];
    for (int i = 0; i < base->file_count; i++) {
        harmed.files[i] = base->files[i];
        harmed.files[i].data = copy_of(base->files[i].data, base->files[i].size);
        if (strcmp(base->files[i].name, "MANIFEST") == 0)
            memcpy(id, base->files[i].data + offsetof(struct wal_file_header, directory_id), 16);
    }
    for (size_t at = 2; at + 8 <= size && harmed.count > 0; at += 8)
        patch(&harmed, data + at);
    reset_disk();
    bool lucky = false;
    for (int i = 0; i < harmed.count; i++) {
        lucky |= is_lucky(&harmed.files[i], base, id);
        sim_place(&disk, harmed.files[i].name, harmed.files[i].data, harmed.files[i].size);
        free(harmed.files[i].data);
    }
    struct process process;
    bool repair = data[0] & OPTION_REPAIR;
    int rc = start(&process, 1 + (data[0] >> OPTION_SHARDS_SHIFT) % SHARDS, repair);
    if (rc == 0 && !lucky)
        check_harmed(base, &process, repair);
    end(&process);
}

// ---- Forged files

struct contents {
    uint64_t groups, items, hash; // The hash does not depend on the order of the groups.
    const struct process *process;
};

static void hash_value(struct sc_blob *value, void *context) {
    uint64_t *hash = context;
    *hash = sc_hash(sc_blob_bytes(value), *hash);
}

static void hash_group(struct sc_bytes stream, struct sc_bytes group, void *context) {
    struct contents *contents = context;
    const struct process *process = contents->process;
    struct sc_group_name name = {stream, group, sc_store_hash(stream, group, process->shard_count)};
    struct sc_group *found = sc_store_group_find(store_of(process, name.hash), &name);
    CHECK(found != NULL && sc_group_item_count(found) > 0);
    uint64_t hash = sc_store_hash(stream, group, 1);
    sc_group_for_each(found, hash_value, &hash);
    contents->hash += hash;
    contents->groups++;
    contents->items += sc_group_item_count(found);
}

static struct contents contents_of(const struct process *process) {
    struct contents contents = {.process = process};
    uint64_t items = 0;
    for (uint32_t i = 0; i < process->shard_count; i++) {
        sc_store_for_each_group(process->stores[i], NULL, hash_group, &contents);
        items += sc_store_counters(process->stores[i]).items;
    }
    CHECK(items == contents.items);
    return contents;
}

static void note_record(void *context, const char *kind, struct sc_bytes stream,
                        struct sc_bytes group, struct sc_bytes item, struct sc_bytes value,
                        uint64_t position, uint64_t created_at, uint64_t stamp_ms) {
    (void)stream, (void)group, (void)item, (void)value, (void)position, (void)created_at,
        (void)stamp_ms;
    CHECK(*kind != 0);
    ++*(uint64_t *)context;
}

static void run_forged(const uint8_t *data, size_t size) {
    const uint8_t *end_of_data = data + size;
    uint8_t options = (uint8_t)take(&data, end_of_data, 1);
    uint32_t old_count = 1 + (uint32_t)take(&data, end_of_data, 1) % 3;
    uint32_t shard_count = 1 + (options >> OPTION_SHARDS_SHIFT) % SHARDS;
    reset_disk();
    struct wal_file_header manifest = {.kind = WAL_MANIFEST, .epoch = 5, .shard_count = old_count};
    memset(manifest.directory_id, 0x11, 16);
    sc_wal_header_seal(&manifest);
    sim_place(&disk, "MANIFEST", (const uint8_t *)&manifest, sizeof manifest);
    for (int i = 0; i < 12 && data < end_of_data; i++)
        forge_file(&disk, &data, end_of_data, old_count, manifest.directory_id);

    char reason[SC_REASON_SIZE] = "";
    uint64_t records = 0;
    struct sc_inspection inspection = {
        .context = &records, .record = note_record, .apply = apply_operations};
    struct sc_directory_config config = config_of(old_count, false);
    sim_begin_process(&disk);
    int inspected = sc_directory_inspect(loop(), &config, &inspection, reason);
    CHECK(inspected == 0 || inspected == -EBADMSG);

    struct process process;
    bool repair = options & OPTION_REPAIR;
    int rc = start(&process, shard_count, repair);
    CHECK(repair ? rc == 0 || inspected < 0 : rc == inspected);
    if (rc < 0) {
        end(&process);
        return;
    }
    struct contents before = contents_of(&process);
    CHECK(before.items <= records || repair);
    end(&process);
    int again = start(&process, 1 + shard_count % SHARDS, false);
    CHECK(again == 0);
    struct contents after = contents_of(&process);
    CHECK(after.groups == before.groups && after.items == before.items &&
          after.hash == before.hash);
    // It takes changes, and keeps them.
    uint64_t now_ns = 1;
    struct change change = {.group = 1, .item = 2, .number = 6};
    change_store(&process, &change);
    run_logs(&process, &now_ns);
    end(&process);
    CHECK(start(&process, shard_count, false) == 0);
    struct sc_group_name name = group_name(&process, 1);
    struct sc_blob *value = sc_store_get(store_of(&process, name.hash), &name, item_id(2));
    CHECK(value != NULL && value->size == value_size(6));
    end(&process);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size < 2)
        return 0;
    if (data[0] & OPTION_FORGE)
        run_forged(data, size);
    else
        run_harm(data, size);
    return 0;
}
