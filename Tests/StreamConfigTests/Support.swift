import Testing

@testable import StreamConfig

/// What a text is as YAML, or all that is wrong with it.
func yaml(
    _ text: String, environment: [String: String] = [:], version: String = "9.8.7"
) -> (node: YAMLNode?, problems: [Diagnostic]) {
    var report = DiagnosticList()
    let node = YAMLNode.parse(
        Array(text.utf8), environment: environment, version: version, &report)
    return (node, report.inFileOrder)
}

/// The value of a text that must be YAML.
func value(
    _ text: String, environment: [String: String] = [:],
    sourceLocation: SourceLocation = #_sourceLocation
) throws -> YAMLNode.Value {
    let (node, problems) = yaml(text, environment: environment)
    #expect(problems == [], sourceLocation: sourceLocation)
    return try #require(node, sourceLocation: sourceLocation).value
}

/// What a file means, parts that are not built yet included.
func read(
    _ text: String, environment: [String: String] = [:], notBuiltYet: [NotBuiltYet] = []
) throws(ConfigurationError) -> (configuration: Configuration, warnings: [Diagnostic]) {
    try Configuration.parse(
        Array(text.utf8), environment: environment, version: "9.8.7", notBuiltYet: notBuiltYet)
}

/// What is wrong with a file, warnings included; empty when nothing is.
func problems(
    _ text: String, environment: [String: String] = [:], notBuiltYet: [NotBuiltYet] = []
) -> [Diagnostic] {
    do throws(ConfigurationError) {
        return try read(text, environment: environment, notBuiltYet: notBuiltYet).warnings
    } catch {
        guard case .invalid(_, let diagnostics) = error else { return [] }
        return diagnostics
    }
}

/// The problems as lines, as a user sees them.
func lines(
    _ text: String, environment: [String: String] = [:], notBuiltYet: [NotBuiltYet] = []
) -> [String] {
    problems(text, environment: environment, notBuiltYet: notBuiltYet).map { $0.text(file: "f") }
}

/// The `config` of an entry, as a file. `config` starts in line 4, column 7.
func file(_ worker: String, _ config: String) -> String {
    let body = config.split(separator: "\n", omittingEmptySubsequences: false)
        .map { "      " + $0 }.joined(separator: "\n")
    return "workers:\n  - name: \(worker)\n    config:\n\(body)\n"
}

func stream(_ config: String) -> String { file("iii-stream", config) }
func manager(_ config: String) -> String { file("iii-worker-manager", config) }

extension YAMLNode.Value: ExpressibleByStringLiteral, ExpressibleByIntegerLiteral,
    ExpressibleByBooleanLiteral, ExpressibleByFloatLiteral, ExpressibleByNilLiteral,
    ExpressibleByArrayLiteral, ExpressibleByDictionaryLiteral
{
    public init(stringLiteral value: String) { self = .string(value) }
    public init(integerLiteral value: Int) { self = .integer(value) }
    public init(booleanLiteral value: Bool) { self = .boolean(value) }
    public init(floatLiteral value: Double) { self = .float(value) }
    public init(nilLiteral: ()) { self = .null }
    public init(arrayLiteral items: YAMLNode.Value...) { self = .list(items.map { YAMLNode($0) }) }
    public init(dictionaryLiteral entries: (String, YAMLNode.Value)...) {
        self = .map(entries.map { YAMLEntry($0.0, YAMLNode($0.1)) })
    }
}
