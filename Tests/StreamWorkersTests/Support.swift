import StreamConfig
import StreamFunctions
import StreamModel
import StreamTriggers
import StreamWorkers
import Synchronization

typealias Router = WorkerRouter

/// A message of the core's: JSON data, or a result that says `!code` for an error.
final class Packet: CallPayload, Hashable, ExpressibleByStringLiteral {
    let text: String

    init(_ text: String) { self.text = text }
    init(stringLiteral text: String) { self.text = text }

    static func == (left: Packet, right: Packet) -> Bool { left.text == right.text }
    func hash(into hasher: inout Hasher) { hasher.combine(text) }

    var data: JSONText { StreamWorkersTests.text(text) }

    var outcome: CallOutcome {
        guard text.first != "!" else {
            return .failure(InvocationError(code: String(text.dropFirst()), message: "told so"))
        }
        return .success(text == "null" ? nil : data)
    }
}

let origin = LogOrigin(
    resource: text(#"{"service.name":"iii"}"#), scopeName: "iii", scopeVersion: "9")

func text(_ string: String) -> JSONText {
    JSONText(validated: Array(string.utf8))
}

func uuid(_ number: Int) -> String {
    let digits = String(number)
    return "00000000-0000-4000-8000-" + String(repeating: "0", count: 12 - digits.count) + digits
}

/// A router whose UUIDs count up from 1, driven with short messages; connections are small numbers.
/// What it does comes back as one line for each action.
///
/// That a registration is dealt with is said after every one: `feed` leaves it out, `releases` counts it.
struct Node {
    var router: Router
    var moment = Moment(uptime: .seconds(1), unix: 1_767_225_600_000)
    private(set) var releases = 0
    /// Workers that came, went or told of themselves: the event and the worker's id.
    private(set) var changes: [String] = []

    init(
        limits: WorkerLimits = WorkerLimits(),
        listeners: [WorkerListener] = [WorkerListener()], named: [String] = [],
        builtIns: [FunctionRegistration] = Node.builtIns, types: [TriggerTypeRegistration] = []
    ) {
        let next = Counter()
        let tokens = Counter()
        var timeouts = Timeouts()
        (timeouts.auth, timeouts.handler) = (.milliseconds(100), .milliseconds(300))
        router = Router(
            limits: limits, listeners: listeners, namedByConfiguration: named, timeouts: timeouts,
            builtInFunctions: builtIns, logOrigin: origin, functions: FunctionRegistry(),
            triggers: TriggerRegistry(builtInTypes: types), startedAt: 1_767_225_500_000,
            makeUUID: { uuid(next.increment()) }, makeToken: { "token \(tokens.increment())" })
    }

    /// All connections of it go through a middleware.
    init(limits: WorkerLimits, middleware: String) {
        var listener = WorkerListener()
        listener.middlewareFunctionID = middleware
        self.init(limits: limits, listeners: [listener])
    }

    private static let builtIns = [
        "stream::set", "stream::get", "stream::delete", "stream::list", "stream::list_groups",
        "stream::list_all", "stream::send", "stream::update",
    ].map { FunctionRegistration(id: $0) }

    /// A node with so many connections, whose worker ids are the first UUIDs.
    static func with(
        _ connections: Int, limits: WorkerLimits = WorkerLimits()
    ) -> Node {
        var node = Node(limits: limits)
        for connection in 0..<connections { _ = node.open(connection + 1) }
        return node
    }

    mutating func open(
        _ connection: Int, listener: Int = 0, address: String = "127.0.0.1:1",
        isTelemetry: Bool = false, head: Packet = "{}"
    ) -> [String] {
        let peer = WorkerPeer(listener: listener, address: address, isTelemetry: isTelemetry)
        return feed(.opened(id(connection), peer, head: head))
    }

    mutating func close(_ connection: Int) -> [String] { feed(.closed(id(connection))) }

    mutating func say(_ connection: Int, _ message: WorkerMessage) -> [String] {
        feed(.message(id(connection), message))
    }

    mutating func registerFunction(_ connection: Int, _ function: String) -> [String] {
        say(connection, .registerFunction(FunctionRegistration(id: function)))
    }

    mutating func registerType(_ connection: Int, _ type: String) -> [String] {
        say(
            connection,
            .registerTriggerType(TriggerTypeRegistration(id: type, description: "d")))
    }

    mutating func registerTrigger(
        _ connection: Int, _ trigger: String, _ type: String, _ function: String = "f",
        config: String = "null", metadata: String? = nil
    ) -> [String] {
        let trigger = TriggerRegistration(
            id: trigger, triggerType: type, functionID: function, config: text(config),
            metadata: metadata.map(text))
        return say(connection, .registerTrigger(trigger))
    }

    /// Calls with the caller's id `id`, or without one.
    mutating func call(
        _ connection: Int, _ function: String, id: String? = "1", isVoid: Bool = false,
        isEnqueue: Bool = false, action: String? = nil, traceparent: String? = nil,
        baggage: String? = nil, data: String? = nil, payload: String = "in"
    ) -> [String] {
        let invocation = Invocation(
            functionID: function, invocationID: id.map { text("\"\($0)\"") }, isVoid: isVoid,
            isEnqueue: isEnqueue, action: action.map(text), traceparent: traceparent,
            baggage: baggage, data: data.map(text), payload: Packet(payload))
        return say(connection, .invoke(invocation))
    }

    mutating func answer(
        _ connection: Int, _ invocation: String, isError: Bool = false, payload: String = "out"
    ) -> [String] {
        let outcome = InvocationOutcome(
            invocationID: invocation, isError: isError, payload: Packet(payload))
        return say(connection, .result(outcome))
    }

    /// A call of the node itself.
    mutating func nodeCall(
        _ function: String, _ input: CallInput, tag: UInt64 = 7, traceparent: String? = nil,
        timeout: Duration = .seconds(1)
    ) -> [String] {
        var actions: Router.Actions = []
        router.call(
            function, input, tag: tag, traceparent: traceparent, timeout: timeout, at: moment,
            into: &actions)
        return lines(actions)
    }

    mutating func nodeCall(
        _ function: String, _ data: String = "{}", tag: UInt64 = 7, timeout: Duration = .seconds(1)
    ) -> [String] {
        nodeCall(function, .text(text(data)), tag: tag, timeout: timeout)
    }

    mutating func tick(after milliseconds: UInt64) -> [String] {
        moment.uptime += .milliseconds(milliseconds)
        return feed(.tick)
    }

    mutating func feed(_ event: WorkerEvent) -> [String] {
        var actions = router.handle(event, at: moment)
        while let index = actions.firstIndex(where: {
            if case .departMore = $0 { true } else { false }
        }),
            case .departMore(let connection) = actions.remove(at: index)
        {
            router.departMore(connection, into: &actions)
        }
        return lines(actions)
    }

    private mutating func lines(_ actions: Router.Actions) -> [String] {
        releases += actions.count { if case .release = $0 { true } else { false } }
        for case .workersChanged(let event, let workerID) in actions {
            changes.append("\(event) \(workerID)")
        }
        return actions.compactMap(line)
    }

    private func id(_ connection: Int) -> ConnectionID { connectionID(connection) }
}

func connectionID(_ number: Int) -> ConnectionID { ConnectionID(rawValue: UInt64(number)) }

private func line(_ action: WorkerAction) -> String? {
    switch action {
    case .admit(let connection, let workerID, _, let isRestricted, let allowed):
        "\(connection.rawValue) admit \(workerID)\(isRestricted ? " restricted" : "")"
            + allowed.map { " \($0)" }.joined()
    case .send(let connection, let bytes), .sendCall(let connection, let bytes):
        "\(connection.rawValue) send \(String(decoding: bytes, as: UTF8.self))"
    case .forwardCall(let payload, let connection, let invocationID, let functionID):
        "\(connection.rawValue) call \(invocationID) \(functionID) \(shown(payload))"
    case .forwardResult(
        let payload, let connection, let invocationID, let functionID, let traceparent, let baggage):
        "\(connection.rawValue) result \(String(decoding: invocationID.bytes, as: UTF8.self))"
            + " \(functionID) \(shown(payload)) \(traceparent ?? "-") \(baggage ?? "-")"
    case .setOutboundLimit(let connection, let bytes):
        "\(connection.rawValue) limit \(bytes)"
    case .ping(let connection):
        "\(connection.rawValue) ping"
    case .close(let connection, let code):
        "\(connection.rawValue) close \(code)"
    case .runStreamCall(let connection, let payload):
        "\(connection.rawValue) run \(shown(payload))"
    case .callStream(let invocationID, let functionID, let data):
        "0 call \(invocationID) \(functionID) \(String(decoding: data.bytes, as: UTF8.self))"
    case .nodeCallEnded(let tag, .success(let result)):
        "ended \(tag) \(result.map { String(decoding: $0.bytes, as: UTF8.self) } ?? "-")"
    case .nodeCallEnded(let tag, .failure(let error)):
        "ended \(tag) \(error.code): \(error.message)"
    case .record(let record, let connection):
        "\(connection.rawValue) record \(String(decoding: record.json.bytes, as: UTF8.self))"
    case .workersChanged, .release, .departMore: nil
    case .log(let log):
        "log \(log.level) \(log.event)"
            + log.fields.map { " \($0.name)=\($0.value)" }.joined()
    }
}

/// The frame of an error that answers call `id`, as a line.
func errorLine(
    _ connection: Int, _ function: String, _ code: String, _ message: String, id: String = "1"
) -> String {
    "\(connection) send {\"type\":\"invocationresult\",\"invocation_id\":\"\(id)\","
        + "\"function_id\":\"\(function)\",\"error\":{\"code\":\"\(code)\",\"message\":\"\(message)\"}}"
}

private final class Counter: Sendable {
    private let value = Mutex(0)

    func increment() -> Int {
        value.withLock {
            $0 += 1
            return $0
        }
    }
}

/// The generator of Steele, Lea and Flood, for random tests that can be repeated.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}

private func shown(_ payload: any CallPayload) -> String { (payload as? Packet)?.text ?? "?" }
