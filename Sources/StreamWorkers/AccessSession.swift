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
    /// Whether its functions may take over stream functions for one stream.
    var allowsStreamOverrides = false
    /// Tells its functions and triggers from those of others: what the auth function calls it, or else all that
    /// the auth function has answered.
    var identity = JSONText.null

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
        allowsStreamOverrides =
            try view["allow_stream_overrides"]?.optionalBool() ?? false
        identity = result
        try readOwnSettings(view["context"]?["iii_stream"])
    }

    /// The types of the SDKs keep no key of an answer but theirs, so ours stand in its context too.
    private mutating func readOwnSettings(_ own: JSONView?) throws(JSONMismatch) {
        guard let own, own.kind != .null else { return }
        guard own.kind == .object else { throw own.mismatch(expected: "a map") }
        if let identity = own["identity"], identity.kind != .null {
            self.identity = JSONText(validated: Array(identity.text))
        }
        if try own["allow_stream_overrides"]?.optionalBool() == true {
            allowsStreamOverrides = true
        }
    }

    /// Trigger types that show more than their registrant may call: they have to be allowed by name.
    private static let typesByName: Set<Name> = Set(
        ["stream:join", "stream:leave", "log", "engine::workers-available"].map(Name.init))

    func mayRegister(trigger type: Name) -> Bool {
        allowedTriggerTypes?.contains(type) ?? !Self.typesByName.contains(type)
    }

    /// Why a function may not be called; nil: it may.
    ///
    /// Forbidden comes before allowed, then what every worker needs, then what the listener exposes.
    /// - Parameter function: what is registered under the id, if anything.
    func refusal(
        of id: Name, _ function: FunctionRegistration?, _ exposure: Exposure?
    ) -> Refusal? {
        if forbiddenFunctions.contains(id) { return .forbidden }
        guard let exposure, !allowedFunctions.contains(id), !Self.infrastructure.contains(id),
            !exposure.covers(id, function)
        else { return nil }
        return .notExposed
    }

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

/// Why a function may not be called.
enum Refusal: Hashable, Sendable {
    case forbidden, notExposed

    func error(of id: String) -> InvocationError {
        let shown = id.prefix(bytes: Exposure.nameSizeMax)
        let help =
            switch self {
            case .forbidden: "remove from rbac.forbidden_functions"
            case .notExposed: "add to rbac.expose_functions"
            }
        return InvocationError(
            code: "FORBIDDEN", message: "function '\(shown)' not allowed (\(help))")
    }
}

/// The `expose_functions` of a listener, made ready once.
struct Exposure: Sendable {
    private enum Test: Sendable {
        case equals(JSONText)
        case pattern(Pattern)
    }

    private var patterns: [Pattern] = []
    private var metadata: [[(key: String, test: Test)]] = []

    /// Bytes of a function's id. No function has a longer one, so patterns need not look one through.
    static let nameSizeMax = 256

    init(_ access: AccessControl) {
        for exposed in access.exposedFunctions {
            switch exposed {
            case .pattern(let pattern):
                patterns.append(Pattern(pattern))
            case .metadata(let conditions):
                metadata.append(
                    conditions.map { condition in
                        switch condition.test {
                        case .equals(let value): (condition.key, .equals(value))
                        case .pattern(let pattern): (condition.key, .pattern(Pattern(pattern)))
                        }
                    })
            }
        }
    }

    /// - Parameter function: what is registered under the id, if anything.
    func covers(_ id: Name, _ function: FunctionRegistration?) -> Bool {
        guard id.size <= Self.nameSizeMax else { return false }
        if patterns.contains(where: { $0.matches(id.string) }) { return true }
        guard !metadata.isEmpty, let view = function?.metadata?.view, view.kind == .object else {
            return false
        }
        return metadata.contains { conditions in
            conditions.allSatisfy { condition in
                guard let value = view[condition.key] else { return false }
                return switch condition.test {
                case .equals(let expected): value.isEqual(to: expected.view)
                case .pattern(let pattern): value.string.map { pattern.matches($0) } ?? false
                }
            }
        }
    }
}

/// What was decided about the calls of one session, until a function changes.
struct CallDecisions: Sendable {
    private var generation: UInt64 = 0
    private var known: [Name: Refusal?] = [:]

    /// Ids that are remembered. With more all are forgotten, so that who calls many does not fill the memory.
    static let countMax = 128

    mutating func refusal(
        of id: Name, _ generation: UInt64, _ decide: () -> Refusal?
    ) -> Refusal? {
        if generation != self.generation {
            known.removeAll(keepingCapacity: true)
            self.generation = generation
        }
        if let known = known[id] { return known }
        let refusal = decide()
        guard id.size <= Exposure.nameSizeMax else { return refusal }
        if known.count >= Self.countMax { known.removeAll(keepingCapacity: true) }
        known[id] = .some(refusal)
        return refusal
    }
}
