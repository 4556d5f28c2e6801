package import StreamModel

/// What the auth function of the stream port has decided about a client.
package enum ClientAuthentication: Hashable, Sendable {
    /// Let in, with what its join and leave handlers get to see.
    case accepted(context: JSONText?)
    /// Refused with an HTTP status.
    case refused(status: Int, reason: String)

    /// Bytes of a context. More: refused.
    package static let contextSizeMax = 64 << 10

    /// Reads what the function has answered. Only an object lets a client in, and none that would refuse a
    /// join (``GuardAnswer``); whatever else fails closed.
    /// - Parameter failOpen: whether a failure lets the client in without a context.
    package init(_ outcome: CallOutcome, failOpen: Bool) {
        switch outcome {
        case .success(let result?) where result.view.kind == .object:
            guard !GuardAnswer(result).isRefusal else {
                self = .refused(status: 401, reason: "unauthorized")
                break
            }
            let context = result.view["context"].map { JSONText(validated: Array($0.text)) }
            if let context, context.bytes.count > Self.contextSizeMax {
                // It goes into every join and leave of the client.
                self = .refused(status: 503, reason: "context_too_large")
            } else {
                self = .accepted(context: context.flatMap { $0.isNull ? nil : $0 })
            }
        case .success:
            self = .refused(status: 401, reason: "no_object")
        case .failure(let error):
            self = .refused(
                status: error.isUnavailable ? 503 : 401, reason: error.code.prefix(bytes: 64))
        }
        if failOpen, case .refused = self { self = .accepted(context: nil) }
    }
}
