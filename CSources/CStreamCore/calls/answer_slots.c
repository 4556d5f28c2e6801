// The answers to a caller's calls, in the order of the calls: one that is ready before its turn waits for those before it.
#include <stdlib.h>

#include "calls.h"

// A power of two, by whose mask slots are found. A caller with one call under way, as most have, never has a ring.
static void answers_grow(struct caller *caller) {
    uint32_t capacity = caller->slots == NULL ? 0 : caller->slot_mask + 1;
    uint32_t larger = capacity == 0 ? 16 : capacity * 2;
    struct answer_slot *slots = sc_allocate(larger * sizeof *slots);
    memset(slots, 0, larger * sizeof *slots);
    for (uint32_t i = caller->slot_head; capacity > 0 && i != caller->slot_tail; i++)
        slots[i & (larger - 1)] = caller->slots[i & caller->slot_mask];
    free(caller->slots);
    caller->slots = slots;
    caller->slot_mask = larger - 1;
}

// Numbers count up for ever and wrap: only their difference matters.
uint32_t sc_answer_begin(struct caller *caller) {
    uint32_t waiting = caller->slot_tail - caller->slot_head;
    if (waiting > 0 && (caller->slots == NULL || waiting > caller->slot_mask))
        answers_grow(caller);
    return caller->slot_tail++;
}

static void answer_keep(struct caller *caller, uint32_t number, struct slice slice) {
    struct answer_slot *slot = &caller->slots[number & caller->slot_mask];
    assert(!slot->ready);
    *slot = (struct answer_slot){true, slice};
    sc_account_charge(caller->connection.account, SC_PLACE_ANSWERS, slice.size);
    if (slice.chunk != NULL)
        sc_slice_retain(slice);
}

// The next answer is awaited: whoever is to make it may be waiting for room.
static void answer_left(struct caller *caller) {
    struct sc_account *account = caller->connection.account;
    uint32_t next = ++caller->slot_head;
    uint64_t waiting = sc_account_answer_next(account, next);
    if (waiting != 0)
        sc_shards_wake(connection_shard(&caller->connection), waiting);
}

// Hands out the answers that had to wait for the one before them.
static void answers_follow(struct caller *caller) {
    while (caller->slot_head != caller->slot_tail) {
        struct answer_slot *slot = &caller->slots[caller->slot_head & caller->slot_mask];
        if (!slot->ready)
            return;
        if (slot->slice.chunk != NULL)
            sc_out_append(&caller->connection, slot->slice);
        sc_account_discharge(caller->connection.account, SC_PLACE_ANSWERS, slot->slice.size);
        sc_slice_release(connection_shard(&caller->connection), slot->slice);
        *slot = (struct answer_slot){0};
        answer_left(caller);
    }
}

// An answer without a chunk, whose memory was out, ends its slot: the next ones must not wait for ever.
void sc_answer_end(struct caller *caller, uint32_t slot, struct slice slice) {
    if (slot != caller->slot_head) {
        answer_keep(caller, slot, slice);
        return;
    }
    if (slice.chunk != NULL)
        sc_out_append(&caller->connection, slice);
    answer_left(caller);
    if (caller->slot_head != caller->slot_tail)
        answers_follow(caller);
}

// Those that are still awaited find no caller when they come.
void sc_answers_drop(struct caller *caller) {
    for (uint32_t i = caller->slot_head; caller->slots != NULL && i != caller->slot_tail; i++) {
        struct slice slice = caller->slots[i & caller->slot_mask].slice;
        sc_account_discharge(caller->connection.account, SC_PLACE_ANSWERS, slice.size);
        sc_slice_release(connection_shard(&caller->connection), slice);
    }
    free(caller->slots);
    caller->slots = NULL;
}
