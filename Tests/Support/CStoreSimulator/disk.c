#include "disk.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

uint64_t sim_random(struct sim_disk *disk, uint64_t below) {
    uint64_t word = disk->random += 0x9e3779b97f4a7c15u;
    word = (word ^ word >> 30) * 0xbf58476d1ce4e5b9u;
    word = (word ^ word >> 27) * 0x94d049bb133111ebu;
    return below == 0 ? 0 : (word ^ word >> 31) % below;
}

// ---- Files

static void grow(struct sim_file *file, uint64_t size) {
    if (size <= file->capacity)
        return;
    uint64_t capacity = (size * 2 + SECTOR - 1) / SECTOR * SECTOR;
    file->data = realloc(file->data, capacity);
    file->durable = realloc(file->durable, capacity);
    file->dirty = realloc(file->dirty, capacity / SECTOR);
    file->written = realloc(file->written, capacity / SECTOR);
    if (file->data == NULL || file->durable == NULL || file->dirty == NULL || file->written == NULL)
        abort();
    uint64_t more = capacity - file->capacity;
    memset(file->data + file->capacity, 0, more);
    memset(file->durable + file->capacity, 0, more);
    memset(file->dirty + file->capacity / SECTOR, 0, more / SECTOR);
    memset(file->written + file->capacity / SECTOR, 0, more / SECTOR);
    file->capacity = capacity;
}

static int new_file(struct sim_disk *disk) {
    for (int i = 0; i < FILES_MAX; i++) {
        if (disk->files[i].used)
            continue;
        disk->files[i] = (struct sim_file){.used = true};
        return i;
    }
    abort();
}

static void free_file(struct sim_file *file) {
    free(file->data);
    free(file->durable);
    free(file->dirty);
    free(file->written);
    *file = (struct sim_file){0};
}

static int find_entry(const struct sim_entry *entries, int count, const char *name) {
    for (int i = 0; i < count; i++)
        if (strcmp(entries[i].name, name) == 0)
            return i;
    return -1;
}

struct sim_file *sim_find(struct sim_disk *disk, const char *name) {
    int at = find_entry(disk->entries, disk->entry_count, name);
    return at < 0 ? NULL : &disk->files[disk->entries[at].file];
}

static void apply_change(struct sim_entry *entries, int *count, const struct sim_change *change) {
    int at = find_entry(entries, *count, change->name);
    if (change->kind != SIM_ENTER && at >= 0)
        entries[at] = entries[--*count];
    if (change->kind == SIM_REMOVE)
        return;
    const char *name = change->kind == SIM_RENAME ? change->other : change->name;
    at = find_entry(entries, *count, name);
    if (at < 0)
        at = (*count)++;
    assert(at < ENTRIES_MAX);
    snprintf(entries[at].name, sizeof entries[at].name, "%s", name);
    entries[at].file = change->file;
}

static void change_directory(struct sim_disk *disk, struct sim_change change) {
    apply_change(disk->entries, &disk->entry_count, &change);
    assert(disk->change_count < CHANGES_MAX);
    disk->changes[disk->change_count++] = change;
}

uint64_t sim_disk_use(const struct sim_disk *disk) {
    uint64_t use = 0;
    for (int i = 0; i < FILES_MAX; i++)
        if (disk->files[i].used)
            use += disk->files[i].allocated;
    return use;
}

static bool has_space(struct sim_disk *disk, const struct sim_file *file, uint64_t size) {
    uint64_t more = size > file->allocated ? size - file->allocated : 0;
    return disk->config->disk_size == 0 || sim_disk_use(disk) + more <= disk->config->disk_size;
}

// ---- What operations do

static void write_bytes(struct sim_file *file, const void *data, uint64_t size, uint64_t offset) {
    if (size == 0)
        return;
    grow(file, offset + size);
    if (size > 0)
        memcpy(file->data + offset, data, size);
    if (offset + size > file->size)
        file->size = offset + size;
    for (uint64_t sector = offset / SECTOR; sector * SECTOR < offset + size; sector++)
        file->dirty[sector] = true;
}

