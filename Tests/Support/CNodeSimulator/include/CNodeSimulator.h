// A whole node on one thread: its shards run a turn each when the simulator says so, over sockets, a clock and a disk of
// memory. Clients join, leave, write and read slowly; batches fail; everything that could go either way is decided by the
// seed. At each step every client is held to what a subscriber is promised: a `sync`, then exactly the later changes, each
// once, in one order, with growing time stamps.
#ifndef C_NODE_SIMULATOR_H
#define C_NODE_SIMULATOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

/// What a run is about. The seed decides all else.
enum node_simulator_theme {
    NODE_SIMULATOR_ANY, // One of those below, by the seed.
    NODE_SIMULATOR_JOINS, // Small groups of the store or a function, clients that come and go all the time.
    NODE_SIMULATOR_LARGE,  // Groups whose `sync` is made in steps.
    NODE_SIMULATOR_FAULTS, // Groups on a disk that fails.
};

/// What is done to a frame on its way, so that a test sees that it would be noticed.
enum node_simulator_harm {
    NODE_SIMULATOR_UNHARMED,
    NODE_SIMULATOR_DROPS,   // An event does not come.
    NODE_SIMULATOR_REPEATS, // It comes twice.
    NODE_SIMULATOR_SWAPS,   // It comes after the next one.
    NODE_SIMULATOR_FORGETS, // The last item of a `sync` is missing.
};

struct node_simulator_config {
    uint64_t seed;
    enum node_simulator_theme theme;
    uint32_t steps; // 0: by the seed.
    enum node_simulator_harm harm;
    bool verbose; // Says on standard error what happens.
};

struct node_simulator_result {
    uint64_t steps, turns;
    uint64_t changes, events, syncs, joins, leaves; // That clients have seen or done.
    uint64_t resyncs;     // Of those syncs: of a group that the connection was in already.
    uint64_t rolled_back; // Answers of changes that the disk did not take.
    uint64_t refused;     // Joins: by a handler, or because the `sync` is too large.
    uint64_t made_syncs;  // By a function.
    uint64_t large_syncs, slow_closed, delayed_sends;
    uint64_t harmed; // Frames.
    uint64_t trace; // A hash of all bytes that the node sent, and when: the same for the same seed.
};

/// 0, or 1 with what went wrong in `message`, the seed in front.
int node_simulator_run(const struct node_simulator_config *config,
                       struct node_simulator_result *result, char *message, size_t message_size);

#pragma clang assume_nonnull end

#endif
