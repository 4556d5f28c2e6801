// The time of a shard, its log, and its next turn.
#include "shard.h"

uint64_t sc_now_ms(const struct shard *shard) {
    uint64_t now_ms = sc_loop_unix_ms(shard->loop);
    return sc_clock_is_sane(now_ms) ? now_ms : 0; // Time stamps count on from the last one.
}

void sc_shard_log(struct shard *shard, enum sc_log_level level, const char *event,
                  uint64_t connection, struct sc_bytes detail) {
    const struct sc_node_events *events = &shard->node->events;
    events->log(events->context, level, event, connection, detail);
}

static void turn_again(struct sc_loop_message *message) {
    SC_CONTAINER_OF(message, struct shard, again)->turns_again = false;
}

void sc_shard_turn_again(struct shard *shard) {
    if (shard->turns_again)
        return;
    shard->turns_again = true;
    shard->again.run = turn_again;
    sc_loop_post(shard->loop, &shard->again);
}
