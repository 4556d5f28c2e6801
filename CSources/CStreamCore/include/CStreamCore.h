// The node's core: shards, connections, topics and fan-out, wired from sockets, frames, JSON and store.
// Swift decides, C does: what is policy (who owns a function, which worker may speak) is asked through
// events and answered by the commands below.
#ifndef CSTREAM_CORE_H
#define CSTREAM_CORE_H

#include "CStreamProtocol.h"
#include "CStreamTLS.h"
#include "counters.h"

#pragma clang assume_nonnull begin

struct sc_node;

// ---- Events, on shard threads

/// In place of a connection: the node itself.
#define SC_NODE_CONNECTION UINT64_C(0)

enum sc_undeliverable { SC_UNDELIVERABLE_GONE, SC_UNDELIVERABLE_TOO_LARGE };
enum sc_log_level { SC_LOG_DEBUG, SC_LOG_INFO, SC_LOG_WARN, SC_LOG_ERROR };

/// The callee copies what it keeps, puts it on a queue and returns: it never waits.
struct sc_node_events {
    void *context;
    /// A worker's handshake is over; `telemetry`: one that only sends telemetry. Nothing of it is processed
    /// before sc_node_admit. DATA of `head`, which is borrowed, is the input of an auth function. It is sent
    /// messages of up to `message_size_max` bytes until sc_node_limit_outbound says otherwise.
    void (*worker_opened)(void *context, uint64_t connection, uint32_t listener, bool telemetry,
                          struct sc_bytes address, uint64_t message_size_max,
                          struct sc_message *head);
    /// `message` is borrowed; retain to keep. `connection` is the worker's or stream client's that it is
    /// about, SC_NODE_CONNECTION for results of sc_node_call and for changes that nobody's call made.
    void (*message)(void *context, uint64_t connection, struct sc_message *message);
    /// A worker has been silent for the ping deadline, or is heard again.
    void (*worker_alive)(void *context, uint64_t connection, bool alive);
    /// The last event of a connection that was opened.
    void (*worker_closed)(void *context, uint64_t connection);
    /// A call given to sc_node_forward_call did not reach the executor.
    void (*undeliverable)(void *context, uint64_t executor, struct sc_bytes invocation_id,
                          enum sc_undeliverable reason, uint64_t limit);
    /// Something an operator may want to know; `event` and `detail` hold no payload.
    void (*log)(void *context, enum sc_log_level level, const char *event, uint64_t connection,
                struct sc_bytes detail);
};

// ---- A node

/// When a change may be seen: see enum sc_durability of the store.
enum sc_node_durability { SC_NODE_COMMIT, SC_NODE_INTERVAL, SC_NODE_NO_SYNC };

/// Where items are kept: docs/wal-format.md.
struct sc_node_storage {
    const char *_Nullable path; // A directory. NULL: in memory only.
    enum sc_node_durability durability;
    uint32_t flush_interval_ms;
    uint64_t segment_size; // Of the log's files. 0: the default.
    bool repair;           // Starts over damage, and keeps a copy of it.
    bool import_last; // A name of the original's files is split at its last colon, not its first.
    bool import_skips_broken; // Goes on without those of the original's files that cannot be read.
};

struct sc_node_address {
    const char *host;
    uint16_t port;   // 0: the kernel picks.
    uint64_t budget; // Bytes that may wait for one client of it. Over it: see slow_reader_grace_ms.
    enum sc_origin_rule origin_rule;
    const char *_Nullable origins;            // SC_ORIGINS_LISTED: in lower case, a line each.
    const struct sc_tls_files *_Nullable tls; // NULL: it speaks no TLS.
};

/// By what a node talks to the kernel. The values are those of enum sc_loop_io.
enum sc_node_io { SC_NODE_IO_AUTO, SC_NODE_IO_URING, SC_NODE_IO_EPOLL };

