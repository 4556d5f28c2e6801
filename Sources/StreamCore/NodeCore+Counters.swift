internal import CStreamCore

extension NodeCore {
    /// The counters of all shards together, by name, in the order of the core. Blocks for a turn of each.
    package func counters() -> [(name: String, value: UInt64)] {
        let all = unsafe sc_node_counters(handle)
        return waiting(all) + [
            ("stream_connections", all.stream_connections),
            ("worker_connections", all.worker_connections),
            ("subscriptions", all.subscriptions),
            ("topics", all.topics),
            ("streams", all.streams),
            ("groups", all.groups),
            ("items", all.items),
            ("value_bytes", all.value_bytes),
            ("backlog_bytes", sc_node_counters_waiting(all, SC_PLACE_OUTBOX)),
            ("calls_waiting", all.calls_waiting),
            ("joins_waited", all.joins_waited),
            ("history_readers_lost", all.history_readers_lost),
            ("joins_deferred", all.joins_deferred),
            ("batches_full", all.batches_full),
            ("joins_asked_again", all.joins_asked_again),
            ("upgrades_refused", all.upgrades_refused),
            ("workers_turned_away", all.workers_turned_away),
            ("accepts_paused", all.accepts_paused),
            ("connections_accepted", all.connections_accepted),
            ("connections_refused", all.connections_refused),
            ("accepts_failed", all.accepts_failed),
            ("handshakes_refused", all.handshakes_refused),
            ("handshakes_timed_out", all.handshakes_timed_out),
            ("calls", all.calls),
            ("calls_queued", all.calls_queued),
            ("reads_dropped", all.reads_dropped),
            ("calls_dropped", all.calls_dropped),
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
            ("syncs_too_large", all.syncs_too_large),
            ("values_too_large", all.values_too_large),
            ("results_too_large", all.results_too_large),
            ("calls_parked", all.calls_parked),
            ("results_unasked", all.results_unasked),
            ("results_held", all.results_held),
            ("slow_readers_closed", all.slow_readers_closed),
            ("dead_peers_closed", all.dead_peers_closed),
            ("joins_asked", all.joins_asked),
            ("joins_overrun", all.joins_overrun),
            ("origins_refused", all.origins_refused),
            ("calls_refused_waiting", all.calls_refused),
            ("telemetry_too_large", all.telemetry_too_large),
            ("custom_syncs_refused", all.custom_syncs_refused),
            ("turns", all.turns),
            ("enters", all.enters),
            ("submissions", all.submissions),
            ("sends", all.sends),
            ("receive_buffers_exhausted", all.receive_buffers_exhausted),
            ("turns_contended", all.turns_contended),
            ("polls", all.polls),
            ("polls_in_vain", all.polls_in_vain),
            ("writes_linked", all.writes_linked),
            ("write_ways_changed", all.write_ways_changed),
            ("store_unhealthy", all.store_unhealthy),
            ("log_bytes", all.log_bytes),
            ("snapshot_bytes", all.snapshot_bytes),
            ("log_batches", all.log_batches),
            ("log_batches_delayed", all.log_batches_delayed),
            ("log_delay_switches", all.log_delay_switches),
            ("log_records", all.log_records),
            ("log_updates", all.log_updates),
            ("log_bytes_written", all.log_bytes_written),
            ("log_segments", all.log_segments),
            ("snapshots", all.snapshots),
            ("snapshots_failed", all.snapshots_failed),
            ("changes_refused", all.changes_refused),
            ("store_failures", all.store_failures),
            ("answers_taken_back", all.answers_taken_back),
        ]
    }

    /// What waits, by place.
    private func waiting(_ all: sc_node_counters) -> [(name: String, value: UInt64)] {
        (0..<SC_PLACE_COUNT.rawValue).map { index in
            let place = sc_place(rawValue: index)
            let name = unsafe String(cString: sc_place_row(place).pointee.name)
            return ("waiting_\(name)_bytes", sc_node_counters_waiting(all, place))
        }
    }
}
