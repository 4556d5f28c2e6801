/// Turns counters that only grow into what happened between two looks.
struct Sampler {
    private var usage: Usage
    private var counts: Counts
    private var histogram: Histogram
    private var time: UInt64

    init(usage: Usage, counts: Counts, histogram: Histogram, time: UInt64) {
        self.usage = usage
        self.counts = counts
        self.histogram = histogram
        self.time = time
    }

    mutating func sample(
        usage: Usage, counts: Counts, histogram: Histogram, time: UInt64, start: UInt64,
        resident: Int?
    ) -> Sample {
        let passed = max(Double(time - self.time) / 1e9, 1e-9)
        let new = histogram.since(self.histogram)
        func rate(_ value: UInt64, _ before: UInt64) -> Double {
            Double(value - min(before, value)) / passed
        }
        let sample = Sample(
            time: Double(time - start) / 1e9,
            deliveries: rate(counts.deliveries, self.counts.deliveries),
            answers: rate(counts.answers, self.counts.answers),
            p50: new.count > 0 ? Double(new.quantile(0.5)) / 1000 : 0,
            p99: new.count > 0 ? Double(new.quantile(0.99)) / 1000 : 0,
            serverCPU: both(usage.server, self.usage.server).map { max(0, $0 - $1) / passed },
            ownCPU: (usage.own - self.usage.own) / passed, serverResident: resident)
        self = Sampler(usage: usage, counts: counts, histogram: histogram, time: time)
        return sample
    }
}
