// A further subscription of a connection in a group that is read in steps. The connection gets events of the group
// already, and gets more of them while the `sync` is made, which is of the position p at which the reading began, and
// would come behind them. So the connection stands still at p.
//
// The order, for its shard: among the outcomes, that of a stand is put at p, behind all events up to p and before those
// that follow, and that of the join at q, where the reading ends. Outcomes leave in order, and what goes to another
// shard arrives in order (events in batches, which are posted before either). So the connection has all
// events up to p, and none after, when the first is released. A reader in the history then stands at p. When the second is
// released the connection gets the `sync` of p, the events of p+1 to q from the history, and from then on what comes.
// Nothing is lost or repeated, and the stamp of the `sync` is over those of the events before it and under those of
// the events behind it.
//
// A reading that is given up (changes were taken back, memory is out) ends with a `sync` of later than p. Another
// stand comes before it: the events until then are sent ahead of that `sync`.
//
// A reader that falls out of the history gets a `sync` of later than what it has lost: the join is asked for again.
#include <stdlib.h>

#include "streams.h"

// ---- At the owner

static const struct outcome_kind stand_outcome;

// An outcome without bytes: it marks a place in the order, which no lock and no message could.
void sc_stand_push(struct shard *owner, struct topic *topic, struct request *request) {
    struct outcome *outcome = sc_outcome_push(owner);
    outcome->kind = &stand_outcome;
    outcome->topic = topic;
    outcome->request = request;
}

/// To the shard of the connection.
struct stand_message {
    struct sc_loop_message message;
    struct shard *shard;
    struct topic *topic;
    uint64_t connection;
};

static void stand(struct shard *shard, struct topic *topic, uint64_t id);

// Events in batches come by the same mailbox, which keeps the order of one sender.
static void arrived(struct sc_loop_message *message) {
    struct stand_message *own = SC_CONTAINER_OF(message, struct stand_message, message);
    stand(own->shard, own->topic, own->connection);
    free(own);
}

static void release(struct shard *owner, struct outcome *outcome) {
    const struct request *request = outcome->request;
    if (request->origin == owner) {
        stand(owner, outcome->topic, request->call.connection);
        return;
    }
    // Not in the request's own memory: that may be on its way back before this has arrived.
    struct stand_message *message = sc_allocate(sizeof *message);
    *message = (struct stand_message){.message.run = arrived,
                                      .shard = request->origin,
                                      .topic = join_of(request)->topic,
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

static const struct outcome_kind stand_outcome = {release, revoke};

// ---- At the connection's shard

bool sc_catch_up_stands(const struct connection *connection) {
    return subscriber_of(connection)->extra != NULL &&
           subscriber_of(connection)->extra->catch_up != NULL;
}

bool sc_catch_up_has_lost(const struct connection *connection) {
    return sc_catch_up_stands(connection) && subscriber_of(connection)->extra->reader.lost;
}

void sc_catch_up_stand(struct connection *connection, struct topic *topic) {
    struct subscriber_extra *client = sc_subscriber_extra(connection);
    assert(client->catch_up == NULL || client->catch_up == topic);
    if (client->catch_up == NULL)
        sc_topic_pause_member(connection, topic);
    client->catch_up = topic;
    if (client->reader.history == NULL) // It is new, or the `sync` shows what the reader has lost.
        sc_history_enter(connection_shard(connection), &topic->history, &client->reader);
}

static void stand(struct shard *shard, struct topic *topic, uint64_t id) {
    struct connection *connection = sc_connection_find(shard, id);
    if (connection == NULL || !sc_connection_serves(connection))
        return;
    if (sc_catch_up_stands(connection) && !sc_catch_up_has_lost(connection)) {
        sc_catch_up_resume(connection);
        sc_catch_up_send(connection, topic);
    }
    sc_catch_up_stand(connection, topic);
}

void sc_catch_up_resume(struct connection *connection) {
    if (!sc_catch_up_stands(connection))
        return;
    struct subscriber_extra *client = subscriber_of(connection)->extra;
    sc_topic_resume_member(connection, client->catch_up);
    client->catch_up = NULL;
}

static bool subscribes(const void *context, const struct sc_bytes *item) {
    const struct membership *membership = context;
    return sc_subscription_covers(membership, item);
}

void sc_catch_up_send(struct connection *connection, struct topic *topic) {
    struct subscriber_extra *client = subscriber_of(connection)->extra;
    if (client == NULL || client->reader.history == NULL)
        return;
    const struct membership *membership = sc_membership_find(connection, topic);
    struct history_filter filter = {.wants = subscribes, .context = membership};
    if (membership != NULL)
        sc_history_send(&client->reader, &filter, connection);
    sc_history_leave(&client->reader);
}

void sc_catch_up_give_up(struct connection *connection) {
    if (!sc_catch_up_stands(connection))
        return;
    sc_history_leave(&subscriber_of(connection)->extra->reader);
    sc_catch_up_resume(connection);
}
