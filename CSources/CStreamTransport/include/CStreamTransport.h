// One connection, whatever it speaks: its socket, the frames that come and those that leave, what waits in either
// direction, and its end. A role says what a connection is (a stream client, a worker); nothing here knows which
// roles there are, nor streams, calls or shards.
//
// A connection is embedded, first, in what it is: `struct subscriber { struct connection connection; … }`. So the
// role's part costs no pointer, and an idle connection is one object of the heap.
//
// Thread: all of it that of the loop, but for accounts (account.h).
#ifndef CSTREAM_TRANSPORT_H
#define CSTREAM_TRANSPORT_H

#include "CStreamBase.h"
#include "CStreamLoop.h"
#include "CStreamTLS.h"
#include "CStreamWebSocket.h"

#include "chunk.h"
#include "listen.h"

#pragma clang assume_nonnull begin

struct channel_kind;
struct connection;
struct transport;

// ---- States

/// What a connection may do. A state is only ever left for a later one, but that AUTHENTICATING may be passed by.
enum connection_state {
    /// The request head is read. Nothing is sent but the answer to it. Ends with the patience for handshakes.
    STATE_HEAD,
    /// Somebody decides whether the peer may come in. Not read; what comes waits in the socket.
    STATE_AUTHENTICATING,
    /// Messages are started and frames sent. Not read while `paused`.
    STATE_OPEN,
    /// The peer's stream has ended while messages of it waited. They are started, and what came behind them is read;
    /// frames are sent. Nothing more comes from the socket.
    STATE_PEER_ENDED,
    /// The peer's close frame has come while messages of it waited. They are started, and frames are sent; then the
    /// close frame is answered. What comes behind it counts for nothing.
    STATE_PEER_CLOSED,
    /// Our close frame is the last that leaves: nothing is appended. What comes is looked at for the peer's close
    /// frame only. Ends with that, with the end of the peer's stream, or with the patience for closing.
    STATE_CLOSING,
    /// As STATE_CLOSING, after a refusal or a breach of the protocol: what comes counts for nothing at all.
    STATE_REFUSED,
    /// The peer has closed, or will say no more: once all that is queued has left, the socket is closed.
    STATE_DRAINING,
    /// The socket is being closed. Nothing is sent, nothing comes; what is in flight is the kernel's until then.
    STATE_TERMINATING,
    /// The socket is closed. The role gives up what it holds, in as many turns as that takes.
    STATE_CLOSED,
    /// Nobody finds the connection any more. Its memory goes when it comes up among those that had something to send.
    STATE_FREED,
};

/// How a connection ends.
enum connection_end {
    END_AFTER_CLOSE,   // A close frame is queued: until the peer's comes.
    END_AFTER_REFUSAL, // What is queued is the last, and nothing that comes is looked at.
    END_WHEN_SENT,     // The peer has closed: what is queued leaves.
    END_AT_ONCE,       // Nothing more leaves. The peer sees the end of the stream.
    END_RESET,         // The same, and the peer sees a reset: something is lost.
};

// ---- Roles and ports

/// Messages that wait, all of one connection together.
struct parked_sums {
    size_t bytes;
    uint32_t count;
};

/// Where a message comes from.
enum message_source {
    FROM_PEER,   // Just now. Others may wait that came before it.
    FROM_PARKED, // It is the first of those that wait.
    FROM_ASIDE,  // It is the first of those that the role has set aside.
};

/// What a connection is. One table for each kind; the functions that may be NULL do nothing then.
struct role {
    const char *name;
    uint32_t size;      // Of what the connection is embedded in, which is in the loop's heap.
    uint16_t slow_code; // With which a peer is closed that does not take what waits for it.
    bool
        sends_first; // Its sends come before those of other roles, and all of them leave in one turn.
    bool finishes;   // Messages that wait are still started when the peer has sent its close frame.
    struct sc_bytes
        message_pong; // A frame: the answer to a ping that is a message. One waits at most.

