// Commands of the control plane: each travels to the shard of its connection as a message.
#include <stdlib.h>

#include "command.h"

// Results that wait for their caller beyond so many of its budgets reach it as errors: it has asked for more than it
// takes.
#define RESULTS_FACTOR 2u
// COMMAND_RESULT: in `number`.
#define DOES_NOT_FIT 1u

static struct shard *shard_of_id(struct sc_node *node, uint64_t id) {
    return node->shards[(id >> 56) % node->shard_count];
}

static void keep(uint8_t **at, struct sc_bytes *bytes) {
    if (bytes->data == NULL)
        return;
    memcpy(*at, bytes->data, bytes->size);
    bytes->data = *at;
    *at += bytes->size;
}

static void run(struct sc_loop_message *message);

// Nothing is posted once the shards are about to go: see sc_node_let_in.
void sc_command_post(struct sc_node *node, struct command command) {
    if (!sc_node_let_in(node))
        return;
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
    if (copy->shard == NULL)
        copy->shard = shard_of_id(node, command.connection);
    sc_loop_post(copy->shard->loop, &copy->message);
    sc_node_let_out(node);
}

void sc_node_admit(struct sc_node *node, uint64_t connection, struct sc_bytes worker_id,
                   struct sc_bytes reattach_token, bool restricted, uint32_t allowed_ops) {
    assert(worker_id.size <= 36);
    sc_command_post(node, (struct command){.kind = COMMAND_ADMIT,
                                           .connection = connection,
                                           .number = (uint64_t)allowed_ops << 1 | restricted,
                                           .first = worker_id,
                                           .second = reattach_token});
}

uint32_t sc_node_stream_op(struct sc_bytes function_id) {
    int op = sc_call_op_find(function_id);
    return op < 0 ? 0 : 1u << op;
}

static struct shard *shard_after(const struct shard *shard) {
    struct sc_node *node = shard->node;
    return node->shards[(shard->index + 1) % node->shard_count];
}

// What a registration has changed (sc_node_watch) must be known to every shard before its worker goes on: the
// release follows it through all of them, and comes to the connection's own last.
void sc_node_release(struct sc_node *node, uint64_t connection) {
    struct shard *first = shard_after(shard_of_id(node, connection));
    sc_command_post(
        node, (struct command){.kind = COMMAND_RELEASE, .connection = connection, .shard = first});
}

void sc_node_hold(struct sc_node *node, uint64_t connection, bool held) {
    sc_command_post(
        node, (struct command){.kind = COMMAND_HOLD, .connection = connection, .number = held});
}

void sc_node_run_call(struct sc_node *node, uint64_t connection, struct sc_message *message) {
    assert(sc_message_type(message) == SC_MESSAGE_INVOKE);
    sc_command_post(
        node,
        (struct command){.kind = COMMAND_RUN_CALL, .connection = connection, .content = message});
}

void sc_node_send(struct sc_node *node, uint64_t connection, struct sc_bytes text) {
    sc_command_post(
        node, (struct command){.kind = COMMAND_SEND, .connection = connection, .first = text});
}

void sc_node_send_call(struct sc_node *node, uint64_t executor, struct sc_bytes text) {
    sc_command_post(
        node, (struct command){.kind = COMMAND_SEND_CALL, .connection = executor, .first = text});
}

void sc_node_forward_call(struct sc_node *node, struct sc_message *message, uint64_t executor,
                          struct sc_bytes invocation_id, struct sc_bytes function_id) {
    sc_command_post(node, (struct command){.kind = COMMAND_CALL,
                                           .connection = executor,
                                           .content = message,
                                           .first = invocation_id,
                                           .second = function_id});
}

void sc_node_forward_result(struct sc_node *node, struct sc_message *message, uint64_t caller,
                            struct sc_bytes invocation_id, struct sc_bytes function_id,
                            struct sc_bytes traceparent, struct sc_bytes baggage) {
    sc_command_post(node, (struct command){.kind = COMMAND_RESULT,
                                           .connection = caller,
                                           .content = message,
                                           .first = invocation_id,
                                           .second = function_id,
                                           .third = traceparent,
                                           .fourth = baggage});
}

