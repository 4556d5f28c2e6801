// A shard: one thread, one loop, a part of all groups. Here are its services, and what travels between shards. They know
// calls and topics by name only; what those are is said by the rooms above.
//
// Thread: a shard alone reads and writes what is its own. Another one is reached by messages of its loop.
#ifndef CSTREAM_SHARD_H
#define CSTREAM_SHARD_H

#include "CStreamCore.h"
#include "CStreamLoop.h"
#include "CStreamStore.h"
#include "CStreamTransport.h"

#pragma clang assume_nonnull begin

struct shard;
struct topic;
struct request;
struct reading;
struct caller;

/// Messages of one connection in the control plane's hands. With more, its calls wait.
#define MESSAGES_MAX 1024u

static inline uint32_t lane_of_topic(uint64_t hash) {
    return LANE_EVENTS + (uint32_t)(hash % LANE_EVENT_COUNT);
}

// ---- Calls

/// A stream function call with all that its answer needs. Slices are valid during the call.
struct call {
    uint8_t op; // enum sc_call_op
    bool wants_answer;
    struct sc_group_name name;
    struct sc_bytes item;
    bool has_item; // SC_CALL_SEND
    struct sc_bytes type;
    struct sc_json_value data;
    struct sc_json_value ops;
    struct sc_echo echo;
    uint64_t connection;
    struct caller *_Nullable caller;   // While its message is handled: nobody has to look for it.
    uint32_t answer;                   // The slot of its answer, see calls.h.
    struct request *_Nullable request; // NULL: the caller is on this shard.
    uint64_t size_max;                 // Of the answer.
    /// Of the caller; what its changes set off is charged to it. A request holds it, a call on the caller's shard
    /// borrows it.
    struct sc_account *_Nullable account;
};

// ---- Outcomes

struct outcome;
struct outcomes;

/// Changes were taken back: `error` (-errno) of the disk, and whether they may reappear after a restart.
struct revocation {
    const struct outcomes *of; // The ring that the outcome was in, for its texts.
    int error;
    bool unknown;
};

/// What becomes of something that follows from a change. One constant a kind, in the file that makes such outcomes. Each
/// of the two consumes what the outcome holds, but for its account, which is settled.
struct outcome_kind {
    /// The outcome's position is durable, and its place in the order has come.
    void (*release)(struct shard *shard, struct outcome *outcome);
    /// The change was taken back: whoever waits hears what is true without it. What it needs for that was kept when the
    /// outcome was made.
    void (*revoke)(struct shard *shard, struct outcome *outcome,
                   const struct revocation *revocation);
};

/// What follows from a change leaves when its position is durable, in the order of positions.
#define OUTCOME_TEXTS 4u
struct outcome {
    const struct outcome_kind *kind;
    uint64_t position;
    struct slice slice;
    uint64_t connection;
    struct topic *_Nullable topic;
    struct request *_Nullable request;
    struct sc_account *_Nullable account; // Charged with so many bytes until it leaves.
    uint64_t charged;
    struct sc_message
        *_Nullable message; // Of a trigger, and the answer to a call of the node itself.
    uint32_t answer;
    uint8_t op; // Of an answer: of the call.
    bool has_item;
    bool change;  // Of an event: it is of an item in the store.
    bool awaited; // Of an answer: the log was told who waits for it.
    uint32_t
        text_offset; // In `texts`: the id of an event's item; of an answer what it is to repeat.
    uint32_t text_sizes[OUTCOME_TEXTS];
};
struct outcomes {
    struct outcome *_Nullable ring;
    uint32_t mask, head, tail;
    struct sc_buffer texts;
    uint32_t texts_dropped; // Bytes no longer needed that were taken off the front of `texts`.
};

// ---- Mail

