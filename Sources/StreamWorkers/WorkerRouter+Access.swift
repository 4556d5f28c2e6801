import StreamConfig
import StreamFunctions
import StreamModel

/// What a registration asks for.
enum Registration: Sendable {
    case function(FunctionRegistration)
    case triggerType(TriggerTypeRegistration)
    case trigger(TriggerRegistration)
}

/// What the router wants to know of a function before it goes on.
enum AccessStep: Sendable {
    /// Who a connection is.
    case authenticate(ConnectionID)
    /// What to make of a registration.
    case hook(ConnectionID, Registration)
    /// What a call comes to.
    case middleware(AnswerAddress)
}

/// The rules of a worker listener: who may connect, call and register.
extension WorkerRouter {
    func access(of connection: ConnectionID) -> AccessControl? {
        workers[connection].flatMap { listeners[$0.peer.listener].accessControl }
    }

    func exposure(of connection: ConnectionID) -> Exposure? {
        workers[connection].flatMap { exposures[$0.peer.listener] }
    }

    /// Whether rules say what the worker may do. A listener that has only a middleware has none.
    func isRestricted(_ connection: ConnectionID) -> Bool { access(of: connection) != nil }

    /// The stream functions that a worker may call as long as it is connected: no rule for them can change, since
    /// they are built in. Not where a middleware is called instead.
    mutating func functionsToRunAtOnce(of worker: ConnectionID) -> [String] {
        guard isRestricted(worker), let listener = workers[worker]?.peer.listener,
            listeners[listener].middlewareFunctionID == nil
        else { return [] }
        let streams = builtInFunctions.map(\.id).filter { !$0.hasPrefix("engine::") }
        return streams.filter { refusal(of: Name($0), by: worker) == nil }
    }

    // MARK: Calls

    /// Whether the caller may call; answers it if not, void calls too.
    mutating func mayCall(
        _ invocation: Invocation, _ answer: AnswerAddress, into actions: inout Actions
    ) -> Bool {
        guard workers[answer.caller]?.session != nil else { return true }
        let refusal = refusal(of: Name(invocation.functionID), by: answer.caller)
        guard let error = refusal?.error(of: invocation.functionID) else { return true }
        counters.callsForbidden += 1
        send(.failure(error), to: answered(answer, invocation), into: &actions)
        return false
    }

    /// Why a worker may not call a function; nil: it may. Decided once, until a function changes.
    mutating func refusal(of id: Name, by caller: ConnectionID) -> Refusal? {
        guard let session = workers[caller]?.session else { return nil }
        let exposure = exposure(of: caller)
        let function = functions.function(id)
        return workers[caller]?.decisions.refusal(of: id, functions.generation) {
            session.refusal(of: id, function, exposure)
        }
    }

    /// Whether a call is the middleware's matter, which is then asked.
    mutating func passesMiddleware(
        _ invocation: Invocation, _ answer: AnswerAddress, into actions: inout Actions
    ) -> Bool {
        guard let worker = workers[answer.caller], let session = worker.session,
            let middleware = listeners[worker.peer.listener].middlewareFunctionID,
            !isEngineFunction(Name(invocation.functionID)),
            // The middleware calls the target itself: its own calls pass it by, also while a newer
            // registrant serves.
            functions.size(of: Name(middleware), by: answer.caller) == nil
        else { return false }
        let executor = functions.owner(of: Name(middleware))
        if let error = executor.flatMap({ refusal(from: answer.caller, to: $0) }) {
            counters.callsRefused += 1
            send(.failure(error), to: answered(answer, invocation), into: &actions)
            return true
        }
        var input = JSONObjectWriter()
        input.add("function_id", invocation.functionID)
        input.add("payload", invocation.payload.data)
        input.addOrNull("action", invocation.action)
        input.add("context", session.context)
        startCall(
            middleware, .text(input.finish()),
            .access(.middleware(answered(answer, invocation))), caller: answer.caller,
            traceparent: answer.traceparent, timeout: timeouts.handler, into: &actions)
        return true
    }

