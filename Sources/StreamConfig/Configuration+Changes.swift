extension Configuration {
    /// The settings whose values differ, in the order in which they are printed: as `limits.connections` of
    /// `iii-stream`, or with the number of the entry where a worker has several.
    package func settings(changedIn other: Configuration) -> [String] {
        let mine = values
        let theirs = other.values
        let others = Dictionary(theirs) { first, _ in first }
        let own = Dictionary(mine) { first, _ in first }
        return mine.filter { others[$0.0] != $0.1 }.map(\.0)
            + theirs.filter { own[$0.0] == nil }.map(\.0)
    }

    /// Each setting by name, with its value as text. Passwords are values like others.
    private var values: [(String, YAMLNode)] {
        guard case .list(let entries) = node(masksPasswords: false)["workers"]?.value else {
            return []
        }
        var counts: [String: Int] = [:]
        return entries.flatMap { entry -> [(String, YAMLNode)] in
            guard case .string(let name) = entry["name"]?.value, let config = entry["config"] else {
                return []
            }
            counts[name, default: 0] += 1
            let count = counts[name] ?? 1
            let place = "`\(name)`" + (count > 1 ? " (\(count))" : "")
            return config.leaves(under: "").map { ("`\($0.0)` of \(place)", $0.1) }
        }
    }
}

extension YAMLNode {
    /// What is no map, by its path.
    fileprivate func leaves(under path: String) -> [(String, YAMLNode)] {
        guard case .map(let entries) = value else { return [(path, self)] }
        return entries.flatMap {
            $0.value.leaves(under: path.isEmpty ? $0.key : "\(path).\($0.key)")
        }
    }
}
