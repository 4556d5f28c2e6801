// Commands of the control plane: each travels to the shard of its connection as a message.
#include <stdlib.h>

#include "../sessions/command.h"
#include "../sessions/sessions.h"
#include "node.h"

// The id of a connection carries the index of its shard in its highest byte, so that no table has to be asked.
static struct shard *shard_of_id(struct sc_node *node, uint64_t id) {
    return node->shared.shards[(id >> 56) % node->shared.shard_count];
}

// Moves a text behind the command. Absent stays absent: a text without data is not empty.
static void keep(uint8_t **at, struct sc_bytes *bytes) {
    if (bytes->data == NULL)
        return;
    memcpy(*at, bytes->data, bytes->size);
    bytes->data = *at;
    *at += bytes->size;
}

// Thread: everything down to "On the shard" runs on the caller's thread, which is any but a shard's. It reads nothing of a shard
// but its loop, which outlives the API: see sc_node_api_enter.
static void run(struct sc_loop_message *message);

// Nothing is posted once the shards are about to go: see sc_node_api_enter.
static void command_post(struct sc_node *node, struct command command) {
    if (!sc_node_api_enter(node))
        return;
    // Texts are copied behind the command: the caller's are gone when the shard runs it. Messages are shared instead; the
    // command holds a reference until sc_command_free.
    size_t size =
        command.first.size + command.second.size + command.third.size + command.fourth.size;
    struct command *copy = sc_allocate(sizeof *copy + size);
    *copy = command;
    copy->node = node;
    copy->message.run = run;
    uint8_t *at = copy->bytes;
    keep(&at, &copy->first);
    keep(&at, &copy->second);
    keep(&at, &copy->third);
    keep(&at, &copy->fourth);
    if (copy->content != NULL)
        sc_message_retain(copy->content);
    // A command about streams names its shard itself.
    if (copy->shard == NULL)
        copy->shard = shard_of_id(node, command.connection);
    sc_loop_post(copy->shard->loop, &copy->message);
    sc_node_api_leave(node);
}

// Truths and small numbers travel in one field. The lowest bit says whether the worker is restricted, the others which
// stream functions it may call without being asked about.
void sc_node_admit(struct sc_node *node, uint64_t connection, struct sc_bytes worker_id,
                   struct sc_bytes reattach_token, bool restricted, uint32_t allowed_ops) {
    assert(worker_id.size <= 36);
    command_post(node, (struct command){.kind = COMMAND_ADMIT,
                                        .connection = connection,
                                        .number = (uint64_t)allowed_ops << 1 | restricted,
                                        .first = worker_id,
                                        .second = reattach_token});
}

// A bit for `allowed_ops`; 0: the function is none of the stream functions, and is always asked about.
uint32_t sc_node_stream_op(struct sc_bytes function_id) {
    int op = sc_call_op_find(function_id);
    return op < 0 ? 0 : 1u << op;
}

// The last one before a connection's own is the one behind which all others have been: see sc_node_release.
static struct shard *shard_after(const struct shard *shard) {
    struct sc_node *node = node_of(shard);
    return node->shared.shards[(shard->index + 1) % node->shared.shard_count];
}

// What a registration has changed (sc_node_watch) must be known to every shard before its worker goes on: the
// release follows it through all of them, and comes to the connection's own last.
void sc_node_release(struct sc_node *node, uint64_t connection) {
    struct shard *first = shard_after(shard_of_id(node, connection));
    command_post(
        node, (struct command){.kind = COMMAND_RELEASE, .connection = connection, .shard = first});
}

// A writer whose triggers have too many of its events waiting. It is read on, and its answers go on: only what it writes to
// watched streams and logs is set aside, or a handler that waits for it would wait for itself.
void sc_node_hold(struct sc_node *node, uint64_t connection, bool held) {
    command_post(node,
                 (struct command){.kind = COMMAND_HOLD, .connection = connection, .number = held});
}

// A call of a restricted worker, which the control plane has allowed. It keeps its place among the calls of its connection.
void sc_node_run_call(struct sc_node *node, uint64_t connection, struct sc_message *message) {
    assert(sc_message_type(message) == SC_MESSAGE_INVOKE);
    command_post(node, (struct command){
                           .kind = COMMAND_RUN_CALL, .connection = connection, .content = message});
}

void sc_node_send(struct sc_node *node, uint64_t connection, struct sc_bytes text) {
    command_post(node,
                 (struct command){.kind = COMMAND_SEND, .connection = connection, .first = text});
}

// Apart from COMMAND_SEND: with its first call a worker becomes an executor, whose results are read whatever else waits.
void sc_node_send_call(struct sc_node *node, uint64_t executor, struct sc_bytes text) {
    command_post(
        node, (struct command){.kind = COMMAND_SEND_CALL, .connection = executor, .first = text});
}

