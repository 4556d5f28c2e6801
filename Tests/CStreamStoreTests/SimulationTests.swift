import CStoreSimulator
import CStreamBase
import CStreamStore
import Foundation
import Glibc
import Testing

/// Thousands of lives of a store on a simulated disk. `III_STORE_SEEDS` sets how many, `III_STORE_SEED` the first:
/// a failure names the seed that shows it again.
private let seedCount = UInt64(ProcessInfo.processInfo.environment["III_STORE_SEEDS"] ?? "") ?? 60
private let firstSeed = UInt64(ProcessInfo.processInfo.environment["III_STORE_SEED"] ?? "") ?? 1

struct Outcome {
    var failures: [String] = []
    var result = simulator_result()
    /// By site.
    var operations = Array(repeating: UInt64(0), count: 64)

    func count(_ site: sc_file_site) -> UInt64 { operations[Int(site.rawValue)] }
}

func simulate(
    seeds: UInt64 = seedCount, stopAtFailure: Bool = false,
    _ configure: (inout simulator_config) -> Void = { _ in }
) -> Outcome {
    var config = simulator_config()
    config.rounds = 12
    config.steps = 150
    config.durability = SC_DURABILITY_COMMIT.rawValue
    config.power_cuts = true
    config.clean_ends = true
    config.segment_size = 8192
    config.value_size_max = 600
    config.ignored_flush = -1
    config.fault_site = -1
    configure(&config)
    var outcome = Outcome()
    for seed in firstSeed..<(firstSeed + seeds) {
        config.seed = seed
        var result = simulator_result()
        var message = [CChar](repeating: 0, count: 1024)
        if simulator_run(&config, &result, &message, message.count) != 0 {
            let text = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
            outcome.failures.append(String(decoding: text, as: UTF8.self))
            if stopAtFailure { return outcome }
        }
        outcome.result.changes += result.changes
        outcome.result.released += result.released
        outcome.result.refused += result.refused
        outcome.result.failures += result.failures
        outcome.result.snapshots += result.snapshots
        outcome.result.batches += result.batches
        outcome.result.segments += result.segments
        outcome.result.updates += result.updates
        outcome.result.cuts += result.cuts
        outcome.result.torn += result.torn
        outcome.result.metadata_flushes += result.metadata_flushes
        outcome.result.pages_split += result.pages_split
        outcome.result.pages_again += result.pages_again
        withUnsafeBytes(of: result.operations) { bytes in
            for (site, count) in bytes.bindMemory(to: UInt64.self).enumerated() {
                outcome.operations[site] += count
            }
        }
    }
    return outcome
}

@Suite("Store on a simulated disk")
struct SimulationTests {
    @Test("keeps all that was released over power cuts, at any moment, with any number of shards")
    func powerCuts() {
        let outcome = simulate()
        #expect(outcome.failures.isEmpty)
        #expect(outcome.result.cuts > seedCount && outcome.result.snapshots > seedCount)
        #expect(outcome.result.torn > seedCount / 4, "sectors are torn, not only lost")
        #expect(outcome.result.metadata_flushes == 0, "a batch's sync writes nothing but the batch")
    }

    /// A page holds eight sectors. The disk asserts that each write of one repeats what is durable in it byte for byte, and
    /// that a torn sector keeps the bytes which its write does not change; the rest is the store's to recover.
    @Test("keeps what is durable in a page that a cut tears while more is written behind it")
    func tornPages() {
        let outcome = simulate {
            ($0.page_size, $0.segment_size) = (SC_LOG_PAGE_SIZE, 8 * UInt64(SC_LOG_PAGE_SIZE))
        }
        #expect(outcome.failures.isEmpty && outcome.result.metadata_flushes == 0)
        #expect(outcome.result.pages_again > outcome.result.batches / 2, "batches share pages")
        #expect(outcome.result.pages_split > seedCount / 4 && outcome.result.torn > seedCount / 4)
    }

