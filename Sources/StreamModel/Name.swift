/// A string that is compared and hashed byte for byte.
///
/// `String` treats canonically equivalent spellings as equal ("é" as one scalar or as two); ids on the
/// wire are equal only when their bytes are. Hashing the bytes also keeps a peer from choosing ids that
/// differ but collide.
package struct Name: Hashable, Sendable {
    package let string: String

    package init(_ string: String) {
        self.string = string
    }

    /// The size in bytes of UTF-8.
    package var size: Int { string.utf8.count }

    package func hasPrefix(_ prefix: String) -> Bool {
        string.utf8.starts(with: prefix.utf8)
    }

    package static func == (left: Name, right: Name) -> Bool {
        let left = left.string.utf8.span
        let right = right.string.utf8.span
        guard left.count == right.count else { return false }
        for index in left.indices where left[index] != right[index] {
            return false
        }
        return true
    }

    package func hash(into hasher: inout Hasher) {
        let bytes = string.utf8.span
        hasher.combine(bytes.count)
        var word: UInt64 = 0
        for index in bytes.indices {
            word = word << 8 | UInt64(bytes[index])
            if index & 7 == 7 {
                hasher.combine(word)
                word = 0
            }
        }
        hasher.combine(word)
    }
}

extension String {
    /// The longest prefix of whole scalars that has at most `size` bytes of UTF-8.
    package func prefix(bytes size: Int) -> String {
        guard utf8.count > size else { return self }
        var end = utf8.index(startIndex, offsetBy: size)
        while end > startIndex, utf8[end] & 0xC0 == 0x80 {
            end = utf8.index(before: end)
        }
        return String(self[..<end])
    }
}
