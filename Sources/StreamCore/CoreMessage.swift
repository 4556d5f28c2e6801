internal import CStreamCore
package import StreamModel

/// A message of a worker, validated and kept by the core; fields are read when they are asked for.
///
/// Safe: the C message is immutable and counted atomically, and this object holds one count from `init` to
/// `deinit`.
@safe package final class CoreMessage: @unchecked Sendable {
    package enum Kind: Hashable, Sendable {
        case registerFunction, unregisterFunction
        case registerTriggerType, unregisterTriggerType
        case registerTrigger, unregisterTrigger, triggerRegistrationResult
        case registerService
        case invoke, result, reattach
        /// Made by the core.
        case change, join, leave, sync, upgrade, override, logs
    }

    package enum Field: Hashable, Sendable {
        case id, functionID, invocationID, triggerType, data, config, metadata, description
        case requestFormat, responseFormat, triggerRequestFormat, callRequestFormat, invocation
        case traceparent, baggage, result, error, errorCode, errorMessage, errorStacktrace
        case action, previousWorkerID, reattachToken, stream, group, item
    }

    let handle: OpaquePointer

    /// Keeps `borrowed`.
    init(retaining borrowed: OpaquePointer) {
        unsafe sc_message_retain(borrowed)
        unsafe handle = borrowed
    }

    deinit {
        unsafe sc_message_release(handle)
    }

    package var kind: Kind {
        switch unsafe sc_message_type(handle) {
        case SC_MESSAGE_REGISTER_FUNCTION: .registerFunction
        case SC_MESSAGE_UNREGISTER_FUNCTION: .unregisterFunction
        case SC_MESSAGE_REGISTER_TRIGGER_TYPE: .registerTriggerType
        case SC_MESSAGE_UNREGISTER_TRIGGER_TYPE: .unregisterTriggerType
        case SC_MESSAGE_REGISTER_TRIGGER: .registerTrigger
        case SC_MESSAGE_UNREGISTER_TRIGGER: .unregisterTrigger
        case SC_MESSAGE_TRIGGER_REGISTRATION_RESULT: .triggerRegistrationResult
        case SC_MESSAGE_REGISTER_SERVICE: .registerService
        case SC_MESSAGE_INVOKE: .invoke
        case SC_MESSAGE_RESULT: .result
        case SC_MESSAGE_REATTACH: .reattach
        case SC_MESSAGE_CHANGE: .change
        case SC_MESSAGE_JOIN: .join
        case SC_MESSAGE_LEAVE: .leave
        case SC_MESSAGE_SYNC: .sync
        case SC_MESSAGE_UPGRADE: .upgrade
        case SC_MESSAGE_OVERRIDE: .override
        case SC_MESSAGE_LOGS: .logs
        default: preconditionFailure("a message type that the core does not have")
        }
    }

    /// Nobody waits for the result of this call.
    package var isVoid: Bool { unsafe sc_message_is_void(handle) }

    package var isEnqueue: Bool { unsafe sc_message_is_enqueue(handle) }

    /// Of a message of the kind `override`: what is overridden.
    package var operation: StreamOperation {
        switch SC_WATCH_SET.rawValue << (unsafe sc_message_override(handle) - 8) {
        case SC_WATCH_SET.rawValue: .set
        case SC_WATCH_GET.rawValue: .get
        case SC_WATCH_DELETE.rawValue: .delete
        case SC_WATCH_LIST.rawValue: .list
        case SC_WATCH_LIST_GROUPS.rawValue: .listGroups
        case SC_WATCH_UPDATE.rawValue: .update
        default: preconditionFailure("an operation that the core does not have")
        }
    }

    /// The message is dealt with, though somebody may still hold it: its connection may send another one.
    /// Once only.
    package func settle() {
        unsafe sc_message_settle(handle)
    }

    /// The account that the message is charged to; nil once it is settled, or when it is nobody's.
    package var account: CoreAccount? {
        guard let account = unsafe sc_message_account(handle) else { return nil }
        return unsafe CoreAccount(retaining: account)
    }

    package func has(_ field: Field) -> Bool {
        unsafe sc_message_field(handle, field.code).data != nil
    }

    /// A copy of a field as written, or nil when it is absent or null.
    package func json(_ field: Field) -> JSONText? {
        let bytes = unsafe sc_message_field(handle, field.code)
        guard unsafe bytes.data != nil else { return nil }
        let buffer = unsafe UnsafeBufferPointer(start: bytes.data, count: bytes.size)
        return JSONText(validated: unsafe Array(buffer))
    }

    /// The characters of a string field, or nil when it is absent or null.
    package func string(_ field: Field) -> String? {
        let code = field.code
        let size = unsafe sc_message_field(handle, code).size
        guard unsafe sc_message_field(handle, code).data != nil else { return nil }
        return unsafe String(unsafeUninitializedCapacity: size) { out in
            guard let start = out.baseAddress else { return 0 }
            return unsafe sc_message_string(handle, code, start)
        }
    }
}

extension CoreMessage.Field {
    var code: sc_message_field {
        switch self {
        case .id: SC_FIELD_ID
        case .functionID: SC_FIELD_FUNCTION_ID
        case .invocationID: SC_FIELD_INVOCATION_ID
        case .triggerType: SC_FIELD_TRIGGER_TYPE
        case .data: SC_FIELD_DATA
        case .config: SC_FIELD_CONFIG
        case .metadata: SC_FIELD_METADATA
        case .description: SC_FIELD_DESCRIPTION
        case .requestFormat: SC_FIELD_REQUEST_FORMAT
        case .responseFormat: SC_FIELD_RESPONSE_FORMAT
        case .triggerRequestFormat: SC_FIELD_TRIGGER_REQUEST_FORMAT
        case .callRequestFormat: SC_FIELD_CALL_REQUEST_FORMAT
        case .invocation: SC_FIELD_INVOCATION
        case .traceparent: SC_FIELD_TRACEPARENT
        case .baggage: SC_FIELD_BAGGAGE
        case .result: SC_FIELD_RESULT
        case .error: SC_FIELD_ERROR
        case .errorCode: SC_FIELD_ERROR_CODE
        case .errorMessage: SC_FIELD_ERROR_MESSAGE
        case .errorStacktrace: SC_FIELD_ERROR_STACKTRACE
        case .action: SC_FIELD_ACTION
        case .previousWorkerID: SC_FIELD_PREVIOUS_WORKER_ID
        case .reattachToken: SC_FIELD_REATTACH_TOKEN
        case .stream: SC_FIELD_STREAM
        case .group: SC_FIELD_GROUP
        case .item: SC_FIELD_ITEM
        }
    }
}

extension CoreMessage: CallPayload {
    /// The message that the rules were given to pass on.
    package static func of(_ payload: any CallPayload) -> CoreMessage {
        guard let message = payload as? CoreMessage else {
            preconditionFailure("the core makes all messages that the rules are given")
        }
        return message
    }

    package var data: JSONText { json(.data) ?? .null }

    /// Bytes of the data.
    package var dataSize: Int { unsafe sc_message_field(handle, SC_FIELD_DATA).size }

    package var outcome: CallOutcome {
        guard has(.error) else { return .success(json(.result)) }
        return .failure(
            InvocationError(
                code: string(.errorCode) ?? "invalid_message",
                message: string(.errorMessage) ?? "the worker's result is malformed",
                stacktrace: string(.errorStacktrace)))
    }
}
