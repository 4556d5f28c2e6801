// Large `sync`s that clients have not taken yet. Each version of a group that changes is another one, so what they take
// is bounded: a further one is made when there is room. The progress of the clients makes some: who takes nothing
// is closed.
#include <stdlib.h>

#include "streams.h"

struct snapshot {
    struct snapshot *_Nullable next;
    struct sc_blob *sync;
    struct sc_group_name name;
    uint8_t bytes[]; // Of the name.
};

// The name is copied: the group may be gone before its last version is.
void sc_snapshot_made(struct shard *shard, const struct sc_group_name *name, struct sc_blob *sync) {
    struct snapshot *snapshot =
        sc_allocate(sizeof *snapshot + name->stream.size + name->group.size);
    *snapshot = (struct snapshot){
        .next = streams_of(shard)->snapshots, .sync = sc_blob_retain(sync), .name = *name};
    snapshot->name.stream.data = snapshot->bytes;
    snapshot->name.group.data = snapshot->bytes + name->stream.size;
    memcpy(snapshot->bytes, name->stream.data, name->stream.size);
    memcpy(snapshot->bytes + name->stream.size, name->group.data, name->group.size);
    streams_of(shard)->snapshots = snapshot;
    sc_account_charge(shard->account, SC_PLACE_SNAPSHOTS, sync->size);
}

// Besides this list, the group's cache and what is kept for further joins: none of them grows by who does not read.
static bool is_awaited(struct shard *shard, const struct snapshot *snapshot) {
    uint32_t own = 1;
    struct sc_group *group = sc_store_group_find(shard->store, &snapshot->name);
    struct topic *topic = sc_topic_find(shard, &snapshot->name);
    own += group != NULL && sc_group_cache(group) == snapshot->sync;
    own += topic != NULL && topic->kept != NULL && topic->kept->sync == snapshot->sync;
    return sc_blob_references(snapshot->sync) > own;
}

static void drop(struct shard *shard, struct snapshot *snapshot) {
    sc_account_discharge(shard->account, SC_PLACE_SNAPSHOTS, snapshot->sync->size);
    sc_blob_release(snapshot->sync);
    free(snapshot);
}

// Looks at all of them, and lets go of what nobody has to take: nobody tells when a client has taken one.
bool sc_snapshots_have_room(struct shard *shard, uint64_t size) {
    struct snapshot **link = &streams_of(shard)->snapshots;
    while (*link != NULL) {
        struct snapshot *snapshot = *link;
        if (is_awaited(shard, snapshot)) {
            link = &snapshot->next;
            continue;
        }
        *link = snapshot->next;
        drop(shard, snapshot);
    }
    // One that alone is larger than the limit is let in when there is no other.
    uint64_t taken = sc_account_bytes(shard->account, SC_PLACE_SNAPSHOTS);
    return taken == 0 || taken + size <= shard->account->limit;
}

void sc_snapshots_deinit(struct shard *shard) {
    while (streams_of(shard)->snapshots != NULL) {
        struct snapshot *snapshot = streams_of(shard)->snapshots;
        streams_of(shard)->snapshots = snapshot->next;
        drop(shard, snapshot);
    }
}
