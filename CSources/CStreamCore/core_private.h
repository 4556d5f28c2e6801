// The core's shared structures. One shard owns everything here but `struct sc_node`, sc_message and
// blobs; nothing is locked.
#ifndef CSTREAM_CORE_PRIVATE_H
#define CSTREAM_CORE_PRIVATE_H

#include <pthread.h>

#include "CStreamCore.h"
#include "CStreamJSON.h"
#include "CStreamLoop.h"
#include "CStreamStore.h"
#include "CStreamWebSocket.h"
#include "handed.h"

#pragma clang assume_nonnull begin

struct shard;
struct connection;
struct topic;
struct request;
struct worker;

// ---- Bytes on their way out (outbound.c)

/// Where frames are built. Shared by all connections of a shard that send from it; plain counts, since a
/// chunk never leaves its shard.
struct chunk {
    struct chunk *_Nullable next_free;
    uint32_t references;
    uint32_t size;
    uint32_t capacity;
    struct sc_blob *_Nullable external; // The bytes are this blob's, shared with other shards.
    uint8_t *data;
};

/// Whole frames inside a chunk. Holding one means holding a reference to the chunk.
struct slice {
    struct chunk *_Nullable chunk;
    uint32_t offset;
    uint32_t size;
};

/// Part of what a socket did not take at once. It begins and, but for its first frame which may have been
/// sent in part, consists of whole frames.
struct backlog_piece {
    struct backlog_piece *_Nullable next;
    struct chunk *_Nullable shared; // Set: the bytes are the chunk's. Otherwise `bytes`.
    const uint8_t *data;
    uint32_t sent;
    uint32_t size;
    uint32_t capacity;
    uint8_t bytes[];
};

struct backlog {
    struct backlog_piece *_Nullable first;
    struct backlog_piece *_Nullable last;
    uint64_t bytes;         // Not yet taken by the socket.
    uint64_t over_since_ns; // 0: within the budget.
    struct connection *_Nullable over_next;
    struct connection *_Nullable over_previous;
};

/// More slices of one turn than the connection has room for.
#define READY_SLICES_MAX SC_LOOP_SEND_PIECES_MAX
struct ready_more {
    uint32_t count;
    struct slice slices[READY_SLICES_MAX - 1];
};

// Frames that go to the same connections should lie side by side, so that a turn's worth of them is one
// piece: one lane for what goes to a single connection, and a few for events, by topic.
#define LANE_PRIVATE 0u
#define LANE_EVENTS 1u
#define LANE_EVENT_COUNT 8u
#define LANE_COUNT (LANE_EVENTS + LANE_EVENT_COUNT)
static inline uint32_t lane_of_topic(uint64_t hash) {
    return LANE_EVENTS + (uint32_t)(hash % LANE_EVENT_COUNT);
}

// ---- Connections (connection.c)

enum connection_port { PORT_STREAM, PORT_WORKER };
enum connection_kind { KIND_UNKNOWN, KIND_STREAM, KIND_WORKER, KIND_TELEMETRY };
enum connection_state {
    STATE_HANDSHAKE, // Reading the request head.
    STATE_HELD,      // The control plane decides about it.
    STATE_OPEN,
    STATE_CLOSING, // A close frame or a refusal is on its way; input is only looked at for the peer's close.
    STATE_GONE,    // The socket is being closed.
};

/// Messages that wait for their turn, and bytes that wait for more or for a paused connection.
struct parked_message {
    struct parked_message *_Nullable next;
    uint32_t size;
    bool binary;
    uint8_t bytes[];
};
struct inbound {
    struct sc_buffer undecoded;
    struct sc_buffer assembly; // Fragments and parts of one message.
    struct parked_message *_Nullable parked_first;
    struct parked_message *_Nullable parked_last;
    size_t parked_bytes;
    uint32_t parked_count;
};

struct stream_path {
    bool joins, has_item;
    struct sc_bytes parts[3];
    uint8_t storage[3][3 * SC_NAME_SIZE_MAX];
};

