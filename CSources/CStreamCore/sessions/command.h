// A command of the control plane on its way to a shard.
#ifndef CSTREAM_SESSIONS_COMMAND_H
#define CSTREAM_SESSIONS_COMMAND_H

#include "sessions.h"

#pragma clang assume_nonnull begin

enum command_kind {
    // About a worker; nothing happens when it has gone.
    COMMAND_ADMIT,
    COMMAND_SEND,
    COMMAND_SEND_CALL,
    COMMAND_CALL,
    COMMAND_RESULT,
    COMMAND_LIMIT,
    COMMAND_CLOSE,
    COMMAND_PING,
    COMMAND_RELEASE,
    COMMAND_HOLD,
    COMMAND_RUN_CALL,
    // About streams and their clients.
    COMMAND_WATCH,
    COMMAND_UPGRADE,
    COMMAND_JOIN,
    COMMAND_SYNC,
    COMMAND_EMIT,
    COMMAND_NODE_CALL,
};

struct command {
    struct sc_loop_message message;
    struct sc_wait_node wait; // Of a worker's deliveries.
    uint64_t charged;         // To its account, meanwhile.
    struct sc_node *node;
    struct shard *shard;
    uint64_t connection;
    uint8_t kind;
    uint64_t number; // Bytes, a code, a status, flags, a kind, or a truth, as the command says.
    struct sc_message *_Nullable content;
    struct sc_bytes first, second, third, fourth;
    uint8_t bytes[];
};

/// Whether the command is something that the worker is sent.
bool sc_command_is_delivery(const struct command *command);
/// Consumes a delivery, which waits when there is no room for it (true). False: it is dealt with, and the caller's again.
SC_CHECKED bool sc_delivery_take(struct connection *connection, struct command *command);
/// Tells the control plane that a call of a function cannot reach its worker.
void sc_undeliverable(const struct command *command, enum sc_undeliverable reason, uint64_t limit);
void sc_command_free(struct command *command);

#pragma clang assume_nonnull end

#endif
