import CStreamBase
import SeededRandom
import Testing

/// A table of numbered nodes, beside the dictionary that it must agree with.
private final class ModelTable {
    struct Entry {
        var node = sc_table_node()
        var key: UInt64 = 0
    }

    var table = sc_table()
    var model: [UInt64: UnsafeMutablePointer<Entry>] = [:]
    let hash: (UInt64) -> UInt64

    init(hash: @escaping (UInt64) -> UInt64) { self.hash = hash }

    deinit {
        sc_table_deinit(&table)
        model.values.forEach { $0.deallocate() }
    }

    private static func entry(_ node: UnsafeMutablePointer<sc_table_node>) -> UnsafeMutablePointer<
        Entry
    > {
        UnsafeMutableRawPointer(node).assumingMemoryBound(to: Entry.self)
    }

    func find(_ key: UInt64) -> UnsafeMutablePointer<Entry>? {
        var node = sc_table_first(&table, hash(key))
        while let current = node {
            #expect(current.pointee.hash == hash(key))
            if Self.entry(current).pointee.key == key { return Self.entry(current) }
            node = sc_table_next(current)
        }
        return nil
    }

    func insert(_ key: UInt64) {
        let entry = UnsafeMutablePointer<Entry>.allocate(capacity: 1)
        entry.initialize(to: Entry(node: sc_table_node(next: nil, hash: hash(key)), key: key))
        let rc = entry.withMemoryRebound(to: sc_table_node.self, capacity: 1) {
            sc_table_insert(&table, $0)
        }
        #expect(rc == 0)
        model[key] = entry
    }

    func remove(_ key: UInt64) {
        guard let entry = model.removeValue(forKey: key) else { return }
        entry.withMemoryRebound(to: sc_table_node.self, capacity: 1) { sc_table_remove(&table, $0) }
        entry.deallocate()
    }

    /// Puts the node of `key` somewhere else in memory.
    func move(_ key: UInt64) {
        guard let entry = model[key] else { return }
        let moved = UnsafeMutablePointer<Entry>.allocate(capacity: 1)
        moved.initialize(to: entry.pointee)
        entry.withMemoryRebound(to: sc_table_node.self, capacity: 1) { node in
            moved.withMemoryRebound(to: sc_table_node.self, capacity: 1) {
                sc_table_replace(&table, node, $0)
            }
        }
        entry.deallocate()
        model[key] = moved
    }

    /// The keys that a walk meets, in its order.
    func walk() -> [UInt64] {
        var keys: [UInt64] = []
        withUnsafeMutablePointer(to: &keys) {
            sc_table_for_each(
                &table,
                { node, context in
                    guard let context else { return }
                    let entry = UnsafeMutableRawPointer(node).assumingMemoryBound(
                        to: ModelTable.Entry.self)
                    context.assumingMemoryBound(to: [UInt64].self).pointee.append(entry.pointee.key)
                }, $0)
        }
        return keys
    }

    var isGrowing: Bool { table.old_buckets != nil }

    func check() {
        #expect(table.count == model.count)
        #expect(walk().sorted() == model.keys.sorted())
    }
}

@Suite("Hash table")
struct TableTests {
    private func mixed(_ key: UInt64) -> UInt64 {
        withUnsafeBytes(of: key) { withBytes(Array($0)) { sc_hash($0, 1) } }
    }

    @Test("of zeros is empty, and can be asked, walked and freed") func empty() {
        let table = ModelTable { $0 }
        #expect(table.find(1) == nil)
        #expect(table.walk().isEmpty)
    }

