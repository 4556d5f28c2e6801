package import StreamModel

/// The trigger types of the node, as lists describe them.
package enum BuiltInTriggerTypes {
    package static let all: [TriggerTypeRegistration] = table.map {
        TriggerTypeRegistration(
            id: $0.id, description: $0.description,
            triggerRequestFormat: $0.requestFormat.map { JSONText(validated: Array($0.utf8)) },
            callRequestFormat: $0.responseFormat.map { JSONText(validated: Array($0.utf8)) })
    }

    // Of `stream:join` and `stream:leave`.
    private static let subscriptionConfig = #"""
        {"$schema":"http://json-schema.org/draft-07/schema#","properties":{\#
        "condition_function_id":{"description":"Optional function ID to evaluate before \#
        invoking handler","type":["string","null"]},"stream_name":{"description":"Stream \#
        name to watch","type":["string","null"]}},"title":"StreamJoinLeaveTriggerConfig",\#
        "type":"object"}
        """#

    private static let subscriptionCall = #"""
        {"$schema":"http://json-schema.org/draft-07/schema#","properties":{"event_type":{\#
        "description":"Event type (stream:join or stream:leave)","type":"string"},\#
        "group_id":{"description":"Group ID","type":"string"},"id":{"description":"Peer \#
        ID","type":["string","null"]},"stream_name":{"description":"Stream name",\#
        "type":"string"},"timestamp":{"description":"Event timestamp (ms)",\#
        "format":"int64","type":"integer"}},"required":["event_type","group_id",\#
        "stream_name","timestamp"],"title":"StreamJoinLeaveCallRequest","type":"object"}
        """#

    private struct BuiltIn {
        var id: String
        var description: String
        /// Of a trigger's configuration.
        var requestFormat: String?
        /// Of what its function is called with.
        var responseFormat: String?
    }

    private static let table = [
        BuiltIn(
            id: "stream", description: "Stream trigger",
            requestFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","properties":{\#
                "condition_function_id":{"description":"Optional function ID to evaluate before \#
                invoking handler","type":["string","null"]},"group_id":{"description":"Group ID \#
                filter","type":["string","null"]},"item_id":{"description":"Item ID filter",\#
                "type":["string","null"]},"stream_name":{"description":"Stream name to watch",\#
                "type":["string","null"]}},"title":"StreamTriggerConfig","type":"object"}
                """#,
            responseFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","properties":{"event":{\#
                "description":"Event-specific data (create/update/delete/sync payload)"},\#
                "event_type":{"description":"Stream event type (create, update, delete, sync)",\#
                "type":"string"},"group_id":{"description":"Group ID","type":"string"},"id":{\#
                "description":"Item ID","type":["string","null"]},"stream_name":{\#
                "description":"Stream name","type":"string"},"timestamp":{"description":"Event \#
                timestamp (ms)","format":"int64","type":"integer"}},"required":["event",\#
                "event_type","group_id","stream_name","timestamp"],"title":"StreamCallRequest",\#
                "type":"object"}
                """#),
        BuiltIn(
            id: "stream:leave", description: "Stream leave trigger",
            requestFormat: subscriptionConfig, responseFormat: subscriptionCall),
        BuiltIn(
            id: "stream:join", description: "Stream join trigger",
            requestFormat: subscriptionConfig, responseFormat: subscriptionCall),
        BuiltIn(
            id: "log", description: "Log event trigger",
            requestFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","definitions":{"LogLevel":{\#
                "enum":["all","debug","info","warn","error"],"type":"string"}},"properties":{\#
                "level":{"anyOf":[{"$ref":"#/definitions/LogLevel"},{"type":"null"}],\#
                "default":"all","description":"Minimum log level to trigger on"}},\#
                "title":"LogTriggerConfig","type":"object"}
                """#,
            responseFormat: #"""
                {"$schema":"http://json-schema.org/draft-07/schema#","properties":{"attributes":{\#
                "description":"Log attributes"},"body":{"description":"Log message body",\#
                "type":"string"},"instrumentation_scope_name":{"description":"Instrumentation \#
                scope name","type":"string"},"instrumentation_scope_version":{\#
                "description":"Instrumentation scope version","type":"string"},\#
                "observed_timestamp_unix_nano":{"description":"Observed timestamp in nanoseconds",\#
                "format":"uint64","minimum":0.0,"type":"integer"},"resource":{\#
                "description":"OpenTelemetry resource"},"service_name":{"description":"Service \#
                name","type":"string"},"severity_number":{"description":"Severity number \#
                (OpenTelemetry)","format":"uint32","minimum":0.0,"type":"integer"},\#
                "severity_text":{"description":"Severity text (e.g. INFO, ERROR)",\#
                "type":"string"},"span_id":{"description":"Span ID","type":"string"},\#
                "timestamp_unix_nano":{"description":"Log timestamp in nanoseconds",\#
                "format":"uint64","minimum":0.0,"type":"integer"},"trace_id":{\#
                "description":"Trace ID","type":"string"}},"required":["attributes","body",\#
                "instrumentation_scope_name","instrumentation_scope_version",\#
                "observed_timestamp_unix_nano","resource","service_name","severity_number",\#
                "severity_text","span_id","timestamp_unix_nano","trace_id"],\#
                "title":"LogCallRequest","type":"object"}
                """#),
        BuiltIn(
            id: "engine::functions-available", description: "The set of functions has changed",
            requestFormat: nil,
            responseFormat: nil),
        BuiltIn(
            id: "engine::workers-available",
            description: "A worker has come, gone or told about itself", requestFormat: nil,
            responseFormat: nil),
    ]
}
