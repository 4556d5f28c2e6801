internal import IIIStream

/// How the process ends, after sysexits(3).
enum ExitCode: Int32 {
    case usage = 64
    /// An address is in use or does not exist, or the kernel does not offer what is needed.
    case unavailable = 69
    case software = 70
    /// The directory of the store is locked, or cannot be made or written.
    case cannotCreate = 73
    /// The store is damaged or cannot be read.
    case damaged = 74
    case configuration = 78
    /// A second signal did not wait for an orderly end.
    case killed = 143

    init(_ error: NodeError) {
        self =
            switch error {
            case .configuration: .configuration
            case .addressUnavailable, .kernelUnsupported: .unavailable
            case .storeUnavailable: .cannotCreate
            case .storeDamaged: .damaged
            case .start: .software
            }
    }
}
