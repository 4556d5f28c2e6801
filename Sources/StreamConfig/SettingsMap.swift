/// Where a map stands in the file: an entry, and a path in its `config`.
struct SettingsPlace {
    var worker: Schema.Worker
    var path: [String] = []

    func child(_ key: String) -> SettingsPlace {
        SettingsPlace(worker: worker, path: path + [key])
    }

    var description: String {
        path.isEmpty
            ? "`\(worker.rawValue)`" : "`\(path.joined(separator: "."))` of `\(worker.rawValue)`"
    }
}

/// One map of our settings. Whoever makes it names the keys it may have; the others are reported then.
///
/// A setting that is absent, or wrong (and then reported), leaves its default.
struct SettingsMap {
    let place: SettingsPlace
    private var entries: [String: YAMLEntry] = [:]

    /// Takes `node`; nil and null are a map without keys.
    init(
        _ node: YAMLNode?, at place: SettingsPlace, keys: [String], _ report: inout DiagnosticList
    ) {
        self.place = place
        guard let node, !node.isNull else { return }
        guard case .map(let entries) = node.value else {
            report.error(
                "\(place.description) must be a map, found \(node.kind)", at: node.position)
            return
        }
        for entry in entries {
            if keys.contains(entry.key) {
                self.entries[entry.key] = entry
            } else {
                report.error(
                    "unknown key \(quoted(entry.key)) in \(place.description): "
                        + advice(for: entry.key, among: keys), at: entry.keyPosition)
            }
        }
    }

    /// The value under `key`, null included.
    subscript(key: String) -> YAMLNode? { entries[key]?.value }

    /// Whether `key` is there with a value.
    func has(_ key: String) -> Bool { !(self[key]?.isNull ?? true) }

    func position(of key: String) -> SourcePosition? { entries[key]?.keyPosition }

    func child(_ key: String, keys: [String], _ report: inout DiagnosticList) -> SettingsMap {
        SettingsMap(self[key], at: place.child(key), keys: keys, &report)
    }

    /// Reports that the value under `key` is not what it must be.
    func refuse(_ key: String, _ expected: String, _ report: inout DiagnosticList) {
        guard let node = self[key] else { return }
        var found = "found \(node.kind)"
        if case .integer(let value) = node.value { found = "found \(value)" }
        report.error(
            "\(place.child(key).description) must be \(expected), \(found)", at: node.position)
    }

    // MARK: Values

    func read<Root>(
        _ settings: [IntegerSetting<Root>], into root: inout Root, _ report: inout DiagnosticList
    ) {
        for setting in settings {
            read(setting.key, in: setting.range, into: &root[keyPath: setting.field], &report)
        }
    }

    func read(
        _ key: String, in range: ClosedRange<Int>, into value: inout Int,
        _ report: inout DiagnosticList
    ) {
        guard let node = self[key] else { return }
        if case .integer(let given) = node.value, range.contains(given) {
            value = given
        } else {
            refuse(key, "an integer from \(range.lowerBound) to \(range.upperBound)", &report)
        }
    }

    func read(_ key: String, into value: inout Bool, _ report: inout DiagnosticList) {
        guard let node = self[key] else { return }
        if case .boolean(let given) = node.value {
            value = given
        } else {
            refuse(key, "`true` or `false`", &report)
        }
    }

    /// Reads a number from 0 to 1.
    func read(_ key: String, ratio value: inout Double, _ report: inout DiagnosticList) {
        switch self[key]?.value {
        case nil: break
        case .float(let given) where 0...1 ~= given: value = given
        case .integer(let given) where 0...1 ~= given: value = Double(given)
        default: refuse(key, "a number from 0 to 1", &report)
        }
    }

    /// Reads a text that is not empty.
    func text(_ key: String, _ report: inout DiagnosticList) -> String? {
        guard let node = self[key] else { return nil }
        guard case .string(let text) = node.value, !text.isEmpty else {
            let isEmpty = node.value == .string("")
            refuse(key, isEmpty ? "a string that is not empty" : "a string", &report)
            return nil
        }
        return text
    }

    /// Reads a text that is not empty, or null for none.
    func optionalText(_ key: String, _ report: inout DiagnosticList) -> String? {
        has(key) ? text(key, &report) : nil
    }

    /// Reads a function id: a text, or null for none.
    func functionID(_ key: String, _ report: inout DiagnosticList) -> String? {
        guard has(key), let id = text(key, &report) else { return nil }
        guard id.utf8.count <= Self.functionIDSizeMax else {
            refuse(key, "a function id of at most \(Self.functionIDSizeMax) bytes", &report)
            return nil
        }
        return id
    }

    /// Bytes of a name or id anywhere in the server.
    static let functionIDSizeMax = 256

    func host(_ key: String, into value: inout String, _ report: inout DiagnosticList) {
        guard let text = text(key, &report) else { return }
        if let host = hostWithoutBrackets(text) {
            value = host
        } else {
            report.error(
                "\(place.child(key).description) must be an IP address or a host name, found"
                    + " \(quoted(text))", at: self[key]?.position)
        }
    }

    private func advice(for key: String, among keys: [String]) -> String {
        let here = place.child(key)
        let elsewhere = Schema.settings.filter {
            $0.key == key
                && !($0.worker == here.worker && $0.path == here.path.joined(separator: "."))
        }
        // A place in the same entry is likelier to be what was meant.
        if let home = elsewhere.first(where: { $0.worker == here.worker }) ?? elsewhere.first {
            return "it belongs in the config of `\(home.worker.rawValue)`, as `\(home.path)`"
        }
        if let near = nearest(to: key, among: keys) {
            return "did you mean `\(near)`?"
        }
        return "expected \(alternatives(keys))"
    }
}