/// What a piece of work for another shard does there, and here when it is back. One constant a kind, in the file that
/// makes such requests: the mail knows none of them.
struct request_kind {
    size_t size; // Of the struct that begins with the request.
    /// At the owner. Borrows the request until sc_request_finish, which it calls now or later.
    void (*evaluate)(struct shard *owner, struct request *request);
    /// Back at the origin. Borrows the request, which is freed behind it.
    void (*finish)(struct shard *origin, struct request *request);
    /// Frees what the struct holds besides. Thread: the origin's.
    void (*_Nullable drop)(struct request *request);
    bool is_call;     // It waits for room: for what it writes, and for its answer.
    bool never_waits; // Evaluated on arrival, also while calls of its connection wait.
};

/// A piece of work for another shard. It travels there and back in the same memory, since messages between shards are
/// without a copy: at each time one shard alone reads and writes it, the owner from sc_request_send to sc_request_finish,
/// the origin before and after. The texts of the call, and a further one, lie behind the struct of its kind.
struct request {
    struct sc_loop_message message;
    struct shard *origin;
    struct shard *owner;
    struct request *_Nullable next_waiting; // In a call queue, or among joins of a large group.
    const struct request_kind *kind;
    struct call call; // Of joins and leaves: its name and connection.
    struct sc_bytes extra;
    struct sc_blob *_Nullable reply; // A frame, or a message.
    uint64_t reply_charged;          // To the caller, as an answer.
    size_t texts_size;
};

/// What this shard knows of another one.
struct peer {
    uint32_t requests;    // Under way to it.
    uint64_t event_bytes; // The same of events.
    struct event_batch *_Nullable batch;
    uint64_t position; // The newest of its store that something has come from here.
};

/// Calls that wait, one queue a connection (call_queue.c).
struct call_queues {
    struct sc_table table;
    struct call_queue *_Nullable next; // Of the ring: whose turn comes first.
    uint64_t waiting;                  // Calls in all of them.
    uint64_t turn_ns;                  // Time that long calls have taken in this turn.
};

// ---- Large groups that are read in steps

/// Why a group is read, and what becomes of that. One constant a kind, in the file that makes such readings.
struct reading_kind {
    struct sc_group_name (*name)(const struct reading *reading);
    /// Whether anybody waits for it still. NULL: always.
    bool (*_Nullable is_wanted)(struct shard *shard, struct reading *reading);
    /// Whether there is room for a text of so many bytes. False: it waits behind the others. NULL: always.
    bool (*_Nullable has_room)(struct shard *shard, struct reading *reading, uint64_t size);
    /// Makes the blob for an array of so many bytes, and writes what stands before that. False: it cannot be read in
    /// steps.
    bool (*begin)(struct shard *shard, struct reading *reading, uint64_t size);
    /// The group is being read: as it is now, whatever happens to it.
    void (*begun)(struct shard *shard, struct reading *reading);
    /// How many steps to take at once; UINT64_MAX: all. NULL: one.
    uint64_t (*_Nullable haste)(struct shard *shard, struct reading *reading);
    /// The array is written. The reading is in no list any more, and freed behind this.
    void (*finish)(struct shard *shard, struct reading *reading);
    /// The same where it has not been, or not to the end: in one piece, with whatever error that gives.
    void (*at_once)(struct shard *shard, struct reading *reading);
    /// Changes were taken back, so what has been read is not true. True: it ends with that; else it begins again.
    bool (*rollback)(struct shard *shard, struct reading *reading, int error, bool unknown);
};

/// Begins the struct of its kind.
struct reading {
    struct reading *_Nullable next;
    const struct reading_kind *kind;
    struct sc_blob *_Nullable blob; // The message to be; there once the reading has begun.
    struct sc_ws_writer writer;
    bool any; // A value is written.
};

struct readings {
    struct reading *_Nullable first; // The one that is under way, once it has begun.
    struct reading *_Nullable last;
    struct sc_timer room_timer;
};

// ---- The node and the shard

enum door { DOOR_STREAM, DOOR_WORKER };

