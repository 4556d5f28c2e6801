// The worker port: envelopes in, answers out. Calls of stream functions run here, everything that is a
// matter of registration or of another worker goes to the control plane, which answers with commands.
#include <stdlib.h>

#include "sessions.h"

#include <errno.h>

// ---- Envelopes

// The stream function that a call names, served here; negative: none.
// A node without streams has none of these functions: a worker may register them then.
static int stream_op(const struct shard *shard, const struct sc_envelope *envelope) {
    return shard->node->config.without_streams ? -1 : sc_envelope_stream_op(envelope);
}

// Names of the protocol have no character that needs an escape.
static struct sc_bytes inner(struct sc_bytes string) {
    return (struct sc_bytes){string.data + 1, string.size - 2};
}

// Inline: most of a small call's cost in this file would be the copy.
__attribute__((always_inline)) static inline struct call
call_begin(struct connection *connection, const struct sc_envelope *envelope) {
    struct shard *shard = connection_shard(connection);
    struct call call = {
        .echo = {.invocation_id =
                     sc_shown_call_id(sc_envelope_string(envelope, SC_ENVELOPE_INVOCATION_ID),
                                      sessions_of(shard)->shown_call_id),
                 .function_id = sc_shown_id(sc_envelope_string(envelope, SC_ENVELOPE_FUNCTION_ID),
                                            sessions_of(shard)->shown_id),
                 .traceparent = sc_envelope_string(envelope, SC_ENVELOPE_TRACEPARENT),
                 .baggage = sc_envelope_string(envelope, SC_ENVELOPE_BAGGAGE)},
        .connection = connection->id,
        .caller = caller_of(connection),
        .account = connection->account,
        .size_max = worker_of(connection)->outbound_size_max};
    call.wants_answer = call.echo.invocation_id.data != NULL;
    return call;
}

static void fail(struct connection *connection, struct call *call, const char *code,
                 struct sc_bytes message) {
    if (!call->wants_answer)
        return;
    call->answer = sc_answer_begin(caller_of(connection));
    sc_call_fail(connection_shard(connection), call, code, message);
}

// A message that cannot be understood is answered when it says which call it is, and never fatal.
static void invalid(struct connection *connection, const struct sc_envelope *envelope,
                    const char *why) {
    struct shard *shard = connection_shard(connection);
    struct sc_bytes reason = {(const uint8_t *)why, strlen(why)};
    shard->counters.messages_invalid++;
    sc_shard_log(shard, SC_LOG_WARN, "worker_message_invalid", connection->id, reason);
    struct call call = call_begin(connection, envelope);
    fail(connection, &call, "invalid_message", reason);
}

static void bad_input_text(struct sc_buffer *out, const struct call *call, struct sc_bytes reason) {
    sc_input_error_write(out, inner(call->echo.function_id), reason);
}

static void bad_input(struct connection *connection, struct call *call, struct sc_bytes reason) {
    struct sc_buffer text = {0};
    bad_input_text(&text, call, reason);
    fail(connection, call, "deserialization_error", sc_buffer_bytes(&text));
    sc_buffer_deinit(&text);
}

// Reads what a call of a stream function asks for. -EINVAL, with `input->reason`.
static int take_input(struct shard *shard, struct call *call, int op,
                      const struct sc_envelope *envelope, struct sc_call_input *input) {
    int rc = sc_call_input_read((enum sc_call_op)op, envelope->index,
                                envelope->fields[SC_ENVELOPE_DATA], input);
    if (rc < 0)
        return rc;
    if (input->data.text.size > shard->node->config.value_size_max) {
        shard->counters.values_too_large++;
        input->reason = SC_LITERAL("the value is larger than the limit value_bytes");
        return -EINVAL;
    }
    uint64_t hash = sc_store_hash(input->stream, input->group, shard->node->config.seed);
    call->op = (uint8_t)op;
    call->name = (struct sc_group_name){input->stream, input->group, hash};
    call->item = input->item;
    call->has_item = input->has_item;
    call->type = input->type;
    call->data = input->data;
    call->ops = input->ops;
    return 0;
}

