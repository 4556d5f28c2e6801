// What a worker is sent: calls, results, and messages of the control plane. They are built when there is room for them in
// the worker's budget, and wait as commands until then.
#include <stdlib.h>

#include "command.h"
#include "sessions.h"

// Results that wait for their caller beyond so many of its budgets reach it as errors: it has asked for more than it
// takes.
#define RESULTS_FACTOR 2u

// Parts are borrowed: they are copied into the frame.
void sc_worker_send(struct connection *connection, const struct sc_bytes *parts, size_t count) {
    struct slice slice = sc_frame_build(connection_shard(connection), LANE_PRIVATE, parts, count);
    sc_out_append(connection, slice);
    sc_slice_release(connection_shard(connection), slice);
}

void sc_undeliverable(const struct command *command, enum sc_undeliverable reason, uint64_t limit) {
    const struct sc_node_events *events = &command->shard->node->events;
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

// Too large for its client is known only here, where its limit is: the control plane hears of it, and tells the caller.
static void run_call(struct connection *connection, struct command *command) {
    struct sc_forward call;
    if (!sc_forward_call(&call, command->content, command->first, command->second))
        abort(); // Its caller would wait for ever: see sc_allocate.
    if (sc_parts_size(call.parts, call.count) > worker_of(connection)->outbound_size_max)
        sc_undeliverable(command, SC_UNDELIVERABLE_TOO_LARGE,
                         worker_of(connection)->outbound_size_max);
    else
        sc_worker_send(connection, call.parts, call.count);
    sc_forward_end(&call);
}

// A result that does not fit becomes an error of the same call: its caller must hear of it.
static void run_result(struct connection *connection, struct command *command) {
    struct sc_echo caller = {.invocation_id = command->first,
                             .function_id = command->second,
                             .traceparent = command->third,
                             .baggage = command->fourth};
    struct sc_forward result;
    if (!sc_forward_result(&result, command->content, &caller))
        abort();
    if (command->content == NULL ||
        sc_parts_size(result.parts, result.count) > worker_of(connection)->outbound_size_max) {
        connection_shard(connection)->counters.results_too_large++;
        sc_forward_result_too_large(&result);
    }
    sc_worker_send(connection, result.parts, result.count);
    sc_forward_end(&result);
}

// ---- What a worker is sent when there is room

bool sc_command_is_delivery(const struct command *command) {
    return command->kind == COMMAND_SEND || command->kind == COMMAND_SEND_CALL ||
           command->kind == COMMAND_CALL || command->kind == COMMAND_RESULT;
}

// What is composed here lies in the outbox of the worker, charged to it.
static void deliver(struct connection *connection, struct command *command) {
    if (command->kind == COMMAND_CALL)
        run_call(connection, command);
    else if (command->kind == COMMAND_RESULT)
        run_result(connection, command);
    else
        sc_worker_send(connection, &command->first, 1);
}

void sc_command_free(struct command *command) {
    sc_message_release(command->content);
    free(command);
}

// Half of the budget, so that many leave together.
static bool has_room(const struct connection *connection) {
    return sc_out_waiting(connection) <= connection->account->limit / 2;
}

// A call stays charged to its caller, a result is charged to whom it is for from here on: its maker has done its part.
// Whatever waits is charged to the worker that does not read, not to the one that has sent it.
static void delivery_wait(struct connection *connection, struct command *command) {
    struct sc_account *account = connection->account;
    command->charged = sizeof *command + command->first.size + command->second.size +
                       command->third.size + command->fourth.size;
    if (command->kind == COMMAND_RESULT) {
        sc_message_settle(command->content);
        if (account_in_work(account) > RESULTS_FACTOR * account->limit) {
            sc_message_release(command->content); // The caller is told that it was too large.
            command->content = NULL;
        } else {
            command->charged += sc_message_text(command->content).size;
        }
    }
    sc_account_charge(account, SC_PLACE_DELIVERIES, command->charged);
    sc_wait_list_add(&worker_of(connection)->deliveries, &command->wait);
}

static void delivery_end(struct connection *connection, struct command *command) {
    sc_account_discharge(connection->account, SC_PLACE_DELIVERIES, command->charged);
    sc_command_free(command);
}

// The one place that takes them from their list. In order: the first that does not fit keeps the others.
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

// Behind those that wait already, whatever room there is: the order of what a worker is sent stays.
bool sc_delivery_take(struct connection *connection, struct command *command) {
    bool is_call = command->kind == COMMAND_CALL || command->kind == COMMAND_SEND_CALL;
    if (is_call && !begin_executing(connection)) {
        if (command->kind == COMMAND_CALL)
            sc_undeliverable(command, SC_UNDELIVERABLE_GONE, 0);
        return false;
    }
    if (!sc_wait_list_is_empty(&worker_of(connection)->deliveries) || !has_room(connection)) {
        delivery_wait(connection, command);
        return true;
    }
    deliver(connection, command);
    return false;
}
