import CStreamBase
import Foundation
import SeededRandom
import Testing

/// A heap, and what it was asked for: each object is filled with a pattern of its own, which must still be there
/// when it is given back.
private final class ModelHeap {
    struct Object {
        var memory: UnsafeMutableRawPointer
        var size: Int
        var pattern: UInt8
    }

    let heap: OpaquePointer
    var objects: [Object] = []
    private var pattern: UInt8 = 0

    init() throws { heap = try #require(sc_heap_create()) }

    deinit { sc_heap_destroy(heap) }

    var counters: sc_heap_counters { sc_heap_counters(heap) }

    func take(_ size: Int) throws {
        let memory = try #require(sc_heap_take(heap, size))
        #expect(UInt(bitPattern: memory) % 8 == 0)
        pattern &+= 1
        memory.initializeMemory(as: UInt8.self, repeating: pattern, count: size)
        objects.append(Object(memory: memory, size: size, pattern: pattern))
    }

    func isIntact(_ object: Object) -> Bool {
        UnsafeRawBufferPointer(start: object.memory, count: object.size).allSatisfy {
            $0 == object.pattern
        }
    }

    func give(at index: Int) {
        objects.swapAt(index, objects.count - 1)
        let object = objects.removeLast()
        #expect(isIntact(object))
        sc_heap_give(object.memory)
    }

    func giveAll() { while !objects.isEmpty { give(at: objects.count - 1) } }

    /// What an owner does: moves whatever lies in slabs that are being emptied.
    func compact() throws -> Bool {
        guard sc_heap_compact_begin(heap) else { return false }
        for index in objects.indices where sc_heap_is_sparse(heap, objects[index].memory) {
            let memory = try #require(sc_heap_take(heap, objects[index].size))
            #expect(!sc_heap_is_sparse(heap, memory))
            memory.copyMemory(from: objects[index].memory, byteCount: objects[index].size)
            sc_heap_give(objects[index].memory)
            objects[index].memory = memory
        }
        sc_heap_compact_end(heap)
        return true
    }
}

@Suite("Heap")
struct HeapTests {
    /// Both sides of each border between classes, and the largest object.
    @Test(
        "takes no more than the next multiple of 8, or an eighth more, up to whole pages",
        arguments: [1, 7, 8, 9, 16, 17, 120, 121, 128, 129, 144, 145, 256, 257, 4096, 4097]
            + [16_383, 16_384, 16_385, 20_480, 20_481, 65_535, 65_536, 65_537, 131_071, 131_072])
    func classes(size: Int) throws {
        let heap = try ModelHeap()
        try heap.take(size)
        let used = Int(heap.counters.used)
        #expect(used >= size)
        #expect(used <= (size <= 128 ? (size + 7) / 8 * 8 : size + size / 8 + 4095))
        if size <= 16_384 { #expect(used <= max((size + 7) / 8 * 8, size + size / 8)) }
        for _ in 0..<40 { try heap.take(size) }
        #expect(Int(heap.counters.used) == 41 * used && heap.counters.objects == 41)
        heap.giveAll()
        #expect(heap.counters.used == 0 && heap.counters.objects == 0 && heap.counters.idle == 0)
    }

    @Test("keeps objects apart, and counts them, over random changes")
    func random() throws {
        var generator = SeededGenerator(seed: randomSeed())
        let heap = try ModelHeap()
        for round in 0..<24 {
            let takesOfTen = round % 3 == 1 ? 2 : 7
            // A few sizes in each round, so that slabs fill and empty.
            let sizes = (0..<4).map { _ in
                Int(2 << Int.random(in: 0..<17, using: &generator))
                    - Int.random(in: 0..<2, using: &generator)
            }
            for _ in 0..<400 {
                if heap.objects.isEmpty || Int.random(in: 0..<10, using: &generator) < takesOfTen {
                    try heap.take(sizes[Int.random(in: 0..<4, using: &generator)])
                } else {
                    heap.give(at: Int.random(in: 0..<heap.objects.count, using: &generator))
                }
            }
            _ = try heap.compact()
            while sc_heap_trim(heap.heap) {}
            #expect(heap.objects.allSatisfy(heap.isIntact))
            #expect(Int(heap.counters.objects) == heap.objects.count)
        }
        heap.giveAll()
        #expect(heap.counters.used == 0 && heap.counters.idle == 0)
    }

    @Test("gives memory back when objects go, and keeps only a little")
    func givesBack() throws {
        let heap = try ModelHeap()
        for size in [64, 1000, 40_000] { for _ in 0..<(16 << 20) / size { try heap.take(size) } }
        #expect(heap.counters.reserved >= 48 << 20)
        heap.giveAll()
        while sc_heap_trim(heap.heap) {}
        #expect(heap.counters.kept <= 4 << 20)
        #expect(heap.counters.reserved <= 8 << 20)
        // And takes the kept part first.
        let kept = heap.counters.kept
        #expect(kept > 0)
        try heap.take(64)
        #expect(heap.counters.kept < kept)
    }

    @Test(
        "has few idle bytes after survivors were moved together", arguments: [40, 112, 1000, 9000])
    func compacting(size: Int) throws {
        var generator = SeededGenerator(seed: randomSeed())
        let heap = try ModelHeap()
        for _ in 0..<(24 << 20) / size { try heap.take(size) }
        #expect(try !heap.compact())  // Nothing lies idle.
        for _ in 0..<heap.objects.count * 9 / 10 {
            heap.give(at: Int.random(in: 0..<heap.objects.count, using: &generator))
        }
        #expect(heap.counters.idle > heap.counters.used)
        var passes = 0
        while try heap.compact() { passes += 1 }
        #expect(passes >= 1 && passes <= 3)
        #expect(heap.counters.idle <= heap.counters.used / 6 + (256 << 10))
        #expect(heap.objects.allSatisfy(heap.isIntact))
    }

    /// Each slab has a fifth of its slots free, and none a quarter: there is nothing to move.
    @Test("does not look through objects again and again in vain") func inVain() throws {
        let model = try ModelHeap()
        let heap = model.heap
        var objects = try (0..<80_000).map { _ in try #require(sc_heap_take(heap, 104)) }
        func thinOut(oneIn part: Int) {
            for index in objects.indices where index % part == 0 { sc_heap_give(objects[index]) }
            objects = objects.enumerated().filter { $0.offset % part != 0 }.map(\.element)
        }
        func findsSparse() -> Bool {
            defer { sc_heap_compact_end(heap) }
            return objects.contains { sc_heap_is_sparse(heap, $0) }
        }
        thinOut(oneIn: 5)
        #expect(model.counters.idle > model.counters.used / 5)
        try #require(sc_heap_compact_begin(heap))
        #expect(!findsSparse())
        for _ in 0..<(4 * model.counters.used - 1) / 16_384 {
            sc_heap_give(try #require(sc_heap_take(heap, 16_384)))
            try #require(!sc_heap_compact_begin(heap))
        }
        sc_heap_give(try #require(sc_heap_take(heap, 16_384)))
        try #require(sc_heap_compact_begin(heap))
        #expect(!findsSparse())
        // Before that, when so much is idle that there must be something.
        thinOut(oneIn: 20)
        #expect(model.counters.idle < model.counters.used / 8 * 3)
        #expect(!sc_heap_compact_begin(heap))
        thinOut(oneIn: 10)
        #expect(model.counters.idle > model.counters.used / 8 * 3)
        try #require(sc_heap_compact_begin(heap))
        #expect(findsSparse())
    }

    /// One object in a while stays, and with it the region of a small one, the slab of a large one.
    @Test(
        "gives kept memory back to the kernel a little at a time",
        arguments: [(16_000, 100), (40_000, 12)])
    func trimming(size: Int, stays: Int) throws {
        let heap = try ModelHeap()
        let objects = try (0..<(128 << 20) / size).map { _ in
            try #require(sc_heap_take(heap.heap, size))
        }
        for (index, object) in objects.enumerated() where index % stays != 0 {
            sc_heap_give(object)
        }
        var calls = 0
        var more = true
        while more {
            let before = heap.counters
            more = sc_heap_trim(heap.heap)
            let returned = heap.counters.returned - before.returned
            #expect(returned <= (1 << 20) + (512 << 10))
            #expect(before.kept - heap.counters.kept == returned)
            calls += 1
        }
        #expect(calls >= 4)
        #expect(heap.counters.kept <= heap.counters.used / 8 + (1 << 20))
    }

    @Test("moves nothing of another heap") func foreign() throws {
        let heap = try ModelHeap()
        let other = try ModelHeap()
        for _ in 0..<4000 { try heap.take(1000) }
        for index in (0..<4000).reversed() where index % 10 != 0 { heap.give(at: index) }
        let sparse = heap.objects.filter { sc_heap_is_sparse(heap.heap, $0.memory) }
        #expect(sparse.count > 300)
        #expect(!sparse.contains { sc_heap_is_sparse(other.heap, $0.memory) })
    }

    @Test("takes objects back from other threads, while it goes on")
    func otherThreads() async throws {
        let heap = try ModelHeap()
        for _ in 0..<20_000 { try heap.take(100) }
        nonisolated(unsafe) let memory = heap.objects.map(\.memory)
        await withTaskGroup(of: Void.self) { group in
            for part in 0..<4 {
                group.addTask {
                    for i in stride(from: part, to: 20_000, by: 4) { sc_heap_give(memory[i]) }
                }
            }
        }
        heap.objects = []
        // What lies aside is used before there are new slabs.
        let reserved = heap.counters.reserved
        for _ in 0..<20_000 { try heap.take(100) }
        #expect(heap.counters.reserved == reserved)
        #expect(heap.counters.objects <= 40_000)
        heap.giveAll()
    }

    @Test("takes up what other threads gave back a little at a time")
    func otherThreadsInSteps() throws {
        let heap = try ModelHeap()
        for _ in 0..<10_000 { try heap.take(100) }
        nonisolated(unsafe) let memory = heap.objects.map(\.memory)
        heap.objects = []
        let given = DispatchSemaphore(value: 0)
        Thread {
            for object in memory { sc_heap_give(object) }
            given.signal()
        }.start()
        given.wait()
        try heap.take(16_384)  // Of a size that has no slab.
        var objects = heap.counters.objects
        #expect(objects == 10_001 - 64)
        while sc_heap_trim(heap.heap) {
            #expect(objects - heap.counters.objects <= 1024)
            objects = heap.counters.objects
        }
        #expect(heap.counters.objects == 1)
    }

    /// Whose last object comes back when, a sanitizer would say. The heap has a thread of its own, as it must.
    @Test("is gone when the last object is, whoever gives it back")
    func outlived() throws {
        for round in 0..<200 {
            let made = DispatchSemaphore(value: 0)
            let gone = DispatchSemaphore(value: 0)
            nonisolated(unsafe) var objects: [UnsafeMutableRawPointer] = []
            let owner = Thread {
                let heap = sc_heap_create()
                if let heap { objects = (0..<8).compactMap { _ in sc_heap_take(heap, 48) } }
                made.signal()
                sc_heap_destroy(heap)
                gone.signal()
            }
            owner.start()
            made.wait()
            nonisolated(unsafe) let given = objects
            try #require(given.count == 8)
            let late = round % 2 == 1 ? round % 8 : nil
            DispatchQueue.concurrentPerform(iterations: 8) { object in
                if object != late { sc_heap_give(given[object]) }
            }
            gone.wait()
            if let late { sc_heap_give(given[late]) }
        }
        sc_heap_destroy(nil)
    }

    @Test("holds blobs that fit, and leaves larger ones to malloc") func blobs() throws {
        let heap = try ModelHeap()
        let header = MemoryLayout<sc_blob>.size
        let most = Int(SC_HEAP_SIZE_MAX) - header
        let fits = try #require(sc_blob_create_in(heap.heap, most))
        #expect(heap.counters.objects == 1)
        let over = try #require(sc_blob_create_in(heap.heap, most + 1))
        #expect(heap.counters.objects == 1)
        #expect(fits.pointee.size == UInt32(most) && over.pointee.size == UInt32(most + 1))
        #expect(!sc_blob_is_shared(fits) && !sc_blob_is_shared(over))
        for blob in [fits, over] {
            sc_blob_retain(blob)
            #expect(sc_blob_is_shared(blob))
            sc_blob_release(blob)
            #expect(!sc_blob_is_shared(blob))
            sc_blob_release(blob)
        }
        #expect(heap.counters.objects == 0)
        let empty = try #require(sc_blob_create_in(heap.heap, 0))
        sc_blob_release(empty)
    }
}
