import StreamFunctions
import StreamModel
import Testing

private let ann = ConnectionID(rawValue: 1)
private let bob = ConnectionID(rawValue: 2)

@Suite("Changes of the set of functions")
struct ChangedIDsTests {
    private var registry = FunctionRegistry()

    private mutating func register(_ id: String, by owner: ConnectionID) {
        _ = registry.register(FunctionRegistration(id: id), by: owner)
    }

    private mutating func unregister(_ id: String, by owner: ConnectionID) {
        registry.unregister(Name(id), by: owner) { _ in true }
    }

    private mutating func changed() -> [String] {
        registry.takeChangedIDs().map(\.string).sorted()
    }

    @Test("a new id and one that goes are told once") mutating func newAndGone() {
        #expect(changed().isEmpty)
        register("f", by: ann)
        register("g", by: ann)
        #expect(changed() == ["f", "g"])
        #expect(changed().isEmpty)
        unregister("f", by: ann)
        #expect(changed() == ["f"])
    }

    @Test("registering again changes nothing") mutating func again() {
        register("f", by: ann)
        register("f", by: ann)
        #expect(changed() == ["f"])
        register("f", by: ann)
        #expect(changed().isEmpty)
    }

    @Test("taking over and falling back change nothing") mutating func takeOver() {
        register("f", by: ann)
        _ = changed()
        register("f", by: bob)
        register("f", by: ann)
        unregister("f", by: ann)
        #expect(changed().isEmpty)
        unregister("f", by: bob)
        #expect(changed() == ["f"])
    }

    @Test("two changes of one id undo each other") mutating func undone() {
        register("f", by: ann)
        unregister("f", by: ann)
        #expect(changed().isEmpty)
        register("f", by: ann)
        unregister("f", by: ann)
        register("f", by: bob)
        #expect(changed() == ["f"])
    }

    @Test("what nobody has cannot go") mutating func unknown() {
        unregister("f", by: ann)
        register("f", by: ann)
        _ = changed()
        unregister("f", by: bob)
        #expect(changed().isEmpty)
    }

    @Test("all ids of a connection that goes are told, but those that others serve too")
    mutating func connectionGoes() {
        for id in ["f", "g", "h"] { register(id, by: ann) }
        register("g", by: bob)
        _ = changed()
        registry.unregisterAll(of: ann) { _ in true }
        #expect(changed() == ["f", "h"])
    }

    @Test("any sequence tells the difference of the sets") mutating func random() {
        let seed = UInt64.random(in: 0...UInt64.max)
        print("changed ids: seed \(seed)")
        var random = SplitMix(state: seed)
        var owners: [String: Set<UInt64>] = [:]
        var told: Set<String> = []
        for _ in 0..<3000 {
            let id = ["f", "g", "h"].randomElement(using: &random) ?? "f"
            let owner = UInt64.random(in: 1...3, using: &random)
            if Bool.random(using: &random) {
                owners[id, default: []].insert(owner)
                register(id, by: ConnectionID(rawValue: owner))
            } else {
                owners[id]?.remove(owner)
                unregister(id, by: ConnectionID(rawValue: owner))
            }
            guard Int.random(in: 0..<4, using: &random) == 0 else { continue }
            let served = Set(owners.filter { !$0.value.isEmpty }.keys)
            #expect(Set(changed()) == served.symmetricDifference(told))
            told = served
        }
    }
}
