internal import Dispatch
internal import Foundation

/// The signals that a node understands, as a sequence that lasts as long as this object.
final class Signals {
    enum Event: Sendable {
        case stop
        case reload
        case logCounters
    }

    /// SIGTERM and SIGINT end the node, SIGHUP asks it to read its configuration again, SIGUSR1 asks for its counters.
    /// SIGPIPE is ignored.
    let events: AsyncStream<Event>
    private let sources: [any DispatchSourceSignal]

    /// Returns when the signals are heard: one that comes later, however soon, is not lost.
    init() async {
        signal(SIGPIPE, SIG_IGN)
        let (stream, continuation) = AsyncStream.makeStream(of: Event.self)
        let wanted: [(Int32, Event)] = [
            (SIGTERM, .stop), (SIGINT, .stop), (SIGHUP, .reload), (SIGUSR1, .logCounters),
        ]
        events = stream
        var sources: [any DispatchSourceSignal] = []
        for (number, event) in wanted {
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler { continuation.yield(event) }
            // Dispatch takes the signal over on a thread of its own. Until then it does what it does
            // to any process; ignored, it would vanish.
            await withCheckedContinuation { registered in
                source.setRegistrationHandler { registered.resume() }
                source.resume()
            }
            sources.append(source)
        }
        self.sources = sources
    }

    deinit {
        for source in sources { source.cancel() }
    }
}
