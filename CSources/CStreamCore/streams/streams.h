// Streams: the topics of a shard, who subscribes to them, and what joiners and subscribers are sent.
//
// Thread: all of it that of the shard. A topic belongs to one shard; at the owner of its group it also counts the interest
// of the others.
#ifndef CSTREAM_STREAMS_H
#define CSTREAM_STREAMS_H

#include "../shard/shard.h"

#pragma clang assume_nonnull begin

struct subscriber;
struct pending_upgrade;
struct history;
struct subscription_index;
struct pace;

// ---- History: history.c
// The history of a topic: its events since the oldest reader's place, in the order in which this shard has them.
//
// One mechanism serves everybody that gets events later than they happen:
//   - a join whose `sync` a function makes reads from the position at which the join took place;
//   - a member that waits for another `sync` of its group stands still at the position of that `sync`;
//   - a kept `sync` stands at its own position, so that the events behind it can follow it to a joiner.
//
// A topic has two histories at most. `topic->history` is of what is delivered on this shard. `topic->progress`, at the
// owner only, is of what happens, which is ahead of what is delivered by the changes that are not durable yet. Both
// exist only while they have a reader: a topic that nobody waits for keeps nothing.
//
// The bytes lie in blobs that are only appended to. Readers, sends on their way out and other shards share them.
//
// Thread: that of the shard.

/// A place in the history of a topic.
struct history_reader {
    struct history *_Nullable history; // NULL: it reads nothing.
    struct history_reader *_Nullable next;
    struct history_reader *_Nullable previous;
    uint64_t event; // The number of the first event that it has not read.
    uint64_t bytes; // Of all frames before that event.
    bool lost;      // It fell out: events from its place on have gone.
};

/// What is appended.
struct history_event {
    struct slice
        frame; // Borrowed: its bytes are copied, or shared when they are a blob of their own.
    uint64_t position; // Of the owner's store.
    const struct sc_bytes *_Nullable item;
    bool change; // Of an item in the store; false: an event that a worker has sent.
};

/// Which events a reader is given.
struct history_filter {
    bool changes; // Changes only.
    /// Whether those of this item, or without one (NULL), are wanted. NULL: all are.
    bool (*_Nullable wants)(const void *_Nullable context, const struct sc_bytes *_Nullable item);
    const void *_Nullable context;
};

/// A run of frames, one behind the other.
struct history_part {
    struct sc_blob *bytes;
    uint32_t offset, size;
    uint32_t count; // Frames.
};
/// Borrows `part->bytes` until it returns.
typedef void history_visit(void *context, const struct history_part *part);

/// Places `reader` behind the newest event of `*home`, which is made when there is none.
///
/// Owns: the history keeps `reader` until sc_history_leave, or until the reader is lost.
void sc_history_enter(struct shard *shard, struct history *_Nullable *_Nonnull home,
                      struct history_reader *reader);
/// Frees what no other reader needs, and `*home` with its last reader. Does nothing for a reader that reads nothing.
void sc_history_leave(struct history_reader *reader);
/// Appends an event. Over the bound of limits.stream_client_outbound_bytes the oldest readers are lost, one after the
/// other, until the rest fits: `lost` is set, and they read nothing any more.
void sc_history_append(struct history *history, const struct history_event *event);
/// Visits the events from the reader's place on, in their order.
void sc_history_read(const struct history_reader *reader, const struct history_filter *filter,
                     history_visit *visit, void *context);
/// Places the reader behind the newest event.
void sc_history_skip(struct history_reader *reader);
/// Bytes of all frames from the reader's place on.
uint64_t sc_history_behind(const struct history_reader *reader);

/// Sends the events from the reader's place on to a connection of this shard, and places the reader behind them.
void sc_history_send(struct history_reader *reader, const struct history_filter *filter,
                     struct connection *connection);

// ---- Subscribers

/// What few subscribers have, and all that end with subscriptions. Owned by the subscriber.
struct subscriber_extra {
    struct sc_blob *_Nullable context;          // JSON text that the auth function gave.
    struct pending_upgrade *_Nullable upgrade;  // The session's.
    struct subscription_index *_Nullable index; // Of one with many subscriptions.
    struct pending_join *_Nullable pending_join;
    struct topic *_Nullable catch_up; // The connection stands still in this topic: see catch_up.c.
    struct history_reader reader;     // Of either: a connection joins once at a time.
    struct sc_wait_node leaving;      // The session's: it serves nobody any more.
    struct subscriber *subscriber;
};

