// stream::list_groups and stream::list_all: the groups of a stream live on all shards, so the caller's
// shard asks each of them and puts the names together, sorted by bytes.
#include <stdlib.h>

#include "call_input.h"
#include "core_functions.h"

struct name_pair {
    struct sc_bytes stream, group;
};

/// A call that waits for the names of all shards.
struct gather {
    struct request *call;              // Never sent: it keeps what the answer needs.
    struct request *_Nullable request; // The one that the call has come as, if it has waited.
    uint32_t missing;
    uint32_t taken_back;    // Of the shard, when its own names were collected.
    struct sc_buffer names; // As collect writes them.
};

// Stream size, group size, stream, group; one after the other.
static void collect(struct sc_bytes stream, struct sc_bytes group, void *context) {
    struct sc_buffer *out = context;
    uint16_t sizes[2] = {(uint16_t)stream.size, (uint16_t)group.size};
    sc_buffer_append(out, sizes, sizeof sizes);
    sc_buffer_append_bytes(out, stream);
    sc_buffer_append_bytes(out, group);
}

static void collect_all(struct shard *shard, const struct call *call, struct sc_buffer *out) {
    bool one = call->op == SC_CALL_LIST_GROUPS;
    sc_store_for_each_group(shard->store, one ? &call->name.stream : NULL, collect, out);
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

static size_t read_pairs(const struct sc_buffer *names, struct name_pair **pairs) {
    size_t count = 0, capacity = names->size / 4 + 1; // A pair takes at least its sizes.
    *pairs = sc_allocate(capacity * sizeof **pairs);
    for (size_t at = 0; at < names->size;) {
        uint16_t sizes[2];
        memcpy(sizes, names->data + at, sizeof sizes);
        at += sizeof sizes;
        struct name_pair *pair = &(*pairs)[count++];
        pair->stream = (struct sc_bytes){names->data + at, sizes[0]};
        pair->group = (struct sc_bytes){names->data + at + sizes[0], sizes[1]};
        at += (size_t)sizes[0] + sizes[1];
    }
    qsort(*pairs, count, sizeof **pairs, compare_pairs);
    return count;
}

static void write_groups(struct sc_buffer *out, const struct name_pair *pairs, size_t count) {
    sc_buffer_append_bytes(out, SC_LITERAL("["));
    for (size_t i = 0; i < count; i++) {
        if (i > 0)
            sc_buffer_append_bytes(out, SC_LITERAL(","));
        sc_json_write_string(out, pairs[i].group);
    }
    sc_buffer_append_bytes(out, SC_LITERAL("]"));
}

static void write_streams(struct sc_buffer *out, const struct name_pair *pairs, size_t count) {
    sc_buffer_append_bytes(out, SC_LITERAL("{\"stream\":["));
    size_t streams = 0;
    for (size_t i = 0; i < count;) {
        size_t end = i + 1;
        while (end < count && sc_bytes_equal(pairs[end].stream, pairs[i].stream))
            end++;
        sc_buffer_append_bytes(out,
                               streams++ > 0 ? SC_LITERAL(",{\"id\":") : SC_LITERAL("{\"id\":"));
        sc_json_write_string(out, pairs[i].stream);
        sc_buffer_append_bytes(out, SC_LITERAL(",\"groups\":"));
        write_groups(out, &pairs[i], end - i);
        sc_buffer_append_bytes(out, SC_LITERAL("}"));
        i = end;
    }
    uint8_t digits[20];
    sc_buffer_append_bytes(out, SC_LITERAL("],\"count\":"));
    sc_buffer_append(out, digits, sc_decimal_write(digits, streams));
    sc_buffer_append_bytes(out, SC_LITERAL("}"));
}

static void finish(struct shard *shard, struct gather *gather) {
    struct call *call = &gather->call->call;
    if (gather->taken_back != shard->taken_back) {
        gather->names.size = 0; // Some of them may never have been.
        gather->names.failed = true;
    }
    struct name_pair *pairs;
    size_t count = read_pairs(&gather->names, &pairs);
    struct sc_buffer text = {0};
    if (call->op == SC_CALL_LIST_GROUPS)
        write_groups(&text, pairs, count);
    else
        write_streams(&text, pairs, count);
    free(pairs);
    call->request = gather->request; // The answer stays on this shard.
    struct sc_bytes body[] = {SC_LITERAL(",\"result\":"), sc_buffer_bytes(&text)};
    if (text.failed || gather->names.failed)
        sc_call_fail(shard, call,
                     call->op == SC_CALL_LIST_GROUPS ? "STREAM_LIST_GROUPS_ERROR"
                                                     : "STREAM_LIST_ALL_ERROR",
                     gather->taken_back != shard->taken_back
                         ? SC_LITERAL("Failed to list: the disk failed; ask again")
                         : SC_LITERAL("Failed to list: out of memory"));
    else
        sc_call_answer(shard, call, body, 2);
    sc_buffer_deinit(&text);
    sc_buffer_deinit(&gather->names);
    sc_request_free(gather->call);
    free(gather);
    sc_effects_release(shard);
}

void sc_names_start(struct shard *shard, struct call *call) {
    struct sc_bytes none = {0};
    struct gather *gather = sc_allocate(sizeof *gather);
    *gather = (struct gather){.request = call->request,
                              .missing = shard->node->shard_count,
                              .taken_back = shard->taken_back};
    gather->call = sc_request_make(shard, shard, REQUEST_NAMES, call, none);
    collect_all(shard, call, &gather->names);
    for (uint32_t i = 0; i < shard->node->shard_count; i++) {
        if (i == shard->index)
            continue;
        struct request *request =
            sc_request_make(shard, shard->node->shards[i], REQUEST_NAMES, call, none);
        request->gather = gather;
        sc_request_send(request);
    }
    if (--gather->missing == 0)
        finish(shard, gather);
}

void sc_names_collect(struct shard *shard, struct request *request) {
    struct sc_buffer names = {0};
    collect_all(shard, &request->call, &names);
    request->reply = names.failed ? NULL : sc_blob_create(names.size);
    if (request->reply != NULL && names.size > 0)
        memcpy(request->reply->data, names.data, names.size);
    sc_buffer_deinit(&names);
}

void sc_names_evaluate(struct shard *shard, struct request *request) {
    sc_names_collect(shard, request);
    sc_read_answered(shard, request);
    sc_effects_release(shard);
}

void sc_names_reply(struct shard *shard, struct request *request) {
    struct gather *gather = request->gather;
    if (request->reply == NULL)
        gather->names.failed = true;
    else
        sc_buffer_append(&gather->names, request->reply->data, request->reply->size);
    if (--gather->missing == 0)
        finish(shard, gather);
}
