#include "tls_private.h"

#include <errno.h>
#include <openssl/evp.h>

int sc_tls_websocket_accept(struct sc_bytes key, char out[28]) {
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    uint8_t text[64 + sizeof guid];
    assert(key.size <= 64);
    memcpy(text, key.data, key.size);
    memcpy(text + key.size, guid, sizeof guid - 1);
    uint8_t digest[EVP_MAX_MD_SIZE];
    unsigned digest_size = 0;
    sc_tls_prepare();
    if (EVP_Digest(text, key.size + sizeof guid - 1, digest, &digest_size, EVP_sha1(), NULL) != 1)
        return -EIO;
    assert(digest_size == 20);
    char encoded[29]; // EVP_EncodeBlock ends its text with a NUL.
    EVP_EncodeBlock((uint8_t *)encoded, digest, 20);
    memcpy(out, encoded, 28);
    return 0;
}
