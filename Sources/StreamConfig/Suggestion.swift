/// The nearest of `known` to a word somebody typed, if it is near enough to be what was meant.
func nearest(to word: String, among known: [String]) -> String? {
    // A word much longer than any of ours is no slip of the finger, and comparing it costs time.
    let typed = Array(word.lowercased().unicodeScalars.prefix(65))
    guard typed.count <= 64 else { return nil }
    var best: (word: String, distance: Int)?
    for candidate in known {
        let wanted = Array(candidate.unicodeScalars)
        let distance = editDistance(typed, wanted)
        let near = max(1, min(typed.count, wanted.count) / 3)
        if distance <= near, distance < best?.distance ?? .max {
            best = (candidate, distance)
        }
    }
    return best?.word
}

/// How many insertions, deletions, replacements and swaps of neighbours turn `from` into `to`.
func editDistance(_ from: [Unicode.Scalar], _ to: [Unicode.Scalar]) -> Int {
    var beforeLast: [Int] = []
    var last = Array(0...to.count)
    for (row, typed) in from.enumerated() {
        var current = [row + 1]
        for (column, wanted) in to.enumerated() {
            var cost = min(last[column + 1] + 1, current[column] + 1)
            cost = min(cost, last[column] + (typed == wanted ? 0 : 1))
            if row > 0, column > 0, typed == to[column - 1], from[row - 1] == wanted {
                cost = min(cost, beforeLast[column - 1] + 1)
            }
            current.append(cost)
        }
        (beforeLast, last) = (last, current)
    }
    return last[to.count]
}

/// A word of the user inside a message: short, on one line, and harmless to a terminal.
func quoted(_ word: some StringProtocol, with mark: String = "`") -> String {
    var text = ""
    for scalar in word.unicodeScalars.prefix(64) {
        let isPlain = scalar.properties.generalCategory.isPrintable
        text += isPlain ? String(scalar) : "\\u{\(String(scalar.value, radix: 16))}"
    }
    return mark + text + (word.unicodeScalars.dropFirst(64).isEmpty ? "" : "…") + mark
}

/// `a`, `b` or `c`, each in back quotes.
func alternatives(_ words: [String]) -> String {
    let words = words.map { "`\($0)`" }
    guard let last = words.last, words.count > 1 else { return words.first ?? "nothing" }
    return words.dropLast().joined(separator: ", ") + " or " + last
}

extension Unicode.GeneralCategory {
    fileprivate var isPrintable: Bool {
        switch self {
        case .control, .format, .surrogate, .privateUse, .unassigned, .lineSeparator,
            .paragraphSeparator:
            false
        default: true
        }
    }
}
