// Reading a group in steps while it changes: what it had at one position, in insertion order. What is changed
// or removed before the reader has come to it is kept aside as it was, by place: the positions at which
// items were created order a group, so those that came later are behind the last place of the listing.
#include <errno.h>
#include <stdlib.h>

#include "state.h"

/// A value as it was.
struct kept_value {
    struct sc_table_node node; // In listing->kept, by place.
    uint64_t place;
    struct sc_blob *value;
};

// Neighbouring places fall into neighbouring buckets: the table takes the low bits.
static uint64_t hash_of(uint64_t place) {
    return place * 0x9E3779B97F4A7C15u;
}

static struct kept_value *kept_find(struct listing *listing, uint64_t place) {
    struct sc_table_node *node = sc_table_first(&listing->kept, hash_of(place));
    return node == NULL ? NULL : SC_CONTAINER_OF(node, struct kept_value, node);
}

static void kept_free(struct listing *listing, struct kept_value *kept) {
    sc_table_remove(&listing->kept, &kept->node);
    sc_blob_release(kept->value);
    free(kept);
}

static struct kept_value *keep(struct listing *listing, const struct item *item) {
    struct kept_value *kept = kept_find(listing, item->place);
    if (kept != NULL)
        return kept;
    kept = malloc(sizeof *kept);
    if (kept == NULL)
        return NULL;
    *kept = (struct kept_value){.node.hash = hash_of(item->place),
                                .place = item->place,
                                .value = sc_blob_retain(item->value)};
    if (sc_table_insert(&listing->kept, &kept->node) == 0)
        return kept;
    sc_blob_release(kept->value);
    free(kept);
    return NULL;
}

// ---- Removed items that are still to be read: a heap, the first place on top

static void heap_swap(struct listing *listing, size_t a, size_t b) {
    struct kept_value *kept = listing->gone[a];
    listing->gone[a] = listing->gone[b];
    listing->gone[b] = kept;
}

static bool gone_push(struct listing *listing, struct kept_value *kept) {
    if (listing->gone_count == listing->gone_capacity) {
        size_t capacity = listing->gone_capacity == 0 ? 64 : listing->gone_capacity * 2;
        struct kept_value **gone = realloc(listing->gone, capacity * sizeof(struct kept_value *));
        if (gone == NULL)
            return false;
        listing->gone = gone;
        listing->gone_capacity = capacity;
    }
    size_t at = listing->gone_count++;
    listing->gone[at] = kept;
    for (; at > 0 && listing->gone[at]->place < listing->gone[(at - 1) / 2]->place;
         at = (at - 1) / 2)
        heap_swap(listing, at, (at - 1) / 2);
    return true;
}

static struct kept_value *gone_pop(struct listing *listing) {
    struct kept_value *top = listing->gone[0];
    listing->gone[0] = listing->gone[--listing->gone_count];
    for (size_t at = 0;;) {
        size_t least = at;
        for (size_t child = 2 * at + 1; child <= 2 * at + 2; child++)
            if (child < listing->gone_count &&
                listing->gone[child]->place < listing->gone[least]->place)
                least = child;
        if (least == at)
            return top;
        heap_swap(listing, at, least);
        at = least;
    }
}

// ---- What the store tells: before a value is replaced, before an item goes

static bool is_ahead(const struct listing *listing, const struct item *item) {
    return listing->next != NULL && item->place >= listing->next->place &&
           item->place <= listing->last_place;
}

void sc_listing_keep(struct listing *listing, const struct item *item) {
    if (is_ahead(listing, item) && keep(listing, item) == NULL)
        listing->failed = true;
}

void sc_listing_keep_gone(struct listing *listing, const struct item *item) {
    if (is_ahead(listing, item)) {
        struct kept_value *kept = keep(listing, item);
        if (kept == NULL || !gone_push(listing, kept))
            listing->failed = true;
    }
    if (listing->next == item)
        listing->next = item->next;
}

// ---- Reading

void sc_listing_begin(struct sc_store *store, struct sc_group *group) {
    assert(!sc_listing_is_active(store));
    store->listing = (struct listing){
        .group = group, .active = true, .next = group->first, .last_place = group->last->place};
}

bool sc_listing_is_active(const struct sc_store *store) {
    return store->listing.active;
}

int sc_listing_step(struct sc_store *store, bool (*body)(struct sc_blob *, void *), void *context) {
    struct listing *listing = &store->listing;
    assert(listing->active);
    for (bool more = true; more && !listing->failed;) {
        struct item *item = listing->next;
        if (item != NULL && item->place > listing->last_place)
            item = NULL;
        if (listing->gone_count > 0 && (item == NULL || listing->gone[0]->place < item->place)) {
            struct kept_value *kept = gone_pop(listing);
            more = body(kept->value, context);
            kept_free(listing, kept);
        } else if (item != NULL) {
            struct kept_value *kept =
                listing->kept.count == 0 ? NULL : kept_find(listing, item->place);
            more = body(kept != NULL ? kept->value : item->value, context);
            if (kept != NULL)
                kept_free(listing, kept);
            listing->next = item->next;
        } else {
            return 0;
        }
    }
    return listing->failed ? -ENOMEM : 1;
}

static void free_kept(struct sc_table_node *node, void *context) {
    (void)context;
    struct kept_value *kept = SC_CONTAINER_OF(node, struct kept_value, node);
    sc_blob_release(kept->value);
    free(kept);
}

void sc_listing_end(struct sc_store *store) {
    sc_table_for_each(&store->listing.kept, free_kept, NULL);
    sc_table_deinit(&store->listing.kept);
    free(store->listing.gone);
    store->listing = (struct listing){0};
}
