package import StreamModel

/// What a trigger of the type `stream:join` or `stream:leave` listens to.
package struct SubscriptionTriggerFilter: Hashable, Sendable {
    /// Nil: every stream.
    package var streamName: String?
    package var conditionFunctionID: String?

    /// Reads the configuration of a trigger. Whatever is no object says nothing; unknown keys are ignored.
    /// - Throws: for a field that is neither a string nor null.
    package init(config: JSONText) throws(JSONMismatch) {
        let view = config.view
        guard view.kind == .object else { return }
        let name = try bounded("stream_name", view["stream_name"])
        streamName = name.flatMap { $0.isEmpty ? nil : $0 }
        conditionFunctionID = try bounded("condition_function_id", view["condition_function_id"])
    }

    package func matches(stream: String) -> Bool {
        streamName.map { Name($0) == Name(stream) } ?? true
    }
}
