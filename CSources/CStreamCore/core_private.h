// The core's shared structures. One shard owns everything here but `struct sc_node`, sc_message and
// blobs; nothing is locked.
#ifndef CSTREAM_CORE_PRIVATE_H
#define CSTREAM_CORE_PRIVATE_H

#include <pthread.h>

#include "CStreamCore.h"
#include "CStreamLoop.h"
#include "CStreamStore.h"
#include "CStreamTransport.h"

#pragma clang assume_nonnull begin

struct shard;
struct topic;
struct request;
struct worker;
struct history;
struct history_event;
struct history_part;

static inline uint32_t lane_of_topic(uint64_t hash) {
    return LANE_EVENTS + (uint32_t)(hash % LANE_EVENT_COUNT);
}

// ---- Stream clients (stream_client.c)

/// An upgrade that the control plane decides about.
struct pending_upgrade {
    char accept[28];
    bool authorization;
    bool page; // A page that may connect asks.
    struct sc_stream_path path;
};

/// A place in the history of a topic: see history.h.
struct history_reader {
    struct history *_Nullable history; // NULL: it reads nothing.
    struct history_reader *_Nullable next;
    struct history_reader *_Nullable previous;
    uint64_t event; // The number of the first event that it has not read.
    uint64_t bytes; // Of all frames before that event.
    bool lost;      // It fell out: events from its place on have gone.
};

/// What few stream clients have, and all that end with subscriptions.
struct client_extra {
    struct sc_blob *_Nullable context; // JSON text that the auth function gave.
    struct pending_upgrade *_Nullable upgrade;
    struct subscription_index *_Nullable index; // Of one with many subscriptions.
    struct pending_join *_Nullable pending_join;
    struct topic *_Nullable catch_up; // The connection stands still in this topic: see catch_up.c.
    struct history_reader reader;     // Of either: a connection joins once at a time.
    struct sc_wait_node leaving;      // In shard->leaving.
    struct stream_client *client;
};

struct stream_client {
    struct connection connection;
    struct membership *_Nullable memberships;
    struct client_extra *_Nullable extra;
    uint32_t subscription_count;
    bool is_open : 1;      // It was let in: counted among the stream clients.
    bool over_limit : 1;   // It came when there were too many: counted at the door, not among them.
    bool join_pending : 1; // A join is at the group's owner, or being decided about.
    bool join_asked : 1;   // The latter.
    bool has_left : 1;     // It may have frames of groups that it is in no more.
};
_Static_assert(sizeof(struct stream_client) <= 144, "tens of thousands of them are idle");
_Static_assert(offsetof(struct stream_client, connection) == 0, "one object of the heap");

// ---- Workers (worker.c)

struct answer_slot {
    bool ready;
    struct slice slice; // Without a chunk: nothing to send.
};
struct worker {
    struct connection connection;
    struct sc_wait_node door; // It waits for its close: see door.c.
    bool turned_away;         // Counted at the door, as one that came over the limit is.
    bool over_limit;          // As that one.
    bool is_open;             // Its head was answered: counted among the workers.
    bool telemetry;           // It says nothing but telemetry.
    bool admitted;
    bool waits_for_admission; // Counted as that.
    bool restricted;      // The control plane decides about every call but those of `allowed_ops`.
    bool announced;       // The control plane knows of it, and has yet to hear of its end.
    bool writes_held;     // What it writes to watched streams and logs waits.
    uint32_t allowed_ops; // Of a restricted one: a bit for each enum sc_call_op that runs at once.
    uint32_t barriers;    // Registrations and lists behind which its messages wait.
    uint8_t id_size;
    uint8_t id[36];
    uint64_t outbound_size_max;     // Bytes of a message that its client takes, as far as is known.
    struct sc_wait_list deliveries; // Commands: what it is to be sent once there is room.
    uint64_t calls_received;        // Forwarded to it: it executes functions.
    struct answer_slot *_Nullable answers; // A ring of answers that are not due yet.
    uint32_t answer_mask, answer_head, answer_tail;
};
_Static_assert(offsetof(struct worker, connection) == 0, "one object of the heap");

// ---- Topics and subscriptions (topic.c)

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
    struct sc_table_node node; // In shard->topics.
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

// ---- Calls (call.c)

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
    struct worker *_Nullable caller;   // While its message is handled: nobody has to look for it.
    uint32_t answer;                   // Place in the connection's ring of answers.
    struct request *_Nullable request; // NULL: the caller is on this shard.
    uint64_t size_max;                 // Of the answer.
    /// Of the caller; what its changes set off is charged to it. A request holds it, a call on the caller's shard
    /// borrows it.
    struct sc_account *_Nullable account;
};

