// Escapes, UTF-8 and numbers, byte by byte.
#include "grammar.h"
#include "number.h"

static int hex4(const uint8_t *p) {
    int value = 0;
    for (int i = 0; i < 4; i++) {
        uint8_t c = p[i], lower = c | 0x20;
        if (c >= '0' && c <= '9')
            value = value << 4 | (c - '0');
        else if (lower >= 'a' && lower <= 'f')
            value = value << 4 | (lower - 'a' + 10);
        else
            return -1;
    }
    return value;
}

// A low surrogate is valid only behind a high one: text that leaves here can always be written as UTF-8. Errors
// point at the byte that a person would look at.
const uint8_t *sc_escape_end(struct fault *fault, const uint8_t *p, const uint8_t *end) {
    size_t left = (size_t)(end - p);
    if (left < 2)
        return fail(fault, end, -EBADMSG);
    if (p[1] != 'u')
        return memchr("\"\\/bfnrt", p[1], 8) != NULL ? p + 2 : fail(fault, p + 1, -EBADMSG);
    if (left < 6)
        return fail(fault, end, -EBADMSG);
    int unit = hex4(p + 2);
    if (unit < 0 || (unit >= 0xDC00 && unit < 0xE000))
        return fail(fault, p, -EBADMSG);
    if (unit < 0xD800 || unit >= 0xE000)
        return p + 6;
    if (left < 12)
        return fail(fault, p, -EBADMSG);
    int low = p[6] == '\\' && p[7] == 'u' ? hex4(p + 8) : -1;
    return low >= 0xDC00 && low < 0xE000 ? p + 12 : fail(fault, p, -EBADMSG);
}

// Bytes of the UTF-8 sequence at `p`; 0 when it is none, -1 when the text ends inside of it.
static int utf8_size(const uint8_t *p, size_t left) {
    uint8_t c = p[0];
    int size = c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;
    if (size == 0)
        return 0;
    // The second byte rules out overlong forms, surrogates and what is beyond U+10FFFF.
    uint8_t low = c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
    uint8_t high = c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
    for (int i = 1; i < size; i++) {
        if ((size_t)i == left)
            return -1;
        if (p[i] < low || p[i] > high)
            return 0;
        low = 0x80;
        high = 0xBF;
    }
    return size;
}

// Bytes of the character that the four bytes of `word` begin with, the first of them lowest; 0 when it is none.
// The same rules as those of utf8_size, all bytes at once.
static inline int utf8_size_of_word(uint32_t word) {
    if ((word & 0x00C0C0F0) == 0x008080E0) { // E0 needs A0 or more behind it, ED less.
        uint32_t bits = word & 0x200F;
        return bits != 0 && bits != 0x200D ? 3 : 0;
    }
    if ((word & 0xC0E0) == 0x80C0)
        return (word & 0x1E) != 0 ? 2 : 0;
    if ((word & 0xC0C0C0F8) == 0x808080F0) { // F0 needs 90 or more behind it, F4 less.
        uint32_t first = word & 7, bits = word & 0x3000;
        return first == 0 ? (bits != 0 ? 4 : 0) : first < 4 || (first == 4 && bits == 0) ? 4 : 0;
    }
    return 0;
}

// Four bytes at a time while four are there to be read; the last ones, and what is wrong, byte by byte.
const uint8_t *sc_utf8_end(struct fault *fault, const uint8_t *p, const uint8_t *end) {
    while (end - p >= 4 && *p >= 0x80) {
        uint32_t word;
        memcpy(&word, p, sizeof word);
        int size = utf8_size_of_word(word);
        if (size == 0)
            break; // Byte by byte it shows why.
        p += size;
    }
    while (p < end && *p >= 0x80) {
        int size = utf8_size(p, (size_t)(end - p));
        if (size <= 0)
            return fail(fault, p, size == 0 ? -EILSEQ : -EBADMSG);
        p += size;
    }
    return p;
}

static inline const uint8_t *digits_end(const uint8_t *p, const uint8_t *end) {
    while (p < end && (uint8_t)(*p - '0') < 10)
        p++;
    return p;
}

static const uint8_t *exponent_end(const uint8_t *p, const uint8_t *end) {
    p++;
    if (p < end && (*p == '+' || *p == '-'))
        p++;
    const uint8_t *digits = p;
    p = digits_end(p, end);
    return p == digits ? NULL : p;
}

// A number too large for a double is refused here: it could be stored but no client could read it back.
const uint8_t *sc_number_end(struct fault *fault, const uint8_t *start, const uint8_t *end) {
    const uint8_t *p = start;
    if (*p == '-')
        p++;
    const uint8_t *digits = p;
    p = digits_end(p, end);
    size_t count = (size_t)(p - digits);
    if (count == 0 || (*digits == '0' && count > 1))
        return fail(fault, p, -EBADMSG);
    if (p < end && *p == '.') {
        const uint8_t *fraction = p + 1;
        p = digits_end(fraction, end);
        if (p == fraction)
            return fail(fault, p, -EBADMSG);
    }
    bool exponent = p < end && (*p | 0x20) == 'e';
    if (exponent) {
        const uint8_t *next = exponent_end(p, end);
        if (next == NULL)
            return fail(fault, p, -EBADMSG);
        p = next;
    }
    // Below 10^300 whatever the digits are; the slow look is for the rest.
    if ((exponent || count > 300) &&
        !sc_number_is_finite((struct sc_bytes){start, (size_t)(p - start)}))
        return fail(fault, start, -EBADMSG);
    return p;
}