#define OVERRIDE_SHIFT 8u
_Static_assert(SC_WATCH_SET == 1u << (OVERRIDE_SHIFT + SC_CALL_SET) &&
                   SC_WATCH_UPDATE == 1u << (OVERRIDE_SHIFT + SC_CALL_UPDATE),
               "the bits of overrides follow the operations");

// A call of a function that is overridden for its stream goes to the control plane. Returns 1 if it does, 0
// if it is not, or -EINVAL with a reason.
// 1: a function of a worker answers instead, and the call is in the control plane's hands.
static int hand_to_override(struct shard *shard, const struct call *call, struct sc_bytes *reason) {
    uint32_t bit = OVERRIDE_SHIFT + call->op;
    if ((sc_watch_flags(shard, call->name.stream) & 1u << bit) == 0)
        return 0;
    struct sc_json_update normal = {0};
    if (call->op == SC_CALL_UPDATE &&
        sc_json_update_normalise(shard->updater, call->ops, &normal) < 0) {
        *reason = normal.reason.size > 0 ? normal.reason : SC_LITERAL("out of memory");
        return -EINVAL;
    }
    struct sc_override override = {.op = (enum sc_call_op)call->op,
                                   .stream = call->name.stream,
                                   .group = call->name.group,
                                   .item = call->item,
                                   .data = call->data,
                                   .ops = normal.value,
                                   .wants_answer = call->wants_answer,
                                   .invocation_id = call->echo.invocation_id,
                                   .function_id = call->echo.function_id,
                                   .traceparent = call->echo.traceparent,
                                   .baggage = call->echo.baggage,
                                   .bit = bit};
    sc_announce(shard, call->connection, sc_override_message(&override, call->account));
    return 1;
}

// Groups of another shard are its own: the call travels. So does one that must wait, to the queue of this shard, since its slices end with
// this message.
static void call_start(struct shard *shard, struct call *call) {
    bool gathers = call->op == SC_CALL_LIST_GROUPS || call->op == SC_CALL_LIST_ALL;
    struct shard *owner = gathers ? shard : sc_shard_of(shard, call->name.hash);
    if (owner == shard && sc_call_may_run(shard, call->connection, sc_call_writes(call->op))) {
        sc_call_execute(shard, call);
        return;
    }
    struct request *request =
        sc_request_make(shard, owner, &sc_request_call, call, (struct sc_bytes){0});
    if (owner != shard) {
        sc_request_send(request);
    } else {
        sc_request_count(request);
        sc_call_queue_append(shard, request);
    }
}

static void run_call(struct connection *connection, const struct sc_envelope *envelope,
                     struct call *call, int op) {
    struct shard *shard = connection_shard(connection);
    struct sc_call_input input;
    int rc = take_input(shard, call, op, envelope, &input);
    if (rc == 0 && watches_any(shard))
        rc = hand_to_override(shard, call, &input.reason);
    if (rc < 0)
        bad_input(connection, call, input.reason);
    if (rc != 0)
        return;
    bool nobody_reads =
        !call->wants_answer || sc_account_state(connection->account) != SC_ACCOUNT_OPEN;
    if (nobody_reads && !sc_call_writes(call->op)) {
        shard->counters.reads_dropped++;
        return;
    }
    if (call->wants_answer)
        call->answer = sc_answer_begin(caller_of(connection));
    call_start(shard, call);
}

// Registrations hold what the connection says next until the control plane has dealt with them.
static bool is_barrier(enum sc_message_type type) {
    return type <= SC_MESSAGE_UNREGISTER_TRIGGER;
}
_Static_assert(SC_MESSAGE_UNREGISTER_TRIGGER == 5 && SC_MESSAGE_REGISTER_FUNCTION == 0,
               "registrations come first");

static void hand_over(struct connection *connection, enum sc_message_type type,
                      struct sc_bytes text, const struct sc_envelope *envelope,
                      enum sc_action action) {
    struct worker *worker = worker_of(connection);
    struct sc_bytes id = {worker->id, worker->id_size};
    const char *why = NULL;
    struct sc_message *message =
        sc_message_make(type, text, envelope->index, id, connection->account, &why);
    if (message == NULL) {
        char reason[96] = "missing or of the wrong type: ";
        memcpy(reason + strlen(reason), why, strlen(why) + 1);
        invalid(connection, envelope, reason);
        return;
    }
    sc_message_set_action(message, action == SC_ACTION_VOID, action == SC_ACTION_ENQUEUE);
    if (is_barrier(type))
        worker->caller.barriers++;
    sc_announce(connection_shard(connection), connection->id, message);
}

