internal import Dispatch
internal import StreamCore

/// Writes lines to a descriptor from a thread of its own. Nobody else waits for whoever reads them: lines go through a
/// bounded queue, and what does not fit, or cannot be written, is dropped and counted.
final class LineWriter: Sendable {
    private static let queuedBytesMax = 4 << 20

    private struct State {
        var queuedBytes = 0
        var dropped = 0
    }

    private let descriptor: Int32
    private let state = Guarded(State())
    private let queue = DispatchQueue(label: "lines")
    /// Whether the last line was written in part: what follows begins a line of its own. Of the queue's thread.
    private let isTorn = Guarded(false)

    init(descriptor: Int32) {
        self.descriptor = descriptor
    }

    /// Queues a line. `droppedLine` makes the line that says how many were lost before it.
    func write(_ line: String, droppedLine: @escaping @Sendable (Int) -> String) {
        let bytes = Array((line + "\n").utf8)
        let fits = state.withLock { state in
            guard state.queuedBytes + bytes.count <= Self.queuedBytesMax else {
                state.dropped += 1
                return false
            }
            state.queuedBytes += bytes.count
            return true
        }
        guard fits else { return }
        queue.async { [self] in
            let dropped = state.withLock { state in
                defer { state.dropped = 0 }
                return state.dropped
            }
            var isWritten = dropped == 0 || put(Array((droppedLine(dropped) + "\n").utf8))
            if !isWritten { state.withLock { $0.dropped += dropped } }
            isWritten = isWritten && put(bytes)
            state.withLock { state in
                state.queuedBytes -= bytes.count
                if !isWritten { state.dropped += 1 }
            }
        }
    }

    private func put(_ bytes: [UInt8]) -> Bool {
        isTorn.withLock { isTorn in
            let whole = isTorn ? [UInt8(ascii: "\n")] + bytes : bytes
            guard let failure = ProcessFacts.write(whole, to: descriptor) else {
                isTorn = false
                return true
            }
            isTorn = isTorn || failure.written > 0
            return false
        }
    }

    /// Waits until every line is written, but not for a reader that has stopped reading. For the end of the process.
    func flush() {
        let done = DispatchSemaphore(value: 0)
        queue.async { done.signal() }
        _ = done.wait(timeout: .now() + .milliseconds(500))
    }
}
