#include "checker.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void violated(struct checker *checker, const char *format, ...) {
    if (!checker->failed) {
        int size = snprintf(checker->message, checker->message_size,
                            "seed %llu, step %llu: ", (unsigned long long)checker->seed,
                            (unsigned long long)checker->step);
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(checker->message + size, checker->message_size - (size_t)size, format, arguments);
        va_end(arguments);
    }
    checker->failed = true;
}

static void *grow(void *array, uint64_t size) {
    array = realloc(array, size);
    if (array == NULL)
        abort();
    return array;
}

uint64_t checker_number(struct checker *checker, uint32_t group, uint32_t item) {
    uint64_t serial = checker->number_count++;
    if (serial == checker->number_capacity) {
        checker->number_capacity = checker->number_capacity == 0 ? 256 : 2 * serial;
        checker->numbers =
            grow(checker->numbers, checker->number_capacity * sizeof *checker->numbers);
    }
    checker->numbers[serial] = (struct number){.group = group};
    return (serial + 1) * ITEMS_MAX + (item == NO_ITEM ? 0 : item);
}

static struct number *number_of(struct checker *checker, uint64_t number) {
    uint64_t serial = number / ITEMS_MAX;
    return serial == 0 || serial > checker->number_count ? NULL : &checker->numbers[serial - 1];
}

static uint32_t item_of(uint64_t number) {
    return (uint32_t)(number % ITEMS_MAX);
}

// ---- The order of a group

static void append(struct checker *checker, struct history *history, const struct event *event,
                   struct number *number) {
    if (history->count == history->capacity) {
        history->capacity = history->capacity == 0 ? 256 : 2 * history->capacity;
        history->entries = grow(history->entries, history->capacity * sizeof *history->entries);
    }
    struct entry *entry = &history->entries[history->count++];
    *entry =
        (struct entry){.event = *event, .customs = history->customs, .changes = history->changes};
    number->at[event->kind] = history->count;
    if (event->kind == CHANGE_CUSTOM) {
        history->customs++;
        return;
    }
    uint64_t *value = &history->values[event->item];
    entry->before = *value;
    history->changes++;
    checker->result->changes++;
    if (event->kind == CHANGE_DELETE) {
        if (*value != event->number)
            violated(checker, "the order has a deletion of %llu where item %u has %llu",
                     (unsigned long long)event->number, event->item, (unsigned long long)*value);
        *value = NONE;
        return;
    }
    if ((*value == NONE) != event->creates)
        violated(checker, "the order has %s of item %u, which has %llu",
                 event->creates ? "a creation" : "an update", event->item,
                 (unsigned long long)*value);
    *value = event->number;
}

// ---- One connection in a group

static void check_stamp(struct checker *checker, const struct view *view, uint32_t item,
                        uint64_t stamp, uint64_t before, const char *what) {
    if (stamp <= before)
        violated(checker, "client %u, group %u, item %u: %s with stamp %llu after one with %llu",
                 view->client, view->group, item, what, (unsigned long long)stamp,
                 (unsigned long long)before);
}

// Whether the client must get this entry, which is behind all it has got.
static bool is_due(const struct checker *checker, const struct view *view, uint64_t at) {
    const struct event *event = &checker->groups[view->group].entries[at].event;
    if (view->strict_from == UINT64_MAX)
        return false;
    if (event->kind == CHANGE_CUSTOM)
        return !checker->loses_customs && event->number / ITEMS_MAX > view->strict_from;
    return !view->synced;
}

static void check_place(struct checker *checker, struct view *view, uint64_t at,
                        const struct entry *entry) {
    const struct event *event = &entry->event;
    if (at < view->next)
        violated(checker,
                 "client %u, group %u: entry %llu (item %u, %llu) comes after entry %llu, or again",
                 view->client, view->group, (unsigned long long)at, event->item,
                 (unsigned long long)event->number, (unsigned long long)view->next - 1);
    for (uint64_t missing = view->next; missing < at; missing++)
        if (is_due(checker, view, missing))
            violated(checker, "client %u, group %u: entry %llu is missing before %llu",
                     view->client, view->group, (unsigned long long)missing,
                     (unsigned long long)at);
}

// The client knows what the item was: this change must be the next one.
static void check_item(struct checker *checker, const struct view *view, uint64_t at,
                       const struct entry *entry) {
    const struct event *event = &entry->event;
    if (event->kind == CHANGE_CUSTOM || !view->items[event->item].known)
        return;
    uint64_t has = view->items[event->item].value;
    if (has != entry->before)
        violated(checker,
                 "client %u, group %u: entry %llu changes item %u from %llu, the client has %llu",
                 view->client, view->group, (unsigned long long)at, event->item,
                 (unsigned long long)entry->before, (unsigned long long)has);
}