    /// Reads the request head, as far as it is there. Returns the bytes used up. The role answers with
    /// sc_connection_open, _authenticate or _refuse.
    size_t (*on_head)(struct connection *connection, const uint8_t *bytes, size_t size);
    /// Starts a message. Borrows `text` for the call. False: it must wait, behind others of the connection.
    bool (*on_message)(struct connection *connection, struct sc_bytes text,
                       enum message_source source);
    /// Whether another message may be started. It is asked before one that waits is handed on.
    bool (*may_start)(const struct connection *connection);
    /// Whether what was set aside may be started.
    bool (*_Nullable may_start_aside)(const struct connection *connection);
    /// A message is about to wait. True: it does not, since the role has answered it or ended the connection.
    bool (*_Nullable refuse)(struct connection *connection, struct sc_bytes text,
                             struct parked_sums waiting);
    /// Whether the connection, which the role has throttled, is still not to be read.
    bool (*_Nullable is_throttled)(const struct connection *connection);
    /// Some of what waited for the peer has left, and the role has charged SC_PLACE_DELIVERIES with what it keeps back.
    void (*_Nullable on_room)(struct connection *connection);
    /// The peer has been silent for long, or is heard again.
    void (*_Nullable on_life)(struct connection *connection, bool alive);
    /// The connection serves nobody from here on. Once, in the callback or command in which its end begins: no list
    /// that somebody may be walking is changed here.
    void (*on_ending)(struct connection *connection);
    /// The socket is closed. The role gives up what it holds and calls sc_connection_free, now or in a later turn.
    void (*on_closed)(struct connection *connection);
};

/// Has what is sent and received go through TLS.
extern const struct channel_kind sc_channel_tls;

/// What the connections of one address have in common.
struct port {
    const struct role *role;
    uint64_t budget; // Of one connection's account: bytes that may wait.
    uint64_t
        hard_size_max; // A peer with more than that waiting is closed, and one over its budget after the grace.
                       // 0: it is closed only when it takes nothing.
    struct sc_ws_decoder decoder; // As it is between messages.
    /// What stands between the outbox of a connection and its socket. NULL: nothing does.
    const struct channel_kind *_Nullable channel;
    /// What sessions of sc_channel_tls begin with. They hold what they need of it: another one may take its place.
    struct sc_tls_context *_Nullable tls;
    uint32_t index;
};

// ---- Connections

struct connection {
    struct sc_socket socket;
    struct transport *transport;
    const struct port *port;
    uint64_t id;
    struct connection *_Nullable dirty_next;
    struct slice ready; // The first slice of this turn; further ones in `more`.
    struct ready_more *_Nullable more;
    struct backlog *_Nullable backlog;    // What the socket did not take.
    struct inbound *_Nullable inbound;    // What came and is not started.
    struct sc_account *_Nullable account; // Of what waits; most clients never have any.
    uint32_t
        tick; // Of the sweep. A connection that serves: of the last byte. Otherwise when patience ends.
    uint16_t
        unsent_kib; // What its socket had not sent, or the peer not taken, when it was looked at last.
    uint8_t state;        // enum connection_state; connection.c alone sets it.
    bool dirty : 1;       // Among those that have something to send, or are to be freed there.
    bool framed : 1;      // What it sends are frames: the head is answered.
    bool binary : 1;      // The message that is being assembled, or handed on.
    bool paused : 1;      // The socket is not read.
    bool throttled : 1;   // By its role, until `is_throttled` says no.
    bool read_always : 1; // Others wait for what it says: it is not paused for what waits of it.
    bool pinged : 1;      // Since it was heard last.
    bool silent : 1;      // The role was told so.
};
_Static_assert(sizeof(struct connection) <= 120, "tens of thousands of them are idle");

/// Messages are started and frames sent.
static inline bool sc_connection_serves(const struct connection *connection) {
    return connection->state >= STATE_OPEN && connection->state <= STATE_PEER_CLOSED;
}

/// Takes over a connected socket. NULL: out of memory or of the loop's slots; the fd stays the caller's then.
struct connection *_Nullable sc_connection_adopt(struct transport *transport,
                                                 const struct port *port, int fd);
/// The request head is answered with bytes that are queued already: frames follow.
void sc_connection_open(struct connection *connection);
/// Reads no further until sc_connection_open or _refuse.
void sc_connection_authenticate(struct connection *connection);
/// Answers a request head with a refusal.
void sc_connection_refuse(struct connection *connection, const uint8_t *bytes, size_t size);
/// Sends a close frame, behind what is queued. Nothing for a connection that ends already; one whose head is not
/// answered is reset.
void sc_connection_close(struct connection *connection, uint16_t code, const char *reason);
/// The one way out. What is queued so far leaves, as `how` says; the role hears of it once. Nothing for a connection
/// that is as far, or further.
void sc_connection_end(struct connection *connection, enum connection_end how);
/// The role has given up all that it held: gives up the rest, and the memory.
void sc_connection_free(struct connection *connection);

