// The `sync` of a large group is read in steps. Those who join the group meanwhile share it, and the changes since then (struct
// kept_sync) follow it. A connection that gets events of the group already stands still from then on (catch_up.c).
#include <stdlib.h>

#include "streams.h"

struct sync_reading {
    struct reading reading;
    struct topic *topic;
    struct request *_Nullable joins; // They wait for the `sync`; the last one first.
    bool waited;                     // For room.
    uint64_t passed;    // Bytes of events since the reading began, when the last step was taken.
    uint64_t position;  // Of the store, when the reading began.
    uint64_t timestamp; // Of the `sync`.
};
static struct sync_reading *own(const struct reading *reading) {
    return SC_CONTAINER_OF(reading, struct sync_reading, reading);
}

/// Joins that go on, since their `sync` is made, or since they are to be evaluated without one.
struct joins_ready {
    struct joins_ready *_Nullable next;
    struct topic *topic; // It is there as long as one of them is.
    struct request *_Nullable first;
    struct sc_blob *_Nullable sync;
    uint32_t evaluated;
};

// ---- Joins that go on

// Joins are evaluated in the order in which they came. A connection that stands still gets this very `sync`; without
// one it gets a later one, and before that the events that it has waited with.
static void evaluate_join(struct shard *shard, struct topic *topic, struct request *join,
                          struct sc_blob *_Nullable sync, bool at_once) {
    bool stands = join_of(join)->from == JOIN_FROM_NOW;
    if (stands && sync != NULL) {
        sc_join_with_sync(shard, topic, join, sync);
        return;
    }
    if (stands)
        sc_stand_push(shard, topic, join);
    else
        join_of(join)->from = JOIN_FROM_ANY; // What is kept now was begun after it had come.
    sc_join_snapshot(shard, topic, join, at_once);
}

// Evaluates some of the joins that go on. In a later turn nothing is read at once for them: the group may have changed, and
// would be read in each turn.
static void evaluate_joins(struct shard *shard, struct joins_ready *ready) {
    bool at_once = ready->evaluated == 0 && (ready->sync == NULL || ready->topic->kept == NULL);
    bool deferred = ready->evaluated > 0;
    for (uint32_t i = 0; ready->first != NULL && i < SC_JOINS_PER_TURN; i++) {
        struct request *join = ready->first;
        ready->first =
            join->next_waiting; // The request may be freed now, and the topic with the last one.
        evaluate_join(shard, ready->topic, join, ready->sync, at_once);
        ready->evaluated++;
        shard->counters.joins_deferred += deferred;
    }
}

// One group after the other, so that the joiners of one are not held up by those of another that came later.
void sc_joins_ready_turn(struct shard *shard) {
    struct joins_ready *ready = streams_of(shard)->joins_ready;
    if (ready == NULL)
        return;
    evaluate_joins(shard, ready);
    if (ready->first != NULL) {
        sc_shard_turn_again(shard);
        return;
    }
    streams_of(shard)->joins_ready = ready->next;
    shard->stepped--;
    sc_blob_release(ready->sync);
    free(ready);
}

// `joins` has the last one first.
static void joins_go_on(struct shard *shard, struct topic *topic, struct request *joins,
                        struct sc_blob *_Nullable sync) {
    struct joins_ready *ready = sc_allocate(sizeof *ready);
    *ready =
        (struct joins_ready){.topic = topic, .sync = sync == NULL ? NULL : sc_blob_retain(sync)};
    while (joins != NULL) {
        struct request *next = joins->next_waiting;
        joins->next_waiting = ready->first;
        ready->first = joins;
        joins = next;
    }
    struct joins_ready **end = &streams_of(shard)->joins_ready;
    while (*end != NULL)
        end = &(*end)->next;
    *end = ready;
    shard->stepped++;
    if (streams_of(shard)->joins_ready == ready)
        sc_joins_ready_turn(shard);
}

// ---- The reading

static struct sc_group_name name(const struct reading *reading) {
    return sc_topic_name(own(reading)->topic);
}

// Nothing waits for it but its own joins.
static bool has_room(struct shard *shard, struct reading *reading, uint64_t size) {
    if (sc_snapshots_have_room(shard, size))
        return true;
    shard->counters.joins_waited += own(reading)->waited ? 0 : 1;
    own(reading)->waited = true;
    return false;
}

