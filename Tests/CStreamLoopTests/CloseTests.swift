import CStreamBase
import CStreamLoop
import Glibc
import Testing

@Suite("Closing sockets")
struct CloseTests {
    /// What a socket may be at when it is closed.
    enum State: String, CaseIterable {
        case fresh, receiving, paused, pausing, ended, trying, waiting, shuttingDown, bytesOnTheWay
    }

    static let combinations = State.allCases.flatMap { state in [(state, false), (state, true)] }

    /// The harness checks that no other callback runs after the call, and that `on_closed` runs once.
    @Test("lets go in every state, by an end or a reset", arguments: Variant.allCases, combinations)
    func everyState(variant: Variant, combination: (State, Bool)) throws {
        let (state, abort) = combination
        try withLoop(variant) { loop in
            let listener = try Listener(loop)
            let (connection, peer) = try connectedPair(
                loop, listener, receiveBuffer: 20_000, sendBuffer: 20_000)
            if state != .fresh { try loop.turns(2) }
            switch state {
            case .fresh, .receiving: break
            case .paused:
                sc_socket_pause(connection.pointer)
                try loop.turns(2)
            case .pausing: sc_socket_pause(connection.pointer)
            case .ended:
                peer.finish()
                try loop.run(until: { connection.end != nil })
            case .trying: connection.send("x")
            case .waiting:
                // TCP goes on moving bytes to the peer for a while.
                while !connection.isSending {
                    connection.send([pattern(100_000)], SC_SEND_WAIT)
                    try loop.turns(3)
                }
            case .shuttingDown:
                connection.send("x")
                sc_socket_shutdown(connection.pointer)
            case .bytesOnTheWay: try peer.write(pattern(100_000 / 8))
            }
            connection.close(abort: abort)
            #expect(!connection.isClosed, "not in the call itself")
            try connection.waitClosed()
            #expect(connection.pointer.pointee.fd == -1)
            #expect(try peer.waitForEnd())
        }
    }

    @Test("resets when it aborts, and does not when it does not", arguments: [false, true])
    func reset(abort: Bool) throws {
        try withLoop { loop in
            let listener = try Listener(loop)
            let (connection, peer) = try connectedPair(loop, listener)
            try loop.turns(2)
            connection.close(abort: abort)
            try connection.waitClosed()
            var byte: UInt8 = 0
            let got = recv(peer.fd, &byte, 1, 0)
            if abort { #expect(got == -1 && errno == ECONNRESET) } else { #expect(got == 0) }
        }
    }

    @Test("may be asked for by each of its callbacks", arguments: Variant.allCases)
    func inCallbacks(variant: Variant) throws {
        try withLoop(variant) { loop in
            let receiving = try localPair(loop)
            receiving.0.onReceive = { _ in receiving.0.close() }
            try receiving.1.write(pattern(50_000))

            let ending = try localPair(loop)
            ending.0.onEnd = { _ in ending.0.close() }
            ending.1.finish()

            let sending = try localPair(loop)
            sending.0.onSent = { _ in sending.0.close() }
            sending.0.send("x")

            let flushing = try localPair(loop)
            flushing.0.onSent = { _ in flushing.0.close(abort: true) }
            flushing.0.send([[1], [2]])
            #expect(sc_loop_flush(loop.loop) == 0)
            #expect(flushing.0.isClosing)

            let all = [receiving.0, ending.0, sending.0, flushing.0]
            try loop.run(until: { all.allSatisfy(\.isClosed) })
            #expect(receiving.0.receives == 1 && sending.0.sent == [1] && flushing.0.sent == [2])
        }
    }

    @Test(
        "of one socket by another's callback keeps the other's bytes from it",
        arguments: Variant.allCases)
    func byAnother(variant: Variant) throws {
        try withLoop(variant) { loop in
            let pairs = try (0..<6).map { _ in try localPair(loop) }
            try loop.turns(2)
            for (connection, _) in pairs {
                connection.onReceive = { _ in
                    for (other, _) in pairs where other !== connection && !other.isClosing {
                        other.close()
                    }
                }
            }
            for (_, peer) in pairs { try peer.write("hello") }
            try loop.run(until: { pairs.filter(\.0.isClosed).count == 5 })
            #expect(pairs.filter { $0.0.receives > 0 }.count == 1)
        }
    }

    // MARK: Slots

    @Test("makes room for another socket, and not before") func limit() throws {
        try withLoop({ $0.socket_count_max = 2 }) { loop in
            let first = try localPair(loop)
            let second = try localPair(loop)
            #expect(throws: LoopError(code: -ENFILE)) { try localPair(loop) }
            first.0.close()
            #expect(throws: LoopError(code: -ENFILE)) { try localPair(loop) }
            try first.0.waitClosed()
            let third = try localPair(loop)
            #expect(third.0.pointer.pointee.slot == first.0.pointer.pointee.slot)
            try third.1.write("x")
            try second.1.write("y")
            try loop.run(until: { third.0.received == [0x78] && second.0.received == [0x79] })
        }
    }

    @Test("keeps what was on the way from the next socket in its slot", arguments: Variant.allCases)
    func staleCompletions(variant: Variant) throws {
        allowManyDescriptors()
        try withLoop(variant, { $0.socket_count_max = 3 }) { loop in
            for round in 0..<300 {
                let (connection, peer) = try localPair(loop)
                if round % 2 == 0 { try loop.turns(1) }
                try peer.write("old \(round)")
                switch round % 5 {
                case 0: sc_socket_pause(connection.pointer)
                case 1: connection.send("x", SC_SEND_WAIT)
                case 2: connection.send([[1], [2]])
                default: break
                }
                connection.close(abort: round % 3 == 0)
                try connection.waitClosed()

                let (next, nextPeer) = try localPair(loop)
                #expect(next.pointer.pointee.slot == connection.pointer.pointee.slot)
                try loop.turns(1)
                try nextPeer.write("new")
                try loop.run(until: { next.received.count >= 3 })
                #expect(next.received == Array("new".utf8) && next.sent.isEmpty && next.end == nil)
                next.close()
                try next.waitClosed()
            }
        }
    }

    @Test("frees the descriptor before it is said to be over") func descriptor() throws {
        try withLoop { loop in
            let (connection, peer) = try localPair(loop)
            connection.close()
            try connection.waitClosed()
            // Nothing is queued for this end any more.
            #expect(try peer.waitForEnd())
        }
    }
}
