// What is held against what. The first subscriber of each group, which is there before any change, says what the order of
// its changes is; every other connection is held to that order, and so are the answers of the calls.
#ifndef NODE_SIMULATOR_CHECKER_H
#define NODE_SIMULATOR_CHECKER_H

#include "CNodeSimulator.h"

#pragma clang assume_nonnull begin

#define GROUPS_MAX 3u
#define ITEMS_MAX 64u
#define NO_ITEM UINT32_MAX
#define NONE 0u // No value. Values are numbers from 1 on; the item is the number modulo ITEMS_MAX.

enum change_kind { CHANGE_SET, CHANGE_DELETE, CHANGE_CUSTOM };

/// One event, as a client sees it.
struct event {
    enum change_kind kind;
    bool creates;
    uint32_t item;   // NO_ITEM: a custom event of the group.
    uint64_t number; // Of the value; of a deletion: the old value's.
    uint64_t stamp;
};

/// An event of the order of a group.
struct entry {
    struct event event;
    uint64_t before;           // The item's value then.
    uint32_t customs, changes; // Before this one, in the group.
};

/// What the `sync` of a group said, to be found in the order.
struct seen_sync {
    uint64_t *_Nullable values;
    uint32_t count;
    uint64_t least;  // It is of a time when so many entries were there,
    uint64_t before; // and of before this entry. UINT64_MAX: nothing has come since.
    const char *who;
    uint32_t client;
};

struct history {
    struct entry *_Nullable entries;
    uint64_t count, capacity;
    uint64_t values[ITEMS_MAX]; // Now.
    uint32_t customs, changes;
    struct seen_sync *_Nullable syncs;
    uint32_t sync_count, sync_capacity;
};

/// What the client that sees a number may say of it: where it is in the order, plus 1. By kind of change.
struct number {
    uint32_t group;
    uint64_t at[3];
    uint8_t call; // enum call_state
    uint64_t old; // By the answer.
    bool old_known;
};

struct item_view {
    bool known;     // The client has its state, and has had all changes since.
    bool ever;      // It has subscribed to it.
    uint64_t value; // That state.
    uint64_t stamp; // Of the last frame with this item.
    uint32_t subscriptions;
    uint64_t shown; // As `shown` of the view.
    /// A function has made its `sync`. Its events may have waited for that while those of other items came, so that it has
    /// a place in the order of its own.
    bool made;
    uint64_t next;
};

/// A join that has not been answered.
struct pending_join {
    uint32_t id, item;
    bool left;         // It has been left again meanwhile, or another join has its id.
    bool unanswered;   // Its function has failed: no `sync` comes.
    uint32_t replaces; // What its id was of before, as in `ids`.
};
#define PENDING_JOINS_MAX 16u

/// One connection in one group.
struct view {
    uint32_t client, group;
    bool orders;   // It is the one that the order is taken from.
    uint64_t next; // At least this entry comes next.
    bool synced;   // Since the last event: what changed before the `sync` is in it.
    /// Custom events that were written from here on come. UINT64_MAX: it is not in the whole group, and nothing need come.
    uint64_t strict_from;
    bool ever;              // It has subscribed to the whole group.
    uint32_t subscriptions; // Of the whole group.
    /// Of a `sync` that a function has made: it shows so many changes of the group. The first of those that follow may be
    /// among them.
    uint64_t shown;
    struct item_view items[ITEMS_MAX];
    struct pending_join pending[PENDING_JOINS_MAX];
    uint32_t pending_count;
    uint32_t ids[4];    // By id of a subscription: 0 none, 1 the group, 2 + item.
    uint32_t open_sync; // Plus 1: of `syncs`, after which nothing has come.
};

struct checker {
    struct history groups[GROUPS_MAX];
    uint32_t group_count;
    struct number *_Nullable numbers;
    uint64_t number_count, number_capacity;
    struct node_simulator_result *result;
    char *message;
    size_t message_size;
    uint64_t seed, step;
    char about[64]; // What the seed has made of it, for failures.
    /// How often a client has got a newer `sync` in place of events that had gone. What was sent is lost with them.
    uint64_t gaps;
    bool failed, verbose;
};

__attribute__((format(printf, 2, 3))) void violated(struct checker *checker, const char *format,
                                                    ...);
/// What happens, for who looks at one seed.
__attribute__((format(printf, 2, 3))) void said(const struct checker *checker, const char *format,
                                                ...);
/// A new number for a change of this group.
uint64_t checker_number(struct checker *checker, uint32_t group, uint32_t item);
/// An event has come. False: the order does not have it yet, and it has to be shown again later.
bool checker_event(struct checker *checker, struct view *view, const struct event *event);
#define OF_STORE UINT64_MAX
/// A `sync` has come: `values` of the group, or of one item, at most one. `shown`: OF_STORE, or how many changes of the
/// group one that a function has made shows.
void checker_sync(struct checker *checker, struct view *view, uint32_t item, uint64_t stamp,
                  uint64_t shown, const uint64_t *values, uint32_t count);
/// The oldest join that waits is refused.
void checker_refused(struct checker *checker, struct view *view, uint32_t item);
/// The function that is to make the `sync` of a join with this id fails: nothing is expected of the subscription. False: it
/// is not clear which join it is.
bool checker_unanswered(struct view *view, uint32_t id);
/// The connection has asked for this.
void checker_join(struct checker *checker, struct view *view, uint32_t id, uint32_t item);
void checker_leave(struct checker *checker, struct view *view, uint32_t id);
/// A list was answered: the state of some time since there were `least` entries.
void checker_list(struct checker *checker, uint32_t group, uint32_t client, uint64_t least,
                  const uint64_t *values, uint32_t count);
/// All is quiet: what has not come by now is missing.
void checker_end_view(struct checker *checker, const struct view *view);
void checker_end(struct checker *checker);
void checker_free(struct checker *checker);

/// A group's items in their order.
struct group_state {
    uint64_t values[ITEMS_MAX];
    uint32_t count;
};
void group_state_apply(struct group_state *state, const struct event *event);
/// The item's value, or NONE.
uint64_t group_state_value(const struct group_state *state, uint32_t item);

#pragma clang assume_nonnull end

#endif
