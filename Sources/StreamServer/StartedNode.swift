internal import IIIStream
internal import Synchronization

/// A node that is there from some moment on.
final class StartedNode: Sendable {
    private let value = Mutex<StreamNode?>(nil)

    var node: StreamNode? {
        get { value.withLock(\.self) }
        set { value.withLock { $0 = newValue } }
    }
}