/// A connection of the stream port.
struct subscriber {
    struct connection connection;
    struct membership *_Nullable memberships;
    struct subscriber_extra *_Nullable extra;
    uint32_t subscription_count;
    bool join_pending : 1; // A join is at the group's owner, or being decided about.
    bool join_asked : 1;   // The latter.
    bool has_left : 1;     // It may have frames of groups that it is in no more.
    bool is_open : 1;      // The session's: it was let in, and is counted among the clients.
    bool
        over_limit : 1; // The session's: it came when there were too many, and is counted at the door.
};
_Static_assert(sizeof(struct subscriber) <= 144, "tens of thousands of them are idle");
_Static_assert(offsetof(struct subscriber, connection) == 0, "one object of the heap");

/// What the connection is, which the caller knows: see sc_client_find for who does not.
static inline struct subscriber *subscriber_of(const struct connection *connection) {
    return SC_CONTAINER_OF(connection, struct subscriber, connection);
}

static inline struct sc_bytes subscriber_context(const struct connection *connection) {
    const struct subscriber_extra *extra = subscriber_of(connection)->extra;
    return extra == NULL || extra->context == NULL ? (struct sc_bytes){0}
                                                   : sc_blob_bytes(extra->context);
}
static inline struct subscription_index *_Nullable subscription_index_of(
    const struct connection *connection) {
    return subscriber_of(connection)->extra == NULL ? NULL
                                                    : subscriber_of(connection)->extra->index;
}

// ---- Topics and subscriptions

struct subscription {
    struct subscription *_Nullable next;
    struct item_share *_Nullable item; // NULL: the whole group.
    uint32_t id_hash;
    uint16_t id_size; // SUBSCRIPTION_BY_PATH: the id is that which the connection's own gives.
    bool inside;      // Its memory is part of its membership's.
    uint8_t id[];
};
#define SUBSCRIPTION_BY_PATH UINT16_MAX

/// One connection in one topic, however many subscriptions it has there. The first of them lies behind it.
struct membership {
    struct connection *connection;
    struct topic *topic;
    struct membership *_Nullable next; // Of the connection.
    struct subscription *_Nullable subscriptions;
    uint32_t group_count;  // Subscriptions of the whole group.
    uint32_t member_index; // In topic->members, while group_count > 0.
};

struct item_interest {
    struct sc_table_node node; // In topic->items.
    struct item_share *_Nullable *_Nullable entries;
    uint32_t count, capacity;
    uint16_t id_size;
    uint8_t id[];
};

/// One connection in one item, however many subscriptions of it it has: it gets a frame once.
struct item_share {
    struct membership *membership;
    struct item_interest *interest;
    uint32_t count; // Subscriptions.
    uint32_t at;    // In the interest's entries.
    bool indexed;
};

/// Interest of another shard, at the owner.
struct remote_interest {
    struct topic *_Nullable topic; // The other shard's; valid while count > 0.
    uint32_t count;
};

/// A join of a stream with an overridden `get` or `list`. Its events wait in the history until the function has
/// answered.
struct pending_join {
    struct topic *topic;
    uint64_t timestamp;             // Of the join: before that of every event that waits.
    struct sc_blob *_Nullable data; // What the function has answered, while the `sync` is stamped.
    uint8_t attempt;                // How often events were lost meanwhile.
    bool covered;                   // The connection gets what it asks for already. Nothing waits.
    bool has_item;
    uint16_t item_size, id_size;
    uint8_t bytes[]; // The item, then the subscription's id.
};

/// A `sync` of a large group. For a while a joiner gets it and the changes that have followed, so that many who join a
/// busy group cost one serialisation.
struct kept_sync {
    struct sc_blob *_Nullable sync; // As in the cache of a group. NULL: still being made.
    uint64_t position;              // Of the store, as the `sync` shows it.
    struct history_reader reader;   // Stands there, in the topic's progress.
    uint64_t made_ns;
    struct topic *topic;
    struct kept_sync *_Nullable next; // Of the shard.
    struct kept_sync *_Nullable *_Nonnull link;
};

