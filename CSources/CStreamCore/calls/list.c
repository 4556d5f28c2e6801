// The list of a large group is read in steps. Until its turn comes its caller starts no further call, so that none of them
// overtakes the list.
#include <stdlib.h>

#include "calls.h"

struct list_reading {
    struct reading reading;
    struct request *request;
};
static struct request *request_of(const struct reading *reading) {
    return SC_CONTAINER_OF(reading, struct list_reading, reading)->request;
}

// ---- The caller

// The caller of another shard is held back there, by its own calls: here only its queue knows.
static struct caller *local_caller(struct shard *shard, const struct request *request) {
    if (request->origin != shard)
        return NULL;
    return sc_caller_find(shard, request->call.connection);
}

// So is one of another shard when all connections are, at the end of the patience of a stop.
static bool caller_is_gone(struct shard *shard, const struct request *request) {
    if (request->call.connection == SC_NODE_CONNECTION)
        return false;
    bool is_late =
        shard->stop_due_ns != 0 && sc_loop_monotonic_ns(shard->loop) >= shard->stop_due_ns;
    return is_late || sc_account_state(request->call.account) != SC_ACCOUNT_OPEN;
}

// The list has its snapshot, or its answer: later calls of its connection may go on.
static void let_go(struct shard *shard, const struct request *request) {
    struct caller *caller = local_caller(shard, request);
    if (caller != NULL) {
        assert(caller->barriers > 0);
        caller->barriers--;
    }
    sc_call_queue_list_begun(shard, request->call.connection);
}

// ---- The reading

static struct sc_group_name name(const struct reading *reading) {
    return request_of(reading)->call.name;
}

// An answer that nobody takes is not worked out. The request is answered all the same, with nothing: it has to come back.
static bool is_wanted(struct shard *shard, struct reading *reading) {
    struct request *request = request_of(reading);
    if (caller_is_gone(shard, request))
        request->call.wants_answer = false;
    return request->call.wants_answer;
}

static size_t answer_parts(const struct request *request, uint64_t array_size,
                           struct sc_bytes *parts) {
    struct sc_bytes body[2];
    size_t count = sc_result_value(body, (struct sc_bytes){NULL, array_size});
    return sc_answer_parts(parts, &request->call.echo, body, count);
}

// Where in the parts of an answer the array stands.
#define ARRAY_AT (SC_ANSWER_BODY_AT + 1)

// The size of the array is known, so that the whole message is laid out once, with its header in front. The caller is charged from now on,
// before a byte of it is written.
static bool begin(struct shard *shard, struct reading *reading, uint64_t array_size) {
    (void)shard;
    struct request *request = request_of(reading);
    struct sc_bytes parts[SC_TEXT_PARTS_MAX];
    size_t count = answer_parts(request, array_size, parts);
    uint64_t payload = sc_parts_size(parts, count);
    bool text = request->call.connection == SC_NODE_CONNECTION;
    if (payload > request->call.size_max)
        return false;
    reading->blob = sc_blob_create(text ? payload : sc_ws_message_size(payload));
    if (reading->blob == NULL)
        return false;
    request->reply = sc_blob_retain(reading->blob);
    sc_request_charge_reply(request);
    reading->writer = text ? sc_ws_writer_begin_bare(reading->blob->data, payload)
                           : sc_ws_writer_begin(reading->blob->data, payload);
    for (size_t i = 0; i < ARRAY_AT; i++)
        sc_ws_writer_put(&reading->writer, parts[i]);
    return true;
}

// The snapshot is taken: changes of the caller that come now are not in it, whenever it is read to its end.
static void begun(struct shard *shard, struct reading *reading) {
    let_go(shard, request_of(reading));
}

static void finish(struct shard *shard, struct reading *reading) {
    struct request *request = request_of(reading);
    struct sc_bytes parts[SC_TEXT_PARTS_MAX];
    size_t count = answer_parts(request, 0, parts);
    for (size_t i = ARRAY_AT + 1; i < count; i++)
        sc_ws_writer_put(&reading->writer, parts[i]);
    assert(reading->writer.left == 0);
    sc_read_answered(shard, request, &sc_outcome_answer);
}

static void at_once(struct shard *shard, struct reading *reading) {
    struct request *request = request_of(reading);
    bool is_held = reading->blob == NULL;
    sc_call_list(shard, &request->call);
    if (is_held)
        let_go(shard, request);
}

// A list of what is not true any more cannot be begun again: later calls of the caller may have passed it.
static bool rollback(struct shard *shard, struct reading *reading, int error, bool unknown) {
    sc_durable_explain(shard, &request_of(reading)->call, error, unknown);
    return true;
}

static const struct reading_kind list_kind = {.name = name,
                                              .is_wanted = is_wanted,
                                              .begin = begin,
                                              .begun = begun,
                                              .finish = finish,
                                              .at_once = at_once,
                                              .rollback = rollback};

// A request keeps what the answer needs, though this shard is the caller's: the slices of a call end with it.
void sc_list_read(struct shard *shard, struct call *call) {
    struct request *request = call->request;
    if (request == NULL) {
        request = sc_request_make(shard, shard, &sc_request_call, call, (struct sc_bytes){0});
        sc_request_count(request);
    }
    struct caller *caller = local_caller(shard, request);
    if (caller != NULL)
        caller->barriers++;
    sc_call_queue_list_waits(shard, request->call.connection);
    struct list_reading *list = sc_allocate(sizeof *list);
    *list = (struct list_reading){.reading.kind = &list_kind, .request = request};
    sc_reading_add(shard, &list->reading);
}
