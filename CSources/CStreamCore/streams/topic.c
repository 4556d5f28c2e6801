// Topics and subscriptions. A topic is a group that somebody subscribes to. Subscribers of the whole group
// all get the same frames, so a turn's frames are collected once, as a slice, and handed to every
// member at its end. Subscribers of single items are looked up by item.
#include <stdlib.h>

#include "streams.h"

struct sc_group_name sc_topic_name(const struct topic *topic) {
    return (struct sc_group_name){topic_stream(topic), topic_group(topic), topic->node.hash};
}

struct topic *sc_topic_find(struct shard *shard, const struct sc_group_name *name) {
    struct sc_table_node *node = sc_table_first(&streams_of(shard)->topics, name->hash);
    for (; node != NULL; node = sc_table_next(node)) {
        struct topic *topic = SC_CONTAINER_OF(node, struct topic, node);
        if (sc_bytes_equal(topic_group(topic), name->group) &&
            sc_bytes_equal(topic_stream(topic), name->stream))
            return topic;
    }
    return NULL;
}

// One allocation for the topic, its names, and the part of every frame that names them: a frame of the group is that part with a few
// bytes on each side.
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
    if (prefix.failed || sc_table_insert(&streams_of(shard)->topics, &topic->node) < 0)
        abort(); // Bookkeeping without memory: see sc_allocate.
    memcpy(topic->bytes + names, prefix.data, prefix.size);
    sc_buffer_deinit(&prefix);
    return topic;
}

// The places that may have been the last to need it call this. It is not counted: what it depends on is looked at.
void sc_topic_drop_idle(struct shard *shard, struct topic *topic) {
    if (topic->interest > 0 || topic->registrations > 0 || topic->in_flight > 0 || topic->dirty)
        return;
    assert(topic->member_count == 0 && topic->items.count == 0 && topic->history == NULL);
    sc_kept_drop(topic);
    assert(topic->progress == NULL);
    sc_table_remove(&streams_of(shard)->topics, &topic->node);
    sc_table_deinit(&topic->items);
    sc_array_free(topic->members, topic->member_capacity * sizeof(struct connection *));
    free(topic->remotes);
    free(topic);
}

// ---- Members

void *sc_streams_take(struct shard *shard, size_t size) {
    void *memory = sc_heap_take(shard->heap, size);
    if (memory == NULL)
        abort(); // Bookkeeping without memory: see sc_allocate.
    return memory;
}

uint32_t sc_topic_short_hash(const struct topic *topic) {
    return (uint32_t)topic->node.hash;
}

struct membership *sc_membership_find(const struct connection *connection,
                                      const struct topic *topic) {
    struct membership *membership = subscriber_of(connection)->memberships;
    struct subscription_index *index = subscription_index_of(connection);
    if (index == NULL) {
        while (membership != NULL && membership->topic != topic)
            membership = membership->next;
        return membership;
    }
    struct index_entry *entry = NULL;
    while ((entry = sc_index_next(index, INDEX_MEMBERSHIP, sc_topic_short_hash(topic), entry)) !=
           NULL) {
        membership = entry->object;
        if (membership->topic == topic)
            return membership;
    }
    return NULL;
}

void sc_member_add(struct topic *topic, struct membership *membership) {
    if (topic->member_count == topic->member_capacity) {
        uint32_t capacity = topic->member_capacity == 0 ? 4 : topic->member_capacity * 2;
        const size_t size = sizeof(struct connection *);
        topic->members = sc_grow(topic->members, topic->member_capacity * size, capacity * size);
        topic->member_capacity = capacity;
    }
    membership->member_index = topic->member_count;
    topic->members[topic->member_count++] = membership->connection;
}

// The last one takes the free place: members have no order, since each gets the frames of a turn at once.
void sc_member_remove(struct topic *topic, struct membership *membership) {
    uint32_t i = membership->member_index;
    assert(i < topic->member_count && topic->members[i] == membership->connection);
    struct connection *last = topic->members[--topic->member_count];
    topic->members[i] = last;
    // Most have one membership, and it is looked for only when its topic loses a member.
    sc_membership_find(last, topic)->member_index = i;
}

// It counts as a subscription of the whole group that is no member, so that no frame of an item goes there either.
// Item subscriptions go on: a stand is of the whole group, and what comes for an item is in the `sync` too.
void sc_topic_pause_member(struct connection *connection, struct topic *topic) {
    struct membership *membership = sc_membership_find(connection, topic);
    assert(membership != NULL); // Who waits for a join cannot leave.
    sc_topic_settle(connection_shard(connection), topic);
    if (membership->group_count++ > 0)
        sc_member_remove(topic, membership);
}

void sc_topic_resume_member(struct connection *connection, struct topic *topic) {
    struct membership *membership = sc_membership_find(connection, topic);
    assert(membership != NULL && membership->group_count > 0);
    sc_topic_settle(connection_shard(connection), topic);
    if (--membership->group_count > 0)
        sc_member_add(topic, membership);
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

// At the end of a turn. A change to a thousand members costs one pass over them a turn, not one a change.
void sc_topics_settle(struct shard *shard) {
    while (streams_of(shard)->dirty_topics != NULL) {
        struct topic *topic = streams_of(shard)->dirty_topics;
        streams_of(shard)->dirty_topics = topic->dirty_next;
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
        topic->dirty_next = streams_of(shard)->dirty_topics;
        streams_of(shard)->dirty_topics = topic;
    }
}

// One frame a connection: a member of the group has it already.
// Members of the whole group have it already, in `pending`.
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
    struct item_interest *interest = sc_interest_find(shard, topic, *event->item);
    if (interest != NULL)
        item_deliver(shard, interest, event->frame);
}
