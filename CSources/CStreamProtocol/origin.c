// Which pages may open a connection. A browser says in the Origin header where a page comes from, and no page can lie
// about it; clients that are no browsers send none. RFC 6454 section 6.2 has the form of the header.
#include <arpa/inet.h>
#include <stdio.h>

#include "CStreamProtocol.h"

// The host of an origin or of a Host header: a name, or an address without brackets.
struct host {
    struct sc_bytes text;
    bool bracketed;
};

static bool is_digit(uint8_t byte) {
    return byte >= '0' && byte <= '9';
}

static uint8_t lower(uint8_t byte) {
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte + 32) : byte;
}

static bool equal(struct sc_bytes text, const char *lower_case) {
    size_t size = strlen(lower_case);
    if (text.size != size)
        return false;
    for (size_t i = 0; i < size; i++)
        if (lower(text.data[i]) != (uint8_t)lower_case[i])
            return false;
    return true;
}

static bool ends_with(struct sc_bytes text, const char *lower_case) {
    size_t size = strlen(lower_case);
    return text.size > size &&
           equal((struct sc_bytes){text.data + text.size - size, size}, lower_case);
}

// Reads `host`, `host:port`, `[address]` or `[address]:port`. False: it is none of these.
// Strict on purpose: what is not read in full is not local. A browser would show a page its own way of reading a host, and a
// lax reading here would let in what that shows as a foreign one.
static bool read_host(struct sc_bytes text, struct host *out) {
    size_t end = 0;
    out->bracketed = text.size > 0 && text.data[0] == '[';
    if (out->bracketed) {
        const uint8_t *close = memchr(text.data, ']', text.size);
        if (close == NULL)
            return false;
        end = (size_t)(close - text.data) + 1;
        out->text = (struct sc_bytes){text.data + 1, end - 2};
    } else {
        while (end < text.size && text.data[end] != ':')
            end++;
        out->text = (struct sc_bytes){text.data, end};
    }
    if (out->text.size == 0)
        return false;
    if (end == text.size)
        return true;
    if (text.data[end] != ':' || end + 1 == text.size)
        return false;
    for (size_t i = end + 1; i < text.size; i++)
        if (!is_digit(text.data[i]))
            return false;
    return true;
}

// An address of 4 or 16 bytes; 0: the host is a name.
// By the C library, so that `127.1` or `0x7f000001`, which only some programs take for addresses, are names.
static size_t read_address(const struct host *host, uint8_t out[16]) {
    char text[INET6_ADDRSTRLEN];
    if (host->text.size >= sizeof text || memchr(host->text.data, '\0', host->text.size) != NULL)
        return 0;
    memcpy(text, host->text.data, host->text.size);
    text[host->text.size] = '\0';
    if (host->bracketed)
        return inet_pton(AF_INET6, text, out) == 1 ? 16 : 0;
    return inet_pton(AF_INET, text, out) == 1 ? 4 : 0;
}

static bool is_loopback(const uint8_t address[16], size_t size) {
    static const uint8_t any[4], one[16] = {[15] = 1};
    return size == 4 ? address[0] == 127 || memcmp(address, any, 4) == 0
                     : memcmp(address, one, 16) == 0;
}

bool sc_origin_is_local(struct sc_bytes origin, struct sc_bytes host_header) {
    static const char *const schemes[] = {"http://", "https://"};
    struct host host = {0}, asked;
    bool known = false;
    for (size_t i = 0; i < 2 && !known; i++) {
        size_t size = strlen(schemes[i]);
        known = origin.size > size && equal((struct sc_bytes){origin.data, size}, schemes[i]) &&
                read_host((struct sc_bytes){origin.data + size, origin.size - size}, &host);
    }
    if (!known)
        return false;
    if (!host.bracketed && (equal(host.text, "localhost") || ends_with(host.text, ".localhost")))
        return true;
    uint8_t address[16], other[16];
    size_t size = read_address(&host, address);
    if (size == 0)
        return false;
    if (is_loopback(address, size))
        return true;
    // A name could be made to point here by whoever owns it; an address is what the client has connected to.
    return host_header.data != NULL && read_host(host_header, &asked) &&
           read_address(&asked, other) == size && memcmp(address, other, size) == 0;
}

static bool is_listed(const char *listed, struct sc_bytes origin) {
    assert(listed != NULL);
    for (const char *line = listed; *line != '\0';) {
        size_t size = strcspn(line, "\n"), at = 0;
        while (at < size && at < origin.size && lower(origin.data[at]) == (uint8_t)line[at])
            at++;
        if (at == size && at == origin.size)
            return true;
        line += size + (line[size] == '\n');
    }
    return false;
}

static bool is_allowed(enum sc_origin_rule rule, const char *listed, struct sc_bytes origin,
                       struct sc_bytes host_header) {
    switch (rule) {
    case SC_ORIGINS_ALL:
        return true;
    case SC_ORIGINS_LISTED:
        return is_listed(listed, origin);
    case SC_ORIGINS_LOCAL:
        return sc_origin_is_local(origin, host_header);
    }
    return false;
}

bool sc_origin_refused(enum sc_origin_rule rule, const char *listed,
                       const struct sc_http_request *request, struct sc_bytes *origin) {
    if (rule == SC_ORIGINS_ALL)
        return false;
    struct sc_bytes host = sc_http_header_get(request, "Host");
    // Every one of several Origin headers counts.
    for (uint32_t i = 0; i < request->header_count; i++) {
        *origin = request->headers[i].value;
        if (equal(request->headers[i].name, "origin") && !is_allowed(rule, listed, *origin, host))
            return true;
    }
    return false;
}

// What may be shown: a page chooses some of it.
#define SHOWN_MAX 128u

size_t sc_origin_describe(bool is_stream_port, struct sc_bytes origin,
                          uint8_t out[SC_ORIGIN_TEXT_SIZE_MAX]) {
    uint8_t shown[SHOWN_MAX + 1];
    size_t size = origin.size < SHOWN_MAX ? origin.size : SHOWN_MAX;
    for (size_t i = 0; i < size; i++)
        shown[i] = origin.data[i] > ' ' && origin.data[i] < 0x7F ? origin.data[i] : '?';
    shown[size] = '\0';
    int written =
        snprintf((char *)out, SC_ORIGIN_TEXT_SIZE_MAX,
                 "pages of the origin %s may not connect: see the setting `origins` of %s",
                 (const char *)shown, is_stream_port ? "iii-stream" : "iii-worker-manager");
    assert(written > 0 && (size_t)written < SC_ORIGIN_TEXT_SIZE_MAX);
    return (size_t)written;
}
