import CStreamLoop
import Glibc
import Testing

/// Messages that are counted, and in whose order of one sender must not change.
///
/// Sendable: each message has one owner at a time, its sender until it is posted and then the loop.
private final class Messages: @unchecked Sendable {
    struct Message {
        var message: sc_loop_message
        var owner: Unmanaged<Messages>
        var sender: Int
        var number: Int
    }

    private var storage: [UnsafeMutableBufferPointer<Message>] = []
    /// The loop's thread only.
    private(set) var next: [Int]
    private(set) var count = 0
    var onRun: ((Messages) -> Void)?

    init(senders: Int, each: Int) {
        next = Array(repeating: 0, count: senders)
        for sender in 0..<senders {
            let messages = UnsafeMutableBufferPointer<Message>.allocate(capacity: each)
            for number in 0..<each {
                messages.initializeElement(
                    at: number,
                    to: Message(
                        message: sc_loop_message(next: nil, run: Self.run),
                        owner: .passUnretained(self),
                        sender: sender, number: number))
            }
            storage.append(messages)
        }
    }

    deinit { storage.forEach { $0.deallocate() } }

    private static let run: @convention(c) (UnsafeMutablePointer<sc_loop_message>) -> Void = {
        message in
        let own = UnsafeMutableRawPointer(message).assumingMemoryBound(to: Message.self)
        own.pointee.owner.takeUnretainedValue().didRun(own.pointee)
    }

    private func didRun(_ message: Message) {
        #expect(next[message.sender] == message.number)
        next[message.sender] += 1
        count += 1
        onRun?(self)
    }

    func post(_ number: Int, of sender: Int, to loop: OpaquePointer) {
        guard let base = storage[sender].baseAddress else { return }
        (base + number).withMemoryRebound(to: sc_loop_message.self, capacity: 1) {
            sc_loop_post(loop, $0)
        }
    }

    func postAll(of sender: Int, to loop: OpaquePointer, pause: Int = 0) {
        for number in storage[sender].indices {
            post(number, of: sender, to: loop)
            if pause > 0, number % pause == 0 { sched_yield() }
        }
    }
}

/// A loop on a thread of its own, that runs until it is told to end.
///
/// Sendable: `created` is set before `init` returns, and only posted to by others.
private final class LoopThread: @unchecked Sendable {
    private var created: OpaquePointer?
    var loop: OpaquePointer {
        guard let created else { preconditionFailure("not ready") }
        return created
    }
    private var thread: TestThread?
    private let ready = Semaphore()
    private let ending = Messages(senders: 1, each: 1)
    private var isEnding = false
    private(set) var counters = sc_loop_counters()

    init(_ variant: Variant, posting: @escaping @Sendable (LoopThread) -> Void) {
        ending.onRun = { [unowned self] _ in isEnding = true }
        thread = TestThread { [unowned self] in
            var config = sc_loop_config()
            config.without = variant.without
            config.io = variant.io
            var created: OpaquePointer?
            let rc = sc_loop_create(&config, &created)
            guard rc == 0, let created else { preconditionFailure("sc_loop_create: \(rc)") }
            self.created = created
            posting(self)
            ready.post()
            while !isEnding {
                let rc = sc_loop_run_once(created)
                precondition(rc == 0)
            }
            counters = sc_loop_counters(created).pointee
            sc_loop_destroy(created)
        }
        ready.wait()
    }

    /// Tells it to end. From the thread of a loop that leaves with its next submit.
    func end() { ending.post(0, of: 0, to: loop) }

    func join() { thread?.join() }
}

@Suite("Messages between threads")
struct MailboxTests {
    @Test(
        "of many threads all run, each thread's in its order, while the loop sleeps again and again",
        arguments: Variant.allCases, [0, 20] as [UInt32])
    func manyThreads(variant: Variant, poll: UInt32) throws {
        try withLoop(variant, { $0.poll_us = poll }) { loop in
            let senders = 8
            let each = 5_000
            let messages = Messages(senders: senders, each: each)
            let handle = SendableLoop(loop.loop)
            let threads = (0..<senders).map { sender in
                TestThread { messages.postAll(of: sender, to: handle.loop, pause: 1 + sender * 7) }
            }
            defer { threads.forEach { $0.join() } }
            try loop.run(
                until: { messages.count == senders * each }, "a message was lost, or a wake-up")
            #expect(messages.next.allSatisfy { $0 == each })
            #expect(loop.counters.messages == UInt64(senders * each))
        }
    }

