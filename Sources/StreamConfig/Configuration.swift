package import StreamModel

/// Everything a node can be told before it starts: checked, complete, and independent of the file it
/// came from. `docs/configuration.md` says what each setting means.
package struct Configuration: Sendable, Equatable {
    package var stream = StreamListener()
    package var adapter = Adapter.kv(.inMemory)
    /// One for each `iii-worker-manager` entry; one with defaults when there is none.
    package var workerListeners = [WorkerListener()]
    /// How many threads share the work; nil: as many as the process may use cores.
    package var shards: Int?
    /// How long a thread looks for work before it sleeps; 0: not at all.
    package var poll: Duration = .zero
    package var io = IOBackend.auto
    package var compatibility = Compatibility()
    package var limits = Limits()
    package var timeouts = Timeouts()
    package var ping = Ping()
    package var observability = Observability()

    package static let pollRange = 0...1000

    /// What a file that says nothing means: both ports on all addresses, all in memory.
    package init() {}

    /// What a node without a file runs with: as an empty file, but on the loopback address only.
    package static var withoutFile: Configuration {
        var configuration = Configuration()
        configuration.stream.host = "127.0.0.1"
        configuration.workerListeners = [WorkerListener(host: "127.0.0.1")]
        return configuration
    }
}

/// Where stream clients connect, and who may.
package struct StreamListener: Sendable, Equatable {
    /// Whether there are streams at all: the port, the functions, the trigger types and the items.
    package var isEnabled = true
    /// An IP address, without the brackets of IPv6, or a host name.
    package var host = "0.0.0.0"
    /// 0: any free port.
    package var port = 3112
    /// The function that says who may connect; nil: everybody.
    package var authFunction: String?
    /// Names, or patterns with `*`, of streams that nobody joins without the word of a guard.
    package var guardedStreams: [String] = []
    /// The only values of the `Origin` header that may connect, in lower case; nil: all.
    package var origins: [String]?
    /// nil: it speaks no TLS.
    package var tls: TLSFiles?

    package init() {}
}

/// Where stream items live.
package enum Adapter: Sendable, Equatable {
    case kv(StoreMethod)
    case redis(url: String)
}

/// How the built-in store keeps items.
package enum StoreMethod: Sendable, Equatable {
    case inMemory
    case fileBased(FileStore)
}

/// A store in files.
package struct FileStore: Sendable, Equatable {
    /// A directory, relative to the working directory.
    package var path = "kv_store_data.db"
    package var durability = Durability.commit
    /// How often `interval` syncs.
    package var saveInterval: Duration = .seconds(5)
    /// Bytes of one file of the log.
    package var segmentSize = 32 << 20

    package init() {}
}

/// One address where workers connect.
package struct WorkerListener: Sendable, Equatable {
    /// An IP address, without the brackets of IPv6, or a host name.
    package var host: String
    /// 0: any free port.
    package var port: Int
    /// The only values of the `Origin` header that may connect, in lower case; `*`: all. Nil: all where an auth
    /// function decides, else pages of this machine.
    package var origins: [String]?
    /// nil: it speaks no TLS.
    package var tls: TLSFiles?
    /// The function that is called in place of every function; nil: none.
    package var middlewareFunctionID: String?
    /// Who may call what; nil: everybody everything.
    package var accessControl: AccessControl?
    package var limits = WorkerLimits()

    package init(host: String = "0.0.0.0", port: Int = 49134) {
        self.host = host
        self.port = port
    }
}

/// The `rbac` block of a worker listener.
package struct AccessControl: Sendable, Equatable {
    package var authFunctionID: String?
    /// Functions that match any of these may be called; none: only those that the auth function allows.
    package var exposedFunctions: [ExposedFunctions] = []
    package var triggerRegistrationFunctionID: String?
    package var triggerTypeRegistrationFunctionID: String?
    package var functionRegistrationFunctionID: String?
    /// Whether functions of all workers of the listener may take over stream functions for one stream.
    package var allowsStreamOverrides = false

    package init() {}
}

