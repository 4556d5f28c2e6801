// What follows from a change waits among the effects until its position is durable. When a write fails, the store takes the
// change back, and the effects that waited become what is still true.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "core_functions.h"

uint64_t sc_durable_position(const struct shard *shard) {
    // In memory a change is as durable as it gets.
    return shard->log == NULL ? sc_store_position(shard->store) : sc_log_released(shard->log);
}

// ---- What calls are told when the disk does not do

static const struct {
    const char *code, *what;
} errors_by_op[] = {
    [SC_CALL_SET] = {"STREAM_SET_ERROR", "Failed to set value"},
    [SC_CALL_GET] = {"STREAM_GET_ERROR", "Failed to get value"},
    [SC_CALL_DELETE] = {"STREAM_DELETE_ERROR", "Failed to delete value"},
    [SC_CALL_LIST] = {"STREAM_GET_GROUP_ERROR", "Failed to get group"},
    [SC_CALL_LIST_GROUPS] = {"STREAM_LIST_GROUPS_ERROR", "Failed to list groups"},
    [SC_CALL_LIST_ALL] = {"STREAM_LIST_ALL_ERROR", "Failed to list stream"},
    [SC_CALL_SEND] = {"STREAM_SEND_ERROR", "Failed to send event"},
    [SC_CALL_UPDATE] = {"STREAM_UPDATE_ERROR", "Failed to update value"},
};

static void fail(struct shard *shard, struct call *call, const char *format, const char *detail) {
    char text[384], why[288];
    snprintf(why, sizeof why, format, detail);
    int size = snprintf(text, sizeof text, "%s: %s", errors_by_op[call->op].what, why);
    sc_call_fail(shard, call, errors_by_op[call->op].code,
                 (struct sc_bytes){(const uint8_t *)text, (size_t)size});
}

void sc_durable_refuse(struct shard *shard, struct call *call, int rc) {
    if (rc == -ENOMEM || rc == -ENOBUFS)
        fail(shard, call, "%s", "out of memory");
    else if (sc_log_is_poisoned(shard->log))
        fail(shard, call,
             "an earlier write to the disk failed (%s); nothing can be changed until the node is "
             "started again",
             strerror(-rc));
    else
        fail(shard, call, "the disk takes no more (%s); nothing was changed, try again later",
             strerror(-rc));
}

// ---- Effects of changes that were taken back

// Joins the fragments of a frame that was built for sending to one text.
static bool payload_of(struct slice slice, struct sc_buffer *out) {
    const uint8_t *at = slice_data(slice), *end = at + slice.size;
    while (end - at >= 2) {
        uint64_t size = at[1];
        size_t header = size < 126 ? 2 : size == 126 ? 4 : 10;
        if (size >= 126) {
            size = 0;
            for (size_t i = 2; i < header; i++)
                size = size << 8 | at[i];
        }
        sc_buffer_append(out, at + header, size);
        at += header + size;
    }
    return !out->failed;
}

static struct sc_bytes text_of(const struct sc_json_index *index, struct sc_bytes key) {
    struct sc_json_member scratch;
    const struct sc_json_member *member = sc_json_index_find(index, -1, key, &scratch);
    return member == NULL || member->value.kind != SC_JSON_STRING ? (struct sc_bytes){0}
                                                                  : member->value.text;
}

static bool has(const struct sc_json_index *index, struct sc_bytes key) {
    struct sc_json_member scratch;
    return sc_json_index_find(index, -1, key, &scratch) != NULL;
}

void sc_durable_explain(struct shard *shard, struct call *call, int error, bool unknown) {
    bool changes =
        call->op == SC_CALL_SET || call->op == SC_CALL_DELETE || call->op == SC_CALL_UPDATE;
    shard->counters.answers_taken_back++;
    if (!changes)
        fail(shard, call, "the disk failed (%s) while it waited for changes before it; ask again",
             strerror(-error));
    else if (unknown)
        fail(shard, call,
             "writing to the disk failed (%s); the outcome is unknown: the change is not in effect "
             "now, and may "
             "reappear after a restart",
             strerror(-error));
    else
        fail(shard, call, "the disk takes no more (%s); nothing was changed, try again later",
             strerror(-error));
}

