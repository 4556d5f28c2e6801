// The scanner for good texts: finds the ends of strings by the special bytes of whole blocks, and numbers eight
// digits at a time. It gives up at anything wrong, and leaves the word to the plain scanner.
#include "blocks.h"
#include "grammar.h"

#if defined(SC_JSON_BLOCKS)

// What a closer is above its opener, in ASCII.
enum { CLOSER = '}' - '{' };
_Static_assert(']' - '[' == CLOSER, "both brackets are two apart");

#define INLINE __attribute__((always_inline)) static inline
#define LIKELY(condition) __builtin_expect(condition, 1)
// What happens seldom must not cost registers where it does not.
#define RARE __attribute__((noinline, preserve_most))

// The text has a closer as its last byte. So a loop that stops at one needs no look at the end.
struct text {
    const uint8_t *begin, *end; // Without white space around it.
    unsigned depth_max;
    struct sc_json_index *index;
    const struct sc_json_member *members_end; // Of the index.
    struct sc_json_member *spare;             // For members that have no room.
};

// How far a scan has got, beside the pointer to the next byte.
struct place {
    const uint8_t *white; // After the last white space met: what starts before it is not compact.
    struct block block;   // The one that the last string ended in.
    struct sc_json_member *next; // The first free one of the index.
    uint8_t *root;               // Where the number of the next member of the root goes.
    unsigned deepest;            // Level in the last container.
};

typedef const uint8_t *scan_members(const struct text *text, struct place *outer, const uint8_t *p,
                                    struct sc_json_member *member);

// False: it is no object and no array.
INLINE bool text_trim(struct text *text, struct sc_bytes bytes) {
    const uint8_t *p = bytes.data, *end = p + bytes.size;
    while (p < end && is_white(*p))
        p++;
    while (p < end && is_white(end[-1]))
        end--;
    text->begin = p;
    text->end = end;
    return end - p >= 2 && (*p == '{' || *p == '[') && end[-1] == *p + CLOSER;
}

INLINE bool is_opener(uint8_t c) {
    return c == '{' || c == '[';
}

// The last byte is a closer, which ends it.
RARE static const uint8_t *white_end(const uint8_t *p) {
    while (is_white(*p))
        p++;
    return p;
}

INLINE const uint8_t *skip_white(struct place *place, const uint8_t *p) {
    if (LIKELY(*p > ' '))
        return p;
    const uint8_t *from = p;
    p = *p == ' ' && p[1] > ' ' ? p + 1 : white_end(p);
    place->white = p == from ? place->white : p;
    return p;
}

// Over white space to `c`, which is there as a rule.
// Most texts of SDKs have no white space at all.
INLINE const uint8_t *to_byte(struct place *place, const uint8_t *p, uint8_t c) {
    return LIKELY(*p == c) ? p : skip_white(place, p);
}

// The closing quote of a string, or NULL when it has none, or a character that may not be there.
struct rest {
    const uint8_t *quote;
    uint64_t escaped;
};

// The rest of a string from a special byte on that is not its closing quote.
RARE static struct rest string_rest(const struct text *text, const uint8_t *p) {
    const uint8_t *end = text->end;
    struct fault fault;
    bool escaped = false;
    while (p != NULL && p < end && *p != '"') {
        if (*p == '\\') {
            escaped = true;
            p = sc_escape_end(&fault, p, end);
        } else if (*p >= 0x80) {
            p = sc_utf8_end(&fault, p, end);
        } else {
            p = NULL;
        }
        p = p == NULL ? NULL : run_end(p, end);
    }
    return (struct rest){p == end ? NULL : p, escaped};
}

// The highest bit of each byte of a word that is no digit, up to the first at least.
INLINE uint64_t not_digits(uint64_t word) {
    word ^= 0x3030303030303030;
    // A byte over 9 gets its highest bit set; a carry only touches bytes behind one that has.
    return (word | (word + 0x7676767676767676)) & 0x8080808080808080;
}

// Eight at a time, as long as eight are there. Behind the text nothing is read.
INLINE const uint8_t *digits_end(const struct text *text, const uint8_t *p) {
    while (text->end - p >= 8) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        uint64_t others = not_digits(word);
        if (others != 0)
            return p + __builtin_ctzll(others) / 8;
        p += 8;
    }
    while ((uint8_t)(*p - '0') < 10)
        p++;
    return p;
}

// Any number.
RARE static const uint8_t *number_rest(const struct text *text, const uint8_t *start) {
    const uint8_t *digits = start + (*start == '-'), *p = digits_end(text, digits);
    size_t count = (size_t)(p - digits);
    if (count == 0 || (*digits == '0' && count > 1))
        return NULL;
    if (*p == '.') {
        const uint8_t *fraction = p + 1;
        p = digits_end(text, fraction);
        if (p == fraction)
            return NULL;
    }
    if ((*p | 0x20) != 'e' && count <= 300)
        return p;
    struct fault fault;
    return sc_number_end(&fault, start, text->end);
}

