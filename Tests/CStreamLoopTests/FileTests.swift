import CStreamLoop
import Glibc
import Testing

/// One operation on a file and what it came to.
private final class FileOperation {
    private let storage = Embedded<sc_file_op>()
    private(set) var result: Int?

    init() {
        storage.setOwner(self)
        storage.pointer.pointee.on_complete = { operation, result in
            let owner: FileOperation = Embedded.owner(of: operation)
            #expect(owner.result == nil)
            owner.result = result
        }
    }

    deinit { storage.raw.deallocate() }

    var pointer: UnsafeMutablePointer<sc_file_op> { storage.pointer }
    var kind: sc_file_kind { sc_file_kind(UInt32(pointer.pointee.kind)) }
}

@Suite("Files")
struct FileTests {
    private func run(
        _ loop: TestLoop, _ start: (UnsafeMutablePointer<sc_file_op>) -> Void
    ) throws -> Int {
        let operation = FileOperation()
        start(operation.pointer)
        #expect(operation.result == nil, "never in the call")
        try loop.run(until: { operation.result != nil })
        return try #require(operation.result)
    }

    private func withFolder(_ body: (String) throws -> Void) throws {
        var template = Array("/tmp/loop-files-XXXXXX".utf8CString)
        let folder = try #require(mkdtemp(&template).map { String(cString: $0) })
        defer {
            unlink(folder + "/file")
            rmdir(folder)
        }
        try body(folder)
    }

    private func open(_ loop: TestLoop, _ path: String, _ flags: CInt) throws -> Int {
        try path.withCString { path in
            try run(loop) {
                sc_loop_files(loop.loop).pointee.open(loop.loop, $0, AT_FDCWD, path, flags, 0o640)
            }
        }
    }

    private func allocate(_ loop: TestLoop, _ fd: CInt, _ size: UInt64) throws -> Int {
        try run(loop) { sc_loop_files(loop.loop).pointee.allocate(loop.loop, $0, fd, 0, size) }
    }

    private func sync(_ loop: TestLoop, _ fd: CInt, dataOnly: Bool) throws -> Int {
        try run(loop) { sc_loop_files(loop.loop).pointee.flush(loop.loop, $0, fd, dataOnly) }
    }

    @Test("are opened, allocated, written, synced and read", arguments: Variant.allCases)
    func lifeOfAFile(variant: Variant) throws {
        try withFolder { folder in
            try withLoop(variant) { loop in
                let opened = try open(loop, folder + "/file", O_RDWR | O_CREAT | O_EXCL)
                try #require(opened >= 0)
                let fd = CInt(opened)
                defer { close(fd) }
                #expect(try open(loop, folder + "/file", O_RDWR | O_CREAT | O_EXCL) == -Int(EEXIST))

                #expect(
                    try allocate(loop, fd, 1 << 16) == 0)
                var status = stat()
                #expect(
                    fstat(fd, &status) == 0 && status.st_size == 1 << 16
                        && status.st_mode & 0o777 == 0o640)

                let bytes = pattern(100_000)
                let wrote = try bytes.withUnsafeBytes { buffer in
                    let start = try #require(buffer.baseAddress)
                    return try run(loop) {
                        sc_loop_files(loop.loop).pointee.write(
                            loop.loop, $0, fd, start, UInt32(buffer.count), 1_000)
                    }
                }
                #expect(wrote == bytes.count)
                for dataOnly in [false, true] {
                    #expect(
                        try sync(loop, fd, dataOnly: dataOnly) == 0)
                }