/// What all shards of a node share. What is not atomic is set before they start.
struct node {
    struct sc_node_config config;
    struct sc_node_events events;
    uint64_t id_key[2]; // Of the ids that subscriptions by path are given, and of nothing else.
    uint32_t shard_count;
    struct shard *_Nonnull *_Nonnull shards;
    _Atomic uint32_t *worker_counts; // By shard, for dealing new workers out.
    _Atomic uint32_t connection_count;
    _Atomic uint32_t upgrade_count;  // That wait to be let in.
    _Atomic uint32_t turned_away[2]; // By enum door: peers over a limit that have not gone yet.
    _Atomic uint64_t handshakes_paced_ns; // See rate.h.
    struct addresses
        *_Nullable addresses; // The sessions'. NULL: an address may have any number of connections.
};

/// Each room above embeds it in what it adds: struct streams, calls, sessions, and the whole in node.h.
struct shard {
    struct node *node;
    uint32_t index;
    struct sc_loop *loop;
    struct sc_store *store;
    struct sc_log *_Nullable log; // NULL: the store is in memory only.
    struct sc_heap *heap;         // Of connections and memberships.
    struct transport transport;
    struct sc_account_sums *sums; // Of the accounts of its connections, and of its own.
    struct sc_account *account;
    struct outcomes outcomes;
    struct call_queues call_queues;
    struct readings readings;
    struct peer peers[SC_SHARD_COUNT_MAX];
    struct sc_table watches;
    uint32_t watch_all; // Watched in all streams.
    /// How often changes were: what was read before then may not be true any more.
    uint32_t rollbacks;
    uint32_t stepped; // Works that take a step in each turn: lists, and `sync`s of large groups.
    bool stalled;  // Some shard has not yet taken the events sent to it: nothing is changed here.
    bool stopping; // Closes what it has, takes nothing new.
    uint64_t stop_due_ns;         // When it waits for nobody any more; 0: it does not stop.
    struct sc_loop_message again; // Makes the loop turn again.
    bool turns_again;
    struct sc_json_updater *updater;
    struct sc_json_index index_scratch;
    struct sc_node_counters counters;
};

/// The shard of a connection. Borrowed: it outlives all its connections.
static inline struct shard *connection_shard(const struct connection *connection) {
    return SC_CONTAINER_OF(connection->transport, struct shard, transport);
}
static inline struct connection *_Nullable sc_connection_find(const struct shard *shard,
                                                              uint64_t id) {
    return sc_transport_find(&shard->transport, id);
}
/// The owner of a group, by the upper half of its hash: as a fraction of all shards, since a remainder would
/// be a division.
static inline struct shard *sc_shard_of(struct shard *shard, uint64_t hash) {
    return shard->node->shards[(hash >> 32) * shard->node->shard_count >> 32];
}

// ---- clock.c

/// There is another turn at once after this one.
void sc_shard_turn_again(struct shard *shard);
/// Whether somebody has set the clock.
static inline bool sc_clock_is_sane(uint64_t unix_ms) {
    return unix_ms >= SC_CLOCK_MS_MIN && unix_ms < SC_CLOCK_MS_MAX;
}
/// Borrows `detail` for the call. Thread: that of the shard, or that of the start.
void sc_shard_log(struct shard *shard, enum sc_log_level level, const char *event,
                  uint64_t connection, struct sc_bytes detail);
uint64_t sc_now_ms(const struct shard *shard);

// ---- frame.c: frames on their way out, see chunk.h

/// Room for a frame of `size` bytes. Owns: the caller has a reference until sc_slice_release.
static inline struct slice sc_frames_take(struct shard *shard, uint32_t lane, size_t size) {
    return sc_chunks_take(&shard->transport.chunks, lane, size);
}
/// A frame that lies in `blob` already. Retains the blob; the caller has a reference to the slice.
static inline struct slice sc_frames_wrap(struct shard *shard, struct sc_blob *blob,
                                          size_t offset) {
    return sc_chunks_wrap(&shard->transport.chunks, blob, offset);
}
static inline void sc_slice_release(struct shard *shard, struct slice slice) {
    sc_chunks_release(&shard->transport.chunks, slice);
}
/// Builds one text message of `count` parts as a frame (fragmented over SC_FRAGMENT_SIZE_MAX).
struct slice sc_frame_build(struct shard *shard, uint32_t lane, const struct sc_bytes *parts,
                            size_t count);
