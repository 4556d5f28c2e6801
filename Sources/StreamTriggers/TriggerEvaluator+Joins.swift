package import StreamModel

/// Joins, which triggers decide about one after the other.
extension TriggerEvaluator {
    /// A client wants to join: `triggers` decide, one after the other.
    /// - Parameter needsAnswer: The join is refused unless at least one handler answers.
    package mutating func askJoin(
        _ connection: ConnectionID, _ payload: any CallPayload, _ triggers: [ActiveTrigger],
        needsAnswer: Bool = false, into actions: inout Actions
    ) {
        step(
            JoinRun(
                connection: connection, payload: payload, triggers: triggers,
                needsAnswer: needsAnswer), into: &actions)
    }

    private mutating func step(_ join: JoinRun, into actions: inout Actions) {
        guard join.next < join.triggers.count else {
            let isAllowed = !join.isRefused && (join.isAnswered || !join.needsAnswer)
            if !isAllowed { counters.joinsRefused += 1 }
            return actions.append(
                .decideJoin(join.connection, join.payload, isAllowed: isAllowed))
        }
        var join = join
        let trigger = join.triggers[join.next]
        if join.stage == .condition, trigger.conditionFunctionID == nil { join.stage = .handler }
        let call =
            join.stage == .condition
            ? trigger.conditionCall ?? trigger.handlerCall : trigger.handlerCall
        if join.stage == .handler { counters.handled += 1 }
        let number = runs.insert(.join(join))
        actions.append(
            .call(
                run: number, call, .message(join.payload), authors: nil, needsResult: true,
                timeout: limits.timeout))
    }

    mutating func joinCallEnded(
        _ join: JoinRun, _ outcome: CallOutcome, into actions: inout Actions
    ) {
        var join = join
        let trigger = join.triggers[join.next]
        switch (join.stage, outcome) {
        case (_, .failure(let error)):
            noteFailure(trigger, error, "join", into: &actions)
            if !failOpen { join.isRefused = true }
        case (.condition, .success(let result)):
            guard result?.isFalse != true else {
                counters.skipped += 1
                break
            }
            join.stage = .handler
            return step(join, into: &actions)
        case (.handler, .success(let result)):
            join.isAnswered = true
            if isRefusal(result, trigger, into: &actions) { join.isRefused = true }
        }
        goOn(join, into: &actions)
    }

    /// The next trigger is asked.
    mutating func goOn(_ join: JoinRun, into actions: inout Actions) {
        var join = join
        join.next += 1
        join.stage = .condition
        step(join, into: &actions)
    }

    private mutating func isRefusal(
        _ result: JSONText?, _ trigger: ActiveTrigger, into actions: inout Actions
    ) -> Bool {
        if failOpen { return GuardAnswer.isRefusalOfTheOriginal(result) }
        let answer = GuardAnswer(result)
        if let oddity = answer.oddity, warned.isFirst(trigger.functionID) {
            actions.append(
                .log(
                    LogLine(
                        .warning, "join_result_odd",
                        [
                            "trigger": trigger.id.string, "function_id": trigger.functionID,
                            "found": oddity, "detail": GuardAnswer.shape,
                        ])))
        }
        return answer.isRefusal
    }
}
