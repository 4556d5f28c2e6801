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
            try run(loop) { sc_loop_file_ops.open(loop.loop, $0, AT_FDCWD, path, flags, 0o640) }
        }
    }

    private func allocate(_ loop: TestLoop, _ fd: CInt, _ size: UInt64) throws -> Int {
        try run(loop) { sc_loop_file_ops.allocate(loop.loop, $0, fd, 0, size) }
    }

    private func sync(_ loop: TestLoop, _ fd: CInt, dataOnly: Bool) throws -> Int {
        try run(loop) { sc_loop_file_ops.sync(loop.loop, $0, fd, dataOnly) }
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
                        sc_loop_file_ops.write(
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
                        sc_loop_file_ops.read(
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
                    sc_loop_file_ops.write(
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
                    try run(loop) { sc_loop_file_ops.read(loop.loop, $0, 1_000_000, byte, 1, 0) }
                }
                #expect(bad == -Int(EBADF))
                #expect(
                    try sync(loop, 1_000_000, dataOnly: true) == -Int(
                        EBADF))
                let fd = CInt(try open(loop, folder + "/file", O_RDONLY | O_CREAT))
                defer { close(fd) }
                let refused = try withUnsafePointer(to: &byte) { byte in
                    try run(loop) { sc_loop_file_ops.write(loop.loop, $0, fd, byte, 1, 0) }
                }
                #expect(refused == -Int(EBADF))
                #expect(
                    try allocate(loop, fd, 10) == -Int(
                        EBADF))
            }
        }
    }

    @Test("note what kind each operation is") func kinds() throws {
        try withLoop { loop in
            let operations = (0..<3).map { _ in FileOperation() }
            sc_loop_file_ops.sync(loop.loop, operations[0].pointer, -1, false)
            sc_loop_file_ops.allocate(loop.loop, operations[1].pointer, -1, 0, 1)
            // The path stays put until it is done.
            try "none".withCString { path in
                sc_loop_file_ops.open(loop.loop, operations[2].pointer, -1, path, 0, 0)
                #expect(operations.map(\.kind) == [SC_FILE_SYNC, SC_FILE_ALLOCATE, SC_FILE_OPEN])
                try loop.run(until: { operations.allSatisfy { $0.result != nil } })
            }
            #expect(operations.allSatisfy { $0.result == -Int(EBADF) })
        }
    }
}
