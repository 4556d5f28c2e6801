// Reading a group in steps while it changes: what it had at one position, in insertion order. An item that is changed
// or removed before the reader has come to it is kept aside as it was, by created_at: the positions at which
// items were created order a group, so those that came later are behind the last one of the view.
#include <errno.h>
#include <stdlib.h>

#include "state.h"

/// A value as it was.
struct kept_value {
    struct sc_table_node node; // In view->kept, by created_at.
    uint64_t created_at;
    struct sc_blob *value;
};

// Neighbouring positions fall into neighbouring buckets: the table takes the low bits.
static uint64_t hash_of(uint64_t created_at) {
    return created_at * 0x9E3779B97F4A7C15u;
}

static struct kept_value *kept_find(struct read_view *view, uint64_t created_at) {
    struct sc_table_node *node = sc_table_first(&view->kept, hash_of(created_at));
    return node == NULL ? NULL : SC_CONTAINER_OF(node, struct kept_value, node);
}

static void kept_free(struct read_view *view, struct kept_value *kept) {
    sc_table_remove(&view->kept, &kept->node);
    sc_blob_release(kept->value);
    free(kept);
}

// Retains the value as it is. Only the first change of an item counts: later ones are not what the view shows.
static struct kept_value *keep(struct read_view *view, const struct item *item) {
    struct kept_value *kept = kept_find(view, item->created_at);
    if (kept != NULL)
        return kept;
    kept = malloc(sizeof *kept);
    if (kept == NULL)
        return NULL;
    *kept = (struct kept_value){.node.hash = hash_of(item->created_at),
                                .created_at = item->created_at,
                                .value = sc_blob_retain(item->value)};
    if (sc_table_insert(&view->kept, &kept->node) == 0)
        return kept;
    sc_blob_release(kept->value);
    free(kept);
    return NULL;
}

// ---- Removed items that are still to be read: a heap, the oldest on top

static void heap_swap(struct read_view *view, size_t a, size_t b) {
    struct kept_value *kept = view->gone[a];
    view->gone[a] = view->gone[b];
    view->gone[b] = kept;
}

// A removed item is in no list any more: the heap brings it back in its order among those that stayed.
static bool gone_push(struct read_view *view, struct kept_value *kept) {
    if (view->gone_count == view->gone_capacity) {
        size_t capacity = view->gone_capacity == 0 ? 64 : view->gone_capacity * 2;
        struct kept_value **gone = realloc(view->gone, capacity * sizeof(struct kept_value *));
        if (gone == NULL)
            return false;
        view->gone = gone;
        view->gone_capacity = capacity;
    }
    size_t at = view->gone_count++;
    view->gone[at] = kept;
    for (; at > 0 && view->gone[at]->created_at < view->gone[(at - 1) / 2]->created_at;
         at = (at - 1) / 2)
        heap_swap(view, at, (at - 1) / 2);
    return true;
}

static struct kept_value *gone_pop(struct read_view *view) {
    struct kept_value *top = view->gone[0];
    view->gone[0] = view->gone[--view->gone_count];
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < view->gone_count &&
                view->gone[child]->created_at < view->gone[least]->created_at)
                least = child;
        if (least == at)
            return top;
        heap_swap(view, at, least);
        at = least;
    }
}

// ---- What the store tells: before a value is replaced, before an item goes

// Items that were read already, or created after the view was begun, need not be kept.
static bool is_ahead(const struct read_view *view, const struct item *item) {
    return view->next != NULL && item->created_at >= view->next->created_at &&
           item->created_at <= view->last_created_at;
}

void sc_read_view_keep(struct read_view *view, const struct item *item) {
    if (is_ahead(view, item) && keep(view, item) == NULL)
        view->failed = true;
}

void sc_read_view_keep_gone(struct read_view *view, const struct item *item) {
    if (is_ahead(view, item)) {
        struct kept_value *kept = keep(view, item);
        if (kept == NULL || !gone_push(view, kept))
            view->failed = true;
    }
    if (view->next == item)
        view->next = item->next;
}

// ---- Reading

void sc_read_view_begin(struct sc_store *store, struct sc_group *group) {
    assert(!sc_read_view_is_active(store));
    store->view = (struct read_view){.group = group,
                                     .active = true,
                                     .next = group->first,
                                     .last_created_at = group->last->created_at};
}

bool sc_read_view_is_active(const struct sc_store *store) {
    return store->view.active;
}

// Merges two orders: items that are there, and those that were removed meanwhile.
int sc_read_view_step(struct sc_store *store, bool (*body)(struct sc_blob *, void *),
                      void *context) {
    struct read_view *view = &store->view;
    assert(view->active);
    for (bool more = true; more && !view->failed;) {
        struct item *item = view->next;
        if (item != NULL && item->created_at > view->last_created_at)
            item = NULL;
        if (view->gone_count > 0 &&
            (item == NULL || view->gone[0]->created_at < item->created_at)) {
            struct kept_value *kept = gone_pop(view);
            more = body(kept->value, context);
            kept_free(view, kept);
        } else if (item != NULL) {
            struct kept_value *kept =
                view->kept.count == 0 ? NULL : kept_find(view, item->created_at);
            more = body(kept != NULL ? kept->value : item->value, context);
            if (kept != NULL)
                kept_free(view, kept);
            view->next = item->next;
        } else {
            return 0;
        }
    }
    return view->failed ? -ENOMEM : 1;
}

static void free_kept(struct sc_table_node *node, void *context) {
    (void)context;
    struct kept_value *kept = SC_CONTAINER_OF(node, struct kept_value, node);
    sc_blob_release(kept->value);
    free(kept);
}

void sc_read_view_end(struct sc_store *store) {
    sc_table_for_each(&store->view.kept, free_kept, NULL);
    sc_table_deinit(&store->view.kept);
    free(store->view.gone);
    store->view = (struct read_view){0};
}
