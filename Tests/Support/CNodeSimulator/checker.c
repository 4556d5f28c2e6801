#include "checker.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void violated(struct checker *checker, const char *format, ...) {
    if (!checker->failed) {
        int size = snprintf(checker->message, checker->message_size,
                            "seed %llu (%s), step %llu: ", (unsigned long long)checker->seed,
                            checker->about, (unsigned long long)checker->step);
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(checker->message + size, checker->message_size - (size_t)size, format, arguments);
        va_end(arguments);
    }
    checker->failed = true;
}

void said(const struct checker *checker, const char *format, ...) {
    if (!checker->verbose)
        return;
    fprintf(stderr, "step %llu: ", (unsigned long long)checker->step);
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
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

enum due {
    NOT_DUE,
    DUE,
    LOST, // It is due, but for a `sync` in place of what has gone.
};

// Whether the client must get this entry, which is behind all it has got.
static enum due is_due(const struct checker *checker, const struct view *view, uint64_t at) {
    const struct entry *entry = &checker->groups[view->group].entries[at];
    if (view->strict_from == UINT64_MAX)
        return NOT_DUE;
    if (entry->event.kind == CHANGE_CUSTOM && entry->event.number / ITEMS_MAX <= view->strict_from)
        return NOT_DUE;
    if (entry->event.kind == CHANGE_CUSTOM)
        return view->synced ? LOST : DUE;
    return view->synced && entry->changes < view->shown ? NOT_DUE : DUE;
}

static bool is_missing(struct checker *checker, const struct view *view, uint64_t at, bool *lost) {
    enum due due = is_due(checker, view, at);
    if (due == LOST && !*lost) {
        *lost = true;
        checker->gaps++;
    }
    return due == DUE;
}

static void check_place(struct checker *checker, struct view *view, uint64_t at,
                        const struct entry *entry) {
    const struct event *event = &entry->event;
    struct item_view *item = event->item == NO_ITEM ? NULL : &view->items[event->item];
    if (item != NULL && item->made && at < view->next && at >= item->next)
        return;
    if (at < view->next)
        violated(checker,
                 "client %u, group %u: entry %llu (item %u, %llu) comes after entry %llu, or again",
                 view->client, view->group, (unsigned long long)at, event->item,
                 (unsigned long long)event->number, (unsigned long long)view->next - 1);
    bool lost = false;
    for (uint64_t missing = view->next; missing < at; missing++)
        if (is_missing(checker, view, missing, &lost))
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
    if (entry->changes < view->items[event->item].shown)
        return; // The `sync` had it.
    uint64_t has = view->items[event->item].value;
    if (has != entry->before)
        violated(checker,
                 "client %u, group %u: entry %llu changes item %u from %llu, the client has %llu",
                 view->client, view->group, (unsigned long long)at, event->item,
                 (unsigned long long)entry->before, (unsigned long long)has);
}

// Nothing comes before the first `sync`.
static void check_asked(struct checker *checker, const struct view *view,
                        const struct event *event) {
    if (!view->ever && (event->item == NO_ITEM || !view->items[event->item].ever))
        violated(checker, "client %u, group %u: an event of item %d, which it has not joined",
                 view->client, view->group, (int)event->item);
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
    check_asked(checker, view, event);
    check_place(checker, view, at, entry);
    check_item(checker, view, at, entry);
    if (entry->event.stamp != event->stamp)
        violated(checker, "client %u, group %u: entry %llu with stamp %llu, others have %llu",
                 view->client, view->group, (unsigned long long)at,
                 (unsigned long long)event->stamp, (unsigned long long)entry->event.stamp);
    if (view->open_sync > 0)
        history->syncs[view->open_sync - 1].before = at;
    view->open_sync = 0;
    if (at >= view->next)
        view->next = at + 1;
    view->synced = false;
    checker->result->events++;
    if (event->item == NO_ITEM) {
        return true; // Stamps grow for each item. Nothing is promised of those without one.
    }
    struct item_view *item = &view->items[event->item];
    check_stamp(checker, view, event->item, event->stamp, item->stamp, "an event");
    item->stamp = event->stamp;
    item->next = at + 1;
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
                      uint64_t shown, uint64_t value, bool stays) {
    struct item_view *has = &view->items[item];
    // Who gets the events already has those that came while a function made the `sync`, which may be from before them.
    bool may_be_older = shown != OF_STORE && (view->ever || has->ever);
    has->shown = shown == OF_STORE ? 0 : shown;
    if (may_be_older)
        has->known = stays = false;
    check_not_back(checker, view, item, value);
    check_stamp(checker, view, item, stamp, has->stamp == stamp ? stamp - 1 : has->stamp, "a sync");
    has->stamp = stamp;
    has->value = value;
    has->known = stays || has->known;
}

// One subscription less, of `what` of `ids`. Events come until the node has heard of it, and then perhaps none.
static void end_subscription(struct view *view, uint32_t what) {
    if (what == 0)
        return;
    uint32_t *count = what == 1 ? &view->subscriptions : &view->items[what - 2].subscriptions;
    assert(*count > 0);
    --*count;
    if (view->subscriptions > 0)
        return;
    view->strict_from = UINT64_MAX;
    view->open_sync = 0;
    for (uint32_t i = 0; i < ITEMS_MAX; i++)
        if (view->items[i].subscriptions == 0)
            view->items[i].known = false;
}

static void drop_pending(struct view *view) {
    view->pending_count--;
    memmove(view->pending, view->pending + 1, view->pending_count * sizeof view->pending[0]);
}

static bool take_pending(struct checker *checker, struct view *view, uint32_t item,
                         const char *what, struct pending_join *join) {
    while (view->pending_count > 0 && view->pending[0].unanswered)
        drop_pending(view);
    if (view->pending_count == 0 || view->pending[0].item != item) {
        violated(checker, "client %u, group %u: %s of item %d that it has not asked for",
                 view->client, view->group, what, (int)item);
        return false;
    }
    *join = view->pending[0];
    drop_pending(view);
    return true;
}

void checker_refused(struct checker *checker, struct view *view, uint32_t item) {
    struct pending_join join;
    if (!take_pending(checker, view, item, "a refusal", &join))
        return;
    checker->result->refused++;
    if (!join.left) // The one that it was to replace stays.
        view->ids[join.id] = join.replaces;
}

bool checker_unanswered(struct view *view, uint32_t id) {
    struct pending_join *join = NULL;
    for (uint32_t i = 0; i < view->pending_count; i++) {
        if (view->pending[i].id != id)
            continue;
        if (join != NULL)
            return false;
        join = &view->pending[i];
    }
    if (join == NULL || join->unanswered)
        return false;
    if (!join->left)
        view->ids[id] = 0; // It has a subscription that nothing is expected of.
    end_subscription(view, join->replaces);
    join->unanswered = join->left = true;
    join->replaces = 0;
    if (join->item == NO_ITEM)
        view->ever = true;
    else
        view->items[join->item].ever = view->items[join->item].made = true;
    return true;
}

void checker_sync(struct checker *checker, struct view *view, uint32_t item, uint64_t stamp,
                  uint64_t shown, const uint64_t *values, uint32_t count) {
    struct pending_join join;
    if (!take_pending(checker, view, item, "a sync", &join))
        return;
    checker->result->syncs++;
    if (item != NO_ITEM) {
        if (!join.left)
            view->items[item].subscriptions++;
        sync_item(checker, view, item, stamp, shown, count > 0 ? values[0] : NONE, !join.left);
        view->items[item].ever = true;
        view->items[item].made |= shown != OF_STORE;
        end_subscription(view, join.replaces);
        return;
    }
    view->shown = shown;
    checker->result->resyncs += view->subscriptions > 0;
    uint64_t all[ITEMS_MAX] = {0};
    for (uint32_t i = 0; i < count; i++)
        all[item_of(values[i])] = values[i];
    if (!join.left)
        view->subscriptions++;
    for (uint32_t i = 0; i < ITEMS_MAX; i++)
        sync_item(checker, view, i, stamp, shown, all[i], !join.left);
    // It may be older than the join: what has changed since follows it.
    struct seen_sync sync = {.count = count,
                             .least = shown == OF_STORE || !view->ever ? view->next : 0,
                             .before = UINT64_MAX,
                             .who = join.left ? "a sync (left)" : "a sync",
                             .client = view->client};
    keep_sync(checker, view->group, sync, values);
    bool bounded = !join.left && shown == OF_STORE;
    view->open_sync = bounded ? checker->groups[view->group].sync_count : 0;
    view->synced = true;
    view->ever = true;
    // Custom events of before the join took effect are for others. Nobody here knows when that was; this is later.
    if (!join.left && view->strict_from == UINT64_MAX)
        view->strict_from = checker->number_count;
    end_subscription(view, join.replaces);
}

void checker_list(struct checker *checker, uint32_t group, uint32_t client, uint64_t least,
                  const uint64_t *values, uint32_t count) {
    struct seen_sync list = {
        .count = count, .least = least, .before = UINT64_MAX, .who = "a list", .client = client};
    keep_sync(checker, group, list, values);
}

void checker_join(struct checker *checker, struct view *view, uint32_t id, uint32_t item) {
    assert(view->pending_count < PENDING_JOINS_MAX);
    uint32_t replaces = view->ids[id];
    for (uint32_t i = 0; i < view->pending_count; i++) {
        if (view->pending[i].id != id || view->pending[i].left)
            continue;
        // Which of them ends the one before depends on what is refused: it is taken as ended now.
        end_subscription(view, view->pending[i].replaces);
        view->pending[i].replaces = replaces = 0;
        view->pending[i].left = true;
    }
    view->pending[view->pending_count++] =
        (struct pending_join){.id = id, .item = item, .replaces = replaces};
    view->ids[id] = item == NO_ITEM ? 1 : 2 + item;
    checker->result->joins++;
}

void checker_leave(struct checker *checker, struct view *view, uint32_t id) {
    uint32_t what = view->ids[id];
    assert(what != 0);
    view->ids[id] = 0;
    checker->result->leaves++;
    bool pending = false;
    for (uint32_t i = 0; i < view->pending_count; i++) {
        if (view->pending[i].id == id && !view->pending[i].left) {
            view->pending[i].left = true;
            pending = true;
            end_subscription(view, view->pending[i].replaces);
            view->pending[i].replaces = 0;
        }
    }
    if (!pending)
        end_subscription(view, what);
}

// ---- The end

void checker_end_view(struct checker *checker, const struct view *view) {
    bool lost = false;
    const struct history *history = &checker->groups[view->group];
    for (uint32_t i = 0; i < view->pending_count; i++)
        if (!view->pending[i].unanswered)
            violated(checker, "client %u, group %u: a join of item %d has no sync", view->client,
                     view->group, (int)view->pending[i].item);
    for (uint32_t i = 0; i < ITEMS_MAX; i++)
        if (view->items[i].known && view->items[i].value != history->values[i])
            violated(checker,
                     "client %u, group %u: item %u is %llu in the end, the client has %llu",
                     view->client, view->group, i, (unsigned long long)history->values[i],
                     (unsigned long long)view->items[i].value);
    for (uint64_t missing = view->next; missing < history->count; missing++)
        if (is_missing(checker, view, missing, &lost))
            violated(checker,
                     "client %u, group %u: entry %llu of %llu (%s of item %d) is missing in the "
                     "end, it has those before %llu",
                     view->client, view->group, (unsigned long long)missing,
                     (unsigned long long)history->count,
                     history->entries[missing].event.kind == CHANGE_CUSTOM ? "custom" : "change",
                     (int)history->entries[missing].event.item, (unsigned long long)view->next);
}

uint64_t group_state_value(const struct group_state *state, uint32_t item) {
    for (uint32_t i = 0; i < state->count; i++)
        if (item_of(state->values[i]) == item)
            return state->values[i];
    return NONE;
}

void group_state_apply(struct group_state *state, const struct event *event) {
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
    struct group_state state = {.count = 0};
    bool found = false;
    for (uint64_t at = 0; at <= history->count && !found; at++) {
        if (at >= sync->least && at <= sync->before && state.count == sync->count &&
            memcmp(state.values, sync->values, sync->count * sizeof state.values[0]) == 0) {
            found = sync->before == UINT64_MAX || sync->before == history->count ||
                    history->entries[sync->before].changes ==
                        (at < history->count ? history->entries[at].changes : history->changes);
        }
        if (at < history->count)
            group_state_apply(&state, &history->entries[at].event);
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
