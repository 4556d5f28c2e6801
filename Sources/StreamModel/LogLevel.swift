/// How much a line of the node's log matters: `error` means that somebody has to act.
package enum LogLevel: Hashable, Sendable {
    case debug, info, warning, error
}
