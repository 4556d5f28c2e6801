import CStreamStore
import Testing

/// Callers of a log; `expected` says how many are likely to return.
private struct Callers {
    private let callers = UnsafeMutablePointer<sc_commit_callers>.allocate(capacity: 1)
    var now: UInt64 = 1_000_000
    let patience: UInt64 = 1_000

    init() {
        callers.initialize(to: sc_commit_callers())
    }
    func free() {
        callers.deallocate()
    }

    func batch() { sc_commit_callers_batch(callers) }
    func close() { sc_commit_callers_close(callers) }
    func ask(_ id: UInt64) { _ = sc_commit_callers_asked(callers, id, now, patience) }
    func answer(_ id: UInt64) { sc_commit_callers_answered(callers, id, now) }
    var expected: UInt32 { sc_commit_callers_expected(callers) }

    /// A batch answers all of them. The first `back` ask again at once, the others when it is too late.
    mutating func round(of ids: ClosedRange<UInt64>, back: Int) {
        batch()
        ids.forEach(answer)
        ids.prefix(back).forEach(ask)
        now += patience + 1
        ids.dropFirst(back).forEach(ask)
    }
}

@Suite("Callers of a group commit")
struct GroupCommitCallersTests {
    private let ids: ClosedRange<UInt64> = 1...20

    @Test("callers that always return are expected until they have")
    func closedLoop() {
        let callers = Callers()
        defer { callers.free() }
        ids.forEach(callers.ask)
        callers.batch()
        ids.forEach(callers.answer)
        #expect(callers.expected == 0, "nobody has returned yet")
        ids.forEach(callers.ask)
        callers.batch()
        ids.forEach(callers.answer)
        for (came, id) in ids.enumerated() {
            #expect(callers.expected == UInt32(20 - came))
            callers.ask(id)
        }
        #expect(callers.expected == 0)
    }

    @Test("three of four have to return, and only so many are expected", arguments: [15, 14])
    func share(back: Int) {
        var callers = Callers()
        defer { callers.free() }
        ids.forEach(callers.ask)
        for _ in 0..<100 { callers.round(of: ids, back: back) }
        callers.batch()
        ids.forEach(callers.answer)
        #expect(callers.expected == (back == 15 ? 15 : 0))
    }

    @Test("within the patience counts, a moment later does not", arguments: [0, 1] as [UInt64])
    func patience(late: UInt64) {
        var callers = Callers()
        defer { callers.free() }
        ids.forEach(callers.ask)
        for _ in 0..<10 {
            callers.batch()
            ids.forEach(callers.answer)
            callers.now += callers.patience + late
            ids.forEach(callers.ask)
        }
        callers.batch()
        ids.forEach(callers.answer)
        #expect(callers.expected == (late == 0 ? 20 : 0))
    }

    @Test("a caller that returns after the next batch has been answered has returned all the same")
    func twoHalves() {
        let callers = Callers()
        defer { callers.free() }
        let halves: [ClosedRange<UInt64>] = [1...10, 11...20]
        ids.forEach(callers.ask)
        for half in 0..<20 {
            callers.batch()
            halves[half % 2].forEach(callers.answer)
            halves[(half + 1) % 2].forEach(callers.ask)  // They wait since the batch before.
        }
        callers.batch()
        halves[0].forEach(callers.answer)
        #expect(callers.expected == 10)
    }

    @Test("a caller that returns after a batch has waited in vain is not expected again")
    func closed() {
        let callers = Callers()
        defer { callers.free() }
        ids.forEach(callers.ask)
        for _ in 0..<100 {
            callers.batch()
            ids.forEach(callers.answer)
            ids.prefix(19).forEach(callers.ask)
            callers.close()
            callers.ask(20)
        }
        callers.batch()
        ids.forEach(callers.answer)
        #expect(callers.expected == 19)
    }

    @Test("a caller that still waits for another answer has not returned")
    func pipelined() {
        let callers = Callers()
        defer { callers.free() }
        callers.ask(1)
        for _ in 0..<20 {
            callers.ask(1)
            callers.batch()
            callers.answer(1)
        }
        callers.batch()
        callers.answer(1)
        #expect(callers.expected == 0)
    }

    @Test("an answer that nobody was said to wait for changes nothing")
    func unknown() {
        let callers = Callers()
        defer { callers.free() }
        ids.forEach(callers.ask)
        for _ in 0..<20 {
            callers.batch()
            (1...40).forEach(callers.answer)
            ids.forEach(callers.ask)
        }
        callers.batch()
        (1...40).forEach(callers.answer)
        #expect(callers.expected == 20)
    }

    @Test("of two callers that share a slot the one that waits keeps it")
    func sharedSlot() {
        let callers = Callers()
        defer { callers.free() }
        let other = 1 + UInt64(SC_LOG_CALLERS_MAX)
        callers.ask(1)
        for _ in 0..<20 {
            callers.ask(other)
            callers.batch()
            callers.answer(1)
            callers.ask(1)
            callers.answer(other)
        }
        callers.batch()
        callers.answer(1)
        callers.answer(other)
        #expect(callers.expected == 1)
    }

    @Test("callers of several shards do not share slots while they are few")
    func shards() {
        let callers = Callers()
        defer { callers.free() }
        let ids = (0..<4).flatMap { shard in (0..<100).map { UInt64(shard) << 56 | 1 << 32 | $0 } }
        ids.forEach(callers.ask)
        for _ in 0..<20 {
            callers.batch()
            ids.forEach(callers.answer)
            ids.forEach(callers.ask)
        }
        callers.batch()
        ids.forEach(callers.answer)
        #expect(callers.expected == 400)
    }
}
