import CStreamBase
import CStreamWebSocket
import Testing

/// A frame as the RFC lays it out, built without the code under test.
struct Frame {
    var opcode: UInt8
    var payload: [UInt8] = []
    var final = true
    var reserved: UInt8 = 0
    var mask: [UInt8]? = [0x37, 0xfa, 0x21, 0x3d]
    /// The bytes of the extended length; nil for the shortest form.
    var lengthForm: Int?

    var header: [UInt8] {
        let shortest = payload.count < 126 ? 0 : payload.count < 65_536 ? 2 : 8
        let form = lengthForm ?? shortest
        let length = form == 0 ? UInt8(payload.count) : form == 2 ? 126 : 127
        let extended = (0..<form).map {
            UInt8(truncatingIfNeeded: payload.count >> (8 * (form - 1 - $0)))
        }
        return [(final ? 0x80 : 0) | reserved << 4 | opcode, (mask == nil ? 0 : 0x80) | length]
            + extended
            + (mask ?? [])
    }

    var bytes: [UInt8] {
        guard let mask else { return header + payload }
        return header + payload.indices.map { payload[$0] ^ mask[$0 % 4] }
    }

    static func text(_ text: String, final: Bool = true) -> Frame {
        Frame(opcode: 1, payload: Array(text.utf8), final: final)
    }
    static func binary(_ payload: [UInt8], final: Bool = true) -> Frame {
        Frame(opcode: 2, payload: payload, final: final)
    }
    static func more(_ text: String, final: Bool = true) -> Frame {
        Frame(opcode: 0, payload: Array(text.utf8), final: final)
    }
    static func ping(_ text: String) -> Frame {
        Frame(opcode: 9, payload: Array(text.utf8))
    }
    static func close(_ code: UInt16, _ reason: [UInt8] = []) -> Frame {
        Frame(opcode: 8, payload: [UInt8(code >> 8), UInt8(code & 0xff)] + reason)
    }
}

/// What a decoder said, with the pieces of a message joined, so that it does not depend on splits.
enum Heard: Equatable {
    case message(opcode: UInt8, [UInt8])
    case control(opcode: UInt8, code: UInt16, [UInt8])
    case failed(Int32)

    static func text(_ text: String) -> Heard { .message(opcode: 1, Array(text.utf8)) }
    static func ping(_ text: String) -> Heard { .control(opcode: 9, code: 0, Array(text.utf8)) }
}

/// A connection's reader: keeps what the decoder did not consume, and calls it again when more came.
struct Reader {
    private(set) var decoder = sc_ws_decoder()
    private(set) var heard = [Heard]()
    private(set) var pieceCount = 0
    private var kept = [UInt8]()
    private var message: [UInt8]?

    init(
        role: sc_ws_role = SC_WS_SERVER, frameSizeMax: UInt32 = 1 << 24,
        messageSizeMax: UInt64 = 1 << 26,
        checkUTF8: Bool = true
    ) {
        sc_ws_decoder_init(&decoder, role, frameSizeMax, messageSizeMax, checkUTF8)
    }

    /// The bytes that wait for more.
    var keptCount: Int { kept.count }

    mutating func feed(_ bytes: [UInt8]) {
        kept += bytes
        while step() {}
    }

    private mutating func step() -> Bool {
        if case .failed = heard.last { return false }
        if kept.isEmpty { return false }
        var event = sc_ws_event()
        let data = copy(kept)
        defer { data.deallocate() }
        let rc = sc_ws_decode(&decoder, data, kept.count, &event)
        if let start = event.bytes.data, event.bytes.size > 0 {
            let offset = start - UnsafePointer(data)
            #expect(
                offset >= 0 && offset + event.bytes.size == rc,
                "an event ends with what it consumed")
        }
        if rc > 0 { note(event) }
        if rc < 0 { heard.append(.failed(Int32(-rc))) }
        if rc <= 0 {
            #expect(event.kind == SC_WS_EVENT_NONE)
            let unchanged = kept.elementsEqual(UnsafeBufferPointer(start: data, count: kept.count))
            #expect(rc < 0 || unchanged, "bytes that wait were changed")
            return false
        }
        kept.removeFirst(rc)
        return true
    }

    private mutating func note(_ event: sc_ws_event) {
        switch event.kind {
        case SC_WS_EVENT_DATA:
            pieceCount += 1
            #expect(event.first == (message == nil))
            #expect(event.bytes.size > 0 || event.last)
            let whole = (message ?? []) + array(event.bytes)
            message = event.last ? nil : whole
            if event.last { heard.append(.message(opcode: event.opcode, whole)) }
        case SC_WS_EVENT_CONTROL:
            heard.append(.control(opcode: event.opcode, code: event.close_code, array(event.bytes)))
        default:
            #expect(event.bytes.size == 0)
        }
    }
}

/// What a server hears when `bytes` come in one read.
func hear(_ bytes: [UInt8], configure: () -> Reader = { Reader() }) -> [Heard] {
    var reader = configure()
    reader.feed(bytes)
    return reader.heard
}
