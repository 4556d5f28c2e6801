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
        /// On the directory of a store that no node uses.
        case inspect(directory: String)
        case verify(directory: String)
        case importOriginals(directory: String)
    }

    package var action = Action.run
    package var source = Source.standard
    /// Start over damage in the store, keeping a copy of it.
    package var repairs = false
    /// Take the original's files in without those that cannot be read.
    package var importSkipsDamaged = false
    /// Split the names of the original's files at their last colon.
    package var importSplitsLast = false

    package static let help = """
        Usage: iii-stream [OPTIONS]
               iii-stream inspect DIR | verify DIR | import DIR [--split first|last]

        A real-time stream server. Without options it reads `config.yaml` in the working directory;
        if there is none, it runs on 127.0.0.1 only, ports 3112 (streams) and 49134 (workers), and
        keeps everything in memory.

        Options:
          -c, --config FILE        Read this configuration file
              --use-default-config Read no file
              --check-config       Say whether the configuration is valid, and stop
              --print-config       Print every setting with its value, passwords masked, and stop
              --repair             Start on a damaged store without what is damaged, keeping a copy
              --import-skip-damaged
                                   Take in the files of the original engine without the damaged ones
          -V, --version            Print the version, and stop
          -h, --help               Print this text, and stop

        On a directory of `store_method: file_based` that no node uses:
          inspect DIR              Print what a start would read, as lines of JSON
          verify DIR               Read all of it, and say whether it is in order
          import DIR               Take in the files of the original engine, as a first start would;
                                   with `--split last`, `stream:a:b:c` is group `c` of stream `a:b`
        """

    /// Reads `arguments`, without the name of the program.
    package init(arguments: [String]) throws(CommandLineError) {
        if let command = arguments.first, Self.commands.contains(command) {
            try read(command: command, arguments.dropFirst())
            return
        }
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
            case .repair:
                repairs = true
            case .importSkipDamaged:
                importSkipsDamaged = true
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

    private static let commands = ["inspect", "verify", "import"]

    private mutating func read(
        command: String, _ arguments: ArraySlice<String>
    ) throws(CommandLineError) {
        var rest = arguments
        var directory: String?
        while let argument = rest.popFirst() {
            let isImport = command == "import"
            if argument == "--split", isImport {
                guard let place = rest.popFirst(), ["first", "last"].contains(place) else {
                    throw CommandLineError("`--split` needs `first` or `last`")
                }
                importSplitsLast = place == "last"
            } else if argument == "--import-skip-damaged", isImport {
                importSkipsDamaged = true
            } else if argument.hasPrefix("-") || directory != nil {
                throw CommandLineError("unexpected \(quoted(argument)) after `\(command)`")
            } else {
                directory = argument
            }
        }
        guard let directory, !directory.isEmpty else {
            throw CommandLineError("`\(command)` needs the directory of a store")
        }
        switch command {
        case "inspect": action = .inspect(directory: directory)
        case "verify": action = .verify(directory: directory)
        default: action = .importOriginals(directory: directory)
        }
    }

    private enum Option: Equatable {
        case config, defaults, repair, importSkipDamaged
        case action(Action)
    }

    private static let options: [String: Option] = [
        "-c": .config, "--config": .config, "--use-default-config": .defaults,
        "--repair": .repair, "--import-skip-damaged": .importSkipDamaged,
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