/// An upgrade that the control plane decides about.
struct held_upgrade {
    char accept[28];
    bool authorization;
    struct stream_path path;
};

/// What few stream clients have.
struct client {
    struct sc_blob *_Nullable context; // JSON text that the auth function gave.
    struct handed *_Nullable handed;
    struct held_upgrade *_Nullable held;
    struct held_join *_Nullable held_join;
};

struct connection {
    struct sc_socket socket;
    struct shard *shard;
    uint64_t id;
    struct sc_ws_decoder decoder;
    struct connection *_Nullable dirty_next;
    struct slice ready; // The first slice of this turn; further ones in `more`.
    struct ready_more *_Nullable more;
    struct backlog *_Nullable backlog;
    struct inbound *_Nullable inbound;
    struct membership *_Nullable memberships;
    struct worker *_Nullable worker;
    struct client *_Nullable client;
    struct connection *_Nullable parked_next;
    struct connection *_Nullable closing_next;
    uint32_t heard_tick; // Sweep tick of the last byte.
    uint32_t due_tick;   // STATE_HANDSHAKE, STATE_CLOSING: when patience ends.
    uint32_t subscription_count;
    uint8_t port, kind, state;
    bool dirty : 1;
    bool binary : 1;       // The message being assembled.
    bool paused : 1;       // The socket is not read.
    bool on_parked_list : 1;
    bool join_pending : 1; // A join is at the group's owner, or being decided about.
    bool join_asked : 1;   // The latter.
    bool silent : 1;       // A worker: the control plane was told so.
    bool pinged : 1;
    bool ended : 1;        // The peer will send nothing more.
    bool close_when_sent : 1;
    uint8_t listener;
};

/// What only worker connections have.
struct answer_slot {
    bool ready;
    struct slice slice; // Without a chunk: nothing to send.
};
struct worker {
    bool admitted;
    bool restricted; // The control plane decides about every call.
    uint32_t held;   // Messages wait for so many releases.
    uint8_t id_size;
    uint8_t id[36];
    uint64_t outbound_size_max;
    uint64_t calls_received; // Forwarded to it: it executes functions.
    struct handed *handed;
    struct answer_slot *_Nullable answers; // A ring of answers that are not due yet.
    uint32_t answer_mask, answer_head, answer_tail;
};

// ---- Topics and subscriptions (topic.c)

struct subscription {
    struct subscription *_Nullable next;
    struct item_interest *_Nullable item; // NULL: the whole group.
    uint32_t id_hash;
    uint16_t id_size;
    uint8_t id[];
};

/// One connection in one topic, however many subscriptions it has there.
struct membership {
    struct connection *connection;
    struct topic *topic;
    struct membership *_Nullable next; // Of the connection.
    struct subscription *_Nullable subscriptions;
    uint32_t group_count;  // Subscriptions of the whole group.
    uint32_t member_index; // In topic->members, while group_count > 0.
};

struct member {
    struct connection *connection;
    struct membership *membership;
};

struct item_interest {
    struct sc_table_node node; // In topic->items.
    struct membership *_Nullable *_Nullable entries; // A membership once for each subscription.
    uint32_t count, capacity;
    uint16_t id_size;
    uint8_t id[];
};

/// Interest of another shard, at the owner.
struct remote_interest {
    struct topic *_Nullable topic; // The other shard's; valid while count > 0.
    uint32_t count;
};

/// A join of a stream with an overridden `get` or `list`: its frames are held until the function has answered.
struct held_join {
    struct held_join *_Nullable next; // Of the topic.
    struct topic *topic;
    struct connection *connection;
    uint64_t timestamp; // Of the `sync`: before that of every held frame.
    bool has_item;
    uint16_t item_size, id_size;
    struct sc_buffer frames;
    uint8_t bytes[]; // The item, then the subscription's id.
};

