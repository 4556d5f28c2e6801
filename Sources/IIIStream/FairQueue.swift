internal import StreamModel

/// What waits for the control plane, in lanes that take turns: what one connection sends delays its own, not what
/// others have sent. Each lane keeps its order. A lane may be set aside until somebody wakes it.
struct FairQueue<Key: Hashable & Sendable, Element: Sendable>: Sendable {
    private var lanes: [Key: Fifo<Element>] = [:]
    private var ring = Fifo<Key>()
    private var asleep: Set<Key> = []
    private(set) var count = 0

    /// Whether nothing waits, but for lanes that are set aside.
    var isIdle: Bool { ring.isEmpty }

    func has(_ key: Key) -> Bool { lanes[key] != nil }

    mutating func append(_ element: Element, to key: Key) {
        if lanes[key] == nil {
            lanes[key] = Fifo()
            ring.append(key)
        }
        lanes[key]?.append(element)
        count += 1
    }

    /// The lane whose turn it is; it has something. Give the turn back with ``pass(_:)``.
    mutating func turn() -> Key? { ring.popFirst() }

    /// Takes the first of a lane.
    mutating func take(from key: Key) -> Element? {
        guard let element = lanes[key]?.popFirst() else { return nil }
        count -= 1
        return element
    }

    /// Puts back what was taken from a lane that has the turn, or is not empty.
    mutating func putBack(_ element: Element, in key: Key) {
        lanes[key]?.putBack(element)
        count += 1
    }

    /// Puts what is to be done before all else in a lane.
    mutating func putFirst(_ element: Element, in key: Key) {
        if lanes[key] == nil { append(element, to: key) } else { putBack(element, in: key) }
    }

    /// The turn of a lane is over.
    mutating func pass(_ key: Key) {
        if lanes[key]?.isEmpty == true { lanes[key] = nil } else { ring.append(key) }
    }

    /// The same, and it gets no turn until it is woken.
    mutating func setAside(_ key: Key) {
        asleep.insert(key)
    }

    /// Wakes a lane if it is set aside.
    mutating func wake(_ key: Key) {
        guard asleep.remove(key) != nil else { return }
        ring.append(key)
    }
}
