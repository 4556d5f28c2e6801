/// Random UUIDs, version 4 (RFC 9562 section 5.4), as text.
enum UUIDText {
    @Sendable static func random() -> String {
        var generator = SystemRandomNumberGenerator()
        return text(high: generator.next(), low: generator.next())
    }

    static func text(high: UInt64, low: UInt64) -> String {
        let high = high & ~0xf000 | 0x4000
        let low = low & ~(0b11 << 62) | 0b10 << 62
        let digits = Array("0123456789abcdef".utf8)
        return String(digits: digits, high, low)
    }
}

extension String {
    fileprivate init(digits: [UInt8], _ high: UInt64, _ low: UInt64) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(36)
        for position in 0..<32 {
            if position == 8 || position == 12 || position == 16 || position == 20 {
                bytes.append(UInt8(ascii: "-"))
            }
            let word = position < 16 ? high : low
            let shift = UInt64(60 - 4 * (position % 16))
            bytes.append(digits[Int(word >> shift & 0xf)])
        }
        self = String(decoding: bytes, as: UTF8.self)
    }
}
