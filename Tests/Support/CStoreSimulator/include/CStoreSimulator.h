// A store on a disk that is made of memory: every operation completes when the simulator says so, fails when
// it is told to, and a power cut keeps any subset of what was not flushed, with sectors torn. The state that comes back
// after it is compared with what had been released. Everything follows from the seed.
#ifndef C_STORE_SIMULATOR_H
#define C_STORE_SIMULATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// SIMULATOR_DEATH: the process ends, with the operation and all others under way done, or not, or in part.
enum simulator_fault {
    SIMULATOR_NO_FAULT,
    SIMULATOR_EIO,
    SIMULATOR_ENOSPC,
    SIMULATOR_SHORT,
    SIMULATOR_DEATH
};

struct simulator_config {
    uint64_t seed;
    uint32_t rounds;     // Starts of the store.
    uint32_t steps;      // Of each round, at most.
    uint32_t durability; // enum sc_durability
    bool power_cuts;     // A round ends in a cut; otherwise in the end of the process alone.
    bool clean_ends;     // Some rounds end in order.
    uint64_t segment_size;
    uint32_t value_size_max;
    bool updates; // Half of the changes of an item are, as far as they are small beside its value.
    uint64_t replay_work_max; // 0: as usual.
    uint32_t groups;          // Changes are made in so many. 0: in all.
    int ignored_flush;        // Flushes of this site (enum sc_file_site) do nothing. -1: none.
    int fault_site;           // -1: none.
    enum simulator_fault fault;
    uint32_t fault_after; // Operations of that site that go well first, in each round.
    uint32_t fault_count; // Operations that fail then; 0: all.
    uint64_t disk_size;   // 0: no limit.
    bool no_direct;       // Its files cannot be written past the cache.
    uint32_t page_size;   // By which they are written. 0: a sector.
};

struct simulator_result {
    uint64_t changes, released, refused, failures, snapshots, batches, segments, cuts, rotations,
        updates;   // Logged as their operations.
    uint64_t torn; // Sectors that a cut has left half written.
    uint64_t
        pages_split; // Writes past the cache that an end has met, of which some sectors had come to the disk.
    uint64_t pages_again;      // Writes past the cache that began with what was durable already.
    uint64_t metadata_flushes; // Batches whose flush had to write more than their own bytes.
    uint64_t written_bytes;
    uint64_t operations[64]; // By site.
};

/// 0, or 1 with what went wrong in `message`.
int simulator_run(const struct simulator_config *config, struct simulator_result *result,
                  char *message, size_t message_size);

enum simulator_harm { SIMULATOR_CUT, SIMULATOR_FLIP };
/// Makes a small directory of `changes` changes, then for each byte of each of its files (of the last `tail`
/// bytes in use, 0: all) cuts the file there or flips its bits, and starts on it. The result must be a
/// prefix of the changes, or a refusal. `*refused` and `*prefixes` count them.
int simulator_harm_every_byte(enum simulator_harm harm, uint32_t changes, bool with_snapshot,
                              bool with_updates, uint64_t seed, uint64_t *refused,
                              uint64_t *prefixes, char *message, size_t message_size);

/// Fills a store with small items and a few of `large_size` bytes, has a snapshot taken while changes go on, and says
/// how much processor time the worst turn of the log took, and how many turns there were. `*live` are the
/// bytes of all items, `*disk_most` the most that the disk held.
int simulator_measure_snapshot(uint32_t items, uint32_t large_size, uint64_t *worst_ns,
                               uint64_t *turns, uint64_t *live, uint64_t *disk_most, char *message,
                               size_t message_size);

/// Fills a store, lets most items go while it compacts its memory and snapshots are taken, and holds what is left, and what a
/// start finds, against what it must be. `*used` and `*idle` are bytes of its heap in the end, `*snapshots`
/// those taken meanwhile.
int simulator_compact(uint32_t items, uint64_t seed, uint64_t *used, uint64_t *idle,
                      uint64_t *snapshots, char *message, size_t message_size);

/// Fills one group with `items` values of `size` bytes, changes one of them, and says what that alone wrote: records and
/// bytes of batches, and bytes given to the disk.
int simulator_measure_change(uint32_t items, uint32_t size, uint64_t *records, uint64_t *log_bytes,
                             uint64_t *disk_bytes, char *message, size_t message_size);

struct simulator_updates {
    uint32_t size, count;
    uint64_t replay_work_max; // An update counts as `size`.
    bool without_snapshots;   // None can be taken after the start.
};
struct simulator_updated {
    uint64_t updates;              // Logged as their operations,
    uint64_t log_bytes, snapshots; // and what the `count` of them led to.
    uint64_t waiting; // Further ones that were made until the log was full, while none was written.
    bool kept;        // By another start.
};
/// Sets one item of `size` bytes and updates it `count` times, each written before the next.
int simulator_measure_updates(const struct simulator_updates *config,
                              struct simulator_updated *updated, char *message,
                              size_t message_size);

struct simulator_callers {
    uint32_t callers; // At most 256.
    uint64_t disk_ns; // The time of a batch.
    uint64_t
        think_ns; // In a closed loop: the last one of those answered asks again after it, the others evenly before.
    uint64_t straggler_ns; // Not 0: what the first one takes instead.
    uint64_t period_ns;    // Not 0: each one asks so often instead, answered or not.
    uint64_t run_ns;       // Of the measured part, and of one before it.
};
struct simulator_calls {
    double changes_a_batch;
    double wait_us; // The mean time that a change takes.
    uint64_t held;  // Batches that waited for callers.
};
int simulator_measure_callers(const struct simulator_callers *config, struct simulator_calls *calls,
                              char *message, size_t message_size);

/// Of two callers that always come back one has: whether the batch waits for the other, and whether it still does when so
/// much is in it that no call is started any more.
int simulator_fill_waiting_batch(bool *waits, bool *waits_full, char *message, size_t message_size);

const char *simulator_site_name(int site);
int simulator_site_count(void);

#pragma clang assume_nonnull end

#endif
