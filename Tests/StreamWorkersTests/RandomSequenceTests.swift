import StreamModel
import StreamWorkers
import Testing

/// Any sequence of events, against a plain model of who owns what and which calls are in flight.
@Suite("Random sequences of worker events")
struct RandomSequenceTests {
    @Test("agree with a plain model after every event", arguments: 0..<8)
    func sequence(round: Int) throws {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("worker router round \(round): seed \(seed)")
        var limits = WorkerLimits()
        limits.pendingCallsPerWorker = 6
        limits.functionsPerWorker = 4
        limits.triggersPerWorker = 4
        var run = RandomRun(
            node: Node(limits: limits), limits: limits, random: SplitMix(state: seed))
        for _ in 0..<3_000 { run.step() }
        run.closeAll()
        #expect(run.node.router.pendingCallCount == 0)
        #expect(run.node.router.functions.count == 0)
        #expect(run.node.router.triggers.count == 0)
    }
}

private struct RandomRun {
    struct Call {
        var caller: Int
        /// Nil when the caller wants no answer.
        var id: String?
        var function: String
        var executor: Int
    }

    struct Trigger {
        var type: String
        var owner: Int
        var place: Int
    }

    var node: Node
    let limits: WorkerLimits
    var random: SplitMix

    var open: [Int] = []
    var connections = 0
    var calls = 0
    var registrants: [String: [Int]] = [:]
    var pending: [(id: String, call: Call)] = []
    var over: [String] = []
    var providers: [String: Int] = [:]
    var triggers: [String: Trigger] = [:]
    var places = 0

    mutating func step() {
        switch Int.random(in: 0..<100, using: &random) {
        case 0..<6: openOne()
        case 6..<10: if let one = open.randomElement(using: &random) { close(one) }
        case 10..<22: registerFunction()
        case 22..<27: unregisterFunction()
        case 27..<33: registerType()
        case 33..<36: unregisterType()
        case 36..<44: registerTrigger()
        case 44..<49: unregisterTrigger()
        case 49..<78: call()
        case 78..<96: answer()
        default: undeliverable()
        }
        check()
    }

    mutating func closeAll() {
        for one in open { close(one) }
        check()
    }

