// Lists of what waits. Each has one owner, who made it, and one place that wakes it: what waits is in one list at most,
// and knows in which.
#ifndef CSTREAM_WAIT_LIST_H
#define CSTREAM_WAIT_LIST_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma clang assume_nonnull begin

struct sc_wait_list;

/// Embedded in what may wait. All zero waits for nothing.
struct sc_wait_node {
    struct sc_wait_node *_Nullable next;
    struct sc_wait_node *_Nullable previous;
    struct sc_wait_list *_Nullable list;
};

/// In the order in which they came. All zero is an empty one. It does not move while anything waits.
///
/// Thread: that of its owner.
struct sc_wait_list {
    const char *_Nullable name; // Of what is waited for: for who looks at it in a debugger.
    struct sc_wait_node *_Nullable first;
    struct sc_wait_node *_Nullable last;
    uint32_t count;
};

static inline bool sc_wait_list_is_empty(const struct sc_wait_list *list) {
    return list->first == NULL;
}
/// Whether the node waits, in this list or another.
static inline bool sc_wait_node_waits(const struct sc_wait_node *node) {
    return node->list != NULL;
}

/// Puts the node, which waits nowhere (asserted), behind the others.
void sc_wait_list_add(struct sc_wait_list *list, struct sc_wait_node *node);
/// The same in front of them: what was taken and has to wait on keeps its place.
void sc_wait_list_add_first(struct sc_wait_list *list, struct sc_wait_node *node);
/// Takes the node out of the list in which it waits; nothing if it waits nowhere.
void sc_wait_list_remove(struct sc_wait_node *node);
/// Takes the first. NULL: nothing waits.
struct sc_wait_node *_Nullable sc_wait_list_take(struct sc_wait_list *list);

/// Takes those that wait now, one after the other, at most `most`, and calls `wake` with each, which may free it, and may
/// add to the list or remove from it. One for which `wake` returns false waits on, behind the others. Returns how
/// many were woken for good.
uint32_t sc_wait_list_wake(struct sc_wait_list *list, uint32_t most,
                           bool (*wake)(struct sc_wait_node *node, void *_Nullable context),
                           void *_Nullable context);

#pragma clang assume_nonnull end

#endif
