// Counters of a node: the only list of them. The struct, the names that SIGUSR1 logs and the table of docs/counters.md follow
// from it, or are held against it by a test.
#ifndef CSTREAM_COUNTERS_H
#define CSTREAM_COUNTERS_H

#include <assert.h>
#include <stdbool.h>
#include <stdint.h>

#include "account.h"

#pragma clang assume_nonnull begin

/// GAUGE(name, help), COUNTER(name, help)
///
/// A gauge is of this moment, a counter sums since the start; both over all shards. A limit that is met has one.
#define SC_COUNTERS(GAUGE, COUNTER)                                                                \
    GAUGE(stream_connections, "Stream clients that are connected.")                                \
    GAUGE(worker_connections, "Workers that are connected.")                                       \
    GAUGE(subscriptions, "Subscriptions of stream clients.")                                       \
    GAUGE(topics, "Groups that somebody subscribes to, once for each shard with subscribers.")     \
    GAUGE(streams, "Streams with at least one group.")                                             \
    GAUGE(groups, "Groups with at least one item.")                                                \
    GAUGE(items, "Items in the store.")                                                            \
    GAUGE(value_bytes, "Bytes of the values of all items.")                                        \
    GAUGE(calls_waiting,                                                                           \
          "Calls that wait at the owner of their group for their share of its turns.")             \
    COUNTER(upgrades_refused,                                                                      \
            "Upgrades refused since too many waited for an auth function: 503, workers 1012.")     \
    COUNTER(workers_turned_away, "Workers closed with 1012 since a limit at the door was met.")    \
    COUNTER(accepts_paused,                                                                        \
            "Times that a port took no further connection since too many were being turned away.") \
    COUNTER(joins_waited, "Joins of large groups that waited for room.")                           \
    COUNTER(history_readers_lost, "Readers that the history of a group had no more room for.")     \
    COUNTER(joins_asked_again, "Joins evaluated again since their reader was lost.")               \
    COUNTER(joins_deferred, "Joins that took a later turn than others of the same sync.")          \
    COUNTER(batches_full,                                                                          \
            "Times that changes waited since another shard was behind with the events.")           \
    COUNTER(connections_accepted, "Connections accepted on all ports.")                            \
    COUNTER(                                                                                       \
        connections_refused,                                                                       \
        "Connections refused since the node or their address had its most: 503, workers 1012.")    \
    COUNTER(addresses_refused, "Those of them of an address that had its most connections.")       \
    COUNTER(handshakes_over_rate,                                                                  \
            "Upgrades refused since too many came in a second: 503, workers 1012.")                \
    COUNTER(                                                                                       \
        messages_paced,                                                                            \
        "Times that a client was read no further since it sent too many messages in a second.")    \
    COUNTER(joins_paced,                                                                           \
            "Times that a client was read no further since it joined too often in a second.")      \
    COUNTER(accepts_failed, "Accepts that failed, as for want of a descriptor.")                   \
    COUNTER(handshakes_refused, "Requests for an upgrade that were answered with an error.")       \
    COUNTER(handshakes_timed_out,                                                                  \
            "Connections closed since no complete request for an upgrade came in time.")           \
    COUNTER(tls_handshakes, "TLS handshakes that ended well.")                                     \
    COUNTER(tls_resumed, "Of these, those that went on from an earlier session.")                  \
    COUNTER(tls_handshakes_failed, "TLS handshakes that failed, but for want of time.")            \
    COUNTER(tls_handshakes_timed_out, "TLS handshakes that did not end in time.")                  \
    COUNTER(tls_handshakes_deferred, "Times that a TLS handshake waited for the next turn.")       \
    COUNTER(tls_plain_refused, "Connections to a port with TLS that did not speak it: 400.")       \
    COUNTER(tls_failures, "Connections ended since TLS was broken after the handshake.")           \
    COUNTER(calls, "Calls of stream functions that ran.")                                          \
    COUNTER(calls_queued, "Calls that waited for their share of the turns before they ran.")       \
    COUNTER(reads_dropped, "Reads without a caller to answer, which were not run.")                \
    COUNTER(calls_dropped, "Calls dropped since their caller had gone.")                           \
    COUNTER(changes, "Changes of items.")                                                          \
    COUNTER(events,                                                                                \
            "Events made for subscribers, once for each change and not for each subscriber.")      \
    COUNTER(deliveries, "Events handed to subscribers, once for each.")                            \
    COUNTER(syncs, "Syncs handed to joiners.")                                                     \
    COUNTER(syncs_serialised,                                                                      \
            "Syncs written from the items of a group; the others came from a cache.")              \
    COUNTER(messages_received, "Messages of stream clients and workers.")                          \
    COUNTER(messages_invalid,                                                                      \
            "Messages of stream clients and workers that were none of the protocol.")              \
    COUNTER(protocol_errors, "Connections closed since they broke the WebSocket protocol.")        \
    COUNTER(messages_too_large, "Connections closed with 1009.")                                   \
    COUNTER(subscriptions_refused,                                                                 \
            "Joins refused since the connection had its most subscriptions.")                      \
    COUNTER(syncs_too_large, "Joins refused since the group was over the limit of a sync.")        \
    COUNTER(values_too_large, "Writes refused since the value was over its limit.")                \
    COUNTER(results_too_large,                                                                     \
            "Results over what their caller takes, which got an error in their place.")            \
    COUNTER(calls_parked, "Messages that waited on their connection until there was room.")        \
    COUNTER(results_unasked, "Results of workers that had been given no call.")                    \
    COUNTER(results_held, "Times that a worker was read no further since the control plane was "   \
                          "behind with its results.")                                              \
    COUNTER(slow_readers_closed, "Stream clients closed with 1013.")                               \
    COUNTER(dead_peers_closed, "Connections closed since no pong came in time.")                   \
    COUNTER(joins_asked, "Joins that a handler was asked about.")                                  \
    COUNTER(joins_overrun,                                                                         \
            "Times that a client had its most joins with the handler, and was read no further.")   \
    COUNTER(origins_refused, "Upgrades refused for their Origin: 403.")                            \
    COUNTER(calls_refused_waiting, "Parked calls of a worker answered with too_many_calls.")       \
    COUNTER(telemetry_too_large, "Records of telemetry over their limit, which were dropped.")     \
    COUNTER(custom_syncs_refused, "Syncs of a handler that were over the limit or no JSON.")       \
    COUNTER(turns, "Turns of the event loops.")                                                    \
    COUNTER(enters, "System calls of the event loops.")                                            \
    COUNTER(submissions, "Operations given to the kernel.")                                        \
    COUNTER(sends, "Sends on sockets.")                                                            \
    COUNTER(receive_buffers_exhausted,                                                             \
            "Receives that waited since all receive buffers were in use.")                         \
    COUNTER(                                                                                       \
        turns_contended,                                                                           \
        "Turns in which each socket got one receive buffer, since receives had taken too long.")   \
    COUNTER(polls, "Looks for work of a loop that had none, with poll_us.")                        \
    COUNTER(polls_in_vain, "Of these, those after which the loop slept all the same.")             \
    COUNTER(writes_linked, "Writes of the log given to the kernel together with their flush.")     \
    COUNTER(write_ways_changed,                                                                    \
            "Changes of the way in which the log is written, by what was faster.")                 \
    GAUGE(store_unhealthy, "Shards that refuse changes since their disk failed.")                  \
    GAUGE(log_bytes, "Bytes of the logs on disk.")                                                 \
    GAUGE(snapshot_bytes, "Bytes of the snapshots on disk.")                                       \
    COUNTER(log_batches, "Batches written to the logs.")                                           \
    COUNTER(log_batches_delayed, "Batches that waited for more changes, since that was faster.")   \
    COUNTER(log_delay_switches, "Changes between waiting for more changes and writing at once.")   \
    COUNTER(log_records, "Records written to the logs.")                                           \
    COUNTER(log_updates, "Updates written as their operations, and not as their value.")           \
    COUNTER(log_bytes_written, "Bytes written to the logs.")                                       \
    COUNTER(log_segments, "Files of logs begun.")                                                  \
    COUNTER(snapshots, "Snapshots written.")                                                       \
    COUNTER(snapshots_failed, "Snapshots that failed.")                                            \
    COUNTER(changes_refused, "Changes refused since the disk had failed.")                         \
    COUNTER(store_failures, "Writes or flushes that the disk failed.")                             \
    COUNTER(answers_taken_back,                                                                    \
            "Changes undone before they were answered, since the disk had failed.")

struct sc_node_counters {
    uint64_t waiting[SC_PLACE_COUNT]; // Gauges: bytes by place, see account.h.
#define SC_COUNTER_FIELD(name, help) uint64_t name;
    SC_COUNTERS(SC_COUNTER_FIELD, SC_COUNTER_FIELD)
#undef SC_COUNTER_FIELD
};

enum {
#define SC_COUNTER_ONE(name, help) +1
    SC_COUNTER_COUNT = 0 SC_COUNTERS(SC_COUNTER_ONE, SC_COUNTER_ONE)
#undef SC_COUNTER_ONE
};
// Shards' counters are added as one row of numbers.
static_assert(sizeof(struct sc_node_counters) ==
                  (SC_PLACE_COUNT + SC_COUNTER_COUNT) * sizeof(uint64_t),
              "counters are numbers of 64 bits");

/// A row of the table.
struct sc_counter_row {
    const char *name, *help;
    bool gauge;
};
/// Borrowed for ever. Asserted: `index` is below SC_COUNTER_COUNT. Any thread.
const struct sc_counter_row *sc_counter_row(uint32_t index);
/// The value of that row.
uint64_t sc_counter_value(const struct sc_node_counters *counters, uint32_t index);

#pragma clang assume_nonnull end

#endif
