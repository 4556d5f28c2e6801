import CStreamBase
import Testing

@Suite("Byte views")
struct ByteViewTests {
    private func equal(_ a: [UInt8], _ b: [UInt8]) -> Bool {
        a.withUnsafeBufferPointer { a in
            b.withUnsafeBufferPointer { b in
                sc_bytes_equal(
                    sc_bytes(data: a.baseAddress, size: a.count),
                    sc_bytes(data: b.baseAddress, size: b.count))
            }
        }
    }

    private func hash(_ bytes: [UInt8], _ seed: UInt64 = 7) -> UInt64 {
        bytes.withUnsafeBufferPointer {
            sc_hash(sc_bytes(data: $0.baseAddress, size: $0.count), seed)
        }
    }

    /// Loads of 4 and 8 bytes that overlap take the place of a loop: every length around them, and a
    /// difference at every place.
    @Test("equal means every byte", arguments: 0...40)
    func equality(size: Int) {
        let bytes = (0..<size).map { UInt8($0 &* 37 & 0xff) }
        #expect(equal(bytes, bytes))
        #expect(!equal(bytes, bytes + [0]))
        for place in 0..<size {
            var other = bytes
            other[place] ^= 0x80
            #expect(!equal(bytes, other), "place \(place)")
        }
    }

    @Test("each byte, the size and the seed are in the hash", arguments: 0...40)
    func hashing(size: Int) {
        let bytes = (0..<size).map { UInt8($0 &* 37 & 0xff) }
        var seen: Set = [hash(bytes), hash(bytes, 8), hash(bytes + [0])]
        #expect(seen.count == 3)
        for place in 0..<size {
            var other = bytes
            other[place] ^= 1
            #expect(seen.insert(hash(other)).inserted, "place \(place)")
        }
    }
}