/// Every limit has a counter of the same name in sc_node_counters, or says where it is seen.
struct sc_node_config {
    uint32_t shard_count;
    uint32_t poll_us; // How long a shard looks for work before it sleeps.
    uint32_t io;      // By what it talks to the kernel: enum sc_node_io.
    struct sc_node_address stream;
    const struct sc_node_address *_Nullable workers;
    uint32_t worker_count;
    bool authenticates;        // Stream clients wait for sc_node_upgrade.
    uint32_t watched;          // Of all streams, until sc_node_watch says otherwise: enum sc_watch.
    uint64_t message_size_max; // Inbound message: 1009.
    uint64_t client_message_size_max;          // The same of a stream client.
    uint64_t sync_size_max;                    // Data of a `sync`: `unauthorized`.
    uint32_t frame_size_max;                   // Inbound frame: 1009.
    uint32_t value_size_max;                   // Stored value: error.
    uint32_t subscriptions_per_connection_max; // `unauthorized`.
    uint32_t
        slow_reader_grace_ms; // A stream client over its budget for so long is closed with 1013,
    uint64_t client_hard_size_max; // and one over this at once.
    uint32_t client_unsent_size;   // What the kernel holds unsent for one. 0: as much as it likes.
    uint64_t snapshot_size_max;    // Large `sync`s that clients have yet to take: joins wait.
    uint32_t held_upgrade_count_max; // That wait for an auth function. Over it: 503, workers 1012.
    uint32_t connection_count_max;   // Over it: stream clients 503, workers 1012.
    uint32_t turned_away_count_max;  // So many of each at a time; see door.c.
    // The following: 0 is no limit.
    uint32_t connections_per_address_max; // Over it, as over connection_count_max. IPv6: of a /64.
    uint32_t
        handshakes_per_second_max; // That are answered with 101, on all ports. Over it: 503, workers 1012.
    uint32_t messages_per_second_max; // Of one stream client, which is read no faster.
    uint32_t joins_per_second_max;    // The same.
    uint32_t handshake_timeout_ms;
    uint32_t ping_interval_ms;
    uint32_t ping_deadline_ms;
    uint32_t close_timeout_ms;      // For the peer's half of a close handshake.
    uint64_t seed;                  // Of the hash tables.
    struct sc_node_storage storage; // With one, strings are copied by sc_node_create.
    bool without_ports;             // Nobody may connect: for work on the storage alone.
    bool
        without_streams; // No stream port, and calls of stream functions are those of any function.
};

/// The cores that this process may run on.
uint32_t sc_available_cores(void);
/// The defaults: see limits.h and the configuration's documentation.
struct sc_node_config sc_node_config_default(void);

struct sc_node *_Nullable sc_node_create(const struct sc_node_config *config,
                                         const struct sc_node_events *events);
/// Starts the shards, binds and listens. On failure nothing runs any more and `reason` says why in a
/// sentence.
/// Errors: -EADDRINUSE and other binding errors, those of sc_loop_create, -EAGAIN (no thread).
SC_CHECKED int sc_node_start(struct sc_node *node, char *reason, size_t reason_size);
/// What a start failed at, for what may be done about it.
enum sc_start_step {
    SC_START_THREADS,
    SC_START_LOOP,      // The kernel does not offer what is needed.
    SC_START_DIRECTORY, // The directory of the store is locked, or cannot be made, read or written.
    SC_START_STORE,     // What is in it is damaged, or cannot be read.
    SC_START_LISTEN,    // An address.
    SC_START_CERTIFICATE, // A certificate, its key, or the authorities of clients.
};
enum sc_start_step sc_node_start_step(const struct sc_node *node);
/// The bound port and the addresses, IPv6 in brackets, after start: of a worker port, or with -1 of the stream port.
uint16_t sc_node_port(const struct sc_node *node, int worker);
uint32_t sc_node_address_count(const struct sc_node *node, int worker);
const char *sc_node_address_text(const struct sc_node *node, int worker, uint32_t index);
/// What a look at the files of a certificate has come to: nothing, unless one of the first two is true.
struct sc_certificate_look {
    bool taken;
    bool refused;              // The port keeps the one it had.
    int validity;              // Of the one taken: see sc_tls_context_validity.
    struct sc_tls_reason text; // Describes it, or says why it was refused.
};
/// Reads the certificate of a worker port, or with -1 of the stream port, when its files have changed and have not gone on
/// changing since the last look; `at_once`: in any case. When it returns, new connections get the new one. A pair that is
/// refused changes nothing. The keys of session tickets are renewed by the way, as they get old.
///
/// Thread: one at a time; not a shard's. Of a node that runs. Waits for a turn of each shard.
struct sc_certificate_look sc_node_look_at_certificate(struct sc_node *node, int worker,
                                                       uint64_t now_seconds, bool at_once);
