import IIIStream
import Testing

@Suite("A node in this process")
struct StreamNodeTests {
    /// Ports that the kernel picks, so that tests do not meet.
    private func start(shards: Int = 2) async throws -> StreamNode {
        var configuration = NodeConfiguration()
        configuration.stream.port = 0
        configuration.workers = [(host: "127.0.0.1", port: 0)]
        configuration.shards = shards
        return try await StreamNode.start(configuration)
    }

    private let place = #""stream_name":"s","group_id":"g","item_id":"i""#

    @Test("listens where it says, and stops", arguments: [1, 2]) func life(shards: Int) async throws
    {
        let node = try await start(shards: shards)
        #expect(node.streamPort != 0)
        #expect(node.workerPorts.count == 1 && node.workerPorts[0] != 0)
        await node.stop()
    }

    @Test("stops once, whoever asks, and however often", arguments: [1, 2])
    func stops(shards: Int) async throws {
        let node = try await start(shards: shards)
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<4 { group.addTask { await node.stop() } }
            group.cancelAll()  // A cancelled caller waits as well.
        }
        await node.stop()
    }

    @Test("waits for a call as long as its caller wants, for ever if that is what it says")
    func patience() async throws {
        let node = try await start()
        #expect(
            try await node.call("stream::list_all", "{}", timeout: .seconds(Int64.max))
                == #"{"stream":[],"count":0}"#)
        await node.stop()
    }

    @Test("says what a start has failed at") func failures() async throws {
        let node = try await start()
        var configuration = NodeConfiguration()
        configuration.stream.port = node.streamPort
        await #expect {
            _ = try await StreamNode.start(configuration)
        } throws: { error in
            guard case .addressUnavailable? = error as? NodeError else { return false }
            return true
        }
        await node.stop()
    }

    @Test(
        "looks for work before it sleeps for a millisecond at most", arguments: [-1, 0, 1000, 1001])
    func polling(microseconds: Int) async throws {
        var configuration = NodeConfiguration()
        configuration.stream.port = 0
        configuration.workers = [(host: "127.0.0.1", port: 0)]
        configuration.poll = .microseconds(microseconds)
        #expect(configuration.poll.inMicroseconds == min(max(microseconds, 0), 1000))
        let node = try await StreamNode.start(configuration)
        #expect(try await node.call("stream::set", "{\(place),\"data\":1}") != nil)
        await node.stop()
    }

    @Test("serves stream functions to its host", arguments: [1, 2]) func call(shards: Int)
        async throws
    {
        let node = try await start(shards: shards)
        let created = try await node.call("stream::set", "{\(place),\"data\":{\"n\":1}}")
        #expect(created == #"{"old_value":null,"new_value":{"n":1}}"#)
        #expect(try await node.call("stream::get", "{\(place)}") == #"{"n":1}"#)
        #expect(
            try await node.call("stream::get", #"{"stream_name":"s","group_id":"g","item_id":"x"}"#)
                == nil)
        #expect(try await node.call("stream::list_groups", #"{"stream_name":"s"}"#) == #"["g"]"#)
        let all = try await node.call("stream::list_all", "null")
        #expect(all == #"{"stream":[{"id":"s","groups":["g"]}],"count":1}"#)
        #expect(try await node.call("engine::triggers::list", "{}") == #"{"triggers":[]}"#)
        await node.stop()
    }

    @Test("many calls at once all get their own answer") func concurrent() async throws {
        let node = try await start()
        try await withThrowingTaskGroup(of: Void.self) { group in
            for number in 0..<500 {
                group.addTask {
                    let place =
                        #""stream_name":"s","group_id":"\#(number % 17)","item_id":"\#(number)""#
                    _ = try await node.call("stream::set", "{\(place),\"data\":\(number)}")
                    #expect(try await node.call("stream::get", "{\(place)}") == String(number))
                }
            }
            try await group.waitForAll()
        }
        let counters = await node.counters()
        #expect(counters.first { $0.name == "items" }?.value == 500)
        await node.stop()
    }

    @Test(
        "errors of a call are thrown",
        arguments: [
            ("stream::get", "{}", "deserialization_error"),
            ("no::such", "{}", "function_not_found"),
            ("stream::get", "{", "invalid_message"), ("stream::get", "", "invalid_message"),
            (
                "stream::update", #"{"stream_name":"s","group_id":"g","item_id":"i","ops":[1]}"#,
                "deserialization_error"
            ),
        ])
    func errors(function: String, data: String, code: String) async throws {
        let node = try await start()
        let error = await #expect(throws: CallError.self) { try await node.call(function, data) }
        #expect(error?.code == code)
        await node.stop()
    }

    @Test("a call after the stop ends") func afterStop() async throws {
        let node = try await start()
        await node.stop()
        await #expect(throws: CallError.self) {
            try await node.call("stream::get", "{\(place)}", timeout: .milliseconds(200))
        }
    }

    @Test("two nodes live side by side, and a taken port is refused") func ports() async throws {
        let first = try await start()
        let second = try await start()
        #expect(first.streamPort != second.streamPort)
        var taken = NodeConfiguration()
        taken.stream.port = first.streamPort
        taken.workers = [(host: "127.0.0.1", port: 0)]
        let error = await #expect(throws: NodeError.self) { try await StreamNode.start(taken) }
        #expect(error?.description.contains("already in use") == true)
        await first.stop()
        await second.stop()
    }

    @Test("a configuration is read from text, and refused with every problem") func yaml() throws {
        let configuration = try NodeConfiguration(
            yaml: "- {name: iii-stream, config: {port: ${P:1}}}", environment: ["P": "2"])
        #expect(configuration.stream.port == 2)
        let error = #expect(throws: NodeError.self) {
            try NodeConfiguration(yaml: "- {name: iii-stream, config: {prt: 1, host: 5}}")
        }
        #expect(error?.description.contains("did you mean `port`?") == true)
        #expect(error?.description.contains("`host`") == true)
    }
}
