/// What the command line asks for.
package struct CommandLineOptions: Sendable, Equatable {
    package enum Source: Sendable, Equatable {
        /// `config.yaml` of the working directory if there is one, else the defaults.
        case standard
        case file(String)
        case defaults
    }

    package enum Action: Sendable, Equatable {
        case run, checkConfiguration, printConfiguration, showVersion, showHelp
    }

    package var action = Action.run
    package var source = Source.standard

    package static let help = """
        Usage: iii-stream [OPTIONS]

        A real-time stream server. Without options it reads `config.yaml` in the working directory;
        if there is none, it runs on 127.0.0.1 only, ports 3112 (streams) and 49134 (workers), and
        keeps everything in memory.

        Options:
          -c, --config FILE        Read this configuration file
              --use-default-config Read no file
              --check-config       Say whether the configuration is valid, and stop
              --print-config       Print every setting with its value, passwords masked, and stop
          -V, --version            Print the version, and stop
          -h, --help               Print this text, and stop
        """

    /// Reads `arguments`, without the name of the program.
    package init(arguments: [String]) throws(CommandLineError) {
        var rest = arguments[...]
        var actions: [String] = []
        var useDefaults = false
        var file: String?
        while let argument = rest.popFirst() {
            let (name, attached) = Self.split(argument)
            guard let option = Self.options[name] else { throw Self.unknown(name, argument) }
            if attached != nil, option != .config {
                throw CommandLineError("\(quoted(name)) takes no value")
            }
            switch option {
            case .config:
                guard let path = attached ?? rest.popFirst(), !path.isEmpty else {
                    throw CommandLineError("`\(name)` needs the path of a file")
                }
                // `-c --check-config` is a forgotten path, not a file of that name.
                if attached == nil, path.hasPrefix("-"), path != "-" {
                    throw CommandLineError(
                        "`\(name)` needs the path of a file, found \(quoted(path))")
                }
                guard file == nil else { throw CommandLineError("`--config` is given twice") }
                file = path
            case .defaults:
                useDefaults = true
            case .action(let wanted):
                // The one of the two that only tells something wins, and the first of equals.
                if wanted == .showHelp || wanted == .showVersion {
                    if action != .showHelp, action != .showVersion { action = wanted }
                } else {
                    if !actions.contains(name) { actions.append(name) }
                    if action == .run { action = wanted }
                }
            }
        }
        if file != nil, useDefaults {
            throw CommandLineError("`--config` and `--use-default-config` exclude each other")
        }
        if actions.count > 1 {
            throw CommandLineError("`\(actions[0])` and `\(actions[1])` exclude each other")
        }
        source = file.map { .file($0) } ?? (useDefaults ? .defaults : .standard)
    }

    private enum Option: Equatable {
        case config, defaults
        case action(Action)
    }

    private static let options: [String: Option] = [
        "-c": .config, "--config": .config, "--use-default-config": .defaults,
        "--check-config": .action(.checkConfiguration),
        "--print-config": .action(.printConfiguration),
        "-V": .action(.showVersion), "--version": .action(.showVersion),
        "-h": .action(.showHelp), "--help": .action(.showHelp),
    ]

    /// The option in an argument, and the value behind its `=`, or right behind `-c`.
    private static func split(_ argument: String) -> (name: String, value: String?) {
        if argument.hasPrefix("--") {
            guard let equals = argument.firstIndex(of: "=") else { return (argument, nil) }
            return (
                String(argument[..<equals]), String(argument[argument.index(after: equals)...])
            )
        }
        guard argument.hasPrefix("-c"), argument != "-c" else { return (argument, nil) }
        let value = argument.dropFirst(2)
        return ("-c", String(value.first == "=" ? value.dropFirst() : value))
    }

    private static func unknown(_ name: String, _ argument: String) -> CommandLineError {
        guard argument.hasPrefix("-"), argument != "-" else {
            return CommandLineError(
                "unexpected argument \(quoted(argument)); a configuration file is named with"
                    + " `--config`")
        }
        let near = nearest(to: name, among: options.keys.filter { $0.hasPrefix("--") }.sorted())
        return CommandLineError(
            "unknown option \(quoted(name))" + (near.map { ": did you mean `\($0)`?" } ?? ""))
    }
}

/// Why a command line cannot be followed.
package struct CommandLineError: Error, Hashable, Sendable {
    package var message: String

    package init(_ message: String) {
        self.message = message
    }
}
