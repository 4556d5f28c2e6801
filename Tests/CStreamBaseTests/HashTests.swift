import CStreamBase
import SeededRandom
import Testing

@Suite("Hash")
struct HashTests {
    private func hash(_ bytes: [UInt8], seed: UInt64 = 0, offset: Int = 0) -> UInt64 {
        withBytes(bytes, offset: offset) { sc_hash($0, seed) }
    }

    @Test("is the same for the same bytes and seed, at any address")
    func stable() {
        for size in 0...70 {
            let bytes = (0..<size).map { UInt8($0) }
            let want = hash(bytes, seed: 42)
            for offset in 0..<16 { #expect(hash(bytes, seed: 42, offset: offset) == want) }
        }
    }

    @Test("differs with the seed, the size and every bit") func differs() {
        var seen: Set<UInt64> = []
        var count = 0
        for size in 0...64 {
            let zeros = [UInt8](repeating: 0, count: size)
            // Zeros of every size: no padding makes two of them the same.
            for seed in [0, 1, UInt64.max] {
                seen.insert(hash(zeros, seed: seed))
                count += 1
            }
            for bit in 0..<size * 8 {
                var bytes = zeros
                bytes[bit / 8] = 1 << UInt8(bit % 8)
                seen.insert(hash(bytes))
                count += 1
            }
        }
        #expect(seen.count == count)
    }

    /// A table takes the low bits, a shard may take others: each of them changes with half of the inputs.
    @Test("mixes one flipped bit into all of its own", arguments: [1, 8, 9, 16, 17, 33])
    func avalanche(size: Int) {
        var generator = SeededGenerator(seed: randomSeed())
        let rounds = 2000
        var flips = [Int](repeating: 0, count: 64)
        for _ in 0..<rounds {
            let bytes = (0..<size).map { _ in UInt8.random(in: 0...255, using: &generator) }
            var other = bytes
            other[Int.random(in: 0..<size, using: &generator)] ^=
                1 << UInt8.random(in: 0...7, using: &generator)
            let difference = hash(bytes, seed: 7) ^ hash(other, seed: 7)
            for bit in 0..<64 where difference >> UInt64(bit) & 1 == 1 { flips[bit] += 1 }
        }
        // Ten standard deviations around one half.
        let slack = 10 * Int(Double(rounds).squareRoot() / 2)
        for bit in 0..<64 {
            #expect(abs(flips[bit] - rounds / 2) < slack, "bit \(bit): \(flips[bit])")
        }
    }

    @Test("spreads names that differ in a number over buckets") func spread() {
        var buckets = [Int](repeating: 0, count: 256)
        for i in 0..<25_600 { buckets[Int(hash(Array("room-\(i)".utf8), seed: 3) & 255)] += 1 }
        // 100 each, give or take six standard deviations.
        #expect(buckets.allSatisfy { (40...160).contains($0) })
    }
}
