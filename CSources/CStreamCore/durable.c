// The store's files, as a shard sees them: opened before anyone may connect, written at the end of each turn.
// What follows from a change waits among the effects until its position is durable; when a write fails, the
// store takes the change back, and the effects that waited become what is still true.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>

#include "core_functions.h"

_Static_assert(SC_STORE_SHARD_DESCRIPTORS < SC_DESCRIPTORS_KEPT_BACK_A_SHARD &&
                   SC_STORE_DESCRIPTORS < SC_DESCRIPTORS_KEPT_BACK,
               "clients leave the store its files");

// ---- Start

static bool owns(void *context, uint64_t hash) {
    struct shard *shard = context;
    return sc_shard_of(shard, hash) == shard;
}

static void report(void *context, enum sc_report_level level, const char *event, const char *text) {
    const struct sc_node *node = context;
    static const enum sc_log_level levels[] = {SC_LOG_INFO, SC_LOG_WARN, SC_LOG_ERROR};
    struct sc_bytes detail = {(const uint8_t *)text, strlen(text)};
    node->events.log(node->events.context, levels[level], event, 0, detail);
}

static int open_directory(struct shard *shard, char *reason) {
    struct sc_node *node = shard->node;
    const struct sc_node_storage *storage = &node->config.storage;
    uint64_t random[2]; // What is stored tells nothing of the hash tables.
    if (getrandom(random, sizeof random, 0) != sizeof random) {
        snprintf(reason, SC_REASON_SIZE, "the system gives no random bytes");
        return -EIO;
    }
    static const enum sc_durability durability[] = {[SC_NODE_COMMIT] = SC_DURABILITY_COMMIT,
                                                    [SC_NODE_INTERVAL] = SC_DURABILITY_INTERVAL,
                                                    [SC_NODE_NO_SYNC] = SC_DURABILITY_NONE};
    struct sc_directory_config config = {.path = storage->path,
                                         .durability = durability[storage->durability],
                                         .sync_interval_ms = storage->sync_interval_ms,
                                         .shard_count = node->shard_count,
                                         .segment_size = storage->segment_size,
                                         .random = {random[0], random[1]},
                                         .repair = storage->repair,
                                         .ops = sc_loop_files(shard->loop),
                                         .reporter = {.context = node, .report = report}};
    int rc = sc_directory_open(shard->loop, &config, &node->directory, reason);
    if (rc == 0 && node->config.without_ports && !sc_directory_is_new(node->directory)) {
        snprintf(reason, SC_REASON_SIZE, "%s has a log of its own already: nothing was taken in",
                 storage->path);
        rc = -EEXIST;
    }
    return rc;
}

static void on_durable(void *context) {
    struct shard *shard = context;
    sc_effects_release(shard);
}

static void on_failed(void *context, int error, bool unknown);

int sc_operations_apply(struct sc_json_updater *updater, struct sc_json_index *scratch,
                        struct sc_bytes value, struct sc_bytes operations,
                        struct sc_bytes *result) {
    if (sc_json_scan(operations, SC_JSON_DEPTH_MAX, scratch) < 0 ||
        scratch->root.kind != SC_JSON_ARRAY)
        return -EBADMSG;
    struct sc_json_update update;
    int rc = sc_json_update_apply(updater, value, scratch->root, SC_VALUE_SIZE_MAX,
                                  SC_VALUE_DEPTH_MAX, &update);
    *result = update.value;
    return rc == 0 || rc == -ENOMEM ? rc : -EBADMSG;
}

static int apply(void *context, struct sc_bytes value, struct sc_bytes operations,
                 struct sc_bytes *result) {
    struct shard *shard = context;
    return sc_operations_apply(shard->updater, &shard->index_scratch, value, operations, result);
}

static bool is_full(int rc) {
    return rc == -ENOSPC || rc == -EDQUOT;
}

