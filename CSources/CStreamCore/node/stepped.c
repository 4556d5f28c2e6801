// A node whose shards have no threads. It does what sc_shard_main does on each thread, for all shards in turn; what a thread
// would wait for is done already when its turn comes.
#include <stdio.h>

#include "backend.h"
#include "node.h"

// The loop of the calling thread is that of the shard which is run. A shard that has none yet makes its own.
static void enter(struct shard *shard) {
    (void)sc_loop_make_current(shard->loop);
}

static void leave(void) {
    (void)sc_loop_make_current(NULL);
}

static void step_all(struct sc_node *node, uint32_t step) {
    for (uint32_t i = 0; i < node->shared.shard_count && node->start_error == 0; i++) {
        struct start_failure why;
        enter(node->shared.shards[i]);
        int rc = sc_shard_start_step(node->shared.shards[i], step, &why);
        leave();
        if (rc < 0)
            sc_node_note_failure(node, rc, &why);
    }
}

static void for_all(struct sc_node *node, void (*run)(struct shard *)) {
    for (uint32_t i = 0; i < node->shared.shard_count; i++) {
        enter(node->shared.shards[i]);
        run(node->shared.shards[i]);
        leave();
    }
}

int sc_node_start_stepped(struct sc_node *node, const struct sc_node_stepper *stepper, char *reason,
                          size_t reason_size) {
    assert(!node->running && node->started == 0);
    node->stepper = stepper;
    int rc = node->shared.config.without_ports ? 0 : sc_places_resolve(node);
    for (uint32_t i = 0; i < START_STEPS && rc == 0; i++) {
        step_all(node, i);
        rc = node->start_error;
    }
    node->started = node->shared.shard_count;
    node->running = rc == 0;
    if (rc < 0) {
        for_all(node, sc_shard_abandon);
        for_all(node, sc_shard_tear_down);
        snprintf(reason, reason_size, "%s", node->start_reason);
    }
    return rc;
}

void sc_node_turn(struct sc_node *node, uint32_t shard) {
    enter(node->shared.shards[shard]);
    sc_shard_turn(node->shared.shards[shard]);
    leave();
}

void sc_stepped_end(struct sc_node *node) {
    for_all(node, sc_shard_finish);
    for_all(node, sc_shard_tear_down);
}
