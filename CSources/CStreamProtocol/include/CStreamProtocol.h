// What workers, clients and handlers say, and what they are told. Pure: bytes in, bytes out. Nothing here knows a
// socket, a shard or a connection. An account is charged for a message in the control plane's hands, and no more.
//
// A parser takes what a JSON scan has found, and borrows the scanned text. A peer's bytes never reach an assert.
//
// A text that is told is given as parts, an array of slices: values may have megabytes, and are copied once, into the frame
// that leaves. The parts borrow all that they are made of, until they have been written.
//
// Thread: any. What a function knows stands in its arguments; there is no state beside them.
#ifndef CSTREAM_PROTOCOL_H
#define CSTREAM_PROTOCOL_H

#include "CStreamBase.h"
#include "CStreamJSON.h"
#include "CStreamWebSocket.h"

#include "address.h"

#pragma clang assume_nonnull begin

// ---- Messages for the control plane (message.c)

/// The order is known elsewhere: registrations come first, since they hold what their connection says next.
enum sc_message_type {
    SC_MESSAGE_REGISTER_FUNCTION,
    SC_MESSAGE_UNREGISTER_FUNCTION,
    SC_MESSAGE_REGISTER_TRIGGER_TYPE,
    SC_MESSAGE_UNREGISTER_TRIGGER_TYPE,
    SC_MESSAGE_REGISTER_TRIGGER,
    SC_MESSAGE_UNREGISTER_TRIGGER,
    SC_MESSAGE_TRIGGER_REGISTRATION_RESULT,
    SC_MESSAGE_REGISTER_SERVICE,
    SC_MESSAGE_INVOKE,
    SC_MESSAGE_RESULT,
    SC_MESSAGE_REATTACH,
    // Made by the core, for the control plane to decide about. DATA is what a function is called with.
    SC_MESSAGE_CHANGE, // A change in a stream with WATCH_CHANGES, and the input of a `stream` trigger.
    SC_MESSAGE_JOIN,     // A join that waits for sc_node_decide_join.
    SC_MESSAGE_LEAVE,    // A subscription that has ended.
    SC_MESSAGE_SYNC,     // A join of an overridden stream waits for sc_node_sync.
    SC_MESSAGE_UPGRADE,  // A stream client waits for sc_node_upgrade.
    SC_MESSAGE_OVERRIDE, // A checked call of an overridden function; the number is its bit's place.
    SC_MESSAGE_LOGS,     // OTLP log records of a worker, as JSON in DATA.
};

enum sc_message_field {
    SC_FIELD_ID,
    SC_FIELD_FUNCTION_ID,
    SC_FIELD_INVOCATION_ID,
    SC_FIELD_TRIGGER_TYPE,
    SC_FIELD_DATA,
    SC_FIELD_CONFIG,
    SC_FIELD_METADATA,
    SC_FIELD_DESCRIPTION,
    SC_FIELD_REQUEST_FORMAT,
    SC_FIELD_RESPONSE_FORMAT,
    SC_FIELD_TRIGGER_REQUEST_FORMAT,
    SC_FIELD_CALL_REQUEST_FORMAT,
    SC_FIELD_INVOCATION,
    SC_FIELD_TRACEPARENT,
    SC_FIELD_BAGGAGE,
    SC_FIELD_RESULT,
    SC_FIELD_ERROR,
    SC_FIELD_ERROR_CODE,
    SC_FIELD_ERROR_MESSAGE,
    SC_FIELD_ERROR_STACKTRACE,
    SC_FIELD_ACTION,
    SC_FIELD_PREVIOUS_WORKER_ID,
    SC_FIELD_REATTACH_TOKEN,
    SC_FIELD_STREAM,
    SC_FIELD_GROUP,
    SC_FIELD_ITEM, // Absent: the whole group, or an event of no item.
    SC_FIELD_COUNT,
};