    private func check() {
        let router = node.router
        #expect(router.pendingCallCount == pending.count)
        #expect(router.functions.count == registrants.values.count { !$0.isEmpty })
        for (function, owners) in registrants {
            #expect(router.functions.owner(of: Name(function)) == owners.last.map(connectionID))
        }
        #expect(router.triggers.count == triggers.count)
        for type in types {
            #expect(router.triggers.provider(of: Name(type)) == providers[type].map(connectionID))
            let ordered = triggers.filter { $0.value.type == type }.sorted {
                $0.value.place < $1.value.place
            }
            #expect(
                router.triggers.triggers(of: Name(type)).map(\.trigger.id) == ordered.map(\.key))
        }
        for one in open {
            #expect(router.functions.usage(of: connectionID(one)).count == functionCount(of: one))
            #expect(router.triggers.usage(of: connectionID(one)).count == triggerCount(of: one))
        }
    }

    // MARK: Connections

    private mutating func openOne() {
        guard open.count < 6 else { return }
        connections += 1
        calls += 1
        #expect(node.open(connections) == ["\(connections) admit \(uuid(calls))"])
        open.append(connections)
    }

    private mutating func close(_ one: Int) {
        open.removeAll { $0 == one }
        for function in registrants.keys { registrants[function]?.removeAll { $0 == one } }
        let ended = pending.filter { $0.call.executor == one || $0.call.caller == one }
        pending.removeAll { $0.call.executor == one || $0.call.caller == one }
        over += ended.map(\.id)
        var expected: [String] = []
        for (_, call) in ended where call.executor == one && call.caller != one {
            guard let id = call.id else { continue }
            expected.append(
                errorLine(
                    call.caller, call.function, "invocation_stopped", "Invocation stopped", id: id))
        }
        let gone = triggers.filter { $0.value.owner == one }
        for (id, trigger) in gone.sorted(by: { $0.value.place < $1.value.place }) {
            triggers[id] = nil
            expected += unregisterLines(id, trigger.type, except: one)
        }
        for type in types where providers[type] == one { providers[type] = nil }
        #expect(node.close(one) == expected)
    }

    // MARK: Functions

    private let functions = ["f", "g", "h", "stream::set(x)", "k", "l"]

    private func functionCount(of one: Int) -> Int {
        registrants.values.count { $0.contains(one) }
    }

    private mutating func registerFunction() {
        guard let one = open.randomElement(using: &random),
            let function = functions.randomElement(using: &random)
        else { return }
        let owners = registrants[function] ?? []
        let lines = node.registerFunction(one, function)
        if !owners.contains(one), functionCount(of: one) >= limits.functionsPerWorker {
            #expect(lines.first?.contains("limit_reached") == true)
            return
        }
        registrants[function] = owners.filter { $0 != one } + [one]
        let isTaken = owners.last.map { $0 != one } ?? false
        #expect(lines.count == (isTaken ? 1 : 0))
    }

    private mutating func unregisterFunction() {
        guard let one = open.randomElement(using: &random),
            let function = functions.randomElement(using: &random)
        else { return }
        registrants[function]?.removeAll { $0 == one }
        #expect(node.say(one, .unregisterFunction(id: function)).isEmpty)
    }

    // MARK: Triggers

    private let types = ["cron", "stream:join", "later"]
    private let triggerIDs = ["a", "b", "c", "d", "e", "g"]

    private func triggerCount(of one: Int) -> Int { triggers.values.count { $0.owner == one } }

    private func unregisterLines(_ id: String, _ type: String, except gone: Int? = nil) -> [String]
    {
        guard let provider = providers[type], provider != gone else { return [] }
        return [
            "\(provider) send {\"type\":\"unregistertrigger\",\"id\":\"\(id)\",\"trigger_type\":\"\(type)\"}"
        ]
    }

    private func registerLine(_ provider: Int, _ id: String, _ type: String) -> String {
        "\(provider) send {\"type\":\"registertrigger\",\"id\":\"\(id)\",\"trigger_type\":\"\(type)\","
            + "\"function_id\":\"f\",\"config\":null}"
    }

    private mutating func registerType() {
        guard let one = open.randomElement(using: &random),
            let type = ["cron", "later"].randomElement(using: &random)
        else { return }
        let lines = node.registerType(one, type).filter { !$0.hasPrefix("log") }
        providers[type] = one
        let bound = triggers.filter { $0.value.type == type }
        let ordered = bound.sorted { $0.value.place < $1.value.place }
        #expect(lines == ordered.map { registerLine(one, $0.key, type) })
    }

    private mutating func unregisterType() {
        guard let one = open.randomElement(using: &random),
            let type = ["cron", "later"].randomElement(using: &random)
        else { return }
        #expect(node.say(one, .unregisterTriggerType(id: type)).isEmpty)
        if providers[type] == one { providers[type] = nil }
    }

    private mutating func registerTrigger() {
        guard let one = open.randomElement(using: &random),
            let id = triggerIDs.randomElement(using: &random),
            let type = types.randomElement(using: &random)
        else { return }
        let lines = node.registerTrigger(one, id, type)
        let old = triggers[id]
        if old?.owner != one, triggerCount(of: one) >= limits.triggersPerWorker {
            #expect(lines.first?.contains("limit_reached") == true)
            return
        }
        var expected = old.map { unregisterLines(id, $0.type) } ?? []
        if let provider = providers[type] { expected.append(registerLine(provider, id, type)) }
        #expect(lines == expected)
        places += 1
        triggers[id] = Trigger(type: type, owner: one, place: old?.place ?? places)
    }

    private mutating func unregisterTrigger() {
        guard let one = open.randomElement(using: &random),
            let id = triggerIDs.randomElement(using: &random)
        else { return }
        let lines = node.say(one, .unregisterTrigger(id: id, triggerType: nil))
        guard let old = triggers[id], old.owner == one else {
            #expect(lines.isEmpty)
            return
        }
        triggers[id] = nil
        #expect(lines == unregisterLines(id, old.type))
    }

    // MARK: Calls

    private mutating func call() {
        guard let one = open.randomElement(using: &random),
            let function = functions.randomElement(using: &random)
        else { return }
        let isVoid = Bool.random(using: &random)
        let id = Bool.random(using: &random) ? "call \(over.count)" : nil
        let wanted = isVoid ? nil : id
        let lines = node.call(one, function, id: id, isVoid: isVoid)
        guard let executor = registrants[function]?.last else {
            let message = "Function \(function) not found"
            #expect(lines == refusal(one, function, "function_not_found", message, wanted))
            return
        }
        let limit = limits.pendingCallsPerWorker
        if pending.count(where: { $0.call.caller == one }) >= limit {
            let message = "The calling worker has \(limit) calls pending"
            #expect(lines == refusal(one, function, "too_many_calls", message, wanted))
            return
        }
        if pending.count(where: { $0.call.executor == executor }) >= limit {
            let message = "The executing worker has \(limit) calls pending"
            #expect(lines == refusal(one, function, "too_many_calls", message, wanted))
            return
        }
        calls += 1
        #expect(lines == ["\(executor) call \(uuid(calls)) \(function) in"])
        let call = Call(caller: one, id: wanted, function: function, executor: executor)
        pending.append((uuid(calls), call))
    }

    private func refusal(
        _ one: Int, _ function: String, _ code: String, _ message: String, _ id: String?
    ) -> [String] {
        id.map { [errorLine(one, function, code, message, id: $0)] } ?? []
    }

    private mutating func answer() {
        guard let one = open.randomElement(using: &random) else { return }
        let lateOne = Int.random(in: 0..<6, using: &random) == 0
        if lateOne, let id = over.randomElement(using: &random) {
            #expect(node.answer(one, id).isEmpty)
            return
        }
        guard let index = pending.indices.randomElement(using: &random) else { return }
        let (id, call) = pending[index]
        let isForeign = Int.random(in: 0..<4, using: &random) == 0 && one != call.executor
        let lines = node.answer(isForeign ? one : call.executor, id)
        guard !isForeign else {
            #expect(lines.isEmpty)
            return
        }
        pending.remove(at: index)
        over.append(id)
        let expected = call.id.map { "\(call.caller) result \"\($0)\" \(call.function) out - -" }
        #expect(lines == (expected.map { [$0] } ?? []))
    }

    private mutating func undeliverable() {
        guard let index = pending.indices.randomElement(using: &random) else { return }
        let (id, call) = pending.remove(at: index)
        over.append(id)
        let executor = connectionID(call.executor)
        let lines = node.feed(.undeliverable(executor, invocationID: id, .gone))
        let message = "channel closed"
        #expect(
            lines == refusal(call.caller, call.function, "channel_send_failed", message, call.id))
    }
}
