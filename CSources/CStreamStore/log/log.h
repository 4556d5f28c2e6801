// The files: journal.c (what the store tells), batch.c (batches and flushes), group_commit.c (what they wait for),
// pages.c (their bytes, past the kernel's cache), rollback.c (what takes changes back), segment.c (files prepared ahead),
// snapshot.c (what replaces the log), recover.c and reader.c (reading the last run), open.c (beginning the next),
// directory.c (what the shards have in common), blocking.c (operations that a start waits for).
#ifndef CSTREAM_STORE_LOG_H
#define CSTREAM_STORE_LOG_H

#include "../state/state.h"
#include "group_commit.h"
#include "wal_format.h"

#pragma clang assume_nonnull begin

#define NS_PER_MS 1000000ull

/// A file of ours that was in the directory when it was opened.
struct found_file {
    struct wal_name name;
    char text[WAL_NAME_SIZE];
};

/// The part that the shards of a node have in common. Filled in by the thread that opens it, before the others read it; from then
/// on nobody changes it but the one that commits, while the others wait.
struct sc_directory {
    struct sc_directory_config config;
    const struct sc_file_ops *ops;
    char *path;
    int fd, lock_fd;
    uint8_t id[16];
    uint64_t old_epoch; // 0: nothing to recover.
    uint32_t old_shard_count;
    uint32_t old_version; // Of the format of its files.
    uint64_t epoch;       // Of this run.
    struct found_file *_Nullable files;
    size_t file_count, file_capacity;
    bool list_failed;
};

