// Large groups are read in steps, so that nobody waits for a list or a `sync` of a million items: a step a
// turn, one group at a time. What is read is the group as it was when its turn came. Until then whoever asked
// starts no further calls, so that none of them overtakes the list; those who join the group meanwhile
// share one `sync`, and the changes since then (struct kept_sync) follow it. A connection that gets events of the group
// already stands still from then on (catch_up.c).
#include <stdlib.h>

#include "core_functions.h"
#include "history.h"

/// A list to be answered (`request`), or the `sync` of a topic.
struct listing_job {
    struct listing_job *_Nullable next;
    struct request *_Nullable request;
    struct topic *_Nullable topic;
    struct request *_Nullable joins; // They wait for the `sync`; the last one first.
    struct sc_blob *_Nullable blob;  // The message to be; there once the reading has begun.
    struct sc_ws_writer writer;
    bool any;           // A value is written.
    bool waited;        // For room for its `sync`.
    uint64_t passed;    // Bytes of events since the reading began, when the last step was taken.
    uint64_t position;  // Of the store, when the reading began.
    uint64_t timestamp; // Of the `sync`.
};

/// Joins that go on, since their `sync` is made, or since they are to be evaluated without one.
struct joins_ready {
    struct joins_ready *_Nullable next;
    struct topic *topic; // It is there as long as one of them is.
    struct request *_Nullable first;
    struct sc_blob *_Nullable sync;
    uint32_t evaluated;
};

// ---- Asking

static struct listing_job *add(struct shard *shard, struct request *request, struct topic *topic) {
    struct listings *listings = &shard->listings;
    struct listing_job *job = sc_allocate(sizeof *job);
    shard->stepped++;
    *job = (struct listing_job){.request = request, .topic = topic};
    if (listings->last != NULL)
        listings->last->next = job;
    else
        listings->first = job;
    listings->last = job;
    sc_shard_turn_again(shard);
    return job;
}

