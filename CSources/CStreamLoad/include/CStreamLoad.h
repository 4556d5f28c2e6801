// The client side of the protocols, for load: thousands of connections on one thread, each of which checks
// every byte it gets. Subscribers compare what comes with one log per topic; what is new to the log is parsed
// and held against what was written.
//
// A load is a few *works*. A work has topics (groups of one stream), subscribers of each topic, and callers
// (worker connections) that write and read them. Calls of one topic always leave by the same caller, so the
// order of its changes is known.
#ifndef CSTREAM_LOAD_H
#define CSTREAM_LOAD_H

#include "CStreamBase.h"

#pragma clang assume_nonnull begin

// ---- Histogram

#define SC_HISTOGRAM_SUB_BITS 7
#define SC_HISTOGRAM_BUCKETS 7424 // (65 - SUB_BITS) << SUB_BITS
/// Counts of values with a relative error under 1 %: exact below 256, then 128 buckets for each doubling.
struct sc_histogram {
    uint64_t count, sum, least, most;
    uint64_t buckets[SC_HISTOGRAM_BUCKETS];
};
void sc_histogram_clear(struct sc_histogram *histogram);
/// The bucket of `value`.
static inline uint32_t sc_histogram_bucket(uint64_t value) {
    uint32_t width = 64 - (uint32_t)__builtin_clzll(value | 1);
    if (width <= SC_HISTOGRAM_SUB_BITS + 1)
        return (uint32_t)value;
    uint32_t shift = width - SC_HISTOGRAM_SUB_BITS - 1;
    return (shift << SC_HISTOGRAM_SUB_BITS) + (uint32_t)(value >> shift);
}
static inline void sc_histogram_add(struct sc_histogram *histogram, uint64_t value) {
    histogram->count++;
    histogram->sum += value;
    if (value < histogram->least)
        histogram->least = value;
    if (value > histogram->most)
        histogram->most = value;
    histogram->buckets[sc_histogram_bucket(value)]++;
}
static inline uint64_t sc_histogram_bucket_count(const struct sc_histogram *histogram,
                                                 uint32_t bucket) {
    assert(bucket < SC_HISTOGRAM_BUCKETS);
    return histogram->buckets[bucket];
}
/// The greatest value of a bucket.
uint64_t sc_histogram_bucket_most(uint32_t bucket);
/// The value that a share `quantile` (0 to 1) of the counted ones does not exceed; 0 when there are none.
/// Never over the greatest one.
uint64_t sc_histogram_quantile(const struct sc_histogram *histogram, double quantile);
/// Adds all that `from` counted.
void sc_histogram_merge(struct sc_histogram *histogram, const struct sc_histogram *from);

// ---- Works

struct sc_load;

enum sc_load_protocol {
    SC_LOAD_STREAM, // The stream and worker ports of a node.
    SC_LOAD_RAW,    // WebSocket without a protocol: a server that broadcasts or echoes.
    SC_LOAD_REDIS,  // SUBSCRIBE and PUBLISH.
    SC_LOAD_NATS,   // SUB and PUB.
};

enum sc_load_op {
    SC_LOAD_SET,
    SC_LOAD_GET,
    SC_LOAD_UPDATE,
    SC_LOAD_LIST,
    SC_LOAD_DELETE,
    SC_LOAD_OP_COUNT,
};

struct sc_load_config {
    enum sc_load_protocol protocol;
    const char *stream_host, *worker_host;
    uint16_t stream_port, worker_port;
    const char *stream_path,
        *worker_path;        // SC_LOAD_RAW: the paths of the two kinds of connections.
    const char *stream_name; // All groups are in this stream.
    bool stream_tls,
        worker_tls; // The ports speak TLS. The server must show a certificate for its host,
    const char *_Nullable ca_file; // which these have signed. NULL: the authorities of the system.
    bool join_by_message;          // Join on `/`, instead of by the URL of the group.
    uint32_t connecting_max;       // Connections under way to be open at once.
    uint32_t receive_buffer_size, receive_buffer_count; // 0: defaults.
    uint32_t poll_us; // How long it looks for answers before it sleeps.
    uint32_t io;      // By what it talks to the kernel: 0 as it can, 1 io_uring, 2 epoll.
};

struct sc_load_work_config {
    uint32_t topic_count;
    uint32_t item_count; // Of each topic. Items are written in turn.
    uint32_t subscribers_per_topic;
    uint32_t caller_count;
    uint32_t value_size;                // Bytes of a value's JSON text.
    uint32_t window;                    // Closed loop: this many calls of each topic in flight.
    double rate;                        // Open loop, when not 0: calls a second, topics in turn.
    uint32_t weights[SC_LOAD_OP_COUNT]; // How often each operation comes.
    bool until_delivered;               // A write is in flight until all subscribers have it, too.
    bool trigger; // The first caller serves a `stream` trigger on the work's topics.
};

