// The table of counters, see counters.h.
#include "counters.h"

static const struct sc_counter_row rows[SC_COUNTER_COUNT] = {
#define GAUGE_ROW(name, help) {#name, help, true},
#define COUNTER_ROW(name, help) {#name, help, false},
    SC_COUNTERS(GAUGE_ROW, COUNTER_ROW)};

const struct sc_counter_row *sc_counter_row(uint32_t index) {
    assert(index < SC_COUNTER_COUNT);
    return &rows[index];
}

// The gauges by place stand before the rows, which follow in the order of the table.
uint64_t sc_counter_value(const struct sc_node_counters *counters, uint32_t index) {
    assert(index < SC_COUNTER_COUNT);
    return ((const uint64_t *)counters)[SC_PLACE_COUNT + index];
}
