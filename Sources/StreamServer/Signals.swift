internal import Dispatch
internal import Foundation

/// The signals that a node understands, as a sequence that lasts as long as this object.
final class Signals {
    enum Event: Sendable {
        case stop
        case logCounters
    }

    /// SIGTERM and SIGINT end the node, SIGUSR1 asks for its counters. SIGPIPE is ignored.
    let events: AsyncStream<Event>
    private let sources: [any DispatchSourceSignal]

    init() {
        signal(SIGPIPE, SIG_IGN)
        let (stream, continuation) = AsyncStream.makeStream(of: Event.self)
        let wanted: [(Int32, Event)] = [
            (SIGTERM, .stop), (SIGINT, .stop), (SIGUSR1, .logCounters),
        ]
        events = stream
        sources = wanted.map { number, event in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { continuation.yield(event) }
            source.resume()
            return source
        }
    }

    deinit {
        for source in sources { source.cancel() }
    }
}
