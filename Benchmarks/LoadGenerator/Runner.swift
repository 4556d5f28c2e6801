internal import Foundation

/// Why a run could not be made, or broke off.
struct RunError: Error {
    var message: String

    init(_ message: String) { self.message = message }
}

/// Makes one run: connections, fill, warm-up, the measured part with its faults, and the checks at the end.
struct Runner: ~Copyable {
    private let options: Options
    private let engine: Engine
    private var works: [UInt32] = []
    private var server: ProcessProbe?
    private var progress: Progress
    private var samples: [Sample] = []
    private var rounds: [Round] = []
    private var residentBefore = 0
    private var residentOpen = 0
    private var anonymousBefore = 0
    private var anonymousOpen = 0
    private var extra: [String] = []

    private var scenario: Scenario { options.scenario }
    private static let second: UInt64 = 1_000_000_000
    private static let sampleEvery: UInt64 = 100_000_000

    init(_ options: Options) throws(RunError) {
        self.options = options
        let unique = String(UInt64(Date().timeIntervalSince1970 * 1000), radix: 36)
        let name = options.streamName ?? "bench-\(unique)"
        do throws(EngineError) {
            engine = try Engine(
                options.target, authorities: options.authorities, streamName: name,
                joinByMessage: options.joinByMessage,
                connectingMax: options.connectingMax, pollMicroseconds: options.pollMicroseconds,
                io: options.io)
        } catch {
            throw RunError("cannot start: \(error.text)")
        }
        server = options.serverProcess.map(ProcessProbe.init)
        progress = Progress(isShown: !options.quiet)
        for work in scenario.works { works.append(engine.add(adapted(work))) }
    }

    /// Servers without a protocol hold no state.
    private func adapted(_ work: Work) -> Work {
        var work = work
        if options.target.talk != .stream {
            work.filled = false
            work.mix = [.set: 1]
            if work.subscribers > 0 { work.untilDelivered = true }
        }
        return work
    }

    // MARK: Phases

    mutating func run() throws(RunError) -> RunResult {
        let started = ISO8601DateFormatter().string(from: Date())
        residentBefore = server?.memory()?.resident ?? 0
        anonymousBefore = server?.memory()?.anonymous ?? 0
        try open()
        residentOpen = server?.memory()?.resident ?? 0
        anonymousOpen = server?.memory()?.anonymous ?? 0
        let before = usage()
        let begun = now()
        switch scenario.kind {
        case .connect: try storms()
        case .idle: try rest()
        default: try load()
        }
        let after = lastUsage ?? usage()
        let seconds = Double((lastNow ?? now()) - (measuredFrom ?? begun)) / 1e9
        let from = measuredUsage ?? before
        try settle()
        progress.end()
        return result(started, seconds, from, after)
    }

    private var measuredFrom: UInt64?
    private var measuredUsage: Usage?
    private var lastUsage: Usage?
    private var lastNow: UInt64?
    private var measured: [WorkResult]?

    private mutating func open() throws(RunError) {
        progress.say("connecting")
        for (index, work) in zip(works, scenario.works)
        where work.callers > 0 && !(work.idle && !work.filled) {
            engine.openCallers(index)
        }
        try reach(.ready, within: options.patience, "the worker port let not all callers in")
        for (index, work) in zip(works, scenario.works) where adapted(work).filled {
            engine.fill(index)
        }
        try reach(.quiet, within: options.patience, "not all items were set")
        if scenario.kind == .connect { return }
        for index in works { engine.openSubscribers(index) }
        try reach(.ready, within: options.patience, "not all subscribers came into sync")
    }

    private mutating func load() throws(RunError) {
        startAll()
        if scenario.warmUp > 0 {
            progress.say("warming up")
            _ = try run(.never, seconds: scenario.warmUp)
        }
        engine.reset()
        measuredFrom = now()
        measuredUsage = usage()
        try measure(scenario.duration)
        lastUsage = usage()
        lastNow = now()
        measured = workResults()
        stopAll()
    }

    private mutating func rest() throws(RunError) {
        measuredFrom = now()
        measuredUsage = usage()
        try measure(scenario.duration)
        lastUsage = usage()
        lastNow = now()
        // What connections take once they are idle, not what opening them took.
        anonymousOpen = server?.memory()?.anonymous ?? 0
        measured = workResults()
    }

    private func startAll() {
        for (index, work) in zip(works, scenario.works) where !work.idle { engine.start(index) }
    }

    private func stopAll() {
        for index in works { engine.stop(index) }
    }