/// The account of what waits because of the connection, which is made when there is first something. Borrowed: who
/// keeps it longer than the connection retains it.
struct sc_account *sc_connection_account(struct connection *connection);
/// Pings the peer now, as if it had been silent for the interval of pings. The role's `on_life` hears when a byte of it
/// comes; at once of a peer that is not read, or that has yet to take what waits for it.
void sc_connection_ask(struct connection *connection);
/// Something came from the peer, or it took something.
void sc_connection_lives(struct connection *connection);

// ---- What comes (inbound.c)

/// Whether messages of the connection wait, of either kind.
bool sc_connection_has_parked(const struct connection *connection);
/// The same of those alone that came in order, and were not set aside.
bool sc_connection_has_parked_in_order(const struct connection *connection);
bool sc_connection_has_aside(const struct connection *connection);
/// Has a message wait in the role's own queue: until `may_start_aside`, before all others. Copies it.
void sc_connection_set_aside(struct connection *connection, struct sc_bytes text);
/// Reads the connection no further until the role's `is_throttled` says no; it is asked at the end of each turn.
void sc_connection_throttle(struct connection *connection);
/// Reads no further until sc_connection_read_on, or the connection's end.
void sc_connection_pause(struct connection *connection);
/// Reads a paused connection again, what was held of its bytes first. It may end in it.
void sc_connection_read_on(struct connection *connection);
/// Hands on what waits: at most `*most` messages and a slice of them, then bytes that are not decoded. False:
/// something still waits.
bool sc_connection_resume(struct connection *connection, uint32_t *most);

// ---- What leaves (outbox.c, backlog.c)

/// Puts whole frames at the end of what waits for the connection. Takes no reference: retains what it keeps. Nothing
/// for a connection in STATE_CLOSING or later.
void sc_out_append(struct connection *connection, struct slice slice);
/// The same with a copy of bytes that may be no frame: a response, a close frame.
void sc_out_append_bytes(struct connection *connection, const uint8_t *bytes, size_t size);
/// Puts a control frame, which is copied, ahead of all that has not begun to leave.
void sc_out_append_control(struct connection *connection, const uint8_t *frame, size_t size);
/// Has the ping with these bytes answered: at once where nothing waits to be sent, else as soon as a place for it has
/// come, unless another ping does before (RFC 6455, 5.5.3).
void sc_out_pong(struct connection *connection, struct sc_bytes payload);
/// The same with the role's `message_pong`.
void sc_out_message_pong(struct connection *connection);
/// Closes a peer that does not take what waits for it.
void sc_out_close_slow(struct connection *connection);
/// Drops what has not begun to leave, for a close frame that goes next.
void sc_out_drop_waiting(struct connection *connection);
/// Bytes that wait for the peer, those of this turn among them.
uint64_t sc_out_waiting(const struct connection *connection);
/// The same without those of this turn: what its socket did not take.
uint64_t sc_out_behind(const struct connection *connection);

// ---- All connections of a loop

struct transport_limits {
    uint32_t handshake_timeout_ms;
    uint32_t ping_interval_ms, ping_deadline_ms;
    uint32_t close_timeout_ms;
    uint32_t slow_reader_grace_ms;
};

struct transport_counters {
    uint64_t messages_received, messages_too_large, messages_parked;
    uint64_t protocol_errors, handshakes_timed_out, dead_peers_closed, slow_readers_closed;
    uint64_t tls_handshakes;           // That ended well,
    uint64_t tls_resumed;              // and those of them that went on from an earlier session.
    uint64_t tls_handshakes_failed;    // But for the following two.
    uint64_t tls_handshakes_timed_out; // Among handshakes_timed_out.
    uint64_t tls_plain_refused;        // Peers that do not speak TLS.
    uint64_t tls_handshakes_deferred;  // How often one waited for the next turn.
    uint64_t tls_failures;             // Sessions that ended with an error after their handshake.
};

