internal import Foundation

/// What was counted of one latency, in nanoseconds: a copy of a histogram of the engine, sparse.
struct Histogram {
    var count: UInt64 = 0
    var sum: UInt64 = 0
    var least: UInt64 = 0
    var most: UInt64 = 0
    /// Buckets that are not empty, in order.
    var buckets: [(bucket: Int, count: UInt64)] = []

    /// The value that the share `quantile` of the counted ones does not exceed.
    func quantile(_ quantile: Double) -> UInt64 {
        let rank = max(1, (quantile * Double(count)).rounded(.up))
        var seen: UInt64 = 0
        for (bucket, count) in buckets {
            seen += count
            if Double(seen) >= rank { return min(Self.most(inBucket: bucket), most) }
        }
        return most
    }

    /// What was counted since an earlier copy of the same histogram.
    func since(_ earlier: Histogram) -> Histogram {
        var before: [Int: UInt64] = [:]
        for (bucket, count) in earlier.buckets { before[bucket] = count }
        let new = buckets.compactMap { bucket, count in
            let more = count - (before[bucket] ?? 0)
            return more > 0 ? (bucket: bucket, count: more) : nil
        }
        return Histogram(
            count: count - earlier.count, sum: sum - earlier.sum, least: least, most: most,
            buckets: new)
    }
}

/// A latency as results show it, in microseconds.
struct LatencySummary: Codable, Equatable {
    var count: UInt64
    var mean, least, p50, p90, p99, p999, max: Double
    /// The curve of the report: shares from 0 to 1 with their values.
    var curve: [Point]

    struct Point: Codable, Equatable {
        var share, value: Double
    }

    init?(_ histogram: Histogram) {
        guard histogram.count > 0 else { return nil }
        func microseconds(_ quantile: Double) -> Double {
            Double(histogram.quantile(quantile)) / 1000
        }
        count = histogram.count
        mean = Double(histogram.sum) / Double(histogram.count) / 1000
        least = Double(histogram.least) / 1000
        p50 = microseconds(0.5)
        p90 = microseconds(0.9)
        p99 = microseconds(0.99)
        p999 = microseconds(0.999)
        max = Double(histogram.most) / 1000
        // Evenly along the axis of nines: 0, 0.9, 0.99, ... as far as there are values.
        curve = []
        var nines = 0.0
        while nines <= 6 {
            let share = 1 - pow(10, -nines)
            curve.append(Point(share: share, value: microseconds(share)))
            if (1 - share) * Double(histogram.count) < 1 { break }
            nines += 0.05
        }
    }
}
