// stream::list_groups and stream::list_all: the groups of a stream live on all shards, so the caller's
// shard asks each of them and puts the names together, sorted by bytes. Sorting and writing many of them goes in steps, so
// that nobody waits for it.
#include <stdlib.h>

#include "core_functions.h"

struct name_pair {
    struct sc_bytes stream, group;
};

enum gather_phase { PHASE_READ, PHASE_MERGE, PHASE_WRITE, PHASE_DONE };

/// A call that waits for the names of all shards, and then for their being sorted and written, which goes in steps.
struct gather {
    struct sc_wait_node node;
    struct request *call;              // Never sent: it keeps what the answer needs.
    struct request *_Nullable request; // The one that the call has come as, if it has waited.
    uint32_t missing;
    uint32_t taken_back;    // Of the shard, when its own names were collected.
    bool holds;             // The later calls of its connection wait.
    struct sc_buffer names; // As collect writes them.
    enum gather_phase phase;
    size_t at;                     // In the names, or in the pairs.
    struct sc_buffer pairs, spare; // Of struct name_pair, in runs that are sorted,
    size_t run;                    // each as long as this, and a last one.
    size_t left, right, out; // While two runs are merged: what comes next of each, and its place.
    struct sc_names_text text;
};

// Stream size, group size, stream, group; one after the other.
static void collect(struct sc_bytes stream, struct sc_bytes group, void *context) {
    struct sc_buffer *out = context;
    uint16_t sizes[2] = {(uint16_t)stream.size, (uint16_t)group.size};
    sc_buffer_append(out, sizes, sizeof sizes);
    sc_buffer_append_bytes(out, stream);
    sc_buffer_append_bytes(out, group);
}

// In one piece, whose time its connection pays when there are many.
static void collect_all(struct shard *shard, const struct call *call, struct sc_buffer *out) {
    bool one = call->op == SC_CALL_LIST_GROUPS;
    uint64_t began_ns = sc_loop_clock_ns();
    sc_store_for_each_group(shard->store, one ? &call->name.stream : NULL, collect, out);
    if (out->size >= SC_LONG_CALL_SIZE)
        sc_call_queue_charge(shard, call->connection, sc_loop_clock_ns() - began_ns);
}

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

// A run of pairs, sorted.
static void read_some(struct gather *gather) {
    const struct sc_buffer *names = &gather->names;
    size_t before = count_of(gather), at = gather->at, count = 0;
    for (; at < names->size && count < SC_NAMES_PER_STEP; count++) {
        uint16_t sizes[2];
        memcpy(sizes, names->data + at, sizeof sizes);
        at += sizeof sizes;
        struct name_pair pair = {.stream = {names->data + at, sizes[0]},
                                 .group = {names->data + at + sizes[0], sizes[1]}};
        sc_buffer_append(&gather->pairs, &pair, sizeof pair);
        at += (size_t)sizes[0] + sizes[1];
    }
    if (gather->pairs.failed)
        return;
    if (count > 0)
        qsort(pairs_of(&gather->pairs) + before, count, sizeof(struct name_pair), compare_pairs);
    gather->at = at;
    if (at < names->size)
        return;
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
        if (gather->names.failed || gather->pairs.failed || gather->text.out.failed)
            gather->phase = PHASE_DONE;
        took_ns = sc_loop_clock_ns() - began_ns;
    }
}

// ---- The end

static bool is_true(const struct shard *shard, const struct gather *gather) {
    return gather->taken_back == shard->taken_back; // Else some of the names may never have been.
}

static void answer(struct shard *shard, struct gather *gather) {
    struct call *call = &gather->call->call;
    call->request = gather->request; // The answer stays on this shard.
    struct sc_bytes body[2];
    size_t count = sc_result_value(body, sc_buffer_bytes(&gather->text.out));
    if (gather->text.out.failed || gather->pairs.failed || gather->names.failed ||
        !is_true(shard, gather))
        sc_call_fail(
            shard, call,
            call->op == SC_CALL_LIST_GROUPS ? "STREAM_LIST_GROUPS_ERROR" : "STREAM_LIST_ALL_ERROR",
            is_true(shard, gather) ? SC_LITERAL("Failed to list: out of memory")
                                   : SC_LITERAL("Failed to list: the disk failed; ask again"));
    else
        sc_call_answer(shard, call, body, count);
}

static struct worker *caller(struct shard *shard, const struct gather *gather) {
    return sc_caller_find(shard, gather->call->call.connection);
}

