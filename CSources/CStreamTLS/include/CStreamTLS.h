// What the project takes from OpenSSL. The only target that includes it.
//
// TLS here is ciphertext in, plaintext out: a session knows no socket. Its owner gives it the bytes that came, and sends
// the bytes that it has made. Sessions of both sides are there: of a server, and of a client that checks its server.
#ifndef CSTREAM_TLS_H
#define CSTREAM_TLS_H

#include "CStreamBase.h"

#pragma clang assume_nonnull begin

/// Writes the 28 characters of Sec-WebSocket-Accept for `key`, the client's Sec-WebSocket-Key.
///
/// Errors: -EIO  OpenSSL refused SHA-1 (a policy that forbids it).
/// Source: RFC 6455 section 4.2.2.
SC_CHECKED int sc_tls_websocket_accept(struct sc_bytes key, char out[_Nonnull 28]);

// ---- Contexts: what the sessions of one address have in common

enum sc_tls_client_auth {
    SC_TLS_CLIENT_AUTH_NONE,     // Clients are not asked for a certificate.
    SC_TLS_CLIENT_AUTH_OPTIONAL, // One that comes must be signed by the authorities.
    SC_TLS_CLIENT_AUTH_REQUIRED, // One must come.
};
enum sc_tls_version { SC_TLS_1_2, SC_TLS_1_3 };

/// Where a server's certificate is, in PEM. Borrowed for the call.
struct sc_tls_files {
    const char *cert_file;         // The certificate, then those between it and its authority.
    const char *key_file;          // Without a passphrase.
    const char *_Nullable ca_file; // The authorities of clients.
    enum sc_tls_client_auth client_auth;
    enum sc_tls_version min_version;
};

/// Room for one sentence that says why something cannot be had. It names the file.
struct sc_tls_reason {
    char text[512];
};

/// The keys of session tickets. All contexts that share them resume each other's sessions, on every thread.
///
/// Thread: any.
struct sc_tls_tickets;
/// With one reference. Errors: NULL  memory is out, or there is no randomness.
struct sc_tls_tickets *_Nullable sc_tls_tickets_create(void);
void sc_tls_tickets_release(struct sc_tls_tickets *_Nullable tickets);
/// Makes a new key once the newest one is older than SC_TLS_TICKET_KEY_SECONDS. The SC_TLS_TICKET_KEYS newest ones open
/// tickets.
void sc_tls_tickets_rotate(struct sc_tls_tickets *tickets, uint64_t now_seconds);
/// Forgets all keys: no session of before is resumed.
void sc_tls_tickets_renew(struct sc_tls_tickets *tickets);

/// Immutable. Sessions hold what they need of it.
///
/// Thread: any.
struct sc_tls_context;
/// Reads and checks the files. Retains `tickets`. The caller owns one reference.
///
/// Errors: -ENOENT and others of open(2)
///         -EINVAL  a file holds no certificate or key, they do not belong together, or OpenSSL refuses them.
///         -ENOMEM
///         With each, `reason` is a sentence that names the file.
SC_CHECKED int sc_tls_server_create(const struct sc_tls_files *files,
                                    struct sc_tls_tickets *tickets,
                                    struct sc_tls_context *_Nullable *_Nonnull context,
                                    struct sc_tls_reason *reason);
/// A client's, which takes only servers whose certificates the authorities in `ca_file` have signed; NULL: those of the
/// system. `protocol` is offered by ALPN, if it is given. Errors: as above.
SC_CHECKED int sc_tls_client_create(const char *_Nullable ca_file, const char *_Nullable protocol,
                                    enum sc_tls_version min_version,
                                    enum sc_tls_version max_version,
                                    struct sc_tls_context *_Nullable *_Nonnull context,
                                    struct sc_tls_reason *reason);
