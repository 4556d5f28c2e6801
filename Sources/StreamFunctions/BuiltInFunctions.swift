package import StreamModel

/// The functions that the node serves itself, as lists describe them.
package enum BuiltInFunctions {
    /// Those of a node without streams.
    package static var withoutStreams: [FunctionRegistration] {
        all.filter { !Name($0.id).hasPrefix("stream::") }
    }

    package static let all: [FunctionRegistration] = table.map {
        FunctionRegistration(
            id: $0.id, description: JSONText(string: $0.description),
            requestFormat: $0.requestFormat.map { JSONText(validated: Array($0.utf8)) },
            responseFormat: $0.responseFormat.map { JSONText(validated: Array($0.utf8)) })
    }

    private struct BuiltIn {
        var id: String
        var description: String
        var requestFormat: String?
        var responseFormat: String?
    }

    private static let table = [
        BuiltIn(
            id: "stream::set", description: "Set a value in a stream",
            requestFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","properties":{"data":true,\#
                "group_id":{"type":"string"},"item_id":{"type":"string"},"stream_name":{\#
                "type":"string"}},"required":["data","group_id","item_id","stream_name"],\#
                "title":"StreamSetInput","type":"object"}
                """#,
            responseFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","properties":{"new_value":{\#
                "description":"The value after the update"},"old_value":{"description":"The value \#
                before the update (None if key didn't exist)"}},"required":["new_value"],\#
                "title":"SetResult","type":"object"}
                """#),
        BuiltIn(
            id: "stream::get", description: "Get a value from a stream",
            requestFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","properties":{"group_id":{\#
                "type":"string"},"item_id":{"type":"string"},"stream_name":{"type":"string"}},\#
                "required":["group_id","item_id","stream_name"],"title":"StreamGetInput",\#
                "type":"object"}
                """#,
            responseFormat: nil),
        BuiltIn(
            id: "stream::delete", description: "Delete a value from a stream",
            requestFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","properties":{"group_id":{\#
                "type":"string"},"item_id":{"type":"string"},"stream_name":{"type":"string"}},\#
                "required":["group_id","item_id","stream_name"],"title":"StreamDeleteInput",\#
                "type":"object"}
                """#,
            responseFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","properties":{"old_value":{\#
                "description":"The value before the update (None if key didn't exist)"}},\#
                "title":"DeleteResult","type":"object"}
                """#),
        BuiltIn(
            id: "stream::list", description: "List all items in a stream group",
            requestFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","properties":{"group_id":{\#
                "type":"string"},"stream_name":{"type":"string"}},"required":["group_id",\#
                "stream_name"],"title":"StreamListInput","type":"object"}
                """#,
            responseFormat: nil),
        BuiltIn(
            id: "stream::list_groups", description: "List all groups in a stream",
            requestFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","properties":{"stream_name":{\#
                "type":"string"}},"required":["stream_name"],"title":"StreamListGroupsInput",\#
                "type":"object"}
                """#,
            responseFormat: nil),
        BuiltIn(
            id: "stream::list_all", description: "List all available stream with metadata",
            requestFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","description":"Input for \#
                stream.listAll (empty struct)","title":"StreamListAllInput","type":"object"}
                """#,
            responseFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","definitions":{\#
                "StreamMetadata":{"description":"Metadata for a stream (used by stream.listAll)",\#
                "properties":{"groups":{"items":{"type":"string"},"type":"array"},"id":{\#
                "type":"string"}},"required":["groups","id"],"type":"object"}},"properties":{\#
                "count":{"format":"uint","minimum":0.0,"type":"integer"},"stream":{"items":{\#
                "$ref":"#/definitions/StreamMetadata"},"type":"array"}},"required":["count",\#
                "stream"],"title":"StreamListAllResult","type":"object"}
                """#),
        BuiltIn(
            id: "stream::send", description: "Send a custom event to stream subscribers",
            requestFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","properties":{"data":true,\#
                "group_id":{"type":"string"},"id":{"type":["string","null"]},"stream_name":{\#
                "type":"string"},"type":{"type":"string"}},"required":["data","group_id",\#
                "stream_name","type"],"title":"StreamSendInput","type":"object"}
                """#,
            responseFormat: nil),
        BuiltIn(
            id: "stream::update",
            description: "Atomically update a stream value with multiple operations",
            requestFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"FieldPath":{\#
                "description":"Represents a path to a field in a JSON object","type":"string"},\#
                "MergePath":{"anyOf":[{"type":"string"},{"items":{"type":"string"},\#
                "type":"array"}],"description":"Path target for a [`UpdateOp::Merge`] operation. \#
                Accepts either a single string (legacy / first-level field) or an array of \#
                literal segments (nested path).\n\nPath normalization rules applied by the \#
                engine: - absent / `Single(\"\")` / `Segments(vec![])` → root merge - \#
                `Single(\"foo\")` is equivalent to `Segments(vec![\"foo\".into()])` - \#
                `Segments([\"a\", \"b\", \"c\"])` walks three literal keys, never interpreting \#
                dots specially. `Segments(vec![\"a.b\".into()])` is a single literal key named \#
                `\"a.b\"`.\n\n**Variant ordering is load-bearing.** `#[serde(untagged)]` tries \#
                variants in declaration order — `Single` MUST come before `Segments` so a JSON \#
                string deserializes into `Single` rather than failing the array match first."},\#
                "UpdateOp":{"description":"Operations that can be performed atomically on a \#
                stream value","oneOf":[{"description":"Set a value at path (overwrite)",\#
                "properties":{"path":{"$ref":"#/definitions/FieldPath"},"type":{"enum":["set"],\#
                "type":"string"},"value":true},"required":["path","type"],"type":"object"},{\#
                "description":"Merge object into existing value (object-only). Path may be \#
                omitted (root merge), a single first-level key, or an array of literal segments \#
                for nested merge. See [`MergePath`].","properties":{"path":{"anyOf":[{\#
                "$ref":"#/definitions/MergePath"},{"type":"null"}]},"type":{"enum":["merge"],\#
                "type":"string"},"value":true},"required":["type","value"],"type":"object"},{\#
                "description":"Increment numeric value","properties":{"by":{"format":"int64",\#
                "type":"integer"},"path":{"$ref":"#/definitions/FieldPath"},"type":{\#
                "enum":["increment"],"type":"string"}},"required":["by","path","type"],\#
                "type":"object"},{"description":"Decrement numeric value","properties":{"by":{\#
                "format":"int64","type":"integer"},"path":{"$ref":"#/definitions/FieldPath"},\#
                "type":{"enum":["decrement"],"type":"string"}},"required":["by","path","type"],\#
                "type":"object"},{"description":"Append an element to an array or concatenate a \#
                string","properties":{"path":{"$ref":"#/definitions/FieldPath"},"type":{\#
                "enum":["append"],"type":"string"},"value":true},"required":["path","type",\#
                "value"],"type":"object"},{"description":"Remove a field","properties":{"path":{\#
                "$ref":"#/definitions/FieldPath"},"type":{"enum":["remove"],"type":"string"}},\#
                "required":["path","type"],"type":"object"}]}},"description":"Input for atomic \#
                stream update operations","properties":{"group_id":{"type":"string"},"item_id":{\#
                "type":"string"},"ops":{"items":{"$ref":"#/definitions/UpdateOp"},"type":"array"},\#
                "stream_name":{"type":"string"}},"required":["group_id","item_id","ops",\#
                "stream_name"],"title":"StreamUpdateInput","type":"object"}
                """#,
            responseFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","definitions":{\#
                "UpdateOpError":{"description":"Per-op error reported by an atomic update \#
                operation.","properties":{"code":{"description":"Stable error code, e.g. \#
                `\"merge.path.too_deep\"`.","type":"string"},"doc_url":{"description":"Optional \#
                documentation URL for this error class.","type":["string","null"]},"message":{\#
                "description":"Human-readable description with concrete numbers when applicable.",\#
                "type":"string"},"op_index":{"description":"Index of the offending op within the \#
                original `ops` array.","format":"uint","minimum":0.0,"type":"integer"}},\#
                "required":["code","message","op_index"],"type":"object"}},"description":"Result \#
                of an atomic update operation","properties":{"errors":{"description":"Errors \#
                encountered while applying ops. Successfully applied ops are still reflected in \#
                `new_value`. Field is omitted from JSON when empty for backward compatibility.",\#
                "items":{"$ref":"#/definitions/UpdateOpError"},"type":"array"},"new_value":{\#
                "description":"The value after the update"},"old_value":{"description":"The value \#
                before the update (None if key didn't exist)"}},"required":["new_value"],\#
                "title":"UpdateResult","type":"object"}
                """#),
        BuiltIn(
            id: "engine::functions::list", description: "List the functions that can be called",
            requestFormat: nil,
            responseFormat: nil),
        BuiltIn(
            id: "engine::workers::list", description: "List the connected workers",
            requestFormat: nil,
            responseFormat: nil),
        BuiltIn(
            id: "engine::triggers::list", description: "List the registered triggers",
            requestFormat: nil,
            responseFormat: nil),
        BuiltIn(
            id: "engine::trigger-types::list", description: "List the trigger types",
            requestFormat: nil,
            responseFormat: nil),
        BuiltIn(
            id: "engine::workers::register", description: "Tell the node about a worker",
            requestFormat: nil,
            responseFormat: nil),
        BuiltIn(
            id: "engine::log::trace", description: "Write a log record of the level trace",
            requestFormat: nil,
            responseFormat: nil),
        BuiltIn(
            id: "engine::log::debug", description: "Write a log record of the level debug",
            requestFormat: nil,
            responseFormat: nil),
        BuiltIn(
            id: "engine::log::info", description: "Write a log record of the level info",
            requestFormat: nil,
            responseFormat: nil),
        BuiltIn(
            id: "engine::log::warn", description: "Write a log record of the level warn",
            requestFormat: nil,
            responseFormat: nil),
        BuiltIn(
            id: "engine::log::error", description: "Write a log record of the level error",
            requestFormat: nil,
            responseFormat: nil),
    ]
}
