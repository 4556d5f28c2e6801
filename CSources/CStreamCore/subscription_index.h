// An index of what a connection with many subscriptions has: its subscriptions by id, its memberships by topic, and its
// shares in items. A connection with few goes through its lists, and has none.
#ifndef CSTREAM_SUBSCRIPTION_INDEX_H
#define CSTREAM_SUBSCRIPTION_INDEX_H

#include "core_private.h"

#pragma clang assume_nonnull begin

enum index_kind { INDEX_SUBSCRIPTION, INDEX_MEMBERSHIP, INDEX_SHARE };

struct index_entry {
    void *_Nullable object; // NULL: the slot is free.
    void
        *_Nullable previous; // In the list of the membership, or of the connection; shares are in none.
    struct membership *_Nullable membership; // Of a subscription.
    uint32_t hash;
    uint8_t kind;
};

/// Open addressing: an entry lies in the slot that its hash says, or behind it without a gap.
struct subscription_index {
    struct index_entry *slots;
    uint32_t mask, count;
};

struct subscription_index *sc_index_create(void);
void sc_index_destroy(struct subscription_index *_Nullable index);
void sc_index_add(struct subscription_index *index, struct index_entry entry);
/// The entry of an object that is in the index (asserted). Valid until the index changes.
struct index_entry *sc_index_entry(struct subscription_index *index, enum index_kind kind,
                                   uint32_t hash, const void *object);
void sc_index_remove(struct subscription_index *index, struct index_entry *entry);
/// The next entry of this kind and hash behind `last`, from the beginning with NULL.
struct index_entry *_Nullable sc_index_next(struct subscription_index *index, enum index_kind kind,
                                            uint32_t hash, struct index_entry *_Nullable last);

#pragma clang assume_nonnull end

#endif
