#include "wal_format.h"

#include "crc32c.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

// A file system may bring back blocks of an older file. A checksum that begins with where a batch belongs makes them
// invalid there, though they are whole.
uint32_t sc_wal_seed(const uint8_t *directory_id, enum wal_file_kind kind, uint64_t epoch,
                     uint32_t shard, uint64_t number, uint32_t version) {
    uint64_t words[5] = {kind, epoch, shard, number, version};
    return sc_crc32c(sc_crc32c(0, directory_id, 16), words, sizeof words);
}

#define HEADER_CHECKED (sizeof(struct wal_file_header) - sizeof(uint32_t))

void sc_wal_header_seal(struct wal_file_header *header) {
    memcpy(header->magic, WAL_MAGIC, sizeof header->magic);
    header->version = WAL_VERSION;
    header->checksum = sc_crc32c(0, header, HEADER_CHECKED);
}

bool sc_wal_version_is_known(uint32_t version) {
    return version >= WAL_VERSION_OLDEST && version <= WAL_VERSION;
}

const char *sc_wal_header_check(const struct wal_file_header *header) {
    if (memcmp(header->magic, WAL_MAGIC, sizeof header->magic) != 0)
        return "it does not begin like a file of this program";
    if (!sc_wal_version_is_known(header->version))
        return "its format version is not known to this program";
    if (header->checksum != sc_crc32c(0, header, HEADER_CHECKED))
        return "the checksum of its header is wrong";
    return NULL;
}

#define BATCH_UNCHECKED (2 * sizeof(uint32_t))

// Magic and checksum are outside of it. The size is inside, and is looked at before the checksum: it says where that ends.
void sc_wal_batch_seal(uint8_t *batch, const struct wal_batch_header *header, uint32_t seed) {
    memcpy(batch, header, sizeof *header);
    uint32_t checksum = sc_crc32c(seed, batch + BATCH_UNCHECKED, header->size - BATCH_UNCHECKED);
    memcpy(batch + offsetof(struct wal_batch_header, checksum), &checksum, sizeof checksum);
}

bool sc_wal_batch_is_valid(const uint8_t *batch, uint32_t seed) {
    struct wal_batch_header header;
    memcpy(&header, batch, sizeof header);
    return header.checksum ==
           sc_crc32c(seed, batch + BATCH_UNCHECKED, header.size - BATCH_UNCHECKED);
}

// Sizes follow from what is written: nobody who fills in a record has to keep them right.
void sc_wal_record_write(struct sc_buffer *out, const struct wal_record *record) {
    struct wal_record_header header = record->header;
    header.stream_size = (uint16_t)record->stream.size;
    header.group_size = (uint16_t)record->group.size;
    header.item_size = (uint16_t)record->item.size;
    bool is_update = header.kind == WAL_UPDATE;
    header.value_size = (uint32_t)(record->value.size + (is_update ? sizeof record->update : 0));
    size_t names = record->stream.size + record->group.size + record->item.size;
    header.size = (uint32_t)wal_record_size(names, header.value_size);
    sc_buffer_append(out, &header, sizeof header);
    sc_buffer_append_bytes(out, record->stream);
    sc_buffer_append_bytes(out, record->group);
    sc_buffer_append_bytes(out, record->item);
    if (is_update)
        sc_buffer_append(out, &record->update, sizeof record->update);
    sc_buffer_append_bytes(out, record->value);
}

// Sizes are compared with each other and with what is there before anything behind them is looked at.
ssize_t sc_wal_record_read(struct sc_bytes bytes, struct wal_record *record) {
    struct wal_record_header *header = &record->header;
    if (bytes.size < sizeof *header)
        return -EBADMSG;
    memcpy(header, bytes.data, sizeof *header);
    size_t names = (size_t)header->stream_size + header->group_size + header->item_size;
    if (header->size > bytes.size || header->size != wal_record_size(names, header->value_size) ||
        header->kind < WAL_SET || header->kind > WAL_UPDATE ||
        header->stream_size > SC_NAME_SIZE_MAX || header->group_size > SC_NAME_SIZE_MAX ||
        header->item_size > SC_NAME_SIZE_MAX)
        return -EBADMSG;
    bool is_update = header->kind == WAL_UPDATE;
    if ((header->kind == WAL_SET || is_update) && header->created_at > header->position)
        return -EBADMSG; // An item created after its own change: a snapshot would leave it out.
    if (is_update && header->value_size < sizeof record->update)
        return -EBADMSG;
    const uint8_t *at = bytes.data + sizeof *header;
    record->stream = (struct sc_bytes){at, header->stream_size};
    record->group = (struct sc_bytes){at += header->stream_size, header->group_size};
    record->item = (struct sc_bytes){at += header->group_size, header->item_size};
    record->value = (struct sc_bytes){at += header->item_size, header->value_size};
    if (is_update) {
        memcpy(&record->update, at, sizeof record->update);
        record->value.data += sizeof record->update;
        record->value.size -= sizeof record->update;
    }
    return header->size;
}

void sc_wal_log_name(char *out, uint64_t epoch, uint32_t shard, uint64_t number) {
    snprintf(out, WAL_NAME_SIZE, "%08" PRIu64 "-%02" PRIu32 "-%08" PRIu64 ".log", epoch, shard,
             number);
}

void sc_wal_snapshot_name(char *out, uint64_t epoch, uint32_t shard, uint64_t number,
                          bool finished) {
    snprintf(out, WAL_NAME_SIZE, "%08" PRIu64 "-%02" PRIu32 "-%08" PRIu64 ".%s", epoch, shard,
             number, finished ? "snapshot" : "part");
}

// Numbers may be longer than the digits they are padded to, so sizes say nothing.
bool sc_wal_name_read(const char *text, struct wal_name *name) {
    char again[WAL_NAME_SIZE];
    *name = (struct wal_name){0};
    if (sscanf(text, "%" SCNu64 "-%" SCNu32 "-%" SCNu64, &name->epoch, &name->shard,
               &name->number) != 3)
        return false;
    // Only what would be written the same way again.
    sc_wal_log_name(again, name->epoch, name->shard, name->number);
    name->kind = WAL_LOG;
    if (strcmp(again, text) == 0)
        return name->finished = true;
    name->kind = WAL_SNAPSHOT;
    for (int finished = 0; finished < 2; finished++) {
        sc_wal_snapshot_name(again, name->epoch, name->shard, name->number, finished);
        if (strcmp(again, text) == 0) {
            name->finished = finished;
            return true;
        }
    }
    return false;
}
