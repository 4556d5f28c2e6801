// What the files of the core offer each other, by file.
#ifndef CSTREAM_CORE_FUNCTIONS_H
#define CSTREAM_CORE_FUNCTIONS_H

#include "core_private.h"

#pragma clang assume_nonnull begin

/// The shard of a connection. Borrowed: it outlives all its connections.
static inline struct shard *connection_shard(const struct connection *connection) {
    return SC_CONTAINER_OF(connection->transport, struct shard, transport);
}
/// The port that a connection has come by.
static inline const struct entrance *entrance_of(const struct port *port) {
    return SC_CONTAINER_OF(port, struct entrance, port);
}
/// What the connection is, which the caller knows: see sc_client_find and sc_worker_find for who does not.
static inline struct stream_client *client_of(const struct connection *connection) {
    return SC_CONTAINER_OF(connection, struct stream_client, connection);
}
static inline struct worker *worker_of(const struct connection *connection) {
    return SC_CONTAINER_OF(connection, struct worker, connection);
}

// ---- Frames on their way out: see chunk.h

static inline struct slice sc_frames_take(struct shard *shard, uint32_t lane, size_t size) {
    return sc_chunks_take(&shard->transport.chunks, lane, size);
}
static inline struct slice sc_frames_wrap(struct shard *shard, struct sc_blob *blob,
                                          size_t offset) {
    return sc_chunks_wrap(&shard->transport.chunks, blob, offset);
}
static inline void sc_slice_release(struct shard *shard, struct slice slice) {
    sc_chunks_release(&shard->transport.chunks, slice);
}

// ---- frame.c

/// Builds one text message of `count` parts as a frame (fragmented over SC_FRAGMENT_SIZE_MAX).
struct slice sc_frame_build(struct shard *shard, uint32_t lane, const struct sc_bytes *parts,
                            size_t count);
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

// ---- topic.c

struct topic *_Nullable sc_topic_find(struct shard *shard, const struct sc_group_name *name);
struct topic *sc_topic_make(struct shard *shard, const struct sc_group_name *name);
void sc_topic_drop_idle(struct shard *shard, struct topic *topic);
struct sc_group_name sc_topic_name(const struct topic *topic);
static inline struct sc_bytes topic_prefix(const struct topic *topic) {
    return (struct sc_bytes){topic->bytes + topic->stream_size + topic->group_size,
                             topic->prefix_size};
}
/// Hands a frame to this shard's subscribers.
void sc_topic_deliver(struct shard *shard, struct topic *topic, const struct history_event *event);
void sc_topic_settle(struct shard *shard, struct topic *topic);
void sc_topics_settle(struct shard *shard);
/// Makes the connection a subscriber, replacing its subscription of the same id.
void sc_topic_subscribe(struct connection *connection, struct topic *topic, struct sc_bytes id,
                        const struct sc_bytes *_Nullable item);
bool sc_subscription_remove(struct connection *connection, struct sc_bytes id);
bool sc_subscription_exists(const struct connection *connection, struct sc_bytes id);
/// The id of the connection's subscription by path.
struct sc_bytes sc_subscription_path_id(const struct connection *connection,
                                        uint8_t storage[_Nonnull SC_UUID_SIZE]);
/// The connection gets nothing of the topic until it is resumed.
void sc_topic_pause_member(struct connection *connection, struct topic *topic);
void sc_topic_resume_member(struct connection *connection, struct topic *topic);
/// Whether the connection has any subscription in the group.
bool sc_subscription_any(const struct connection *connection, const struct sc_group_name *name);
/// Ends at most `most` of the connection's subscriptions. True: it has none any more.
bool sc_subscriptions_remove_some(struct connection *connection, uint32_t most);
/// Whether the connection gets the frames of the group, or of the item, already.
bool sc_subscription_covers(struct connection *connection, struct topic *topic,
                            const struct sc_bytes *_Nullable item);

// ---- join.c

/// Handles a message of a stream client. False: it must wait.
bool sc_stream_message(struct connection *connection, struct sc_bytes text);
void sc_join_by_path(struct connection *connection, struct sc_bytes stream, struct sc_bytes group,
                     const struct sc_bytes *_Nullable item);
