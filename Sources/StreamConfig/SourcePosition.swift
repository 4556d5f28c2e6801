/// A place in a configuration file as its author wrote it. Both numbers start at 1.
package struct SourcePosition: Hashable, Comparable, Sendable {
    package var line: Int
    /// In characters (Unicode scalars), not bytes.
    package var column: Int

    package init(line: Int, column: Int) {
        self.line = line
        self.column = column
    }

    package static func < (left: SourcePosition, right: SourcePosition) -> Bool {
        (left.line, left.column) < (right.line, right.column)
    }
}
