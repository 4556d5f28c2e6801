internal import CStreamCore
internal import Glibc

/// A look into the directory of a node that does not run.
package enum StorageInspection {
    package struct Summary: Hashable, Sendable {
        package var batches: Int
        package var records: Int
    }

    /// Where lines go while a directory is read.
    private final class Sink {
        let line: (ArraySlice<UInt8>) -> Void
        let remark: (String) -> Void

        init(line: @escaping (ArraySlice<UInt8>) -> Void, remark: @escaping (String) -> Void) {
            self.line = line
            self.remark = remark
        }

        static func from(_ context: UnsafeMutableRawPointer?) -> Sink? {
            unsafe context.map { unsafe Unmanaged<Sink>.fromOpaque($0).takeUnretainedValue() }
        }
    }

    /// Reads all that a start with the directory would read. Blocks.
    ///
    /// - Parameters:
    ///   - line: Gets each batch and record as a line of JSON; nil: they are only checked.
    ///   - remark: Gets what a start would say about the directory.
    /// - Throws: ``CoreError/startFailed(_:_:)`` with what is wrong, in a sentence.
    package static func read(
        _ path: String, line: ((ArraySlice<UInt8>) -> Void)?, remark: @escaping (String) -> Void
    ) throws(CoreError) -> Summary {
        let sink = Sink(line: line ?? { _ in }, remark: remark)
        var summary = sc_storage_summary()
        var reason = [CChar](repeating: 0, count: 512)
        let rc = withExtendedLifetime(sink) {
            let context = unsafe Unmanaged.passUnretained(sink).toOpaque()
            return unsafe reason.withUnsafeMutableBufferPointer { buffer -> Int32 in
                guard let start = buffer.baseAddress else { return -1 }
                return unsafe sc_storage_inspect(
                    path, context,
                    line == nil
                        ? nil
                        : { context, json in
                            let buffer = unsafe UnsafeBufferPointer(
                                start: json.data, count: json.size)
                            unsafe Sink.from(context)?.line(ArraySlice(buffer))
                        },
                    { context, text in
                        let buffer = unsafe UnsafeBufferPointer(start: text.data, count: text.size)
                        unsafe Sink.from(context)?.remark(String(decoding: buffer, as: UTF8.self))
                    }, &summary, start)
            }
        }
        guard rc < 0 else {
            return Summary(batches: Int(summary.batches), records: Int(summary.records))
        }
        let text = reason.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }
        let isAbsent = [EWOULDBLOCK, ENOENT, EACCES, ENOTDIR, EPERM].contains(-rc)
        throw .startFailed(isAbsent ? .directory : .store, String(decoding: text, as: UTF8.self))
    }
}
