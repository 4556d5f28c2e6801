// One side of one connection. OpenSSL reads and writes through a BIO without memory of its own: it copies from the bytes
// that the caller lends, and to where the caller wants the ciphertext. It only ever sees whole records. So its buffers are
// free again after each call, and what is kept of a record that is not whole takes as many bytes as have come.
#include "tls_private.h"

#include <errno.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

// A record: type, version (2), size (2), payload.
#define HEADER_SIZE 5u
#define RECORD_HANDSHAKE 22
#define HELLO_CLIENT 1

// Where the ciphertext of one call comes from and goes to. On the stack of that call.
struct transfer {
    struct sc_bytes in;
    struct sc_buffer *_Nullable wire; // Grows; or else:
    uint8_t *_Nullable out;
    size_t out_size, out_capacity;
};

struct sc_tls {
    SSL *ssl;
    struct sc_tls_context *context;
    struct transfer *_Nullable transfer; // Of the call that runs.
    struct sc_buffer kept;               // The beginning of a record.
    uint32_t handshake_size;             // Bytes that have come for it.
    bool is_client, begun, open, failed, said_goodbye;
};

// What one thread's sessions need for the time of a call.
struct scratch {
    uint8_t opened[SC_TLS_PLAIN_SIZE_MAX];
    uint8_t gathered[SC_TLS_PLAIN_SIZE_MAX];
    char failure[160];
};
static _Thread_local struct scratch scratch;

// ---- The BIO

static int bio_read(BIO *bio, char *out, int size) {
    const struct sc_tls *tls = BIO_get_data(bio);
    struct sc_bytes *in = &tls->transfer->in;
    BIO_clear_retry_flags(bio);
    if (in->size == 0) {
        BIO_set_retry_read(bio);
        return -1;
    }
    size_t taken = (size_t)size < in->size ? (size_t)size : in->size;
    memcpy(out, in->data, taken);
    in->data += taken;
    in->size -= taken;
    return (int)taken;
}

static int bio_write(BIO *bio, const char *data, int size) {
    const struct sc_tls *tls = BIO_get_data(bio);
    struct transfer *transfer = tls->transfer;
    BIO_clear_retry_flags(bio);
    if (transfer->wire != NULL) {
        sc_buffer_append(transfer->wire, data, (size_t)size);
        return transfer->wire->failed ? -1 : size;
    }
    if ((size_t)size > transfer->out_capacity - transfer->out_size)
        return -1;
    memcpy(transfer->out + transfer->out_size, data, (size_t)size);
    transfer->out_size += (size_t)size;
    return size;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
    (void)bio, (void)number, (void)pointer;
    return command == BIO_CTRL_FLUSH ? 1 : 0;
}

static BIO_METHOD *method;

static void make_method(void) {
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "lent bytes");
    if (method == NULL)
        return;
    BIO_meth_set_read(method, bio_read);
    BIO_meth_set_write(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
}

static BIO *bio_create(struct sc_tls *tls) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_method);
    BIO *bio = method == NULL ? NULL : BIO_new(method);
    if (bio == NULL)
        return NULL;
    BIO_set_data(bio, tls);
    BIO_set_init(bio, 1);
    return bio;
}

// ---- Sessions

