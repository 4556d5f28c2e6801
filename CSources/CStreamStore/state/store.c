// Time stamps. Every frame about an item carries one, and real clients drop a frame whose stamp did not
// grow. An item remembers its own last stamp. An item that is not there (any more) is covered by floors: a group
// keeps the highest stamp of anything it forgot or sent in a sync, the store that of all groups it forgot.
#include "CStreamStore.h"

#include <errno.h>
#include <stdlib.h>

#include "state.h"

// The seed is the process's: names of a directory are spread in another way by each start.
struct sc_store *sc_store_create(uint64_t seed) {
    struct sc_store *store = calloc(1, sizeof *store);
    if (store == NULL)
        return NULL;
    store->seed = seed;
    store->heap = sc_heap_create();
    if (store->heap == NULL) {
        free(store);
        return NULL;
    }
    return store;
}

struct sc_blob *sc_store_value_create(struct sc_store *store, size_t size) {
    return sc_blob_create_in(store->heap, size);
}

// The value may be somebody else's as well, such as an event that waits to be sent: only the reference goes.
static void item_free(struct item *item) {
    sc_blob_release(item->value);
    sc_heap_give(item);
}

// At the end of a process: nothing is unlinked, since nobody looks any more.
static void free_group(struct sc_table_node *node, void *context) {
    (void)context;
    struct sc_group *group = SC_CONTAINER_OF(node, struct sc_group, node);
    for (struct item *item = group->first; item != NULL;) {
        struct item *next = item->next;
        item_free(item);
        item = next;
    }
    sc_table_deinit(&group->items);
    sc_blob_release(group->cache);
    sc_heap_give(group);
}

static void free_stream(struct sc_table_node *node, void *context) {
    (void)context;
    sc_heap_give(SC_CONTAINER_OF(node, struct stream, node));
}

// The log has ended before: it looks at the store until then.
void sc_store_destroy(struct sc_store *store) {
    if (store == NULL)
        return;
    sc_read_view_end(store);
    sc_table_for_each(&store->groups, free_group, NULL);
    sc_table_for_each(&store->streams, free_stream, NULL);
    sc_table_deinit(&store->groups);
    sc_table_deinit(&store->streams);
    sc_heap_destroy(store->heap);
    free(store);
}

// Hashes are seeded, so that nobody can choose ids that collide.
struct item *sc_item_find(struct sc_store *store, struct sc_group *group, struct sc_bytes id) {
    struct sc_table_node *node = sc_table_first(&group->items, sc_hash(id, store->seed));
    for (; node != NULL; node = sc_table_next(node)) {
        struct item *item = SC_CONTAINER_OF(node, struct item, node);
        if (sc_bytes_equal((struct sc_bytes){item->id, item->id_size}, id))
            return item;
    }
    return NULL;
}

static uint64_t greater(uint64_t a, uint64_t b) {
    return a > b ? a : b;
}

// With a log, no stamp leaves before a batch with a ceiling over it is durable.
static uint64_t given_out(struct sc_store *store, uint64_t stamp, bool changes) {
    if (store->journal != NULL && stamp > store->ceiling)
        store->journal->calls->raise_ceiling(store->journal, stamp, changes);
    return stamp;
}

// The cached `sync` is older than this, so it goes. The stamp may run ahead of the clock: it only has to grow.
static uint64_t stamp_of_item(struct sc_store *store, struct sc_group *group, struct item *item,
                              uint64_t now_ms, bool changes) {
    uint64_t stamp = greater(now_ms, greater(item->stamp, group->floor) + 1);
    item->stamp = stamp;
    item->stamp_is_sync = false;
    group->is_synced = false;
    group->newest = greater(group->newest, stamp);
    sc_group_cache_drop(group);
    return given_out(store, stamp, changes);
}

// For what has no item: the group's floor rises instead, over which all later stamps go.
static uint64_t stamp_of_floor(struct sc_store *store, struct sc_group *group, uint64_t now_ms) {
    uint64_t stamp = greater(now_ms, group->floor + 1);
    group->floor = stamp;
    group->floor_is_sync = false;
    group->is_synced = false;
    group->newest = greater(group->newest, stamp);
    sc_group_cache_drop(group);
    return given_out(store, stamp, false);
}

// Of no item: nothing has to grow, but a sync that comes after it must not look older.
static uint64_t stamp_of_group(struct sc_store *store, struct sc_group *group, uint64_t now_ms) {
    if (now_ms > group->newest) {
        group->newest = now_ms;
        group->is_synced = false;
        sc_group_cache_drop(group);
    }
    return given_out(store, group->newest, false);
}

