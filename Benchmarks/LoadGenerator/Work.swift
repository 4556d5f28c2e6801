/// One part of a load: groups, who subscribes to them, and who writes and reads them.
struct Work: Codable, Equatable {
    var name: String
    var groups = 1
    /// Items of each group, written in turn.
    var items = 1
    /// Subscribers of each group.
    var subscribers = 0
    /// Worker connections; each serves its share of the groups.
    var callers = 1
    var valueSize = 64
    /// Calls of each group in flight, when there is no rate.
    var inFlight = 1
    /// Calls a second, over all groups; 0: as fast as `inFlight` lets.
    var rate = 0.0
    var mix: [Operation: Int] = [.set: 1]
    /// A write is in flight until all subscribers have it, too.
    var untilDelivered = false
    var trigger = false
    /// Whether the groups hold their items from the start.
    var filled = true
    /// No calls after that.
    var idle = false
}

extension Operation: Codable {
    init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let found = Operation(name: text) else {
            throw DecodingError.dataCorrupted(
                .init(codingPath: decoder.codingPath, debugDescription: "no operation '\(text)'"))
        }
        self = found
    }

    func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(name)
    }

    init?(name: String) {
        guard let found = Operation.allCases.first(where: { $0.name == name }) else { return nil }
        self = found
    }
}

extension Operation: CodingKeyRepresentable {
    struct Key: CodingKey {
        var stringValue: String
        var intValue: Int? { nil }
        init(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
    }

    var codingKey: any CodingKey { Key(stringValue: name) }

    init?<T: CodingKey>(codingKey: T) {
        self.init(name: codingKey.stringValue)
    }
}

/// What is done to the server, or to its clients, in the middle of a run.
struct Faults: Codable, Equatable {
    /// Subscribers that are not read during the middle third of the run.
    var stall = 0
    /// Subscribers that are not read any more from the first third on.
    var halfOpen = 0
    /// Subscribers reset and connected again, a second.
    var kill = 0.0
    /// The command that starts the server again, after it was asked to end.
    var restart: String?
    /// What the server held outlives its restart.
    var durable = false
}

/// What a run does.
enum Kind: String, Codable, CaseIterable {
    case fanout, groups, functions, connect, idle, triggers, mixed

    var summary: String {
        switch self {
        case .fanout: "one group, many subscribers: each write goes to all of them"
        case .groups: "many groups of few subscribers"
        case .functions: "set, get, update, list, delete over the worker port, pipelined"
        case .connect: "a storm of handshakes with joins, then all reconnect, several rounds"
        case .idle: "connections that do nothing: memory of each"
        case .triggers: "writes that call a function by a stream trigger"
        case .mixed: "several of these at once, from a scenario file (YAML)"
        }
    }
}

/// A load with its duration.
struct Scenario: Codable, Equatable {
    var kind: Kind
    var works: [Work]
    var duration = 5.0
    var warmUp = 1.0
    /// Of `connect`: how often all connections are made anew.
    var rounds = 3
    var faults = Faults()
}
