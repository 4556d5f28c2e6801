// Calls of stream functions: executed at the owner of their group, in one order, and answered in the order of the caller.
//
// A call has two steps. sc_call_execute begins it: what it changes is changed then. sc_call_answer and sc_call_fail complete
// it, at once, or later where the result comes in steps or from other shards: the call lies in a request meanwhile.
//
// Thread: that of the shard. The call of a request belongs to the shard that has the request.
#ifndef CSTREAM_CALLS_H
#define CSTREAM_CALLS_H

#include "../streams/streams.h"

#pragma clang assume_nonnull begin

/// Calls of one connection without an answer. With more, its calls wait.
#define ANSWERS_MAX 1024u

// ---- Callers

struct answer_slot {
    bool ready;
    struct slice slice; // Without a chunk: nothing to send.
};

/// A connection that calls. Its answers leave in the order of its calls: each has a slot, by its number.
struct caller {
    struct connection connection;
    uint32_t barriers;                   // Registrations and lists behind which its messages wait.
    struct answer_slot *_Nullable slots; // A ring of answers that are not due yet.
    uint32_t slot_mask, slot_head, slot_tail;
};
_Static_assert(offsetof(struct caller, connection) == 0, "one object of the heap");

static inline struct caller *caller_of(const struct connection *connection) {
    return SC_CONTAINER_OF(connection, struct caller, connection);
}
/// The caller with that connection, or NULL when it is gone. Only connections that call are asked for.
static inline struct caller *_Nullable sc_caller_find(const struct shard *shard,
                                                      uint64_t connection) {
    struct connection *found = sc_connection_find(shard, connection);
    return found == NULL ? NULL : caller_of(found);
}

/// What a shard has of calls.
struct calls {
    struct streams streams;
    struct sc_wait_list collections; // Of names of this shard's groups; the first is under way.
    struct sc_wait_list gathers;     // Lists of names that are being sorted and written.
};
static inline struct calls *calls_of(const struct shard *shard) {
    return SC_CONTAINER_OF(shard, struct calls, streams.shard);
}

// ---- execute.c

/// A call that runs at another shard, or has to wait at this one.
extern const struct request_kind sc_request_call;
/// Begins a call, whose turn it is.
void sc_call_execute(struct shard *shard, struct call *call);
/// Completes a list in one piece.
void sc_call_list(struct shard *shard, struct call *call);

// ---- answer.c

/// Completes a call. `parts` is what stands behind the ids in its answer, see sc_result_value.
void sc_call_answer(struct shard *shard, struct call *call, const struct sc_bytes *_Nullable parts,
                    size_t count);
/// Completes a call with an error.
void sc_call_fail(struct shard *shard, struct call *call, const char *code,
                  struct sc_bytes message);
/// The answer to a call: `slice` or `message` for one of this shard, else the reply of `request`.
extern const struct outcome_kind sc_outcome_answer;
/// Hands the answer to a connection of this shard. Consumes `slice`.
void sc_answer_connection(struct shard *shard, uint64_t connection, uint32_t slot,
                          struct slice slice);
/// The answer to a call of the node itself: announces the message `text`.
void sc_node_answered(struct shard *shard, struct sc_bytes text);

// ---- revoke.c

/// Refuses a change that the store did not take: `rc` of sc_store_set or sc_store_delete.
void sc_durable_refuse(struct shard *shard, struct call *call, int rc);
/// Completes a call whose changes, or what it has read, were taken back.
void sc_durable_explain(struct shard *shard, struct call *call, int error, bool unknown);

// ---- list.c

/// Has the list of a large group answered step by step.
void sc_list_read(struct shard *shard, struct call *call);

// ---- list_groups.c

/// Begins a list of names.
void sc_list_groups(struct shard *shard, struct call *call);
/// Takes a step of those that are under way; at the end of a turn.
void sc_list_groups_turn(struct shard *shard);

// ---- answer_slots.c

/// Gives the next answer a slot.
uint32_t sc_answer_begin(struct caller *caller);
/// Its answer is there: sends it, and those behind it that are ready, or keeps it. Borrows `slice`.
void sc_answer_end(struct caller *caller, uint32_t slot, struct slice slice);
/// Gives up answers that are not due: the caller has gone.
void sc_answers_drop(struct caller *caller);

#pragma clang assume_nonnull end

#endif