/// A group that somebody on this shard, or (at its owner) on any shard, subscribes to.
struct topic {
    struct sc_table_node node; // In shard->topics.
    struct topic *_Nullable dirty_next;
    struct member *_Nullable members;
    uint32_t member_count, member_capacity;
    struct slice pending; // Frames of this turn that all members get, not handed to them yet.
    struct sc_table items;
    uint32_t interest;      // At the owner: subscriptions here and elsewhere.
    uint32_t registrations; // Elsewhere: joins sent to the owner less leaves it has confirmed.
    struct remote_interest *_Nullable remotes; // At the owner: one per shard, once any is interested.
    struct held_join *_Nullable held_joins;
    uint32_t in_flight; // Effects that wait to be released.
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
    struct sc_bytes invocation_id, function_id; // JSON text, as the caller wrote it.
    struct sc_bytes traceparent, baggage;       // JSON text, data == NULL: none.
    uint64_t connection;
    uint32_t answer;                    // Place in the connection's ring of answers.
    struct request *_Nullable request;  // NULL: the caller is on this shard.
    uint64_t size_max;                  // Of the answer.
    /// Of the caller; what its changes set off counts there. A request holds it, a call on the caller's shard
    /// borrows it.
    struct handed *_Nullable handed;
};

// What follows from a change leaves when its position is durable, in the order of positions.
enum effect_kind { EFFECT_EVENT, EFFECT_TRIGGER, EFFECT_ANSWER, EFFECT_JOIN };
struct effect {
    uint64_t position;
    uint8_t kind;
    uint32_t answer;
    struct slice slice;
    uint64_t connection;
    struct topic *_Nullable topic;
    struct request *_Nullable request;
    struct sc_message *_Nullable message; // EFFECT_TRIGGER; EFFECT_ANSWER: of a call of the node itself.
    bool has_item;
    uint32_t item_offset, item_size; // EFFECT_EVENT: the item's id in `names`.
};
struct effects {
    struct effect *_Nullable ring;
    uint32_t mask, head, tail;
    struct sc_buffer names;
    uint32_t names_dropped; // Bytes no longer needed that were taken off the front of `names`.
};

/// A piece of work for another shard. It travels there and back in the same memory.
enum request_kind { REQUEST_CALL, REQUEST_JOIN, REQUEST_LEAVE, REQUEST_NAMES };
struct request {
    struct sc_loop_message message;
    struct shard *origin;
    struct shard *owner;
    struct request *_Nullable next_stalled;
    uint8_t kind;
    struct call call;                  // REQUEST_CALL, REQUEST_NAMES; its name also for joins.
    struct topic *_Nullable topic;     // REQUEST_JOIN, REQUEST_LEAVE: the origin's.
    struct gather *_Nullable gather;   // REQUEST_NAMES
    struct sc_bytes subscription_id;   // REQUEST_JOIN
    struct sc_blob *_Nullable reply;   // A frame, a message, or the names.
    struct sc_blob *_Nullable context; // REQUEST_JOIN: of the client.
    uint64_t timestamp;                // REQUEST_JOIN: of a custom `sync`.
    bool custom;                       // REQUEST_JOIN: a function of its own makes the `sync`.
    size_t size;
    size_t sent_size; // Counted against the owner's shard.
    uint8_t bytes[];
};

/// Frames for the subscribers of another shard, collected during a turn.
struct event_batch {
    struct sc_loop_message message;
    struct shard *from;
    struct shard *to;
    struct sc_buffer bytes; // struct batch_entry, then the item id, then the frame, padded to 8; ...
    bool returning;
};
struct batch_entry {
    struct topic *topic;
    uint32_t frame_size;
    uint16_t item_size;
    bool has_item;
};

/// What this shard knows of another one.
struct peer {
    uint32_t requests; // Under way to it.
    uint64_t request_bytes;
    uint64_t event_bytes;
    struct event_batch *_Nullable batch;
};

// ---- Shards (shard.c)

