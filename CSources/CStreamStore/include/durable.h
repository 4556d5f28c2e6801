// The files under a store: one directory a node, one log and one snapshot at a time a shard.
//
// A change is applied to the store at once and appended to the open batch. sc_log_turn writes the batch
// when none is under way, and what has come meanwhile is the next one. `on_durable` tells how far the disk
// has it. The caller holds back, by position, all that nobody may see before that.
#ifndef CSTREAM_STORE_DURABLE_H
#define CSTREAM_STORE_DURABLE_H

#pragma clang assume_nonnull begin

struct sc_store;
struct sc_directory;
struct sc_log;

enum sc_durability {
    SC_DURABILITY_COMMIT,   // A change is released when it is on disk.
    SC_DURABILITY_INTERVAL, // A change is released at once; flushed every interval.
    SC_DURABILITY_NONE,     // Released at once, written at once, flushed when the store is closed.
};

/// The purpose of an operation on a file: `site` of struct sc_file_op.
enum sc_file_site {
    SC_SITE_DIRECTORY_MAKE,
    SC_SITE_DIRECTORY_PARENT_FLUSH,
    SC_SITE_DIRECTORY_OPEN,
    SC_SITE_LOCK_OPEN,
    SC_SITE_RECOVER_OPEN,
    SC_SITE_RECOVER_READ,
    SC_SITE_RECOVER_COPY,
    SC_SITE_CLOSE,
    SC_SITE_REMOVE,
    SC_SITE_MANIFEST_OPEN,
    SC_SITE_MANIFEST_READ,
    SC_SITE_MANIFEST_WRITE,
    SC_SITE_MANIFEST_RENAME,
    SC_SITE_MANIFEST_DIRECTORY_FLUSH,
    SC_SITE_SEGMENT_OPEN,
    SC_SITE_SEGMENT_ALLOCATE,
    SC_SITE_SEGMENT_FILL,
    SC_SITE_SEGMENT_HEADER,
    SC_SITE_SEGMENT_DIRECTORY_FLUSH,
    SC_SITE_SEGMENT_FORGET,
    SC_SITE_BATCH,
    SC_SITE_INTERVAL_FLUSH,
    SC_SITE_SNAPSHOT_OPEN,
    SC_SITE_SNAPSHOT_WRITE,
    SC_SITE_SNAPSHOT_HEADER,
    SC_SITE_SNAPSHOT_RENAME,
    SC_SITE_SNAPSHOT_DIRECTORY_FLUSH,
    SC_SITE_COUNT,
};

enum sc_report_level { SC_REPORT_INFO, SC_REPORT_WARN, SC_REPORT_ERROR };
struct sc_reporter {
    void *_Nullable context;
    /// Something an operator should know. Thread: whichever calls.
    void (*report)(void *_Nullable context, enum sc_report_level level, const char *event,
                   const char *text);
};

struct sc_directory_config {
    const char *path; // Made if it is not there, with its parents.
    enum sc_durability durability;
    uint32_t flush_interval_ms; // SC_DURABILITY_INTERVAL
    uint32_t shard_count;
    uint64_t segment_size; // Of the log's files at most, each prepared ahead. 0: SC_SEGMENT_SIZE.
    // For disks that are simulated: how the log is written. 0: SC_LOG_PAGE_SIZE, of which it is a divisor,
    uint32_t page_size;
    uint32_t piece_size; // and SC_LOG_PIECE_SIZE; a multiple of SC_LOG_PAGE_SIZE.
    // And how updates are: 0: SC_LOG_UPDATE_SIZE_LEAST and SC_LOG_REPLAY_WORK_MAX.
    uint32_t update_size_least;
    uint64_t replay_work_max;
    uint64_t random[2]; // Becomes the identity of a new directory.
    bool repair;        // Goes on over damage, and keeps a copy of the damaged file.
    const struct sc_file_ops *ops;
    struct sc_reporter reporter;
};

// ---- The directory. `reason` gets a sentence for the operator whenever a call fails.

#define SC_REASON_SIZE 512

/// Makes the directory if it has to, takes its lock, and finds out what is in it.
/// Errors: -EWOULDBLOCK  another process has it.
///         -EBADMSG      its manifest is damaged, missing beside data, or of an unknown version.
///         and what the file operations say.
SC_CHECKED int sc_directory_open(struct sc_loop *loop, const struct sc_directory_config *config,
                                 struct sc_directory *_Nullable *_Nonnull out, char *reason);
/// No node has finished a start here.
bool sc_directory_is_new(const struct sc_directory *directory);
int sc_directory_fd(const struct sc_directory *directory);
/// Makes what all shards have recovered the state of the directory, and removes what was before. The logs
/// take changes from here on.
SC_CHECKED int sc_directory_commit(struct sc_loop *loop, struct sc_directory *directory,
                                   char *reason);
/// After all of its logs.
void sc_directory_close(struct sc_loop *loop, struct sc_directory *_Nullable directory);

// ---- A log. Thread: of its loop. Opened, started; and changed once all are and the directory is committed.

