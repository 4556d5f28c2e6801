internal import Foundation

/// CPU time and memory of a process, from /proc.
struct ProcessProbe {
    let process: Int32

    /// Seconds of CPU of all threads, those that have ended included; nil when there is no such process.
    func cpuSeconds() -> Double? {
        var clock = clockid_t()
        guard unsafe clock_getcpuclockid(process, &clock) == 0 else { return nil }
        var time = timespec()
        guard unsafe clock_gettime(clock, &time) == 0 else { return nil }
        return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
    }

    struct Memory: Codable, Equatable {
        /// Resident bytes, now and at most.
        var resident, peak: Int
        /// Of them, those that are no pages of files: code that ran for the first time is no memory of a connection.
        var anonymous: Int
    }

    func memory() -> Memory? {
        guard let status = try? String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
        else { return nil }
        func kilobytes(_ name: String) -> Int {
            for line in status.split(separator: "\n") where line.hasPrefix(name) {
                return Int(line.split(whereSeparator: { !$0.isNumber }).first ?? "") ?? 0
            }
            return 0
        }
        return Memory(
            resident: kilobytes("VmRSS:") * 1024, peak: kilobytes("VmHWM:") * 1024,
            anonymous: kilobytes("RssAnon:") * 1024)
    }

    /// Whether the process is there and no zombie.
    var isAlive: Bool {
        guard let stat = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8),
            let end = stat.lastIndex(of: ")")
        else { return false }
        return !stat[end...].dropFirst(2).hasPrefix("Z")
    }

    static var own: ProcessProbe { ProcessProbe(process: getpid()) }
}

/// The machine that a result comes from.
struct Machine: Codable, Equatable {
    var cpu: String
    var cores: Int
    var kernel: String

    static func current() -> Machine {
        let info = (try? String(contentsOfFile: "/proc/cpuinfo", encoding: .utf8)) ?? ""
        let model = info.split(separator: "\n").first { $0.hasPrefix("model name") }
        let release =
            (try? String(contentsOfFile: "/proc/sys/kernel/osrelease", encoding: .utf8)) ?? ""
        return Machine(
            cpu: model?.split(separator: ":").last.map { $0.trimmingCharacters(in: .whitespaces) }
                ?? "unknown",
            cores: ProcessInfo.processInfo.processorCount,
            kernel: release.trimmingCharacters(in: .whitespacesAndNewlines))
    }
}

/// Times the kernel dropped a connection because a listen queue was full, on this host.
func listenOverflows() -> UInt64 {
    guard let text = try? String(contentsOfFile: "/proc/net/netstat", encoding: .utf8) else {
        return 0
    }
    let lines = text.split(separator: "\n").filter { $0.hasPrefix("TcpExt:") }.map {
        $0.split(separator: " ")
    }
    guard lines.count == 2, let place = lines[0].firstIndex(of: "ListenOverflows"),
        place < lines[1].count
    else {
        return 0
    }
    return UInt64(lines[1][place]) ?? 0
}
