// The answer to a call, and how it leaves: in a frame to a connection of this shard, in the request that the call has come as,
// or as a message to the control plane for a call of the node itself. An answer is an outcome: it leaves when what it tells
// of is durable, and becomes another one when that is taken back.
#include <errno.h>
#include <stdlib.h>

#include "calls.h"

// ---- Answers that leave

void sc_answer_connection(struct shard *shard, uint64_t id, uint32_t slot, struct slice slice) {
    struct caller *caller = sc_caller_find(shard, id);
    if (caller != NULL)
        sc_answer_end(caller, slot, slice);
    sc_slice_release(shard, slice);
}

// Exactly one of three ways: a message to Swift, the way back of a request, or a frame.
static void release_answer(struct shard *shard, struct outcome *outcome) {
    if (outcome->awaited)
        sc_log_answered(shard->log, outcome->connection, sc_loop_monotonic_ns(shard->loop));
    if (outcome->message != NULL)
        sc_announce(shard, SC_NODE_CONNECTION, outcome->message);
    else if (outcome->request != NULL)
        sc_request_finish(outcome->request);
    else
        sc_answer_connection(shard, outcome->connection, outcome->answer, outcome->slice);
}

// The answer becomes what is true without the change. One that says that something is wrong is true still.
static void revoke_answer(struct shard *shard, struct outcome *outcome,
                          const struct revocation *revocation) {
    struct request *request = outcome->request;
    if (request != NULL) {
        sc_blob_release(request->reply);
        request->reply = NULL;
        sc_durable_explain(shard, &request->call, revocation->error, revocation->unknown);
        return;
    }
    struct sc_bytes function_id = sc_outcome_text(revocation->of, outcome, 1);
    if (function_id.data == NULL) {
        sc_outcome_again(shard, outcome);
        return;
    }
    struct call call = {.op = outcome->op,
                        .echo = {.invocation_id = sc_outcome_text(revocation->of, outcome, 0),
                                 .function_id = function_id,
                                 .traceparent = sc_outcome_text(revocation->of, outcome, 2),
                                 .baggage = sc_outcome_text(revocation->of, outcome, 3)},
                        .connection = outcome->connection,
                        .answer = outcome->answer,
                        .size_max = UINT64_MAX,
                        .wants_answer = true};
    sc_durable_explain(shard, &call, revocation->error, revocation->unknown);
    sc_slice_release(shard, outcome->slice);
    sc_message_release(outcome->message);
}

const struct outcome_kind sc_outcome_answer = {release_answer, revoke_answer};

// An answer need not become an outcome where all that has happened is durable. The outcomes before it leave at the end of
// this step, and none of them is for a caller that has answers in another order: those have their slots.
static bool leaves_at_once(const struct shard *shard) {
    return shard->log == NULL || sc_store_position(shard->store) <= sc_durable_position(shard);
}

// ---- Answers

// Nearly all answers: to a connection of this shard, in one frame, without a trace context. They are written in place.
// Without a chunk: it is none of those, and takes the general way.
static struct slice answer_frame(struct shard *shard, const struct call *call,
                                 const struct sc_bytes *body, size_t count) {
    uint64_t size = sc_answer_size(&call->echo, body, count);
    if (size > call->size_max || size > SC_FRAGMENT_SIZE_MAX ||
        call->echo.traceparent.data != NULL || call->echo.baggage.data != NULL)
        return (struct slice){0};
    uint8_t *out;
    struct slice slice = sc_frame_begin(shard, LANE_PRIVATE, size, &out);
    sc_answer_write(out, &call->echo, body, count);
    return slice;
}

// The control plane reads answers of its own calls as it reads results of workers.
static struct sc_message *node_answer(struct sc_bytes text) {
    struct sc_json_index index;
    const char *why = NULL;
    int rc = sc_json_scan(text, SC_JSON_DEPTH_MAX, &index);
    assert(rc == 0);
    return sc_message_make(SC_MESSAGE_RESULT, text, &index, (struct sc_bytes){0}, NULL, &why);
}

void sc_node_answered(struct shard *shard, struct sc_bytes text) {
    sc_announce(shard, SC_NODE_CONNECTION, node_answer(text));
}

// The answer to a call of the node itself is a message, not a frame.
static void answer_node(struct call *call, struct outcome *outcome, const struct sc_bytes *parts,
                        size_t count) {
    struct sc_buffer text = {0};
    for (size_t i = 0; i < count; i++)
        sc_buffer_append_bytes(&text, parts[i]);
    if (text.failed)
        abort(); // Whoever waits for it would wait for ever.
    if (call->request == NULL) {
        outcome->message = node_answer(sc_buffer_bytes(&text));
    } else {
        sc_blob_release(call->request->reply);
        call->request->reply = sc_blob_create(text.size);
        if (call->request->reply != NULL)
            memcpy(call->request->reply->data, text.data, text.size);
    }
    sc_buffer_deinit(&text);
}