struct worker_listener {
    struct sc_listener listener;
    struct shard *shard;
    uint32_t index;
};

struct connection_place {
    struct connection *_Nullable connection;
    uint32_t generation;
    uint32_t next_free;
};

struct shard {
    struct sc_node *node;
    struct sc_loop *loop;
    struct sc_store *store;
    struct sc_log *_Nullable log; // NULL: the store is in memory only.
    struct sc_timer log_timer, gather_timer;
    uint32_t taken_back; // How often changes were: what was read before then may not be true any more.
    struct sc_json_updater *updater;
    pthread_t thread;
    uint32_t index;
    // Connections
    struct connection_place *_Nullable places;
    uint32_t place_count, place_free, connection_count;
    struct connection *_Nullable dirty_first;
    struct connection *_Nullable dirty_last;
    struct connection *_Nullable parked_first;
    struct connection *_Nullable closing_first; // Their subscriptions end at the end of the turn.
    struct connection *_Nullable over_first;    // Over their budget.
    // Frames
    struct chunk *_Nullable chunks[LANE_COUNT];
    struct chunk *_Nullable free_chunks;
    uint32_t free_chunk_count;
    // Topics
    struct sc_table topics;
    struct sc_table watches;
    uint32_t watch_all; // Watched in all streams.
    struct topic *_Nullable dirty_topics;
    struct effects effects;
    // Other shards
    struct peer peers[SC_SHARD_COUNT_MAX];
    bool stalled; // Some shard has not yet taken the events sent to it: no call starts.
    bool crowded; // Some shard has as many requests of ours as it may: no remote call starts.
    struct request *_Nullable stalled_first;
    struct request *_Nullable stalled_last;
    // Time
    struct sc_timer sweep_timer, parked_timer, over_timer;
    uint32_t tick, tick_ms;
    struct sc_listener stream_listener;
    struct worker_listener *_Nullable worker_listeners; // Shard 0 only.
    uint32_t open_listeners;
    bool listeners_closing;
    bool stopping; // Closes what it has, takes nothing new.
    bool quiet;    // Has nothing open, and nothing under way to other shards; said so to the node.
    bool end;      // All are quiet.
    uint64_t stop_due_ns;
    struct sc_timer stop_timer;
    uint64_t backlog_bytes;
    uint32_t stream_connections, worker_connections;
    uint64_t subscriptions;
    struct sc_json_index index_scratch;
    struct sc_node_counters counters;
};

struct sc_node {
    struct sc_node_config config;
    struct sc_node_events events;
    struct sc_node_address *_Nullable worker_addresses;
    struct sc_directory *_Nullable directory;
    uint16_t stream_port;
    uint16_t *_Nullable worker_ports;
    uint32_t shard_count;
    struct shard *_Nonnull *_Nonnull shards;
    _Atomic uint32_t *worker_counts; // By shard, for dealing new workers out.
    _Atomic uint32_t connection_count;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    uint32_t started, quiet, ended; // Shards; under the lock.
    uint32_t met;                   // How often shards have met; see shards_meet.
    int met_result;
    bool incomplete; // Some shards never were.
    int start_error;
    char start_reason[SC_REASON_SIZE];
    bool running;
    _Atomic uint64_t visitors; // Threads that post a command; with NODE_CLOSED set, none may begin.
    char backend[128];
};

#define NODE_CLOSED (1ull << 63)
/// Messages of one connection in the control plane's hands. With more, its calls wait.
#define HANDED_MAX 1024u
/// Between the two the shards' loops stay. False: the node is stopping.
bool node_let_in(struct sc_node *node);
void node_let_out(struct sc_node *node);

// ---- outbound.c

