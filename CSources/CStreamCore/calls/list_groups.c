// stream::list_groups and stream::list_all: the groups of a stream live on all shards, so the caller's
// shard asks each of them and puts the names together, sorted by bytes. Collecting, sorting and writing many of them goes
// in steps, so that nobody waits for it. A shard collects for one list at a time.
#include <stdlib.h>

#include "calls.h"

/// Names of groups that are put together for a list, charged to its connection.
struct group_names {
    struct sc_buffer text; // As `collect` writes them.
    uint64_t least;        // Bytes that the answer has of them at least.
    uint64_t charged;
    bool too_large; // They are more than the answer may be.
};

/// Asks another shard for its names.
struct names_request {
    struct request request;
    struct gather *_Nullable gather;
    struct group_names names;
};
static struct names_request *names_of(const struct request *request) {
    return SC_CONTAINER_OF(request, struct names_request, request);
}

struct name_pair {
    struct sc_bytes stream, group;
};

enum gather_phase { PHASE_READ, PHASE_MERGE, PHASE_WRITE, PHASE_DONE };

/// The names of this shard's groups are collected, for a list of this shard or for a request of another one.
struct collection {
    struct sc_wait_node node;
    struct request *request;         // Of the other shard; of a list of this one, its call.
    struct gather *_Nullable gather; // A list of this shard.
    struct group_names *names;
    uint32_t rollbacks; // Of the shard, when it began.
    bool begun;
};

/// A call that waits for the names of all shards, and then for their being sorted and written, which goes in steps.
struct gather {
    struct sc_wait_node node;
    struct collection own;
    struct request *call;              // Never sent: it keeps what the answer needs.
    struct request *_Nullable request; // The one that the call has come as, if it has waited.
    uint32_t missing;
    uint32_t rollbacks; // Of the shard, when its own names were collected.
    bool holds;         // The later calls of its connection wait.
    bool failed;        // Memory is out, or nobody waits for it.
    enum gather_phase phase;
    uint32_t part_count, part;     // The one that is read,
    size_t at;                     // from here; or where in the pairs.
    struct sc_buffer pairs, spare; // Of struct name_pair, in runs that are sorted,
    size_t run;                    // each as long as this, and a last one.
    size_t left, right, out; // While two runs are merged: what comes next of each, and its place.
    struct sc_names_text text;
    uint64_t charged;           // For the pairs and the text.
    struct group_names parts[]; // One a shard.
};

// ---- Accounts

static void charge(struct sc_account *account, uint64_t *charged, uint64_t size) {
    if (account == NULL)
        return;
    sc_account_charge(account, SC_PLACE_GATHERS, size);
    sc_account_discharge(account, SC_PLACE_GATHERS, *charged);
    *charged = size;
}

static void names_free(struct group_names *names, struct sc_account *account) {
    if (names->charged > 0)
        charge(account, &names->charged, 0);
    sc_buffer_deinit(&names->text);
    *names = (struct group_names){0};
}

// ---- Collecting

// Stream size, group size, stream, group; one after the other.
static void collect(struct sc_bytes stream, struct sc_bytes group, void *context) {
    struct group_names *names = context;
    uint16_t sizes[2] = {(uint16_t)stream.size, (uint16_t)group.size};
    names->least += group.size + 2; // In quotes, whatever stands between them.
    sc_buffer_append(&names->text, sizes, sizeof sizes);
    sc_buffer_append_bytes(&names->text, stream);
    sc_buffer_append_bytes(&names->text, group);
}

// Names of before a rollback may never have been: the number of rollbacks tells them from later ones.
static void collection_begin(struct shard *shard, struct collection *collection) {
    const struct call *call = &collection->request->call;
    collection->rollbacks = shard->rollbacks;
    collection->begun = true;
    sc_group_walk_begin(shard->store, call->op == SC_CALL_LIST_GROUPS ? &call->name.stream : NULL);
}

// At most `steps` of them. True: it is over.
static bool collect_some(struct shard *shard, struct collection *collection, uint32_t steps) {
    const struct call *call = &collection->request->call;
    struct group_names *names = collection->names;
    uint64_t began_ns = sc_loop_clock_ns(), took_ns = 0;
    bool done = false;
    for (; !done && steps > 0 && took_ns < SC_CALL_SLICE_NS; steps--) {
        done = sc_group_walk_step(shard->store, SC_NAMES_PER_STEP, collect, names);
        names->too_large = names->least > call->size_max;
        if (!done && (names->too_large || names->text.failed)) {
            sc_group_walk_end(shard->store);
            done = true;
        }
        took_ns = sc_loop_clock_ns() - began_ns;
    }
    charge(call->account, &names->charged, names->text.capacity);
    if (names->text.size >= SC_LONG_CALL_SIZE)
        sc_call_queue_charge(shard, call->connection, took_ns);
    return done;
}

