// Files of a store whose checksums are right whatever they say: bytes of a fuzzer become batches and records.
#ifndef RECOVER_FORGE_H
#define RECOVER_FORGE_H

#include "../../CSources/CStreamStore/log/wal_format.h"
#include "../Support/CStoreSimulator/disk.h"
#include "fuzz.h"

static uint32_t seed_of(const struct wal_name *name, const uint8_t *id) {
    return sc_wal_seed(id, name->kind, name->epoch, name->shard, name->number, WAL_VERSION);
}

static uint64_t take(const uint8_t **data, const uint8_t *end, size_t size) {
    uint64_t value = 0;
    for (size_t i = 0; i < size && *data < end; i++)
        value |= (uint64_t)*(*data)++ << 8 * i;
    return value;
}

// A number that is most often small, and at times near the end of its range.
static uint64_t take_number(const uint8_t **data, const uint8_t *end) {
    uint64_t value = take(data, end, 1);
    return value < 200 ? value : value < 250 ? take(data, end, 8) : UINT64_MAX - (value - 250);
}

// What forged operations, one byte, make of a value, which is a prefix of this one as all forged values are.
static const uint8_t forged_value[300] = "0123456789";
static struct sc_bytes forged_result(size_t size) {
    return (struct sc_bytes){forged_value, 1 + size / 2};
}

// An update that often fits the value before it.
static struct wal_update forge_update(uint64_t which) {
    static const uint16_t sizes[] = {0, 3, 6, 256, 1, 2, 4, 129};
    size_t size = sizes[which & 7];
    struct sc_bytes result = forged_result(size);
    struct wal_update update = {.base_size = (uint32_t)size,
                                .base_checksum = sc_crc32c(0, forged_value, size),
                                .result_size = (uint32_t)result.size,
                                .result_checksum = sc_crc32c(0, result.data, result.size)};
    if (which >= 224)
        update.base_checksum++;
    else if (which >= 192)
        update.result_size++;
    return update;
}

static void forge_record(struct sc_buffer *out, const uint8_t **data, const uint8_t *end) {
    static const uint8_t letters[300] = "sg0i1";
    uint64_t sizes = take(data, end, 1);
    struct wal_record record = {.header = {.kind = (uint8_t)(1 + take(data, end, 1) % 6),
                                           .position = take_number(data, end),
                                           .created_at = take_number(data, end),
                                           .stamp_ms = take_number(data, end)},
                                .stream = {letters, sizes & 1},
                                .group = {letters + 1 + (sizes >> 1 & 1), sizes >> 2 & 1},
                                .item = {letters + (sizes >> 3 & 3), sizes >> 5 & 1},
                                .value = {forged_value, sizes >> 6 == 3 ? 256 : 3 * (sizes >> 6)}};
    if (record.header.kind == WAL_UPDATE) {
        record.value.size = 1;
        record.update = forge_update(take(data, end, 1));
    }
    if (sc_buffer_reserve(out, 1024) == NULL)
        abort();
    sc_wal_record_write(out, &record);
}

static void forge_batch(struct sc_buffer *file, const struct wal_name *name, const uint8_t *id,
                        const uint8_t **data, const uint8_t *end) {
    struct sc_buffer bytes = {0};
    struct wal_batch_header header = {.magic = WAL_BATCH_MAGIC, .epoch = name->epoch};
    sc_buffer_append(&bytes, &header, sizeof header);
    header.count = (uint32_t)take(data, end, 1) % 8;
    for (uint32_t i = 0; i < header.count; i++)
        forge_record(&bytes, data, end);
    uint64_t spoil = take(data, end, 1);
    header.count += spoil == 255;
    size_t records = bytes.size - sizeof header;
    if (spoil >= 250 && spoil < 255 && records > 0) { // Nonsense behind a good checksum.
        size_t at = take(data, end, 2) % records;
        bytes.data[sizeof header + at] ^= (uint8_t)take(data, end, 1);
    }
    header.number = take_number(data, end);
    header.flushed = take_number(data, end);
    header.ceiling_ms = take_number(data, end);
    header.size = (uint32_t)bytes.size;
    sc_wal_batch_seal(bytes.data, &header, seed_of(name, id));
    uint8_t padding[WAL_ALIGNMENT] = {0};
    sc_buffer_append(&bytes, padding, wal_padded(bytes.size) - bytes.size);
    sc_buffer_append_bytes(file, sc_buffer_bytes(&bytes));
    sc_buffer_deinit(&bytes);
}

static void forge_file(struct sim_disk *disk, const uint8_t **data, const uint8_t *end,
                       uint32_t shard_count, const uint8_t *id) {
    uint64_t which = take(data, end, 1);
    struct wal_name name = {.kind = which & 1 ? WAL_SNAPSHOT : WAL_LOG,
                            .finished = true,
                            .epoch = 5,
                            .shard = (which >> 1) % shard_count,
                            .number = 1 + (which >> 3) % 3};
    struct wal_file_header header = {.kind = name.kind,
                                     .epoch = name.epoch,
                                     .shard = name.shard,
                                     .shard_count = shard_count,
                                     .number = name.number};
    memcpy(header.directory_id, id, 16);
    if (name.kind == WAL_SNAPSHOT) {
        header.first_segment = take_number(data, end);
        header.first_batch = take_number(data, end);
        header.position = take_number(data, end);
    }
    sc_wal_header_seal(&header);
    struct sc_buffer file = {0};
    uint8_t room[WAL_HEADER_SIZE] = {0};
    memcpy(room, &header, sizeof header);
    sc_buffer_append(&file, room, sizeof room);
    for (uint64_t count = take(data, end, 1) % 8; count > 0; count--)
        forge_batch(&file, &name, id, data, end);
    char text[WAL_NAME_SIZE];
    if (name.kind == WAL_LOG)
        sc_wal_log_name(text, name.epoch, name.shard, name.number);
    else
        sc_wal_snapshot_name(text, name.epoch, name.shard, name.number, true);
    if (sim_find(disk, text) == NULL)
        sim_place(disk, text, file.data, file.size);
    sc_buffer_deinit(&file);
}

#endif
