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

/// SplitMix64: the same numbers from the same seed, everywhere.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// A new seed, printed so that a failure can be run again: set SEED to it.
func randomSeed(_ test: String = #function) -> UInt64 {
    let fixed = ProcessInfo.processInfo.environment["SEED"].flatMap { UInt64($0) }
    let seed = fixed ?? UInt64.random(in: .min ... .max)
    print("\(test): SEED=\(seed)")
    return seed
}
