internal import Foundation
internal import IIIStream
internal import StreamConfig
internal import StreamCore

@main
enum Main {
    static func main() async {
        let options: CommandLineOptions
        do throws(CommandLineError) {
            options = try CommandLineOptions(arguments: ProcessFacts.arguments)
        } catch {
            fail("\(error.message)\nTry 'iii-stream --help'.", .usage)
        }
        switch options.action {
        case .showHelp:
            print(CommandLineOptions.help)
            return
        case .showVersion:
            print("iii-stream \(StreamNode.version)")
            return
        case .inspect(let directory), .verify(let directory), .importOriginals(let directory):
            work(on: directory, options)
            return
        case .run:
            await Server(options).run()
        case .checkConfiguration, .printConfiguration:
            look(at: options)
        }
    }

    private static func look(at options: CommandLineOptions) {
        do throws(ConfigurationError) {
            let loaded = try LoadedConfiguration.load(options)
            guard options.action == .checkConfiguration else {
                print(loaded.configuration.yaml(), terminator: "")
                return
            }
            for warning in loaded.warningTexts { standardError(warning) }
            checkCertificates(loaded.configuration)
            print("The configuration is valid: \(loaded.summary).")
        } catch {
            fail(error.text, .configuration)
        }
    }

    /// A start would fail at a broken one.
    private static func checkCertificates(_ configuration: Configuration) {
        var problems: [String] = []
        for files in configuration.certificateFiles {
            switch files.contents {
            case .refused(let problem): problems.append(problem)
            case .certificate(let text, let isValid):
                if !isValid { standardError("\(files.certificate): not valid now: \(text)") }
            }
        }
        guard !problems.isEmpty else { return }
        fail(problems.joined(separator: "\n"), .configuration)
    }

    /// Looks into, checks or fills the directory of a store.
    private static func work(on directory: String, _ options: CommandLineOptions) {
        do throws(NodeError) {
            switch options.action {
            case .inspect:
                try StoreDirectory.inspect(directory) { json in
                    if ProcessFacts.write(json + [UInt8(ascii: "\n")], to: STDOUT_FILENO) != nil {
                        fail("cannot write to standard output", .damaged)
                    }
                } remark: {
                    standardError("iii-stream: \($0)")
                }
            case .verify:
                let (batches, records) = try StoreDirectory.verify(directory) {
                    standardError("iii-stream: \($0)")
                }
                print("\(directory) is in order: \(records) records in \(batches) batches")
            default:
                expectOriginals(in: directory)
                let log = LogWriter(level: .info)
                try StoreDirectory.importOriginals(directory, options.recovery) { log.write($0) }
                log.flush()
            }
        } catch {
            fail(error.description, ExitCode(error))
        }
    }

    /// A start makes the directory of its store; one that files are taken in from is there already.
    private static func expectOriginals(in directory: String) {
        do {
            let names = try FileManager.default.contentsOfDirectory(atPath: directory)
            guard !names.contains(where: { $0.hasSuffix(".bin") || $0 == "MANIFEST" }) else {
                return
            }
            fail("\(directory) has no files of the original engine (*.bin)", .cannotCreate)
        } catch {
            fail("cannot open the directory \(directory)", .cannotCreate)
        }
    }

    static func standardError(_ text: String) {
        // There is nowhere to say that it could not be written.
        _ = ProcessFacts.write(Array((text + "\n").utf8), to: STDERR_FILENO)
    }

    private static func fail(_ text: String, _ code: ExitCode) -> Never {
        standardError("iii-stream: \(text)")
        exit(code.rawValue)
    }
}

extension LoadedConfiguration {
    /// The configuration that the options ask for.
    static func load(
        _ options: CommandLineOptions
    ) throws(ConfigurationError) -> LoadedConfiguration {
        try load(
            options.source, environment: LoadedConfiguration.processEnvironment,
            version: StreamNode.version)
    }
}

extension CommandLineOptions {
    var recovery: StoreRecovery {
        var recovery = StoreRecovery()
        recovery.repairs = repairs
        recovery.importSkipsBroken = importSkipsDamaged
        recovery.importSplitsLast = importSplitsLast
        return recovery
    }
}
