// What a connection subscribes to: its memberships, each with its subscriptions. The first subscription of a membership lies
// behind it, and a connection with many has an index of them.
#include <stdlib.h>

#include "streams.h"

// ---- Subscriptions

// With the seed: a client chooses its ids, but not where in an index they lie.
static uint32_t short_hash(const struct connection *connection, struct sc_bytes id) {
    return (uint32_t)sc_hash(id, connection_shard(connection)->node->config.seed);
}

// The id that a subscription by path has: of the connection's own, and so unique among all that anyone may name.
struct sc_bytes sc_subscription_path_id(const struct connection *connection,
                                        uint8_t storage[SC_UUID_SIZE]) {
    sc_uuid_write(storage, connection->id, connection_shard(connection)->node->id_key);
    return (struct sc_bytes){storage, SC_UUID_SIZE};
}

static struct sc_bytes id_of(const struct connection *connection,
                             const struct subscription *subscription,
                             uint8_t storage[SC_UUID_SIZE]) {
    if (subscription->id_size == SUBSCRIPTION_BY_PATH)
        return sc_subscription_path_id(connection, storage);
    return (struct sc_bytes){subscription->id, subscription->id_size};
}

static bool is_path_id(const struct connection *connection, struct sc_bytes id) {
    uint8_t storage[SC_UUID_SIZE];
    return id.size == SC_UUID_SIZE &&
           sc_bytes_equal(sc_subscription_path_id(connection, storage), id);
}

static bool same_id(const struct connection *connection, const struct subscription *subscription,
                    uint32_t hash, struct sc_bytes id) {
    uint8_t storage[SC_UUID_SIZE];
    return subscription->id_hash == hash &&
           sc_bytes_equal(id_of(connection, subscription, storage), id);
}

// Lists of an indexed connection know the entry before them, so that one is unlinked in constant time.
static void index_membership(struct subscription_index *index, struct membership *membership) {
    sc_index_add(index, (struct index_entry){.object = membership,
                                             .hash = sc_topic_short_hash(membership->topic),
                                             .kind = INDEX_MEMBERSHIP});
    struct membership *next = membership->next; // It was the first.
    if (next != NULL)
        sc_index_entry(index, INDEX_MEMBERSHIP, sc_topic_short_hash(next->topic), next)->previous =
            membership;
}

static void index_subscription(struct subscription_index *index, struct membership *membership,
                               struct subscription *subscription) {
    sc_index_add(index, (struct index_entry){.object = subscription,
                                             .membership = membership,
                                             .hash = subscription->id_hash,
                                             .kind = INDEX_SUBSCRIPTION});
    struct subscription *next = subscription->next;
    if (next != NULL)
        sc_index_entry(index, INDEX_SUBSCRIPTION, next->id_hash, next)->previous = subscription;
}

// A new subscription, which belongs to the connection's membership of the topic, and makes it if need be.
static struct subscription *subscription_make(struct connection *connection, struct topic *topic,
                                              struct sc_bytes id) {
    struct shard *shard = connection_shard(connection);
    bool by_path = is_path_id(connection, id);
    size_t size = offsetof(struct subscription, id) + (by_path ? 0 : id.size);
    struct membership *membership = sc_membership_find(connection, topic);
    bool inside = membership == NULL;
    struct subscription_index *index = subscription_index_of(connection);
    struct subscription *subscription;
    if (inside) {
        membership = sc_streams_take(shard, sizeof *membership + size);
        *membership = (struct membership){.connection = connection,
                                          .topic = topic,
                                          .next = subscriber_of(connection)->memberships};
        subscriber_of(connection)->memberships = membership;
        if (index != NULL)
            index_membership(index, membership);
        subscription = (struct subscription *)(membership + 1);
    } else {
        subscription = sc_streams_take(shard, size);
    }
    subscription->next = membership->subscriptions;
    subscription->item = NULL;
    subscription->id_hash = short_hash(connection, id);
    subscription->id_size = by_path ? SUBSCRIPTION_BY_PATH : (uint16_t)id.size;
    subscription->inside = inside;
    if (!by_path && id.size > 0)
        memcpy(subscription->id, id.data, id.size);
    membership->subscriptions = subscription;
    if (index != NULL)
        index_subscription(index, membership, subscription);
    return subscription;
}

