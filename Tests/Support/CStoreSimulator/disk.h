// The disk: files and one directory in memory, with what of them is durable.
#ifndef SIMULATOR_DISK_H
#define SIMULATOR_DISK_H

#include "CStreamStore.h"

#include "CStoreSimulator.h"

#pragma clang assume_nonnull begin

#define SECTOR 512u
#define FILES_MAX 512
#define ENTRIES_MAX 256
#define CHANGES_MAX 4096
#define PENDING_MAX 256
#define DESCRIPTORS_MAX 256

struct sim_file {
    bool used;
    uint8_t *_Nullable data; // As the process sees it.
    uint64_t size;
    uint8_t *_Nullable durable;
    uint64_t durable_size;
    uint64_t capacity;       // Of both.
    uint64_t allocated;      // Bytes of disk that it holds.
    bool *_Nullable dirty;   // By sector: `data` is not durable.
    bool *_Nullable written; // By sector: was durable once, so that a flush needs no metadata.
};

struct sim_entry {
    char name[80];
    int file;
};

enum sim_change_kind { SIM_ENTER, SIM_RENAME, SIM_REMOVE };
struct sim_change {
    enum sim_change_kind kind;
    char name[80], other[80];
    int file;
};

struct sim_pending {
    struct sc_file_op *op;
    int fd;
    void *_Nullable data;
    uint32_t size;
    uint64_t offset;
    bool data_only;
    int flags;
    char path[80], other[80];
};

struct sim_disk {
    uint64_t random;
    const struct simulator_config *config;
    struct simulator_result *result;
    struct sim_file files[FILES_MAX];
    struct sim_entry entries[ENTRIES_MAX], durable_entries[ENTRIES_MAX];
    int entry_count, durable_count;
    struct sim_change changes[CHANGES_MAX]; // Of the directory, not flushed.
    int change_count;
    bool directory_made, directory_durable;
    int descriptors[DESCRIPTORS_MAX]; // File, or one of the two below; -1: free.
    bool direct[DESCRIPTORS_MAX];     // Of each: it takes whole sectors only, past the cache.
    struct sim_pending pending[PENDING_MAX];
    int pending_count;
    bool dead; // The process has ended: nothing it asks for happens.
    bool faults_on;
    uint32_t fault_seen;
    bool locked;
    uint64_t
        die_after; // Operations until the process ends, in the middle of whatever it does. 0: never.
};
#define SIM_ROOT (-2)
#define SIM_DIRECTORY (-3)
#define SIM_FREE (-1)

extern const struct sc_file_ops sim_ops;
uint64_t sim_random(struct sim_disk *disk, uint64_t below);
/// The file that a descriptor stands for, or SIM_ROOT or SIM_DIRECTORY.
int sim_target(const struct sim_disk *disk, int fd);
/// Completes one operation, whichever. False: there is none.
bool sim_complete_one(struct sim_disk *disk);
/// The process ends: what is under way happens, or in part, or not.
void sim_end_process(struct sim_disk *disk);
/// From here on chance decides which of the bytes that were not durable are.
void sim_cut_power(struct sim_disk *disk);
/// After the store has been closed by or for the process that ended.
void sim_begin_process(struct sim_disk *disk);
void sim_free(struct sim_disk *disk);
/// Bytes that all files hold, those without a name but open included.
uint64_t sim_disk_use(const struct sim_disk *disk);
/// Puts a durable file of that name there.
void sim_place(struct sim_disk *disk, const char *name, const uint8_t *data, uint64_t size);
struct sim_file *_Nullable sim_find(struct sim_disk *disk, const char *name);

#pragma clang assume_nonnull end

#endif
