// Sessions: what a connection is, its way in and out, and what it may say when. See struct role.
//
// Thread: all of it that of the connection's shard.
#ifndef CSTREAM_SESSIONS_H
#define CSTREAM_SESSIONS_H

#include "../calls/calls.h"

#pragma clang assume_nonnull begin

// ---- What a connection is

/// A port of the node, with what is its own.
struct entrance {
    struct port port;
    const struct sc_node_address *address;
    enum door door;
};
/// The port that a connection has come by.
static inline const struct entrance *entrance_of(const struct port *port) {
    return SC_CONTAINER_OF(port, struct entrance, port);
}

/// An upgrade that the control plane decides about.
struct pending_upgrade {
    char accept[28];
    bool authorization;
    bool page; // A page that may connect asks.
    struct sc_stream_path path;
};

/// A connection of a worker port.
struct worker {
    struct caller caller;
    struct sc_wait_node door; // It waits for its close: see door.c.
    bool turned_away;         // Counted at the door, as one that came over the limit is.
    bool over_limit;          // As that one.
    bool is_open;             // Its head was answered: counted among the workers.
    bool telemetry;           // It says nothing but telemetry.
    bool admitted;
    bool waits_for_admission; // Counted as that.
    bool restricted;      // The control plane decides about every call but those of `allowed_ops`.
    bool announced;       // The control plane knows of it, and has yet to hear of its end.
    bool writes_held;     // What it writes to watched streams and logs waits.
    uint32_t allowed_ops; // Of a restricted one: a bit for each enum sc_call_op that runs at once.
    uint8_t id_size;
    uint8_t id[36];
    uint64_t outbound_size_max;     // Bytes of a message that its client takes, as far as is known.
    struct sc_wait_list deliveries; // Commands: what it is to be sent once there is room.
    uint64_t calls_received;        // Forwarded to it: it executes functions.
};
_Static_assert(offsetof(struct worker, caller.connection) == 0, "one object of the heap");

/// What the connection is, which the caller knows: see sc_worker_find for who does not.
static inline struct worker *worker_of(const struct connection *connection) {
    return SC_CONTAINER_OF(connection, struct worker, caller.connection);
}

/// What a shard has of sessions.
struct sessions {
    struct calls calls;
    struct entrance stream_entrance;
    struct entrance *_Nullable worker_entrances;
    struct listeners listeners;
    bool workers_paused; // The first shard's: the worker ports accept nothing, see door.c.
    /// Stream clients that serve nobody any more. Woken by sc_clients_leave, which ends some of their subscriptions in
    /// each turn.
    struct sc_wait_list leaving;
    struct sc_wait_list turned_away; // Workers that wait for their close; woken by sc_door_due.
    struct sc_timer door_timer;
    uint32_t stream_connections, worker_connections;
    uint8_t shown_id[SC_SHOWN_ID_SIZE_MAX];           // Of a call whose function id is too long.
    uint8_t shown_call_id[SC_SHOWN_CALL_ID_SIZE_MAX]; // Of a call whose own id is too long.
};
static inline struct sessions *sessions_of(const struct shard *shard) {
    return SC_CONTAINER_OF(shard, struct sessions, calls.streams.shard);
}

// ---- accept.c

/// Makes a connection of an accepted socket, or closes it when there are too many. Takes `fd` over.
void sc_accept(struct shard *shard, const struct port *port, int fd);
/// The connection, which sc_accept made, has gone. Before sc_connection_free.
void sc_accept_end(struct connection *connection, bool over_limit);
/// Where the other end of a socket is, as the kernel knows it.
struct sc_endpoint sc_socket_peer(int fd);

// ---- addresses.c

/// Connections by address, at most `per_address_max` of each, and `connections_max` of all together.
struct addresses *sc_addresses_create(uint32_t per_address_max, uint32_t connections_max,
                                      uint64_t seed);
/// Nothing for NULL.
void sc_addresses_destroy(struct addresses *_Nullable addresses);
/// Counts a connection of `ip`, and returns where it is counted; 0: the address has as many as it may.
///
/// Thread: any.
uint32_t sc_addresses_enter(struct addresses *addresses, const struct sc_ip *ip);
/// A connection that was counted there has gone. Thread: any.
void sc_addresses_leave(struct addresses *addresses, uint32_t place);

// ---- door.c