/// The same in a blob of its own, behind `header_room` bytes that are free. NULL: memory is out.
struct sc_blob *_Nullable sc_frame_build_blob(const struct sc_bytes *parts, size_t count,
                                              size_t header_room);
/// A frame whose payload, at most SC_FRAGMENT_SIZE_MAX bytes, the caller writes to `*out`.
struct slice sc_frame_begin(struct shard *shard, uint32_t lane, uint64_t payload,
                            uint8_t *_Nonnull *_Nonnull out);
/// The frame of an event: `event` is what stands behind `"event":{"type":`, less the closing brace, and
/// `prefix` the part that names stream and group.
struct slice sc_stream_frame(struct shard *shard, uint32_t lane, uint64_t timestamp,
                             struct sc_bytes prefix, const struct sc_bytes *_Nullable id,
                             const struct sc_bytes *event, size_t count);
static inline struct sc_bytes text_or_null(const struct sc_blob *_Nullable value) {
    return value == NULL ? SC_LITERAL("null") : sc_blob_bytes(value);
}

// ---- outcomes.c

/// The position up to which outcomes may leave.
uint64_t sc_durable_position(const struct shard *shard);
/// Whether a read waits for the changes before it to be durable. Where changes are answered without that, it sees
/// what they have made of the store, and waits for nothing.
bool sc_read_waits(const struct shard *shard);
/// The reply of the request leaves: now, or in its place among the outcomes. Consumes the request, as `kind` does.
void sc_read_answered(struct shard *shard, struct request *request,
                      const struct outcome_kind *kind);
/// One more, of the store's position; the caller sets its kind and what that needs.
///
/// Owns: the outcome is the ring's, and valid until the next one is pushed.
struct outcome *sc_outcome_push(struct shard *shard);
/// Within a revocation: has an outcome that is still true wait in the new ring.
void sc_outcome_again(struct shard *shard, const struct outcome *outcome);
/// Keeps copies of `count` texts with the outcome that was pushed last.
void sc_outcome_keep(struct shard *shard, struct outcome *outcome, const struct sc_bytes *texts,
                     size_t count);
/// A text that was kept; data == NULL: it was empty. Borrowed from the ring until the next push.
struct sc_bytes sc_outcome_text(const struct outcomes *outcomes, const struct outcome *outcome,
                                uint32_t index);
/// Charges an outcome that has to wait for the disk, with its texts and `size` bytes more, until it leaves.
void sc_outcome_charge(struct shard *shard, struct outcome *outcome,
                       struct sc_account *_Nullable account, uint64_t size);
/// Changes were taken back: each outcome that waits becomes what is true without them.
void sc_outcomes_revoke(struct shard *shard, int error, bool unknown);
void sc_outcomes_release_some(struct shard *shard);
/// The end of a step: lets those outcomes leave whose position is durable. For who hands out the work of a shard:
/// see outcomes.c.
static inline void sc_outcomes_release(struct shard *shard) {
    if (shard->outcomes.head != shard->outcomes.tail)
        sc_outcomes_release_some(shard);
}
void sc_outcomes_deinit(struct shard *shard);

// ---- mail.c

/// Makes a request of a kind with a copy of all that `call` and `extra` refer to. What its struct has besides the request is
/// zero. Holds a reference to the call's account.
///
/// Owns: the caller has it until sc_request_send consumes it, or sc_request_free.
struct request *sc_request_make(struct shard *origin, struct shard *owner,
                                const struct request_kind *kind, const struct call *call,
                                struct sc_bytes extra);
void sc_request_send(struct request *request);
/// Consumes a request that is not under way.
void sc_request_free(struct request *request);
/// Counts a request that stays on its shard as under way.
void sc_request_count(struct request *request);
/// Charges the reply of a call to its caller, in place of what was charged before.
void sc_request_charge_reply(struct request *request);
/// At the owner, when the request has been evaluated: consumes it, and sends it back.
void sc_request_finish(struct request *request);
/// Wakes the shards that wait for room in the account, if there is some now. For who has discharged something.
void sc_account_fell(struct shard *shard, struct sc_account *_Nullable account);
/// Has each shard of the set take a turn.
void sc_shards_wake(struct shard *shard, uint64_t waiting);

