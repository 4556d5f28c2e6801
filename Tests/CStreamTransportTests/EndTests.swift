import CStreamBase
import CStreamTransport
import CTransportProbe
import Testing

@Suite("States and ends")
struct EndTests {
    @Test("our close frame is answered by the peer's, and the role hears of the end once")
    func close() throws {
        try withProbe { probe in
            let peer = try probe.open()
            probe_send(try #require(peer.connection), 0x61, 3)
            sc_connection_close(try #require(peer.connection), 1001, "bye")
            #expect(peer.state == STATE_CLOSING)
            sc_connection_close(try #require(peer.connection), 1008, "again")
            probe_send(try #require(peer.connection), 0x62, 3)  // Nothing is appended any more.
            probe.turns()
            let got = try #require(frames(peer.read()))
            #expect(got.map(\.opcode) == [1, 8])
            #expect(got.last?.code == 1001)
            peer.write(message("late") + closeFrame(1001))
            try probe.run(until: { peer.connection == nil })
            #expect(probe.started == [])
            #expect(probe.events == "hec")
            _ = peer.read()
            #expect(peer.sawEnd)
        }
    }

    @Test("a peer that does not answer a close frame is let go after the patience for it")
    func closePatience() throws {
        try withProbe { probe in
            let peer = try probe.open()
            sc_connection_close(try #require(peer.connection), 1001, "")
            probe.turns()
            probe.pass(ms: 900)
            #expect(peer.state == STATE_CLOSING)
            probe.pass(ms: 300)
            #expect(peer.state == STATE_TERMINATING)
            try probe.run(until: { peer.connection == nil })
        }
    }

    @Test("the peer's close frame is answered with its code, behind what was queued")
    func peerCloses() throws {
        try withProbe { probe in
            probe_answer(probe.handle, 5)
            let peer = try probe.open()
            peer.write(message("one") + closeFrame(4000) + message("behind"))
            try probe.run(until: { peer.connection == nil })
            let got = try #require(frames(peer.read()))
            #expect(got.map(\.opcode) == [1, 8])
            #expect(got.last?.code == 4000)
            #expect(probe.started == ["one"])
        }
    }

    @Test("messages before the peer's close frame are started first, where the role wants that")
    func closeBehindParked() throws {
        for finishes in [false, true] {
            try withProbe({ $0.finishes = finishes }) { probe in
                probe_answer(probe.handle, 5)
                let peer = try probe.open()
                probe_let_start(probe.handle, false, true)
                peer.write(message("one") + closeFrame(1000) + message("behind"))
                probe.turns()
                #expect(peer.state == (finishes ? STATE_PEER_CLOSED : nil))
                probe_let_start(probe.handle, true, true)
                try probe.run(until: { peer.connection == nil })
                #expect(probe.started == (finishes ? ["one"] : []))
                #expect(
                    frames(peer.read())?.map(\.opcode) == (finishes ? [1, 8] : [8]))
            }
        }
    }

    @Test(
        "messages before the end of the peer's stream are started and answered, those held back too"
    )
    func endBehindParked() throws {
        try withProbe { probe in
            probe_answer(probe.handle, 5)
            let peer = try probe.open()
            probe_let_start(probe.handle, false, true)
            peer.write(message("one"))
            probe.turns()
            sc_connection_pause(try #require(peer.connection))
            probe.turns()
            peer.finish()
            sc_socket_resume(&peer.connection!.pointee.socket)
            try probe.run(until: { peer.state == STATE_PEER_ENDED })
            #expect(probe.events == "h")
            probe_let_start(probe.handle, true, true)
            try probe.run(until: { peer.connection == nil })
            #expect(probe.started == ["one"])
            #expect(frames(peer.read())?.map(\.opcode) == [1])
            #expect(probe.events == "hmec")
        }
    }

    @Test("the end of a stream of which nothing waits ends the connection at once")
    func plainEnd() throws {
        try withProbe { probe in
            let peer = try probe.open()
            peer.finish()
            try probe.run(until: { peer.connection == nil })
            #expect(probe.events == "hec")
        }
    }

    @Test("what is queued still leaves when the peer's stream ends after our close frame")
    func drains() throws {
        try withProbe({ $0.budget = 1 << 20 }) { probe in
            let peer = try probe.open(bufferSize: 4096)
            for _ in 0..<64 { probe_send(try #require(peer.connection), 0x61, 4096) }
            sc_connection_close(try #require(peer.connection), 1001, "")
            probe.turns()
            peer.finish()
            try probe.run(until: { peer.state == STATE_DRAINING })
            var bytes: [UInt8] = []
            try probe.run(until: {
                bytes += peer.read()
                return peer.sawEnd
            })
            let got = try #require(frames(bytes))
            #expect(got.count == 65)
            #expect(got.last?.code == 1001)
        }
    }

    @Test("a refusal is sent, and nothing that comes behind the head counts")
    func refusal() throws {
        try withProbe { probe in
            let peer = probe.connect()
            peer.write(Array("R\r\n\r\n".utf8) + message("one"))
            probe.turns()
            #expect(String(decoding: peer.read(), as: UTF8.self) == "HTTP/1.1 404 no\r\n\r\n")
            #expect(peer.state == STATE_REFUSED)
            peer.finish()
            try probe.run(until: { peer.connection == nil })
            #expect(probe.events == "hec")
        }
    }

    @Test(
        "a connection that is authenticated is not read, and then opened with what waited, or refused"
    )
    func authenticating() throws {
        for accepted in [true, false] {
            try withProbe { probe in
                let peer = probe.connect()
                peer.write(Array("A\r\n\r\n".utf8) + message("one"))
                probe.turns()
                peer.write(message("two"))
                probe.turns()
                #expect(peer.state == STATE_AUTHENTICATING)
                probe.pass(ms: 5000)
                #expect(peer.state == STATE_AUTHENTICATING)
                let connection = try #require(peer.connection)
                if accepted {
                    var most: UInt32 = 10
                    sc_connection_open(connection)
                    sc_connection_resume(connection, &most)
                    try probe.run(until: { probe.started == ["one", "two"] })
                } else {
                    sc_connection_refuse(connection, [0x4E, 0x4F], 2)
                    probe.turns()
                    #expect(peer.read() == [0x4E, 0x4F])
                    peer.finish()
                    try probe.run(until: { peer.connection == nil })
                    #expect(probe.started == [])
                }
            }
        }
    }

    @Test("a head that does not come in time ends in a reset")
    func handshakePatience() throws {
        try withProbe { probe in
            let peer = probe.connect()
            peer.write("GET")
            probe.turns()
            probe.pass(ms: 900)
            #expect(peer.state == STATE_HEAD)
            probe.pass(ms: 300)
            #expect(probe.counters.handshakes_timed_out == 1)
            try probe.run(until: { peer.connection == nil })
            #expect(probe.events == "ec")
        }
    }

    @Test(
        "a turn looks at the patience of SC_SWEPT_PER_TURN connections, the next one at the others")
    func sweepBudget() throws {
        try withProbe { probe in
            let count = Int(SC_SWEPT_PER_TURN) + 100
            try allowDescriptors(2 * count + 100)
            for _ in 0..<count { _ = probe.connect() }
            let ticks = 1000 / probe.transport.pointee.tick_ms
            for _ in 0..<ticks {
                probe_sweep(probe.handle)
                probe.turns(1)
            }
            #expect(probe.counters.handshakes_timed_out == 0)
            probe_sweep(probe.handle)
            #expect(probe.counters.handshakes_timed_out == UInt64(SC_SWEPT_PER_TURN))
            probe.turns(1)
            #expect(probe.counters.handshakes_timed_out == UInt64(count))
        }
    }

    @Test("a connection whose head is not answered is reset instead of closed")
    func closeBeforeOpen() throws {
        try withProbe { probe in
            let peer = probe.connect()
            sc_connection_close(try #require(peer.connection), 1001, "")
            #expect(peer.state == STATE_TERMINATING)
            try probe.run(until: { peer.connection == nil })
            #expect(peer.read() == [])
        }
    }

    @Test("a state is never left for an earlier one, whatever ends come behind it")
    func onlyForward() throws {
        let all = [END_AFTER_CLOSE, END_AFTER_REFUSAL, END_WHEN_SENT, END_AT_ONCE, END_RESET]
        for first in all {
            for second in all {
                try withProbe { probe in
                    let peer = try probe.open()
                    probe_send(try #require(peer.connection), 0x61, 10)
                    sc_connection_end(try #require(peer.connection), first)
                    let before = try #require(peer.state)
                    sc_connection_end(try #require(peer.connection), second)
                    let after = try #require(peer.state)
                    #expect(after.rawValue >= before.rawValue)
                    probe.turns()
                    peer.finish()
                    try probe.run(until: { peer.connection == nil })
                    #expect(probe.events == "hec")
                }
            }
        }
    }

    @Test("a silent peer is pinged, told of, and reset; one that answers stays")
    func life() throws {
        try withProbe { probe in
            let quiet = try probe.open()
            let lively = try probe.open()
            probe.pass(ms: 1100)
            probe.turns()
            #expect(frames(lively.read()) == [Received(opcode: 9, payload: [])])
            lively.write(frame([], opcode: 10))
            probe.turns()
            probe.pass(ms: 900)
            #expect(probe.events == "hhs")
            lively.write(frame([], opcode: 10))
            probe.turns()
            probe.pass(ms: 300)
            try probe.run(until: { quiet.connection == nil })
            #expect(lively.state == STATE_OPEN)
            #expect(probe.counters.dead_peers_closed == 1)
            #expect(probe.events == "hhsdec")
        }
    }

    @Test("the memory goes when the role lets it, and the slot's next connection has another id")
    func ids() throws {
        try withProbe { probe in
            probe_keep_closed(probe.handle, true)
            let peer = try probe.open()
            peer.finish()
            try probe.run(until: { peer.state == STATE_CLOSED })
            #expect(probe.transport.pointee.connection_count == 1)
            let connection = try #require(peer.connection)
            probe_keep_closed(probe.handle, false)
            probe_free(connection)
            #expect(peer.connection == nil)
            let next = try probe.open()
            #expect(UInt32(truncatingIfNeeded: next.id) == UInt32(truncatingIfNeeded: peer.id))
            #expect(next.id != peer.id)
            #expect(next.id >> 56 == 3)
        }
    }

    @Test("a connection that has something to send when it is freed is freed with the turn")
    func freedWhileDirty() throws {
        try withProbe { probe in
            probe_keep_closed(probe.handle, true)
            let peer = try probe.open()
            probe_send(try #require(peer.connection), 0x61, 10)
            let connection = try #require(peer.connection)
            sc_connection_end(connection, END_RESET)
            try probe.run(until: { peer.state == STATE_CLOSED })
            probe_keep_closed(probe.handle, false)
            probe_free(connection)
            #expect(peer.connection == nil)
            probe.turns()
        }
    }
}
