// io_uring in memory, for counting: what liburing asks of the kernel is answered from a script, so that a node
// does the same work, to the instruction, in each run. Linked instead of liburing. Peers are this process's
// own; one ring, one thread; time passes only while the node sleeps.
#ifndef SCRIPTED_KERNEL_H
#define SCRIPTED_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#define KERNEL_PEERS_MAX 1024

// ---- What the script provides

/// The node would sleep now: whoever writes the script brings work by the calls below.
void script_next(void);
/// The node sent this to a peer. All of it counts as taken.
void script_sent(uint32_t peer, const uint8_t *data, size_t size);

// ---- What the kernel provides

/// Connects to the `listener`th listener that the node has opened, and returns the new peer's number: 0, 1, ...
uint32_t kernel_connect(uint32_t listener);
/// Gives the node bytes from a peer, in as many receive buffers as they need.
void kernel_deliver(uint32_t peer, const uint8_t *data, size_t size);

struct kernel_counts {
    uint64_t turns;   // Times the node went to sleep.
    uint64_t enters;  // System calls of the ring.
    uint64_t entries; // Submitted, of all kinds.
    uint64_t sends;   // Of them.
};
struct kernel_counts kernel_counts(void);

#endif
