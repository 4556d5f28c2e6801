// The node's core: shards, connections, topics and fan-out, wired from sockets, frames, JSON and store.
// Swift decides, C does: what is policy (who owns a function, which worker may speak) is asked through
// events and answered by the commands below.
#ifndef CSTREAM_CORE_H
#define CSTREAM_CORE_H

#include "CStreamBase.h"

#pragma clang assume_nonnull begin

struct sc_node;

// ---- Messages of workers, as the core hands them on

enum sc_message_type {
    SC_MESSAGE_REGISTER_FUNCTION,
    SC_MESSAGE_UNREGISTER_FUNCTION,
    SC_MESSAGE_REGISTER_TRIGGER_TYPE,
    SC_MESSAGE_UNREGISTER_TRIGGER_TYPE,
    SC_MESSAGE_REGISTER_TRIGGER,
    SC_MESSAGE_UNREGISTER_TRIGGER,
    SC_MESSAGE_TRIGGER_REGISTRATION_RESULT,
    SC_MESSAGE_REGISTER_SERVICE,
    SC_MESSAGE_INVOKE,
    SC_MESSAGE_RESULT,
};

enum sc_message_field {
    SC_FIELD_ID,
    SC_FIELD_FUNCTION_ID,
    SC_FIELD_INVOCATION_ID,
    SC_FIELD_TRIGGER_TYPE,
    SC_FIELD_DATA,
    SC_FIELD_CONFIG,
    SC_FIELD_METADATA,
    SC_FIELD_DESCRIPTION,
    SC_FIELD_REQUEST_FORMAT,
    SC_FIELD_RESPONSE_FORMAT,
    SC_FIELD_TRIGGER_REQUEST_FORMAT,
    SC_FIELD_CALL_REQUEST_FORMAT,
    SC_FIELD_INVOCATION,
    SC_FIELD_TRACEPARENT,
    SC_FIELD_BAGGAGE,
    SC_FIELD_RESULT,
    SC_FIELD_ERROR,
    SC_FIELD_ERROR_CODE,
    SC_FIELD_ERROR_MESSAGE,
    SC_FIELD_ERROR_STACKTRACE,
    SC_FIELD_COUNT,
};

/// A validated worker message, immutable and reference-counted. Required fields are there and of the right
/// type; a field that is absent or null has no data, but for the values `data` and `config`, whose null
/// (and whose absence) is the text `null`.
struct sc_message;
void sc_message_retain(struct sc_message *message);
void sc_message_release(struct sc_message *_Nullable message);
enum sc_message_type sc_message_type(const struct sc_message *message);
/// A field as written: JSON text, a string with its quotes. Valid as long as the message.
struct sc_bytes sc_message_field(const struct sc_message *message, enum sc_message_field field);
/// Decodes a string field to `out`, which has room for the field's size, and returns the size.
size_t sc_message_string(const struct sc_message *message, enum sc_message_field field, uint8_t *out);
/// An invocation with `action: void`, or without an `invocation_id`: nobody waits for its result.
bool sc_message_is_void(const struct sc_message *message);

// ---- Events, on shard threads

enum sc_undeliverable { SC_UNDELIVERABLE_GONE, SC_UNDELIVERABLE_TOO_LARGE };
enum sc_log_level { SC_LOG_DEBUG, SC_LOG_INFO, SC_LOG_WARN, SC_LOG_ERROR };

