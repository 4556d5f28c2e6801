// What happens to groups, on its way to subscribers and triggers. A happening is an outcome of its change: it leaves when that
// is durable. Subscribers of other shards get what happened in a turn in one batch; while a shard is behind with them, no
// change starts on the shard that sends them, so the slower of the two sets the pace and nothing piles up.
#include <stdlib.h>

#include "streams.h"

// ---- Events

// Subscribers of this shard first, then the batches: neither sees the other, and both see the order of the outcomes.
static void release_event(struct shard *shard, struct outcome *outcome) {
    struct topic *topic = outcome->topic;
    struct sc_bytes item = sc_outcome_text(&shard->outcomes, outcome, 0);
    if (item.data == NULL)
        item = SC_LITERAL("");
    struct history_event event = {.frame = outcome->slice,
                                  .position = outcome->position,
                                  .item = outcome->has_item ? &item : NULL,
                                  .change = outcome->change};
    sc_topic_deliver(shard, topic, &event);
    if (topic->remotes != NULL)
        sc_event_to_peers(shard, topic, &event);
    sc_slice_release(shard, outcome->slice);
    topic->in_flight--;
    sc_topic_drop_idle(shard, topic);
}

static void revoke_event(struct shard *shard, struct outcome *outcome,
                         const struct revocation *revocation) {
    (void)revocation;
    sc_slice_release(shard, outcome->slice);
    outcome->topic->in_flight--;
    sc_topic_drop_idle(shard, outcome->topic);
}

static const struct outcome_kind event_kind = {release_event, revoke_event};

static void release_trigger(struct shard *shard, struct outcome *outcome) {
    sc_announce(shard, outcome->connection, outcome->message);
}

static void revoke_trigger(struct shard *shard, struct outcome *outcome,
                           const struct revocation *revocation) {
    (void)shard;
    (void)revocation;
    sc_message_release(outcome->message);
}

static const struct outcome_kind trigger_kind = {release_trigger, revoke_trigger};

// ---- What happens

// The topic of the call's group when anyone, on any shard, subscribes to it.
static struct topic *interested(struct shard *shard, const struct call *call) {
    struct topic *topic = sc_topic_find(shard, &call->name);
    if (topic == NULL || topic->interest > 0)
        return topic;
    sc_kept_drop(topic); // It will miss this change.
    return NULL;
}

/// What happened to a group, or to an item of it, and who did it.
struct happening {
    const struct sc_group_name *name;
    const struct sc_bytes *_Nullable item;
    const struct sc_bytes *parts; // What stands behind `"event":{"type":`.
    size_t part_count;
    struct sc_bytes kind;
    uint64_t writer;
    struct sc_account *_Nullable account;
    bool stored; // It is a change of what the store has.
};

static void emit_to_topic(struct shard *shard, struct topic *topic, uint64_t timestamp,
                          const struct happening *happening) {
    const struct sc_bytes *item = happening->item;
    struct slice slice =
        sc_stream_frame(shard, lane_of_topic(topic->node.hash), timestamp, topic_prefix(topic),
                        item, happening->parts, happening->part_count);
    struct outcome *outcome = sc_outcome_push(shard);
    outcome->kind = &event_kind;
    outcome->topic = topic;
    outcome->slice = slice;
    outcome->has_item = item != NULL;
    outcome->change = happening->stored;
    if (item != NULL)
        sc_outcome_keep(shard, outcome, item, 1);
    sc_outcome_charge(shard, outcome, happening->account, slice.size);
    topic->in_flight++;
    shard->counters.events++;
    if (topic->progress != NULL)
        sc_kept_note(shard, topic,
                     &(struct history_event){slice, outcome->position, item, happening->stored});
}

static void emit_to_triggers(struct shard *shard, uint64_t timestamp,
                             const struct happening *happening) {
    struct sc_change_notice notice = {.timestamp = timestamp,
                                      .stream = happening->name->stream,
                                      .group = happening->name->group,
                                      .item = happening->item,
                                      .event = happening->parts,
                                      .event_count = happening->part_count,
                                      .kind = happening->kind};
    struct sc_message *message = sc_change_message(&notice, happening->account);
    struct outcome *outcome = sc_outcome_push(shard);
    outcome->kind = &trigger_kind;
    outcome->connection = happening->writer;
    outcome->message = message;
}

