package import StreamConfig
package import StreamCore

/// Looks every few seconds whether the files of the ports' certificates have changed.
actor CertificateWatch {
    private static let interval = Duration.seconds(2)

    private let core: NodeCore
    private let log: NodeLog
    private var task: Task<Void, Never>?
    private var isEnded = false

    init(core: NodeCore, log: NodeLog) {
        self.core = core
        self.log = log
    }

    /// Says what the ports show, and looks from now on.
    nonisolated func begin(_ files: [CertificateFiles]) {
        for file in files {
            guard case .certificate(let text, let isValid) = file.contents else { continue }
            log.write(
                isValid ? .info : .warn, isValid ? "certificate" : "certificate_invalid",
                ["detail": .text("\(file.certificate): \(text)")])
        }
        Task { await goOn() }
    }

    private func goOn() {
        guard !isEnded else { return }
        task = Task { [weak self] in
            while (try? await Task.sleep(for: Self.interval)) != nil {
                await self?.look(atOnce: false)
            }
        }
    }

    /// One at a time: an actor, and no `await` in it.
    func look(atOnce: Bool) {
        look("stream port", nil, atOnce)
        for index in core.workerPorts.indices { look("worker port \(index)", index, atOnce) }
    }

    private func look(_ port: String, _ worker: Int?, _ atOnce: Bool) {
        switch core.lookAtCertificate(ofWorkerPort: worker, atOnce: atOnce) {
        case .unchanged: break
        case .refused(let reason):
            log.write(
                .error, "certificate_not_reloaded",
                ["port": .text(port), "detail": .text("\(reason); the one in use stays")])
        case .taken(let text, let isValid):
            log.write(
                isValid ? .info : .warn, "certificate_reloaded",
                [
                    "port": .text(port),
                    "detail": .text(text + (isValid ? "" : ", not valid now")),
                ])
        }
    }

    func end() {
        isEnded = true
        task?.cancel()
        task = nil
    }
}

extension Configuration {
    /// Those of all ports.
    package var certificateFiles: [CertificateFiles] {
        ([stream.isEnabled ? stream.tls : nil] + workerListeners.map(\.tls)).compactMap { files in
            files.map { CertificateFiles($0) }
        }
    }
}
