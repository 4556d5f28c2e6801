/// Something worth a line in the node's log. Never holds a payload.
package struct LogLine: Hashable, Sendable {
    package struct Field: Hashable, Sendable {
        package var name: String
        package var value: String
    }

    package var level: LogLevel
    /// A fixed word for each kind of event.
    package var event: String
    package var fields: [Field]

    package init(_ level: LogLevel, _ event: String, _ fields: KeyValuePairs<String, String>) {
        self.level = level
        self.event = event
        self.fields = fields.map { Field(name: $0.key, value: $0.value) }
    }
}
