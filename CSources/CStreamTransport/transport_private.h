// What the files of the transport share. All of it belongs to the thread of the loop.
#ifndef CSTREAM_TRANSPORT_PRIVATE_H
#define CSTREAM_TRANSPORT_PRIVATE_H

#include "CStreamTransport.h"

#pragma clang assume_nonnull begin

// Bytes of a chunk that many frames share.
#define CHUNK_SIZE (64u << 10)

// ---- What comes (inbound.c)

/// A message that waits. Owned by its queue.
struct parked_message {
    struct parked_message *_Nullable next;
    uint32_t size;
    bool binary;
    uint8_t bytes[];
};
struct parked_queue {
    struct parked_message *_Nullable first;
    struct parked_message *_Nullable last;
};

/// What came and is not started. A connection of which nothing waits has none.
struct inbound {
    struct sc_wait_node wait; // In transport->parked.
    struct connection *connection;
    struct sc_buffer undecoded;
    struct sc_buffer assembly;  // Fragments and parts of one message.
    struct parked_queue parked; // In order.
    struct parked_queue aside;  // By the role: before the others, once it may.
    struct parked_sums waiting; // Of both.
    size_t unfinished;          // Of `undecoded` and `assembly`: what is charged for them.
    uint16_t close_code;        // STATE_PEER_CLOSED: the peer's.
    bool decoding;              // `decoder` is in the middle of a message.
    bool message_pong;          // A pong that is a message waits for its place,
    uint8_t pong_size;          // and one that is a frame: only the last ping is answered.
    uint8_t pong[2 + SC_WS_CONTROL_SIZE_MAX];
    struct sc_ws_decoder decoder; // Between messages that of the port will do.
};

/// Made when it is first needed. Owned by the connection.
struct inbound *sc_inbound_of(struct connection *connection);
/// Takes bytes of a lent buffer: starts what is whole, keeps the rest.
void sc_inbound_receive(struct connection *connection, uint8_t *bytes, size_t size);
/// Frees one, which is there, when nothing is in it.
void sc_inbound_free_if_empty(struct connection *connection);
/// Frees it and all that waits in it.
void sc_inbound_free(struct connection *connection);

// ---- What leaves (outbox.c)

/// More slices of one turn than the connection has room for.
#define READY_SLICES_MAX SC_LOOP_SEND_PIECES_MAX
struct ready_more {
    uint32_t count;
    struct slice slices[READY_SLICES_MAX - 1];
};

bool sc_out_is_empty(const struct connection *connection);
/// A send has ended: bytes that the socket took, or -errno.
void sc_out_sent(struct connection *connection, ssize_t result);
/// Whether the peer has taken anything since this was asked last, of what its socket holds.
bool sc_out_progress(struct connection *connection);
/// Gives up all that waits to be sent.
void sc_out_discard(struct connection *connection);
/// A send has ended, and what it took has been given up: sends what waits, or ends what has been waiting for that.
void sc_out_go_on(struct connection *connection);
/// Bytes of `ready`.
uint64_t sc_out_ready_size(const struct connection *connection);
/// Moves `ready` to the backlog.
void sc_out_ready_to_backlog(struct connection *connection);
/// Sends the first piece of the backlog, which is there.
void sc_out_send_backlog(struct connection *connection);
/// Frees a connection in STATE_FREED, now or when it comes up among those that had something to send.
void sc_out_free(struct connection *connection);
/// Frees those that wait for that, at the end of the transport.
void sc_out_free_dirty(struct transport *transport);
/// A send is due at the end of the turn.
void sc_out_mark_dirty(struct connection *connection);

// ---- What the socket did not take (backlog.c)

/// Part of it. It begins and, but for its first frame which may have been sent in part, consists of whole frames; or it
/// is ciphertext. All ciphertext comes before all plaintext: it was sealed in the order in which it has to leave.
struct backlog_piece {
    struct backlog_piece *_Nullable next;
    struct chunk *_Nullable shared; // Set: the bytes are the chunk's. Otherwise `bytes`.
    const uint8_t *data;
    uint32_t sent;
    uint32_t size;
    uint32_t capacity;
    bool sealed; // Ciphertext.
    uint8_t bytes[];
};

