import StreamModel
import StreamTriggers

/// An evaluator with a registry, driven with short messages. What it does comes back as one line for each
/// action: calls as `call <run> <function> <input>`.
struct Bench {
    var registry = TriggerRegistry()
    var evaluator: TriggerEvaluator
    var now = Duration.seconds(1)
    /// The connections that serve each function.
    var servers: [String: ConnectionID] = [:]

    /// Runs in the order of their calls: lines name them by their number in it, from 1.
    private var runs: [UInt64] = []

    init(limits: TriggerLimits = TriggerLimits(), failOpen: Bool = false) {
        evaluator = TriggerEvaluator(limits: limits, failOpen: failOpen)
    }

    /// Registers a trigger of the stream `s`, and lets go of the triggers that are gone.
    mutating func register(
        _ id: String, _ type: String = "stream", function: String? = nil, condition: String? = nil,
        group: String = ""
    ) throws -> [String] {
        let condition = condition.map { ",\"condition_function_id\":\"\($0)\"" } ?? ""
        let trigger = TriggerRegistration(
            id: id, triggerType: type, functionID: function ?? "f\(id)",
            config: text("{\"stream_name\":\"s\",\"group_id\":\"\(group)\"\(condition)}"))
        _ = try registry.register(trigger, by: connectionID(9))
        return forgetGone()
    }

    mutating func unregister(_ id: String) -> [String] {
        _ = registry.unregister(Name(id), by: connectionID(9))
        return forgetGone()
    }

    private mutating func forgetGone() -> [String] {
        var actions: TriggerEvaluator.Actions = []
        evaluator.forget(registry.takeGoneIDs(), into: &actions)
        return lines(of: actions)
    }

    /// A change of an item of group `g` by a connection.
    mutating func change(_ data: String, item: String? = "i", by writer: Int? = 1, size: Int = 1)
        -> [String]
    {
        let lane: TriggerLane =
            item.map { .item(group: Name("g"), item: Name($0)) } ?? .group(Name("g"))
        let event = TriggerEvent(
            input: .message(Packet(data)), lane: lane, writer: writer.map(connectionID), size: size)
        return fire(event, registry.triggers(onChangeOf: "s", group: "g", item: item))
    }

    mutating func fire(_ event: TriggerEvent, _ triggers: [ActiveTrigger]) -> [String] {
        var actions: TriggerEvaluator.Actions = []
        evaluator.fire(
            event, at: triggers, active: registry.active, now: now, server: server, into: &actions)
        return lines(of: actions)
    }

    private var server: (TriggerCall) -> ConnectionID? {
        let servers = self.servers
        return { servers[$0.functionID] }
    }

    /// Call `run` has this result; nil: none.
    mutating func answer(_ run: UInt64, _ result: String? = nil) -> [String] {
        end(run, .success(result.map(text)))
    }

    mutating func fail(_ run: UInt64, _ code: String = "boom") -> [String] {
        end(run, .failure(InvocationError(code: code, message: "told so")))
    }

    mutating func end(_ run: UInt64, _ outcome: CallOutcome) -> [String] {
        var actions: TriggerEvaluator.Actions = []
        evaluator.callEnded(
            named(run), outcome, active: registry.active, server: server, into: &actions)
        return lines(of: actions)
    }

    /// The registrant of the trigger may not call what `run` would call.
    mutating func forbid(_ run: UInt64) -> [String] {
        var actions: TriggerEvaluator.Actions = []
        evaluator.callForbidden(named(run), active: registry.active, server: server, into: &actions)
        return lines(of: actions)
    }

    mutating func tick() -> [String] {
        var actions: TriggerEvaluator.Actions = []
        evaluator.tick(now: now, into: &actions)
        return lines(of: actions)
    }

    mutating func join(_ data: String, by client: Int = 5) -> [String] {
        var actions: TriggerEvaluator.Actions = []
        evaluator.askJoin(
            connectionID(client), Packet(data), registry.triggers(onJoinOf: "s"), into: &actions)
        return lines(of: actions)
    }
}

extension Bench {
    private func named(_ number: UInt64) -> UInt64 {
        number > 0 && number <= runs.count ? runs[Int(number) - 1] : .max
    }

    /// What is done, as one line for each action.
    mutating func lines(of actions: TriggerEvaluator.Actions) -> [String] {
        actions.map { action in
            guard case .call(let run, _, _, _, _, _) = action else { return line(action, run: 0) }
            runs.append(run)
            return line(action, run: runs.count)
        }
    }
}

/// The runs of the calls among lines.
func runs(_ lines: [String]) -> [UInt64] {
    lines.compactMap {
        let words = $0.split(separator: " ")
        return words.first == "call" ? words.dropFirst().first.flatMap { UInt64($0) } : nil
    }
}

/// Lines of calls without their runs, and all others.
func calls(_ lines: [String]) -> [String] {
    lines.map {
        let words = $0.split(separator: " ")
        return words.first == "call" ? words.dropFirst(2).joined(separator: " ") : $0
    }
}

private func line(_ action: TriggerAction, run: Int) -> String {
    switch action {
    case .call(_, let call, let input, let authors, _, let timeout):
        "call \(run) \(call.functionID) \(input.message)"
            + (authors.map { " \($0.map(\.string).sorted())" } ?? "")
            + (timeout == .seconds(30) ? "" : " \(timeout.inMilliseconds)")
    case .decideJoin(let connection, let payload, let isAllowed):
        "\(connection.rawValue) \(isAllowed ? "allow" : "refuse") \((payload as? Packet)?.text ?? "?")"
    case .hold(let connection): "hold \(connection.rawValue)"
    case .release(let connection): "release \(connection.rawValue)"
    case .log(let log):
        "log \(log.event)" + log.fields.map { " \($0.name)=\($0.value)" }.joined()
    }
}
