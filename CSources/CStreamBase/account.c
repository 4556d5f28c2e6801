#include "account.h"

#include <stdlib.h>

const struct sc_place_row sc_places[SC_PLACE_COUNT] = {
#define ROW(NAME, name, owner, writers, setting, at_limit, counter)                                \
    [SC_PLACE_##NAME] = {#name, setting, at_limit, counter, SC_OWNER_##owner, SC_WRITERS_##writers},
    SC_PLACES(ROW)};

const struct sc_place_row *sc_place_row(enum sc_place place) {
    assert(place < SC_PLACE_COUNT);
    return &sc_places[place];
}

struct sc_account_sums *sc_account_sums_create(void) {
    struct sc_account_sums *sums = calloc(1, sizeof *sums);
    if (sums != NULL)
        atomic_init(&sums->references, 1);
    return sums;
}

void sc_account_sums_release(struct sc_account_sums *sums) {
    if (sums != NULL && atomic_fetch_sub_explicit(&sums->references, 1, memory_order_acq_rel) == 1)
        free(sums);
}

uint64_t sc_account_sums_bytes(const struct sc_account_sums *sums, enum sc_place place) {
    return atomic_load_explicit(&sums->bytes[place], memory_order_relaxed);
}

struct sc_account *sc_account_create(uint64_t limit, struct sc_account_sums *sums) {
    struct sc_account *account = calloc(1, sizeof *account);
    if (account == NULL)
        return NULL;
    atomic_init(&account->references, 1);
    account->limit = limit;
    account->sums = sums;
    atomic_fetch_add_explicit(&sums->references, 1, memory_order_relaxed);
    return account;
}

void sc_account_release(struct sc_account *account) {
    if (account == NULL ||
        atomic_fetch_sub_explicit(&account->references, 1, memory_order_acq_rel) > 1)
        return;
    assert(sc_account_total(account) == 0);
    sc_account_sums_release(account->sums);
    free(account);
}

// Answers are kept for one another, so they are no reason for what has none to wait, nor for the one that they wait for.
static bool lets_start(const struct sc_account *account, struct sc_account_call call) {
    if (sc_account_state(account) != SC_ACCOUNT_OPEN ||
        sc_account_outgoing(account) <= account->limit)
        return true;
    bool awaited = atomic_load_explicit(&account->next_answer, memory_order_relaxed) == call.slot;
    return (!call.answers || awaited) &&
           sc_account_outgoing(account) - sc_account_bytes(account, SC_PLACE_ANSWERS) <=
               account->limit;
}

// Either the one who waits sees what was discharged, or the one who discharges sees who waits.
bool sc_account_lets_start(struct sc_account *account, struct sc_account_call call,
                           uint32_t shard) {
    if (account == NULL || lets_start(account, call))
        return true;
    atomic_fetch_or_explicit(&account->waiting, UINT64_C(1) << shard, memory_order_seq_cst);
    atomic_thread_fence(memory_order_seq_cst);
    return lets_start(account, call);
}

uint64_t sc_account_take_waiting(struct sc_account *account) {
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load_explicit(&account->waiting, memory_order_relaxed) == 0 ||
        !lets_start(account, (struct sc_account_call){0}))
        return 0;
    return atomic_exchange_explicit(&account->waiting, 0, memory_order_acq_rel);
}

uint64_t sc_account_answer_next(struct sc_account *account, uint32_t slot) {
    atomic_store_explicit(&account->next_answer, slot, memory_order_relaxed);
    if (sc_account_outgoing(account) <= account->limit)
        return 0; // Waiting calls hear of the room.
    atomic_thread_fence(memory_order_seq_cst);
    return atomic_exchange_explicit(&account->waiting, 0, memory_order_acq_rel);
}

void sc_account_hand_over(struct sc_account *account, enum sc_place place, uint64_t size) {
    if (account == NULL)
        return;
    sc_account_retain(account);
    if (place == SC_PLACE_MESSAGES)
        atomic_fetch_add_explicit(&account->messages, 1, memory_order_relaxed);
    sc_account_charge(account, place, size);
}

void sc_account_take_back(struct sc_account *account, enum sc_place place, uint64_t size) {
    if (account == NULL)
        return;
    sc_account_discharge(account, place, size);
    if (place == SC_PLACE_MESSAGES)
        atomic_fetch_sub_explicit(&account->messages, 1, memory_order_relaxed);
    sc_account_release(account);
}
