// What the control plane has decided about streams and their clients, and what it wants to hear of.
#include "command.h"

void sc_node_watch(struct sc_node *node, struct sc_bytes stream, uint32_t flags) {
    for (uint32_t i = 0; i < node->shard_count; i++)
        sc_command_post(node, (struct command){.kind = COMMAND_WATCH,
                                               .shard = node->shards[i],
                                               .number = flags,
                                               .first = stream});
}

void sc_node_upgrade(struct sc_node *node, uint64_t connection, int status,
                     struct sc_bytes context) {
    sc_command_post(node, (struct command){.kind = COMMAND_UPGRADE,
                                           .connection = connection,
                                           .number = (uint64_t)status,
                                           .first = context});
}

void sc_node_decide_join(struct sc_node *node, uint64_t connection, struct sc_message *join,
                         bool allowed) {
    assert(sc_message_type(join) == SC_MESSAGE_JOIN);
    sc_command_post(node, (struct command){.kind = COMMAND_JOIN,
                                           .connection = connection,
                                           .number = allowed,
                                           .content = join});
}

void sc_node_sync(struct sc_node *node, uint64_t connection, struct sc_message *request,
                  struct sc_bytes data) {
    assert(sc_message_type(request) == SC_MESSAGE_SYNC);
    sc_command_post(
        node, (struct command){.kind = COMMAND_SYNC, .connection = connection, .first = data});
}

void sc_node_emit(struct sc_node *node, uint64_t writer, struct sc_message *call,
                  enum sc_event_kind kind, struct sc_bytes data) {
    assert(sc_message_type(call) == SC_MESSAGE_OVERRIDE);
    struct sc_message_names name;
    sc_message_names_read(call, &name);
    uint64_t hash = sc_store_hash(name.stream, name.group, node->config.seed);
    struct shard *owner = sc_shard_of(node->shards[0], hash);
    sc_command_post(node, (struct command){.kind = COMMAND_EMIT,
                                           .shard = owner,
                                           .connection = writer,
                                           .number = kind,
                                           .content = call,
                                           .first = data});
}

bool sc_node_json_valid(struct sc_bytes text) {
    struct sc_json_index index;
    return text.size > 0 && sc_json_scan(text, SC_JSON_DEPTH_MAX - 1, &index) == 0;
}

void sc_node_call(struct sc_node *node, struct sc_bytes invocation_id, struct sc_bytes function_id,
                  struct sc_bytes data) {
    struct sc_buffer text = {0};
    sc_node_call_write(&text, invocation_id, function_id, data);
    // Any shard will do; the first is always there.
    if (!text.failed)
        sc_command_post(node, (struct command){.kind = COMMAND_NODE_CALL,
                                               .shard = node->shards[0],
                                               .first = sc_buffer_bytes(&text)});
    sc_buffer_deinit(&text);
}

// ---- On the shard

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

void sc_policy_run(struct shard *shard, struct stream_client *client,
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
        assert(false); // Those are run_for_worker's.
    }
}
