// A transport with one kind of connection whose role does what a test says: the far ends are sockets of the test. A
// turn of its loop is a turn of a shard: what waits is resumed, what is queued is sent.
//
// Thread: that which made it.
#ifndef CTRANSPORT_PROBE_H
#define CTRANSPORT_PROBE_H

#include "CStreamTransport.h"

#pragma clang assume_nonnull begin

struct probe;

struct probe_config {
    uint64_t budget, hard_size_max; // See struct port.
    uint32_t message_size_max;
    struct transport_limits limits;
    bool sends_first, finishes;
    struct sc_tls_context *_Nullable tls; // Borrowed for the probe's life.
};

/// What the role was told of all connections, in order, one letter an event:
/// h a head was read, m a message started, a one that was set aside started, r one refused to wait, e the end begins,
/// c the socket is closed, l and s the peer lives or is silent, o room, d a dead peer, w a slow reader, t a failure of TLS.
struct probe_log {
    const char *events;
    size_t count;
};

struct probe *_Nullable probe_create(const struct probe_config *config);
/// All its connections are freed (asserted).
void probe_destroy(struct probe *probe);
/// Connects a socket pair of `buffer_size` bytes each way (0: the kernel's choice). Returns the test's end, which does
/// not block; `*id` is the connection.
int probe_connect(struct probe *probe, uint32_t buffer_size, uint64_t *id);
/// Listens at all addresses of a place for its connections, at most once. Port 0: one is picked. Returns how many
/// addresses there are, or -errno.
int probe_listen(struct probe *probe, struct listen_place *place, uint16_t port,
                 struct listen_reason *reason);
void probe_pause_listening(struct probe *probe, bool pause);
/// Runs a turn that does not sleep.
void probe_turn(struct probe *probe);
/// A tick of the sweep has passed.
void probe_sweep(struct probe *probe);
/// The connection, until it is freed.
struct connection *_Nullable probe_find(struct probe *probe, uint64_t id);
struct transport *probe_transport(struct probe *probe);
struct probe_log probe_log(const struct probe *probe);
/// The texts of messages that were started, each with a newline behind it.
struct sc_bytes probe_started(const struct probe *probe);
/// Bytes that wait in a place, over all connections.
uint64_t probe_waiting(const struct probe *probe, enum sc_place place);

// ---- What the role does

/// Whether messages may be started; those that begin with '!' are set aside until the second is true.
void probe_let_start(struct probe *probe, bool may_start, bool may_start_aside);
/// Messages that may wait, beyond which the role refuses them; by default none is.
void probe_refuse_from(struct probe *probe, uint32_t count);
/// Each message is answered with a text frame of so many bytes.
void probe_answer(struct probe *probe, uint32_t size);
void probe_throttle(struct probe *probe, bool throttled);
/// Sends a text frame of `size` bytes, each `byte`.
void probe_send(struct connection *connection, uint8_t byte, uint32_t size);
/// Whether the memory of a connection is kept when its socket is closed, until probe_free.
void probe_keep_closed(struct probe *probe, bool keep);
void probe_free(struct connection *connection);

#pragma clang assume_nonnull end

#endif