    @Test("finds each node after every step of its growth, and after every step of its emptying")
    func everyStep() {
        let table = ModelTable(hash: mixed)
        var sawGrowth = false
        for key in 0..<300 as Range<UInt64> {
            table.insert(key)
            sawGrowth = sawGrowth || table.isGrowing
            for other in 0...key { #expect(table.find(other)?.pointee.key == other) }
            #expect(table.find(key + 1) == nil)
            table.check()
        }
        #expect(sawGrowth)
        for key in (0..<300 as Range<UInt64>).reversed() {
            table.remove(key)
            #expect(table.find(key) == nil)
            for other in 0..<key { #expect(table.find(other) != nil) }
        }
        table.check()
    }

    @Test("grows in small steps: no change moves more than a few chains") func smallSteps() {
        let table = ModelTable(hash: mixed)
        var moved = 0
        var growths = 0
        for key in 0..<20_000 as Range<UInt64> {
            let wasGrowing = table.isGrowing
            table.insert(key)
            if table.isGrowing, wasGrowing {
                #expect(table.table.moved - moved <= 4)
            } else if table.isGrowing {
                growths += 1
                #expect(table.table.moved <= 4)
            }
            moved = table.table.moved
            // The growth is over before the next one is due, and chains stay short.
            #expect(table.table.count <= 2 * (table.table.mask + 1))
        }
        #expect(growths >= 10)
        table.check()
    }

    @Test("shrinks in small steps when most nodes have gone") func shrinks() {
        let table = ModelTable(hash: mixed)
        for key in 0..<20_000 as Range<UInt64> { table.insert(key) }
        let largest = table.table.mask + 1
        var wasResizing = table.isGrowing
        var moved = table.table.moved
        for key in 0..<19_990 as Range<UInt64> {
            table.remove(key)
            if table.isGrowing {
                #expect(table.table.moved - (wasResizing ? moved : 0) <= 16)
            }
            (wasResizing, moved) = (table.isGrowing, table.table.moved)
            #expect(table.find(key) == nil && table.find(19_999) != nil)
        }
        table.check()
        #expect(table.table.mask + 1 <= 256 && largest >= 16_384)
        // Growing again over what has not been moved yet.
        for key in 0..<2000 as Range<UInt64> { table.insert(key) }
        table.check()
        for key in 0..<2000 as Range<UInt64> { #expect(table.find(key) != nil) }
    }

    @Test("has a moved node in the place of the other, at every step of a growth") func replaces() {
        let table = ModelTable { $0 / 3 }
        for key in 0..<200 as Range<UInt64> {
            table.insert(key)
            for other in 0...key { table.move(other) }
            table.check()
        }
        for key in 0..<200 as Range<UInt64> {
            #expect(table.find(key) == table.model[key])
            table.remove(key)
        }
    }

    @Test("keeps nodes with one hash apart by their keys") func collisions() {
        let table = ModelTable { $0 / 50 }
        for key in 0..<1000 as Range<UInt64> { table.insert(key) }
        for key in 0..<1000 as Range<UInt64> { #expect(table.find(key)?.pointee.key == key) }
        for key in stride(from: 0 as UInt64, to: 1000, by: 3) { table.remove(key) }
        for key in 0..<1000 as Range<UInt64> { #expect((table.find(key) != nil) == (key % 3 != 0)) }
        table.check()
    }

    @Test("agrees with a dictionary over random changes", arguments: [1, 7, .max] as [UInt64])
    func random(distinctHashes: UInt64) {
        var generator = SeededGenerator(seed: randomSeed())
        let table = ModelTable { [mixed] in mixed($0) % distinctHashes }
        for round in 0..<30 {
            // Mostly growing, mostly shrinking, and back.
            let insertsOfTen = round % 3 == 1 ? 2 : 8
            for _ in 0..<300 {
                let key = UInt64.random(
                    in: 0..<(distinctHashes == .max ? 4000 : 300), using: &generator)
                if table.model[key] != nil {
                    if Int.random(in: 0..<10, using: &generator) >= insertsOfTen {
                        table.remove(key)
                    }
                } else if Int.random(in: 0..<10, using: &generator) < insertsOfTen {
                    table.insert(key)
                }
                let probe = UInt64.random(in: 0..<4000, using: &generator)
                #expect(table.find(probe) == table.model[probe])
            }
            table.check()
        }
    }

    @Test("lets a walk free what it meets") func freeingWalk() {
        var table = sc_table()
        for key in 0..<100 {
            let node = UnsafeMutablePointer<sc_table_node>.allocate(capacity: 1)
            node.initialize(to: sc_table_node(next: nil, hash: UInt64(key % 10)))
            #expect(sc_table_insert(&table, node) == 0)
        }
        var count = 0
        withUnsafeMutablePointer(to: &count) {
            sc_table_for_each(
                &table,
                { node, context in
                    node.deallocate()
                    context?.assumingMemoryBound(to: Int.self).pointee += 1
                }, $0)
        }
        #expect(count == 100)
        sc_table_deinit(&table)
        #expect(table.buckets == nil && table.count == 0)
    }
}
