// A further subscription of a connection in a group that is read in steps. The connection has frames of the
// group already and gets more of them while the `sync` is made, which is of the position p at which the
// reading began, and would come behind them. So they are held back from p on.
//
// The order, for its shard: among the outcomes, that of a hold is put at p, behind all events up to p and before those
// that follow, and that of the join at q, where the reading ends. Outcomes leave in order, and what goes to another
// shard arrives in order (events in batches, which are posted before either). So the connection has all its
// frames up to p, and none after, when the first is released; what comes then is the frames of p+1 to q, held
// back once for all who wait; and when the second is released it gets the `sync` of p, those frames, and from
// then on what comes. Nothing is lost or repeated, and the stamp of the `sync` is over those of the frames
// before it and under those of the frames behind it.
//
// A reading that is given up (changes were taken back, memory is out) ends with a `sync` of later than p. Another
// hold comes before it: what was held back until then is handed over ahead of that `sync`.
#include <stdlib.h>

#include "core_functions.h"

/// Frames held back in a topic, for one connection or many. About half a client's budget at most: a group is read the
/// faster the more of it has come (next_step in listing.c).
struct held_back {
    struct frame_tail tail;
    uint32_t frame_count;
    uint32_t connection_count;
};

// ---- At the owner

static const struct outcome_kind hold_outcome;

void sc_hold_push(struct shard *owner, struct topic *topic, struct request *request) {
    struct outcome *outcome = sc_outcome_push(owner);
    outcome->kind = &hold_outcome;
    outcome->topic = topic;
    outcome->request = request;
}

/// To the shard of the connection.
struct hold_message {
    struct sc_loop_message message;
    struct shard *shard;
    struct topic *topic;
    uint64_t connection;
};

static void hold(struct shard *shard, struct topic *topic, uint64_t id);

static void arrived(struct sc_loop_message *message) {
    struct hold_message *own = SC_CONTAINER_OF(message, struct hold_message, message);
    hold(own->shard, own->topic, own->connection);
    free(own);
}

static void release(struct shard *owner, struct outcome *outcome) {
    const struct request *request = outcome->request;
    if (request->origin == owner) {
        hold(owner, outcome->topic, request->call.connection);
        return;
    }
    // Not in the request's own memory: that may be on its way back before this has arrived.
    struct hold_message *message = sc_allocate(sizeof *message);
    *message = (struct hold_message){.message.run = arrived,
                                     .shard = request->origin,
                                     .topic = request->topic,
                                     .connection = request->call.connection};
    sc_batches_post(owner); // Earlier frames of the group go first.
    sc_loop_post(message->shard->loop, &message->message);
}

// The reading begins again, or has ended with the join that comes behind.
static void revoke(struct shard *owner, struct outcome *outcome,
                   const struct revocation *revocation) {
    (void)owner;
    (void)outcome;
    (void)revocation;
}

static const struct outcome_kind hold_outcome = {release, revoke};

// ---- At the connection's shard

static void hand_over(struct connection *connection) {
    struct shard *shard = connection_shard(connection);
    struct client_extra *extra = client_of(connection)->extra;
    const struct held_back *held = extra->held_topic->held_back;
    if (held->tail.failed) {
        sc_join_overrun(connection);
    } else if (held->tail.size > extra->held_from) {
        struct slice slice = sc_frames_wrap(shard, held->tail.bytes, extra->held_from);
        slice.size = held->tail.size - extra->held_from;
        sc_out_append(connection, slice);
        sc_slice_release(shard, slice);
        shard->counters.deliveries += held->frame_count - extra->held_from_count;
    }
    extra->held_from = held->tail.size;
    extra->held_from_count = held->frame_count;
}

static void hold(struct shard *shard, struct topic *topic, uint64_t id) {
    struct connection *connection = sc_connection_find(shard, id);
    if (connection == NULL || !sc_connection_serves(connection))
        return;
    struct client_extra *extra = sc_client_extra(connection);
    assert(extra->held_topic == NULL || extra->held_topic == topic);
    if (extra->held_topic != NULL) {
        hand_over(connection);
        return;
    }
    struct held_back *held = topic->held_back;
    if (held == NULL) {
        held = topic->held_back = sc_allocate(sizeof *held);
        *held = (struct held_back){0};
    }
    held->connection_count++;
    extra->held_topic = topic;
    extra->held_from = held->tail.size;
    extra->held_from_count = held->frame_count;
    sc_topic_pause_member(connection, topic);
}

void sc_held_back_append(struct topic *topic, struct slice frame) {
    struct held_back *held = topic->held_back;
    sc_tail_append(&held->tail, frame);
    held->frame_count++;
}

static void end(struct connection *connection) {
    struct client_extra *extra = client_of(connection)->extra;
    struct topic *topic = extra->held_topic;
    sc_topic_resume_member(connection, topic);
    extra->held_topic = NULL;
    if (--topic->held_back->connection_count > 0)
        return;
    sc_blob_release(topic->held_back->tail.bytes);
    free(topic->held_back);
    topic->held_back = NULL;
}

void sc_hold_give_up(struct connection *connection) {
    if (client_of(connection)->extra != NULL && client_of(connection)->extra->held_topic != NULL)
        end(connection);
}

void sc_hold_end(struct connection *connection) {
    if (client_of(connection)->extra == NULL || client_of(connection)->extra->held_topic == NULL)
        return;
    hand_over(connection);
    end(connection);
}