// Subscribers come first, then triggers.
static void emit(struct shard *shard, struct topic *topic, bool watched, uint64_t timestamp,
                 const struct happening *happening) {
    if (topic != NULL)
        emit_to_topic(shard, topic, timestamp, happening);
    if (watched)
        emit_to_triggers(shard, timestamp, happening);
}

// Most streams have no trigger, and then nothing is made for one.
static bool is_watched(struct shard *shard, const struct sc_group_name *name) {
    return (sc_watch_flags(shard, name->stream) & SC_WATCH_CHANGES) != 0;
}

void sc_emit_change(struct shard *shard, const struct call *call, const struct sc_change *change,
                    struct sc_bytes value) {
    static const struct sc_bytes kinds[] = {[SC_CHANGE_CREATE] = {(const uint8_t *)"create", 6},
                                            [SC_CHANGE_UPDATE] = {(const uint8_t *)"update", 6},
                                            [SC_CHANGE_DELETE] = {(const uint8_t *)"delete", 6}};
    struct topic *topic = interested(shard, call);
    bool watched = is_watched(shard, &call->name);
    shard->counters.changes++;
    if (topic == NULL && !watched)
        return;
    struct sc_bytes kind = kinds[change->kind];
    struct sc_bytes parts[4];
    struct happening happening = {.name = &call->name,
                                  .item = &call->item,
                                  .parts = parts,
                                  .part_count = sc_event_change(parts, kind, value),
                                  .kind = kind,
                                  .writer = call->connection,
                                  .account = call->account,
                                  .stored = change->position > 0};
    emit(shard, topic, watched, change->timestamp_ms, &happening);
}

// An event of a worker is in no store. It is stamped all the same, in the order of its item or group, and is not part of what follows
// a kept `sync`: a joiner gets no event of before its join.
void sc_emit_sent(struct shard *shard, const struct call *call) {
    struct topic *topic = interested(shard, call);
    bool watched = is_watched(shard, &call->name);
    if (topic == NULL && !watched)
        return;
    const struct sc_bytes *item = call->has_item ? &call->item : NULL;
    uint64_t timestamp = sc_store_stamp_event(shard->store, &call->name, item, sc_now_ms(shard));
    struct sc_buffer type = {0}, compact = {0};
    sc_json_write_string(&type, call->type);
    struct sc_bytes data = call->data.text;
    uint8_t *out = call->data.compact ? NULL : sc_buffer_reserve(&compact, data.size);
    if (out != NULL)
        data = (struct sc_bytes){out, sc_json_compact(call->data, out)};
    struct sc_bytes parts[5];
    struct happening happening = {.name = &call->name,
                                  .item = item,
                                  .parts = parts,
                                  .part_count =
                                      sc_event_custom(parts, sc_buffer_bytes(&type), data),
                                  .kind = SC_LITERAL("event"),
                                  .writer = call->connection,
                                  .account = call->account};
    emit(shard, topic, watched, timestamp, &happening);
    sc_buffer_deinit(&compact);
    sc_buffer_deinit(&type);
}

// The item is not in the store: it lives wherever the overriding function keeps it.
void sc_emit_override(struct shard *shard, const struct sc_group_name *name, struct sc_bytes item,
                      enum sc_event_kind kind, struct sc_bytes data, uint64_t writer) {
    static const enum sc_change_kind kinds[] = {[SC_EVENT_CREATE] = SC_CHANGE_CREATE,
                                                [SC_EVENT_UPDATE] = SC_CHANGE_UPDATE,
                                                [SC_EVENT_DELETE] = SC_CHANGE_DELETE};
    struct call call = {.name = *name, .item = item, .connection = writer};
    struct sc_change change = {
        .kind = kinds[kind],
        .timestamp_ms = sc_store_stamp_event(shard->store, name, &item, sc_now_ms(shard))};
    sc_emit_change(shard, &call, &change, data);
}

// ---- To other shards

/// Frames for the subscribers of another shard, collected during a turn.
struct event_batch {
    struct sc_loop_message message;
    struct shard *from;
    struct shard *to;
    struct sc_buffer
        bytes; // Entries without padding: a struct batch_entry, the id of its item, its frame.
    bool returning;
};
struct batch_entry {
    struct topic *topic;
    uint64_t position; // Of the owner's store.
    uint32_t frame_size;
    uint16_t item_size;
    bool has_item;
    bool change;
};