static int open_log(struct shard *shard, char *reason) {
    struct sc_node *node = shard->node;
    struct sc_log_events events = {
        .context = shard, .on_durable = on_durable, .on_failed = on_failed, .apply = apply};
    struct sc_log *log = NULL;
    int rc = sc_log_open(shard->loop, node->directory, shard->index, shard->store, owns, &events,
                         &log, reason);
    if (rc == 0 && sc_directory_is_new(node->directory))
        rc = sc_import_originals(shard, reason);
    if (rc == 0)
        rc = sc_log_start(log, reason);
    // What was read can be served without.
    if (is_full(rc) && !sc_directory_is_new(node->directory)) {
        atomic_store_explicit(&node->store_full, rc, memory_order_relaxed);
        rc = 0;
    }
    if (rc < 0)
        sc_log_close(log);
    else
        shard->log = log;
    return rc;
}

static int commit_directory(struct shard *shard, char *reason) {
    struct sc_node *node = shard->node;
    int full = atomic_load_explicit(&node->store_full, memory_order_relaxed);
    int rc = full != 0 ? full : sc_directory_commit(shard->loop, node->directory, reason);
    if (!is_full(rc) || sc_directory_is_new(node->directory))
        return rc;
    atomic_store_explicit(&node->store_full, rc, memory_order_relaxed);
    char text[SC_REASON_SIZE];
    snprintf(text, sizeof text,
             "%s has no room for a second copy of what it has, which a start writes (%s): it is "
             "served, and changes are refused until the node is started again with more room",
             node->config.storage.path, strerror(-rc));
    report(node, SC_REPORT_ERROR, "store_read_only", text);
    return 0;
}

int sc_durable_start(struct shard *shard, int rc) {
    struct sc_node *node = shard->node;
    char reason[SC_REASON_SIZE] = "out of memory";
    if (rc == 0 && !sc_clock_is_sane(sc_loop_unix_ms(shard->loop))) {
        snprintf(reason, sizeof reason,
                 "the clock is not set: it says %llu ms since 1970, which is no time between 2000 "
                 "and 2200",
                 (unsigned long long)sc_loop_unix_ms(shard->loop));
        rc = -ETIME;
    }
    rc = sc_shards_meet(shard, rc, SC_START_LOOP, rc == -ETIME ? reason : NULL);
    if (rc < 0 || node->config.storage.path == NULL)
        return rc;
    if (shard->index == 0)
        rc = open_directory(shard, reason);
    rc = sc_shards_meet(shard, rc, rc == -EBADMSG ? SC_START_STORE : SC_START_DIRECTORY, reason);
    if (rc < 0)
        return rc;
    rc = open_log(shard, reason);
    bool writes = rc == -ENOSPC || rc == -EDQUOT || rc == -EROFS || rc == -EACCES;
    rc = sc_shards_meet(shard, rc, writes ? SC_START_DIRECTORY : SC_START_STORE, reason);
    if (rc < 0)
        return rc;
    if (shard->index == 0)
        rc = commit_directory(shard, reason);
    rc = sc_shards_meet(shard, rc, SC_START_DIRECTORY, reason);
    int full = atomic_load_explicit(&node->store_full, memory_order_relaxed);
    if (rc == 0 && full != 0)
        sc_log_refuse(shard->log, full);
    return rc;
}

// ---- Running, and the end

uint64_t sc_durable_position(const struct shard *shard) {
    // In memory a change is as durable as it gets.
    return shard->log == NULL ? sc_store_position(shard->store) : sc_log_released(shard->log);
}

static void timer_due(struct sc_timer *timer) {
    (void)timer; // It only wakes the loop: the end of the turn looks at the log.
}

static void wake_at(struct shard *shard, struct sc_timer *timer, uint64_t due_ns) {
    if (due_ns == timer->due_ns)
        return;
    timer->on_due = timer_due;
    if (due_ns != 0)
        sc_timer_start_at(shard->loop, timer, due_ns);
    else
        sc_timer_stop(shard->loop, timer);
}

void sc_durable_turn(struct shard *shard) {
    if (shard->log == NULL)
        return;
    sc_log_turn(shard->log, sc_loop_monotonic_ns(shard->loop));
    wake_at(shard, &shard->gather_timer, sc_log_gathers_until(shard->log));
    // While a sync or a write is under way its end is what wakes the loop.
    uint64_t due_ns = sc_log_sync_due_ns(shard->log);
    wake_at(shard, &shard->log_timer, due_ns > sc_loop_monotonic_ns(shard->loop) ? due_ns : 0);
}

void sc_durable_finish(struct shard *shard) {
    if (shard->log == NULL)
        return;
    sc_log_finish(shard->log);
    sc_durable_turn(shard);
}