/// A validated worker message, immutable and reference-counted. Required fields are there and of the right
/// type; a field that is absent or null has no data, but for the values `data` and `config`, whose null
/// (and whose absence) is the text `null`.
///
/// Thread: whoever holds a reference may read it, on any thread. The three `sc_message_set_…` functions are for its
///         maker, before anybody else has it.
struct sc_message;

/// Reads the fields of a message of `type` (at most SC_MESSAGE_REATTACH) from `text` and what a scan of it has found,
/// and copies both. A result that is malformed but names its call becomes an error of that call.
///
/// Owns:   returns one reference, which the caller gives up with sc_message_release. Holds a reference to `account`,
///         and charges it, until sc_message_settle. `caller_id` (at most 36 bytes) is copied.
/// Errors: NULL, with the name of the wrong field in `*why`, or "memory".
struct sc_message *_Nullable sc_message_make(enum sc_message_type type, struct sc_bytes text,
                                             const struct sc_json_index *index,
                                             struct sc_bytes caller_id,
                                             struct sc_account *_Nullable account,
                                             const char *_Nullable *_Nonnull why);
void sc_message_retain(struct sc_message *message);
/// Gives one reference back. The last one settles the message and frees it.
void sc_message_release(struct sc_message *_Nullable message);
/// Says that the message is dealt with, though somebody may still hold it: it no longer counts against what
/// its connection may have in the control plane's hands. Once only.
void sc_message_settle(struct sc_message *message);
/// The account that it is charged to, borrowed until it is settled; NULL once it is, or when it is nobody's.
struct sc_account *_Nullable sc_message_account(const struct sc_message *message);

enum sc_message_type sc_message_type(const struct sc_message *message);
/// The text that the message was made of. Valid as long as the message.
struct sc_bytes sc_message_text(const struct sc_message *message);
/// A field as written: JSON text, a string with its quotes. Valid as long as the message.
struct sc_bytes sc_message_field(const struct sc_message *message, enum sc_message_field field);
/// Decodes a string field to `out`, which has room for the field's size, and returns the size.
size_t sc_message_string(const struct sc_message *message, enum sc_message_field field,
                         uint8_t *out);
/// An invocation with `action: void`, or without an `invocation_id`: nobody waits for its result.
bool sc_message_is_void(const struct sc_message *message);
/// An invocation with `action: enqueue`.
bool sc_message_is_enqueue(const struct sc_message *message);
/// SC_MESSAGE_OVERRIDE: which function, as the place of its bit in enum sc_watch.
uint32_t sc_message_override(const struct sc_message *message);

void sc_message_set_action(struct sc_message *message, bool is_void, bool is_enqueue);
/// Makes a result an error, whatever could be read of it.
void sc_message_set_malformed(struct sc_message *message);

#define SC_MESSAGE_DATA_PARTS_MAX 4
/// The data of an invocation as it goes to its executor: with the caller's id as `_caller_worker_id`, in place of one
/// that the caller wrote itself. Returns the count of parts.
///
/// Owns:   the parts borrow from the message and from `scratch`, which the caller deinits after their last use.
size_t sc_message_data_parts(const struct sc_message *message, struct sc_buffer *scratch,
                             struct sc_bytes parts[_Nonnull SC_MESSAGE_DATA_PARTS_MAX]);

/// The names that the core has written into a CHANGE, JOIN, LEAVE, SYNC or OVERRIDE message, decoded.
/// A decision about them comes back with the message, so that the core needs to keep nothing while it waits.
struct sc_message_names {
    struct sc_bytes id, stream, group, item; // Slices of `storage`; data == NULL: not there.
    struct sc_bytes context;                 // JSON text of the message; data == NULL: none.
    uint8_t storage[4][SC_NAME_SIZE_MAX];
};
/// Owns: `context` is borrowed from the message. Do not copy `names`: its slices point into it.
void sc_message_names_read(const struct sc_message *message, struct sc_message_names *names);

// ---- A worker's message, taken apart (envelope.c)

