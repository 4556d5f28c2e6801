import StreamModel

extension WorkerRouter {
    mutating func invoke(
        _ invocation: Invocation<Payload>, from caller: ConnectionID, into actions: inout Actions
    ) {
        let answer = answerAddress(of: invocation, caller)
        guard answer.invocationID.map({ $0.bytes.count <= limits.invocationIDSize }) ?? true else {
            counters.callsRefused += 1
            let error = InvocationError(
                code: "invalid_message",
                message: "invocation_id is longer than \(limits.invocationIDSize) bytes")
            return send(.failure(error), to: answer, into: &actions)
        }
        let id = Name(invocation.functionID)
        if id.hasPrefix("engine::") {
            return runEngineFunction(invocation, answer, into: &actions)
        }
        guard let executor = functions.owner(of: id) else {
            return refuseUnknownFunction(answer, into: &actions)
        }
        if let error = refusal(from: caller, to: executor) {
            counters.callsRefused += 1
            return send(.failure(error), to: answer, into: &actions)
        }
        forward(invocation, to: executor, answer, into: &actions)
    }

    mutating func finishCall(
        _ outcome: InvocationOutcome<Payload>, from worker: ConnectionID,
        into actions: inout Actions
    ) {
        let call: PendingCall
        switch calls.take(Name(outcome.invocationID), from: worker) {
        case .call(let taken):
            call = taken
        case .unknown:
            counters.resultsUnknown += 1
            return
        case .foreign:
            counters.resultsForeign += 1
            return
        }
        counters.callsAnswered += 1
        guard let invocationID = call.callerInvocationID else {
            if outcome.isError {
                let fields: KeyValuePairs = ["function_id": call.functionID]
                actions.append(.log(WorkerLog(.debug, "void_call_failed", fields)))
            }
            return
        }
        actions.append(
            .forwardResult(
                outcome.payload, to: call.caller, invocationID: invocationID,
                functionID: call.functionID, traceparent: call.traceparent, baggage: call.baggage))
    }

    /// Ends a call that the core could not give to its executor.
    mutating func failCall(
        _ invocationID: String, to executor: ConnectionID, _ reason: UndeliverableReason,
        into actions: inout Actions
    ) {
        guard case .call(let call) = calls.take(Name(invocationID), from: executor) else { return }
        counters.callsUndeliverable += 1
        let error =
            switch reason {
            case .tooLarge(let limit):
                InvocationError(
                    code: "payload_too_large",
                    message: "The call is larger than the \(limit) bytes that its worker takes")
            case .gone:
                InvocationError(code: "channel_send_failed", message: "channel closed")
            }
        send(.failure(error), to: AnswerAddress(call), into: &actions)
    }

    /// Ends all calls that a connection, which is closed, executes or waits for.
    mutating func stopCalls(of connection: ConnectionID, into actions: inout Actions) {
        let error = InvocationError(code: "invocation_stopped", message: "Invocation stopped")
        for call in calls.removeAll(of: connection) {
            counters.callsStopped += 1
            if call.caller != connection {
                send(.failure(error), to: AnswerAddress(call), into: &actions)
            }
        }
    }

    /// Answers a call, unless its caller wants no answer.
    func send(
        _ result: Result<JSONText, InvocationError>, to answer: AnswerAddress,
        into actions: inout Actions
    ) {
        guard let invocationID = answer.invocationID else { return }
        let frame = WorkerFrame.invocationResult(
            result, to: invocationID, functionID: answer.functionID,
            traceparent: answer.traceparent, baggage: answer.baggage)
        actions.append(.send(answer.caller, frame))
    }

    mutating func refuseUnknownFunction(_ answer: AnswerAddress, into actions: inout Actions) {
        counters.callsNotFound += 1
        let shown = answer.functionID.prefix(bytes: limits.nameSize)
        let error = InvocationError(
            code: "function_not_found", message: "Function \(shown) not found")
        send(.failure(error), to: answer, into: &actions)
    }

    private mutating func forward(
        _ invocation: Invocation<Payload>, to executor: ConnectionID, _ answer: AnswerAddress,
        into actions: inout Actions
    ) {
        let invocationID = makeUUID()
        calls.insert(
            PendingCall(
                invocationID: Name(invocationID), executor: executor, caller: answer.caller,
                callerInvocationID: answer.invocationID, functionID: answer.functionID,
                traceparent: answer.traceparent, baggage: answer.baggage))
        counters.callsForwarded += 1
        actions.append(
            .forwardCall(
                invocation.payload, to: executor, invocationID: invocationID,
                functionID: invocation.functionID))
    }

    private func refusal(from caller: ConnectionID, to executor: ConnectionID) -> InvocationError? {
        let limit = limits.pendingCallsPerWorker
        let waiter =
            if calls.waitingCount(of: caller) >= limit {
                "calling"
            } else if calls.executingCount(of: executor) >= limit {
                "executing"
            } else {
                ""
            }
        guard !waiter.isEmpty else { return nil }
        return InvocationError(
            code: "too_many_calls", message: "The \(waiter) worker has \(limit) calls pending")
    }

    private func answerAddress(
        of invocation: Invocation<Payload>, _ caller: ConnectionID
    ) -> AnswerAddress {
        let traceSize =
            (invocation.traceparent?.utf8.count ?? 0) + (invocation.baggage?.utf8.count ?? 0)
        let keepsTrace = traceSize <= limits.traceContextSize
        return AnswerAddress(
            caller: caller, invocationID: invocation.isVoid ? nil : invocation.invocationID,
            functionID: invocation.functionID,
            traceparent: keepsTrace ? invocation.traceparent : nil,
            baggage: keepsTrace ? invocation.baggage : nil)
    }
}

/// Where the answer to a call goes, and what it repeats of the call.
struct AnswerAddress: Sendable {
    var caller: ConnectionID
    /// The caller's id as written; nil when it wants no answer.
    var invocationID: JSONText?
    var functionID: String
    var traceparent: String?
    var baggage: String?
}

extension AnswerAddress {
    init(_ call: PendingCall) {
        self.init(
            caller: call.caller, invocationID: call.callerInvocationID, functionID: call.functionID,
            traceparent: call.traceparent, baggage: call.baggage)
    }
}
