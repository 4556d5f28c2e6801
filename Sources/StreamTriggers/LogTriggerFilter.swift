package import StreamModel

/// What a trigger of the type `log` listens to: records of a level and above.
package struct LogTriggerFilter: Hashable, Sendable {
    /// The lowest severity number of OpenTelemetry that counts; nil: every record.
    package var severityMin: Int?

    /// Reads the configuration of a trigger. Whatever is no object with a string `level` means all.
    /// - Throws: for a level that there is not.
    package init(config: JSONText) throws(JSONMismatch) {
        guard config.view.kind == .object, let level = config.view["level"]?.string else { return }
        switch level {
        case "all": break
        case "trace": severityMin = 1
        case "debug": severityMin = 5
        case "info": severityMin = 9
        case "warn": severityMin = 13
        case "error": severityMin = 17
        default:
            let levels = "`all`, `trace`, `debug`, `info`, `warn`, `error`"
            throw JSONMismatch(
                reason: "unknown level `\(level.prefix(bytes: 64))`, expected one of \(levels)")
        }
    }

    package func matches(severity: Int) -> Bool {
        severityMin.map { severity >= $0 } ?? true
    }
}
