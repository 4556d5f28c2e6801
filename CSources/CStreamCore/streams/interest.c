// Interest in one item of a group: who subscribes to it, each once.
#include <stdlib.h>

#include "streams.h"

struct item_interest *sc_interest_find(struct shard *shard, struct topic *topic,
                                       struct sc_bytes id) {
    uint64_t hash = sc_hash(id, shard->node->config.seed);
    struct sc_table_node *node = sc_table_first(&topic->items, hash);
    for (; node != NULL; node = sc_table_next(node)) {
        struct item_interest *interest = SC_CONTAINER_OF(node, struct item_interest, node);
        if (sc_bytes_equal((struct sc_bytes){interest->id, interest->id_size}, id))
            return interest;
    }
    return NULL;
}

struct item_interest *sc_interest_make(struct shard *shard, struct topic *topic,
                                       struct sc_bytes id) {
    struct item_interest *interest = sc_interest_find(shard, topic, id);
    if (interest != NULL)
        return interest;
    interest = sc_allocate(sizeof *interest + id.size);
    *interest = (struct item_interest){.node.hash = sc_hash(id, shard->node->config.seed),
                                       .id_size = (uint16_t)id.size};
    if (id.size > 0)
        memcpy(interest->id, id.data, id.size);
    if (sc_table_insert(&topic->items, &interest->node) < 0)
        abort();
    return interest;
}

// Half of it is enough: an index compares the pointers in the end.
uint32_t sc_interest_short_hash(const struct item_interest *interest) {
    return (uint32_t)interest->node.hash;
}

struct item_share *sc_share_find(const struct membership *membership,
                                 const struct item_interest *interest) {
    struct subscription_index *index = subscription_index_of(membership->connection);
    if (index == NULL) {
        const struct subscription *subscription = membership->subscriptions;
        for (; subscription != NULL; subscription = subscription->next)
            if (subscription->item != NULL && subscription->item->interest == interest)
                return subscription->item;
        return NULL;
    }
    struct index_entry *entry = NULL;
    while ((entry = sc_index_next(index, INDEX_SHARE, sc_interest_short_hash(interest), entry)) !=
           NULL) {
        struct item_share *share = entry->object;
        if (share->interest == interest)
            return share;
    }
    return NULL;
}

// A connection with a thousand subscriptions of one item is one entry here, and gets each frame once.
struct item_share *sc_share_make(struct membership *membership, struct item_interest *interest) {
    struct item_share *share =
        sc_streams_take(connection_shard(membership->connection), sizeof *share);
    *share =
        (struct item_share){.membership = membership, .interest = interest, .at = interest->count};
    if (interest->count == interest->capacity) {
        interest->capacity = interest->capacity == 0 ? 2 : interest->capacity * 2;
        interest->entries =
            sc_reallocate(interest->entries, interest->capacity * sizeof(struct item_share *));
    }
    interest->entries[interest->count++] = share;
    struct subscription_index *index = subscription_index_of(membership->connection);
    if (index != NULL)
        sc_index_add(index, (struct index_entry){.object = share,
                                                 .hash = sc_interest_short_hash(interest),
                                                 .kind = INDEX_SHARE});
    return share;
}

// One subscription of it less.
// The last entry takes the free place, so that an item with many subscribers is left in constant time.
void sc_share_leave(struct topic *topic, struct item_share *share) {
    if (--share->count > 0)
        return;
    struct item_interest *interest = share->interest;
    struct subscription_index *index = subscription_index_of(share->membership->connection);
    if (index != NULL)
        sc_index_remove(
            index, sc_index_entry(index, INDEX_SHARE, sc_interest_short_hash(interest), share));
    assert(interest->entries[share->at] == share);
    struct item_share *last = interest->entries[--interest->count];
    interest->entries[share->at] = last;
    last->at = share->at;
    sc_heap_give(share);
    if (interest->count > 0)
        return;
    sc_table_remove(&topic->items, &interest->node);
    free(interest->entries);
    free(interest);
}
