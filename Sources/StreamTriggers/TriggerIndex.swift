import StreamModel

/// Which triggers may match events of a stream, each list in the order of the triggers. Those that name a
/// group or an item are found by it: an event looks at none that names another.
struct TriggerIndex: Sendable {
    /// Of one stream. A nil key is any.
    private struct Lists: Sendable {
        var any = PlacedIDs()
        var byGroup: [Name: PlacedIDs] = [:]
        var byItem: [Name: PlacedIDs] = [:]
        var byBoth: [Both: PlacedIDs] = [:]
        var count = 0
    }

    private struct Both: Hashable, Sendable {
        var group: Name
        var item: Name
    }

    /// What a trigger listens to inside a stream; empty names count as none.
    struct Part: Sendable {
        var group: Name?
        var item: Name?

        init(group: String? = nil, item: String? = nil) {
            self.group = group.flatMap { $0.isEmpty ? nil : Name($0) }
            self.item = item.flatMap { $0.isEmpty ? nil : Name($0) }
        }
    }

    private var streams: [Name: Lists] = [:]
    private var all = PlacedIDs()

    func holds(_ stream: WatchedStream) -> Bool {
        switch stream {
        case .all: !all.isEmpty
        case .stream(let name): streams[name] != nil
        }
    }

    /// Those of the stream, whatever they name in it, and those of all streams.
    func ids(of stream: Name) -> [Name] {
        merged([streams[stream]?.any, all])
    }

    /// Those that match an event of `group` and `item` (nil: of no item) in the stream.
    func ids(of stream: Name, group: String, item: String?) -> [Name] {
        guard let lists = streams[stream] else { return [] }
        var found: [PlacedIDs?] = [lists.any]
        if !lists.byGroup.isEmpty { found.append(lists.byGroup[Name(group)]) }
        if let item = item.map({ Name($0) }) {
            if !lists.byItem.isEmpty { found.append(lists.byItem[item]) }
            if !lists.byBoth.isEmpty {
                found.append(lists.byBoth[Both(group: Name(group), item: item)])
            }
        }
        return merged(found)
    }

    private func merged(_ lists: [PlacedIDs?]) -> [Name] {
        let lists = lists.compactMap(\.self).filter { !$0.isEmpty }
        guard lists.count > 1 else { return lists.first?.ids ?? [] }
        return lists.flatMap(\.placed).sorted { $0.place < $1.place }.map(\.id)
    }

    /// - Returns: whether nothing listened to the stream.
    mutating func insert(_ id: Name, _ stream: WatchedStream, _ part: Part, place: UInt64) -> Bool {
        let wasEmpty = !holds(stream)
        change(stream, part, by: 1) { $0.insert(id, place: place) }
        return wasEmpty
    }

    /// - Returns: whether nothing listens to the stream now.
    mutating func remove(_ id: Name, _ stream: WatchedStream, _ part: Part, place: UInt64) -> Bool {
        change(stream, part, by: -1) { $0.remove(place: place) }
        return !holds(stream)
    }

    private mutating func change(
        _ stream: WatchedStream, _ part: Part, by count: Int, _ body: (inout PlacedIDs) -> Void
    ) {
        guard case .stream(let name) = stream else { return body(&all) }
        streams[name, default: Lists()].count += count
        switch (part.group, part.item) {
        case (nil, nil): body(&streams[name, default: Lists()].any)
        case (let group?, nil):
            Self.change(&streams[name, default: Lists()].byGroup, group, body)
        case (nil, let item?): Self.change(&streams[name, default: Lists()].byItem, item, body)
        case (let group?, let item?):
            let both = Both(group: group, item: item)
            Self.change(&streams[name, default: Lists()].byBoth, both, body)
        }
        if streams[name]?.count == 0 { streams[name] = nil }
    }

    private static func change<Key>(
        _ lists: inout [Key: PlacedIDs], _ key: Key, _ body: (inout PlacedIDs) -> Void
    ) {
        body(&lists[key, default: PlacedIDs()])
        if lists[key]?.isEmpty == true { lists[key] = nil }
    }
}

/// Ids of triggers in their order. One comes out in O(log n): its place stays behind, empty, until half of
/// them are.
struct PlacedIDs: Sendable {
    struct Placed: Sendable {
        var id: Name
        var place: UInt64
    }

    private var entries: [(place: UInt64, id: Name?)] = []
    private(set) var count = 0

    var isEmpty: Bool { count == 0 }
    var ids: [Name] { entries.compactMap(\.id) }
    var placed: [Placed] {
        entries.compactMap { entry in entry.id.map { Placed(id: $0, place: entry.place) } }
    }

    mutating func insert(_ id: Name, place: UInt64) {
        count += 1
        // As a rule it comes last: only a replacement keeps an older place.
        guard let last = entries.last, last.place >= place else {
            return entries.append((place, id))
        }
        let index = firstIndex(from: place)
        if entries[index].place == place {
            entries[index].id = id
        } else {
            entries.insert((place, id), at: index)
        }
    }

    mutating func remove(place: UInt64) {
        let index = firstIndex(from: place)
        guard index < entries.count, entries[index].place == place, entries[index].id != nil
        else { return }
        entries[index].id = nil
        count -= 1
        if entries.count > 2 * count { entries.removeAll { $0.id == nil } }
    }

    /// The first entry at `place` or behind it.
    private func firstIndex(from place: UInt64) -> Int {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].place < place { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
