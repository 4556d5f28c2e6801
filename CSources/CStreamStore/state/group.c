#include "state.h"

// The stream's hash is the seed of the group's: no two pairs of names are the same bytes in a row.
uint64_t sc_store_hash(struct sc_bytes stream, struct sc_bytes group, uint64_t seed) {
    return sc_hash(group, sc_hash(stream, seed));
}

// By the name alone: a stream is looked for by lists, which have no group.
static struct stream *stream_find(struct sc_store *store, struct sc_bytes name, uint64_t hash) {
    struct sc_table_node *node = sc_table_first(&store->streams, hash);
    for (; node != NULL; node = sc_table_next(node)) {
        struct stream *stream = SC_CONTAINER_OF(node, struct stream, node);
        if (sc_bytes_equal((struct sc_bytes){stream->name, stream->name_size}, name))
            return stream;
    }
    return NULL;
}

// Streams are looked up for lists of groups only. A set or a get finds its group by one hash over both names.
static struct stream *stream_make(struct sc_store *store, struct sc_bytes name) {
    uint64_t hash = sc_hash(name, store->seed);
    struct stream *stream = stream_find(store, name, hash);
    if (stream != NULL)
        return stream;
    stream = sc_heap_take(store->heap, sizeof *stream + name.size);
    if (stream == NULL)
        return NULL;
    *stream = (struct stream){.node.hash = hash, .name_size = (uint16_t)name.size};
    if (name.size > 0)
        memcpy(stream->name, name.data, name.size);
    if (sc_table_insert(&store->streams, &stream->node) < 0) {
        sc_heap_give(stream);
        return NULL;
    }
    return stream;
}

// Also behind a group that could not be made: no stream is left without groups.
static void stream_drop_empty(struct sc_store *store, struct stream *stream) {
    if (stream->groups != NULL)
        return;
    sc_table_remove(&store->streams, &stream->node);
    sc_heap_give(stream);
}

// The group's name is compared first: groups of one stream share the other.
struct sc_group *sc_store_group_find(struct sc_store *store, const struct sc_group_name *name) {
    struct sc_table_node *node = sc_table_first(&store->groups, name->hash);
    for (; node != NULL; node = sc_table_next(node)) {
        struct sc_group *group = SC_CONTAINER_OF(node, struct sc_group, node);
        struct sc_bytes stream = {group->stream->name, group->stream->name_size};
        struct sc_bytes own = {group->name, group->name_size};
        if (sc_bytes_equal(own, name->group) && sc_bytes_equal(stream, name->stream))
            return group;
    }
    return NULL;
}

// Its stamps begin over the floor of the store, which covers a group of this name that was there before.
struct sc_group *sc_group_create(struct sc_store *store, const struct sc_group_name *name) {
    assert(name->stream.size <= SC_NAME_SIZE_MAX && name->group.size <= SC_NAME_SIZE_MAX);
    struct stream *stream = stream_make(store, name->stream);
    if (stream == NULL)
        return NULL;
    struct sc_group *group = sc_heap_take(store->heap, sizeof *group + name->group.size);
    if (group == NULL) {
        stream_drop_empty(store, stream);
        return NULL;
    }
    *group = (struct sc_group){.node.hash = name->hash,
                               .stream = stream,
                               .items.heap = store->heap,
                               .next = stream->groups,
                               .floor = store->floor,
                               .newest = store->floor,
                               .name_size = (uint16_t)name->group.size};
    if (name->group.size > 0)
        memcpy(group->name, name->group.data, name->group.size);
    if (sc_table_insert(&store->groups, &group->node) < 0) {
        sc_heap_give(group);
        stream_drop_empty(store, stream);
        return NULL;
    }
    if (stream->groups != NULL)
        stream->groups->previous = group;
    stream->groups = group;
    group->all_previous = store->all_last;
    *(store->all_last != NULL ? &store->all_last->all_next : &store->all_first) = group;
    store->all_last = group;
    return group;
}

