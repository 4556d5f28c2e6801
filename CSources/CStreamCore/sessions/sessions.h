// Sessions: what a connection is, its way in and out, and what it may say when. See struct role.
//
// Thread: all of it that of the connection's shard.
#ifndef CSTREAM_SESSIONS_H
#define CSTREAM_SESSIONS_H

#include "../core_functions.h"

#pragma clang assume_nonnull begin

// ---- accept.c

/// Makes a connection of an accepted socket, or closes it when there are too many. Takes `fd` over.
void sc_accept(struct shard *shard, const struct port *port, int fd);
/// The connection that sc_accept made has gone.
void sc_accept_end(struct shard *shard, const struct port *port, bool over_limit);

// ---- door.c

/// A connection over the limit comes to a port. False: as many are there as may be.
bool sc_door_enter(struct shard *shard, enum door door);
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
/// One more peer waits to be let in, or one less. False: as many wait as may.
bool sc_upgrade_may_wait(struct shard *shard);
void sc_upgrade_waits_no_more(struct shard *shard);

// ---- stream_client.c

extern const struct role sc_stream_role;
/// The stream client of that id, or NULL: it is gone, or is none.
static inline struct stream_client *_Nullable sc_client_find(const struct shard *shard,
                                                             uint64_t id) {
    struct connection *connection = sc_connection_find(shard, id);
    return connection != NULL && connection->port->role == &sc_stream_role ? client_of(connection)
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
