// How many connections each address has, for `limits.connections_per_address`. Without that limit there is no such table.
//
// The one place of the node that shards share under a lock: a connection may come to any shard, and the limit is of the
// node. It is taken twice in the life of a connection, for a look at a few entries, and never for a message.
//
// Memory is bounded, since there are never more entries than connections: an entry exists while one counts in it. Entries
// lie side by side and chains go by index, so that an entry is named by 32 bits, which a connection has room for.
#include <pthread.h>
#include <stdlib.h>

#include "sessions.h"

struct address {
    struct sc_ip network;
    uint32_t connections;
    uint32_t next; // In its bucket, or among those that are free: an index and one. 0: the last.
};

struct addresses {
    pthread_mutex_t lock; // Of all that follows and changes.
    uint64_t seed; // A peer chooses its address from what it has: not so that chains get long.
    uint32_t per_address_max, capacity;
    uint32_t used, free; // The first that was never used; the first that is free again.
    uint32_t mask;
    uint32_t *buckets;
    struct address *entries;
};

// What is not used of either array takes no memory: the kernel maps a page when it is written.
struct addresses *sc_addresses_create(uint32_t per_address_max, uint32_t connections_max,
                                      uint64_t seed) {
    struct addresses *addresses = sc_allocate(sizeof *addresses);
    uint32_t buckets = 64;
    while (buckets < connections_max && buckets < 1u << 31)
        buckets *= 2;
    *addresses = (struct addresses){.seed = seed,
                                    .per_address_max = per_address_max,
                                    .capacity = connections_max,
                                    .mask = buckets - 1,
                                    .buckets = calloc(buckets, sizeof *addresses->buckets),
                                    .entries = calloc(connections_max, sizeof *addresses->entries)};
    if (addresses->buckets == NULL || addresses->entries == NULL)
        abort(); // Bookkeeping without memory: see sc_allocate.
    pthread_mutex_init(&addresses->lock, NULL);
    return addresses;
}

void sc_addresses_destroy(struct addresses *addresses) {
    if (addresses == NULL)
        return;
    pthread_mutex_destroy(&addresses->lock);
    free(addresses->buckets);
    free(addresses->entries);
    free(addresses);
}

static uint32_t *bucket_of(struct addresses *addresses, const struct sc_ip *network) {
    struct sc_bytes bytes = {network->bytes, sizeof network->bytes};
    return &addresses->buckets[sc_hash(bytes, addresses->seed) & addresses->mask];
}

static struct address *entry_of(struct addresses *addresses, uint32_t place) {
    assert(place > 0 && place <= addresses->used);
    return &addresses->entries[place - 1];
}

static uint32_t find(struct addresses *addresses, uint32_t first, const struct sc_ip *network) {
    uint32_t place = first;
    while (place != 0 &&
           memcmp(&entry_of(addresses, place)->network, network, sizeof *network) != 0)
        place = entry_of(addresses, place)->next;
    return place;
}

static uint32_t add(struct addresses *addresses, uint32_t *bucket, const struct sc_ip *network) {
    uint32_t place = addresses->free;
    if (place != 0) {
        addresses->free = entry_of(addresses, place)->next;
    } else {
        assert(addresses->used < addresses->capacity); // The caller counts connections first.
        place = ++addresses->used;
    }
    *entry_of(addresses, place) = (struct address){.network = *network, .next = *bucket};
    *bucket = place;
    return place;
}

uint32_t sc_addresses_enter(struct addresses *addresses, const struct sc_ip *ip) {
    struct sc_ip network = sc_ip_network(ip);
    pthread_mutex_lock(&addresses->lock);
    uint32_t *bucket = bucket_of(addresses, &network);
    uint32_t place = find(addresses, *bucket, &network);
    if (place == 0)
        place = add(addresses, bucket, &network);
    struct address *entry = entry_of(addresses, place);
    if (entry->connections < addresses->per_address_max)
        entry->connections++;
    else
        place = 0;
    pthread_mutex_unlock(&addresses->lock);
    return place;
}

void sc_addresses_leave(struct addresses *addresses, uint32_t place) {
    pthread_mutex_lock(&addresses->lock);
    struct address *entry = entry_of(addresses, place);
    assert(entry->connections > 0);
    if (--entry->connections == 0) {
        uint32_t *link = bucket_of(addresses, &entry->network);
        while (*link != place)
            link = &entry_of(addresses, *link)->next;
        *link = entry->next;
        entry->next = addresses->free;
        addresses->free = place;
    }
    pthread_mutex_unlock(&addresses->lock);
}