enum sc_envelope_field {
    SC_ENVELOPE_TYPE,
    SC_ENVELOPE_DATA,
    SC_ENVELOPE_ACTION,
    SC_ENVELOPE_BAGGAGE,
    SC_ENVELOPE_FUNCTION_ID,
    SC_ENVELOPE_TRACEPARENT,
    SC_ENVELOPE_INVOCATION_ID,
    SC_ENVELOPE_FIELD_COUNT
};

/// The members of an envelope that decide what becomes of it.
struct sc_envelope {
    const struct sc_json_index *index;
    const struct sc_json_member *_Nullable fields[SC_ENVELOPE_FIELD_COUNT]; // NULL: not there.
    struct sc_json_member scratch[SC_ENVELOPE_FIELD_COUNT]; // Theirs when the index overflowed.
};

/// Finds all fields in one walk over what a scan has found. Of several members with one key the last counts. After a
/// scan that failed the fields are those that stood before the error.
///
/// Owns: borrows `index` and the scanned text for as long as `out` is used.
void sc_envelope_read(struct sc_envelope *out, const struct sc_json_index *index);

/// A field that is a string, as written, with its quotes; data == NULL when it is none.
static inline struct sc_bytes sc_envelope_string(const struct sc_envelope *envelope,
                                                 enum sc_envelope_field field) {
    const struct sc_json_member *member = envelope->fields[field];
    if (member == NULL || member->value.kind != SC_JSON_STRING)
        return (struct sc_bytes){0};
    return member->value.text;
}

enum { SC_TYPE_PING = 100, SC_TYPE_IGNORED }; // Beside those of enum sc_message_type.

/// What the message is: an enum sc_message_type, one of the above, or -1.
int sc_envelope_type(const struct sc_envelope *envelope);

enum sc_action { SC_ACTION_CALL, SC_ACTION_VOID, SC_ACTION_ENQUEUE, SC_ACTION_INVALID };
enum sc_action sc_envelope_action_read(const struct sc_json_member *action);
static inline enum sc_action sc_envelope_action(const struct sc_envelope *envelope) {
    const struct sc_json_member *action = envelope->fields[SC_ENVELOPE_ACTION];
    return action == NULL ? SC_ACTION_CALL : sc_envelope_action_read(action);
}

/// The stream operation (enum sc_call_op) that a call names by its function id, or -1.
int sc_envelope_stream_op(const struct sc_envelope *envelope);

/// Says what is wrong with the fields of a call, in words for its caller; NULL when they are what they must be.
const char *_Nullable sc_envelope_call_problem(const struct sc_envelope *envelope,
                                               enum sc_action action);
static inline bool sc_envelope_is_string_or_absent(const struct sc_envelope *envelope,
                                                   enum sc_envelope_field field) {
    const struct sc_json_member *member = envelope->fields[field];
    return member == NULL || member->value.kind == SC_JSON_STRING;
}
/// The same. Most calls have nothing but strings and a short id, which is seen without a call.
static inline const char *_Nullable sc_envelope_call_check(const struct sc_envelope *envelope,
                                                           enum sc_action action) {
    const struct sc_json_member *function = envelope->fields[SC_ENVELOPE_FUNCTION_ID];
    bool plain = function != NULL && function->value.kind == SC_JSON_STRING &&
                 action != SC_ACTION_INVALID &&
                 sc_envelope_is_string_or_absent(envelope, SC_ENVELOPE_INVOCATION_ID) &&
                 sc_envelope_string(envelope, SC_ENVELOPE_INVOCATION_ID).size <=
                     SC_INVOCATION_ID_SIZE_MAX + 2 &&
                 sc_envelope_is_string_or_absent(envelope, SC_ENVELOPE_TRACEPARENT) &&
                 sc_envelope_is_string_or_absent(envelope, SC_ENVELOPE_BAGGAGE);
    return plain ? NULL : sc_envelope_call_problem(envelope, action);
}