void sc_node_limit_outbound(struct sc_node *node, uint64_t connection, uint64_t size) {
    sc_command_post(
        node, (struct command){.kind = COMMAND_LIMIT, .connection = connection, .number = size});
}

void sc_node_close(struct sc_node *node, uint64_t connection, uint16_t code) {
    sc_command_post(
        node, (struct command){.kind = COMMAND_CLOSE, .connection = connection, .number = code});
}

// ---- On the shard

static void send_parts(struct connection *connection, const struct sc_bytes *parts, size_t count) {
    struct slice slice = sc_frame_build(connection_shard(connection), LANE_PRIVATE, parts, count);
    sc_out_append(connection, slice);
    sc_slice_release(connection_shard(connection), slice);
}

static void run_admit(struct connection *connection, const struct command *command) {
    struct worker *worker = worker_of(connection);
    struct sc_bytes id = command->first;
    struct sc_bytes parts[SC_REGISTERED_PARTS];
    if (!worker->telemetry)
        send_parts(connection, parts, sc_registered_parts(parts, id, command->second));
    sc_worker_admission_ends(connection);
    worker->admitted = true;
    worker->restricted = (command->number & 1) != 0;
    worker->allowed_ops = (uint32_t)(command->number >> 1);
    worker->id_size = (uint8_t)id.size;
    memcpy(worker->id, id.data, id.size);
    uint32_t most = SC_PARKED_PER_SLICE;
    sc_connection_resume(connection, &most); // The rest of them is on the list of the shard.
}

static void undeliverable(struct command *command, enum sc_undeliverable reason, uint64_t limit) {
    const struct sc_node_events *events = &command->node->events;
    events->undeliverable(events->context, command->connection, command->first, reason, limit);
}

// From now on the worker is read whatever waits: somebody waits for its results. False: it has gone.
static bool begin_executing(struct connection *connection) {
    worker_of(connection)->calls_received++;
    connection->read_always = true;
    if (connection->paused && !connection->throttled)
        sc_connection_read_on(connection);
    return sc_connection_serves(connection);
}

static void run_call(struct connection *connection, struct command *command) {
    struct sc_forward call;
    if (!sc_forward_call(&call, command->content, command->first, command->second))
        abort(); // Its caller would wait for ever: see sc_allocate.
    if (sc_parts_size(call.parts, call.count) > worker_of(connection)->outbound_size_max)
        undeliverable(command, SC_UNDELIVERABLE_TOO_LARGE,
                      worker_of(connection)->outbound_size_max);
    else
        send_parts(connection, call.parts, call.count);
    sc_forward_end(&call);
}

static void run_result(struct connection *connection, struct command *command) {
    struct sc_echo caller = {.invocation_id = command->first,
                             .function_id = command->second,
                             .traceparent = command->third,
                             .baggage = command->fourth};
    struct sc_forward result;
    if (!sc_forward_result(&result, command->content, &caller))
        abort();
    if (command->number == DOES_NOT_FIT ||
        sc_parts_size(result.parts, result.count) > worker_of(connection)->outbound_size_max) {
        connection_shard(connection)->counters.results_too_large++;
        sc_forward_result_too_large(&result);
    }
    send_parts(connection, result.parts, result.count);
    sc_forward_end(&result);
}

// ---- What a worker is sent when there is room

static bool is_delivery(const struct command *command) {
    return command->kind == COMMAND_SEND || command->kind == COMMAND_SEND_CALL ||
           command->kind == COMMAND_CALL || command->kind == COMMAND_RESULT;
}

static void deliver(struct connection *connection, struct command *command) {
    if (command->kind == COMMAND_CALL)
        run_call(connection, command);
    else if (command->kind == COMMAND_RESULT)
        run_result(connection, command);
    else
        send_parts(connection, &command->first, 1);
}

static void command_free(struct command *command) {
    sc_message_release(command->content);
    free(command);
}

// Half of the budget, so that many leave together.
static bool has_room(const struct connection *connection) {
    return sc_out_waiting(connection) <= connection->account->limit / 2;
}