// ---- call_queue.c

/// Whether a call of the connection has to wait: it would write, or only reads.
bool sc_call_queue_holds(struct shard *shard, uint64_t connection, bool writes);
static inline bool sc_call_may_run(struct shard *shard, uint64_t connection, bool writes) {
    bool quiet = shard->call_queues.table.count == 0 && !shard->stalled && shard->log == NULL;
    return quiet || !sc_call_queue_holds(shard, connection, writes);
}
/// Puts a counted request behind the others of its connection. The queue borrows it until it is evaluated.
void sc_call_queue_append(struct shard *shard, struct request *request);
/// Evaluates a request that has arrived, or has it wait.
void sc_call_queue_take(struct shard *shard, struct request *request);
/// A list of the connection waits for its snapshot: its later calls must not overtake it.
void sc_call_queue_list_waits(struct shard *shard, uint64_t connection);
void sc_call_queue_list_begun(struct shard *shard, uint64_t connection);
/// Notes how long a call of the connection took, if that was long.
void sc_call_queue_charge(struct shard *shard, uint64_t connection, uint64_t ns);
/// Runs what may run now; in every turn, while there are queues.
void sc_call_queues_turn(struct shard *shard);
/// Whether another turn would run some of those that wait for room, if any do.
bool sc_call_queues_may_run(const struct shard *shard);

// ---- reading.c

/// The JSON array of a group's values: its size, and the text appended to `out`. False: memory is out.
uint64_t sc_group_array_size(const struct sc_group *_Nullable group);
bool sc_group_array_write(struct sc_buffer *out, const struct sc_group *_Nullable group);
/// Has a group read when its turn comes. Consumes `reading`, memory of sc_allocate.
void sc_reading_add(struct shard *shard, struct reading *reading);
/// Takes a step, if there is something to be read; at the end of a turn.
void sc_reading_turn(struct shard *shard);
/// Changes were taken back: what is being read is not true.
void sc_reading_rollback(struct shard *shard, int error, bool unknown);

// ---- notify.c

/// Hands a message on to the control plane and gives the reference up; nothing for NULL.
void sc_announce(struct shard *shard, uint64_t connection, struct sc_message *_Nullable message);
/// Tells the control plane that a subscription has ended, if it listens.
void sc_announce_leave(struct shard *shard, uint64_t connection,
                       const struct sc_subscription_name *name,
                       struct sc_account *_Nullable account);

// ---- watch.c

/// What is watched in `stream`: enum sc_watch.
uint32_t sc_watch_flags_find(struct shard *shard, struct sc_bytes stream);
static inline uint32_t sc_watch_flags(struct shard *shard, struct sc_bytes stream) {
    return shard->watches.count == 0 ? shard->watch_all : sc_watch_flags_find(shard, stream);
}
static inline bool watches_any(const struct shard *shard) {
    return shard->watches.count > 0 || shard->watch_all != 0;
}
void sc_watch_set(struct shard *shard, struct sc_bytes stream, uint32_t flags);
void sc_watches_deinit(struct shard *shard);

// ---- credit.c

/// Whether there is room for what another message of the connection may bring.
bool sc_credit_has_room(const struct connection *connection);
/// What has come and is not started is no reason not to start it, nor is what waits for triggers: all else.
static inline uint64_t account_in_work(const struct sc_account *account) {
    return sc_account_total(account) - sc_account_bytes(account, SC_PLACE_PARKED) -
           sc_account_bytes(account, SC_PLACE_UNFINISHED) -
           sc_account_bytes(account, SC_PLACE_RESULTS) - sc_account_bytes(account, SC_PLACE_EVENTS);
}

#pragma clang assume_nonnull end

#endif
