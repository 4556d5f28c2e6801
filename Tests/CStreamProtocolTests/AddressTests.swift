import CStreamProtocol
import Foundation
import Testing

@Suite("Addresses of peers")
struct AddressTests {
    private func ip(_ bytes: [UInt8]) -> sc_ip {
        var ip = sc_ip()
        let whole =
            bytes.count == 4 ? [UInt8](repeating: 0, count: 10) + [0xFF, 0xFF] + bytes : bytes
        withUnsafeMutableBytes(of: &ip) { $0.copyBytes(from: whole) }
        return ip
    }

    private func bytes(_ ip: sc_ip) -> [UInt8] { withUnsafeBytes(of: ip) { Array($0) } }

    private func written(_ endpoint: sc_endpoint) -> (all: String, ip: String) {
        var endpoint = endpoint
        var out = [UInt8](repeating: 0, count: Int(SC_ENDPOINT_SIZE_MAX))
        return out.withUnsafeMutableBufferPointer { buffer in
            var ip = sc_bytes()
            let size = sc_endpoint_write(&endpoint, buffer.baseAddress!, &ip)
            let all = String(decoding: buffer[..<size], as: UTF8.self)
            return (
                all,
                String(decoding: UnsafeBufferPointer(start: ip.data, count: ip.size), as: UTF8.self)
            )
        }
    }

    private static let six: [UInt8] = [0x20, 1, 0xD, 0xB8, 0, 1, 0, 2, 3, 4, 5, 6, 7, 8, 9, 10]

    @Test(
        "are written with their port where it is known, and in brackets then when they have colons")
    func text() {
        let four = written(sc_endpoint(ip: ip([203, 0, 113, 9]), port: 65_535, known: true))
        #expect(four.all == "203.0.113.9:65535" && four.ip == "203.0.113.9")
        let bare = written(sc_endpoint(ip: ip([203, 0, 113, 9]), port: 0, known: true))
        #expect(bare.all == "203.0.113.9" && bare.ip == bare.all)
        let six = written(sc_endpoint(ip: ip(Self.six), port: 1, known: true))
        #expect(six.all == "[2001:db8:1:2:304:506:708:90a]:1")
        #expect(six.ip == "2001:db8:1:2:304:506:708:90a")
        let bareSix = written(sc_endpoint(ip: ip(Self.six), port: 0, known: true))
        #expect(bareSix.all == six.ip && bareSix.ip == six.ip)
        #expect(written(sc_endpoint()).all == "?")
    }

    @Test("fit where they are written, the longest too")
    func longest() {
        let longest = written(
            sc_endpoint(ip: ip([UInt8](repeating: 0xAB, count: 16)), port: 65_535, known: true))
        #expect(longest.all.utf8.count <= Int(SC_ENDPOINT_SIZE_MAX))
        #expect(longest.all == "[abab:abab:abab:abab:abab:abab:abab:abab]:65535")
    }

    @Test("count whole of IPv4, and by their first 64 bits of IPv6")
    func network() {
        var four = ip([203, 0, 113, 9])
        #expect(bytes(sc_ip_network(&four)) == bytes(four))
        var six = ip(Self.six)
        #expect(
            bytes(sc_ip_network(&six)) == Array(Self.six[..<8]) + [UInt8](repeating: 0, count: 8))
    }

    @Test("are those that the kernel gives, one of IPv4 in either form")
    func kernel() {
        var four = sockaddr_storage()
        withUnsafeMutableBytes(of: &four) {
            $0.storeBytes(of: UInt16(AF_INET), as: UInt16.self)
            $0.storeBytes(of: UInt16(8080).bigEndian, toByteOffset: 2, as: UInt16.self)
            for (at, byte) in [UInt8](arrayLiteral: 127, 0, 0, 2).enumerated() { $0[4 + at] = byte }
        }
        #expect(written(sc_endpoint_of(&four)).all == "127.0.0.2:8080")
        var mapped = sockaddr_storage()
        withUnsafeMutableBytes(of: &mapped) {
            $0.storeBytes(of: UInt16(AF_INET6), as: UInt16.self)
            $0.storeBytes(of: UInt16(8080).bigEndian, toByteOffset: 2, as: UInt16.self)
            for (at, byte) in bytes(ip([127, 0, 0, 2])).enumerated() { $0[8 + at] = byte }
        }
        #expect(written(sc_endpoint_of(&mapped)).all == "127.0.0.2:8080")
        var other = sockaddr_storage()
        withUnsafeMutableBytes(of: &other) { $0.storeBytes(of: UInt16(AF_UNIX), as: UInt16.self) }
        #expect(!sc_endpoint_of(&other).known)
    }
}
