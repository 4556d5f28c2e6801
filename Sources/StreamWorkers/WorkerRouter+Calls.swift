internal import StreamFunctions
package import StreamModel

extension WorkerRouter {
    // MARK: Calls of workers

    mutating func invoke(
        _ invocation: Invocation, from caller: ConnectionID, into actions: inout Actions
    ) {
        let answer = answerAddress(of: invocation, caller)
        guard mayCall(invocation, answer, into: &actions) else { return }
        if passesMiddleware(invocation, answer, into: &actions) { return }
        if invocation.isEnqueue {
            let error = InvocationError(code: "enqueue_error", message: "QueueModule not loaded")
            return send(.failure(error), to: answer, into: &actions)
        }
        let id = Name(invocation.functionID)
        if isEngineFunction(id) {
            let data = invocation.data ?? .null
            guard answer.invocationID != nil || !Self.onlyReads(invocation.functionID) else {
                return counters.readsDropped += 1  // Nobody waits for it.
            }
            let result = runEngineFunction(
                invocation.functionID, data, for: caller, into: &actions)
            return send(result, to: answer, into: &actions)
        }
        if builtInIDs.contains(id) {
            // Those of unrestricted connections never come here.
            return actions.append(.runStreamCall(caller, invocation.payload))
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

    private mutating func forward(
        _ invocation: Invocation, to executor: ConnectionID, _ answer: AnswerAddress,
        into actions: inout Actions
    ) {
        let invocationID = makeUUID()
        calls.insert(
            PendingCall(
                invocationID: Name(invocationID), executor: executor, caller: answer.caller,
                functionID: answer.functionID, purpose: .answer(answer)))
        counters.callsForwarded += 1
        actions.append(
            .forwardCall(
                invocation.payload, to: executor, invocationID: invocationID,
                functionID: unprefixed(invocation.functionID, executor)))
    }

    func refusal(from caller: ConnectionID, to executor: ConnectionID) -> InvocationError? {
        let waiting = limits(of: caller).pendingCallsPerWorker
        if calls.waitingCount(of: caller) >= waiting { return tooManyCalls("calling", waiting) }
        return refusal(to: executor)
    }

    /// Why a worker may not be given a further call; nil: it may.
    private func refusal(to executor: ConnectionID) -> InvocationError? {
        let executing = limits(of: executor).pendingCallsPerWorker
        guard calls.executingCount(of: executor) >= executing else { return nil }
        return tooManyCalls("executing", executing)
    }

    private func tooManyCalls(_ who: String, _ limit: Int) -> InvocationError {
        InvocationError(
            code: "too_many_calls", message: "The \(who) worker has \(limit) calls pending")
    }

    // MARK: Calls of the node

    /// Calls a function for the node. How it ends is told with the action ``WorkerAction/nodeCallEnded``,
    /// which may be among the actions at once.
    /// - Parameters:
    ///   - tag: names the call for whoever asks for it.
    ///   - needsResult: whether it matters what a success says; else it is told without a result.
    ///   - timeout: until it ends with an error.
    package mutating func call(
        _ functionID: String, _ input: CallInput, tag: UInt64, traceparent: String? = nil,
        needsResult: Bool = true, timeout: Duration, at moment: Moment,
        into actions: inout Actions
    ) {
        self.moment = moment
        startCall(
            functionID, input, .node(tag, needsResult: needsResult), traceparent: traceparent,
            timeout: timeout,
            into: &actions)
    }

    /// - Parameter caller: the connection for which the router calls. The call goes when it closes.
    mutating func startCall(
        _ functionID: String, _ input: CallInput, _ purpose: CallPurpose,
        caller: ConnectionID = .node, traceparent: String? = nil, timeout: Duration?,
        into actions: inout Actions
    ) {
        let id = Name(functionID)
        let invocationID = makeUUID()
        var call = PendingCall(
            invocationID: Name(invocationID), executor: .node, caller: caller,
            functionID: functionID, purpose: purpose, timeout: timeout)
        if let timeout { call.deadline = moment.uptime + timeout }
        if isEngineFunction(id) {
            let result = runEngineFunction(functionID, input.text, for: .node, into: &actions)
            return end(call, CallOutcome(result), into: &actions)
        }
        if builtInIDs.contains(id) {
            calls.insert(call)
            return actions.append(
                .callStream(
                    invocationID: invocationID, functionID: functionID, data: input.text))
        }
        guard let executor = functions.owner(of: id) else {
            counters.callsNotFound += 1
            let shown = functionID.prefix(bytes: limits.nameSize)
            return end(call, .failure(.functionNotFound(shown)), into: &actions)
        }
        if let error = refusal(to: executor) {
            counters.callsRefused += 1
            return end(call, .failure(error), into: &actions)
        }
        call.executor = executor
        send(call, input, traceparent: traceparent, into: &actions)
    }

    private mutating func send(
        _ call: PendingCall, _ input: CallInput, traceparent: String?,
        into actions: inout Actions
    ) {
        let invocationID = call.invocationID.string
        let shown = unprefixed(call.functionID, call.executor)
        switch input {
        case .message(let payload):
            actions.append(
                .forwardCall(
                    payload, to: call.executor, invocationID: invocationID, functionID: shown))
        case .text(let data):
            let frame = WorkerFrame.invokeFunction(
                shown, invocationID: invocationID, data: data, traceparent: traceparent)
            if let limit = workers[call.executor]?.messageSizeMax, frame.count > limit {
                counters.callsUndeliverable += 1
                return end(
                    call, .failure(undeliverableError(.tooLarge(limit: limit))), into: &actions)
            }
            actions.append(.sendCall(call.executor, frame))
        }
        calls.insert(call)
        counters.callsForwarded += 1
    }

    // MARK: Ends of calls

    mutating func finishCall(
        _ outcome: InvocationOutcome, from worker: ConnectionID,
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
        if case .node(let tag, needsResult: false) = call.purpose, !outcome.isError {
            return actions.append(.nodeCallEnded(tag: tag, .success(nil)))
        }
        guard case .answer(let answer) = call.purpose else {
            return end(call, outcome.payload.outcome, into: &actions)
        }
        guard let invocationID = answer.invocationID else {
            if outcome.isError {
                let fields: KeyValuePairs = ["function_id": answer.functionID]
                actions.append(.log(LogLine(.debug, "void_call_failed", fields)))
            }
            return
        }
        actions.append(
            .forwardResult(
                outcome.payload, to: answer.caller, invocationID: invocationID,
                functionID: answer.functionID, traceparent: answer.traceparent,
                baggage: answer.baggage))
    }

    /// Ends a call that ``WorkerAction/callStream`` started, when no message of the core will.
    package mutating func endBuiltInCall(
        _ invocationID: String, _ result: Result<JSONText?, InvocationError>,
        into actions: inout Actions
    ) {
        guard case .call(let call) = calls.take(Name(invocationID), from: .node) else { return }
        end(call, CallOutcome(result), into: &actions)
    }

    /// Tells whoever waits for a call how it ended.
    mutating func end(_ call: PendingCall, _ outcome: CallOutcome, into actions: inout Actions) {
        switch call.purpose {
        case .answer(let answer):
            switch outcome {
            case .success(let result): send(.success(result), to: answer, into: &actions)
            case .failure(let error): send(.failure(error), to: answer, into: &actions)
            }
        case .node(let tag, _):
            actions.append(.nodeCallEnded(tag: tag, outcome))
        case .access(let step):
            accessCallEnded(step, outcome, into: &actions)
        }
    }

    /// Ends a call that the core could not give to its executor.
    mutating func failCall(
        _ invocationID: String, to executor: ConnectionID, _ reason: UndeliverableReason,
        into actions: inout Actions
    ) {
        guard case .call(let call) = calls.take(Name(invocationID), from: executor) else { return }
        counters.callsUndeliverable += 1
        end(call, .failure(undeliverableError(reason)), into: &actions)
    }

    private func undeliverableError(_ reason: UndeliverableReason) -> InvocationError {
        switch reason {
        case .tooLarge(let limit):
            InvocationError(
                code: "payload_too_large",
                message: "The call is larger than the \(limit) bytes that its worker takes")
        case .gone:
            InvocationError(code: "channel_send_failed", message: "channel closed")
        }
    }

    // MARK: Answers

    /// Answers a call, unless its caller wants no answer.
    func send(
        _ result: Result<JSONText?, InvocationError>, to answer: AnswerAddress,
        into actions: inout Actions
    ) {
        guard let invocationID = answer.invocationID else { return }
        let frame = resultFrame(
            result, to: invocationID, functionID: answer.functionID,
            traceparent: answer.traceparent, baggage: answer.baggage, for: answer.caller)
        actions.append(.send(answer.caller, frame))
    }

    /// The message that answers a call; an error instead if the caller takes none so large.
    package func resultFrame(
        _ result: Result<JSONText?, InvocationError>, to invocationID: JSONText,
        functionID: String, traceparent: String?, baggage: String?, for caller: ConnectionID
    ) -> [UInt8] {
        let frame = WorkerFrame.invocationResult(
            result, to: invocationID, functionID: functionID, traceparent: traceparent,
            baggage: baggage)
        guard let limit = workers[caller]?.messageSizeMax, frame.count > limit else {
            return frame
        }
        return WorkerFrame.invocationResult(
            .failure(.resultTooLarge), to: invocationID, functionID: functionID, traceparent: nil,
            baggage: nil)
    }

    mutating func refuseUnknownFunction(_ answer: AnswerAddress, into actions: inout Actions) {
        counters.callsNotFound += 1
        send(.failure(.functionNotFound(answer.functionID)), to: answer, into: &actions)
    }

    private func answerAddress(
        of invocation: Invocation, _ caller: ConnectionID
    ) -> AnswerAddress {
        let traceSize =
            (invocation.traceparent?.utf8.count ?? 0) + (invocation.baggage?.utf8.count ?? 0)
        let keepsTrace = traceSize <= limits.traceContextSize
        return AnswerAddress(
            caller: caller, invocationID: invocation.isVoid ? nil : invocation.invocationID,
            functionID: invocation.functionID.prefix(bytes: limits.nameSize),
            traceparent: keepsTrace ? invocation.traceparent : nil,
            baggage: keepsTrace ? invocation.baggage : nil)
    }
}

/// Where the answer to a call goes, and what it repeats of the call.
struct AnswerAddress: Sendable {
    var caller: ConnectionID
    /// The caller's id as written; nil when it wants no answer.
    var invocationID: JSONText?
    /// At most ``WorkerLimits/nameSize`` bytes of what the caller wrote: no function has a longer id.
    var functionID: String
    var traceparent: String?
    var baggage: String?
}

extension CallOutcome {
    init(_ result: Result<JSONText?, InvocationError>) {
        switch result {
        case .success(let value): self = .success(value.flatMap { $0.isNull ? nil : $0 })
        case .failure(let error): self = .failure(error)
        }
    }
}

extension InvocationError {
    static let resultTooLarge = InvocationError(
        code: "result_too_large", message: "the result is larger than the caller accepts")
}
