// A node of the C core alone, for counting what its work costs: allocations, turns, system calls, sends.
//
// Prints {"stream_port":…,"worker_port":…}, then for each line on standard input one line of counters. Ends
// with its input.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "plane.h"

// ---- Allocations, all of the process

static _Atomic uint64_t allocations;

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *memory, size_t size);

void *malloc(size_t size) {
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return __libc_malloc(size);
}
void *calloc(size_t count, size_t size) {
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return __libc_calloc(count, size);
}
void *realloc(void *memory, size_t size) {
    atomic_fetch_add_explicit(&allocations, 1, memory_order_relaxed);
    return __libc_realloc(memory, size);
}

// ---- The node

static struct sc_node *node;

static void report(void) {
    uint64_t allocated = atomic_load(&allocations);
    struct sc_node_counters counters = sc_node_counters(node);
    printf(
        "{\"allocations\":%llu,\"calls\":%llu,\"deliveries\":%llu,\"turns\":%llu,\"enters\":%llu,"
        "\"submissions\":%llu,\"sends\":%llu,\"syncs_serialised\":%llu}\n",
        (unsigned long long)allocated, (unsigned long long)counters.calls,
        (unsigned long long)counters.deliveries, (unsigned long long)counters.turns,
        (unsigned long long)counters.enters, (unsigned long long)counters.submissions,
        (unsigned long long)counters.sends, (unsigned long long)counters.syncs_serialised);
    fflush(stdout);
}

int main(void) {
    node = plane_start();
    printf("{\"stream_port\":%u,\"worker_port\":%u}\n", sc_node_port(node, -1),
           sc_node_port(node, 0));
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL)
        report();
    sc_node_stop(node, 1000);
    sc_node_destroy(node);
    return 0;
}