static uint64_t stamp_of_store(struct sc_store *store, uint64_t now_ms) {
    uint64_t stamp = greater(now_ms, store->floor + 1);
    store->floor = stamp;
    store->floor_is_sync = false;
    return given_out(store, stamp, false);
}

// In the order of creation, which is the order of lists. Takes the reference to `value` over.
struct item *sc_item_append(struct sc_store *store, struct sc_group *group, struct sc_bytes id,
                            struct sc_blob *value) {
    assert(id.size <= SC_NAME_SIZE_MAX);
    struct item *item = sc_heap_take(store->heap, sizeof *item + id.size);
    if (item == NULL)
        return NULL;
    *item = (struct item){.node.hash = sc_hash(id, store->seed),
                          .previous = group->last,
                          .value = value,
                          .id_size = id.size};
    if (id.size > 0)
        memcpy(item->id, id.data, id.size);
    if (sc_table_insert(&group->items, &item->node) < 0) {
        sc_heap_give(item);
        return NULL;
    }
    if (group->last != NULL)
        group->last->next = item;
    else
        group->first = item;
    group->last = item;
    store->item_count++;
    return item;
}

// Unsigned sums wrap around and back: `less` may be larger than `more`.
void sc_store_account(struct sc_store *store, struct sc_group *group, size_t more, size_t less) {
    group->value_bytes += more - less;
    store->value_bytes += more - less;
}

// Cursors that stand at the item, and a view that has yet to read it, are told before it goes.
void sc_item_remove(struct sc_store *store, struct sc_group *group, struct item *item) {
    sc_cursor_item_gone(store, item);
    if (store->view.group == group)
        sc_read_view_keep_gone(&store->view, item);
    *(item->previous != NULL ? &item->previous->next : &group->first) = item->next;
    *(item->next != NULL ? &item->next->previous : &group->last) = item->previous;
    sc_table_remove(&group->items, &item->node);
    sc_store_account(store, group, 0, item->value->size);
    store->item_count--;
    item_free(item);
}

// Before anything is changed: with a log a change that could not be written, or not be taken back, does not happen.
// -errno of the log: the caller tells why, and the store is as it was.
static int reserve(struct sc_store *store, const struct sc_group_name *name, struct sc_bytes id,
                   size_t value) {
    struct journal *journal = store->journal;
    if (journal == NULL)
        return 0;
    return journal->calls->reserve(journal, name->stream.size + name->group.size + id.size, value);
}

// Inlined into both: a set has no branch for operations.
static inline __attribute__((always_inline)) int put(struct sc_store *store,
                                                     const struct sc_group_name *name,
                                                     struct sc_bytes id, struct sc_blob *value,
                                                     const struct sc_operations *operations,
                                                     uint64_t now_ms, struct sc_change *change) {
    struct sc_group *group = sc_store_group_find(store, name);
    struct item *item = group == NULL ? NULL : sc_item_find(store, group, id);
    struct journal *journal = store->journal;
    size_t logged = 0;
    if (operations != NULL && item != NULL && journal != NULL)
        logged = journal->calls->operations_size(journal, operations, value->size);
    if (logged == 0) {
        operations = NULL;
        logged = value->size;
    }
    int rc = reserve(store, name, id, logged);
    if (rc < 0) {
        sc_blob_release(value);
        return rc;
    }
    bool fresh = group == NULL;
    if (fresh)
        group = sc_group_create(store, name);
    *change = (struct sc_change){.kind = item == NULL ? SC_CHANGE_CREATE : SC_CHANGE_UPDATE};
    if (item != NULL) {
        if (store->view.group == group)
            sc_read_view_keep(&store->view, item);
        change->old_value = item->value;
        item->value = value;
    } else {
        item = group == NULL ? NULL : sc_item_append(store, group, id, value);
        if (item == NULL) {
            if (group != NULL && fresh)
                sc_group_destroy(store, group);
            sc_blob_release(value);
            return -ENOMEM;
        }
        item->created_at = store->position + 1;
    }
    sc_store_account(store, group, value->size,
                     change->old_value == NULL ? 0 : change->old_value->size);
    change->timestamp_ms = stamp_of_item(store, group, item, now_ms, true);
    change->position = ++store->position;
    if (journal != NULL)
        journal->calls->set(journal, name, item, change->old_value, operations);
    return 0;
}

int sc_store_set(struct sc_store *store, const struct sc_group_name *name, struct sc_bytes id,
                 struct sc_blob *value, uint64_t now_ms, struct sc_change *change) {
    return put(store, name, id, value, NULL, now_ms, change);
}

