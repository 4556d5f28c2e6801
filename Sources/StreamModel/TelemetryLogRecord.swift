/// A log record in the terms of OpenTelemetry, as `log` triggers see it.
package struct TelemetryLogRecord: Hashable, Sendable {
    package var timestampNanoseconds: UInt64
    package var observedNanoseconds: UInt64
    /// 1 to 24; 0 when the record had none.
    package var severityNumber: Int
    package var severityText: String
    package var body: String
    /// A JSON object.
    package var attributes: JSONText
    /// Lower-case hexadecimal; empty when there is none.
    package var traceID: String
    package var spanID: String
    /// A JSON object of strings.
    package var resource: JSONText
    package var serviceName: String
    package var scopeName: String
    package var scopeVersion: String

    package init(
        timestampNanoseconds: UInt64, observedNanoseconds: UInt64, severityNumber: Int,
        severityText: String, body: String, attributes: JSONText, traceID: String, spanID: String,
        resource: JSONText, serviceName: String, scopeName: String, scopeVersion: String
    ) {
        self.timestampNanoseconds = timestampNanoseconds
        self.observedNanoseconds = observedNanoseconds
        self.severityNumber = severityNumber
        self.severityText = severityText
        self.body = body
        self.attributes = attributes
        self.traceID = traceID
        self.spanID = spanID
        self.resource = resource
        self.serviceName = serviceName
        self.scopeName = scopeName
        self.scopeVersion = scopeVersion
    }

    /// What a handler is called with: every key is always there.
    package var json: JSONText {
        var object = JSONObjectWriter(capacity: 512)
        object.add("timestamp_unix_nano", timestampNanoseconds)
        object.add("observed_timestamp_unix_nano", observedNanoseconds)
        object.add("severity_number", UInt64(max(severityNumber, 0)))
        object.add("severity_text", severityText)
        object.add("body", body)
        object.add("attributes", attributes)
        object.add("trace_id", traceID)
        object.add("span_id", spanID)
        object.add("resource", resource)
        object.add("service_name", serviceName)
        object.add("instrumentation_scope_name", scopeName)
        object.add("instrumentation_scope_version", scopeVersion)
        return object.finish()
    }
}

/// What the node says of itself in the log records that it makes.
package struct LogOrigin: Hashable, Sendable {
    /// A JSON object of strings.
    package var resource: JSONText
    package var scopeName: String
    package var scopeVersion: String

    package init(resource: JSONText, scopeName: String, scopeVersion: String) {
        self.resource = resource
        self.scopeName = scopeName
        self.scopeVersion = scopeVersion
    }
}