    /// A segment of three pages less two bytes takes the pages it begins.
    @Test("writes whole pages whatever the size of a segment, and goes on after a short one")
    func oddSizes() {
        for segment: UInt64 in [513, 1536, 3 * 4096 - 2, 5000] {
            let outcome = simulate(seeds: 12) {
                ($0.page_size, $0.segment_size) = (SC_LOG_PAGE_SIZE, segment)
            }
            #expect(outcome.failures.isEmpty, "segments of \(segment) bytes")
        }
        let short = simulate {
            ($0.page_size, $0.segment_size, $0.value_size_max) = (1024, 1 << 16, 6000)
            ($0.fault_site, $0.fault) = (Int32(SC_SITE_BATCH.rawValue), SIMULATOR_SHORT)
        }
        #expect(short.failures.isEmpty && short.result.failures > 0 && short.result.batches > 0)
    }

    @Test("keeps all that was released when the process is killed") func kills() {
        let outcome = simulate { $0.power_cuts = false }
        #expect(outcome.failures.isEmpty)
    }

    @Test("keeps all that was released where files cannot be written past the cache")
    func withoutDirectFiles() {
        let outcome = simulate { $0.no_direct = true }
        #expect(outcome.failures.isEmpty && outcome.result.metadata_flushes == 0)
        let deaf = simulate(seeds: 400, stopAtFailure: true) {
            $0.no_direct = true
            $0.ignored_flush = Int32(SC_SITE_BATCH.rawValue)
        }
        #expect(!deaf.failures.isEmpty)
    }

    @Test(
        "in the modes that answer at once, keeps a prefix, and all of it after an end in order",
        arguments: [SC_DURABILITY_INTERVAL, SC_DURABILITY_NONE])
    func weakerModes(mode: sc_durability) {
        #expect(simulate { $0.durability = mode.rawValue }.failures.isEmpty)
    }

    /// A write that fails, and a sync between batches that does: changes are taken back that the kernel does not have, and
    /// a cut may take those that were not synced. The end of the process takes none.
    @Test(
        "in the modes that answer at once, takes back what a failed write did not leave with the kernel",
        arguments: [SC_DURABILITY_INTERVAL, SC_DURABILITY_NONE],
        [SC_SITE_BATCH, SC_SITE_INTERVAL_FLUSH])
    func failuresOfWeakerModes(mode: sc_durability, site: sc_file_site) {
        for powerCuts in [true, false] {
            let outcome = simulate {
                ($0.durability, $0.power_cuts) = (mode.rawValue, powerCuts)
                ($0.fault_site, $0.fault, $0.fault_count, $0.fault_after) = (
                    Int32(site.rawValue), SIMULATOR_EIO, 1, 5
                )
                ($0.updates, $0.value_size_max, $0.segment_size) = (true, 8000, 4096)
            }
            #expect(outcome.failures.isEmpty && outcome.result.failures > 0)
        }
    }

    @Test("takes batches larger than a segment, and values larger than a piece of a snapshot")
    func largeValues() {
        #expect(simulate { ($0.segment_size, $0.value_size_max) = (1024, 3000) }.failures.isEmpty)
        let large = simulate(seeds: 3) {
            ($0.segment_size, $0.value_size_max, $0.rounds, $0.steps) = (1 << 16, 700_000, 6, 60)
        }
        #expect(large.failures.isEmpty)
    }

    @Test("takes what a start writes again in several batches")
    func largeStart() {
        // In a round comes too little for a snapshot while it runs: all are those of starts.
        func run(_ ignoredFlush: Int32) -> Outcome {
            simulate(seeds: 10, stopAtFailure: ignoredFlush >= 0) {
                ($0.segment_size, $0.value_size_max, $0.rounds, $0.steps) = (
                    1 << 24, 30_000_000, 4, 20
                )
                $0.ignored_flush = ignoredFlush
            }
        }
        let outcome = run(-1)
        #expect(outcome.failures.isEmpty)
        #expect(outcome.count(SC_SITE_SNAPSHOT_WRITE) > outcome.count(SC_SITE_SNAPSHOT_OPEN))
        #expect(!run(Int32(SC_SITE_SNAPSHOT_WRITE.rawValue)).failures.isEmpty)
    }