bool checker_event(struct checker *checker, struct view *view, const struct event *event) {
    struct history *history = &checker->groups[view->group];
    struct number *number = number_of(checker, event->number);
    if (number == NULL || number->group != view->group) {
        violated(checker, "client %u, group %u: an event of %llu, which nobody wrote there",
                 view->client, view->group, (unsigned long long)event->number);
        return true;
    }
    if (view->orders && number->at[event->kind] == 0)
        append(checker, history, event, number);
    if (number->at[event->kind] == 0)
        return false;
    uint64_t at = number->at[event->kind] - 1;
    const struct entry *entry = &history->entries[at];
    check_place(checker, view, at, entry);
    check_item(checker, view, at, entry);
    if (entry->event.stamp != event->stamp)
        violated(checker, "client %u, group %u: entry %llu with stamp %llu, others have %llu",
                 view->client, view->group, (unsigned long long)at,
                 (unsigned long long)event->stamp, (unsigned long long)entry->event.stamp);
    if (view->open_sync > 0)
        history->syncs[view->open_sync - 1].before = at;
    view->open_sync = 0;
    view->next = at + 1;
    view->synced = false;
    checker->result->events++;
    if (event->item == NO_ITEM) {
        return true; // Stamps grow for each item. Nothing is promised of those without one.
    }
    struct item_view *item = &view->items[event->item];
    check_stamp(checker, view, event->item, event->stamp, item->stamp, "an event");
    item->stamp = event->stamp;
    if (event->kind != CHANGE_CUSTOM)
        item->value = event->kind == CHANGE_DELETE ? NONE : event->number;
    return true;
}

static void keep_sync(struct checker *checker, uint32_t group, struct seen_sync sync,
                      const uint64_t *values) {
    struct history *history = &checker->groups[group];
    if (history->sync_count == history->sync_capacity) {
        history->sync_capacity = history->sync_capacity == 0 ? 64 : 2 * history->sync_capacity;
        history->syncs = grow(history->syncs, history->sync_capacity * sizeof *history->syncs);
    }
    sync.values = grow(NULL, (sync.count + 1) * sizeof *values);
    memcpy(sync.values, values, sync.count * sizeof *values);
    history->syncs[history->sync_count++] = sync;
}

// What the client gets for an item is no older than what it has.
static void check_not_back(struct checker *checker, const struct view *view, uint32_t item,
                           uint64_t value) {
    const struct item_view *has = &view->items[item];
    if (!has->known || has->value == value || value == NONE || has->value == NONE)
        return;
    const struct number *old = number_of(checker, has->value), *new = number_of(checker, value);
    if (old != NULL && new != NULL &&new->at[CHANGE_SET] != 0 &&
        new->at[CHANGE_SET] < old->at[CHANGE_SET])
        violated(checker, "client %u, group %u: a sync takes item %u back from %llu to %llu",
                 view->client, view->group, item, (unsigned long long)has->value,
                 (unsigned long long)value);
}

static void sync_item(struct checker *checker, struct view *view, uint32_t item, uint64_t stamp,
                      uint64_t value, bool stays) {
    struct item_view *has = &view->items[item];
    check_not_back(checker, view, item, value);
    check_stamp(checker, view, item, stamp, has->stamp == stamp ? stamp - 1 : has->stamp, "a sync");
    has->stamp = stamp;
    has->value = value;
    has->known = stays || has->known;
}

void checker_sync(struct checker *checker, struct view *view, uint32_t item, uint64_t stamp,
                  const uint64_t *values, uint32_t count) {
    if (view->pending_count == 0 || view->pending[0].item != item) {
        violated(checker, "client %u, group %u: a sync of item %u that it has not asked for",
                 view->client, view->group, item);
        return;
    }
    struct pending_join join = view->pending[0];
    view->pending_count--;
    memmove(view->pending, view->pending + 1, view->pending_count * sizeof join);
    checker->result->syncs++;
    if (item != NO_ITEM) {
        if (!join.left)
            view->items[item].subscriptions++;
        sync_item(checker, view, item, stamp, count > 0 ? values[0] : NONE, !join.left);
        return;
    }
    checker->result->resyncs += view->subscriptions > 0;
    uint64_t all[ITEMS_MAX] = {0};
    for (uint32_t i = 0; i < count; i++)
        all[item_of(values[i])] = values[i];
    if (!join.left)
        view->subscriptions++;
    for (uint32_t i = 0; i < ITEMS_MAX; i++)
        sync_item(checker, view, i, stamp, all[i], !join.left);
    // It may be older than the join: what has changed since follows it.
    struct seen_sync sync = {.count = count,
                             .least = view->next,
                             .before = UINT64_MAX,
                             .who = join.left ? "a sync (left)" : "a sync",
                             .client = view->client};
    keep_sync(checker, view->group, sync, values);
    view->open_sync = join.left ? 0 : checker->groups[view->group].sync_count;
    view->synced = true;
    // Custom events of before the join took effect are for others. Nobody here knows when that was; this is later.
    if (!join.left && view->strict_from == UINT64_MAX)
        view->strict_from = checker->number_count;
}

void checker_list(struct checker *checker, uint32_t group, uint32_t client, uint64_t least,
                  const uint64_t *values, uint32_t count) {
    struct seen_sync list = {
        .count = count, .least = least, .before = UINT64_MAX, .who = "a list", .client = client};
    keep_sync(checker, group, list, values);
}

