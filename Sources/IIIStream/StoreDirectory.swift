internal import StreamAdapters
internal import StreamConfig
internal import StreamCore

/// The directory of a node that does not run: looked into, checked, filled.
package enum StoreDirectory {
    /// Calls `line` with each batch and record that a start would read, as JSON.
    /// - Throws: ``NodeError`` with what is wrong, in a sentence.
    package static func inspect(
        _ path: String, line: @escaping (ArraySlice<UInt8>) -> Void,
        remark: @escaping (String) -> Void
    ) throws(NodeError) {
        _ = try read(path, line: line, remark: remark)
    }

    /// Reads all that a start would read, and counts batches and records.
    /// - Throws: ``NodeError`` with what is wrong, in a sentence.
    package static func verify(
        _ path: String, remark: @escaping (String) -> Void
    ) throws(NodeError) -> (batches: Int, records: Int) {
        let summary = try read(path, line: nil, remark: remark)
        return (summary.batches, summary.records)
    }

    private static func read(
        _ path: String, line: ((ArraySlice<UInt8>) -> Void)?, remark: @escaping (String) -> Void
    ) throws(NodeError) -> StorageInspection.Summary {
        do throws(CoreError) {
            return try StorageInspection.read(path, line: line, remark: remark)
        } catch {
            throw NodeError(error)
        }
    }

    /// Takes the original's files in the directory into a log of our own, as a start would, and ends. Blocks.
    /// - Throws: ``NodeError`` with what is wrong, in a sentence.
    package static func importOriginals(
        _ path: String, _ recovery: StoreRecovery, log: @escaping @Sendable (LogRecord) -> Void
    ) throws(NodeError) {
        var configuration = Configuration.withoutFile
        var store = FileStore()
        store.path = path
        configuration.adapter = .kv(.fileBased(store))
        var settings = CoreSettings(configuration)
        settings.keep(in: .files(store), recovery)
        settings.withoutPorts = true
        let nodeLog = NodeLog(sink: log)
        let inbox = EventInbox(signal: {}, log: { nodeLog.write($0) })
        do throws(CoreError) {
            let core = try NodeCore(settings: settings, inbox: inbox)
            try core.start()
            core.stop(timeout: .seconds(1))
        } catch {
            throw NodeError(error)
        }
    }
}
