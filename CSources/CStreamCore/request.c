// Work for other shards. A request travels to the owner of its group and back in the same memory, which is charged to
// its connection; at the limit its next calls wait. Events travel in one batch a
// turn; while a shard is behind with them, the shard that sends them starts no new calls, so the slower
// of the two sets the pace and nothing piles up.
#include <stdlib.h>

#include "core_functions.h"
#include "history.h"

static void move_in(uint8_t **at, struct sc_bytes *bytes) {
    if (bytes->data == NULL)
        return;
    memcpy(*at, bytes->data, bytes->size);
    bytes->data = *at;
    *at += bytes->size;
}

// All slices that a call carries. A slice without data stays that: absent is not empty.
#define CALL_SLICES 9
static void call_slices(struct call *call, struct sc_bytes *slices[_Nonnull CALL_SLICES]) {
    struct sc_bytes *all[CALL_SLICES] = {&call->name.stream,
                                         &call->name.group,
                                         &call->item,
                                         &call->type,
                                         &call->data.text,
                                         &call->ops.text,
                                         &call->echo.function_id,
                                         &call->echo.invocation_id,
                                         &call->echo.traceparent};
    memcpy(slices, all, sizeof all);
}

struct request *sc_request_make(struct shard *origin, struct shard *owner,
                                const struct request_kind *kind, const struct call *call,
                                struct sc_bytes extra) {
    struct sc_bytes *slices[CALL_SLICES];
    struct call copy = *call;
    call_slices(&copy, slices);
    size_t size = extra.size + call->echo.baggage.size;
    for (size_t i = 0; i < CALL_SLICES; i++)
        size += slices[i]->size;
    struct request *request = sc_allocate(sizeof *request + size);
    *request = (struct request){
        .origin = origin, .owner = owner, .kind = kind, .call = *call, .extra_size = size};
    call_slices(&request->call, slices);
    uint8_t *at = request->bytes;
    for (size_t i = 0; i < CALL_SLICES; i++)
        move_in(&at, slices[i]);
    move_in(&at, &request->call.echo.baggage);
    request->subscription_id = extra;
    move_in(&at, &request->subscription_id);
    request->call.request = request;
    request->call.caller = NULL;
    (void)sc_account_retain(request->call.account);
    return request;
}

static uint64_t size_of(const struct request *request) {
    return sizeof *request + request->extra_size;
}

// ---- The way back, at the origin

void sc_request_charge_reply(struct request *request) {
    struct sc_account *account = request->call.account;
    if (account == NULL)
        return;
    uint64_t size = request->reply == NULL ? 0 : request->reply->size;
    sc_account_charge(account, SC_PLACE_ANSWERS, size);
    sc_account_discharge(account, SC_PLACE_ANSWERS, request->reply_charged);
    request->reply_charged = size;
}

struct room {
    struct sc_loop_message message;
};

// The turn that it makes looks at the calls that wait.
static void room_made(struct sc_loop_message *message) {
    free(SC_CONTAINER_OF(message, struct room, message));
}

void sc_account_fell(struct shard *shard, struct sc_account *account) {
    if (account != NULL)
        sc_shards_wake(shard, sc_account_take_waiting(account));
}

void sc_shards_wake(struct shard *shard, uint64_t waiting) {
    for (; waiting != 0; waiting &= waiting - 1) {
        struct room *room = sc_allocate(sizeof *room);
        room->message.run = room_made;
        sc_loop_post(shard->node->shards[__builtin_ctzll(waiting)]->loop, &room->message);
    }
}

void sc_request_drop_parts(struct request *request) {
    for (uint32_t i = 0; i < request->part_count; i++)
        sc_blob_release(request->parts[i].bytes);
    free(request->parts);
    request->parts = NULL;
    request->part_count = 0;
}

void sc_request_free(struct request *request) {
    if (request->reply_charged > 0) {
        sc_account_discharge(request->call.account, SC_PLACE_ANSWERS, request->reply_charged);
        sc_account_fell(request->origin, request->call.account);
    }
    sc_blob_release(request->reply);
    sc_names_free(&request->names, request->call.account);
    sc_request_drop_parts(request);
    sc_blob_release(request->context);
    sc_account_release(request->call.account);
    free(request);
}

static void returned(struct sc_loop_message *message) {
    struct request *request = SC_CONTAINER_OF(message, struct request, message);
    struct shard *shard = request->origin;
    shard->peers[request->owner->index].requests--;
    if (request->call.account != NULL)
        sc_account_discharge(request->call.account, SC_PLACE_REQUESTS, size_of(request));
    request->kind->finish(shard, request);
    sc_request_free(request);
    sc_outcomes_release(shard);
}

void sc_request_finish(struct request *request) {
    request->message.run = returned;
    sc_loop_post(request->origin->loop, &request->message);
}

// ---- At the owner

static void arrived(struct sc_loop_message *message) {
    struct request *request = SC_CONTAINER_OF(message, struct request, message);
    struct shard *shard = request->owner;
    if (request->kind->never_waits)
        request->kind->evaluate(shard, request);
    else
        sc_call_queue_take(shard, request);
}

void sc_request_count(struct request *request) {
    request->origin->peers[request->owner->index].requests++;
    if (request->call.account != NULL)
        sc_account_charge(request->call.account, SC_PLACE_REQUESTS, size_of(request));
}

void sc_request_send(struct request *request) {
    sc_request_count(request);
    request->message.run = arrived;
    sc_loop_post(request->owner->loop, &request->message);
}

// ---- Events

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
