import CStreamLoop
import Glibc
import Testing

@Suite("Loop")
struct LoopTests {
    @Test(
        "belongs to its thread, and a thread may have one after another",
        arguments: Variant.allCases)
    func ownership(variant: Variant) throws {
        for _ in 0..<3 {
            try withLoop(variant) { loop in
                let handle = SendableLoop(loop.loop)
                #expect(sc_loop_is_current(loop.loop))
                let other = TestThread { #expect(!sc_loop_is_current(handle.loop)) }
                other.join()
            }
        }
        sc_loop_destroy(nil)
    }

    @Test("says what it uses of the kernel", arguments: Variant.allCases) func description(
        variant: Variant
    ) throws {
        try withLoop(
            variant,
            {
                $0.receive_buffer_count = 64
                $0.receive_buffer_size = 512
            }
        ) { loop in
            let text = String(cString: sc_loop_describe(loop.loop))
            #expect(text.hasPrefix(variant == .epoll ? "epoll (" : "io_uring ("))
            #expect(String(cString: sc_loop_reason(loop.loop)) == "it was asked for")
            if variant != .epoll {
                #expect(text.contains("no ring messages") == !variant.hasRingMessages)
            }
            if variant.without & SC_LOOP_DEFER_TASKRUN.rawValue != 0 {
                #expect(text.contains("coop_taskrun"))
            }
            #expect(text.contains("64 x 512 bytes"))
        }
    }

    @Test("reads its clocks once a turn") func clocks() throws {
        try withLoop { loop in
            let before = sc_loop_monotonic_ns(loop.loop)
            #expect(sc_loop_monotonic_ns(loop.loop) == before)
            let unix = sc_loop_unix_ms(loop.loop)
            var isDue = false
            let timer = TimerBox { isDue = true }
            timer.start(loop, 3)
            try loop.run(until: { isDue })
            #expect(sc_loop_monotonic_ns(loop.loop) >= before + 3_000_000)
            #expect(sc_loop_unix_ms(loop.loop) >= unix)
            #expect(abs(Int(sc_loop_unix_ms(loop.loop)) - time(nil) * 1_000) < 60_000)
        }
    }

    @Test("calls at the end of every turn") func onTurn() throws {
        try withLoop { loop in
            var count = 0
            loop.onTurn = { count += 1 }
            let turns = loop.counters.turns
            try loop.turns(5)
            #expect(count == 5 && loop.counters.turns == turns + 5)
            loop.onTurn = nil
        }
    }

    @Test(
        "submits so many entries with one system call", arguments: [0, 3, 7, 100] as [UInt32],
        Variant.allCases)
    func submitMax(most: UInt32, variant: Variant) throws {
        try withLoop(variant, { $0.submit_max = most }) { loop in
            let pairs = try (0..<7).map { _ in try localPair(loop) }
            try loop.turns(1)  // What opening them has left.
            let before = loop.counters
            for (connection, _) in pairs { connection.send("x") }
            #expect(sc_loop_flush(loop.loop) == 0)
            #expect(loop.counters.submissions - before.submissions == 7)
            // Without a ring each send is a call.
            let calls: UInt64 = variant == .epoll ? 7 : most == 3 ? 3 : 1
            #expect(loop.counters.enters - before.enters == calls)
            for (_, peer) in pairs { #expect(try peer.read(1) == [UInt8(ascii: "x")]) }
        }
    }

    // MARK: Explaining

    private func explanation(_ rc: CInt, size: Int = 1_024) -> String {
        var out = [CChar](repeating: 0x7E, count: size + 1)
        let returned = sc_loop_explain(rc, &out, size)
        #expect(out[size] == 0x7E, "wrote beyond its room")
        return String(cString: returned)
    }

    @Test(
        "explains in one sentence why there is no ring, and what to do",
        arguments: [
            (EPERM, ["io_uring", "seccomp"]), (EACCES, ["io_uring"]),
            (ENOSYS, ["io_uring", "6.1"]),
            (ENOMEM, ["memory", "ulimit -l"]), (EINVAL, ["too old", "6.1"]),
            (EOPNOTSUPP, ["too old"]),
            (EMFILE, ["ulimit -n"]), (ENFILE, ["descriptor"]), (EIO, ["io_uring", "failed"]),
        ])
    func explains(code: CInt, words: [String]) {
        let text = explanation(-code)
        for word in words { #expect(text.contains(word), "\(text)") }
        #expect(!text.contains("\n"))
    }

    @Test("cuts its explanation where there is no room", arguments: [1, 2, 10, 60]) func cut(
        size: Int
    ) {
        #expect(explanation(-EPERM).hasPrefix(explanation(-EPERM, size: size)))
        #expect(explanation(-EPERM, size: size).utf8.count == size - 1)
    }

    @Test("explains a start without descriptors") func withoutDescriptors() async {
        await #expect(processExitsWith: .success) {
            let descriptors = __rlimit_resource_t(7)  // RLIMIT_NOFILE
            var limit = rlimit()
            try #require(getrlimit(descriptors, &limit) == 0)
            let before = limit.rlim_cur
            let next = dup(0)
            limit.rlim_cur = rlim_t(next)
            close(next)
            try #require(setrlimit(descriptors, &limit) == 0)
            for io in [SC_LOOP_IO_AUTO, SC_LOOP_IO_URING, SC_LOOP_IO_EPOLL] {
                var config = sc_loop_config()
                config.io = io
                var created: OpaquePointer?
                let rc = sc_loop_create(&config, &created)
                #expect(rc == -EMFILE && created == nil)
                var out = [CChar](repeating: 0, count: 512)
                #expect(String(cString: sc_loop_explain(rc, &out, out.count)).contains("ulimit -n"))
            }
            // A sanitizer wants some at the end.
            limit.rlim_cur = before
            try #require(setrlimit(descriptors, &limit) == 0)
        }
    }

    /// As the default profiles of container engines do.
    @Test(
        "explains a start under a seccomp filter, leaves nothing behind, and takes epoll unless told not to",
        arguments: [EPERM, ENOSYS])
    func seccomp(code: CInt) async {
        // An exit test takes no values from around it.
        if code == EPERM {
            await #expect(processExitsWith: .success) {
                try startUnderFilter(EPERM, "refused by a seccomp filter")
            }
        } else {
            await #expect(processExitsWith: .success) {
                try startUnderFilter(ENOSYS, "a seccomp filter hides it")
            }
        }
    }
}

