internal import StreamConfig

/// By what the generator talks to the kernel.
enum IOChoice: String {
    case auto
    case ioUring = "io_uring"
    case epoll

    /// As in `sc_load_config`.
    var code: UInt32 {
        switch self {
        case .auto: 0
        case .ioUring: 1
        case .epoll: 2
        }
    }
}

/// The command line.
struct Options {
    var scenario: Scenario
    var target: Target
    var serverProcess: Int32?
    /// The authorities of a server that speaks TLS; nil: those of the system.
    var authorities: String?
    var jsonFile: String?
    var reportFile: String?
    var compareFile: String?
    var joinByMessage = false
    var connectingMax = 128
    /// How long the generator looks for answers before it sleeps.
    var pollMicroseconds = 0
    var io = IOChoice.auto
    var streamName: String?
    var label: String?
    var quiet = false
    /// Seconds that connecting and coming into sync may take.
    var patience = 60.0

    static let usage = """
        iii-stream-bench SCENARIO [OPTION...]

        Loads a running node and checks every byte it sends. Exit code 0: the server kept its promises; 1: it
        did not, or could not be reached; 2: the command line is wrong.

        Scenarios
        \(Kind.allCases.map { "  \($0.rawValue.padded(to: 11))\($0.summary)" }.joined(separator: "\n"))

        Target
          --target URL        stream port (ws://127.0.0.1:3112); raw:// for a WebSocket server without a
                              protocol (subscribers and publisher by path), redis://, nats://
          --workers URL       worker port (ws://127.0.0.1:49134); raw://: where messages are published
          --ca FILE           wss://, raws://: who has signed the server's certificate (the system's)
          --server-pid PID    measure the server's CPU and memory
          --join url|message  how subscribers join: by the URL of the group, or by a message on / (url)
          --stream NAME       the stream of all groups (a new one each time)

        Load
          --subscribers N     of each group                      --groups N     groups
          --items N           of each group, written in turn     --size BYTES   of a value
          --callers N         worker connections                 --in-flight W  calls of a group at once
          --rate R            calls a second instead of --in-flight: an open loop
          --mix A=N,B=N       operations: set, get, update, list, delete
          --until-answered    fanout, groups: a write is over with its answer, not with its last delivery
          --duration S        measured seconds (5)               --warm-up S    seconds before that (1)
          --rounds N          connect: how often (3)             --connecting N connections opened at once (128)
          --file FILE         mixed: the scenario                --patience S   for all to be in sync (60)
          --poll US           look for answers so long before sleeping, 1000 at most (0): no wake-up of a
                              processor is measured, but it is kept from others
          --io auto|io_uring|epoll
                              by what the generator talks to the kernel (auto)

        Faults
          --stall N           subscribers that are not read during the middle third
          --half-open N       subscribers whose host is gone from the first third on
          --kill R            subscribers reset and connected again, a second
          --restart COMMAND   ask --server-pid to end in the middle, and start COMMAND; --durable: state stays

        Output
          --json FILE         the result                         --report FILE  one HTML page
          --compare OLD.json  an earlier result beside it        --label TEXT   a name for this result
          --quiet             no progress line and no table
        """

    init(arguments: [String]) throws(UsageError) {
        var rest = arguments[...]
        guard let first = rest.popFirst(), let kind = Kind(rawValue: first) else {
            throw UsageError(
                arguments.first.map { "unknown scenario '\($0)'" } ?? "which scenario?")
        }
        var values = Values()
        while let option = rest.popFirst() {
            if Values.switches.contains(option) {
                values.given[option] = ""
                continue
            }
            guard Values.known.contains(option) else {
                throw UsageError("unknown option '\(option)'")
            }
            guard let value = rest.popFirst() else { throw UsageError("\(option) needs a value") }
            values.given[option] = value
        }
        target = try Options.target(values)
        scenario = try Options.scenario(kind, values)
        try apply(values)
    }

