import CStreamStore
import Testing

@Suite("CRC32C")
struct ChecksumTests {
    /// RFC 3720 appendix B.4, and the check value of every catalogue.
    @Test("gives the known sums") func known() {
        #expect(sc_crc32c(0, Array("123456789".utf8), 9) == 0xe306_9283)
        #expect(sc_crc32c(0, [UInt8](repeating: 0, count: 32), 32) == 0x8a91_36aa)
        #expect(sc_crc32c(0, [UInt8](repeating: 0xff, count: 32), 32) == 0x62a8_ab43)
        let counting: [UInt8] = Array(0..<32)
        #expect(sc_crc32c(0, counting, 32) == 0x46dd_794e)
        #expect(sc_crc32c(7, nil, 0) == 7)
    }

    @Test("is the same with and without hardware, at every alignment and length")
    func twins() {
        let bytes = (0..<160).map { UInt8(truncatingIfNeeded: $0 * 151 + 7) }
        bytes.withUnsafeBytes { buffer in
            for start in 0..<16 {
                for size in 0...130 {
                    let base = buffer.baseAddress! + start
                    #expect(sc_crc32c(3, base, size) == sc_crc32c_scalar(3, base, size))
                }
            }
        }
    }

    @Test("goes on from a sum") func goesOn() {
        let bytes = Array("a longer text in two parts".utf8)
        let whole = sc_crc32c(0, bytes, bytes.count)
        for split in 0...bytes.count {
            let first = sc_crc32c(0, bytes, split)
            let both = bytes.withUnsafeBytes {
                sc_crc32c(first, $0.baseAddress! + split, bytes.count - split)
            }
            #expect(both == whole)
        }
    }
}