/// Room for `size` bytes of frames, as a slice to be filled. Holds one reference.
struct slice frames_take(struct shard *shard, uint32_t lane, size_t size);
struct slice frames_wrap(struct shard *shard, struct sc_blob *blob, size_t offset);
void slice_retain(struct slice slice);
void slice_release(struct shard *shard, struct slice slice);
static inline uint8_t *slice_data(struct slice slice) {
    return slice.chunk->data + slice.offset;
}
/// Puts whole frames at the end of what waits for the connection. Takes no reference: retains what it keeps.
void out_append(struct connection *connection, struct slice slice);
/// Puts a control frame ahead of all that has not begun to leave.
void out_append_control(struct connection *connection, const uint8_t *frame, size_t size);
/// Bytes that may wait for the connection.
uint64_t connection_budget(const struct connection *connection);
/// Sends what the turn has put together.
void out_flush_all(struct shard *shard);
void out_sent(struct connection *connection, ssize_t result);
bool out_empty(const struct connection *connection);
/// Drops what has not begun to leave, for a close frame that goes next.
void out_drop_waiting(struct connection *connection);
void out_discard(struct connection *connection);
void out_over_budget_check(struct sc_timer *timer);
void chunks_free(struct shard *shard);

// ---- frame.c

#define FRAME_PARTS_MAX 24
/// Builds one text message of `count` parts as a frame (fragmented over SC_FRAGMENT_SIZE_MAX).
struct slice frame_build(struct shard *shard, uint32_t lane, const struct sc_bytes *parts,
                         size_t count);
struct sc_blob *_Nullable frame_build_blob(const struct sc_bytes *parts, size_t count, size_t header_room);
uint64_t parts_size(const struct sc_bytes *parts, size_t count);
/// The frame of an event: `event` is what stands behind `"event":{"type":`, less the closing brace, and
/// `prefix` the part that names stream and group.
struct slice stream_frame(struct shard *shard, uint32_t lane, uint64_t timestamp, struct sc_bytes prefix,
                          const struct sc_bytes *_Nullable id, const struct sc_bytes *event, size_t count);
static inline struct sc_bytes text_or_null(const struct sc_blob *_Nullable value) {
    return value == NULL ? SC_LITERAL("null") : sc_blob_bytes(value);
}

// ---- topic.c

struct topic *_Nullable topic_find(struct shard *shard, const struct sc_group_name *name);
struct topic *topic_make(struct shard *shard, const struct sc_group_name *name);
void topic_drop_idle(struct shard *shard, struct topic *topic);
struct sc_group_name topic_name(const struct topic *topic);
static inline struct sc_bytes topic_prefix(const struct topic *topic) {
    return (struct sc_bytes){topic->bytes + topic->stream_size + topic->group_size, topic->prefix_size};
}
/// Hands a frame to this shard's subscribers.
void topic_deliver(struct shard *shard, struct topic *topic, const struct sc_bytes *_Nullable item,
                   struct slice slice);
void topic_settle(struct shard *shard, struct topic *topic);
void topics_settle(struct shard *shard);
/// Makes the connection a subscriber, replacing its subscription of the same id.
void topic_subscribe(struct connection *connection, struct topic *topic, struct sc_bytes id,
                     const struct sc_bytes *_Nullable item);
bool subscription_remove(struct connection *connection, struct sc_bytes id);
bool subscription_exists(struct connection *connection, struct sc_bytes id);
void subscriptions_remove_all(struct connection *connection);
/// Whether the connection gets the frames of the group, or of the item, already.
bool subscription_covers(struct connection *connection, const struct topic *topic,
                         const struct sc_bytes *_Nullable item);

// ---- join.c

/// Handles a message of a stream client. False: it must wait.
bool stream_message(struct connection *connection, struct sc_bytes text);
void join_by_path(struct connection *connection, struct sc_bytes stream, struct sc_bytes group,
                  const struct sc_bytes *_Nullable item);
void join_evaluate(struct shard *owner, struct request *request);
/// The join has been evaluated; `slice` is its `sync`, without a chunk when there is none.
void join_complete(struct shard *shard, struct request *request, struct slice slice);
void join_release(struct shard *shard, struct effect *effect);
void join_decided(struct shard *shard, struct connection *_Nullable connection, uint64_t id,
                  const struct sc_message *message, bool allowed);
