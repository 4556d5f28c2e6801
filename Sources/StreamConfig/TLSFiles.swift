/// The certificate of a port, and who may connect to it by his own.
package struct TLSFiles: Sendable, Hashable {
    /// Whether clients are asked for a certificate.
    package enum ClientAuthentication: String, Sendable, CaseIterable {
        case none, optional, required
    }

    /// The oldest version of TLS that is spoken.
    package enum Version: String, Sendable, CaseIterable {
        case tls12 = "1.2"
        case tls13 = "1.3"
    }

    /// The certificate, then those between it and its authority, in PEM.
    package var certificate: String
    package var key: String
    /// The authorities of clients; nil: there are none.
    package var authorities: String?
    package var clientAuthentication = ClientAuthentication.none
    package var minimumVersion = Version.tls12

    package init(certificate: String, key: String) {
        self.certificate = certificate
        self.key = key
    }
}

extension ConfigurationDecoder {
    /// Reads the `tls` map of a port; nil: it speaks no TLS.
    mutating func tls(_ parent: SettingsMap) -> TLSFiles? {
        guard parent.has("tls") else { return nil }
        let map = parent.child("tls", keys: Schema.tls, &report)
        let certificate = path("cert_file", map)
        let key = path("key_file", map)
        guard let certificate, let key else {
            for name in ["cert_file", "key_file"] where map[name] == nil {
                report.error(
                    "\(map.place.description) needs a `\(name)`", at: parent.position(of: "tls"))
            }
            return nil
        }
        var files = TLSFiles(certificate: certificate, key: key)
        if map.has("ca_file") { files.authorities = path("ca_file", map) }
        if let value = choice("client_auth", TLSFiles.ClientAuthentication.self, map) {
            files.clientAuthentication = value
        }
        if let value = choice("min_version", TLSFiles.Version.self, map) {
            files.minimumVersion = value
        }
        if files.clientAuthentication != .none, files.authorities == nil {
            report.error(
                "`client_auth: \(files.clientAuthentication.rawValue)` needs a `ca_file` with the authorities"
                    + " that sign certificates of clients", at: map.position(of: "client_auth"))
        }
        if files.clientAuthentication == .none, let position = map.position(of: "ca_file") {
            report.warning("`ca_file` has no effect with `client_auth: none`", at: position)
        }
        return files
    }

    private mutating func path(_ key: String, _ map: SettingsMap) -> String? {
        guard map[key] != nil, let path = map.text(key, &report) else { return nil }
        guard !path.utf8.contains(0) else {
            map.refuse(key, "a path without NUL", &report)
            return nil
        }
        return path
    }

    /// Reads one of the words, or numbers, that a setting may be.
    private mutating func choice<Value: RawRepresentable & CaseIterable>(
        _ key: String, _ type: Value.Type, _ map: SettingsMap
    ) -> Value? where Value.RawValue == String {
        guard let node = map[key] else { return nil }
        let text: String? =
            switch node.value {
            case .string(let text): text
            case .float(let number): "\(number)"
            default: nil
            }
        if let value = text.flatMap(Value.init(rawValue:)) { return value }
        map.refuse(key, alternatives(type.allCases.map(\.rawValue)), &report)
        return nil
    }
}

extension TLSFiles {
    /// As a file has them.
    var node: YAMLNode {
        YAMLNode(
            .map([
                YAMLEntry("cert_file", YAMLNode(.string(certificate))),
                YAMLEntry("key_file", YAMLNode(.string(key))),
                YAMLEntry("ca_file", authorities.map { YAMLNode(.string($0)) } ?? YAMLNode(.null)),
                YAMLEntry("client_auth", YAMLNode(.string(clientAuthentication.rawValue))),
                YAMLEntry("min_version", YAMLNode(.string(minimumVersion.rawValue))),
            ]))
    }
}
