internal import StreamFunctions
package import StreamModel
internal import StreamTriggers

/// The functions under `engine::`, which the router serves itself.
extension WorkerRouter {
    /// Whether the router serves the function, or nobody does. Workers without rules may register other
    /// functions under `engine::`.
    func isEngineFunction(_ id: Name) -> Bool {
        id.hasPrefix("engine::") && functions.owner(of: id) == nil
    }

    /// Whether a function does nothing but answer.
    static func onlyReads(_ id: String) -> Bool {
        switch id {
        case "engine::functions::list", "engine::workers::list", "engine::triggers::list",
            "engine::trigger-types::list":
            true
        default: false
        }
    }

    /// Runs one. `caller` is the node itself when it calls, for a trigger say.
    mutating func runEngineFunction(
        _ id: String, _ data: JSONText, for caller: ConnectionID, into actions: inout Actions
    ) -> Result<JSONText?, InvocationError> {
        guard data.bytes.count <= limits.engineInputSize else {
            let reason = "input is over \(limits.engineInputSize) bytes"
            return .failure(inputError(JSONMismatch(reason: reason), id))
        }
        do throws(JSONMismatch) {
            switch id {
            case "engine::workers::register":
                return .success(try registerWorker(data, at: caller, into: &actions))
            case "engine::functions::list":
                guard let list = functionList(try includesInternal(data), for: caller) else {
                    return .failure(.resultTooLarge)
                }
                return .success(list)
            case "engine::workers::list":
                return .success(workerList(try wantedWorker(data), for: caller))
            case "engine::triggers::list":
                guard let list = triggerList(try includesInternal(data), for: caller) else {
                    return .failure(.resultTooLarge)
                }
                return .success(list)
            case "engine::trigger-types::list":
                return .success(triggerTypeList(try includesInternal(data)))
            default:
                guard let level = RecordLevel(functionID: id) else { break }
                let record = try LogInput(data).record(level, moment, logOrigin)
                actions.append(.record(record, from: caller))
                return .success(nil)
            }
        } catch {
            return .failure(inputError(error, id))
        }
        counters.callsNotFound += 1
        return .failure(.functionNotFound(id.prefix(bytes: limits.nameSize)))
    }

    private func inputError(_ mismatch: JSONMismatch, _ functionID: String) -> InvocationError {
        InvocationError(
            code: "deserialization_error",
            message: "Failed to deserialize input for \(functionID.prefix(bytes: limits.nameSize)):"
                + " \(mismatch.reason)")
    }