bool sc_durable_is_idle(const struct shard *shard) {
    return shard->log == NULL || sc_log_is_idle(shard->log);
}

void sc_durable_close(struct shard *shard) {
    struct sc_log *log = shard->log;
    shard->log = NULL;
    sc_log_close(log);
}

void sc_durable_close_directory(struct shard *shard) {
    if (shard->index == 0)
        sc_directory_close(shard->loop, shard->node->directory);
}

// ---- What calls are told when the disk does not do

static const struct {
    const char *code, *what;
} errors_by_op[] = {
    [SC_CALL_SET] = {"STREAM_SET_ERROR", "Failed to set value"},
    [SC_CALL_GET] = {"STREAM_GET_ERROR", "Failed to get value"},
    [SC_CALL_DELETE] = {"STREAM_DELETE_ERROR", "Failed to delete value"},
    [SC_CALL_LIST] = {"STREAM_GET_GROUP_ERROR", "Failed to get group"},
    [SC_CALL_LIST_GROUPS] = {"STREAM_LIST_GROUPS_ERROR", "Failed to list groups"},
    [SC_CALL_LIST_ALL] = {"STREAM_LIST_ALL_ERROR", "Failed to list stream"},
    [SC_CALL_SEND] = {"STREAM_SEND_ERROR", "Failed to send event"},
    [SC_CALL_UPDATE] = {"STREAM_UPDATE_ERROR", "Failed to update value"},
};

static void fail(struct shard *shard, struct call *call, const char *format, const char *detail) {
    char text[384], why[288];
    snprintf(why, sizeof why, format, detail);
    int size = snprintf(text, sizeof text, "%s: %s", errors_by_op[call->op].what, why);
    sc_call_fail(shard, call, errors_by_op[call->op].code,
                 (struct sc_bytes){(const uint8_t *)text, (size_t)size});
}

void sc_durable_refuse(struct shard *shard, struct call *call, int rc) {
    if (rc == -ENOMEM || rc == -ENOBUFS)
        fail(shard, call, "%s", "out of memory");
    else if (sc_log_is_poisoned(shard->log))
        fail(shard, call,
             "an earlier write to the disk failed (%s); nothing can be changed until the node is "
             "started again",
             strerror(-rc));
    else
        fail(shard, call, "the disk takes no more (%s); nothing was changed, try again later",
             strerror(-rc));
}

// ---- Effects of changes that were taken back

// Joins the fragments of a frame that was built for sending to one text.
static bool payload_of(struct slice slice, struct sc_buffer *out) {
    const uint8_t *at = slice_data(slice), *end = at + slice.size;
    while (end - at >= 2) {
        uint64_t size = at[1];
        size_t header = size < 126 ? 2 : size == 126 ? 4 : 10;
        if (size >= 126) {
            size = 0;
            for (size_t i = 2; i < header; i++)
                size = size << 8 | at[i];
        }
        sc_buffer_append(out, at + header, size);
        at += header + size;
    }
    return !out->failed;
}

static struct sc_bytes text_of(const struct sc_json_index *index, struct sc_bytes key) {
    struct sc_json_member scratch;
    const struct sc_json_member *member = sc_json_index_find(index, -1, key, &scratch);
    return member == NULL || member->value.kind != SC_JSON_STRING ? (struct sc_bytes){0}
                                                                  : member->value.text;
}

static bool has(const struct sc_json_index *index, struct sc_bytes key) {
    struct sc_json_member scratch;
    return sc_json_index_find(index, -1, key, &scratch) != NULL;
}

void sc_durable_explain(struct shard *shard, struct call *call, int error, bool unknown) {
    bool changes =
        call->op == SC_CALL_SET || call->op == SC_CALL_DELETE || call->op == SC_CALL_UPDATE;
    shard->counters.answers_taken_back++;
    if (!changes)
        fail(shard, call, "the disk failed (%s) while it waited for changes before it; ask again",
             strerror(-error));
    else if (unknown)
        fail(shard, call,
             "writing to the disk failed (%s); the outcome is unknown: the change is not in effect "
             "now, and may "
             "reappear after a restart",
             strerror(-error));
    else
        fail(shard, call, "the disk takes no more (%s); nothing was changed, try again later",
             strerror(-error));
}