extension Configuration {
    /// The functions that the configuration names, each once, in its order. Whoever serves one decides for
    /// others, so a worker with rules may not register any.
    package var namedFunctionIDs: [String] {
        var ids = [stream.isEnabled ? stream.authFunction : nil]
        for listener in workerListeners {
            ids.append(listener.middlewareFunctionID)
            guard let access = listener.accessControl else { continue }
            ids += [
                access.authFunctionID, access.triggerRegistrationFunctionID,
                access.triggerTypeRegistrationFunctionID, access.functionRegistrationFunctionID,
            ]
        }
        var seen: Set<Name> = []
        return ids.compactMap(\.self).filter { seen.insert(Name($0)).inserted }
    }
}

/// One entry of `expose_functions`.
package enum ExposedFunctions: Sendable, Equatable {
    /// Ids that fit a pattern, in which `*` stands for any run of characters.
    case pattern(String)
    /// Functions whose metadata have all of these.
    case metadata([MetadataCondition])
}

/// What a key of a function's metadata must hold.
package struct MetadataCondition: Sendable, Equatable {
    package enum Test: Sendable, Equatable {
        case equals(JSONText)
        case pattern(String)
    }

    package var key: String
    package var test: Test

    package init(key: String, test: Test) {
        self.key = key
        self.test = test
    }
}

package struct Compatibility: Sendable, Equatable {
    /// Whether clients get in when the auth function or a join handler fails, as in the original.
    package var failOpen = false

    package init() {}
}

/// Limits of the node and of its stream clients. Sizes are bytes.
package struct Limits: Sendable, Equatable {
    package var subscriptionsPerConnection = 10_000
    package var streamClientBudget = 8 << 20
    package var slowReaderGrace: Duration = .seconds(1)
    package var streamClientHardSize = 64 << 20
    package var streamClientUnsentSize = 64 << 10
    package var clientMessageSize = 64 << 10
    package var syncSize = 128 << 20
    package var messageSize = 64 << 20
    package var frameSize = 16 << 20
    package var valueSize = 16 << 20
    package var snapshotSize = 256 << 20
    package var heldUpgrades = 4096
    /// Events that wait for one trigger, and their bytes.
    package var triggerEvents = 10_000
    package var triggerEventSize = 64 << 20
    /// Bytes of all events of one writer that wait for triggers.
    package var writerEventSize = 64 << 20
    /// Calls of one trigger under way.
    package var triggerCalls = 256
    /// Calls of triggers that one worker handles, and their bytes.
    package var handlerCallsPerWorker = 5000
    package var handlerSizePerWorker = 64 << 20
    package var turnedAway = 32
    package var connections = 100_000
    // 0: no limit.
    /// Of an IPv4 address, or of 64 bits of IPv6.
    package var connectionsPerAddress = 0
    /// On all ports.
    package var handshakesPerSecond = 0
    /// Of one stream client.
    package var messagesPerSecond = 20_000
    package var joinsPerSecond = 10_000
    /// nil: no limit.
    package var memory: Int?

    package init() {}
}

package struct Timeouts: Sendable, Equatable {
    package var handshake: Duration = .seconds(10)
    package var auth: Duration = .seconds(10)
    package var handler: Duration = .seconds(30)
    package var shutdown: Duration = .seconds(5)

    package init() {}
}

/// When a silent peer counts as gone, on every port.
package struct Ping: Sendable, Equatable {
    package var interval: Duration = .seconds(20)
    package var deadline: Duration = .seconds(20)

    package init() {}
}

/// What of the `iii-observability` entry matters to the `log` trigger.
package struct Observability: Sendable, Equatable {
    package var isEnabled = true
    package var logsEnabled = true
    /// The share of log records that is kept, 0 to 1.
    package var logsSamplingRatio = 1.0
    package var serviceName = "iii"
    package var serviceVersion: String?
    package var serviceNamespace: String?
    /// Where the node runs, from the environment variable `DEPLOYMENT_ENVIRONMENT`.
    package var deploymentEnvironment: String?

    package init() {}

    /// The resource of the log records that the node makes: a JSON object of strings.
    package var resource: JSONText {
        var object = JSONObjectWriter()
        object.add("service.name", serviceName)
        object.addIfPresent("service.namespace", serviceNamespace)
        object.addIfPresent("service.version", serviceVersion)
        object.addIfPresent("deployment.environment", deploymentEnvironment)
        return object.finish()
    }
}
