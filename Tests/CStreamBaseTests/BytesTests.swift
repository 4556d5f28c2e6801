import CStreamBase
import Foundation
import SeededRandom
import Testing

@Suite("Byte views")
struct BytesTests {
    @Test("are equal when all their bytes are, wherever they lie")
    func equality() {
        let texts: [[UInt8]] = [
            [], [0], [1], [0, 0], Array("abc".utf8), Array("abd".utf8), Array("ab".utf8),
        ]
        for (i, a) in texts.enumerated() {
            for (j, b) in texts.enumerated() {
                let equal = withBytes(a) { a in withBytes(b, offset: 3) { sc_bytes_equal(a, $0) } }
                #expect(equal == (i == j))
            }
        }
        #expect(withBytes([]) { sc_bytes_equal($0, sc_bytes(data: nil, size: 0)) })
    }
}

@Suite("Blobs")
struct BlobTests {
    @Test("hold the bytes that their maker fills in", arguments: [0, 1, 255, 4096, 1 << 20])
    func contents(size: Int) throws {
        let blob = try #require(sc_blob_create(size))
        defer { sc_blob_release(blob) }
        #expect(Int(blob.pointee.size) == size)
        let bytes = sc_blob_bytes(blob)
        #expect(bytes.size == size)
        let data = UnsafeMutablePointer(mutating: bytes.data)
        for i in 0..<size { data?[i] = UInt8(truncatingIfNeeded: i) }
        #expect(array(sc_blob_bytes(blob)) == (0..<size).map { UInt8(truncatingIfNeeded: $0) })
    }

    @Test("cannot be larger than their size can say")
    func tooLarge() {
        #expect(sc_blob_create(Int(UInt32.max) + 1) == nil)
        #expect(sc_blob_create(Int.max) == nil)
    }

    @Test("nothing can be given back") func releaseNothing() {
        sc_blob_release(nil)
    }

    /// A reference too few or too many shows under a sanitizer.
    @Test("live until the last of many threads has given its reference back")
    func threads() async throws {
        let blob = try #require(sc_blob_create(64))
        UnsafeMutablePointer(mutating: sc_blob_bytes(blob).data)?.initialize(
            repeating: 7, count: 64)
        nonisolated(unsafe) let shared = blob
        await withTaskGroup(of: Int.self) { group in
            for _ in 0..<8 {
                sc_blob_retain(shared)
                group.addTask {
                    var sum = 0
                    for _ in 0..<5000 {
                        sc_blob_retain(shared)
                        sum += Int(sc_blob_bytes(shared).data?[63] ?? 0)
                        sc_blob_release(shared)
                    }
                    sc_blob_release(shared)
                    return sum
                }
            }
            sc_blob_release(shared)
            for await sum in group { #expect(sum == 35_000) }
        }
    }
}

@Suite("Arrays")
struct ArrayTests {
    /// Both sides of the size from which they are mapped, and growth over it.
    @Test(
        "keep what they had when they grow",
        arguments: [
            [1, 8, 32_767, 32_768, 32_769, 1 << 20], [32_768, 32_768], [40_000, 5 << 20],
        ])
    func growth(sizes: [Int]) throws {
        var array: UnsafeMutableRawPointer?
        var before = 0
        for size in sizes {
            let grown = try #require(sc_array_grow(array, before, size))
            for i in before..<size {
                grown.storeBytes(
                    of: UInt8(truncatingIfNeeded: i &* 31), toByteOffset: i, as: UInt8.self)
            }
            #expect(
                (0..<size).allSatisfy {
                    grown.load(fromByteOffset: $0, as: UInt8.self)
                        == UInt8(truncatingIfNeeded: $0 &* 31)
                })
            (array, before) = (grown, size)
        }
        sc_array_free(array, before)
        sc_array_free(nil, 0)
    }

