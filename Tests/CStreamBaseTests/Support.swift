import CStreamBase
import Foundation

/// Calls `body` with a view of `bytes` in memory of exactly their size.
func withBytes<R>(_ bytes: [UInt8], offset: Int = 0, _ body: (sc_bytes) throws -> R) rethrows -> R {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes.count + offset, alignment: 16)
    defer { memory.deallocate() }
    let start = (memory + offset).assumingMemoryBound(to: UInt8.self)
    for (i, byte) in bytes.enumerated() { start[i] = byte }
    return try body(sc_bytes(data: start, size: bytes.count))
}

func array(_ bytes: sc_bytes) -> [UInt8] {
    Array(UnsafeBufferPointer(start: bytes.data, count: bytes.size))
}
