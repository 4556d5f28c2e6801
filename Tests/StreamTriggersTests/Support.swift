import StreamModel
import StreamTriggers

func text(_ string: String) -> JSONText {
    JSONText(validated: Array(string.utf8))
}

/// A message of the core's.
final class Packet: CallPayload, Hashable, ExpressibleByStringLiteral {
    let text: String

    init(_ text: String) { self.text = text }
    init(stringLiteral text: String) { self.text = text }

    static func == (left: Packet, right: Packet) -> Bool { left.text == right.text }
    func hash(into hasher: inout Hasher) { hasher.combine(text) }

    var data: JSONText { StreamTriggersTests.text(text) }
    var outcome: CallOutcome { .success(data) }
}

func connectionID(_ number: Int) -> ConnectionID { ConnectionID(rawValue: UInt64(number)) }

/// The generator of Steele, Lea and Flood, for random tests that can be repeated.
struct SplitMix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return word ^ (word >> 31)
    }
}

extension TriggerRegistry {
    /// Takes out all triggers of `owner`, in their order.
    mutating func unregisterAll(of owner: ConnectionID) -> [TriggerRegistration] {
        ids(of: owner).compactMap { unregister($0, by: owner) }
    }

    /// Takes out all types that `provider` provides.
    mutating func unregisterAllTypes(of provider: ConnectionID) {
        for id in typeIDs(of: provider) { unregisterType(id, by: provider) }
    }
}