// The message is that of the caller, whose bytes the shard of the executor composes into a frame: the data of a call is never
// copied through Swift.
void sc_node_forward_call(struct sc_node *node, struct sc_message *message, uint64_t executor,
                          struct sc_bytes invocation_id, struct sc_bytes function_id) {
    command_post(node, (struct command){.kind = COMMAND_CALL,
                                        .connection = executor,
                                        .content = message,
                                        .first = invocation_id,
                                        .second = function_id});
}

void sc_node_forward_result(struct sc_node *node, struct sc_message *message, uint64_t caller,
                            struct sc_bytes invocation_id, struct sc_bytes function_id,
                            struct sc_bytes traceparent, struct sc_bytes baggage) {
    command_post(node, (struct command){.kind = COMMAND_RESULT,
                                        .connection = caller,
                                        .content = message,
                                        .first = invocation_id,
                                        .second = function_id,
                                        .third = traceparent,
                                        .fourth = baggage});
}

// What its client takes is known when it says its version, which may be after the first answers.
void sc_node_limit_outbound(struct sc_node *node, uint64_t connection, uint64_t size) {
    command_post(node,
                 (struct command){.kind = COMMAND_LIMIT, .connection = connection, .number = size});
}

// Asks the holder of an id that another worker wants, without waiting for the interval of pings.
void sc_node_ping(struct sc_node *node, uint64_t connection) {
    command_post(node, (struct command){.kind = COMMAND_PING, .connection = connection});
}

void sc_node_close(struct sc_node *node, uint64_t connection, uint16_t code) {
    command_post(node,
                 (struct command){.kind = COMMAND_CLOSE, .connection = connection, .number = code});
}

// ---- About streams and their clients

// Every shard has the table, since every shard may change any stream. Order matters to nobody but to the worker that has
// registered, which sc_node_release sees to.
void sc_node_watch(struct sc_node *node, struct sc_bytes stream, uint32_t flags) {
    for (uint32_t i = 0; i < node->shared.shard_count; i++)
        command_post(node, (struct command){.kind = COMMAND_WATCH,
                                            .shard = node->shared.shards[i],
                                            .number = flags,
                                            .first = stream});
}

void sc_node_upgrade(struct sc_node *node, uint64_t connection, int status,
                     struct sc_bytes context) {
    command_post(node, (struct command){.kind = COMMAND_UPGRADE,
                                        .connection = connection,
                                        .number = (uint64_t)status,
                                        .first = context});
}

void sc_node_decide_join(struct sc_node *node, uint64_t connection, struct sc_message *join,
                         bool allowed) {
    assert(sc_message_type(join) == SC_MESSAGE_JOIN);
    command_post(node, (struct command){.kind = COMMAND_JOIN,
                                        .connection = connection,
                                        .number = allowed,
                                        .content = join});
}

void sc_node_sync(struct sc_node *node, uint64_t connection, struct sc_message *request,
                  struct sc_bytes data) {
    assert(sc_message_type(request) == SC_MESSAGE_SYNC);
    command_post(node,
                 (struct command){.kind = COMMAND_SYNC, .connection = connection, .first = data});
}

// An item that a function keeps elsewhere has no owner in the store, but its events have an order all the same: that of the shard
// to which its group belongs.
void sc_node_emit(struct sc_node *node, uint64_t writer, struct sc_message *call,
                  enum sc_event_kind kind, struct sc_bytes data) {
    assert(sc_message_type(call) == SC_MESSAGE_OVERRIDE);
    struct sc_message_names name;
    sc_message_names_read(call, &name);
    uint64_t hash = sc_store_hash(name.stream, name.group, node->shared.config.seed);
    struct shard *owner = sc_shard_of(node->shared.shards[0], hash);
    command_post(node, (struct command){.kind = COMMAND_EMIT,
                                        .shard = owner,
                                        .connection = writer,
                                        .number = kind,
                                        .content = call,
                                        .first = data});
}

// One level less than a message may have: the text becomes a member of one.
bool sc_node_json_valid(struct sc_bytes text) {
    struct sc_json_index index;
    return text.size > 0 && sc_json_scan(text, SC_JSON_DEPTH_MAX - 1, &index) == 0;
}

// The node calls as a worker does, with a text of its own, so that its calls take the same way as all others: overrides, order
// and limits included.
void sc_node_call(struct sc_node *node, struct sc_bytes invocation_id, struct sc_bytes function_id,
                  struct sc_bytes data) {
    struct sc_buffer text = {0};
    sc_node_call_write(&text, invocation_id, function_id, data);
    // Any shard will do; the first is always there.
    if (!text.failed)
        command_post(node, (struct command){.kind = COMMAND_NODE_CALL,
                                            .shard = node->shared.shards[0],
                                            .first = sc_buffer_bytes(&text)});
    sc_buffer_deinit(&text);
}

// ---- On the shard

