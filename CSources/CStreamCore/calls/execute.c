// Calls of stream functions, at the shard that owns the group: evaluated when they arrive, in one order. What follows from a
// change (its event, its answer, a join) is an outcome at the change's position, see outcomes.c.
#include <errno.h>
#include <stdlib.h>

#include "calls.h"

// ---- Calls of other shards, and those that have waited

// The connection has gone: a read of it has no reader, and after a reset nothing that has not begun is done.
static bool nobody_asks(const struct call *call) {
    enum sc_account_owner_state state = sc_account_state(call->account);
    return state == SC_ACCOUNT_CUT || (state == SC_ACCOUNT_LEFT && !sc_call_writes(call->op));
}

// At the owner. The call has waited, or travelled: who has asked may be gone.
static void evaluate(struct shard *owner, struct request *request) {
    if (nobody_asks(&request->call)) {
        owner->counters.calls_dropped++;
        sc_request_finish(request);
        return;
    }
    sc_call_execute(owner, &request->call);
}

// Back at the caller's shard. Without a reply memory was out: the slot ends all the same, or all later answers would wait for it.
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
        sc_answer_connection(origin, request->call.connection, request->call.answer, slice);
}

const struct request_kind sc_request_call = {
    .size = sizeof(struct request), .evaluate = evaluate, .finish = finish, .is_call = true};

// ---- Answers

// The result stands in the answer as it is in the store: it is copied once, into the frame.
static void answer_result(struct shard *shard, struct call *call, struct sc_bytes text) {
    struct sc_bytes body[2];
    sc_call_answer(shard, call, body, sc_result_value(body, text));
}

// `old_value` and `new_value`, as the original answers `set`, `update` and `delete`.
static void answer_change(struct shard *shard, struct call *call,
                          const struct sc_change_result *change) {
    struct sc_bytes body[SC_RESULT_CHANGE_PARTS_MAX];
    sc_call_answer(shard, call, body, sc_result_change(body, change));
}

// Without an allocation of its own: memory is what is out.
static void fail_without_memory(struct shard *shard, struct call *call, const char *code,
                                const char *prefix) {
    char text[96];
    size_t size = strlen(prefix);
    memcpy(text, prefix, size);
    memcpy(text + size, "out of memory", 13);
    sc_call_fail(shard, call, code, (struct sc_bytes){(const uint8_t *)text, size + 13});
}

// ---- The functions

// 0: the call is a short one, whose time is not measured.
static uint64_t long_call_begin(uint64_t size) {
    return size < SC_LONG_CALL_SIZE ? 0 : sc_loop_clock_ns();
}

// Only calls that may be long are measured: a clock costs as much as a short one.
static void long_call_end(struct shard *shard, const struct call *call, uint64_t began_ns) {
    if (began_ns != 0)
        sc_call_queue_charge(shard, call->connection, sc_loop_clock_ns() - began_ns);
}

// The value is copied into the store's own memory first, compact. Then the store takes it over, and what it had before comes back with
// a reference, for the answer.
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
    sc_emit_change(shard, call, &change, sc_blob_bytes(value));
    struct sc_change_result result = {.old_value = text_or_null(change.old_value),
                                      .new_value = sc_blob_bytes(value)};
    answer_change(shard, call, &result);
    sc_blob_release(change.old_value);
}

// A read in its place among the calls: it sees all changes before it.
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
        sc_emit_change(shard, call, &change, sc_blob_bytes(change.old_value));
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
    sc_emit_change(shard, call, &change, sc_blob_bytes(value));
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

// Nothing is stored, so it is answered even where nobody is interested.
static void execute_send(struct shard *shard, struct call *call) {
    sc_emit_sent(shard, call);
    answer_result(shard, call, SC_LITERAL("null"));
}

// The array of a group may be there already, in the cache of its `sync`: the eight bytes in front of that say where. The answer is cut out
// of it, without looking at an item.
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

// A large list takes turns. One that nobody waits for, or that is too large for its caller, is no work at all.
static void execute_list(struct shard *shard, struct call *call) {
    uint64_t size = sc_group_array_size(sc_store_group_find(shard->store, &call->name));
    if (size > SC_GROUP_STEP_SIZE && size <= call->size_max && call->wants_answer) {
        sc_list_read(shard, call);
        return;
    }
    uint64_t began_ns = long_call_begin(size);
    sc_call_list(shard, call);
    long_call_end(shard, call, began_ns);
}

// The calls whose cost follows the size of their data are charged to their connection: see call_queue.c.
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
        sc_list_groups(shard, call); // Groups are on all shards: gathered by the caller's.
        break;
    }
}
