/// A value of a YAML document, with its place in the file.
///
/// Two nodes are equal when their values are; places are not compared.
package struct YAMLNode: Sendable {
    package indirect enum Value: Sendable, Equatable {
        case null
        case boolean(Bool)
        case integer(Int)
        /// An integer beyond 64 bits, as it was written.
        case hugeInteger(String)
        case float(Double)
        case string(String)
        case list([YAMLNode])
        case map([YAMLEntry])
    }

    package var value: Value
    package var position: SourcePosition

    package init(_ value: Value, at position: SourcePosition = .start) {
        self.value = value
        self.position = position
    }
}

/// A key of a map with its value.
package struct YAMLEntry: Sendable {
    package var key: String
    package var keyPosition: SourcePosition
    package var value: YAMLNode

    package init(_ key: String, at keyPosition: SourcePosition = .start, _ value: YAMLNode) {
        self.key = key
        self.keyPosition = keyPosition
        self.value = value
    }
}

extension YAMLNode: Equatable {
    package static func == (left: YAMLNode, right: YAMLNode) -> Bool {
        left.value == right.value
    }
}

extension YAMLEntry: Equatable {
    package static func == (left: YAMLEntry, right: YAMLEntry) -> Bool {
        left.key == right.key && left.value == right.value
    }
}

extension SourcePosition {
    package static let start = SourcePosition(line: 1, column: 1)
}

extension YAMLNode {
    var isNull: Bool { value == .null }

    /// What kind of value this is, for messages. Never the value: it may be a secret.
    var kind: String {
        switch value {
        case .null: "nothing"
        case .boolean: "a boolean"
        case .integer: "an integer"
        case .hugeInteger: "an integer beyond 64 bits"
        case .float: "a float"
        case .string: "a string"
        case .list: "a list"
        case .map: "a map"
        }
    }

    /// The values of the map under `key`; nil when there is none, or this is no map.
    subscript(key: String) -> YAMLNode? {
        guard case .map(let entries) = value else { return nil }
        return entries.first { $0.key == key }?.value
    }
}
