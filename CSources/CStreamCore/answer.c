// The answers to a worker's calls, in the order of the calls: one that is ready before its turn waits for those before it.
#include <stdlib.h>

#include "core_functions.h"

static void answers_grow(struct worker *worker) {
    uint32_t capacity = worker->answers == NULL ? 0 : worker->answer_mask + 1;
    uint32_t larger = capacity == 0 ? 16 : capacity * 2;
    struct answer_slot *slots = sc_allocate(larger * sizeof *slots);
    memset(slots, 0, larger * sizeof *slots);
    for (uint32_t i = worker->answer_head; capacity > 0 && i != worker->answer_tail; i++)
        slots[i & (larger - 1)] = worker->answers[i & worker->answer_mask];
    free(worker->answers);
    worker->answers = slots;
    worker->answer_mask = larger - 1;
}

uint32_t sc_worker_answer_begin(struct connection *connection) {
    struct worker *worker = worker_of(connection);
    uint32_t waiting = worker->answer_tail - worker->answer_head;
    if (waiting > 0 && (worker->answers == NULL || waiting > worker->answer_mask))
        answers_grow(worker);
    return worker->answer_tail++;
}

static void answer_keep(struct connection *connection, uint32_t place, struct slice slice) {
    struct worker *worker = worker_of(connection);
    struct answer_slot *slot = &worker->answers[place & worker->answer_mask];
    assert(!slot->ready);
    *slot = (struct answer_slot){true, slice};
    sc_account_charge(connection->account, SC_PLACE_ANSWERS, slice.size);
    if (slice.chunk != NULL)
        sc_slice_retain(slice);
}

// The next answer is awaited: whoever is to make it may be waiting for room.
static void answer_left(struct connection *connection) {
    struct sc_account *account = connection->account;
    uint32_t next = ++worker_of(connection)->answer_head;
    uint64_t waiting = sc_account_answer_next(account, next);
    if (waiting != 0)
        sc_shards_wake(connection_shard(connection), waiting);
}

// Hands out the answers that had to wait for the one before them.
static void answers_follow(struct connection *connection) {
    struct worker *worker = worker_of(connection);
    while (worker->answer_head != worker->answer_tail) {
        struct answer_slot *slot = &worker->answers[worker->answer_head & worker->answer_mask];
        if (!slot->ready)
            return;
        if (slot->slice.chunk != NULL)
            sc_out_append(connection, slot->slice);
        sc_account_discharge(connection->account, SC_PLACE_ANSWERS, slot->slice.size);
        sc_slice_release(connection_shard(connection), slot->slice);
        *slot = (struct answer_slot){0};
        answer_left(connection);
    }
}

void sc_worker_answer_end(struct connection *connection, uint32_t place, struct slice slice) {
    struct worker *worker = worker_of(connection);
    if (place != worker->answer_head) {
        answer_keep(connection, place, slice);
        return;
    }
    if (slice.chunk != NULL)
        sc_out_append(connection, slice);
    answer_left(connection);
    if (worker->answer_head != worker->answer_tail)
        answers_follow(connection);
}

void sc_worker_answers_drop(struct connection *connection) {
    struct worker *worker = worker_of(connection);
    for (uint32_t i = worker->answer_head; worker->answers != NULL && i != worker->answer_tail;
         i++) {
        struct slice slice = worker->answers[i & worker->answer_mask].slice;
        sc_account_discharge(connection->account, SC_PLACE_ANSWERS, slice.size);
        sc_slice_release(connection_shard(connection), slice);
    }
    free(worker->answers);
    worker->answers = NULL;
}
