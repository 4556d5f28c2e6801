extension Duration {
    /// Whole milliseconds, and the same to be set: configurations and the core count in these.
    package var inMilliseconds: Int {
        get {
            Int(
                clamping: Int128(components.seconds) * 1000
                    + Int128(components.attoseconds / 1_000_000_000_000_000))
        }
        set { self = .milliseconds(newValue) }
    }

    /// The same in microseconds.
    package var inMicroseconds: Int {
        get {
            Int(
                clamping: Int128(components.seconds) * 1_000_000
                    + Int128(components.attoseconds / 1_000_000_000_000))
        }
        set { self = .microseconds(newValue) }
    }
}
