package import StreamModel

/// A function of a worker that takes over a stream function for one stream, with the id
/// `stream::<operation>(<stream name>)`.
package struct StreamOverride: Hashable, Sendable {
    package var operation: StreamOperation
    package var streamName: String

    package init(operation: StreamOperation, streamName: String) {
        self.operation = operation
        self.streamName = streamName
    }

    /// Reads a function id; nil when it takes nothing over.
    package init?(functionID: String) {
        let bytes = functionID.utf8
        guard bytes.starts(with: "stream::".utf8), bytes.last == UInt8(ascii: ")"),
            let open = bytes.firstIndex(of: UInt8(ascii: "("))
        else { return nil }
        let name = functionID[functionID.utf8.index(functionID.startIndex, offsetBy: 8)..<open]
        guard let operation = StreamOperation(rawValue: String(name)) else { return nil }
        self.operation = operation
        let end = bytes.index(before: bytes.endIndex)
        streamName = String(functionID[bytes.index(after: open)..<end])
    }

    package var functionID: String { "stream::\(operation.rawValue)(\(streamName))" }
}

/// What an overriding function has changed, as subscribers hear of it.
package enum OverrideChange: Hashable, Sendable {
    case create(JSONText)
    case update(JSONText)
    case delete(JSONText)
}

/// What a call of an overridden function comes to.
package struct OverrideResult: Hashable, Sendable {
    /// The result for the caller (nil: none), or an error.
    package var answer: Result<JSONText?, InvocationError>
    package var change: OverrideChange?

    /// Reads what the overriding function has answered.
    ///
    /// `get`, `list` and `list_groups` pass everything on. The others must answer an object: their failures
    /// get the code and the words of the operation, and then the function's own message.
    package init(of operation: StreamOperation, _ outcome: CallOutcome) {
        switch operation {
        case .get, .list, .listGroups:
            switch outcome {
            case .success(let value): answer = .success(value)
            case .failure(let error): answer = .failure(error)
            }
        case .set, .update, .delete:
            do throws(InvocationError) {
                let fields = try Fields(operation, outcome)
                answer = .success(fields.answer(operation))
                change = fields.change(operation)
            } catch {
                answer = .failure(error)
            }
        }
    }

    private struct Fields {
        var old: JSONText?
        var new: JSONText?
        var errors: JSONText?

        init(_ operation: StreamOperation, _ outcome: CallOutcome) throws(InvocationError) {
            let result: JSONText
            switch outcome {
            case .failure(let error):
                throw Self.failure(operation, error.message)
            case .success(nil):
                throw Self.failure(operation, "Function returned no result")
            case .success(let value?):
                result = value
            }
            let view = result.view
            guard view.kind == .object else {
                throw Self.mismatch(
                    view.mismatch(expected: "struct \(operation.structName)").reason)
            }
            old = view["old_value"].map(Self.text).flatMap { $0.isNull ? nil : $0 }
            new = view["new_value"].map(Self.text)
            errors = view["errors"].map(Self.text)
            if let errors, errors.view.kind != .array {
                throw Self.mismatch(errors.view.mismatch(expected: "a sequence").reason)
            }
            if new == nil, operation != .delete {
                throw Self.mismatch("missing field `new_value`")
            }
        }

        func answer(_ operation: StreamOperation) -> JSONText {
            var object = JSONObjectWriter()
            object.add("old_value", old ?? .null)
            if operation != .delete { object.add("new_value", new ?? .null) }
            if operation == .update, let errors, !errors.isEmptyArray {
                object.add("errors", errors)
            }
            return object.finish()
        }

        func change(_ operation: StreamOperation) -> OverrideChange? {
            switch operation {
            case .delete: old.map { .delete($0) }
            default: old == nil ? .create(new ?? .null) : .update(new ?? .null)
            }
        }

        private static func text(_ view: JSONView) -> JSONText {
            JSONText(validated: Array(view.text))
        }

        private static func failure(
            _ operation: StreamOperation, _ message: String
        ) -> InvocationError {
            InvocationError(
                code: "STREAM_\(operation.rawValue.uppercased())_ERROR",
                message: "Failed to \(operation.rawValue) value: \(message)")
        }

        private static func mismatch(_ reason: String) -> InvocationError {
            InvocationError(
                code: "JSON_ERROR", message: "Failed to convert result to value: \(reason)")
        }
    }
}

extension StreamOperation {
    fileprivate var structName: String {
        switch self {
        case .set: "SetResult"
        case .update: "UpdateResult"
        case .delete: "DeleteResult"
        case .get, .list, .listGroups: "Value"
        }
    }
}

extension JSONText {
    fileprivate var isEmptyArray: Bool {
        view.elements.first { _ in true } == nil
    }
}