/// Whether a message has nothing but white space, which JSON allows around a value. It is no message then.
bool sc_text_is_blank(struct sc_bytes text);
/// The SDKs send traces and metrics, too; the node has no use for them, and says nothing.
enum sc_telemetry { SC_TELEMETRY_NONE, SC_TELEMETRY_LOGS, SC_TELEMETRY_OTHER };
/// Whether a binary message is telemetry: it begins with four letters then, and only of log records there is a use.
enum sc_telemetry sc_telemetry_kind(struct sc_bytes binary);
#define SC_TELEMETRY_HEAD_SIZE 4u
/// Whether a worker's request head is that of the Python SDK. Its versions before 0.24.5 close their connection over a
/// message of more than 1 MiB, and the version itself is said late: after the calls that the SDK kept while it was away.
bool sc_head_is_python(const struct sc_http_request *request);

// ---- The input of a `stream::*` call (call_input.c)

/// The order is known elsewhere: the bits of overrides and of allowed operations follow it.
enum sc_call_op {
    SC_CALL_SET,
    SC_CALL_GET,
    SC_CALL_DELETE,
    SC_CALL_LIST,
    SC_CALL_LIST_GROUPS,
    SC_CALL_LIST_ALL,
    SC_CALL_SEND,
    SC_CALL_UPDATE,
};

/// Whether the operation changes something or tells somebody: set, delete, update, send.
static inline bool sc_call_writes(uint8_t op) {
    return (1u << op & (1u << SC_CALL_SET | 1u << SC_CALL_DELETE | 1u << SC_CALL_SEND |
                        1u << SC_CALL_UPDATE)) != 0;
}

/// The operation that a function id such as `stream::set` names (an enum sc_call_op), or -1.
int sc_call_op_find(struct sc_bytes function_id);

#define SC_CALL_FIELD_COUNT 7
/// The `data` of a call, checked and taken apart. Fields that the operation does not have are empty.
struct sc_call_input {
    // Decoded, at most SC_NAME_SIZE_MAX bytes each. Slices of the message, or of `names` when they were
    // escaped: do not copy the struct and drop the original.
    struct sc_bytes stream;
    struct sc_bytes group;
    struct sc_bytes item; // For send its `id`.
    struct sc_bytes type; // For send.
    bool has_item;        // False for a send whose `id` is absent or null.
    // For set and send: at most SC_VALUE_DEPTH_MAX deep, as written at most SC_VALUE_SIZE_MAX bytes.
    struct sc_json_value data;
    struct sc_json_value ops; // For update: an array of anything.
    struct sc_bytes reason;   // -EINVAL: UTF-8 text to follow
                              // "Failed to deserialize input for <function id>: ".
    uint8_t names[SC_CALL_FIELD_COUNT][SC_NAME_SIZE_MAX];
    uint8_t reason_text[SC_JSON_REASON_SIZE_MAX];
};

/// Reads the input of `op` from `data`, the member of that name that sc_json_index_find gave for `index`
/// (NULL when there is none, which counts as null).
///
/// Owns:   borrows the scanned text until `input` is no longer used.
/// Errors: -EINVAL  bad input: `input->reason` says why.
SC_CHECKED int sc_call_input_read(enum sc_call_op op, const struct sc_json_index *index,
                                  const struct sc_json_member *_Nullable data,
                                  struct sc_call_input *input);

// ---- Stream clients (client_message.c, stream_path.c)

/// A message of a stream client: a join or a leave.
struct sc_client_message {
    bool is_join;
    bool has_item;
    // Slices of the message, or of `storage` when they were escaped. Do not copy the struct.
    struct sc_bytes subscription_id, stream, group, item;
    uint8_t storage[4][SC_NAME_SIZE_MAX];
};

/// Reads what a scan has found, and borrows the scanned text. Returns which field is wrong and what is wrong about it,
/// in words for the log, or NULL.
const char *_Nullable sc_client_message_read(struct sc_client_message *message,
                                             const struct sc_json_index *index);

