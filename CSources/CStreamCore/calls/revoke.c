// What calls are told when the disk does not do: that it takes no change, and that one was taken back.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "calls.h"

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