    /// Some answers go to void calls too, under an id of ours if the call has none that is short enough.
    private func answered(
        _ answer: AnswerAddress, _ invocation: Invocation
    ) -> AnswerAddress {
        guard answer.invocationID == nil else { return answer }
        var answer = answer
        let id = invocation.invocationID
        answer.invocationID =
            id.flatMap { $0.bytes.count <= limits.invocationIDSize + 2 ? $0 : nil }
            ?? JSONText(string: makeUUID())
        return answer
    }

    // MARK: Registrations

    /// Registers, unless the worker may not, or a hook has to be asked before.
    mutating func ask(
        _ registration: Registration, by worker: ConnectionID, into actions: inout Actions
    ) {
        guard let session = workers[worker]?.session, let access = access(of: worker) else {
            perform(registration, by: worker, into: &actions)
            return actions.append(.release(worker))
        }
        if let error = refusal(of: registration, session) {
            refuse(registration, error, by: worker, into: &actions)
            return actions.append(.release(worker))
        }
        guard let hook = access.hook(of: registration) else {
            perform(registration, by: worker, into: &actions)
            return actions.append(.release(worker))
        }
        startCall(
            hook, .text(registration.hookInput(session.context)),
            .access(.hook(worker, registration)), caller: worker, timeout: timeouts.handler,
            into: &actions)
    }

    /// Registers what may be registered, under the prefix of its worker, if the rules for what it names let it.
    private mutating func perform(
        _ registration: Registration, by worker: ConnectionID, into actions: inout Actions
    ) {
        let prefixed = prefixed(registration, worker)
        if let error = refusal(ofPrefixed: prefixed, by: worker) {
            return refuse(registration, error, by: worker, into: &actions)
        }
        switch prefixed {
        case .function(let function): register(function, by: worker, into: &actions)
        case .triggerType(let type): register(type, by: worker, into: &actions)
        case .trigger(let trigger): register(trigger, by: worker, into: &actions)
        }
    }

    private func prefixed(_ registration: Registration, _ worker: ConnectionID) -> Registration {
        switch registration {
        case .function(var function):
            function.id = prefixed(function.id, worker)
            return .function(function)
        case .triggerType:
            return registration
        case .trigger(var trigger):
            trigger.functionID = prefixed(trigger.functionID, worker)
            trigger.isRestricted = isRestricted(worker)
            return .trigger(trigger)
        }
    }

    mutating func refuse(
        _ registration: Registration, _ error: InvocationError, by worker: ConnectionID,
        into actions: inout Actions
    ) {
        switch registration {
        case .function(let function): refuse(function, error, by: worker, into: &actions)
        case .triggerType(let type): refuse(type, error, by: worker, into: &actions)
        case .trigger(let trigger): refuse(trigger, error, by: worker, into: &actions)
        }
    }

    // MARK: Answers

    mutating func accessCallEnded(
        _ step: AccessStep, _ outcome: CallOutcome, into actions: inout Actions
    ) {
        switch step {
        case .authenticate(let connection):
            authenticated(connection, outcome, into: &actions)
        case .hook(let worker, let registration):
            hooked(registration, outcome, by: worker, into: &actions)
        case .middleware(let answer):
            switch outcome {
            case .success(let result): send(.success(result), to: answer, into: &actions)
            case .failure(let error): send(.failure(error), to: answer, into: &actions)
            }
        }
    }

    private mutating func authenticated(
        _ connection: ConnectionID, _ outcome: CallOutcome, into actions: inout Actions
    ) {
        guard workers[connection] != nil else { return }
        let message: String
        switch outcome {
        case .success(let result?):
            do throws(JSONMismatch) {
                return admit(connection, try AccessSession(result: result), into: &actions)
            } catch {
                message = error.reason
            }
        case .success(nil): message = "auth function returned no result"
        case .failure(let error): message = error.message
        }
        counters.connectionsDenied += 1
        let fields: KeyValuePairs = ["address": workers[connection]?.peer.address ?? ""]
        actions.append(.log(LogLine(.warning, "worker_denied", fields)))
        actions.append(.send(connection, WorkerFrame.authenticationError(message)))
        actions.append(.close(connection, code: 1008))
    }