// ---- Outcomes (outcomes.c)

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

/// What a piece of work for another shard does there, and here when it is back. One constant a kind, in the file that
/// makes such requests: the mail knows none of them.
struct request_kind {
    /// At the owner. Borrows the request until sc_request_finish, which it calls now or later.
    void (*evaluate)(struct shard *owner, struct request *request);
    /// Back at the origin. Borrows the request, which is freed behind it.
    void (*finish)(struct shard *origin, struct request *request);
    bool is_call;     // It waits for room: for what it writes, and for its answer.
    bool never_waits; // Evaluated on arrival, also while calls of its connection wait.
};

/// Names of groups that are put together for a list, charged to its connection.
struct group_names {
    struct sc_buffer text; // As collect in names.c writes them.
    uint64_t least;        // Bytes that the answer has of them at least.
    uint64_t charged;
    bool too_large; // They are more than the answer may be.
};

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

/// A piece of work for another shard. It travels there and back in the same memory, since messages between shards are
/// without a copy: at each time one shard alone reads and writes it, the owner from sc_request_send to sc_request_finish,
/// the origin before and after.
struct request {
    struct sc_loop_message message;
    struct shard *origin;
    struct shard *owner;
    struct request *_Nullable next_waiting; // In a call queue, or among the joins of a list.
    const struct request_kind *kind;
    struct call call;                  // Of calls and names; its name also for joins.
    struct topic *_Nullable topic;     // Joins and leaves: the origin's.
    struct gather *_Nullable gather;   // Of names.
    struct group_names names;          // Of names: those of the owner.
    struct sc_bytes subscription_id;   // Of a join.
    struct sc_blob *_Nullable reply;   // A frame, a message, or the names.
    uint64_t reply_charged;            // To the caller, as an answer.
    struct sc_blob *_Nullable context; // A join: of the client.
    uint64_t timestamp;                // A join: of a custom `sync`.
    uint8_t sync_source;               // A join: enum sync_source.
    uint8_t attempt;                   // A join: how often events were lost meanwhile.
    uint64_t from;     // A join: the `sync` is to be of a later position of the owner.
    uint64_t position; // A join: of the owner, when the join was evaluated.
    struct history_part *_Nullable parts; // A join: frames that follow the `sync`.
    uint32_t part_count;
    uint32_t count;     // A leave: of subscriptions.
    size_t sync_offset; // A join: where in `reply` the frame begins.
    size_t extra_size;  // Of `bytes`.
    uint8_t bytes[];
};

/// Groups that are read in steps, one after the other (listing.c).
struct listings {
    struct listing_job *_Nullable first; // The one that is being read, once it has begun.
    struct listing_job *_Nullable last;
    struct joins_ready
        *_Nullable ready; // Woken by sc_listing_turn, which evaluates some in each turn.
};

/// Calls that wait, one queue a connection (call_queue.c).
struct call_queues {
    struct sc_table table;
    struct call_queue *_Nullable next; // Of the ring: whose turn comes first.
    uint64_t waiting;                  // Calls in all of them.
    uint64_t turn_ns;                  // Time that long calls have taken in this turn.
};

/// Frames for the subscribers of another shard, collected during a turn.
struct event_batch {
    struct sc_loop_message message;
    struct shard *from;
    struct shard *to;
    struct sc_buffer
        bytes; // Entries without padding: a struct batch_entry, the id of its item, its frame.
    bool returning;
};
struct batch_entry {
    struct topic *topic;
    uint64_t position; // Of the owner's store.
    uint32_t frame_size;
    uint16_t item_size;
    bool has_item;
    bool change;
};

/// What this shard knows of another one.
struct peer {
    uint32_t requests; // Under way to it.
    uint64_t event_bytes;
    struct event_batch *_Nullable batch;
    uint64_t position; // The newest of its store that something has come from here.
};

// ---- Shards

/// A port of the node, with what is its own.
enum door { DOOR_STREAM, DOOR_WORKER };
struct entrance {
    struct port port;
    const struct sc_node_address *address;
    enum door door;
};

