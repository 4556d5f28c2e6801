import CStreamStore
import Testing

/// Published clients drop a frame of an item whose time stamp did not grow, a `sync` included.
@Suite("Time stamps")
struct TimestampTests {
    private let store: Store
    init() throws { store = try Store() }

    @Test("are the time, when it has moved on") func clock() {
        #expect(store.set("s", "g", "i", "1", at: 1000).timestamp == 1000)
        #expect(store.set("s", "g", "i", "2", at: 1001).timestamp == 1001)
        #expect(store.event("s", "g", "i", at: 5000) == 5000)
        #expect(store.delete("s", "g", "i", at: 6000).timestamp == 6000)
        #expect(store.groupSync("s", "other", at: 7000) == 7000)
        #expect(store.itemSync("s", "other", "i", at: 8000) == 8000)
        #expect(store.event("s", "other", nil, at: 9000) == 9000)
    }

    @Test("grow when the clock stands or goes back", arguments: [1000, 999, 0])
    func standing(now: UInt64) {
        var last = store.set("s", "g", "i", "1", at: 1000).timestamp
        let steps: [() -> UInt64] = [
            { store.set("s", "g", "i", "2", at: now).timestamp },
            { store.event("s", "g", "i", at: now) },
            { store.itemSync("s", "g", "i", at: now) }, { store.groupSync("s", "g", at: now) },
            { store.set("s", "g", "i", "3", at: now).timestamp },
            { store.delete("s", "g", "i", at: now).timestamp },
            { store.itemSync("s", "g", "i", at: now) },
            { store.event("s", "g", "i", at: now) }, { store.groupSync("s", "g", at: now) },
            { store.set("s", "g", "i", "4", at: now).timestamp },
            { store.delete("s", "g", "i", at: now).timestamp },
            { store.set("s", "g", "i", "5", at: now).timestamp },
        ]
        for (i, step) in steps.enumerated() {
            let stamp = step()
            #expect(stamp > last, "step \(i)")
            last = stamp
        }
    }

    @Test("of identical syncs are shared, until something happens") func sharedSyncs() {
        store.set("s", "g", "i", "1", at: 1000)
        let group = store.groupSync("s", "g", at: 1000)
        #expect(store.groupSync("s", "g", at: 5000) == group)
        let item = store.itemSync("s", "g", "i", at: 1000)
        #expect(item > group)
        #expect(store.itemSync("s", "g", "i", at: 5000) == item)
        let none = store.itemSync("s", "g", "none", at: 1000)
        #expect(store.itemSync("s", "g", "none", at: 1000) == none)
        // The group's sync covers the item, so it comes after the item's.
        #expect(store.groupSync("s", "g", at: 1000) > item)
        #expect(store.set("s", "g", "i", "2", at: 1000).timestamp > item)
    }

    @Test(
        "of a group's sync are above its changes, also after the sync of an item that is not there")
    func groupSyncAfterMissingItem() {
        let change = store.set("s", "g", "i", "1", at: 1000).timestamp
        _ = store.itemSync("s", "g", "none", at: 1000)
        #expect(store.groupSync("s", "g", at: 1000) > change)
    }

    @Test("of the sync of a group that has gone are above its end, whatever other groups were told")
    func syncAfterEnd() {
        store.set("s", "g", "i", "1", at: 998)
        let other = store.groupSync("s", "other", at: 1000)
        let end = store.delete("s", "g", "i", at: 1000).timestamp
        #expect(end == other)
        #expect(store.itemSync("s", "g", "i", at: 1000) > end)
    }

    @Test("of custom events without an item follow the group and hold nothing up")
    func groupEvents() {
        let stamp = store.set("s", "g", "i", "1", at: 1000).timestamp
        #expect(store.event("s", "g", nil, at: 10) == stamp)
        #expect(store.event("s", "g", nil, at: 2000) == 2000)
        #expect(store.set("s", "g", "i", "2", at: 1500).timestamp == 1500)
    }

    @Test("of a sync are not older than a custom event before it, of an item or of none")
    func syncAfterGroupEvent() {
        store.set("s", "g", "i", "1", at: 1000)
        let first = store.groupSync("s", "g", at: 1001)
        #expect(store.groupSync("s", "g", at: 1500) == first)
        let event = store.event("s", "g", nil, at: 2000)
        #expect(event == 2000)
        let second = store.groupSync("s", "g", at: 1500)
        #expect(second > event)
        #expect(store.event("s", "g", nil, at: 1600) == second)
        #expect(store.groupSync("s", "g", at: 1600) == second)
    }

    @Test("grow over the end and the new beginning of a group") func groupsComeAgain() {
        let last = store.delete("s", "g", "i").timestamp
        #expect(last == 0)
        store.set("s", "g", "i", "1", at: 5000)
        let end = store.delete("s", "g", "i", at: 5000).timestamp
        #expect(store.set("s", "g", "other", "1", at: 100).timestamp > end)
        store.delete("s", "g", "other", at: 100)
        let sync = store.groupSync("s", "g", at: 100)
        #expect(sync > end)
        #expect(store.set("s", "g", "i", "2", at: 100).timestamp > sync)
    }
}
