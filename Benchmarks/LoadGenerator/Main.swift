internal import Foundation

@main
enum Main {
    static func main() {
        let arguments = Array(CommandLine.arguments.dropFirst())
        if arguments.contains("--help") || arguments.contains("-h") || arguments.isEmpty {
            print(Options.usage)
            exit(arguments.isEmpty ? 2 : 0)
        }
        do throws(UsageError) {
            let options = try Options(arguments: arguments)
            exit(try run(options))
        } catch {
            fail("\(error.message)\nTry 'iii-stream-bench --help'.", code: 2)
        }
    }

    private static func run(_ options: Options) throws(UsageError) -> Int32 {
        let earlier = try options.compareFile.map { path throws(UsageError) in
            try ResultFile.read(path)
        }
        let result: RunResult
        do throws(RunError) {
            var runner = try Runner(options)
            result = try runner.run()
            if !options.quiet {
                print(Table.text(result), terminator: "")
                for remark in runner.remarks { print("  \(remark)") }
            }
        } catch {
            fail(error.message, code: 1)
        }
        if let path = options.jsonFile { try ResultFile.write(result, path) }
        if let path = options.reportFile {
            try ResultFile.write(text: Report.page(result, beside: earlier), path)
        }
        if options.quiet, !result.isClean {
            for violation in result.violations { complain(violation) }
        }
        return result.isClean ? 0 : 1
    }

    private static func complain(_ text: String) {
        FileHandle.standardError.write(Data("iii-stream-bench: \(text)\n".utf8))
    }

    private static func fail(_ text: String, code: Int32) -> Never {
        complain(text)
        exit(code)
    }
}

/// Results on disk.
enum ResultFile {
    static func read(_ path: String) throws(UsageError) -> RunResult {
        do {
            return try JSONDecoder().decode(
                RunResult.self, from: Data(contentsOf: URL(fileURLWithPath: path)))
        } catch {
            throw UsageError("\(path) is no result of iii-stream-bench: \(error)")
        }
    }

    static func write(_ result: RunResult, _ path: String) throws(UsageError) {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        guard let data = try? encoder.encode(result) else {
            throw UsageError("the result is no JSON")
        }
        try write(text: String(decoding: data, as: UTF8.self) + "\n", path)
    }

    static func write(text: String, _ path: String) throws(UsageError) {
        do {
            try Data(text.utf8).write(to: URL(fileURLWithPath: path))
        } catch {
            throw UsageError("cannot write \(path): \(error.localizedDescription)")
        }
    }
}
