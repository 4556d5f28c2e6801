import CStreamBase
import CStreamTransport
import CTransportProbe
import Testing

@Suite("What comes")
struct InboundTests {
    @Test("messages are started wherever their bytes are cut")
    func everyCut() throws {
        var bytes = message("one") + frame(Array("t".utf8), final: false)
        bytes += frame([], opcode: 9) + frame(Array("wo".utf8), opcode: 0) + message("three")
        for cut in 0...bytes.count {
            try withProbe { probe in
                let peer = try probe.open()
                peer.write(Array(bytes[..<cut]))
                probe.turns()
                peer.write(Array(bytes[cut...]))
                probe.turns()
                #expect(probe.started == ["one", "two", "three"], "cut at \(cut)")
                #expect(frames(peer.read()) == [Received(opcode: 10, payload: [])])
                #expect(peer.connection?.pointee.inbound == nil)
            }
        }
    }

    @Test("a head and the messages behind it may come in one piece, or byte by byte")
    func head() throws {
        let bytes = Array("GET /\r\n\r\n".utf8) + message("one")
        try withProbe { probe in
            let peer = probe.connect()
            peer.write(bytes)
            probe.turns()
            #expect(probe.started == ["one"])
            let slow = probe.connect()
            for byte in bytes {
                slow.write([byte])
                probe.turns(2)
            }
            #expect(probe.started == ["one", "one"])
            #expect(probe.events == "hmhm")
        }
    }

    @Test("messages that wait keep their order, and later ones wait behind them")
    func order() throws {
        try withProbe { probe in
            let peer = try probe.open()
            probe_let_start(probe.handle, false, true)
            peer.write(message("one") + message("two"))
            probe.turns()
            #expect(probe.started == [])
            #expect(probe.waiting(SC_PLACE_PARKED) > 6)
            #expect(probe.transport.pointee.parked.count == 1)
            probe_let_start(probe.handle, true, true)
            peer.write(message("three"))
            probe.turns()
            #expect(probe.started == ["one", "two", "three"])
            #expect(probe.waiting(SC_PLACE_PARKED) == 0)
            #expect(probe.transport.pointee.parked.count == 0)
        }
    }

    @Test("what the role has set aside goes before the others, and they do not wait for it")
    func aside() throws {
        try withProbe { probe in
            let peer = try probe.open()
            probe_let_start(probe.handle, true, false)
            peer.write(message("!one") + message("two") + message("!three"))
            probe.turns()
            #expect(probe.started == ["two"])
            probe_let_start(probe.handle, false, false)
            peer.write(message("four"))
            probe.turns()
            probe_let_start(probe.handle, true, true)
            probe.turns()
            #expect(probe.started == ["two", "!one", "!three", "four"])
        }
    }

    @Test(
        "a connection is read no further when more than SC_PARKED_SIZE_MAX waits, and read on later"
    )
    func pause() throws {
        try withProbe { probe in
            let peer = try probe.open()
            probe_let_start(probe.handle, false, true)
            let quarter = [UInt8](repeating: 0x61, count: 256 << 10)
            func send() throws {
                var bytes = frame(quarter)
                while !bytes.isEmpty {
                    let some = Array(bytes.prefix(32 << 10))
                    peer.write(some)
                    bytes.removeFirst(some.count)
                    probe.turns(2)
                }
            }
            for _ in 0..<3 { try send() }
            #expect(peer.connection?.pointee.paused == false)
            try send()  // With its header it is over the limit.
            #expect(peer.connection?.pointee.paused == true)
            peer.write(message("later"))
            probe.turns()
            probe_let_start(probe.handle, true, true)
            try probe.run(until: { probe.started.last == "later" })
            #expect(probe.started.count == 5)
            #expect(peer.connection?.pointee.paused == false)
        }
    }

    @Test("a connection that others wait for is read whatever waits of it")
    func readAlways() throws {
        try withProbe { probe in
            let peer = try probe.open()
            peer.connection?.pointee.read_always = true
            probe_let_start(probe.handle, false, true)
            for _ in 0..<40 {
                peer.write(frame([UInt8](repeating: 0x61, count: 32 << 10)))
                probe.turns(2)
            }
            #expect(probe.waiting(SC_PLACE_PARKED) > UInt64(SC_PARKED_SIZE_MAX))
            #expect(peer.connection?.pointee.paused == false)
        }
    }

    @Test("a message that the role refuses does not wait")
    func refused() throws {
        try withProbe { probe in
            let peer = try probe.open()
            probe_let_start(probe.handle, false, true)
            probe_refuse_from(probe.handle, 2)
            peer.write(message("one") + message("two") + message("three"))
            probe.turns()
            #expect(probe.events == "hr")
            probe_let_start(probe.handle, true, true)
            probe.turns()
            #expect(probe.started == ["one", "two"])
        }
    }

    @Test("a throttled connection is not read until its role says so")
    func throttled() throws {
        try withProbe { probe in
            let peer = try probe.open()
            probe_throttle(probe.handle, true)
            peer.write(message("one"))
            probe.turns(5)
            #expect(probe.started == [])
            probe_throttle(probe.handle, false)
            try probe.run(until: { probe.started == ["one"] })
            #expect(peer.connection?.pointee.inbound == nil)
        }
    }

    @Test("a turn starts SC_PARKED_PER_TURN messages, and some of each connection")
    func budget() throws {
        try withProbe { probe in
            probe_let_start(probe.handle, false, true)
            let peers = try (0..<6).map { _ in try probe.open() }
            for peer in peers {
                for _ in 0..<4 {
                    peer.write((0..<128).flatMap { _ in message("m") })
                    probe.turns(2)
                }
            }
            probe_let_start(probe.handle, true, true)
            probe_turn(probe.handle)
            #expect(probe.started.count == Int(SC_PARKED_PER_TURN))
            for peer in peers[..<4] {
                #expect(peer.connection.map { sc_connection_has_parked($0) } == true)
            }
            try probe.run(until: { probe.started.count == 6 * 512 })
            #expect(probe.transport.pointee.parked.count == 0)
        }
    }

    @Test("a broken frame closes with the code for it, and nothing behind it counts")
    func broken() throws {
        let cases: [([UInt8], UInt16)] = [
            ([0xC1, 0x80, 0, 0, 0, 0], 1002),  // A reserved bit.
            ([0x81, 0x01, 0x61], 1002),  // No mask.
            ([0x81, 0xFF] + [0, 0, 0, 0, 0, 0x20, 0, 0] + [0, 0, 0, 0], 1009),
        ]
        for (bytes, code) in cases {
            try withProbe { probe in
                let peer = try probe.open()
                peer.write(bytes + message("behind"))
                probe.turns()
                #expect(frames(peer.read())?.last?.code == code)
                #expect(peer.state == STATE_REFUSED)
                peer.write(closeFrame(1000))
                probe.turns()
                #expect(peer.state == STATE_REFUSED)
                peer.finish()
                try probe.run(until: { peer.connection == nil })
                #expect(probe.started == [])
                #expect(probe.events == "hec")
            }
        }
    }
}
