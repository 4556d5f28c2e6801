// Contexts: files into certificates and keys, each checked, and what both sides agree to.
#include "tls_private.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

// Of TLS 1.3 the one that most processors are quickest at comes first. Of TLS 1.2 those with forward secrecy, and without
// padding that could tell something.
static const char suites[] =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
static const char suites_1_2[] = "ECDHE+AESGCM:ECDHE+CHACHA20";

static void prepare(void) {
    OPENSSL_init_ssl(OPENSSL_INIT_NO_ATEXIT, NULL);
}

void sc_tls_prepare(void) {
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
}

// ---- What went wrong

// Says what OpenSSL has against `file`, which is the setting `key`. Returns the error.
static int refuse(struct sc_tls_reason *reason, const char *key, const char *file,
                  const char *what) {
    unsigned long error = ERR_peek_error();
    int rc = -EINVAL;
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    if (ERR_SYSTEM_ERROR(error)) {
        rc = -ERR_GET_REASON(error);
        why = strerror(-rc);
    } else if (ERR_GET_REASON(error) == PEM_R_NO_START_LINE ||
               ERR_GET_REASON(ERR_peek_last_error()) == PEM_R_NO_START_LINE) {
        why = "there is none in it (PEM)";
    } else if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH) {
        why = "it does not belong to the certificate in cert_file";
    }
    snprintf(reason->text, sizeof reason->text, "%s: cannot take the %s of %s: %s", key, what, file,
             why == NULL ? "it is refused" : why);
    ERR_clear_error();
    return rc;
}

// A key with a passphrase: nobody is there to type one.
static int no_passphrase(char *out, int size, int writes, void *asked) {
    (void)out, (void)size, (void)writes;
    *(bool *)asked = true;
    return -1;
}

// ---- What a context allows

static void set_up(SSL_CTX *ssl, enum sc_tls_version min_version) {
    SSL_CTX_set_min_proto_version(ssl, min_version == SC_TLS_1_3 ? TLS1_3_VERSION : TLS1_2_VERSION);
    SSL_CTX_set_options(ssl, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    // An idle session keeps no buffers: those that it needs come and go with each record.
    SSL_CTX_set_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
    SSL_CTX_set_ciphersuites(ssl, suites);
    SSL_CTX_set_cipher_list(ssl, suites_1_2);
    SSL_CTX_set_max_cert_list(ssl, SC_TLS_HANDSHAKE_SIZE_MAX);
}

// HTTP/1.1 is what a WebSocket begins with. A client that offers other protocols only cannot be served.
static int choose_protocol(SSL *ssl, const uint8_t **out, uint8_t *out_size, const uint8_t *offered,
                           unsigned size, void *context) {
    (void)ssl, (void)context;
    static const char ours[] = "http/1.1";
    for (unsigned at = 0; at < size; at += 1u + offered[at]) {
        if (offered[at] == sizeof ours - 1 && at + sizeof ours <= size &&
            memcmp(offered + at + 1, ours, sizeof ours - 1) == 0) {
            *out = offered + at + 1;
            *out_size = offered[at];
            return SSL_TLSEXT_ERR_OK;
        }
    }
    return SSL_TLSEXT_ERR_ALERT_FATAL;
}

static int take_pair(SSL_CTX *ssl, const struct sc_tls_files *files, struct sc_tls_reason *reason) {
    bool asked = false;
    SSL_CTX_set_default_passwd_cb(ssl, no_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, &asked);
    int rc = 0;
    if (SSL_CTX_use_certificate_chain_file(ssl, files->cert_file) != 1)
        rc = refuse(reason, "cert_file", files->cert_file, "certificate");
    else if (SSL_CTX_use_PrivateKey_file(ssl, files->key_file, SSL_FILETYPE_PEM) != 1 ||
             SSL_CTX_check_private_key(ssl) != 1)
        rc = refuse(reason, "key_file", files->key_file, "key");
    if (rc < 0 && asked)
        snprintf(reason->text, sizeof reason->text,
                 "key_file: cannot take the key of %s: it needs a passphrase", files->key_file);
    SSL_CTX_set_default_passwd_cb_userdata(ssl, NULL);
    return rc;
}

static int take_authorities(SSL_CTX *ssl, const struct sc_tls_files *files,
                            struct sc_tls_reason *reason) {
    if (files->client_auth == SC_TLS_CLIENT_AUTH_NONE)
        return 0;
    const char *file = files->ca_file;
    STACK_OF(X509_NAME) *names = file == NULL ? NULL : SSL_load_client_CA_file(file);
    if (names == NULL || SSL_CTX_load_verify_locations(ssl, file, NULL) != 1) {
        sk_X509_NAME_pop_free(names, X509_NAME_free);
        return refuse(reason, "ca_file", file == NULL ? "(none)" : file, "authorities");
    }
    SSL_CTX_set_client_CA_list(ssl, names);
    bool required = files->client_auth == SC_TLS_CLIENT_AUTH_REQUIRED;
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                       NULL);
    return 0;
}

