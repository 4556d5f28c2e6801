import CStreamStore
import Testing

/// A log whose callers are answered at one rate when batches wait for them, and at another when they do not.
private struct Log {
    private let trial = UnsafeMutablePointer<sc_commit_trial>.allocate(capacity: 1)
    var waiting = 100.0, atOnce = 100.0  // Changes a millisecond.
    var waited = 0, submittedAtOnce = 0  // Batches.

    init() {
        trial.initialize(to: sc_commit_trial())
    }
    func free() {
        trial.deallocate()
    }

    var delays: Bool { sc_commit_trial_delays(trial) }
    var switches: UInt64 { trial.pointee.switches }
    /// Where the present round has got to: the trial, or the rest.
    var epoch: UInt32 { trial.pointee.epoch }

    mutating func batch(stall: UInt64 = 0, callersReturn: Bool = true, records: UInt32? = nil) {
        let count = records ?? (delays ? 50 : 20)
        waited += delays ? 1 : 0
        submittedAtOnce += delays ? 0 : 1
        let took = Double(count) / (delays ? waiting : atOnce) * 1e6
        sc_commit_trial_batch(trial, UInt64(took) + stall, count, callersReturn)
    }
    /// As long as it takes to begin another round.
    mutating func round() {
        while epoch == 0 { batch() }
        while epoch != 0 { batch() }
    }
}

private let trialEpochs = UInt32(2 * SC_LOG_TRIAL_EPOCHS)

@Suite("Trial of a group commit")
struct GroupCommitTrialTests {
    @Test("batches are delayed until a trial says that to delay none answers more")
    func delays() {
        var log = Log()
        defer { log.free() }
        log.atOnce = 110
        #expect(log.delays)
        var ways: [Bool] = []
        for epoch in 0..<trialEpochs {
            ways.append(log.delays)
            while log.epoch == epoch { log.batch() }
        }
        #expect(ways == (0..<trialEpochs).map { $0 % 2 == 0 })
        #expect(!log.delays)
        #expect(log.switches == 1)
    }

    @Test("a gain within the noise changes nothing, in either direction", arguments: [105.0, 95.0])
    func gain(rate: Double) {
        var log = Log()
        defer { log.free() }
        log.atOnce = rate
        for _ in 0..<3 { log.round() }
        #expect(log.switches == 0)
        (log.atOnce, log.waiting) = (120, 100)
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
        log.atOnce = 120
        log.round()
        log.waiting = 150
        log.round()
        #expect(log.switches == 2)
        #expect(log.delays)
    }

    @Test("trials are a small part of the time")
    func share() {
        var log = Log()
        defer { log.free() }
        log.round()
        (log.waited, log.submittedAtOnce) = (0, 0)
        for _ in 0..<3 { log.round() }
        // Of one epoch in 40, in which they are smaller.
        #expect(log.submittedAtOnce > 0)
        #expect(log.submittedAtOnce * 10 < log.waited)
    }

    @Test(
        "epochs in which the disk stands still decide nothing, while they are the fewer",
        arguments: [2, 3])
    func stalls(count: Int) {
        var log = Log()
        defer { log.free() }
        for epoch in 0..<trialEpochs {
            // Those that waited, the first ones.
            let stalls = epoch % 2 == 0 && epoch / 2 < UInt32(count)
            while log.epoch == epoch { log.batch(stall: stalls ? 5_000_000 : 0) }
        }
        #expect(log.switches == (count * 2 > Int(SC_LOG_TRIAL_EPOCHS) ? 1 : 0))
    }

    @Test("without callers that return, or with one alone, no trial begins")
    func others() {
        var log = Log()
        defer { log.free() }
        log.atOnce = 150
        for _ in 0..<1000 { log.batch(callersReturn: false) }
        for _ in 0..<1000 { log.batch(records: 1) }
        #expect(log.epoch == 0)
        #expect(log.submittedAtOnce == 0)
        log.round()
        #expect(!log.delays)
        for _ in 0..<1000 { log.batch(callersReturn: false) }
        #expect(log.epoch == 0)
        #expect(!log.delays, "the next ones begin with what was better last")
    }

    @Test("a trial goes on, though in one of its ways callers do not seem to return")
    func goesOn() {
        var log = Log()
        defer { log.free() }
        log.atOnce = 150
        while log.epoch < trialEpochs { log.batch(callersReturn: log.delays) }
        #expect(log.switches == 1)
        #expect(!log.delays)
    }
}
