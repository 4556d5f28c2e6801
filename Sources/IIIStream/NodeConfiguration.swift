package import StreamConfig
internal import StreamCore
internal import StreamModel

/// What a node is started with.
///
/// The defaults listen on 127.0.0.1, ports 3112 and 49134, and keep everything in memory. All other settings
/// come from the text of a configuration file (docs/configuration.md).
public struct NodeConfiguration: Sendable {
    package var values: Configuration
    package var recovery = StoreRecovery()

    /// The defaults.
    public init() {
        values = .withoutFile
    }

    package init(_ values: Configuration) {
        self.values = values
    }

    /// Reads the text of a configuration file.
    /// - Parameter environment: for `${NAME:default}`.
    /// - Throws: ``NodeError/configuration(_:)`` with every problem, a line each.
    public init(yaml: String, environment: [String: String] = [:]) throws(NodeError) {
        do throws(ConfigurationError) {
            (values, _) = try Configuration.parse(
                Array(yaml.utf8), environment: environment, version: StreamNode.version)
        } catch {
            throw .configuration(error.text)
        }
    }

    /// The address for stream clients. Port 0: any free one, see ``StreamNode/streamPort``.
    public var stream: (host: String, port: UInt16) {
        get { (values.stream.host, UInt16(values.stream.port)) }
        set {
            values.stream.host = newValue.host
            values.stream.port = Int(newValue.port)
        }
    }

    /// The addresses for workers.
    public var workers: [(host: String, port: UInt16)] {
        get { values.workerListeners.map { ($0.host, UInt16($0.port)) } }
        set {
            values.workerListeners = newValue.map {
                WorkerListener(host: $0.host, port: Int($0.port))
            }
        }
    }

    /// Threads that share the work; nil: as many as the process may use cores.
    public var shards: Int? {
        get { values.shards }
        set { values.shards = newValue.map { min(max($0, 1), 64) } }
    }

    /// By what the node talks to the kernel.
    public enum KernelInterface: String, Sendable, CaseIterable {
        /// io_uring, or epoll where the kernel refuses that or is too old for it.
        case automatic = "auto"
        case ioUring = "io_uring"
        case epoll
    }

    /// By what the node talks to the kernel.
    public var io: KernelInterface {
        get { KernelInterface(rawValue: values.io.rawValue) ?? .automatic }
        set { values.io = IOBackend(rawValue: newValue.rawValue) ?? .auto }
    }

    /// How long a thread looks for work before it sleeps, in whole microseconds, at most 1,000 of them; zero, the default:
    /// not at all.
    public var poll: Duration {
        get { values.poll }
        set {
            let range = Configuration.pollRange
            let microseconds = min(max(newValue.inMicroseconds, range.lowerBound), range.upperBound)
            values.poll = .microseconds(microseconds)
        }
    }
}

/// What to do about a directory that is not as it should be.
package struct StoreRecovery: Sendable, Hashable {
    /// Start over damage, keeping a copy of the damaged file.
    package var repairs = false
    /// Names of the original's files are split at their last colon, not their first.
    package var importSplitsLast = false
    /// Go on without those of the original's files that cannot be read.
    package var importSkipsBroken = false

    package init() {}
}

/// Why a node could not be made or started.
public enum NodeError: Error, Sendable, CustomStringConvertible {
    /// Every problem of the configuration, a line each.
    case configuration(String)
    // Of all others, one sentence: what failed, and what helps.

    /// An address is in use, or is none of this host's.
    case addressUnavailable(String)
    /// The kernel is too old, or refuses what is needed.
    case kernelUnsupported(String)
    /// The directory of the store is in use, or cannot be made, read or written.
    case storeUnavailable(String)
    /// What is in the directory of the store is damaged, or cannot be read.
    case storeDamaged(String)
    /// Anything else.
    case start(String)

    public var description: String {
        switch self {
        case .configuration(let text), .addressUnavailable(let text),
            .kernelUnsupported(let text), .storeUnavailable(let text), .storeDamaged(let text),
            .start(let text):
            text
        }
    }
}

extension NodeError {
    init(_ error: CoreError) {
        guard case .startFailed(let step, let sentence) = error else {
            self = .start("out of memory")
            return
        }
        self =
            switch step {
            case .kernel: .kernelUnsupported(sentence)
            case .directory: .storeUnavailable(sentence)
            case .store: .storeDamaged(sentence)
            case .address: .addressUnavailable(sentence)
            case .certificate: .configuration(sentence)
            case .other: .start(sentence)
            }
    }
}