/// The path of a stream client's request: `/`, or `/stream/<stream>/<group>[/<item>]`, which joins.
struct sc_stream_path {
    bool joins, has_item;
    struct sc_bytes parts[3]; // Stream, group, item: slices of `storage`.
    uint8_t storage[3][3 * SC_NAME_SIZE_MAX];
};
/// Takes a path apart, with or without a slash at the end. Returns 0, or the status to refuse the request with: 404 for
/// a path that names nothing, 400 for an escape that is wrong.
int sc_stream_path_read(struct sc_bytes path, struct sc_stream_path *out);
void sc_stream_path_copy(struct sc_stream_path *out, const struct sc_stream_path *path);

// ---- Pages (origin.c)

/// Which pages may connect to a port; others get 403. Clients that send no Origin header may always.
enum sc_origin_rule {
    SC_ORIGINS_ALL,
    SC_ORIGINS_LISTED, // Those whose Origin is in the list.
    SC_ORIGINS_LOCAL, // Pages of this machine, and pages of the address that the client has connected to.
};
/// Whether the page that sends a request may not connect; its `*origin` then, which is borrowed from the request. `listed`
/// is for SC_ORIGINS_LISTED: origins in lower case, a line each.
bool sc_origin_refused(enum sc_origin_rule rule, const char *_Nullable listed,
                       const struct sc_http_request *request, struct sc_bytes *origin);
/// Whether an origin is a page of this machine, or of the address that stands in the Host header.
bool sc_origin_is_local(struct sc_bytes origin, struct sc_bytes host_header);
#define SC_ORIGIN_TEXT_SIZE_MAX 256
/// Why pages of `origin` may not connect, in words that may be shown. Returns the size.
size_t sc_origin_describe(bool is_stream_port, struct sc_bytes origin,
                          uint8_t out[_Nonnull SC_ORIGIN_TEXT_SIZE_MAX]);

// ---- Messages that the core makes (notice.c). Each returns one reference, or NULL when memory is out.

/// A change or custom event: what a trigger of the type `stream` is called with.
struct sc_change_notice {
    uint64_t timestamp;
    struct sc_bytes stream, group;
    const struct sc_bytes *_Nullable item; // NULL: an event of no item.
    const struct sc_bytes *event; // What stands behind `"event":{"type":`, less the closing brace,
    size_t event_count;           // in so many parts.
    struct sc_bytes kind;         // `create`, `update`, `delete` or `event`.
};
struct sc_message *_Nullable sc_change_message(const struct sc_change_notice *notice,
                                               struct sc_account *_Nullable account);

/// A subscription, as its parts.
struct sc_subscription_name {
    struct sc_bytes id, stream, group;
    const struct sc_bytes *_Nullable item;
    struct sc_bytes context; // JSON text; data == NULL: none.
};
/// SC_MESSAGE_JOIN or SC_MESSAGE_LEAVE.
struct sc_message *_Nullable sc_join_message(enum sc_message_type type, uint64_t timestamp,
                                             uint64_t connection,
                                             const struct sc_subscription_name *name,
                                             struct sc_account *_Nullable account);
/// What an overriding `get` or `list` is asked for a `sync`.
struct sc_message *_Nullable sc_sync_message(const struct sc_subscription_name *name);
/// What an auth function is called with: of a stream client, or of a worker. Its memory is of `heap`, from which pages go
/// back to the kernel: thousands of heads may wait for an auth function, and then no more.
///
/// Thread: that of the heap. The message itself may be read and released on any.
struct sc_message *_Nullable sc_head_message(const struct sc_http_request *request,
                                             struct sc_bytes address, bool worker,
                                             struct sc_heap *heap,
                                             struct sc_account *_Nullable account);
/// The log records of a worker: scanned JSON text.
struct sc_message *_Nullable sc_logs_message(struct sc_bytes records,
                                             struct sc_account *_Nullable account);

