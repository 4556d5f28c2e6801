// The only file of the load generator that talks to C.
internal import CStreamLoad

/// Operations that a work may call, by their index in C.
enum Operation: Int, CaseIterable {
    case set, get, update, list, delete

    var name: String { "\(self)" }
}

/// What a work measures the time of.
enum Latency: Hashable {
    case handshake, sync, delivery, trigger
    case answer(Operation)

    static var all: [Latency] {
        [.handshake, .sync, .delivery, .trigger] + Operation.allCases.map(Latency.answer)
    }

    var name: String {
        switch self {
        case .handshake: "handshake"
        case .sync: "sync"
        case .delivery: "delivery"
        case .trigger: "trigger"
        case .answer(let operation): operation.name
        }
    }

    fileprivate var index: UInt32 {
        switch self {
        case .handshake: SC_LOAD_LATENCY_HANDSHAKE.rawValue
        case .sync: SC_LOAD_LATENCY_SYNC.rawValue
        case .delivery: SC_LOAD_LATENCY_DELIVERY.rawValue
        case .trigger: SC_LOAD_LATENCY_TRIGGER.rawValue
        case .answer(let operation): SC_LOAD_LATENCY_ANSWER.rawValue + UInt32(operation.rawValue)
        }
    }
}

/// What a run waits for.
enum Goal {
    case never, ready, quiet, closed
}

/// How many times something happened.
struct Counts: Codable, Equatable {
    var connects, connectFailures, handshakes, lost: UInt64
    var syncs, syncBytes, syncsParsed: UInt64
    var deliveries, deliveredBytes, framesParsed: UInt64
    var calls, answers, errors, triggered: UInt64
    var stalledClosed, killed: UInt64

    static func + (left: Counts, right: Counts) -> Counts {
        Counts(
            connects: left.connects + right.connects,
            connectFailures: left.connectFailures + right.connectFailures,
            handshakes: left.handshakes + right.handshakes, lost: left.lost + right.lost,
            syncs: left.syncs + right.syncs, syncBytes: left.syncBytes + right.syncBytes,
            syncsParsed: left.syncsParsed + right.syncsParsed,
            deliveries: left.deliveries + right.deliveries,
            deliveredBytes: left.deliveredBytes + right.deliveredBytes,
            framesParsed: left.framesParsed + right.framesParsed,
            calls: left.calls + right.calls, answers: left.answers + right.answers,
            errors: left.errors + right.errors, triggered: left.triggered + right.triggered,
            stalledClosed: left.stalledClosed + right.stalledClosed,
            killed: left.killed + right.killed)
    }

    static let zero = Counts(
        connects: 0, connectFailures: 0, handshakes: 0, lost: 0, syncs: 0, syncBytes: 0,
        syncsParsed: 0, deliveries: 0, deliveredBytes: 0, framesParsed: 0, calls: 0, answers: 0,
        errors: 0, triggered: 0, stalledClosed: 0, killed: 0)
}

struct EngineError: Error {
    /// As errno, negative.
    var code: Int32
    /// A sentence that says more.
    var reason: String?
}

/// The monotonic clock of the engine, in nanoseconds.
func now() -> UInt64 { sc_load_now_ns() }

/// The engine in C: connections, load and checks, on the thread that made it.
///
/// Safe: the handle has one owner, is freed exactly once, and never escapes.
@safe struct Engine: ~Copyable {
    private let handle: OpaquePointer
    /// Texts that C keeps pointers to.
    private let texts: [UnsafeMutablePointer<CChar>]

    init(
        _ target: Target, authorities: String?, streamName: String, joinByMessage: Bool,
        connectingMax: Int,
        pollMicroseconds: Int, io: IOChoice
    ) throws(EngineError) {
        let texts = unsafe [
            target.stream.host, target.worker.host, target.stream.path, target.worker.path,
            streamName, authorities ?? "",
        ]
        .map { text in
            let bytes = text.utf8CString
            let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
            for (index, byte) in bytes.enumerated() { unsafe copy[index] = byte }
            return unsafe copy
        }
        var config = unsafe sc_load_config(
            protocol: target.talk.code, stream_host: texts[0], worker_host: texts[1],
            stream_port: target.stream.port, worker_port: target.worker.port, stream_path: texts[2],
            worker_path: texts[3], stream_name: texts[4],
            stream_tls: target.stream.isSecure, worker_tls: target.worker.isSecure,
            ca_file: authorities == nil ? nil : texts[5], join_by_message: joinByMessage,
            connecting_max: UInt32(connectingMax), receive_buffer_size: 16384,
            receive_buffer_count: 0, poll_us: UInt32(pollMicroseconds), io: io.code)
        var made: OpaquePointer?
        let code = unsafe sc_load_create(&config, &made)
        guard let made = unsafe made, code == 0 else {
            unsafe texts.forEach { unsafe $0.deallocate() }
            let reason = unsafe String(cString: sc_load_authorities_reason())
            throw EngineError(code: code, reason: reason.isEmpty ? nil : reason)
        }
        unsafe self.handle = made
        unsafe self.texts = texts
    }

    deinit {
        unsafe sc_load_destroy(handle)
        unsafe texts.forEach { unsafe $0.deallocate() }
    }