    /// The proof that the test above sees what it should: without any one of the syncs it fails.
    @Test(
        "fails without any one of its syncs",
        arguments: [
            SC_SITE_DIRECTORY_PARENT_FLUSH, SC_SITE_MANIFEST_WRITE,
            SC_SITE_MANIFEST_DIRECTORY_FLUSH,
            SC_SITE_SEGMENT_FILL, SC_SITE_SEGMENT_HEADER, SC_SITE_SEGMENT_DIRECTORY_FLUSH,
            SC_SITE_BATCH,
            SC_SITE_SNAPSHOT_WRITE, SC_SITE_SNAPSHOT_HEADER, SC_SITE_SNAPSHOT_DIRECTORY_FLUSH,
        ])
    func everyFlushCounts(site: sc_file_site) {
        let outcome = simulate(seeds: 400, stopAtFailure: true) {
            $0.ignored_flush = Int32(site.rawValue)
        }
        #expect(!outcome.failures.isEmpty || outcome.result.metadata_flushes > 0)
    }

    /// Small segments: snapshots are taken all the time, so that items are written to them between two of their updates.
    @Test(
        "keeps updates that are logged as operations, over cuts, kills, failures and snapshots",
        arguments: [SC_DURABILITY_COMMIT, SC_DURABILITY_INTERVAL, SC_DURABILITY_NONE])
    func updates(mode: sc_durability) {
        func run(
            seeds: UInt64 = seedCount, _ more: (inout simulator_config) -> Void = { _ in }
        ) -> Outcome {
            simulate(seeds: seeds) {
                $0.durability = mode.rawValue
                ($0.updates, $0.value_size_max, $0.segment_size) = (true, 8000, 4096)
                more(&$0)
            }
        }
        let cuts = run()
        #expect(cuts.failures.isEmpty)
        #expect(cuts.result.updates > 50 * seedCount && cuts.result.snapshots > 20 * seedCount)
        #expect(run { $0.power_cuts = false }.failures.isEmpty)
        for site in [SC_SITE_BATCH, SC_SITE_SNAPSHOT_WRITE, SC_SITE_SEGMENT_ALLOCATE] {
            for fault in [SIMULATOR_EIO, SIMULATOR_ENOSPC, SIMULATOR_SHORT, SIMULATOR_DEATH] {
                let outcome = run(seeds: 8) {
                    ($0.fault_site, $0.fault, $0.fault_after) = (Int32(site.rawValue), fault, 4)
                }
                #expect(
                    outcome.failures.isEmpty,
                    "\(String(cString: simulator_site_name(Int32(site.rawValue))))")
            }
        }
    }

    private func updates(
        of size: UInt32, _ count: UInt32, work: UInt64 = 0, withoutSnapshots: Bool = false
    ) -> simulator_updated {
        var config = simulator_updates(
            size: size, count: count, replay_work_max: work, without_snapshots: withoutSnapshots)
        var updated = simulator_updated()
        var message = [CChar](repeating: 0, count: 1024)
        #expect(simulator_measure_updates(&config, &updated, &message, message.count) == 0)
        #expect(updated.kept)
        print("\(config): \(updated)")
        return updated
    }

    @Test("an update is logged as its operations where they are much smaller than the value")
    func sizeOfAnUpdate() {
        let headers: UInt64 = 48 + 40 + 3 + 16 + 8 + 5
        let small = updates(of: SC_LOG_UPDATE_SIZE_LEAST - 1, 10)
        #expect(small.updates == 0 && small.log_bytes > 10 * UInt64(SC_LOG_UPDATE_SIZE_LEAST))
        let large = updates(of: SC_LOG_UPDATE_SIZE_LEAST, 10)
        #expect(large.updates == 10 && large.log_bytes <= 10 * headers)
    }

    @Test("bounds the work of a replay: it leads to a snapshot, and without one to values again")
    func replayWork() {
        // Ten values are as much work as may be, so the eleventh leads to a snapshot.
        let size: UInt32 = 100_000
        #expect(updates(of: size, 10, work: 1_000_000).snapshots == 0)
        let bounded = updates(of: size, 110, work: 1_000_000)
        #expect(bounded.snapshots == 10 && bounded.updates == 110)
        #expect(bounded.log_bytes < 110 * 128)
        let failing = updates(of: size, 60, work: 1_000_000, withoutSnapshots: true)
        let bound = UInt64(10 * SC_LOG_REPLAY_WORK_FACTOR)
        #expect(failing.snapshots == 0 && failing.updates == bound)
        #expect(failing.log_bytes > 20 * UInt64(size))
    }

    @Test("an update that waits for the disk keeps its old value, and these are bounded")
    func valuesThatWait() {
        let size: UInt32 = 3 << 20
        #expect(updates(of: size, 1).waiting == UInt64(SC_LOG_ROLLBACK_MAX / size) + 1)
    }

    @Test(
        "fails without the syncs between batches",
        arguments: [SC_DURABILITY_INTERVAL, SC_DURABILITY_NONE])
    func everyIntervalFlushCounts(mode: sc_durability) {
        let outcome = simulate(seeds: 100, stopAtFailure: true) {
            $0.durability = mode.rawValue
            $0.ignored_flush = Int32(SC_SITE_INTERVAL_FLUSH.rawValue)
        }
        #expect(!outcome.failures.isEmpty)
    }

    @Test(
        "keeps its promises when any operation fails, once or for good",
        arguments: [SIMULATOR_EIO, SIMULATOR_ENOSPC, SIMULATOR_SHORT], [UInt32(1), 0])
    func faults(fault: simulator_fault, count: UInt32) {
        for site in 0..<simulator_site_count() {
            for after in [UInt32(0), 5] {
                let outcome = simulate(seeds: 8) {
                    ($0.fault_site, $0.fault, $0.fault_count, $0.fault_after) = (
                        site, fault, count, after
                    )
                }
                #expect(outcome.failures.isEmpty, "\(String(cString: simulator_site_name(site)))")
            }
        }
    }

    @Test(
        "keeps its promises when the process dies at any kind of operation",
        arguments: [true, false])
    func deaths(powerCuts: Bool) {
        for site in 0..<simulator_site_count() {
            for after in [UInt32(0), 1, 4] {
                let outcome = simulate(seeds: 8) {
                    ($0.fault_site, $0.fault, $0.fault_after) = (site, SIMULATOR_DEATH, after)
                    $0.power_cuts = powerCuts
                }
                #expect(outcome.failures.isEmpty, "\(String(cString: simulator_site_name(site)))")
            }
        }
    }

    @Test("poisons the log when a batch fails, refuses changes and goes on reading") func poison() {
        let outcome = simulate {
            ($0.fault_site, $0.fault, $0.fault_count) = (
                Int32(SC_SITE_BATCH.rawValue), SIMULATOR_EIO, 1
            )
            $0.fault_after = 10
        }
        #expect(outcome.failures.isEmpty)
        #expect(outcome.result.failures > 0 && outcome.result.refused > 0)
    }

    @Test("refuses on a full disk, without losing anything, and goes on when there is space")
    func fullDisk() {
        let outcome = simulate {
            ($0.fault_site, $0.fault) = (Int32(SC_SITE_SEGMENT_ALLOCATE.rawValue), SIMULATOR_ENOSPC)
            ($0.fault_after, $0.fault_count, $0.steps) = (2, 1, 400)
        }
        #expect(outcome.failures.isEmpty)
        #expect(outcome.result.refused > 0)
        #expect(simulate { $0.disk_size = 120_000 }.failures.isEmpty)
    }

    /// Batches of more than half a file ask for one of their own size. Neither that nor one as usual is to be had, which is
    /// tried once each before the batch is refused.
    @Test("gives up a batch for which the disk has no file, of its own size or as usual")
    func noFileForABatch() {
        let outcome = simulate(seeds: 12) {
            ($0.segment_size, $0.value_size_max, $0.steps) = (1 << 18, 60_000, 400)
            ($0.fault_site, $0.fault) = (Int32(SC_SITE_SEGMENT_ALLOCATE.rawValue), SIMULATOR_ENOSPC)
            ($0.fault_after, $0.fault_count) = (1, 0)
        }
        #expect(outcome.failures.isEmpty && outcome.result.refused > 0)
    }

    /// Processor time, not time: whoever else uses the machine does not count.
    @Test("compacts a bit in each turn, whatever the size of the values, and bounds the disk")
    func compaction() {
        var worst: UInt64 = 0
        var turns: UInt64 = 0
        var live: UInt64 = 0
        var disk: UInt64 = 0
        var message = [CChar](repeating: 0, count: 1024)
        let rc = simulator_measure_snapshot(
            20_000, 16 << 20, &worst, &turns, &live, &disk, &message, message.count)
        #expect(rc == 0)
        print(
            "worst turn \(worst / 1000) us of \(turns), \(live) bytes live, \(disk) on disk at most"
        )
        #expect(worst < (isInstrumented ? 20 : 2) * 1_000_000)
        #expect(disk < 5 * live)
    }

    /// `III_STORE_ITEMS` makes the group larger.
    @Test("writes one record for the change of one item, however large its group")
    func oneRecord() {
        let items = UInt32(ProcessInfo.processInfo.environment["III_STORE_ITEMS"] ?? "") ?? 100_000
        var records: UInt64 = 0
        var logged: UInt64 = 0
        var written: UInt64 = 0
        var message = [CChar](repeating: 0, count: 1024)
        let rc = simulator_measure_change(
            items, 100, &records, &logged, &written, &message, message.count)
        #expect(rc == 0)
        print("one of \(items) items: \(records) record, \(logged) bytes, \(written) written")
        #expect(records == 1)
        #expect(logged <= 48 + 40 + 2 + 2 + 8 + 100 + 7, "headers, names, value, padding")
        #expect(written <= logged + 4095, "up to the end of its page")
    }

    private func callers(
        _ count: UInt32, diskUs: UInt64, thinkUs: UInt64 = 0, stragglerUs: UInt64 = 0,
        periodUs: UInt64 = 0, runMs: UInt64 = 100
    ) -> simulator_calls {
        var config = simulator_callers(
            callers: count, disk_ns: diskUs * 1000, think_ns: thinkUs * 1000,
            straggler_ns: stragglerUs * 1000, period_ns: periodUs * 1000, run_ns: runMs * 1_000_000)
        var calls = simulator_calls()
        var message = [CChar](repeating: 0, count: 1024)
        #expect(simulator_measure_callers(&config, &calls, &message, message.count) == 0)
        print("\(config): \(calls)")
        return calls
    }

    @Test("a batch waits for callers who come back at once: one has the changes of all of them")
    func callersInAClosedLoop() {
        for (count, thinkUs): (UInt32, UInt64) in [(2, 50), (50, 150), (200, 150)] {
            let calls = callers(count, diskUs: 120, thinkUs: thinkUs, runMs: 300)
            #expect(calls.changes_a_batch > Double(count) * 0.98)
            #expect(
                calls.wait_us < Double(120 + thinkUs + 20),
                "two halves that wait for each other take 240")
            #expect(calls.held > 100)
        }
    }

    @Test("a batch does not wait for callers who come one by one for as long as two batches take")
    func callersWhoTakeTheirTime() {
        let calls = callers(50, diskUs: 200, thinkUs: 500, runMs: 300)
        #expect(calls.changes_a_batch < 30)
        #expect(calls.wait_us < 350, "a batch that waits takes 700")
        #expect(calls.held < 100, "in trials")
    }

    @Test("a batch does not wait for callers who stay away, nor for those in an open loop")
    func callersWhoStayAway() {
        for calls in [
            callers(50, diskUs: 120, thinkUs: 2_000), callers(50, diskUs: 120, periodUs: 2_500),
        ] {
            #expect(calls.wait_us < 200)
            #expect(calls.held == 0)
        }
        #expect(callers(1, diskUs: 120, periodUs: 200).wait_us < 140)
    }

    @Test("a batch does not wait for one that takes longer than the others")
    func straggler() {
        let calls = callers(50, diskUs: 700, thinkUs: 100, stragglerUs: 1_900)
        #expect(calls.changes_a_batch > 45)
        #expect(calls.wait_us < 900)
    }

    @Test("a batch of a slow disk waits two milliseconds at most")
    func callersOfASlowDisk() {
        #expect(callers(50, diskUs: 8_000, thinkUs: 1_900, runMs: 60).changes_a_batch > 49)
        // Behind a trial, which takes 160 batches.
        #expect(callers(50, diskUs: 8_000, thinkUs: 1_900, runMs: 2_000).changes_a_batch > 45)
        #expect(callers(50, diskUs: 8_000, thinkUs: 4_000).wait_us < 16_000)
    }

    @Test("a batch does not wait while so much is in it that nobody could come")
    func fullBatch() {
        var waits = false, waitsFull = true
        var message = [CChar](repeating: 0, count: 1024)
        #expect(simulator_fill_waiting_batch(&waits, &waitsFull, &message, message.count) == 0)
        #expect(waits && !waitsFull)
    }

    @Test(
        "moves items while changes and snapshots go on, and loses none",
        arguments: 0..<4 as Range<UInt64>)
    func compacting(number: UInt64) {
        let seed = firstSeed &+ number
        var used: UInt64 = 0, idle: UInt64 = 0, snapshots: UInt64 = 0
        var message = [CChar](repeating: 0, count: 1024)
        let rc = simulator_compact(20_000, seed, &used, &idle, &snapshots, &message, message.count)
        let text = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        #expect(rc == 0, "seed \(seed): \(String(decoding: text, as: UTF8.self))")
        #expect(snapshots > 0)
        // Without moving it is twice what is in use, and more.
        #expect(idle <= used / 2, "seed \(seed)")
    }

    @Test(
        "a file cut at any byte, or with any byte changed, gives a prefix or is refused",
        arguments: [SIMULATOR_CUT, SIMULATOR_FLIP], [false, true])
    func everyByte(harm: simulator_harm, withSnapshot: Bool) {
        everyByte(harm, changes: 24, withSnapshot, withUpdates: false)
    }

    @Test(
        "an update cut or changed at any byte gives a prefix or is refused",
        arguments: [SIMULATOR_CUT, SIMULATOR_FLIP])
    func everyByteOfUpdates(harm: simulator_harm) {
        everyByte(harm, changes: 20, false, withUpdates: true)
    }

    private func everyByte(
        _ harm: simulator_harm, changes: UInt32, _ withSnapshot: Bool, withUpdates: Bool
    ) {
        var refused: UInt64 = 0, prefixes: UInt64 = 0
        var message = [CChar](repeating: 0, count: 1024)
        let rc = simulator_harm_every_byte(
            harm, changes, withSnapshot, withUpdates, firstSeed, &refused, &prefixes, &message,
            message.count)
        let text = message.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        #expect(rc == 0, "\(String(decoding: text, as: UTF8.self))")
        #expect(refused > 0 && prefixes > 0)
    }
}

/// Whether a sanitizer slows everything down.
private let isInstrumented =
    dlsym(nil, "__tsan_init") != nil || dlsym(nil, "__asan_init") != nil