/// What the transport's owner hears.
struct transport_events {
    void (*on_dead_peer)(
        struct connection *connection); // It is about to be closed for its silence,
    void (*on_slow_reader)(struct connection *connection); // or because it takes too little.
    /// TLS has failed, in the handshake or after it, or was not spoken; `why` in a few words.
    void (*_Nullable on_tls_failed)(struct connection *connection, const char *why);
    /// There is more to do than one turn may: the loop is to turn again at once.
    void (*turn_again)(struct transport *transport);
    /// An account has room again for which these wait (sc_account_take_waiting).
    void (*wake)(struct transport *transport, uint64_t waiting);
};

struct connection_slot {
    struct connection *_Nullable connection;
    uint32_t generation;
    union {
        uint32_t next_free; // Of a slot without a connection.
        uint32_t label;     // The owner's.
    };
};

/// Embedded in what owns the loop. All is private but `counters`, `chunks`, `connection_count` and `tick_ms`.
struct transport {
    struct sc_loop *loop; // The following are borrowed, for as long as the transport is in use.
    struct sc_heap *heap; // Of connections and of what waits for slow readers.
    struct sc_account_sums *sums; // Of the connections' accounts.
    const struct transport_events *events;
    struct transport_limits limits;
    uint32_t index; // The first byte of each id.
    uint32_t tick, tick_ms;
    uint32_t
        sweep_next; // The slots from here on are still to be looked at in this tick. UINT32_MAX: none.
    struct connection_slot *_Nullable slots;
    uint32_t slot_count, slot_capacity, slot_free, connection_count;
    struct chunks chunks;
    struct connection *_Nullable dirty_first; // Those that have something to send.
    struct connection *_Nullable dirty_last;
    /// Connections with messages that wait, or that are throttled. Woken by sc_transport_resume, at the end of each turn.
    struct sc_wait_list parked;
    struct sc_timer parked_timer;
    /// Connections over their budget, in the order in which they came over it. Woken by `over_timer`.
    struct sc_wait_list over_budget;
    struct sc_timer over_timer;
    /// Connections with a step of their TLS handshake to take. Woken by sc_transport_shake_hands, at the end of each turn.
    struct sc_wait_list handshakes;
    struct transport_counters counters;
};

/// Everything but `loop`, `heap`, `sums`, `events`, `limits` and `index`, which the caller has set.
void sc_transport_init(struct transport *transport);
/// All connections are freed (asserted).
void sc_transport_deinit(struct transport *transport);
/// The connection of that id, or NULL when it is gone: another one in its slot has another id.
static inline struct connection *_Nullable sc_transport_find(const struct transport *transport,
                                                             uint64_t id) {
    uint32_t slot = (uint32_t)id;
    struct connection *connection =
        slot < transport->slot_count ? transport->slots[slot].connection : NULL;
    return connection != NULL && connection->id == id ? connection : NULL;
}
/// A number of the owner's about a connection, 0 at first. It lies in the slot, where it costs nothing. Borrowed until the next
/// sc_connection_adopt.
static inline uint32_t *sc_connection_label(const struct connection *connection) {
    return &connection->transport->slots[(uint32_t)connection->id].label;
}
/// The connection in a slot under `slot_count`, if there is one: for who goes through all of them.
static inline struct connection *_Nullable sc_transport_at(const struct transport *transport,
                                                           uint32_t slot) {
    return transport->slots[slot].connection;
}
/// A tick of `tick_ms` has passed: looks at each connection's patience, a part of them in this turn.
void sc_transport_sweep(struct transport *transport);
/// Whether connections are left to be looked at, and the next part of them.
static inline bool sc_transport_sweeps(const struct transport *transport) {
    return transport->sweep_next != UINT32_MAX;
}
void sc_transport_sweep_on(struct transport *transport);
/// Goes on with TLS handshakes, for a slice of time. At the end of a turn, before sc_transport_resume.
void sc_transport_shake_hands(struct transport *transport);
/// Hands on messages that waited. At the end of a turn; one turn does a bounded part.
void sc_transport_resume(struct transport *transport);
/// Sends what the turn has put together: all that comes first, of the others as much as one turn may.
void sc_transport_flush(struct transport *transport);

#pragma clang assume_nonnull end

#endif
