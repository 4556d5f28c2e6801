import StreamModel

/// The functions under `engine::`, which the router serves itself.
extension WorkerRouter {
    mutating func runEngineFunction(
        _ invocation: Invocation<Payload>, _ answer: AnswerAddress, into actions: inout Actions
    ) {
        switch invocation.functionID {
        case "engine::workers::register":
            let input = invocation.data ?? .null
            let result = registerWorker(input, at: answer.caller, into: &actions)
            send(result.mapError { inputError($0, answer.functionID) }, to: answer, into: &actions)
        default:
            refuseUnknownFunction(answer, into: &actions)
        }
    }

    private mutating func registerWorker(
        _ input: JSONText, at connection: ConnectionID, into actions: inout Actions
    ) -> Result<JSONText, JSONMismatch> {
        guard input.bytes.count <= limits.engineInputSize else {
            let reason = "input is over \(limits.engineInputSize) bytes"
            return .failure(JSONMismatch(reason: reason))
        }
        let metadata: WorkerMetadata
        do { metadata = try WorkerMetadata(input: input) } catch { return .failure(error) }
        workers[connection]?.metadata = metadata
        if let size = metadata.messageSizeMax {
            actions.append(.setOutboundLimit(connection, bytes: size))
        }
        return .success(JSONText(validated: Array(#"{"success":true}"#.utf8)))
    }

    private func inputError(_ mismatch: JSONMismatch, _ functionID: String) -> InvocationError {
        InvocationError(
            code: "deserialization_error",
            message: "Failed to deserialize input for \(functionID): \(mismatch.reason)")
    }
}
