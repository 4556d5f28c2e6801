internal import CStreamCore

extension NodeCore {
    /// The counters of all shards together, by name, in the order of the core. Blocks for a turn of each.
    package func counters() -> [(name: String, value: UInt64)] {
        let all = unsafe sc_node_counters(handle)
        return [
            ("stream_connections", all.stream_connections),
            ("worker_connections", all.worker_connections),
            ("subscriptions", all.subscriptions),
            ("topics", all.topics),
            ("streams", all.streams),
            ("groups", all.groups),
            ("items", all.items),
            ("value_bytes", all.value_bytes),
            ("backlog_bytes", all.backlog_bytes),
            ("connections_accepted", all.connections_accepted),
            ("connections_refused", all.connections_refused),
            ("handshakes_refused", all.handshakes_refused),
            ("handshakes_timed_out", all.handshakes_timed_out),
            ("calls", all.calls),
            ("changes", all.changes),
            ("events", all.events),
            ("deliveries", all.deliveries),
            ("syncs", all.syncs),
            ("syncs_serialised", all.syncs_serialised),
            ("messages_received", all.messages_received),
            ("messages_invalid", all.messages_invalid),
            ("protocol_errors", all.protocol_errors),
            ("messages_too_large", all.messages_too_large),
            ("subscriptions_refused", all.subscriptions_refused),
            ("results_too_large", all.results_too_large),
            ("calls_parked", all.calls_parked),
            ("slow_readers_closed", all.slow_readers_closed),
            ("dead_peers_closed", all.dead_peers_closed),
            ("joins_asked", all.joins_asked),
            ("joins_overrun", all.joins_overrun),
            ("origins_refused", all.origins_refused),
            ("calls_refused_waiting", all.calls_refused),
            ("turns", all.turns),
            ("enters", all.enters),
            ("sends", all.sends),
            ("receive_buffers_exhausted", all.receive_buffers_exhausted),
        ]
    }
}
