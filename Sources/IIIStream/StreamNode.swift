internal import Dispatch
internal import Glibc
internal import StreamAdapters
internal import StreamConfig
internal import StreamCore
internal import StreamFunctions
internal import StreamTriggers
internal import StreamWorkers

/// One node: a real-time stream server inside this process.
///
/// ```swift
/// let node = try await StreamNode.start(NodeConfiguration())
/// print("streams on port", node.streamPort)
/// await node.stop()
/// ```
public final class StreamNode: Sendable {
    /// The version of this node, which it also reports to workers.
    public static let version = "0.1.0"

    private let core: NodeCore
    private let control: ControlPlane
    private let controlTask: Task<Void, Never>
    private let signals: AsyncStream<Void>.Continuation
    private let log: NodeLog
    private let shutdownMilliseconds: Int

    /// The port that stream clients connect to.
    public let streamPort: UInt16
    /// The ports that workers connect to, in the order of the configuration.
    public let workerPorts: [UInt16]

    /// Starts a node; it accepts connections when this returns.
    ///
    /// - Parameter log: Gets every line of the node's log, on any thread, and must not block for long.
    /// - Throws: ``NodeError``.
    public static func start(
        _ configuration: NodeConfiguration, log: @escaping @Sendable (LogRecord) -> Void = { _ in }
    ) async throws(NodeError) -> StreamNode {
        let result = await blocking { () -> Result<StreamNode, NodeError> in
            do throws(NodeError) {
                return .success(try StreamNode(configuration.values, NodeLog(sink: log)))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private init(_ configuration: Configuration, _ log: NodeLog) throws(NodeError) {
        do throws(StoreSelectionError) {
            _ = try SelectedStore(for: configuration.adapter)
        } catch {
            switch error {
            case .notBuiltYet(let what): throw .start("\(what) is not part of this version yet")
            }
        }
        let (stream, continuation) = AsyncStream.makeStream(
            of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let inbox = EventInbox(signal: { continuation.yield() }, log: { log.write($0) })
        do throws(CoreError) {
            core = try NodeCore(settings: CoreSettings(configuration), inbox: inbox)
        } catch {
            throw .start("out of memory")
        }
        let control = ControlPlane(
            core: core, inbox: inbox, log: log, router: Self.router(configuration))
        controlTask = Task { await control.run(signals: stream) }
        self.control = control
        signals = continuation
        self.log = log
        shutdownMilliseconds = configuration.timeouts.shutdownMilliseconds
        do throws(CoreError) {
            try core.start()
        } catch {
            continuation.finish()
            switch error {
            case .startFailed(let sentence): throw .start(sentence)
            case .outOfMemory: throw .start("out of memory")
            }
        }
        streamPort = core.streamPort
        workerPorts = core.workerPorts
        announce(configuration)
    }

    private func announce(_ configuration: Configuration) {
        let workers = zip(configuration.workerListeners, workerPorts).map { "\($0.host):\($1)" }
        log.write(
            .info, "listening",
            [
                "stream": .text("\(configuration.stream.host):\(streamPort)"),
                "workers": .list(workers), "shards": .number(UInt64(Self.shardCount(configuration))),
                "io": .text(core.backend), "store": .text("memory"),
            ])
    }

    private static func router(_ configuration: Configuration) -> ControlPlane.Router {
        var limits = StreamWorkers.WorkerLimits()
        if let listener = configuration.workerListeners.first {
            limits.functionsPerWorker = listener.limits.functionsPerWorker
            limits.triggersPerWorker = listener.limits.triggersPerWorker
            limits.pendingCallsPerWorker = listener.limits.pendingCallsPerWorker
        }
        return ControlPlane.Router(
            limits: limits, reservedFunctionIDs: builtInFunctions, functions: FunctionRegistry(),
            triggers: TriggerRegistry(), makeUUID: UUIDText.random)
    }

    /// Functions that the core serves.
    private static let builtInFunctions: Set<String> = [
        "stream::set", "stream::get", "stream::delete", "stream::list", "stream::list_groups",
        "stream::list_all", "stream::send", "stream::update",
    ]

    static func shardCount(_ configuration: Configuration) -> Int {
        configuration.shards ?? min(availableCores(), 64)
    }

    /// Ends the node: takes no new connections, gives calls in flight the configured time, closes stream
    /// clients with 1001 after what waits for them and workers with 1012. May be called once.
    public func stop() async {
        log.write(.info, "stopping")
        let clock = ContinuousClock()
        let deadline = clock.now + .milliseconds(shutdownMilliseconds)
        while await control.pendingCallCount > 0, clock.now < deadline {
            try? await Task.sleep(for: .milliseconds(10))
        }
        let left = max(deadline - clock.now, .milliseconds(500))
        let milliseconds = Int(left / .milliseconds(1))
        await blocking { [core] in core.stop(timeoutMilliseconds: milliseconds) }
        signals.finish()
        await controlTask.value
        log.write(.info, "stopped")
    }

    /// All counters by name; gauges are of this moment.
    public func counters() async -> [(name: String, value: UInt64)] {
        let workers = await control.counters
        let core = await blocking { [core] in core.counters() }
        return core + [
            ("calls_forwarded", workers.callsForwarded),
            ("calls_answered", workers.callsAnswered),
            ("calls_stopped", workers.callsStopped),
            ("calls_not_found", workers.callsNotFound),
            ("calls_refused", workers.callsRefused),
            ("calls_undeliverable", workers.callsUndeliverable),
            ("results_unknown", workers.resultsUnknown),
            ("results_foreign", workers.resultsForeign),
            ("registrations_refused", workers.registrationsRefused),
        ]
    }
}

/// Runs what blocks on a thread that may.
private func blocking<R: Sendable>(_ body: @escaping @Sendable () -> R) async -> R {
    await withCheckedContinuation { continuation in
        DispatchQueue.global().async { continuation.resume(returning: body()) }
    }
}