    private mutating func registerWorker(
        _ input: JSONText, at connection: ConnectionID, into actions: inout Actions
    ) throws(JSONMismatch) -> JSONText {
        let metadata = try WorkerMetadata(input: input)
        if let worker = workers[connection] {
            workers[connection]?.metadata = metadata
            let size = metadata.messageSizeMax ?? worker.peer.messageSizeMax
            if size != worker.messageSizeMax {
                actions.append(.setOutboundLimit(connection, bytes: size))
            }
            noteChange("worker_metadata_updated", worker, into: &actions)
        }
        return JSONText(validated: Array(#"{"success":true}"#.utf8))
    }

    // MARK: Functions

    /// What `engine::functions::list` and the trigger type `engine::functions-available` show a worker: what it
    /// may call. nil: that is more than may be sent; nothing of it has been made then.
    package func functionInfos(includeInternal: Bool, for worker: ConnectionID) -> JSONText? {
        let shown = callable(includeInternal, by: worker)
        guard fits(shown.map(\.size), worker) else { return nil }
        return JSONText(array: shown.map(\.info))
    }

    /// Whether a list of registrations of these sizes may be sent: found out before anything of it is made.
    private func fits(_ sizes: [Int], _ caller: ConnectionID) -> Bool {
        let sizeMax = min(workers[caller]?.messageSizeMax ?? .max, limits.listSize)
        return sizes.reduce(0, +) <= sizeMax
    }

    private func callable(_ includeInternal: Bool, by caller: ConnectionID)
        -> [FunctionRegistration]
    {
        let session = workers[caller]?.session
        let rules = exposure(of: caller)
        return (builtInFunctions + functions.served.map(\.function)).filter {
            (includeInternal || !Name($0.id).hasPrefix("engine::"))
                && session?.refusal(of: Name($0.id), $0, rules) == nil
        }
    }

    private func functionList(_ includesInternal: Bool, for caller: ConnectionID) -> JSONText? {
        var result = JSONObjectWriter()
        guard let infos = functionInfos(includeInternal: includesInternal, for: caller) else {
            return nil
        }
        result.add("functions", infos)
        return result.finish()
    }

    // MARK: Workers

    private func workerList(_ wanted: String?, for caller: ConnectionID) -> JSONText {
        let visible = workers.filter { entry in
            !entry.value.peer.isTelemetry
                && wanted.map { Name($0) == Name(entry.value.id) }
                    ?? (entry.value.metadata?.pid != nil)
        }
        var entries = visible.map { (key: $0.value.sortKey, text: info($0.key, $0.value, caller)) }
        if wanted.map({ $0 == "iii-stream" }) ?? true, let node = nodeInfo(for: caller) {
            entries.append((key: ("iii-stream", "iii-stream"), text: node))
        }
        entries.sort { $0.key < $1.key }
        var result = JSONObjectWriter()
        result.add("workers", JSONText(array: entries.map(\.text)))
        result.add("timestamp", moment.unix)
        return result.finish()
    }

    private func shownFunctions(_ ids: [String], for caller: ConnectionID) -> [JSONText] {
        let session = workers[caller]?.session
        let rules = exposure(of: caller)
        return ids.filter { id in
            session?.refusal(of: Name(id), functions.function(Name(id)), rules) == nil
        }.map { JSONText(string: $0) }
    }

    private func info(
        _ connection: ConnectionID, _ worker: Worker, _ caller: ConnectionID
    ) -> JSONText {
        let ids = shownFunctions(functions.ids(servedBy: connection), for: caller)
        var entry = JSONObjectWriter()
        entry.add("id", worker.id)
        entry.addOrNull("name", worker.metadata?.name)
        entry.addOrNull("runtime", worker.metadata?.runtime)
        entry.addOrNull("version", worker.metadata?.version)
        entry.addOrNull("os", worker.metadata?.os)
        entry.add("ip_address", worker.peer.ip)
        entry.add("internal", false)
        entry.add("status", "connected")
        entry.add("connected_at_ms", worker.connectedAt)
        entry.add("function_count", UInt64(ids.count))
        entry.add("functions", JSONText(array: ids))
        entry.add("active_invocations", UInt64(calls.executingCount(of: connection)))
        entry.add("latest_metrics", JSONText.null)
        if let pid = worker.metadata?.pid { entry.add("pid", UInt64(pid)) }
        entry.addIfPresent("isolation", worker.metadata?.isolation)
        return entry.finish()
    }

    /// The node appears among the workers, as the one that serves the stream functions; nil: it has none.
    private func nodeInfo(for caller: ConnectionID) -> JSONText? {
        let own = builtInFunctions.map(\.id).filter { !$0.hasPrefix("engine::") }
        guard !own.isEmpty else { return nil }
        let ids = shownFunctions(own, for: caller)
        var entry = JSONObjectWriter()
        entry.add("id", "iii-stream")
        entry.add("name", "iii-stream")
        entry.add("runtime", "engine")
        entry.add("version", logOrigin.scopeVersion)
        entry.add("os", JSONText.null)
        entry.add("ip_address", JSONText.null)
        entry.add("internal", false)
        entry.add("status", "available")
        entry.add("connected_at_ms", startedAt)
        entry.add("function_count", UInt64(ids.count))
        entry.add("functions", JSONText(array: ids))
        entry.add("active_invocations", UInt64(0))
        entry.add("latest_metrics", JSONText.null)
        entry.add("isolation", "in-process")
        return entry.finish()
    }

    // MARK: Triggers

    private func triggerList(_ includesInternal: Bool, for caller: ConnectionID) -> JSONText? {
        let session = workers[caller]?.session
        let rules = exposure(of: caller)
        let shown = triggers.allTriggers.filter { owned in
            let id = owned.trigger.functionID
            return (includesInternal || !Name(id).hasPrefix("engine::"))
                && (owned.owner == caller
                    || session?.refusal(of: Name(id), functions.function(Name(id)), rules) == nil)
        }
        guard fits(shown.map(\.trigger.size), caller) else { return nil }
        var result = JSONObjectWriter()
        result.add("triggers", JSONText(array: shown.map(\.trigger.info)))
        return result.finish()
    }

    private func triggerTypeList(_ includesInternal: Bool) -> JSONText {
        let shown = triggers.allTypes.filter {
            includesInternal || !Name($0.id).hasPrefix("engine::")
        }
        var result = JSONObjectWriter()
        result.add("trigger_types", JSONText(array: shown.map(\.info)))
        return result.finish()
    }
}

/// What the lists take, but for that of workers.
private func includesInternal(_ input: JSONText) throws(JSONMismatch) -> Bool {
    try listInput(input)?["include_internal"]?.optionalBool() ?? false
}

/// The worker that the list of workers is limited to.
private func wantedWorker(_ input: JSONText) throws(JSONMismatch) -> String? {
    try listInput(input)?["worker_id"]?.optionalString()
}

/// Null counts as an object without members.
private func listInput(_ input: JSONText) throws(JSONMismatch) -> JSONView? {
    let view = input.view
    guard view.kind == .object || view.kind == .null else { throw view.mismatch(expected: "a map") }
    return view.kind == .null ? nil : view
}

extension WorkerRouter.Worker {
    /// By name, or by id where there is none; then by id.
    fileprivate var sortKey: (String, String) { (metadata?.name ?? id, id) }
}

extension FunctionRegistration {
    fileprivate var info: JSONText {
        var object = JSONObjectWriter(capacity: size + 128)
        object.add("function_id", id)
        object.addOrNull("description", description)
        object.addOrNull("request_format", requestFormat)
        object.addOrNull("response_format", responseFormat)
        object.addOrNull("metadata", metadata)
        return object.finish()
    }
}

extension TriggerRegistration {
    fileprivate var info: JSONText {
        var object = JSONObjectWriter(capacity: size + 128)
        object.add("id", id)
        object.add("trigger_type", triggerType)
        object.add("function_id", functionID)
        object.add("config", config)
        object.addIfPresent("metadata", metadata)
        return object.finish()
    }
}

extension TriggerTypeRegistration {
    fileprivate var info: JSONText {
        var object = JSONObjectWriter(capacity: size + 128)
        object.add("id", id)
        object.add("description", description)
        object.addIfPresent("trigger_request_format", triggerRequestFormat)
        object.addIfPresent("call_request_format", callRequestFormat)
        return object.finish()
    }
}