/// The account of what no connection has caused, borrowed until the node is destroyed. Thread: the control plane's.
struct sc_account *sc_node_account(struct sc_node *node);
/// The backend in use, for the log.
const char *sc_node_backend(const struct sc_node *node);
/// Why it is that one.
const char *sc_node_backend_reason(const struct sc_node *node);
/// Takes no new connections and closes the stream clients with 1001 after what waits for them; workers go
/// on, so that the handlers of leaves can run. Not from an event.
void sc_node_close_clients(struct sc_node *node);
/// Closes everything in order (stream clients 1001 after what waits for them, workers 1012), ends the
/// threads and returns, at the latest after `timeout_ms`. Not from an event.
void sc_node_stop(struct sc_node *node, uint32_t timeout_ms);
/// Of a node that never started, or has stopped.
void sc_node_destroy(struct sc_node *_Nullable node);

// ---- Commands, from any thread; those about a connection that is gone do nothing unless they say so

/// Sends `workerregistered` with `worker_id` and `reattach_token` (a telemetry connection gets nothing), and
/// lets the connection's messages through. `restricted`: every call is handed to the control plane, those of
/// stream functions too, which come back by sc_node_run_call; but those of the stream functions in `allowed_ops`
/// (bits of sc_node_stream_op) run at once.
void sc_node_admit(struct sc_node *node, uint64_t connection, struct sc_bytes worker_id,
                   struct sc_bytes reattach_token, bool restricted, uint32_t allowed_ops);
/// The bit of the stream function with this id; 0 when there is none.
uint32_t sc_node_stream_op(struct sc_bytes function_id);
/// Sends one text message.
void sc_node_send(struct sc_node *node, uint64_t connection, struct sc_bytes text);
/// Sends the text of a call: the connection is read from now on, however much of it waits.
void sc_node_send_call(struct sc_node *node, uint64_t executor, struct sc_bytes text);
/// Sends the call `message` to `executor` as `invocation_id`, or reports it undeliverable.
void sc_node_forward_call(struct sc_node *node, struct sc_message *message, uint64_t executor,
                          struct sc_bytes invocation_id, struct sc_bytes function_id);
/// Sends the result `message` to `caller` under the caller's own id (JSON text) and function id. The trace
/// context is the caller's, for a callee that sent none; data == NULL: none.
void sc_node_forward_result(struct sc_node *node, struct sc_message *message, uint64_t caller,
                            struct sc_bytes invocation_id, struct sc_bytes function_id,
                            struct sc_bytes traceparent, struct sc_bytes baggage);
/// Runs the call `message` of a restricted connection's stream function.
void sc_node_run_call(struct sc_node *node, uint64_t connection, struct sc_message *message);
/// Whether `text` is one JSON value that a message may hold.
bool sc_node_json_valid(struct sc_bytes text);
/// Calls a stream function for the node itself. The answer comes as an SC_MESSAGE_RESULT of
/// SC_NODE_CONNECTION with this invocation id. `data` is JSON.
void sc_node_call(struct sc_node *node, struct sc_bytes invocation_id, struct sc_bytes function_id,
                  struct sc_bytes data);