/// Takes the snapshot for a join that the topic counts already; when there is none yet the join waits for it.
void sc_join_snapshot(struct shard *owner, struct topic *topic, struct request *request,
                      bool at_once);
/// The same with a `sync` that has been made for it.
void sc_join_with_sync(struct shard *owner, struct topic *topic, struct request *request,
                       struct sc_blob *sync);
/// The join has been evaluated; `slice` is its `sync`, without a chunk when there is none.
void sc_join_complete(struct shard *shard, struct request *request, struct slice slice);
void sc_join_decided(struct shard *shard, struct connection *_Nullable connection, uint64_t id,
                     const struct sc_message *message, bool allowed);
/// Gives up a join that waits for the function that makes its `sync`: its connection has gone.
void sc_pending_join_end(struct connection *connection);
/// The function has answered, with the data of the `sync`; without one it has failed.
void sc_sync_decided(struct connection *connection, struct sc_bytes data);
/// It has answered more than a `sync` may have: the join is refused.
void sc_sync_refused(struct connection *connection);
/// So many subscriptions less: tells the owner. The topic may be gone afterwards.
void sc_leave_send(struct shard *shard, struct topic *topic, uint32_t count);

/// Whether a `sync` of this position of the owner will do.
static inline bool sc_join_takes(const struct request *request, uint64_t position) {
    return request->from == JOIN_FROM_ANY || position > request->from;
}

// ---- catch_up.c

/// From here on, in the order of outcomes, the connection that joins stands still in the topic. It first gets what has
/// come since it stood there before.
void sc_stand_push(struct shard *owner, struct topic *topic, struct request *request);
/// Sends what has come since the connection stands still, if it does, and makes it a member again.
void sc_catch_up(struct connection *connection);
/// The same without sending: the connection is being closed.
void sc_catch_up_give_up(struct connection *connection);

// ---- call.c

void sc_call_execute(struct shard *shard, struct call *call);
/// A call that runs at another shard, or has to wait at this one.
extern const struct request_kind sc_request_call;
void sc_call_answer(struct shard *shard, struct call *call, const struct sc_bytes *_Nullable parts,
                    size_t count);
void sc_call_fail(struct shard *shard, struct call *call, const char *code,
                  struct sc_bytes message);
/// Answers a list at once.
void sc_call_list(struct shard *shard, struct call *call);
/// Whether a read waits for the changes before it to be durable. Where changes are answered without that, it sees
/// what they have made of the store, and waits for nothing.
bool sc_read_waits(const struct shard *shard);
/// The reply of the request leaves: now, or in its place among the outcomes. Consumes the request, as `kind` does.
void sc_read_answered(struct shard *shard, struct request *request,
                      const struct outcome_kind *kind);
/// The answer to a call: `slice` or `message` for one of this shard, else the reply of `request`.
extern const struct outcome_kind sc_outcome_answer;

// ---- outcomes.c

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
// ---- call.c

/// Announces what an overriding function has done.
void sc_emit_override(struct shard *shard, const struct sc_group_name *name, struct sc_bytes item,
                      enum sc_event_kind kind, struct sc_bytes data, uint64_t writer);
/// The answer to a call of the node itself: announces the message `text`.
void sc_node_answered(struct shard *shard, struct sc_bytes text);
// ---- sync.c

/// The JSON array of a group's values: its size, and the text appended to `out`. False: memory is out.
uint64_t sc_group_array_size(const struct sc_group *_Nullable group);
bool sc_group_array_write(struct sc_buffer *out, const struct sc_group *_Nullable group);
/// The `sync` frame of a group or item as it is now, with a reference. Without a chunk: it is too large.
struct slice sc_sync_build(struct shard *shard, const struct sc_group_name *name,
                           const struct sc_bytes *_Nullable item);
/// The `sync` for a join, with frames that follow it in `request->parts`. False: the join waits, see listing.c.
///
/// at_once: builds the `sync` in one piece, however large the group is.
bool sc_sync_for_join(struct shard *shard, struct topic *topic, struct request *request,
                      bool at_once, struct slice *out);
