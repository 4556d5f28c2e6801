// Keys of session tickets. A ticket is the session itself, sealed with a key that only the node has: no session is kept
// here, and each shard opens the tickets of all. A key lives for some hours, so that one that is lost opens no older
// conversation.
#include "tls_private.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <pthread.h>
#include <stdlib.h>

#define KEY_NAME_SIZE 16u

struct ticket_key {
    uint8_t name[KEY_NAME_SIZE];
    uint8_t cipher[32]; // AES-256
    uint8_t mac[32];    // HMAC with SHA-256
};

struct sc_tls_tickets {
    _Atomic uint32_t references;
    pthread_mutex_t lock; // Held for the copy of a key: once a handshake, and never for a message.
    struct ticket_key keys[SC_TLS_TICKET_KEYS]; // The newest first.
    uint32_t count;
    uint64_t made_seconds; // When the newest was; 0: not told yet.
};

static bool make_key(struct ticket_key *key) {
    return RAND_bytes(key->name, sizeof key->name) == 1 &&
           RAND_priv_bytes(key->cipher, sizeof key->cipher) == 1 &&
           RAND_priv_bytes(key->mac, sizeof key->mac) == 1;
}

struct sc_tls_tickets *sc_tls_tickets_create(void) {
    sc_tls_prepare();
    struct sc_tls_tickets *tickets = calloc(1, sizeof *tickets);
    if (tickets == NULL || !make_key(&tickets->keys[0])) {
        free(tickets);
        return NULL;
    }
    atomic_init(&tickets->references, 1);
    pthread_mutex_init(&tickets->lock, NULL);
    tickets->count = 1;
    return tickets;
}

struct sc_tls_tickets *sc_tls_tickets_retain(struct sc_tls_tickets *tickets) {
    atomic_fetch_add_explicit(&tickets->references, 1, memory_order_relaxed);
    return tickets;
}

void sc_tls_tickets_release(struct sc_tls_tickets *tickets) {
    if (tickets == NULL ||
        atomic_fetch_sub_explicit(&tickets->references, 1, memory_order_acq_rel) > 1)
        return;
    pthread_mutex_destroy(&tickets->lock);
    OPENSSL_cleanse(tickets->keys, sizeof tickets->keys);
    free(tickets);
}

// Without randomness the old keys go on: their age is the lesser evil.
static void add_key(struct sc_tls_tickets *tickets, uint32_t kept) {
    struct ticket_key key;
    if (!make_key(&key))
        return;
    pthread_mutex_lock(&tickets->lock);
    if (kept > tickets->count)
        kept = tickets->count;
    memmove(&tickets->keys[1], &tickets->keys[0], kept * sizeof key);
    tickets->keys[0] = key;
    tickets->count = kept + 1;
    pthread_mutex_unlock(&tickets->lock);
    OPENSSL_cleanse(&key, sizeof key);
}

void sc_tls_tickets_rotate(struct sc_tls_tickets *tickets, uint64_t now_seconds) {
    pthread_mutex_lock(&tickets->lock);
    bool due = tickets->made_seconds > 0 && now_seconds > tickets->made_seconds &&
               now_seconds - tickets->made_seconds >= SC_TLS_TICKET_KEY_SECONDS;
    if (due || tickets->made_seconds == 0)
        tickets->made_seconds = now_seconds;
    pthread_mutex_unlock(&tickets->lock);
    if (due)
        add_key(tickets, SC_TLS_TICKET_KEYS - 1);
}

void sc_tls_tickets_renew(struct sc_tls_tickets *tickets) {
    add_key(tickets, 0);
}

// The key to seal with, or the one of that name. Returns its age: 0 is the newest; -1: there is none.
static int find_key(struct sc_tls_tickets *tickets, const uint8_t *_Nullable name,
                    struct ticket_key *key) {
    int found = -1;
    pthread_mutex_lock(&tickets->lock);
    for (uint32_t i = 0; found < 0 && i < tickets->count; i++)
        if (name == NULL || memcmp(name, tickets->keys[i].name, KEY_NAME_SIZE) == 0) {
            *key = tickets->keys[i];
            found = (int)i;
        }
    pthread_mutex_unlock(&tickets->lock);
    return found;
}

static bool set_up(const struct ticket_key *key, const uint8_t *iv, EVP_CIPHER_CTX *cipher,
                   EVP_MAC_CTX *mac, int seals) {
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)key->mac, sizeof key->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_end()};
    return EVP_MAC_CTX_set_params(mac, parameters) == 1 &&
           EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, key->cipher, iv, seals) == 1;
}

// OpenSSL's: 1 goes on, 2 goes on and makes a new ticket, 0 no such key: a full handshake, -1 fails.
static int on_ticket(SSL *ssl, uint8_t *name, uint8_t *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac,
                     int seals) {
    struct sc_tls_tickets *tickets = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
    struct ticket_key key;
    int age = find_key(tickets, seals ? NULL : name, &key);
    if (age < 0)
        return 0;
    int result = seals || age == 0 ? 1 : 2;
    if (seals) {
        memcpy(name, key.name, KEY_NAME_SIZE);
        if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(EVP_aes_256_cbc())) != 1)
            result = -1;
    }
    if (!set_up(&key, iv, cipher, mac, seals))
        result = -1;
    OPENSSL_cleanse(&key, sizeof key);
    return result;
}

void sc_tls_tickets_serve(struct sc_tls_tickets *tickets, SSL_CTX *ssl) {
    SSL_CTX_set_app_data(ssl, tickets);
    SSL_CTX_set_tlsext_ticket_key_evp_cb(ssl, on_ticket);
}
