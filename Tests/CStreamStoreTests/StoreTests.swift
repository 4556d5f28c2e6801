import CStreamStore
import Testing

@Suite("Store")
struct StoreTests {
    private let store: Store
    init() throws { store = try Store() }

    @Test("says of each write what it did, and gives back the old value") func changes() {
        #expect(
            store.set("s", "g", "i", "1", at: 10)
                == .init(kind: SC_CHANGE_CREATE, position: 1, timestamp: 10))
        #expect(
            store.set("s", "g", "i", "22", at: 20)
                == .init(kind: SC_CHANGE_UPDATE, position: 2, timestamp: 20, old: "1"))
        #expect(store.get("s", "g", "i") == "22")
        #expect(
            store.delete("s", "g", "i", at: 30)
                == .init(kind: SC_CHANGE_DELETE, position: 3, timestamp: 30, old: "22"))
        #expect(store.get("s", "g", "i") == nil)
        #expect(
            store.delete("s", "g", "i", at: 40)
                == .init(kind: SC_CHANGE_NONE, position: 3, timestamp: 0))
        #expect(store.position == 3)
    }

    @Test("has nothing at first, and says so") func empty() {
        #expect(store.get("s", "g", "i") == nil)
        #expect(store.values("s", "g") == nil)
        #expect(store.groups().isEmpty && store.groups(of: "s").isEmpty)
        #expect(store.counters == [0, 0, 0, 0])
        #expect(store.position == 0)
        #expect(store.delete("s", "g", "i").kind == SC_CHANGE_NONE)
    }

    @Test("keeps the items of a group in the order in which they came") func order() {
        for i in 0..<100 { store.set("s", "g", "\(i * 7919 % 100)", "\(i)") }
        #expect(store.values("s", "g") == (0..<100).map { "\($0)" })
        // A new value does not move an item; one that was away comes back at the end.
        store.set("s", "g", "0", "new")
        #expect(store.values("s", "g")?.first == "new")
        store.delete("s", "g", "0")
        #expect(store.values("s", "g")?.first == "1")
        store.set("s", "g", "0", "back")
        #expect(store.values("s", "g")?.last == "back")
        #expect(store.values("s", "g")?.count == 100)
    }

    @Test("takes an item out of the front, the middle and the end of its group") func unlinking() {
        for id in ["a", "b", "c", "d", "e"] { store.set("s", "g", id, id) }
        for (id, left) in [("c", "abde"), ("a", "bde"), ("e", "bd"), ("b", "d")] {
            store.delete("s", "g", id)
            #expect(store.values("s", "g")?.joined() == left)
        }
        store.delete("s", "g", "d")
        #expect(store.values("s", "g") == nil)
    }

    @Test("forgets a group with its last item, and a stream with its last group") func vanishing() {
        store.set("s", "g", "i", "1")
        store.set("s", "h", "i", "1")
        store.set("t", "g", "i", "1")
        #expect(store.groups() == [["s", "g"], ["s", "h"], ["t", "g"]])
        #expect(store.groups(of: "s") == [["s", "g"], ["s", "h"]])
        store.delete("s", "g", "i")
        #expect(store.groups(of: "s") == [["s", "h"]])
        store.delete("s", "h", "i")
        #expect(store.groups() == [["t", "g"]])
        #expect(store.groups(of: "s").isEmpty)
        #expect(store.counters == [1, 1, 1, 1])
        store.delete("t", "g", "i")
        #expect(store.counters == [0, 0, 0, 0])
    }

    @Test("never takes one name for another by where it ends")
    func names() {
        let names = [
            "", "a", "ab", "b", "a:b", ":", "a\0", "\0", String(repeating: "x", count: 256),
        ]
        for (i, stream) in names.enumerated() {
            for (j, group) in names.enumerated() {
                for (k, id) in names.enumerated() { store.set(stream, group, id, "\(i),\(j),\(k)") }
            }
        }
        for (i, stream) in names.enumerated() {
            for (j, group) in names.enumerated() {
                for (k, id) in names.enumerated() {
                    #expect(store.get(stream, group, id) == "\(i),\(j),\(k)")
                }
            }
        }
        #expect(store.counters[0...2] == [9, 81, 729])
        #expect(store.groups().count == 81)
    }

    @Test("counts streams, groups, items and the bytes of values") func counters() {
        store.set("s", "g", "i", "12345")
        store.set("s", "g", "j", "")
        store.set("s", "h", "i", "1")
        store.set("t", "g", "i", "123")
        #expect(store.counters == [2, 3, 4, 9])
        store.set("s", "g", "i", "1")
        #expect(store.counters == [2, 3, 4, 5])
        store.delete("s", "g", "j")
        #expect(store.counters == [2, 3, 3, 5])
        store.delete("s", "g", "nothing")
        #expect(store.counters == [2, 3, 3, 5])
    }

    /// The last items of many slabs are moved at once; their memory takes longer.
    @Test("compacts a bit in each turn, however much memory that sets free") func compacting()
        throws
    {
        let store = try Store()
        for number in 0..<20_000 {
            let value = try #require(sc_store_value_create(store.store, 1000))
            let data = try #require(UnsafeMutablePointer(mutating: sc_blob_bytes(value).data))
            data.initialize(repeating: UInt8(ascii: "a") + UInt8(number % 26), count: 1000)
            var change = sc_change()
            let rc = store.withName("s", "g") { name in
                withBytes("\(number)") { sc_store_set(store.store, name, $0, value, 0, &change) }
            }
            #expect(rc == 0)
        }
        for number in 0..<20_000 where number % 64 != 0 { store.delete("s", "g", "\(number)") }
        func heap() -> sc_heap_counters { sc_store_counters(store.store).heap }
        #expect(heap().idle > 16 << 20)
        var most: UInt64 = 0
        var more = true
        while more {
            let returned = heap().returned
            more = sc_store_compact(store.store)
            most = max(most, heap().returned - returned)
        }
        // Of slabs and their regions, and of what was kept, in one turn.
        #expect(most >= 1 << 20 && most <= 3 << 20)
        #expect(heap().idle < 1 << 20)
        for number in stride(from: 0, to: 20_000, by: 64) {
            let letter = Character(UnicodeScalar(UInt8(ascii: "a") + UInt8(number % 26)))
            #expect(store.get("s", "g", "\(number)") == String(repeating: letter, count: 1000))
        }
    }

    @Test("has one hash for a name, which its parts and the seed change") func hashes() {
        func hash(_ stream: String, _ group: String, _ seed: UInt64) -> UInt64 {
            withBytes(stream) { stream in withBytes(group) { sc_store_hash(stream, $0, seed) } }
        }
        #expect(hash("s", "g", 1) == hash("s", "g", 1))
        let all = [
            hash("s", "g", 1), hash("s", "g", 2), hash("g", "s", 1), hash("sg", "", 1),
            hash("", "sg", 1),
            hash("", "", 1),
        ]
        #expect(Set(all).count == all.count)
    }

    @Test("takes the reference to a value, and gives it back with the old value") func references()
    {
        let value = blob("shared")
        sc_blob_retain(value)
        var change = sc_change()
        let rc = store.withName("s", "g") { name in
            withBytes("i") { sc_store_set(store.store, name, $0, value, 0, &change) }
        }
        #expect(rc == 0 && change.old_value == nil)
        let deleted = store.withName("s", "g") { name in
            withBytes("i") { sc_store_delete(store.store, name, $0, 0, &change) }
        }
        #expect(deleted == 0)
        #expect(change.old_value == value)
        sc_blob_release(change.old_value)
        #expect(text(value) == "shared")
        sc_blob_release(value)
    }

    // MARK: The cache

    private func cache(_ text: String) {
        guard let group = store.group("s", "g") else { return #expect(Bool(false), "no group") }
        let blob = blob(text)
        sc_group_cache_set(group, blob)
        sc_blob_release(blob)
    }
    private var cached: String? {
        store.group("s", "g").flatMap { sc_group_cache($0) }.map { text($0) }
    }

    @Test("keeps a group's cache until a change or a stamp in the group") func cacheDropped() {
        store.set("s", "g", "i", "1")
        #expect(cached == nil)
        let drops: [(String, () -> Void)] = [
            ("set", { store.set("s", "g", "i", "2") }),
            ("create", { store.set("s", "g", "j", "2") }),
            ("delete", { store.delete("s", "g", "j") }),
            ("event of an item", { _ = store.event("s", "g", "i", at: 0) }),
            ("event of no item that is", { _ = store.event("s", "g", "none", at: 0) }),
            ("sync of an item", { _ = store.itemSync("s", "g", "i", at: 0) }),
        ]
        for (what, action) in drops {
            cache("before")
            cache("c")
            #expect(cached == "c")
            action()
            #expect(cached == nil, "\(what)")
        }
    }

    @Test("keeps a group's cache over what concerns it not") func cacheKept() {
        store.set("s", "g", "i", "1")
        cache("c")
        store.set("s", "h", "i", "1")
        store.set("t", "g", "i", "1")
        store.delete("s", "h", "i")
        store.delete("s", "g", "nothing")
        _ = store.event("s", "h", "i", at: 5)
        _ = store.event("s", "g", nil, at: 0)
        _ = store.get("s", "g", "i")
        _ = store.values("s", "g")
        #expect(cached == "c")
        // One that goes with its group, or with the store, is freed: a sanitizer looks.
        store.delete("s", "g", "i")
        store.set("s", "g", "i", "1")
        #expect(cached == nil)
        cache("last")
    }
}
