// What the project takes from OpenSSL. The only target that includes it.
#ifndef CSTREAM_TLS_H
#define CSTREAM_TLS_H

#include "CStreamBase.h"

#pragma clang assume_nonnull begin

/// Writes the 28 characters of Sec-WebSocket-Accept for `key`, the client's Sec-WebSocket-Key.
///
/// Errors: -EIO  OpenSSL refused SHA-1 (a policy that forbids it).
/// Source: RFC 6455 section 4.2.2.
SC_CHECKED int sc_tls_websocket_accept(struct sc_bytes key, char out[_Nonnull 28]);

#pragma clang assume_nonnull end

#endif
