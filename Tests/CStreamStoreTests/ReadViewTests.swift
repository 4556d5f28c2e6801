import CStreamStore
import SeededRandom
import Testing

/// The values that a reader has got so far, and how much more it takes in this step.
private struct Reader {
    var values: [String] = []
    var room = 0
}

extension Store {
    fileprivate func begin(_ stream: String, _ group: String) throws {
        sc_read_view_begin(store, try #require(self.group(stream, group)))
    }

    /// Reads `count` values more; whether there may be others.
    fileprivate func step(_ reader: inout Reader, _ count: Int) -> Bool {
        reader.room = count
        let rc = withUnsafeMutablePointer(to: &reader) {
            sc_read_view_step(
                store,
                { value, context in
                    let reader = context.assumingMemoryBound(to: Reader.self)
                    reader.pointee.values.append(text(value))
                    reader.pointee.room -= 1
                    return reader.pointee.room > 0
                }, $0)
        }
        #expect(rc >= 0)
        return rc == 1
    }
}

@Suite("Reading a group in steps, while it changes")
struct ReadViewTests {
    @Test("updates, removals and new items after its beginning do not show")
    func isolated() throws {
        let store = try Store()
        for id in ["a", "b", "c", "d"] { store.set("s", "g", id, id) }
        var reader = Reader()
        try store.begin("s", "g")
        #expect(store.step(&reader, 1))
        store.set("s", "g", "a", "A")  // Read already.
        store.set("s", "g", "b", "B")
        store.set("s", "g", "b", "BB")
        store.delete("s", "g", "c")
        store.set("s", "g", "c", "again")
        store.set("s", "g", "e", "new")
        while store.step(&reader, 1) {}
        sc_read_view_end(store.store)
        #expect(reader.values == ["a", "b", "c", "d"])
        #expect(store.values("s", "g") == ["A", "BB", "d", "again", "new"])
    }

    @Test("a group that loses all its items, and comes again, is read as it was")
    func emptied() throws {
        let store = try Store()
        for id in ["a", "b", "c"] { store.set("s", "g", id, id) }
        var reader = Reader()
        try store.begin("s", "g")
        #expect(store.step(&reader, 1))
        for id in ["c", "a", "b"] { store.delete("s", "g", id) }
        store.set("s", "g", "b", "new")
        while store.step(&reader, 1) {}
        sc_read_view_end(store.store)
        #expect(reader.values == ["a", "b", "c"])
    }

    @Test("given up in the middle, and with its store")
    func givenUp() throws {
        let store = try Store()
        for id in ["a", "b", "c"] { store.set("s", "g", id, id) }
        var reader = Reader()
        for _ in 0..<2 {
            reader = Reader()
            try store.begin("s", "g")
            #expect(store.step(&reader, 1))
            store.set("s", "g", "c", "C")
            store.delete("s", "g", "b")
            store.set("s", "g", "b", "b")
            sc_read_view_end(store.store)
        }
        #expect(!sc_read_view_is_active(store.store))
        try store.begin("s", "g")  // The store frees what it keeps.
        store.set("s", "g", "c", "D")
    }

    @Test("any changes between any steps", arguments: 0..<20)
    func random(_ round: Int) throws {
        var random = SeededGenerator(seed: randomSeed() &+ UInt64(round))
        let store = try Store()
        let ids = (0..<Int.random(in: 1...300, using: &random)).map { "i\($0)" }
        for id in ids.shuffled(using: &random) { store.set("s", "g", id, id) }
        var number = 0
        for _ in 0..<10 {
            if store.group("s", "g") == nil { store.set("s", "g", "i0", "only") }
            let expected = store.values("s", "g")
            var reader = Reader()
            try store.begin("s", "g")
            repeat {
                for _ in 0..<Int.random(in: 0...20, using: &random) {
                    let id = ids.randomElement(using: &random) ?? "i0"
                    // Another group of the same store, now and then.
                    let group = Int.random(in: 0..<8, using: &random) == 0 ? "h" : "g"
                    number += 1
                    if Int.random(in: 0..<3, using: &random) == 0 {
                        store.delete("s", group, id)
                    } else {
                        store.set("s", group, id, "\(id)-\(number)")
                    }
                }
            } while store.step(&reader, Int.random(in: 1...30, using: &random))
            sc_read_view_end(store.store)
            #expect(reader.values == expected)
        }
    }
}