static bool flush_bytes(struct sim_file *file, uint64_t size, uint64_t offset) {
    bool metadata = false;
    for (uint64_t sector = offset / SECTOR; size > 0 && sector * SECTOR < offset + size; sector++) {
        metadata |= !file->written[sector];
        memcpy(file->durable + sector * SECTOR, file->data + sector * SECTOR, SECTOR);
        file->dirty[sector] = false;
        file->written[sector] = true;
    }
    uint64_t end = offset + size < file->size ? offset + size : file->size;
    if (end > file->durable_size)
        file->durable_size = end;
    return metadata;
}

static void flush_directory(struct sim_disk *disk) {
    memcpy(disk->durable_entries, disk->entries, sizeof disk->entries);
    disk->durable_count = disk->entry_count;
    disk->change_count = 0;
    bool kept[FILES_MAX] = {false};
    for (int i = 0; i < disk->entry_count; i++)
        kept[disk->entries[i].file] = true;
    for (int i = 0; i < DESCRIPTORS_MAX; i++)
        if (disk->descriptors[i] >= 0)
            kept[disk->descriptors[i]] = true;
    for (int i = 0; i < FILES_MAX; i++)
        if (disk->files[i].used && !kept[i])
            free_file(&disk->files[i]);
}

static int open_path(struct sim_disk *disk, const struct sim_pending *pending) {
    int target;
    if (strcmp(pending->path, ".") == 0 || strcmp(pending->path, "store") == 0) {
        target = pending->path[0] == '.' ? SIM_ROOT : SIM_DIRECTORY;
        if (target == SIM_DIRECTORY && !disk->directory_made)
            return -ENOENT;
    } else {
        int at = find_entry(disk->entries, disk->entry_count, pending->path);
        if (at < 0 && (pending->flags & O_CREAT) == 0)
            return -ENOENT;
        if (at < 0) {
            struct sim_change change = {.kind = SIM_ENTER, .file = new_file(disk)};
            snprintf(change.name, sizeof change.name, "%s", pending->path);
            change_directory(disk, change);
            at = find_entry(disk->entries, disk->entry_count, pending->path);
        }
        target = disk->entries[at].file;
        if (pending->flags & O_TRUNC) {
            disk->files[target].size = 0;
            disk->files[target].allocated = 0;
            if (disk->files[target].capacity > 0) {
                memset(disk->files[target].data, 0, disk->files[target].capacity);
                memset(disk->files[target].dirty, 1, disk->files[target].capacity / SECTOR);
            }
        }
    }
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++) {
        if (disk->descriptors[fd] != SIM_FREE)
            continue;
        disk->descriptors[fd] = target;
        disk->direct[fd] = false;
        return fd + 1000;
    }
    return -EMFILE;
}

int sim_target(const struct sim_disk *disk, int fd) {
    assert(fd >= 1000 && fd < 1000 + DESCRIPTORS_MAX);
    return disk->descriptors[fd - 1000];
}

static bool is_write(const struct sim_pending *pending) {
    enum sc_file_kind kind = pending->op->kind;
    return kind == SC_FILE_WRITE || kind == SC_FILE_WRITE_FLUSH || kind == SC_FILE_WRITE_PAGES;
}

// Durable bytes of a page are written once more as they are: whatever subset of the new and the old sectors the disk has in the
// end, it is there. All else in the page was zeros.
static void check_pages(struct sim_disk *disk, const struct sim_pending *pending) {
    const struct sim_file *file = &disk->files[sim_target(disk, pending->fd)];
    const uint8_t *bytes = pending->data, *durable = file->durable + pending->offset;
    if (disk->config->ignored_flush >= 0)
        return; // Nothing is durable where the store thinks so.
    assert(pending->offset + pending->size <= file->durable_size);
    for (uint32_t i = 0; i < pending->size; i++)
        assert(durable[i] == 0 || durable[i] == bytes[i]);
    disk->result->pages_again += durable[0] != 0;
}

