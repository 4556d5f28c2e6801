import StreamConfig
import StreamModel
import Testing

@testable import StreamWorkers

/// Ids that two identities want. Worker 1 has no rules; workers 2 to 4 are let in with rules.
@Suite("Contests of ids")
struct ContestTests {
    private var node = Node.guarded()

    private static let session =
        #"{"allow_trigger_type_registration":true,"allowed_trigger_types":["cron","stream:join"],"allowed_functions":["mine"]}"#

    private mutating func enter(_ worker: Int, _ identity: String) {
        let lines = node.open(worker, listener: 1)
        let call = lines.first.map { $0.split(separator: " ")[2] } ?? ""
        let context = #","context":{"iii_stream":{"identity":"\#(identity)"}}}"#
        _ = node.answer(1, String(call), payload: String(Self.session.dropLast()) + context)
    }

    private func owner(_ function: String) -> ConnectionID? {
        node.router.functions.owner(of: Name(function))
    }

    private func isHeld(_ lines: [String]) -> Bool { lines.contains { $0.contains("id_held") } }
    private func pings(_ lines: [String]) -> Int { lines.count { $0.hasSuffix(" ping") } }

    @Test("the holder is pinged at once, and once until it has answered") mutating func pinged() {
        enter(2, "a")
        _ = node.registerFunction(1, "g")
        let lines = node.registerFunction(2, "g")
        #expect(isHeld(lines) && lines.contains("1 ping"))
        #expect(pings(node.registerFunction(2, "g")) == 0)
        _ = node.feed(.liveness(connectionID(1), isAlive: true))
        #expect(pings(node.registerFunction(2, "g")) == 1)
    }

    @Test("silent for two seconds it counts as gone, and no earlier", arguments: [1999, 2000])
    mutating func silent(after milliseconds: UInt64) {
        enter(2, "a")
        _ = node.registerFunction(1, "g")
        _ = node.registerFunction(2, "g")
        let due = node.moment.uptime + .seconds(2)
        #expect(node.router.nextDeadline == due)
        let lines = node.tick(after: milliseconds)
        #expect(owner("g") == connectionID(milliseconds < 2000 ? 1 : 2))
        #expect(lines.contains { $0.contains("holder_silent") } == (milliseconds >= 2000))
        #expect(node.router.counters.contestsWon == (milliseconds < 2000 ? 0 : 1))
        #expect((node.router.nextDeadline == due) == (milliseconds < 2000))
    }

    @Test("one that answers keeps what it has") mutating func answers() {
        enter(2, "a")
        _ = node.registerFunction(1, "g")
        _ = node.registerFunction(2, "g")
        _ = node.feed(.liveness(connectionID(1), isAlive: true))
        _ = node.tick(after: 5000)
        #expect(owner("g") == connectionID(1))
    }

    @Test("so do triggers and trigger types") mutating func triggersAndTypes() {
        enter(2, "a")
        enter(3, "b")
        _ = node.registerFunction(2, "own")
        _ = node.registerType(3, "cron")
        _ = node.registerTrigger(3, "t", "stream:join", "mine", config: "{}")
        #expect(isHeld(node.registerType(2, "cron")))
        #expect(isHeld(node.registerTrigger(2, "t", "stream:join", "own", config: "{}")))
        #expect(node.router.triggers.provider(of: Name("cron")) == connectionID(3))
        _ = node.tick(after: 2000)
        #expect(node.router.triggers.provider(of: Name("cron")) == connectionID(2))
        #expect(node.router.triggers.trigger(Name("t"))?.owner == connectionID(2))
        // It speaks again: what it has lost stays with the others.
        _ = node.feed(.liveness(connectionID(3), isAlive: true))
        #expect(node.router.triggers.provider(of: Name("cron")) == connectionID(2))
    }

    @Test(
        "a trigger type is not taken over between identities, and is handed on",
        arguments: ["withdraws", "closes"])
    mutating func types(end: String) {
        enter(2, "a")
        enter(3, "b")
        enter(4, "a")
        _ = node.registerType(2, "cron")
        #expect(!isHeld(node.registerType(4, "cron")), "of one identity")
        #expect(isHeld(node.registerType(3, "cron")))
        #expect(node.router.triggers.provider(of: Name("cron")) == connectionID(4))
        if end == "closes" {
            _ = node.close(4)
        } else {
            _ = node.say(4, .unregisterTriggerType(id: "cron"))
        }
        #expect(node.router.triggers.provider(of: Name("cron")) == connectionID(3))
        // Those without rules take over from anyone.
        _ = node.registerType(1, "cron")
        #expect(node.router.triggers.provider(of: Name("cron")) == connectionID(1))
    }

