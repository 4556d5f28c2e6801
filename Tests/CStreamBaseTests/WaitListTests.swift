import CStreamBase
import SeededRandom
import Testing

/// Numbered nodes in a list, in memory that does not move.
private final class TestList {
    let list = UnsafeMutablePointer<sc_wait_list>.allocate(capacity: 1)
    let nodes: UnsafeMutablePointer<sc_wait_node>
    let count: Int

    init(_ count: Int) {
        self.count = count
        nodes = .allocate(capacity: count)
        nodes.initialize(repeating: sc_wait_node(), count: count)
        list.initialize(to: sc_wait_list())
    }

    deinit {
        nodes.deallocate()
        list.deallocate()
    }

    var order: [Int] {
        var order: [Int] = []
        var node = list.pointee.first
        while let current = node {
            order.append(current - nodes)
            node = current.pointee.next
        }
        return order
    }

    var backwards: [Int] {
        var order: [Int] = []
        var node = list.pointee.last
        while let current = node {
            order.append(current - nodes)
            node = current.pointee.previous
        }
        return order
    }
}

/// What a `wake` does with each node, and whom it has seen.
private final class Waking {
    let list: TestList
    var seen: [Int] = []
    let body: (Int) -> Bool

    init(_ list: TestList, _ body: @escaping (Int) -> Bool) {
        self.list = list
        self.body = body
    }

    func run(most: UInt32 = .max) -> UInt32 {
        sc_wait_list_wake(
            list.list, most,
            { node, context in
                guard let context else { return true }
                let waking = Unmanaged<Waking>.fromOpaque(context).takeUnretainedValue()
                let index = node - waking.list.nodes
                waking.seen.append(index)
                return waking.body(index)
            }, Unmanaged.passUnretained(self).toOpaque())
    }
}

@Suite("Lists of what waits")
struct WaitListTests {
    @Test("they come out in the order in which they came in")
    func order() {
        let list = TestList(3)
        #expect(sc_wait_list_is_empty(list.list) && sc_wait_list_take(list.list) == nil)
        for i in 0..<3 { sc_wait_list_add(list.list, list.nodes + i) }
        #expect(list.list.pointee.count == 3 && sc_wait_node_waits(list.nodes + 1))
        #expect(sc_wait_list_take(list.list) == list.nodes)
        sc_wait_list_add_first(list.list, list.nodes)
        #expect(list.order == [0, 1, 2] && list.backwards == [2, 1, 0])
    }

    @Test("one that waits nowhere is removed without effect")
    func removeOutside() {
        let list = TestList(1)
        sc_wait_list_remove(list.nodes)
        sc_wait_list_add(list.list, list.nodes)
        sc_wait_list_remove(list.nodes)
        sc_wait_list_remove(list.nodes)
        #expect(list.list.pointee.count == 0 && !sc_wait_node_waits(list.nodes))
    }

    @Test("those that must wait on are looked at once, and stay behind those that come meanwhile")
    func waitOn() {
        let list = TestList(4)
        for i in 0..<3 { sc_wait_list_add(list.list, list.nodes + i) }
        let waking = Waking(list) { index in
            if index == 0 { sc_wait_list_add(list.list, list.nodes + 3) }
            return index == 1
        }
        #expect(waking.run() == 1)
        #expect(waking.seen == [0, 1, 2] && list.order == [3, 0, 2])
    }

    @Test("no more than asked for are looked at", arguments: [0, 1, 2, 3, 4] as [UInt32])
    func most(most: UInt32) {
        let list = TestList(3)
        for i in 0..<3 { sc_wait_list_add(list.list, list.nodes + i) }
        #expect(Waking(list) { _ in true }.run(most: most) == min(most, 3))
        #expect(list.list.pointee.count == 3 - min(most, 3))
    }

    @Test("one that is woken may take the next out of the list")
    func removeNext() {
        let list = TestList(3)
        for i in 0..<3 { sc_wait_list_add(list.list, list.nodes + i) }
        let waking = Waking(list) { _ in
            sc_wait_list_remove(list.nodes + 1)
            sc_wait_list_remove(list.nodes + 2)
            return true
        }
        #expect(waking.run() == 1 && waking.seen == [0])
    }

    @Test("it agrees with an array, whatever is done to it")
    func model() {
        var random = SeededGenerator(seed: randomSeed())
        let list = TestList(16)
        var model: [Int] = []
        for _ in 0..<5_000 {
            let index = Int.random(in: 0..<16, using: &random)
            switch Int.random(in: 0..<4, using: &random) {
            case 0 where !model.contains(index):
                sc_wait_list_add(list.list, list.nodes + index)
                model.append(index)
            case 1 where !model.contains(index):
                sc_wait_list_add_first(list.list, list.nodes + index)
                model.insert(index, at: 0)
            case 2:
                sc_wait_list_remove(list.nodes + index)
                model.removeAll { $0 == index }
            case 3 where !model.isEmpty:
                #expect(sc_wait_list_take(list.list) == list.nodes + model.removeFirst())
            default: continue
            }
            #expect(list.order == model && list.backwards == model.reversed())
            #expect(list.list.pointee.count == UInt32(model.count))
        }
    }
}