    /// Everybody connects; then all are reset and connect again.
    private mutating func storms() throws(RunError) {
        startAll()
        measuredFrom = now()
        measuredUsage = usage()
        for round in 0..<max(scenario.rounds, 1) {
            let before = counts()
            let cpu = server?.cpuSeconds()
            let overflows = listenOverflows()
            let begun = now()
            for index in works {
                if round == 0 {
                    engine.openSubscribers(index)
                } else {
                    engine.reconnectSubscribers(index)
                }
            }
            progress.say("round \(round + 1) of \(scenario.rounds)")
            try reach(.ready, within: options.patience, "not all subscribers came into sync")
            let after = counts()
            rounds.append(
                Round(
                    connections: Int(after.syncs - before.syncs),
                    seconds: Double(now() - begun) / 1e9,
                    syncsParsed: after.syncsParsed - before.syncsParsed,
                    syncBytes: after.syncBytes - before.syncBytes,
                    serverCPU: both(server?.cpuSeconds(), cpu).map { $0 - $1 },
                    serverPeak: server?.memory()?.peak,
                    listenOverflows: listenOverflows() - overflows))
            residentOpen = server?.memory()?.resident ?? 0
        }
        stopAll()
        lastUsage = usage()
        lastNow = now()
        measured = workResults()
    }

    // MARK: The measured part

    private mutating func measure(_ seconds: Double) throws(RunError) {
        let start = now()
        let end = start + UInt64(seconds * 1e9)
        var faults = FaultPlan(scenario.faults, start: start, end: end)
        var sampler = Sampler(
            usage: usage(), counts: counts(), histogram: mainHistogram(), time: start)
        var sampled = start
        while now() < end {
            try apply(faults.due(now()))
            _ = try run(.never, until: min(now() + Runner.sampleEvery, end))
            guard now() - sampled > Runner.sampleEvery / 2 else { continue }
            sampled = now()
            let sample = sampler.sample(
                usage: usage(), counts: counts(), histogram: mainHistogram(), time: now(),
                start: start,
                resident: server?.memory()?.resident)
            samples.append(sample)
            progress.show(sample, of: seconds, violations: engine.violationCount)
        }
        try apply(faults.atEnd())
    }

    private mutating func apply(_ actions: [FaultPlan.Action]) throws(RunError) {
        guard
            let first = zip(works, scenario.works).first(where: { $0.1.subscribers > 0 })?.0
                ?? works.first
        else {
            return
        }
        for action in actions {
            switch action {
            case .stall(let count): engine.stall(first, count, forGood: false)
            case .halfOpen(let count): engine.stall(first, count, forGood: true)
            case .unstall: engine.unstall(first)
            case .kill(let count): engine.kill(first, count)
            case .restart(let command): try restart(command)
            }
        }
    }

    /// Asks the server to end, starts it again, and brings everything back.
    private mutating func restart(_ command: String) throws(RunError) {
        guard let old = server else { return }
        progress.say("restarting the server")
        stopAll()
        engine.expectRestart()
        kill(old.process, SIGTERM)
        guard try run(.closed, seconds: 30) else {
            throw RunError("the server did not close its connections")
        }
        let limit = now() + 30 * Runner.second
        while old.isAlive {
            guard now() < limit else { throw RunError("the server did not end") }
            usleep(10_000)
        }
        let begun = now()
        server = ProcessProbe(process: try Shell.start(command))
        while !Shell.accepts(options.target.stream) || !Shell.accepts(options.target.worker) {
            guard now() < limit else { throw RunError("'\(command)' does not listen") }
            usleep(10_000)
        }
        let listening = now()
        engine.restarted(empty: !scenario.faults.durable)
        if !scenario.faults.durable {
            for (index, work) in zip(works, scenario.works) where work.callers > 0 {
                engine.openCallers(index)
            }
            try reach(.ready, within: options.patience, "the callers did not come back")
            for (index, work) in zip(works, scenario.works) where adapted(work).filled {
                engine.fill(index)
            }
            try reach(.quiet, within: options.patience, "not all items were set again")
        }
        for index in works { engine.openSubscribers(index) }
        try reach(.ready, within: options.patience, "not all subscribers came back")
        let inSync = now()
        if scenario.faults.durable {
            for (index, work) in zip(works, scenario.works) where work.callers > 0 {
                engine.openCallers(index)
            }
            try reach(.ready, within: options.patience, "the callers did not come back")
        }
        extra.append(
            "restart: listening after \(seconds(listening - begun)), all in sync after \(seconds(inSync - begun))"
        )
        startAll()
    }

    // MARK: The end

    private mutating func settle() throws(RunError) {
        progress.say("checking")
        guard try run(.quiet, seconds: 20) else {
            extra.append("after 20 s not every call was answered, or not every change delivered")
            return
        }
        guard options.target.talk == .stream else { return }
        for (index, work) in zip(works, scenario.works)
        where work.callers > 0 && work.items <= 100_000 {
            engine.checkState(index)
        }
        guard try run(.quiet, seconds: 60) else {
            extra.append("the state at the end could not be read")
            return
        }
    }

