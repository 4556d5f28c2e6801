// The state in memory: store.c (items and their time stamps), group.c (streams and groups), cursor.c (places that survive
// changes), read_view.c (a group read in steps), compact.c (dense memory), load.c (what a log puts in). The log is below
// nothing here: the store tells it of changes through `struct journal`, which the log fills in.
//
// Thread: all of it belongs to the thread of the store. Values (blobs) alone may be released by others.
#ifndef CSTREAM_STORE_STATE_H
#define CSTREAM_STORE_STATE_H

#include "CStreamStore.h"

#pragma clang assume_nonnull begin

/// One item. Lies in the store's heap, which may move it when a turn ends (compact.c): nothing but its neighbours, the table
/// of its group and the cursors may point to it from turn to turn.
struct item {
    struct sc_table_node node; // In group->items, by id.
    struct item *_Nullable next;
    struct item *_Nullable previous;
    struct sc_blob *value;
    uint64_t created_at; // Position at which it was created: a group is ordered by it.
    uint64_t stamp : 54; // Of its last frame, ms.
    uint64_t stamp_is_sync : 1;
    uint64_t id_size : 9;
    uint8_t id[];
};
_Static_assert(sizeof(struct item) == 56 && SC_NAME_SIZE_MAX < 1 << 9, "a million of them count");

/// A stream exists while it has groups.
struct stream {
    struct sc_table_node node; // In store->streams, by name.
    struct sc_group *_Nullable groups;
    uint16_t name_size;
    uint8_t name[];
};

/// A group exists while it has items. The highest stamp that it knew then goes to the store's floor, so that a new one of its name
/// does not begin below.
struct sc_group {
    struct sc_table_node node; // In store->groups, by stream and name.
    struct stream *stream;
    struct sc_group *_Nullable next; // Of its stream.
    struct sc_group *_Nullable previous;
    struct sc_group *_Nullable all_next; // Of the store.
    struct sc_group *_Nullable all_previous;
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
    size_t unordered; // So many at the end, at most, have yet to be sorted by created_at.
    uint8_t name[];
};

// ---- The journal

struct journal;
/// The calls that a store with a log makes.
struct journal_calls {
    /// Before a change: 0 when it may happen, and there is room for its record and for taking it back. `names` and `value`
    /// are the sizes of both in the record.
    int (*reserve)(struct journal *journal, size_t names, size_t value);
    /// How many bytes `operations` take in a record, or 0: the value that they made, of `size` bytes, is to be in it.
    size_t (*operations_size)(const struct journal *journal, const struct sc_operations *operations,
                              size_t size);
    /// An item was set. `old` is what it had before, NULL for a new one: retained until the change is durable.
    /// `operations`, borrowed for the call, are in the record instead of the value. Only behind a `reserve`.
    void (*set)(struct journal *journal, const struct sc_group_name *name, const struct item *item,
                struct sc_blob *_Nullable old, const struct sc_operations *_Nullable operations);
    /// An item is about to be removed; its value is retained until the change is durable. Only behind a `reserve`.
    void (*delete_item)(struct journal *journal, const struct sc_group_name *name,
                        const struct item *item);
    /// A stamp over the store's ceiling was given out. `changes`: a record follows, otherwise one is made for it.
    void (*raise_ceiling)(struct journal *journal, uint64_t stamp, bool changes);
};
struct journal {
    const struct journal_calls *calls;
};

// ---- Cursors

/// A place among all items that changes do not leave behind: what comes next.
struct cursor {
    struct sc_group *_Nullable group; // NULL: at the end, or nowhere.
    struct item *_Nullable item;      // NULL: none is left in the group.
};
/// One for each that goes through all items. They are in the store, so that nobody has to be asked where it stands.
enum cursor_kind {
    CURSOR_COMPACT,  // compact.c
    CURSOR_SNAPSHOT, // The log's.
    CURSOR_COUNT,
};

/// To the first item of `group`, or to the end.
void sc_cursor_go(struct cursor *cursor, struct sc_group *_Nullable group);
/// Before the item or group goes, or once the item lies elsewhere: cursors that stand there go on to what comes next.
void sc_cursor_item_gone(struct sc_store *store, const struct item *item);
void sc_cursor_item_moved(struct sc_store *store, const struct item *item, struct item *moved);
void sc_cursor_group_gone(struct sc_store *store, const struct sc_group *group);