    private mutating func hooked(
        _ registration: Registration, _ outcome: CallOutcome, by worker: ConnectionID,
        into actions: inout Actions
    ) {
        guard let session = workers[worker]?.session else { return }
        switch outcome {
        case .success(let result?) where result.view.kind == .object:
            let changed = registration.merging(result.view)
            // A hook may name another trigger type than the one that was checked.
            if let error = refusal(of: changed, session) {
                refuse(registration, error, by: worker, into: &actions)
            } else {
                perform(changed, by: worker, into: &actions)
            }
        case .success:
            let error = InvocationError(
                code: "registration_refused", message: "The hook returned no object")
            refuse(registration, error, by: worker, into: &actions)
        case .failure(let error):
            refuse(registration, error.withoutStacktrace, by: worker, into: &actions)
        }
        actions.append(.release(worker))
    }

    // MARK: Prefixes

    /// The id under which the worker's function `id` is registered.
    func prefixed(_ id: String, _ worker: ConnectionID) -> String {
        workers[worker]?.session?.functionPrefix.map { "\($0)::\(id)" } ?? id
    }

    /// The id that the worker knows a function of its own by.
    func unprefixed(_ id: String, _ worker: ConnectionID) -> String {
        guard let prefix = workers[worker]?.session?.functionPrefix,
            Name(id).hasPrefix("\(prefix)::")
        else { return id }
        return String(decoding: id.utf8.dropFirst(prefix.utf8.count + 2), as: UTF8.self)
    }
}

extension AccessControl {
    fileprivate func hook(of registration: Registration) -> String? {
        switch registration {
        case .function: functionRegistrationFunctionID
        case .triggerType: triggerTypeRegistrationFunctionID
        case .trigger: triggerRegistrationFunctionID
        }
    }
}

extension Registration {
    var denied: InvocationError {
        let what =
            switch self {
            case .function(let function): "function '\(function.id.prefix(bytes: 256))'"
            case .triggerType(let type): "trigger type '\(type.id.prefix(bytes: 256))'"
            case .trigger(let trigger):
                "trigger of the type '\(trigger.triggerType.prefix(bytes: 256))'"
            }
        return InvocationError(code: "FORBIDDEN", message: "\(what) may not be registered")
    }

    /// What the hook is called with.
    fileprivate func hookInput(_ context: JSONText) -> JSONText {
        var input = JSONObjectWriter()
        switch self {
        case .function(let function):
            input.add("function_id", function.id)
            input.addOrNull("description", function.description)
            input.addOrNull("metadata", function.metadata)
        case .triggerType(let type):
            input.add("trigger_type_id", type.id)
            input.add("description", type.description)
        case .trigger(let trigger):
            input.add("trigger_id", trigger.id)
            input.add("trigger_type", trigger.triggerType)
            input.add("function_id", trigger.functionID)
            input.add("config", trigger.config)
            input.addOrNull("metadata", trigger.metadata)
        }
        input.add("context", context)
        return input.finish()
    }

    /// What the hook's answer makes of it: strings replace what they name, and so do other values where any
    /// may stand; null, like an absent field, keeps it.
    fileprivate func merging(_ answer: JSONView) -> Registration {
        func value(_ name: String) -> JSONText? {
            answer[name].flatMap { $0.kind == .null ? nil : JSONText(validated: Array($0.text)) }
        }
        switch self {
        case .function(var function):
            function.id = answer["function_id"]?.string ?? function.id
            if answer["description"]?.string != nil {
                function.description = value("description")
            }
            function.metadata = value("metadata") ?? function.metadata
            return .function(function)
        case .triggerType(var type):
            type.id = answer["trigger_type_id"]?.string ?? type.id
            type.description = answer["description"]?.string ?? type.description
            return .triggerType(type)
        case .trigger(var trigger):
            trigger.id = answer["trigger_id"]?.string ?? trigger.id
            trigger.triggerType = answer["trigger_type"]?.string ?? trigger.triggerType
            trigger.functionID = answer["function_id"]?.string ?? trigger.functionID
            trigger.config = value("config") ?? trigger.config
            trigger.metadata = value("metadata") ?? trigger.metadata
            return .trigger(trigger)
        }
    }
}