int sc_store_update(struct sc_store *store, const struct sc_group_name *name, struct sc_bytes id,
                    struct sc_blob *value, const struct sc_operations *operations, uint64_t now_ms,
                    struct sc_change *change) {
    return put(store, name, id, value, operations, now_ms, change);
}

// The stamp of the deletion stays behind as the group's floor: an item of that name that comes again is stamped above it.
int sc_store_delete(struct sc_store *store, const struct sc_group_name *name, struct sc_bytes id,
                    uint64_t now_ms, struct sc_change *change) {
    *change = (struct sc_change){.kind = SC_CHANGE_NONE, .position = store->position};
    struct sc_group *group = sc_store_group_find(store, name);
    struct item *item = group == NULL ? NULL : sc_item_find(store, group, id);
    if (item == NULL)
        return 0;
    int rc = reserve(store, name, id, 0);
    if (rc < 0)
        return rc;
    change->kind = SC_CHANGE_DELETE;
    change->old_value = sc_blob_retain(item->value);
    change->timestamp_ms = stamp_of_item(store, group, item, now_ms, true);
    change->position = ++store->position;
    if (item->stamp > group->floor) {
        group->floor = item->stamp;
        group->floor_is_sync = false;
    }
    if (store->journal != NULL)
        store->journal->calls->delete_item(store->journal, name, item);
    sc_item_remove(store, group, item);
    if (group->first == NULL)
        sc_group_destroy(store, group);
    return 0;
}

struct sc_blob *sc_store_get(struct sc_store *store, const struct sc_group_name *name,
                             struct sc_bytes id) {
    struct sc_group *group = sc_store_group_find(store, name);
    struct item *item = group == NULL ? NULL : sc_item_find(store, group, id);
    return item == NULL ? NULL : item->value;
}

uint64_t sc_store_position(const struct sc_store *store) {
    return store->position;
}

// A custom event of an item is a frame of that item. One without an item has no order to keep, but for a `sync` after it.
uint64_t sc_store_stamp_event(struct sc_store *store, const struct sc_group_name *name,
                              const struct sc_bytes *id, uint64_t now_ms) {
    struct sc_group *group = sc_store_group_find(store, name);
    if (group == NULL)
        return id == NULL ? given_out(store, greater(now_ms, store->floor), false)
                          : stamp_of_store(store, now_ms);
    if (id == NULL)
        return stamp_of_group(store, group, now_ms);
    struct item *item = sc_item_find(store, group, *id);
    return item == NULL ? stamp_of_floor(store, group, now_ms)
                        : stamp_of_item(store, group, item, now_ms, false);
}

// Identical snapshots share one stamp, so that many who join at once do not drive the stamps ahead of the clock.
uint64_t sc_store_stamp_item_sync(struct sc_store *store, const struct sc_group_name *name,
                                  struct sc_bytes id, uint64_t now_ms) {
    struct sc_group *group = sc_store_group_find(store, name);
    if (group == NULL) {
        if (!store->floor_is_sync || now_ms > store->floor)
            stamp_of_store(store, now_ms);
        store->floor_is_sync = true;
        return store->floor;
    }
    struct item *item = sc_item_find(store, group, id);
    if (item == NULL) {
        if (!group->floor_is_sync)
            stamp_of_floor(store, group, now_ms);
        group->floor_is_sync = true;
        return group->floor;
    }
    if (!item->stamp_is_sync || item->stamp <= group->floor)
        stamp_of_item(store, group, item, now_ms, false);
    item->stamp_is_sync = true;
    return item->stamp;
}

// The stamp becomes the group's floor: each later frame of each item is above the snapshot that it changes.
uint64_t sc_store_stamp_group_sync(struct sc_store *store, const struct sc_group_name *name,
                                   uint64_t now_ms) {
    struct sc_group *group = sc_store_group_find(store, name);
    if (group == NULL) {
        if (!store->floor_is_sync || now_ms > store->floor)
            stamp_of_store(store, now_ms);
        store->floor_is_sync = true;
        return store->floor;
    }
    if (group->is_synced)
        return group->floor;
    group->floor = greater(now_ms, group->newest + 1);
    group->newest = group->floor;
    group->floor_is_sync = true;
    group->is_synced = true;
    return given_out(store, group->floor, false);
}

struct sc_store_counters sc_store_counters(const struct sc_store *store) {
    return (struct sc_store_counters){.streams = store->streams.count,
                                      .groups = store->groups.count,
                                      .items = store->item_count,
                                      .value_bytes = store->value_bytes,
                                      .heap = sc_heap_counters(store->heap)};
}
