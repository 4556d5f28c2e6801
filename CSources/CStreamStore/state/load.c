// Changes that only the log makes: replaying what it has read, and taking back what was not written.
#include <errno.h>
#include <stdlib.h>

#include "state.h"

// `value` may lie in the item's present one, as the result of an update does: it is copied before that is released.
int sc_store_load_set(struct sc_store *store, const struct sc_group_name *name, struct sc_bytes id,
                      struct sc_bytes value, uint64_t created_at, uint64_t stamp) {
    struct sc_blob *blob = sc_store_value_create(store, value.size);
    struct sc_group *group = sc_store_group_find(store, name);
    if (group == NULL)
        group = sc_group_create(store, name);
    if (blob == NULL || group == NULL) {
        sc_blob_release(blob);
        return -ENOMEM;
    }
    if (value.size > 0)
        memcpy(blob->data, value.data, value.size);
    struct item *item = sc_item_find(store, group, id);
    size_t less = 0;
    if (item != NULL) {
        less = item->value->size;
        sc_blob_release(item->value);
        item->value = blob;
        if (item->created_at != created_at)
            group->unordered = SIZE_MAX;
    } else {
        struct item *last = group->last;
        item = sc_item_append(store, group, id, blob);
        if (item == NULL) {
            sc_blob_release(blob);
            return -ENOMEM;
        }
        if (last != NULL && last->created_at > created_at)
            group->unordered = SIZE_MAX;
    }
    sc_store_account(store, group, value.size, less);
    item->created_at = created_at;
    item->stamp = stamp;
    return 0;
}

// Positions are those of a first start: they only have to grow.
int sc_store_import(struct sc_store *store, const struct sc_group_name *name, struct sc_bytes id,
                    struct sc_bytes value) {
    struct sc_group *group = sc_store_group_find(store, name);
    struct item *item = group == NULL ? NULL : sc_item_find(store, group, id);
    uint64_t created_at = item != NULL ? item->created_at : ++store->position;
    return sc_store_load_set(store, name, id, value, created_at, 0);
}

static int compare_ages(const void *a, const void *b) {
    const struct item *left = *(struct item *const *)a, *right = *(struct item *const *)b;
    return (left->created_at > right->created_at) - (left->created_at < right->created_at);
}

// Only the last ones are sorted, and then merged with those before: a few that come back to a large group cost little.
static void order_group(struct sc_group *group) {
    size_t count = group->unordered < group->items.count ? group->unordered : group->items.count;
    group->unordered = 0;
    if (count == 0)
        return;
    struct item **items = malloc(count * sizeof(struct item *));
    if (items == NULL)
        abort(); // Of a store that is half loaded, or half taken back: there is nothing to go on with.
    struct item *before = group->last;
    for (size_t left = count; left > 0; before = before->previous)
        items[--left] = before;
    qsort(items, count, sizeof(struct item *), compare_ages);
    struct item *next = NULL;
    while (count > 0) {
        struct item *item = items[count - 1];
        if (before != NULL && before->created_at > item->created_at) {
            item = before;
            before = before->previous;
        } else {
            count--;
        }
        item->next = next;
        *(next != NULL ? &next->previous : &group->last) = item;
        next = item;
    }
    next->previous = before;
    *(before != NULL ? &before->next : &group->first) = next;
    free(items);
}

void sc_store_load_finish(struct sc_store *store, uint64_t ceiling, uint64_t position) {
    for (struct sc_group *group = store->all_first; group != NULL; group = group->all_next) {
        order_group(group);
        group->floor = group->newest = ceiling;
        group->floor_is_sync = false;
    }
    if (ceiling > store->floor)
        store->floor = ceiling;
    store->floor_is_sync = false;
    store->position = position;
}

// The stamp of an item that is there stays as high as it is: frames with it may have been seen, in the modes that do not
// wait for the disk. One that comes back begins at the group's floor, which its deletion has raised.
int sc_store_restore(struct sc_store *store, const struct sc_group_name *name, struct sc_bytes id,
                     struct sc_blob *value, uint64_t created_at) {
    struct sc_group *group = sc_store_group_find(store, name);
    if (group == NULL)
        group = sc_group_create(store, name);
    struct item *item = group == NULL ? NULL : sc_item_find(store, group, id);
    if (item != NULL) {
        sc_store_account(store, group, value->size, item->value->size);
        sc_blob_release(item->value);
        item->value = sc_blob_retain(value);
        sc_group_cache_drop(group);
        return 0;
    }
    item = group == NULL ? NULL : sc_item_append(store, group, id, value);
    if (item == NULL)
        return -ENOMEM;
    sc_blob_retain(value);
    sc_store_account(store, group, value->size, 0);
    item->created_at = created_at;
    item->stamp = group->floor;
    group->unordered++;
    sc_group_cache_drop(group);
    return 0;
}

// Once for each group: items come back in any order.
void sc_store_order(struct sc_store *store, const struct sc_group_name *name) {
    struct sc_group *group = sc_store_group_find(store, name);
    if (group != NULL)
        order_group(group);
}

void sc_store_remove(struct sc_store *store, const struct sc_group_name *name, struct sc_bytes id) {
    struct sc_group *group = sc_store_group_find(store, name);
    struct item *item = group == NULL ? NULL : sc_item_find(store, group, id);
    if (item == NULL)
        return;
    sc_item_remove(store, group, item);
    sc_group_cache_drop(group);
    if (group->first == NULL)
        sc_group_destroy(store, group);
}