// Returns whether the names are there. If not, the collection is continued in the next turns.
static bool collect_begin(struct shard *shard, struct collection *collection) {
    if (sc_wait_list_is_empty(&calls_of(shard)->collections)) {
        collection_begin(shard, collection);
        if (collect_some(shard, collection, 1))
            return true;
    }
    sc_wait_list_add(&calls_of(shard)->collections, &collection->node);
    shard->stepped++;
    sc_shard_turn_again(shard);
    return false;
}

// By bytes, as the original sorts: no locale, and no case.
static int compare_bytes(struct sc_bytes a, struct sc_bytes b) {
    size_t size = a.size < b.size ? a.size : b.size;
    int order = size == 0 ? 0 : memcmp(a.data, b.data, size);
    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static int compare_pairs(const void *a, const void *b) {
    const struct name_pair *left = a, *right = b;
    int order = compare_bytes(left->stream, right->stream);
    return order != 0 ? order : compare_bytes(left->group, right->group);
}

// ---- Steps: each looks at a bounded number of names

static struct name_pair *pairs_of(const struct sc_buffer *buffer) {
    return (struct name_pair *)(void *)buffer->data;
}

static size_t count_of(const struct gather *gather) {
    return gather->pairs.size / sizeof(struct name_pair);
}

static size_t least(size_t a, size_t b) {
    return a < b ? a : b;
}

// Pairs of names of one part, behind `count` of before, as far as a run goes.
static size_t read_part(struct gather *gather, size_t count) {
    const struct sc_buffer *names = &gather->parts[gather->part].text;
    size_t at = gather->at;
    for (; at < names->size && count < SC_NAMES_PER_STEP; count++) {
        uint16_t sizes[2];
        memcpy(sizes, names->data + at, sizeof sizes);
        at += sizeof sizes;
        struct name_pair pair = {.stream = {names->data + at, sizes[0]},
                                 .group = {names->data + at + sizes[0], sizes[1]}};
        sc_buffer_append(&gather->pairs, &pair, sizeof pair);
        at += (size_t)sizes[0] + sizes[1];
    }
    gather->at = at;
    if (at == names->size) {
        gather->part++;
        gather->at = 0;
    }
    return count;
}

// A run of pairs, sorted.
static void read_some(struct gather *gather) {
    size_t before = count_of(gather), count = 0;
    while (gather->part < gather->part_count && count < SC_NAMES_PER_STEP)
        count = read_part(gather, count);
    if (gather->pairs.failed)
        return;
    if (count > 0)
        qsort(pairs_of(&gather->pairs) + before, count, sizeof(struct name_pair), compare_pairs);
    if (gather->part < gather->part_count)
        return;
    gather->at = 0;
    gather->run = SC_NAMES_PER_STEP;
    gather->phase = PHASE_MERGE;
}

// From the runs that begin at a multiple of two of them to runs twice as long.
static void merge_some(struct gather *gather) {
    size_t count = count_of(gather), run = gather->run;
    if (run >= count) {
        gather->phase = PHASE_WRITE;
        gather->at = 0;
        return;
    }
    if (gather->out == 0 && gather->spare.size == 0) {
        if (sc_buffer_reserve(&gather->spare, gather->pairs.size) == NULL) {
            gather->pairs.failed = true;
            return;
        }
        gather->spare.size = gather->pairs.size;
    }
    const struct name_pair *from = pairs_of(&gather->pairs);
    struct name_pair *to = pairs_of(&gather->spare);
    size_t last = least(gather->out + SC_NAMES_PER_STEP, count);
    while (gather->out < last) {
        size_t begin = gather->out / (2 * run) * (2 * run);
        size_t middle = least(begin + run, count), end = least(begin + 2 * run, count);
        if (gather->out == begin) {
            gather->left = begin;
            gather->right = middle;
        }
        bool from_left =
            gather->right == end || (gather->left < middle &&
                                     compare_pairs(&from[gather->left], &from[gather->right]) <= 0);
        to[gather->out++] = from[from_left ? gather->left++ : gather->right++];
    }
    if (gather->out < count)
        return;
    struct sc_buffer merged = gather->spare;
    gather->spare = gather->pairs;
    gather->pairs = merged;
    gather->run = 2 * run;
    gather->out = 0;
}

static void write_some(struct gather *gather) {
    const struct name_pair *pairs = pairs_of(&gather->pairs);
    size_t count = count_of(gather), last = least(gather->at + SC_NAMES_PER_STEP, count);
    if (gather->at == 0)
        sc_names_text_begin(&gather->text, gather->call->call.op == SC_CALL_LIST_GROUPS);
    for (; gather->at < last; gather->at++)
        sc_names_text_add(&gather->text, pairs[gather->at].stream, pairs[gather->at].group);
    if (gather->at < count)
        return;
    sc_names_text_end(&gather->text);
    gather->phase = PHASE_DONE;
}

// Steps until it is done, or its time of this turn is over.
static void go_on(struct gather *gather) {
    uint64_t began_ns = sc_loop_clock_ns(), took_ns = 0;
    while (gather->phase != PHASE_DONE && took_ns < SC_CALL_SLICE_NS) {
        if (gather->phase == PHASE_READ)
            read_some(gather);
        else if (gather->phase == PHASE_MERGE)
            merge_some(gather);
        else
            write_some(gather);
        if (gather->failed || gather->pairs.failed || gather->text.out.failed)
            gather->phase = PHASE_DONE;
        took_ns = sc_loop_clock_ns() - began_ns;
    }
}

// ---- The end

static bool is_true(const struct shard *shard, const struct gather *gather) {
    return gather->rollbacks == shard->rollbacks; // Else some of the names may never have been.
}

// Looked at while names come, so that a list which cannot be answered is not worked out to its end.
static bool is_too_large(const struct gather *gather) {
    uint64_t least = 0;
    bool too_large = false;
    for (uint32_t i = 0; i < gather->part_count; i++) {
        least += gather->parts[i].least;
        too_large |= gather->parts[i].too_large;
    }
    return too_large || least > gather->call->call.size_max;
}

// Errors say what the original says, for those that it has.
static void answer(struct shard *shard, struct gather *gather) {
    struct call *call = &gather->call->call;
    call->request = gather->request; // The answer stays on this shard.
    bool one = call->op == SC_CALL_LIST_GROUPS, true_still = is_true(shard, gather);
    if (is_too_large(gather)) {
        shard->counters.results_too_large++;
        sc_call_fail(shard, call, "result_too_large",
                     SC_LITERAL("the result is larger than the caller accepts"));
    } else if (gather->failed || gather->text.out.failed || gather->pairs.failed || !true_still) {
        sc_call_fail(shard, call, one ? "STREAM_LIST_GROUPS_ERROR" : "STREAM_LIST_ALL_ERROR",
                     true_still ? SC_LITERAL("Failed to list: out of memory")
                                : SC_LITERAL("Failed to list: the disk failed; ask again"));
    } else {
        struct sc_bytes body[2];
        size_t count = sc_result_value(body, sc_buffer_bytes(&gather->text.out));
        sc_call_answer(shard, call, body, count);
    }
}

static struct caller *caller_in(struct shard *shard, const struct gather *gather) {
    return sc_caller_find(shard, gather->call->call.connection);
}

// The later calls of its connection wait, so that it has one list at a time.
static void hold(struct shard *shard, struct gather *gather) {
    if (gather->call->call.connection == SC_NODE_CONNECTION)
        return;
    struct caller *caller = caller_in(shard, gather);
    if (caller == NULL)
        return;
    caller->barriers++;
    sc_call_queue_list_waits(shard, gather->call->call.connection);
    gather->holds = true;
}

static void finish(struct shard *shard, struct gather *gather) {
    answer(shard, gather);
    if (gather->holds) {
        struct caller *caller = caller_in(shard, gather);
        if (caller != NULL) {
            assert(caller->barriers > 0);
            caller->barriers--;
        }
        sc_call_queue_list_begun(shard, gather->call->call.connection);
    }
    struct sc_account *account = gather->call->call.account;
    if (gather->charged > 0)
        charge(account, &gather->charged, 0);
    for (uint32_t i = 0; i < gather->part_count; i++)
        names_free(&gather->parts[i], account);
    sc_account_fell(shard, account);
    sc_buffer_deinit(&gather->text.out);
    sc_buffer_deinit(&gather->pairs);
    sc_buffer_deinit(&gather->spare);
    sc_request_free(gather->call);
    free(gather);
}

// Of a caller that has gone only the accounts are left, which say so.
static bool has_caller(const struct call *call) {
    return call->connection == SC_NODE_CONNECTION ||
           sc_account_state(call->account) == SC_ACCOUNT_OPEN;
}

// A slice of the work. True: the list is answered.
static bool take_slice(struct shard *shard, struct gather *gather) {
    if (is_too_large(gather) || !has_caller(&gather->call->call) || !is_true(shard, gather)) {
        gather->failed = true;
        gather->phase = PHASE_DONE;
    }
    go_on(gather);
    if (gather->phase == PHASE_DONE) {
        finish(shard, gather);
        return true;
    }
    charge(gather->call->call.account, &gather->charged,
           gather->pairs.capacity + gather->spare.capacity + gather->text.out.capacity);
    return false;
}

// All shards have answered. A short list is answered within this step, a long one takes turns.
static void gathered(struct shard *shard, struct gather *gather) {
    if (!gather->holds)
        hold(shard, gather);
    if (take_slice(shard, gather))
        return;
    sc_wait_list_add(&calls_of(shard)->gathers, &gather->node);
    shard->stepped++;
    sc_shard_turn_again(shard);
}

static const struct outcome_kind names_outcome;

// Of another shard: the request is an outcome now, behind the changes that it has seen.
static void collected(struct shard *shard, struct collection *collection) {
    struct gather *gather = collection->gather;
    if (gather == NULL) {
        struct request *request = collection->request;
        free(collection);
        sc_read_answered(shard, request, &names_outcome);
        return;
    }
    gather->rollbacks = collection->rollbacks;
    if (--gather->missing == 0)
        gathered(shard, gather);
}

// The first goes on, or begins. Names of before a rollback are collected again: some may never have been.
static void collect_turn(struct shard *shard) {
    if (sc_wait_list_is_empty(&calls_of(shard)->collections))
        return;
    struct collection *collection =
        SC_CONTAINER_OF(calls_of(shard)->collections.first, struct collection, node);
    const struct call *call = &collection->request->call;
    if (!collection->begun || collection->rollbacks != shard->rollbacks) {
        sc_group_walk_end(shard->store);
        names_free(collection->names, call->account);
        collection_begin(shard, collection);
    }
    bool is_left = !has_caller(call);
    if (is_left)
        sc_group_walk_end(shard->store);
    if (is_left || collect_some(shard, collection, UINT32_MAX)) {
        sc_wait_list_remove(&collection->node);
        shard->stepped--;
        collected(shard, collection);
    }
    if (!sc_wait_list_is_empty(&calls_of(shard)->collections))
        sc_shard_turn_again(shard);
}

// One after the other gets a slice of time, one a turn. This is the one place that takes them from their lists.
void sc_list_groups_turn(struct shard *shard) {
    collect_turn(shard);
    struct sc_wait_node *node = sc_wait_list_take(&calls_of(shard)->gathers);
    if (node == NULL)
        return;
    if (take_slice(shard, SC_CONTAINER_OF(node, struct gather, node)))
        shard->stepped--;
    else
        sc_wait_list_add(&calls_of(shard)->gathers, node);
    if (!sc_wait_list_is_empty(&calls_of(shard)->gathers))
        sc_shard_turn_again(shard);
}

static const struct request_kind names_kind;

void sc_list_groups(struct shard *shard, struct call *call) {
    struct sc_bytes none = {0};
    uint32_t count = shard->node->shard_count;
    struct gather *gather = sc_allocate(sizeof *gather + count * sizeof gather->parts[0]);
    *gather = (struct gather){.request = call->request, .missing = count, .part_count = count};
    memset(gather->parts, 0, count * sizeof gather->parts[0]);
    gather->call = sc_request_make(shard, shard, &names_kind, call, none);
    gather->own = (struct collection){
        .request = gather->call, .gather = gather, .names = &gather->parts[shard->index]};
    for (uint32_t i = 0; i < count; i++) {
        if (i == shard->index)
            continue;
        struct request *request =
            sc_request_make(shard, shard->node->shards[i], &names_kind, call, none);
        names_of(request)->gather = gather;
        sc_request_send(request);
    }
    hold(shard, gather);
    if (collect_begin(shard, &gather->own))
        collected(shard, &gather->own);
}

// ---- At another shard

static void release(struct shard *shard, struct outcome *outcome) {
    (void)shard;
    sc_request_finish(outcome->request);
}

static void evaluate(struct shard *shard, struct request *request) {
    struct collection *collection = sc_allocate(sizeof *collection);
    *collection = (struct collection){.request = request, .names = &names_of(request)->names};
    names_free(collection->names, request->call.account);
    if (collect_begin(shard, collection))
        collected(shard, collection);
}

static void revoke(struct shard *shard, struct outcome *outcome,
                   const struct revocation *revocation) {
    (void)revocation;
    evaluate(shard, outcome->request);
}

static const struct outcome_kind names_outcome = {release, revoke};

static void finish_part(struct shard *shard, struct request *request) {
    struct gather *gather = names_of(request)->gather;
    gather->parts[request->owner->index] = names_of(request)->names;
    names_of(request)->names = (struct group_names){0};
    if (--gather->missing == 0)
        gathered(shard, gather);
}

static void drop(struct request *request) {
    names_free(&names_of(request)->names, request->call.account);
}

static const struct request_kind names_kind = {.size = sizeof(struct names_request),
                                               .evaluate = evaluate,
                                               .finish = finish_part,
                                               .drop = drop};