struct sc_log_events {
    void *_Nullable context;
    /// More may be seen than before: see sc_log_released.
    void (*on_durable)(void *_Nullable context);
    /// All that was not durable has been taken back; the store is as the disk is. `error` is -errno.
    /// `unknown`: it may be on disk all the same, and come back with the next start.
    void (*on_failed)(void *_Nullable context, int error, bool unknown);
    /// Not NULL: makes the value that `operations` make of `value`, and of no other, to the last bit as sc_store_update
    /// was told. Then updates may be written as their operations. `*result` is borrowed until the next call.
    /// Errors: -EBADMSG  they cannot be applied.
    ///         -ENOMEM
    int (*_Nullable apply)(void *_Nullable context, struct sc_bytes value,
                           struct sc_bytes operations, struct sc_bytes *result);
};

/// Reads what the directory has of the groups that `owns` says are this shard's into the empty `store`.
/// `owns` gets the context of `events`. Waits; may run beside the others' of the directory.
/// Errors: -EBADMSG  damage: `reason` names file and offset, and what a repair would drop.
SC_CHECKED int sc_log_open(struct sc_loop *loop, struct sc_directory *directory, uint32_t shard,
                           struct sc_store *store,
                           bool (*owns)(void *_Nullable context, uint64_t group_hash),
                           const struct sc_log_events *events,
                           struct sc_log *_Nullable *_Nonnull out, char *reason);
/// Writes what the store has now to a new snapshot, and prepares a log. Before it the store may be filled from
/// elsewhere (sc_store_import). Waits.
SC_CHECKED int sc_log_start(struct sc_log *log, char *reason);
/// Instead of a start that has failed with `error`, and of the directory's commit: what was read is served, and no change is
/// taken. The directory stays as it was.
void sc_log_refuse(struct sc_log *log, int error);
/// Starts what there is to start: a batch, a new segment, a piece of a snapshot. Called at the end of each
/// turn; needs one within `flush_interval_ms` while there is anything unflushed.
void sc_log_turn(struct sc_log *log, uint64_t now_ns);
/// 0, or until when the next batch waits for callers that are likely to come back: a turn is needed then.
uint64_t sc_log_delays_until(const struct sc_log *log);
/// `caller` (SC_DURABILITY_COMMIT only) gets an answer that waits for the disk,
void sc_log_asked(struct sc_log *_Nullable log, uint64_t caller, uint64_t now_ns);
/// and has it.
void sc_log_answered(struct sc_log *_Nullable log, uint64_t caller, uint64_t now_ns);
/// When the next flush between batches is due, in the time of sc_log_turn; 0: none is.
uint64_t sc_log_flush_due_ns(const struct sc_log *log);
/// The position up to which all may be seen.
uint64_t sc_log_released(const struct sc_log *log);
/// So much waits for the disk that no more should be started.
bool sc_log_is_full(const struct sc_log *log);
/// 0, or why changes are refused: -ENOSPC and the like while no segment can be prepared (tried again),
/// anything after a failed write or flush (for good).
int sc_log_health(const struct sc_log *log);
/// For good: only a restart helps.
bool sc_log_is_poisoned(const struct sc_log *log);
/// Nothing waits for the disk. The loop of a node that stops runs until then.
bool sc_log_is_idle(const struct sc_log *log);
/// Writes and flushes what there is, and says that time stamps need no reserve. Then sc_log_is_idle holds.
void sc_log_finish(struct sc_log *log);
/// Waits for what is under way and closes the files.
void sc_log_close(struct sc_log *_Nullable log);

struct sc_log_counters {
    uint64_t batches, records, bytes; // Written.
    uint64_t updates;                 // Records that have operations instead of a value.
    uint64_t batches_delayed;         // That waited for callers who come back.
    uint64_t delay_switches;          // Between waiting for them, and not.
    uint64_t snapshots, snapshots_failed, segments;
    uint64_t changes_refused, failures; // Failed writes and flushes; preparations that failed.
    uint64_t log_bytes, snapshot_bytes; // On disk now, of this shard.
};
struct sc_log_counters sc_log_counters(const struct sc_log *log);

// ---- Looking into a directory that no node uses

struct sc_inspection {
    void *_Nullable context;
    /// A batch, then its records. `file` and all bytes are borrowed.
    void (*_Nullable batch)(void *_Nullable context, const char *file, uint64_t offset,
                            uint64_t number, uint64_t ceiling_ms, uint32_t count);
    void (*_Nullable record)(void *_Nullable context, const char *kind, struct sc_bytes stream,
                             struct sc_bytes group, struct sc_bytes item, struct sc_bytes value,
                             uint64_t position, uint64_t created_at, uint64_t stamp_ms);
    /// As that of sc_log_events. The value of an "update" is its operations.
    int (*_Nullable apply)(void *_Nullable context, struct sc_bytes value,
                           struct sc_bytes operations, struct sc_bytes *result);
};
/// Reads all that a start would read, into as much memory. 0, or -EBADMSG and the other errors of sc_directory_open and
/// sc_log_open, with `reason`.
SC_CHECKED int sc_directory_inspect(struct sc_loop *loop, const struct sc_directory_config *config,
                                    const struct sc_inspection *inspection, char *reason);

#pragma clang assume_nonnull end

#endif
