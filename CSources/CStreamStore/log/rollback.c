// The rollback of changes that could not be written. Names are copied, not pointed to: groups and items come
// and go in between.
#include <errno.h>
#include <stdlib.h>

#include "log.h"

// Entries go in front and come behind: the array is moved down when half of it is free, and doubled when it is not.
int sc_rollback_reserve(struct rollback *list, size_t names) {
    if (list->first + list->count == list->capacity) {
        if (list->first > list->capacity / 2) {
            memmove(list->entries, list->entries + list->first,
                    list->count * sizeof *list->entries);
        } else {
            size_t capacity = list->capacity == 0 ? 256 : list->capacity * 2;
            struct rollback_entry *entries = malloc(capacity * sizeof *entries);
            if (entries == NULL)
                return -ENOMEM;
            if (list->count > 0)
                memcpy(entries, list->entries + list->first, list->count * sizeof *entries);
            free(list->entries);
            list->entries = entries;
            list->capacity = capacity;
        }
        list->first = 0;
    }
    if (list->names.size + names > UINT32_MAX)
        return -ENOBUFS;
    if (names > 0 && sc_buffer_reserve(&list->names, names) == NULL) {
        list->names.failed = false; // Its contents stay.
        return -ENOMEM;
    }
    return 0;
}

void sc_rollback_push(struct rollback *list, const struct sc_group_name *name, struct sc_bytes item,
                      uint64_t position, struct sc_blob *old, uint64_t created_at) {
    assert(list->first + list->count < list->capacity);
    struct rollback_entry *entry = &list->entries[list->first + list->count++];
    *entry = (struct rollback_entry){.position = position,
                                     .old = old == NULL ? NULL : sc_blob_retain(old),
                                     .created_at = created_at,
                                     .name_offset = (uint32_t)list->names.size,
                                     .stream_size = (uint16_t)name->stream.size,
                                     .group_size = (uint16_t)name->group.size,
                                     .item_size = (uint16_t)item.size};
    list->value_bytes += old == NULL ? 0 : old->size;
    sc_buffer_append_bytes(&list->names, name->stream);
    sc_buffer_append_bytes(&list->names, name->group);
    sc_buffer_append_bytes(&list->names, item);
    assert(!list->names.failed);
}

// Offsets of names are 32 bits: those of entries that are gone do not stay in front of the others for ever.
static void drop_names_before(struct rollback *list, uint32_t offset) {
    struct sc_buffer *names = &list->names;
    if (offset < names->size / 2)
        return; // Moved when at least as much goes as stays.
    memmove(names->data, names->data + offset, names->size - offset);
    names->size -= offset;
    for (size_t i = 0; i < list->count; i++)
        list->entries[list->first + i].name_offset -= offset;
}

// With every batch: what it has changed needs no way back.
void sc_rollback_forget(struct rollback *list, uint64_t position) {
    while (list->count > 0 && list->entries[list->first].position <= position) {
        struct sc_blob *old = list->entries[list->first].old;
        list->value_bytes -= old == NULL ? 0 : old->size;
        sc_blob_release(old);
        list->first++;
        list->count--;
    }
    if (list->count == 0)
        list->first = list->names.size = 0;
    else
        drop_names_before(list, list->entries[list->first].name_offset);
}

static struct sc_group_name name_of(const struct rollback *list, const struct rollback_entry *entry,
                                    uint64_t seed) {
    const uint8_t *names = list->names.data + entry->name_offset;
    struct sc_group_name name = {.stream = {names, entry->stream_size},
                                 .group = {names + entry->stream_size, entry->group_size}};
    name.hash = sc_store_hash(name.stream, name.group, seed);
    return name;
}

// Later changes of the same item were taken back before: the entry finds the item as its change has left it.
static void roll_back(const struct rollback *list, const struct rollback_entry *entry,
                      struct sc_store *store) {
    struct sc_group_name name = name_of(list, entry, store->seed);
    struct sc_bytes item = {name.group.data + entry->group_size, entry->item_size};
    if (entry->old == NULL)
        sc_store_remove(store, &name, item);
    else if (sc_store_restore(store, &name, item, entry->old, entry->created_at) < 0)
        abort(); // Out of memory with a store that is half taken back.
    sc_blob_release(entry->old);
}

// Each group is put in order once, when all of its items are back: to look for the right neighbour of each would take a time
// that grows with the square of their number.
void sc_rollback_apply(struct rollback *list, struct sc_store *store) {
    for (size_t i = list->count; i > 0; i--)
        roll_back(list, &list->entries[list->first + i - 1], store);
    for (size_t i = 0; i < list->count; i++) {
        struct sc_group_name name = name_of(list, &list->entries[list->first + i], store->seed);
        sc_store_order(store, &name);
    }
    list->first = list->count = list->names.size = 0;
    list->value_bytes = 0;
}

void sc_rollback_deinit(struct rollback *list) {
    for (size_t i = 0; i < list->count; i++)
        sc_blob_release(list->entries[list->first + i].old);
    free(list->entries);
    sc_buffer_deinit(&list->names);
}
