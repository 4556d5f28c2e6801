import Testing

@testable import StreamConfig

@Suite("TLS of a port")
struct TLSTests {
    @Test("every port may have its own")
    func ports() throws {
        let text = """
            workers:
              - name: iii-stream
                config:
                  tls: {cert_file: /c, key_file: /k, client_auth: required, ca_file: /a, min_version: 1.3}
              - name: iii-worker-manager
                config: {port: 1}
              - name: iii-worker-manager
                config: {port: 2, tls: {cert_file: c, key_file: k}}
            """
        let configuration = try read(text).configuration
        let stream = try #require(configuration.stream.tls)
        #expect(stream.certificate == "/c" && stream.key == "/k" && stream.authorities == "/a")
        #expect(stream.clientAuthentication == .required && stream.minimumVersion == .tls13)
        #expect(configuration.workerListeners.map { $0.tls != nil } == [false, true])
        let worker = try #require(configuration.workerListeners[1].tls)
        #expect(worker.authorities == nil && worker.clientAuthentication == .none)
        #expect(worker.minimumVersion == .tls12)
        // What is printed reads back.
        #expect(try read(configuration.yaml()).configuration == configuration)
    }

    @Test(
        "what is missing is named",
        arguments: [
            ("tls: {key_file: k}", "`tls` of `iii-stream` needs a `cert_file`"),
            ("tls: {cert_file: c}", "`tls` of `iii-stream` needs a `key_file`"),
            (
                "tls: {cert_file: c, key_file: k, client_auth: optional}",
                "`client_auth: optional` needs a `ca_file` with the authorities that sign certificates of clients"
            ),
            (
                "tls: {cert_file: c, key_file: k, min_version: 1.1}",
                "`tls.min_version` of `iii-stream` must be `1.2` or `1.3`, found a float"
            ),
            (
                "tls: {cert_fil: c, key_file: k, cert_file: c}",
                "unknown key `cert_fil` in `tls` of `iii-stream`: did you mean `cert_file`?"
            ),
        ])
    func missing(settings: String, message: String) {
        let found = problems(stream(settings)).filter { $0.severity == .error }
        #expect(found.map(\.message) == [message])
    }

    @Test("authorities that nobody is checked against are a warning")
    func unused() {
        let found = problems(stream("tls: {cert_file: c, key_file: k, ca_file: a}"))
        #expect(found.map(\.severity) == [.warning])
        #expect(found.first?.message == "`ca_file` has no effect with `client_auth: none`")
    }
}