void sc_directory_report(const struct sc_directory *directory, enum sc_report_level level,
                         const char *event, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/// Writes a sentence about a failed operation to `reason`, which has room for SC_REASON_SIZE bytes. Returns `rc`.
int sc_directory_explain(const struct sc_directory *directory, int rc, const char *what,
                         const char *name, char *reason);
/// Opens a regular file of the directory, which never waits, and says its size. The descriptor is the caller's to close.
/// Errors: -ENOENT   there is none; `reason` has no sentence then, as that is seldom a fault.
///         -EBADMSG  it is a pipe or the like: to open one might wait for ever.
SC_CHECKED int sc_directory_open_file(struct sc_loop *loop, const struct sc_directory *directory,
                                      uint8_t site, const char *name, int flags, int64_t *size,
                                      char *reason);

// ---- Operations that are waited for (blocking.c)
//
// Each starts one operation and runs the loop until it has completed. Only a start does so, when nobody is served yet.
// Arguments are borrowed until they return; a descriptor that is returned is the caller's to close.

/// Fewer bytes than asked for only at the end of the file. Or -errno.
ssize_t sc_blocking_read(struct sc_loop *loop, const struct sc_file_ops *ops, int fd, void *data,
                         size_t size, uint64_t offset);
SC_CHECKED int sc_blocking_write_flush(struct sc_loop *loop, const struct sc_file_ops *ops,
                                       uint8_t site, int fd, const void *data, size_t size,
                                       uint64_t offset);
SC_CHECKED int sc_blocking_open(struct sc_loop *loop, const struct sc_file_ops *ops, uint8_t site,
                                int directory, const char *path, int flags, uint32_t mode);
SC_CHECKED int sc_blocking_flush(struct sc_loop *loop, const struct sc_file_ops *ops, uint8_t site,
                                 int fd);
SC_CHECKED int sc_blocking_rename(struct sc_loop *loop, const struct sc_file_ops *ops, uint8_t site,
                                  int directory, const char *from, const char *to);
SC_CHECKED int sc_blocking_mkdir(struct sc_loop *loop, const struct sc_file_ops *ops, uint8_t site,
                                 int directory, const char *path, uint32_t mode);
void sc_blocking_unlink(struct sc_loop *loop, const struct sc_file_ops *ops, int directory,
                        const char *path);
void sc_blocking_close(struct sc_loop *loop, const struct sc_file_ops *ops, int fd);

// ---- Reading a file (reader.c)

/// Goes through the batches of one file. Borrows `fd`.
struct reader {
    struct sc_loop *loop;
    const struct sc_file_ops *ops;
    int fd;
    uint64_t file_size;
    uint32_t seed;
    uint64_t epoch;
    uint64_t offset;         // Of the next batch.
    struct sc_buffer window; // A part of the file, at least one batch,
    uint64_t window_offset;  // that begins here.
};

void sc_reader_init(struct reader *reader, struct sc_loop *loop, const struct sc_file_ops *ops,
                    int fd, uint64_t file_size, uint32_t seed, uint64_t epoch);
void sc_reader_deinit(struct reader *reader);
/// 1: a valid batch lies at reader->offset, and `*batch` is it until the next call. 0: none does. Or -errno.
SC_CHECKED int sc_reader_batch(struct reader *reader, struct wal_batch_header *header,
                               struct sc_bytes *batch);
/// Goes on behind the batch that lies at reader->offset.
void sc_reader_skip(struct reader *reader, const struct wal_batch_header *header);
/// Looks for a valid batch at or behind reader->offset whose number is at least `number`. 1, 0 or -errno;
/// reader->offset is then that batch's.
SC_CHECKED int sc_reader_search(struct reader *reader, uint64_t number,
                                struct wal_batch_header *header);

// ---- The log

/// One change that can be taken back. Retains the old value, so that it costs no copy.
struct rollback_entry {
    uint64_t position;
    struct sc_blob *_Nullable old; // NULL: there was no item.
    uint64_t created_at;           // Of the item that was.
    uint32_t name_offset;          // In rollback->names.
    uint16_t stream_size, group_size, item_size;
};
/// All changes that are not durable, with the bytes of their names side by side.
struct rollback {
    struct rollback_entry *_Nullable entries; // In the order of positions, from `first`.
    size_t first, count, capacity;
    uint64_t
        value_bytes; // Of the old values: they stay in memory for the rollback alone. See SC_LOG_ROLLBACK_MAX.
    struct sc_buffer names;
};

/// A file of the log. Owns its descriptor.
struct segment {
    int fd; // -1: none.
    uint64_t number;
    uint64_t size;
    uint64_t offset; // Where the next batch goes.
    uint32_t seed;
    bool direct; // Written by whole pages, past the kernel's cache.
};

/// The steps that prepare a segment, in their order. The operation of a step is under way while `busy`; its end begins the
/// next one, so that a shard that does nothing else still gets its file.
enum prepare_step {
    PREPARE_IDLE,       // Nothing is wanted.
    PREPARE_CLOSE_LAST, // The segment that was current before.
    PREPARE_OPEN,
    PREPARE_ALLOCATE,
    PREPARE_FILL,
    PREPARE_HEADER,
    PREPARE_DIRECTORY, // Its name is made durable.
    PREPARE_FORGET,    // The kernel lets go of the zeros, for writes past its cache.
    PREPARE_READY,     // Until a batch needs it.
    PREPARE_CLOSE,     // One that failed, or is too small.
    PREPARE_REMOVE,
    PREPARE_PAUSE, // After a failure, until `retry_ns`.
};
/// Memory that the kernel may use until `op` has completed: the log is not freed before.
struct preparation {
    struct sc_file_op op;
    enum prepare_step step;
    struct segment segment;
    uint64_t filled;
    uint64_t retry_ns;
    int last_fd; // To be closed, or -1.
    bool busy;
    struct wal_file_header header;
    int error;          // Of the last attempt; 0 while it goes well.
    bool tries_at_once; // With a smaller one.
    bool for_batch;     // It is larger than usual, for the batch that waits.
    char name[WAL_NAME_SIZE];
};

/// The steps of a snapshot, in their order. A failure at any of them leads to SNAPSHOT_ABANDON: an unfinished file has a
/// name that no start reads.
enum snapshot_step {
    SNAPSHOT_IDLE,
    SNAPSHOT_OPEN,
    SNAPSHOT_WRITE, // Collecting items; `busy` while a piece is being written.
    SNAPSHOT_LOG,   // Waits until the log has all that the snapshot may contain.
    SNAPSHOT_HEADER,
    SNAPSHOT_CLOSE,
    SNAPSHOT_RENAME,    // From here on a start would read it,
    SNAPSHOT_DIRECTORY, // and from here on in any case.
    SNAPSHOT_TRIM,      // Removes what it replaces, file by file.
    SNAPSHOT_ABANDON,   // Closes and removes an unfinished one.
    SNAPSHOT_REMOVE,
    SNAPSHOT_PAUSE,
};
/// The snapshot that is being taken. Its cursor is the store's (CURSOR_SNAPSHOT).
struct snapshot {
    struct sc_file_op op;
    enum snapshot_step step;
    bool busy, abandon;
    int fd;
    uint64_t number, offset, batch;
    uint64_t first_segment, first_batch; // Where the log goes on from it.
    uint64_t begin_position;             // Items created later are the log's.
    uint64_t end_batch;      // All before it must be durable before the snapshot counts.
    uint64_t replaced_bytes; // Of the log, once it counts,
    uint64_t replaced_work;  // and of its replay.
    uint64_t items;
    int error; // Of the last attempt.
    uint32_t seed;
    struct sc_blob *_Nullable pinned; // A value that takes more than one piece.
    size_t pinned_at;
    struct wal_record pinned_record; // Its names are in `pinned_names`.
    uint8_t pinned_names[3 * SC_NAME_SIZE_MAX];
    struct sc_buffer bytes; // A batch.
    size_t written;         // Of `bytes`.
    struct wal_file_header header;
    uint64_t retry_ns;
    uint64_t trim_segment, trim_snapshot; // The lowest numbers that are still there.
    uint64_t finished_size;
    char name[WAL_NAME_SIZE], final_name[WAL_NAME_SIZE];
};

/// For a segment that is direct. The memory is the kernel's while a batch is under way.
struct pages {
    uint8_t
        *_Nullable bytes; // The part of the page that is written already, then a piece of the batch.
    size_t kept;          // Of that which is written already.
    size_t piece_size;
};

/// The log of one shard. Thread: all of it of its loop; no field is read by another one.
///
/// A batch goes through three states. It is *open* while changes are appended to it. It is *in flight* from when it is
/// given to the disk until it is durable (in the modes without a flush for each: until the kernel has it). Then what waited
/// for it is released, and its changes need no way back. One is open and at most one in flight.
struct sc_log {
    struct journal journal; // Its face to the store.
    struct sc_loop *loop;
    const struct sc_file_ops *ops;
    struct sc_directory *directory;
    struct sc_store *store;
    struct sc_log_events events;
    uint32_t shard;
    enum sc_durability durability;
    uint64_t now_ns;
    bool opening; // Until the directory is committed to this epoch, no change comes.

    // Batches
    struct sc_file_op op;
    bool busy;             // `op` is under way.
    bool flushing;         // `op` is a flush of `current`, not a batch.
    struct sc_buffer open; // The batch being collected: room for its header, then records.
    uint32_t open_count;
    uint64_t open_position;     // Of its last record.
    struct sc_buffer in_flight; // The batch under way, then zeros up to the end of its page.
    size_t in_flight_size;      // Of the batch alone; 0: none.
    size_t in_flight_written;
    uint32_t in_flight_count;
    struct pages pages;
    uint64_t in_flight_position, in_flight_ceiling;
    uint64_t next_batch;   // Number of the open one.
    uint64_t flushed;      // All batches before it are durable.
    uint64_t flush_target; // `flushed` once the flush under way has succeeded.
    uint64_t durable;      // Position.
    uint64_t durable_ceiling;
    uint64_t
        unflushed_since_ns; // When the first batch that no flush has begun after was written. 0: none.
    struct sc_group_commit commit;
    bool finishing; // The ceiling falls to what was given out; everything is flushed.
    int failed;     // -errno of what poisoned the log.
    struct rollback rollback;

    struct segment current;
    struct preparation next;
    uint64_t wanted; // The next segment must have room for so much.
    uint64_t
        segment_size; // Of the next one: it grows with the load, and shrinks with the space there is.
    uint64_t too_large; // Records from this size on found no space lately. 0: none did.
    uint64_t too_large_until_ns;
    uint64_t no_growth_until_ns; // A larger segment had no room on the disk lately.
    uint64_t look_ns; // From then on, before a batch is written: does it still have a name?
    uint64_t bytes_since_snapshot;
    uint64_t replay_work; // Of the updates since the snapshot, as sc_operations counts it.
    struct snapshot snapshot;
    struct sc_log_counters counters;
};

// ---- journal.c
extern const struct journal_calls sc_log_journal;
/// Whether a change with so many bytes may happen, and room for its record and for taking it back.
/// Errors: as sc_log_health, -ENOMEM, -ENOSPC for one that is too large for the disk, -ENOBUFS.
SC_CHECKED int sc_log_reserve(struct sc_log *log, size_t names, size_t value);
/// Copies the record, names and value, to the open batch. Only behind sc_log_reserve: it cannot fail.
void sc_log_append(struct sc_log *log, const struct wal_record *record);

// ---- batch.c
/// Takes back what is not durable, and says so: on_failed with both. The open batch is thrown away; a snapshot under way
/// too, as it may have what was taken back.
void sc_log_roll_back(struct sc_log *log, int error, bool unknown);

// ---- pages.c
/// Only under SC_DURABILITY_COMMIT. False: out of memory.
SC_CHECKED bool sc_pages_init(struct sc_log *log);
/// The current segment is a new one that is direct: its first page begins with its header.
void sc_pages_begin(struct sc_log *log, const struct wal_file_header *header);
/// Writes the next piece of the batch under way, and zeros behind it to the end of its page.
void sc_pages_write(struct sc_log *log);
/// `size` bytes of that have been written, of the file: how many of the batch are durable by that.
size_t sc_pages_written(struct sc_log *log, size_t size);

// ---- rollback.c
/// Makes room for one entry more, with names of so many bytes: sc_rollback_push cannot fail, as the change is made by then.
/// Errors: -ENOMEM, -ENOBUFS  nothing changed.
SC_CHECKED int sc_rollback_reserve(struct rollback *list, size_t names);
/// Copies the names, retains `old` until the change is durable or taken back. Positions grow from call to call.
void sc_rollback_push(struct rollback *list, const struct sc_group_name *name, struct sc_bytes item,
                      uint64_t position, struct sc_blob *_Nullable old, uint64_t created_at);
/// Forgets what is durable now, up to and with `position`, and releases its old values.
void sc_rollback_forget(struct rollback *list, uint64_t position);
/// Takes all back, newest first: the store has what it had, in its order. Time stamps stay where they are, as some may have
/// been seen.
void sc_rollback_apply(struct rollback *list, struct sc_store *store);
void sc_rollback_deinit(struct rollback *list);

// ---- segment.c
/// Begins to prepare the next segment, if one is wanted. Its steps go on by themselves as each completes.
void sc_segment_turn(struct sc_log *log);
/// Makes the prepared segment the current one, which closes the one before in time. False: none is ready that has room for
/// `size` bytes; one is asked for.
bool sc_segment_rotate(struct sc_log *log, uint64_t size);
bool sc_segment_is_busy(const struct sc_log *log);
/// Why a batch of `size` bytes has no file to go to, or 0: it has one, or another that is large enough is tried at once.
int sc_segment_error(const struct sc_log *log, size_t size);

// ---- snapshot.c
/// Goes on with the snapshot under way by at most a piece, or begins one that is due.
void sc_snapshot_turn(struct sc_log *log);
void sc_snapshot_begin(struct sc_log *log);
/// With more work of replay in the log a snapshot is due.
uint64_t sc_snapshot_work_max(const struct sc_log *log);
/// Ends the one under way and removes what there is of it; the next turns do. Another one is begun later.
void sc_snapshot_abandon(struct sc_log *log);
/// An operation is under way, or a file is open.
bool sc_snapshot_is_busy(const struct sc_log *log);

// ---- recover.c
/// Each shard of a node reads all files of the last run, as groups may have been spread in another way, and keeps its own.
struct recover_config {
    struct sc_loop *loop;
    struct sc_directory *directory;
    bool
        reports; // Says what was cut, repaired and how far it is. One of several that read the same.
    const struct sc_inspection *_Nullable inspection;
    struct sc_store *store;
    bool (*owns)(void *_Nullable context, uint64_t group_hash);
    int (*_Nullable apply)(void *_Nullable context, struct sc_bytes value,
                           struct sc_bytes operations, struct sc_bytes *result);
    void *_Nullable context;
};
struct recovered {
    uint64_t ceiling, position, items;
};
/// Puts what the directory has into the store, and tells an inspection of it. Waits.
/// Errors: -EBADMSG  damage, or nonsense behind a good checksum: `reason` has the sentence.
///         -ENOMEM and what the file operations say.
SC_CHECKED int sc_recover(const struct recover_config *config, struct recovered *out, char *reason);

#pragma clang assume_nonnull end

#endif