/// The callee copies what it keeps, puts it on a queue and returns: it never waits.
struct sc_node_events {
    void *context;
    /// A worker's handshake is over. Nothing of it is processed before sc_node_admit.
    void (*worker_opened)(void *context, uint64_t connection, uint32_t listener, struct sc_bytes address,
                          struct sc_bytes query);
    /// `message` is borrowed; retain to keep.
    void (*worker_message)(void *context, uint64_t connection, struct sc_message *message);
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

struct sc_node_address {
    const char *host;
    uint16_t port; // 0: the kernel picks.
};

/// Every limit has a counter of the same name in sc_node_counters, or says where it is seen.
struct sc_node_config {
    uint32_t shard_count;
    struct sc_node_address stream;
    const struct sc_node_address *_Nullable workers;
    uint32_t worker_count;
    uint64_t message_size_max;  // Inbound message: 1009.
    uint32_t frame_size_max;    // Inbound frame: 1009.
    uint32_t value_size_max;    // Stored value: error.
    uint32_t subscriptions_per_connection_max; // `unauthorized`.
    uint64_t stream_budget; // Bytes waiting for one stream client; over it for the grace, or twice it: 1013.
    uint64_t worker_budget;
    uint32_t slow_reader_grace_ms;
    uint32_t connection_count_max; // Over it: accepted and closed at once.
    uint32_t handshake_timeout_ms;
    uint32_t ping_interval_ms;
    uint32_t ping_deadline_ms;
    uint32_t close_timeout_ms; // For the peer's half of a close handshake.
    uint64_t seed;             // Of the hash tables.
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
/// The bound ports, after start.
uint16_t sc_node_stream_port(const struct sc_node *node);
uint16_t sc_node_worker_port(const struct sc_node *node, uint32_t listener);
/// The backend in use, for the log.
const char *sc_node_backend(const struct sc_node *node);
/// Closes everything in order (stream clients 1001 after what waits for them, workers 1012), ends the
/// threads and returns, at the latest after `timeout_ms`. Not from an event.
void sc_node_stop(struct sc_node *node, uint32_t timeout_ms);
/// Of a node that never started, or has stopped.
void sc_node_destroy(struct sc_node *_Nullable node);

// ---- Commands, from any thread; those about a connection that is gone do nothing unless they say so

/// Sends `workerregistered` with `worker_id` and lets the connection's messages through.
void sc_node_admit(struct sc_node *node, uint64_t connection, struct sc_bytes worker_id);
/// Sends one text message.
void sc_node_send(struct sc_node *node, uint64_t connection, struct sc_bytes text);
/// Sends the call `message` to `executor` as `invocation_id`, or reports it undeliverable.
void sc_node_forward_call(struct sc_node *node, struct sc_message *message, uint64_t executor,
                          struct sc_bytes invocation_id, struct sc_bytes function_id);
/// Sends the result `message` to `caller` under the caller's own id (JSON text) and function id. The trace
/// context is the caller's, for a callee that sent none; data == NULL: none.
void sc_node_forward_result(struct sc_node *node, struct sc_message *message, uint64_t caller,
                            struct sc_bytes invocation_id, struct sc_bytes function_id,
                            struct sc_bytes traceparent, struct sc_bytes baggage);
/// Messages over `size` bytes are not sent to this worker: results become `result_too_large`, calls are
/// undeliverable.
void sc_node_limit_outbound(struct sc_node *node, uint64_t connection, uint64_t size);
/// Starts the close handshake with `code`.
void sc_node_close(struct sc_node *node, uint64_t connection, uint16_t code);

// ---- Counters

/// Sums over all shards since start, but for the gauges named so.
struct sc_node_counters {
    uint64_t stream_connections, worker_connections; // Gauges.
    uint64_t subscriptions, topics, streams, groups, items, value_bytes, backlog_bytes; // Gauges.
    uint64_t connections_accepted, connections_refused, handshakes_refused, handshakes_timed_out;
    uint64_t calls, changes, events, deliveries, syncs, syncs_serialised;
    uint64_t messages_received, messages_invalid, protocol_errors, messages_too_large;
    uint64_t subscriptions_refused, results_too_large, calls_parked;
    uint64_t slow_readers_closed, dead_peers_closed;
    uint64_t turns, enters, sends, receive_buffers_exhausted;
};
/// Collects the counters of a running node. Waits for all shards (a turn each). Not from an event.
struct sc_node_counters sc_node_counters(struct sc_node *node);

#pragma clang assume_nonnull end

#endif
