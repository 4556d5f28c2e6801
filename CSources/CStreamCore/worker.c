// The worker port: envelopes in, answers out. Calls of stream functions run here, everything that is a
// matter of registration or of another worker goes to the control plane, which answers with commands.
#include <stdlib.h>

#include "call_input.h"
#include "core_private.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>

#define ANSWERS_MAX 1024u
#define HANDED_MAX 1024u

// ---- Answers in order

uint32_t worker_answer_begin(struct connection *connection) {
    struct worker *worker = connection->worker;
    uint32_t waiting = worker->answer_tail - worker->answer_head;
    uint32_t capacity = worker->answers == NULL ? 0 : worker->answer_mask + 1;
    if (waiting > 0 && waiting >= capacity) {
        uint32_t larger = capacity == 0 ? 16 : capacity * 2;
        struct answer_slot *slots = allocate(larger * sizeof *slots);
        memset(slots, 0, larger * sizeof *slots);
        for (uint32_t i = worker->answer_head; capacity > 0 && i != worker->answer_tail; i++)
            slots[i & (larger - 1)] = worker->answers[i & worker->answer_mask];
        free(worker->answers);
        worker->answers = slots;
        worker->answer_mask = larger - 1;
    }
    return worker->answer_tail++;
}

void worker_answer_end(struct connection *connection, uint32_t place, struct slice slice) {
    struct worker *worker = connection->worker;
    if (place != worker->answer_head) {
        struct answer_slot *slot = &worker->answers[place & worker->answer_mask];
        assert(!slot->ready);
        *slot = (struct answer_slot){true, slice};
        if (slice.chunk != NULL)
            slice_retain(slice);
        return;
    }
    if (slice.chunk != NULL)
        out_append(connection, slice);
    worker->answer_head++;
    while (worker->answer_head != worker->answer_tail) {
        struct answer_slot *slot = &worker->answers[worker->answer_head & worker->answer_mask];
        if (!slot->ready)
            return;
        if (slot->slice.chunk != NULL)
            out_append(connection, slot->slice);
        slice_release(connection->shard, slot->slice);
        *slot = (struct answer_slot){0};
        worker->answer_head++;
    }
}

// ---- Envelopes

static struct sc_bytes inner(struct sc_bytes string) {
    return (struct sc_bytes){string.data + 1, string.size - 2};
}

static const struct sc_json_member *find(const struct sc_json_index *index, struct sc_bytes key,
                                         struct sc_json_member *scratch) {
    return sc_json_index_find(index, -1, key, scratch);
}

static struct sc_bytes string_field(const struct sc_json_index *index, struct sc_bytes key) {
    struct sc_json_member scratch;
    const struct sc_json_member *member = find(index, key, &scratch);
    if (member == NULL || member->value.kind != SC_JSON_STRING)
        return (struct sc_bytes){0};
    return member->value.text;
}

static struct call call_begin(struct connection *connection, const struct sc_json_index *index) {
    struct call call = {.invocation_id = string_field(index, SC_LITERAL("invocation_id")),
                        .function_id = string_field(index, SC_LITERAL("function_id")),
                        .traceparent = string_field(index, SC_LITERAL("traceparent")),
                        .baggage = string_field(index, SC_LITERAL("baggage")),
                        .connection = connection->id,
                        .size_max = connection->worker->outbound_size_max};
    call.wants_answer = call.invocation_id.data != NULL;
    if (call.function_id.data == NULL)
        call.function_id = SC_LITERAL("\"\"");
    return call;
}

static void fail(struct connection *connection, struct call *call, const char *code,
                 struct sc_bytes message) {
    if (!call->wants_answer)
        return;
    call->answer = worker_answer_begin(connection);
    call_fail(connection->shard, call, code, message);
    effects_release(connection->shard);
}

// A message that cannot be understood is answered when it says which call it is, and never fatal.
static void invalid(struct connection *connection, const struct sc_json_index *index, const char *why) {
    struct shard *shard = connection->shard;
    struct sc_bytes reason = {(const uint8_t *)why, strlen(why)};
    shard->counters.messages_invalid++;
    shard_log(shard, SC_LOG_WARN, "worker_message_invalid", connection->id, reason);
    struct call call = call_begin(connection, index);
    fail(connection, &call, "invalid_message", reason);
}

