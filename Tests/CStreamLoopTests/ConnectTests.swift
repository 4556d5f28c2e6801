import CStreamBase
import CStreamLoop
import Glibc
import Testing

@Suite("Loop connecting")
struct ConnectTests {
    /// An IPv4 address of this host at a fixed place, as the loop wants it.
    private func loopback(_ port: UInt16) -> UnsafeMutablePointer<sockaddr_in> {
        let address = UnsafeMutablePointer<sockaddr_in>.allocate(capacity: 1)
        address.initialize(to: sockaddr_in())
        address.pointee.sin_family = sa_family_t(AF_INET)
        address.pointee.sin_port = port.bigEndian
        address.pointee.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        return address
    }

    @Test("connects, then sends and receives") func connects() throws {
        try withLoop { loop in
            let listener = try Listener(loop)
            let address = loopback(listener.port)
            defer { address.deallocate() }
            let client = try Connection(loop, to: address)
            #expect(client.isSending)
            try loop.run(until: { !client.sent.isEmpty })
            #expect(client.sent == [0])
            #expect(!client.isSending)
            let server = try Connection(loop, fd: try listener.next())
            client.send("ping", SC_SEND_WAIT)
            try loop.run(until: { server.received.count == 4 })
            server.send("pong", SC_SEND_WAIT)
            try loop.run(until: { client.received == Array("pong".utf8) })
        }
    }

    @Test("a refusal ends in on_sent, and in nothing else") func refused() throws {
        try withLoop { loop in
            let listener = try Listener(loop)
            let address = loopback(listener.port)
            defer { address.deallocate() }
            listener.close()
            try loop.run(until: { listener.isClosed })
            let client = try Connection(loop, to: address)
            try loop.run(until: { !client.sent.isEmpty })
            #expect(client.sent == [-Int(ECONNREFUSED)])
            #expect(client.end == nil)
            client.close()
            try client.waitClosed()
        }
    }

    /// Nothing may be left in flight, and no callback may come, whatever the connecting came to.
    @Test("closing while it connects") func closeEarly() throws {
        try withLoop { loop in
            let listener = try Listener(loop)
            let address = loopback(listener.port)
            defer { address.deallocate() }
            let client = try Connection(loop, to: address)
            client.close()
            try client.waitClosed()
            #expect(client.sent.isEmpty)
        }
    }

    @Test("a timer at a time is due then, not before") func timerAt() throws {
        try withLoop { loop in
            var fired: UInt64 = 0
            let timer = TimerBox {}
            timer.onDue = { fired = sc_loop_monotonic_ns(loop.loop) }
            let due = sc_loop_monotonic_ns(loop.loop) + 2_345_678
            sc_timer_start_at(loop.loop, timer.pointer, due)
            try loop.run(until: { fired != 0 })
            #expect(fired >= due)
            #expect(!timer.isRunning)
        }
    }
}
