import Foundation

/// SplitMix64: the same numbers from the same seed, everywhere.
package struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    package init(seed: UInt64) { state = seed }

    package mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}

/// A new seed, printed so that a failure can be run again: set SEED to it.
package func randomSeed(_ test: String = #function) -> UInt64 {
    let fixed = ProcessInfo.processInfo.environment["SEED"].flatMap { UInt64($0) }
    let seed = fixed ?? UInt64.random(in: .min ... .max)
    print("\(test): SEED=\(seed)")
    return seed
}
