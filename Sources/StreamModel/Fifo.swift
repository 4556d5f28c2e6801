/// A queue in an array.
///
/// Inlinable: generics are not specialised across modules otherwise, and each step would look metadata up.
@frozen package struct Fifo<Element> {
    @usableFromInline var elements: [Element?] = []
    @usableFromInline var head = 0

    @inlinable package var isEmpty: Bool { head == elements.count }
    @inlinable package var count: Int { elements.count - head }
    @inlinable package var first: Element? { head < elements.count ? elements[head] : nil }

    @inlinable package init() {}

    @inlinable package mutating func append(_ element: Element) {
        elements.append(element)
    }

    /// Puts back what was taken first.
    @inlinable package mutating func putBack(_ element: Element) {
        if head > 0 {
            head -= 1
            elements[head] = element
        } else {
            elements.insert(element, at: 0)
        }
    }

    @inlinable package mutating func popFirst() -> Element? {
        guard head < elements.count else { return nil }
        let element = elements[head].take()
        head += 1
        if head == elements.count {
            elements.removeAll(keepingCapacity: head <= 64)
            head = 0
        } else if head >= 64, head * 2 >= elements.count {
            elements.removeFirst(head)
            head = 0
        }
        return element
    }

    /// Takes all out. A little room is kept.
    @inlinable package mutating func removeAll() {
        elements.removeAll(keepingCapacity: elements.count <= 64)
        head = 0
    }
}

extension Fifo: Sendable where Element: Sendable {}