/// A `sync` frame that is cached or kept, with a reference.
struct slice sc_sync_slice(struct shard *shard, struct sc_blob *sync);
/// Keeps a `sync` frame for joins to come, and from now on the progress of the topic; `sync` is NULL while it is being
/// made.
void sc_kept_begin(struct shard *shard, struct topic *topic, struct sc_blob *_Nullable sync);
/// Notes an event of a topic whose progress is kept.
void sc_kept_note(struct shard *shard, struct topic *topic, const struct history_event *event);
void sc_kept_drop(struct topic *topic);
void sc_kept_drop_all(struct shard *shard);
/// Drops those whose time is over.
void sc_kept_sweep(struct shard *shard);
struct slice sc_custom_sync_build(struct shard *shard, const struct pending_join *join,
                                  uint64_t timestamp, struct sc_bytes data);
/// The stamp of a `sync` that sc_sync_build does not make.
uint64_t sc_custom_sync_stamp(struct shard *shard, const struct sc_group_name *name,
                              const struct sc_bytes *_Nullable item);
/// The answer to a join that is refused; `event` begins with its type.
struct slice sc_unauthorized_build(struct shard *shard, const struct sc_group_name *name,
                                   const struct sc_bytes *_Nullable item, struct sc_bytes event);

// ---- snapshots.c

/// Keeps account of a large `sync` until nobody has to take it any more.
void sc_snapshot_made(struct shard *shard, const struct sc_group_name *name, struct sc_blob *sync);
/// Whether a further one of `size` bytes may be made. One alone may be larger than the limit.
bool sc_snapshots_have_room(struct shard *shard, uint64_t size);
void sc_snapshots_deinit(struct shard *shard);

// ---- listing.c

/// Has the list answered step by step.
void sc_listing_add_call(struct shard *shard, struct call *call);
/// Has the `sync` of the topic made step by step. The join is evaluated again when it is there.
void sc_listing_add_join(struct shard *shard, struct topic *topic, struct request *request);
/// Takes a step, if there is a list or `sync` to be read; at the end of a turn.
void sc_listing_turn(struct shard *shard);
/// The same for lists of names (names.c).
void sc_names_turn(struct shard *shard);
/// Changes were taken back: what was being read is not true. Ends a list's call, begins a `sync` again.
void sc_listing_taken_back(struct shard *shard, int error, bool unknown);

// ---- revoke.c

/// The position up to which outcomes may leave.
uint64_t sc_durable_position(const struct shard *shard);
/// Refuses a change that the store did not take: `rc` of sc_store_set or sc_store_delete.
void sc_durable_refuse(struct shard *shard, struct call *call, int rc);
/// Answers a call whose changes, or what it has read, were taken back.
void sc_durable_explain(struct shard *shard, struct call *call, int error, bool unknown);

// ---- names.c

void sc_names_start(struct shard *shard, struct call *call);
/// Frees the names, and gives back what `account` was charged for them.
void sc_names_free(struct group_names *names, struct sc_account *_Nullable account);

// ---- request.c

/// Makes a request with a copy of all that `call` and `extra` refer to. Holds a reference to the call's account.
///
/// Owns: the caller has it until sc_request_send consumes it, or sc_request_free.
struct request *sc_request_make(struct shard *origin, struct shard *owner,
                                const struct request_kind *kind, const struct call *call,
                                struct sc_bytes extra);
void sc_request_send(struct request *request);
void sc_request_free(struct request *request);
/// Lets go of the frames that were to follow its `sync`.
void sc_request_drop_parts(struct request *request);
/// Counts a request that stays on its shard as under way.
void sc_request_count(struct request *request);
/// Charges the reply of a call to its caller, in place of what was charged before.
void sc_request_charge_reply(struct request *request);
/// Wakes the shards that wait for room in the account, if there is some now. For who has discharged something.
void sc_account_fell(struct shard *shard, struct sc_account *_Nullable account);
/// Has each shard of the set take a turn.
void sc_shards_wake(struct shard *shard, uint64_t waiting);
/// At the owner, when the request has been evaluated: consumes it, and sends it back.
void sc_request_finish(struct request *request);
void sc_event_to_peers(struct shard *shard, struct topic *topic, const struct history_event *event);
void sc_batches_post(struct shard *shard);
/// The owner of a group, by the upper half of its hash: as a fraction of all shards, since a remainder would
/// be a division.
static inline struct shard *sc_shard_of(struct shard *shard, uint64_t hash) {
    return shard->node->shards[(hash >> 32) * shard->node->shard_count >> 32];
}