struct sc_tls_context *sc_tls_context_retain(struct sc_tls_context *context);
void sc_tls_context_release(struct sc_tls_context *_Nullable context);
/// Writes the name in a server's certificate and its last day, in one line: "/CN=example.org, until Jan  1 00:00:00 2027 GMT".
void sc_tls_context_describe(const struct sc_tls_context *context, struct sc_tls_reason *text);
/// Whether the certificate is valid now: 0, -1 when it is not yet, 1 when it is no longer.
int sc_tls_context_validity(const struct sc_tls_context *context);

// ---- Sessions

/// Plaintext of one record.
#define SC_TLS_PLAIN_SIZE_MAX (16u << 10)

/// One side of one connection. It keeps at most one record that is not whole.
///
/// Thread: one at a time.
struct sc_tls;
/// Of a server; with `host`, of a client that asks for this host and takes only its certificate (a name, or an address).
/// NULL: memory is out.
struct sc_tls *_Nullable sc_tls_create(struct sc_tls_context *context, const char *_Nullable host);
void sc_tls_destroy(struct sc_tls *_Nullable tls);

/// Goes on with the handshake. Takes bytes off the front of `in`, as far as they are of the handshake, and appends to
/// `wire` what is to be sent, also when it fails. A client begins with nothing in `in`.
///
/// Returns 1 when it is over, 0 when more has to come; all of `in` is used up then.
/// Errors: -EPROTONOSUPPORT  a server's peer does not speak TLS: its first byte is that of another protocol.
///         -EMSGSIZE         over SC_TLS_HANDSHAKE_SIZE_MAX bytes, or a first message over SC_TLS_HELLO_SIZE_MAX.
///         -EACCES           the peer's certificate is missing, or not good enough.
///         -EPROTO           anything else. sc_tls_failure says what.
SC_CHECKED int sc_tls_handshake(struct sc_tls *tls, struct sc_bytes *in, struct sc_buffer *wire);

/// Opens the next record. Takes it off the front of `in`. `*plain` is lent until the next call of this function on this
/// thread, and may be written to. Appends to `wire` what TLS itself has to answer.
///
/// Returns 1 with plaintext, 0 when more has to come; all of `in` is used up then.
/// Errors: -EPIPE  the peer has said that it sends no more (close_notify).
///         -EPROTO as above. No record is opened or sealed any more.
SC_CHECKED int sc_tls_open(struct sc_tls *tls, struct sc_bytes *in, struct sc_bytes *plain,
                           struct sc_buffer *wire);

/// Room that sealing `size` bytes takes at most.
static inline size_t sc_tls_sealed_size_max(size_t size) {
    return size + (size / SC_TLS_PLAIN_SIZE_MAX + 2) * 64 + 256;
}
/// Seals `count` pieces as if they were one: in records of SC_TLS_PLAIN_SIZE_MAX, the last one shorter. Writes to `out`,
/// which has room for sc_tls_sealed_size_max, and returns how much.
///
/// Errors: -EPROTO  the session has failed.
SC_CHECKED ssize_t sc_tls_seal(struct sc_tls *tls, const struct sc_bytes *pieces, uint32_t count,
                               uint8_t *out, size_t capacity);
/// Appends the goodbye to `wire` (close_notify), once: the peer can tell that nothing was cut off. Nothing for a session
/// that has failed, or whose handshake is not over.
void sc_tls_say_goodbye(struct sc_tls *tls, struct sc_buffer *wire);

/// Has a client, before its handshake, ask to go on with the session of an earlier connection to the same host, which may
/// be open still: the handshake is shorter then. It asks for nothing when that one was given no ticket.
void sc_tls_resume(struct sc_tls *tls, const struct sc_tls *earlier);

/// Bytes of the record that is not whole.
size_t sc_tls_kept_size(const struct sc_tls *tls);
/// Whether the session goes on from an earlier one.
bool sc_tls_is_resumed(const struct sc_tls *tls);
/// "TLSv1.3"
const char *sc_tls_version_name(const struct sc_tls *tls);
/// What the last failure on this thread was, in a few words.
const char *sc_tls_failure(void);

#pragma clang assume_nonnull end

#endif
