// When receives take so long that others wait: see struct sc_contention.
#include "loop_private.h"

static uint64_t elapsed_us(const struct sc_loop *loop) {
    return (sc_now_ns(loop) - loop->monotonic_ns) / 1000u;
}

void sc_contention_look(struct sc_loop *loop) {
    struct sc_contention *contention = &loop->contention;
    contention->next_look = contention->received + SC_CONTENTION_LOOK_BYTES;
    if (elapsed_us(loop) < loop->config.contended_us)
        return;
    contention->contended = true;
    contention->calm_turns = 0;
}

void sc_contention_end_turn(struct sc_loop *loop) {
    struct sc_contention *contention = &loop->contention;
    loop->counters.turns_contended++;
    if (elapsed_us(loop) > loop->config.contended_us / 4)
        contention->calm_turns = 0;
    else if (++contention->calm_turns >= SC_CONTENTION_CALM_TURNS)
        contention->contended = false;
}