/// A call of a function that is overridden, with the declared keys of its input and no others.
struct sc_override {
    enum sc_call_op op;
    struct sc_bytes stream, group, item;
    struct sc_json_value data; // Of a set.
    struct sc_bytes ops;       // Of an update, in their normal form.
    bool wants_answer;         // Else nobody waits for its result.
    struct sc_bytes invocation_id, function_id, traceparent,
        baggage;  // JSON text; data == NULL: none.
    uint32_t bit; // The place of the function's in enum sc_watch.
};
struct sc_message *_Nullable sc_override_message(const struct sc_override *call,
                                                 struct sc_account *_Nullable account);

// ---- What callers and executors are told (answer_text.c). Texts are parts: they borrow what they are made of.

/// The most parts of any text: the longest is an answer with a body of SC_ANSWER_BODY_PARTS_MAX and a trace context.
#define SC_TEXT_PARTS_MAX 24u

/// What an answer repeats of its call: JSON text as the caller wrote it. Without data: none.
struct sc_echo {
    struct sc_bytes invocation_id, function_id;
    struct sc_bytes traceparent, baggage;
};

#define SC_ANSWER_BODY_AT 4u // Where in the parts of an answer its body begins.
#define SC_ANSWER_BODY_PARTS_MAX 12u
/// The answer to a call. `body` is what stands between the ids and the trace context: one of those below, or no part at
/// all for a result that is not there. Returns the count of parts.
size_t sc_answer_parts(struct sc_bytes parts[_Nonnull SC_TEXT_PARTS_MAX],
                       const struct sc_echo *echo, const struct sc_bytes *_Nullable body,
                       size_t count);
#define SC_ANSWER_HEAD SC_LITERAL("{\"type\":\"invocationresult\",\"invocation_id\":")
#define SC_ANSWER_FUNCTION_KEY SC_LITERAL(",\"function_id\":")
/// The bytes that sc_answer_write takes.
static inline uint64_t sc_answer_size(const struct sc_echo *echo,
                                      const struct sc_bytes *_Nullable body, size_t count) {
    return SC_ANSWER_HEAD.size + echo->invocation_id.size + SC_ANSWER_FUNCTION_KEY.size +
           echo->function_id.size + sc_parts_size(body, count) + 1;
}
/// Writes the same text in place, without the trace context: nearly all calls have none.
void sc_answer_write(uint8_t *out, const struct sc_echo *echo,
                     const struct sc_bytes *_Nullable body, size_t count);

/// A body: the result `value`.
static inline size_t sc_result_value(struct sc_bytes parts[_Nonnull 2], struct sc_bytes value) {
    parts[0] = SC_LITERAL(",\"result\":");
    parts[1] = value;
    return 2;
}
/// What a set, a delete or an update has done: JSON text.
struct sc_change_result {
    struct sc_bytes old_value;
    struct sc_bytes new_value; // data == NULL: none, of a delete.
    struct sc_bytes errors;    // Of the operations of an update. Empty: none.
};
#define SC_RESULT_CHANGE_PARTS_MAX 7
/// A body. Inline, as those beside it: what the caller knows of a change is not written down to be read again.
static inline size_t sc_result_change(struct sc_bytes parts[_Nonnull SC_RESULT_CHANGE_PARTS_MAX],
                                      const struct sc_change_result *change) {
    size_t at = 0;
    parts[at++] = SC_LITERAL(",\"result\":{\"old_value\":");
    parts[at++] = change->old_value;
    if (change->new_value.data != NULL) {
        parts[at++] = SC_LITERAL(",\"new_value\":");
        parts[at++] = change->new_value;
    }
    if (change->errors.size > 0) {
        parts[at++] = SC_LITERAL(",\"errors\":");
        parts[at++] = change->errors;
    }
    parts[at++] = SC_LITERAL("}");
    return at;
}
/// A body: an error that is there as JSON text.
static inline size_t sc_error_value(struct sc_bytes parts[_Nonnull 2], struct sc_bytes error) {
    parts[0] = SC_LITERAL(",\"error\":");
    parts[1] = error;
    return 2;
}
#define SC_ERROR_RESULT_TOO_LARGE                                                                  \
    SC_LITERAL("{\"code\":\"result_too_large\",\"message\":"                                       \
               "\"the result is larger than the caller accepts\"}")
