// Strings: escapes off and on, comparison, and how an error names a value of the wrong kind.
#include "bytes.h"

// The scanner has seen that these are hexadecimal digits.
static unsigned hex4(const uint8_t *p) {
    unsigned value = 0;
    for (int i = 0; i < 4; i++) {
        unsigned c = p[i];
        value = value << 4 | (c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    return value;
}

// A character is at most as long as its escape, so texts may be unescaped in place.
static size_t write_utf8(unsigned c, uint8_t *out) {
    if (c < 0x80) {
        out[0] = (uint8_t)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (uint8_t)(0xC0 | c >> 6);
        out[1] = (uint8_t)(0x80 | (c & 0x3F));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (uint8_t)(0xE0 | c >> 12);
        out[1] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
        out[2] = (uint8_t)(0x80 | (c & 0x3F));
        return 3;
    }
    out[0] = (uint8_t)(0xF0 | c >> 18);
    out[1] = (uint8_t)(0x80 | (c >> 12 & 0x3F));
    out[2] = (uint8_t)(0x80 | (c >> 6 & 0x3F));
    out[3] = (uint8_t)(0x80 | (c & 0x3F));
    return 4;
}

// Decodes the escape at `*p`, which it moves on. Writes at most 4 bytes, never more than it read.
static size_t decode_escape(const uint8_t **p, uint8_t *out) {
    static const char letters[] = "bfnrt", meaning[] = "\b\f\n\r\t";
    uint8_t c = (*p)[1];
    *p += 2;
    if (c != 'u') {
        const char *letter = memchr(letters, c, 5);
        out[0] = letter == NULL ? c : (uint8_t)meaning[letter - letters];
        return 1;
    }
    unsigned unit = hex4(*p);
    *p += 4;
    if (unit >= 0xD800 && unit < 0xDC00) {
        unit = 0x10000 + ((unit - 0xD800) << 10) + (hex4(*p + 2) - 0xDC00);
        *p += 6;
    }
    return write_utf8(unit, out);
}

// Valid input only: the scanner refuses lone surrogates and unknown escapes.
size_t sc_json_unescape(struct sc_bytes raw, uint8_t *out) {
    if (raw.size == 0)
        return 0;
    const uint8_t *p = raw.data, *end = p + raw.size;
    uint8_t *to = out;
    while (p < end) {
        const uint8_t *slash = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((slash == NULL ? end : slash) - p);
        memcpy(to, p, plain);
        to += plain;
        p += plain;
        if (slash != NULL)
            to += decode_escape(&p, to);
    }
    return (size_t)(to - out);
}

size_t sc_json_unescaped_size(struct sc_bytes raw) {
    if (raw.size == 0)
        return 0;
    const uint8_t *p = raw.data, *end = p + raw.size;
    size_t size = 0;
    uint8_t character[4];
    while (p < end) {
        const uint8_t *slash = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((slash == NULL ? end : slash) - p);
        size += plain;
        p += plain;
        if (slash != NULL)
            size += decode_escape(&p, character);
    }
    return size;
}

// The bytes of a character of valid UTF-8 that begins with `lead`.
static size_t utf8_size(uint8_t lead) {
    return lead < 0x80 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
}

// Cuts between characters as they are written, so that what is left is still a string.
size_t sc_json_prefix_size(struct sc_bytes raw, size_t size) {
    size_t at = 0, unescaped = 0;
    while (at < raw.size) {
        const uint8_t *next = raw.data + at;
        uint8_t character[4];
        size_t step;
        if (*next == '\\') {
            step = decode_escape(&next, character);
        } else {
            step = utf8_size(*next);
            next += step;
        }
        if (unescaped + step > size)
            break;
        unescaped += step;
        at = (size_t)(next - raw.data);
    }
    return at;
}

// Without memory: character by character, as far as they are the same.
static bool escaped_equal(struct sc_bytes raw, struct sc_bytes text) {
    const uint8_t *p = raw.data, *end = p + raw.size;
    size_t at = 0;
    uint8_t character[4];
    while (p < end) {
        size_t size = 1;
        character[0] = *p;
        if (*p == '\\')
            size = decode_escape(&p, character);
        else
            p++;
        if (text.size - at < size || memcmp(text.data + at, character, size) != 0)
            return false;
        at += size;
    }
    return at == text.size;
}

bool sc_json_string_equal(struct sc_bytes raw, bool escaped, struct sc_bytes text) {
    if (!escaped)
        return sc_bytes_equal(raw, text);
    // An escape is at most six times as long as what it says.
    return raw.size > text.size && raw.size <= 6 * text.size && escaped_equal(raw, text);
}

static bool must_escape(uint8_t c) {
    return c == '"' || c == '\\' || c < 0x20;
}

// The short form of an escape, or 0 when there is none.
// The spelling of the original: what has a letter gets it, the rest is \u00XX.
static uint8_t short_escape(uint8_t c) {
    static const char from[] = "\b\f\n\r\t\"\\", to[] = "bfnrt\"\\";
    const char *at = memchr(from, c, sizeof from - 1);
    return at == NULL ? 0 : (uint8_t)to[at - from];
}

static const uint8_t *plain_end(const uint8_t *p, const uint8_t *end) {
    for (;;) {
        p = run_end(p, end);
        while (p < end && *p < 0x80 && !must_escape(*p))
            p++;
        if (p == end || *p < 0x80)
            return p;
        while (p < end && *p >= 0x80)
            p++;
    }
}

void sc_json_write_string(struct sc_buffer *out, struct sc_bytes text) {
    sc_buffer_append(out, "\"", 1);
    const uint8_t *p = text.data, *end = text.size == 0 ? p : p + text.size;
    while (p < end) {
        const uint8_t *from = p;
        p = plain_end(p, end);
        sc_buffer_append(out, from, (size_t)(p - from));
        if (p == end)
            break;
        uint8_t c = *p++, letter = short_escape(c);
        char escape[6] = {'\\', (char)letter};
        if (letter == 0)
            memcpy(
                escape,
                (char[]){'\\', 'u', '0', '0', (char)('0' + (c >> 4)), "0123456789abcdef"[c & 15]},
                6);
        sc_buffer_append(out, escape, letter == 0 ? 6 : 2);
    }
    sc_buffer_append(out, "\"", 1);
}

size_t sc_json_string_size(struct sc_bytes text) {
    size_t size = text.size + 2;
    if (text.size == 0)
        return size;
    const uint8_t *p = text.data, *end = p + text.size;
    while ((p = plain_end(p, end)) < end) {
        size += short_escape(*p) == 0 ? 5 : 1;
        p++;
    }
    return size;
}
