import StreamFunctions
import StreamModel
import Testing

private let ann = ConnectionID(rawValue: 1)
private let bob = ConnectionID(rawValue: 2)
private let cleo = ConnectionID(rawValue: 3)
private let f = Name("f")

private func everyone(_: ConnectionID) -> Bool { true }
private func nobody(_: ConnectionID) -> Bool { false }

@Suite("Function registry")
struct FunctionRegistryTests {
    private var registry = FunctionRegistry()

    @discardableResult
    private mutating func register(_ id: String, by owner: ConnectionID) -> ConnectionID? {
        registry.register(FunctionRegistration(id: id), by: owner)
    }

    @Test("an id that nobody registered has no owner") func unknown() {
        #expect(registry.owner(of: f) == nil)
        #expect(registry.function(f) == nil)
    }

    @Test("the last registrant serves, and learns whom it displaced") mutating func lastWins() {
        #expect(register("f", by: ann) == nil)
        #expect(register("f", by: bob) == ann)
        #expect(registry.owner(of: f) == bob)
        #expect(registry.count == 1)
    }

    @Test("registering again replaces what one registered") mutating func again() {
        register("f", by: ann)
        let metadata = JSONText(validated: Array("{}".utf8))
        let second = FunctionRegistration(id: "f", metadata: metadata)
        #expect(registry.register(second, by: ann) == nil)
        #expect(registry.function(f) == second)
        #expect(registry.usage(of: ann) == DirectoryUsage(count: 1, size: 3))
    }

    @Test("registering again moves a buried registrant to the top") mutating func raise() {
        register("f", by: ann)
        register("f", by: bob)
        #expect(register("f", by: ann) == bob)
        registry.unregister(f, by: ann, isAlive: everyone)
        #expect(registry.owner(of: f) == bob)
        registry.unregister(f, by: bob, isAlive: everyone)
        #expect(registry.owner(of: f) == nil)
    }

    @Test("when the top goes, the registrant before it serves again") mutating func fallback() {
        for owner in [ann, bob, cleo] { register("f", by: owner) }
        registry.unregister(f, by: cleo, isAlive: everyone)
        #expect(registry.owner(of: f) == bob)
        registry.unregisterAll(of: bob, isAlive: everyone)
        #expect(registry.owner(of: f) == ann)
        registry.unregisterAll(of: ann, isAlive: everyone)
        #expect(registry.owner(of: f) == nil)
        #expect(registry.count == 0)
    }

    @Test("the fallback is the next that shows life") mutating func livingFallback() {
        for owner in [ann, bob, cleo] { register("f", by: owner) }
        registry.unregister(f, by: cleo) { $0 == ann }
        #expect(registry.owner(of: f) == ann)
        registry.unregister(f, by: ann, isAlive: everyone)
        #expect(registry.owner(of: f) == bob)
    }

    @Test("the next serves when none shows life") mutating func noLivingFallback() {
        for owner in [ann, bob, cleo] { register("f", by: owner) }
        registry.unregister(f, by: cleo, isAlive: nobody)
        #expect(registry.owner(of: f) == bob)
    }

    @Test("a buried registrant takes out its own, and the top stays even when it is silent")
    mutating func buried() {
        for owner in [ann, bob, cleo] { register("f", by: owner) }
        registry.unregister(f, by: bob) { $0 != cleo }
        #expect(registry.owner(of: f) == cleo)
        registry.unregister(f, by: cleo, isAlive: everyone)
        #expect(registry.owner(of: f) == ann)
    }

    @Test("who never registered an id takes out nothing") mutating func notOwner() {
        register("f", by: ann)
        registry.unregister(f, by: bob, isAlive: everyone)
        registry.unregister(Name("g"), by: ann, isAlive: everyone)
        registry.unregisterAll(of: bob, isAlive: everyone)
        #expect(registry.owner(of: f) == ann)
    }

    @Test("usage counts ids and bytes of each owner, buried ones too") mutating func usage() {
        let text = JSONText(validated: Array("12345".utf8))
        let function = FunctionRegistration(
            id: "f", description: text, requestFormat: text, responseFormat: text, metadata: text)
        _ = registry.register(function, by: ann)
        register("f", by: bob)
        register("long", by: ann)
        #expect(registry.usage(of: ann) == DirectoryUsage(count: 2, size: 25))
        #expect(registry.usage(of: bob) == DirectoryUsage(count: 1, size: 1))
        #expect(registry.size(of: f, by: ann) == 21)
        #expect(registry.size(of: f, by: cleo) == nil)
        registry.unregister(f, by: ann, isAlive: everyone)
        #expect(registry.usage(of: ann) == DirectoryUsage(count: 1, size: 4))
        registry.unregisterAll(of: ann, isAlive: everyone)
        #expect(registry.usage(of: ann) == DirectoryUsage())
    }

    /// Against a plain list of registrants for each id.
    @Test("any sequence agrees with a list of registrants") mutating func random() {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("function registry: seed \(seed)")
        var random = SplitMix(state: seed)
        var model: [Int: [UInt64]] = [:]
        for _ in 0..<5_000 {
            let id = Int.random(in: 0..<6, using: &random)
            let owner = UInt64.random(in: 1...5, using: &random)
            switch Int.random(in: 0..<10, using: &random) {
            case 0..<5:
                let owners = (model[id] ?? []).filter { $0 != owner }
                model[id] = owners + [owner]
                register("\(id)", by: ConnectionID(rawValue: owner))
            case 5..<9:
                model[id]?.removeAll { $0 == owner }
                registry.unregister(
                    Name("\(id)"), by: ConnectionID(rawValue: owner), isAlive: everyone)
            default:
                for key in model.keys { model[key]?.removeAll { $0 == owner } }
                registry.unregisterAll(of: ConnectionID(rawValue: owner), isAlive: everyone)
            }
            for id in 0..<6 {
                #expect(registry.owner(of: Name("\(id)"))?.rawValue == model[id]?.last)
            }
            for owner in UInt64(1)...5 {
                let count = model.values.count { $0.contains(owner) }
                #expect(registry.usage(of: ConnectionID(rawValue: owner)).count == count)
            }
        }
    }
}

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
