
#include <stdlib.h>

#include "streams.h"

#define FIRST_SLOTS 64u

static struct index_entry *make_slots(uint32_t count) {
    struct index_entry *slots = sc_allocate(count * sizeof *slots);
    memset(slots, 0, count * sizeof *slots);
    return slots;
}

struct subscription_index *sc_index_create(void) {
    struct subscription_index *index = sc_allocate(sizeof *index);
    *index = (struct subscription_index){.slots = make_slots(FIRST_SLOTS), .mask = FIRST_SLOTS - 1};
    return index;
}

void sc_index_destroy(struct subscription_index *index) {
    if (index == NULL)
        return;
    free(index->slots);
    free(index);
}

// The kind is part of the hash: a subscription, a membership and a share may have the same one.
static uint32_t home_of(const struct subscription_index *index, uint32_t kind, uint32_t hash) {
    return (hash + kind * 0x9e3779b9u) & index->mask;
}

static void put(struct subscription_index *index, struct index_entry entry) {
    uint32_t at = home_of(index, entry.kind, entry.hash);
    while (index->slots[at].object != NULL)
        at = (at + 1) & index->mask;
    index->slots[at] = entry;
}

void sc_index_add(struct subscription_index *index, struct index_entry entry) {
    assert(entry.object != NULL);
    uint32_t slots = index->mask + 1;
    if (++index->count > slots / 2) {
        struct index_entry *old = index->slots;
        index->slots = make_slots(2 * slots);
        index->mask = 2 * slots - 1;
        for (uint32_t i = 0; i < slots; i++)
            if (old[i].object != NULL)
                put(index, old[i]);
        free(old);
    }
    put(index, entry);
}

struct index_entry *sc_index_next(struct subscription_index *index, enum index_kind kind,
                                  uint32_t hash, struct index_entry *last) {
    uint32_t at = last == NULL ? home_of(index, kind, hash)
                               : ((uint32_t)(last - index->slots) + 1) & index->mask;
    for (; index->slots[at].object != NULL; at = (at + 1) & index->mask)
        if (index->slots[at].hash == hash && index->slots[at].kind == kind)
            return &index->slots[at];
    return NULL;
}

struct index_entry *sc_index_entry(struct subscription_index *index, enum index_kind kind,
                                   uint32_t hash, const void *object) {
    struct index_entry *entry = sc_index_next(index, kind, hash, NULL);
    while (entry != NULL && entry->object != object)
        entry = sc_index_next(index, kind, hash, entry);
    assert(entry != NULL);
    return entry;
}

// What follows without a gap moves up, as far as its own slot allows.
// What lies behind moves up, so that no gap ends a search too early. No tombstones: connections live long.
void sc_index_remove(struct subscription_index *index, struct index_entry *entry) {
    uint32_t hole = (uint32_t)(entry - index->slots), at = hole;
    for (;;) {
        at = (at + 1) & index->mask;
        struct index_entry *next = &index->slots[at];
        if (next->object == NULL)
            break;
        uint32_t home = home_of(index, next->kind, next->hash);
        if (((at - home) & index->mask) < ((at - hole) & index->mask))
            continue;
        index->slots[hole] = *next;
        hole = at;
    }
    index->slots[hole] = (struct index_entry){0};
    index->count--;
}
