internal import Foundation
internal import StreamConfig

/// Scenario files of `mixed`:
///
///     duration: 10
///     warm_up: 2
///     works:
///       - name: rooms
///         groups: 100
///         subscribers: 10
///         rate: 500
///       - name: setters
///         callers: 100
///         groups: 100
///         in_flight: 1
///         mix: { set: 1, get: 3 }
enum ScenarioFile {
    static func read(_ path: String) throws(UsageError) -> Scenario {
        guard let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            throw UsageError("cannot read \(path)")
        }
        return try parse(text, path: path)
    }

    static func parse(_ text: String, path: String) throws(UsageError) -> Scenario {
        let root: YAMLNode
        do {
            root = try YAMLNode(parsing: text)
        } catch {
            throw UsageError(
                "\(path):\(error.position.line):\(error.position.column): \(error.message)")
        }
        var scenario = Scenario(kind: .mixed, works: [])
        for entry in try map(root, path) {
            switch entry.key {
            case "duration": scenario.duration = try number(entry, path)
            case "warm_up": scenario.warmUp = try number(entry, path)
            case "works":
                guard case .list(let nodes) = entry.value.value else {
                    throw wrong(entry, path, "a list")
                }
                for node in nodes { try scenario.works.append(work(node, path)) }
            default: throw unknown(entry, path)
            }
        }
        guard !scenario.works.isEmpty, scenario.works.count <= 16 else {
            throw UsageError("\(path): 1 to 16 works")
        }
        return scenario
    }

    private static func work(_ node: YAMLNode, _ path: String) throws(UsageError) -> Work {
        var work = Work(name: "work")
        for entry in try map(node, path) {
            switch entry.key {
            case "name":
                guard case .string(let name) = entry.value.value else {
                    throw wrong(entry, path, "a string")
                }
                work.name = name
            case "groups": work.groups = try count(entry, path)
            case "items": work.items = try count(entry, path)
            case "subscribers": work.subscribers = try count(entry, path)
            case "callers": work.callers = try count(entry, path)
            case "size": work.valueSize = try count(entry, path)
            case "in_flight": work.inFlight = try count(entry, path)
            case "rate": work.rate = try number(entry, path)
            case "mix": work.mix = try mix(entry, path)
            case "idle": work.idle = try flag(entry, path)
            case "until_delivered": work.untilDelivered = try flag(entry, path)
            default: throw unknown(entry, path)
            }
        }
        do {
            try work.check()
        } catch {
            throw UsageError("\(path):\(node.position.line): \(error.message)")
        }
        return work
    }

    private static func mix(_ entry: YAMLEntry, _ path: String) throws(UsageError) -> [Operation:
        Int]
    {
        guard case .map(let parts) = entry.value.value else { throw wrong(entry, path, "a map") }
        var mix: [Operation: Int] = [:]
        for part in parts {
            guard let operation = Operation(name: part.key) else { throw unknown(part, path) }
            mix[operation] = try count(part, path)
        }
        return mix
    }

    private static func map(_ node: YAMLNode, _ path: String) throws(UsageError) -> [YAMLEntry] {
        guard case .map(let entries) = node.value else {
            throw UsageError("\(path):\(node.position.line): expected a map")
        }
        return entries
    }

    private static func count(_ entry: YAMLEntry, _ path: String) throws(UsageError) -> Int {
        guard case .integer(let value) = entry.value.value, value >= 0 else {
            throw wrong(entry, path, "a whole number")
        }
        return value
    }

    private static func number(_ entry: YAMLEntry, _ path: String) throws(UsageError) -> Double {
        switch entry.value.value {
        case .integer(let value) where value >= 0: return Double(value)
        case .float(let value) where value >= 0: return value
        default: throw wrong(entry, path, "a number")
        }
    }

    private static func flag(_ entry: YAMLEntry, _ path: String) throws(UsageError) -> Bool {
        guard case .boolean(let value) = entry.value.value else {
            throw wrong(entry, path, "true or false")
        }
        return value
    }

    private static func wrong(_ entry: YAMLEntry, _ path: String, _ wanted: String) -> UsageError {
        UsageError("\(path):\(entry.keyPosition.line): '\(entry.key)' must be \(wanted)")
    }

    private static func unknown(_ entry: YAMLEntry, _ path: String) -> UsageError {
        UsageError("\(path):\(entry.keyPosition.line): unknown key '\(entry.key)'")
    }
}
