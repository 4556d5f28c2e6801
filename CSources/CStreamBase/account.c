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

void sc_account_hand_over(struct sc_account *account, uint64_t size) {
    if (account == NULL)
        return;
    sc_account_retain(account);
    atomic_fetch_add_explicit(&account->messages, 1, memory_order_relaxed);
    sc_account_charge(account, SC_PLACE_MESSAGES, size);
}

void sc_account_take_back(struct sc_account *account, uint64_t size) {
    if (account == NULL)
        return;
    sc_account_discharge(account, SC_PLACE_MESSAGES, size);
    atomic_fetch_sub_explicit(&account->messages, 1, memory_order_relaxed);
    sc_account_release(account);
}
