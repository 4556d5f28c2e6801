internal import Glibc
internal import StreamCore

/// Random UUIDs, version 4 (RFC 9562 section 5.4), as text.
enum UUIDText {
    /// Randomness is fetched by the block: a system call for each UUID would cost as much as the call that it names.
    private static let block = Guarded(RandomBlock())

    @Sendable static func random() -> String {
        let (high, low) = block.withLock { $0.take() }
        return text(high: high, low: low)
    }

    static func text(high: UInt64, low: UInt64) -> String {
        let high = high & ~0xf000 | 0x4000
        let low = low & ~(0b11 << 62) | 0b10 << 62
        return unsafe String(unsafeUninitializedCapacity: 36) { out in
            var at = 0
            for position in 0..<32 {
                if position == 8 || position == 12 || position == 16 || position == 20 {
                    unsafe out[at] = UInt8(ascii: "-")
                    at += 1
                }
                let word = position < 16 ? high : low
                let digit = UInt8(truncatingIfNeeded: word >> UInt64(60 - 4 * (position & 15)) & 15)
                unsafe out[at] =
                    digit < 10 ? UInt8(ascii: "0") + digit : UInt8(ascii: "a") + digit - 10
                at += 1
            }
            return at
        }
    }
}

/// Bytes of the kernel's generator, each given out once and wiped.
private struct RandomBlock: Sendable {
    private static let count = 512  // 4 KiB.
    private var words = [UInt64](repeating: 0, count: Self.count)
    private var next = Self.count

    mutating func take() -> (UInt64, UInt64) {
        if next + 2 > Self.count { refill() }
        defer {
            words[next] = 0
            words[next + 1] = 0
            next += 2
        }
        return (words[next], words[next + 1])
    }

    private mutating func refill() {
        // The call gives no more than 256 bytes.
        var isFilled = true
        unsafe words.withUnsafeMutableBytes { bytes in
            guard let start = bytes.baseAddress else { return }
            for offset in stride(from: 0, to: bytes.count, by: 256) {
                isFilled = unsafe getentropy(start + offset, 256) == 0 && isFilled
            }
        }
        precondition(isFilled, "the kernel has no randomness: no id would be safe")
        next = 0
    }
}