                let memory = UnsafeMutableRawPointer.allocate(byteCount: 200_000, alignment: 16)
                defer { memory.deallocate() }
                func read(_ size: Int, at offset: UInt64) throws -> [UInt8] {
                    let count = try run(loop) {
                        sc_loop_files(loop.loop).pointee.read(
                            loop.loop, $0, fd, memory, UInt32(size), offset)
                    }
                    try #require(count >= 0)
                    return Array(UnsafeRawBufferPointer(start: memory, count: count))
                }
                #expect(try read(bytes.count, at: 1_000) == bytes)
                #expect(try read(1_000, at: 0) == [UInt8](repeating: 0, count: 1_000))
                // Short at the end of the file, nothing behind it.
                #expect(try read(200_000, at: 91_000) == Array(bytes[90_000...]))
                #expect(try read(10, at: 101_000).isEmpty)
            }
        }
    }

    @Test(
        "may have many operations under way at once, each with its own answer",
        arguments: Variant.allCases)
    func manyAtOnce(variant: Variant) throws {
        try withFolder { folder in
            try withLoop(variant) { loop in
                let fd = CInt(try open(loop, folder + "/file", O_RDWR | O_CREAT))
                defer { close(fd) }
                let bytes = UnsafeMutablePointer<UInt8>.allocate(capacity: 2_000 * 8)
                defer { bytes.deallocate() }
                bytes.initialize(from: pattern(2_000 * 8), count: 2_000 * 8)
                // More than the ring has entries.
                let operations = (0..<2_000).map { i in
                    let operation = FileOperation()
                    let size = UInt32(1 + i % 8)
                    sc_loop_files(loop.loop).pointee.write(
                        loop.loop, operation.pointer, fd, bytes + i * 8,
                        size, UInt64(i * 8))
                    return operation
                }
                try loop.run(until: { operations.allSatisfy { $0.result != nil } })
                for (i, operation) in operations.enumerated() {
                    #expect(operation.result == 1 + i % 8)
                }
            }
        }
    }

    @Test("say what went wrong as the system call does", arguments: Variant.allCases) func errors(
        variant: Variant
    ) throws {
        try withFolder { folder in
            try withLoop(variant) { loop in
                #expect(try open(loop, folder + "/none", O_RDONLY) == -Int(ENOENT))
                #expect(try open(loop, folder, O_RDWR) == -Int(EISDIR))
                var byte: UInt8 = 0
                let bad = try withUnsafeMutablePointer(to: &byte) { byte in
                    try run(loop) {
                        sc_loop_files(loop.loop).pointee.read(loop.loop, $0, 1_000_000, byte, 1, 0)
                    }
                }
                #expect(bad == -Int(EBADF))
                #expect(
                    try sync(loop, 1_000_000, dataOnly: true) == -Int(
                        EBADF))
                let fd = CInt(try open(loop, folder + "/file", O_RDONLY | O_CREAT))
                defer { close(fd) }
                let refused = try withUnsafePointer(to: &byte) { byte in
                    try run(loop) {
                        sc_loop_files(loop.loop).pointee.write(loop.loop, $0, fd, byte, 1, 0)
                    }
                }
                #expect(refused == -Int(EBADF))
                #expect(
                    try allocate(loop, fd, 10) == -Int(
                        EBADF))
            }
        }
    }

    /// The way with one entry and the one with two, with and without the kernel's help.
    private static let ways: [UInt32] = [
        0, SC_LOOP_FLUSHED_WRITES.rawValue,
        SC_LOOP_FLUSHED_WRITES.rawValue | SC_LOOP_DEFER_TASKRUN.rawValue,
    ]

    /// Memory that starts with a page.
    private func withPages(_ count: Int, _ body: (UnsafeMutableRawPointer) throws -> Void) rethrows
    {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: count * 4_096, alignment: 4_096)
        defer { memory.deallocate() }
        memory.copyMemory(from: pattern(count * 4_096), byteCount: count * 4_096)
        try body(memory)
    }

    /// What `direct` says where statx says nothing of it, or the kernel is too old, shows on tmpfs. On a disk without direct
    /// files there is nothing to see here.
    private func withDirectFile(
        _ without: UInt32, _ body: (TestLoop, CInt, String) throws -> Void
    ) throws {
        try withFolder { folder in
            try withLoop({ $0.without = without }) { loop in
                let path = folder + "/file"
                let fd = CInt(try open(loop, path, O_RDWR | O_CREAT))
                defer { close(fd) }
                guard sc_loop_files(loop.loop).pointee.direct(loop.loop, fd) == 0 else { return }
                try body(loop, fd, path)
            }
        }
    }

    @Test("take whole pages past the cache, written and synced in one", arguments: ways)
    func pages(without: UInt32) throws {
        try withDirectFile(without) { loop, fd, path in
            try withPages(3) { memory in try writePages(loop, fd, memory, path) }
            let forgotten = try run(loop) {
                sc_loop_files(loop.loop).pointee.forget(loop.loop, $0, fd)
            }
            #expect(forgotten == 0)
            #expect((loop.counters.writes_linked > 500) == (without != 0))
        }
    }

    private func writePages(
        _ loop: TestLoop, _ fd: CInt, _ memory: UnsafeMutableRawPointer, _ path: String
    ) throws {
        // Entries before them, so that some pair would be the last of a full ring and the first of the next.
        let others = (0..<1_500).map { i in
            let operation = FileOperation()
            if i % 3 == 0 {
                sc_loop_files(loop.loop).pointee.write_pages(
                    loop.loop, operation.pointer, fd, memory, 4_096, UInt64(i) * 4_096)
            } else {
                sc_loop_files(loop.loop).pointee.flush(loop.loop, operation.pointer, -1, true)
            }
            return operation
        }
        try loop.run(until: { others.allSatisfy { $0.result != nil } })
        for (i, operation) in others.enumerated() {
            #expect(operation.result == (i % 3 == 0 ? 4_096 : -Int(EBADF)))
        }
        func write(_ fd: CInt, _ size: UInt32, at offset: UInt64) throws -> Int {
            try run(loop) {
                sc_loop_files(loop.loop).pointee.write_pages(
                    loop.loop, $0, fd, memory, size, offset)
            }
        }
        #expect(try write(fd, 12_288, at: 8_192) == 12_288)
        #expect(try write(fd, 100, at: 8_192) == -Int(EINVAL), "not a page")
        #expect(try write(1_000_000, 4_096, at: 0) == -Int(EBADF))
        #expect(
            try run(loop) { sc_loop_files(loop.loop).pointee.forget(loop.loop, $0, 1_000_000) }
                == -Int(EBADF))
        let reader = CInt(try open(loop, path, O_RDONLY))
        defer { close(reader) }
        #expect(try write(reader, 4_096, at: 0) == -Int(EBADF))
        let back = UnsafeMutableRawPointer.allocate(byteCount: 12_288, alignment: 16)
        defer { back.deallocate() }
        let count = try run(loop) {
            sc_loop_files(loop.loop).pointee.read(loop.loop, $0, reader, back, 12_288, 8_192)
        }
        #expect(count == 12_288 && memcmp(memory, back, 12_288) == 0)
    }

    /// The kernel cuts a write off where files of the process may grow no more, so this runs in one of its own.
    @Test("sync what was written of pages also when it was not all") func shortPages() async {
        await #expect(processExitsWith: .success) {
            let size = __rlimit_resource_t(1)  // RLIMIT_FSIZE, whose macro does not reach Swift.
            var limit = rlimit()
            try #require(getrlimit(size, &limit) == 0)
            limit.rlim_cur = 1 << 30
            try #require(setrlimit(size, &limit) == 0)
            for without in FileTests.ways { try FileTests().writeOverTheLimit(1 << 30, without) }
        }
    }

    private func writeOverTheLimit(_ limit: UInt64, _ without: UInt32) throws {
        try withDirectFile(without) { loop, fd, _ in
            try withPages(3) { memory in
                let usesRing = String(cString: sc_loop_describe(loop.loop)).hasPrefix("io_uring")
                let before = loop.counters.submissions
                let wrote = try run(loop) {
                    sc_loop_files(loop.loop).pointee.write_pages(
                        loop.loop, $0, fd, memory, 12_288, limit - 8_192)
                }
                #expect(wrote == 8_192)
                // The write, the sync that the kernel drops, and the one that takes its place.
                let entries: UInt64 = usesRing && without != 0 ? 3 : 1
                #expect(loop.counters.submissions - before == entries)
            }
        }
    }

    @Test("say where files cannot be written past the cache") func notDirect() throws {
        try withLoop { loop in
            #expect(sc_loop_files(loop.loop).pointee.direct(loop.loop, 1_000_000) == -EBADF)
            // Memory that is a file takes the flag, and says nothing of how it is to be written.
            let fd = CInt(try open(loop, "/dev/shm", O_RDWR | CInt(bitPattern: 0o20_200_000)))
            try #require(fd >= 0)
            defer { close(fd) }
            #expect(sc_loop_files(loop.loop).pointee.direct(loop.loop, fd) == -EOPNOTSUPP)
            #expect(fcntl(fd, F_GETFL) & 0o40_000 == 0, "it is as it was")
            let wrote = try run(loop) {
                sc_loop_files(loop.loop).pointee.write_flush(loop.loop, $0, fd, "as before", 9, 0)
            }
            #expect(wrote == 9)
        }
    }

    @Test("note what kind each operation is") func kinds() throws {
        try withLoop { loop in
            let operations = (0..<3).map { _ in FileOperation() }
            sc_loop_files(loop.loop).pointee.flush(loop.loop, operations[0].pointer, -1, false)
            sc_loop_files(loop.loop).pointee.allocate(loop.loop, operations[1].pointer, -1, 0, 1)
            // The path stays put until it is done.
            try "none".withCString { path in
                sc_loop_files(loop.loop).pointee.open(
                    loop.loop, operations[2].pointer, -1, path, 0, 0)
                #expect(operations.map(\.kind) == [SC_FILE_FLUSH, SC_FILE_ALLOCATE, SC_FILE_OPEN])
                try loop.run(until: { operations.allSatisfy { $0.result != nil } })
            }
            #expect(operations.allSatisfy { $0.result == -Int(EBADF) })
        }
    }
}
