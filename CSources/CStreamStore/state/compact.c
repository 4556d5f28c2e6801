// Memory that stays dense. After many changes slabs of the heap may hold a few survivors each. Objects in
// those are copied to others, item by item along a cursor, a little in each turn, until they are empty.
#include "state.h"

static bool lies_in_heap(const struct sc_blob *blob) {
    return (atomic_load_explicit(&blob->references, memory_order_relaxed) & SC_BLOB_OF_HEAP) != 0;
}

// A value that somebody else holds stays where it is: it is gone soon, or moved next time.
static size_t move_value(struct sc_store *store, struct item *item) {
    struct sc_blob *value = item->value;
    if (!lies_in_heap(value) || !sc_heap_is_sparse(store->heap, value) || sc_blob_is_shared(value))
        return 0;
    struct sc_blob *moved = sc_blob_create_in(store->heap, value->size);
    if (moved == NULL)
        return 0;
    memcpy(moved->data, value->data, value->size);
    item->value = moved;
    sc_blob_release(value);
    return moved->size;
}

// All that points to an item is known: its neighbours or the ends of the group, the table, the cursors and the read view.
static size_t move_item(struct sc_store *store, struct sc_group *group, struct item *item) {
    if (!sc_heap_is_sparse(store->heap, item))
        return 0;
    size_t size = sizeof *item + item->id_size;
    struct item *moved = sc_heap_take(store->heap, size);
    if (moved == NULL)
        return 0;
    memcpy(moved, item, size);
    *(moved->previous != NULL ? &moved->previous->next : &group->first) = moved;
    *(moved->next != NULL ? &moved->next->previous : &group->last) = moved;
    sc_table_replace(&group->items, &item->node, &moved->node);
    sc_cursor_item_moved(store, item, moved);
    if (store->view.next == item)
        store->view.next = moved;
    sc_heap_give(item);
    return size;
}

// To move the last objects of 512 slabs takes no time, but to give back those slabs takes the kernel 6 ms.
static bool has_emptied_enough(const struct sc_store *store, uint64_t returned) {
    return sc_heap_counters(store->heap).returned - returned >= SC_COMPACT_RETURNED_PER_TURN;
}

static bool compact_items(struct sc_store *store) {
    struct cursor *cursor = &store->cursors[CURSOR_COMPACT];
    size_t bytes = 0;
    uint64_t returned = sc_heap_counters(store->heap).returned;
    for (uint32_t i = 0; i < SC_COMPACT_ITEMS_PER_TURN && bytes < SC_COMPACT_BYTES_PER_TURN; i++) {
        if (cursor->group == NULL)
            return false;
        struct item *item = cursor->item;
        if (item == NULL) {
            sc_cursor_go(cursor, cursor->group->all_next);
            continue;
        }
        cursor->item = item->next;
        bytes += move_value(store, item);
        bytes += move_item(store, cursor->group, item);
        if (has_emptied_enough(store, returned))
            break;
    }
    return true;
}

// A round goes once through all items, a little in each turn, and is begun when the heap says that it is worth it.
bool sc_store_compact(struct sc_store *store) {
    if (!store->compacting && sc_heap_compact_begin(store->heap)) {
        store->compacting = true;
        sc_cursor_go(&store->cursors[CURSOR_COMPACT], store->all_first);
    }
    if (store->compacting && !compact_items(store)) {
        sc_heap_compact_end(store->heap);
        store->compacting = false;
    }
    return sc_heap_trim(store->heap) || store->compacting;
}
