import CStreamBase
import CStreamTransport
import Testing

@Suite("Chunks")
struct ChunkTests {
    private func withChunks(_ body: (inout chunks) throws -> Void) rethrows {
        var pool = chunks()
        defer { sc_chunks_deinit(&pool) }
        try body(&pool)
    }

    @Test(
        "small frames of a lane lie side by side, and a lane's memory is used again when all have left"
    )
    func lanes() {
        withChunks { pool in
            let one = sc_chunks_take(&pool, LANE_PRIVATE, 10)
            let two = sc_chunks_take(&pool, LANE_PRIVATE, 20)
            let other = sc_chunks_take(&pool, LANE_EVENTS, 20)
            #expect(two.chunk == one.chunk && two.offset == 10 && two.size == 20)
            #expect(other.chunk != one.chunk)
            sc_chunks_release(&pool, one)
            sc_chunks_release(&pool, two)
            let again = sc_chunks_take(&pool, LANE_PRIVATE, 30)
            #expect(again.chunk == one.chunk && again.offset == 0)
            sc_chunks_release(&pool, again)
            sc_chunks_release(&pool, other)
        }
    }

    @Test(
        "frames of every size have room of their own",
        arguments: [1, 16_383, 16_384, 16_385, 65_535, 65_536, 65_537])
    func sizes(size: Int) {
        withChunks { pool in
            let slices = (0..<10).map { _ in sc_chunks_take(&pool, LANE_PRIVATE, size) }
            for (at, slice) in slices.enumerated() {
                slice_data(slice).update(repeating: UInt8(at), count: size)
            }
            for (at, slice) in slices.enumerated() {
                #expect(slice_data(slice)[0] == UInt8(at))
                #expect(slice_data(slice)[size - 1] == UInt8(at))
                sc_chunks_release(&pool, slice)
            }
        }
    }

    @Test("a blob is wrapped without a copy, and let go with the last slice")
    func wrapped() throws {
        try withChunks { pool in
            let blob = try #require(sc_blob_create(100))
            let slice = sc_chunks_wrap(&pool, blob, 8)
            #expect(slice.size == 92)
            #expect(
                slice_data(slice)
                    == sc_blob_bytes(blob).data.map { UnsafeMutablePointer(mutating: $0 + 8) })
            #expect(sc_blob_is_shared(blob))
            sc_slice_retain(slice)
            sc_chunks_release(&pool, slice)
            #expect(sc_blob_is_shared(blob))
            sc_chunks_release(&pool, slice)
            #expect(!sc_blob_is_shared(blob))
            sc_blob_release(blob)
        }
    }
}
