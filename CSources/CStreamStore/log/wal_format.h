// The files of a store, byte by byte: docs/wal-format.md. All numbers little-endian.
#ifndef CSTREAM_STORE_WAL_FORMAT_H
#define CSTREAM_STORE_WAL_FORMAT_H

#include "CStreamBase.h"

#pragma clang assume_nonnull begin

#define WAL_MAGIC "iiistrm\n"
#define WAL_VERSION 2u
/// The oldest that is still read. Files of it have no WAL_UPDATE.
#define WAL_VERSION_OLDEST 1u
/// Where the first batch of a file begins.
#define WAL_HEADER_SIZE 512u
/// Batches begin at multiples of it.
#define WAL_ALIGNMENT 8u
#define WAL_BATCH_MAGIC 0x48435442u // "BTCH"
/// Names of files fit, with their terminator.
#define WAL_NAME_SIZE 64u

enum wal_file_kind { WAL_LOG = 1, WAL_SNAPSHOT = 2, WAL_MANIFEST = 3 };

/// The first bytes of every file; the rest up to WAL_HEADER_SIZE is zero. A manifest is nothing else.
struct wal_file_header {
    uint8_t magic[8];
    uint32_t version;
    uint32_t kind;
    uint8_t directory_id[16];
    uint64_t epoch;
    uint32_t shard;
    uint32_t shard_count;
    uint64_t number;        // Of the segment or snapshot.
    uint64_t first_segment; // WAL_SNAPSHOT: where the log goes on from it.
    uint64_t first_batch;   // WAL_SNAPSHOT: the first batch that is not part of it.
    uint64_t position;      // WAL_SNAPSHOT: of the last change before it was begun.
    uint32_t reserved;
    uint32_t checksum; // CRC32C of all before.
};
_Static_assert(sizeof(struct wal_file_header) == 88, "as documented");

struct wal_batch_header {
    uint32_t magic;
    uint32_t checksum; // CRC32C of all behind it, up to `size`; seeded by sc_wal_seed.
    uint32_t size;     // With this header, without the padding behind.
    uint32_t count;    // Of records.
    uint64_t epoch;
    uint64_t number;
    uint64_t flushed;    // All batches before this number were durable when this one was written.
    uint64_t ceiling_ms; // No time stamp up to the next batch exceeds it.
};
_Static_assert(sizeof(struct wal_batch_header) == 48, "as documented");

enum wal_record_kind {
    WAL_SET = 1,
    WAL_DELETE = 2,
    WAL_MARK = 3, // Nothing changed: a batch was needed for its ceiling.
    WAL_END =
        4, // The last record of a snapshot. `created_at` is the number of its items, `position` that of the last
    // change that may be in it.
    WAL_PIECE = 5,  // The first bytes of the value of the next WAL_SET. In snapshots only.
    WAL_UPDATE = 6, // Operations, to be applied to the item's value. In logs only.
};

/// Stands before the operations of a WAL_UPDATE, as part of its value.
struct wal_update {
    uint32_t base_size;     // Of the value that the operations were applied to,
    uint32_t base_checksum; // its CRC32C,
    uint32_t result_size;   // and both of the value that they made.
    uint32_t result_checksum;
};
_Static_assert(sizeof(struct wal_update) == 16, "as documented");

/// Followed by stream, group, item and value.
struct wal_record_header {
    uint32_t size; // With all that follows.
    uint8_t kind;
    uint8_t reserved;
    uint16_t stream_size;
    uint16_t group_size;
    uint16_t item_size;
    uint32_t value_size;
    uint64_t position; // Of the change; grows within a shard, and so within each group, for ever.
    uint64_t
        created_at; // WAL_SET, WAL_UPDATE: position at which the item was created. A group is ordered by it.
    uint64_t stamp_ms;
};
_Static_assert(sizeof(struct wal_record_header) == 40, "as documented");

struct wal_record {
    struct wal_record_header header;
    struct sc_bytes stream, group, item, value;
    struct wal_update update; // WAL_UPDATE: `value` is the operations, without it.
};

static inline uint64_t wal_padded(uint64_t size) {
    return (size + WAL_ALIGNMENT - 1) & ~(uint64_t)(WAL_ALIGNMENT - 1);
}

/// Where the checksum of a batch starts, so that a batch is valid in one file of one directory only.
uint32_t sc_wal_seed(const uint8_t *directory_id, enum wal_file_kind kind, uint64_t epoch,
                     uint32_t shard, uint64_t number, uint32_t version);
void sc_wal_header_seal(struct wal_file_header *header);
bool sc_wal_version_is_known(uint32_t version);
/// Why the header cannot be used, or NULL.
const char *_Nullable sc_wal_header_check(const struct wal_file_header *header);
/// Fills in the header of the batch that lies in `batch`.
void sc_wal_batch_seal(uint8_t *batch, const struct wal_batch_header *header, uint32_t seed);
bool sc_wal_batch_is_valid(const uint8_t *batch, uint32_t seed);

/// Appends a record. Room must have been reserved (see wal_record_size).
void sc_wal_record_write(struct sc_buffer *out, const struct wal_record *record);
/// `value`: with the wal_update of a WAL_UPDATE.
static inline size_t wal_record_size(size_t names, size_t value) {
    return sizeof(struct wal_record_header) + names + value;
}
/// Reads the record at the beginning of `bytes`: its size, or -EBADMSG.
SC_CHECKED ssize_t sc_wal_record_read(struct sc_bytes bytes, struct wal_record *record);

void sc_wal_log_name(char *_Nonnull out, uint64_t epoch, uint32_t shard, uint64_t number);
void sc_wal_snapshot_name(char *_Nonnull out, uint64_t epoch, uint32_t shard, uint64_t number,
                          bool finished);
/// The parts of a file name. False: not one of ours.
struct wal_name {
    enum wal_file_kind kind;
    bool finished; // Not `.part`.
    uint64_t epoch;
    uint32_t shard;
    uint64_t number;
};
SC_CHECKED bool sc_wal_name_read(const char *text, struct wal_name *name);

#pragma clang assume_nonnull end

#endif
