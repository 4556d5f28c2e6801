import StreamModel

// The `rbac` block of a worker listener.
extension ConfigurationDecoder {
    mutating func accessControl(_ map: SettingsMap) -> AccessControl {
        var access = AccessControl()
        access.authFunctionID = map.functionID("auth_function_id", &report)
        access.triggerRegistrationFunctionID = map.functionID(
            "on_trigger_registration_function_id", &report)
        access.triggerTypeRegistrationFunctionID = map.functionID(
            "on_trigger_type_registration_function_id", &report)
        access.functionRegistrationFunctionID = map.functionID(
            "on_function_registration_function_id", &report)
        map.read("allow_stream_overrides", into: &access.allowsStreamOverrides, &report)
        guard map.has("expose_functions"), let node = map["expose_functions"] else { return access }
        guard case .list(let items) = node.value else {
            map.refuse("expose_functions", "a list", &report)
            return access
        }
        for item in items {
            if let exposed = exposedFunctions(item, in: map.place) {
                access.exposedFunctions.append(exposed)
            }
        }
        return access
    }

    /// Functions that the configuration names can be registered on a port without rules only.
    mutating func checkNamedFunctions() {
        let ids = configuration.namedFunctionIDs
        guard !ids.isEmpty, configuration.workerListeners.allSatisfy({ $0.accessControl != nil })
        else { return }
        let names = ids.map { "`\($0)`" }.joined(separator: ", ")
        report.error(
            """
            nobody may register \(names): functions that the configuration names are reserved to workers of a\
             port without `rbac`, and there is none. Add one that only this machine reaches:
              - name: iii-worker-manager
                config:
                  host: 127.0.0.1
                  port: 49134
            """, at: nil)
    }

    private mutating func exposedFunctions(
        _ item: YAMLNode, in place: SettingsPlace
    ) -> ExposedFunctions? {
        if case .string(let text) = item.value {
            if let pattern = pattern(in: text) { return .pattern(pattern) }
            report.error("expected match(\"pattern\"), got: \(quoted(text))", at: item.position)
            return nil
        }
        guard case .map = item.value else {
            report.error(
                "an item of `expose_functions` must be match(\"pattern\") or a map with `metadata`,"
                    + " found \(item.kind)", at: item.position)
            return nil
        }
        let map = SettingsMap(
            item, at: place.child("expose_functions"), keys: Schema.exposedFunctions, &report)
        guard case .map(let entries) = map["metadata"]?.value, !entries.isEmpty else {
            report.error(
                "an item of `expose_functions` needs a `metadata` map that is not empty",
                at: item.position)
            return nil
        }
        return .metadata(entries.compactMap { condition($0) })
    }

    private mutating func condition(_ entry: YAMLEntry) -> MetadataCondition? {
        if case .string(let text) = entry.value.value, let pattern = pattern(in: text) {
            return MetadataCondition(key: entry.key, test: .pattern(pattern))
        }
        guard let json = entry.value.jsonText else {
            report.error(
                "`metadata` is compared with JSON, which has no such number",
                at: entry.value.position)
            return nil
        }
        return MetadataCondition(key: entry.key, test: .equals(json))
    }

    /// What stands in `match("…")` or `match('…')`.
    private func pattern(in text: String) -> String? {
        let text = text.trimmingBlanks
        guard text.hasPrefix("match("), text.hasSuffix(")") else { return nil }
        let inside = text.dropFirst(6).dropLast().trimmingBlanks
        guard inside.utf8.count >= 2, let mark = inside.first, mark == "\"" || mark == "'",
            inside.last == mark
        else { return nil }
        return String(inside.dropFirst().dropLast())
    }
}

extension StringProtocol {
    fileprivate var trimmingBlanks: SubSequence {
        var rest = self[...]
        while rest.first?.isWhitespace == true { rest = rest.dropFirst() }
        while rest.last?.isWhitespace == true { rest = rest.dropLast() }
        return rest
    }
}

extension YAMLNode {
    /// The same value as JSON, without whitespace; nil for what JSON cannot say.
    var jsonText: JSONText? {
        var text = ""
        return writeJSON(to: &text) ? JSONText(validated: Array(text.utf8)) : nil
    }

    // As deep as the parser lets a value be, and no deeper.
    private func writeJSON(to text: inout String) -> Bool {
        switch value {
        case .null: text += "null"
        case .boolean(let value): text += value ? "true" : "false"
        case .integer(let value): text += String(value)
        case .hugeInteger(let digits):
            // As JSON spells it. In base 8 or 16 it has no such spelling.
            let sign = digits.hasPrefix("-") ? "-" : ""
            text += sign + digits.drop { $0 == "+" || $0 == "-" || $0 == "0" }
            return digits.utf8.dropFirst().allSatisfy {
                UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0
            }
        case .float(let value):
            text += String(value)
            return value.isFinite
        case .string(let value): text += doubleQuoted(value)
        case .list(let items):
            text += "["
            for (index, item) in items.enumerated() {
                text += index == 0 ? "" : ","
                guard item.writeJSON(to: &text) else { return false }
            }
            text += "]"
        case .map(let entries):
            text += "{"
            for (index, entry) in entries.enumerated() {
                text += (index == 0 ? "" : ",") + doubleQuoted(entry.key) + ":"
                guard entry.value.writeJSON(to: &text) else { return false }
            }
            text += "}"
        }
        return true
    }
}
