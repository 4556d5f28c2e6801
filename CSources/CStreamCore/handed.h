// How many messages of one connection the control plane has in hand: shared by the connection and those
// messages, which may outlive it. The connection's own hold counts as one.
#ifndef CSTREAM_CORE_HANDED_H
#define CSTREAM_CORE_HANDED_H

#include <stdlib.h>

#include "CStreamBase.h"

#pragma clang assume_nonnull begin

struct handed {
    _Atomic uint32_t count;
};

static inline void handed_retain(struct handed *_Nullable handed) {
    if (handed != NULL)
        atomic_fetch_add_explicit(&handed->count, 1, memory_order_relaxed);
}

/// Whoever takes it to zero frees it.
static inline void handed_release(struct handed *_Nullable handed) {
    if (handed != NULL && atomic_fetch_sub_explicit(&handed->count, 1, memory_order_acq_rel) == 1)
        free(handed);
}

#pragma clang assume_nonnull end

#endif