// Whether the fields of a call are what they must be; else it is answered, as far as it can be.
static bool invocation_is_valid(struct connection *connection, const struct sc_envelope *envelope,
                                enum sc_action action) {
    const char *why = sc_envelope_call_check(envelope, action);
    if (why != NULL)
        invalid(connection, envelope, why);
    return why == NULL;
}

// Whether the control plane has said of a stream function, once for all, that the worker may call it.
// Decided once for the session, by the control plane: a bit for each stream function.
static bool runs_at_once(const struct worker *worker, const struct sc_envelope *envelope) {
    if (worker->allowed_ops == 0)
        return false;
    int op = sc_envelope_stream_op(envelope);
    return op >= 0 && (worker->allowed_ops & 1u << op) != 0;
}

static void invoke(struct connection *connection, struct sc_bytes text,
                   const struct sc_envelope *envelope, bool allowed) {
    enum sc_action action = sc_envelope_action(envelope);
    if (!invocation_is_valid(connection, envelope, action))
        return;
    if (worker_of(connection)->restricted && !allowed &&
        !runs_at_once(worker_of(connection), envelope)) {
        hand_over(connection, SC_MESSAGE_INVOKE, text, envelope, action);
        return;
    }
    struct call call = call_begin(connection, envelope);
    if (action == SC_ACTION_ENQUEUE) {
        fail(connection, &call, "enqueue_error", SC_LITERAL("QueueModule not loaded"));
        return;
    }
    if (action == SC_ACTION_VOID)
        call.wants_answer = false;
    int op = stream_op(connection_shard(connection), envelope);
    if (op >= 0)
        run_call(connection, envelope, &call, op);
    else
        hand_over(connection, SC_MESSAGE_INVOKE, text, envelope, action);
}

void sc_worker_run_call(struct connection *connection, struct sc_bytes text) {
    struct sc_json_index *index = &connection_shard(connection)->index_scratch;
    int rc = sc_json_scan(text, SC_JSON_DEPTH_MAX, index);
    assert(rc == 0); // It was a message before.
    struct sc_envelope envelope;
    sc_envelope_read(&envelope, index);
    invoke(connection, text, &envelope, true);
}

static void broken(struct connection *connection, struct sc_bytes text,
                   const struct sc_envelope *envelope, int rc) {
    if (!connection->binary && !sc_utf8_valid(text)) {
        sc_connection_close(connection, 1007, "text is not UTF-8");
        return;
    }
    if (sc_envelope_type(envelope) == SC_MESSAGE_RESULT &&
        sc_envelope_string(envelope, SC_ENVELOPE_INVOCATION_ID).data != NULL) {
        // The call that it was to end must not wait, and what could be read of the result is not to be trusted.
        const char *why = NULL;
        struct sc_message *message =
            sc_message_make(SC_MESSAGE_RESULT, text, envelope->index, (struct sc_bytes){0},
                            connection->account, &why);
        if (message != NULL)
            sc_message_set_malformed(message);
        sc_announce(connection_shard(connection), connection->id, message);
        return;
    }
    invalid(connection, envelope,
            rc == -ELOOP ? "the message nests deeper than 127" : "the message is not JSON");
}

bool sc_worker_may_start(const struct connection *connection) {
    const struct worker *worker = worker_of(connection);
    if (!sc_credit_has_room(connection))
        return false;
    // A worker that does not read its answers gets no more of them, long before its budget is used up. One
    // that wants to go need not read them.
    bool reads = connection->backlog == NULL || connection->state != STATE_OPEN ||
                 sc_out_behind(connection) <= connection->port->budget / 4;
    return reads && worker->admitted && worker->caller.barriers == 0 &&
           worker->caller.slot_tail - worker->caller.slot_head < ANSWERS_MAX;
}

