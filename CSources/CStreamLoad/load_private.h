// What the files of the load generator share. Everything belongs to one thread.
#ifndef CSTREAM_LOAD_PRIVATE_H
#define CSTREAM_LOAD_PRIVATE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <netinet/in.h>
#include <sys/socket.h>

#include "CStreamLoad.h"
#include "CStreamLoop.h"
#include "CStreamTLS.h"

#pragma clang assume_nonnull begin

struct work;
struct topic;

/// Digits that stand in every text at a fixed width, so that texts of one kind have one size.
#define ITEM_DIGITS 7
#define ITEM_BASE 1000000u
#define COUNT_DIGITS 10
#define COUNT_BASE 1000000000ull
#define ID_DIGITS 12
#define CALL_ID_SIZE 36
#define NAME_SIZE_MAX 64

// ---- Topics (topic.c)

/// An item as its caller has written it, and as the log has shown it. The count of a value grows by one with
/// each write of its item; 0 stands for no value.
struct item {
    uint64_t sent, seen;
    uint64_t last;        // The highest count ever given,
    uint64_t intended_ns; // and when.
    uint32_t created;     // Place in the order of creation, as far as seen.
};

/// One frame of a topic's log.
struct entry {
    uint64_t end; // Where the next one begins, counted from the start of the log.
    uint64_t intended_ns;
    uint64_t old_count, new_count; // Of the item; 0: no value.
    uint64_t timestamp;
    uint32_t item;
    uint32_t waiting; // Live subscribers that do not have it yet.
};

/// A change that was asked for and has not come yet.
struct write {
    uint64_t intended_ns, old_count, new_count;
    uint32_t item;
    uint8_t op;
};

/// A `sync` frame that was parsed once; others are compared with it.
struct sync_reference {
    uint8_t *_Nullable bytes;
    size_t size;
    uint64_t entry; // The log's entry that comes after it.
    uint32_t users; // Subscribers whose `sync` equals it so far.
};
#define SYNC_REFERENCES_MAX 4

struct topic {
    struct work *work;
    struct caller *_Nullable caller;
    struct item *items;
    // The log: bytes from `log_base` on, entries from `entry_base` on.
    struct sc_buffer log;
    uint64_t log_base;
    struct entry *_Nullable entries;
    uint64_t entry_base, entry_end;
    uint32_t entry_capacity;
    // Writes before the log, whose frames are not there (any more), from `past_base` on.
    struct write *_Nullable past;
    uint64_t past_base;
    uint32_t past_capacity;
    bool is_hungry;
    bool unknown;       // A write was refused: what the items hold can no longer be told.
    bool begun;         // A first `sync` has said where the log begins.
    uint64_t log_limit; // Trimmed when it is over that.
    struct sync_reference syncs[SYNC_REFERENCES_MAX];
    uint32_t sync_next;
    struct subscriber *_Nullable pending; // Their `sync` is ahead of the log.
    struct subscriber *_Nullable first;   // All of the topic, by `topic_next`.
    // Writes that the log has not shown, oldest first.
    struct write *_Nullable writes;
    uint32_t write_head, write_count, write_capacity;
    uint32_t live;      // Subscribers that are in sync,
    uint32_t counted;   // and of them those that writes wait for.
    uint32_t item_next; // The item to write next.
    uint32_t item_count_seen, created_next;
    uint32_t in_flight; // Calls of a closed loop.
    // Calls that change something: so far, the highest one answered, and those that the log has shown.
    uint64_t write_number, answered_number, seen_number;
    bool recovering; // The server was restarted: the next `sync` says what became of the writes.
    uint32_t name_size;
    char name[NAME_SIZE_MAX];
};

// ---- Connections (connection.c)

enum connection_role { ROLE_SUBSCRIBER, ROLE_CALLER };
enum connection_state {
    STATE_CLOSED,
    STATE_QUEUED, // Waits for its turn to connect.
    STATE_CONNECTING,
    STATE_RESPONSE, // Waits for the 101.
    STATE_OPEN,
    STATE_CLOSING, // Until on_closed.
};

struct connection {
    struct sc_socket socket;
    struct sc_load *load;
    struct work *work;
    struct connection *_Nullable next; // In the queue of those to connect, or of the dirty ones.
    uint64_t started_ns;
    struct sc_buffer out, in_flight; // To be sent, and in the kernel's hands.
    size_t in_flight_sent;
    struct sc_buffer held; // Received and not understood yet.
    struct sc_tls *_Nullable tls;
    struct sc_buffer wire; // Of TLS itself: to be sent before `out`.
    uint8_t role, state;
    bool dirty, reopen, announced;
    bool shakes_hands; // TLS: until that is over nothing else is sent.
};