// A call stays charged to its caller, a result is charged to whom it is for from here on: its maker has done its part.
static void delivery_wait(struct connection *connection, struct command *command) {
    struct sc_account *account = connection->account;
    command->charged = sizeof *command + command->first.size + command->second.size +
                       command->third.size + command->fourth.size;
    if (command->kind == COMMAND_RESULT) {
        command->charged += sc_message_text(command->content).size;
        sc_message_settle(command->content);
        if (account_in_work(account) > RESULTS_FACTOR * account->limit)
            command->number = DOES_NOT_FIT;
    }
    sc_account_charge(account, SC_PLACE_DELIVERIES, command->charged);
    sc_wait_list_add(&worker_of(connection)->deliveries, &command->wait);
}

static void delivery_end(struct connection *connection, struct command *command) {
    sc_account_discharge(connection->account, SC_PLACE_DELIVERIES, command->charged);
    command_free(command);
}

void sc_deliveries_resume(struct connection *connection) {
    struct sc_wait_list *waiting = &worker_of(connection)->deliveries;
    while (sc_connection_serves(connection) && !sc_wait_list_is_empty(waiting) &&
           has_room(connection)) {
        struct command *command = SC_CONTAINER_OF(sc_wait_list_take(waiting), struct command, wait);
        deliver(connection, command);
        delivery_end(connection, command);
    }
}

// The control plane hears of the worker's end, and ends the calls that wait here.
void sc_deliveries_drop(struct connection *connection) {
    struct sc_wait_list *waiting = &worker_of(connection)->deliveries;
    while (!sc_wait_list_is_empty(waiting))
        delivery_end(connection, SC_CONTAINER_OF(sc_wait_list_take(waiting), struct command, wait));
}

// Returns whether the command waits.
static bool take_delivery(struct connection *connection, struct command *command) {
    bool is_call = command->kind == COMMAND_CALL || command->kind == COMMAND_SEND_CALL;
    if (is_call && !begin_executing(connection)) {
        if (command->kind == COMMAND_CALL)
            undeliverable(command, SC_UNDELIVERABLE_GONE, 0);
        return false;
    }
    if (!sc_wait_list_is_empty(&worker_of(connection)->deliveries) || !has_room(connection)) {
        delivery_wait(connection, command);
        return true;
    }
    deliver(connection, command);
    return false;
}

static void run_for_worker(struct connection *connection, struct command *command) {
    struct worker *worker = worker_of(connection);
    switch ((enum command_kind)command->kind) {
    case COMMAND_ADMIT:
        run_admit(connection, command);
        break;
    case COMMAND_LIMIT:
        sc_worker_limit_outbound(connection, command->number);
        break;
    case COMMAND_CLOSE:
        sc_connection_close(connection, (uint16_t)command->number, "");
        break;
    case COMMAND_RELEASE: // What waits is looked at when the turn ends.
        assert(worker->barriers > 0);
        worker->barriers--;
        break;
    case COMMAND_HOLD:
        worker->writes_held = command->number != 0; // As above.
        break;
    case COMMAND_RUN_CALL:
        sc_worker_run_call(connection, sc_message_text(command->content));
        break;
    default:
        assert(false); // Those are sc_policy_run's, and deliveries.
    }
}

// Sends a command on that has not come to its connection's shard. False: this is it.
static bool pass_on(struct command *command) {
    if (command->kind != COMMAND_RELEASE ||
        command->shard == shard_of_id(command->node, command->connection))
        return false;
    struct sc_node *node = command->node; // The next shard may free the command at once.
    if (!sc_node_let_in(node)) {
        free(command);
        return true;
    }
    command->shard = shard_after(command->shard);
    sc_loop_post(command->shard->loop, &command->message);
    sc_node_let_out(node);
    return true;
}

static void run(struct sc_loop_message *loop_message) {
    struct command *command = SC_CONTAINER_OF(loop_message, struct command, message);
    if (pass_on(command))
        return;
    struct shard *shard = command->shard;
    struct worker *worker = sc_worker_find(shard, command->connection);
    bool usable = worker != NULL && sc_connection_serves(&worker->connection);
    if (command->kind >= COMMAND_WATCH)
        sc_policy_run(shard, sc_client_find(shard, command->connection), command);
    else if (usable && is_delivery(command)) {
        if (take_delivery(&worker->connection, command))
            return;
    } else if (usable)
        run_for_worker(&worker->connection, command);
    else if (command->kind == COMMAND_CALL)
        undeliverable(command, SC_UNDELIVERABLE_GONE, 0);
    command_free(command);
}