// ---- The store

struct kept_value;

/// A group that is being read in steps (read_view.c).
struct read_view {
    struct sc_group *_Nullable group; // NULL: none, or it has lost its last item.
    struct item *_Nullable next;      // To be read, if not behind `last_created_at`.
    uint64_t last_created_at;
    struct sc_table kept;
    struct kept_value *_Nonnull *_Nullable gone;
    size_t gone_count, gone_capacity;
    bool active;
    bool failed; // Memory is out.
};

struct sc_store {
    struct sc_heap *heap; // Of streams, groups, items and values.
    uint64_t seed;
    uint64_t position;
    uint64_t floor; // Above it are all stamps of groups that do not exist (any more).
    bool floor_is_sync;
    struct sc_table streams;
    struct sc_table groups;
    struct sc_group *_Nullable all_first;
    struct sc_group *_Nullable all_last;
    uint64_t item_count, value_bytes;
    struct journal
        *_Nullable journal; // NULL: in memory only. The log's, which ends it before its own end.
    struct cursor cursors[CURSOR_COUNT];
    bool compacting;
    uint64_t ceiling; // With a log: above it no stamp is given out before a batch has raised it.
    struct read_view view;
    struct sc_group *_Nullable walk_next; // Of the walk through groups, see group.c.
    bool walking, walks_one;              // The latter: through those of one stream.
};

/// Makes the group, and its stream if that is new. The store owns both. NULL when memory is out.
struct sc_group *_Nullable sc_group_create(struct sc_store *store,
                                           const struct sc_group_name *name);
/// Unlinks and frees a group without items, and its stream with the last one.
void sc_group_destroy(struct sc_store *store, struct sc_group *group);
/// Borrowed until the next change of the group, or the end of the turn.
struct item *_Nullable sc_item_find(struct sc_store *store, struct sc_group *group,
                                    struct sc_bytes id);
/// Releases what someone derived from the group (sc_group_cache): it has changed.
void sc_group_cache_drop(struct sc_group *group);
/// Before the item's value is replaced, and before it is removed, in the group that is being read. The view retains the
/// value until it has come to it.
void sc_read_view_keep(struct read_view *view, const struct item *item);
void sc_read_view_keep_gone(struct read_view *view, const struct item *item);

// ---- For the log (load.c)

/// Sets an item as a replayed record says, without a new stamp, a way back or a new record. Copies `value`.
/// Errors: -ENOMEM  nothing changed but that an empty group may be there.
SC_CHECKED int sc_store_load_set(struct sc_store *store, const struct sc_group_name *name,
                                 struct sc_bytes id, struct sc_bytes value, uint64_t created_at,
                                 uint64_t stamp);
/// Ends loading: orders the groups, and lifts all floors to `ceiling`.
void sc_store_load_finish(struct sc_store *store, uint64_t ceiling, uint64_t position);
/// Puts a value back: as the item's, or as a new item, in its order once sc_store_order was called. Retains the value.
/// Errors: -ENOMEM
SC_CHECKED int sc_store_restore(struct sc_store *store, const struct sc_group_name *name,
                                struct sc_bytes id, struct sc_blob *value, uint64_t created_at);
/// Sorts what sc_store_restore has put into the group, if it is there.
void sc_store_order(struct sc_store *store, const struct sc_group_name *name);
/// Removes the item, if it is there, and a group without items with it.
void sc_store_remove(struct sc_store *store, const struct sc_group_name *name, struct sc_bytes id);

// ---- For both

/// Adds an item behind all others of the group. Consumes the reference to `value`; on NULL, memory is out, it is the
/// caller's still.
struct item *_Nullable sc_item_append(struct sc_store *store, struct sc_group *group,
                                      struct sc_bytes id, struct sc_blob *value);
/// Unlinks and frees the item, its value's reference included.
void sc_item_remove(struct sc_store *store, struct sc_group *group, struct item *item);
/// Keeps the sums of value bytes, of the group and of the store.
void sc_store_account(struct sc_store *store, struct sc_group *group, size_t more, size_t less);

#pragma clang assume_nonnull end

#endif