/// A group that somebody on this shard, or (at its owner) on any shard, subscribes to.
struct topic {
    struct sc_table_node node; // In streams->topics.
    struct topic *_Nullable dirty_next;
    struct connection *_Nonnull *_Nullable members;
    uint32_t member_count, member_capacity;
    struct slice pending; // Frames of this turn that all members get, not handed to them yet.
    struct sc_table items;
    uint32_t interest;      // At the owner: subscriptions here and elsewhere.
    uint32_t registrations; // Elsewhere: joins sent to the owner less leaves it has confirmed.
    struct remote_interest
        *_Nullable remotes;             // At the owner: one per shard, once any is interested.
    struct history *_Nullable history;  // Of what is delivered here.
    struct history *_Nullable progress; // At the owner: of what happens.
    struct kept_sync *_Nullable kept;   // At the owner.
    uint32_t in_flight;                 // Outcomes that wait to be released.
    uint16_t owner;
    bool dirty;
    uint16_t stream_size, group_size;
    uint32_t prefix_size;
    uint8_t bytes[]; // Stream, group, then the part of every frame that names them.
};

/// Its names. Borrowed from the topic.
static inline struct sc_bytes topic_stream(const struct topic *topic) {
    return (struct sc_bytes){topic->bytes, topic->stream_size};
}
static inline struct sc_bytes topic_group(const struct topic *topic) {
    return (struct sc_bytes){topic->bytes + topic->stream_size, topic->group_size};
}

/// What a shard has of streams.
struct streams {
    struct shard shard;
    struct sc_table topics;
    struct topic
        *_Nullable dirty_topics; // With frames that their members have not been handed yet.
    struct kept_sync *_Nullable kept_syncs;
    struct snapshot *_Nullable snapshots;      // Large `sync`s that some client has yet to take.
    struct joins_ready *_Nullable joins_ready; // Woken by sc_joins_ready_turn: some in each turn.
    uint64_t subscriptions;
    uint64_t join_logged_ns;      // When it was said last why one is refused.
    struct pace *_Nullable paces; // By the slots of connections: see pace.c.
    uint32_t pace_count;
};
static inline struct streams *streams_of(const struct shard *shard) {
    return SC_CONTAINER_OF(shard, struct streams, shard);
}

// ---- Joins

/// Where the `sync` of a join comes from.
enum sync_source {
    SYNC_OF_STORE,
    SYNC_OF_FUNCTION, // That overrides `get` or `list`.
    SYNC_STAMP,       // The function's is there already, and is to be stamped.
};
/// From which position on the `sync` of a join may be. Any will do for a connection that has had nothing of the group.
#define JOIN_FROM_ANY 0u
/// The connection gets events of the group: the `sync` is of now or later, and events stand still from its position on.
#define JOIN_FROM_NOW UINT64_MAX

/// A join on its way to the owner of its group and back. `request.extra` is the id of the subscription.
struct join {
    struct request request;
    struct topic *_Nullable topic;        // The origin's.
    struct sc_blob *_Nullable context;    // Of the client.
    uint64_t timestamp;                   // Of a custom `sync`.
    uint8_t sync_source;                  // enum sync_source
    uint8_t attempt;                      // How often events were lost meanwhile.
    uint64_t from;                        // The `sync` is to be of a later position of the owner.
    uint64_t position;                    // Of the owner, when the join was evaluated.
    struct history_part *_Nullable parts; // Frames that follow the `sync`.
    uint32_t part_count;
    size_t sync_offset; // Where in `reply` the frame begins.
};
static inline struct join *join_of(const struct request *request) {
    return SC_CONTAINER_OF(request, struct join, request);
}

// ---- topic.c

