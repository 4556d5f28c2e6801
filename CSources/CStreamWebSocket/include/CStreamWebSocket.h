// HTTP/1.1 request heads, the RFC 6455 handshake, frames in both directions, masking, UTF-8.
// Pure: no sockets, no allocation, no clock. Every parser takes its input in any split.
#ifndef CSTREAM_WEBSOCKET_H
#define CSTREAM_WEBSOCKET_H

#include "CStreamBase.h"

#pragma clang assume_nonnull begin

// ---- HTTP request head

struct sc_http_header {
    struct sc_bytes name;
    struct sc_bytes value; // Without the white space around it.
};

struct sc_http_request {
    struct sc_bytes method;
    struct sc_bytes target; // As sent: path and query.
    struct sc_bytes path;   // Up to the first `?`. Not decoded.
    struct sc_bytes query;  // After it; empty when there is none. Not decoded.
    uint8_t minor_version;  // HTTP/1.0 or HTTP/1.1.
    uint32_t header_count;
    struct sc_http_header headers[SC_HTTP_HEADER_COUNT_MAX];
};

/// Parses one HTTP/1.1 (or 1.0) request head. The slices point into `data`.
///
/// Returns the bytes of the head with its empty line, or 0 when more are needed.
/// Each call starts at the beginning of the head. An error is said at the first byte that shows it.
/// Errors: -EBADMSG  not a request head: 400. Bare LF, folded lines, NUL, control bytes, spaces around
///                   a name, absolute-form targets without a path, and an HTTP version other than
///                   1.0 or 1.1 are. One empty line before the request line is skipped.
///         -E2BIG    over SC_HTTP_HEAD_SIZE_MAX bytes or SC_HTTP_HEADER_COUNT_MAX fields: 431. Said as
///                   soon as `size` reaches the limit, complete or not.
/// Source: RFC 9112 sections 2 to 5.
SC_CHECKED ssize_t sc_http_request_parse(const uint8_t *data, size_t size,
                                         struct sc_http_request *request);

/// The value of the last header called `name` (any case), or data == NULL.
struct sc_bytes sc_http_header_get(const struct sc_http_request *request, const char *name);

/// Decodes %xx in `in` to `out` (at least `in.size` bytes) and returns the decoded size, or -EBADMSG
/// for a bad escape or a result that is not UTF-8. `+` stays as it is. `out` may be where `in` is.
SC_CHECKED ssize_t sc_http_path_decode(struct sc_bytes in, uint8_t *out);

/// Judges a request as a WebSocket opening handshake.
///
/// Returns 101 with `*key` the Sec-WebSocket-Key as sent; 405 when the method is not GET; 426 when an
/// upgrade to WebSocket is asked for in another version than 13; 400 for whatever else is missing or wrong
/// (one valid Host is required, the key must be the base64 of 16 bytes, HTTP/1.0 cannot upgrade, a request with
/// a body neither).
/// Source: RFC 6455 section 4.2.1.
int sc_ws_handshake_check(const struct sc_http_request *request, struct sc_bytes *key);

/// Whether the client offered `protocol` in Sec-WebSocket-Protocol (compared exactly, comma lists and
/// repeated headers understood).
bool sc_ws_protocol_offered(const struct sc_http_request *request, const char *protocol);

#define SC_WS_RESPONSE_SIZE_MAX 512
/// Writes the 101 response with `accept` (the 28 characters of Sec-WebSocket-Accept) and the selected
/// sub-protocol, if any. `out` has SC_WS_RESPONSE_SIZE_MAX bytes. Returns the size.
size_t sc_ws_response_write(uint8_t *out, const char accept[_Nonnull 28],
                            const char *_Nullable protocol);