    private func result(_ started: String, _ seconds: Double, _ from: Usage, _ to: Usage)
        -> RunResult
    {
        let failures = extra.filter { !$0.hasPrefix("restart:") }
        let violations = failures + engine.violations
        let works = measured ?? workResults()
        let total = works.map(\.counts).reduce(.zero, +)
        return RunResult(
            label: options.label ?? scenario.kind.rawValue, scenario: scenario,
            talk: options.target.talk,
            target: options.target.stream.text, startedAt: started, machine: .current(),
            command: CommandLine.arguments.dropFirst().map { $0.contains(" ") ? "'\($0)'" : $0 }
                .joined(separator: " "), seconds: seconds,
            works: works,
            rounds: rounds, samples: samples, server: serverUse(from, to, total),
            own: ownUse(from, to, seconds),
            violationCount: engine.violationCount + UInt64(failures.count), violations: violations)
    }

    /// What the run has to say besides numbers.
    var remarks: [String] { extra.filter { $0.hasPrefix("restart:") } }

    private func ownUse(_ from: Usage, _ to: Usage, _ seconds: Double) -> OwnUse {
        let used = to.own - from.own
        return OwnUse(cpuSeconds: used, share: seconds > 0 ? used / seconds : 0)
    }

    private func serverUse(_ from: Usage, _ to: Usage, _ total: Counts) -> ServerUse? {
        guard let end = server?.memory(), let first = from.server, let last = to.server,
            last >= first
        else {
            return nil
        }
        let used = last - first
        func per(_ count: UInt64) -> Double? { count > 0 ? used * 1e6 / Double(count) : nil }
        let subscribers = scenario.works.reduce(0) { $0 + $1.subscribers * $1.groups }
        return ServerUse(
            cpuSeconds: used, residentBefore: residentBefore, residentOpen: residentOpen,
            residentAfter: end.resident, residentPeak: end.peak, perDelivery: per(total.deliveries),
            perAnswer: per(total.answers),
            perConnectionBytes: subscribers > 0
                ? Double(anonymousOpen - anonymousBefore) / Double(subscribers) : nil)
    }

    private func workResults() -> [WorkResult] {
        zip(works, scenario.works).map { index, work in
            var latencies: [String: LatencySummary] = [:]
            for latency in Latency.all {
                latencies[latency.name] = LatencySummary(engine.histogram(index, latency))
            }
            return WorkResult(
                name: work.name, counts: engine.counts(index), liveSubscribers: engine.live(index),
                latencies: latencies)
        }
    }

    // MARK: Small things

    private func usage() -> Usage {
        Usage(
            server: server?.cpuSeconds(),
            own: (ProcessProbe.own.cpuSeconds() ?? 0) - engine.polledSeconds)
    }

    private func counts() -> Counts { works.map { engine.counts($0) }.reduce(.zero, +) }

    /// The latency that a scenario is about.
    private func mainHistogram() -> Histogram {
        let subscribers = scenario.works[0].subscribers > 0
        if scenario.kind == .triggers { return engine.histogram(works[0], .trigger) }
        if subscribers { return engine.histogram(works[0], .delivery) }
        let main = scenario.works[0].mix.max { $0.value < $1.value }?.key ?? .set
        return engine.histogram(works[0], .answer(main))
    }

    private func run(_ goal: Goal, seconds: Double) throws(RunError) -> Bool {
        try run(goal, until: now() + UInt64(seconds * 1e9))
    }

    private func run(_ goal: Goal, until deadline: UInt64) throws(RunError) -> Bool {
        do throws(EngineError) {
            return try engine.run(goal, until: deadline)
        } catch {
            throw RunError("the event loop failed: \(error.text)")
        }
    }

    /// Runs until `goal`; gives up when time is up, or when the server has broken a promise on the way.
    private func reach(_ goal: Goal, within limit: Double, _ complaint: String) throws(RunError) {
        let deadline = now() + UInt64(limit * 1e9)
        while now() < deadline {
            if try run(goal, until: min(deadline, now() + Runner.second / 5)) { return }
            if let first = engine.violations.first { throw RunError(first) }
        }
        throw RunError("\(complaint) within \(Int(limit)) s")
    }

    private func seconds(_ nanoseconds: UInt64) -> String {
        String(format: "%.2f s", Double(nanoseconds) / 1e9)
    }
}

/// CPU seconds so far; the generator's without those in which it only looked for answers.
struct Usage {
    var server: Double?
    var own: Double
}

/// Both of two optional values, or none.
func both<A, B>(_ first: A?, _ second: B?) -> (A, B)? {
    guard let first, let second else { return nil }
    return (first, second)
}
