// How fast a stream client may speak. A client that has said more in a second than it may is read no further until an even
// pace has caught up with it. Nothing of it is lost, and it is not closed: TCP tells it to wait.
//
// Clients that only subscribe by their path never say anything, so what is kept of a client is not in the client: it lies
// beside, by the slot of its connection, for the slots of those that have spoken.
#include "streams.h"

struct pace {
    uint64_t connection; // Whose it is: slots are used again.
    uint64_t messages_ns, joins_ns;
};

static struct pace *pace_of(struct connection *connection) {
    struct streams *streams = streams_of(connection_shard(connection));
    uint32_t slot = (uint32_t)connection->id;
    if (slot >= streams->pace_count) {
        uint32_t count = connection_shard(connection)->transport.slot_capacity;
        streams->paces = sc_grow(streams->paces, streams->pace_count * sizeof *streams->paces,
                                 count * sizeof *streams->paces);
        memset(streams->paces + streams->pace_count, 0,
               (count - streams->pace_count) * sizeof *streams->paces);
        streams->pace_count = count;
    }
    struct pace *pace = &streams->paces[slot];
    if (pace->connection != connection->id)
        *pace = (struct pace){.connection = connection->id};
    return pace;
}

// The message that goes over is still dealt with: what comes behind it waits.
static void count(struct connection *connection, uint64_t *paced_ns, uint32_t per_second,
                  uint64_t *counter) {
    uint64_t now_ns = sc_loop_monotonic_ns(connection_shard(connection)->loop);
    *paced_ns = sc_rate_next(*paced_ns, now_ns, per_second);
    if (!sc_rate_is_over(*paced_ns, now_ns) || connection->throttled)
        return;
    ++*counter;
    sc_connection_throttle(connection);
}

void sc_pace_message(struct connection *connection) {
    struct shard *shard = connection_shard(connection);
    if (shard->node->config.messages_per_second_max > 0)
        count(connection, &pace_of(connection)->messages_ns,
              shard->node->config.messages_per_second_max, &shard->counters.messages_paced);
}

void sc_pace_join(struct connection *connection) {
    struct shard *shard = connection_shard(connection);
    if (shard->node->config.joins_per_second_max > 0)
        count(connection, &pace_of(connection)->joins_ns, shard->node->config.joins_per_second_max,
              &shard->counters.joins_paced);
}

bool sc_pace_waits(const struct connection *connection) {
    const struct shard *shard = connection_shard(connection);
    const struct pace *pace = &streams_of(shard)->paces[(uint32_t)connection->id];
    uint64_t now_ns = sc_loop_monotonic_ns(shard->loop);
    assert(pace->connection == connection->id); // It was throttled by what it has said.
    return sc_rate_is_over(pace->messages_ns, now_ns) || sc_rate_is_over(pace->joins_ns, now_ns);
}

void sc_paces_deinit(struct streams *streams) {
    sc_array_free(streams->paces, streams->pace_count * sizeof *streams->paces);
}