// An answer that is too large becomes an error.
static size_t answer_parts_or_error(struct shard *shard, struct sc_bytes *parts,
                                    const struct call *call, const struct sc_bytes *body,
                                    size_t count, bool *is_error) {
    size_t part_count = sc_answer_parts(parts, &call->echo, body, count);
    if (sc_parts_size(parts, part_count) <= call->size_max)
        return part_count;
    shard->counters.results_too_large++;
    *is_error = true;
    struct sc_bytes error[2];
    return sc_answer_parts(parts, &call->echo, error,
                           sc_error_value(error, SC_ERROR_RESULT_TOO_LARGE));
}

// What an error in place of the answer would repeat of the call, which is gone by then.
static void keep_echo(struct shard *shard, const struct call *call, struct outcome *outcome) {
    const struct sc_bytes texts[OUTCOME_TEXTS] = {call->echo.invocation_id, call->echo.function_id,
                                                  call->echo.traceparent, call->echo.baggage};
    outcome->op = call->op;
    sc_outcome_keep(shard, outcome, texts, OUTCOME_TEXTS);
}

// Everything the outcome needs is made now, while the slices of the call are there: when it leaves, or is revoked, they are gone.
static void fill_answer(struct shard *shard, struct call *call, const struct sc_bytes *body,
                        size_t count, bool is_error, struct outcome *outcome) {
    outcome->kind = &sc_outcome_answer;
    outcome->connection = call->connection;
    outcome->answer = call->answer;
    outcome->request = call->request;
    if (!call->wants_answer)
        return;
    bool changes =
        call->op == SC_CALL_SET || call->op == SC_CALL_DELETE || call->op == SC_CALL_UPDATE;
    if (changes && call->connection != SC_NODE_CONNECTION &&
        outcome->position > sc_durable_position(shard)) {
        outcome->awaited = true;
        sc_log_asked(shard->log, call->connection, sc_loop_monotonic_ns(shard->loop));
    }
    struct sc_bytes parts[SC_TEXT_PARTS_MAX];
    size_t part_count = answer_parts_or_error(shard, parts, call, body, count, &is_error);
    bool waits = outcome->position > sc_durable_position(shard);
    if (waits && !is_error && call->request == NULL)
        keep_echo(shard, call, outcome);
    if (call->connection == SC_NODE_CONNECTION)
        answer_node(call, outcome, parts, part_count);
    else if (call->request == NULL)
        outcome->slice = sc_frame_build(shard, LANE_PRIVATE, parts, part_count);
    else {
        sc_blob_release(call->request->reply); // Of a list that could not be read to its end.
        call->request->reply = sc_frame_build_blob(parts, part_count, 0);
    }
    if (call->request != NULL)
        sc_request_charge_reply(call->request);
    else
        sc_outcome_charge(shard, outcome, call->account, outcome->slice.size);
}

// Most answers leave at once, and are never an outcome: nothing waits for the disk in memory, nor do most reads.
static void answer_with(struct shard *shard, struct call *call,
                        const struct sc_bytes *_Nullable body, size_t count, bool is_error) {
    if (!call->wants_answer && call->request == NULL)
        return;
    if (call->caller != NULL && leaves_at_once(shard)) {
        struct slice slice = answer_frame(shard, call, body, count);
        if (slice.chunk != NULL) {
            sc_answer_end(call->caller, call->answer, slice);
            sc_slice_release(shard, slice);
            return;
        }
    }
    if (!sc_call_writes(call->op) && !sc_read_waits(shard)) {
        struct outcome answer = {0};
        fill_answer(shard, call, body, count, is_error, &answer);
        release_answer(shard, &answer);
    } else {
        fill_answer(shard, call, body, count, is_error, sc_outcome_push(shard));
    }
}

void sc_call_answer(struct shard *shard, struct call *call, const struct sc_bytes *_Nullable body,
                    size_t count) {
    answer_with(shard, call, body, count, false);
}

// An error is true whatever the disk does, so it is not revoked: see revoke_answer.
void sc_call_fail(struct shard *shard, struct call *call, const char *code,
                  struct sc_bytes message) {
    if (!call->wants_answer && call->request == NULL)
        return;
    struct sc_buffer text = {0};
    sc_error_write(&text, code, message);
    struct sc_bytes body = sc_buffer_bytes(&text);
    answer_with(shard, call, &body, 1, true);
    sc_buffer_deinit(&text);
}
