import CStreamLoop
import CStreamTransport
import CTransportProbe
import Glibc
import Testing

@Suite("Listening")
struct ListenTests {
    private func text(_ reason: listen_reason) -> String {
        withUnsafeBytes(of: reason.text) { bytes in
            String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
    }

    /// A connection to a port of 127.0.0.1.
    private func dial(_ port: UInt16) throws -> Int32 {
        let fd = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_port = port.bigEndian
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        let rc = withUnsafePointer(to: &address) {
            $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.connect(fd, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(rc == 0)
        return fd
    }

    @Test("a picked port is listened at, and what is accepted is a connection of that port")
    func accepts() throws {
        try withProbe { probe in
            var place = listen_place()
            var reason = listen_reason()
            #expect(sc_place_resolve(&place, "127.0.0.1", 0, &reason) == 0)
            #expect(probe_listen(probe.handle, &place, 0, &reason) == 1)
            #expect(place.port != 0)
            let fd = try dial(place.port)
            defer { close(fd) }
            try probe.run(until: { probe.transport.pointee.connection_count == 1 })
            #expect(write(fd, "GET /\r\n\r\n", 9) == 9)
            try probe.run(until: { probe.events == "h" })
        }
    }

    @Test("a paused listener accepts nothing, and later what has come meanwhile")
    func pauses() throws {
        try withProbe { probe in
            var place = listen_place()
            var reason = listen_reason()
            #expect(sc_place_resolve(&place, "127.0.0.1", 0, &reason) == 0)
            #expect(probe_listen(probe.handle, &place, 0, &reason) == 1)
            probe_pause_listening(probe.handle, true)
            probe.turns()
            let fd = try dial(place.port)
            defer { close(fd) }
            probe.turns(20)
            #expect(probe.transport.pointee.connection_count == 0)
            probe_pause_listening(probe.handle, false)
            try probe.run(until: { probe.transport.pointee.connection_count == 1 })
        }
    }

    @Test("an address that is taken is refused with its reason, and further loops may share one")
    func taken() throws {
        try withProbe { probe in
            var place = listen_place()
            var reason = listen_reason()
            #expect(sc_place_resolve(&place, "127.0.0.1", 0, &reason) == 0)
            #expect(probe_listen(probe.handle, &place, 0, &reason) == 1)
            var fds = [Int32](repeating: -1, count: Int(SC_HOST_ADDRESSES_MAX))
            var other = listen_place()
            #expect(sc_place_resolve(&other, "127.0.0.1", 0, &reason) == 0)
            #expect(sc_place_bind(&other, place.port, &fds, &reason) == -EADDRINUSE)
            #expect(text(reason).hasPrefix("address 127.0.0.1:\(place.port) is already in use"))
            let shared = sc_place_share(&place, 0, &reason)
            #expect(shared >= 0)
            close(shared)
        }
    }

    @Test("an unknown host, and an address of another machine, are refused with their reason")
    func missing() {
        var place = listen_place()
        var reason = listen_reason()
        #expect(sc_place_resolve(&place, "no.such.host.invalid", 1, &reason) < 0)
        #expect(text(reason).hasPrefix("failed to bind to no.such.host.invalid:1: "))
        #expect(sc_place_resolve(&place, "192.0.2.1", 0, &reason) == 0)
        var fds = [Int32](repeating: -1, count: Int(SC_HOST_ADDRESSES_MAX))
        #expect(sc_place_bind(&place, 0, &fds, &reason) == -EADDRNOTAVAIL)
        #expect(text(reason).hasPrefix("failed to bind to 192.0.2.1:0: "))
    }
}
