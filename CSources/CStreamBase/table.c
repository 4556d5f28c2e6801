// A chained hash table of intrusive nodes. A change of size keeps the old buckets and moves a few chains with each
// change, so that a table of millions never stalls a loop turn.
#include "CStreamBase.h"

#include <errno.h>
#include <stdlib.h>

#define FIRST_BUCKETS 8u
#define CHAINS_PER_STEP 4u
/// Most chains are empty then, and must be through before the next time.
#define CHAINS_PER_SHRINKING_STEP 16u
/// A table with fewer than one node in so many buckets shrinks, to a quarter.
#define SPARSE 8u

static bool is_of_heap(const struct sc_table *table, size_t buckets) {
    return table->heap != NULL && buckets * sizeof(struct sc_table_node *) <= SC_HEAP_SIZE_MAX;
}

static struct sc_table_node **take_buckets(struct sc_table *table, size_t count) {
    size_t size = count * sizeof(struct sc_table_node *);
    if (!is_of_heap(table, count))
        return calloc(1, size);
    struct sc_table_node **buckets = sc_heap_take(table->heap, size);
    if (buckets != NULL)
        memset(buckets, 0, size);
    return buckets;
}

static void give_buckets(struct sc_table *table, struct sc_table_node **buckets, size_t mask) {
    if (buckets == NULL)
        return;
    if (is_of_heap(table, mask + 1))
        sc_heap_give(buckets);
    else
        free(buckets);
}

static void move_chains(struct sc_table *table) {
    if (table->old_buckets == NULL)
        return;
    size_t count = table->mask < table->old_mask ? CHAINS_PER_SHRINKING_STEP : CHAINS_PER_STEP;
    while (count-- > 0 && table->old_buckets != NULL) {
        struct sc_table_node *node = table->old_buckets[table->moved];
        while (node != NULL) {
            struct sc_table_node *next = node->next;
            struct sc_table_node **bucket = &table->buckets[node->hash & table->mask];
            node->next = *bucket;
            *bucket = node;
            node = next;
        }
        table->old_buckets[table->moved++] = NULL;
        if (table->moved > table->old_mask) {
            give_buckets(table, table->old_buckets, table->old_mask);
            table->old_buckets = NULL;
        }
    }
}

static int resize(struct sc_table *table, size_t buckets) {
    struct sc_table_node **fresh = take_buckets(table, buckets);
    if (fresh == NULL)
        return -ENOMEM;
    assert(table->old_buckets == NULL);
    table->old_buckets = table->buckets;
    table->old_mask = table->mask;
    table->moved = 0;
    table->buckets = fresh;
    table->mask = buckets - 1;
    return 0;
}

// The chain that holds `hash`: a chain not moved yet is still the old one.
static struct sc_table_node **chain_of(struct sc_table *table, uint64_t hash) {
    if (table->old_buckets != NULL && (hash & table->old_mask) >= table->moved)
        return &table->old_buckets[hash & table->old_mask];
    return &table->buckets[hash & table->mask];
}

struct sc_table_node *sc_table_first(struct sc_table *table, uint64_t hash) {
    if (table->buckets == NULL)
        return NULL;
    struct sc_table_node *node = *chain_of(table, hash);
    while (node != NULL && node->hash != hash)
        node = node->next;
    return node;
}

int sc_table_insert(struct sc_table *table, struct sc_table_node *node) {
    move_chains(table);
    bool full = table->buckets == NULL || table->count > table->mask;
    size_t more = table->buckets == NULL ? FIRST_BUCKETS : (table->mask + 1) * 2;
    if (full && table->old_buckets == NULL && resize(table, more) < 0 && table->buckets == NULL)
        return -ENOMEM; // Without any buckets; an existing table just gets longer chains.
    struct sc_table_node **chain = chain_of(table, node->hash);
    node->next = *chain;
    *chain = node;
    table->count++;
    return 0;
}

static struct sc_table_node **link_to(struct sc_table *table, const struct sc_table_node *node) {
    struct sc_table_node **link = chain_of(table, node->hash);
    while (*link != node) {
        assert(*link != NULL);
        link = &(*link)->next;
    }
    return link;
}

void sc_table_remove(struct sc_table *table, struct sc_table_node *node) {
    move_chains(table);
    *link_to(table, node) = node->next;
    table->count--;
    size_t buckets = table->mask + 1;
    if (buckets > SPARSE * FIRST_BUCKETS && table->count < buckets / SPARSE &&
        table->old_buckets == NULL)
        (void)resize(table, buckets / 4); // Without memory for it, it stays as large as it is.
}

void sc_table_replace(struct sc_table *table, const struct sc_table_node *node,
                      struct sc_table_node *moved) {
    *link_to(table, node) = moved;
}

static void walk(struct sc_table_node **buckets, size_t mask,
                 void (*body)(struct sc_table_node *, void *), void *context) {
    for (size_t i = 0; i <= mask; i++) {
        struct sc_table_node *node = buckets[i];
        while (node != NULL) {
            struct sc_table_node *next = node->next; // `body` may free the node.
            body(node, context);
            node = next;
        }
    }
}

void sc_table_for_each(struct sc_table *table, void (*body)(struct sc_table_node *, void *),
                       void *context) {
    if (table->buckets != NULL)
        walk(table->buckets, table->mask, body, context);
    if (table->old_buckets != NULL)
        walk(table->old_buckets, table->old_mask, body, context);
}

void sc_table_deinit(struct sc_table *table) {
    give_buckets(table, table->buckets, table->mask);
    give_buckets(table, table->old_buckets, table->old_mask);
    *table = (struct sc_table){.heap = table->heap};
}