static ssize_t run_write(struct sim_disk *disk, const struct sim_pending *pending, uint32_t size) {
    struct sim_file *file = &disk->files[sim_target(disk, pending->fd)];
    if (pending->op->kind == SC_FILE_WRITE_PAGES)
        check_pages(disk, pending);
    if (!has_space(disk, file, pending->offset + size))
        return -ENOSPC;
    if (pending->offset + size > file->allocated)
        file->allocated = pending->offset + size;
    write_bytes(file, pending->data, size, pending->offset);
    disk->result->written_bytes += size;
    if (pending->op->kind == SC_FILE_WRITE || pending->op->site == disk->config->ignored_flush)
        return size;
    bool metadata = flush_bytes(file, size, pending->offset);
    if (metadata && pending->op->site == SC_SITE_BATCH)
        disk->result->metadata_flushes++;
    return size;
}

static ssize_t run_flush(struct sim_disk *disk, const struct sim_pending *pending) {
    if (pending->op->site == disk->config->ignored_flush)
        return 0;
    int target = sim_target(disk, pending->fd);
    if (target == SIM_ROOT)
        disk->directory_durable = disk->directory_made;
    else if (target == SIM_DIRECTORY)
        flush_directory(disk);
    else
        flush_bytes(&disk->files[target], disk->files[target].size, 0);
    return 0;
}

static ssize_t run_names(struct sim_disk *disk, const struct sim_pending *pending) {
    int at = find_entry(disk->entries, disk->entry_count, pending->path);
    if (pending->op->kind == SC_FILE_MKDIR) {
        if (disk->directory_made || strcmp(pending->path, "store") != 0)
            return -EEXIST;
        disk->directory_made = true;
        return 0;
    }
    if (at < 0)
        return -ENOENT;
    struct sim_change change = {.kind =
                                    pending->op->kind == SC_FILE_RENAME ? SIM_RENAME : SIM_REMOVE,
                                .file = disk->entries[at].file};
    snprintf(change.name, sizeof change.name, "%s", pending->path);
    snprintf(change.other, sizeof change.other, "%s", pending->other);
    if (change.kind == SIM_REMOVE)
        disk->files[change.file].allocated = 0;
    change_directory(disk, change);
    return 0;
}

static ssize_t run(struct sim_disk *disk, const struct sim_pending *pending) {
    struct sim_file *file;
    switch ((enum sc_file_kind)pending->op->kind) {
    case SC_FILE_READ:
        file = &disk->files[sim_target(disk, pending->fd)];
        if (pending->offset >= file->size)
            return 0;
        uint64_t left = file->size - pending->offset;
        uint32_t size = left < pending->size ? (uint32_t)left : pending->size;
        memcpy(pending->data, file->data + pending->offset, size);
        return size;
    case SC_FILE_WRITE:
    case SC_FILE_WRITE_FLUSH:
    case SC_FILE_WRITE_PAGES:
        return run_write(disk, pending, pending->size);
    case SC_FILE_FLUSH:
        return run_flush(disk, pending);
    case SC_FILE_OPEN:
        return open_path(disk, pending);
    case SC_FILE_ALLOCATE:
        file = &disk->files[sim_target(disk, pending->fd)];
        if (!has_space(disk, file, pending->size))
            return -ENOSPC;
        grow(file, pending->size);
        if (file->size < pending->size)
            file->size = pending->size;
        if (file->allocated < pending->size)
            file->allocated = pending->size;
        return 0;
    case SC_FILE_FORGET:
        (void)sim_target(disk, pending->fd);
        return 0;
    case SC_FILE_CLOSE:
        disk->descriptors[pending->fd - 1000] = SIM_FREE;
        return 0;
    case SC_FILE_RENAME:
    case SC_FILE_UNLINK:
    case SC_FILE_MKDIR:
        return run_names(disk, pending);
    }
    abort();
}

static bool fails_now(struct sim_disk *disk, const struct sim_pending *pending) {
    const struct simulator_config *config = disk->config;
    if (!disk->faults_on || config->fault == SIMULATOR_NO_FAULT ||
        pending->op->site != config->fault_site)
        return false;
    uint32_t seen = disk->fault_seen++;
    return seen >= config->fault_after &&
           (config->fault_count == 0 || seen < config->fault_after + config->fault_count);
}

