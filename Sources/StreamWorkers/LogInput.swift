import StreamModel

/// The levels of `engine::log::*`.
enum RecordLevel: String {
    case trace, debug, info, warn, error

    init?(functionID: String) {
        let prefix = "engine::log::"
        guard Name(functionID).hasPrefix(prefix) else { return nil }
        self.init(
            rawValue: String(decoding: functionID.utf8.dropFirst(prefix.utf8.count), as: UTF8.self))
    }

    /// The severity number of OpenTelemetry.
    var severityNumber: Int {
        switch self {
        case .trace: 1
        case .debug: 5
        case .info: 9
        case .warn: 13
        case .error: 17
        }
    }
}

/// What the functions `engine::log::*` take.
struct LogInput {
    private var message: String
    private var traceID: String?
    private var spanID: String?
    private var serviceName: String?
    private var data: JSONText?

    /// Wrong types come first, in the byte order of the fields, then what is missing.
    init(_ input: JSONText) throws(JSONMismatch) {
        let view = input.view
        guard view.kind == .object else { throw view.mismatch(expected: "struct LogInput") }
        data = view["data"].map { JSONText(validated: Array($0.text)) }
        let text = view["message"]
        if let text, text.kind != .string { throw text.mismatch(expected: "a string") }
        serviceName = try view["service_name"]?.optionalString()
        spanID = try view["span_id"]?.optionalString()
        traceID = try view["trace_id"]?.optionalString()
        guard let message = text?.string else {
            throw JSONMismatch(reason: "missing field `message`")
        }
        self.message = message
    }

    func record(_ level: RecordLevel, _ moment: Moment, _ origin: LogOrigin) -> TelemetryLogRecord {
        let attributes = data.flatMap { $0.view.kind == .object ? $0 : nil }
        return TelemetryLogRecord(
            timestampNanoseconds: moment.unix * 1_000_000,
            observedNanoseconds: moment.unix * 1_000_000, severityNumber: level.severityNumber,
            severityText: level.rawValue.uppercased(), body: message,
            attributes: attributes ?? JSONText(validated: Array("{}".utf8)),
            traceID: traceID ?? "", spanID: spanID ?? "", resource: origin.resource,
            serviceName: serviceName ?? "unknown", scopeName: origin.scopeName,
            scopeVersion: origin.scopeVersion)
    }
}