// The later calls of its connection wait, so that it has one list at a time.
static void hold(struct shard *shard, struct gather *gather) {
    if (gather->call->call.connection == SC_NODE_CONNECTION)
        return;
    struct worker *worker = caller(shard, gather);
    if (worker == NULL)
        return;
    worker->barriers++;
    sc_call_queue_list_waits(shard, gather->call->call.connection);
    gather->holds = true;
}

static void finish(struct shard *shard, struct gather *gather) {
    answer(shard, gather);
    if (gather->holds) {
        struct worker *worker = caller(shard, gather);
        if (worker != NULL) {
            assert(worker->barriers > 0);
            worker->barriers--;
        }
        sc_call_queue_list_begun(shard, gather->call->call.connection);
    }
    sc_buffer_deinit(&gather->text.out);
    sc_buffer_deinit(&gather->pairs);
    sc_buffer_deinit(&gather->spare);
    sc_buffer_deinit(&gather->names);
    sc_request_free(gather->call);
    free(gather);
}

static bool has_caller(const struct gather *gather) {
    const struct call *call = &gather->call->call;
    return call->connection == SC_NODE_CONNECTION ||
           sc_account_state(call->account) == SC_ACCOUNT_OPEN;
}

// One after the other gets a slice of time, one a turn. This is the one place that takes them from their list.
void sc_names_turn(struct shard *shard) {
    struct sc_wait_node *node = sc_wait_list_take(&shard->gathers);
    if (node == NULL)
        return;
    struct gather *gather = SC_CONTAINER_OF(node, struct gather, node);
    if (!has_caller(gather) || !is_true(shard, gather)) {
        gather->names.failed = true;
        gather->phase = PHASE_DONE;
    }
    go_on(gather);
    if (gather->phase == PHASE_DONE) {
        shard->stepped--;
        finish(shard, gather);
    } else {
        sc_wait_list_add(&shard->gathers, node);
    }
    if (!sc_wait_list_is_empty(&shard->gathers))
        sc_shard_turn_again(shard);
}

static void gathered(struct shard *shard, struct gather *gather) {
    go_on(gather);
    if (gather->phase == PHASE_DONE) {
        finish(shard, gather);
        return;
    }
    sc_wait_list_add(&shard->gathers, &gather->node);
    shard->stepped++;
    sc_shard_turn_again(shard);
    if (!gather->holds)
        hold(shard, gather);
}

static const struct request_kind names_kind;

void sc_names_start(struct shard *shard, struct call *call) {
    struct sc_bytes none = {0};
    struct gather *gather = sc_allocate(sizeof *gather);
    *gather = (struct gather){.request = call->request,
                              .missing = shard->node->shard_count,
                              .taken_back = shard->taken_back};
    gather->call = sc_request_make(shard, shard, &names_kind, call, none);
    collect_all(shard, call, &gather->names);
    for (uint32_t i = 0; i < shard->node->shard_count; i++) {
        if (i == shard->index)
            continue;
        struct request *request =
            sc_request_make(shard, shard->node->shards[i], &names_kind, call, none);
        request->gather = gather;
        sc_request_send(request);
    }
    if (--gather->missing == 0)
        gathered(shard, gather);
    else
        hold(shard, gather);
}

static void collect_reply(struct shard *shard, struct request *request) {
    struct sc_buffer names = {0};
    collect_all(shard, &request->call, &names);
    request->reply = names.failed ? NULL : sc_blob_create(names.size);
    if (request->reply != NULL && names.size > 0)
        memcpy(request->reply->data, names.data, names.size);
    sc_buffer_deinit(&names);
}

static void release(struct shard *shard, struct outcome *outcome) {
    (void)shard;
    sc_request_finish(outcome->request);
}

static void revoke(struct shard *shard, struct outcome *outcome,
                   const struct revocation *revocation) {
    (void)revocation;
    sc_blob_release(outcome->request->reply);
    collect_reply(shard, outcome->request);
    sc_outcome_again(shard, outcome);
}

static const struct outcome_kind names_outcome = {release, revoke};

static void evaluate(struct shard *shard, struct request *request) {
    collect_reply(shard, request);
    sc_read_answered(shard, request, &names_outcome);
}

static void reply(struct shard *shard, struct request *request) {
    struct gather *gather = request->gather;
    if (request->reply == NULL)
        gather->names.failed = true;
    else
        sc_buffer_append(&gather->names, request->reply->data, request->reply->size);
    if (--gather->missing == 0)
        gathered(shard, gather);
}

static const struct request_kind names_kind = {.evaluate = evaluate, .finish = reply};
