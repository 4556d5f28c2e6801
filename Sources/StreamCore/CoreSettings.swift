package import StreamModel

/// The core's part of a configuration; every value has been validated.
package struct CoreSettings: Hashable, Sendable {
    package struct Address: Hashable, Sendable {
        package var host: String
        package var port: UInt16
        /// Bytes that may wait for one client of it.
        package var clientBudget: Int
        package var origins: Origins
        /// nil: it speaks no TLS.
        package var certificate: CertificateFiles?

        package init(host: String, port: UInt16, clientBudget: Int, origins: Origins = .all) {
            self.host = host
            self.port = port
            self.clientBudget = clientBudget
            self.origins = origins
        }
    }

    /// Which pages may connect to a port. Clients that are no browsers may always.
    package enum Origins: Hashable, Sendable {
        case all
        /// Those of these origins, in lower case.
        case listed([String])
        /// Pages of this machine, and of the address that the client has connected to.
        case local
    }

    /// A directory with the items of the node.
    package struct Storage: Hashable, Sendable {
        package var path: String
        package var durability: Durability
        /// How often `interval` flushes.
        package var flushInterval: Duration = .zero
        /// Bytes of one file of the log.
        package var segmentSize: Int
        /// Starts over damage, keeping a copy of the damaged file.
        package var repairs = false
        /// Names of the original's files are split at their last colon, not their first.
        package var importSplitsLast = false
        /// Goes on without the original's files that cannot be read.
        package var importSkipsBroken = false

        package init(path: String, durability: Durability, segmentSize: Int) {
            self.path = path
            self.durability = durability
            self.segmentSize = segmentSize
        }
    }

    /// nil: in memory only.
    package var storage: Storage?
    /// Nobody may connect: for work on the storage alone.
    package var withoutPorts = false
    /// There is no stream port, and no stream function: a call of one is that of any function.
    package var withoutStreams = false
    package var shardCount: Int
    /// How long a shard looks for work before it sleeps.
    package var poll: Duration = .zero
    /// By what the shards talk to the kernel.
    package var io = IOBackend.auto
    package var stream: Address
    package var workers: [Address]
    /// Whether stream clients wait until the control plane lets them in.
    package var authenticates: Bool
    /// Whether every join is asked about, from the start on.
    package var watchesJoins = false
    package var messageSizeMax: Int
    package var frameSizeMax: Int
    package var valueSizeMax: Int
    package var subscriptionsPerConnectionMax: Int
    package var clientMessageSizeMax = 64 << 10
    package var syncSizeMax = 128 << 20
    package var slowReaderGrace: Duration
    package var clientHardSizeMax = 64 << 20
    package var clientUnsentSize = 64 << 10
    package var heldUpgradeCountMax = 4096
    package var turnedAwayCountMax = 32
    package var snapshotSizeMax = 256 << 20
    package var connectionCountMax: Int
    // 0: no limit.
    package var connectionsPerAddressMax = 0
    package var handshakesPerSecondMax = 0
    package var messagesPerSecondMax = 0
    package var joinsPerSecondMax = 0
    package var handshake: Duration
    package var pingInterval: Duration
    package var pingDeadline: Duration
    /// Of the hash tables; random, so that nobody can choose names that collide.
    package var seed: UInt64

    package init(
        shardCount: Int, stream: Address, workers: [Address], authenticates: Bool = false,
        messageSizeMax: Int, frameSizeMax: Int, valueSizeMax: Int,
        subscriptionsPerConnectionMax: Int,
        slowReaderGrace: Duration, connectionCountMax: Int, handshake: Duration,
        pingInterval: Duration, pingDeadline: Duration, seed: UInt64
    ) {
        self.shardCount = shardCount
        self.stream = stream
        self.workers = workers
        self.authenticates = authenticates
        self.messageSizeMax = messageSizeMax
        self.frameSizeMax = frameSizeMax
        self.valueSizeMax = valueSizeMax
        self.subscriptionsPerConnectionMax = subscriptionsPerConnectionMax
        self.slowReaderGrace = slowReaderGrace
        self.connectionCountMax = connectionCountMax
        self.handshake = handshake
        self.pingInterval = pingInterval
        self.pingDeadline = pingDeadline
        self.seed = seed
    }
}
