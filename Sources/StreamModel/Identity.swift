/// Names one connection of a node for as long as the node runs; never used twice.
package struct ConnectionID: Hashable, Sendable {
    package let rawValue: UInt64

    package init(rawValue: UInt64) {
        self.rawValue = rawValue
    }
}

/// A validated JSON value as text, UTF-8, as it goes on the wire.
package struct JSONText: Hashable, Sendable {
    package let bytes: [UInt8]

    /// Takes `bytes` as they are: the caller vouches that they are one JSON value.
    package init(validated bytes: [UInt8]) {
        self.bytes = bytes
    }

    /// The text `null`.
    package static let null = JSONText(validated: Array("null".utf8))
}

/// The error object of an `invocationresult`.
package struct InvocationError: Error, Hashable, Sendable {
    package var code: String
    package var message: String
    package var stacktrace: String?

    package init(code: String, message: String, stacktrace: String? = nil) {
        self.code = code
        self.message = message
        self.stacktrace = stacktrace
    }

    /// Code and message only, for those who did not call: source paths are none of theirs.
    package var withoutStacktrace: InvocationError {
        InvocationError(code: code, message: message)
    }
}