// When one subscription more than a list is good for comes. It stays until the connection ends.
static void index_make(struct connection *connection) {
    struct subscription_index *index = sc_index_create();
    struct membership *before = NULL;
    for (struct membership *membership = subscriber_of(connection)->memberships; membership != NULL;
         before = membership, membership = membership->next) {
        sc_index_add(index, (struct index_entry){.object = membership,
                                                 .previous = before,
                                                 .hash = sc_topic_short_hash(membership->topic),
                                                 .kind = INDEX_MEMBERSHIP});
        struct subscription *last = NULL;
        for (struct subscription *each = membership->subscriptions; each != NULL;
             last = each, each = each->next) {
            sc_index_add(index, (struct index_entry){.object = each,
                                                     .previous = last,
                                                     .membership = membership,
                                                     .hash = each->id_hash,
                                                     .kind = INDEX_SUBSCRIPTION});
            if (each->item != NULL && !each->item->indexed) {
                each->item->indexed = true;
                sc_index_add(index, (struct index_entry){
                                        .object = each->item,
                                        .hash = sc_interest_short_hash(each->item->interest),
                                        .kind = INDEX_SHARE});
            }
        }
    }
    sc_subscriber_extra(connection)->index = index;
}

static void subscribe(struct connection *connection, struct topic *topic, struct sc_bytes id,
                      const struct sc_bytes *item) {
    struct shard *shard = connection_shard(connection);
    struct subscription *subscription = subscription_make(connection, topic, id);
    struct membership *membership = sc_membership_find(connection, topic);
    subscriber_of(connection)->subscription_count++;
    streams_of(shard)->subscriptions++;
    if (item == NULL) {
        if (membership->group_count++ == 0)
            sc_member_add(topic, membership);
        return;
    }
    struct item_interest *interest = sc_interest_make(shard, topic, *item);
    struct item_share *share = sc_share_find(membership, interest);
    if (share == NULL)
        share = sc_share_make(membership, interest);
    share->count++;
    subscription->item = share;
}

void sc_topic_subscribe(struct connection *connection, struct topic *topic, struct sc_bytes id,
                        const struct sc_bytes *item) {
    subscribe(connection, topic, id, item);
    if (subscriber_of(connection)->subscription_count > SC_SUBSCRIPTIONS_LISTED_MAX &&
        subscription_index_of(connection) == NULL)
        index_make(connection);
}

static struct sc_bytes item_id(const struct item_share *share) {
    return (struct sc_bytes){share->interest->id, share->interest->id_size};
}

static void announce_end(struct connection *connection, const struct topic *topic,
                         const struct subscription *subscription) {
    struct shard *shard = connection_shard(connection);
    if ((sc_watch_flags(shard, topic_stream(topic)) & SC_WATCH_LEAVES) == 0)
        return;
    struct subscriber_extra *extra = sc_subscriber_extra(connection);
    uint8_t storage[SC_UUID_SIZE];
    struct sc_bytes item = {0};
    if (subscription->item != NULL)
        item = item_id(subscription->item);
    struct sc_subscription_name name = {
        .id = id_of(connection, subscription, storage),
        .stream = topic_stream(topic),
        .group = topic_group(topic),
        .item = subscription->item == NULL ? NULL : &item,
        .context = extra->context == NULL ? (struct sc_bytes){0} : sc_blob_bytes(extra->context)};
    sc_announce_leave(shard, connection->id, &name, sc_connection_account(connection));
}

// Without an index the list is short: that is why there is none.
static void subscription_unlink(struct membership *membership, struct subscription *subscription) {
    struct subscription_index *index = subscription_index_of(membership->connection);
    struct subscription **link = &membership->subscriptions;
    struct subscription *next = subscription->next;
    if (index == NULL) {
        while (*link != subscription)
            link = &(*link)->next;
    } else {
        struct index_entry *entry =
            sc_index_entry(index, INDEX_SUBSCRIPTION, subscription->id_hash, subscription);
        struct subscription *previous = entry->previous;
        link = previous == NULL ? link : &previous->next;
        if (next != NULL)
            sc_index_entry(index, INDEX_SUBSCRIPTION, next->id_hash, next)->previous = previous;
        sc_index_remove(index, entry);
    }
    *link = next;
}

