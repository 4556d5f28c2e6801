import CStreamJSON
import Testing

/// What one call of the applier came to.
struct Outcome: Equatable {
    var result: Int32
    var value = ""
    var errors = ""
    var depth: UInt32 = 0
    var reason = ""

    var failures: [UpdateModel.Failure] {
        (JSONReader.read(Array(errors.utf8))?.elements ?? []).map {
            UpdateModel.Failure(
                index: Int($0["op_index"].flatMap(\.numberText) ?? "") ?? -1,
                code: $0["code"]?.string ?? "", message: $0["message"]?.string ?? "")
        }
    }
    var codes: [String] { failures.map(\.code) }
}

extension JSON {
    var numberText: String? {
        guard case .number(let text) = self else { return nil }
        return text
    }

    /// The value as compact text. Strings are spelled by the code under test, which has its own tests.
    var text: String {
        switch self {
        case .null: return "null"
        case .bool(let value): return "\(value)"
        case .number(let text): return text
        case .string(let bytes): return quoted(bytes)
        case .array(let elements): return "[" + elements.map(\.text).joined(separator: ",") + "]"
        case .object(let pairs):
            return "{" + pairs.map { quoted($0.key) + ":" + $0.value.text }.joined(separator: ",")
                + "}"
        }
    }
}

func quoted(_ bytes: [UInt8]) -> String {
    var out = sc_buffer()
    defer { sc_buffer_deinit(&out) }
    let text = Text(bytes)
    withExtendedLifetime(text) { sc_json_write_string(&out, text.bytes) }
    return string(sc_bytes(data: out.data, size: out.size))
}

/// An applier, with everything it is given in memory of exactly its size.
final class Updater {
    private let updater: OpaquePointer

    init() throws { updater = try #require(sc_json_updater_create()) }
    deinit { sc_json_updater_destroy(updater) }

    /// Applies `ops`, any JSON array, to `old`, which is made compact; nil is no item.
    func apply(_ old: String?, _ ops: String, sizeMax: Int = 16 << 20, depthMax: UInt32 = 124)
        throws -> Outcome
    {
        let scan = Scan(ops)
        try #require(
            scan.accepted && scan.root.kind == UInt8(SC_JSON_ARRAY.rawValue), "\(ops.prefix(200))")
        var value: Text?
        if let old {
            let scan = Scan(old, depthMax: 255)
            try #require(scan.accepted, "\(old.prefix(200))")
            value = Text(compact(scan.root))
        }
        var update = sc_json_update()
        let result = sc_json_update_apply(
            updater, value?.bytes ?? sc_bytes(), scan.root, sizeMax, depthMax, &update)
        return withExtendedLifetime((scan, value)) {
            result == 0
                ? Outcome(
                    result: 0, value: string(update.value), errors: string(update.errors),
                    depth: update.depth)
                : Outcome(result: result, reason: string(update.reason))
        }
    }
}
