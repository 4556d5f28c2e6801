internal import Foundation
internal import IIIStream
internal import StreamConfig
internal import StreamCore

/// The process of a node: from its configuration to its end by a signal.
struct Server {
    private let options: CommandLineOptions
    private let log = LogWriter(level: .info)
    private let started = StartedNode()

    init(_ options: CommandLineOptions) {
        self.options = options
    }

    /// Runs a node until a signal ends it. Ends the process.
    func run() async -> Never {
        let signals = await Signals()
        let loaded = load()
        let descriptors = ProcessFacts.raiseDescriptorLimit()
        log.write(
            LogRecord(
                .info, "starting", ["version": StreamNode.version, "configuration": loaded.summary])
        )
        for warning in loaded.warningTexts {
            log.write(LogRecord(.warn, "configuration", ["detail": warning]))
        }
        warnOfConnections(loaded.configuration, descriptors)
        let starting = Task { await start(loaded.configuration) }
        var isStopping = false
        for await signal in signals.events {
            switch signal {
            case .stop where isStopping:
                log.write(LogRecord(.warn, "stopped_at_once", ["detail": "by a second signal"]))
                end(.killed)
            case .stop:
                isStopping = true
                // What a start has done so far needs no end in order: it is as safe as after a kill.
                guard let node = started.node else { end(nil) }
                Task {
                    await node.stop()
                    end(nil)
                }
            case .reload:
                readAgain(loaded.configuration)
                // The certificates that run are read again, whatever has become of the file that names them.
                Task { [started] in await started.node?.reloadCertificates() }
            case .logCounters:
                // A shard that does not answer holds up no signal, and neither does a start.
                Task { [log, started] in
                    await starting.value
                    guard let node = started.node else { return }
                    let counters = await node.counters()
                    log.write(LogRecord(.info, "counters", counters: counters))
                }
            }
        }
        _ = await starting.value
        end(nil)
    }

    private func load() -> LoadedConfiguration {
        do throws(ConfigurationError) {
            return try .load(options)
        } catch {
            fail("configuration_invalid", error.text, .configuration)
        }
    }

    private func start(_ values: Configuration) async {
        do throws(NodeError) {
            var configuration = NodeConfiguration(values)
            configuration.recovery = options.recovery
            let node = try await StreamNode.start(configuration) { [log] in log.write($0) }
            started.node = node
            if isatty(STDOUT_FILENO) != 0 { greet(node, values) }
        } catch {
            fail("start_failed", "failed to start: \(error.description)", ExitCode(error))
        }
    }

    // MARK: - While it runs

    /// What SIGHUP asks for. No setting can be changed in a running node yet: the file is checked all the same, and the
    /// log says what a start would change.
    private func readAgain(_ running: Configuration) {
        do throws(ConfigurationError) {
            let loaded = try LoadedConfiguration.load(options)
            for warning in loaded.warningTexts {
                log.write(LogRecord(.warn, "configuration", ["detail": warning]))
            }
            let changed = running.settings(changedIn: loaded.configuration)
            let outcome =
                changed.isEmpty
                ? "asks for what the node runs with: nothing would change when it is started again"
                : "takes effect when the node is started again, and changes "
                    + changed.joined(separator: ", ")
            log.write(
                LogRecord(
                    level: .info, event: "configuration_not_reloaded",
                    fields: [
                        ("detail", .text("\(loaded.summary) is valid and \(outcome)")),
                        ("changed", .list(changed)),
                    ]))
        } catch {
            log.write(LogRecord(.error, "configuration_not_reloaded", ["detail": error.text]))
        }
    }

    private func warnOfConnections(_ configuration: Configuration, _ descriptors: UInt64) {
        guard descriptors < UInt64(configuration.limits.connections) else { return }
        log.write(
            LogRecord(
                .warn, "descriptors_limited",
                [
                    "detail":
                        "limits.connections is \(configuration.limits.connections), but this process may have"
                        + " \(descriptors) descriptors; raise the limit (ulimit -n, LimitNOFILE=) or lower the setting"
                ]))
    }

    // MARK: - The end

    private func end(_ code: ExitCode?) -> Never {
        log.flush()
        exit(code?.rawValue ?? 0)
    }

    /// Says why there is no node: as a sentence to people, as a line of the log otherwise.
    private func fail(_ event: String, _ text: String, _ code: ExitCode) -> Never {
        if isatty(STDERR_FILENO) != 0 {
            log.flush()
            Main.standardError("iii-stream: \(text)")
        } else {
            for line in text.split(separator: "\n") {
                log.write(LogRecord(.error, event, ["detail": String(line)]))
            }
        }
        end(code)
    }

    // MARK: - The greeting

    /// What somebody who has just started a node wants to know.
    private func greet(_ node: StreamNode, _ configuration: Configuration) {
        let stream = "\(reachable(configuration.stream.host)):\(node.streamPort)"
        let streams = configuration.stream.isEnabled
        let secure = configuration.stream.tls == nil ? "" : "s"
        let workers = zip(configuration.workerListeners, node.workerPorts).map {
            "\($0.tls == nil ? "ws" : "wss")://\(reachable($0.host)):\($1)"
        }
        print(
            "iii-stream \(StreamNode.version), \(streams ? kept(configuration.adapter) : "no streams")"
        )
        if streams { print("  stream clients   ws\(secure)://\(stream)/stream/<stream>/<group>") }
        print("  workers          \(workers.joined(separator: ", "))")
        if streams {
            print(
                """
                  try              curl -sN -H 'Connection: Upgrade' -H 'Upgrade: websocket' \
                -H 'Sec-WebSocket-Version: 13' -H 'Sec-WebSocket-Key: aWlpLXN0cmVhbSBoZWxsbw==' \
                http\(secure)://\(stream)/stream/chat/room-1
                """)
        }
        print("  stop             Ctrl-C")
        fflush(nil)
    }

    private func kept(_ adapter: Adapter) -> String {
        guard case .kv(.fileBased(let store)) = adapter else { return "everything in memory" }
        return "items in \(store.path)"
    }

    /// The address to type, for one that a listener may be bound to.
    private func reachable(_ host: String) -> String {
        switch host {
        case "0.0.0.0": "127.0.0.1"
        case "::": "[::1]"
        default: host.contains(":") ? "[\(host)]" : host
        }
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
