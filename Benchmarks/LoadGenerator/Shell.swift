internal import Foundation

/// Starting the server again, and finding out whether it listens.
enum Shell {
    /// Starts `command` by the shell, which it replaces; returns its process.
    static func start(_ command: String) throws(RunError) -> Int32 {
        let process = Foundation.Process()
        process.executableURL = URL(fileURLWithPath: "/bin/sh")
        process.arguments = ["-c", "exec \(command)"]
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        // A pipe would stay open for as long as what was started does.
        process.standardError = FileHandle.nullDevice
        do {
            try process.run()
        } catch {
            throw RunError("cannot start '\(command)': \(error.localizedDescription)")
        }
        return process.processIdentifier
    }

    /// Whether somebody listens at the address.
    static func accepts(_ address: Target.Address) -> Bool {
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        var found: UnsafeMutablePointer<addrinfo>?
        guard unsafe getaddrinfo(address.host, String(address.port), &hints, &found) == 0,
            let first = unsafe found
        else { return false }
        defer { unsafe freeaddrinfo(first) }
        let descriptor = unsafe socket(first.pointee.ai_family, first.pointee.ai_socktype, 0)
        guard descriptor >= 0 else { return false }
        defer { close(descriptor) }
        return unsafe connect(descriptor, first.pointee.ai_addr, first.pointee.ai_addrlen) == 0
    }
}

extension EngineError {
    var text: String { reason ?? (unsafe String(cString: strerror(-code))) }
}
