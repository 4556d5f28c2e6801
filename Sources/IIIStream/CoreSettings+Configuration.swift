internal import StreamAdapters
package import StreamConfig
package import StreamCore
internal import StreamModel

extension CoreSettings {
    /// The core's part of a configuration.
    init(_ configuration: Configuration) {
        let limits = configuration.limits
        var generator = SystemRandomNumberGenerator()
        self.init(
            shardCount: StreamNode.shardCount(configuration),
            stream: Address(
                host: configuration.stream.host, port: UInt16(configuration.stream.port),
                clientBudget: limits.streamClientBudget,
                origins: configuration.stream.origins.map { .listed($0) } ?? .all),
            workers: configuration.workerListeners.map {
                Address(
                    host: $0.host, port: UInt16($0.port), clientBudget: $0.limits.workerBudget,
                    origins: Origins($0))
            },
            authenticates: configuration.stream.authFunction != nil,
            messageSizeMax: limits.messageSize,
            frameSizeMax: limits.frameSize,
            valueSizeMax: limits.valueSize,
            subscriptionsPerConnectionMax: limits.subscriptionsPerConnection,
            slowReaderGrace: limits.slowReaderGrace,
            connectionCountMax: limits.connections,
            handshake: configuration.timeouts.handshake,
            pingInterval: configuration.ping.interval,
            pingDeadline: configuration.ping.deadline,
            seed: generator.next())
        poll = configuration.poll
        io = configuration.io
        stream.certificate = configuration.stream.tls.map { CertificateFiles($0) }
        for (index, listener) in configuration.workerListeners.enumerated() {
            workers[index].certificate = listener.tls.map { CertificateFiles($0) }
        }
        withoutStreams = !configuration.stream.isEnabled
        watchesJoins = !configuration.stream.guardedStreams.isEmpty
        clientMessageSizeMax = limits.clientMessageSize
        syncSizeMax = limits.syncSize
        clientHardSizeMax = limits.streamClientHardSize
        snapshotSizeMax = limits.snapshotSize
        heldUpgradeCountMax = limits.heldUpgrades
        turnedAwayCountMax = limits.turnedAway
        connectionsPerAddressMax = limits.connectionsPerAddress
        handshakesPerSecondMax = limits.handshakesPerSecond
        messagesPerSecondMax = limits.messagesPerSecond
        joinsPerSecondMax = limits.joinsPerSecond
        clientUnsentSize = limits.streamClientUnsentSize
    }

    /// Adds where the items are kept.
    mutating func keep(in store: SelectedStore, _ recovery: StoreRecovery) {
        guard case .files(let files) = store else { return }
        var storage = Storage(
            path: files.path, durability: files.durability, segmentSize: files.segmentSize)
        storage.flushInterval = files.saveInterval
        storage.repairs = recovery.repairs
        storage.importSplitsLast = recovery.importSplitsLast
        storage.importSkipsBroken = recovery.importSkipsBroken
        self.storage = storage
    }
}

extension CertificateFiles {
    package init(_ files: TLSFiles) {
        let asks: ClientAuthentication =
            switch files.clientAuthentication {
            case .none: .none
            case .optional: .optional
            case .required: .required
            }
        self.init(
            certificate: files.certificate, key: files.key, authorities: files.authorities,
            clientAuthentication: asks, needsTLS13: files.minimumVersion == .tls13)
    }
}

extension CoreSettings.Origins {
    /// Of a port for workers: without a list, an auth function decides about pages as about everybody. Without either
    /// a page of anywhere could call everything on the machine of who looks at it.
    fileprivate init(_ listener: WorkerListener) {
        if let origins = listener.origins {
            self = origins.contains("*") ? .all : .listed(origins)
        } else {
            self = listener.accessControl?.authFunctionID == nil ? .local : .all
        }
    }
}
