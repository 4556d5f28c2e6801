// An HTTP/1.1 request head, RFC 9112 sections 2 to 5:
//
//   [CRLF] method SP target SP "HTTP/1." ("0" / "1") CRLF
//   *( name ":" OWS value OWS CRLF )
//   CRLF
//
// One pass from left to right that never looks ahead, so that a head is refused at its first wrong
// byte, and a prefix that was refused stays refused with whatever follows it.
#include "http.h"

#include <errno.h>

enum {
    TOKEN = 1,  // Of a method and a field name.
    TARGET = 2, // Of a request target: visible, but no fragment.
    VALUE = 4,  // Of a field value: visible, space, tab, and the bytes over 0x7f that are opaque.
};

static const uint8_t byte_classes[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = TOKEN | TARGET | VALUE,
    ['"'] = TARGET | VALUE,
    ['#'] = TOKEN | VALUE,
    ['$' ... '\''] = TOKEN | TARGET | VALUE,
    ['(' ... ')'] = TARGET | VALUE,
    ['*' ... '+'] = TOKEN | TARGET | VALUE,
    [','] = TARGET | VALUE,
    ['-' ... '.'] = TOKEN | TARGET | VALUE,
    ['/'] = TARGET | VALUE,
    ['0' ... '9'] = TOKEN | TARGET | VALUE,
    [':' ... '@'] = TARGET | VALUE,
    ['A' ... 'Z'] = TOKEN | TARGET | VALUE,
    ['[' ... ']'] = TARGET | VALUE,
    ['^' ... '`'] = TOKEN | TARGET | VALUE,
    ['a' ... 'z'] = TOKEN | TARGET | VALUE,
    ['{'] = TARGET | VALUE,
    ['|'] = TOKEN | TARGET | VALUE,
    ['}'] = TARGET | VALUE,
    ['~'] = TOKEN | TARGET | VALUE,
    [0x80 ... 0xff] = VALUE,
};

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
};

// The helpers below answer as the parser does: 1 done, 0 more bytes needed, negative broken.
enum { DONE = 1, MORE = 0 };

static struct sc_bytes take_run(struct cursor *cursor, uint8_t class) {
    const uint8_t *start = cursor->at;
    while (cursor->at < cursor->end && (byte_classes[*cursor->at] & class) != 0)
        cursor->at++;
    return (struct sc_bytes){start, (size_t)(cursor->at - start)};
}

static int expect(struct cursor *cursor, struct sc_bytes literal) {
    for (size_t i = 0; i < literal.size; i++) {
        if (cursor->at == cursor->end)
            return MORE;
        if (*cursor->at != literal.data[i])
            return -EBADMSG;
        cursor->at++;
    }
    return DONE;
}

static bool is_alpha(uint8_t byte) {
    return (uint8_t)((byte | 0x20) - 'a') < 26;
}

// The size of `scheme://authority` at the start of an absolute-form target, or 0.
static size_t authority_end(struct sc_bytes target) {
    size_t at = 0;
    while (at < target.size && (is_alpha(target.data[at]) ||
                                (at > 0 && memchr("0123456789+-.", target.data[at], 13) != NULL)))
        at++;
    if (at == 0 || target.size - at < 3 || memcmp(target.data + at, "://", 3) != 0)
        return 0;
    size_t start = at + 3;
    for (at = start; at < target.size && target.data[at] != '/' && target.data[at] != '?';)
        at++;
    return at == start ? 0 : at;
}

// Finds path and query in the target: `/path?query`, the same after `scheme://authority`, or `*`.
// The form that CONNECT uses is refused like any other that has no path.
static int split_target(struct sc_http_request *request) {
    struct sc_bytes rest = request->target;
    bool asterisk = rest.size == 1 && rest.data[0] == '*';
    if (!asterisk) {
        size_t skipped = rest.size > 0 && rest.data[0] == '/' ? 0 : authority_end(rest);
        rest = (struct sc_bytes){rest.data + skipped, rest.size - skipped};
        if (rest.size == 0 || rest.data[0] != '/')
            return -EBADMSG;
    }
    const uint8_t *mark = memchr(rest.data, '?', rest.size);
    size_t path_size = mark == NULL ? rest.size : (size_t)(mark - rest.data);
    size_t query_start = mark == NULL ? rest.size : path_size + 1;
    request->path = (struct sc_bytes){rest.data, path_size};
    request->query = (struct sc_bytes){rest.data + query_start, rest.size - query_start};
    return DONE;
}