enum subscriber_state {
    SUBSCRIBER_NEW,     // Before the first bytes of its `sync`.
    SUBSCRIBER_SYNCING, // Its `sync` equals a reference so far.
    SUBSCRIBER_PENDING, // Its `sync` is ahead of the log.
    SUBSCRIBER_BEHIND,  // Its `sync` is of before the log: what follows is not compared, but read.
    SUBSCRIBER_LIVE,
};

struct subscriber {
    struct connection connection;
    struct topic *topic;
    struct subscriber *_Nullable topic_next;
    struct subscriber *_Nullable pending_next;
    uint64_t position; // In the log. SUBSCRIBER_SYNCING: bytes of the reference that came.
    uint64_t entry;    // The one that `position` is in or before.
    uint8_t state, reference;
    bool counted;   // In `waiting` of every entry from `entry` on.
    bool stalled;   // Not read now,
    bool excused;   // or was so: the server may close it.
    bool half_open; // Never read again.
};

/// A call under way. Its id in the message is its number.
struct call {
    uint64_t intended_ns;
    uint64_t old_count, new_count;
    uint64_t write_number; // SC_LOAD_LIST: changes of the topic so far.
    struct topic *_Nullable topic;
    uint32_t item;
    uint8_t op;
    bool open;
    bool check; // SC_LOAD_LIST for sc_load_check_state.
};

struct caller {
    struct connection connection;
    struct sc_buffer assembly;    // Fragments of one message.
    struct call *_Nullable calls; // A ring by number.
    uint64_t call_first, call_next;
    uint32_t call_capacity;
    uint32_t open_calls;
    bool ready; // Said hello: calls may go.
    bool serves_trigger;
};

// ---- Works (load.c)

/// What an answer to one operation looks like around its result, learnt from the first one.
struct answer_shape {
    bool known;
    uint32_t id_at, result_at, tail_size;
    uint8_t head[512], tail[64];
};

struct work {
    struct sc_load *load;
    struct sc_load_work_config config;
    uint32_t index;
    struct topic *topics;
    struct caller *_Nullable callers;
    struct subscriber *_Nullable subscribers;
    uint32_t subscriber_count;
    uint32_t live, stalled, open_callers, callers_wanted, kill_next;
    bool subscribers_wanted;
    // The value of every item but for its digits.
    uint8_t *value;
    uint32_t value_size, value_item_at, value_count_at;
    // What to do next
    bool running, filling;
    uint32_t fill_topic, fill_item;
    uint64_t started_ns, issued; // Open loop.
    uint32_t topic_next;
    uint32_t weight_total, weight_at;
    struct topic *_Nullable *_Nullable hungry; // Topics that may have room in their window.
    uint32_t hungry_count;
    struct answer_shape shapes[SC_LOAD_OP_COUNT];
    struct sc_load_counters counters;
    struct sc_histogram latencies[SC_LOAD_LATENCY_COUNT];
};

#define WORKS_MAX 16

struct sc_load {
    struct sc_load_config config;
    struct sc_loop *loop;
    struct sockaddr_storage stream_address, worker_address;
    uint32_t stream_address_size, worker_address_size;
    struct sc_tls_context *_Nullable tls; // Of the ports that speak it.
    struct work *_Nullable works[WORKS_MAX];
    uint32_t work_count;
    struct connection *_Nullable queue_first;
    struct connection *_Nullable queue_last;
    struct connection *_Nullable dirty_first;
    uint32_t connecting, open;
    bool restarting, ending;
    char accept[28];
    struct sc_buffer response; // The first 101, which the others equal.
    struct sc_timer timer;     // The next call of an open loop, or the end of a run.
    uint64_t until_ns;
    uint64_t violation_count;
    char *_Nullable violations[SC_LOAD_VIOLATION_TEXTS_MAX];
    struct sc_buffer scratch;
};

void sc_load_work_feed(struct work *work);
/// The topic may have room in its window: the work looks at it in this turn.
static inline void sc_load_topic_hungry(struct topic *topic) {
    struct work *work = topic->work;
    if (!work->running || work->config.window == 0 || topic->is_hungry)
        return;
    topic->is_hungry = true;
    work->hungry[work->hungry_count++] = topic;
}

// ---- violation.c

