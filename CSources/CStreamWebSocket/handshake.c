// The opening handshake of RFC 6455 section 4, and the answers to what is none.
#include "http.h"

#include <errno.h>

// ---- Judging a request

static struct sc_bytes text_bytes(const char *text) {
    return (struct sc_bytes){(const uint8_t *)text, strlen(text)};
}

// Takes the next element of a comma list off its front, without the white space around it. Empty
// elements are elements: nobody asks for one.
static struct sc_bytes list_take(struct sc_bytes *list) {
    const uint8_t *comma = memchr(list->data, ',', list->size);
    size_t size = comma == NULL ? list->size : (size_t)(comma - list->data);
    size_t taken = comma == NULL ? size : size + 1;
    struct sc_bytes element = {list->data, size};
    *list = (struct sc_bytes){list->data + taken, list->size - taken};
    return sc_http_trim(element);
}

// Whether `wanted` stands in one of the comma lists under `name`.
static bool list_has(const struct sc_http_request *request, const char *name,
                     struct sc_bytes wanted, bool (*equal)(struct sc_bytes, struct sc_bytes)) {
    for (uint32_t i = 0; i < request->header_count; i++) {
        if (!sc_http_text_equal(request->headers[i].name, text_bytes(name)))
            continue;
        struct sc_bytes list = request->headers[i].value;
        while (list.size > 0)
            if (equal(list_take(&list), wanted))
                return true;
    }
    return false;
}

bool sc_ws_protocol_offered(const struct sc_http_request *request, const char *protocol) {
    return list_has(request, "sec-websocket-protocol", text_bytes(protocol), sc_bytes_equal);
}

// The value of the only header called `name`; data == NULL when there is none, or more than one.
static struct sc_bytes header_once(const struct sc_http_request *request, const char *name) {
    struct sc_bytes value = {NULL, 0};
    for (uint32_t i = 0; i < request->header_count; i++) {
        if (!sc_http_text_equal(request->headers[i].name, text_bytes(name)))
            continue;
        if (value.data != NULL)
            return (struct sc_bytes){NULL, 0};
        value = request->headers[i].value;
    }
    return value;
}

static bool is_alphanumeric(uint8_t byte) {
    return (uint8_t)(byte - '0') < 10 || (uint8_t)((byte | 0x20) - 'a') < 26;
}

// Whether `host` has only bytes of `uri-host [":" port]` (RFC 9110 section 7.2). Empty is allowed.
static bool host_valid(struct sc_bytes host) {
    static const char others[] = "-._~%!$&'()*+,;=:[]";
    for (size_t i = 0; i < host.size; i++)
        if (!is_alphanumeric(host.data[i]) &&
            memchr(others, host.data[i], sizeof others - 1) == NULL)
            return false;
    return true;
}

// Whether `key` is base64 of 16 bytes. The four bits that the last digit has to spare may be
// anything: the key is never decoded, and there are clients that make one up.
static bool key_valid(struct sc_bytes key) {
    if (key.size != 24 || key.data[22] != '=' || key.data[23] != '=')
        return false;
    for (size_t i = 0; i < 22; i++)
        if (!is_alphanumeric(key.data[i]) && key.data[i] != '+' && key.data[i] != '/')
            return false;
    return true;
}

// What follows an opening request is frames, so it cannot have a body. A field that says otherwise counts wherever
// it stands: another reader of the same bytes may go by another of two (RFC 9112 section 6.3).
static bool has_body(const struct sc_http_request *request) {
    for (uint32_t i = 0; i < request->header_count; i++) {
        const struct sc_http_header *header = &request->headers[i];
        if (sc_http_text_equal(header->name, SC_LITERAL("transfer-encoding")) ||
            (sc_http_text_equal(header->name, SC_LITERAL("content-length")) &&
             !sc_bytes_equal(header->value, SC_LITERAL("0"))))
            return true;
    }
    return false;
}

int sc_ws_handshake_check(const struct sc_http_request *request, struct sc_bytes *key) {
    if (!sc_bytes_equal(request->method, SC_LITERAL("GET")))
        return 405;
    struct sc_bytes host = header_once(request, "host");
    if (request->minor_version == 0 || host.data == NULL || !host_valid(host) || has_body(request))
        return 400;
    if (!list_has(request, "connection", SC_LITERAL("upgrade"), sc_http_text_equal) ||
        !list_has(request, "upgrade", SC_LITERAL("websocket"), sc_http_text_equal))
        return 400;
    struct sc_bytes version = header_once(request, "sec-websocket-version");
    if (version.data == NULL)
        return 400;
    if (!sc_bytes_equal(version, SC_LITERAL("13")))
        return 426;
    *key = header_once(request, "sec-websocket-key");
    return key->data != NULL && key_valid(*key) ? 101 : 400;
}

// ---- Writing

struct text {
    uint8_t *out;
    size_t size;
    size_t capacity;
};

// Appends all of `bytes`, or only counts it when it does not fit.
static void append(struct text *text, struct sc_bytes bytes) {
    if (bytes.size > 0 && text->size <= text->capacity && bytes.size <= text->capacity - text->size)
        memcpy(text->out + text->size, bytes.data, bytes.size);
    text->size += bytes.size;
}

