// Log-linear buckets: bucket b < 2^(SUB+1) holds the value b; beyond, each doubling has 2^SUB buckets.
#include "CStreamLoad.h"

#define SUB_COUNT (1u << SC_HISTOGRAM_SUB_BITS)
_Static_assert(SC_HISTOGRAM_BUCKETS == (65 - SC_HISTOGRAM_SUB_BITS) << SC_HISTOGRAM_SUB_BITS,
               "one more is never used");

void sc_histogram_clear(struct sc_histogram *histogram) {
    memset(histogram, 0, sizeof *histogram);
    histogram->least = UINT64_MAX;
}

// The largest value of the bucket, and not its middle: a quantile is never better than it was.
uint64_t sc_histogram_bucket_most(uint32_t bucket) {
    assert(bucket < SC_HISTOGRAM_BUCKETS);
    if (bucket < 2 * SUB_COUNT)
        return bucket;
    uint32_t shift = (bucket >> SC_HISTOGRAM_SUB_BITS) - 1;
    uint64_t first = (uint64_t)(bucket - (shift << SC_HISTOGRAM_SUB_BITS)) << shift;
    return first + ((1ull << shift) - 1);
}

uint64_t sc_histogram_quantile(const struct sc_histogram *histogram, double quantile) {
    if (histogram->count == 0)
        return 0;
    double exact = quantile * (double)histogram->count;
    uint64_t rank = (uint64_t)exact;
    if ((double)rank < exact || rank == 0)
        rank++;
    if (rank > histogram->count)
        rank = histogram->count;
    uint64_t seen = 0;
    for (uint32_t bucket = 0; bucket < SC_HISTOGRAM_BUCKETS; bucket++) {
        seen += histogram->buckets[bucket];
        if (seen < rank)
            continue;
        uint64_t most = sc_histogram_bucket_most(bucket);
        return most < histogram->most ? most : histogram->most;
    }
    return histogram->most;
}

void sc_histogram_merge(struct sc_histogram *histogram, const struct sc_histogram *from) {
    histogram->count += from->count;
    histogram->sum += from->sum;
    if (from->least < histogram->least)
        histogram->least = from->least;
    if (from->most > histogram->most)
        histogram->most = from->most;
    for (uint32_t bucket = 0; bucket < SC_HISTOGRAM_BUCKETS; bucket++)
        histogram->buckets[bucket] += from->buckets[bucket];
}
