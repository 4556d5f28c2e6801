#include "plane.h"

#include <stdio.h>
#include <stdlib.h>

static struct sc_node *node;

static void worker_opened(void *context, uint64_t connection, uint32_t listener, bool telemetry,
                          struct sc_bytes address, uint64_t message_size_max,
                          struct sc_message *head) {
    (void)context, (void)listener, (void)telemetry, (void)address, (void)message_size_max,
        (void)head;
    struct sc_bytes id = SC_LITERAL("00000000-0000-4000-8000-000000000000");
    sc_node_admit(node, connection, id, id, false, 0);
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

struct sc_node *plane_start(void) {
    struct sc_node_config config = sc_node_config_default();
    struct sc_node_address worker = {.host = "127.0.0.1", .budget = 64u << 20};
    config.shard_count = 1;
    config.stream.port = 0;
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
        fprintf(stderr, "the node did not start: %s\n", node == NULL ? "out of memory" : reason);
        exit(1);
    }
    return node;
}
