internal import StreamCore
internal import StreamTriggers
internal import StreamWorkers

extension StreamNode {
    /// All counters by name, since the start; gauges are of this moment. `docs/counters.md` says what each counts.
    public func counters() async -> [(name: String, value: UInt64)] {
        let counted = await control.counted
        let core = await blocking { [core] in core.counters() }
        return core + ControlTable.rows.map { ($0.name, counted[keyPath: $0.field]) }
    }
}

/// What the parts of the control plane have counted.
struct ControlCounted: Sendable {
    var workers: WorkerCounters
    var triggers: TriggerCounters
    var clients: ControlCounters
}

/// The counters of the control plane: the only list of their names. Those of the core have a table of their own.
enum ControlTable {
    struct Row: Sendable {
        let name: String
        let field: any KeyPath<ControlCounted, UInt64> & Sendable
        /// What it counts, as the documents have it.
        let help: String

        init(
            _ name: String, _ field: any KeyPath<ControlCounted, UInt64> & Sendable, _ help: String
        ) {
            self.name = name
            self.field = field
            self.help = help
        }
    }

    static let rows = [
        Row(
            "calls_forwarded", \.workers.callsForwarded,
            "Calls handed to the worker that serves their function."),
        Row("calls_answered", \.workers.callsAnswered, "Calls that this worker has answered."),
        Row(
            "calls_stopped", \.workers.callsStopped,
            "Calls ended since their worker or their caller had gone."),
        Row("calls_not_found", \.workers.callsNotFound, "Calls of a function that nobody serves."),
        Row("calls_refused", \.workers.callsRefused, "Calls over the limit of pending calls."),
        Row(
            "calls_undeliverable", \.workers.callsUndeliverable,
            "Calls that could not be given to their worker."),
        Row(
            "results_unknown", \.workers.resultsUnknown,
            "Results of calls that are over or never were."),
        Row(
            "results_foreign", \.workers.resultsForeign,
            "Results of calls that another worker was given."),
        Row("registrations_refused", \.workers.registrationsRefused, "Registrations refused."),
        Row("calls_forbidden", \.workers.callsForbidden, "Calls that their worker may not make."),
        Row(
            "calls_timed_out", \.workers.callsTimedOut,
            "Calls of the node whose worker took too long."),
        Row(
            "contests_won", \.workers.contestsWon,
            "Ids taken over from a worker that did not answer a ping."),
        Row(
            "lists_dropped", \.workers.readsDropped,
            "Lists of functions, triggers and workers without a caller to answer, which were not "
                + "made."),
        Row(
            "workers_denied", \.workers.connectionsDenied,
            "Workers that the auth function of their port refused."),
        Row(
            "clients_refused", \.clients.clientsRefused,
            "Stream clients that the auth function refused."),
        Row(
            "joins_unguarded", \.clients.joinsUnguarded,
            "Joins of guarded streams refused since no guard was there."),
        Row("triggers_handled", \.triggers.handled, "Handlers called."),
        Row("triggers_skipped", \.triggers.skipped, "Events whose condition said no."),
        Row(
            "triggers_failed", \.triggers.failed,
            "Conditions and handlers that failed, those that took too long included."),
        Row(
            "triggers_timed_out", \.triggers.timedOut, "Conditions and handlers that took too long."
        ),
        Row(
            "trigger_events_dropped", \.triggers.dropped,
            "Events dropped since the queue of their trigger stayed full, or their writer had too "
                + "many waiting."),
        Row(
            "trigger_writers_held", \.triggers.holds,
            "Times that a writer was made to wait for triggers."),
        Row(
            "trigger_call_waits", \.triggers.callWaits,
            "Events that waited since their trigger had its most calls under way."),
        Row(
            "trigger_server_waits", \.triggers.serverWaits,
            "Times that a trigger waited since the worker of its function had enough calls."),
        Row(
            "control_turns_cut", \.clients.drainsCut,
            "Turns of the control plane that ended since they were over their budget of time."),
        Row(
            "memory_returned", \.clients.memoryReturned,
            "Times that free memory was given back to the kernel."),
        Row("joins_refused", \.triggers.joinsRefused, "Joins that a handler refused."),
        Row(
            "trigger_calls_forbidden", \.triggers.forbidden,
            "Handlers and conditions not called since the worker that registered the trigger may "
                + "not call them."),
    ]
}
