// Accepted sockets become connections, as many as the node may have; of some more, the door is told.
#include <unistd.h>

#include "sessions.h"

void sc_accept_end(struct shard *shard, const struct port *port, bool over_limit) {
    struct node *node = shard->node;
    if (over_limit)
        sc_door_leave(shard, entrance_of(port)->door);
    else
        atomic_fetch_sub_explicit(&node->connection_count, 1, memory_order_relaxed);
    if (entrance_of(port)->door == DOOR_WORKER) // Counted when it was dealt out: see listen.c.
        atomic_fetch_sub_explicit(&node->worker_counts[shard->index], 1, memory_order_relaxed);
}

// Whether there is room for another connection: among all of them, or, over the limit, at the door.
// Counted before it is known whether there is room: two shards may accept at the same time.
static bool enter(struct shard *shard, const struct port *port, bool *over_limit) {
    struct node *node = shard->node;
    uint32_t before = atomic_fetch_add_explicit(&node->connection_count, 1, memory_order_relaxed);
    *over_limit = before >= node->config.connection_count_max;
    if (!*over_limit)
        return true;
    atomic_fetch_sub_explicit(&node->connection_count, 1, memory_order_relaxed);
    shard->counters.connections_refused++;
    return !shard->stopping && sc_door_enter(shard, entrance_of(port)->door);
}

static void note_over_limit(struct connection *connection) {
    if (entrance_of(connection->port)->door == DOOR_WORKER)
        worker_of(connection)->over_limit = true;
    else
        subscriber_of(connection)->over_limit = true;
}

// A socket that cannot be taken is closed here: nobody else knows of it.
void sc_accept(struct shard *shard, const struct port *port, int fd) {
    bool over_limit;
    shard->counters.connections_accepted++;
    bool entered = enter(shard, port, &over_limit);
    struct connection *connection =
        entered && !shard->stopping ? sc_connection_adopt(&shard->transport, port, fd) : NULL;
    if (connection != NULL && over_limit)
        note_over_limit(connection);
    if (connection != NULL)
        return;
    if (entered)
        sc_accept_end(shard, port, over_limit);
    else if (entrance_of(port)->door == DOOR_WORKER)
        atomic_fetch_sub_explicit(&shard->node->worker_counts[shard->index], 1,
                                  memory_order_relaxed);
    if (!over_limit)
        shard->counters.connections_refused++;
    close(fd);
}