/// Ends the process when memory is out.
void *sc_load_allocate(size_t size);
/// Notes a violation. Formats as printf.
void sc_load_load_violation(struct sc_load *load, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

// ---- text.c

void sc_load_value_prepare(struct work *work);
/// Writes the value of an item, work->value_size bytes, and returns their end.
uint8_t *sc_load_value_write(const struct work *work, uint8_t *out, uint32_t item, uint64_t count);
void sc_load_digits_write(uint8_t *out, uint64_t value, uint32_t digits);
/// Reads the item and the count of a value; false when it is not exactly one of ours.
bool sc_load_value_read(const struct work *work, struct sc_bytes text, uint32_t *item,
                        uint64_t *count);
void sc_load_item_name_write(uint8_t *out, uint32_t item);
#define ITEM_NAME_SIZE (1 + ITEM_DIGITS)
/// Whether callers publish what subscribers are to get, instead of calling functions.
bool sc_load_publishes(const struct work *work);
/// Appends the message of a call as the load's protocol has it.
void sc_load_call_append(struct caller *caller, const struct call *call, uint64_t number,
                         struct sc_buffer *out);
/// Appends the result that a call must have. False when it cannot be known.
bool sc_load_result_append(const struct call *call, struct sc_buffer *out);
void sc_load_message_append(struct sc_buffer *out, struct sc_bytes text); // As a masked text frame.
void sc_load_control_append(struct sc_buffer *out, uint8_t opcode, struct sc_bytes payload);

// ---- framing.c

enum frame_kind { FRAME_DATA, FRAME_FRAGMENT, FRAME_PING, FRAME_CLOSE, FRAME_IGNORED };
struct frame {
    size_t size; // Of the whole frame.
    enum frame_kind kind;
    bool last; // FRAME_FRAGMENT: of its message.
    struct sc_bytes payload;
    uint16_t close_code;
};
/// Reads the frame at `data`. Returns 1, 0 when it is not all there, -1 when it is none. `frame->size` is set with 0
/// too, when the header is there; else it is 0.
int sc_load_frame_read(enum sc_load_protocol protocol, const uint8_t *data, size_t size,
                       struct frame *frame);

// ---- connection.c

void sc_load_connection_queue(struct connection *connection);
void sc_load_connection_connect_more(struct sc_load *load);
void sc_load_connection_mark_dirty(struct connection *connection);
void sc_load_connection_flush_all(struct sc_load *load);
void sc_load_connection_close(struct connection *connection, bool abort);
/// The server did what it must not: notes it and closes the connection.
void sc_load_connection_violates(struct connection *connection, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void sc_load_connection_hold(struct connection *connection, const uint8_t *data, size_t size);

// ---- subscriber.c, caller.c

void sc_load_subscriber_opened(struct subscriber *subscriber);
void sc_load_subscriber_receive(struct subscriber *subscriber, const uint8_t *data, size_t size);
void sc_load_subscriber_closed(struct subscriber *subscriber);
void sc_load_subscriber_uncount(struct subscriber *subscriber);
void sc_load_subscriber_go_live(struct subscriber *subscriber, uint64_t entry);
void sc_load_caller_opened(struct caller *caller);
void sc_load_caller_receive(struct caller *caller, const uint8_t *data, size_t size);
void sc_load_caller_closed(struct caller *caller);
void sc_load_caller_call(struct topic *topic, uint8_t op, uint32_t item, uint64_t intended_ns,
                         bool check);

// ---- topic.c

void sc_load_topic_init(struct topic *topic, struct work *work, uint32_t number);
void sc_load_topic_deinit(struct topic *topic);
struct entry *sc_load_topic_entry(const struct topic *topic, uint64_t index);
static inline uint64_t topic_log_end(const struct topic *topic) {
    return topic->log_base + topic->log.size;
}
void sc_load_topic_write_expect(struct topic *topic, const struct call *call);
/// Judges a new frame and appends it to the log; false after a violation.
bool sc_load_topic_append(struct topic *topic, struct subscriber *from, const struct frame *frame,
                          const uint8_t *data);
/// Whether the frame shows write `entry`, of before the log. If not, tells what is wrong with it.
bool sc_load_topic_past_frame(struct topic *topic, struct subscriber *from,
                              const struct frame *frame, uint64_t entry);
/// Tells what is wrong with a frame that is not the log's next one.
void sc_load_topic_explain(struct topic *topic, struct subscriber *from, const struct frame *frame);
enum sync_verdict { SYNC_OK, SYNC_AHEAD, SYNC_WRONG };
/// Judges a whole `sync` and finds the entry that comes after it.
enum sync_verdict sc_load_topic_sync(struct topic *topic, struct subscriber *from,
                                     const struct frame *frame, const uint8_t *data,
                                     uint64_t *entry);
/// An entry reached all subscribers that it waited for.
void sc_load_topic_delivered(struct topic *topic);
void sc_load_topic_forget(struct topic *topic, bool empty);
bool sc_load_topic_check_list(struct topic *topic, struct sc_bytes result);

#pragma clang assume_nonnull end

#endif
