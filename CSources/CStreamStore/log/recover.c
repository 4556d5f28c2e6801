// Reads what a directory has: for each shard of the last run its newest snapshot, then the log from where
// the snapshot says. Bytes that do not check out are the end of the log, unless a batch behind them says that
// what should have been there was durable: then they are damage, and nothing is guessed.
//
// A snapshot has an item as it was at some time while it was taken, and the log begins before that. A set makes up for
// it. An update must not be applied twice: the time stamp of an item grows with each of its changes, so the item has seen
// an update whose stamp is not above its own. An item that the snapshot does not have was deleted while it was taken, and
// the log comes to that. Behind the last position that the snapshot may contain neither can be.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "crc32c.h"
#include "log.h"

#define REPORT_BYTES (64u << 20)

/// The reading of one shard of the last run.
struct source {
    const struct recover_config *config;
    struct sc_directory *directory;
    char *reason;
    uint32_t shard;
    uint64_t snapshot, first_segment;
    uint64_t expected; // Number of the next batch.
    uint64_t ceiling;
    uint64_t covered; // Position of the last change that may be in the snapshot.
    struct recovered *out;
    struct sc_buffer pieces; // Of a large value.
    uint64_t bytes, reported;
    uint64_t updates_left_out;
};

/// One file that is being read.
struct input {
    struct reader reader;
    struct wal_file_header header;
    const char *_Nullable header_problem;
    char name[WAL_NAME_SIZE];
};

// ---- Files

// A header that does not check out is no error yet: whether it is damage is known when it is known what should be there. The
// checksums of batches begin with what the manifest says, so that they are found behind a damaged header.
static int input_open(struct source *source, enum wal_file_kind kind, uint64_t number,
                      struct input *input) {
    struct sc_directory *directory = source->directory;
    struct sc_loop *loop = source->config->loop;
    *input = (struct input){.reader.fd = -1};
    if (kind == WAL_LOG)
        sc_wal_log_name(input->name, directory->old_epoch, source->shard, number);
    else
        sc_wal_snapshot_name(input->name, directory->old_epoch, source->shard, number, true);
    int64_t size;
    int fd = sc_directory_open_file(loop, directory, SC_SITE_RECOVER_OPEN, input->name, O_RDONLY,
                                    &size, source->reason);
    if (fd < 0)
        return fd;
    uint32_t seed = sc_wal_seed(directory->id, kind, directory->old_epoch, source->shard, number,
                                directory->old_version);
    sc_reader_init(&input->reader, loop, directory->ops, fd, (uint64_t)size, seed,
                   directory->old_epoch);
    ssize_t got =
        sc_blocking_read(loop, directory->ops, fd, &input->header, sizeof input->header, 0);
    if (got < 0)
        return sc_directory_explain(directory, (int)got, "cannot read", input->name,
                                    source->reason);
    const struct wal_file_header *header = &input->header;
    if ((size_t)got < sizeof *header || size < WAL_HEADER_SIZE)
        input->header_problem = "it is shorter than its header";
    else if (sc_wal_header_check(header) != NULL)
        input->header_problem = sc_wal_header_check(header);
    else if (header->version != directory->old_version || header->kind != (uint32_t)kind ||
             header->epoch != directory->old_epoch || header->shard != source->shard ||
             header->number != number ||
             memcmp(header->directory_id, directory->id, sizeof directory->id) != 0)
        input->header_problem = "its header is another file's";
    return 0;
}

static void input_close(struct source *source, struct input *input) {
    sc_blocking_close(source->config->loop, source->directory->ops, input->reader.fd);
    sc_reader_deinit(&input->reader);
}

// An operator who waits for a large store sees that it goes on.
static void progress(struct source *source, const struct input *input) {
    uint64_t bytes = source->bytes + input->reader.offset;
    if (!source->config->reports || bytes - source->reported < REPORT_BYTES)
        return;
    source->reported = bytes;
    sc_directory_report(source->directory, SC_REPORT_INFO, "recovering",
                        "%s, %llu MiB read, %llu items so far", input->name,
                        (unsigned long long)(bytes >> 20), (unsigned long long)source->out->items);
}

