/// How a server is spoken to, by the scheme of its URL.
enum Talk: String, Codable {
    /// The stream and worker ports of a node, `ws://`, or `wss://` over TLS.
    case stream
    /// WebSocket without a protocol, `raw://`, or `raws://` over TLS.
    case raw
    case redis
    case nats

    init?(scheme: String) {
        switch scheme {
        case "ws", "wss": self = .stream
        case "raw", "raws": self = .raw
        case "redis": self = .redis
        case "nats": self = .nats
        default: return nil
        }
    }
}

/// The server under load.
struct Target {
    struct Address: Equatable {
        var host: String
        var port: UInt16
        var path: String
        var isSecure = false

        var text: String { "\(host):\(port)\(path == "/" ? "" : path)" }
    }

    var talk: Talk
    /// Where subscribers connect, and where callers do.
    var stream, worker: Address

    /// Reads `scheme://host:port/path`.
    static func read(_ url: String) throws(UsageError) -> (Talk, Address) {
        guard let mark = url.firstRange(of: "://") else {
            throw UsageError("'\(url)' is no URL: ws://HOST:PORT")
        }
        let scheme = String(url[..<mark.lowerBound])
        guard let talk = Talk(scheme: scheme) else {
            throw UsageError("unknown scheme '\(scheme)': ws, wss, raw, raws, redis or nats")
        }
        let rest = url[mark.upperBound...]
        let slash = rest.firstIndex(of: "/") ?? rest.endIndex
        let authority = rest[..<slash]
        guard let colon = authority.lastIndex(of: ":"),
            let port = UInt16(authority[authority.index(after: colon)...]),
            port > 0
        else { throw UsageError("'\(url)' has no port: ws://HOST:PORT") }
        var host = String(authority[..<colon])
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        guard !host.isEmpty, host.utf8.count < 256, rest.utf8.count < 500 else {
            throw UsageError("'\(url)' has no host, or is too long")
        }
        let path = slash == rest.endIndex ? "/" : String(rest[slash...])
        let isSecure = scheme == "wss" || scheme == "raws"
        return (talk, Address(host: host, port: port, path: path, isSecure: isSecure))
    }
}

/// What is wrong with the command line, or with a scenario file.
struct UsageError: Error {
    var message: String

    init(_ message: String) { self.message = message }
}