    /// One message at a time, so that nearly each finds the loop asleep: a wake-up that is lost would hang.
    @Test("wake the loop of another thread each time, to and fro", arguments: Variant.allCases)
    func pingPong(variant: Variant) throws {
        let rounds = 2_000
        let there = Messages(senders: 1, each: rounds)
        let back = Messages(senders: 1, each: rounds)
        try withLoop(variant) { loop in
            let handle = SendableLoop(loop.loop)
            let other = LoopThread(variant) { other in
                there.onRun = { back.post($0.count - 1, of: 0, to: handle.loop) }
            }
            back.onRun = {
                if $0.count < rounds { there.post($0.count, of: 0, to: other.loop) }
            }
            there.post(0, of: 0, to: other.loop)
            try loop.run(until: { back.count == rounds }, "a wake-up was lost")
            other.end()
            #expect(sc_loop_flush(loop.loop) == 0)
            other.join()
            back.onRun = nil  // The two hold each other.
            #expect(there.count == rounds)
            let sent = loop.counters.wakeups_sent
            if variant.hasRingMessages {
                #expect(sent > 0 && other.counters.wakeups_sent > 0)
            } else {
                #expect(
                    sent == 0 && other.counters.wakeups_sent == 0,
                    "without ring messages an eventfd wakes")
            }
            #expect(sent <= UInt64(rounds) + 1)
        }
    }

    @Test("need no wake-up while the loop looks for work", arguments: Variant.allCases)
    func polled(variant: Variant) throws {
        try withLoop(variant, { $0.poll_us = 5_000_000 }) { loop in
            try loop.turns(1)
            let messages = Messages(senders: 1, each: 1)
            let handle = SendableLoop(loop.loop)
            let sender = TestThread {
                usleep(5_000)
                messages.post(0, of: 0, to: handle.loop)
            }
            defer { sender.join() }
            try loop.run(until: { messages.count == 1 })
            #expect(loop.counters.polls_in_vain == 0)
        }
    }

    @Test("wake a loop that sleeps without a timer", arguments: Variant.allCases) func eventWakes(
        variant: Variant
    ) throws {
        let messages = Messages(senders: 1, each: 100)
        let other = LoopThread(variant) { _ in }
        // From a thread that has no loop.
        for number in 0..<100 {
            messages.post(number, of: 0, to: other.loop)
            sched_yield()
        }
        other.end()
        other.join()
        #expect(messages.count == 100)
        #expect(other.counters.messages == 101)
    }

    @Test("to the own loop run in a later turn, in order, with no more than their share in one")
    func toSelf() throws {
        try withLoop { loop in
            let perTurn = Int(SC_LOOP_MESSAGES_PER_TURN)
            let messages = Messages(senders: 1, each: 2 * perTurn + 10)
            messages.postAll(of: 0, to: loop.loop)
            #expect(messages.count == 0, "never in the call")
            try loop.turns(1)
            #expect(messages.count == perTurn)
            try loop.turns(1)
            #expect(messages.count == 2 * perTurn)
            try loop.turns(1)
            #expect(messages.count == 2 * perTurn + 10)
            #expect(loop.counters.wakeups_sent == 0)
        }
    }

    @Test("that a message posts run too") func chained() throws {
        try withLoop { loop in
            let messages = Messages(senders: 1, each: 1_000)
            messages.onRun = {
                if $0.count < 1_000 { $0.post($0.count, of: 0, to: loop.loop) }
            }
            messages.post(0, of: 0, to: loop.loop)
            try loop.run(until: { messages.count == 1_000 })
        }
    }

    @Test(
        "that are left run when their loop ends, also those that they post",
        arguments: Variant.backends)
    func leftOvers(variant: Variant) throws {
        let messages = Messages(senders: 2, each: 100)
        try withLoop(variant) { loop in
            let handle = SendableLoop(loop.loop)
            messages.onRun = {
                if $0.count == 100 { $0.postAll(of: 1, to: handle.loop) }
            }
            messages.postAll(of: 0, to: loop.loop)
        }
        #expect(messages.count == 200)
    }

    /// The last message of each thread tells that it will post no more; the loop ends at once, perhaps while
    /// a thread is still in sc_loop_post. A sanitizer sees what would touch the loop after that.
    @Test(
        "may still be returning from their posting when their loop ends",
        arguments: Variant.allCases)
    func endWhilePosting(variant: Variant) throws {
        for round in 0..<150 {
            let senders = 3
            let messages = Messages(senders: senders, each: 1 + round % 3)
            var threads: [TestThread] = []
            var config = sc_loop_config()
            config.without = variant.without
            config.io = variant.io
            config.receive_buffer_count = 16
            var created: OpaquePointer?
            try #require(sc_loop_create(&config, &created) == 0)
            let loop = try #require(created)
            let handle = SendableLoop(loop)
            threads = (0..<senders).map { sender in
                TestThread { messages.postAll(of: sender, to: handle.loop) }
            }
            let all = senders * (1 + round % 3)
            if round % 2 == 0 {
                while messages.count < all { #expect(sc_loop_run_once(loop) == 0) }
            } else {
                // All are posted, none may have run.
                threads.forEach { $0.join() }
            }
            sc_loop_destroy(loop)
            #expect(messages.count == all)
            if round % 2 == 0 { threads.forEach { $0.join() } }
        }
    }

    @Test(
        "to a loop that has ended meanwhile wake nobody, and harm nobody",
        arguments: Variant.allCases)
    func wakeAfterEnd(variant: Variant) throws {
        try withLoop(variant) { loop in
            for _ in 0..<30 {
                let messages = Messages(senders: 1, each: 1)
                let other = try loopThatBeats(variant) { messages.count == 1 }
                // The wake-up leaves with this loop's next turn, when the other has gone.
                messages.post(0, of: 0, to: other.loop.loop)
                other.thread.join()
                #expect(messages.count == 1)
                try loop.turns(2)
            }
        }
    }

    /// The descriptor of a ring that has gone is soon another ring's, perhaps one that is being set up.
    @Test("to a loop that has ended do not disturb one that begins", arguments: Variant.allCases)
    func wakeMeetsBeginning(variant: Variant) throws {
        try withLoop { loop in
            for round in 0..<300 {
                let messages = Messages(senders: 1, each: 1)
                let other = try loopThatBeats(.full) { messages.count == 1 }
                messages.post(0, of: 0, to: other.loop.loop)
                other.thread.join()
                let beginnings = (0..<2).map { _ in
                    TestThread {
                        do {
                            try withLoop(variant, { $0.receive_buffer_count = 16 }) { _ in }
                        } catch {
                            Issue.record(error)
                        }
                    }
                }
                // At another moment of its beginning each time.
                for _ in 0..<round { sched_yield() }
                #expect(sc_loop_flush(loop.loop) == 0)
                beginnings.forEach { $0.join() }
            }
        }
    }

    /// A loop on a thread of its own that needs no wake-ups, and ends when `isOver` says so.
    private func loopThatBeats(
        _ variant: Variant, isOver: @escaping () -> Bool
    ) throws -> (loop: SendableLoop, thread: TestThread) {
        nonisolated(unsafe) let isOver = isOver
        let ready = Semaphore()
        nonisolated(unsafe) var created: SendableLoop?
        let thread = TestThread {
            do {
                try withLoop(variant) { loop in
                    created = SendableLoop(loop.loop)
                    ready.post()
                    var beat: TimerBox?
                    let timer = TimerBox { if let beat { beat.start(loop, 1) } }
                    beat = timer
                    timer.start(loop, 1)
                    try loop.run(until: isOver)
                    timer.stop(loop)
                    beat = nil
                }
            } catch {
                Issue.record(error)
                ready.post()
            }
        }
        ready.wait()
        return (try #require(created), thread)
    }
}

/// A loop that other threads post to.
struct SendableLoop: @unchecked Sendable {
    let loop: OpaquePointer
    init(_ loop: OpaquePointer) { self.loop = loop }
}