enum action { ACTION_CALL, ACTION_VOID, ACTION_ENQUEUE, ACTION_INVALID };

static enum action action_of(const struct sc_json_index *index) {
    struct sc_json_member scratch, member;
    const struct sc_json_member *action = find(index, SC_LITERAL("action"), &scratch);
    if (action == NULL || action->value.kind == SC_JSON_NULL)
        return ACTION_CALL;
    if (action->value.kind != SC_JSON_OBJECT)
        return ACTION_INVALID;
    enum action found = ACTION_INVALID;
    bool queue = false;
    size_t offset = 0;
    while (sc_json_next(action->value, &offset, &member)) {
        bool string = member.value.kind == SC_JSON_STRING;
        if (sc_json_string_equal(member.key, member.key_escaped, SC_LITERAL("queue")))
            queue = string;
        if (!sc_json_string_equal(member.key, member.key_escaped, SC_LITERAL("type")))
            continue;
        found = ACTION_INVALID;
        if (string && sc_json_string_equal(inner(member.value.text), member.value.escaped,
                                           SC_LITERAL("void")))
            found = ACTION_VOID;
        if (string && sc_json_string_equal(inner(member.value.text), member.value.escaped,
                                           SC_LITERAL("enqueue")))
            found = ACTION_ENQUEUE;
    }
    return found == ACTION_ENQUEUE && !queue ? ACTION_INVALID : found;
}

static void bad_input(struct connection *connection, struct call *call, struct sc_bytes reason) {
    struct sc_buffer text = {0};
    sc_buffer_append_bytes(&text, SC_LITERAL("Failed to deserialize input for "));
    sc_buffer_append_bytes(&text, inner(call->function_id));
    sc_buffer_append_bytes(&text, SC_LITERAL(": "));
    sc_buffer_append_bytes(&text, reason);
    fail(connection, call, "deserialization_error", sc_buffer_bytes(&text));
    sc_buffer_deinit(&text);
}

static void run_call(struct connection *connection, const struct sc_json_index *index,
                     struct call *call, int op) {
    struct shard *shard = connection->shard;
    struct sc_json_member scratch;
    const struct sc_json_member *data = find(index, SC_LITERAL("data"), &scratch);
    struct sc_call_input input;
    call->op = (uint8_t)op;
    if (sc_call_input_read((enum sc_call_op)op, index, data, &input) < 0) {
        bad_input(connection, call, input.reason);
        return;
    }
    if (input.data.text.size > shard->node->config.value_size_max) {
        bad_input(connection, call, SC_LITERAL("the value is larger than the limit value_bytes"));
        return;
    }
    uint64_t hash = sc_store_hash(input.stream, input.group, shard->node->config.seed);
    call->name = (struct sc_group_name){input.stream, input.group, hash};
    call->item = input.item;
    call->has_item = input.has_item;
    call->type = input.type;
    call->data = input.data;
    call->ops = input.ops;
    if (call->wants_answer)
        call->answer = worker_answer_begin(connection);
    bool gathers = op == SC_CALL_LIST_GROUPS || op == SC_CALL_LIST_ALL;
    struct shard *owner = gathers ? shard : shard_of(shard, hash);
    if (owner == shard)
        call_execute(shard, call);
    else
        request_send(request_make(shard, owner, REQUEST_CALL, call, (struct sc_bytes){0}));
}

static void hand_over(struct connection *connection, enum sc_message_type type, struct sc_bytes text,
                      const struct sc_json_index *index, bool is_void) {
    struct worker *worker = connection->worker;
    struct sc_bytes id = {worker->id, worker->id_size};
    const char *why = NULL;
    struct sc_message *message = message_make(type, text, index, id, worker->handed, &why);
    if (message == NULL) {
        char reason[96] = "missing or of the wrong type: ";
        memcpy(reason + strlen(reason), why, strlen(why) + 1);
        invalid(connection, index, reason);
        return;
    }
    if (is_void)
        message_set_void(message);
    const struct sc_node_events *events = &connection->shard->node->events;
    events->worker_message(events->context, connection->id, message);
    sc_message_release(message);
}

static bool optional_string(const struct sc_json_index *index, struct sc_bytes key) {
    struct sc_json_member scratch;
    const struct sc_json_member *member = find(index, key, &scratch);
    return member == NULL || member->value.kind == SC_JSON_NULL || member->value.kind == SC_JSON_STRING;
}

