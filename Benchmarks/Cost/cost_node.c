// A node of the C core alone, for counting what its work costs: allocations, turns, system calls, sends.
// Every worker is let in at once, as a control plane without rules would do.
//
// Prints {"stream_port":…,"worker_port":…}, then for each line on standard input one line of counters. Ends
// with its input.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "CStreamCore.h"

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

// ---- The least of a control plane

static struct sc_node *node;

static void worker_opened(void *context, uint64_t connection, uint32_t listener, bool telemetry,
                          struct sc_bytes address, struct sc_message *head) {
    (void)context, (void)listener, (void)telemetry, (void)address, (void)head;
    struct sc_bytes id = SC_LITERAL("00000000-0000-4000-8000-000000000000");
    sc_node_admit(node, connection, id, id, false);
}

static void on_message(void *context, uint64_t connection, struct sc_message *message) {
    (void)context, (void)connection, (void)message;
}

static void worker_alive(void *context, uint64_t connection, bool alive) {
    (void)context, (void)connection, (void)alive;
}

static void worker_closed(void *context, uint64_t connection) {
    (void)context, (void)connection;
}

static void undeliverable(void *context, uint64_t executor, struct sc_bytes invocation_id,
                          enum sc_undeliverable reason, uint64_t limit) {
    (void)context, (void)executor, (void)invocation_id, (void)reason, (void)limit;
}

static void on_log(void *context, enum sc_log_level level, const char *event, uint64_t connection,
                   struct sc_bytes detail) {
    (void)context, (void)level, (void)connection, (void)detail;
    fprintf(stderr, "%s\n", event);
}

static void report(void) {
    uint64_t allocated = atomic_load(&allocations);
    struct sc_node_counters counters = sc_node_counters(node);
    printf(
        "{\"allocations\":%llu,\"calls\":%llu,\"deliveries\":%llu,\"turns\":%llu,\"enters\":%llu,"
        "\"sends\":%llu}\n",
        (unsigned long long)allocated, (unsigned long long)counters.calls,
        (unsigned long long)counters.deliveries, (unsigned long long)counters.turns,
        (unsigned long long)counters.enters, (unsigned long long)counters.sends);
    fflush(stdout);
}

int main(void) {
    struct sc_node_config config = sc_node_config_default();
    struct sc_node_address worker = {"127.0.0.1", 0};
    config.shard_count = 1;
    config.stream = worker;
    config.workers = &worker;
    config.worker_count = 1;
    config.seed = 1;
    struct sc_node_events events = {.worker_opened = worker_opened,
                                    .message = on_message,
                                    .worker_alive = worker_alive,
                                    .worker_closed = worker_closed,
                                    .undeliverable = undeliverable,
                                    .log = on_log};
    char reason[256];
    node = sc_node_create(&config, &events);
    if (node == NULL || sc_node_start(node, reason, sizeof reason) < 0) {
        fprintf(stderr, "cost_node: %s\n", node == NULL ? "out of memory" : reason);
        return 1;
    }
    printf("{\"stream_port\":%u,\"worker_port\":%u}\n", sc_node_stream_port(node),
           sc_node_worker_port(node, 0));
    fflush(stdout);
    char line[64];
    while (fgets(line, sizeof line, stdin) != NULL)
        report();
    sc_node_stop(node, 1000);
    sc_node_destroy(node);
    return 0;
}
