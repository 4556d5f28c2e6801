// What the files of this target share.
#ifndef CSTREAM_TLS_PRIVATE_H
#define CSTREAM_TLS_PRIVATE_H

// OpenSSL's headers want it of <limits.h>, whose name a header of ours has.
#ifndef INT_MAX
#define INT_MAX __INT_MAX__
#endif
#include <openssl/ssl.h>

#include "CStreamTLS.h"

#pragma clang assume_nonnull begin

struct sc_tls_context {
    _Atomic uint32_t references;
    SSL_CTX *ssl;
    struct sc_tls_tickets
        *_Nullable tickets; // Of a server. Sessions reach them through the context, which they retain.
};

/// Before the first use of OpenSSL by anything here: it would take itself apart when the process ends, while threads may
/// still use it.
void sc_tls_prepare(void);
/// Has the tickets of a context sealed and opened with these keys, which are borrowed for its life.
void sc_tls_tickets_serve(struct sc_tls_tickets *tickets, SSL_CTX *ssl);
struct sc_tls_tickets *sc_tls_tickets_retain(struct sc_tls_tickets *tickets);

#pragma clang assume_nonnull end

#endif