/// Keeps a frame for the joins of the topic that wait for their `sync`.
void held_joins_deliver(struct topic *topic, const struct sc_bytes *_Nullable item, struct slice slice);
/// Gives up a join that waits for its `sync`: its connection has gone.
void held_join_end(struct connection *connection);
void sync_decided(struct connection *connection, struct sc_bytes data);
void leave_send(struct shard *shard, struct topic *topic);

// ---- call.c

void call_execute(struct shard *shard, struct call *call);
void call_answer(struct shard *shard, struct call *call, const struct sc_bytes *_Nullable parts,
                 size_t count);
void call_fail(struct shard *shard, struct call *call, const char *code, struct sc_bytes message);
struct effect *effect_push(struct shard *shard);
void effects_release(struct shard *shard);
void effects_deinit(struct shard *shard);
/// Announces what an overriding function has done.
void emit_override(struct shard *shard, const struct sc_group_name *name, struct sc_bytes item,
                   enum sc_event_kind kind, struct sc_bytes data, uint64_t writer);
/// The answer to a call of the node itself: announces the message `text`.
void node_answered(struct shard *shard, struct sc_bytes text);
// ---- sync.c

/// The JSON array of a group's values: its size, and the text appended to `out`. False: memory is out.
uint64_t group_array_size(const struct sc_group *_Nullable group);
bool group_array_write(struct sc_buffer *out, const struct sc_group *_Nullable group);
/// The `sync` frame of a group or item, with a reference. Without a chunk: it is too large.
struct slice sync_build(struct shard *shard, const struct sc_group_name *name,
                        const struct sc_bytes *_Nullable item);
struct slice custom_sync_build(struct shard *shard, const struct held_join *held, struct sc_bytes data);
/// The stamp of a `sync` that sync_build does not make.
uint64_t custom_sync_stamp(struct shard *shard, const struct sc_group_name *name,
                           const struct sc_bytes *_Nullable item);
struct slice unauthorized_build(struct shard *shard, const struct sc_group_name *name,
                                const struct sc_bytes *_Nullable item);

// ---- durable.c

/// Opens the shard's part of the store; all shards call it, each on its thread, with what has gone wrong so
/// far. Returns the first error of any of them.
int durable_start(struct shard *shard, int rc);
void durable_turn(struct shard *shard);
/// The position up to which effects may leave.
uint64_t durable_position(const struct shard *shard);
/// Writes the last changes; durable_is_idle says when that is over.
void durable_finish(struct shard *shard);
bool durable_is_idle(const struct shard *shard);
void durable_close(struct shard *shard);
void durable_close_directory(struct shard *shard);
/// Refuses a change that the store did not take: `rc` of sc_store_set or sc_store_delete.
void durable_refuse(struct shard *shard, struct call *call, int rc);

// ---- import.c

/// Takes the files that the original wrote into the shard's store, those of its groups. -errno and a reason.
SC_CHECKED int import_originals(struct shard *shard, char *reason);

// ---- names.c

void names_start(struct shard *shard, struct call *call);
void names_evaluate(struct shard *shard, struct request *request);
void names_collect(struct shard *shard, struct request *request);
void names_reply(struct shard *shard, struct request *request);

// ---- request.c

struct request *request_make(struct shard *origin, struct shard *owner, enum request_kind kind,
                             const struct call *call, struct sc_bytes extra);
void request_send(struct request *request);
void request_free(struct request *request);
void request_finish(struct request *request); // At the owner, when `reply` is set.
void event_to_peers(struct shard *shard, struct topic *topic, const struct sc_bytes *_Nullable item,
                    struct slice slice);
void batches_post(struct shard *shard);
void requests_resume(struct shard *shard);
/// No call starts: another shard is behind with the events sent to it, or the disk with the changes.
static inline bool shard_is_stalled(const struct shard *shard) {
    return shard->stalled || (shard->log != NULL && sc_log_is_full(shard->log));
}
struct shard *shard_of(struct shard *shard, uint64_t hash);

