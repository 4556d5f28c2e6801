import CStreamStore
import Testing

/// A log whose callers are answered at one rate when batches wait for them, and at another when they do not.
private struct Log {
    private let pace = UnsafeMutablePointer<sc_pace>.allocate(capacity: 1)
    var waiting = 100.0, hurrying = 100.0  // Changes a millisecond.
    var waited = 0, hurried = 0  // Batches.

    init() {
        pace.initialize(to: sc_pace())
    }
    func free() {
        pace.deallocate()
    }

    var waits: Bool { sc_pace_waits(pace) }
    var switches: UInt64 { pace.pointee.switches }
    /// Where the present round has got to: the trial, or the rest.
    var epoch: UInt32 { pace.pointee.epoch }

    mutating func batch(stall: UInt64 = 0, comeBack: Bool = true, records: UInt32? = nil) {
        let count = records ?? (waits ? 50 : 20)
        waited += waits ? 1 : 0
        hurried += waits ? 0 : 1
        let took = Double(count) / (waits ? waiting : hurrying) * 1e6
        sc_pace_batch(pace, UInt64(took) + stall, count, comeBack)
    }
    /// As long as it takes to begin another round.
    mutating func round() {
        while epoch == 0 { batch() }
        while epoch != 0 { batch() }
    }
}

private let trial = UInt32(2 * SC_LOG_PACE_TRIAL_EPOCHS)

@Suite("Pace of a log")
struct PaceTests {
    @Test("batches wait until a trial says that not to answers more")
    func hurries() {
        var log = Log()
        defer { log.free() }
        log.hurrying = 110
        #expect(log.waits)
        var ways: [Bool] = []
        for epoch in 0..<trial {
            ways.append(log.waits)
            while log.epoch == epoch { log.batch() }
        }
        #expect(ways == (0..<trial).map { $0 % 2 == 0 })
        #expect(!log.waits)
        #expect(log.switches == 1)
    }

    @Test("a gain within the noise changes nothing, in either direction", arguments: [105.0, 95.0])
    func gain(rate: Double) {
        var log = Log()
        defer { log.free() }
        log.hurrying = rate
        for _ in 0..<3 { log.round() }
        #expect(log.switches == 0)
        (log.hurrying, log.waiting) = (120, 100)
        log.round()
        #expect(log.switches == 1)
        log.waiting = 120 * rate / 100
        for _ in 0..<3 { log.round() }
        #expect(log.switches == 1)
    }

    @Test("what has changed is found out in the next round")
    func again() {
        var log = Log()
        defer { log.free() }
        log.hurrying = 120
        log.round()
        log.waiting = 150
        log.round()
        #expect(log.switches == 2)
        #expect(log.waits)
    }

    @Test("trials are a small part of the time")
    func share() {
        var log = Log()
        defer { log.free() }
        log.round()
        (log.waited, log.hurried) = (0, 0)
        for _ in 0..<3 { log.round() }
        // Of one epoch in 40, in which they are smaller.
        #expect(log.hurried > 0)
        #expect(log.hurried * 10 < log.waited)
    }

    @Test(
        "epochs in which the disk stands still decide nothing, while they are the fewer",
        arguments: [2, 3])
    func stalls(count: Int) {
        var log = Log()
        defer { log.free() }
        for epoch in 0..<trial {
            // Those that waited, the first ones.
            let stalls = epoch % 2 == 0 && epoch / 2 < UInt32(count)
            while log.epoch == epoch { log.batch(stall: stalls ? 5_000_000 : 0) }
        }
        #expect(log.switches == (count * 2 > Int(SC_LOG_PACE_TRIAL_EPOCHS) ? 1 : 0))
    }

    @Test("without callers who come back, or with one alone, no trial begins")
    func others() {
        var log = Log()
        defer { log.free() }
        log.hurrying = 150
        for _ in 0..<1000 { log.batch(comeBack: false) }
        for _ in 0..<1000 { log.batch(records: 1) }
        #expect(log.epoch == 0)
        #expect(log.hurried == 0)
        log.round()
        #expect(!log.waits)
        for _ in 0..<1000 { log.batch(comeBack: false) }
        #expect(log.epoch == 0)
        #expect(!log.waits, "the next ones begin with what was better last")
    }

    @Test("a trial goes on, though in one of its ways callers do not seem to come back")
    func goesOn() {
        var log = Log()
        defer { log.free() }
        log.hurrying = 150
        while log.epoch < trial { log.batch(comeBack: log.waits) }
        #expect(log.switches == 1)
        #expect(!log.waits)
    }
}
