import CStreamJSON
import Foundation
import Testing

/// The public JSON parsing suite is not part of this package. With JSON_SUITE set to its `test_parsing`
/// folder, all of it runs, and prints the answers that the standard leaves open (docs/json.md).
@Suite("JSON parsing suite")
struct SuiteTests {
    static let folder = ProcessInfo.processInfo.environment["JSON_SUITE"]

    @Test(
        "accepts what must be accepted and refuses what must be refused",
        .enabled(if: folder != nil))
    func suite() throws {
        let folder = URL(filePath: try #require(Self.folder))
        let names = try FileManager.default.contentsOfDirectory(atPath: folder.path).sorted()
        #expect(names.filter { $0.hasPrefix("y_") }.count > 90)
        #expect(names.filter { $0.hasPrefix("n_") }.count > 180)
        for name in names where name.hasSuffix(".json") {
            let scan = Scan(Text(Array(try Data(contentsOf: folder.appending(path: name)))))
            switch name.prefix(2) {
            case "y_": #expect(scan.result == 0, "\(name)")
            case "n_": #expect(scan.result < 0, "\(name)")
            default: print("\(name): \(scan.result)")
            }
        }
    }
}