// ---- message.c

/// Reads the fields of a message of `type` from a scanned text and copies both. On failure `*why` says what
/// is wrong with it. Results that are malformed but name their call become errors of that call.
struct sc_message *_Nullable message_make(enum sc_message_type type, struct sc_bytes text,
                                          const struct sc_json_index *index, struct sc_bytes caller_id,
                                          struct handed *_Nullable handed,
                                          const char *_Nonnull *_Nonnull why);
/// The worker id of the caller, and the data with `_caller_worker_id` as it goes to the executor.
#define MESSAGE_DATA_PARTS_MAX 4
size_t message_data_parts(const struct sc_message *message, struct sc_buffer *scratch,
                          struct sc_bytes *parts);
void message_set_action(struct sc_message *message, bool is_void, bool is_enqueue);
/// Makes a result an error, whatever could be read of it.
void message_set_malformed(struct sc_message *message);
struct sc_bytes message_text(const struct sc_message *message);

/// A message that the core makes: text, and where in it the fields are. All zero is an empty one.
struct message_builder {
    struct sc_buffer text;
    uint32_t starts[SC_FIELD_COUNT], ends[SC_FIELD_COUNT];
    uint8_t override;
    bool is_void;
};
void builder_begin(struct message_builder *builder, enum sc_message_field field);
void builder_end(struct message_builder *builder, enum sc_message_field field);
void builder_add(struct message_builder *builder, struct sc_bytes text);
/// Adds JSON text as a field; nothing for data == NULL.
void builder_field(struct message_builder *builder, enum sc_message_field field, struct sc_bytes text);
/// Adds characters as a field that is a JSON string.
void builder_string(struct message_builder *builder, enum sc_message_field field, struct sc_bytes text);
/// Takes the builder's memory. NULL when memory is out.
struct sc_message *_Nullable builder_finish(struct message_builder *builder, enum sc_message_type type,
                                            struct handed *_Nullable handed);

// ---- announce.c

/// Hands a message on and gives the reference up; nothing for NULL.
void announce(struct shard *shard, uint64_t connection, struct sc_message *_Nullable message);
/// What a trigger of the type `stream` is called with. `event` is what stands behind `"event":{"type":`, less
/// the closing brace; `kind` names it.
struct sc_message *_Nullable change_message(uint64_t timestamp, const struct sc_group_name *name,
                                            const struct sc_bytes *_Nullable item,
                                            const struct sc_bytes *event, size_t count,
                                            struct sc_bytes kind, struct handed *_Nullable handed);
/// A subscription, as its parts.
struct subscription_name {
    struct sc_bytes id, stream, group;
    const struct sc_bytes *_Nullable item;
    struct sc_bytes context; // JSON text; data == NULL: none.
};
struct sc_message *_Nullable join_message(enum sc_message_type type, uint64_t timestamp,
                                          const struct subscription_name *name,
                                          struct handed *_Nullable handed);
/// What an overriding `get` or `list` is asked for a `sync`.
struct sc_message *_Nullable sync_message(const struct subscription_name *name);
/// What an auth function is called with: of a stream client, or of a worker.
struct sc_message *_Nullable head_message(const struct sc_http_request *request, struct sc_bytes address,
                                          bool worker);
/// A call of a function that is overridden, with the declared keys of its input and no others. `ops` is the
/// normal form of those of an update; `bit` the place of the function's in enum sc_watch.
struct sc_message *_Nullable override_message(const struct call *call, struct sc_bytes ops, uint32_t bit);
/// Tells the control plane that a subscription has ended, if it listens.
void announce_leave(struct shard *shard, uint64_t connection, const struct subscription_name *name,
                    struct handed *_Nullable handed);
