import StreamModel

/// The messages that the node writes itself. Those that carry a payload are written by the core.
enum WorkerFrame {
    static func functionRegistrationResult(id: String, error: InvocationError) -> [UInt8] {
        registrationResult("functionregistrationresult", id: id, error)
    }

    static func triggerTypeRegistrationResult(id: String, error: InvocationError) -> [UInt8] {
        registrationResult("triggertyperegistrationresult", id: id, error)
    }

    static func triggerRegistrationResult(
        id: String, triggerType: String, functionID: String, error: InvocationError
    ) -> [UInt8] {
        var frame = JSONObjectWriter()
        frame.add("type", "triggerregistrationresult")
        frame.add("id", id)
        frame.add("trigger_type", triggerType)
        frame.add("function_id", functionID)
        frame.add("error", text(of: error))
        return frame.finish().bytes
    }

    static func registerTrigger(_ trigger: TriggerRegistration) -> [UInt8] {
        var frame = JSONObjectWriter(capacity: trigger.size + 128)
        frame.add("type", "registertrigger")
        frame.add("id", trigger.id)
        frame.add("trigger_type", trigger.triggerType)
        frame.add("function_id", trigger.functionID)
        frame.add("config", trigger.config)
        frame.addIfPresent("metadata", trigger.metadata)
        return frame.finish().bytes
    }

    static func unregisterTrigger(_ trigger: TriggerRegistration) -> [UInt8] {
        var frame = JSONObjectWriter()
        frame.add("type", "unregistertrigger")
        frame.add("id", trigger.id)
        frame.add("trigger_type", trigger.triggerType)
        return frame.finish().bytes
    }

    static func invokeFunction(
        _ functionID: String, invocationID: String, data: JSONText, traceparent: String?
    ) -> [UInt8] {
        var frame = JSONObjectWriter(capacity: data.bytes.count + 256)
        frame.add("type", "invokefunction")
        frame.add("invocation_id", invocationID)
        frame.add("function_id", functionID)
        frame.add("data", data)
        frame.addIfPresent("traceparent", traceparent)
        return frame.finish().bytes
    }

    /// Why a connection is not admitted.
    static func authenticationError(_ message: String) -> [UInt8] {
        var frame = JSONObjectWriter()
        frame.add("error", text(of: InvocationError(code: "AUTH_ERROR", message: message)))
        frame.add("type", "error")
        return frame.finish().bytes
    }

    /// The answer to `call`, whose caller has given it `invocationID`.
    static func invocationResult(
        _ result: Result<JSONText?, InvocationError>, to invocationID: JSONText, functionID: String,
        traceparent: String?, baggage: String?
    ) -> [UInt8] {
        var frame = JSONObjectWriter()
        frame.add("type", "invocationresult")
        frame.add("invocation_id", invocationID)
        frame.add("function_id", functionID)
        switch result {
        case .success(let value): frame.addIfPresent("result", value)
        case .failure(let error): frame.add("error", text(of: error))
        }
        frame.addIfPresent("traceparent", traceparent)
        frame.addIfPresent("baggage", baggage)
        return frame.finish().bytes
    }

    private static func registrationResult(
        _ type: String, id: String, _ error: InvocationError
    ) -> [UInt8] {
        var frame = JSONObjectWriter()
        frame.add("type", type)
        frame.add("id", id)
        frame.add("error", text(of: error))
        return frame.finish().bytes
    }

    private static func text(of error: InvocationError) -> JSONText {
        var object = JSONObjectWriter(capacity: 128)
        object.add("code", error.code)
        object.add("message", error.message)
        object.addIfPresent("stacktrace", error.stacktrace)
        return object.finish()
    }
}