    @Test("one that waits and withdraws, or goes, gets nothing", arguments: [true, false])
    mutating func withdrawn(closes: Bool) {
        enter(2, "a")
        enter(3, "b")
        _ = node.registerType(2, "cron")
        _ = node.registerType(3, "cron")
        if closes {
            _ = node.close(3)
        } else {
            _ = node.say(3, .unregisterTriggerType(id: "cron"))
        }
        _ = node.close(2)
        #expect(node.router.triggers.provider(of: Name("cron")) == nil)
    }

    @Test("a right reattach frees the ids at once") mutating func reattach() {
        enter(2, "a")
        _ = node.open(5)
        _ = node.registerFunction(5, "g")
        #expect(isHeld(node.registerFunction(2, "g")))
        let old = node.router.workerID(of: connectionID(5)) ?? ""
        let token = node.router.workers[connectionID(5)]?.reattachToken
        _ = node.say(1, .reattach(previousWorkerID: old, token: token))
        #expect(owner("g") == connectionID(2))
    }

    @Test("triggers and types that wait count for the limit of the worker", arguments: [0, 1])
    mutating func limit(over: Int) {
        var limits = WorkerLimits()
        limits.triggersPerWorker = 3
        node = .guarded(limits: limits)
        enter(2, "a")
        enter(3, "b")
        _ = node.registerFunction(2, "own")
        for type in ["cron", "at"] { _ = node.registerType(3, type) }
        for id in ["t", "u"] {
            _ = node.registerTrigger(3, id, "stream:join", "mine", config: "{}")
        }
        #expect(isHeld(node.registerType(2, "cron")))
        #expect(isHeld(node.registerTrigger(2, "t", "stream:join", "own", config: "{}")))
        #expect(isHeld(node.registerType(2, "at")))
        #expect(isHeld(node.registerType(2, "at")), "the same once more")
        guard over == 1 else { return }
        let lines = node.registerTrigger(2, "u", "stream:join", "own", config: "{}")
        #expect(lines.first?.contains("limit_reached") == true)
    }
}

/// Triggers of a type that a worker provides call functions that come into other hands. Worker 1 has no rules and
/// provides the type; workers 2 and 3 have.
@Suite("Targets of provided triggers")
struct TriggerTargetTests {
    private var node = Node.guarded()

    init() {
        _ = node.enter(#"{"context":{"iii_stream":{"identity":"a"}}}"#)
        _ = node.registerType(1, "cron")
    }

    private func told(_ lines: [String]) -> [String] {
        lines.filter { $0.hasPrefix("1 send") && $0.contains("registertrigger") }
            .map { $0.contains("unregistertrigger") ? "gone" : "there" }
    }

    @Test(
        "the provider hears that a trigger is gone whose registrant may not call the function now")
    mutating func takenOver() {
        _ = node.registerFunction(2, "job")
        #expect(told(node.registerTrigger(2, "t", "cron", "job")) == ["there"])
        #expect(told(node.say(2, .unregisterFunction(id: "job"))) == [], "nobody serves it")
        #expect(told(node.registerFunction(1, "job")) == ["gone"])
        #expect(node.router.triggers.trigger(Name("t")) != nil, "it is still the worker's")
        // A further provider does not hear of it either.
        _ = node.open(5)
        #expect(!node.registerType(5, "cron").contains { $0.contains("registertrigger\"") })
        _ = node.registerType(1, "cron")
        // It comes back into the worker's own hands.
        _ = node.say(1, .unregisterFunction(id: "job"))
        #expect(told(node.registerFunction(2, "job")) == ["there"])
        #expect(told(node.say(2, .unregisterTrigger(id: "t", triggerType: nil))) == ["gone"])
    }

    @Test("a trigger that is withheld goes without a word") mutating func goesWithheld() {
        _ = node.registerFunction(2, "job")
        _ = node.registerTrigger(2, "t", "cron", "job")
        #expect(told(node.registerFunction(1, "job")) == ["gone"])
        #expect(told(node.close(2)) == [])
    }

    @Test("the functions of a worker that closes are looked at, too") mutating func closes() {
        _ = node.open(5)
        _ = node.registerFunction(5, "job")
        node = Node.guarded { $0.exposedFunctions = [.pattern("other")] }
        _ = node.enter(#"{"context":{"iii_stream":{"identity":"a"}}}"#)
        _ = node.registerType(1, "cron")
        _ = node.registerFunction(1, "job")
        _ = node.registerFunction(2, "job")  // Below.
        _ = node.say(1, .unregisterFunction(id: "job"))
        #expect(told(node.registerTrigger(2, "t", "cron", "job")) == ["there"])
        #expect(told(node.registerFunction(1, "job")) == ["gone"])
        #expect(told(node.say(1, .unregisterFunction(id: "job"))) == ["there"])
    }

    @Test("a worker without rules is not looked at") mutating func unrestricted() {
        _ = node.open(5)
        _ = node.registerFunction(5, "job")
        #expect(told(node.registerTrigger(5, "t", "cron", "job")) == ["there"])
        #expect(told(node.registerFunction(1, "job")) == [])
    }
}
