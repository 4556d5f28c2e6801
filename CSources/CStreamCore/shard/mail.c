// Work for other shards. A request travels to the owner of its group and back in the same memory, which is charged to
// its connection; at the limit its next calls wait.
#include <stdlib.h>

#include "shard.h"

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
    struct request *request = sc_allocate(kind->size + size);
    memset(request, 0, kind->size);
    *request = (struct request){
        .origin = origin, .owner = owner, .kind = kind, .call = *call, .texts_size = size};
    call_slices(&request->call, slices);
    uint8_t *at = (uint8_t *)request + kind->size;
    for (size_t i = 0; i < CALL_SLICES; i++)
        move_in(&at, slices[i]);
    move_in(&at, &request->call.echo.baggage);
    request->extra = extra;
    move_in(&at, &request->extra);
    request->call.request = request;
    request->call.caller = NULL;
    (void)sc_account_retain(request->call.account);
    return request;
}

static uint64_t size_of(const struct request *request) {
    return request->kind->size + request->texts_size;
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

void sc_request_free(struct request *request) {
    if (request->reply_charged > 0) {
        sc_account_discharge(request->call.account, SC_PLACE_ANSWERS, request->reply_charged);
        sc_account_fell(request->origin, request->call.account);
    }
    sc_blob_release(request->reply);
    if (request->kind->drop != NULL)
        request->kind->drop(request);
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
