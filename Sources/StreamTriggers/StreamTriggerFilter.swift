package import StreamModel

/// What a trigger of the type `stream` listens to.
package struct StreamTriggerFilter: Hashable, Sendable {
    package var streamName: String
    /// Empty or nil: every group.
    package var groupID: String?
    /// Empty or nil: every item, and events without one.
    package var itemID: String?
    package var conditionFunctionID: String?

    /// Reads the configuration of a trigger. Unknown keys are ignored, the last of a repeated key counts.
    /// - Throws: unless it is an object with a `stream_name`, and strings or null in the other fields.
    package init(config: JSONText) throws(JSONMismatch) {
        let view = config.view
        guard view.kind == .object else {
            throw view.mismatch(expected: "struct StreamTriggerConfig")
        }
        var fields = Fields()
        for member in view.members { fields.note(member) }
        conditionFunctionID = try bounded("condition_function_id", fields.conditionFunctionID)
        groupID = try bounded("group_id", fields.groupID)
        itemID = try bounded("item_id", fields.itemID)
        guard let name = fields.streamName else {
            throw JSONMismatch(reason: "missing field `stream_name`")
        }
        guard let streamName = try bounded("stream_name", name) else {
            throw name.mismatch(expected: "a string")
        }
        self.streamName = streamName
    }

    /// The longest name, in bytes: a longer one could never match.
    package static let nameSizeMax = 256

    private struct Fields {
        var streamName: JSONView?
        var groupID: JSONView?
        var itemID: JSONView?
        var conditionFunctionID: JSONView?

        mutating func note(_ member: JSONMembers.Member) {
            switch member.name {
            case "stream_name": streamName = member.value
            case "group_id": groupID = member.value
            case "item_id": itemID = member.value
            case "condition_function_id": conditionFunctionID = member.value
            default: break
            }
        }
    }
}

func bounded(_ field: String, _ value: JSONView?) throws(JSONMismatch) -> String? {
    guard let name = try value?.optionalString() else { return nil }
    guard name.utf8.count <= StreamTriggerFilter.nameSizeMax else {
        throw JSONMismatch(
            reason: "`\(field)` is longer than \(StreamTriggerFilter.nameSizeMax) bytes")
    }
    return name
}
