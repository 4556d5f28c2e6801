// Request heads: the verdict on any prefix fits the verdict on the whole, every slice is where the text
// says, and the handshake and path functions take whatever a head may hold.
//
// Input: the bytes of a connection.
#include "CStreamWebSocket.h"
#include "fuzz.h"

#include <errno.h>

// Parses a copy of exactly `size` bytes.
static ssize_t parse(const uint8_t *data, size_t size, struct sc_http_request *request,
                     uint8_t **copy) {
    *copy = copy_of(data, size);
    ssize_t rc = sc_http_request_parse(*copy, size, request);
    CHECK(rc == -EBADMSG || rc == -E2BIG || (rc >= 0 && (size_t)rc <= size));
    return rc;
}

static ssize_t verdict(const uint8_t *data, size_t size) {
    static struct sc_http_request request;
    uint8_t *copy;
    ssize_t rc = parse(data, size, &request, &copy);
    free(copy);
    return rc;
}

// A prefix is undecided up to the byte that decides, and judged like the whole from there on.
static void check_prefixes(const uint8_t *data, size_t size, ssize_t whole) {
    size_t low = 0, high = size; // The shortest prefix with a verdict lies in (low, high].
    if (whole == 0 || size == 0) {
        for (size_t step = size / 64 + 1, at = 0; at < size; at += step)
            CHECK(verdict(data, at) == 0);
        return;
    }
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        ssize_t rc = verdict(data, middle);
        CHECK(rc == 0 || rc == whole);
        *(rc == 0 ? &low : &high) = middle;
    }
    if (whole > 0)
        CHECK(high == (size_t)whole);
    if (whole == -E2BIG)
        CHECK(high <= SC_HTTP_HEAD_SIZE_MAX);
    for (size_t step = size / 64 + 1, at = 0; at < size; at += step)
        CHECK(verdict(data, at) == (at < high ? 0 : whole));
}

static void check_inside(struct sc_bytes slice, const uint8_t *data, size_t size) {
    CHECK(slice.data >= data && slice.data + slice.size <= data + size);
}

// The head, put together from its slices, is the head but for white space around values.
static void check_slices(const struct sc_http_request *request, const uint8_t *data, size_t size) {
    const uint8_t *at = data;
    if (*at == '\r')
        at += 2;
    CHECK(request->method.data == at && request->method.size > 0);
    at += request->method.size;
    CHECK(*at++ == ' ' && request->target.data == at && request->target.size > 0);
    at += request->target.size;
    CHECK(memcmp(at, " HTTP/1.", 8) == 0 && at[8] == '0' + request->minor_version);
    CHECK(memcmp(at + 9, "\r\n", 2) == 0);
    at += 11;
    CHECK(request->header_count <= SC_HTTP_HEADER_COUNT_MAX);
    for (uint32_t i = 0; i < request->header_count; i++) {
        const struct sc_http_header *header = &request->headers[i];
        CHECK(header->name.data == at && header->name.size > 0);
        at += header->name.size;
        CHECK(*at++ == ':');
        check_inside(header->value, data, size);
        for (; at < header->value.data; at++)
            CHECK(*at == ' ' || *at == '\t');
        for (size_t j = 0; j < header->value.size; j++, at++)
            CHECK((*at >= 0x20 && *at != 0x7F) || *at == '\t');
        for (; *at == ' ' || *at == '\t'; at++) {
        }
        CHECK(memcmp(at, "\r\n", 2) == 0);
        at += 2;
    }
    CHECK(memcmp(at, "\r\n", 2) == 0 && at + 2 == data + size);

    check_inside(request->path, request->target.data, request->target.size);
    check_inside(request->query, request->target.data, request->target.size);
    const uint8_t *path_end = request->path.data + request->path.size;
    const uint8_t *target_end = request->target.data + request->target.size;
    CHECK(memchr(request->path.data, '?', request->path.size) == NULL);
    CHECK(request->path.data[0] == '/' || request->target.size == 1);
    CHECK(path_end == target_end || *path_end == '?');
    CHECK(request->query.data + request->query.size == target_end);
}