// ---- Contexts

static struct sc_tls_context *make(const SSL_METHOD *method, enum sc_tls_version min_version) {
    sc_tls_prepare();
    struct sc_tls_context *context = calloc(1, sizeof *context);
    ERR_clear_error();
    SSL_CTX *ssl = context == NULL ? NULL : SSL_CTX_new(method);
    if (ssl == NULL) {
        free(context);
        return NULL;
    }
    atomic_init(&context->references, 1);
    context->ssl = ssl;
    set_up(ssl, min_version);
    return context;
}

static int no_memory(struct sc_tls_reason *reason) {
    snprintf(reason->text, sizeof reason->text, "OpenSSL cannot be set up");
    return -ENOMEM;
}

int sc_tls_server_create(const struct sc_tls_files *files, struct sc_tls_tickets *tickets,
                         struct sc_tls_context **out, struct sc_tls_reason *reason) {
    struct sc_tls_context *context = make(TLS_server_method(), files->min_version);
    if (context == NULL)
        return no_memory(reason);
    SSL_CTX *ssl = context->ssl;
    int rc = take_pair(ssl, files, reason);
    if (rc == 0)
        rc = take_authorities(ssl, files, reason);
    if (rc < 0) {
        sc_tls_context_release(context);
        return rc;
    }
    SSL_CTX_set_alpn_select_cb(ssl, choose_protocol, NULL);
    // Sessions are in the tickets: nothing is kept here. A client that comes back needs one.
    SSL_CTX_set_session_cache_mode(ssl, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ssl, 1);
    SSL_CTX_set_timeout(ssl, SC_TLS_SESSION_SECONDS);
    static const uint8_t name[] = "iii-stream";
    SSL_CTX_set_session_id_context(ssl, name, sizeof name - 1);
    context->tickets = sc_tls_tickets_retain(tickets);
    sc_tls_tickets_serve(tickets, ssl);
    *out = context;
    return 0;
}

int sc_tls_client_create(const char *ca_file, const char *protocol, enum sc_tls_version min_version,
                         enum sc_tls_version max_version, struct sc_tls_context **out,
                         struct sc_tls_reason *reason) {
    struct sc_tls_context *context = make(TLS_client_method(), min_version);
    if (context == NULL)
        return no_memory(reason);
    int rc = 0;
    bool taken = ca_file == NULL ? SSL_CTX_set_default_verify_paths(context->ssl) == 1
                                 : SSL_CTX_load_verify_locations(context->ssl, ca_file, NULL) == 1;
    if (!taken)
        rc = refuse(reason, "ca_file", ca_file == NULL ? "the system" : ca_file, "authorities");
    uint8_t offer[256];
    size_t size = protocol == NULL ? 0 : strlen(protocol);
    if (rc == 0 && size > 0 && size < sizeof offer) {
        offer[0] = (uint8_t)size;
        memcpy(offer + 1, protocol, size);
        if (SSL_CTX_set_alpn_protos(context->ssl, offer, (unsigned)size + 1) != 0)
            rc = no_memory(reason);
    }
    if (rc < 0) {
        sc_tls_context_release(context);
        return rc;
    }
    if (max_version == SC_TLS_1_2)
        SSL_CTX_set_max_proto_version(context->ssl, TLS1_2_VERSION);
    SSL_CTX_set_verify(context->ssl, SSL_VERIFY_PEER, NULL);
    *out = context;
    return 0;
}

struct sc_tls_context *sc_tls_context_retain(struct sc_tls_context *context) {
    atomic_fetch_add_explicit(&context->references, 1, memory_order_relaxed);
    return context;
}

void sc_tls_context_release(struct sc_tls_context *context) {
    if (context == NULL ||
        atomic_fetch_sub_explicit(&context->references, 1, memory_order_acq_rel) > 1)
        return;
    SSL_CTX_free(context->ssl);
    sc_tls_tickets_release(context->tickets);
    free(context);
}

// ---- What a certificate says

static X509 *certificate_of(const struct sc_tls_context *context) {
    return SSL_CTX_get0_certificate(context->ssl);
}

void sc_tls_context_describe(const struct sc_tls_context *context, struct sc_tls_reason *text) {
    X509 *certificate = certificate_of(context);
    char name[256] = "";
    BIO *day = BIO_new(BIO_s_mem());
    char *end = NULL;
    long size = 0;
    if (certificate != NULL)
        X509_NAME_oneline(X509_get_subject_name(certificate), name, sizeof name);
    if (certificate != NULL && day != NULL &&
        ASN1_TIME_print(day, X509_get0_notAfter(certificate)) == 1)
        size = BIO_get_mem_data(day, &end);
    snprintf(text->text, sizeof text->text, "%s, until %.*s", name, (int)size,
             end == NULL ? "" : end);
    BIO_free(day);
}

int sc_tls_context_validity(const struct sc_tls_context *context) {
    X509 *certificate = certificate_of(context);
    if (certificate == NULL)
        return 0;
    if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0)
        return -1;
    return X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0 ? 1 : 0;
}