/// Messages over `size` bytes are not sent to this worker: results become `result_too_large`, calls are
/// undeliverable.
void sc_node_limit_outbound(struct sc_node *node, uint64_t connection, uint64_t size);
/// Pings a worker now; `worker_alive` says when a byte of it comes, whatever it is. A worker that has not read all that
/// was sent to it, or that is not read itself, counts as heard at once: it falls under the deadline of pings.
void sc_node_ping(struct sc_node *node, uint64_t connection);
/// Starts the close handshake with `code`.
void sc_node_close(struct sc_node *node, uint64_t connection, uint16_t code);
/// Lets a worker's messages pass again: each registration message holds them until it is dealt with.
void sc_node_release(struct sc_node *node, uint64_t connection);
/// Holds back, or no more, what this worker writes to watched streams and logs. Its other calls and its results go on.
void sc_node_hold(struct sc_node *node, uint64_t connection, bool held);

// ---- What the control plane wants to hear of

enum sc_watch {
    SC_WATCH_CHANGES = 1,  // SC_MESSAGE_CHANGE for every change and custom event.
    SC_WATCH_JOINS = 2,    // SC_MESSAGE_JOIN before every join.
    SC_WATCH_LEAVES = 4,   // SC_MESSAGE_LEAVE after every subscription.
    SC_WATCH_LOGS = 8,     // SC_MESSAGE_LOGS; of all streams only.
    SC_WATCH_SET = 1 << 8, // From here on: the function is overridden.
    SC_WATCH_GET = 1 << 9, // Item joins too.
    SC_WATCH_DELETE = 1 << 10,
    SC_WATCH_LIST = 1 << 11, // Group joins too.
    SC_WATCH_LIST_GROUPS = 1 << 12,
    SC_WATCH_UPDATE = 1 << 15,
};
/// Replaces what is watched in `stream` (data == NULL: in all streams) by `flags` of enum sc_watch. Every shard
/// knows of it before a later sc_node_release lets a worker go on.
void sc_node_watch(struct sc_node *node, struct sc_bytes stream, uint32_t flags);
/// Answers SC_MESSAGE_UPGRADE: 101 lets the client in with `context` (JSON; data == NULL: none), 401 and 503
/// refuse it.
void sc_node_upgrade(struct sc_node *node, uint64_t connection, int status,
                     struct sc_bytes context);
/// Answers SC_MESSAGE_JOIN `join`. If the client has gone, an allowed join becomes a SC_MESSAGE_LEAVE.
void sc_node_decide_join(struct sc_node *node, uint64_t connection, struct sc_message *join,
                         bool allowed);
/// Answers SC_MESSAGE_SYNC `request` with the JSON `data`; data == NULL: no `sync`, the held frames follow.
void sc_node_sync(struct sc_node *node, uint64_t connection, struct sc_message *request,
                  struct sc_bytes data);

enum sc_event_kind { SC_EVENT_CREATE, SC_EVENT_UPDATE, SC_EVENT_DELETE };
/// Announces a change that an overriding function has made to the item that the SC_MESSAGE_OVERRIDE `call` names.
void sc_node_emit(struct sc_node *node, uint64_t writer, struct sc_message *call,
                  enum sc_event_kind kind, struct sc_bytes data);

// ---- Directories that no node uses

struct sc_storage_summary {
    uint64_t batches, records;
};
/// Reads all that a start with the directory `path` would read, and calls `line` (NULL: only checks) with each
/// batch and record as JSON, `remark` with what a start would say. Not from a thread of a node.
/// Errors: -errno; `reason` (512 bytes) says what is wrong, in a sentence.
SC_CHECKED int sc_storage_inspect(const char *path, void *_Nullable context,
                                  void (*_Nullable line)(void *_Nullable context,
                                                         struct sc_bytes json),
                                  void (*remark)(void *_Nullable context, struct sc_bytes text),
                                  struct sc_storage_summary *summary, char *reason);

// ---- Counters: see counters.h

static inline uint64_t sc_node_counters_waiting(struct sc_node_counters counters,
                                                enum sc_place place) {
    return counters.waiting[place];
}
/// Collects the counters of a running node. Waits for all shards (a turn each). Not from an event.
struct sc_node_counters sc_node_counters(struct sc_node *node);

#pragma clang assume_nonnull end

#endif