// The time stamps that the group knew of go to the store's floor: a group of that name that comes again starts
// above it.
void sc_group_destroy(struct sc_store *store, struct sc_group *group) {
    assert(group->first == NULL);
    sc_cursor_group_gone(store, group);
    if (store->walk_next == group)
        store->walk_next = store->walks_one ? group->next : group->all_next;
    if (store->view.group == group)
        store->view.group = NULL; // Its items are among those that the view keeps.
    *(group->all_previous != NULL ? &group->all_previous->all_next : &store->all_first) =
        group->all_next;
    *(group->all_next != NULL ? &group->all_next->all_previous : &store->all_last) =
        group->all_previous;
    if (group->newest >= store->floor) { // Equal to a sync's: the next sync is not shared with it.
        store->floor = group->newest;
        store->floor_is_sync = false;
    }
    struct stream *stream = group->stream;
    if (group->previous != NULL)
        group->previous->next = group->next;
    else
        stream->groups = group->next;
    if (group->next != NULL)
        group->next->previous = group->previous;
    sc_table_remove(&store->groups, &group->node);
    sc_table_deinit(&group->items);
    sc_blob_release(group->cache);
    sc_heap_give(group);
    stream_drop_empty(store, stream);
}

void sc_group_cache_drop(struct sc_group *group) {
    if (group->cache == NULL)
        return;
    sc_blob_release(group->cache);
    group->cache = NULL;
}

// Borrowed: the group drops it with the next change.
struct sc_blob *sc_group_cache(const struct sc_group *group) {
    return group->cache;
}

// An earlier cache is of an older state, if it is there at all.
void sc_group_cache_set(struct sc_group *group, struct sc_blob *blob) {
    sc_blob_release(group->cache);
    group->cache = sc_blob_retain(blob);
}

size_t sc_group_item_count(const struct sc_group *group) {
    return group->items.count;
}

size_t sc_group_value_bytes(const struct sc_group *group) {
    return group->value_bytes;
}

void sc_group_for_each(const struct sc_group *group, void (*body)(struct sc_blob *, void *),
                       void *context) {
    for (struct item *item = group->first; item != NULL; item = item->next)
        body(item->value, context);
}

struct group_visit {
    void (*body)(struct sc_bytes, struct sc_bytes, void *);
    void *context;
};

// The order is that of a hash table, which callers sort.
static void visit_stream(struct sc_table_node *node, void *context) {
    struct group_visit *visit = context;
    struct stream *stream = SC_CONTAINER_OF(node, struct stream, node);
    struct sc_bytes name = {stream->name, stream->name_size};
    for (struct sc_group *group = stream->groups; group != NULL; group = group->next)
        visit->body(name, (struct sc_bytes){group->name, group->name_size}, visit->context);
}

void sc_store_for_each_group(struct sc_store *store, const struct sc_bytes *stream,
                             void (*body)(struct sc_bytes, struct sc_bytes, void *),
                             void *context) {
    struct group_visit visit = {body, context};
    if (stream == NULL) {
        sc_table_for_each(&store->streams, visit_stream, &visit);
        return;
    }
    struct stream *found = stream_find(store, *stream, sc_hash(*stream, store->seed));
    if (found != NULL)
        visit_stream(&found->node, &visit);
}

// ---- In steps

// One walk at a time. Groups that go meanwhile move it on; those that come are found when they lie behind it.
void sc_group_walk_begin(struct sc_store *store, const struct sc_bytes *stream) {
    assert(!store->walking);
    store->walking = true;
    store->walks_one = stream != NULL;
    store->walk_next = store->all_first;
    if (stream == NULL)
        return;
    struct stream *found = stream_find(store, *stream, sc_hash(*stream, store->seed));
    store->walk_next = found == NULL ? NULL : found->groups;
}

// At most so many, whatever the store has. True: it is over, and another one may begin.
bool sc_group_walk_step(struct sc_store *store, uint32_t most,
                        void (*body)(struct sc_bytes, struct sc_bytes, void *), void *context) {
    assert(store->walking);
    struct sc_group *group = store->walk_next;
    for (; group != NULL && most > 0; most--) {
        body((struct sc_bytes){group->stream->name, group->stream->name_size},
             (struct sc_bytes){group->name, group->name_size}, context);
        group = store->walks_one ? group->next : group->all_next;
    }
    store->walk_next = group;
    if (group == NULL)
        sc_group_walk_end(store);
    return group == NULL;
}

void sc_group_walk_end(struct sc_store *store) {
    store->walking = false;
    store->walk_next = NULL;
}