static void invoke(struct connection *connection, struct sc_bytes text,
                   const struct sc_json_index *index) {
    struct call call = call_begin(connection, index);
    enum action action = action_of(index);
    struct sc_bytes function = string_field(index, SC_LITERAL("function_id"));
    if (function.data == NULL || action == ACTION_INVALID ||
        !optional_string(index, SC_LITERAL("invocation_id")) ||
        !optional_string(index, SC_LITERAL("traceparent")) ||
        !optional_string(index, SC_LITERAL("baggage"))) {
        invalid(connection, index,
                function.data == NULL          ? "missing or of the wrong type: function_id"
                : action == ACTION_INVALID     ? "unknown action"
                                               : "an id or the trace context is not a string");
        return;
    }
    if (action == ACTION_ENQUEUE) {
        fail(connection, &call, "enqueue_error", SC_LITERAL("QueueModule not loaded"));
        return;
    }
    if (action == ACTION_VOID)
        call.wants_answer = false;
    uint8_t decoded[64];
    struct sc_bytes name = inner(function);
    if (name.size <= sizeof decoded && memchr(name.data, '\\', name.size) != NULL)
        name = (struct sc_bytes){decoded, sc_json_unescape(name, decoded)};
    int op = sc_call_op_find(name);
    if (op >= 0)
        run_call(connection, index, &call, op);
    else
        hand_over(connection, SC_MESSAGE_INVOKE, text, index, action == ACTION_VOID);
}

enum { TYPE_PING = 100, TYPE_IGNORED }; // Beside those of enum sc_message_type.

static int type_of(const struct sc_json_index *index) {
    static const struct {
        const char *name;
        int type;
    } names[] = {
        {"invokefunction", SC_MESSAGE_INVOKE},
        {"invocationresult", SC_MESSAGE_RESULT},
        {"ping", TYPE_PING},
        {"pong", TYPE_IGNORED},
        {"registerfunction", SC_MESSAGE_REGISTER_FUNCTION},
        {"unregisterfunction", SC_MESSAGE_UNREGISTER_FUNCTION},
        {"registertrigger", SC_MESSAGE_REGISTER_TRIGGER},
        {"unregistertrigger", SC_MESSAGE_UNREGISTER_TRIGGER},
        {"registertriggertype", SC_MESSAGE_REGISTER_TRIGGER_TYPE},
        {"unregistertriggertype", SC_MESSAGE_UNREGISTER_TRIGGER_TYPE},
        {"triggerregistrationresult", SC_MESSAGE_TRIGGER_REGISTRATION_RESULT},
        {"registerservice", SC_MESSAGE_REGISTER_SERVICE},
        {"workerregistered", TYPE_IGNORED},
    };
    struct sc_json_member scratch;
    const struct sc_json_member *type = find(index, SC_LITERAL("type"), &scratch);
    if (type == NULL || type->value.kind != SC_JSON_STRING)
        return -1;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct sc_bytes name = {(const uint8_t *)names[i].name, strlen(names[i].name)};
        if (sc_json_string_equal(inner(type->value.text), type->value.escaped, name))
            return names[i].type;
    }
    return -1;
}

static void send_pong(struct connection *connection) {
    struct sc_bytes text = SC_LITERAL("{\"type\":\"pong\"}");
    struct slice slice = frame_build(connection->shard, LANE_PRIVATE, &text, 1);
    out_append(connection, slice);
    slice_release(connection->shard, slice);
}

static void broken(struct connection *connection, struct sc_bytes text, const struct sc_json_index *index,
                   int rc) {
    if (!connection->binary && !sc_utf8_valid(text)) {
        connection_close(connection, 1007, "text is not UTF-8");
        return;
    }
    if (type_of(index) == SC_MESSAGE_RESULT && string_field(index, SC_LITERAL("invocation_id")).data != NULL) {
        // The call that it was to end must not wait: what could be read of it ends it with an error.
        hand_over(connection, SC_MESSAGE_RESULT, text, index, false);
        return;
    }
    invalid(connection, index, rc == -ELOOP ? "the message nests deeper than 127" : "the message is not JSON");
}

static bool is_blank(struct sc_bytes text) {
    for (size_t i = 0; i < text.size; i++)
        if (memchr(" \t\r\n", text.data[i], 4) == NULL)
            return false;
    return true;
}

