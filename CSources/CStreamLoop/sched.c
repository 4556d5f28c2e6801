// How a loop's thread shares its processor with the kernel's own threads, which bring writes to an end, flush the disk
// and wake who waits for it. One that is woken on this processor runs when this thread sleeps, at a tick of the clock (4 ms
// at 250 Hz), or, if its slice is shorter than this thread's, as soon as this thread leaves the kernel (EEVDF, Linux
// 6.12). Theirs is the scheduler's base slice, up to 3 ms where nobody has set it.
#define _GNU_SOURCE // syscall()
#include "backend.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

// sched_setattr(2). The C library has it since 2.41, and the kernel's header does not go with an older one's.
struct attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime; // Of SCHED_OTHER: the slice, in ns.
    uint64_t deadline, period;
};

#define RESET_ON_FORK 1u // SCHED_FLAG_RESET_ON_FORK

void sc_sched_give_way(uint32_t slice_us) {
    struct attributes own = {0};
    if (syscall(SYS_sched_getattr, 0, &own, sizeof own, 0) != 0 || own.policy != SCHED_OTHER ||
        own.runtime >= slice_us * 1000ull)
        return;
    own.runtime = slice_us * 1000ull;
    // The ring's workers, which this thread starts, are among those that it gives way to. With it they would lose
    // a niceness below 0.
    if (own.nice >= 0)
        own.flags |= RESET_ON_FORK;
    (void)syscall(SYS_sched_setattr, 0, &own, 0); // An older kernel takes no notice.
}
