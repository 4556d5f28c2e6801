// Topics and subscriptions. A topic is a group that somebody subscribes to. Subscribers of the whole group
// all get the same frames, so a turn's frames are collected once, as a slice, and handed to every
// member at its end. Subscribers of single items are looked up by item.
#include <stdlib.h>

#include "core_functions.h"
#include "history.h"
#include "subscription_index.h"

static struct sc_bytes topic_stream(const struct topic *topic) {
    return (struct sc_bytes){topic->bytes, topic->stream_size};
}

static struct sc_bytes topic_group(const struct topic *topic) {
    return (struct sc_bytes){topic->bytes + topic->stream_size, topic->group_size};
}

struct sc_group_name sc_topic_name(const struct topic *topic) {
    return (struct sc_group_name){topic_stream(topic), topic_group(topic), topic->node.hash};
}

struct topic *sc_topic_find(struct shard *shard, const struct sc_group_name *name) {
    struct sc_table_node *node = sc_table_first(&shard->topics, name->hash);
    for (; node != NULL; node = sc_table_next(node)) {
        struct topic *topic = SC_CONTAINER_OF(node, struct topic, node);
        if (sc_bytes_equal(topic_group(topic), name->group) &&
            sc_bytes_equal(topic_stream(topic), name->stream))
            return topic;
    }
    return NULL;
}

struct topic *sc_topic_make(struct shard *shard, const struct sc_group_name *name) {
    struct topic *topic = sc_topic_find(shard, name);
    if (topic != NULL)
        return topic;
    struct sc_buffer prefix = {0};
    sc_stream_prefix_write(&prefix, name->stream, name->group);
    size_t names = name->stream.size + name->group.size;
    topic = sc_allocate(sizeof *topic + names + prefix.size);
    *topic = (struct topic){.node.hash = name->hash,
                            .owner = (uint16_t)sc_shard_of(shard, name->hash)->index,
                            .stream_size = (uint16_t)name->stream.size,
                            .group_size = (uint16_t)name->group.size,
                            .prefix_size = (uint32_t)prefix.size};
    if (name->stream.size > 0)
        memcpy(topic->bytes, name->stream.data, name->stream.size);
    if (name->group.size > 0)
        memcpy(topic->bytes + name->stream.size, name->group.data, name->group.size);
    if (prefix.failed || sc_table_insert(&shard->topics, &topic->node) < 0)
        abort(); // Bookkeeping without memory: see sc_allocate.
    memcpy(topic->bytes + names, prefix.data, prefix.size);
    sc_buffer_deinit(&prefix);
    return topic;
}

void sc_topic_drop_idle(struct shard *shard, struct topic *topic) {
    if (topic->interest > 0 || topic->registrations > 0 || topic->in_flight > 0 || topic->dirty)
        return;
    assert(topic->member_count == 0 && topic->items.count == 0 && topic->history == NULL);
    sc_kept_drop(topic);
    assert(topic->progress == NULL);
    sc_table_remove(&shard->topics, &topic->node);
    sc_table_deinit(&topic->items);
    sc_array_free(topic->members, topic->member_capacity * sizeof(struct connection *));
    free(topic->remotes);
    free(topic);
}

// ---- Items