struct backlog {
    struct sc_wait_node wait; // In transport->over_budget.
    struct connection *connection;
    struct backlog_piece
        *_Nullable first; // The one that is being sent. Its bytes are the kernel's meanwhile.
    struct backlog_piece *_Nullable last;
    struct backlog_piece
        *_Nullable huge;    // One that alone is over the budget: it does not count, wherever it is.
    uint64_t bytes;         // Not yet taken by the socket.
    uint64_t over_since_ns; // While it waits in `over_budget`.
};

static inline bool sc_backlog_waits(const struct connection *connection) {
    return connection->backlog != NULL && connection->backlog->first != NULL;
}
/// Puts a slice behind what waits, as a copy or with a reference. `sent` bytes of its first frame are out already.
void sc_backlog_append(struct connection *connection, struct slice slice, uint32_t sent);
/// Puts a copy of a frame in front of all, or behind the piece that may be half out.
void sc_backlog_put_first(struct connection *connection, const uint8_t *frame, size_t size);
void sc_backlog_put_second(struct connection *connection, const uint8_t *frame, size_t size);
/// Puts a copy of ciphertext behind all that is sealed, or in front of all.
void sc_backlog_put_sealed(struct connection *connection, struct sc_bytes bytes, bool first);
/// Seals as much of what comes first as one send takes, unless that is sealed already. False: TLS has failed.
bool sc_backlog_seal(struct connection *connection, struct sc_tls *tls);
/// So many bytes of the first piece have left.
void sc_backlog_sent(struct connection *connection, uint64_t sent);
/// Closes a peer that is too far behind, or notes when it came to be.
void sc_backlog_check(struct connection *connection);
/// Drops all but the first piece.
void sc_backlog_drop_waiting(struct connection *connection);
/// Frees it and all its pieces.
void sc_backlog_free(struct connection *connection);
void sc_backlog_over_due(struct sc_timer *timer);

// ---- Channels (channel.c is the one for TLS)

/// What stands between the outbox of a connection and its socket. Its part of a connection lies behind what the connection
/// is embedded in, so that a connection without one has none of it.
struct channel_kind {
    uint32_t size;                           // Of that part.
    const struct sc_socket_handler *handler; // In place of the connection's own.
    /// Of a connection that is being adopted. False: memory is out.
    bool (*open)(struct connection *connection);
    /// Gives up what it holds, and what it has charged. The socket is closed, or was never opened.
    void (*close)(struct connection *connection);
    /// Sends what is due. Returns whether a send that does not wait was started.
    bool (*flush)(struct connection *connection);
    /// Whether `ready` begins with ciphertext; from here on it is taken for plaintext.
    bool (*takes_sealed)(struct connection *connection);
    /// Makes the first piece of the backlog ciphertext. False: the connection has ended.
    bool (*seal_backlog)(struct connection *connection);
    /// All that was queued has left. True: a goodbye of its own is still to leave, and is queued.
    bool (*says_goodbye)(struct connection *connection);
    /// The handshake has not come to its end in time.
    void (*timed_out)(struct connection *connection);
};

// ---- Ends (connection.c)

/// Frees the account if nothing waits and nobody else has it: most clients never have any, and its next bytes make one.
void sc_connection_drop_account(struct connection *connection);
/// Something has come from the peer: it lives, as far as that counts.
void sc_connection_hears(struct connection *connection);
/// The peer's stream has ended, well (0) or not.
void sc_connection_peer_ended(struct connection *connection, int reason);
/// The socket is closed.
void sc_connection_socket_closed(struct connection *connection);

/// Wakes those that wait for room in the connection's account, which it has, if there is some now.
void sc_connection_wake(struct connection *connection);
/// All that was queued has been taken by the socket of a connection that ends.
void sc_connection_drained(struct connection *connection);
/// The peer's close frame: nothing of it waits.
void sc_connection_peer_closed(struct connection *connection, uint16_t code);
/// The peer has broken the protocol; `error` of sc_ws_decode.
void sc_connection_broken(struct connection *connection, int error);
/// Waits with the peer's end until what it has sent is started.
void sc_connection_finish_later(struct connection *connection, enum connection_state state);

#pragma clang assume_nonnull end

#endif
