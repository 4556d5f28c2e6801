internal import CStreamCore
internal import Glibc

/// The certificate of a port as the core takes it: paths of PEM files.
package struct CertificateFiles: Hashable, Sendable {
    package enum ClientAuthentication: Hashable, Sendable {
        case none, optional, required
    }

    package var certificate: String
    package var key: String
    package var authorities: String?
    package var clientAuthentication: ClientAuthentication
    /// Whether TLS 1.2 is refused.
    package var needsTLS13: Bool

    package init(
        certificate: String, key: String, authorities: String?,
        clientAuthentication: ClientAuthentication, needsTLS13: Bool
    ) {
        self.certificate = certificate
        self.key = key
        self.authorities = authorities
        self.clientAuthentication = clientAuthentication
        self.needsTLS13 = needsTLS13
    }

    /// What is in the files.
    package enum Contents: Hashable, Sendable {
        /// A sentence names the file, and says what is wrong with it.
        case refused(String)
        /// Whose certificate it is, until when, and whether that is so now.
        case certificate(String, isValid: Bool)
    }

    /// Reads and checks the files.
    package var contents: Contents {
        guard let tickets = unsafe sc_tls_tickets_create() else { return .refused("memory is out") }
        defer { unsafe sc_tls_tickets_release(tickets) }
        guard let files = unsafe CertificateTable(self) else { return .refused("memory is out") }
        defer { unsafe files.free() }
        var context: OpaquePointer?
        var reason = sc_tls_reason()
        let rc = unsafe sc_tls_server_create(files.table, tickets, &context, &reason)
        guard rc == 0, let context = unsafe context else { return .refused(reason.string) }
        defer { unsafe sc_tls_context_release(context) }
        unsafe sc_tls_context_describe(context, &reason)
        return .certificate(reason.string, isValid: unsafe sc_tls_context_validity(context) == 0)
    }

}

/// The files as C takes them, until `free`.
@unsafe struct CertificateTable {
    let table: UnsafePointer<sc_tls_files>
    private let memory: UnsafeMutablePointer<sc_tls_files>

    /// - Returns: nil without files.
    init?(_ files: CertificateFiles?) {
        guard let files, let certificate = unsafe strdup(files.certificate),
            let key = unsafe strdup(files.key)
        else { return nil }
        unsafe memory = .allocate(capacity: 1)
        unsafe memory.initialize(
            to: sc_tls_files(
                cert_file: certificate, key_file: key,
                ca_file: files.authorities.flatMap { unsafe strdup($0) },
                client_auth: files.clientAuthentication.value,
                min_version: files.needsTLS13 ? SC_TLS_1_3 : SC_TLS_1_2))
        unsafe table = UnsafePointer(memory)
    }

    func free() {
        let files = unsafe memory.pointee
        unsafe Glibc.free(UnsafeMutablePointer(mutating: files.cert_file))
        unsafe Glibc.free(UnsafeMutablePointer(mutating: files.key_file))
        unsafe Glibc.free(UnsafeMutablePointer(mutating: files.ca_file))
        unsafe memory.deallocate()
    }
}

extension CertificateFiles.ClientAuthentication {
    fileprivate var value: sc_tls_client_auth {
        switch self {
        case .none: SC_TLS_CLIENT_AUTH_NONE
        case .optional: SC_TLS_CLIENT_AUTH_OPTIONAL
        case .required: SC_TLS_CLIENT_AUTH_REQUIRED
        }
    }
}

extension sc_tls_reason {
    var string: String {
        unsafe withUnsafeBytes(of: text) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }
}

/// What a look at the files of a port's certificate has come to.
package enum CertificateLook: Hashable, Sendable {
    case unchanged
    /// New connections get a new one.
    case taken(String, isValid: Bool)
    /// The port keeps the one it had, for the reason that the sentence says.
    case refused(String)
}

extension NodeCore {
    /// Reads the certificate of a worker port, or with nil of the stream port, if its files have changed. Blocks for the
    /// files, and for a turn of each shard. One at a time.
    package func lookAtCertificate(ofWorkerPort worker: Int?, atOnce: Bool) -> CertificateLook {
        let now = UInt64(max(time(nil), 1))
        let look = unsafe sc_node_look_at_certificate(handle, Int32(worker ?? -1), now, atOnce)
        if look.refused { return .refused(look.text.string) }
        return look.taken ? .taken(look.text.string, isValid: look.validity == 0) : .unchanged
    }
}
