import CStreamStore
import SeededRandom
import Testing

/// What a store should hold, and what every client of it may have seen, the naive way.
private struct StoreModel {
    struct Group: Hashable {
        var stream: String
        var name: String
    }
    struct Item: Hashable {
        var group: Group
        var id: String
    }
    struct Stamp {
        var value: UInt64
        var isSync: Bool
    }

    var values: [Group: [(id: String, value: String)]] = [:]
    var position: UInt64 = 0
    /// The last frame of each item that ever was, and of the syncs of each group.
    private var frames: [Item: Stamp] = [:]
    private var groupFrames: [Group: Stamp] = [:]

    /// Notes a frame of an item. Nothing of it may have been stamped as high before.
    mutating func sent(_ stamp: UInt64, _ item: Item, isSync: Bool = false) {
        check(stamp, after: frames[item], isSync: isSync)
        check(stamp, after: groupFrames[item.group], isSync: isSync)
        frames[item] = Stamp(value: stamp, isSync: isSync)
    }

    /// Notes the sync of a group, which is a frame of each of its items.
    mutating func sentSync(_ stamp: UInt64, of group: Group) {
        check(stamp, after: groupFrames[group], isSync: true)
        for (item, last) in frames where item.group == group {
            check(stamp, after: last, isSync: true)
        }
        groupFrames[group] = Stamp(value: stamp, isSync: true)
    }

    private func check(_ stamp: UInt64, after last: Stamp?, isSync: Bool) {
        guard let last else { return }
        // Identical syncs may share a stamp.
        #expect(stamp > last.value || (stamp == last.value && isSync && last.isSync))
    }

    /// The highest stamp of a group that now is.
    func newest(of group: Group) -> UInt64 {
        frames.filter { $0.key.group == group }.map(\.value.value).max() ?? 0
    }

    mutating func set(_ item: Item, _ value: String) -> String? {
        position += 1
        guard let at = values[item.group]?.firstIndex(where: { $0.id == item.id }) else {
            values[item.group, default: []].append((item.id, value))
            return nil
        }
        defer { values[item.group]?[at].value = value }
        return values[item.group]?[at].value
    }

    mutating func delete(_ item: Item) -> String? {
        guard let at = values[item.group]?.firstIndex(where: { $0.id == item.id }) else {
            return nil
        }
        position += 1
        let old = values[item.group]?.remove(at: at).value
        if values[item.group]?.isEmpty == true { values[item.group] = nil }
        return old
    }

    var counters: [UInt64] {
        let all = values.values.joined()
        return [
            UInt64(Set(values.keys.map(\.stream)).count), UInt64(values.count), UInt64(all.count),
            UInt64(all.reduce(0) { $0 + $1.value.utf8.count }),
        ]
    }
}

@Suite("Random sequences of a store")
struct RandomSequenceTests {
    @Test("do what a naive store does, with stamps that every client takes", arguments: [3, 40])
    func random(ids: Int) throws {
        var generator = SeededGenerator(seed: randomSeed())
        let store = try Store(seed: generator.next())
        var model = StoreModel()
        var now: UInt64 = 1_000_000
        func pick(_ count: Int) -> Int { Int.random(in: 0..<count, using: &generator) }

        for step in 0..<20_000 {
            // The clock mostly stands, often moves on, and sometimes goes back.
            switch pick(20) {
            case 0..<5: now += UInt64(pick(3))
            case 5: now -= UInt64(pick(50))
            case 6: now += UInt64(pick(100))
            default: break
            }
            let group = StoreModel.Group(stream: "s\(pick(2))", name: "g\(pick(3))")
            let item = StoreModel.Item(group: group, id: "i\(pick(ids))")
            switch pick(16) {
            case 0..<5:
                let value = String(repeating: "v", count: pick(5)) + "\(step)"
                let change = store.set(group.stream, group.name, item.id, value, at: now)
                let old = model.set(item, value)
                #expect(change.kind == (old == nil ? SC_CHANGE_CREATE : SC_CHANGE_UPDATE))
                #expect(change.old == old && change.position == model.position)
                #expect(change.timestamp >= now)
                model.sent(change.timestamp, item)
            case 5..<10:
                let change = store.delete(group.stream, group.name, item.id, at: now)
                let old = model.delete(item)
                #expect(change.kind == (old == nil ? SC_CHANGE_NONE : SC_CHANGE_DELETE))
                #expect(change.old == old && change.position == model.position)
                if old != nil { model.sent(change.timestamp, item) }
            case 10:
                model.sent(store.event(group.stream, group.name, item.id, at: now), item)
            case 11:
                let stamp = store.event(group.stream, group.name, nil, at: now)
                #expect(stamp >= now && stamp >= model.newest(of: group))
            case 12, 13:
                model.sent(
                    store.itemSync(group.stream, group.name, item.id, at: now), item, isSync: true)
            case 14:
                model.sentSync(store.groupSync(group.stream, group.name, at: now), of: group)
            default:
                #expect(store.values(group.stream, group.name) == model.values[group]?.map(\.value))
                let value = model.values[group]?.first { $0.id == item.id }?.value
                #expect(store.get(group.stream, group.name, item.id) == value)
            }
            if step % 500 == 0 {
                #expect(store.counters == model.counters)
                #expect(store.position == model.position)
                let groups = model.values.keys.map { [$0.stream, $0.name] }
                #expect(store.groups() == groups.sorted { $0.lexicographicallyPrecedes($1) })
            }
        }
    }

    @Test("of many groups and items keep each in its place") func many() throws {
        let store = try Store()
        for i in 0..<30_000 { store.set("s\(i % 7)", "g\(i % 1000)", "i\(i)", "\(i)") }
        #expect(store.counters[0...2] == [7, 7000, 30_000])
        for i in stride(from: 0, to: 30_000, by: 2) {
            store.delete("s\(i % 7)", "g\(i % 1000)", "i\(i)")
        }
        for i in 0..<30_000 {
            #expect(store.get("s\(i % 7)", "g\(i % 1000)", "i\(i)") == (i % 2 == 0 ? nil : "\(i)"))
        }
        #expect(store.counters[0...2] == [7, 3500, 15_000])
    }
}
