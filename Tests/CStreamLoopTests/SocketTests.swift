import CStreamBase
import CStreamLoop
import Glibc
import Testing

@Suite("Loop sockets")
struct SocketTests {
    @Test("receive, answer and close") func echo() throws {
        try withLoop { loop in
            let listener = try Listener(loop)
            let (connection, peer) = try connectedPair(loop, listener)
            try peer.write("hello")
            try loop.run(until: { connection.received.count == 5 })
            connection.send(connection.received.map { [$0] })
            #expect(sc_loop_flush(loop.loop) == 0)
            #expect(connection.sent == [5])
            #expect(try peer.read(5) == Array("hello".utf8))
            peer.finish()
            try loop.run(until: { connection.end != nil })
            #expect(connection.end == 0)
            connection.close()
            #expect(!connection.isClosed)
            try connection.waitClosed()
            #expect(peer.readNow() == nil)
        }
    }
}
