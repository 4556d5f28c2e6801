// What http.c lends to handshake.c.
#ifndef CSTREAM_WEBSOCKET_HTTP_H
#define CSTREAM_WEBSOCKET_HTTP_H

#include "CStreamWebSocket.h"

#pragma clang assume_nonnull begin

/// Compares ASCII text without regard to case.
bool sc_http_text_equal(struct sc_bytes a, struct sc_bytes b);
/// `bytes` without the spaces and tabs around it.
struct sc_bytes sc_http_trim(struct sc_bytes bytes);

#pragma clang assume_nonnull end

#endif
