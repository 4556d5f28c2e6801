// Origins: whatever a page says it is, the rules decide, what is local is what a naive reading takes for it, and what is
// shown of it can be shown.
//
// Input: an origin, a zero, and a Host header.
#include "CStreamProtocol.h"
#include "fuzz.h"

#include <arpa/inet.h>
#include <strings.h>

struct authority {
    char host[512];
    bool bracketed, valid;
};

// `host[:port]`, read by the C library's means.
static struct authority read_authority(struct sc_bytes text) {
    struct authority out = {0};
    char copy[512];
    if (text.size == 0 || text.size >= sizeof copy || memchr(text.data, 0, text.size) != NULL)
        return out;
    memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    char *end;
    out.bracketed = copy[0] == '[';
    if (out.bracketed) {
        end = strchr(copy, ']');
        if (end == NULL)
            return out;
        memcpy(out.host, copy + 1, (size_t)(end - copy) - 1);
        end++;
    } else {
        end = copy + strcspn(copy, ":");
        memcpy(out.host, copy, (size_t)(end - copy));
    }
    bool port = end[0] == ':' && end[1] != 0 && end[1 + strspn(end + 1, "0123456789")] == 0;
    out.valid = out.host[0] != 0 && (*end == 0 || port);
    return out;
}

static size_t address_of(const struct authority *authority, uint8_t out[16]) {
    if (!authority->valid)
        return 0;
    if (authority->bracketed)
        return inet_pton(AF_INET6, authority->host, out) == 1 ? 16 : 0;
    return inet_pton(AF_INET, authority->host, out) == 1 ? 4 : 0;
}

static bool is_local_model(struct sc_bytes origin, struct sc_bytes host) {
    size_t scheme = 0;
    if (origin.size > 7 && strncasecmp((const char *)origin.data, "http://", 7) == 0)
        scheme = 7;
    else if (origin.size > 8 && strncasecmp((const char *)origin.data, "https://", 8) == 0)
        scheme = 8;
    if (scheme == 0)
        return false;
    struct authority page =
        read_authority((struct sc_bytes){origin.data + scheme, origin.size - scheme});
    struct authority asked = read_authority(host);
    size_t length = strlen(page.host);
    if (!page.valid)
        return false;
    if (!page.bracketed &&
        (strcasecmp(page.host, "localhost") == 0 ||
         (length > 10 && strcasecmp(page.host + length - 10, ".localhost") == 0)))
        return true;
    uint8_t address[16], other[16];
    size_t size = address_of(&page, address);
    if (size == 0)
        return false;
    static const uint8_t one[16] = {[15] = 1}, any[4];
    if (size == 4 ? address[0] == 127 || memcmp(address, any, 4) == 0
                  : memcmp(address, one, 16) == 0)
        return true;
    return address_of(&asked, other) == size && memcmp(address, other, size) == 0;
}

static void check_local(struct sc_bytes origin, struct sc_bytes host) {
    // Names that are longer than any, or have a zero, are read by the other side only.
    if (origin.size < 500 && host.size < 500 && memchr(origin.data, 0, origin.size) == NULL &&
        (host.size == 0 || memchr(host.data, 0, host.size) == NULL))
        CHECK(sc_origin_is_local(origin, host) == is_local_model(origin, host));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    uint8_t *copy = copy_of(data, size);
    const uint8_t *zero = size == 0 ? NULL : memchr(copy, 0, size);
    size_t end = zero == NULL ? size : (size_t)(zero - copy);
    uint8_t *first = copy_of(copy, end), *second = copy_of(copy + end, size - end);
    struct sc_bytes origin = {first, end}, host = {second, size - end};
    if (host.size > 0) { // Without the zero.
        host.data++;
        host.size--;
    }
    check_local(origin, host);
    check_local(origin, (struct sc_bytes){0});
    if (sc_origin_is_local(origin, (struct sc_bytes){0}))
        CHECK(sc_origin_is_local(origin, host)); // What is this machine's is so for every host.
    uint8_t out[SC_ORIGIN_TEXT_SIZE_MAX];
    size_t shown = sc_origin_describe(size % 2 == 0, origin, out);
    CHECK(shown > 0 && shown < sizeof out);
    for (size_t i = 0; i < shown; i++)
        CHECK(out[i] >= ' ' && out[i] < 0x7F);
    static struct sc_http_request request;
    request.header_count = 2;
    request.headers[0] = (struct sc_http_header){SC_LITERAL("Origin"), origin};
    request.headers[1] = (struct sc_http_header){SC_LITERAL("Host"), host};
    struct sc_bytes refused;
    CHECK(!sc_origin_refused(SC_ORIGINS_ALL, NULL, &request, &refused));
    CHECK(sc_origin_refused(SC_ORIGINS_LOCAL, NULL, &request, &refused) ==
          !sc_origin_is_local(origin, host));
    if (!sc_origin_refused(SC_ORIGINS_LISTED, "http://a\nhttps://b:1", &request, &refused))
        CHECK(origin.size == 8 || origin.size == 11);
    free(first);
    free(second);
    free(copy);
    return 0;
}
