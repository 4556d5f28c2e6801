#ifndef CSTREAM_STORE_PRIVATE_H
#define CSTREAM_STORE_PRIVATE_H

#include "CStreamStore.h"

#pragma clang assume_nonnull begin

struct item {
    struct sc_table_node node; // In group->items, by id.
    struct item *_Nullable next;
    struct item *_Nullable previous;
    struct sc_blob *value;
    uint64_t stamp : 62; // Of its last frame, ms.
    uint64_t stamp_is_sync : 1;
    uint16_t id_size;
    uint8_t id[];
};

struct stream {
    struct sc_table_node node; // In store->streams, by name.
    struct sc_group *_Nullable groups;
    uint16_t name_size;
    uint8_t name[];
};

struct sc_group {
    struct sc_table_node node; // In store->groups, by stream and name.
    struct stream *stream;
    struct sc_group *_Nullable next; // Of its stream.
    struct sc_group *_Nullable previous;
    struct sc_table items;
    struct item *_Nullable first;
    struct item *_Nullable last;
    size_t value_bytes;
    struct sc_blob *_Nullable cache;
    uint64_t floor;  // The highest stamp of anything forgotten here, or sent in a sync.
    uint64_t newest; // The highest stamp of all.
    bool
        floor_is_sync; // The floor is the stamp of a sync, of the group or of an item that is not here.
    bool is_synced; // It is that of the group, and nothing has been stamped since.
    uint16_t name_size;
    uint8_t name[];
};

struct sc_store {
    uint64_t seed;
    uint64_t position;
    uint64_t floor; // Above it are all stamps of groups that do not exist (any more).
    bool floor_is_sync;
    struct sc_table streams;
    struct sc_table groups;
    uint64_t item_count, value_bytes;
};

struct sc_group *_Nullable group_create(struct sc_store *store, const struct sc_group_name *name);
void group_destroy(struct sc_store *store, struct sc_group *group);
struct item *_Nullable item_find(struct sc_store *store, struct sc_group *group,
                                 struct sc_bytes id);
void group_cache_drop(struct sc_group *group);

#pragma clang assume_nonnull end

#endif