static int parse_request_line(struct cursor *cursor, struct sc_http_request *request) {
    request->method = take_run(cursor, TOKEN);
    if (cursor->at == cursor->end)
        return MORE;
    if (request->method.size == 0)
        return -EBADMSG;
    int rc = expect(cursor, SC_LITERAL(" "));
    if (rc != DONE)
        return rc;
    request->target = take_run(cursor, TARGET);
    rc = expect(cursor, SC_LITERAL(" "));
    if (rc == DONE)
        rc = split_target(request);
    if (rc == DONE)
        rc = expect(cursor, SC_LITERAL("HTTP/1."));
    if (rc != DONE)
        return rc;
    if (cursor->at == cursor->end)
        return MORE;
    if (*cursor->at != '0' && *cursor->at != '1')
        return -EBADMSG;
    request->minor_version = (uint8_t)(*cursor->at++ - '0');
    return expect(cursor, SC_LITERAL("\r\n"));
}

static int parse_field(struct cursor *cursor, struct sc_http_header *header) {
    header->name = take_run(cursor, TOKEN);
    if (cursor->at == cursor->end)
        return MORE;
    if (header->name.size == 0)
        return -EBADMSG; // Also a folded line, which starts with white space.
    int rc = expect(cursor, SC_LITERAL(":"));
    if (rc != DONE)
        return rc;
    header->value = sc_http_trim(take_run(cursor, VALUE));
    return expect(cursor, SC_LITERAL("\r\n"));
}

static int parse_head(struct cursor *cursor, struct sc_http_request *request) {
    int rc = DONE;
    // RFC 9112 section 2.2: one empty line before the request line is forgiven.
    if (cursor->at < cursor->end && *cursor->at == '\r')
        rc = expect(cursor, SC_LITERAL("\r\n"));
    if (rc == DONE)
        rc = parse_request_line(cursor, request);
    if (rc != DONE)
        return rc;
    for (;;) {
        if (cursor->at == cursor->end)
            return MORE;
        if (*cursor->at == '\r')
            return expect(cursor, SC_LITERAL("\r\n"));
        if (request->header_count == SC_HTTP_HEADER_COUNT_MAX)
            return -E2BIG;
        rc = parse_field(cursor, &request->headers[request->header_count]);
        if (rc != DONE)
            return rc;
        request->header_count++;
    }
}

ssize_t sc_http_request_parse(const uint8_t *data, size_t size, struct sc_http_request *request) {
    size_t visible = size < SC_HTTP_HEAD_SIZE_MAX ? size : SC_HTTP_HEAD_SIZE_MAX;
    struct cursor cursor = {data, data + visible};
    request->header_count = 0;
    int rc = parse_head(&cursor, request);
    if (rc == DONE)
        return cursor.at - data;
    if (rc == MORE && visible == SC_HTTP_HEAD_SIZE_MAX)
        return -E2BIG;
    return rc;
}

static uint8_t lower(uint8_t byte) {
    return (uint8_t)(byte - 'A') < 26 ? byte | 0x20 : byte;
}

bool sc_http_text_equal(struct sc_bytes a, struct sc_bytes b) {
    if (a.size != b.size)
        return false;
    for (size_t i = 0; i < a.size; i++)
        if (lower(a.data[i]) != lower(b.data[i]))
            return false;
    return true;
}

struct sc_bytes sc_http_trim(struct sc_bytes bytes) {
    while (bytes.size > 0 && (bytes.data[0] == ' ' || bytes.data[0] == '\t')) {
        bytes.data++;
        bytes.size--;
    }
    while (bytes.size > 0 &&
           (bytes.data[bytes.size - 1] == ' ' || bytes.data[bytes.size - 1] == '\t'))
        bytes.size--;
    return bytes;
}

struct sc_bytes sc_http_header_get(const struct sc_http_request *request, const char *name) {
    struct sc_bytes wanted = {(const uint8_t *)name, strlen(name)};
    for (uint32_t i = request->header_count; i > 0; i--)
        if (sc_http_text_equal(request->headers[i - 1].name, wanted))
            return request->headers[i - 1].value;
    return (struct sc_bytes){NULL, 0};
}

// The value of a hexadecimal digit, or -1.
static int hex_value(uint8_t digit) {
    if ((uint8_t)(digit - '0') < 10)
        return digit - '0';
    uint8_t letter = digit | 0x20;
    return (uint8_t)(letter - 'a') < 6 ? letter - 'a' + 10 : -1;
}

ssize_t sc_http_path_decode(struct sc_bytes in, uint8_t *out) {
    size_t size = 0;
    for (size_t i = 0; i < in.size; i++) {
        if (in.data[i] != '%') {
            out[size++] = in.data[i];
            continue;
        }
        if (in.size - i < 3)
            return -EBADMSG;
        int high = hex_value(in.data[i + 1]);
        int low = hex_value(in.data[i + 2]);
        if (high < 0 || low < 0)
            return -EBADMSG;
        out[size++] = (uint8_t)(high << 4 | low);
        i += 2;
    }
    return sc_utf8_valid((struct sc_bytes){out, size}) ? (ssize_t)size : -EBADMSG;
}
