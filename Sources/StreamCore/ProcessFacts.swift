internal import CStreamProcess

/// What this process was started with, and what it may ask of its kernel. For programs; a library asks its host.
package enum ProcessFacts {
    /// The arguments without the name of the program, as `main` gets them: `/proc` is not read.
    package static var arguments: [String] {
        (1..<max(sc_process_argument_count(), 1)).compactMap { index in
            unsafe sc_process_argument(index).map { unsafe String(cString: $0) }
        }
    }

    /// Raises the soft limit of descriptors to the hard one, and returns the limit that holds then.
    package static func raiseDescriptorLimit() -> UInt64 {
        sc_process_raise_descriptor_limit()
    }

    /// Whether the journal reads what is written to the descriptor.
    package static func isJournal(_ descriptor: Int32) -> Bool {
        sc_process_is_journal(descriptor) != 0
    }

    /// Writes all of the bytes, and waits for whoever reads them.
    /// - Returns: nil, or an error number and how many of the bytes were written before it.
    package static func write(_ bytes: [UInt8], to descriptor: Int32) -> (
        error: Int32, written: Int
    )? {
        var written: UInt64 = 0
        let rc = unsafe bytes.withUnsafeBytes { buffer -> Int32 in
            guard let start = buffer.baseAddress else { return 0 }
            return unsafe sc_process_write(descriptor, start, UInt64(buffer.count), &written)
        }
        return rc == 0 ? nil : (-rc, Int(written))
    }
}
