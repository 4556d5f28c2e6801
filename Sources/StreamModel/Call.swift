/// The connection that stands for the node itself: it calls functions, and serves the built-in ones.
extension ConnectionID {
    package static let node = ConnectionID(rawValue: 0)
}

/// What passes through the control plane untouched: the core's handle of a message.
///
/// A class behind a protocol, and no type parameter of what routes it: generics are not specialised across modules, so
/// that each step of a call would look metadata up.
package protocol CallPayload: AnyObject, Sendable {
    /// The data of a call, as JSON.
    var data: JSONText { get }
    /// What a result says.
    var outcome: CallOutcome { get }
}

/// What a function is called with.
package enum CallInput: Sendable {
    /// The data of a message of the core's.
    case message(any CallPayload)
    case text(JSONText)

    package var text: JSONText {
        switch self {
        case .message(let payload): payload.data
        case .text(let text): text
        }
    }
}

/// A function that a trigger has the node call.
package struct TriggerCall: Hashable, Sendable {
    /// The trigger's id, and the connection that registered it.
    package var trigger: Name
    package var owner: ConnectionID
    /// Whether the rules of the owner's listener are looked at.
    package var isRestricted: Bool
    /// As registered: of a condition without the owner's prefix.
    package var functionID: String
    package var isCondition: Bool

    package init(
        trigger: Name, owner: ConnectionID, isRestricted: Bool, functionID: String,
        isCondition: Bool
    ) {
        self.trigger = trigger
        self.owner = owner
        self.isRestricted = isRestricted
        self.functionID = functionID
        self.isCondition = isCondition
    }
}

/// What the rules make of a ``TriggerCall``.
package enum TriggerTarget: Hashable, Sendable {
    /// Call this function.
    case function(String)
    /// The registrant of the trigger may not call it.
    case forbidden
    /// The registrant has gone: nothing tells what it may call.
    case gone
}

/// How a call ended.
package enum CallOutcome: Hashable, Sendable {
    /// The result; nil when there is none, or null.
    case success(JSONText?)
    case failure(InvocationError)

    /// A worker took longer than it may.
    package static let timeout = CallOutcome.failure(
        InvocationError(code: "invocation_timeout", message: "Invocation timed out"))
}

extension InvocationError {
    /// Nobody serves the function.
    package static func functionNotFound(_ id: String) -> InvocationError {
        InvocationError(code: "function_not_found", message: "Function \(id) not found")
    }

    /// Nobody is there to answer: asking again later may help.
    package var isUnavailable: Bool {
        switch code {
        case "function_not_found", "invocation_timeout", "invocation_stopped",
            "channel_send_failed":
            true
        default: false
        }
    }
    package var isTimeout: Bool { code == "invocation_timeout" }
}

extension JSONText {
    /// Whether the value is exactly `false`.
    package var isFalse: Bool { bytes.elementsEqual("false".utf8) }
    package var isNull: Bool { bytes.elementsEqual("null".utf8) }
}

/// A point in time.
package struct Moment: Hashable, Sendable {
    /// Since some start; never goes back.
    package var uptime: Duration
    /// Milliseconds since the Unix epoch, as they stand in messages.
    package var unix: UInt64

    package init(uptime: Duration = .zero, unix: UInt64 = 0) {
        self.uptime = uptime
        self.unix = unix
    }
}