static struct worker *local_caller(struct shard *shard, const struct request *request) {
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

void sc_listing_add_call(struct shard *shard, struct call *call) {
    struct request *request = call->request;
    if (request == NULL) {
        request = sc_request_make(shard, shard, &sc_request_call, call, (struct sc_bytes){0});
        sc_request_count(request);
    }
    struct worker *worker = local_caller(shard, request);
    if (worker != NULL)
        worker->barriers++;
    sc_call_queue_list_waits(shard, request->call.connection);
    add(shard, request, NULL);
}

void sc_listing_add_join(struct shard *shard, struct topic *topic, struct request *request) {
    struct listing_job *job = shard->listings.first;
    while (job != NULL &&
           (job->topic != topic || (job->blob != NULL && !sc_join_takes(request, job->position))))
        job = job->next;
    if (job == NULL)
        job = add(shard, NULL, topic);
    request->next_waiting = job->joins;
    job->joins = request;
}

// The list has its snapshot, or its answer: later calls of its connection may go on.
static void let_go(struct shard *shard, const struct request *request) {
    struct worker *worker = local_caller(shard, request);
    if (worker != NULL) {
        assert(worker->barriers > 0);
        worker->barriers--;
    }
    sc_call_queue_list_begun(shard, request->call.connection);
}

// ---- Reading

static const struct sc_group_name *name_of(const struct listing_job *job,
                                           struct sc_group_name *own) {
    if (job->request != NULL)
        return &job->request->call.name;
    *own = sc_topic_name(job->topic);
    return own;
}

static void remove_first(struct shard *shard) {
    struct listing_job *job = shard->listings.first;
    shard->stepped--;
    shard->listings.first = job->next;
    if (shard->listings.first == NULL)
        shard->listings.last = NULL;
    sc_blob_release(job->blob);
    free(job);
}

static size_t answer_parts(const struct listing_job *job, uint64_t array_size,
                           struct sc_bytes *parts) {
    struct sc_bytes body[2];
    size_t count = sc_result_value(body, (struct sc_bytes){NULL, array_size});
    return sc_answer_parts(parts, &job->request->call.echo, body, count);
}

// Where in the parts of an answer the array stands.
#define ARRAY_AT (SC_ANSWER_BODY_AT + 1)

static bool begin_answer(struct listing_job *job, uint64_t array_size) {
    struct sc_bytes parts[SC_TEXT_PARTS_MAX];
    size_t count = answer_parts(job, array_size, parts);
    uint64_t payload = sc_parts_size(parts, count);
    bool text = job->request->call.connection == SC_NODE_CONNECTION;
    if (payload > job->request->call.size_max)
        return false;
    job->blob = sc_blob_create(text ? payload : sc_ws_message_size(payload));
    if (job->blob == NULL)
        return false;
    job->request->reply = sc_blob_retain(job->blob);
    sc_request_charge_reply(job->request);
    job->writer = text ? sc_ws_writer_begin_bare(job->blob->data, payload)
                       : sc_ws_writer_begin(job->blob->data, payload);
    for (size_t i = 0; i < ARRAY_AT; i++)
        sc_ws_writer_put(&job->writer, parts[i]);
    return true;
}

static bool begin_sync(struct shard *shard, struct listing_job *job, uint64_t array_size) {
    struct sc_group_name own;
    const struct sc_group_name *name = name_of(job, &own);
    job->timestamp = sc_store_stamp_group_sync(shard->store, name, sc_now_ms(shard));
    uint8_t digits[20];
    struct sc_bytes parts[SC_SYNC_HEAD_PARTS];
    sc_sync_head(parts, digits, topic_prefix(job->topic), job->timestamp);
    uint64_t head = sc_parts_size(parts, SC_SYNC_HEAD_PARTS),
             payload = head + array_size + SC_STREAM_TEXT_END.size;
    if (array_size > shard->node->config.sync_size_max)
        return false;
    job->blob = sc_blob_create(sizeof(uint64_t) + sc_ws_message_size(payload));
    if (job->blob == NULL)
        return false;
    uint64_t offset = sizeof(uint64_t) + sc_ws_header_size(payload) + head;
    offset = payload > SC_FRAGMENT_SIZE_MAX ? 0 : offset;
    memcpy(job->blob->data, &offset, sizeof offset);
    job->writer = sc_ws_writer_begin(job->blob->data + sizeof offset, payload);
    for (size_t i = 0; i < SC_SYNC_HEAD_PARTS; i++)
        sc_ws_writer_put(&job->writer, parts[i]);
    sc_kept_begin(shard, job->topic, NULL); // The events from here on follow the `sync`.
    job->position = job->topic->kept->position;
    return true;
}

struct step {
    struct listing_job *job;
    uint64_t size, size_max;
    uint64_t items, items_max;
};

static bool put_value(struct sc_blob *value, void *context) {
    struct step *step = context;
    struct listing_job *job = step->job;
    sc_ws_writer_put(&job->writer, job->any ? SC_LITERAL(",") : SC_LITERAL("["));
    job->any = true;
    sc_ws_writer_put(&job->writer, sc_blob_bytes(value));
    step->size += value->size + 1;
    return ++step->items < step->items_max && step->size < step->size_max;
}

// Events that come meanwhile wait in the histories, which are bounded. So a group is read the faster the faster it
// changes, to be done when half of the bound has come.
static struct step next_step(struct shard *shard, struct listing_job *job) {
    struct step step = {
        .job = job, .items_max = SC_GROUP_STEP_ITEMS, .size_max = SC_GROUP_STEP_SIZE};
    if (job->topic == NULL)
        return step;
    const struct history_reader *reader = &job->topic->kept->reader;
    uint64_t passed = reader->lost ? UINT64_MAX : sc_history_behind(reader);
    uint64_t most = shard->node->config.stream.budget / 2;
    uint64_t grown = passed - job->passed;
    job->passed = passed;
    if (passed >= most)
        return (struct step){.job = job, .items_max = UINT64_MAX, .size_max = UINT64_MAX};
    uint64_t times = 1 + job->writer.left * grown / (most - passed) / SC_GROUP_STEP_SIZE;
    step.items_max *= times;
    step.size_max *= times;
    return step;
}

// ---- The end

static void answer(struct shard *shard, struct listing_job *job) {
    struct request *request = job->request;
    struct sc_bytes parts[SC_TEXT_PARTS_MAX];
    size_t count = answer_parts(job, 0, parts);
    for (size_t i = ARRAY_AT + 1; i < count; i++)
        sc_ws_writer_put(&job->writer, parts[i]);
    assert(job->writer.left == 0);
    sc_read_answered(shard, request, &sc_outcome_answer);
}

// Joins are evaluated in the order in which they came. A connection that stands still gets this very `sync`; without
// one it gets a later one, and before that the events that it has waited with.
static void evaluate_join(struct shard *shard, struct topic *topic, struct request *join,
                          struct sc_blob *_Nullable sync, bool at_once) {
    bool stands = join->from == JOIN_FROM_NOW;
    if (stands && sync != NULL) {
        sc_join_with_sync(shard, topic, join, sync);
        return;
    }
    if (stands)
        sc_stand_push(shard, topic, join);
    else
        join->from = JOIN_FROM_ANY; // What is kept now was begun after it had come.
    sc_join_snapshot(shard, topic, join, at_once);
}

// Evaluates some of the joins that go on. In a later turn nothing is read at once for them: the group may have changed, and
// would be read in each turn.
static void evaluate_joins(struct shard *shard, struct joins_ready *ready) {
    bool at_once = ready->evaluated == 0 && (ready->sync == NULL || ready->topic->kept == NULL);
    bool deferred = ready->evaluated > 0;
    for (uint32_t i = 0; ready->first != NULL && i < SC_JOINS_PER_TURN; i++) {
        struct request *join = ready->first;
        ready->first =
            join->next_waiting; // The request may be freed now, and the topic with the last one.
        evaluate_join(shard, ready->topic, join, ready->sync, at_once);
        ready->evaluated++;
        shard->counters.joins_deferred += deferred;
    }
}

static void evaluate_ready(struct shard *shard) {
    struct joins_ready *ready = shard->listings.ready;
    if (ready == NULL)
        return;
    evaluate_joins(shard, ready);
    if (ready->first != NULL) {
        sc_shard_turn_again(shard);
        return;
    }
    shard->listings.ready = ready->next;
    shard->stepped--;
    sc_blob_release(ready->sync);
    free(ready);
}

// `joins` has the last one first.
static void joins_go_on(struct shard *shard, struct topic *topic, struct request *joins,
                        struct sc_blob *_Nullable sync) {
    struct joins_ready *ready = sc_allocate(sizeof *ready);
    *ready =
        (struct joins_ready){.topic = topic, .sync = sync == NULL ? NULL : sc_blob_retain(sync)};
    while (joins != NULL) {
        struct request *next = joins->next_waiting;
        joins->next_waiting = ready->first;
        ready->first = joins;
        joins = next;
    }
    struct joins_ready **end = &shard->listings.ready;
    while (*end != NULL)
        end = &(*end)->next;
    *end = ready;
    shard->stepped++;
    if (shard->listings.ready == ready)
        evaluate_ready(shard);
}

static void sync_made(struct shard *shard, struct listing_job *job) {
    struct topic *topic = job->topic;
    struct kept_sync *kept = topic->kept;
    sc_ws_writer_put(&job->writer, SC_STREAM_TEXT_END);
    assert(job->writer.left == 0 && kept != NULL && kept->sync == NULL);
    shard->counters.syncs_serialised++;
    struct sc_group_name made = sc_topic_name(topic);
    sc_snapshot_made(shard, &made, job->blob);
    kept->sync = sc_blob_retain(job->blob);
    kept->made_ns = sc_loop_monotonic_ns(shard->loop);
    if (kept->reader.lost)
        sc_kept_drop(topic);
    // The same stamp again: nothing of the group has been stamped since.
    struct sc_group_name name = sc_topic_name(topic);
    struct sc_group *group = sc_store_group_find(shard->store, &name);
    if (group != NULL &&
        job->timestamp == sc_store_stamp_group_sync(shard->store, &name, sc_now_ms(shard)))
        sc_group_cache_set(group, job->blob);
}

static void finish(struct shard *shard) {
    struct listing_job *job = shard->listings.first;
    sc_read_view_end(shard->store);
    sc_ws_writer_put(&job->writer, SC_LITERAL("]"));
    if (job->request != NULL)
        answer(shard, job);
    else
        sync_made(shard, job);
    struct topic *topic = job->topic;
    struct request *joins = job->joins;
    struct sc_blob *blob = sc_blob_retain(job->blob);
    remove_first(shard);
    if (topic != NULL)
        joins_go_on(shard, topic, joins, blob);
    sc_blob_release(blob);
}

// It cannot be read in steps, or need not be any more: at once then, with whatever error that gives.
static void finish_at_once(struct shard *shard) {
    struct listing_job *job = shard->listings.first;
    struct request *request = job->request, *joins = job->joins;
    struct topic *topic = job->topic;
    bool begun = job->blob != NULL;
    remove_first(shard);
    if (request != NULL) {
        sc_call_list(shard, &request->call);
        if (!begun)
            let_go(shard, request);
    }
    if (topic != NULL) {
        sc_kept_drop(topic);
        joins_go_on(shard, topic, joins, NULL);
    }
}

#define SNAPSHOTS_LOOK_MS 20

// A `sync` for which there is no room waits behind the other jobs; if all wait for that, until a timer is due. Nothing
// waits for it but its own joins.
static bool has_room(struct shard *shard) {
    struct listings *listings = &shard->listings;
    for (struct listing_job *last = listings->last, *job = NULL; job != last;) {
        job = listings->first;
        struct sc_group_name own;
        uint64_t size = sc_group_array_size(sc_store_group_find(shard->store, name_of(job, &own)));
        if (job->topic == NULL || sc_snapshots_have_room(shard, size))
            return true;
        shard->counters.joins_waited += job->waited ? 0 : 1;
        job->waited = true;
        if (listings->first == listings->last)
            break;
        listings->first = job->next;
        job->next = NULL;
        listings->last->next = job;
        listings->last = job;
    }
    return false;
}

static void begin(struct shard *shard) {
    struct listing_job *job = shard->listings.first;
    struct sc_group_name own;
    struct sc_group *group = sc_store_group_find(shard->store, name_of(job, &own));
    uint64_t size = sc_group_array_size(group);
    if (job->request != NULL && caller_is_gone(shard, job->request))
        job->request->call.wants_answer = false;
    bool wanted = job->request == NULL || job->request->call.wants_answer;
    if (!wanted || size <= SC_GROUP_STEP_SIZE ||
        !(job->request != NULL ? begin_answer(job, size) : begin_sync(shard, job, size))) {
        finish_at_once(shard);
        return;
    }
    sc_read_view_begin(shard->store, group);
    if (job->request != NULL)
        let_go(shard, job->request);
    for (struct request *join = job->joins; join != NULL; join = join->next_waiting)
        if (join->from == JOIN_FROM_NOW)
            sc_stand_push(shard, job->topic, join);
}

void sc_listing_turn(struct shard *shard) {
    evaluate_ready(shard);
    if (shard->listings.first == NULL)
        return;
    struct request *request = shard->listings.first->request;
    if (!sc_read_view_is_active(shard->store)) {
        if (!has_room(shard)) {
            if (shard->snapshot_timer.due_ns == 0)
                sc_timer_start(shard->loop, &shard->snapshot_timer, SNAPSHOTS_LOOK_MS);
            return;
        }
        begin(shard);
    } else if (request != NULL && caller_is_gone(shard, request)) {
        request->call.wants_answer = false;
        sc_read_view_end(shard->store);
        finish_at_once(shard);
    } else {
        struct step step = next_step(shard, shard->listings.first);
        int rc = sc_read_view_step(shard->store, put_value, &step);
        if (rc == 0) {
            finish(shard);
        } else if (rc < 0) {
            sc_read_view_end(shard->store);
            finish_at_once(shard);
        }
    }
    if (shard->listings.first != NULL)
        sc_shard_turn_again(shard);
}

void sc_listing_taken_back(struct shard *shard, int error, bool unknown) {
    for (struct joins_ready *ready = shard->listings.ready; ready != NULL; ready = ready->next) {
        sc_blob_release(ready->sync); // It may show what was taken back.
        ready->sync = NULL;
    }
    if (!sc_read_view_is_active(shard->store))
        return;
    sc_read_view_end(shard->store);
    struct listing_job *job = shard->listings.first;
    if (job->request != NULL) {
        sc_durable_explain(shard, &job->request->call, error, unknown);
        remove_first(shard);
        return;
    }
    sc_blob_release(job->blob);
    job->blob = NULL;
    job->any = false;
    job->passed = 0;
}
