// The validating scanner: one pass, no tree. It remembers the members of the first two levels.
#include "bytes.h"
#include "number.h"

#include <errno.h>

// The levels whose values end up in the index: the root, its members, their members.
enum { LEVELS = 3 };

struct scan {
    const uint8_t *begin;
    const uint8_t *end;
    const uint8_t *white; // After the last white space met: what starts before it is not compact.
    struct sc_json_index *index;
    unsigned depth; // Containers open.
    unsigned depth_max;
    unsigned record_depth; // Members are recorded down to this depth: 0 in a root array, 2 at most.
    unsigned deepest[LEVELS];     // The deepest level since the value of each level began.
    const uint8_t *start[LEVELS]; // Where the container of each level began.
    int slot[LEVELS];             // The member being read on each level, or -1.
    uint64_t objects[4];          // One bit per open container: set for an object.
    int rc;
};

static int stop(struct scan *scan, const uint8_t *p, int rc) {
    scan->rc = rc;
    scan->index->error_offset = (size_t)(p - scan->begin);
    return rc;
}

static const uint8_t *fail(struct scan *scan, const uint8_t *p, int rc) {
    (void)stop(scan, p, rc);
    return NULL;
}

static inline const uint8_t *skip_white(struct scan *scan, const uint8_t *p) {
    if (p == scan->end || *p > ' ')
        return p;
    const uint8_t *from = p;
    while (p < scan->end && is_white(*p))
        p++;
    if (p != from)
        scan->white = p;
    return p;
}

static inline bool in_object(const struct scan *scan) {
    unsigned bit = scan->depth - 1;
    return (scan->objects[bit / 64] >> (bit % 64) & 1) != 0;
}

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

