/// Turns the entries of a file into a ``Configuration``, and says all that is wrong with them.
struct ConfigurationDecoder {
    var configuration = Configuration()
    var report = DiagnosticList()

    private let notBuiltYet: [NotBuiltYet]
    /// Where each of our entries was seen first.
    private var seen: [Schema.Worker: SourcePosition] = [:]
    /// Whether an entry of the old form was reported.
    private var hasOldForm = false
    /// The listeners with where their ports stand, to find two on one address.
    private var addresses: [(address: String, position: SourcePosition?)] = []

    init(notBuiltYet: [NotBuiltYet]) {
        self.notBuiltYet = notBuiltYet
    }

    /// Reads the root of a file.
    mutating func decode(_ root: YAMLNode) {
        switch root.value {
        case .null:
            break
        case .list(let entries):
            decodeEntries(entries)
        case .map(let parts):
            for part in parts where !Schema.file.contains(part.key) {
                let near = nearest(to: part.key, among: Schema.file)
                report.error(
                    "unknown key \(quoted(part.key)), expected `workers` or `modules`"
                        + (near.map { ": did you mean `\($0)`?" } ?? ". \(Self.shape)"),
                    at: part.keyPosition)
            }
            for key in Schema.file {
                guard let part = root[key], !part.isNull else { continue }
                guard case .list(let entries) = part.value else {
                    report.error(
                        "`\(key)` must be a list of entries, found \(part.kind). \(Self.shape)",
                        at: part.position)
                    continue
                }
                decodeEntries(entries)
            }
        default:
            report.error(
                "the file must be a map, found \(root.kind). \(Self.shape)", at: root.position)
        }
        checkAddresses()
        checkNamedFunctions()
    }

    private static let shape = """
        A file looks like this:
        workers:
          - name: iii-stream
            config:
              port: 3112
              adapter:
                name: kv
        """

    // MARK: Entries

    private mutating func decodeEntries(_ entries: [YAMLNode]) {
        for entry in entries {
            guard case .map(let parts) = entry.value else {
                report.error(
                    "an entry must be a map with a `name`, found \(entry.kind). \(Self.shape)",
                    at: entry.position)
                continue
            }
            guard let name = entry["name"] else {
                if case .string(let text) = entry["class"]?.value {
                    oldForm(text, at: entry.position)
                    continue
                }
                let isBare = parts.contains { Schema.stream.contains($0.key) }
                report.error(
                    "this entry has no `name`"
                        + (isBare
                            ? "; these are settings of `iii-stream`, they belong in its `config`. "
                            : ". ") + Self.shape, at: entry.position)
                continue
            }
            guard case .string(let text) = name.value else {
                report.error("`name` must be a string, found \(name.kind)", at: name.position)
                continue
            }
            if let worker = Schema.Worker(rawValue: text) {
                decode(parts, of: worker, at: name.position)
            } else {
                passOver(text, at: name.position)
            }
        }
    }

    /// One sentence for a file whose entries have a `class` instead of a `name`, however many.
    private mutating func oldForm(_ name: String, at position: SourcePosition) {
        guard !hasOldForm else { return }
        hasOldForm = true
        report.error(
            "`class: \(quoted(name, with: ""))` is the old form of the configuration, which is no longer read:"
                + " an entry has a `name` now, as `name: iii-stream` in place of"
                + " `class: modules::stream::StreamModule`, and so has its `adapter`, as `name: kv`",
            at: position)
    }

    /// Another worker of iii is none of our business; a misspelt one of ours is, because its
    /// settings, the auth function among them, would be lost without a sign.
    private mutating func passOver(_ name: String, at position: SourcePosition) {
        let ours = Schema.Worker.allCases.map(\.rawValue)
        if let near = nearest(to: name, among: ours) ?? nearest(to: "iii-" + name, among: ours) {
            report.error(
                "unknown worker \(quoted(name)): did you mean `\(near)`?", at: position)
        } else {
            report.warning(
                "the worker \(quoted(name)) is not part of this server: its entry is ignored",
                at: position)
        }
    }

    private mutating func decode(
        _ parts: [YAMLEntry], of worker: Schema.Worker, at position: SourcePosition
    ) {
        for part in parts where !Schema.entry.contains(part.key) {
            let isSetting = Schema.settings.contains { $0.worker == worker && $0.path == part.key }
            let near = nearest(to: part.key, among: Schema.entry)
            report.error(
                "unknown key \(quoted(part.key)) in the entry of `\(worker.rawValue)`: "
                    + (isSetting || near == nil
                        ? "settings belong under `config`" : "did you mean `\(near ?? "")`?"),
                at: part.keyPosition)
        }
        for part in parts where part.key == "image" && !part.value.isNull {
            report.warning(
                "`image` of `\(worker.rawValue)` has no effect: the worker is built in",
                at: part.keyPosition)
        }
        let isFirst = seen[worker] == nil
        if let first = seen[worker], worker != .manager {
            report.error(
                "`\(worker.rawValue)` is given twice, in line \(first.line) and again in line"
                    + " \(position.line)", at: position)
        }
        seen[worker] = seen[worker] ?? position
        let config = parts.first { $0.key == "config" }?.value
        switch worker {
        case .stream:
            decodeStream(config)
        case .manager:
            if isFirst { configuration.workerListeners = [] }
            decodeWorkerListener(config)
        case .observability:
            decodeObservability(config)
        }
        for feature in notBuiltYet where feature.worker == worker {
            if let config { feature.check(config, &report) }
        }
    }

    // MARK: Addresses

    /// Remembers where a listener will listen.
    mutating func note(host: String, port: Int, at position: SourcePosition?) {
        if port != 0 { addresses.append(("\(host):\(port)", position)) }
    }

    private mutating func checkAddresses() {
        if seen[.stream] == nil {
            note(host: configuration.stream.host, port: configuration.stream.port, at: nil)
        }
        if seen[.manager] == nil {
            for listener in configuration.workerListeners {
                note(host: listener.host, port: listener.port, at: nil)
            }
        }
        var taken: Set<String> = []
        for (address, position) in addresses where !taken.insert(address).inserted {
            report.error("two listeners have the address \(address)", at: position)
        }
    }
}