// Most are integers of a few digits, with a comma or a closer behind.
INLINE const uint8_t *number_end(const struct text *text, const uint8_t *p) {
    if (LIKELY(text->end - p >= 8)) {
        uint64_t word;
        memcpy(&word, p, sizeof word);
        uint64_t others = not_digits(word);
        const uint8_t *end = p + __builtin_ctzll(others | (uint64_t)1 << 63) / 8;
        bool good = *p == '0' ? end == p + 1 : end > p;
        if (LIKELY(good && (*end == ',' || (*end | 0x20) == '}')))
            return end;
    }
    return number_rest(text, p);
}

// What is none of the three is an error of the last.
RARE static const uint8_t *word_end(const struct text *text, const uint8_t *p) {
    const uint8_t *end = text->end;
    struct fault fault;
    if (*p == 't')
        return literal_end(&fault, p, end, "true", 4);
    if (*p == 'f')
        return literal_end(&fault, p, end, "false", 5);
    return literal_end(&fault, p, end, "null", 4);
}

// The end of what is no string and no container, or NULL.
INLINE const uint8_t *scalar_end(const struct text *text, const uint8_t *p, uint8_t *kind) {
    if (LIKELY(*p <= '9')) {
        *kind = SC_JSON_NUMBER;
        return number_end(text, p);
    }
    *kind = *p == 't' ? SC_JSON_TRUE : *p == 'f' ? SC_JSON_FALSE : SC_JSON_NULL;
    return word_end(text, p);
}

// The two fields of a member beside its key are stored as one.
enum { PARENT_SHIFT = 16 };
_Static_assert(offsetof(struct sc_json_member, parent) ==
                   offsetof(struct sc_json_member, key_escaped) + PARENT_SHIFT / 8,
               "they lie side by side");

// Without room the member goes to a spare, so that the loop needs no case for that.
INLINE struct sc_json_member *keep_member(const struct text *text, struct place *place, int parent,
                                          struct sc_bytes key, bool escaped) {
    struct sc_json_index *index = text->index;
    struct sc_json_member *member = place->next;
    if (!LIKELY(member != text->members_end)) {
        index->overflow = true;
        return text->spare;
    }
    place->next = member + 1;
    member->key = key;
    uint32_t rest = (uint32_t)parent << PARENT_SHIFT | escaped;
    memcpy(&member->key_escaped, &rest, sizeof rest);
    if (parent < 0)
        *place->root++ = (uint8_t)(member - index->members);
    return member;
}

// A value whose start is known ends at `end`.
INLINE void keep_value(struct sc_json_value *value, const uint8_t *end, unsigned kind,
                       unsigned depth, bool compact, bool escaped) {
    value->text.size = (size_t)(end - value->text.data);
    uint32_t flags = kind | depth << 8 | (uint32_t)compact << 16 | (uint32_t)escaped << 24;
    memcpy(&value->kind, &flags, sizeof flags); // One store for four.
}
_Static_assert(offsetof(struct sc_json_value, depth) == offsetof(struct sc_json_value, kind) + 1 &&
                   offsetof(struct sc_json_value, compact) ==
                       offsetof(struct sc_json_value, kind) + 2 &&
                   offsetof(struct sc_json_value, escaped) ==
                       offsetof(struct sc_json_value, kind) + 3,
               "the flags of a value are four bytes");

INLINE void keep_scalar(struct sc_json_value *value, const uint8_t *end, unsigned kind,
                        bool escaped) {
    keep_value(value, end, kind, 0, true, escaped);
}

INLINE void keep_container(struct sc_json_value *value, const uint8_t *end, unsigned depth,
                           const uint8_t *white) {
    const uint8_t *start = value->text.data;
    keep_value(value, end, *start == '{' ? SC_JSON_OBJECT : SC_JSON_ARRAY, depth, white <= start,
               false);
}

#if defined(__x86_64__)

#define SCAN_(name) name##_sse2
#define SCAN_TARGET
#define SCAN_MASK block_mask_sse2
#include "scan_block.h"

#define SCAN_(name) name##_avx2
#define SCAN_TARGET __attribute__((target("avx2,bmi,bmi2")))
#define SCAN_MASK block_mask_avx2
#include "scan_block.h"

#else

#define SCAN_(name) name##_neon
#define SCAN_TARGET
#define SCAN_MASK block_mask_neon
#include "scan_block.h"

#endif
#endif