struct topic *_Nullable sc_topic_find(struct shard *shard, const struct sc_group_name *name);
struct topic *sc_topic_make(struct shard *shard, const struct sc_group_name *name);
/// Frees a topic that nobody is interested in, and that no outcome or other shard refers to.
void sc_topic_drop_idle(struct shard *shard, struct topic *topic);
struct sc_group_name sc_topic_name(const struct topic *topic);
static inline struct sc_bytes topic_prefix(const struct topic *topic) {
    return (struct sc_bytes){topic->bytes + topic->stream_size + topic->group_size,
                             topic->prefix_size};
}
/// Of the index of subscriptions.
uint32_t sc_topic_short_hash(const struct topic *topic);
/// Hands a frame to this shard's subscribers. Borrows the event.
void sc_topic_deliver(struct shard *shard, struct topic *topic, const struct history_event *event);
/// Hands the frames of this turn to the members, before something else is put behind them.
void sc_topic_settle(struct shard *shard, struct topic *topic);
void sc_topics_settle(struct shard *shard);
struct membership *_Nullable sc_membership_find(const struct connection *connection,
                                                const struct topic *topic);
void sc_member_add(struct topic *topic, struct membership *membership);
void sc_member_remove(struct topic *topic, struct membership *membership);
/// The connection gets nothing of the topic until it is resumed.
void sc_topic_pause_member(struct connection *connection, struct topic *topic);
void sc_topic_resume_member(struct connection *connection, struct topic *topic);
/// Memory of the shard's heap, of which there always is some: see sc_allocate.
void *sc_streams_take(struct shard *shard, size_t size);

// ---- interest.c

struct item_interest *_Nullable sc_interest_find(struct shard *shard, struct topic *topic,
                                                 struct sc_bytes id);
/// The same, made where there is none.
struct item_interest *sc_interest_make(struct shard *shard, struct topic *topic,
                                       struct sc_bytes id);
/// Of the index of subscriptions.
uint32_t sc_interest_short_hash(const struct item_interest *interest);
struct item_share *_Nullable sc_share_find(const struct membership *membership,
                                           const struct item_interest *interest);
/// Counts one subscription more.
struct item_share *sc_share_make(struct membership *membership, struct item_interest *interest);
/// Counts one less, and frees what nobody needs any more.
void sc_share_leave(struct topic *topic, struct item_share *share);

// ---- subscription.c

/// Makes the connection a subscriber, replacing its subscription of the same id.
void sc_topic_subscribe(struct connection *connection, struct topic *topic, struct sc_bytes id,
                        const struct sc_bytes *_Nullable item);
bool sc_subscription_remove(struct connection *connection, struct sc_bytes id);
/// Ends one subscription, and the membership with its last one (true). The owner of the topic is still to be told.
bool sc_subscription_end(struct membership *membership, struct subscription *subscription);
bool sc_subscription_exists(const struct connection *connection, struct sc_bytes id);
/// The id of the connection's subscription by path.
struct sc_bytes sc_subscription_path_id(const struct connection *connection,
                                        uint8_t storage[_Nonnull SC_UUID_SIZE]);
/// Whether the connection has any subscription in the group.
bool sc_subscription_any(const struct connection *connection, const struct sc_group_name *name);
/// Whether frames of the item (NULL: without one) are sent to the member.
bool sc_subscription_covers(const struct membership *membership,
                            const struct sc_bytes *_Nullable item);

// ---- leave.c

/// So many subscriptions less: tells the owner. The topic may be gone afterwards.
void sc_leave_send(struct shard *shard, struct topic *topic, uint32_t count);

// ---- ending.c

/// Ends at most `most` of the connection's subscriptions. True: it has none any more.
bool sc_subscriptions_remove_some(struct connection *connection, uint32_t most);

// ---- client_message.c

/// Handles a message of a stream client. False: it must wait.
bool sc_stream_message(struct connection *connection, struct sc_bytes text);

// ---- join.c

/// A join on its way to the owner of its group.
extern const struct request_kind sc_join_kind;
/// Asks for a join; names are borrowed. It is answered by a `sync`, or refused.
void sc_join_ask(struct connection *connection, const struct sc_subscription_name *name);
/// The same of the subscription that the path of its URL names.
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
/// Events have gone that were to follow the `sync`. A later one shows what they have changed; when that is too late again
/// and again, the group changes faster than the client may be sent: it is closed.
void sc_join_again(struct connection *connection, const struct sc_subscription_name *name,
                   uint8_t attempt);
