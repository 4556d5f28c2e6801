/// Why a text is not YAML that we read.
package struct YAMLTextError: Error {
    package var message: String
    package var position: SourcePosition
}

extension YAMLNode {
    /// Reads a text of our own kind of YAML, without replacing any `${…}` from the environment: for
    /// files that are no configuration of a node.
    ///
    /// - Throws: the first problem, in the order of the file.
    package init(parsing text: String) throws(YAMLTextError) {
        var report = DiagnosticList()
        let root = YAMLNode.parse(Array(text.utf8), environment: [:], version: "", &report)
        if let first = report.inFileOrder.first(where: { $0.severity == .error }) {
            throw YAMLTextError(message: first.message, position: first.position ?? .start)
        }
        self = root ?? YAMLNode(.null)
    }
}
