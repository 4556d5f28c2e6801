import Testing

@testable import StreamConfig

@Suite("Command line")
struct CommandLineTests {
    @Test(
        "names a file, the defaults, or nothing",
        arguments: [
            ([], .standard), (["-c", "a.yaml"], .file("a.yaml")),
            (["--config", "a.yaml"], .file("a.yaml")),
            (["--config=a.yaml"], .file("a.yaml")), (["-ca.yaml"], .file("a.yaml")),
            (["-c=a.yaml"], .file("a.yaml")),
            (["--config", "-"], .file("-")), (["--config=--odd"], .file("--odd")),
            (["--use-default-config"], .defaults),
            (["--use-default-config", "--use-default-config"], .defaults),
        ] as [([String], CommandLineOptions.Source)])
    func sources(arguments: [String], source: CommandLineOptions.Source) throws {
        let options = try CommandLineOptions(arguments: arguments)
        #expect(options.source == source)
        #expect(options.action == .run)
    }

    @Test(
        "asks for one action",
        arguments: [
            (["--check-config"], .checkConfiguration), (["--print-config"], .printConfiguration),
            (["--version"], .showVersion), (["-V"], .showVersion), (["--help"], .showHelp),
            (["-h"], .showHelp),
            (["--check-config", "--help"], .showHelp), (["--help", "--version"], .showHelp),
            (["--version", "--print-config"], .showVersion),
            (["-c", "x", "--check-config"], .checkConfiguration),
            (["--check-config", "--check-config"], .checkConfiguration),
        ] as [([String], CommandLineOptions.Action)])
    func actions(arguments: [String], action: CommandLineOptions.Action) throws {
        #expect(try CommandLineOptions(arguments: arguments).action == action)
    }

    @Test(
        "is refused with a reason",
        arguments: [
            (["--confg", "x"], "unknown option `--confg`: did you mean `--config`?"),
            (["--nonsense"], "unknown option `--nonsense`"), (["-x"], "unknown option `-x`"),
            (["-"], "unexpected argument `-`; a configuration file is named with `--config`"),
            (
                ["a.yaml"],
                "unexpected argument `a.yaml`; a configuration file is named with `--config`"
            ),
            (["--config"], "`--config` needs the path of a file"),
            (["-c"], "`-c` needs the path of a file"),
            (["--config="], "`--config` needs the path of a file"),
            (["--config", ""], "`--config` needs the path of a file"),
            (["-c", "--check-config"], "`-c` needs the path of a file, found `--check-config`"),
            (["-c", "a", "-c", "b"], "`--config` is given twice"),
            (
                ["-c", "a", "--use-default-config"],
                "`--config` and `--use-default-config` exclude each other"
            ),
            (
                ["--check-config", "--print-config"],
                "`--check-config` and `--print-config` exclude each other"
            ),
            (["--help=yes"], "`--help` takes no value"),
        ])
    func refusals(arguments: [String], message: String) {
        #expect(throws: CommandLineError(message)) { try CommandLineOptions(arguments: arguments) }
    }

    @Test("the help names every option")
    func help() {
        for option in [
            "-c, --config FILE", "--use-default-config", "--check-config", "--print-config",
            "-V, --version", "-h, --help",
        ] {
            #expect(CommandLineOptions.help.contains(option))
        }
    }
}
