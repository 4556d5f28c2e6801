#include "loop_private.h"

#include <stdlib.h>

// Doubles, since tables are large only where there are many connections, and those came one by one.
static bool grow(struct sc_slots *slots) {
    uint32_t capacity = slots->capacity == 0 ? 64 : slots->capacity * 2;
    if (capacity > slots->count_max)
        capacity = slots->count_max;
    struct sc_slot *entries = sc_array_grow(slots->entries, slots->capacity * sizeof *entries,
                                            capacity * sizeof *entries);
    if (entries == NULL)
        return false;
    slots->entries = entries;
    slots->capacity = capacity;
    return true;
}

// Slots that were given back come first: the table stays as small as the most that were open at a time.
int sc_slot_take(struct sc_loop *loop, void *owner, uint32_t *out) {
    struct sc_slots *slots = &loop->slots;
    if (slots->used == slots->count_max)
        return -ENFILE;
    if (slots->free_head == SC_SLOT_NONE && slots->fresh == slots->capacity && !grow(slots))
        return -ENOMEM;
    uint32_t index = slots->free_head;
    if (index == SC_SLOT_NONE) {
        // Memory behind it is left alone: a table that has doubled costs what is used of it.
        index = slots->fresh++;
        slots->entries[index] = (struct sc_slot){.next = SC_SLOT_NONE};
    }
    struct sc_slot *slot = &slots->entries[index];
    assert(slot->owner == NULL);
    slots->free_head = slot->next;
    slots->used++;
    slot->owner = owner;
    slot->next = slot->prev = SC_SLOT_NONE;
    *out = index;
    return 0;
}

struct sc_slot *sc_loop_slot(struct sc_loop *loop, uint32_t slot) {
    assert(slot < loop->slots.fresh);
    return &loop->slots.entries[slot];
}

// The generation tells the next owner from this one, whose completions may still come.
void sc_slot_give(struct sc_loop *loop, uint32_t index) {
    struct sc_slots *slots = &loop->slots;
    assert(index < slots->fresh && slots->used > 0);
    struct sc_slot *slot = &slots->entries[index];
    assert(slot->owner != NULL);
    slot->owner = NULL;
    slot->generation++;
    slot->prev = SC_SLOT_NONE;
    slot->next = slots->free_head;
    slots->free_head = index;
    slots->used--;
}

// NULL: it has gone, and the completion is nobody's.
void *sc_slot_owner(const struct sc_loop *loop, uint64_t tag) {
    uint32_t index = (uint32_t)tag;
    uint16_t generation = (uint16_t)(tag >> 32);
    if (index >= loop->slots.fresh)
        return NULL;
    const struct sc_slot *slot = &loop->slots.entries[index];
    return slot->generation == generation ? slot->owner : NULL;
}

// A slot is in one list at most, so its links are part of it, and a list costs nothing.
void sc_slot_list_append(struct sc_loop *loop, struct sc_slot_list *list, uint32_t index) {
    struct sc_slot *slot = &loop->slots.entries[index];
    assert(slot->next == SC_SLOT_NONE && slot->prev == SC_SLOT_NONE && list->head != index);
    slot->prev = list->tail;
    if (list->tail == SC_SLOT_NONE)
        list->head = index;
    else
        loop->slots.entries[list->tail].next = index;
    list->tail = index;
    list->count++;
}

void sc_slot_list_remove(struct sc_loop *loop, struct sc_slot_list *list, uint32_t index) {
    struct sc_slot *slot = &loop->slots.entries[index];
    assert(list->count > 0);
    if (slot->prev == SC_SLOT_NONE) {
        assert(list->head == index);
        list->head = slot->next;
    } else {
        loop->slots.entries[slot->prev].next = slot->next;
    }
    if (slot->next == SC_SLOT_NONE) {
        assert(list->tail == index);
        list->tail = slot->prev;
    } else {
        loop->slots.entries[slot->next].prev = slot->prev;
    }
    slot->next = slot->prev = SC_SLOT_NONE;
    list->count--;
}