// The node's own calls are answered with messages, all others with frames.
static bool answer_text(const struct effect *effect, struct sc_buffer *out) {
    if (effect->message == NULL)
        return effect->slice.chunk != NULL && payload_of(effect->slice, out);
    sc_buffer_append_bytes(out, sc_message_text(effect->message));
    return !out->failed;
}

// An answer on this shard: what it was to be is read back from its frame.
static bool local_answer_failed(struct shard *shard, const struct effect *effect, int error,
                                bool unknown) {
    struct sc_buffer text = {0};
    bool failed = false;
    if (answer_text(effect, &text) &&
        sc_json_scan(sc_buffer_bytes(&text), SC_JSON_DEPTH_MAX, &shard->index_scratch) == 0 &&
        !has(&shard->index_scratch, SC_LITERAL("error"))) {
        const struct sc_json_index *index = &shard->index_scratch;
        struct call call = {.echo = {.invocation_id = text_of(index, SC_LITERAL("invocation_id")),
                                     .function_id = text_of(index, SC_LITERAL("function_id")),
                                     .traceparent = text_of(index, SC_LITERAL("traceparent")),
                                     .baggage = text_of(index, SC_LITERAL("baggage"))},
                            .connection = effect->connection,
                            .answer = effect->answer,
                            .size_max = UINT64_MAX,
                            .wants_answer = true};
        struct sc_bytes id = call.echo.function_id;
        int op = id.size < 2 ? -1 : sc_call_op_find((struct sc_bytes){id.data + 1, id.size - 2});
        call.op = (uint8_t)(op < 0 ? SC_CALL_GET : op);
        sc_durable_explain(shard, &call, error, unknown);
        failed = true;
    }
    sc_buffer_deinit(&text);
    return failed;
}

static bool answer_failed(struct shard *shard, const struct effect *effect, int error,
                          bool unknown) {
    struct request *request = effect->request;
    if (request == NULL)
        return local_answer_failed(shard, effect, error, unknown);
    sc_blob_release(request->reply);
    request->reply = NULL;
    if (request->kind == REQUEST_NAMES) {
        sc_names_collect(shard, request);
        return false;
    }
    sc_durable_explain(shard, &request->call, error, unknown);
    return true;
}

// Becomes what it is without the changes that were taken back.
static void effect_failed(struct shard *shard, struct effect *effect, int error, bool unknown) {
    sc_effect_settle(shard, effect);
    switch ((enum effect_kind)effect->kind) {
    case EFFECT_EVENT:
        sc_slice_release(shard, effect->slice);
        effect->topic->in_flight--;
        sc_topic_drop_idle(shard, effect->topic);
        return;
    case EFFECT_ANSWER:
        if (answer_failed(shard, effect, error, unknown)) {
            sc_slice_release(shard, effect->slice);
            sc_message_release(effect->message);
            return;
        }
        break;
    case EFFECT_TRIGGER:
        sc_message_release(effect->message);
        return;
    case EFFECT_HOLD:
        return; // The reading begins again, or has ended with the join that comes behind.
    case EFFECT_JOIN: {
        const struct call *call = &effect->request->call;
        if (effect->request->custom)
            break;
        sc_slice_release(shard, effect->slice);
        sc_blob_release(effect->request->tail);
        effect->request->tail = NULL;
        if (effect->request->fresh)
            sc_hold_push(shard, effect->topic, effect->request); // Its `sync` is a later one.
        effect->slice = sc_sync_build(shard, &call->name, call->has_item ? &call->item : NULL);
        break;
    }
    }
    effect->position = sc_store_position(shard->store);
    *sc_effect_push(shard) = *effect;
}

static void on_failed(void *context, int error, bool unknown) {
    struct shard *shard = context;
    shard->taken_back++;
    sc_kept_drop_all(shard);
    struct effects waiting = shard->effects;
    shard->effects = (struct effects){0};
    for (; waiting.head != waiting.tail; waiting.head++)
        effect_failed(shard, &waiting.ring[waiting.head & waiting.mask], error, unknown);
    free(waiting.ring);
    sc_buffer_deinit(&waiting.names);
    sc_listing_taken_back(shard, error, unknown);
    sc_effects_release(shard);
}
