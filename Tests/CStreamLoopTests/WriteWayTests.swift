import CStreamLoop
import Testing

private let us: UInt64 = 1_000
private let tick = 4_000 * us
private let quick = 100 * us
private let first = SC_LOOP_LINKED_WRITES_MIN
private let most = SC_LOOP_LINKED_WRITES_MAX

/// Writes of one page, one after the other.
private final class Writes {
    private(set) var way = sc_write_way()
    var synced = quick
    var linked = 2 * quick

    func begin() -> Bool { sc_write_way_next(&way) }
    func end(linked: Bool, size: UInt32 = 4_096, _ took: UInt64) {
        sc_write_way_took(&way, linked, size, took)
    }
    /// Whether it was linked.
    func write(size: UInt32 = 4_096) -> Bool {
        let isLinked = begin()
        end(linked: isLinked, size: size, isLinked ? linked : synced)
        return isLinked
    }
    func write(_ count: UInt32) -> [Bool] { (0..<count).map { _ in write() } }
    /// How many of them are linked until one is not, and that one.
    func run() -> UInt32 {
        var count: UInt32 = 0
        while write() { count += 1 }
        return count
    }
}

@Suite("The way pages are written")
struct WriteWayTests {
    @Test("is the synced one, as long as it is in time")
    func inTime() {
        let writes = Writes()
        writes.synced = UInt64(SC_LOOP_FLUSH_LATE_US + 16) * us
        #expect(!writes.write(10_000).contains(true) && writes.way.switches == 0)
        writes.synced += 1
        #expect(!writes.write() && writes.write(), "a nanosecond more is late")
    }

    @Test("gives large writes more time")
    func large() {
        let writes = Writes()
        writes.synced = UInt64(SC_LOOP_FLUSH_LATE_US) * us + 1_024 * us
        #expect(!writes.write(size: 256 << 10) && !writes.write(size: 256 << 10))
        writes.synced += 1
        #expect(!writes.write(size: 256 << 10) && writes.write())
    }

    @Test(
        "is the linked one while a processor is busy, for longer and longer, and back when it is not"
    )
    func busy() {
        let writes = Writes()
        writes.synced = tick
        #expect(!writes.write())
        var expected = first
        for _ in 0..<12 {
            // The trial, and those it is kept for. Then the synced way is late again.
            #expect(writes.run() == 1 + expected)
            expected = min(2 * expected, most)
        }
        #expect(expected == most && writes.way.switches == 24)
        writes.synced = quick
        #expect(writes.run() == 1 + most)
        #expect(!writes.write(most - 2).contains(true))
        // One less in time than the other way was kept for: as long as before.
        writes.synced = tick
        #expect(!writes.write())
        writes.synced = quick
        #expect(writes.run() == 1 + most)
        #expect(!writes.write(most - 1).contains(true) && writes.way.kept == 0)
        writes.synced = tick
        #expect(!writes.write() && writes.run() == 1 + first, "from the beginning")
    }

    /// One in five is late, wherever it comes.
    @Test(
        "is the linked one nearly always where the synced one is in time by luck", arguments: 0..<5)
    func luck(phase: Int) {
        let writes = Writes()
        var late = 0
        for i in 0..<100_000 {
            writes.synced = i % 5 == phase ? tick : quick
            if !writes.write() && i % 5 == phase { late += 1 }
        }
        #expect(late < 40, "\(late) of 20,000")
    }

    @Test("stays the synced one on a slow disk, where a trial is made now and then")
    func slowDisk() {
        let writes = Writes()
        (writes.synced, writes.linked) = (tick, tick / 2)
        #expect(!writes.write())
        for _ in 0..<5 {
            #expect(writes.write(), "a trial")
            #expect(!writes.write(SC_LOOP_TRIAL_PAUSE_WRITES).contains(true))
        }
        #expect(writes.way.switches == 0)
        writes.linked -= 1
        #expect(writes.write(), "a trial that takes less than half")
        #expect(writes.run() == first && writes.way.switches == 2)
    }

    @Test("is not changed by what was begun another way")
    func overlapping() {
        let writes = Writes()
        let begun = (0..<3).map { _ in writes.begin() }
        #expect(begun == [false, false, false])
        writes.end(linked: false, tick)
        #expect(writes.begin())
        // Others of before come in the time of the trial, and after it.
        writes.end(linked: false, 2 * tick)
        writes.end(linked: true, tick / 4)
        writes.end(linked: false, quick)
        #expect(writes.way.state == SC_WAY_LINKED && writes.way.kept == first)
        for _ in 0..<first { #expect(writes.begin()) }
        #expect(!writes.begin())
        // A linked one of before says nothing of the synced way.
        writes.end(linked: true, tick)
        #expect(writes.way.state == SC_WAY_FLUSHED && writes.way.kept == first)
    }

    @Test("waits for a trial that fails") func failedTrial() {
        let writes = Writes()
        #expect(!writes.begin())
        writes.end(linked: false, tick)
        #expect(writes.begin() && writes.begin(), "still to be made")
    }
}
