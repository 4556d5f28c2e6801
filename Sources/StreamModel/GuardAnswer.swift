/// What a join handler, or the auth function of the stream port, has decided with its answer.
///
/// A guard refuses with `{"unauthorized": true}`. Authors also write the keys of other systems (`allowed`,
/// `authorized`, `error`), or a bare `false`: these mean what they say instead of nothing.
package struct GuardAnswer: Hashable, Sendable {
    package var isRefusal: Bool
    /// The key, or the kind of value, that is not of the right shape; nil when all is.
    package var oddity: String?

    /// The right shape, for warnings.
    package static let shape = #"a guard refuses with {"unauthorized": true}, and lets in with {}"#

    /// Reads an answer; nil is none, which lets in.
    package init(_ result: JSONText?) {
        isRefusal = false
        guard let view = result?.view else { return }
        switch view.kind {
        case .object: read(view)
        case .null: break
        case .boolean where view.isTrue: break
        case .boolean: refuse("false")
        case .string: refuse("a string")
        case .array: refuse("an array")
        default: refuse("a number")
        }
    }

    private mutating func refuse(_ what: String) {
        isRefusal = true
        oddity = what
    }

    private mutating func read(_ object: JSONView) {
        if let value = object["unauthorized"], value.kind != .null, !value.isFalse {
            isRefusal = true
            if !value.isTrue { oddity = "unauthorized" }
        }
        for key in ["allowed", "authorized"] {
            guard let value = object[key] else { continue }
            oddity = oddity ?? key
            if !value.isTrue { isRefusal = true }
        }
        if let value = object["error"] {
            oddity = oddity ?? "error"
            if value.kind != .null, !value.isFalse { isRefusal = true }
        }
    }

    /// Whether the original refuses too: only for the value `true`.
    package static func isRefusalOfTheOriginal(_ result: JSONText?) -> Bool {
        result?.view["unauthorized"]?.isTrue == true
    }
}

extension JSONView {
    fileprivate var isTrue: Bool { kind == .boolean && text.first == UInt8(ascii: "t") }
    fileprivate var isFalse: Bool { kind == .boolean && text.first == UInt8(ascii: "f") }
}

/// Functions that a warning has been written about: each is warned about once.
package struct WarnedFunctions: Sendable {
    private var ids: Set<Name> = []
    /// More are not warned about, so that the set stays small whatever ids workers choose.
    private static let countMax = 1024

    package init() {}

    /// Whether the function has not been warned about. It has from now on.
    package mutating func isFirst(_ functionID: String) -> Bool {
        ids.count < Self.countMax && ids.insert(Name(functionID)).inserted
    }
}