struct shard {
    struct sc_node *node;
    struct sc_loop *loop;
    struct sc_store *store;
    struct sc_log *_Nullable log; // NULL: the store is in memory only.
    struct sc_timer log_timer, delay_timer;
    uint32_t
        taken_back; // How often changes were: what was read before then may not be true any more.
    struct sc_json_updater *updater;
    pthread_t thread;
    uint32_t index;
    // Connections
    struct transport transport;
    struct sc_heap *heap; // Of connections and memberships.
    struct entrance stream_entrance;
    struct entrance *_Nullable worker_entrances;
    /// Stream clients that serve nobody any more. Woken by sc_clients_leave, which ends some of their subscriptions in
    /// each turn.
    struct sc_wait_list leaving;
    // Topics
    struct sc_table topics;
    struct sc_table watches;
    uint32_t watch_all; // Watched in all streams.
    struct topic *_Nullable dirty_topics;
    struct outcomes outcomes;
    struct listings listings;
    struct sc_wait_list
        collections; // Of names of this shard's groups; the first is under way (names.c).
    struct sc_wait_list gathers; // Lists of names that are being sorted and written (names.c).
    uint32_t stepped;            // Those and the listings: each takes a step in a turn.
    struct kept_sync *_Nullable kept_syncs;
    struct snapshot *_Nullable snapshots; // Large `sync`s that some client has yet to take.
    // Other shards
    struct peer peers[SC_SHARD_COUNT_MAX];
    bool stalled; // Some shard has not yet taken the events sent to it: nothing is changed here.
    struct sc_loop_message again; // Makes the loop turn again.
    bool turns_again;
    struct call_queues call_queues;
    // Time
    struct sc_timer sweep_timer, compact_timer;
    // What was said last of connections that could not be taken.
    uint64_t refused_logged, accepts_failed_logged, refusals_logged_ns;
    uint64_t join_logged_ns; // When it was said last why one is refused.
    struct listeners listeners;
    bool workers_paused; // The first shard's: the worker ports accept nothing, see door.c.
    bool stopping;       // Closes what it has, takes nothing new.
    bool quiet; // Has nothing open, and nothing under way to other shards; said so to the node.
    bool end;   // All are quiet.
    uint64_t stop_due_ns;
    struct sc_timer stop_timer;
    struct sc_account_sums *sums; // Of the accounts of its connections, and of its own.
    struct sc_account *account;
    struct sc_timer snapshot_timer;
    struct sc_wait_list turned_away; // Workers that wait for their close.
    struct sc_timer door_timer;
    uint32_t stream_connections, worker_connections;
    uint64_t subscriptions;
    struct sc_json_index index_scratch;
    uint8_t shown_id[SC_SHOWN_ID_SIZE_MAX];           // Of a call whose function id is too long.
    uint8_t shown_call_id[SC_SHOWN_CALL_ID_SIZE_MAX]; // Of a call whose own id is too long.
    struct sc_node_counters counters;
};

struct sc_node {
    struct sc_node_config config;
    struct sc_node_events events;
    struct sc_node_address *_Nullable worker_addresses;
    struct sc_directory *_Nullable directory;
    struct sc_account *account; // Of what waits for triggers and that no connection has caused.
    struct sc_account_sums *sums;
    uint64_t id_key[2]; // Of the ids that subscriptions by path are given, and of nothing else.
    struct listen_place *places; // Of the stream port, then of each worker port.
    uint32_t shard_count;
    struct shard *_Nonnull *_Nonnull shards;
    _Atomic uint32_t *worker_counts; // By shard, for dealing new workers out.
    _Atomic uint32_t connection_count;
    _Atomic uint32_t upgrade_count;  // That wait to be let in.
    _Atomic uint32_t turned_away[2]; // By enum door: peers over a limit that have not gone yet.
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t started, quiet, ended; // Shards; under the lock.
    uint32_t met;                   // How often shards have met; see sc_shards_barrier.
    int met_result;
    bool incomplete; // Some shards never were.
    int start_error;
    enum sc_start_step start_step; // At which it was.
    _Atomic int store_full; // -errno: a start found no room to write. Until all shards have met.
    char start_reason[SC_REASON_SIZE];
    bool running;
    _Atomic uint64_t
        api_callers; // Threads that post a command; with NODE_CLOSED set, none may begin.
    char backend[128];
};

#define NODE_CLOSED (1ull << 63)
/// Messages of one connection in the control plane's hands. With more, its calls wait.
#define MESSAGES_MAX 1024u
/// Calls of one connection without an answer. With more, its calls wait.
#define ANSWERS_MAX 1024u
#pragma clang assume_nonnull end

#endif
