/// What a run came to: the table, the JSON file and the report are made of this.
struct RunResult: Codable {
    var format = 1
    var label: String
    var scenario: Scenario
    var talk: Talk
    var target: String
    var startedAt: String
    var machine: Machine
    var command: String
    var seconds: Double
    var works: [WorkResult]
    var rounds: [Round]
    var samples: [Sample]
    var server: ServerUse?
    var own: OwnUse
    var violationCount: UInt64
    var violations: [String]

    var total: Counts { works.map(\.counts).reduce(.zero, +) }
    var isClean: Bool { violationCount == 0 }
}

struct WorkResult: Codable {
    var name: String
    var counts: Counts
    var liveSubscribers: Int
    /// By the name of the latency; microseconds.
    var latencies: [String: LatencySummary]
}

/// One round of `connect`: everybody connects, or reconnects, until all are in sync.
struct Round: Codable, Equatable {
    var connections: Int
    var seconds: Double
    /// `sync` frames that differed from those seen before: serialisations of the server, at least.
    var syncsParsed: UInt64
    var syncBytes: UInt64
    var serverCPU: Double?
    var serverPeak: Int?
    var listenOverflows: UInt64
}

struct Sample: Codable, Equatable {
    /// Seconds since the measured part began.
    var time: Double
    /// A second, since the sample before.
    var deliveries, answers: Double
    /// Microseconds: of deliveries, or of answers when there are none.
    var p50, p99: Double
    /// Shares of a core.
    var serverCPU: Double?
    var ownCPU: Double
    var serverResident: Int?
}

struct ServerUse: Codable, Equatable {
    var cpuSeconds: Double
    /// Before the first connection, with all of them open, at the end, and at most.
    var residentBefore, residentOpen, residentAfter, residentPeak: Int
    var perDelivery: Double?
    var perAnswer: Double?
    var perConnectionBytes: Double?
}

struct OwnUse: Codable, Equatable {
    var cpuSeconds: Double
    /// Of a core, during the measured part, without looking for answers instead of sleeping.
    var share: Double
    /// Over this the generator may be the limit, and rates and latencies say nothing of the server.
    static let shareMax = 0.85

    var isLimit: Bool { share > OwnUse.shareMax }
}