    @Test("stay as they were when memory is out") func refused() throws {
        for size in [8, 100_000] {
            let array = try #require(sc_array_grow(nil, 0, size))
            array.initializeMemory(as: UInt8.self, repeating: 7, count: size)
            #expect(sc_array_grow(array, size, 1 << 60) == nil)
            #expect(array.load(fromByteOffset: size - 1, as: UInt8.self) == 7)
            sc_array_free(array, size)
        }
    }
}

@Suite("Buffers")
struct BufferTests {
    @Test("hold what was appended, in order, over every growth")
    func appends() {
        var generator = SeededGenerator(seed: randomSeed())
        var buffer = sc_buffer()
        defer { sc_buffer_deinit(&buffer) }
        var model: [UInt8] = []
        for _ in 0..<400 {
            let size = Int.random(in: 0...900, using: &generator)
            let bytes = (0..<size).map { _ in UInt8.random(in: 0...255, using: &generator) }
            if Bool.random(using: &generator) {
                withBytes(bytes) { sc_buffer_append_bytes(&buffer, $0) }
            } else {
                let out = sc_buffer_reserve(&buffer, size)
                for (i, byte) in bytes.enumerated() { out?[i] = byte }
                buffer.size += size
            }
            model += bytes
            #expect(buffer.capacity >= buffer.size)
        }
        #expect(!buffer.failed)
        #expect(array(sc_buffer_bytes(&buffer)) == model)
    }

    @Test("take nothing for nothing") func empty() {
        var buffer = sc_buffer()
        sc_buffer_append(&buffer, nil, 0)
        #expect(buffer.data == nil && buffer.size == 0 && !buffer.failed)
        sc_buffer_deinit(&buffer)
    }

    @Test("keep what a reservation does not use") func reserveOnly() {
        var buffer = sc_buffer()
        defer { sc_buffer_deinit(&buffer) }
        sc_buffer_append(&buffer, "ab", 2)
        #expect(sc_buffer_reserve(&buffer, 100_000) != nil)
        #expect(buffer.size == 2)
        sc_buffer_append(&buffer, "c", 1)
        #expect(array(sc_buffer_bytes(&buffer)) == Array("abc".utf8))
    }

    /// A sanitizer's malloc does not refuse what is too large, it ends the process.
    static let mallocRefuses =
        dlsym(nil, "__asan_init") == nil && dlsym(nil, "__tsan_init") == nil

    @Test(
        "fail once and for all when memory is out, with what they had", .enabled(if: mallocRefuses))
    func failure() {
        var buffer = sc_buffer()
        sc_buffer_append(&buffer, "ab", 2)
        #expect(sc_buffer_reserve(&buffer, 1 << 60) == nil)
        #expect(buffer.failed)
        sc_buffer_append(&buffer, "c", 1)
        #expect(sc_buffer_reserve(&buffer, 1) == nil)
        #expect(array(sc_buffer_bytes(&buffer)) == Array("ab".utf8))
        sc_buffer_deinit(&buffer)
        #expect(!buffer.failed && buffer.capacity == 0)
    }
}

@Suite("Decimal numbers")
struct DecimalTests {
    @Test("are written as everybody writes them") func values() {
        var generator = SeededGenerator(seed: randomSeed())
        var numbers: [UInt64] = [0, 1, 9, 10, .max, .max - 1, UInt64(Int64.max)]
        var power: UInt64 = 1
        while power <= .max / 10 {
            power *= 10
            numbers += [power - 1, power, power + 1]
        }
        numbers += (0..<1000).map { _ in
            UInt64.random(in: .min ... .max, using: &generator)
                >> UInt64.random(in: 0...63, using: &generator)
        }
        for number in numbers {
            var out = [UInt8](repeating: 0xAA, count: 21)
            let size = sc_decimal_write(&out, number)
            #expect(String(decoding: out[..<size], as: UTF8.self) == "\(number)")
            #expect(out[size...].allSatisfy { $0 == 0xAA })
        }
    }
}