/// What it asks for. Borrowed from the request.
struct sc_subscription_name sc_join_name(const struct request *request);
/// Its `sync` is larger than may be sent.
void sc_join_refuse_large(struct connection *connection, const struct sc_subscription_name *name);
/// The `sync` has been sent: what follows is for the subscriber.
void sc_join_subscribe(struct connection *connection, struct topic *topic, struct sc_bytes id,
                       const struct sc_bytes *_Nullable item);
/// Lets go of the frames that were to follow its `sync`.
void sc_join_drop_parts(struct join *join);
/// Whether a `sync` of this position of the owner will do.
static inline bool sc_join_takes(const struct request *request, uint64_t position) {
    return join_of(request)->from == JOIN_FROM_ANY || position > join_of(request)->from;
}

// ---- pending_join.c

/// Asks the function that makes the `sync`. From here on the events of the topic wait in its history.
void sc_pending_join_begin(struct connection *connection, const struct request *request);
/// The owner has stamped the function's `sync`.
void sc_pending_join_stamped(struct connection *_Nullable connection, uint64_t timestamp);
/// Gives up a join that waits for the function that makes its `sync`: its connection has gone.
void sc_pending_join_end(struct connection *connection);
/// The function has answered, with the data of the `sync`; without one it has failed.
void sc_sync_decided(struct connection *connection, struct sc_bytes data);
/// It has answered more than a `sync` may have: the join is refused.
void sc_sync_refused(struct connection *connection);

// ---- catch_up.c

/// From here on, in the order of outcomes, the connection that joins stands still in the topic. It first gets what has
/// come since it stood there before.
void sc_stand_push(struct shard *owner, struct topic *topic, struct request *request);
/// The connection stands still in the topic from now on. It is a member, or stands there already.
void sc_catch_up_stand(struct connection *connection, struct topic *topic);
/// Whether it stands still.
bool sc_catch_up_stands(const struct connection *connection);
/// Whether it does, and what it waits with has gone.
bool sc_catch_up_has_lost(const struct connection *connection);
/// Makes it a member again, if it stands still. Its events wait until sc_catch_up_send.
void sc_catch_up_resume(struct connection *connection);
/// Sends what has come since it stood still, as far as it subscribes to that by now.
void sc_catch_up_send(struct connection *connection, struct topic *topic);
/// The same without sending: the connection is being closed.
void sc_catch_up_give_up(struct connection *connection);

// ---- events.c

/// Tells subscribers of a change, and the control plane where it is watched. Slices of `call` are borrowed.
void sc_emit_change(struct shard *shard, const struct call *call, const struct sc_change *change,
                    struct sc_bytes value);
/// The same of an event that a worker has sent.
void sc_emit_sent(struct shard *shard, const struct call *call);
/// Announces what an overriding function has done.
void sc_emit_override(struct shard *shard, const struct sc_group_name *name, struct sc_bytes item,
                      enum sc_event_kind kind, struct sc_bytes data, uint64_t writer);
/// Sends the shards whose clients are interested what has happened to groups of this one. In each turn, and before anything
/// that must not overtake it.
void sc_batches_post(struct shard *shard);
void sc_event_to_peers(struct shard *shard, struct topic *topic, const struct history_event *event);

// ---- sync.c

/// The `sync` frame of a group or item as it is now, with a reference. Without a chunk: it is too large.
struct slice sc_sync_build(struct shard *shard, const struct sc_group_name *name,
                           const struct sc_bytes *_Nullable item);
/// The `sync` for a join, with frames that follow it in `request->parts`. False: the join waits, see sync_reading.c.
///
/// at_once: builds the `sync` in one piece, however large the group is.
bool sc_sync_for_join(struct shard *shard, struct topic *topic, struct request *request,
                      bool at_once, struct slice *out);
/// A `sync` frame that is cached or kept, with a reference.
struct slice sc_sync_slice(struct shard *shard, struct sc_blob *sync);
struct slice sc_custom_sync_build(struct shard *shard, const struct pending_join *join,
                                  struct sc_bytes data);
/// The stamp of a `sync` that sc_sync_build does not make.
uint64_t sc_custom_sync_stamp(struct shard *shard, const struct sc_group_name *name,
                              const struct sc_bytes *_Nullable item);
