import CStreamProtocol
import Foundation
import Synchronization
import Testing

/// Bytes in memory of exactly their size, so that a sanitizer sees every read past either end. The memory stays until
/// the tests end: what C has been lent may be read after the last use that Swift sees.
struct Text {
    let bytes: sc_bytes

    private static let kept = Mutex<[UInt]>([])

    init(_ content: [UInt8]) {
        let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: content.count)
        memory.update(from: content, count: content.count)
        bytes = sc_bytes(data: memory, size: content.count)
        Self.kept.withLock { $0.append(UInt(bitPattern: memory)) }
    }

    init(_ string: String) { self.init(Array(string.utf8)) }
}

func array(_ bytes: sc_bytes) -> [UInt8] {
    Array(UnsafeBufferPointer(start: bytes.data, count: bytes.size))
}

func string(_ bytes: sc_bytes) -> String { String(decoding: array(bytes), as: UTF8.self) }

/// The same, or nil for a field that is not there.
func stringOrNil(_ bytes: sc_bytes) -> String? { bytes.data == nil ? nil : string(bytes) }

/// A text and what a scan of it has found, which a parser of this target begins with.
final class Scan {
    let text: Text
    let result: Int32
    let index: UnsafeMutablePointer<sc_json_index>

    init(_ content: String) {
        text = Text(content)
        index = .allocate(capacity: 1)
        // A scan must not rely on what is in the index before it.
        memset(index, 0xAA, MemoryLayout<sc_json_index>.size)
        result = sc_json_scan(text.bytes, UInt32(SC_JSON_DEPTH_MAX), index)
    }

    deinit { index.deallocate() }
}

/// The texts of parts, put together.
func joined(_ parts: UnsafePointer<sc_bytes>, _ count: Int) -> String {
    (0..<count).map { string(parts[$0]) }.joined()
}

/// Calls `body` with room for parts, and puts together what it has written.
func parts(_ body: (UnsafeMutablePointer<sc_bytes>) -> Int) -> String {
    let room = UnsafeMutablePointer<sc_bytes>.allocate(capacity: Int(SC_TEXT_PARTS_MAX))
    defer { room.deallocate() }
    return joined(room, body(room))
}

/// What `body` appends to a buffer.
func written(_ body: (UnsafeMutablePointer<sc_buffer>) -> Void) -> String {
    var buffer = sc_buffer()
    defer { sc_buffer_deinit(&buffer) }
    body(&buffer)
    return string(sc_buffer_bytes(&buffer))
}

/// An account with its sums, released at the end.
final class TestAccount {
    let sums: UnsafeMutablePointer<sc_account_sums>
    let account: UnsafeMutablePointer<sc_account>

    init(limit: UInt64 = 1 << 20) throws {
        sums = try #require(sc_account_sums_create())
        account = try #require(sc_account_create(limit, sums))
    }

    deinit {
        sc_account_release(account)
        sc_account_sums_release(sums)
    }

    func bytes(_ place: sc_place) -> UInt64 { sc_account_bytes(account, place) }
}

/// A message of the core, released at the end.
final class Message {
    let handle: OpaquePointer

    /// Takes over the reference that `made` is.
    init(taking made: OpaquePointer?) throws {
        handle = try #require(made)
    }

    /// The same for one that need not be there.
    init?(ifMade made: OpaquePointer?) {
        guard let made else { return nil }
        handle = made
    }

    deinit { sc_message_release(handle) }

    var data: String? { self[SC_FIELD_DATA] }

    /// A field as written, or nil when it is not there.
    subscript(field: sc_message_field) -> String? { stringOrNil(sc_message_field(handle, field)) }
}

/// A JSON text around `count` levels of arrays.
func nested(_ count: Int) -> String {
    String(repeating: "[", count: count) + String(repeating: "]", count: count)
}

/// Whether `text` is JSON with these contents, whatever the order of its keys.
func isJSON(_ text: String) -> Bool {
    (try? JSONSerialization.jsonObject(with: Data(text.utf8), options: .fragmentsAllowed)) != nil
}

/// The C type has a function of the same name beside it, which the macros stumble over.
typealias MessageType = sc_message_type
