// A `sync` that is kept while the group changes, with a place in the history of what happens: a joiner gets both. See struct
// kept_sync.
#include <stdlib.h>

#include "streams.h"

// From here on the topic has a history of what happens, which every change of the group is appended to.
void sc_kept_begin(struct shard *shard, struct topic *topic, struct sc_blob *sync) {
    sc_kept_drop(topic);
    struct kept_sync *kept = topic->kept = sc_allocate(sizeof *kept);
    *kept = (struct kept_sync){.sync = sync == NULL ? NULL : sc_blob_retain(sync),
                               .position = sc_store_position(shard->store),
                               .made_ns = sc_loop_monotonic_ns(shard->loop),
                               .topic = topic,
                               .next = streams_of(shard)->kept_syncs,
                               .link = &streams_of(shard)->kept_syncs};
    if (kept->next != NULL)
        kept->next->link = &kept->next;
    streams_of(shard)->kept_syncs = kept;
    sc_history_enter(shard, &topic->progress, &kept->reader);
}

// The history goes with its last reader. Joiners have what they need: parts retain their blobs.
void sc_kept_drop(struct topic *topic) {
    struct kept_sync *kept = topic->kept;
    if (kept == NULL)
        return;
    *kept->link = kept->next;
    if (kept->next != NULL)
        kept->next->link = kept->link;
    sc_blob_release(kept->sync);
    sc_history_leave(&kept->reader);
    free(kept);
    topic->kept = NULL;
}

void sc_kept_drop_all(struct shard *shard) {
    while (streams_of(shard)->kept_syncs != NULL)
        sc_kept_drop(streams_of(shard)->kept_syncs->topic);
}

// A `sync` that is older would make joiners read what they need not, and hold a version of the group for nobody.
bool sc_kept_is_stale(const struct shard *shard, const struct kept_sync *kept) {
    return sc_loop_monotonic_ns(shard->loop) - kept->made_ns > SC_SYNC_KEPT_MS * 1000000ull;
}

// A group that does not change any more must not be held twice.
void sc_kept_sweep(struct shard *shard) {
    struct kept_sync *kept = streams_of(shard)->kept_syncs;
    while (kept != NULL) {
        struct kept_sync *next = kept->next;
        if (kept->sync != NULL && sc_kept_is_stale(shard, kept))
            sc_kept_drop(kept->topic);
        kept = next;
    }
}

// Past half of a client's budget a new `sync` is cheaper for all than what would follow this one.
void sc_kept_note(struct shard *shard, struct topic *topic, const struct history_event *event) {
    sc_history_append(topic->progress, event);
    struct kept_sync *kept = topic->kept;
    if (kept->sync == NULL) // The reading sees to it that not too much follows.
        return;
    // A joiner is to have room for what comes next, too.
    uint64_t most = shard->node->config.stream.budget / 2;
    if (kept->sync->size < most)
        most = kept->sync->size;
    if (kept->reader.lost || sc_history_behind(&kept->reader) > most ||
        sc_kept_is_stale(shard, kept))
        sc_kept_drop(topic);
}
