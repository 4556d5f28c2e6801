/// A text in which `*` stands for any run of characters.
package struct Pattern: Hashable, Sendable {
    private let parts: [[UInt8]]

    package init(_ text: String) {
        parts = text.utf8.split(separator: UInt8(ascii: "*"), omittingEmptySubsequences: false)
            .map { Array($0) }
    }

    /// O(size of the text × size of the pattern) at most.
    package func matches(_ text: String) -> Bool {
        var rest = Array(text.utf8)[...]
        guard let first = parts.first, let last = parts.last else { return rest.isEmpty }
        if parts.count == 1 { return rest.elementsEqual(first) }
        guard rest.starts(with: first) else { return false }
        rest = rest.dropFirst(first.count)
        for part in parts.dropFirst().dropLast() {
            guard let found = rest.firstRange(of: part) else { return false }
            rest = rest[found...].dropFirst(part.count)
        }
        return rest.count >= last.count && rest.suffix(last.count).elementsEqual(last)
    }
}

extension ArraySlice<UInt8> {
    /// Where `part` begins first.
    fileprivate func firstRange(of part: [UInt8]) -> Int? {
        guard part.count <= count else { return nil }
        return (startIndex...(endIndex - part.count)).first {
            self[$0..<($0 + part.count)].elementsEqual(part)
        }
    }
}
