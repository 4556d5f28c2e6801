internal import Dispatch
internal import Glibc
internal import StreamAdapters
internal import StreamConfig
internal import StreamCore
internal import StreamFunctions
internal import StreamModel
internal import StreamTriggers
internal import StreamWorkers
internal import Synchronization

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

    let core: NodeCore
    let control: ControlPlane
    private let controlTask: Task<Void, Never>
    private let signals: AsyncStream<Void>.Continuation
    private let log: NodeLog
    private let shutdown: Duration
    private let stopping = Mutex<Task<Void, Never>?>(nil)
    private let certificates: CertificateWatch?

    /// The port that stream clients connect to; 0 for a node without streams.
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
                return .success(try StreamNode(configuration, NodeLog(sink: log)))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private init(_ nodeConfiguration: NodeConfiguration, _ log: NodeLog) throws(NodeError) {
        let configuration = nodeConfiguration.values
        let store: SelectedStore
        do throws(StoreSelectionError) {
            store =
                configuration.stream.isEnabled
                ? try SelectedStore(for: configuration.adapter) : .memory
        } catch {
            switch error {
            case .notBuiltYet(let what): throw .start("\(what) is not part of this version yet")
            }
        }
        let (stream, continuation) = AsyncStream.makeStream(
            of: Void.self, bufferingPolicy: .bufferingNewest(1))
        let inbox = EventInbox(signal: { continuation.yield() }, log: { log.write($0) })
        var settings = CoreSettings(configuration)
        settings.keep(in: store, nodeConfiguration.recovery)
        do throws(CoreError) {
            core = try NodeCore(settings: settings, inbox: inbox)
        } catch {
            throw .start("out of memory")
        }
        let control = ControlPlane(
            core: core, inbox: inbox, configuration: configuration, log: log, clock: .system,
            router: Self.router(configuration), evaluator: Self.evaluator(configuration),
            signal: { continuation.yield() })
        certificates =
            configuration.certificateFiles.isEmpty
            ? nil : CertificateWatch(core: core, log: log)
        controlTask = Task { await control.run(signals: stream) }
        self.control = control
        signals = continuation
        self.log = log
        shutdown = configuration.timeouts.shutdown
        do throws(CoreError) {
            try core.start()
        } catch {
            continuation.finish()
            throw NodeError(error)
        }
        streamPort = core.streamPort
        workerPorts = core.workerPorts
        announce(configuration, store)
        certificates?.begin(configuration.certificateFiles)
        if configuration.compatibility.failOpen {
            log.write(
                .warn, "fail_open",
                ["detail": .text("clients get in when auth functions and join handlers fail")])
        }
    }

    private func announce(_ configuration: Configuration, _ store: SelectedStore) {
        let workers = core.workerAddresses.map { $0.joined(separator: ", ") }
        let hasStreams = configuration.stream.isEnabled
        let streams = core.streamAddresses.joined(separator: ", ")
        log.write(
            .info, "listening",
            [
                "stream": .text(hasStreams ? streams : "none"),
                "workers": .list(workers),
                "shards": .number(UInt64(Self.shardCount(configuration))),
                "io": .text(core.backend), "io_because": .text(core.backendReason),
                "store": .text(hasStreams ? store.summary : "none"),
            ])
        if let loss = store.lossWindow {
            log.write(.warn, "loss_window", ["detail": .text(loss)])
        }
        let shards = Self.shardCount(configuration)
        if configuration.poll > .zero, shards >= availableCores() {
            log.write(
                .warn, "no_core_left",
                [
                    "detail": .text(
                        "with `poll_us` each shard may keep a core busy, and there are not more"
                            + " cores than shards (\(shards)): use fewer `shards`")
                ])
        }
    }

    private static func router(_ configuration: Configuration) -> ControlPlane.Router {
        let limits = configuration.workerListeners.map(\.limits)
        let timeouts = configuration.timeouts
        let offersStreams = configuration.stream.isEnabled
        return ControlPlane.Router(
            limits: WorkerLimits(), listenerLimits: limits,
            listeners: configuration.workerListeners,
            namedByConfiguration: configuration.namedFunctionIDs,
            timeouts: timeouts,
            builtInFunctions: offersStreams
                ? BuiltInFunctions.all : BuiltInFunctions.withoutStreams,
            logOrigin: LogOrigin(
                resource: configuration.observability.resource, scopeName: "iii",
                scopeVersion: version),
            functions: FunctionRegistry(offersStreams: offersStreams),
            triggers: TriggerRegistry(
                builtInTypes: BuiltInTriggerTypes.all,
                offersLog: configuration.observability.isEnabled, offersStreams: offersStreams),
            startedAt: NodeClock.system.moment().unix, makeUUID: UUIDText.random)
    }

    private static func evaluator(_ configuration: Configuration) -> ControlPlane.Evaluator {
        var limits = TriggerLimits()
        limits.inFlight = configuration.limits.triggerCalls
        limits.waiting = configuration.limits.triggerEvents
        limits.waitingSize = configuration.limits.triggerEventSize
        limits.waitingSizePerWriter = configuration.limits.writerEventSize
        limits.inFlightPerServer = configuration.limits.handlerCallsPerWorker
        limits.inFlightSizePerServer = configuration.limits.handlerSizePerWorker
        limits.timeout = configuration.timeouts.handler
        return ControlPlane.Evaluator(
            limits: limits, failOpen: configuration.compatibility.failOpen)
    }

    /// Reads the certificates of all ports again, as it happens by itself when their files change. A pair that is
    /// refused changes nothing; the log says why.
    public func reloadCertificates() async {
        await certificates?.look(atOnce: true)
    }

    static func shardCount(_ configuration: Configuration) -> Int {
        configuration.shards ?? min(availableCores(), 64)
    }

    /// Ends the node: takes no new connections, gives calls in flight the configured time, closes stream
    /// clients with 1001 after what waits for them and workers with 1012.
    ///
    /// Returns when the node has ended, whoever asked for that first. The cancellation of the caller's task changes
    /// nothing.
    public func stop() async {
        let end = stopping.withLock { task in
            let end = task ?? Task { await self.end() }
            task = end
            return end
        }
        await end.value
    }

    private func end() async {
        log.write(.info, "stopping")
        await certificates?.end()
        let clock = ContinuousClock()
        let deadline = clock.now + shutdown
        // Clients first, while the workers that handle their leaves are still there.
        await blocking { [core] in core.closeClients() }
        while clock.now < deadline, await isBusy() {
            try? await Task.sleep(for: .milliseconds(10))
        }
        let left = max(deadline - clock.now, .milliseconds(500))
        await blocking { [core] in core.stop(timeout: left) }
        signals.finish()
        await controlTask.value
        log.write(.info, "stopped")
    }

    private func isBusy() async -> Bool {
        // Clients first: the leaves of those that have gone are with the control plane by then.
        if await blocking({ [core] in core.streamClientCount() }) > 0 { return true }
        return await control.isBusy()
    }

    /// Calls a function, built in or of a worker, with `data` as its input.
    /// - Parameters:
    ///   - data: one JSON value.
    ///   - timeout: until the call ends with an error. More than a year is as good as for ever.
    /// - Returns: the result as JSON text; nil when there is none, or null.
    /// - Throws: ``CallError`` with the function's error.
    public func call(
        _ functionID: String, _ data: String, timeout: Duration = .seconds(30)
    ) async throws(CallError) -> String? {
        guard let text = jsonText(data) else {
            throw CallError(code: "invalid_message", message: "the data is not JSON")
        }
        let patience = min(timeout, .seconds(366 * 86400))
        switch await control.call(functionID, text, timeout: max(patience, .milliseconds(1))) {
        case .success(let result): return result.map { String(decoding: $0.bytes, as: UTF8.self) }
        case .failure(let error): throw CallError(code: error.code, message: error.message)
        }
    }
}

/// What a called function has failed with.
public struct CallError: Error, Hashable, Sendable, CustomStringConvertible {
    public var code: String
    public var message: String

    public var description: String { "\(code): \(message)" }
}

extension SelectedStore {
    /// Where items are kept, in a few words.
    var summary: String {
        switch self {
        case .memory: "memory"
        case .files(let files): "\(files.path), durability \(files.durability.rawValue)"
        }
    }

    /// What a crash may take back of what was answered; nil: nothing.
    var lossWindow: String? {
        guard case .files(let files) = self else { return nil }
        return switch files.durability {
        case .commit: nil
        case .interval:
            "a crash of the machine may take back what was answered in the last"
                + " \(files.saveInterval.inMilliseconds) ms and a little (durability: interval)"
        case .none:
            "a crash of the machine may take back any answered change that the kernel has not"
                + " written yet (durability: none)"
        }
    }
}

/// Runs what blocks on a thread that may.
func blocking<R: Sendable>(_ body: @escaping @Sendable () -> R) async -> R {
    await withCheckedContinuation { continuation in
        DispatchQueue.global().async { continuation.resume(returning: body()) }
    }
}