    func add(_ work: Work) -> UInt32 {
        var config = sc_load_work_config()
        config.topic_count = UInt32(work.groups)
        config.item_count = UInt32(work.items)
        config.subscribers_per_topic = UInt32(work.subscribers)
        config.caller_count = UInt32(work.callers)
        config.value_size = UInt32(work.valueSize)
        config.window = UInt32(work.inFlight)
        config.rate = work.rate
        config.until_delivered = work.untilDelivered
        config.trigger = work.trigger
        unsafe withUnsafeMutableBytes(of: &config.weights) { weights in
            let weights = unsafe weights.bindMemory(to: UInt32.self)
            for operation in Operation.allCases {
                unsafe weights[operation.rawValue] = UInt32(work.mix[operation] ?? 0)
            }
        }
        return unsafe sc_load_work_add(handle, &config)
    }

    func openCallers(_ work: UInt32) { unsafe sc_load_open_callers(handle, work) }
    func openSubscribers(_ work: UInt32) { unsafe sc_load_open_subscribers(handle, work) }
    func closeSubscribers(_ work: UInt32, abort: Bool) {
        unsafe sc_load_close_subscribers(handle, work, abort)
    }
    func reconnectSubscribers(_ work: UInt32) { unsafe sc_load_reconnect_subscribers(handle, work) }
    func fill(_ work: UInt32) { unsafe sc_load_fill(handle, work) }
    func start(_ work: UInt32) { unsafe sc_load_start(handle, work) }
    func stop(_ work: UInt32) { unsafe sc_load_stop(handle, work) }
    func checkState(_ work: UInt32) { unsafe sc_load_check_state(handle, work) }
    func reset() { unsafe sc_load_reset(handle) }
    func stall(_ work: UInt32, _ count: Int, forGood: Bool) {
        unsafe sc_load_stall(handle, work, UInt32(count), forGood)
    }
    func unstall(_ work: UInt32) { unsafe sc_load_unstall(handle, work) }
    func kill(_ work: UInt32, _ count: Int) { unsafe sc_load_kill(handle, work, UInt32(count)) }
    func expectRestart() { unsafe sc_load_expect_restart(handle) }
    func restarted(empty: Bool) { unsafe sc_load_restarted(handle, empty) }

    /// Runs the load until `goal` or until `deadline`; returns whether the goal was reached.
    func run(_ goal: Goal, until deadline: UInt64) throws(EngineError) -> Bool {
        let code = unsafe sc_load_run(handle, goal.code, deadline)
        if code < 0 { throw EngineError(code: code) }
        return code == 1
    }

    func live(_ work: UInt32) -> Int { Int(unsafe sc_load_live_subscribers(handle, work)) }
    func missing(_ work: UInt32) -> Int { Int(unsafe sc_load_missing_subscribers(handle, work)) }
    var violationCount: UInt64 { unsafe sc_load_violation_count(handle) }

    var violations: [String] {
        var texts: [String] = []
        for index in 0..<UInt32(SC_LOAD_VIOLATION_TEXTS_MAX) {
            guard let text = unsafe sc_load_violation(handle, index) else { break }
            unsafe texts.append(String(cString: text))
        }
        return texts
    }

    /// How long it has looked for answers instead of sleeping.
    var polledSeconds: Double { Double(unsafe sc_load_polled_ns(handle)) / 1e9 }

    func counts(_ work: UInt32) -> Counts {
        let raw = unsafe sc_load_counters(handle, work)
        return Counts(
            connects: raw.connects, connectFailures: raw.connect_failures,
            handshakes: raw.handshakes,
            lost: raw.lost, syncs: raw.syncs, syncBytes: raw.sync_bytes,
            syncsParsed: raw.syncs_parsed,
            deliveries: raw.deliveries, deliveredBytes: raw.delivered_bytes,
            framesParsed: raw.frames_parsed, calls: raw.calls, answers: raw.answers,
            errors: raw.errors, triggered: raw.triggered, stalledClosed: raw.stalled_closed,
            killed: raw.killed)
    }

    /// A copy of what was measured so far.
    func histogram(_ work: UInt32, _ latency: Latency) -> Histogram {
        let raw = unsafe sc_load_latency(handle, work, sc_load_latency(latency.index))
        var buckets: [(bucket: Int, count: UInt64)] = []
        guard unsafe raw.pointee.count > 0 else { return Histogram() }
        for bucket in 0..<UInt32(SC_HISTOGRAM_BUCKETS) {
            let count = unsafe sc_histogram_bucket_count(raw, bucket)
            if count > 0 { buckets.append((Int(bucket), count)) }
        }
        return unsafe Histogram(
            count: raw.pointee.count, sum: raw.pointee.sum, least: raw.pointee.least,
            most: raw.pointee.most, buckets: buckets)
    }
}

extension Histogram {
    /// The greatest value of a bucket.
    static func most(inBucket bucket: Int) -> UInt64 { sc_histogram_bucket_most(UInt32(bucket)) }
}

extension Goal {
    fileprivate var code: sc_load_goal {
        switch self {
        case .never: SC_LOAD_NEVER
        case .ready: SC_LOAD_READY
        case .quiet: SC_LOAD_QUIET
        case .closed: SC_LOAD_CLOSED
        }
    }
}

extension Talk {
    fileprivate var code: sc_load_protocol {
        switch self {
        case .stream: SC_LOAD_STREAM
        case .raw: SC_LOAD_RAW
        case .redis: SC_LOAD_REDIS
        case .nats: SC_LOAD_NATS
        }
    }
}