#define SC_ERROR_TOO_MANY_CALLS                                                                    \
    SC_LITERAL("{\"code\":\"too_many_calls\",\"message\":\"too many calls of this worker wait\"}")
/// Appends a body: an error of characters.
void sc_error_write(struct sc_buffer *out, const char *code, struct sc_bytes message);
/// Appends the message of a `deserialization_error`. `function` is the id as written, without its quotes.
void sc_input_error_write(struct sc_buffer *out, struct sc_bytes function, struct sc_bytes reason);

#define SC_SHOWN_ID_SIZE_MAX (6u * SC_NAME_SIZE_MAX + 2u)
/// What an answer repeats of a function id (a JSON string; data == NULL: an empty one). No function has a longer id than
/// SC_NAME_SIZE_MAX, and what a caller writes must not come back twice as large: a longer one is cut.
///
/// Owns: the answer is `id`, or lies in `room`.
struct sc_bytes sc_shown_id_cut(struct sc_bytes id, uint8_t room[_Nonnull SC_SHOWN_ID_SIZE_MAX]);
static inline struct sc_bytes sc_shown_id(struct sc_bytes id,
                                          uint8_t room[_Nonnull SC_SHOWN_ID_SIZE_MAX]) {
    if (id.data != NULL && id.size <= SC_NAME_SIZE_MAX + 2)
        return id;
    return sc_shown_id_cut(id, room);
}

#define SC_SHOWN_CALL_ID_SIZE_MAX (6u * SC_INVOCATION_ID_SIZE_MAX + 2u)
/// The same of the id that the caller has given its call (data == NULL: it has none).
struct sc_bytes sc_shown_call_id_cut(struct sc_bytes id,
                                     uint8_t room[_Nonnull SC_SHOWN_CALL_ID_SIZE_MAX]);
static inline struct sc_bytes sc_shown_call_id(struct sc_bytes id,
                                               uint8_t room[_Nonnull SC_SHOWN_CALL_ID_SIZE_MAX]) {
    if (id.size <= SC_INVOCATION_ID_SIZE_MAX + 2)
        return id;
    return sc_shown_call_id_cut(id, room);
}

/// A call or a result on its way from one worker to another. Do not copy it.
struct sc_forward {
    struct sc_bytes parts[SC_TEXT_PARTS_MAX];
    size_t count;
    struct sc_buffer id, function, data;
};
/// The call `message` with an id of ours, for the function of the executor. Ids are characters.
///
/// Owns: borrows `message` until sc_forward_end, which the caller owes also after false: memory is out.
SC_CHECKED bool sc_forward_call(struct sc_forward *out, const struct sc_message *message,
                                struct sc_bytes invocation_id, struct sc_bytes function_id);
/// The result `message` (NULL: it was given up, see below) with the ids that its caller knows: `invocation_id` is JSON text, the others are characters. The
/// trace context is the executor's, or else the caller's.
///
/// Owns: borrows `message` and `caller` until sc_forward_end, which the caller owes also after false: memory is out.
SC_CHECKED bool sc_forward_result(struct sc_forward *out,
                                  const struct sc_message *_Nullable message,
                                  const struct sc_echo *caller);
/// Makes a result the error that it is larger than its caller accepts.
void sc_forward_result_too_large(struct sc_forward *out);
void sc_forward_end(struct sc_forward *forward);

#define SC_REGISTERED_PARTS 5
/// What a worker is told first. Id and token need no escapes.
size_t sc_registered_parts(struct sc_bytes parts[_Nonnull SC_REGISTERED_PARTS],
                           struct sc_bytes worker_id, struct sc_bytes reattach_token);