/// Forbids io_uring_setup to this process with `code`, and checks what a start says then.
private func startUnderFilter(_ code: CInt, _ words: String) throws {
    struct Instruction {
        var code: UInt16
        var jumpTrue: UInt8
        var jumpFalse: UInt8
        var k: UInt32
    }
    struct Program {
        var count: UInt16
        var filter: UnsafeMutablePointer<Instruction>
    }
    let ioUringSetup: UInt32 = 425  // On every architecture.
    let instructions: [Instruction] = [
        .init(code: 0x20, jumpTrue: 0, jumpFalse: 0, k: 0),  // Load the number of the system call.
        .init(code: 0x15, jumpTrue: 0, jumpFalse: 1, k: ioUringSetup),
        // Fails with `code`.
        .init(code: 0x06, jumpTrue: 0, jumpFalse: 0, k: 0x0005_0000 | UInt32(code)),
        .init(code: 0x06, jumpTrue: 0, jumpFalse: 0, k: 0x7FFF_0000),  // Allow.
    ]
    let memory = UnsafeMutablePointer<Instruction>.allocate(capacity: instructions.count)
    memory.initialize(from: instructions, count: instructions.count)
    defer { memory.deallocate() }
    var program = Program(count: UInt16(instructions.count), filter: memory)

    // Variadic in C, which Swift does not call by its name.
    typealias Prctl = @convention(c) (CInt, UInt, UInt, UInt, UInt) -> CInt
    let prctl = unsafeBitCast(try #require(dlsym(nil, "prctl")), to: Prctl.self)
    try #require(prctl(38, 1, 0, 0, 0) == 0)  // PR_SET_NO_NEW_PRIVS
    try withUnsafeMutablePointer(to: &program) {
        try #require(prctl(22, 2, UInt(bitPattern: $0), 0, 0) == 0)  // PR_SET_SECCOMP, a filter.
    }
    var config = sc_loop_config()
    var created: OpaquePointer?
    config.io = SC_LOOP_IO_URING
    for _ in 0..<3 {
        let rc = sc_loop_create(&config, &created)
        try #require(rc == -code && created == nil)
        var out = [CChar](repeating: 0, count: 1_024)
        let text = String(cString: sc_loop_explain(rc, &out, out.count))
        try #require(text.contains(words), "\(text)")
    }
    config.io = SC_LOOP_IO_AUTO
    try #require(sc_loop_create(&config, &created) == 0)
    let loop = try #require(created)
    try #require(String(cString: sc_loop_describe(loop)).hasPrefix("epoll ("))
    let reason = String(cString: sc_loop_reason(loop))
    try #require(reason.contains(words), "\(reason)")
    sc_loop_destroy(loop)
}
