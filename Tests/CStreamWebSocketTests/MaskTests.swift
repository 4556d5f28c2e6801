import CStreamWebSocket
import Glibc
import Testing

@Suite("Masking")
struct MaskTests {
    private static let lengthMax = 130
    private static let alignmentMax = 32

    /// Every path against the definition: byte i is XORed with byte (phase + i) mod 4 of the mask.
    @Test("is the same at every level, alignment, length and phase", arguments: simdLevels)
    func everyCase(level: SIMDLevel) {
        let mask: [UInt8] = [0x37, 0xfa, 0x21, 0x3d]
        let plain = (0..<Self.lengthMax).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ 1) }
        let size = Self.alignmentMax + Self.lengthMax + 1
        let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 64)
        defer { memory.deallocate() }
        for phase in 0..<4 {
            let masked = plain.indices.map { plain[$0] ^ mask[(phase + $0) % 4] }
            for offset in 0..<Self.alignmentMax {
                for length in 0...Self.lengthMax {
                    memset(memory, 0xee, size)
                    let data = memory + offset
                    plain.withUnsafeBytes {
                        data.copyMemory(from: $0.baseAddress!, byteCount: length)
                    }
                    sc_ws_mask_at(
                        level, data.assumingMemoryBound(to: UInt8.self), length, mask, UInt32(phase)
                    )
                    let same = masked.withUnsafeBytes { memcmp(data, $0.baseAddress!, length) == 0 }
                    let before = offset == 0 || (data - 1).load(as: UInt8.self) == 0xee
                    let after = (data + length).load(as: UInt8.self) == 0xee
                    if !(same && before && after) {
                        Issue.record("phase \(phase), offset \(offset), length \(length)")
                        return
                    }
                }
            }
        }
    }

    @Test("twice with one mask gives the bytes back, and any split gives the same")
    func splits() {
        var generator = SeededGenerator()
        for _ in 0..<200 {
            let plain = (0..<Int.random(in: 0...2_000, using: &generator)).map { _ in
                UInt8.random(in: 0...255, using: &generator)
            }
            let mask = (0..<4).map { _ in UInt8.random(in: 0...255, using: &generator) }
            var whole = plain
            sc_ws_mask(&whole, whole.count, mask, 0)
            let at = Int.random(in: 0...plain.count, using: &generator)
            var front = Array(plain[..<at])
            var back = Array(plain[at...])
            sc_ws_mask(&front, front.count, mask, 0)
            sc_ws_mask(&back, back.count, mask, UInt32(at % 4))
            #expect(front + back == whole, "seed \(generator.seed)")
            sc_ws_mask(&whole, whole.count, mask, 0)
            #expect(whole == plain, "seed \(generator.seed)")
        }
    }

    @Test("runs at the level of this machine, of which the build has at least the scalar one")
    func levels() {
        #expect(simdLevels.first == SC_SIMD_SCALAR)
        #expect(simdLevels.last == sc_simd_level())
        #if arch(x86_64)
            #expect(sc_simd_level().rawValue >= SC_SIMD_SSE2.rawValue)
        #endif
    }
}
