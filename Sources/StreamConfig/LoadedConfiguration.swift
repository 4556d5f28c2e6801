private import Foundation

/// A configuration with where it came from and what should be said about it.
package struct LoadedConfiguration: Sendable, Equatable {
    package enum Origin: Sendable, Equatable {
        case file(path: String)
        /// The options asked for the defaults.
        case defaults
        /// No option named a file, and the directory has none.
        case defaultsWithoutFile
    }

    package var configuration: Configuration
    package var warnings: [Diagnostic]
    package var origin: Origin

    /// One line for the start-up log: which configuration this is.
    package var summary: String {
        switch origin {
        case .file(let path):
            "configuration from '\(path)'"
        case .defaults:
            "default configuration: 127.0.0.1 only, everything in memory"
        case .defaultsWithoutFile:
            "no '\(Self.standardFile)' in the working directory, so the default configuration:"
                + " 127.0.0.1 only, everything in memory"
        }
    }

    /// The warnings as lines for the log.
    package var warningTexts: [String] {
        guard case .file(let path) = origin else { return warnings.map { $0.text(file: nil) } }
        return warnings.map { $0.text(file: path) }
    }

    /// The file that is read when no option says otherwise.
    package static let standardFile = "config.yaml"

    /// Finds, reads and checks the configuration that the command line asks for.
    ///
    /// - Parameters:
    ///   - directory: where ``standardFile`` is looked for.
    ///   - version: the version of this server, for `${NAME:__III_ENGINE_VERSION__}`.
    package static func load(
        _ source: CommandLineOptions.Source, directory: String = ".",
        environment: [String: String], version: String
    ) throws(ConfigurationError) -> LoadedConfiguration {
        let path: String
        switch source {
        case .defaults:
            return LoadedConfiguration(
                configuration: .withoutFile.at(environment), warnings: [], origin: .defaults)
        case .file(let named):
            path = named
        case .standard:
            path = directory == "." ? standardFile : "\(directory)/\(standardFile)"
            guard exists(path) else {
                return LoadedConfiguration(
                    configuration: .withoutFile.at(environment), warnings: [],
                    origin: .defaultsWithoutFile)
            }
        }
        do throws(ConfigurationError) {
            let (configuration, warnings) = try Configuration.parse(
                try contents(ofFile: path), environment: environment, version: version)
            return LoadedConfiguration(
                configuration: configuration, warnings: warnings, origin: .file(path: path))
        } catch .invalid(_, let diagnostics) {
            throw .invalid(file: path, diagnostics)
        }
    }

    /// The environment of this process, without the values that are not UTF-8: they count as unset.
    package static var processEnvironment: [String: String] {
        // Foundation puts U+FFFD for what it cannot decode.
        ProcessInfo.processInfo.environment.filter { !$0.value.unicodeScalars.contains("\u{FFFD}") }
    }

    /// Whether something has that name, be it a file or not: what is there must not be passed over.
    private static func exists(_ path: String) -> Bool {
        FileManager.default.fileExists(atPath: path)
            || (try? FileManager.default.destinationOfSymbolicLink(atPath: path)) != nil
    }

    /// Reads a file, at most one byte more than is allowed.
    private static func contents(ofFile path: String) throws(ConfigurationError) -> [UInt8] {
        guard FileManager.default.fileExists(atPath: path) else {
            throw .fileNotFound(path: path)
        }
        // Opening a FIFO waits for who writes into it, and a device has no end.
        let target = URL(fileURLWithPath: path).resolvingSymlinksInPath().path
        let type = try? FileManager.default.attributesOfItem(atPath: target)[.type]
        guard let type = type as? FileAttributeType, [.typeRegular, .typeDirectory].contains(type)
        else {
            throw .fileUnreadable(path: path, reason: "it is not a regular file")
        }
        var bytes: [UInt8] = []
        do {
            let file = try FileHandle(forReadingFrom: URL(fileURLWithPath: path))
            defer { try? file.close() }
            while bytes.count <= ExpandingReader.sourceSizeMax {
                let wanted = ExpandingReader.sourceSizeMax + 1 - bytes.count
                guard let part = try file.read(upToCount: wanted), !part.isEmpty else { break }
                bytes += part
            }
        } catch {
            throw .fileUnreadable(path: path, reason: reason(of: error))
        }
        return bytes
    }

    private static func reason(of error: any Error) -> String {
        let error = error as NSError
        let cause = error.userInfo[NSUnderlyingErrorKey] as? NSError ?? error
        let text = cause.localizedDescription
        let opening = "The operation could not be completed. "
        return text.hasPrefix(opening) ? text.dropFirst(opening.count).lowercased() : text
    }
}

extension Configuration {
    /// With what only the environment says.
    fileprivate func at(_ environment: [String: String]) -> Configuration {
        var configuration = self
        let deployment = environment["DEPLOYMENT_ENVIRONMENT"] ?? ""
        configuration.observability.deploymentEnvironment = deployment.isEmpty ? nil : deployment
        return configuration
    }

    /// Reads the text of a file.
    ///
    /// - Returns: the configuration, and warnings in the order of the file.
    /// - Throws: ``ConfigurationError/invalid(file:_:)`` with every problem, warnings included.
    package static func parse(
        _ source: [UInt8], environment: [String: String], version: String
    ) throws(ConfigurationError) -> (Configuration, [Diagnostic]) {
        try parse(
            source, environment: environment, version: version, notBuiltYet: NotBuiltYet.all)
    }

    static func parse(
        _ source: [UInt8], environment: [String: String], version: String,
        notBuiltYet: [NotBuiltYet]
    ) throws(ConfigurationError) -> (Configuration, [Diagnostic]) {
        var decoder = ConfigurationDecoder(notBuiltYet: notBuiltYet)
        let root = YAMLNode.parse(
            source, environment: environment, version: version, &decoder.report)
        if let root {
            decoder.decode(root)
        }
        let diagnostics = decoder.report.inFileOrder
        guard !decoder.report.hasErrors else { throw .invalid(file: nil, diagnostics) }
        return (decoder.configuration.at(environment), diagnostics)
    }
}
