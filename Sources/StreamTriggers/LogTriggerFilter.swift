package import StreamModel

/// What a trigger of the type `log` listens to: records of a level and above.
package struct LogTriggerFilter: Hashable, Sendable {
    /// The lowest severity number of OpenTelemetry that counts; nil: every record.
    package var severityMin: Int?

    /// Reads the configuration of a trigger. Whatever is no object with a string `level` means all.
    /// - Throws: for a level that there is not.
    package init(config: JSONText) throws(JSONMismatch) {
        guard config.view.kind == .object, let level = config.view["level"]?.string else { return }
        if let severity = Self.severities[level] {
            severityMin = severity
        } else if level != "all" {
            let levels = "`all`, `trace`, `debug`, `info`, `warn`, `error`"
            throw JSONMismatch(
                reason: "unknown level `\(level.prefix(bytes: 64))`, expected one of \(levels)")
        }
    }

    /// The lowest severity number of each level.
    private static let severities = ["trace": 1, "debug": 5, "info": 9, "warn": 13, "error": 17]

    /// The lowest severity number that all filters take for the same as `severity`.
    static func level(of severity: Int) -> Int {
        severities.values.filter { $0 <= severity }.max() ?? 0
    }

    package func matches(severity: Int) -> Bool {
        severityMin.map { severity >= $0 } ?? true
    }
}