/// The answer to a join that is refused; `event` begins with its type.
struct slice sc_unauthorized_build(struct shard *shard, const struct sc_group_name *name,
                                   const struct sc_bytes *_Nullable item, struct sc_bytes event);

// ---- kept_sync.c

/// Keeps a `sync` frame for joins to come, and from now on the progress of the topic; `sync` is NULL while it is being
/// made.
void sc_kept_begin(struct shard *shard, struct topic *topic, struct sc_blob *_Nullable sync);
/// Notes an event of a topic whose progress is kept.
void sc_kept_note(struct shard *shard, struct topic *topic, const struct history_event *event);
void sc_kept_drop(struct topic *topic);
void sc_kept_drop_all(struct shard *shard);
/// Drops those whose time is over.
void sc_kept_sweep(struct shard *shard);
/// Whether its time is over.
bool sc_kept_is_stale(const struct shard *shard, const struct kept_sync *kept);

// ---- sync_reading.c

/// Has the `sync` of the topic made step by step. The join is evaluated again when it is there; until then it is borrowed.
void sc_sync_reading_join(struct shard *shard, struct topic *topic, struct request *request);
/// Evaluates some of the joins whose `sync` is there; at the end of a turn.
void sc_joins_ready_turn(struct shard *shard);
/// Changes were taken back: a `sync` that is there may show them.
void sc_joins_ready_rollback(struct shard *shard);

// ---- snapshots.c

/// Keeps account of a large `sync` until nobody has to take it any more.
void sc_snapshot_made(struct shard *shard, const struct sc_group_name *name, struct sc_blob *sync);
/// Whether a further one of `size` bytes may be made. One alone may be larger than the limit.
bool sc_snapshots_have_room(struct shard *shard, uint64_t size);
void sc_snapshots_deinit(struct shard *shard);

// ---- pace.c

/// A client has sent a message, or asked for a join. It may be throttled for it, until sc_pace_waits says no.
void sc_pace_message(struct connection *connection);
void sc_pace_join(struct connection *connection);
/// Whether a client that was throttled has still said more than it may. See struct role.
bool sc_pace_waits(const struct connection *connection);
void sc_paces_deinit(struct streams *streams);

// ---- subscriber.c

/// Whether another message of it may be started.
bool sc_subscriber_may_start(const struct connection *connection);
/// What few have, made when it is first needed. Owned by the subscriber.
struct subscriber_extra *sc_subscriber_extra(struct connection *connection);
/// Gives that up, but for a pending upgrade, which its session has given up before.
void sc_subscriber_extra_free(struct connection *connection);

// ---- subscription_index.c
// An index of what a connection with many subscriptions has: its subscriptions by id, its memberships by topic, and its
// shares in items. A connection with few goes through its lists, and has none.

enum index_kind { INDEX_SUBSCRIPTION, INDEX_MEMBERSHIP, INDEX_SHARE };

struct index_entry {
    void *_Nullable object; // NULL: the slot is free.
    void
        *_Nullable previous; // In the list of the membership, or of the connection; shares are in none.
    struct membership *_Nullable membership; // Of a subscription.
    uint32_t hash;
    uint8_t kind;
};

/// Open addressing: an entry lies in the slot that its hash says, or behind it without a gap.
struct subscription_index {
    struct index_entry *slots;
    uint32_t mask, count;
};

struct subscription_index *sc_index_create(void);
void sc_index_destroy(struct subscription_index *_Nullable index);
void sc_index_add(struct subscription_index *index, struct index_entry entry);
/// The entry of an object that is in the index (asserted). Valid until the index changes.
struct index_entry *sc_index_entry(struct subscription_index *index, enum index_kind kind,
                                   uint32_t hash, const void *object);
void sc_index_remove(struct subscription_index *index, struct index_entry *entry);
/// The next entry of this kind and hash behind `last`, from the beginning with NULL.
struct index_entry *_Nullable sc_index_next(struct subscription_index *index, enum index_kind kind,
                                            uint32_t hash, struct index_entry *_Nullable last);

#pragma clang assume_nonnull end

#endif