    private mutating func apply(_ values: Values) throws(UsageError) {
        serverProcess = try values.count("--server-pid").map { Int32(clamping: $0) }
        authorities = values["--ca"]
        jsonFile = values["--json"]
        reportFile = values["--report"]
        compareFile = values["--compare"]
        label = values["--label"]
        quiet = values["--quiet"] != nil
        patience = try values.number("--patience") ?? patience
        if let name = values["--stream"] {
            guard name.utf8.count <= 60,
                name.utf8.allSatisfy({ $0.isPlain })
            else { throw UsageError("--stream: at most 60 letters, digits, '-' and '_'") }
            streamName = name
        }
        connectingMax = try values.count("--connecting") ?? connectingMax
        pollMicroseconds = try values.count("--poll") ?? pollMicroseconds
        guard Configuration.pollRange.contains(pollMicroseconds) else {
            throw UsageError("--poll: at most \(Configuration.pollRange.upperBound)")
        }
        if let name = values["--io"] {
            guard let choice = IOChoice(rawValue: name) else {
                throw UsageError("--io: auto, io_uring or epoll, not '\(name)'")
            }
            io = choice
        }
        switch values["--join"] {
        case nil, "url": joinByMessage = false
        case "message": joinByMessage = true
        case let other?: throw UsageError("--join: url or message, not '\(other)'")
        }
        scenario.faults.stall = try values.count("--stall") ?? 0
        scenario.faults.halfOpen = try values.count("--half-open") ?? 0
        scenario.faults.kill = try values.number("--kill") ?? 0
        scenario.faults.restart = values["--restart"]
        scenario.faults.durable = values["--durable"] != nil
        if scenario.faults.restart != nil, serverProcess == nil {
            throw UsageError("--restart needs --server-pid")
        }
        if compareFile != nil, reportFile == nil { throw UsageError("--compare needs --report") }
    }

    private static func target(_ values: Values) throws(UsageError) -> Target {
        let (talk, stream) = try Target.read(values["--target"] ?? "ws://127.0.0.1:3112")
        let fallback =
            talk == .stream
            ? "\(stream.isSecure ? "wss" : "ws")://127.0.0.1:49134" : values["--target"] ?? ""
        let (workerTalk, worker) = try Target.read(values["--workers"] ?? fallback)
        guard talk == workerTalk else {
            throw UsageError("--target and --workers speak different protocols")
        }
        return Target(talk: talk, stream: stream, worker: worker)
    }

    private static func scenario(_ kind: Kind, _ values: Values) throws(UsageError) -> Scenario {
        var scenario: Scenario
        if kind == .mixed {
            guard let path = values["--file"] else {
                throw UsageError("mixed needs --file SCENARIO.yaml")
            }
            scenario = try ScenarioFile.read(path)
        } else {
            scenario = Scenario(kind: kind, works: [try work(kind, values)])
        }
        scenario.duration = try values.number("--duration") ?? scenario.duration
        scenario.warmUp = try values.number("--warm-up") ?? scenario.warmUp
        scenario.rounds = try values.count("--rounds") ?? scenario.rounds
        return scenario
    }

    private static func work(_ kind: Kind, _ values: Values) throws(UsageError) -> Work {
        var work = Work.standard(kind)
        work.groups = try values.count("--groups") ?? work.groups
        work.subscribers = try values.count("--subscribers") ?? work.subscribers
        work.items = try values.count("--items") ?? work.items
        work.callers = try values.count("--callers") ?? work.callers
        work.valueSize = try values.count("--size") ?? work.valueSize
        work.inFlight = try values.count("--in-flight") ?? work.inFlight
        work.rate = try values.number("--rate") ?? work.rate
        if let mix = values["--mix"] { work.mix = try Work.readMix(mix) }
        if values["--until-answered"] != nil { work.untilDelivered = false }
        if kind == .connect, work.rate > 0 { work.idle = false }  // Storms on a live group.
        if kind == .functions, values["--groups"] == nil { work.groups = max(work.callers, 1) }
        try work.check()
        return work
    }
}

