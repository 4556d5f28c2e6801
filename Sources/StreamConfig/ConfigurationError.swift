/// Why there is no configuration to start with.
package enum ConfigurationError: Error, Hashable, Sendable {
    case fileNotFound(path: String)
    case fileUnreadable(path: String, reason: String)
    /// The file was read; at least one of the diagnostics is an error.
    case invalid(file: String?, [Diagnostic])

    /// What to print before the process ends: one line for each problem, without a last line end.
    package var text: String {
        switch self {
        case .fileNotFound(let path):
            """
            Config file not found: '\(path)'.
            Name another one with --config, or start with the defaults: --use-default-config.
            """
        case .fileUnreadable(let path, let reason):
            "Config file '\(path)' cannot be read: \(reason)."
        case .invalid(let file, let diagnostics):
            diagnostics.map { $0.text(file: file) }.joined(separator: "\n")
        }
    }
}
