import StreamFunctions
import StreamModel
import Testing

@Suite("Notice of changed functions")
struct FunctionsNoticeTests {
    private var notice = FunctionsNotice()

    private func at(_ uptime: UInt64) -> Moment { Moment(uptime: .milliseconds(uptime)) }

    @Test("without a change nothing is due") func nothing() {
        #expect(notice.due == nil)
        #expect(!notice.isDue(at: at(UInt64(Int64.max))))
    }

    @Test("it is due 100 ms after a change, once") mutating func quiet() {
        notice.change(at: at(5000))
        #expect(notice.due == .milliseconds(5100))
        #expect(!notice.isDue(at: at(5099)))
        #expect(notice.isDue(at: at(5100)))
        notice.fire(at: at(5100))
        #expect(notice.due == nil)
        #expect(!notice.isDue(at: at(9000)))
    }

    @Test("it is due 100 ms after the last of many changes") mutating func lastChange() {
        for uptime in stride(from: UInt64(5000), through: 5300, by: 50) {
            notice.change(at: at(uptime))
        }
        #expect(notice.due == .milliseconds(5400))
    }

    @Test("while changes go on it is due a second after the first, and then once a second")
    mutating func changesGoOn() {
        var given: [UInt64] = []
        for uptime in stride(from: UInt64(5000), through: 8000, by: 60) {
            if notice.isDue(at: at(uptime)) {
                notice.fire(at: at(uptime))
                given.append(uptime)
            }
            notice.change(at: at(uptime))
        }
        #expect(given == [6020, 7040])
        #expect(notice.due == .milliseconds(8040))
    }

    @Test("two are at least a second apart") mutating func interval() {
        notice.change(at: at(0))
        notice.fire(at: at(100))
        notice.change(at: at(200))
        #expect(notice.due == .milliseconds(1100))
        notice.change(at: at(999))
        #expect(notice.due == .milliseconds(1100))
        notice.change(at: at(1001))
        #expect(notice.due == .milliseconds(1101))
    }

    @Test("the second counts from when it was given, not from when it was due") mutating func late()
    {
        notice.change(at: at(0))
        notice.fire(at: at(700))
        notice.change(at: at(701))
        #expect(notice.due == .milliseconds(1700))
    }
}