// The memory comes back to the shard that has made it, and with it the room for more.
static void batch_returned(struct sc_loop_message *message) {
    struct event_batch *batch = SC_CONTAINER_OF(message, struct event_batch, message);
    struct shard *shard = batch->from;
    shard->peers[batch->to->index].event_bytes -= batch->bytes.size;
    sc_account_discharge(shard->account, SC_PLACE_BATCHES, batch->bytes.size);
    sc_buffer_deinit(&batch->bytes);
    free(batch);
    bool stalled = false;
    for (uint32_t i = 0; i < shard->node->shard_count; i++)
        stalled |= shard->peers[i].event_bytes > SC_BATCHES_SIZE_MAX;
    shard->stalled = stalled;
}

// The topics in a batch are this shard's. They are there: a shard that has no subscription left says so to the owner, and keeps its
// topic until the owner has answered.
static void batch_arrived(struct sc_loop_message *message) {
    struct event_batch *batch = SC_CONTAINER_OF(message, struct event_batch, message);
    struct shard *shard = batch->to;
    for (size_t at = 0; at < batch->bytes.size;) {
        struct batch_entry entry;
        memcpy(&entry, batch->bytes.data + at, sizeof entry);
        at += sizeof entry;
        struct sc_bytes item = {batch->bytes.data + at, entry.item_size};
        at += entry.item_size;
        struct slice slice =
            sc_frames_take(shard, lane_of_topic(entry.topic->node.hash), entry.frame_size);
        memcpy(slice_data(slice), batch->bytes.data + at, entry.frame_size);
        at += entry.frame_size;
        struct history_event event = {.frame = slice,
                                      .position = entry.position,
                                      .item = entry.has_item ? &item : NULL,
                                      .change = entry.change};
        sc_topic_deliver(shard, entry.topic, &event);
        sc_slice_release(shard, slice);
        shard->peers[batch->from->index].position = entry.position;
    }
    batch->message.run = batch_returned;
    sc_loop_post(batch->from->loop, &batch->message);
}

static void event_to_peer(struct shard *shard, struct shard *to, struct topic *topic,
                          const struct history_event *event) {
    const struct sc_bytes *item = event->item;
    struct slice slice = event->frame;
    struct peer *peer = &shard->peers[to->index];
    if (peer->batch == NULL) {
        peer->batch = sc_allocate(sizeof *peer->batch);
        *peer->batch = (struct event_batch){.message.run = batch_arrived, .from = shard, .to = to};
    }
    struct sc_buffer *bytes = &peer->batch->bytes;
    size_t before = bytes->size;
    struct batch_entry entry = {.topic = topic,
                                .position = event->position,
                                .frame_size = slice.size,
                                .item_size = item == NULL ? 0 : (uint16_t)item->size,
                                .has_item = item != NULL,
                                .change = event->change};
    sc_buffer_append(bytes, &entry, sizeof entry);
    if (item != NULL)
        sc_buffer_append_bytes(bytes, *item);
    sc_buffer_append(bytes, slice_data(slice), slice.size);
    if (bytes->failed)
        abort();
    peer->event_bytes += bytes->size - before;
    if (peer->event_bytes > SC_BATCHES_SIZE_MAX) {
        shard->counters.batches_full += !shard->stalled;
        shard->stalled = true;
    }
}

void sc_event_to_peers(struct shard *shard, struct topic *topic,
                       const struct history_event *event) {
    for (uint32_t i = 0; i < shard->node->shard_count; i++) {
        struct remote_interest *remote = &topic->remotes[i];
        if (remote->count > 0)
            event_to_peer(shard, shard->node->shards[i], remote->topic, event);
    }
}

// In every turn, and before everything that must not overtake events: the answer to a join, a stand.
void sc_batches_post(struct shard *shard) {
    for (uint32_t i = 0; i < shard->node->shard_count; i++) {
        struct event_batch *batch = shard->peers[i].batch;
        if (batch == NULL)
            continue;
        shard->peers[i].batch = NULL;
        sc_account_charge(shard->account, SC_PLACE_BATCHES, batch->bytes.size);
        sc_loop_post(batch->to->loop, &batch->message);
    }
}
