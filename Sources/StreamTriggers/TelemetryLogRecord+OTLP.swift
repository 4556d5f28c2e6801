package import StreamModel

/// Reads the records of an OpenTelemetry export of logs in JSON (OTLP 1.0, `ExportLogsServiceRequest`), one at a
/// time: one message may hold some hundred thousand. What is not as it should be is left out; nothing in it is an
/// error.
package struct TelemetryLogReader: Sequence, IteratorProtocol, Sendable {
    private let moment: Moment
    private var resources: JSONElements
    private var scopes: JSONElements = JSONText.null.view.elements
    private var records: JSONElements = JSONText.null.view.elements
    private var resource = Resource(nil)
    private var scope: JSONView?

    package init(_ text: JSONText, at moment: Moment) {
        self.moment = moment
        resources = text.view["resourceLogs"].elements
    }

    package mutating func next() -> TelemetryLogRecord? {
        while true {
            if let record = records.next() {
                return TelemetryLogRecord(otlp: record, resource, scope, moment)
            }
            if let scopeLogs = scopes.next() {
                scope = scopeLogs["scope"]
                records = scopeLogs["logRecords"].elements
            } else if let resourceLogs = resources.next() {
                resource = Resource(resourceLogs["resource"])
                scopes = resourceLogs["scopeLogs"].elements
            } else {
                return nil
            }
        }
    }
}

extension TelemetryLogRecord {
    fileprivate init(
        otlp record: JSONView, _ resource: Resource, _ scope: JSONView?, _ moment: Moment
    ) {
        let now = moment.unix * 1_000_000
        let time = record["timeUnixNano"]?.unsigned ?? now
        self.init(
            timestampNanoseconds: time,
            observedNanoseconds: record["observedTimeUnixNano"]?.unsigned ?? time,
            severityNumber: Int((record["severityNumber"]?.unsigned ?? 0) & 0xff),
            severityText: record["severityText"]?.string ?? "",
            body: record["body"].map(plainText) ?? "", attributes: object(record["attributes"]),
            traceID: identifier(record["traceId"]), spanID: identifier(record["spanId"]),
            resource: resource.text, serviceName: resource.serviceName ?? "unknown",
            scopeName: scope?["name"]?.string ?? "", scopeVersion: scope?["version"]?.string ?? "")
    }
}

private struct Resource: Sendable {
    var text: JSONText
    var serviceName: String?

    init(_ view: JSONView?) {
        var object = JSONObjectWriter()
        for (key, value) in attributes(view?["attributes"]) {
            let text = plainText(value)
            object.add(key, text)
            if key == "service.name" { serviceName = text.isEmpty ? nil : text }
        }
        self.text = object.finish()
    }
}

extension JSONView? {
    fileprivate var elements: JSONElements { self?.elements ?? JSONText.null.view.elements }
}

extension JSONView {
    /// An integer as a number or, as OTLP writes 64-bit ones, a string.
    fileprivate var unsigned: UInt64? { (number ?? string).flatMap { UInt64($0) } }
}

/// Lower-case hexadecimal; empty for none and for all zeros.
private func identifier(_ view: JSONView?) -> String {
    let text = (view?.string ?? "").lowercased()
    return text.allSatisfy { $0 == "0" } ? "" : text
}

/// Keys and values of a list of attributes; of a repeated key the last.
private func attributes(_ list: JSONView?) -> [(String, JSONView)] {
    var places: [Name: Int] = [:]
    var found: [(String, JSONView)] = []
    for attribute in list.elements {
        guard let key = attribute["key"]?.string, let value = attribute["value"] else { continue }
        if let place = places[Name(key)] {
            found[place].1 = value
        } else {
            places[Name(key)] = found.count
            found.append((key, value))
        }
    }
    return found
}

private func object(_ list: JSONView?) -> JSONText {
    var object = JSONObjectWriter()
    for (key, value) in attributes(list) { object.add(key, json(value)) }
    return object.finish()
}

/// The JSON value that an `AnyValue` stands for. Recursive, up to the depth that a message may have.
private func json(_ value: JSONView) -> JSONText {
    guard let member = value.members.first(where: { $0.value.kind != .null }) else { return .null }
    let inner = member.value
    switch member.name {
    case "stringValue" where inner.kind == .string, "boolValue" where inner.kind == .boolean,
        "doubleValue" where inner.kind == .number:
        return JSONText(validated: Array(inner.text))
    case "intValue":
        let digits = inner.number ?? inner.string ?? ""
        return Int64(digits).map { JSONText(validated: Array(String($0).utf8)) } ?? .null
    case "kvlistValue":
        return object(inner["values"])
    case "arrayValue":
        return JSONText(array: inner["values"].elements.map(json))
    default:
        return .null
    }
}

/// An `AnyValue` as text: strings as they are, everything else as JSON.
private func plainText(_ value: JSONView) -> String {
    let text = json(value)
    return text.view.string ?? (text.isNull ? "" : String(decoding: text.bytes, as: UTF8.self))
}