// ---- Damage

// A repair must not be the end of what it could not read: the file is kept as it was, holes left out.
static int copy_file(struct source *source, const struct input *input) {
    struct sc_directory *directory = source->directory;
    struct sc_loop *loop = source->config->loop;
    char name[WAL_NAME_SIZE + 16];
    snprintf(name, sizeof name, "%s.damaged", input->name);
    sc_blocking_unlink(loop, directory->ops, directory->fd, name); // A file of any kind.
    int fd = sc_blocking_open(loop, directory->ops, SC_SITE_RECOVER_COPY, directory->fd, name,
                              O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    uint8_t *bytes = malloc(1u << 20);
    int rc = fd < 0 ? fd : bytes == NULL ? -ENOMEM : 0;
    for (uint64_t at = 0; rc == 0 && at < input->reader.file_size;) {
        int64_t data = directory->ops->data(loop, input->reader.fd, at);
        if (data == -ENXIO)
            break; // Holes to the end.
        at = data > (int64_t)at ? (uint64_t)data : at;
        ssize_t got = sc_blocking_read(loop, directory->ops, input->reader.fd, bytes, 1u << 20, at);
        if (got <= 0)
            rc = got < 0 ? (int)got : -EIO;
        else
            rc = sc_blocking_write_flush(loop, directory->ops, SC_SITE_RECOVER_COPY, fd, bytes,
                                         (size_t)got, at);
        at += rc == 0 ? (uint64_t)got : 0;
    }
    if (rc == 0)
        rc = sc_blocking_flush(loop, directory->ops, SC_SITE_RECOVER_COPY, directory->fd);
    sc_blocking_close(loop, directory->ops, fd);
    free(bytes);
    if (rc < 0)
        return sc_directory_explain(directory, rc, "cannot copy the damaged", input->name,
                                    source->reason);
    sc_directory_report(directory, SC_REPORT_WARN, "store_copied", "the damaged file is kept as %s",
                        name);
    return 0;
}

// Damage at `offset`. 0: a repair was asked for and goes on, dropping `what`.
static int damaged(struct source *source, const struct input *input, uint64_t offset,
                   const char *what, uint64_t first, uint64_t last) {
    struct sc_directory *directory = source->directory;
    char dropped[160];
    if (first <= last)
        snprintf(dropped, sizeof dropped, "batches %llu to %llu of shard %u",
                 (unsigned long long)first, (unsigned long long)last, source->shard);
    else
        snprintf(dropped, sizeof dropped, "nothing that is known of");
    if (!directory->config.repair) {
        snprintf(source->reason, SC_REASON_SIZE,
                 "%s/%s is damaged at byte %llu: %s; --repair would keep a copy and drop %s",
                 directory->path, input->name, (unsigned long long)offset, what, dropped);
        return -EBADMSG;
    }
    if (!source->config->reports)
        return 0;
    sc_directory_report(directory, SC_REPORT_WARN, "store_repaired",
                        "%s is damaged at byte %llu: %s; dropped %s", input->name,
                        (unsigned long long)offset, what, dropped);
    return copy_file(source, input);
}

// An update cannot be applied. Its item stays as it is; so do those updates of it that follow.
static int update_left_out(struct source *source, const struct input *input, const char *what) {
    const struct sc_directory *directory = source->directory;
    if (!directory->config.repair) {
        snprintf(
            source->reason, SC_REASON_SIZE,
            "%s/%s is damaged at byte %llu: %s; --repair would leave the update out, and those "
            "of the same item until it is set again",
            directory->path, input->name, (unsigned long long)input->reader.offset, what);
        return -EBADMSG;
    }
    if (source->updates_left_out++ == 0)
        sc_directory_report(directory, SC_REPORT_WARN, "store_repaired",
                            "%s, the batch at byte %llu: %s; the update is left out", input->name,
                            (unsigned long long)input->reader.offset, what);
    return 0;
}

// ---- Records

// The size is compared first: it is there for nothing, and a wrong value seldom has the right one.
static bool is_value(struct sc_bytes value, uint32_t size, uint32_t checksum) {
    return value.size == size && sc_crc32c(0, value.data, value.size) == checksum;
}

// Applies an update, unless the item has seen it (see above). The operations are applied by the same function as when the
// change was made, and must make the same bytes: a store never goes on from a value that nobody wrote.
static int apply_update(struct source *source, const struct input *input,
                        const struct wal_record *record, const struct sc_group_name *name) {
    const struct recover_config *config = source->config;
    const struct wal_record_header *header = &record->header;
    const struct wal_update *update = &record->update;
    struct sc_group *group = sc_store_group_find(config->store, name);
    const struct item *item =
        group == NULL ? NULL : sc_item_find(config->store, group, record->item);
    bool is_seen = item == NULL || header->stamp_ms <= item->stamp;
    if (is_seen && header->position <= source->covered)
        return 0;
    if (is_seen)
        return update_left_out(source, input,
                               "an update of an item that is not there, or is newer");
    struct sc_bytes base = sc_blob_bytes(item->value);
    if (item->created_at != header->created_at ||
        !is_value(base, update->base_size, update->base_checksum))
        return update_left_out(source, input, "an update of another value than the item has");
    struct sc_bytes result;
    int rc = config->apply == NULL ? -EBADMSG
                                   : config->apply(config->context, base, record->value, &result);
    if (rc == -EBADMSG ||
        (rc == 0 && !is_value(result, update->result_size, update->result_checksum)))
        return update_left_out(source, input, "an update that does not make the value it made");
    return rc < 0 ? rc
                  : sc_store_load_set(config->store, name, record->item, result, header->created_at,
                                      header->stamp_ms);
}

// Records of other shards' groups are shown to an inspection and left to those shards.
static int apply(struct source *source, const struct input *input, const struct wal_record *record,
                 struct sc_bytes value) {
    const struct recover_config *config = source->config;
    const struct wal_record_header *header = &record->header;
    if (config->inspection != NULL && config->inspection->record != NULL) {
        static const char *const kinds[] = {"set", "delete", "mark", "end", "piece", "update"};
        config->inspection->record(config->inspection->context, kinds[header->kind - WAL_SET],
                                   record->stream, record->group, record->item, value,
                                   header->position, header->created_at, header->stamp_ms);
    }
    if (header->kind != WAL_SET && header->kind != WAL_DELETE && header->kind != WAL_UPDATE)
        return 0;
    struct sc_group_name name = {record->stream, record->group,
                                 sc_store_hash(record->stream, record->group, config->store->seed)};
    if (!config->owns(config->context, name.hash))
        return 0;
    if (header->kind == WAL_DELETE) {
        sc_store_remove(config->store, &name, record->item);
        return 0;
    }
    if (header->kind == WAL_UPDATE)
        return apply_update(source, input, record, &name);
    return sc_store_load_set(config->store, &name, record->item, value, header->created_at,
                             header->stamp_ms);
}

// One record. Sets `*end` for that of a snapshot, with its number of items.
// Pieces are collected until the set that they belong to: a value is applied as a whole. Positions go on above the highest
// one that was ever seen, also of records that belong to others.
static int take(struct source *source, const struct input *input, const struct wal_record *record,
                uint64_t *end) {
    if (record->header.position > source->out->position)
        source->out->position = record->header.position;
    if (record->header.kind == WAL_PIECE) {
        sc_buffer_append_bytes(&source->pieces, record->value);
        return source->pieces.failed ? -ENOMEM : 0;
    }
    if (record->header.kind == WAL_END) {
        *end = record->header.created_at + 1;
        source->covered = record->header.position;
    }
    struct sc_bytes value = record->value;
    if (record->header.kind == WAL_SET) {
        source->out->items++;
        if (source->pieces.size > 0) {
            sc_buffer_append_bytes(&source->pieces, record->value);
            if (source->pieces.failed)
                return -ENOMEM;
            value = sc_buffer_bytes(&source->pieces);
        }
    }
    int rc = apply(source, input, record, value);
    source->pieces.size = 0;
    return rc;
}

// The checksum of the batch is right, so a record that makes no sense was written so: no repair goes over that.
static int take_batch(struct source *source, const struct input *input,
                      const struct wal_batch_header *header, struct sc_bytes batch, uint64_t *end) {
    const struct sc_inspection *inspection = source->config->inspection;
    if (inspection != NULL && inspection->batch != NULL)
        inspection->batch(inspection->context, input->name, input->reader.offset, header->number,
                          header->ceiling_ms, header->count);
    source->ceiling = header->ceiling_ms;
    size_t at = sizeof *header;
    for (uint32_t i = 0; i < header->count; i++) {
        struct wal_record record;
        struct sc_bytes rest = {batch.data + at, batch.size - at};
        ssize_t size = sc_wal_record_read(rest, &record);
        bool may_update = input->header.kind != WAL_SNAPSHOT && source->directory->old_version > 1;
        if (size > 0 && record.header.kind == WAL_UPDATE && !may_update)
            size = -EBADMSG;
        if (size < 0) {
            snprintf(source->reason, SC_REASON_SIZE,
                     "%s: a record of the batch at byte %llu makes no sense", input->name,
                     (unsigned long long)input->reader.offset);
            return (int)size;
        }
        int rc = take(source, input, &record, end);
        if (rc == -EBADMSG)
            return rc; // It has its sentence.
        if (rc < 0)
            return sc_directory_explain(source->directory, rc, "cannot take in", input->name,
                                        source->reason);
        at += (size_t)size;
    }
    return 0;
}

// ---- The snapshot

// A snapshot must be whole, as it replaces the log before it. A repair takes what it finds of it, and the log behind.
static int read_snapshot(struct source *source, struct input *input) {
    const char *problem = input->header_problem;
    if (problem != NULL) {
        // Without it nobody knows where the log goes on.
        snprintf(source->reason, SC_REASON_SIZE, "%s/%s is damaged at byte 0: %s",
                 source->directory->path, input->name, problem);
        return -EBADMSG;
    }
    source->first_segment = input->header.first_segment;
    source->expected = input->header.first_batch;
    if (input->header.position > source->out->position)
        source->out->position = input->header.position;
    uint64_t end = 0, before = source->out->items;
    struct wal_batch_header header = {0};
    for (uint64_t number = 1; end == 0; number++) {
        struct sc_bytes batch;
        int found = sc_reader_batch(&input->reader, &header, &batch);
        if (found < 0)
            return sc_directory_explain(source->directory, found, "cannot read", input->name,
                                        source->reason);
        if (found == 0 || header.number != number) {
            uint64_t offset = input->reader.offset;
            int rc = damaged(source, input, offset, "a batch of the snapshot does not check out",
                             number, number);
            source->pieces.size = 0;
            if (rc < 0)
                return rc;
            input->reader.offset += WAL_ALIGNMENT;
            found = sc_reader_search(&input->reader, number + 1, &header);
            if (found <= 0)
                return found; // The rest of it is lost; the log goes on all the same.
            number = header.number - 1;
            before = UINT64_MAX;
            continue;
        }
        int rc = take_batch(source, input, &header, batch, &end);
        if (rc < 0)
            return rc;
        sc_reader_skip(&input->reader, &header);
        progress(source, input);
    }
    if (before != UINT64_MAX && end - 1 != source->out->items - before)
        return damaged(source, input, input->reader.offset, "it has fewer items than it says", 1,
                       0);
    return 0;
}

// ---- The log

// Where the log can end at most. A segment that is prepared and not yet used is among those that are looked at.
static uint64_t last_segment(const struct source *source) {
    uint64_t last = 0;
    for (size_t i = 0; i < source->directory->file_count; i++) {
        const struct wal_name *name = &source->directory->files[i].name;
        if (name->kind == WAL_LOG && name->epoch == source->directory->old_epoch &&
            name->shard == source->shard && name->number > last)
            last = name->number;
    }
    return last;
}

// Looks for a batch, from the reader's offset on, which says that `expected` was durable.
static int find_proof(struct source *source, struct reader *reader,
                      struct wal_batch_header *header) {
    for (;;) {
        int found = sc_reader_search(reader, source->expected, header);
        if (found <= 0 || header->number == source->expected || header->flushed > source->expected)
            return found;
        reader->offset += WAL_ALIGNMENT;
    }
}

// Reads the batches of a segment that follow each other, from the reader's offset on.
static int read_batches(struct source *source, struct input *input) {
    for (;;) {
        struct wal_batch_header header;
        struct sc_bytes batch;
        int found = sc_reader_batch(&input->reader, &header, &batch);
        if (found < 0)
            return sc_directory_explain(source->directory, found, "cannot read", input->name,
                                        source->reason);
        if (found == 0 || header.number > source->expected)
            return 0;
        if (header.number == source->expected) { // Those before are part of the snapshot.
            uint64_t end = 0;
            int rc = take_batch(source, input, &header, batch, &end);
            if (rc < 0)
                return rc;
            source->expected++;
        }
        sc_reader_skip(&input->reader, &header);
        progress(source, input);
    }
}

// Zeros are how a log ends. Anything else is a batch that power or the process has ended in, which an operator may want to
// know of: nobody was told of its changes.
static void say_cut(struct source *source, const struct input *input, uint64_t offset) {
    uint8_t bytes[sizeof(struct wal_batch_header)];
    ssize_t got = sc_blocking_read(source->config->loop, source->directory->ops, input->reader.fd,
                                   bytes, sizeof bytes, offset);
    for (ssize_t i = 0; i < got; i++) {
        if (bytes[i] == 0)
            continue;
        sc_directory_report(
            source->directory, SC_REPORT_WARN, "store_cut",
            "%s ends in a batch that was not finished, at byte %llu: it is left out", input->name,
            (unsigned long long)offset);
        return;
    }
}

// Reads one segment. 1: it goes on in the next. 0: that was the end.
// The end of a log is where no valid batch follows. Whether that is so can only be said by what lies behind: a later batch,
// here or in a later file, that was written when the missing one was durable. A crash cannot make that, so it is damage.
static int read_segment(struct source *source, struct input *input, uint64_t segment,
                        uint64_t last) {
    if (input->header_problem != NULL && input->reader.file_size >= WAL_HEADER_SIZE &&
        memcmp(input->header.magic, WAL_MAGIC, sizeof input->header.magic) == 0 &&
        !sc_wal_version_is_known(input->header.version)) {
        snprintf(source->reason, SC_REASON_SIZE, "%s/%s: %s", source->directory->path, input->name,
                 input->header_problem);
        return -EBADMSG;
    }
    for (;;) {
        int rc = read_batches(source, input);
        if (rc < 0)
            return rc;
        // Does anything follow, here or in a later file?
        uint64_t offset = input->reader.offset, next = segment;
        struct wal_batch_header header;
        int found = find_proof(source, &input->reader, &header);
        struct input later = {.reader.fd = -1};
        while (found == 0 && next < last) {
            rc = input_open(source, WAL_LOG, ++next, &later);
            if (rc == -ENOENT)
                continue;
            found = rc < 0 ? rc : find_proof(source, &later.reader, &header);
            input_close(source, &later);
            later.reader.fd = -1;
        }
        if (found < 0)
            return found;
        bool header_is_bad =
            input->header_problem != NULL && (offset > WAL_HEADER_SIZE || next == segment);
        if (found == 0) {
            if (header_is_bad && offset > WAL_HEADER_SIZE)
                return damaged(source, input, 0, input->header_problem, 1, 0);
            if (source->config->reports && input->header_problem == NULL)
                say_cut(source, input, offset);
            return 0;
        }
        if (header.number == source->expected && next == segment + 1) {
            if (header_is_bad && (rc = damaged(source, input, 0, input->header_problem, 1, 0)) < 0)
                return rc;
            return 1;
        }
        rc = damaged(source, input, offset, "what lies there does not check out, and more follows",
                     source->expected, header.number - 1);
        if (rc < 0)
            return rc;
        source->expected = header.number;
        if (next > segment)
            return 1;
        input->header_problem = NULL;
    }
}

// The first segment must be there, as the snapshot names it. A later one may be: if it was never written, nothing behind it
// claims to know it.
static int missing(struct source *source, const struct input *input, uint64_t segment,
                   uint64_t last) {
    if (segment != source->first_segment)
        return segment < last ? 1 : 0; // A later one that belongs to the log shows the gap.
    if (!source->directory->config.repair) {
        snprintf(source->reason, SC_REASON_SIZE,
                 "%s/%s is missing; --repair would go on without it", source->directory->path,
                 input->name);
        return -EBADMSG;
    }
    if (source->config->reports)
        sc_directory_report(source->directory, SC_REPORT_WARN, "store_repaired", "%s is missing",
                            input->name);
    return segment < last ? 1 : 0;
}

// Segments have consecutive numbers, and the first is the one that the snapshot names.
static int read_log(struct source *source) {
    uint64_t last = last_segment(source);
    int rc = 1;
    for (uint64_t segment = source->first_segment; rc == 1; segment++) {
        struct input input;
        rc = input_open(source, WAL_LOG, segment, &input);
        if (rc == 0)
            rc = read_segment(source, &input, segment, last);
        else if (rc == -ENOENT)
            rc = missing(source, &input, segment, last);
        source->bytes += input.reader.offset;
        input_close(source, &input);
    }
    return rc;
}

// One shard of the last run: the newest snapshot that has its final name, then the log from where that says.
static int recover_shard(struct source *source) {
    for (size_t i = 0; i < source->directory->file_count; i++) {
        const struct wal_name *name = &source->directory->files[i].name;
        if (name->kind == WAL_SNAPSHOT && name->finished &&
            name->epoch == source->directory->old_epoch && name->shard == source->shard &&
            name->number > source->snapshot)
            source->snapshot = name->number;
    }
    if (source->snapshot == 0) {
        snprintf(source->reason, SC_REASON_SIZE,
                 "%s has no snapshot of shard %u in epoch %llu: it is incomplete",
                 source->directory->path, source->shard,
                 (unsigned long long)source->directory->old_epoch);
        return -EBADMSG;
    }
    struct input input;
    int rc = input_open(source, WAL_SNAPSHOT, source->snapshot, &input);
    if (rc == 0)
        rc = read_snapshot(source, &input);
    source->bytes += input.reader.offset;
    input_close(source, &input);
    if (rc == 0)
        rc = read_log(source);
    if (source->updates_left_out > 1)
        sc_directory_report(source->directory, SC_REPORT_WARN, "store_repaired",
                            "%llu updates of shard %u were left out",
                            (unsigned long long)source->updates_left_out, source->shard);
    return rc;
}

// Shard by shard of the last run. Groups do not go over shards, so their order does not matter; the highest ceiling and
// position of all of them do, as a group may come to any shard now.
int sc_recover(const struct recover_config *config, struct recovered *out, char *reason) {
    *out = (struct recovered){0};
    struct sc_directory *directory = config->directory;
    uint64_t bytes = 0, reported = 0;
    for (uint32_t shard = 0; directory->old_epoch > 0 && shard < directory->old_shard_count;
         shard++) {
        struct source source = {.config = config,
                                .directory = directory,
                                .reason = reason,
                                .shard = shard,
                                .out = out,
                                .bytes = bytes,
                                .reported = reported};
        int rc = recover_shard(&source);
        sc_buffer_deinit(&source.pieces);
        if (rc < 0)
            return rc;
        bytes = source.bytes;
        reported = source.reported;
        if (source.ceiling > out->ceiling)
            out->ceiling = source.ceiling;
    }
    if (config->reports && directory->old_epoch > 0)
        sc_directory_report(directory, SC_REPORT_INFO, "recovered",
                            "epoch %llu of %u shards: %llu items set, %llu KiB read",
                            (unsigned long long)directory->old_epoch, directory->old_shard_count,
                            (unsigned long long)out->items, (unsigned long long)(bytes >> 10));
    return 0;
}
