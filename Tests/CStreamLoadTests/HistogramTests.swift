import CStreamLoad
import Testing

@Suite("Histogram")
struct HistogramTests {
    /// A histogram on the heap: it is big.
    final class Box {
        let pointer = UnsafeMutablePointer<sc_histogram>.allocate(capacity: 1)
        init() { sc_histogram_clear(pointer) }
        deinit { pointer.deallocate() }
        func add(_ values: some Sequence<UInt64>) {
            for value in values { sc_histogram_add(pointer, value) }
        }
        func quantile(_ share: Double) -> UInt64 { sc_histogram_quantile(pointer, share) }
    }

    /// Each power of two begins a new width of bucket: both sides of each.
    @Test("a bucket's bounds hold the values that fall into it")
    func bounds() {
        var last: UInt32 = 0
        for shift in 0..<64 {
            for value in [
                (UInt64(1) << shift) - 1, UInt64(1) << shift, (UInt64(1) << shift) &+ 1, .max,
            ] {
                let bucket = sc_histogram_bucket(value)
                #expect(bucket < UInt32(SC_HISTOGRAM_BUCKETS))
                let most = sc_histogram_bucket_most(bucket)
                #expect(most >= value)
                #expect(Double(most - value) <= Double(value) / 128 + 0.5)
                #expect(sc_histogram_bucket(most) == bucket)
                if value != .max { last = max(last, bucket) }
            }
        }
        #expect(sc_histogram_bucket(.max) == UInt32(SC_HISTOGRAM_BUCKETS) - 1)
    }

    @Test("buckets follow each other without a hole")
    func order() {
        var previous = sc_histogram_bucket_most(0)
        #expect(previous == 0)
        for bucket in 1..<UInt32(SC_HISTOGRAM_BUCKETS) {
            let most = sc_histogram_bucket_most(bucket)
            #expect(sc_histogram_bucket(previous + 1) == bucket)
            #expect(most > previous)
            previous = most
        }
        #expect(previous == .max)
    }

    @Test("quantiles of small numbers are exact")
    func exact() {
        let histogram = Box()
        histogram.add(1...100)
        #expect(histogram.quantile(0) == 1)
        #expect(histogram.quantile(0.5) == 50)
        #expect(histogram.quantile(0.99) == 99)
        #expect(histogram.quantile(1) == 100)
    }

    @Test("quantiles are within 1 % of sorted values")
    func close() {
        let seed = UInt64.random(in: 1 ... .max)
        var state = seed
        var values: [UInt64] = []
        for _ in 0..<10_000 {
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            values.append((state >> 33) >> ((state >> 20) % 31))
        }
        let histogram = Box()
        histogram.add(values)
        values.sort()
        for share in [0.01, 0.5, 0.9, 0.99, 0.999, 1] {
            let exact = values[Int((share * 10_000).rounded(.up)) - 1]
            let measured = histogram.quantile(share)
            #expect(
                measured >= exact && Double(measured - exact) <= Double(exact) / 100, "seed \(seed)"
            )
        }
    }

    @Test("nothing counted is 0, and merging adds")
    func merging() {
        let first = Box()
        let second = Box()
        #expect(first.quantile(0.5) == 0)
        first.add([10])
        second.add([20, 3000])
        sc_histogram_merge(first.pointer, second.pointer)
        #expect(first.pointer.pointee.count == 3)
        #expect(first.pointer.pointee.sum == 3030)
        #expect(first.pointer.pointee.least == 10)
        #expect(first.pointer.pointee.most == 3000)
        #expect(first.quantile(0.5) == 20)
        #expect(first.quantile(1) == 3000)
    }
}
