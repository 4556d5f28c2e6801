import CNodeSimulator
import Foundation
import Testing

/// A node on one thread, with a world that the seed decides about: see CNodeSimulator.h.
///
/// III_CORE_SEEDS=N runs N seeds of each theme, III_CORE_FIRST_SEED says from which on: a failure names its seed, and
/// `III_CORE_FIRST_SEED=<it> III_CORE_SEEDS=1` shows it again, step by step.
@Suite("A node in a simulated world")
struct NodeSimulationTests {
    struct Outcome {
        var sum = node_simulator_result()
        var failures: [String] = []
    }

    static func setting(_ name: String) -> UInt64? {
        ProcessInfo.processInfo.environment[name].flatMap { UInt64($0) }
    }

    static func run(
        _ theme: node_simulator_theme, seeds: UInt64,
        harm: node_simulator_harm = NODE_SIMULATOR_UNHARMED
    ) -> Outcome {
        var outcome = Outcome()
        let first = setting("III_CORE_FIRST_SEED") ?? 1
        for seed in first..<first + seeds where outcome.failures.count < 10 {
            var config = node_simulator_config()
            (config.seed, config.theme, config.harm) = (seed, theme, harm)
            var result = node_simulator_result()
            let failure = withUnsafeTemporaryAllocation(of: CChar.self, capacity: 1024) { text in
                text.baseAddress.flatMap {
                    node_simulator_run(&config, &result, $0, text.count) == 0
                        ? nil : String(cString: $0)
                }
            }
            if let failure { outcome.failures.append(failure) }
            outcome.sum.add(result)
        }
        return outcome
    }

    @Test(
        "Every client gets a sync, then exactly the later changes",
        arguments: [
            (NODE_SIMULATOR_JOINS, 400), (NODE_SIMULATOR_FAULTS, 400), (NODE_SIMULATOR_LARGE, 20),
        ] as [(node_simulator_theme, UInt64)])
    func promises(theme: node_simulator_theme, seeds: UInt64) {
        let seeds = Self.setting("III_CORE_SEEDS") ?? seeds
        let outcome = Self.run(theme, seeds: seeds)
        #expect(outcome.failures.isEmpty)
        guard seeds > 10 else { return }
        // What has to have happened, or the test has seen nothing.
        let sum = outcome.sum
        #expect(sum.changes > 20 * seeds && sum.events > sum.changes && sum.leaves > seeds)
        #expect(sum.resyncs > seeds && sum.delayed_sends > seeds)
        #expect((sum.large_syncs > seeds) == (theme == NODE_SIMULATOR_LARGE))
        #expect(theme != NODE_SIMULATOR_FAULTS || sum.rolled_back > seeds)
        #expect(theme != NODE_SIMULATOR_JOINS || sum.made_syncs > seeds)
        #expect(sum.refused > seeds)
    }

    @Test(
        "Frames that are lost, come twice or out of order are noticed",
        arguments: [
            NODE_SIMULATOR_DROPS, NODE_SIMULATOR_REPEATS, NODE_SIMULATOR_SWAPS,
            NODE_SIMULATOR_FORGETS,
        ])
    func notices(harm: node_simulator_harm) {
        let outcome = Self.run(NODE_SIMULATOR_JOINS, seeds: 10, harm: harm)
        #expect(outcome.sum.harmed > 0)
        #expect(outcome.failures.count >= 5, "\(outcome.failures)")
    }

    @Test(
        "A seed replays a run to the byte",
        arguments: [NODE_SIMULATOR_JOINS, NODE_SIMULATOR_FAULTS, NODE_SIMULATOR_LARGE])
    func replays(theme: node_simulator_theme) {
        let first = Self.run(theme, seeds: 2), second = Self.run(theme, seeds: 2)
        #expect(first.sum.trace == second.sum.trace && first.sum.steps == second.sum.steps)
        #expect(first.sum.trace != 0)
    }
}

extension node_simulator_result {
    mutating func add(_ other: node_simulator_result) {
        steps += other.steps
        changes += other.changes
        events += other.events
        leaves += other.leaves
        resyncs += other.resyncs
        rolled_back += other.rolled_back
        refused += other.refused
        made_syncs += other.made_syncs
        large_syncs += other.large_syncs
        delayed_sends += other.delayed_sends
        harmed += other.harmed
        trace = trace &* 31 &+ other.trace
    }
}