extension Work {
    /// What a scenario is when nothing else is said.
    static func standard(_ kind: Kind) -> Work {
        var work = Work(name: kind.rawValue)
        switch kind {
        case .fanout, .mixed:
            work.subscribers = 1000
            work.untilDelivered = true
        case .groups:
            work.groups = 500
            work.subscribers = 4
            work.untilDelivered = true
        case .functions:
            work.callers = 100
            work.groups = 100
            work.items = 10
            work.mix = [.set: 1, .get: 1]
        case .connect:
            work.subscribers = 1000
            work.items = 10
            work.idle = true
        case .idle:
            work.subscribers = 10_000
            work.callers = 0
            work.idle = true
            work.filled = false
        case .triggers:
            work.trigger = true
            work.callers = 1
            work.rate = 1000
        }
        return work
    }

    static func readMix(_ text: String) throws(UsageError) -> [Operation: Int] {
        var mix: [Operation: Int] = [:]
        for part in text.split(separator: ",") {
            let pair = part.split(separator: "=")
            guard let first = pair.first, let operation = Operation(name: String(first)) else {
                throw UsageError("unknown operation in '\(text)': set, get, update, list, delete")
            }
            guard let weight = pair.count == 1 ? 1 : Int(pair[1]), pair.count <= 2,
                (0...1000).contains(weight)
            else {
                throw UsageError("the weight in '\(part)' is no number up to 1000")
            }
            mix[operation] = weight
        }
        guard mix.values.contains(where: { $0 > 0 }) else {
            throw UsageError("no operation in '\(text)'")
        }
        return mix
    }

    /// Refuses what the engine cannot do.
    func check() throws(UsageError) {
        guard groups > 0, groups <= 1_000_000 else { throw UsageError("groups: 1 to 1,000,000") }
        guard items > 0, items <= 8_000_000 else { throw UsageError("items: 1 to 8,000,000") }
        guard valueSize <= 8 << 20 else { throw UsageError("size: at most 8 MiB") }
        guard callers > 0 || idle else { throw UsageError("callers: at least 1") }
        guard inFlight > 0 || rate > 0 || idle else { throw UsageError("in-flight: at least 1") }
    }
}

/// Options as they were given.
private struct Values {
    var given: [String: String] = [:]

    static let switches: Set = ["--quiet", "--until-answered", "--durable"]
    static let known: Set = [
        "--target", "--workers", "--ca", "--server-pid", "--join", "--stream", "--subscribers",
        "--groups",
        "--items",
        "--size", "--callers", "--in-flight", "--rate", "--mix", "--duration", "--warm-up",
        "--rounds",
        "--connecting", "--file", "--stall", "--half-open", "--kill", "--restart", "--json",
        "--report",
        "--compare", "--label", "--patience", "--poll", "--io",
    ]

    subscript(option: String) -> String? { given[option] }

    func count(_ option: String) throws(UsageError) -> Int? {
        guard let text = given[option] else { return nil }
        guard let value = Int(text), value >= 0 else {
            throw UsageError("\(option): '\(text)' is no whole number")
        }
        return value
    }

    func number(_ option: String) throws(UsageError) -> Double? {
        guard let text = given[option] else { return nil }
        guard let value = Double(text), value >= 0, value.isFinite else {
            throw UsageError("\(option): '\(text)' is no number")
        }
        return value
    }
}

extension UInt8 {
    fileprivate var isPlain: Bool {
        switch self {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "_"):
            true
        default: false
        }
    }
}

extension String {
    /// The text with blanks behind it, `width` characters in all.
    func padded(to width: Int) -> String {
        self + String(repeating: " ", count: max(0, width - count))
    }

    /// The text with blanks before it, `width` characters in all.
    func leftPadded(to width: Int) -> String {
        String(repeating: " ", count: max(0, width - count)) + self
    }
}