static ssize_t run_or_fail(struct sim_disk *disk, const struct sim_pending *pending) {
    if (disk->dead) {
        if (pending->op->kind == SC_FILE_CLOSE)
            disk->descriptors[pending->fd - 1000] = SIM_FREE;
        return pending->op->kind == SC_FILE_CLOSE ? 0 : -EIO;
    }
    if (disk->config->fault == SIMULATOR_DEATH || !fails_now(disk, pending))
        return run(disk, pending);
    bool writes = is_write(pending);
    uint32_t unit = pending->op->kind == SC_FILE_WRITE_PAGES ? SECTOR : 1;
    uint64_t units = pending->size / unit;
    if (disk->config->fault == SIMULATOR_SHORT)
        return writes && units > 1
                   ? run_write(disk, pending, unit * (1 + (uint32_t)sim_random(disk, units - 1)))
                   : run(disk, pending);
    // A write that fails may have reached the file all the same, in part or as a whole.
    if (writes)
        (void)run_write(disk, pending, unit * (uint32_t)sim_random(disk, units + 1));
    return disk->config->fault == SIMULATOR_EIO ? -EIO : -ENOSPC;
}

bool sim_complete_one(struct sim_disk *disk) {
    if (disk->pending_count == 0)
        return false;
    int at = (int)sim_random(disk, (uint64_t)disk->pending_count);
    if (disk->die_after > 0 && --disk->die_after == 0)
        sim_end_process(disk);
    else if (!disk->dead && disk->config->fault == SIMULATOR_DEATH &&
             fails_now(disk, &disk->pending[at]))
        sim_end_process(disk);
    struct sim_pending pending = disk->pending[at];
    disk->pending[at] = disk->pending[--disk->pending_count];
    ssize_t result = run_or_fail(disk, &pending);
    pending.op->on_complete(pending.op, result);
    return true;
}

// ---- Ends

// Any of the sectors have come to the disk; the cut may tear them.
static void split_pages(struct sim_disk *disk, const struct sim_pending *pending) {
    struct sim_file *file = &disk->files[sim_target(disk, pending->fd)];
    check_pages(disk, pending);
    uint32_t came = 0;
    for (uint32_t at = 0; at < pending->size; at += SECTOR) {
        if (sim_random(disk, 3) == 0)
            continue;
        write_bytes(file, (uint8_t *)pending->data + at, SECTOR, pending->offset + at);
        came++;
    }
    disk->result->pages_split += came > 0 && came < pending->size / SECTOR;
}

void sim_end_process(struct sim_disk *disk) {
    disk->faults_on = false;
    for (int i = 0; i < disk->pending_count; i++) {
        const struct sim_pending *pending = &disk->pending[i];
        if (pending->op->kind == SC_FILE_WRITE_PAGES) {
            split_pages(disk, pending);
        } else if (is_write(pending) && sim_random(disk, 4) > 0) {
            // Parts of it have come as far as the cache.
            struct sim_file *file = &disk->files[sim_target(disk, pending->fd)];
            for (uint32_t at = 0; at < pending->size;) {
                uint32_t size = 1 + (uint32_t)sim_random(disk, 2 * SECTOR);
                size = size < pending->size - at ? size : pending->size - at;
                if (sim_random(disk, 3) > 0)
                    write_bytes(file, (uint8_t *)pending->data + at, size, pending->offset + at);
                at += size;
            }
        } else if (pending->op->kind != SC_FILE_READ && pending->op->kind != SC_FILE_OPEN &&
                   pending->op->kind != SC_FILE_CLOSE && sim_random(disk, 2) == 0) {
            (void)run(disk, pending);
        }
    }
    disk->dead = true;
}

