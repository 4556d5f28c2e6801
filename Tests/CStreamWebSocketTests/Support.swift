import CStreamBase
import CStreamWebSocket
import Testing

/// A small generator that gives the same numbers for the same seed.
struct SeededGenerator: RandomNumberGenerator {
    let seed: UInt64
    private var state: UInt64

    /// Takes `seed`, or one that differs in each run; print it where a check fails.
    init(seed: UInt64 = UInt64.random(in: 0...UInt64.max)) {
        self.seed = seed
        state = seed
    }

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }
}

/// The C type has a function of the same name beside it, which the macros stumble over.
typealias SIMDLevel = sc_simd_level

/// The levels this machine can run, the scalar one first.
let simdLevels: [SIMDLevel] = [SC_SIMD_SCALAR, SC_SIMD_SSE2, SC_SIMD_AVX2].filter {
    $0.rawValue <= sc_simd_level().rawValue
}

func array(_ bytes: sc_bytes) -> [UInt8] {
    Array(UnsafeBufferPointer(start: bytes.data, count: bytes.size))
}

func string(_ bytes: sc_bytes) -> String {
    String(decoding: array(bytes), as: UTF8.self)
}

/// Calls `body` with a view of `bytes` that ends where its memory ends.
func withBytes<Result>(_ bytes: [UInt8], _ body: (sc_bytes) throws -> Result) rethrows -> Result {
    try bytes.withUnsafeBufferPointer {
        try body(sc_bytes(data: $0.baseAddress, size: $0.count))
    }
}

/// What the C parser said of a head, copied out of it.
enum HeadResult: Equatable {
    case complete(size: Int, Head)
    case more
    case failed(Int32)

    struct Head: Equatable {
        var method, target, path, query: String
        var minorVersion: UInt8
        var fields: [Field]
    }
    struct Field: Equatable {
        var name, value: String
    }

    var head: Head? {
        if case .complete(_, let head) = self { head } else { nil }
    }
}

/// Parses `bytes` and lends the request to `body` when it is complete.
func withRequest<Result>(
    _ bytes: [UInt8], _ body: (UnsafePointer<sc_http_request>) throws -> Result
) rethrows -> (rc: Int, result: Result?) {
    let request = UnsafeMutablePointer<sc_http_request>.allocate(capacity: 1)
    request.initialize(to: sc_http_request())
    defer { request.deallocate() }
    let data = copy(bytes)
    defer { data.deallocate() }
    let rc = sc_http_request_parse(data, bytes.count, request)
    return (rc, rc > 0 ? try body(request) : nil)
}

/// A copy of `bytes` in memory of its size, so that a sanitizer sees a read behind it. The caller frees it.
func copy(_ bytes: [UInt8]) -> UnsafeMutablePointer<UInt8> {
    let data = UnsafeMutablePointer<UInt8>.allocate(capacity: bytes.count)
    data.update(from: bytes, count: bytes.count)
    return data
}

func fields(of request: UnsafePointer<sc_http_request>) -> [HeadResult.Field] {
    let count = Int(request.pointee.header_count)
    return withUnsafePointer(to: request.pointee.headers) { tuple in
        UnsafeRawPointer(tuple).withMemoryRebound(to: sc_http_header.self, capacity: 100) { first in
            (0..<count).map { .init(name: string(first[$0].name), value: string(first[$0].value)) }
        }
    }
}

func parseHead(_ bytes: [UInt8]) -> HeadResult {
    let (rc, head) = withRequest(bytes) { request in
        HeadResult.Head(
            method: string(request.pointee.method), target: string(request.pointee.target),
            path: string(request.pointee.path), query: string(request.pointee.query),
            minorVersion: request.pointee.minor_version, fields: fields(of: request))
    }
    if let head { return .complete(size: rc, head) }
    return rc == 0 ? .more : .failed(Int32(-rc))
}

func parseHead(_ text: String) -> HeadResult {
    parseHead(Array(text.utf8))
}
