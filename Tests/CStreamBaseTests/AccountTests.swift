import CStreamBase
import Foundation
import Testing

/// An account with its sums, released at the end.
private final class TestAccount {
    let sums: UnsafeMutablePointer<sc_account_sums>
    let account: UnsafeMutablePointer<sc_account>

    init(limit: UInt64) throws {
        sums = try #require(sc_account_sums_create())
        account = try #require(sc_account_create(limit, sums))
    }

    deinit {
        sc_account_release(account)
        sc_account_sums_release(sums)
    }

    func bytes(_ place: sc_place) -> UInt64 { sc_account_bytes(account, place) }
    func sum(_ place: sc_place) -> UInt64 { sc_account_sums_bytes(sums, place) }
}

private let everyPlace = (0..<SC_PLACE_COUNT.rawValue).map(sc_place.init(rawValue:))

@Suite("Accounts")
struct AccountTests {
    @Test("a byte is counted at its place, in the total and in the sums", arguments: everyPlace)
    func places(place: sc_place) throws {
        let own = try TestAccount(limit: 100)
        sc_account_charge(own.account, place, 60)
        sc_account_charge(own.account, place, 7)
        for other in everyPlace {
            #expect(own.bytes(other) == (other == place ? 67 : 0))
            #expect(own.sum(other) == (other == place ? 67 : 0))
        }
        #expect(sc_account_total(own.account) == 67)
        sc_account_discharge(own.account, place, 67)
        #expect(own.bytes(place) == 0 && own.sum(place) == 0)
        #expect(sc_account_total(own.account) == 0)
    }

    @Test("there is room up to the limit, and not for one byte more")
    func limit() throws {
        let own = try TestAccount(limit: 100)
        sc_account_charge(own.account, SC_PLACE_OUTBOX, 60)
        #expect(sc_account_has_room(own.account, 40))
        #expect(!sc_account_has_room(own.account, 41))
        sc_account_charge(own.account, SC_PLACE_MESSAGES, 40)
        #expect(sc_account_has_room(own.account, 0))
        #expect(!sc_account_has_room(own.account, 1))
        sc_account_charge(own.account, SC_PLACE_MESSAGES, 1)
        #expect(!sc_account_has_room(own.account, 0))
        sc_account_discharge(own.account, SC_PLACE_OUTBOX, 60)
        sc_account_discharge(own.account, SC_PLACE_MESSAGES, 41)
    }

    @Test("one thing that is larger than the limit is let into an empty account only")
    func large() throws {
        let own = try TestAccount(limit: 100)
        #expect(sc_account_has_room(own.account, 1_000_000))
        sc_account_charge(own.account, SC_PLACE_PARKED, 1)
        #expect(!sc_account_has_room(own.account, 1_000_000))
        sc_account_discharge(own.account, SC_PLACE_PARKED, 1)
    }

    /// A message may outlive its connection, whose reference is the first.
    @Test("a message in other hands keeps the account")
    func messages() throws {
        let sums = try #require(sc_account_sums_create())
        defer { sc_account_sums_release(sums) }
        let account = try #require(sc_account_create(100, sums))
        sc_account_hand_over(account, SC_PLACE_MESSAGES, 30)
        sc_account_hand_over(account, SC_PLACE_MESSAGES, 20)
        #expect(sc_account_messages(account) == 2)
        sc_account_release(account)
        #expect(sc_account_sums_bytes(sums, SC_PLACE_MESSAGES) == 50)
        sc_account_take_back(account, SC_PLACE_MESSAGES, 30)
        #expect(sc_account_messages(account) == 1)
        sc_account_take_back(account, SC_PLACE_MESSAGES, 20)
        #expect(sc_account_sums_bytes(sums, SC_PLACE_MESSAGES) == 0)
    }

    /// Places that any thread writes lose nothing, whoever else writes.
    @Test("four threads charge one account")
    func threads() throws {
        let own = try TestAccount(limit: 100)
        nonisolated(unsafe) let account = own.account
        DispatchQueue.concurrentPerform(iterations: 4) { _ in
            for _ in 0..<10_000 {
                sc_account_hand_over(account, SC_PLACE_MESSAGES, 3)
                sc_account_charge(account, SC_PLACE_MESSAGES, 5)
                sc_account_take_back(account, SC_PLACE_MESSAGES, 3)
                sc_account_discharge(account, SC_PLACE_MESSAGES, 4)
            }
        }
        #expect(own.bytes(SC_PLACE_MESSAGES) == 40_000 && sc_account_messages(own.account) == 0)
        #expect(sc_account_total(own.account) == 40_000 && own.sum(SC_PLACE_MESSAGES) == 40_000)
        sc_account_discharge(own.account, SC_PLACE_MESSAGES, 40_000)
    }

    @Test("docs/limits.md has the rows of the table, and no others")
    func documented() throws {
        let root = URL(fileURLWithPath: #filePath).deletingLastPathComponent()
            .deletingLastPathComponent().deletingLastPathComponent()
        let text = try String(contentsOf: root.appending(path: "docs/limits.md"), encoding: .utf8)
        let owners = ["connection", "shard", "node"]
        let rows = everyPlace.map { place in
            let row = sc_place_row(place).pointee
            let setting = String(cString: row.setting).split(separator: ", ").map { "`\($0)`" }
            let cells = [
                "`\(String(cString: row.name))`", owners[Int(row.owner)],
                setting.joined(separator: ", "), String(cString: row.at_limit),
                "`\(String(cString: row.counter))`",
            ]
            return "| " + cells.joined(separator: " | ") + " |"
        }
        let section = try #require(
            text.components(separatedBy: "## Places where bytes wait\n").last)
        let documented = section.split(separator: "\n").map(String.init)
            .prefix { !$0.hasPrefix("## ") }.filter { $0.hasPrefix("| `") }
        #expect(Array(documented) == rows)
    }
}
