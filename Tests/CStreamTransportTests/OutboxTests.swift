import CStreamBase
import CStreamTransport
import CTransportProbe
import Testing

@Suite("What leaves")
struct OutboxTests {
    /// Reads until the peer has `count` frames.
    private func receive(_ probe: Probe, _ peer: Peer, count: Int) throws -> [Received] {
        var bytes: [UInt8] = []
        var found: [Received] = []
        try probe.run(until: {
            bytes += peer.read(atMost: 3000)
            found = frames(bytes) ?? []
            return found.count >= count
        })
        return found
    }

    @Test(
        "all bytes arrive in their order, whatever the socket takes at once",
        arguments: [1, 100, 4000, 17_000, 70_000, 300_000])
    func everySize(size: UInt32) throws {
        try withProbe({ $0.hard_size_max = 0 }) { probe in
            let peer = try probe.open(bufferSize: 4096)
            let count = size < 50_000 ? 40 : 10
            for at in 0..<count {
                probe_send(try #require(peer.connection), UInt8(at), size + UInt32(at))
                if at % 8 == 7 { probe.turns(1) }
            }
            let got = try receive(probe, peer, count: count)
            for (at, one) in got.enumerated() {
                #expect(one.opcode == 1)
                #expect(one.payload.count == Int(size) + at)
                #expect(one.payload.allSatisfy { $0 == UInt8(at) })
            }
            #expect(probe.waiting(SC_PLACE_OUTBOX) == 0)
            #expect(peer.connection?.pointee.backlog == nil)
        }
    }

    @Test("a turn's frames that lie side by side are one piece")
    func oneSend() throws {
        try withProbe { probe in
            let peer = try probe.open()
            let before = sc_loop_counters(probe.transport.pointee.loop).pointee.sends
            for at in 0..<100 { probe_send(try #require(peer.connection), UInt8(at), 10) }
            #expect(peer.connection?.pointee.more == nil)
            probe.turns(1)
            #expect(sc_loop_counters(probe.transport.pointee.loop).pointee.sends == before + 1)
            #expect(frames(peer.read())?.count == 100)
        }
    }

    @Test("more pieces than one send takes leave all the same")
    func manyPieces() throws {
        try withProbe({ $0.hard_size_max = 0 }) { probe in
            let peers = try (0..<2).map { _ in try probe.open() }
            // In turns, so that no two of one connection lie side by side.
            for at in 0..<200 {
                for peer in peers { probe_send(try #require(peer.connection), UInt8(at), 7) }
            }
            for peer in peers {
                let got = try receive(probe, peer, count: 200)
                #expect(got.map { $0.payload.first } == (0..<200).map { UInt8($0) })
            }
        }
    }

    @Test("a control frame overtakes what waits, between whole frames")
    func control() throws {
        try withProbe({ $0.hard_size_max = 0 }) { probe in
            let peer = try probe.open(bufferSize: 4096)
            for at in 0..<20 { probe_send(try #require(peer.connection), UInt8(at), 9000) }
            probe.turns()
            sc_out_append_control(try #require(peer.connection), [0x89, 0x00], 2)
            let got = try receive(probe, peer, count: 21)
            let at = try #require(got.firstIndex { $0.opcode == 9 })
            #expect(at < 20)
            #expect(
                got.filter { $0.opcode == 1 }.map { $0.payload[0] } == (0..<20).map { UInt8($0) })
        }
    }

    @Test("of many pings to a peer that does not read only the last is answered")
    func pongs() throws {
        try withProbe({ $0.hard_size_max = 0 }) { probe in
            let peer = try probe.open(bufferSize: 4096)
            for _ in 0..<20 { probe_send(try #require(peer.connection), 0x61, 9000) }
            probe.turns()
            for at in 0..<50 {
                peer.write(frame([UInt8(at)], opcode: 9) + message("ping"))
                probe.turns(1)
            }
            let got = try receive(probe, peer, count: 22)
            probe.turns()
            #expect(peer.read() == [])
            #expect(got.filter { $0.opcode == 10 } == [Received(opcode: 10, payload: [49])])
            #expect(got.filter { $0.payload == Array("pong".utf8) }.count == 1)
            #expect(peer.connection?.pointee.inbound == nil)
        }
    }

    @Test("a peer over its budget for the grace is closed, one that catches up is not")
    func grace() throws {
        try withProbe { probe in
            let slow = try probe.open(bufferSize: 4096)
            let late = try probe.open(bufferSize: 4096)
            for peer in [slow, late] {
                for _ in 0..<20 { probe_send(try #require(peer.connection), 0x61, 5000) }
            }
            probe.turns(2)
            for peer in [slow, late] { probe_send(try #require(peer.connection), 0x62, 10) }
            #expect(probe.transport.pointee.over_budget.count == 2)
            let read = try receive(probe, late, count: 21)
            #expect(read.count == 21)
            #expect(probe.transport.pointee.over_budget.count <= 1)
            try probe.run(until: { slow.state == STATE_CLOSING })
            #expect(late.state == STATE_OPEN)
            #expect(probe.counters.slow_readers_closed == 1)
            #expect(probe.events == "hhwe")
            // What had not begun to leave was dropped: the close frame comes soon.
            var bytes: [UInt8] = []
            try probe.run(until: {
                bytes += slow.read()
                return frames(bytes)?.last?.code == 1013
            })
            #expect(try #require(frames(bytes)).count < 21)
        }
    }

    @Test("a peer over the hard limit is closed at once, and one with a single huge frame is not")
    func hardLimit() throws {
        try withProbe { probe in
            let huge = try probe.open(bufferSize: 4096)
            probe_send(try #require(huge.connection), 0x61, 3 << 20)
            probe.turns(3)
            #expect(huge.state == STATE_OPEN)
            let many = try probe.open(bufferSize: 4096)
            for _ in 0..<400 { probe_send(try #require(many.connection), 0x61, 4000) }
            probe.turns(2)
            probe_send(try #require(many.connection), 0x61, 10)
            #expect(many.state == STATE_CLOSING)
            #expect(probe.counters.slow_readers_closed == 1)
        }
    }

    @Test("a peer without a hard limit is closed only when it takes nothing until the deadline")
    func noHardLimit() throws {
        try withProbe({ $0.hard_size_max = 0 }) { probe in
            let peer = try probe.open(bufferSize: 4096)
            for _ in 0..<400 { probe_send(try #require(peer.connection), 0x61, 4000) }
            probe.turns(5)
            #expect(probe.transport.pointee.over_budget.count == 0)
            probe.pass(ms: 1500)
            #expect(peer.state == STATE_OPEN)
            // It takes a little: the deadline starts anew.
            _ = peer.read()
            probe.turns()
            probe.pass(ms: 1500)
            #expect(peer.state == STATE_OPEN)
            probe.pass(ms: 1000)
            #expect(peer.state == STATE_CLOSING)
            #expect(probe.events.contains("dw"))
        }
    }

    @Test("those that send first are served first, and all of them in one turn")
    func sendsFirst() throws {
        try withProbe({ $0.sends_first = true }) { probe in
            let peers = try (0..<600).map { _ in try probe.open() }
            for peer in peers { probe_send(try #require(peer.connection), 0x61, 10) }
            probe.turns(1)
            #expect(peers.allSatisfy { frames($0.read())?.count == 1 })
        }
    }

    @Test("others are served SC_CLIENT_SENDS_PER_TURN a turn")
    func bounded() throws {
        try withProbe { probe in
            let peers = try (0..<600).map { _ in try probe.open() }
            for peer in peers { probe_send(try #require(peer.connection), 0x61, 10) }
            probe.turns(1)
            let served = peers.map { $0.read().isEmpty ? 0 : 1 }
            #expect(served.reduce(0, +) == Int(SC_CLIENT_SENDS_PER_TURN))
            probe.turns(1)
            let rest = peers.map { $0.read().isEmpty ? 0 : 1 }
            #expect(rest.reduce(0, +) == 600 - Int(SC_CLIENT_SENDS_PER_TURN))
        }
    }

    @Test("room is told of while the role keeps something back")
    func room() throws {
        try withProbe({ $0.hard_size_max = 0 }) { probe in
            let peer = try probe.open(bufferSize: 4096)
            let connection = try #require(peer.connection)
            probe_send(connection, 0x61, 50_000)
            probe.turns()
            #expect(!probe.events.contains("o"))
            let account = sc_connection_account(connection)
            sc_account_charge(account, SC_PLACE_DELIVERIES, 5)
            _ = peer.read()
            try probe.run(until: { probe.events.contains("o") })
            sc_account_discharge(account, SC_PLACE_DELIVERIES, 5)
        }
    }
}
