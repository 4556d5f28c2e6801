package import StreamModel

/// What a worker tells of itself with `engine::workers::register`.
package struct WorkerMetadata: Hashable, Sendable {
    package struct Telemetry: Hashable, Sendable {
        package var language: String?
        package var projectName: String?
        package var framework: String?
    }

    package var runtime = "unknown"
    package var version: String?
    package var name: String?
    package var os: String?
    package var pid: UInt32?
    package var isolation: String?
    package var telemetry: Telemetry?

    /// Reads the input of the function; null counts as an object without members.
    /// - Throws: the first field of a wrong type, in the byte order of their names.
    package init(input: JSONText) throws(JSONMismatch) {
        let view = input.view
        guard view.kind == .object || view.kind == .null else {
            throw view.mismatch(expected: "struct WorkerMetadata")
        }
        let fields = Dictionary(view.members.map { ($0.name, $0.value) }) { _, last in last }
        isolation = try fields["isolation"]?.optionalString()
        name = try fields["name"]?.optionalString()
        os = try fields["os"]?.optionalString()
        pid = try fields["pid"]?.optionalUInt32()
        runtime = try fields["runtime"]?.optionalString() ?? "unknown"
        telemetry = try fields["telemetry"].flatMap(Telemetry.init)
        version = try fields["version"]?.optionalString()
    }

    /// The bytes of one message that the runtime takes, when that is less than any other: the client of
    /// Python 0.11 closes its connection over a bigger one.
    package var messageSizeMax: Int? {
        guard runtime == "python", let version else { return nil }
        return version == "0.11" || version.hasPrefix("0.11.") ? 1 << 20 : nil
    }
}

extension WorkerMetadata.Telemetry {
    /// Nil for null.
    fileprivate init?(_ view: JSONView) throws(JSONMismatch) {
        if view.kind == .null { return nil }
        guard view.kind == .object else { throw view.mismatch(expected: "struct WorkerTelemetry") }
        framework = try view["framework"]?.optionalString()
        language = try view["language"]?.optionalString()
        projectName = try view["project_name"]?.optionalString()
    }
}