static int hex(uint8_t c) {
    const char *digits = "0123456789abcdef", *at = memchr(digits, c >= 'A' ? c | 0x20 : c, 16);
    return at == NULL ? -1 : (int)(at - digits);
}

static bool is_utf8(const uint8_t *p, size_t size) {
    for (size_t i = 0; i < size;) {
        uint32_t c = p[i];
        size_t more = c < 0x80 ? 0 : c >> 5 == 6 ? 1 : c >> 4 == 14 ? 2 : c >> 3 == 30 ? 3 : 9;
        if (more == 9 || size - i <= more)
            return false;
        c &= more == 0 ? 0x7F : 0x3Fu >> more;
        for (size_t j = 1; j <= more; j++) {
            if (p[i + j] >> 6 != 2)
                return false;
            c = c << 6 | (p[i + j] & 0x3F);
        }
        static const uint32_t least[] = {0, 0x80, 0x800, 0x10000};
        if (c < least[more] || c > 0x10FFFF || (c >= 0xD800 && c < 0xE000))
            return false;
        i += more + 1;
    }
    return true;
}

static void check_decoding(struct sc_bytes text) {
    uint8_t *naive = malloc(text.size + 1), *out = malloc(text.size);
    uint8_t *in_place = copy_of(text.data, text.size);
    size_t size = 0;
    bool good = true;
    for (size_t i = 0; good && i < text.size; i++) {
        uint8_t c = text.data[i];
        if (c == '%') {
            int high = i + 1 < text.size ? hex(text.data[i + 1]) : -1;
            int low = i + 2 < text.size ? hex(text.data[i + 2]) : -1;
            good = high >= 0 && low >= 0;
            c = (uint8_t)(high * 16 + low);
            i += 2;
        }
        naive[size++] = c;
    }
    good = good && is_utf8(naive, size);
    ssize_t want = good ? (ssize_t)size : -EBADMSG;
    CHECK(sc_http_path_decode(text, out) == want);
    CHECK(sc_http_path_decode((struct sc_bytes){in_place, text.size}, in_place) == want);
    if (want > 0)
        CHECK(memcmp(out, naive, size) == 0 && memcmp(in_place, naive, size) == 0);
    free(naive);
    free(out);
    free(in_place);
}

static void check_handshake(const struct sc_http_request *request) {
    struct sc_bytes key = {NULL, 0};
    int status = sc_ws_handshake_check(request, &key);
    CHECK(status == 101 || status == 400 || status == 405 || status == 426);
    if (status == 101)
        CHECK(key.size == 24 && key.data[23] == '=' &&
              sc_bytes_equal(request->method, SC_LITERAL("GET")) && request->minor_version == 1);
    else {
        uint8_t out[SC_WS_RESPONSE_SIZE_MAX];
        CHECK(sc_http_error_write(out, status, true) <= sizeof out);
    }
    if (sc_ws_protocol_offered(request, "a"))
        CHECK(sc_http_header_get(request, "Sec-WebSocket-Protocol").data != NULL);
    for (uint32_t i = 0; i < request->header_count; i++) {
        uint8_t name[64];
        struct sc_bytes own = request->headers[i].name;
        if (own.size >= sizeof name)
            continue;
        memcpy(name, own.data, own.size);
        name[own.size] = 0;
        CHECK(sc_http_header_get(request, (const char *)name).data >=
              request->headers[i].value.data);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct sc_http_request request;
    uint8_t *copy;
    memset(&request, 0xAA, sizeof request);
    ssize_t rc = parse(data, size, &request, &copy);
    if (rc > 0) {
        check_slices(&request, copy, (size_t)rc);
        check_decoding(request.path);
        check_decoding(request.query);
        check_handshake(&request);
    }
    check_prefixes(data, size, rc);
    check_decoding((struct sc_bytes){data, size});
    free(copy);
    return 0;
}