/// A connection over the limit comes to a port. False: `places` or more are there, of those that limits.turned_away allows.
bool sc_door_enter(struct shard *shard, enum door door, uint32_t places);
void sc_door_leave(struct shard *shard, enum door door);
/// Has a worker, which is over a limit, closed when its turn comes.
void sc_door_turn_away(struct connection *connection);
void sc_door_due(struct sc_timer *timer);

// ---- upgrade.c

/// A request to speak WebSocket, and what has been found in it. Slices are of the head, valid while it is read.
struct upgrade {
    struct sc_http_request request;
    char accept[28];
    bool authorization;
};
/// Reads the request head as far as it is there. Returns the bytes used up; without any, or when the head was refused
/// (the state says so), there is no request.
size_t sc_upgrade_read(struct connection *connection, const uint8_t *bytes, size_t size,
                       struct upgrade *upgrade);
/// Whether the connection may be upgraded, as far as anything but the control plane says that. `status` is 0, or what the
/// path is refused with. False: it was refused.
bool sc_upgrade_check(struct connection *connection, struct upgrade *upgrade, int status);
/// Answers with 101.
void sc_upgrade_accept(struct connection *connection, const char accept[_Nonnull 28],
                       bool authorization);
/// `page`: a page that may connect has asked, and may read the answer.
void sc_upgrade_refuse(struct connection *connection, int status, bool page);
/// Whether a page asks that may connect.
bool sc_upgrade_is_page(const struct connection *connection, const struct sc_http_request *request);
/// A peer asks to be let in. False: too many have in the last second.
bool sc_upgrade_is_in_time(struct shard *shard);
/// One more peer waits to be let in, or one less. False: as many wait as may.
bool sc_upgrade_may_wait(struct shard *shard);
void sc_upgrade_waits_no_more(struct shard *shard);

// ---- stream_client.c

extern const struct role sc_stream_role;
/// The stream client of that id, or NULL: it is gone, or is none.
static inline struct subscriber *_Nullable sc_client_find(const struct shard *shard, uint64_t id) {
    struct connection *connection = sc_connection_find(shard, id);
    return connection != NULL && connection->port->role == &sc_stream_role
               ? subscriber_of(connection)
               : NULL;
}
/// The control plane lets the client in (101), or not.
void sc_client_decide(struct connection *connection, int status, struct sc_bytes context);
/// Ends some subscriptions of clients that serve nobody any more, and frees those that have none left.
void sc_clients_leave(struct shard *shard);

// ---- worker.c

extern const struct role sc_worker_role;
/// The worker of that id, or NULL: it is gone, or is none.
static inline struct worker *_Nullable sc_worker_find(const struct shard *shard, uint64_t id) {
    struct connection *connection = sc_connection_find(shard, id);
    return connection != NULL && connection->port->role == &sc_worker_role ? worker_of(connection)
                                                                           : NULL;
}
/// Handles a message of a worker. False: it must wait.
bool sc_worker_message(struct connection *connection, struct sc_bytes text,
                       enum message_source source);
/// Whether another message of it may be started.
bool sc_worker_may_start(const struct connection *connection);
/// Answers a call that there is no room for. False: the message is none.
bool sc_worker_refuse_call(struct connection *connection, struct sc_bytes text);
/// Runs a call of a restricted worker, now that it may.
void sc_worker_run_call(struct connection *connection, struct sc_bytes text);
/// Runs a call of the node itself.
void sc_node_call_run(struct shard *shard, struct sc_bytes text);

// ---- worker_session.c

/// Sets what its client takes, within what the node sends to anybody.
void sc_worker_limit_outbound(struct connection *connection, uint64_t size);
/// It has been let in, or has gone.
void sc_worker_admission_ends(struct connection *connection);

/// The control plane lets a worker in; slices are borrowed for the call.
struct worker_admission {
    struct sc_bytes id;
    struct sc_bytes reattach_token;
    bool restricted;
    uint32_t allowed_ops; // See struct worker.
};
void sc_worker_admit(struct connection *connection, const struct worker_admission *admission);

// ---- deliveries.c

/// Sends the worker a text message of `count` parts, which are copied.
void sc_worker_send(struct connection *connection, const struct sc_bytes *parts, size_t count);
/// Sends the worker what has waited for room, as far as there is some.
void sc_deliveries_resume(struct connection *connection);
/// Gives up what waits: the worker has gone.
void sc_deliveries_drop(struct connection *connection);

#pragma clang assume_nonnull end

#endif