static struct item_interest *sc_item_find(struct shard *shard, struct topic *topic,
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

static struct item_interest *item_make(struct shard *shard, struct topic *topic,
                                       struct sc_bytes id) {
    struct item_interest *interest = sc_item_find(shard, topic, id);
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

static struct subscription_index *index_of(const struct connection *connection) {
    return client_of(connection)->extra == NULL ? NULL : client_of(connection)->extra->index;
}

static uint32_t hash_of_item(const struct item_interest *interest) {
    return (uint32_t)interest->node.hash;
}

static struct item_share *share_find(const struct membership *membership,
                                     const struct item_interest *interest) {
    struct subscription_index *index = index_of(membership->connection);
    if (index == NULL) {
        const struct subscription *subscription = membership->subscriptions;
        for (; subscription != NULL; subscription = subscription->next)
            if (subscription->item != NULL && subscription->item->interest == interest)
                return subscription->item;
        return NULL;
    }
    struct index_entry *entry = NULL;
    while ((entry = sc_index_next(index, INDEX_SHARE, hash_of_item(interest), entry)) != NULL) {
        struct item_share *share = entry->object;
        if (share->interest == interest)
            return share;
    }
    return NULL;
}

static void *take(struct shard *shard, size_t size) {
    void *memory = sc_heap_take(shard->heap, size);
    if (memory == NULL)
        abort(); // Bookkeeping without memory: see sc_allocate.
    return memory;
}

static struct item_share *share_make(struct membership *membership,
                                     struct item_interest *interest) {
    struct item_share *share = take(connection_shard(membership->connection), sizeof *share);
    *share =
        (struct item_share){.membership = membership, .interest = interest, .at = interest->count};
    if (interest->count == interest->capacity) {
        interest->capacity = interest->capacity == 0 ? 2 : interest->capacity * 2;
        interest->entries =
            sc_reallocate(interest->entries, interest->capacity * sizeof(struct item_share *));
    }
    interest->entries[interest->count++] = share;
    struct subscription_index *index = index_of(membership->connection);
    if (index != NULL)
        sc_index_add(index, (struct index_entry){.object = share,
                                                 .hash = hash_of_item(interest),
                                                 .kind = INDEX_SHARE});
    return share;
}

// One subscription of it less.
static void share_leave(struct topic *topic, struct item_share *share) {
    if (--share->count > 0)
        return;
    struct item_interest *interest = share->interest;
    struct subscription_index *index = index_of(share->membership->connection);
    if (index != NULL)
        sc_index_remove(index, sc_index_entry(index, INDEX_SHARE, hash_of_item(interest), share));
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

// ---- Members

static uint32_t hash_of_topic(const struct topic *topic) {
    return (uint32_t)topic->node.hash;
}

static struct membership *membership_find(const struct connection *connection,
                                          const struct topic *topic) {
    struct membership *membership = client_of(connection)->memberships;
    struct subscription_index *index = index_of(connection);
    if (index == NULL) {
        while (membership != NULL && membership->topic != topic)
            membership = membership->next;
        return membership;
    }
    struct index_entry *entry = NULL;
    while ((entry = sc_index_next(index, INDEX_MEMBERSHIP, hash_of_topic(topic), entry)) != NULL) {
        membership = entry->object;
        if (membership->topic == topic)
            return membership;
    }
    return NULL;
}

static void member_add(struct topic *topic, struct membership *membership) {
    if (topic->member_count == topic->member_capacity) {
        uint32_t capacity = topic->member_capacity == 0 ? 4 : topic->member_capacity * 2;
        const size_t size = sizeof(struct connection *);
        topic->members = sc_grow(topic->members, topic->member_capacity * size, capacity * size);
        topic->member_capacity = capacity;
    }
    membership->member_index = topic->member_count;
    topic->members[topic->member_count++] = membership->connection;
}

static void member_remove(struct topic *topic, struct membership *membership) {
    uint32_t i = membership->member_index;
    assert(i < topic->member_count && topic->members[i] == membership->connection);
    struct connection *last = topic->members[--topic->member_count];
    topic->members[i] = last;
    // Most have one membership, and it is looked for only when its topic loses a member.
    membership_find(last, topic)->member_index = i;
}

// It counts as a subscription of the whole group that is no member, so that no frame of an item goes there either.
void sc_topic_pause_member(struct connection *connection, struct topic *topic) {
    struct membership *membership = membership_find(connection, topic);
    assert(membership != NULL); // Who waits for a join cannot leave.
    sc_topic_settle(connection_shard(connection), topic);
    if (membership->group_count++ > 0)
        member_remove(topic, membership);
}

void sc_topic_resume_member(struct connection *connection, struct topic *topic) {
    struct membership *membership = membership_find(connection, topic);
    assert(membership != NULL && membership->group_count > 0);
    sc_topic_settle(connection_shard(connection), topic);
    if (--membership->group_count > 0)
        member_add(topic, membership);
}

// ---- Delivery

// Hands the collected frames to all members. Before anyone joins or leaves, and at the end of a turn.
void sc_topic_settle(struct shard *shard, struct topic *topic) {
    struct slice slice = topic->pending;
    if (slice.chunk == NULL)
        return;
    topic->pending = (struct slice){0};
    for (uint32_t i = 0; i < topic->member_count; i++)
        sc_out_append(topic->members[i], slice);
    sc_slice_release(shard, slice);
}

void sc_topics_settle(struct shard *shard) {
    while (shard->dirty_topics != NULL) {
        struct topic *topic = shard->dirty_topics;
        shard->dirty_topics = topic->dirty_next;
        topic->dirty = false;
        sc_topic_settle(shard, topic);
        sc_topic_drop_idle(shard, topic);
    }
}

static void group_deliver(struct shard *shard, struct topic *topic, struct slice slice) {
    shard->counters.deliveries += topic->member_count;
    if (topic->pending.chunk == slice.chunk &&
        topic->pending.offset + topic->pending.size == slice.offset) {
        topic->pending.size += slice.size;
        return;
    }
    sc_topic_settle(shard, topic);
    topic->pending = slice;
    sc_slice_retain(slice);
    if (!topic->dirty) {
        topic->dirty = true;
        topic->dirty_next = shard->dirty_topics;
        shard->dirty_topics = topic;
    }
}

// One frame a connection: a member of the group has it already.
static void item_deliver(struct shard *shard, struct item_interest *interest, struct slice slice) {
    for (uint32_t i = 0; i < interest->count; i++) {
        struct membership *membership = interest->entries[i]->membership;
        if (membership->group_count > 0)
            continue;
        sc_out_append(membership->connection, slice);
        shard->counters.deliveries++;
    }
}

void sc_topic_deliver(struct shard *shard, struct topic *topic, const struct history_event *event) {
    if (topic->member_count > 0)
        group_deliver(shard, topic, event->frame);
    if (topic->history != NULL)
        sc_history_append(topic->history, event);
    if (topic->items.count == 0 || event->item == NULL)
        return;
    struct item_interest *interest = sc_item_find(shard, topic, *event->item);
    if (interest != NULL)
        item_deliver(shard, interest, event->frame);
}

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

static void index_membership(struct subscription_index *index, struct membership *membership) {
    sc_index_add(index, (struct index_entry){.object = membership,
                                             .hash = hash_of_topic(membership->topic),
                                             .kind = INDEX_MEMBERSHIP});
    struct membership *next = membership->next; // It was the first.
    if (next != NULL)
        sc_index_entry(index, INDEX_MEMBERSHIP, hash_of_topic(next->topic), next)->previous =
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
    struct membership *membership = membership_find(connection, topic);
    bool inside = membership == NULL;
    struct subscription_index *index = index_of(connection);
    struct subscription *subscription;
    if (inside) {
        membership = take(shard, sizeof *membership + size);
        *membership = (struct membership){
            .connection = connection, .topic = topic, .next = client_of(connection)->memberships};
        client_of(connection)->memberships = membership;
        if (index != NULL)
            index_membership(index, membership);
        subscription = (struct subscription *)(membership + 1);
    } else {
        subscription = take(shard, size);
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

static void index_make(struct connection *connection) {
    struct subscription_index *index = sc_index_create();
    struct membership *before = NULL;
    for (struct membership *membership = client_of(connection)->memberships; membership != NULL;
         before = membership, membership = membership->next) {
        sc_index_add(index, (struct index_entry){.object = membership,
                                                 .previous = before,
                                                 .hash = hash_of_topic(membership->topic),
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
                sc_index_add(index, (struct index_entry){.object = each->item,
                                                         .hash = hash_of_item(each->item->interest),
                                                         .kind = INDEX_SHARE});
            }
        }
    }
    sc_client_extra(connection)->index = index;
}

static void subscribe(struct connection *connection, struct topic *topic, struct sc_bytes id,
                      const struct sc_bytes *item) {
    struct shard *shard = connection_shard(connection);
    struct subscription *subscription = subscription_make(connection, topic, id);
    struct membership *membership = membership_find(connection, topic);
    client_of(connection)->subscription_count++;
    shard->subscriptions++;
    if (item == NULL) {
        if (membership->group_count++ == 0)
            member_add(topic, membership);
        return;
    }
    struct item_interest *interest = item_make(shard, topic, *item);
    struct item_share *share = share_find(membership, interest);
    if (share == NULL)
        share = share_make(membership, interest);
    share->count++;
    subscription->item = share;
}

void sc_topic_subscribe(struct connection *connection, struct topic *topic, struct sc_bytes id,
                        const struct sc_bytes *item) {
    subscribe(connection, topic, id, item);
    if (client_of(connection)->subscription_count > SC_SUBSCRIPTIONS_LISTED_MAX &&
        index_of(connection) == NULL)
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
    struct client_extra *extra = sc_client_extra(connection);
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

static void subscription_unlink(struct membership *membership, struct subscription *subscription) {
    struct subscription_index *index = index_of(membership->connection);
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
    struct subscription_index *index = index_of(connection);
    struct membership **link = &client_of(connection)->memberships;
    struct membership *next = membership->next;
    if (index == NULL) {
        while (*link != membership)
            link = &(*link)->next;
    } else {
        struct index_entry *entry =
            sc_index_entry(index, INDEX_MEMBERSHIP, hash_of_topic(membership->topic), membership);
        struct membership *previous = entry->previous;
        link = previous == NULL ? link : &previous->next;
        if (next != NULL)
            sc_index_entry(index, INDEX_MEMBERSHIP, hash_of_topic(next->topic), next)->previous =
                previous;
        sc_index_remove(index, entry);
    }
    *link = next;
}

// Ends one subscription, and the membership with its last one. The owner of the topic is still to be told. True: the
// membership has ended.
static bool subscription_end(struct membership *membership, struct subscription *subscription) {
    struct topic *topic = membership->topic;
    struct connection *connection = membership->connection;
    struct shard *shard = connection_shard(connection);
    sc_topic_settle(shard, topic);
    announce_end(connection, topic, subscription);
    subscription_unlink(membership, subscription);
    if (subscription->item != NULL)
        share_leave(topic, subscription->item);
    else if (--membership->group_count == 0)
        member_remove(topic, membership);
    if (!subscription->inside)
        sc_heap_give(subscription);
    client_of(connection)->has_left = true;
    client_of(connection)->subscription_count--;
    shard->subscriptions--;
    if (membership->subscriptions != NULL)
        return false;
    membership_unlink(membership);
    sc_heap_give(membership);
    return true;
}

static struct subscription *find(const struct connection *connection, struct sc_bytes id,
                                 struct membership *_Nullable *_Nonnull membership) {
    uint32_t hash = short_hash(connection, id);
    struct subscription_index *index = index_of(connection);
    if (index != NULL) {
        struct index_entry *entry = NULL;
        while ((entry = sc_index_next(index, INDEX_SUBSCRIPTION, hash, entry)) != NULL) {
            *membership = entry->membership;
            if (same_id(connection, entry->object, hash, id))
                return entry->object;
        }
        return NULL;
    }
    for (*membership = client_of(connection)->memberships; *membership != NULL;
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
    subscription_end(membership, subscription);
    sc_leave_send(connection_shard(connection), topic, 1); // It may be gone afterwards.
    return true;
}

bool sc_subscription_covers(struct connection *connection, struct topic *topic,
                            const struct sc_bytes *item) {
    const struct membership *membership = membership_find(connection, topic);
    if (membership == NULL || membership->group_count > 0)
        return membership != NULL;
    struct item_interest *interest =
        item == NULL ? NULL : sc_item_find(connection_shard(connection), topic, *item);
    return interest != NULL && share_find(membership, interest) != NULL;
}

bool sc_subscription_any(const struct connection *connection, const struct sc_group_name *name) {
    const struct topic *topic = sc_topic_find(connection_shard(connection), name);
    return topic != NULL && membership_find(connection, topic) != NULL;
}

bool sc_subscriptions_remove_some(struct connection *connection, uint32_t most) {
    if (client_of(connection)->extra != NULL && client_of(connection)->extra->pending_join != NULL)
        sc_pending_join_end(connection);
    sc_catch_up_give_up(connection);
    while (client_of(connection)->memberships != NULL && most > 0) {
        struct membership *membership = client_of(connection)->memberships;
        struct topic *topic = membership->topic;
        uint32_t ended = 0;
        bool last = false;
        while (!last && ended < most) {
            last = subscription_end(membership, membership->subscriptions);
            ended++;
        }
        most -= ended;
        sc_leave_send(connection_shard(connection), topic, ended);
    }
    return client_of(connection)->memberships == NULL;
}