// A sector whose write the cut has met: its first bytes are new, or its last, or any of those that the write
// changes are new, old or neither. All others stay.
static void tear_sector(struct sim_disk *disk, uint8_t *durable, const uint8_t *data) {
    uint8_t before[SECTOR];
    memcpy(before, durable, SECTOR);
    disk->result->torn += memcmp(durable, data, SECTOR) != 0;
    uint64_t at = sim_random(disk, SECTOR + 1), kind = sim_random(disk, 3);
    if (kind == 0) {
        memcpy(durable, data, at);
    } else if (kind == 1) {
        memcpy(durable + at, data + at, SECTOR - at);
    } else {
        for (uint32_t i = 0; i < SECTOR; i++) {
            uint64_t chance = durable[i] == data[i] ? 0 : sim_random(disk, 3);
            durable[i] = chance == 0   ? durable[i]
                         : chance == 1 ? data[i]
                                       : (uint8_t)sim_random(disk, 256);
        }
    }
    for (uint32_t i = 0; i < SECTOR; i++)
        assert(before[i] != data[i] || durable[i] == data[i]);
}

static void cut_file(struct sim_disk *disk, struct sim_file *file) {
    uint64_t sectors = file->capacity / SECTOR;
    for (uint64_t sector = 0; sector < sectors; sector++) {
        if (!file->dirty[sector])
            continue;
        file->dirty[sector] = false;
        uint8_t *durable = file->durable + sector * SECTOR;
        const uint8_t *data = file->data + sector * SECTOR;
        uint64_t chance = sim_random(disk, 4);
        if (chance == 0)
            memcpy(durable, data, SECTOR);
        else if (chance > 1)
            tear_sector(disk, durable, data);
    }
    uint64_t low = file->size < file->durable_size ? file->size : file->durable_size;
    uint64_t high = file->size < file->durable_size ? file->durable_size : file->size;
    uint64_t size = sim_random(disk, 2) == 0   ? low
                    : sim_random(disk, 2) == 0 ? high
                                               : low + sim_random(disk, high - low + 1);
    // A file that only grew never loses what was durable.
    file->size =
        size < file->durable_size && file->size >= file->durable_size ? file->durable_size : size;
    if (file->capacity > 0) {
        memset(file->durable + file->size, 0, file->capacity - file->size);
        memcpy(file->data, file->durable, file->capacity);
    }
    file->durable_size = file->size;
}

void sim_cut_power(struct sim_disk *disk) {
    assert(disk->dead);
    for (int i = 0; i < disk->change_count; i++)
        if (sim_random(disk, 2) == 0)
            apply_change(disk->durable_entries, &disk->durable_count, &disk->changes[i]);
    memcpy(disk->entries, disk->durable_entries, sizeof disk->entries);
    disk->entry_count = disk->durable_count;
    disk->change_count = 0;
    for (int i = 0; i < FILES_MAX; i++)
        if (disk->files[i].used)
            cut_file(disk, &disk->files[i]);
    if (!disk->directory_durable && sim_random(disk, 2) == 0) {
        disk->directory_made = false;
        disk->entry_count = disk->durable_count = 0;
    }
    disk->directory_durable = disk->directory_made;
    disk->result->cuts++;
}

void sim_begin_process(struct sim_disk *disk) {
    disk->dead = false;
    disk->locked = false;
    disk->fault_seen = 0;
    disk->pending_count = 0;
    for (int fd = 0; fd < DESCRIPTORS_MAX; fd++)
        disk->descriptors[fd] = SIM_FREE;
    bool named[FILES_MAX] = {false};
    for (int i = 0; i < disk->entry_count; i++)
        named[disk->entries[i].file] = true;
    for (int i = 0; i < disk->durable_count; i++)
        named[disk->durable_entries[i].file] = true;
    for (int i = 0; i < disk->change_count; i++)
        named[disk->changes[i].file] = true;
    for (int i = 0; i < FILES_MAX; i++)
        if (disk->files[i].used && !named[i])
            free_file(&disk->files[i]);
}

void sim_place(struct sim_disk *disk, const char *name, const uint8_t *data, uint64_t size) {
    struct sim_change change = {.kind = SIM_ENTER, .file = new_file(disk)};
    snprintf(change.name, sizeof change.name, "%s", name);
    change_directory(disk, change);
    struct sim_file *file = &disk->files[change.file];
    if (size > 0)
        write_bytes(file, data, size, 0);
    flush_bytes(file, size, 0);
    flush_directory(disk);
}

void sim_free(struct sim_disk *disk) {
    for (int i = 0; i < FILES_MAX; i++)
        if (disk->files[i].used)
            free_file(&disk->files[i]);
}
