internal import Foundation
internal import IIIStream
internal import StreamConfig

@main
enum Main {
    static func main() async {
        let options: CommandLineOptions
        do throws(CommandLineError) {
            options = try CommandLineOptions(arguments: Array(CommandLine.arguments.dropFirst()))
        } catch {
            fail("\(error.message)\nTry 'iii-stream --help'.", code: 2)
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
        case .run, .checkConfiguration, .printConfiguration:
            break
        }
        let loaded: LoadedConfiguration
        do throws(ConfigurationError) {
            loaded = try .load(
                options.source, environment: LoadedConfiguration.processEnvironment,
                version: StreamNode.version)
        } catch {
            fail(error.text, code: 1)
        }
        switch options.action {
        case .checkConfiguration:
            for warning in loaded.warningTexts { standardError(warning) }
            print("The configuration is valid.")
        case .printConfiguration:
            print(loaded.configuration.yaml(), terminator: "")
        default:
            await run(loaded, options)
        }
    }

    private static func recovery(_ options: CommandLineOptions) -> StoreRecovery {
        var recovery = StoreRecovery()
        recovery.repairs = options.repairs
        recovery.importSkipsBroken = options.importSkipsDamaged
        recovery.importSplitsLast = options.importSplitsLast
        return recovery
    }

    /// Looks into, checks or fills the directory of a store.
    private static func work(on directory: String, _ options: CommandLineOptions) {
        do throws(NodeError) {
            switch options.action {
            case .inspect:
                try StoreDirectory.inspect(directory) { json in
                    FileHandle.standardOutput.write(Data(json) + [UInt8(ascii: "\n")])
                } remark: {
                    standardError("iii-stream: \($0)")
                }
            case .verify:
                let (batches, records) = try StoreDirectory.verify(directory) {
                    standardError("iii-stream: \($0)")
                }
                print("\(directory) is in order: \(records) records in \(batches) batches")
            default:
                let log = LogWriter(level: .info)
                try StoreDirectory.importOriginals(directory, recovery(options)) { log.write($0) }
                log.flush()
            }
        } catch {
            fail(error.description, code: 1)
        }
    }

    private static func run(_ loaded: LoadedConfiguration, _ options: CommandLineOptions) async {
        let signals = await Signals()
        let log = LogWriter(level: .info)
        log.write(
            LogRecord(
                .info, "starting", ["version": StreamNode.version, "configuration": loaded.summary])
        )
        for warning in loaded.warningTexts {
            log.write(LogRecord(.warn, "configuration", ["detail": warning]))
        }
        let node: StreamNode
        do throws(NodeError) {
            var configuration = NodeConfiguration(loaded.configuration)
            configuration.recovery = recovery(options)
            node = try await StreamNode.start(configuration) {
                log.write($0)
            }
        } catch {
            log.flush()
            fail("failed to start: \(error.description)", code: 1)
        }
        greet(node, loaded.configuration)
        for await signal in signals.events {
            switch signal {
            case .stop:
                await node.stop()
                log.flush()
                return
            case .logCounters:
                let counters = await node.counters()
                log.write(LogRecord(.info, "counters", counters: counters))
            }
        }
    }

    /// What somebody who has just started a node wants to know.
    private static func greet(_ node: StreamNode, _ configuration: Configuration) {
        let stream = "\(reachable(configuration.stream.host)):\(node.streamPort)"
        let workers = zip(configuration.workerListeners, node.workerPorts).map {
            "ws://\(reachable($0.host)):\($1)"
        }
        print(
            """
            iii-stream \(StreamNode.version), \(kept(configuration.adapter))
              stream clients   ws://\(stream)/stream/<stream>/<group>
              workers          \(workers.joined(separator: ", "))
              try              curl -sN -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
            -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: aWlpLXN0cmVhbSBoZWxsbw==' \
            http://\(stream)/stream/chat/room-1
              stop             Ctrl-C
            """)
        fflush(nil)
    }

    private static func kept(_ adapter: Adapter) -> String {
        guard case .kv(.fileBased(let store)) = adapter else { return "everything in memory" }
        return "items in \(store.path)"
    }

    /// The address to type, for one that a listener may be bound to.
    private static func reachable(_ host: String) -> String {
        switch host {
        case "0.0.0.0": "127.0.0.1"
        case "::": "[::1]"
        default: host.contains(":") ? "[\(host)]" : host
        }
    }

    private static func standardError(_ text: String) {
        FileHandle.standardError.write(Data((text + "\n").utf8))
    }

    private static func fail(_ text: String, code: Int32) -> Never {
        standardError("iii-stream: \(text)")
        exit(code)
    }
}

extension LogRecord {
    fileprivate init(_ level: Level, _ event: String, _ fields: KeyValuePairs<String, String>) {
        self.init(
            level: level, event: event, fields: fields.map { ($0.key, Value.text($0.value)) })
    }

    fileprivate init(_ level: Level, _ event: String, counters: [(name: String, value: UInt64)]) {
        self.init(
            level: level, event: event, fields: counters.map { ($0.name, Value.number($0.value)) })
    }
}
