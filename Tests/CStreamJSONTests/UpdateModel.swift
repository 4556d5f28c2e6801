/// The operations of stream::update the slow and obvious way, on trees.
struct UpdateModel {
    struct Failure: Equatable {
        var index: Int
        var code: String
        var message: String
    }

    private(set) var root: JSON
    private(set) var isMissing: Bool
    private(set) var failures: [Failure] = []
    private var index = 0
    private var type = ""

    init(old: JSON?) {
        root = old ?? .object([])
        isMissing = old == nil
    }

    /// Applies well-formed operations in order.
    mutating func apply(_ operations: [JSON]) {
        for (number, operation) in operations.enumerated() {
            index = number
            type = operation["type"]?.string ?? ""
            guard let path = checkedPath(operation["path"]) else { continue }
            if apply(operation, at: path) { isMissing = false }
        }
    }

    private mutating func fail(_ code: String, _ message: String) {
        failures.append(Failure(index: index, code: "\(type).\(code)", message: message))
    }

    // MARK: Paths

    private mutating func checkedPath(_ path: JSON?) -> [[UInt8]]? {
        let segments: [[UInt8]]
        switch path {
        case .string(let name): segments = name.isEmpty ? [] : [name]
        case .array(let elements):
            segments = elements.map { if case .string(let name) = $0 { name } else { [] } }
        default: segments = []
        }
        if segments.count > 32 {
            fail("path.too_deep", "Path depth \(segments.count) exceeds maximum of 32")
            return nil
        }
        for segment in segments {
            if segment.isEmpty {
                fail("path.empty_segment", "Path contains an empty segment")
                return nil
            }
            if segment.count > 256 {
                fail(
                    "path.segment_too_long",
                    "Path segment of \(segment.count) bytes exceeds maximum of 256")
                return nil
            }
            let name = String(decoding: segment, as: UTF8.self)
            if Self.sinks.contains(name) {
                fail(
                    "path.proto_polluted",
                    "Path segment '\(name)' is not allowed (prototype pollution).")
                return nil
            }
        }
        return segments
    }

    private static let sinks = ["__proto__", "constructor", "prototype"]

    // MARK: Operations

    private mutating func apply(_ operation: JSON, at path: [[UInt8]]) -> Bool {
        if type == "merge" { return merge(operation["value"] ?? .null, at: path) }
        guard let key = path.first else {
            if type == "remove" {
                root = .null
            } else {
                guard let value = changed(isMissing ? nil : root, operation, label: "root") else {
                    return false
                }
                root = value
            }
            return true
        }
        let label = String(decoding: key, as: UTF8.self)
        guard case .object(let pairs) = root else {
            fail(
                "target_not_object",
                "Cannot \(type) at path '\(label)': target is \(root.kindName), expected object.")
            return false
        }
        if type == "remove" {
            root = .object(pairs.filter { $0.key != key })
            return true
        }
        let old = pairs.last { $0.key == key }?.value
        guard let value = changed(old, operation, label: label) else { return false }
        root = .object(pairs.storing(value, at: key))
        return true
    }

    private mutating func changed(_ old: JSON?, _ operation: JSON, label: String) -> JSON? {
        switch type {
        case "set": operation["value"] ?? .null
        case "append": appended(old ?? .null, operation["value"] ?? .null, label: label)
        default: counted(old, operation["by"] ?? .null, label: label)
        }
    }

    private mutating func appended(_ old: JSON, _ value: JSON, label: String) -> JSON? {
        switch (old, value) {
        case (.null, .string): return value
        case (.null, _): return .array([value])
        case (.array(let elements), _): return .array(elements + [value])
        case (.string(let a), .string(let b)): return .string(a + b)
        case (.string, _):
            fail(
                "type_mismatch",
                "Expected string append value at path '\(label)', got \(value.kindName).")
        default:
            fail(
                "type_mismatch",
                "Cannot append at path '\(label)': target is \(old.kindName), "
                    + "expected array, string, null, or missing field.")
        }
        return nil
    }

    private mutating func counted(_ old: JSON?, _ by: JSON, label: String) -> JSON? {
        guard case .number(let text) = by else { return nil }
        let step = Int64(text) ?? Int64(Double(text) ?? 0)
        let difference = type == "increment" ? Int128(step) : -Int128(step)
        switch old {
        case nil:
            return .number("\(difference)")
        case .number(let start):
            // `-0` counts as a float.
            if let whole = Int128(start), start != "-0", Self.integers.contains(whole) {
                let sum = whole + difference
                if Self.integers.contains(sum) { return .number("\(sum)") }
            } else if let real = Double(start) {
                // Not always the same: -0.0 - 0 is -0.0.
                return .number(
                    shortestText(type == "increment" ? real + Double(step) : real - Double(step)))
            }
        default:
            break
        }
        fail("not_number", "Expected number at path '\(label)', got \((old ?? .null).kindName).")
        return nil
    }

    private static let integers = Int128(Int64.min)...Int128(UInt64.max)

    // MARK: Merge

    private mutating func merge(_ value: JSON, at path: [[UInt8]]) -> Bool {
        guard case .object(let pairs) = value else {
            fail("value.not_an_object", "Merge value must be a JSON object")
            return false
        }
        let names = Set(pairs.map(\.key))
        if names.count > 1024 {
            fail(
                "value.too_many_keys",
                "Merge value has \(names.count) top-level keys, exceeds maximum of 1024")
            return false
        }
        if let sink = Self.sinks.first(where: { names.contains(Array($0.utf8)) }) {
            fail(
                "value.proto_polluted",
                "Merge value top-level key \"\(sink)\" is a prototype-pollution sink")
            return false
        }
        if value.depth > 16 {
            fail(
                "value.too_deep",
                "Merge value JSON nesting depth \(value.depth) exceeds maximum of 16")
            return false
        }
        if case .object = root {
        } else if path.isEmpty {
            return true
        } else {
            root = .object([])
        }
        root = Self.merged(root, pairs, at: path[...])
        return true
    }

    private static func merged(_ target: JSON, _ pairs: [JSON.Pair], at path: ArraySlice<[UInt8]>)
        -> JSON
    {
        var members: [JSON.Pair] = []
        if case .object(let own) = target { members = own }
        guard let key = path.first else {
            for pair in pairs { members = members.storing(pair.value, at: pair.key) }
            return .object(members)
        }
        let next = members.last { $0.key == key }?.value ?? .null
        return .object(members.storing(merged(next, pairs, at: path.dropFirst()), at: key))
    }
}

extension [JSON.Pair] {
    /// The members with `value` in the place of the last one called `key`, and no other of that name.
    fileprivate func storing(_ value: JSON, at key: [UInt8]) -> [JSON.Pair] {
        guard let last = lastIndex(where: { $0.key == key }) else {
            return self + [JSON.Pair(key: key, value: value)]
        }
        return enumerated().compactMap { i, pair in
            i == last ? JSON.Pair(key: key, value: value) : pair.key == key ? nil : pair
        }
    }
}

extension JSON {
    fileprivate var kindName: String {
        switch self {
        case .null: "null"
        case .bool: "boolean"
        case .number: "number"
        case .string: "string"
        case .array: "array"
        case .object: "object"
        }
    }
}
