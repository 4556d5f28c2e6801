import CStreamStore
import Foundation
import Testing

/// A store whose names and values are Swift strings.
final class Store {
    let store: OpaquePointer
    private let seed: UInt64

    init(seed: UInt64 = 1) throws {
        store = try #require(sc_store_create(seed))
        self.seed = seed
    }

    deinit { sc_store_destroy(store) }

    struct Change: Equatable {
        var kind: sc_change_kind
        var position: UInt64
        var timestamp: UInt64
        var old: String?
    }

    func withName<R>(_ stream: String, _ group: String, _ body: (UnsafePointer<sc_group_name>) -> R)
        -> R
    {
        withBytes(stream) { stream in
            withBytes(group) { group in
                var name = sc_group_name(
                    stream: stream, group: group, hash: sc_store_hash(stream, group, seed))
                return body(&name)
            }
        }
    }

    @discardableResult
    func set(_ stream: String, _ group: String, _ id: String, _ value: String, at now: UInt64 = 0)
        -> Change
    {
        var change = sc_change()
        let rc = withName(stream, group) { name in
            withBytes(id) { sc_store_set(store, name, $0, blob(value), now, &change) }
        }
        #expect(rc == 0)
        return taken(change)
    }

    @discardableResult
    func delete(_ stream: String, _ group: String, _ id: String, at now: UInt64 = 0) -> Change {
        var change = sc_change()
        let rc = withName(stream, group) { name in
            withBytes(id) { sc_store_delete(store, name, $0, now, &change) }
        }
        #expect(rc == 0)
        return taken(change)
    }

    private func taken(_ change: sc_change) -> Change {
        defer { sc_blob_release(change.old_value) }
        return Change(
            kind: change.kind, position: change.position, timestamp: change.timestamp_ms,
            old: change.old_value.map(text))
    }

    func get(_ stream: String, _ group: String, _ id: String) -> String? {
        withName(stream, group) { name in withBytes(id) { sc_store_get(store, name, $0).map(text) }
        }
    }

    func event(_ stream: String, _ group: String, _ id: String?, at now: UInt64) -> UInt64 {
        withName(stream, group) { name in
            guard let id else { return sc_store_stamp_event(store, name, nil, now) }
            return withBytes(id) { id in
                var id = id
                return sc_store_stamp_event(store, name, &id, now)
            }
        }
    }

    func itemSync(_ stream: String, _ group: String, _ id: String, at now: UInt64) -> UInt64 {
        withName(stream, group) { name in
            withBytes(id) { sc_store_stamp_item_sync(store, name, $0, now) }
        }
    }

    func groupSync(_ stream: String, _ group: String, at now: UInt64) -> UInt64 {
        withName(stream, group) { sc_store_stamp_group_sync(store, $0, now) }
    }

    func group(_ stream: String, _ group: String) -> OpaquePointer? {
        withName(stream, group) { sc_store_group_find(store, $0) }
    }

    /// The values of a group in their order; nil when there is no such group.
    func values(_ stream: String, _ group: String) -> [String]? {
        guard let group = self.group(stream, group) else { return nil }
        var values: [String] = []
        withUnsafeMutablePointer(to: &values) {
            sc_group_for_each(
                group,
                { value, context in
                    context.assumingMemoryBound(to: [String].self).pointee.append(text(value))
                }, $0)
        }
        #expect(values.count == sc_group_item_count(group))
        #expect(values.reduce(0) { $0 + $1.utf8.count } == sc_group_value_bytes(group))
        return values
    }

    /// The groups of a stream, or of all, as `[stream, group]`, sorted.
    func groups(of stream: String? = nil) -> [[String]] {
        var names: [[String]] = []
        withUnsafeMutablePointer(to: &names) { names in
            func visit(_ filter: UnsafePointer<sc_bytes>?) {
                sc_store_for_each_group(
                    store, filter,
                    { stream, group, context in
                        context.assumingMemoryBound(to: [[String]].self).pointee.append([
                            text(stream), text(group),
                        ])
                    }, names)
            }
            guard let stream else { return visit(nil) }
            withBytes(stream) { bytes in
                var bytes = bytes
                visit(&bytes)
            }
        }
        return names.sorted { $0.lexicographicallyPrecedes($1) }
    }

    var counters: [UInt64] {
        let counters = sc_store_counters(store)
        return [counters.streams, counters.groups, counters.items, counters.value_bytes]
    }

    var position: UInt64 { sc_store_position(store) }
}

/// Calls `body` with the bytes of `text` in memory of exactly their size.
func withBytes<R>(_ text: String, _ body: (sc_bytes) -> R) -> R {
    let bytes = Array(text.utf8)
    let memory = UnsafeMutableBufferPointer<UInt8>.allocate(capacity: bytes.count)
    defer { memory.deallocate() }
    _ = memory.initialize(from: bytes)
    return body(sc_bytes(data: memory.baseAddress, size: bytes.count))
}

func blob(_ text: String) -> UnsafeMutablePointer<sc_blob> {
    guard let blob = sc_blob_create(text.utf8.count) else { preconditionFailure("no memory") }
    let data = UnsafeMutablePointer(mutating: sc_blob_bytes(blob).data)
    for (i, byte) in text.utf8.enumerated() { data?[i] = byte }
    return blob
}

func text(_ bytes: sc_bytes) -> String {
    String(decoding: UnsafeBufferPointer(start: bytes.data, count: bytes.size), as: UTF8.self)
}

func text(_ blob: UnsafeMutablePointer<sc_blob>) -> String { text(sc_blob_bytes(blob)) }