static void append_text(struct text *text, const char *words) {
    append(text, text_bytes(words));
}

size_t sc_ws_response_write(uint8_t *out, const char accept[28], const char *protocol) {
    struct text text = {out, 0, SC_WS_RESPONSE_SIZE_MAX};
    append_text(&text, "HTTP/1.1 101 Switching Protocols\r\n"
                       "Upgrade: websocket\r\n"
                       "Connection: Upgrade\r\n"
                       "Sec-WebSocket-Accept: ");
    append(&text, (struct sc_bytes){(const uint8_t *)accept, 28});
    if (protocol != NULL) {
        append_text(&text, "\r\nSec-WebSocket-Protocol: ");
        append_text(&text, protocol);
    }
    append_text(&text, "\r\n\r\n");
    assert(text.size <= SC_WS_RESPONSE_SIZE_MAX); // A sub-protocol is a name of ours, and short.
    return text.size;
}

struct refusal {
    int status;
    const char *reason;
    const char *headers; // Beyond those that all have.
    const char *body;
};

static const struct refusal refusals[] = {
    {400, "Bad Request", "Connection: close\r\n",
     "This is not a well-formed HTTP/1.1 request that opens a WebSocket.\n"},
    // RFC 9110 section 11.6.1: a 401 names a scheme.
    {401, "Unauthorized", "Connection: close\r\nWWW-Authenticate: Bearer\r\n",
     "This connection was not authorized.\n"},
    {403, "Forbidden", "Connection: close\r\n", "Pages of this origin may not connect.\n"},
    {404, "Not Found", "Connection: close\r\n", "There is nothing at this path.\n"},
    {405, "Method Not Allowed", "Connection: close\r\nAllow: GET\r\n",
     "Only GET with an upgrade to WebSocket is served here.\n"},
    // RFC 9110 section 7.8: who sends Upgrade lists it in Connection.
    {426, "Upgrade Required",
     "Connection: close, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
     "Only version 13 of the WebSocket protocol is spoken here.\n"},
    {431, "Request Header Fields Too Large", "Connection: close\r\n",
     "The head of the request is too large.\n"},
    {503, "Service Unavailable", "Connection: close\r\nRetry-After: 2\r\n",
     "This server cannot take the connection now.\n"},
};

static const struct refusal *refusal_find(int status) {
    for (size_t i = 0; i < sizeof refusals / sizeof refusals[0]; i++)
        if (refusals[i].status == status)
            return &refusals[i];
    return NULL;
}

static void append_number(struct text *text, uint64_t number) {
    uint8_t digits[20];
    append(text, (struct sc_bytes){digits, sc_decimal_write(digits, number)});
}

static size_t refusal_write(uint8_t *out, const struct refusal *refusal, struct sc_bytes body,
                            bool readable) {
    struct text text = {out, 0, SC_WS_RESPONSE_SIZE_MAX};
    append_text(&text, "HTTP/1.1 ");
    append_number(&text, (uint64_t)refusal->status);
    append_text(&text, " ");
    append_text(&text, refusal->reason);
    append_text(&text, "\r\n");
    append_text(&text, refusal->headers);
    if (readable)
        append_text(&text, "Access-Control-Allow-Origin: *\r\nVary: Origin\r\n");
    append_text(&text, "Content-Type: text/plain; charset=utf-8\r\nContent-Length: ");
    append_number(&text, body.size + 1);
    append_text(&text, "\r\n\r\n");
    append(&text, body);
    append_text(&text, "\n");
    assert(text.size <= SC_WS_RESPONSE_SIZE_MAX);
    return text.size;
}

size_t sc_http_error_write(uint8_t *out, int status, bool readable) {
    const struct refusal *refusal = refusal_find(status);
    assert(refusal != NULL);
    struct sc_bytes body = {(const uint8_t *)refusal->body, strlen(refusal->body) - 1};
    return refusal_write(out, refusal, body, readable);
}

size_t sc_http_refusal_write(uint8_t *out, int status, struct sc_bytes body) {
    const struct refusal *refusal = refusal_find(status);
    assert(refusal != NULL);
    assert(body.size <= SC_HTTP_BODY_SIZE_MAX);
    return refusal_write(out, refusal, body, false);
}

ssize_t sc_ws_request_write(uint8_t *out, size_t capacity, struct sc_bytes host,
                            struct sc_bytes target, const char key[24]) {
    struct text text = {out, 0, capacity};
    append_text(&text, "GET ");
    append(&text, target);
    append_text(&text, " HTTP/1.1\r\nHost: ");
    append(&text, host);
    append_text(&text, "\r\nUpgrade: websocket\r\n"
                       "Connection: Upgrade\r\n"
                       "Sec-WebSocket-Version: 13\r\n"
                       "Sec-WebSocket-Key: ");
    append(&text, (struct sc_bytes){(const uint8_t *)key, 24});
    append_text(&text, "\r\n\r\n");
    return text.size <= capacity ? (ssize_t)text.size : -ENOSPC;
}