static enum sc_telemetry telemetry_of(const struct connection *connection, struct sc_bytes text) {
    return connection->binary ? sc_telemetry_kind(text) : SC_TELEMETRY_NONE;
}

// Whether the writer is held: triggers have more of its events waiting than they may.
static bool writes_wait(const struct connection *connection, enum message_source source) {
    return source != FROM_ASIDE &&
           (worker_of(connection)->writes_held || sc_connection_has_aside(connection));
}

// Whether a call would set off a trigger: it changes a watched stream, or logs.
static bool is_watched_write(struct shard *shard, const struct sc_envelope *envelope) {
    int op = stream_op(shard, envelope);
    if (op < 0) {
        struct sc_bytes id = sc_envelope_string(envelope, SC_ENVELOPE_FUNCTION_ID);
        struct sc_bytes prefix = SC_LITERAL("\"engine::log::");
        return (shard->watch_all & SC_WATCH_LOGS) != 0 && id.size > prefix.size &&
               memcmp(id.data, prefix.data, prefix.size) == 0;
    }
    struct sc_call_input input;
    return sc_call_writes((uint8_t)op) &&
           sc_call_input_read((enum sc_call_op)op, envelope->index,
                              envelope->fields[SC_ENVELOPE_DATA], &input) == 0 &&
           (sc_watch_flags(shard, input.stream) & SC_WATCH_CHANGES) != 0;
}

static bool telemetry(struct connection *connection, struct sc_bytes text, bool may_start,
                      bool sets_aside) {
    struct shard *shard = connection_shard(connection);
    if (telemetry_of(connection, text) != SC_TELEMETRY_LOGS)
        return true;
    if (sets_aside) {
        sc_connection_set_aside(connection, text);
        return true;
    }
    if (!may_start)
        return false;
    if ((shard->watch_all & SC_WATCH_LOGS) == 0)
        return true;
    struct sc_bytes records = {text.data + SC_TELEMETRY_HEAD_SIZE,
                               text.size - SC_TELEMETRY_HEAD_SIZE};
    if (records.size > SC_TELEMETRY_SIZE_MAX) {
        shard->counters.telemetry_too_large++;
        return true;
    }
    if (sc_json_scan(records, SC_JSON_DEPTH_MAX, &shard->index_scratch) < 0) {
        shard->counters.messages_invalid++;
        sc_shard_log(shard, SC_LOG_WARN, "telemetry_invalid", connection->id,
                     SC_LITERAL("not JSON"));
        return true;
    }
    sc_announce(shard, connection->id, sc_logs_message(records, connection->account));
    return true;
}

static bool handle(struct connection *connection, struct sc_bytes text,
                   enum message_source source) {
    if ((text.size == 0 || text.data[0] <= ' ') && sc_text_is_blank(text))
        return true;
    struct sc_json_index *index = &connection_shard(connection)->index_scratch;
    bool others_wait = source == FROM_PEER && sc_connection_has_parked_in_order(connection);
    bool may_start = !others_wait && sc_worker_may_start(connection);
    bool sets_aside = writes_wait(connection, source);
    if (worker_of(connection)->telemetry || telemetry_of(connection, text) != SC_TELEMETRY_NONE)
        return telemetry(connection, text, may_start, sets_aside);
    int rc = sc_json_scan(text, SC_JSON_DEPTH_MAX, index);
    struct sc_envelope envelope;
    sc_envelope_read(&envelope, index);
    int type = rc == 0 && index->root.kind == SC_JSON_OBJECT ? sc_envelope_type(&envelope) : -1;
    if (type == SC_TYPE_IGNORED)
        return true;
    if (type == SC_TYPE_PING && worker_of(connection)->admitted) {
        sc_out_message_pong(connection);
        return true;
    }
    if (type == SC_MESSAGE_RESULT && worker_of(connection)->calls_received == 0) {
        connection_shard(connection)->counters.results_unasked++; // Nobody can wait for it.
        return true;
    }
    if (type == SC_MESSAGE_INVOKE && sets_aside &&
        is_watched_write(connection_shard(connection), &envelope)) {
        sc_connection_set_aside(connection, text);
        return true;
    }
    if (!may_start && type != SC_MESSAGE_RESULT)
        return false;
    if (rc < 0)
        broken(connection, text, &envelope, rc);
    else if (index->root.kind != SC_JSON_OBJECT)
        invalid(connection, &envelope, "the message is no object");
    else if (type < 0)
        invalid(connection, &envelope,
                sc_envelope_string(&envelope, SC_ENVELOPE_TYPE).data == NULL
                    ? "missing or of the wrong type: type"
                    : "unknown message type");
    else if (type == SC_MESSAGE_INVOKE)
        invoke(connection, text, &envelope, false);
    else
        hand_over(connection, (enum sc_message_type)type, text, &envelope, SC_ACTION_CALL);
    if (type == SC_MESSAGE_RESULT &&
        sc_account_bytes(connection->account, SC_PLACE_RESULTS) > SC_RESULTS_SIZE_MAX) {
        connection_shard(connection)->counters.results_held += !connection->throttled;
        sc_connection_throttle(connection);
    }
    return true;
}

