/// Settings that a file may name and this server cannot honour yet.
///
/// A file that asks for one does not start a node that quietly does something else. Whoever builds
/// one of these deletes its line.
struct NotBuiltYet: Sendable {
    let worker: Schema.Worker
    let path: String
    /// The value that is not built; nil: any but null.
    let value: String?
    let name: String

    static let all = [
        NotBuiltYet(.stream, "adapter.name", is: "redis", name: "the Redis adapter"),
        NotBuiltYet(.stream, "admin", name: "the admin port"),
        NotBuiltYet(.stream, "limits.memory_bytes", name: "a memory budget"),
    ]

    private init(_ worker: Schema.Worker, _ path: String, is value: String? = nil, name: String) {
        self.worker = worker
        self.path = path
        self.value = value
        self.name = name
    }

    /// Reports this if the `config` of an entry asks for it.
    func check(_ config: YAMLNode, _ report: inout DiagnosticList) {
        var node = config
        for key in path.split(separator: ".") {
            guard let child = node[String(key)] else { return }
            node = child
        }
        guard value.map({ node.value == .string($0) }) ?? !node.isNull else { return }
        let setting = value.map { "\(path): \($0)" } ?? path
        report.error(
            "\(name) is not built yet: `\(setting)` of `\(worker.rawValue)` cannot be used",
            at: node.position)
    }
}