// The node's own calls are answered with messages, all others with frames.
static bool answer_text(const struct effect *effect, struct sc_buffer *out) {
    if (effect->message == NULL)
        return effect->slice.chunk != NULL && payload_of(effect->slice, out);
    sc_buffer_append_bytes(out, sc_message_text(effect->message));
    return !out->failed;
}

// An answer on this shard: what it was to be is read back from its frame.
static bool local_answer_failed(struct shard *shard, const struct effect *effect, int error,
                                bool unknown) {
    struct sc_buffer text = {0};
    bool failed = false;
    if (answer_text(effect, &text) &&
        sc_json_scan(sc_buffer_bytes(&text), SC_JSON_DEPTH_MAX, &shard->index_scratch) == 0 &&
        !has(&shard->index_scratch, SC_LITERAL("error"))) {
        const struct sc_json_index *index = &shard->index_scratch;
        struct call call = {.echo = {.invocation_id = text_of(index, SC_LITERAL("invocation_id")),
                                     .function_id = text_of(index, SC_LITERAL("function_id")),
                                     .traceparent = text_of(index, SC_LITERAL("traceparent")),
                                     .baggage = text_of(index, SC_LITERAL("baggage"))},
                            .connection = effect->connection,
                            .answer = effect->answer,
                            .size_max = UINT64_MAX,
                            .wants_answer = true};
        struct sc_bytes id = call.echo.function_id;
        int op = id.size < 2 ? -1 : sc_call_op_find((struct sc_bytes){id.data + 1, id.size - 2});
        call.op = (uint8_t)(op < 0 ? SC_CALL_GET : op);
        sc_durable_explain(shard, &call, error, unknown);
        failed = true;
    }
    sc_buffer_deinit(&text);
    return failed;
}

static bool answer_failed(struct shard *shard, const struct effect *effect, int error,
                          bool unknown) {
    struct request *request = effect->request;
    if (request == NULL)
        return local_answer_failed(shard, effect, error, unknown);
    sc_blob_release(request->reply);
    request->reply = NULL;
    if (request->gather != NULL) {
        sc_names_collect(shard, request);
        return false;
    }
    sc_durable_explain(shard, &request->call, error, unknown);
    return true;
}

// Becomes what it is without the changes that were taken back.
static void effect_failed(struct shard *shard, struct effect *effect, int error, bool unknown) {
    sc_effect_settle(shard, effect);
    switch ((enum effect_kind)effect->kind) {
    case EFFECT_EVENT:
        sc_slice_release(shard, effect->slice);
        effect->topic->in_flight--;
        sc_topic_drop_idle(shard, effect->topic);
        return;
    case EFFECT_ANSWER:
        if (answer_failed(shard, effect, error, unknown)) {
            sc_slice_release(shard, effect->slice);
            sc_message_release(effect->message);
            return;
        }
        break;
    case EFFECT_TRIGGER:
        sc_message_release(effect->message);
        return;
    case EFFECT_HOLD:
        return; // The reading begins again, or has ended with the join that comes behind.
    case EFFECT_JOIN: {
        const struct call *call = &effect->request->call;
        if (effect->request->custom)
            break;
        sc_slice_release(shard, effect->slice);
        sc_blob_release(effect->request->tail);
        effect->request->tail = NULL;
        if (effect->request->fresh)
            sc_hold_push(shard, effect->topic, effect->request); // Its `sync` is a later one.
        effect->slice = sc_sync_build(shard, &call->name, call->has_item ? &call->item : NULL);
        break;
    }
    }
    effect->position = sc_store_position(shard->store);
    *sc_effect_push(shard) = *effect;
}

void sc_effects_revoke(void *context, int error, bool unknown) {
    struct shard *shard = context;
    shard->taken_back++;
    sc_kept_drop_all(shard);
    struct effects waiting = shard->effects;
    shard->effects = (struct effects){0};
    for (; waiting.head != waiting.tail; waiting.head++)
        effect_failed(shard, &waiting.ring[waiting.head & waiting.mask], error, unknown);
    free(waiting.ring);
    sc_buffer_deinit(&waiting.names);
    sc_listing_taken_back(shard, error, unknown);
    sc_effects_release(shard);
}