// A worker that is closing gets none of these: nothing that the control plane still says is for it.
static void run_for_worker(struct connection *connection, struct command *command) {
    struct worker *worker = worker_of(connection);
    switch ((enum command_kind)command->kind) {
    case COMMAND_ADMIT:
        sc_worker_admit(connection, &(struct worker_admission){
                                        .id = command->first,
                                        .reattach_token = command->second,
                                        .restricted = (command->number & 1) != 0,
                                        .allowed_ops = (uint32_t)(command->number >> 1)});
        break;
    case COMMAND_LIMIT:
        sc_worker_limit_outbound(connection, command->number);
        break;
    case COMMAND_CLOSE:
        sc_connection_close(connection, (uint16_t)command->number, "");
        break;
    case COMMAND_PING:
        sc_connection_ask(connection);
        break;
    case COMMAND_RELEASE: // What waits is looked at when the turn ends.
        assert(worker->caller.barriers > 0);
        worker->caller.barriers--;
        break;
    case COMMAND_HOLD:
        worker->writes_held = command->number != 0; // As above.
        break;
    case COMMAND_RUN_CALL:
        sc_worker_run_call(connection, sc_message_text(command->content));
        break;
    default:
        assert(false); // Those are of streams, or deliveries.
    }
}

// The names lie in the message of the call that was overridden; the hash is that of the store.
static void run_emit(struct shard *shard, const struct command *command) {
    struct sc_message_names name;
    sc_message_names_read(command->content, &name);
    uint64_t hash = sc_store_hash(name.stream, name.group, shard->node->config.seed);
    struct sc_group_name group = {name.stream, name.group, hash};
    sc_emit_override(shard, &group, name.item, (enum sc_event_kind)command->number, command->first,
                     command->connection);
}

// A snapshot that a function gives must fit its frame, as every value does.
static void decide_sync(struct connection *connection, struct sc_bytes data) {
    struct shard *shard = connection_shard(connection);
    if (data.data != NULL && data.size > shard->node->config.sync_size_max) {
        sc_sync_refused(connection);
        return;
    }
    if (data.data != NULL && sc_json_scan(data, SC_VALUE_DEPTH_MAX, &shard->index_scratch) != 0) {
        shard->counters.custom_syncs_refused++;
        data = (struct sc_bytes){0};
    }
    sc_sync_decided(connection, data);
}

// `client` is NULL when it has gone. A join is decided all the same: the control plane has counted it, and hears of its end.
static void run_for_streams(struct shard *shard, struct subscriber *client,
                            const struct command *command) {
    struct connection *connection = client == NULL ? NULL : &client->connection;
    switch ((enum command_kind)command->kind) {
    case COMMAND_WATCH:
        sc_watch_set(shard, command->first, (uint32_t)command->number);
        break;
    case COMMAND_UPGRADE:
        if (connection != NULL)
            sc_client_decide(connection, (int)command->number, command->first);
        break;
    case COMMAND_JOIN:
        sc_join_decided(shard, connection, command->connection, command->content,
                        command->number != 0);
        break;
    case COMMAND_SYNC:
        if (connection != NULL)
            decide_sync(connection, command->first);
        break;
    case COMMAND_EMIT:
        run_emit(shard, command);
        break;
    case COMMAND_NODE_CALL:
        sc_node_call_run(shard, command->first);
        break;
    default:
        assert(false); // Those are of workers.
    }
}

// Sends a command on that has not come to its connection's shard. False: this is it.
static bool pass_on(struct command *command) {
    if (command->kind != COMMAND_RELEASE ||
        command->shard == shard_of_id(command->node, command->connection))
        return false;
    struct sc_node *node = command->node; // The next shard may free the command at once.
    if (!sc_node_api_enter(node)) {
        free(command);
        return true;
    }
    command->shard = shard_after(command->shard);
    sc_loop_post(command->shard->loop, &command->message);
    sc_node_api_leave(node);
    return true;
}

// Thread: that of the shard. Each command is a step of its own, so the outcomes it makes leave at its end. Whoever takes a delivery
// owns the command; all others are freed here.
static void run(struct sc_loop_message *loop_message) {
    struct command *command = SC_CONTAINER_OF(loop_message, struct command, message);
    if (pass_on(command))
        return;
    struct shard *shard = command->shard;
    struct worker *worker = sc_worker_find(shard, command->connection);
    bool usable = worker != NULL && sc_connection_serves(&worker->caller.connection);
    if (command->kind >= COMMAND_WATCH)
        run_for_streams(shard, sc_client_find(shard, command->connection), command);
    else if (usable && sc_command_is_delivery(command)) {
        if (sc_delivery_take(&worker->caller.connection, command))
            return;
    } else if (usable)
        run_for_worker(&worker->caller.connection, command);
    else if (command->kind == COMMAND_CALL)
        sc_undeliverable(command, SC_UNDELIVERABLE_GONE, 0);
    sc_command_free(command);
    sc_outcomes_release(shard);
}
