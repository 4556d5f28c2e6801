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
    /// Whether it has declared that it takes large messages.
    package var takesLargeMessages = false

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
        takesLargeMessages =
            fields["features"]?.elements.contains { feature in
                (try? feature.optionalString()) == "large-messages.v1"
            } ?? false
    }

    /// The bytes of one message that it takes; nil when what it says of itself does not tell. The clients of
    /// Python close their connection over a message of more than 1 MiB before version 0.24.5; pages take 16 MiB.
    package var messageSizeMax: Int? {
        if takesLargeMessages { return 64 << 20 }
        if runtime == "browser" { return 16 << 20 }
        if let version, Self.takesLargeMessages(version) { return 64 << 20 }
        return runtime == "python" ? 1 << 20 : nil
    }

    /// Whether a version is 0.24.5 or later; what follows the numbers makes an earlier one of the same numbers.
    private static func takesLargeMessages(_ version: String) -> Bool {
        var numbers: [Int] = []
        var rest = version[...]
        while numbers.count < 3 {
            let digits = rest.prefix { $0.isASCII && $0.isNumber }
            guard let number = Int(digits) else { return false }
            numbers.append(number)
            rest = rest.dropFirst(digits.count)
            guard numbers.count < 3, rest.first == "." else { break }
            rest.removeFirst()
        }
        numbers += Array(repeating: 0, count: 3 - numbers.count)
        let isEarlier = !rest.isEmpty && rest.first != "+"
        let first = [0, 24, 5]
        return numbers == first ? !isEarlier : first.lexicographicallyPrecedes(numbers)
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