static bool is_telemetry(const struct connection *connection, struct sc_bytes text) {
    return connection->binary && text.size >= 4 &&
           (memcmp(text.data, "OTLP", 4) == 0 || memcmp(text.data, "MTRC", 4) == 0 ||
            memcmp(text.data, "LOGS", 4) == 0);
}

bool worker_message(struct connection *connection, struct sc_bytes text, bool waited) {
    if (connection->kind == KIND_TELEMETRY || is_blank(text) || is_telemetry(connection, text))
        return true;
    struct sc_json_index *index = &connection->shard->index_scratch;
    bool others_wait = !waited && connection->inbound != NULL && connection->inbound->parked_first != NULL;
    bool may_start = !others_wait && connection_can_start(connection);
    int rc = sc_json_scan(text, SC_JSON_DEPTH_MAX, index);
    int type = rc == 0 && index->root.kind == SC_JSON_OBJECT ? type_of(index) : -1;
    if (type == TYPE_IGNORED)
        return true;
    if (type == TYPE_PING && connection->worker->admitted) {
        send_pong(connection);
        return true;
    }
    if (!may_start && type != SC_MESSAGE_RESULT)
        return false;
    if (rc < 0)
        broken(connection, text, index, rc);
    else if (index->root.kind != SC_JSON_OBJECT)
        connection->shard->counters.messages_invalid++;
    else if (type < 0)
        invalid(connection, index, "unknown message type");
    else if (type == SC_MESSAGE_INVOKE)
        invoke(connection, text, index);
    else
        hand_over(connection, (enum sc_message_type)type, text, index, false);
    return true;
}

// ---- Opening and closing

static size_t write_address(int fd, char *out, size_t size) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    char host[INET6_ADDRSTRLEN] = "?";
    unsigned port = 0;
    if (getpeername(fd, (struct sockaddr *)&address, &length) == 0) {
        if (address.ss_family == AF_INET6) {
            const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&address;
            inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof host);
            port = ntohs(in6->sin6_port);
        } else if (address.ss_family == AF_INET) {
            const struct sockaddr_in *in = (const struct sockaddr_in *)&address;
            inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
            port = ntohs(in->sin_port);
        }
    }
    bool six = strchr(host, ':') != NULL;
    struct sc_buffer text = {.data = (uint8_t *)out, .capacity = size};
    sc_buffer_append(&text, "[", six ? 1 : 0);
    sc_buffer_append(&text, host, strlen(host));
    sc_buffer_append(&text, "]:", 2);
    if (!six) {
        text.size -= 2;
        sc_buffer_append(&text, ":", 1);
    }
    uint8_t digits[20];
    sc_buffer_append(&text, digits, sc_decimal_write(digits, port));
    return text.size;
}

void worker_opened(struct connection *connection, struct sc_bytes query) {
    struct shard *shard = connection->shard;
    struct worker *worker = allocate(sizeof *worker);
    *worker = (struct worker){.outbound_size_max = shard->node->config.message_size_max};
    worker->handed = allocate(sizeof *worker->handed);
    atomic_init(worker->handed, 1);
    connection->worker = worker;
    shard->worker_connections++;
    char address[INET6_ADDRSTRLEN + 16];
    size_t size = write_address(connection->socket.fd, address, sizeof address);
    const struct sc_node_events *events = &shard->node->events;
    events->worker_opened(events->context, connection->id, connection->listener,
                          (struct sc_bytes){(uint8_t *)address, size}, query);
}

void worker_closed(struct connection *connection) {
    struct worker *worker = connection->worker;
    struct shard *shard = connection->shard;
    const struct sc_node_events *events = &shard->node->events;
    events->worker_closed(events->context, connection->id);
    shard->worker_connections--;
    for (uint32_t i = worker->answer_head; worker->answers != NULL && i != worker->answer_tail; i++)
        slice_release(shard, worker->answers[i & worker->answer_mask].slice);
    free(worker->answers);
    if (atomic_fetch_sub_explicit(worker->handed, 1, memory_order_acq_rel) == 1)
        free((void *)worker->handed);
    free(worker);
    connection->worker = NULL;
}

bool worker_can_start(const struct worker *worker) {
    return worker->admitted && worker->answer_tail - worker->answer_head < ANSWERS_MAX &&
           atomic_load_explicit(worker->handed, memory_order_relaxed) <= HANDED_MAX;
}
