// The state of one shard: streams > groups > items in insertion order, immutable values, time stamps.
// In memory; durable.h puts a log under it. Not: sockets, JSON.
//
// Thread: a store belongs to one thread; values (blobs) may be released by any.
#ifndef CSTREAM_STORE_H
#define CSTREAM_STORE_H

#include "CStreamBase.h"
#include "crc32c.h"
#include "durable.h"
#include "group_commit.h"

#pragma clang assume_nonnull begin

struct sc_store;
struct sc_group;

/// Where something is. `hash` is sc_store_hash of stream and group.
struct sc_group_name {
    struct sc_bytes stream;
    struct sc_bytes group;
    uint64_t hash;
};

/// The hash that places a group on a shard and in its table. Lengths enter it: no two names collide by
/// where one ends and the other begins.
uint64_t sc_store_hash(struct sc_bytes stream, struct sc_bytes group, uint64_t seed);

struct sc_store *_Nullable sc_store_create(uint64_t seed);
void sc_store_destroy(struct sc_store *_Nullable store);

enum sc_change_kind { SC_CHANGE_NONE, SC_CHANGE_CREATE, SC_CHANGE_UPDATE, SC_CHANGE_DELETE };

/// Makes a value of `size` bytes for sc_store_set: undefined contents, one reference. NULL when memory is out.
/// Any blob will do as a value, but these lie densely.
struct sc_blob *_Nullable sc_store_value_create(struct sc_store *store, size_t size);
/// Does a little of what keeps the store's memory dense: moves values and items out of places that are mostly
/// empty, and gives memory back to the kernel. Call it again and again. Borrowed values end.
/// True: there is more to do at once.
bool sc_store_compact(struct sc_store *store);

/// The effect of a write. Positions of one store grow by one with each change.
struct sc_change {
    enum sc_change_kind kind;
    uint64_t position;
    uint64_t timestamp_ms;               // Of the change's frame.
    struct sc_blob *_Nullable old_value; // The caller's to release.
};

/// Stores `value` (takes the reference, also on error) as item `id` of the group.
/// `now_ms` is the wall clock; the change's stamp is greater than every earlier one of the item.
/// Errors: -ENOMEM, and with a log what sc_log_health says: nothing changed.
SC_CHECKED int sc_store_set(struct sc_store *store, const struct sc_group_name *name,
                            struct sc_bytes id, struct sc_blob *value, uint64_t now_ms,
                            struct sc_change *change);
/// The operations that made a new value of an item from its present one.
struct sc_operations {
    struct sc_bytes text; // As sc_log_events.apply takes them.
    uint64_t
        work; // To apply them once more: bytes to be read, as fast as an update of one member reads them.
};
/// As sc_store_set, of a `value` that `operations` made of the present one: the log may keep them instead of it.
SC_CHECKED int sc_store_update(struct sc_store *store, const struct sc_group_name *name,
                               struct sc_bytes id, struct sc_blob *value,
                               const struct sc_operations *operations, uint64_t now_ms,
                               struct sc_change *change);
/// Puts an item into a store whose log is not started yet, without a stamp. -ENOMEM
SC_CHECKED int sc_store_import(struct sc_store *store, const struct sc_group_name *name,
                               struct sc_bytes id, struct sc_bytes value);
/// Removes item `id`; a group without items is gone. SC_CHANGE_NONE when there was none.
/// Errors: with a log as sc_store_set.
SC_CHECKED int sc_store_delete(struct sc_store *store, const struct sc_group_name *name,
                               struct sc_bytes id, uint64_t now_ms, struct sc_change *change);
/// The value of item `id`, borrowed until the next write, or NULL.
struct sc_blob *_Nullable sc_store_get(struct sc_store *store, const struct sc_group_name *name,
                                       struct sc_bytes id);
/// The position of the last change.
uint64_t sc_store_position(const struct sc_store *store);

// ---- Time stamps of frames that change nothing

/// The stamp of a custom event, with or without an item.
uint64_t sc_store_stamp_event(struct sc_store *store, const struct sc_group_name *name,
                              const struct sc_bytes *_Nullable id, uint64_t now_ms);
/// The stamp of a `sync` of one item, shared by all that are asked for before its next change.
uint64_t sc_store_stamp_item_sync(struct sc_store *store, const struct sc_group_name *name,
                                  struct sc_bytes id, uint64_t now_ms);
/// The stamp of a `sync` of the group: not older than anything in it, and older than all that follows.
uint64_t sc_store_stamp_group_sync(struct sc_store *store, const struct sc_group_name *name,
                                   uint64_t now_ms);

// ---- Reading groups

struct sc_group *_Nullable sc_store_group_find(struct sc_store *store,
                                               const struct sc_group_name *name);
/// Items of the group, and bytes of their values.
size_t sc_group_item_count(const struct sc_group *group);
size_t sc_group_value_bytes(const struct sc_group *group);
/// Calls `body` with each value, in insertion order.
void sc_group_for_each(const struct sc_group *group,
                       void (*body)(struct sc_blob *value, void *context), void *context);
/// A blob that someone derived from the group, dropped by the store with the next change or stamp in it.
struct sc_blob *_Nullable sc_group_cache(const struct sc_group *group);
/// Keeps a reference to `blob` as the group's cache.
void sc_group_cache_set(struct sc_group *group, struct sc_blob *blob);

// ---- Reading a large group in steps, while it changes: one at a time a store

/// Begins to read what the group (which has items) has now. Changes that are taken back make it meaningless: it
/// has to be begun again then.
void sc_read_view_begin(struct sc_store *store, struct sc_group *group);
bool sc_read_view_is_active(const struct sc_store *store);
/// Calls `body` with the next values, in insertion order, until it returns false. Returns 1, or 0 after the last.
/// Errors: -ENOMEM  a change meanwhile could not be kept apart.
SC_CHECKED int sc_read_view_step(struct sc_store *store,
                                 bool (*body)(struct sc_blob *value, void *context), void *context);
void sc_read_view_end(struct sc_store *store);

/// Calls `body` with each group of `stream` (of all streams when NULL), in no order.
void sc_store_for_each_group(struct sc_store *store, const struct sc_bytes *_Nullable stream,
                             void (*body)(struct sc_bytes stream, struct sc_bytes group,
                                          void *context),
                             void *context);

/// Begins to go through the groups of `stream` (of all streams when NULL) in steps; one such walk of a store at a time
/// (asserted). Groups that come or go meanwhile may be seen or not.
void sc_group_walk_begin(struct sc_store *store, const struct sc_bytes *_Nullable stream);
/// Calls `body` with at most `most` further groups, in no order. True: that was the last one, and the walk has ended.
SC_CHECKED bool sc_group_walk_step(struct sc_store *store, uint32_t most,
                                   void (*body)(struct sc_bytes stream, struct sc_bytes group,
                                                void *context),
                                   void *context);
/// Ends it early; nothing when none is under way.
void sc_group_walk_end(struct sc_store *store);

struct sc_store_counters {
    uint64_t streams, groups, items;
    uint64_t value_bytes; // Of the stored values.
    struct sc_heap_counters heap;
};
struct sc_store_counters sc_store_counters(const struct sc_store *store);

#pragma clang assume_nonnull end

#endif
