import CStreamJSON
import Foundation
import Testing

/// Bytes in memory of exactly their size, so that a sanitizer sees every read past either end, at an
/// address that is `offset` beyond a multiple of 64.
final class Text {
    let bytes: sc_bytes
    private let memory: UnsafeMutableRawPointer

    init(_ content: [UInt8], offset: Int = 0) {
        memory = .allocate(byteCount: content.count + offset, alignment: 64)
        let start = memory + offset
        content.withUnsafeBytes {
            UnsafeMutableRawBufferPointer(start: start, count: $0.count).copyMemory(from: $0)
        }
        bytes = sc_bytes(data: start.assumingMemoryBound(to: UInt8.self), size: content.count)
    }

    convenience init(_ string: String) { self.init(Array(string.utf8)) }

    deinit { memory.deallocate() }
}

func array(_ bytes: sc_bytes) -> [UInt8] {
    Array(UnsafeBufferPointer(start: bytes.data, count: bytes.size))
}

func string(_ bytes: sc_bytes) -> String { String(decoding: array(bytes), as: UTF8.self) }

/// A member of an index, with its slices copied out.
struct Member: Equatable {
    var key: String
    var parent: Int
    var value: String
    var kind: sc_json_kind
    var depth: Int
    var compact: Bool
}

extension sc_json_kind: @retroactive Equatable {}

/// The outcome of one scan.
final class Scan {
    let text: Text
    let result: Int32
    let index: UnsafeMutablePointer<sc_json_index>

    init(_ text: Text, depthMax: UInt32 = 127) {
        self.text = text
        index = .allocate(capacity: 1)
        // A scan must not rely on what is in the index before it.
        memset(index, 0xAA, MemoryLayout<sc_json_index>.size)
        result = sc_json_scan(text.bytes, depthMax, index)
    }

    convenience init(_ string: String, depthMax: UInt32 = 127) {
        self.init(Text(string), depthMax: depthMax)
    }

    deinit { index.deallocate() }

    var accepted: Bool { result == 0 }
    var root: sc_json_value { index.pointee.root }

    var members: [Member] {
        withUnsafePointer(to: &index.pointee.members) { tuple in
            tuple.withMemoryRebound(to: sc_json_member.self, capacity: 40) { members in
                (0..<Int(index.pointee.count)).map { i in
                    Member(
                        key: string(members[i].key), parent: Int(members[i].parent),
                        value: string(members[i].value.text),
                        kind: sc_json_kind(UInt32(members[i].value.kind)),
                        depth: Int(members[i].value.depth), compact: members[i].value.compact)
                }
            }
        }
    }

    /// The text of the value of `key`, or nil when there is none.
    func find(_ key: String, parent: Int32 = -1) -> String? {
        var scratch = sc_json_member()
        let key = Text(key)
        return sc_json_index_find(index, parent, key.bytes, &scratch).map {
            string($0.pointee.value.text)
        }
    }
}

func compact(_ value: sc_json_value) -> [UInt8] {
    var out = [UInt8](repeating: 0, count: value.text.size)
    let size = sc_json_compact(value, &out)
    return Array(out[..<size])
}

func vector(_ name: String) throws -> [UInt8] {
    let folder = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
    return Array(try Data(contentsOf: folder.appending(path: "Vectors/\(name)")))
}