// Validates the escape at `p`, a surrogate pair as one. Returns what follows.
__attribute__((noinline)) static const uint8_t *escape_end(struct scan *scan, const uint8_t *p) {
    size_t left = (size_t)(scan->end - p);
    if (left < 2)
        return fail(scan, scan->end, -EBADMSG);
    if (p[1] != 'u')
        return memchr("\"\\/bfnrt", p[1], 8) != NULL ? p + 2 : fail(scan, p + 1, -EBADMSG);
    if (left < 6)
        return fail(scan, scan->end, -EBADMSG);
    int unit = hex4(p + 2);
    if (unit < 0 || (unit >= 0xDC00 && unit < 0xE000))
        return fail(scan, p, -EBADMSG);
    if (unit < 0xD800 || unit >= 0xE000)
        return p + 6;
    if (left < 12)
        return fail(scan, p, -EBADMSG);
    int low = p[6] == '\\' && p[7] == 'u' ? hex4(p + 8) : -1;
    return low >= 0xDC00 && low < 0xE000 ? p + 12 : fail(scan, p, -EBADMSG);
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

// Validates a run of characters beyond ASCII. Returns what follows.
__attribute__((noinline)) static const uint8_t *utf8_end(struct scan *scan, const uint8_t *p) {
    while (p < scan->end && *p >= 0x80) {
        int size = utf8_size(p, (size_t)(scan->end - p));
        if (size <= 0)
            return fail(scan, p, size == 0 ? -EILSEQ : -EBADMSG);
        p += size;
    }
    return p;
}

static inline const uint8_t *literal_end(struct scan *scan, const uint8_t *p, const char *word,
                                         size_t size) {
    if ((size_t)(scan->end - p) < size || memcmp(p, word, size) != 0)
        return fail(scan, p, -EBADMSG);
    return p + size;
}

static inline const uint8_t *digits_end(const uint8_t *p, const uint8_t *end) {
    while (p < end && (uint8_t)(*p - '0') < 10)
        p++;
    return p;
}

static inline const uint8_t *exponent_end(const uint8_t *p, const uint8_t *end) {
    p++;
    if (p < end && (*p == '+' || *p == '-'))
        p++;
    const uint8_t *digits = p;
    p = digits_end(p, end);
    return p == digits ? NULL : p;
}

static inline const uint8_t *number_end(struct scan *scan, const uint8_t *start) {
    const uint8_t *p = start, *end = scan->end;
    if (*p == '-')
        p++;
    const uint8_t *digits = p;
    p = digits_end(p, end);
    size_t count = (size_t)(p - digits);
    if (count == 0 || (*digits == '0' && count > 1))
        return fail(scan, p, -EBADMSG);
    if (p < end && *p == '.') {
        const uint8_t *fraction = p + 1;
        p = digits_end(fraction, end);
        if (p == fraction)
            return fail(scan, p, -EBADMSG);
    }
    bool exponent = p < end && (*p | 0x20) == 'e';
    if (exponent) {
        const uint8_t *next = exponent_end(p, end);
        if (next == NULL)
            return fail(scan, p, -EBADMSG);
        p = next;
    }
    // Below 10^300 whatever the digits are; the slow look is for the rest.
    if ((exponent || count > 300) &&
        !sc_number_is_finite((struct sc_bytes){start, (size_t)(p - start)}))
        return fail(scan, start, -EBADMSG);
    return p;
}

static inline const uint8_t *open_container(struct scan *scan, const uint8_t *p) {
    if (scan->depth == scan->depth_max)
        return fail(scan, p, -ELOOP);
    unsigned bit = scan->depth++;
    uint64_t mask = (uint64_t)1 << (bit % 64);
    bool object = *p == '{';
    if (object)
        scan->objects[bit / 64] |= mask;
    else
        scan->objects[bit / 64] &= ~mask;
    if (bit < LEVELS)
        scan->start[bit] = p;
    // Only objects all of whose ancestors are objects have their members recorded.
    if (bit < 2 && scan->record_depth == bit && object)
        scan->record_depth = bit + 1;
    for (unsigned level = 0; level < LEVELS; level++)
        if (scan->deepest[level] < scan->depth)
            scan->deepest[level] = scan->depth;
    return p + 1;
}

static struct sc_json_value *value_slot(struct scan *scan, unsigned level) {
    if (level == 0)
        return &scan->index->root;
    return scan->slot[level] < 0 ? NULL : &scan->index->members[scan->slot[level]].value;
}

static inline void close_container(struct scan *scan, const uint8_t *end) {
    unsigned level = --scan->depth;
    if (level >= LEVELS)
        return;
    if (level < scan->record_depth)
        scan->record_depth = level;
    struct sc_json_value *value = level <= scan->record_depth ? value_slot(scan, level) : NULL;
    if (value == NULL)
        return;
    const uint8_t *start = scan->start[level];
    *value = (struct sc_json_value){
        .text = {start, (size_t)(end - start)},
        .kind = *start == '{' ? SC_JSON_OBJECT : SC_JSON_ARRAY,
        .depth = (uint8_t)(scan->deepest[level] - level),
        .compact = scan->white <= start,
    };
}

static inline uint64_t key_bit(struct sc_bytes key) {
    unsigned first = key.size == 0 ? 0 : key.data[0];
    return (uint64_t)1 << ((key.size + 5 * first) & 63);
}

static inline void begin_member(struct scan *scan, struct sc_bytes key, bool escaped) {
    struct sc_json_index *index = scan->index;
    unsigned level = scan->depth;
    int parent = level == 1 ? -1 : scan->slot[1];
    scan->deepest[level] = level;
    if (index->count == SC_JSON_INDEX_MEMBERS_MAX) {
        index->overflow = true;
        scan->slot[level] = -1;
        return;
    }
    scan->slot[level] = index->count;
    if (level == 1) {
        index->roots[index->root_count] = (uint8_t)index->count;
        index->root_keys |= escaped ? UINT64_MAX : key_bit(key);
        index->root_key_sizes[index->root_count++] =
            escaped || key.size > 255 ? 255 : (uint8_t)key.size;
    }
    struct sc_json_member *member = &index->members[index->count++];
    member->key = key;
    member->key_escaped = escaped;
    member->parent = (int16_t)parent;
    member->value.kind = SC_JSON_ABSENT;
}

static inline void end_scalar(struct scan *scan, const uint8_t *start, const uint8_t *end,
                              uint8_t kind, bool escaped) {
    struct sc_json_value *value = value_slot(scan, scan->depth);
    if (value != NULL)
        *value = (struct sc_json_value){
            .text = {start, (size_t)(end - start)},
            .kind = kind,
            .compact = true,
            .escaped = escaped,
        };
}

static int end_text(struct scan *scan, const uint8_t *p) {
    p = skip_white(scan, p);
    return p == scan->end ? 0 : stop(scan, p, -EBADMSG);
}

#define SCAN_NAME scan_scalar
#define SCAN_KEY scan_key_scalar
#define SCAN_STRING scan_string_scalar
#define SCAN_TARGET
#define SCAN_RUN_END run_end_scalar
#include "scan_template.h"

#if defined(__x86_64__)

#define SCAN_NAME scan_sse2
#define SCAN_KEY scan_key_sse2
#define SCAN_STRING scan_string_sse2
#define SCAN_TARGET
#define SCAN_RUN_END run_end_sse2
#include "scan_template.h"

#define SCAN_NAME scan_avx2
#define SCAN_KEY scan_key_avx2
#define SCAN_STRING scan_string_avx2
#define SCAN_TARGET __attribute__((target("avx2,bmi")))
#define SCAN_RUN_END run_end_avx2
#include "scan_template.h"

#endif

typedef int scan_function(struct scan *scan, const uint8_t *p);

static scan_function *scan_levels[] = {
    scan_scalar,
#if defined(__x86_64__)
    scan_sse2,
    scan_avx2,
#endif
};

static unsigned level_max(void) {
#if defined(__x86_64__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi") ? 2 : 1;
#else
    return 0;
#endif
}

static scan_function *scan_best = scan_scalar;

__attribute__((constructor)) static void choose_level(void) {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    scan_best = scan_levels[level_max()];
}

bool sc_json_scan_use_level(enum sc_json_scan_level level) {
    if ((unsigned)level > level_max())
        return false;
    scan_best = scan_levels[level];
    return true;
}

// After an error: a root member whose value is not complete goes, with the members found in it.
static void drop_incomplete(struct scan *scan) {
    struct sc_json_index *index = scan->index;
    index->root = (struct sc_json_value){0};
    int slot = scan->slot[1];
    if (slot >= 0 && index->members[slot].value.kind == SC_JSON_ABSENT)
        index->count = (uint16_t)slot;
    while (index->root_count > 0 && index->roots[index->root_count - 1] >= index->count)
        index->root_count--;
}

int sc_json_scan(struct sc_bytes text, unsigned depth_max, struct sc_json_index *index) {
    assert(depth_max <= 255);
    index->root = (struct sc_json_value){0};
    index->error_offset = 0;
    index->count = 0;
    index->root_count = 0;
    index->root_keys = 0;
    index->overflow = false;
    if (text.size == 0)
        return -EBADMSG;
    struct scan scan = {.begin = text.data,
                        .end = text.data + text.size,
                        .white = text.data,
                        .index = index,
                        .depth_max = depth_max,
                        .slot = {-1, -1, -1}};
    int rc = scan_best(&scan, text.data);
    if (rc < 0)
        drop_incomplete(&scan);
    return rc;
}

static const struct sc_json_member *
find_in_text(struct sc_json_value container, struct sc_bytes key, struct sc_json_member *scratch) {
    bool found = false;
    size_t offset = 0;
    struct sc_json_member member;
    if (container.kind != SC_JSON_OBJECT)
        return NULL;
    while (sc_json_next(container, &offset, &member)) {
        if (sc_json_string_equal(member.key, member.key_escaped, key)) {
            *scratch = member;
            found = true;
        }
    }
    return found ? scratch : NULL;
}

static inline bool has_key(const struct sc_json_member *member, struct sc_bytes key) {
    return member->key_escaped ? sc_json_string_equal(member->key, true, key)
                               : sc_bytes_equal(member->key, key);
}

// An envelope is asked for a dozen keys: most members are passed over by the size of theirs.
static const struct sc_json_member *find_in_root(const struct sc_json_index *index,
                                                 struct sc_bytes key) {
    for (int i = index->root_count - 1; i >= 0; i--) {
        uint8_t size = index->root_key_sizes[i];
        if (size != 255 && size != key.size)
            continue;
        const struct sc_json_member *member = &index->members[index->roots[i]];
        if (has_key(member, key))
            return member;
    }
    return NULL;
}

const struct sc_json_member *sc_json_index_find(const struct sc_json_index *index, int parent,
                                                struct sc_bytes key,
                                                struct sc_json_member *scratch) {
    assert(parent >= -1 && parent < index->count);
    if (index->overflow && index->root.kind != SC_JSON_ABSENT) {
        const struct sc_json_member *found =
            find_in_text(parent < 0 ? index->root : index->members[parent].value, key, scratch);
        if (found != NULL)
            scratch->parent = (int16_t)parent;
        return found;
    }
    if (parent < 0)
        return index->root_keys & key_bit(key) ? find_in_root(index, key) : NULL;
    for (int i = index->count - 1; i > parent; i--) {
        const struct sc_json_member *member = &index->members[i];
        if (member->parent == parent && has_key(member, key))
            return member;
    }
    return NULL;
}