void checker_join(struct checker *checker, struct view *view, uint32_t id, uint32_t item) {
    assert(view->pending_count < PENDING_JOINS_MAX);
    view->pending[view->pending_count++] = (struct pending_join){.id = id, .item = item};
    view->ids[id] = item == NO_ITEM ? 1 : 2 + item;
    checker->result->joins++;
}

void checker_leave(struct checker *checker, struct view *view, uint32_t id) {
    uint32_t what = view->ids[id], item = what >= 2 ? what - 2 : NO_ITEM;
    assert(what != 0);
    view->ids[id] = 0;
    checker->result->leaves++;
    bool pending = false;
    for (uint32_t i = 0; i < view->pending_count; i++) {
        if (view->pending[i].id == id && !view->pending[i].left) {
            view->pending[i].left = true;
            pending = true;
        }
    }
    // From here on events come until the node has heard of it, and then perhaps none.
    if (!pending && item == NO_ITEM)
        view->subscriptions--;
    else if (!pending)
        view->items[item].subscriptions--;
    if (view->subscriptions == 0) {
        view->strict_from = UINT64_MAX;
        view->open_sync = 0;
        for (uint32_t i = 0; i < ITEMS_MAX; i++)
            if (view->items[i].subscriptions == 0)
                view->items[i].known = false;
    }
}

// ---- The end

void checker_end_view(struct checker *checker, const struct view *view) {
    const struct history *history = &checker->groups[view->group];
    if (view->pending_count > 0)
        violated(checker, "client %u, group %u: a join of item %u has no sync", view->client,
                 view->group, view->pending[0].item);
    for (uint32_t i = 0; i < ITEMS_MAX; i++)
        if (view->items[i].known && view->items[i].value != history->values[i])
            violated(checker,
                     "client %u, group %u: item %u is %llu in the end, the client has %llu",
                     view->client, view->group, i, (unsigned long long)history->values[i],
                     (unsigned long long)view->items[i].value);
    for (uint64_t missing = view->next; missing < history->count; missing++)
        if (is_due(checker, view, missing))
            violated(checker,
                     "client %u, group %u: entry %llu of %llu (%s of item %d) is missing in the "
                     "end, it has those before %llu",
                     view->client, view->group, (unsigned long long)missing,
                     (unsigned long long)history->count,
                     history->entries[missing].event.kind == CHANGE_CUSTOM ? "custom" : "change",
                     (int)history->entries[missing].event.item, (unsigned long long)view->next);
}

/// A group's items in their order.
struct state {
    uint64_t values[ITEMS_MAX];
    uint32_t count;
};

static void apply(struct state *state, const struct event *event) {
    if (event->kind == CHANGE_CUSTOM)
        return;
    uint32_t at = 0;
    while (at < state->count && item_of(state->values[at]) != event->item)
        at++;
    if (event->kind == CHANGE_DELETE) {
        if (at == state->count)
            return;
        memmove(&state->values[at], &state->values[at + 1],
                (--state->count - at) * sizeof state->values[0]);
        return;
    }
    state->count += at == state->count;
    state->values[at] = event->number;
}

// Somewhere between its bounds the group was what the `sync` says, item by item and in this order; and when events follow,
// nothing has changed between that place and the first of them.
static void find_sync(struct checker *checker, const struct history *history, uint32_t group,
                      const struct seen_sync *sync) {
    struct state state = {.count = 0};
    bool found = false;
    for (uint64_t at = 0; at <= history->count && !found; at++) {
        if (at >= sync->least && at <= sync->before && state.count == sync->count &&
            memcmp(state.values, sync->values, sync->count * sizeof state.values[0]) == 0) {
            found = sync->before == UINT64_MAX || sync->before == history->count ||
                    history->entries[sync->before].changes ==
                        (at < history->count ? history->entries[at].changes : history->changes);
        }
        if (at < history->count)
            apply(&state, &history->entries[at].event);
    }
    if (!found)
        violated(checker,
                 "client %u, group %u: %s of %u items that the group never was, from entry %llu to "
                 "%llu",
                 sync->client, group, sync->who, sync->count, (unsigned long long)sync->least,
                 (unsigned long long)sync->before);
}

void checker_end(struct checker *checker) {
    for (uint32_t group = 0; group < checker->group_count; group++)
        for (uint32_t i = 0; i < checker->groups[group].sync_count; i++)
            find_sync(checker, &checker->groups[group], group, &checker->groups[group].syncs[i]);
    // Answers are compared by who has them (see clients.c).
}

void checker_free(struct checker *checker) {
    for (uint32_t group = 0; group < GROUPS_MAX; group++) {
        for (uint32_t i = 0; i < checker->groups[group].sync_count; i++)
            free(checker->groups[group].syncs[i].values);
        free(checker->groups[group].syncs);
        free(checker->groups[group].entries);
    }
    free(checker->numbers);
}