// ---- call_queue.c

/// Whether a call of the connection has to wait: it would write, or only reads.
bool sc_call_queue_holds(struct shard *shard, uint64_t connection, bool writes);
static inline bool sc_call_may_run(struct shard *shard, uint64_t connection, bool writes) {
    bool quiet = shard->call_queues.table.count == 0 && !shard->stalled && shard->log == NULL;
    return quiet || !sc_call_queue_holds(shard, connection, writes);
}
/// Puts a counted request behind the others of its connection.
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

// ---- announce.c

/// Hands a message on and gives the reference up; nothing for NULL.
void sc_announce(struct shard *shard, uint64_t connection, struct sc_message *_Nullable message);
/// Tells the control plane that a subscription has ended, if it listens.
void sc_announce_leave(struct shard *shard, uint64_t connection,
                       const struct sc_subscription_name *name,
                       struct sc_account *_Nullable account);
#define PEER_ADDRESS_SIZE_MAX 64
/// Writes the peer's `ip:port`, an IPv6 address in brackets, and returns the size. `*ip_size` is that of the address
/// alone.
size_t sc_peer_address(int fd, uint8_t out[_Nonnull PEER_ADDRESS_SIZE_MAX], size_t *ip_size);

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

// ---- Connections

static inline struct connection *_Nullable sc_connection_find(const struct shard *shard,
                                                              uint64_t id) {
    return sc_transport_find(&shard->transport, id);
}

// ---- credit.c

/// Whether there is room for what another message of the connection may bring.
bool sc_credit_has_room(const struct connection *connection);
/// What has come and is not started is no reason not to start it, nor is what waits for triggers: all else.
static inline uint64_t account_in_work(const struct sc_account *account) {
    return sc_account_total(account) - sc_account_bytes(account, SC_PLACE_PARKED) -
           sc_account_bytes(account, SC_PLACE_UNFINISHED) -
           sc_account_bytes(account, SC_PLACE_RESULTS) - sc_account_bytes(account, SC_PLACE_EVENTS);
}

// ---- subscriber.c

/// Whether another message of it may be started.
bool sc_client_may_start(const struct connection *connection);
/// What few have, made when it is first needed. Owned by the client.
struct client_extra *sc_client_extra(struct connection *connection);
/// Gives that up, but for a pending upgrade, which its session has given up before.
void sc_client_extra_free(struct connection *connection);

// ---- answer.c

/// The worker that has made a call with that connection, or NULL when it is gone. Only workers call (asserted).
static inline struct worker *_Nullable sc_caller_find(const struct shard *shard,
                                                      uint64_t connection) {
    struct connection *found = sc_connection_find(shard, connection);
    if (found == NULL)
        return NULL;
    assert(entrance_of(found->port)->door == DOOR_WORKER);
    return worker_of(found);
}
/// Gives a place in the ring of answers.
uint32_t sc_worker_answer_begin(struct connection *connection);
void sc_worker_answer_end(struct connection *connection, uint32_t place, struct slice slice);
/// Gives up answers that are not due: the worker has gone.
void sc_worker_answers_drop(struct connection *connection);

// ---- clock.c

/// There is another turn at once after this one.
void sc_shard_turn_again(struct shard *shard);
/// Whether somebody has set the clock.
static inline bool sc_clock_is_sane(uint64_t unix_ms) {
    return unix_ms >= SC_CLOCK_MS_MIN && unix_ms < SC_CLOCK_MS_MAX;
}
void sc_shard_log(struct shard *shard, enum sc_log_level level, const char *event,
                  uint64_t connection, struct sc_bytes detail);
uint64_t sc_now_ms(const struct shard *shard);

#pragma clang assume_nonnull end

#endif