/// Writes a complete response with `status` (400, 401, 403, 404, 405, 426, 431, 503), its reason as a short
/// text body, Content-Length, and `Connection: close`; 401 names the scheme Bearer, 405 carries `Allow: GET`,
/// 426 the version 13 and `Upgrade: websocket`. `readable` lets the page that asked read it (the CORS protocol of
/// the Fetch standard). `out` has SC_WS_RESPONSE_SIZE_MAX bytes.
size_t sc_http_error_write(uint8_t *out, int status, bool readable);
#define SC_HTTP_BODY_SIZE_MAX 256
/// The same for no page to read, with another reason: one line of at most SC_HTTP_BODY_SIZE_MAX bytes.
size_t sc_http_refusal_write(uint8_t *out, int status, struct sc_bytes body);
/// Writes a client's opening request (load generator, tests). `key` is 24 base64 characters. Returns the
/// size, or -ENOSPC.
SC_CHECKED ssize_t sc_ws_request_write(uint8_t *out, size_t capacity, struct sc_bytes host,
                                       struct sc_bytes target, const char key[_Nonnull 24]);

// ---- Frames

enum sc_ws_opcode {
    SC_WS_CONTINUATION = 0,
    SC_WS_TEXT = 1,
    SC_WS_BINARY = 2,
    SC_WS_CLOSE = 8,
    SC_WS_PING = 9,
    SC_WS_PONG = 10,
};

enum sc_ws_role {
    SC_WS_SERVER, // Receives masked frames; an unmasked one is a protocol error.
    SC_WS_CLIENT, // Receives unmasked frames; a masked one is a protocol error.
};

/// The state of one direction of one connection. About 48 bytes; fields are the decoder's own.
struct sc_ws_decoder {
    uint64_t message_size; // Payload bytes of the message so far, all fragments.
    uint64_t frame_left;   // Payload bytes of the current data frame still to come.
    uint64_t message_size_max;
    uint32_t frame_size_max;
    uint32_t utf8_state;
    uint8_t mask[4];
    uint8_t mask_phase;
    uint8_t opcode; // Of the message: SC_WS_TEXT or SC_WS_BINARY, 0 between messages.
    uint8_t role;
    bool check_utf8;
    bool in_frame;
    bool final;
    bool closed;
};

/// `check_utf8`: look at text while it arrives. Without it the caller checks whole messages itself.
void sc_ws_decoder_init(struct sc_ws_decoder *decoder, enum sc_ws_role role,
                        uint32_t frame_size_max, uint64_t message_size_max, bool check_utf8);

enum sc_ws_event_kind {
    SC_WS_EVENT_NONE,    // Bytes were consumed, nothing to say yet.
    SC_WS_EVENT_DATA,    // A piece of a data message.
    SC_WS_EVENT_CONTROL, // A whole ping, pong or close.
};

struct sc_ws_event {
    enum sc_ws_event_kind kind;
    uint8_t opcode;        // DATA: of the message, TEXT or BINARY. CONTROL: PING, PONG or CLOSE.
    bool first;            // DATA: the first piece of its message.
    bool last;             // DATA: the last one. A whole message in one frame in one read is both.
    uint16_t close_code;   // CLOSE: the peer's code, 1005 when it gave none.
    struct sc_bytes bytes; // Unmasked, inside `data`. CLOSE: the reason, checked to be UTF-8.
};

/// Decodes from `data`, unmasking in place, and reports at most one event. Call again with the rest until
/// it returns 0 or an error.
///
/// Returns the bytes consumed (> 0; a piece of a payload is consumed as it comes), or 0 when a header or a
/// control frame is incomplete: `data` is as it was, the caller keeps these at most 130 bytes and calls again
/// when more came. An empty final frame is an event of zero bytes, an empty fragment is none. After a close
/// frame or an error nothing is decoded: returns 0.
/// A text message whose payload is complete is checked to its end before `last` is reported.
/// Errors: -EPROTO    reserved bit or opcode, wrong masking, fragmented or long control frame, continuation
///                    without a message, new message inside one, overlong length form (RFC 6455 5.2 asks for
///                    the shortest), bad close payload or code: close with 1002.
///         -EILSEQ    text or close reason that is not UTF-8: close with 1007.
///         -EMSGSIZE  over frame_size_max or message_size_max, said at the header: close with 1009.
/// Source: RFC 6455 section 5; close codes: section 7.4 and the IANA registry (1000-1003, 1007-1014,
///         3000-4999 are accepted).
SC_CHECKED ssize_t sc_ws_decode(struct sc_ws_decoder *decoder, uint8_t *data, size_t size,
                                struct sc_ws_event *event);