bool sc_worker_message(struct connection *connection, struct sc_bytes text,
                       enum message_source source) {
    bool handled = handle(connection, text, source);
    sc_outcomes_release(connection_shard(connection));
    return handled;
}

// An executor is read whatever waits, for the results it owes. Its calls find no room then, and are told so.
bool sc_worker_refuse_call(struct connection *connection, struct sc_bytes text) {
    struct shard *shard = connection_shard(connection);
    struct sc_json_index *index = &shard->index_scratch;
    if (sc_json_scan(text, SC_JSON_DEPTH_MAX, index) < 0 || index->root.kind != SC_JSON_OBJECT)
        return false;
    struct sc_envelope envelope;
    sc_envelope_read(&envelope, index);
    if (sc_envelope_type(&envelope) != SC_MESSAGE_INVOKE)
        return false;
    shard->counters.calls_refused_waiting++;
    struct call call = call_begin(connection, &envelope);
    if (!call.wants_answer || sc_envelope_action(&envelope) != SC_ACTION_CALL)
        return true;
    struct sc_echo echo = {.invocation_id = call.echo.invocation_id,
                           .function_id = call.echo.function_id};
    struct sc_bytes parts[SC_TEXT_PARTS_MAX], error[2];
    size_t count =
        sc_answer_parts(parts, &echo, error, sc_error_value(error, SC_ERROR_TOO_MANY_CALLS));
    struct slice slice = sc_frame_build(shard, LANE_PRIVATE, parts, count);
    sc_out_append(connection, slice);
    sc_slice_release(shard, slice);
    return true;
}

// ---- Calls of the node itself

// A call of the node has no connection: no slot, no account, and no order with others.
void sc_node_call_run(struct shard *shard, struct sc_bytes text) {
    struct sc_json_index *index = &shard->index_scratch;
    int rc = sc_json_scan(text, SC_JSON_DEPTH_MAX, index);
    assert(rc == 0 ||
           rc == -ELOOP); // The control plane made it, around data that may be as deep as any.
    struct sc_envelope envelope;
    sc_envelope_read(&envelope, index);
    struct call call = {
        .echo = {.invocation_id = sc_envelope_string(&envelope, SC_ENVELOPE_INVOCATION_ID),
                 .function_id = sc_envelope_string(&envelope, SC_ENVELOPE_FUNCTION_ID)},
        .connection = SC_NODE_CONNECTION,
        .wants_answer = true,
        .size_max = shard->node->config.message_size_max};
    int op = sc_envelope_stream_op(&envelope);
    assert(op >= 0);
    struct sc_call_input input;
    input.reason = SC_LITERAL("the data nests too deep");
    if (rc == 0)
        rc = take_input(shard, &call, op, &envelope, &input);
    if (rc == 0)
        rc = hand_to_override(shard, &call, &input.reason);
    if (rc == 0) {
        call_start(shard, &call);
    } else if (rc < 0) {
        struct sc_buffer reason = {0};
        bad_input_text(&reason, &call, input.reason);
        sc_call_fail(shard, &call, "deserialization_error", sc_buffer_bytes(&reason));
        sc_buffer_deinit(&reason);
    }
}
