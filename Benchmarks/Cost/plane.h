// The least of a control plane, for a node of the C core alone: every worker is let in at once, as by one
// without rules.
#ifndef COST_PLANE_H
#define COST_PLANE_H

#include "CStreamCore.h"

/// Starts a node of one shard, in memory, on ports of loopback that the kernel picks. Ends the process with a
/// sentence when that fails.
struct sc_node *plane_start(void);

#endif