/// Appends a call of the node itself, as a worker would write it. Ids are characters, `data` is JSON text.
void sc_node_call_write(struct sc_buffer *out, struct sc_bytes invocation_id,
                        struct sc_bytes function_id, struct sc_bytes data);

/// The result of `list_groups` or `list_all` while it is written. Names come sorted.
struct sc_names_text {
    struct sc_buffer out; // The result. The caller looks at `failed`, and deinits it.
    bool of_one_stream;
    size_t stream_count, group_count;
    struct sc_bytes stream; // The last one: borrowed until the next name.
};
void sc_names_text_begin(struct sc_names_text *text, bool of_one_stream);
void sc_names_text_add(struct sc_names_text *text, struct sc_bytes stream, struct sc_bytes group);
void sc_names_text_end(struct sc_names_text *text);

// ---- What stream clients are told (stream_text.c)

/// Appends what names stream and group in every frame of a topic, up to the id.
void sc_stream_prefix_write(struct sc_buffer *out, struct sc_bytes stream, struct sc_bytes group);
#define SC_STREAM_TEXT_END SC_LITERAL("}}")

#define SC_EVENT_PARTS_MAX (SC_TEXT_PARTS_MAX - 6u)
/// The text of an event, as parts. Do not copy it.
struct sc_event_text {
    struct sc_bytes parts[SC_TEXT_PARTS_MAX];
    size_t count;
    struct sc_buffer escaped;
    bool owns_id;
    uint8_t digits[20];
    uint8_t room[256];
};
/// `event` is what stands behind `"event":{"type":`, less the closing brace: one of those below. `prefix` is what
/// sc_stream_prefix_write writes. Without an id it is null.
///
/// Owns: borrows all until sc_event_text_end, which the caller owes.
void sc_event_text_begin(struct sc_event_text *text, uint64_t timestamp, struct sc_bytes prefix,
                         const struct sc_bytes *_Nullable id, const struct sc_bytes *event,
                         size_t count);
void sc_event_text_end(struct sc_event_text *text);

/// A change of `kind`: `create`, `update` or `delete`.
static inline size_t sc_event_change(struct sc_bytes parts[_Nonnull 4], struct sc_bytes kind,
                                     struct sc_bytes value) {
    parts[0] = SC_LITERAL("\"");
    parts[1] = kind;
    parts[2] = SC_LITERAL("\",\"data\":");
    parts[3] = value;
    return 4;
}
/// A custom event: `type` is JSON text, a string.
size_t sc_event_custom(struct sc_bytes parts[_Nonnull 5], struct sc_bytes type,
                       struct sc_bytes data);
/// A `sync` of one item, or one whose data a function has made.
size_t sc_event_sync(struct sc_bytes parts[_Nonnull 2], struct sc_bytes data);
#define SC_EVENT_UNAUTHORIZED SC_LITERAL("\"unauthorized\"")
#define SC_EVENT_SYNC_TOO_LARGE SC_LITERAL("\"unauthorized\",\"reason\":\"sync_too_large\"")

#define SC_SYNC_HEAD_PARTS 4u
/// What stands before the array of values in a `sync` of a group; SC_STREAM_TEXT_END follows it. `digits` is room for
/// the stamp.
size_t sc_sync_head(struct sc_bytes parts[_Nonnull SC_SYNC_HEAD_PARTS], uint8_t digits[_Nonnull 20],
                    struct sc_bytes prefix, uint64_t timestamp);

// ---- Ids (uuid.c)

#define SC_UUID_SIZE 36
/// Writes a UUID (version 4, RFC 9562) that is the same for the same number, and that nobody can tell without `key`.
void sc_uuid_write(uint8_t out[_Nonnull SC_UUID_SIZE], uint64_t number,
                   const uint64_t key[_Nonnull 2]);

#pragma clang assume_nonnull end

#endif