// The server must show a certificate for the host that was asked for. An address has no SNI (RFC 6066, 3).
static bool expect_host(SSL *ssl, const char *host) {
    X509_VERIFY_PARAM *checks = SSL_get0_param(ssl);
    if (X509_VERIFY_PARAM_set1_ip_asc(checks, host) == 1)
        return true;
    ERR_clear_error();
    X509_VERIFY_PARAM_set_hostflags(checks, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    return SSL_set_tlsext_host_name(ssl, host) == 1 &&
           X509_VERIFY_PARAM_set1_host(checks, host, 0) == 1;
}

struct sc_tls *sc_tls_create(struct sc_tls_context *context, const char *host) {
    struct sc_tls *tls = calloc(1, sizeof *tls);
    SSL *ssl = tls == NULL ? NULL : SSL_new(context->ssl);
    BIO *bio = ssl == NULL ? NULL : bio_create(tls);
    if (bio == NULL || (host != NULL && !expect_host(ssl, host))) {
        BIO_free(bio);
        SSL_free(ssl);
        free(tls);
        ERR_clear_error();
        return NULL;
    }
    SSL_set_bio(ssl, bio, bio);
    tls->ssl = ssl;
    tls->context = sc_tls_context_retain(context);
    tls->is_client = host != NULL;
    if (tls->is_client)
        SSL_set_connect_state(ssl);
    else
        SSL_set_accept_state(ssl);
    return tls;
}

void sc_tls_destroy(struct sc_tls *tls) {
    if (tls == NULL)
        return;
    SSL_free(tls->ssl);
    sc_tls_context_release(tls->context);
    sc_buffer_deinit(&tls->kept);
    free(tls);
}

void sc_tls_resume(struct sc_tls *tls, const struct sc_tls *earlier) {
    assert(tls->is_client && !tls->begun);
    SSL_SESSION *session = SSL_get1_session(earlier->ssl);
    if (session != NULL && SSL_SESSION_is_resumable(session) == 1)
        (void)SSL_set_session(tls->ssl, session); // If not, the handshake is a full one.
    SSL_SESSION_free(session);
}

size_t sc_tls_kept_size(const struct sc_tls *tls) {
    return tls->kept.capacity;
}

bool sc_tls_is_resumed(const struct sc_tls *tls) {
    return SSL_session_reused(tls->ssl) == 1;
}

const char *sc_tls_version_name(const struct sc_tls *tls) {
    return SSL_get_version(tls->ssl);
}

// ---- Failures

const char *sc_tls_failure(void) {
    return scratch.failure;
}

static int fail(struct sc_tls *tls, int rc, const char *why) {
    tls->failed = true;
    snprintf(scratch.failure, sizeof scratch.failure, "%s", why);
    ERR_clear_error();
    return rc;
}

// What OpenSSL says of a call that has failed.
static int fail_with_reason(struct sc_tls *tls) {
    unsigned long error = ERR_peek_error();
    long verified = SSL_get_verify_result(tls->ssl);
    int reason = ERR_GET_REASON(error);
    if (reason == SSL_R_CERTIFICATE_VERIFY_FAILED && verified != X509_V_OK)
        return fail(tls, -EACCES, X509_verify_cert_error_string(verified));
    const char *text = ERR_reason_error_string(error);
    if (reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
        return fail(tls, -EACCES, "the peer has shown no certificate");
    return fail(tls, -EPROTO, text == NULL ? "the TLS protocol is broken" : text);
}

// ---- Records

static size_t record_size(const uint8_t *header) {
    return HEADER_SIZE + ((size_t)header[3] << 8 | header[4]);
}

// The first bytes of a connection tell a peer that speaks another protocol, and how much memory its hello would take.
static int check_first(struct sc_tls *tls, struct sc_bytes record) {
    if (record.size < HEADER_SIZE + 4 || record.data[HEADER_SIZE] != HELLO_CLIENT)
        return fail(tls, -EPROTO, "a TLS handshake begins with a hello");
    const uint8_t *hello = record.data + HEADER_SIZE;
    uint32_t size = (uint32_t)hello[1] << 16 | (uint32_t)hello[2] << 8 | hello[3];
    if (size > SC_TLS_HELLO_SIZE_MAX)
        return fail(tls, -EMSGSIZE, "the hello is too long");
    return 1;
}

static int check_header(struct sc_tls *tls, const uint8_t *header) {
    bool is_record = header[0] >= 20 && header[0] <= 24 && header[1] == 3;
    if (!tls->begun && !tls->is_client && (!is_record || header[0] != RECORD_HANDSHAKE))
        return fail(tls, -EPROTONOSUPPORT, "the peer does not speak TLS");
    if (!is_record)
        return fail(tls, -EPROTO, "no record of TLS");
    if (record_size(header) > HEADER_SIZE + SC_TLS_RECORD_SIZE_MAX)
        return fail(tls, -EPROTO, "a record is too long");
    // In TLS 1.2 a handshake in an open session is a renegotiation, which each time costs as much as a connection.
    if (tls->open && !tls->is_client && header[0] == RECORD_HANDSHAKE &&
        SSL_version(tls->ssl) == TLS1_2_VERSION)
        return fail(tls, -EPROTO, "renegotiation is refused");
    return 1;
}

static void keep(struct sc_tls *tls, struct sc_bytes *in, size_t size) {
    sc_buffer_append(&tls->kept, in->data, size);
    in->data += size;
    in->size -= size;
}

// Finds the next whole record, in the lent bytes or among those that were kept. Returns 1, 0 when more has to come, or an
// error. A peer may send byte by byte: its header is looked at when it is there, and no room is made for what it promises.
static int next_record(struct sc_tls *tls, struct sc_bytes *in, struct sc_bytes *record) {
    if (tls->kept.size == 0 && in->size > 0 && !tls->begun && !tls->is_client &&
        in->data[0] != RECORD_HANDSHAKE)
        return fail(tls, -EPROTONOSUPPORT, "the peer does not speak TLS");
    if (tls->kept.size > 0 && tls->kept.size < HEADER_SIZE) {
        size_t missing = HEADER_SIZE - tls->kept.size;
        keep(tls, in, missing < in->size ? missing : in->size);
    }
    bool is_kept = tls->kept.size > 0;
    struct sc_bytes from = is_kept ? sc_buffer_bytes(&tls->kept) : *in;
    if (tls->kept.failed)
        return fail(tls, -EPROTO, "memory is out");
    if (from.size < HEADER_SIZE) {
        if (!is_kept)
            keep(tls, in, in->size);
        return 0;
    }
    int rc = check_header(tls, from.data);
    if (rc < 0)
        return rc;
    size_t size = record_size(from.data);
    if (is_kept || in->size < size) {
        size_t missing = size - tls->kept.size;
        keep(tls, in, missing < in->size ? missing : in->size);
        if (tls->kept.failed)
            return fail(tls, -EPROTO, "memory is out");
        if (tls->kept.size < size)
            return 0;
        *record = sc_buffer_bytes(&tls->kept);
    } else {
        *record = (struct sc_bytes){in->data, size};
        in->data += size;
        in->size -= size;
    }
    rc = tls->begun || tls->is_client ? 1 : check_first(tls, *record);
    tls->begun = true;
    return rc;
}

// OpenSSL has copied the record, which may be the one that was kept.
static void forget_kept(struct sc_tls *tls) {
    sc_buffer_deinit(&tls->kept);
}

// A message of the handshake has OpenSSL set up both of its buffers, also after the handshake (a ticket, new keys), and keep
// them. That of writing then has the size that the last write has asked for, and the next record may be larger: it would
// fail. An idle session is to have none of them in any case.
static void free_buffers(struct sc_tls *tls) {
    (void)SSL_free_buffers(
        tls->ssl); // It refuses while a record is in them, which one never is between two calls.
}

// ---- The handshake

static int take_step(struct sc_tls *tls, struct transfer *transfer) {
    tls->transfer = transfer;
    int rc = SSL_do_handshake(tls->ssl);
    int error = rc == 1 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, rc);
    tls->transfer = NULL;
    if (rc == 1) {
        tls->open = true;
        free_buffers(tls);
    } else if (error != SSL_ERROR_WANT_READ)
        return fail_with_reason(tls);
    return rc == 1;
}

int sc_tls_handshake(struct sc_tls *tls, struct sc_bytes *in, struct sc_buffer *wire) {
    assert(!tls->open);
    if (tls->failed)
        return -EPROTO;
    struct transfer transfer = {.wire = wire};
    if (tls->is_client && !tls->begun) {
        tls->begun = true;
        int rc = take_step(tls, &transfer);
        if (rc != 0)
            return rc;
    }
    for (;;) {
        struct sc_bytes record = {0};
        size_t before = in->size;
        int rc = next_record(tls, in, &record);
        tls->handshake_size += (uint32_t)(before - in->size);
        if (rc > 0 && tls->handshake_size > SC_TLS_HANDSHAKE_SIZE_MAX)
            return fail(tls, -EMSGSIZE, "the handshake is too long");
        if (rc <= 0)
            return rc;
        transfer.in = record;
        rc = take_step(tls, &transfer);
        forget_kept(tls);
        if (rc != 0)
            return rc;
    }
}

// ---- Plaintext

int sc_tls_open(struct sc_tls *tls, struct sc_bytes *in, struct sc_bytes *plain,
                struct sc_buffer *wire) {
    assert(tls->open);
    if (tls->failed)
        return -EPROTO;
    for (;;) {
        struct sc_bytes record = {0};
        int rc = next_record(tls, in, &record);
        if (rc <= 0)
            return rc;
        struct transfer transfer = {.in = record, .wire = wire};
        tls->transfer = &transfer;
        int size = SSL_read(tls->ssl, scratch.opened, sizeof scratch.opened);
        int error = size > 0 ? SSL_ERROR_NONE : SSL_get_error(tls->ssl, size);
        tls->transfer = NULL;
        forget_kept(tls);
        if (size > 0) {
            *plain = (struct sc_bytes){scratch.opened, (size_t)size};
            return 1;
        }
        if (error == SSL_ERROR_ZERO_RETURN)
            return -EPIPE;
        if (error != SSL_ERROR_WANT_READ)
            return fail_with_reason(tls);
        free_buffers(tls);
    }
}

// The pieces of a send as records. Those that do not fill one are copied together.
struct sealing {
    struct sc_tls *tls;
    size_t gathered;
    bool failed;
};

static void write_record(struct sealing *sealing, const uint8_t *data, size_t size) {
    if (!sealing->failed && SSL_write(sealing->tls->ssl, data, (int)size) != (int)size)
        sealing->failed = true;
}

static void write_gathered(struct sealing *sealing) {
    if (sealing->gathered > 0)
        write_record(sealing, scratch.gathered, sealing->gathered);
    sealing->gathered = 0;
}

static void add_piece(struct sealing *sealing, struct sc_bytes piece) {
    while (piece.size > 0) {
        if (sealing->gathered == 0 && piece.size >= SC_TLS_PLAIN_SIZE_MAX) {
            write_record(sealing, piece.data, SC_TLS_PLAIN_SIZE_MAX);
            piece.data += SC_TLS_PLAIN_SIZE_MAX;
            piece.size -= SC_TLS_PLAIN_SIZE_MAX;
            continue;
        }
        size_t room = SC_TLS_PLAIN_SIZE_MAX - sealing->gathered;
        size_t taken = piece.size < room ? piece.size : room;
        memcpy(scratch.gathered + sealing->gathered, piece.data, taken);
        sealing->gathered += taken;
        piece.data += taken;
        piece.size -= taken;
        if (sealing->gathered == SC_TLS_PLAIN_SIZE_MAX)
            write_gathered(sealing);
    }
}

// OpenSSL takes a buffer for the longest record that a session may write, for each write. A small one is quicker to get,
// and its memory is in the cache.
static void size_buffer(struct sc_tls *tls, size_t size) {
    size_t most = size > SC_TLS_PLAIN_SIZE_MAX ? SC_TLS_PLAIN_SIZE_MAX : size < 512 ? 512 : size;
    SSL_set_max_send_fragment(tls->ssl, (long)most);
    SSL_set_split_send_fragment(
        tls->ssl, (long)most); // It has come down with the other, and does not go up with it.
}

ssize_t sc_tls_seal(struct sc_tls *tls, const struct sc_bytes *pieces, uint32_t count, uint8_t *out,
                    size_t capacity) {
    assert(tls->open);
    if (tls->failed || tls->said_goodbye)
        return -EPROTO;
    struct transfer transfer = {.out = out, .out_capacity = capacity};
    struct sealing sealing = {.tls = tls};
    size_t size = 0;
    for (uint32_t i = 0; i < count; i++)
        size += pieces[i].size;
    size_buffer(tls, size);
    tls->transfer = &transfer;
    if (count == 1 && size <= SC_TLS_PLAIN_SIZE_MAX) {
        write_record(&sealing, pieces[0].data, size);
    } else {
        for (uint32_t i = 0; i < count; i++)
            add_piece(&sealing, pieces[i]);
        write_gathered(&sealing);
    }
    tls->transfer = NULL;
    if (sealing.failed)
        return fail_with_reason(tls);
    return (ssize_t)transfer.out_size;
}

void sc_tls_say_goodbye(struct sc_tls *tls, struct sc_buffer *wire) {
    if (!tls->open || tls->failed || tls->said_goodbye)
        return;
    struct transfer transfer = {.wire = wire};
    tls->said_goodbye = true;
    tls->transfer = &transfer;
    (void)SSL_shutdown(tls->ssl); // 0: the peer's is not there yet, and not waited for.
    tls->transfer = NULL;
    ERR_clear_error();
}