struct sc_load_counters {
    uint64_t connects, connect_failures, handshakes,
        lost; // Lost: closed by the server, not on request.
    uint64_t syncs, sync_bytes, syncs_parsed;
    uint64_t deliveries, delivered_bytes, frames_parsed;
    uint64_t calls, answers, errors;
    uint64_t triggered;
    uint64_t stalled_closed; // Stalled or half-open subscribers that the server closed.
    uint64_t killed;
};

/// Errors: as of sc_loop_create, and of sc_tls_client_create; -ENOENT a host that does not exist; -ENOMEM.
SC_CHECKED int sc_load_create(const struct sc_load_config *config,
                              struct sc_load *_Nullable *_Nonnull load);
/// Why the last sc_load_create could not have the authorities; empty: it had them.
const char *sc_load_authorities_reason(void);
/// Closes what is open and frees all.
void sc_load_destroy(struct sc_load *_Nullable load);
/// Adds a work and returns its index. Its connections are opened by the functions below.
uint32_t sc_load_work_add(struct sc_load *load, const struct sc_load_work_config *config);

/// Opens the callers or the subscribers of a work that are not open.
void sc_load_open_callers(struct sc_load *load, uint32_t work);
void sc_load_open_subscribers(struct sc_load *load, uint32_t work);
/// Closes all subscribers of a work with a TCP reset (`abort`) or in good order.
void sc_load_close_subscribers(struct sc_load *load, uint32_t work, bool abort);
/// Resets all subscribers of a work and opens them again.
void sc_load_reconnect_subscribers(struct sc_load *load, uint32_t work);
/// Sets each item of each topic once.
void sc_load_fill(struct sc_load *load, uint32_t work);
void sc_load_start(struct sc_load *load, uint32_t work);
void sc_load_stop(struct sc_load *load, uint32_t work);
/// Asks for the list of each topic, and holds it against what subscribers and callers know.
void sc_load_check_state(struct sc_load *load, uint32_t work);

enum sc_load_goal {
    SC_LOAD_NEVER,
    SC_LOAD_READY,  // All connections asked for are open, and all subscribers in sync.
    SC_LOAD_QUIET,  // No call is open, and every subscriber has all of its topic's log.
    SC_LOAD_CLOSED, // No connection is open.
};
/// Runs the loop until `goal` is reached, or until the monotonic time `until_ns`. Returns 1 when it was reached,
/// 0 when time was up, -errno of a broken loop. A signal ends it early with 0.
SC_CHECKED int sc_load_run(struct sc_load *load, enum sc_load_goal goal, uint64_t until_ns);
uint64_t sc_load_now_ns(void);

// ---- Faults

/// Stops reading on `count` more subscribers, which also answer no pings: until sc_load_unstall, or for good,
/// as if their hosts were gone. The server may close them.
void sc_load_stall(struct sc_load *load, uint32_t work, uint32_t count, bool for_good);
void sc_load_unstall(struct sc_load *load, uint32_t work);
/// Resets `count` live subscribers and connects them again.
void sc_load_kill(struct sc_load *load, uint32_t work, uint32_t count);
/// From here on the server may be gone: what is lost is no failure. Ends with all connections closed.
void sc_load_expect_restart(struct sc_load *load);
/// Before connections are opened again: topics are empty, or (not `empty`) hold at least what was answered.
/// Subscribers come first then: their `sync` tells what became of the calls in flight.
void sc_load_restarted(struct sc_load *load, bool empty);

// ---- What came out

enum sc_load_latency {
    SC_LOAD_LATENCY_HANDSHAKE, // From connect to 101.
    SC_LOAD_LATENCY_SYNC,      // From connect to the whole `sync`.
    SC_LOAD_LATENCY_DELIVERY,  // From the intended send of a write to each subscriber.
    SC_LOAD_LATENCY_TRIGGER,   // From the intended send to the handler.
    SC_LOAD_LATENCY_ANSWER,    // From the intended send to the answer; + enum sc_load_op.
    SC_LOAD_LATENCY_COUNT = SC_LOAD_LATENCY_ANSWER + SC_LOAD_OP_COUNT,
};
const struct sc_histogram *sc_load_latency(const struct sc_load *load, uint32_t work,
                                           enum sc_load_latency which);
struct sc_load_counters sc_load_counters(const struct sc_load *load, uint32_t work);
/// How long it has looked for answers before it slept, of all its time.
uint64_t sc_load_polled_ns(const struct sc_load *load);
/// Forgets counters and latencies, not violations: the end of a warm-up.
void sc_load_reset(struct sc_load *load);
uint32_t sc_load_live_subscribers(const struct sc_load *load, uint32_t work);
/// Subscribers that were asked for and are neither live nor stalled.
uint32_t sc_load_missing_subscribers(const struct sc_load *load, uint32_t work);

/// How many times the server did what it must not, and sentences about the first of them.
#define SC_LOAD_VIOLATION_TEXTS_MAX 32
uint64_t sc_load_violation_count(const struct sc_load *load);
const char *_Nullable sc_load_violation(const struct sc_load *load, uint32_t index);

#pragma clang assume_nonnull end

#endif
