// A command of the control plane on its way to a shard.
#ifndef CSTREAM_CORE_COMMAND_H
#define CSTREAM_CORE_COMMAND_H

#include "core_functions.h"

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
    COMMAND_RELEASE,
    COMMAND_HOLD,
    COMMAND_RUN_CALL,
    // About streams and their clients (policy.c).
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

/// Copies a command and puts it on its way: to `shard`, or without one to that of its connection.
void sc_command_post(struct sc_node *node, struct command command);

/// Runs the command if it is about streams and their clients. `client` is the one that it names, if that is still
/// there.
void sc_policy_run(struct shard *shard, struct stream_client *_Nullable client,
                   const struct command *command);

#pragma clang assume_nonnull end

#endif
