// Subscriptions that have ended: the owner of the group hears of it, so that it sends this shard no more than is wanted.
#include "streams.h"

/// Subscriptions of another shard that have ended, on their way to the owner of their group and back.
struct leave {
    struct request request;
    struct topic *topic; // The origin's.
    uint32_t count;
};
static struct leave *leave_of(const struct request *request) {
    return SC_CONTAINER_OF(request, struct leave, request);
}

// Never waits behind calls: the connection may have gone, and a leave that waits would keep its topic.
static void evaluate_leave(struct shard *owner, struct request *request) {
    uint32_t count = leave_of(request)->count;
    struct topic *topic = sc_topic_find(owner, &request->call.name);
    assert(topic != NULL && topic->remotes != NULL && topic->interest >= count);
    struct remote_interest *remote = &topic->remotes[request->origin->index];
    assert(remote->count >= count);
    remote->count -= count;
    topic->interest -= count;
    sc_topic_drop_idle(owner, topic);
    sc_batches_post(owner); // The frames sent to it before must not come after its topic has gone.
    sc_request_finish(request);
}

// Until here the topic stays, though nobody subscribes to it: batches with its address may be on their way.
static void finish_leave(struct shard *origin, struct request *request) {
    struct topic *topic = leave_of(request)->topic;
    assert(topic->registrations >= leave_of(request)->count);
    topic->registrations -= leave_of(request)->count;
    sc_topic_drop_idle(origin, topic);
}

static const struct request_kind leave_kind = {.size = sizeof(struct leave),
                                               .evaluate = evaluate_leave,
                                               .finish = finish_leave,
                                               .never_waits = true};

void sc_leave_send(struct shard *shard, struct topic *topic, uint32_t count) {
    if (topic->owner == shard->index) {
        assert(topic->interest >= count);
        topic->interest -= count;
        sc_topic_drop_idle(shard, topic);
        return;
    }
    struct call call = {.name = sc_topic_name(topic)};
    struct request *request = sc_request_make(shard, shard->node->shards[topic->owner], &leave_kind,
                                              &call, (struct sc_bytes){0});
    leave_of(request)->topic = topic;
    leave_of(request)->count = count;
    sc_request_send(request);
}
