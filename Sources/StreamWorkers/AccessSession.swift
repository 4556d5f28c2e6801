import StreamConfig
import StreamModel

/// What a worker may do, as the auth function of its listener has said.
struct AccessSession: Hashable, Sendable {
    var allowedFunctions: Set<Name> = []
    var forbiddenFunctions: Set<Name> = []
    /// Nil: all.
    var allowedTriggerTypes: Set<Name>?
    var mayRegisterTriggerTypes = true
    var mayRegisterFunctions = true
    /// What hooks and middleware get to see of it.
    var context = JSONText(validated: Array("{}".utf8))
    /// Goes before the ids of its functions.
    var functionPrefix: String?

    /// Of a listener with rules and no auth function.
    static let unlimited = AccessSession()

    private init() {}

    /// Reads what the auth function has answered: an object, whose absent fields have their defaults.
    init(result: JSONText) throws(JSONMismatch) {
        let view = result.view
        guard view.kind == .object else { throw view.mismatch(expected: "struct AuthResult") }
        allowedFunctions = try view["allowed_functions"]?.names() ?? []
        forbiddenFunctions = try view["forbidden_functions"]?.names() ?? []
        if let types = view["allowed_trigger_types"], types.kind != .null {
            allowedTriggerTypes = try types.names()
        }
        mayRegisterTriggerTypes = try view["allow_trigger_type_registration"]?.flag() ?? false
        mayRegisterFunctions = try view["allow_function_registration"]?.flag() ?? true
        if let context = view["context"] { self.context = JSONText(validated: Array(context.text)) }
        functionPrefix = try view["function_registration_prefix"]?.optionalString()
    }

    /// Why a function may not be called; nil: it may.
    ///
    /// Forbidden comes before allowed, then what every worker needs, then what the listener exposes.
    /// - Parameter function: what is registered under the id, if anything.
    func refusal(
        of id: String, _ function: FunctionRegistration?, _ access: AccessControl?
    ) -> InvocationError? {
        let name = Name(id)
        let shown = id.prefix(bytes: Self.nameSizeMax)
        if forbiddenFunctions.contains(name) {
            return InvocationError(
                code: "FORBIDDEN",
                message: "function '\(shown)' not allowed (remove from rbac.forbidden_functions)")
        }
        guard let access, !allowedFunctions.contains(name), !Self.infrastructure.contains(name),
            // No function has a longer id: patterns need not look it through.
            name.size > Self.nameSizeMax
                || !access.exposedFunctions.contains(where: { $0.matches(id, function) })
        else { return nil }
        return InvocationError(
            code: "FORBIDDEN",
            message: "function '\(shown)' not allowed (add to rbac.expose_functions)")
    }

    /// What messages show of an id, in bytes.
    private static let nameSizeMax = 256

    private static let infrastructure: Set<Name> = Set(
        [
            "engine::channels::create", "engine::workers::register", "engine::log::info",
            "engine::log::warn", "engine::log::error", "engine::log::debug", "engine::log::trace",
            "engine::baggage::get", "engine::baggage::set", "engine::baggage::get_all",
        ].map(Name.init))
}

extension JSONView {
    fileprivate func names() throws(JSONMismatch) -> Set<Name> {
        guard kind == .array else { throw mismatch(expected: "a sequence") }
        var names: Set<Name> = []
        for element in elements {
            guard let name = element.string else { throw element.mismatch(expected: "a string") }
            names.insert(Name(name))
        }
        return names
    }

    fileprivate func flag() throws(JSONMismatch) -> Bool {
        guard kind == .boolean else { throw mismatch(expected: "a boolean") }
        return text.first == UInt8(ascii: "t")
    }
}

extension ExposedFunctions {
    fileprivate func matches(_ id: String, _ function: FunctionRegistration?) -> Bool {
        switch self {
        case .pattern(let pattern):
            return Pattern(pattern).matches(id)
        case .metadata(let conditions):
            guard let metadata = function?.metadata?.view, metadata.kind == .object else {
                return false
            }
            return conditions.allSatisfy { condition in
                guard let value = metadata[condition.key] else { return false }
                return switch condition.test {
                case .equals(let expected): value.isEqual(to: expected.view)
                case .pattern(let pattern):
                    value.string.map { Pattern(pattern).matches($0) } ?? false
                }
            }
        }
    }
}

/// A text in which `*` stands for any run of characters.
struct Pattern: Hashable, Sendable {
    private let parts: [[UInt8]]

    init(_ text: String) {
        parts = text.utf8.split(separator: UInt8(ascii: "*"), omittingEmptySubsequences: false)
            .map { Array($0) }
    }

    /// O(size of the text × size of the pattern) at most.
    func matches(_ text: String) -> Bool {
        var rest = Array(text.utf8)[...]
        guard let first = parts.first, let last = parts.last else { return rest.isEmpty }
        if parts.count == 1 { return rest.elementsEqual(first) }
        guard rest.starts(with: first) else { return false }
        rest = rest.dropFirst(first.count)
        for part in parts.dropFirst().dropLast() {
            guard let found = rest.firstRange(of: part) else { return false }
            rest = rest[found...].dropFirst(part.count)
        }
        return rest.count >= last.count && rest.suffix(last.count).elementsEqual(last)
    }
}

extension ArraySlice<UInt8> {
    /// Where `part` begins first.
    fileprivate func firstRange(of part: [UInt8]) -> Int? {
        guard part.count <= count else { return nil }
        return (startIndex...(endIndex - part.count)).first {
            self[$0..<($0 + part.count)].elementsEqual(part)
        }
    }
}