static void membership_unlink(struct membership *membership) {
    struct connection *connection = membership->connection;
    struct subscription_index *index = subscription_index_of(connection);
    struct membership **link = &subscriber_of(connection)->memberships;
    struct membership *next = membership->next;
    if (index == NULL) {
        while (*link != membership)
            link = &(*link)->next;
    } else {
        struct index_entry *entry = sc_index_entry(
            index, INDEX_MEMBERSHIP, sc_topic_short_hash(membership->topic), membership);
        struct membership *previous = entry->previous;
        link = previous == NULL ? link : &previous->next;
        if (next != NULL)
            sc_index_entry(index, INDEX_MEMBERSHIP, sc_topic_short_hash(next->topic), next)
                ->previous = previous;
        sc_index_remove(index, entry);
    }
    *link = next;
}

// Ends one subscription, and the membership with its last one. The owner of the topic is still to be told. True: the
// membership has ended.
// Frames of this turn that the members are still owed go out first: the one that leaves has a right to them.
bool sc_subscription_end(struct membership *membership, struct subscription *subscription) {
    struct topic *topic = membership->topic;
    struct connection *connection = membership->connection;
    struct shard *shard = connection_shard(connection);
    sc_topic_settle(shard, topic);
    announce_end(connection, topic, subscription);
    subscription_unlink(membership, subscription);
    if (subscription->item != NULL)
        sc_share_leave(topic, subscription->item);
    else if (--membership->group_count == 0)
        sc_member_remove(topic, membership);
    if (!subscription->inside)
        sc_heap_give(subscription);
    subscriber_of(connection)->has_left = true;
    subscriber_of(connection)->subscription_count--;
    streams_of(shard)->subscriptions--;
    if (membership->subscriptions != NULL)
        return false;
    membership_unlink(membership);
    sc_heap_give(membership);
    return true;
}

static struct subscription *find(const struct connection *connection, struct sc_bytes id,
                                 struct membership *_Nullable *_Nonnull membership) {
    uint32_t hash = short_hash(connection, id);
    struct subscription_index *index = subscription_index_of(connection);
    if (index != NULL) {
        struct index_entry *entry = NULL;
        while ((entry = sc_index_next(index, INDEX_SUBSCRIPTION, hash, entry)) != NULL) {
            *membership = entry->membership;
            if (same_id(connection, entry->object, hash, id))
                return entry->object;
        }
        return NULL;
    }
    for (*membership = subscriber_of(connection)->memberships; *membership != NULL;
         *membership = (*membership)->next)
        for (struct subscription *each = (*membership)->subscriptions; each != NULL;
             each = each->next)
            if (same_id(connection, each, hash, id))
                return each;
    return NULL;
}

bool sc_subscription_exists(const struct connection *connection, struct sc_bytes id) {
    struct membership *membership;
    return find(connection, id, &membership) != NULL;
}

bool sc_subscription_remove(struct connection *connection, struct sc_bytes id) {
    struct membership *membership;
    struct subscription *subscription = find(connection, id, &membership);
    if (subscription == NULL)
        return false;
    struct topic *topic = membership->topic;
    sc_subscription_end(membership, subscription);
    sc_leave_send(connection_shard(connection), topic, 1); // It may be gone afterwards.
    return true;
}

bool sc_subscription_covers(const struct membership *membership, const struct sc_bytes *item) {
    if (membership->group_count > 0 || item == NULL)
        return membership->group_count > 0;
    struct item_interest *interest =
        sc_interest_find(connection_shard(membership->connection), membership->topic, *item);
    return interest != NULL && sc_share_find(membership, interest) != NULL;
}

// By topic: a group that nobody here subscribes to has none.
bool sc_subscription_any(const struct connection *connection, const struct sc_group_name *name) {
    const struct topic *topic = sc_topic_find(connection_shard(connection), name);
    return topic != NULL && sc_membership_find(connection, topic) != NULL;
}
