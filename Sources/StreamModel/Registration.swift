/// A function that a worker offers.
package struct FunctionRegistration: Hashable, Sendable {
    package var id: String
    package var description: JSONText?
    package var requestFormat: JSONText?
    package var responseFormat: JSONText?
    package var metadata: JSONText?
    /// Whether the function is to be reached over HTTP instead of the worker's connection.
    package var hasInvocation: Bool

    package init(
        id: String, description: JSONText? = nil, requestFormat: JSONText? = nil,
        responseFormat: JSONText? = nil, metadata: JSONText? = nil, hasInvocation: Bool = false
    ) {
        self.id = id
        self.description = description
        self.requestFormat = requestFormat
        self.responseFormat = responseFormat
        self.metadata = metadata
        self.hasInvocation = hasInvocation
    }

    /// The bytes of text it holds.
    package var size: Int {
        id.utf8.count + textSize(description) + textSize(requestFormat) + textSize(responseFormat)
            + textSize(metadata)
    }
}

/// A kind of trigger that a worker provides.
package struct TriggerTypeRegistration: Hashable, Sendable {
    package var id: String
    package var description: String
    package var triggerRequestFormat: JSONText?
    package var callRequestFormat: JSONText?

    package init(
        id: String, description: String, triggerRequestFormat: JSONText? = nil,
        callRequestFormat: JSONText? = nil
    ) {
        self.id = id
        self.description = description
        self.triggerRequestFormat = triggerRequestFormat
        self.callRequestFormat = callRequestFormat
    }

    /// The bytes of text it holds.
    package var size: Int {
        id.utf8.count + description.utf8.count + textSize(triggerRequestFormat)
            + textSize(callRequestFormat)
    }
}

/// A function bound to what a trigger type announces.
package struct TriggerRegistration: Hashable, Sendable {
    package var id: String
    package var triggerType: String
    package var functionID: String
    package var config: JSONText
    package var metadata: JSONText?
    /// Whether its registrant has rules, which are looked at whenever the trigger fires.
    package var isRestricted = false

    package init(
        id: String, triggerType: String, functionID: String, config: JSONText = .null,
        metadata: JSONText? = nil
    ) {
        self.id = id
        self.triggerType = triggerType
        self.functionID = functionID
        self.config = config
        self.metadata = metadata
    }

    /// The bytes of text it holds.
    package var size: Int {
        id.utf8.count + triggerType.utf8.count + functionID.utf8.count + config.bytes.count
            + textSize(metadata)
    }
}

private func textSize(_ text: JSONText?) -> Int {
    text?.bytes.count ?? 0
}
