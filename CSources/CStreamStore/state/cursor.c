// Places among all items, for those who go through them a little in each turn: what they stand before may go, or move.
#include "state.h"

void sc_cursor_go(struct cursor *cursor, struct sc_group *group) {
    cursor->group = group;
    cursor->item = group == NULL ? NULL : group->first;
}

void sc_cursor_item_gone(struct sc_store *store, const struct item *item) {
    for (struct cursor *cursor = store->cursors; cursor < store->cursors + CURSOR_COUNT; cursor++)
        if (cursor->item == item)
            cursor->item = item->next;
}

void sc_cursor_item_moved(struct sc_store *store, const struct item *item, struct item *moved) {
    for (struct cursor *cursor = store->cursors; cursor < store->cursors + CURSOR_COUNT; cursor++)
        if (cursor->item == item)
            cursor->item = moved;
}

void sc_cursor_group_gone(struct sc_store *store, const struct sc_group *group) {
    for (struct cursor *cursor = store->cursors; cursor < store->cursors + CURSOR_COUNT; cursor++)
        if (cursor->group == group)
            sc_cursor_go(cursor, group->all_next);
}