/// Writes `ip:port` of the peer, and returns how much of it is the ip.
#define UUID_TEXT_SIZE 36
/// Writes a UUID (version 8, RFC 9562) that is the same for the same numbers, and for no others that a node uses.
void uuid_write(uint8_t out[_Nonnull UUID_TEXT_SIZE], uint64_t number, uint64_t seed);
#define PEER_ADDRESS_SIZE_MAX 64
size_t peer_address(int fd, uint8_t out[_Nonnull PEER_ADDRESS_SIZE_MAX], size_t *ip_size);

// ---- watch.c

/// What is watched in `stream`: enum sc_watch.
uint32_t watch_flags(struct shard *shard, struct sc_bytes stream);
static inline bool watches_any(const struct shard *shard) {
    return shard->watches.count > 0 || shard->watch_all != 0;
}
void watch_set(struct shard *shard, struct sc_bytes stream, uint32_t flags);
void watches_deinit(struct shard *shard);

// ---- upgrade.c

/// Reads the request head. Returns the bytes used up.
size_t upgrade_read(struct connection *connection, const uint8_t *bytes, size_t size);
void upgrade_decide(struct connection *connection, int status, struct sc_bytes context);
struct client *client_of(struct connection *connection);
struct handed *client_handed(struct connection *connection);
void client_free(struct connection *connection);

// ---- worker.c

/// Handles a message of a worker. False: it must wait. `waited`: it is the first of those that do.
bool worker_message(struct connection *connection, struct sc_bytes text, bool waited);
/// Gives a place in the ring of answers.
uint32_t worker_answer_begin(struct connection *connection);
void worker_answer_end(struct connection *connection, uint32_t place, struct slice slice);
void worker_opened(struct connection *connection, const struct sc_http_request *request);
/// Answers a call that there is no room for. False: the message is none.
bool worker_refuse_call(struct connection *connection, struct sc_bytes text);
/// Runs a call of a restricted worker, now that it may.
void worker_run_call(struct connection *connection, struct sc_bytes text);
/// Runs a call of the node itself.
void node_call_run(struct shard *shard, struct sc_bytes text);
void worker_closed(struct connection *connection);
bool worker_can_start(const struct worker *worker);

// ---- connection.c

struct connection *_Nullable connection_find(struct shard *shard, uint64_t id);
void connection_adopt(struct shard *shard, int fd, enum connection_port port, uint32_t listener);
void connection_close(struct connection *connection, uint16_t code, const char *reason);
void connection_abort(struct connection *connection);
/// Hands on what waited: parked messages, then undecoded bytes. False: something still waits.
bool connection_resume(struct connection *connection);
/// Reads a paused connection again, what was held of its bytes first.
void connection_read_on(struct connection *connection);
void connection_drained(struct connection *connection);
bool connection_can_start(struct connection *connection);
/// Queues bytes that are no message: a response, a close frame.
void connection_respond(struct connection *connection, const uint8_t *bytes, size_t size);
void connection_begin_closing(struct connection *connection);
void sweep(struct sc_timer *timer);

// ---- shard.c

void *_Nullable shard_main(void *_Nullable argument);
/// Takes no new connections, and closes the stream clients.
void shard_close_clients(struct shard *shard);
void shard_stop(struct shard *shard);
void listeners_close(struct shard *shard);
/// Waits, while the node starts, until all shards have come here. The first error of any of them, or 0.
int shards_meet(struct shard *shard, int rc, const char *_Nullable reason);
/// Whether something that this shard has sent to another one is not back yet, or something here waits for the disk.
bool shard_waits_for_peers(const struct shard *shard);
void shard_log(struct shard *shard, enum sc_log_level level, const char *event, uint64_t connection,
               struct sc_bytes detail);
/// Bookkeeping that the core cannot do without: ends the process when memory is out.
void *allocate(size_t size);
void *reallocate(void *_Nullable memory, size_t size);
uint64_t now_ms(const struct shard *shard);

#pragma clang assume_nonnull end

#endif
