// Accepted sockets become connections, as many as the node, and as one address, may have; of some more, the door is told.
#include <sys/socket.h>
#include <unistd.h>

#include "sessions.h"

// What a connection is counted as.
struct admission {
    bool over_limit;  // At the door, not among all.
    uint32_t address; // Of struct addresses; 0: not there.
};

static void leave(struct shard *shard, const struct port *port, const struct admission *admission) {
    struct node *node = shard->node;
    if (admission->address != 0) // First: there are never more addresses than connections.
        sc_addresses_leave(node->addresses, admission->address);
    if (admission->over_limit)
        sc_door_leave(shard, entrance_of(port)->door);
    else
        atomic_fetch_sub_explicit(&node->connection_count, 1, memory_order_relaxed);
}

static void leave_shard(struct shard *shard, const struct port *port) {
    if (entrance_of(port)->door == DOOR_WORKER) // Counted when it was dealt out: see listen.c.
        atomic_fetch_sub_explicit(&shard->node->worker_counts[shard->index], 1,
                                  memory_order_relaxed);
}

void sc_accept_end(struct connection *connection, bool over_limit) {
    struct shard *shard = connection_shard(connection);
    struct admission admission = {over_limit, *sc_connection_label(connection)};
    leave(shard, connection->port, &admission);
    leave_shard(shard, connection->port);
}

struct sc_endpoint sc_socket_peer(int fd) {
    struct sockaddr_storage address;
    socklen_t length = sizeof address;
    if (getpeername(fd, (struct sockaddr *)&address, &length) < 0)
        return (struct sc_endpoint){0};
    return sc_endpoint_of(&address);
}

// Whether the address of the peer may have another connection, which is counted then. A peer that has gone has none.
static bool enter_address(struct shard *shard, int fd, struct admission *admission) {
    struct addresses *addresses = shard->node->addresses;
    if (addresses == NULL)
        return true;
    struct sc_endpoint peer = sc_socket_peer(fd);
    if (!peer.known)
        return true;
    admission->address = sc_addresses_enter(addresses, &peer.ip);
    return admission->address != 0;
}

// Whether there is room for another connection: among all of them, or, over a limit, at the door.
// Counted before it is known whether there is room: two shards may accept at the same time.
static bool enter(struct shard *shard, const struct port *port, int fd,
                  struct admission *admission) {
    struct node *node = shard->node;
    uint32_t before = atomic_fetch_add_explicit(&node->connection_count, 1, memory_order_relaxed);
    uint32_t places = node->config.turned_away_count_max;
    if (before < node->config.connection_count_max) {
        if (enter_address(shard, fd, admission))
            return true;
        shard->counters.addresses_refused++;
        places /= 2; // One address must not fill the door: worker ports accept nothing then.
    }
    atomic_fetch_sub_explicit(&node->connection_count, 1, memory_order_relaxed);
    admission->over_limit = true;
    shard->counters.connections_refused++;
    return !shard->stopping && sc_door_enter(shard, entrance_of(port)->door, places);
}

static void note_over_limit(struct connection *connection) {
    if (entrance_of(connection->port)->door == DOOR_WORKER)
        worker_of(connection)->over_limit = true;
    else
        subscriber_of(connection)->over_limit = true;
}

// A socket that cannot be taken is closed here: nobody else knows of it.
void sc_accept(struct shard *shard, const struct port *port, int fd) {
    struct admission admission = {0};
    shard->counters.connections_accepted++;
    bool entered = enter(shard, port, fd, &admission);
    struct connection *connection =
        entered && !shard->stopping ? sc_connection_adopt(&shard->transport, port, fd) : NULL;
    if (connection != NULL) {
        *sc_connection_label(connection) = admission.address;
        if (admission.over_limit)
            note_over_limit(connection);
        return;
    }
    if (entered)
        leave(shard, port, &admission);
    leave_shard(shard, port);
    if (!admission.over_limit)
        shard->counters.connections_refused++;
    close(fd);
}