static bool begin_sync(struct shard *shard, struct reading *reading, uint64_t array_size) {
    struct sync_reading *sync = own(reading);
    struct topic *topic = sync->topic;
    struct sc_group_name group = sc_topic_name(topic);
    sync->timestamp = sc_store_stamp_group_sync(shard->store, &group, sc_now_ms(shard));
    uint8_t digits[20];
    struct sc_bytes parts[SC_SYNC_HEAD_PARTS];
    sc_sync_head(parts, digits, topic_prefix(topic), sync->timestamp);
    uint64_t head = sc_parts_size(parts, SC_SYNC_HEAD_PARTS),
             payload = head + array_size + SC_STREAM_TEXT_END.size;
    if (array_size > shard->node->config.sync_size_max)
        return false;
    struct sc_blob *blob = sc_blob_create(sizeof(uint64_t) + sc_ws_message_size(payload));
    if (blob == NULL)
        return false;
    uint64_t offset = sizeof(uint64_t) + sc_ws_header_size(payload) + head;
    offset = payload > SC_FRAGMENT_SIZE_MAX ? 0 : offset;
    memcpy(blob->data, &offset, sizeof offset);
    reading->blob = blob;
    reading->writer = sc_ws_writer_begin(blob->data + sizeof offset, payload);
    for (size_t i = 0; i < SC_SYNC_HEAD_PARTS; i++)
        sc_ws_writer_put(&reading->writer, parts[i]);
    sc_kept_begin(shard, topic, NULL); // The events from here on follow the `sync`.
    sync->position = topic->kept->position;
    return true;
}

// From this position on events of the group wait for the members that want this `sync`.
static void begun(struct shard *shard, struct reading *reading) {
    for (struct request *join = own(reading)->joins; join != NULL; join = join->next_waiting)
        if (join_of(join)->from == JOIN_FROM_NOW)
            sc_stand_push(shard, own(reading)->topic, join);
}

// Events that come meanwhile wait in the histories, which are bounded. So a group is read the faster the faster it
// changes, to be done when half of the bound has come.
static uint64_t haste(struct shard *shard, struct reading *reading) {
    const struct history_reader *reader = &own(reading)->topic->kept->reader;
    uint64_t passed = reader->lost ? UINT64_MAX : sc_history_behind(reader);
    uint64_t most = shard->node->config.stream.budget / 2;
    uint64_t grown = passed - own(reading)->passed;
    own(reading)->passed = passed;
    if (passed >= most)
        return UINT64_MAX;
    return 1 + reading->writer.left * grown / (most - passed) / SC_GROUP_STEP_SIZE;
}

static void sync_made(struct shard *shard, struct sync_reading *sync) {
    struct topic *topic = sync->topic;
    struct kept_sync *kept = topic->kept;
    struct sc_blob *blob = sync->reading.blob;
    sc_ws_writer_put(&sync->reading.writer, SC_STREAM_TEXT_END);
    assert(sync->reading.writer.left == 0 && kept != NULL && kept->sync == NULL);
    shard->counters.syncs_serialised++;
    struct sc_group_name group = sc_topic_name(topic);
    sc_snapshot_made(shard, &group, blob);
    kept->sync = sc_blob_retain(blob);
    kept->made_ns = sc_loop_monotonic_ns(shard->loop);
    if (kept->reader.lost)
        sc_kept_drop(topic);
    // The same stamp again: nothing of the group has been stamped since.
    struct sc_group *found = sc_store_group_find(shard->store, &group);
    if (found != NULL &&
        sync->timestamp == sc_store_stamp_group_sync(shard->store, &group, sc_now_ms(shard)))
        sc_group_cache_set(found, blob);
}

static void finish(struct shard *shard, struct reading *reading) {
    struct sync_reading *sync = own(reading);
    sync_made(shard, sync);
    joins_go_on(shard, sync->topic, sync->joins, reading->blob);
}

// What was kept so far is of a reading that is not there.
static void at_once(struct shard *shard, struct reading *reading) {
    sc_kept_drop(own(reading)->topic);
    joins_go_on(shard, own(reading)->topic, own(reading)->joins, NULL);
}

static bool rollback(struct shard *shard, struct reading *reading, int error, bool unknown) {
    (void)shard;
    (void)error;
    (void)unknown;
    own(reading)->passed = 0;
    return false;
}

void sc_joins_ready_rollback(struct shard *shard) {
    for (struct joins_ready *ready = streams_of(shard)->joins_ready; ready != NULL;
         ready = ready->next) {
        sc_blob_release(ready->sync);
        ready->sync = NULL;
    }
}

static const struct reading_kind sync_kind = {.name = name,
                                              .has_room = has_room,
                                              .begin = begin_sync,
                                              .begun = begun,
                                              .haste = haste,
                                              .finish = finish,
                                              .at_once = at_once,
                                              .rollback = rollback};

// A reading that has begun shows the group as it was: a join that needs a newer state waits for the next one.
void sc_sync_reading_join(struct shard *shard, struct topic *topic, struct request *request) {
    struct reading *reading = shard->readings.first;
    while (reading != NULL &&
           (reading->kind != &sync_kind || own(reading)->topic != topic ||
            (reading->blob != NULL && !sc_join_takes(request, own(reading)->position))))
        reading = reading->next;
    if (reading == NULL) {
        struct sync_reading *made = sc_allocate(sizeof *made);
        *made = (struct sync_reading){.reading.kind = &sync_kind, .topic = topic};
        reading = &made->reading;
        sc_reading_add(shard, reading);
    }
    request->next_waiting = own(reading)->joins;
    own(reading)->joins = request;
}
