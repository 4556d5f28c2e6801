// Calls of stream functions, at the shard that owns the group: evaluated when they arrive, in one order.
// What follows from a change (its event, its answer, a join) is an outcome at the change's position, see outcomes.c.
#include "core_functions.h"
#include "history.h"

#include <errno.h>
#include <stdlib.h>

// ---- Events

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

// ---- Answers that leave

static void answer_connection(struct shard *shard, uint64_t id, uint32_t place,
                              struct slice slice) {
    struct worker *worker = sc_caller_find(shard, id);
    if (worker != NULL)
        sc_worker_answer_end(&worker->connection, place, slice);
    sc_slice_release(shard, slice);
}

static void release_answer(struct shard *shard, struct outcome *outcome) {
    if (outcome->awaited)
        sc_log_answered(shard->log, outcome->connection, sc_loop_monotonic_ns(shard->loop));
    if (outcome->message != NULL)
        sc_announce(shard, SC_NODE_CONNECTION, outcome->message);
    else if (outcome->request != NULL)
        sc_request_finish(outcome->request);
    else
        answer_connection(shard, outcome->connection, outcome->answer, outcome->slice);
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

// ---- Calls of other shards, and those that have waited

// The connection has gone: a read of it has no reader, and after a reset nothing that has not begun is done.
static bool nobody_asks(const struct call *call) {
    enum sc_account_owner_state state = sc_account_state(call->account);
    return state == SC_ACCOUNT_CUT || (state == SC_ACCOUNT_LEFT && !sc_call_writes(call->op));
}

static void evaluate(struct shard *owner, struct request *request) {
    if (nobody_asks(&request->call)) {
        owner->counters.calls_dropped++;
        sc_request_finish(request);
        return;
    }
    sc_call_execute(owner, &request->call);
}

static void finish(struct shard *origin, struct request *request) {
    if (request->call.connection == SC_NODE_CONNECTION) {
        if (request->reply != NULL)
            sc_node_answered(origin, sc_blob_bytes(request->reply));
        return;
    }
    struct slice slice = {0};
    if (request->call.wants_answer && request->reply != NULL)
        slice = sc_frames_wrap(origin, request->reply, 0);
    if (request->call.wants_answer)
        answer_connection(origin, request->call.connection, request->call.answer, slice);
}

const struct request_kind sc_request_call = {
    .evaluate = evaluate, .finish = finish, .is_call = true};

// ---- Answers

// Nearly all answers: to a connection of this shard, in one frame, without a trace context. They are written in place.
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

bool sc_read_waits(const struct shard *shard) {
    return shard->log == NULL || shard->node->config.storage.durability == SC_NODE_COMMIT;
}

void sc_read_answered(struct shard *shard, struct request *request,
                      const struct outcome_kind *kind) {
    struct outcome answer = {
        .kind = kind, .request = request, .position = sc_store_position(shard->store)};
    if (sc_read_waits(shard))
        *sc_outcome_push(shard) = answer;
    else
        kind->release(shard, &answer);
}

static void answer_with(struct shard *shard, struct call *call,
                        const struct sc_bytes *_Nullable body, size_t count, bool is_error) {
    if (!call->wants_answer && call->request == NULL)
        return;
    if (call->caller != NULL && leaves_at_once(shard)) {
        struct slice slice = answer_frame(shard, call, body, count);
        if (slice.chunk != NULL) {
            sc_worker_answer_end(&call->caller->connection, call->answer, slice);
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

static void answer_result(struct shard *shard, struct call *call, struct sc_bytes text) {
    struct sc_bytes body[2];
    sc_call_answer(shard, call, body, sc_result_value(body, text));
}

static void answer_change(struct shard *shard, struct call *call,
                          const struct sc_change_result *change) {
    struct sc_bytes body[SC_RESULT_CHANGE_PARTS_MAX];
    sc_call_answer(shard, call, body, sc_result_change(body, change));
}

static void fail_without_memory(struct shard *shard, struct call *call, const char *code,
                                const char *prefix) {
    char text[96];
    size_t size = strlen(prefix);
    memcpy(text, prefix, size);
    memcpy(text + size, "out of memory", 13);
    sc_call_fail(shard, call, code, (struct sc_bytes){(const uint8_t *)text, size + 13});
}

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

static bool is_watched(struct shard *shard, const struct sc_group_name *name) {
    return (sc_watch_flags(shard, name->stream) & SC_WATCH_CHANGES) != 0;
}

static void emit_change(struct shard *shard, const struct call *call,
                        const struct sc_change *change, struct sc_bytes value) {
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
    emit_change(shard, &call, &change, data);
}

// ---- The functions

// 0: the call is a short one, whose time is not measured.
static uint64_t long_call_begin(uint64_t size) {
    return size < SC_LONG_CALL_SIZE ? 0 : sc_loop_clock_ns();
}

static void long_call_end(struct shard *shard, const struct call *call, uint64_t began_ns) {
    if (began_ns != 0)
        sc_call_queue_charge(shard, call->connection, sc_loop_clock_ns() - began_ns);
}

static void execute_set(struct shard *shard, struct call *call) {
    struct sc_blob *value = NULL;
    if (call->data.compact) {
        value = sc_store_value_create(shard->store, call->data.text.size);
        if (value != NULL)
            sc_bytes_write(value->data, call->data.text); // In the steps in which it is read.
    } else {
        struct sc_buffer text = {0};
        uint8_t *out = sc_buffer_reserve(&text, call->data.text.size);
        size_t size = out == NULL ? 0 : sc_json_compact(call->data, out);
        value = out == NULL ? NULL : sc_store_value_create(shard->store, size);
        if (value != NULL)
            memcpy(value->data, out, size);
        sc_buffer_deinit(&text);
    }
    struct sc_change change;
    int rc = value == NULL ? -ENOMEM
                           : sc_store_set(shard->store, &call->name, call->item, value,
                                          sc_now_ms(shard), &change);
    if (rc < 0) {
        sc_durable_refuse(shard, call, rc);
        return;
    }
    emit_change(shard, call, &change, sc_blob_bytes(value));
    struct sc_change_result result = {.old_value = text_or_null(change.old_value),
                                      .new_value = sc_blob_bytes(value)};
    answer_change(shard, call, &result);
    sc_blob_release(change.old_value);
}

static void execute_get(struct shard *shard, struct call *call) {
    struct sc_blob *value = sc_store_get(shard->store, &call->name, call->item);
    if (value == NULL) { // A missing item: no `result` at all.
        sc_call_answer(shard, call, NULL, 0);
        return;
    }
    uint64_t began_ns = long_call_begin(value->size);
    answer_result(shard, call, sc_blob_bytes(value));
    long_call_end(shard, call, began_ns);
}

static void execute_delete(struct shard *shard, struct call *call) {
    struct sc_change change;
    int rc = sc_store_delete(shard->store, &call->name, call->item, sc_now_ms(shard), &change);
    if (rc < 0) {
        sc_durable_refuse(shard, call, rc);
        return;
    }
    if (change.kind == SC_CHANGE_DELETE)
        emit_change(shard, call, &change, sc_blob_bytes(change.old_value));
    struct sc_change_result result = {.old_value = text_or_null(change.old_value)};
    answer_change(shard, call, &result);
    sc_blob_release(change.old_value);
}

static void apply_update(struct shard *shard, struct call *call, struct sc_bytes old_text) {
    struct sc_json_update update;
    int rc = sc_json_update_apply(shard->updater, old_text, call->ops,
                                  shard->node->config.value_size_max, SC_VALUE_DEPTH_MAX, &update);
    if (rc == -EINVAL) {
        struct sc_buffer text = {0};
        sc_input_error_write(&text, SC_LITERAL("stream::update"), update.reason);
        sc_call_fail(shard, call, "deserialization_error", sc_buffer_bytes(&text));
        sc_buffer_deinit(&text);
        return;
    }
    if (rc == -EMSGSIZE || rc == -ELOOP) {
        shard->counters.values_too_large += rc == -EMSGSIZE;
        sc_call_fail(
            shard, call, "STREAM_UPDATE_ERROR",
            rc == -ELOOP
                ? SC_LITERAL("Failed to update value: the value would nest deeper than 124")
                : SC_LITERAL("Failed to update value: the value would be over value_bytes"));
        return;
    }
    struct sc_blob *value = rc < 0 ? NULL : sc_store_value_create(shard->store, update.value.size);
    if (value != NULL)
        memcpy(value->data, update.value.data, update.value.size);
    struct sc_operations operations = {call->ops.text, update.work};
    struct sc_change change;
    rc = value == NULL ? -ENOMEM
                       : sc_store_update(shard->store, &call->name, call->item, value, &operations,
                                         sc_now_ms(shard), &change);
    if (rc < 0) {
        sc_durable_refuse(shard, call, rc);
        return;
    }
    emit_change(shard, call, &change, sc_blob_bytes(value));
    struct sc_change_result result = {.old_value = text_or_null(change.old_value),
                                      .new_value = sc_blob_bytes(value),
                                      .errors = update.errors};
    answer_change(shard, call, &result);
    sc_blob_release(change.old_value);
}

static void execute_update(struct shard *shard, struct call *call) {
    struct sc_blob *old = sc_store_get(shard->store, &call->name, call->item);
    struct sc_bytes old_text = old == NULL ? (struct sc_bytes){0} : sc_blob_bytes(old);
    uint64_t began_ns = long_call_begin(old_text.size + call->ops.text.size);
    apply_update(shard, call, old_text);
    long_call_end(shard, call, began_ns);
}

static void execute_send(struct shard *shard, struct call *call) {
    struct topic *topic = interested(shard, call);
    bool watched = is_watched(shard, &call->name);
    const struct sc_bytes *item = call->has_item ? &call->item : NULL;
    if (topic != NULL || watched) {
        uint64_t timestamp =
            sc_store_stamp_event(shard->store, &call->name, item, sc_now_ms(shard));
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
    answer_result(shard, call, SC_LITERAL("null"));
}

void sc_call_list(struct shard *shard, struct call *call) {
    if (!call->wants_answer) {
        sc_call_answer(shard, call, NULL, 0);
        return;
    }
    struct sc_group *group = sc_store_group_find(shard->store, &call->name);
    if (sc_group_array_size(group) > call->size_max) {
        shard->counters.results_too_large++;
        struct sc_bytes error[2];
        sc_call_answer(shard, call, error, sc_error_value(error, SC_ERROR_RESULT_TOO_LARGE));
        return;
    }
    struct sc_blob *cache = group == NULL ? NULL : sc_group_cache(group);
    uint64_t offset = 0;
    if (cache != NULL)
        memcpy(&offset, cache->data, sizeof offset);
    if (offset != 0) {
        answer_result(shard, call,
                      (struct sc_bytes){cache->data + offset, sc_group_array_size(group)});
        return;
    }
    struct sc_buffer text = {0};
    if (sc_group_array_write(&text, group))
        answer_result(shard, call, sc_buffer_bytes(&text));
    else
        fail_without_memory(shard, call, "STREAM_GET_GROUP_ERROR", "Failed to get group: ");
    sc_buffer_deinit(&text);
}

static void execute_list(struct shard *shard, struct call *call) {
    uint64_t size = sc_group_array_size(sc_store_group_find(shard->store, &call->name));
    if (size > SC_GROUP_STEP_SIZE && size <= call->size_max && call->wants_answer) {
        sc_listing_add_call(shard, call);
        return;
    }
    uint64_t began_ns = long_call_begin(size);
    sc_call_list(shard, call);
    long_call_end(shard, call, began_ns);
}

void sc_call_execute(struct shard *shard, struct call *call) {
    uint64_t began_ns;
    shard->counters.calls++;
    switch ((enum sc_call_op)call->op) {
    case SC_CALL_SET:
        began_ns = long_call_begin(call->data.text.size);
        execute_set(shard, call);
        long_call_end(shard, call, began_ns);
        break;
    case SC_CALL_GET:
        execute_get(shard, call);
        break;
    case SC_CALL_DELETE:
        execute_delete(shard, call);
        break;
    case SC_CALL_LIST:
        execute_list(shard, call);
        break;
    case SC_CALL_SEND:
        execute_send(shard, call);
        break;
    case SC_CALL_UPDATE:
        execute_update(shard, call);
        break;
    case SC_CALL_LIST_GROUPS:
    case SC_CALL_LIST_ALL:
        sc_names_start(shard, call); // Groups are on all shards: gathered by the caller's.
        break;
    }
}
