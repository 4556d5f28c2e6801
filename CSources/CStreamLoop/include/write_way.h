// Which of two ways whole pages are written, decided by how long writes take. The times are passed in.
//
// - Synced: the write carries RWF_DSYNC. One entry and the fastest, but a thread of the kernel's that is bound to one
//   processor flushes the disk: while others keep that processor busy, each write waits for a tick of the scheduler.
// - Linked: an fdatasync follows the write. It waits for no such thread, and takes longer on a quiet machine.
#ifndef CSTREAM_WRITE_WAY_H
#define CSTREAM_WRITE_WAY_H

#include "CStreamBase.h"

#pragma clang assume_nonnull begin

enum sc_write_way_state {
    SC_WAY_FLUSHED,
    SC_WAY_TRIAL, // The next write is linked: is it faster?
    SC_WAY_LINKED,
};

/// Zeros: the synced way, nothing known yet.
struct sc_write_way {
    enum sc_write_way_state state;
    // SC_WAY_LINKED: then the synced way is tried again. SC_WAY_FLUSHED: then there may be a trial.
    uint32_t writes_left;
    uint32_t kept;     // Writes that the linked way was kept for last.
    uint32_t in_time;  // Synced ones in time since. As many forget it.
    uint64_t late_ns;  // SC_WAY_TRIAL: what the late write took.
    uint64_t switches; // To the linked way, and back to try the synced one again.
};

/// Whether the next write is linked.
bool sc_write_way_next(struct sc_write_way *way);
/// A write of `size` bytes has succeeded.
void sc_write_way_took(struct sc_write_way *way, bool linked, uint32_t size, uint64_t took_ns);

#pragma clang assume_nonnull end

#endif
