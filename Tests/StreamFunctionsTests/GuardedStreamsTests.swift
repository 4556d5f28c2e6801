import StreamFunctions
import StreamModel
import Testing

@Suite("Guarded streams")
struct GuardedStreamsTests {
    private let client = ConnectionID(rawValue: 7)

    @Test(
        "are named, or fit a pattern",
        arguments: [
            ("orders", "orders", true), ("orders", "order", false), ("orders", "orders2", false),
            ("tenant-*", "tenant-", true), ("tenant-*", "tenant-a", true),
            ("tenant-*", "tenan", false),
            ("*-private", "a-private", true), ("*-private", "private", false), ("*", "", true),
            ("a*b*c", "abc", true), ("a*b*c", "a1b2c", true), ("a*b*c", "acb", false),
            ("a*a", "a", false), ("", "", true), ("", "x", false),
        ])
    func patterns(pattern: String, stream: String, isGuarded: Bool) {
        #expect(
            GuardedStreams<Int>([pattern], patience: .milliseconds(5)).guards(stream) == isGuarded)
    }

    @Test("wait for their first guard for so long, and no longer") func patience() {
        var streams = GuardedStreams<Int>(["a", "b"], patience: .milliseconds(100))
        #expect(streams.missedGuard(of: "a", client, 1, now: .milliseconds(1000)) == .wait)
        #expect(streams.missedGuard(of: "b", client, 2, now: .milliseconds(1050)) == .wait)
        #expect(streams.nextDeadline == .milliseconds(1100))
        #expect(streams.takeExpired(now: .milliseconds(1099)).isEmpty)
        #expect(streams.takeExpired(now: .milliseconds(1100)).map(\.join) == [1])
        #expect(streams.takeGuarded { $0 == "a" }.isEmpty)
        #expect(streams.takeGuarded { $0 == "b" }.map(\.join) == [2])
        #expect(streams.nextDeadline == nil && streams.waitingCount == 0)
    }

    @Test("do not wait for a guard that was there and has gone") func gone() {
        var streams = GuardedStreams<Int>(["a*", "b"], patience: .milliseconds(100))
        streams.sawGuard(of: "a1")
        #expect(streams.missedGuard(of: "a2", client, 1, now: .milliseconds(0)) == .refuse)
        #expect(streams.missedGuard(of: "b", client, 2, now: .milliseconds(0)) == .wait)
    }
}