#define SC_WS_HEADER_SIZE_MAX 14
#define SC_WS_CONTROL_SIZE_MAX 125
/// The bytes a frame header takes, without a mask.
static inline size_t sc_ws_header_size(uint64_t payload_size) {
    return payload_size < 126 ? 2 : payload_size < 65536 ? 4 : 10;
}
/// Writes a frame header (unmasked when `mask` is NULL) and returns its size.
size_t sc_ws_header_write(uint8_t *out, uint8_t opcode, bool final, uint64_t payload_size,
                          const uint8_t *_Nullable mask);
/// Writes a whole unmasked close frame with `code` (0: none) and returns its size; `out` has 127 bytes.
size_t sc_ws_close_write(uint8_t *out, uint16_t code, struct sc_bytes reason);

// ---- A message that is sent: text, given as parts, as one frame or, over SC_FRAGMENT_SIZE_MAX, as fragments (message.c)

/// The bytes of a message of `payload` bytes as a frame, or as fragments.
uint64_t sc_ws_message_size(uint64_t payload);
/// Writes a message of `payload` bytes, the sum of its parts, to `out`, which has sc_ws_message_size bytes.
void sc_ws_message_write(uint8_t *out, const struct sc_bytes *parts, size_t count,
                         uint64_t payload);

/// A message that is written part by part. Fields are the writer's own.
struct sc_ws_writer {
    uint8_t *at;
    uint64_t left;          // Payload bytes not written yet: 0 once the message is whole.
    uint64_t fragment_left; // Of them, in the current fragment.
    bool begun;
};
/// Owns: the writer borrows `out`, which has sc_ws_message_size bytes, until `left` is 0.
struct sc_ws_writer sc_ws_writer_begin(uint8_t *out, uint64_t payload);
/// The same for the payload alone, without headers: `out` has `payload` bytes.
struct sc_ws_writer sc_ws_writer_begin_bare(uint8_t *out, uint64_t payload);
void sc_ws_writer_put(struct sc_ws_writer *writer, struct sc_bytes part);

// ---- Masking and UTF-8, each with a scalar twin and one dispatch at first use

/// XORs `data` with the 4-byte mask, starting at `phase` (0-3) in the mask.
void sc_ws_mask(uint8_t *data, size_t size, const uint8_t mask[_Nonnull 4], unsigned phase);

/// A vector path, for tests that hold every path against the scalar one.
enum sc_simd_level { SC_SIMD_SCALAR, SC_SIMD_SSE2, SC_SIMD_AVX2 };
enum sc_simd_level sc_simd_level(void);
void sc_ws_mask_at(enum sc_simd_level level, uint8_t *data, size_t size,
                   const uint8_t mask[_Nonnull 4], unsigned phase);

#define SC_UTF8_ACCEPT 0u
#define SC_UTF8_REJECT 12u
/// Continues a check over a split text; start with SC_UTF8_ACCEPT. Ends in SC_UTF8_REJECT as soon as
/// the text cannot become valid any more. `level` is for tests, as with sc_ws_mask_at.
uint32_t sc_utf8_continue(uint32_t state, struct sc_bytes bytes);
uint32_t sc_utf8_continue_at(enum sc_simd_level level, uint32_t state, struct sc_bytes bytes);
/// Whether `bytes` is UTF-8 (RFC 3629: no surrogates, nothing overlong, nothing over U+10FFFF).
bool sc_utf8_valid(struct sc_bytes bytes);

#pragma clang assume_nonnull end

#endif
